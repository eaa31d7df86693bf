/** The folder of one worker, as a scenario and its checker see it: only what can be done to files from outside. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { StageDisk } from "../../../src/simulation/stage.ts";

/** Of a worker whose disk is to be full. */
const SMALL_DISK_BYTES = 1 << 20;
const FILLER = ".filler";

export class RealDisk implements StageDisk {
  /** Never asked: the operating system does what it does. */
  fault: StageDisk["fault"] = null;
  readonly folder: string;
  readonly #small: boolean;

  /** @param small Is it to become full? Then it is a small file system of its own. */
  constructor(folder: string, small: boolean) {
    this.folder = folder;
    this.#small = small;
    mkdirSync(folder, { recursive: true });
    if (small) {
      execFileSync("mount", ["-t", "tmpfs", "-o", `size=${SMALL_DISK_BYTES},mode=0700`, "tammar-twin", folder], {
        stdio: "pipe",
      });
    }
  }

  set spaceBytes(bytes: number) {
    const filler = join(this.folder, FILLER);
    rmSync(filler, { force: true });
    if (!Number.isFinite(bytes)) return;
    if (!this.#small) throw new Error("This disk cannot be filled: it is not a file system of its own");
    const { bavail, bsize } = statfsSync(this.folder);
    const free = Math.max(0, Math.floor((bytes - this.usedBytes()) / bsize));
    writeFileSync(filler, new Uint8Array(Math.max(0, bavail - free) * bsize));
  }

  get spaceBytes(): number {
    return Number.POSITIVE_INFINITY;
  }

  usedBytes(): number {
    return this.paths()
      .filter((path) => !path.endsWith("/"))
      .reduce((sum, path) => sum + statSync(path).size, 0);
  }

  paths(): string[] {
    const found: string[] = [];
    const walk = (folder: string): void => {
      for (const entry of readdirSync(folder, { withFileTypes: true })) {
        const path = join(folder, entry.name);
        if (entry.isDirectory()) {
          found.push(`${path}/`);
          walk(path);
        } else if (entry.name !== FILLER) found.push(path);
      }
    };
    walk(this.folder);
    return found.sort();
  }

  peek(path: string): Uint8Array | null {
    try {
      return new Uint8Array(readFileSync(path));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw error;
    }
  }

  put(path: string, content: Uint8Array): void {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  }

  stall(): void {
    throw new Error("A real disk cannot be told to stall");
  }

  close(): void {
    if (this.#small) execFileSync("umount", ["-l", this.folder], { stdio: "pipe" });
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Why no disk can be filled on this machine; null: it can. */
export function whyNoSmallDisk(folder: string): string | null {
  const probe = join(folder, "probe");
  try {
    new RealDisk(probe, true).close();
    return null;
  } catch (error) {
    rmSync(probe, { recursive: true, force: true });
    return `no small file system can be mounted here: ${String((error as { stderr?: Buffer }).stderr ?? error).trim()}`;
  }
}
