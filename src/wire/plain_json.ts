/** JSON of somebody else's making. */

/** Lists and objects inside of each other: what comes back can be walked by recursion. */
export const JSON_DEPTH_MAX = 64;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * Parses JSON that is not nested deeper than `JSON_DEPTH_MAX`. The platform's parser itself takes any depth, and then its
 * writer, and everybody else who looks at the value, runs out of stack.
 *
 * @throws {SyntaxError} It is no JSON, or nested too deep.
 */
export function parsePlainJson(text: string): unknown {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) {
      for (i++; i < text.length && text.charCodeAt(i) !== QUOTE; i++) if (text.charCodeAt(i) === BACKSLASH) i++;
    } else if (code === 0x5b || code === 0x7b) {
      if (++depth > JSON_DEPTH_MAX) throw new SyntaxError(`it is nested more than ${JSON_DEPTH_MAX} levels deep`);
    } else if (code === 0x5d || code === 0x7d) depth--;
  }
  return JSON.parse(text);
}
