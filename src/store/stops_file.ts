/**
 * How often in a row a worker was ended by one and the same record that user code refused: the file `stops`. Whoever restarts
 * it without a look can be told so. It decides nothing: what can't be read, or written, counts as not there.
 */
import { type Disk, DiskError } from "../runtime/runtime.ts";
import { join, STOPS_FILE } from "./folders.ts";
import { replaceFile } from "./replace_file.ts";

const BYTES_MAX = 64 * 1024;
const COUNT_MAX = 1_000_000;

/**
 * Counts one more stop.
 *
 * @param at Names the record: stage, key, and its place in the source.
 * @returns How many there were in a row with this one.
 */
export async function countStop(disk: Disk, folder: string, at: string): Promise<number> {
  const place = at.slice(0, BYTES_MAX / 8).replaceAll("\n", " ");
  const before = await readStops(disk, folder);
  const count = before.place === place ? before.count + 1 : 1;
  try {
    await replaceFile(disk, folder, STOPS_FILE, new TextEncoder().encode(`${count}\n${place}\n`));
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
  }
  return count;
}

async function readStops(disk: Disk, folder: string): Promise<{ count: number; place: string }> {
  const none = { count: 0, place: "" };
  try {
    const text = new TextDecoder().decode(await disk.readFile(join(folder, STOPS_FILE), BYTES_MAX));
    const [, count, place] = /^(\d{1,7})\n([^\n]*)\n$/.exec(text) ?? [];
    return place === undefined || Number(count) > COUNT_MAX ? none : { count: Number(count), place };
  } catch (error) {
    if (error instanceof DiskError) return none;
    throw error;
  }
}
