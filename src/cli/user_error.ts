/** What went wrong in a user's module, in one line: message and place, no stack trace. */
import { TammarError } from "../base/errors.ts";
import { printable } from "../base/log.ts";

const TEXT_LENGTH_MAX = 1_000;

/** Understands what Bun and Deno throw at an import, and what the module itself throws. */
export function describeUserError(error: unknown): string {
  return printable(messageOf(error).replaceAll("\n", " "), TEXT_LENGTH_MAX);
}

function messageOf(error: unknown): string {
  if (error instanceof TammarError) return error.message;
  // Bun: "2 errors building ...", each with its own place.
  if (error instanceof AggregateError && error.errors.length > 0) {
    const first = messageOf(error.errors[0]);
    const more = error.errors.length - 1;
    return more === 0 ? first : `${first} (and ${more} more ${more === 1 ? "error" : "errors"})`;
  }
  if (typeof error !== "object" || error === null) return `it threw ${String(error)}`;
  const { name, message, position, stack } = error as {
    name?: unknown;
    message?: unknown;
    position?: { file?: unknown; line?: unknown; column?: unknown } | null;
    stack?: unknown;
  };
  const said = stripColors(String(message ?? error));
  // Bun's names for what it could not read or find say nothing to an author.
  const isBuild = name === "BuildMessage" || name === "ResolveMessage";
  const text = isBuild ? said : `${name === undefined ? "Error" : String(name)}: ${said}`;
  if (position !== undefined && position !== null && typeof position.file === "string" && position.file !== "") {
    return `${text} (at ${position.file}:${position.line}:${position.column})`;
  }
  const place = typeof stack === "string" ? placeInStack(stack) : null;
  return place === null || text.includes(place) ? text : `${text} (at ${place})`;
}

/** The first place in a stack that is a file of the user's: not our own, not the runtime's. */
function placeInStack(stack: string): string | null {
  for (const line of stack.split("\n")) {
    const found = /(?:file:\/\/)?(\/(?!\$bunfs)[^\s()]+:[0-9]+:[0-9]+)/.exec(line);
    if (found !== null && !/\/src\/(cli|runtime|api|plan)\//.test(found[1]!)) return found[1]!;
  }
  return null;
}

function stripColors(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal colours begin with the escape character
  return text.replace(/\u001b\[[0-9;]*m/g, "");
}
