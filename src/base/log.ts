/**
 * What the worker says to people and to scripts. The implementation (`src/cli/logger.ts`) formats with consola and writes
 * through one bounded queue that counts what it drops; tests collect entries instead. Never called per record.
 */
export interface Log {
  debug(code: string, text: string): void;
  info(code: string, text: string): void;
  warn(code: string, text: string): void;
  error(code: string, text: string): void;
}

/**
 * Makes text from outside harmless in a log line: control characters (newlines and ANSI sequences too) are escaped, and
 * what is longer than `lengthMax` is cut with its length told.
 */
export function printable(text: string, lengthMax = 256): string {
  let out = "";
  for (const character of text.length > lengthMax ? text.slice(0, lengthMax) : text) {
    const code = character.codePointAt(0)!;
    const isControl = code < 0x20 || (code >= 0x7f && code < 0xa0) || code === 0x2028 || code === 0x2029;
    out += isControl ? `\\u${code.toString(16).padStart(4, "0")}` : character;
  }
  return text.length > lengthMax ? `${out}… (${text.length} characters)` : out;
}
