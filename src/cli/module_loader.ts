/** Finds the module that `--application-module` names, imports it, and makes sure that it exports an application. */
import { type Application, isApplication } from "../api/application.ts";
import { showType } from "../api/graph.ts";
import { ConfigError } from "../base/errors.ts";
import { printable } from "../base/log.ts";
import type { Disk, Host, Runtime } from "../runtime/runtime.ts";
import { within } from "./terminal.ts";
import { describeUserError } from "./user_error.ts";

export interface LoadedModule {
  /** Absolute. */
  readonly path: string;
  readonly application: Application;
}

/** A module that waits for something at its top level gets so long. */
const LOAD_TIMEOUT_MS = 30_000;

const ENDINGS = [".ts", ".js", ".mjs"] as const;

/** @throws {ConfigError} `module_not_found`, `module_not_loaded`, `module_without_application`. */
export async function loadApplication(runtime: Runtime, name: string): Promise<LoadedModule> {
  const path = await findModule(runtime.disk, runtime.host, name);
  let exports: Record<string, unknown> | undefined;
  try {
    exports = await within(runtime.clock, LOAD_TIMEOUT_MS, runtime.host.importModule(path));
  } catch (error) {
    throw new ConfigError(
      "module_not_loaded",
      `--application-module ${printable(name)}: cannot load ${printable(path)}: ${describeUserError(error)}`,
      { cause: error },
    );
  }
  if (exports === undefined) {
    throw new ConfigError(
      "module_not_loaded",
      `--application-module ${printable(name)}: cannot load ${printable(path)}: it is not ready after ${LOAD_TIMEOUT_MS / 1000} s; does it await something that never comes?`,
    );
  }
  return { path, application: applicationOf(name, path, exports) };
}

/**
 * A name with a slash, or one that begins with a dot, is a path; any other is looked for in the working directory, then
 * in the folders of `TAMMAR_PATH` and `PYTHONPATH`.
 *
 * @throws {ConfigError} `module_not_found`.
 */
export async function findModule(
  disk: Pick<Disk, "stat">,
  host: Pick<Host, "workingDir" | "env">,
  name: string,
): Promise<string> {
  const isPath = name.includes("/") || name.startsWith(".");
  const searched = isPath ? [] : ["TAMMAR_PATH", "PYTHONPATH"].flatMap((variable) => foldersOf(host, variable));
  const folders = [host.workingDir, ...searched];
  for (const folder of folders) {
    const base = normalize(name.startsWith("/") ? name : `${folder}/${name}`);
    for (const path of [base, ...ENDINGS.map((ending) => base + ending)]) {
      if ((await disk.stat(path))?.kind === "file") return path;
    }
  }
  const shown = printable(name);
  const endings = `with the ending .ts, .js, .mjs or the one given`;
  throw new ConfigError(
    "module_not_found",
    isPath
      ? `--application-module ${shown}: there is no file ${printable(normalize(name.startsWith("/") ? name : `${host.workingDir}/${name}`))}, ${endings}`
      : `--application-module ${shown}: no such module, ${endings}, in ${[...new Set(folders)].map((folder) => printable(folder)).join(", ")}; ` +
          "give its path, or name its folder in TAMMAR_PATH",
  );
}

function foldersOf(host: Pick<Host, "workingDir" | "env">, variable: string): string[] {
  const folders = (host.env(variable) ?? "").split(":").filter((folder) => folder !== "");
  return folders.map((folder) => normalize(folder.startsWith("/") ? folder : `${host.workingDir}/${folder}`));
}

/** Without `.`, `..` and doubled slashes. */
export function normalize(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

function applicationOf(name: string, path: string, exports: Record<string, unknown>): Application {
  const value = exports["default"];
  if (isApplication(value)) return value;
  throw new ConfigError(
    "module_without_application",
    `--application-module ${printable(name)}: ${printable(path)} ${whatIsThere(exports, value)}: end it with ` +
      '`export default application("name", ...)`, with application from "tammar"',
  );
}

function whatIsThere(exports: Record<string, unknown>, value: unknown): string {
  if (value !== undefined) {
    const named = typeof value === "function" && value.name !== "" ? ` (${printable(value.name)})` : "";
    return `exports ${showType(value)}${named} by default, which is no application`;
  }
  const names = Object.keys(exports).filter((name) => name !== "default");
  const elsewhere = names.find((name) => isApplication(exports[name]));
  if (elsewhere !== undefined) return `exports its application as "${printable(elsewhere)}", but nothing by default`;
  if (names.length === 0) return "exports nothing";
  const shown = names.slice(0, 5).map((name) => printable(name));
  return `exports nothing by default, only ${shown.join(", ")}${names.length > shown.length ? ", ..." : ""}`;
}
