import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultMemoryLimit, parseMemoryLimit } from "../../src/cli/memory_limit.ts";
import { type Disk, DiskError } from "../../src/runtime/runtime.ts";

/** A machine with these files. */
function disk(files: Record<string, string>): Disk {
  const readFile = async (path: string) => {
    const text = files[path];
    if (text === undefined) throw new DiskError("not_found", path, "not there");
    return new TextEncoder().encode(text);
  };
  return { readFile } as unknown as Disk;
}

test("a limit of memory is a number of bytes, or off", () => {
  assert.equal(parseMemoryLimit(null), null);
  assert.equal(parseMemoryLimit("off"), Number.POSITIVE_INFINITY);
  assert.equal(parseMemoryLimit("2_000_000_000"), 2e9);
  for (const text of ["", "0", "1000", "2GB", "-5", "1e9", "99999999999999999999"]) {
    assert.throws(() => parseMemoryLimit(text), /--memory-limit .*: give a number of bytes from 67108864 on/, text);
  }
});

test("by default it is nine tenths of the container's memory, or the machine's, and off where neither is known", async () => {
  const machine = { "/proc/meminfo": "MemTotal:       1000 kB\nMemFree:        10 kB\n" };
  assert.equal(await defaultMemoryLimit(disk(machine)), 921_600);
  assert.equal(await defaultMemoryLimit(disk({ ...machine, "/sys/fs/cgroup/memory.max": "max\n" })), 921_600);
  assert.equal(await defaultMemoryLimit(disk({ ...machine, "/sys/fs/cgroup/memory.max": "100000\n" })), 90_000);
  const old = { "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n" };
  assert.equal(await defaultMemoryLimit(disk({ ...machine, ...old })), 921_600);
  assert.equal(await defaultMemoryLimit(disk({})), Number.POSITIVE_INFINITY);
});
