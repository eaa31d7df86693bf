/**
 * The build id: which sources, packages and settings this program was made of. Two workers with different build ids refuse
 * each other.
 *
 * A compiled executable has its id written in by `scripts/build`. Run from source files, the id is computed from them, and
 * says so (`source-...`), with the runtime's name: Bun and Deno are two builds.
 */
import { ConfigError } from "../base/errors.ts";
import type { Disk, Runtime } from "../runtime/runtime.ts";

/** Replaced at build time. */
declare const TAMMAR_BUILD_ID: string | undefined;

const FILE_LENGTH_MAX = 16 << 20;

/** Hex digits of the digest that are kept. */
const ID_DIGITS = 32;

export async function buildId(runtime: Runtime): Promise<string> {
  if (typeof TAMMAR_BUILD_ID === "string") return TAMMAR_BUILD_ID;
  const root = decodeURIComponent(new URL("../..", import.meta.url).pathname).replace(/\/$/, "");
  try {
    return `source-${runtime.host.name}-${await sourceDigest(runtime, root)}`;
  } catch (cause) {
    throw new ConfigError(
      "build_id_unknown",
      `Cannot tell which build this is: it was compiled without scripts/build, and ${root} has no sources of Tammar to compare`,
      { cause },
    );
  }
}

/** Of the library's sources and lock file under `root`, by path and content. Hex. */
export async function sourceDigest(
  runtime: { readonly disk: Pick<Disk, "list" | "readFile">; readonly host: Pick<Runtime["host"], "digest"> },
  root: string,
): Promise<string> {
  const paths = [`${root}/mod.ts`, `${root}/package-lock.json`, ...(await sourceFiles(runtime.disk, `${root}/src`))];
  const lines: string[] = [];
  for (const path of paths) {
    const content = await runtime.disk.readFile(path, FILE_LENGTH_MAX);
    lines.push(`${path.slice(root.length)} ${hex(await runtime.host.digest(content))}\n`);
  }
  return hex(await runtime.host.digest(new TextEncoder().encode(lines.join("")))).slice(0, ID_DIGITS);
}

async function sourceFiles(disk: Pick<Disk, "list">, folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await disk.list(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.kind === "folder") found.push(...(await sourceFiles(disk, path)));
    else if (entry.name.endsWith(".ts")) found.push(path);
  }
  return found;
}

export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}
