/** `--memory-limit`: a number of bytes, `off`, or left out: most of what the machine, or the worker's container, has. */
import { ConfigError } from "../base/errors.ts";
import { printable } from "../base/log.ts";
import { type Disk, DiskError } from "../runtime/runtime.ts";

/** With less, no worker comes up. */
const LIMIT_BYTES_MIN = 64 << 20;
/** Of what there is, when nothing was said. */
const DEFAULT_SHARE = 0.9;
const FILE_BYTES_MAX = 64 * 1024;

/** `null`: it was not given. Infinity: off. @throws {ConfigError} `option_invalid`. */
export function parseMemoryLimit(text: string | null): number | null {
  if (text === null) return null;
  if (text === "off") return Number.POSITIVE_INFINITY;
  const bytes = /^[0-9][0-9_]{0,19}$/.test(text) ? Number(text.replaceAll("_", "")) : Number.NaN;
  if (bytes >= LIMIT_BYTES_MIN && bytes <= Number.MAX_SAFE_INTEGER) return bytes;
  throw new ConfigError(
    "option_invalid",
    `--memory-limit ${printable(text)}: give a number of bytes from ${LIMIT_BYTES_MIN} on, such as 2_000_000_000, or off`,
  );
}

/** Nine tenths of what the container or the machine has; Infinity where that is not known. */
export async function defaultMemoryLimit(disk: Disk): Promise<number> {
  const sizes = [
    wholeNumber(await textOf(disk, "/sys/fs/cgroup/memory.max")),
    wholeNumber(await textOf(disk, "/sys/fs/cgroup/memory/memory.limit_in_bytes")),
    Number(/^MemTotal:\s+(\d+) kB$/m.exec(await textOf(disk, "/proc/meminfo"))?.[1] ?? Number.POSITIVE_INFINITY) *
      1_024,
  ];
  return Math.min(...sizes) * DEFAULT_SHARE;
}

/** `max`, and what is no number, is no limit. */
function wholeNumber(text: string): number {
  const digits = text.trim();
  return /^[1-9][0-9]*$/.test(digits) ? Number(digits) : Number.POSITIVE_INFINITY;
}

async function textOf(disk: Disk, path: string): Promise<string> {
  try {
    return new TextDecoder().decode(await disk.readFile(path, FILE_BYTES_MAX));
  } catch (error) {
    if (error instanceof DiskError) return "";
    throw error;
  }
}
