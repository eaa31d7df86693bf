/** A disk that asks before each operation whether it is to fail. An answer that is late is a disk that stalls. */
import { type Disk, DiskError, type DiskErrorCode, type DiskFile, type Lock } from "../../../src/runtime/runtime.ts";
import type { DiskOperation } from "../../../src/runtime/virtual/disk.ts";
import { WANTED } from "./failpoints.ts";

export type AskDisk = (operation: DiskOperation, path: string) => Promise<DiskErrorCode | null>;

export function askedDisk(disk: Disk, ask: AskDisk): Disk {
  const allowed = async (operation: DiskOperation, path: string): Promise<void> => {
    const code = await ask(operation, path);
    if (code !== null) throw new DiskError(code, path, `Cannot ${operation} ${path}: ${WANTED}`);
  };
  const call = async <T>(operation: DiskOperation, path: string, run: () => Promise<T>): Promise<T> => {
    await allowed(operation, path);
    return run();
  };
  const file = (inner: DiskFile, path: string): DiskFile => ({
    append: (bytes) => call("append", path, () => inner.append(bytes)),
    sync: () => call("sync", path, () => inner.sync()),
    readAt: (offset, length) => call("read", path, () => inner.readAt(offset, length)),
    length: () => inner.length(),
    truncate: (length) => call("truncate", path, () => inner.truncate(length)),
    close: () => inner.close(),
  });
  const lock = (inner: Lock, path: string): Lock => ({
    removeAndRelease: () => call("remove", path, () => inner.removeAndRelease()),
    release: () => inner.release(),
  });
  return {
    readFile: (path, lengthMax) => call("read", path, () => disk.readFile(path, lengthMax)),
    open: (path, mode) => call("open", path, async () => file(await disk.open(path, mode), path)),
    list: (path) => call("list", path, () => disk.list(path)),
    stat: (path) => call("stat", path, () => disk.stat(path)),
    rename: (from, to) => call("rename", from, () => disk.rename(from, to)),
    remove: (path) => call("remove", path, () => disk.remove(path)),
    makeDir: (path) => call("make_dir", path, () => disk.makeDir(path)),
    removeDir: (path) => call("remove_dir", path, () => disk.removeDir(path)),
    syncDir: (path) => call("sync_dir", path, () => disk.syncDir(path)),
    lock: (path) =>
      call("lock", path, async () => {
        const inner = await disk.lock(path);
        return inner === null ? null : lock(inner, path);
      }),
  };
}
