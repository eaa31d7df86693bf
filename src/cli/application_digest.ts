/**
 * The digest of an application's code: every file it imports, transitively, packages included. Two workers that run
 * different code refuse each other.
 *
 * It depends on content and on paths relative to the application's module, so that two machines may keep the same
 * application in different folders, and it is the same on every runtime.
 *
 * - Imports are found by their form in the text (`from "..."`, `import "..."`, `import("...")`, `require("...")`). What only
 *   looks like one, in a comment for instance, is followed too if there is such a file: that can refuse a worker too many,
 *   never one too few. A dynamic import of a computed name isn't seen.
 * - A package in `node_modules` counts whole, all of its code files, with the packages it depends on: which of its files
 *   a runtime picks is the runtime's business.
 * - `tammar` itself, what the runtime brings, and URLs count by name.
 */
import { ConfigError } from "../base/errors.ts";
import { printable } from "../base/log.ts";
import { type Disk, DiskError, type Host } from "../runtime/runtime.ts";
import { hex } from "./build_id.ts";
import { normalize } from "./module_loader.ts";

const FILES_MAX = 20_000;
const FILE_LENGTH_MAX = 32 << 20;

interface Machine {
  readonly disk: Pick<Disk, "readFile" | "stat" | "list">;
  readonly host: Pick<Host, "digest">;
}

/**
 * @param path Of the application's module, absolute.
 * @returns SHA-256, hex.
 * @throws {ConfigError} `application_too_large`.
 */
export async function applicationDigest(machine: Machine, path: string): Promise<string> {
  const walk = new Walk(machine, parentOf(path));
  await walk.file(path);
  const text = [...walk.entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, digest]) => `${name} ${digest}\n`);
  return hex(await machine.host.digest(new TextEncoder().encode(text.join(""))));
}

class Walk {
  /** By name, independent of where the application lies: the digest of the content, or why there is none. */
  readonly entries = new Map<string, string>();
  readonly #machine: Machine;
  readonly #root: string;

  constructor(machine: Machine, root: string) {
    this.#machine = machine;
    this.#root = root;
  }

  /** A file of the application and all that it imports. */
  async file(path: string): Promise<void> {
    const name = relative(this.#root, path);
    if (this.entries.has(name)) return;
    const content = await this.#add(name, path);
    if (!/\.[cm]?[jt]sx?$/.test(path)) return;
    const folder = parentOf(path);
    for (const specifier of importsOf(new TextDecoder().decode(content))) await this.#follow(specifier, folder);
  }

  async #follow(specifier: string, folder: string): Promise<void> {
    if (specifier === "tammar" || specifier.startsWith("tammar/")) return;
    if (specifier.startsWith("./") || specifier.startsWith("../") || specifier.startsWith("/")) {
      const path = await this.#resolve(normalize(specifier.startsWith("/") ? specifier : `${folder}/${specifier}`));
      if (path !== null) return this.file(path);
    } else if (!/^[a-z][a-z0-9+.-]*:/i.test(specifier)) {
      return this.#package(packageNameOf(specifier), folder);
    }
    this.entries.set(`import ${JSON.stringify(specifier)}`, "-");
  }

