// An application's name as the name of a folder.
//
//   N1. Two names never meet: the encoding can be undone.
//   N2. The result is one plain path part: no separator, never `.` or `..`, no leading `.`, `-` or `~`, printable ASCII.
//
// Works on UTF-16 code units, so that a broken surrogate pair has a name of its own too.

/** Most file systems take names of so many bytes. */
export const FOLDER_NAME_BYTES_MAX = 255;

const PLAIN = /[A-Za-z0-9._-]/;
const EMPTY_NAME = "%";

/**
 * `Alerts (stateful)` becomes `Alerts%20%28stateful%29`: letters, digits, `.`, `_` and `-` stay (`.` and `-` not in front),
 * any other code unit becomes `%hh` below 256 and `%uhhhh` above. The empty name becomes `%`.
 *
 * The result may be longer than {@link FOLDER_NAME_BYTES_MAX}; who makes a folder checks that.
 */
export function encodeFolderName(name: string): string {
  if (name === "") return EMPTY_NAME;
  let out = "";
  for (let i = 0; i < name.length; i++) {
    const character = name[i]!;
    const mayStay = PLAIN.test(character) && (i > 0 || (character !== "." && character !== "-"));
    out += mayStay ? character : escapeUnit(name.charCodeAt(i));
  }
  return out;
}

/** Undoes {@link encodeFolderName}. `null`: no folder name that it makes. */
export function decodeFolderName(folder: string): string | null {
  if (folder === EMPTY_NAME) return "";
  const name = unescaped(folder);
  return folder !== "" && encodeFolderName(name) === folder ? name : null;
}

/** A folder's name as a part of a file's name that ends where a `-` follows: without one itself. */
export function encodeNamePart(folder: string): string {
  return folder.replaceAll("-", "%2d");
}

/** Undoes {@link encodeNamePart}. `null`: no part that it makes. */
export function folderOfNamePart(part: string): string | null {
  const folder = part === EMPTY_NAME ? EMPTY_NAME : encodeFolderName(unescaped(part));
  return part !== "" && encodeNamePart(folder) === part ? folder : null;
}

function unescaped(text: string): string {
  return text.replace(/%u([0-9a-f]{4})|%([0-9a-f]{2})/g, (_match, four: string | undefined, two: string) =>
    String.fromCharCode(Number.parseInt(four ?? two, 16)),
  );
}

function escapeUnit(unit: number): string {
  return unit < 0x100 ? `%${unit.toString(16).padStart(2, "0")}` : `%u${unit.toString(16).padStart(4, "0")}`;
}
