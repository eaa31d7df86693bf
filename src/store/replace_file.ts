import { type Disk, DiskError } from "../runtime/runtime.ts";
import { join, NEW_SUFFIX } from "./folders.ts";

/**
 * Replaces the file `name` in `folder` as a whole: a crash or a power cut at any moment leaves the old content or the new.
 * Resolves when the new content is durable. One call at a time for each file. `unfinished`: its name until it is whole.
 */
export async function replaceFile(
  disk: Disk,
  folder: string,
  name: string,
  bytes: Uint8Array,
  unfinished = name + NEW_SUFFIX,
): Promise<void> {
  const temporary = join(folder, unfinished);
  await removeIfThere(disk, temporary);
  const file = await disk.open(temporary, "create");
  try {
    await file.append(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(temporary, join(folder, name));
  await disk.syncDir(folder);
}

/** Was it there? */
export async function removeIfThere(disk: Disk, path: string): Promise<boolean> {
  try {
    await disk.remove(path);
    return true;
  } catch (error) {
    if (error instanceof DiskError && error.code === "not_found") return false;
    throw error;
  }
}