  async #resolve(path: string): Promise<string | null> {
    const withoutEnding = path.replace(/\.[cm]?jsx?$/, "");
    const candidates = [
      path,
      ...ENDINGS.flatMap((ending) => [path + ending, withoutEnding + ending, `${path}/index${ending}`]),
    ];
    for (const candidate of candidates) {
      if ((await this.#machine.disk.stat(candidate))?.kind === "file") return candidate;
    }
    return null;
  }

  /** The package `name` as code in `folder` sees it: of the nearest `node_modules` upwards. */
  async #package(name: string, folder: string): Promise<void> {
    for (let at = folder; ; at = parentOf(at)) {
      const home = `${at === "/" ? "" : at}/node_modules/${name}`;
      if ((await this.#machine.disk.stat(`${home}/package.json`))?.kind === "file")
        return this.#wholePackage(name, home);
      if (at === "/") break;
    }
    // Something that the runtime brings, or an alias of its configuration.
    this.entries.set(`import ${JSON.stringify(name)}`, "-");
  }

  async #wholePackage(name: string, home: string): Promise<void> {
    const manifest = await this.#machine.disk.readFile(`${home}/package.json`, FILE_LENGTH_MAX);
    const { version, dependencies } = readManifest(manifest);
    const id = `package ${name}@${version}`;
    if (this.entries.has(`${id}/package.json`)) return;
    this.entries.set(`${id}/package.json`, hex(await this.#machine.host.digest(manifest)));
    await this.#folder(id, home, "");
    for (const dependency of dependencies) await this.#package(dependency, home);
  }

  async #folder(id: string, home: string, inside: string): Promise<void> {
    for (const entry of await this.#machine.disk.list(`${home}${inside}`)) {
      const path = `${inside}/${entry.name}`;
      if (entry.kind === "folder" && entry.name !== "node_modules") await this.#folder(id, home, path);
      else if (entry.kind === "file" && CODE.test(entry.name)) await this.#add(`${id}${path}`, `${home}${path}`);
    }
  }

  async #add(name: string, path: string): Promise<Uint8Array> {
    if (this.entries.size >= FILES_MAX) {
      throw new ConfigError(
        "application_too_large",
        `Cannot tell which code the application has: it imports more than ${FILES_MAX} files, packages included; import less`,
      );
    }
    let content: Uint8Array;
    try {
      content = await this.#machine.disk.readFile(path, FILE_LENGTH_MAX);
    } catch (cause) {
      if (!(cause instanceof DiskError)) throw cause;
      throw new ConfigError(
        "application_unreadable",
        `Cannot tell which code the application has: ${printable(cause.message)}`,
        { cause },
      );
    }
    this.entries.set(name, hex(await this.#machine.host.digest(content)));
    return content;
  }
}

const ENDINGS = [".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".json"];
const CODE = /\.([cm]?[jt]sx?|json|wasm|node)$/;

/** What a module's text imports, each once, in order of appearance. */
export function importsOf(text: string): readonly string[] {
  const found = new Set<string>();
  const skipGap = gapSkipper(text);
  for (const { 0: word, index } of text.matchAll(/\b(?:from|import|require)\b/g)) {
    let at = skipGap(index + word.length);
    if (word !== "from" && text[at] === "(") at = skipGap(at + 1);
    else if (word === "require") continue;
    const name = /(["'`])([^"'`\n$\\]{1,4096})\1/y;
    name.lastIndex = at;
    const match = name.exec(text);
    if (match !== null) found.add(match[2]!);
  }
  return [...found];
}

/** Goes behind blanks and comments, which may stand anywhere between the words of an import. Places asked for must rise. */
function gapSkipper(text: string): (from: number) => number {
  // The end of the comment found last: a text full of beginnings would otherwise be searched to its end for each.
  let commentEnd = -1;
  return (from) => {
    for (let at = from; ; ) {
      while (/\s/.test(text[at] ?? "x")) at++;
      if (text.startsWith("//", at)) {
        const end = text.indexOf("\n", at);
        if (end === -1) return text.length;
        at = end + 1;
      } else if (text.startsWith("/*", at)) {
        if (commentEnd < at + 2) commentEnd = text.indexOf("*/", at + 2);
        if (commentEnd === -1) commentEnd = text.length;
        at = commentEnd + 2;
      } else {
        return at;
      }
    }
  };
}

function packageNameOf(specifier: string): string {
  const parts = specifier.split("/");
  return parts.slice(0, specifier.startsWith("@") ? 2 : 1).join("/");
}

function readManifest(bytes: Uint8Array): { version: string; dependencies: string[] } {
  try {
    const manifest: unknown = JSON.parse(new TextDecoder().decode(bytes));
    const fields = new Map(Object.entries(manifest as object));
    const names = ["dependencies", "optionalDependencies", "peerDependencies"].flatMap((field) =>
      Object.keys((fields.get(field) as object | undefined) ?? {}),
    );
    return { version: String(fields.get("version")), dependencies: [...new Set(names)] };
  } catch {
    return { version: "unreadable", dependencies: [] };
  }
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

function relative(root: string, path: string): string {
  const from = root.split("/").filter((part) => part !== "");
  const to = path.split("/").filter((part) => part !== "");
  let common = 0;
  while (common < from.length && common < to.length - 1 && from[common] === to[common]) common++;
  return [...from.slice(common).map(() => ".."), ...to.slice(common)].join("/");
}
