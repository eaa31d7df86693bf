/** Finds and reads files of dead letters, from outside. */
import { ConfigError } from "../base/errors.ts";
import { type Disk, DiskError, type DiskFile } from "../runtime/runtime.ts";
import {
  checkDeadLettersHeader,
  DEAD_LETTERS_HEADER_BYTES,
  type DeadLetter,
  decodeDeadLetter,
  isDeadLettersName,
} from "./dead_letter_file.ts";
import { join } from "./folders.ts";
import type { LetterMark } from "./resent_file.ts";

const READ_BYTES = 256 * 1024;
/** Below the resilience directory: application, worker. */
const DEPTH = 2;

/** Paths of all of them in a resilience directory, or in the folder of an application or worker; sorted. */
export async function findDeadLetters(disk: Disk, directory: string): Promise<string[]> {
  const found = await disk.stat(directory);
  if (found?.kind !== "folder") {
    const is = found === null ? "there is no such folder" : "it is not a folder";
    throw new ConfigError(
      "no_such_directory",
      `Cannot look into ${directory}: ${is}; give the --resilience-dir of a worker`,
    );
  }
  const paths: string[] = [];
  const look = async (folder: string, depth: number): Promise<void> => {
    for (const { name, kind } of await listed(disk, folder)) {
      if (kind === "file" && isDeadLettersName(name)) paths.push(join(folder, name));
      else if (kind === "folder" && depth < DEPTH) await look(join(folder, name), depth + 1);
    }
  };
  await look(directory, 0);
  return paths.sort();
}

/** A folder of somebody else, where nothing of ours can be. */
async function listed(disk: Disk, folder: string): ReturnType<Disk["list"]> {
  try {
    return await disk.list(folder);
  } catch (error) {
    if (error instanceof DiskError) return [];
    throw error;
  }
}

/** Why the rest of a file is no letters. `torn`: a worker that writes meanwhile, or was killed, leaves a last one that is not whole. */
export interface BadRest {
  readonly kind: "torn" | "damaged";
  readonly offset: number;
  readonly why: string;
}

/**
 * Hands over the letters of a file one by one, in order.
 *
 * @returns `null`: it was read to its end.
 * @throws {DiskError}
 */
export async function readDeadLetters(
  disk: Disk,
  path: string,
  take: (letter: DeadLetter, mark: LetterMark) => Promise<void>,
): Promise<BadRest | null> {
  const file = await disk.open(path, "read");
  try {
    const header = await file.readAt(0, DEAD_LETTERS_HEADER_BYTES);
    const why = checkDeadLettersHeader(header);
    if (why !== null) return { kind: header.length < DEAD_LETTERS_HEADER_BYTES ? "torn" : "damaged", offset: 0, why };
    return await readLetters(file, take);
  } finally {
    await file.close();
  }
}

/** Is this letter still where it was? A rollback may have cut the file. */
export async function isLetterThere(disk: Disk, path: string, { at, checksum }: LetterMark): Promise<boolean> {
  const file = await disk.open(path, "read");
  try {
    const header = await file.readAt(at, 8);
    return header.length === 8 && new DataView(header.buffer, header.byteOffset).getUint32(4) === checksum;
  } finally {
    await file.close();
  }
}

async function readLetters(
  file: DiskFile,
  take: (letter: DeadLetter, mark: LetterMark) => Promise<void>,
): Promise<BadRest | null> {
  const length = await file.length();
  let window: Uint8Array = new Uint8Array(0);
  let windowAt = DEAD_LETTERS_HEADER_BYTES;
  for (let at = windowAt; at < length; ) {
    const read = decodeDeadLetter(window.subarray(at - windowAt));
    switch (read.kind) {
      case "letter":
        await take(read.letter, { at, checksum: read.checksum });
        at += read.end;
        break;
      case "bad":
        return { kind: "damaged", offset: at, why: read.why };
      case "more":
        if (read.bytes > length - at) return torn(at, "the last letter is not whole");
        window = await file.readAt(at, Math.max(read.bytes, Math.min(READ_BYTES, length - at)));
        if (window.length < read.bytes) return torn(at, "it has become shorter while it was read");
        windowAt = at;
    }
  }
  return null;
}

function torn(offset: number, why: string): BadRest {
  return { kind: "torn", offset, why };
}
