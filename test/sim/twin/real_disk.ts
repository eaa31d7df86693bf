/**
 * The disk of one machine is a folder, which is what the machine calls `/`. Files are harmed from outside; operations fail or
 * stall because the worker asks before each (`asked_disk.ts`).
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Disk, Millis } from "../../../src/runtime/runtime.ts";
import type { StageDisk } from "../../../src/simulation/stage.ts";
import type { AskDisk } from "./asked_disk.ts";

/** Of a worker whose disk is to be full. */
const SMALL_DISK_BYTES = 1 << 20;
const FILLER = ".filler";

export class RealDisk implements StageDisk {
  fault: StageDisk["fault"] = null;
  /** What `/` really is. */
  readonly root: string;
  readonly #small: boolean;
  #stalledUntilMs = 0;

  /** @param small Is it to become full? Then it is a small file system of its own. */
  constructor(root: string, small: boolean) {
    this.root = root;
    this.#small = small;
    mkdirSync(root, { recursive: true });
    if (small) {
      execFileSync("mount", ["-t", "tmpfs", "-o", `size=${SMALL_DISK_BYTES},mode=0700`, "tammar-twin", root], {
        stdio: "pipe",
      });
    }
    mkdirSync(this.real("/tmp"));
  }

  real(path: string): string {
    return join(this.root, path);
  }

  set spaceBytes(bytes: number) {
    const filler = this.real(FILLER);
    rmSync(filler, { force: true });
    if (!Number.isFinite(bytes)) return;
    if (!this.#small) throw new Error("This disk cannot be filled: it is not a file system of its own");
    const { bavail, bsize } = statfsSync(this.root);
    const free = Math.max(0, Math.floor((bytes - this.usedBytes()) / bsize));
    writeFileSync(filler, new Uint8Array(Math.max(0, bavail - free) * bsize));
  }

  get spaceBytes(): number {
    return Number.POSITIVE_INFINITY;
  }

  usedBytes(): number {
    return this.paths()
      .filter((path) => !path.endsWith("/"))
      .reduce((sum, path) => sum + statSync(this.real(path)).size, 0);
  }

  paths(): string[] {
    const found: string[] = [];
    const walk = (folder: string): void => {
      for (const entry of readdirSync(this.real(folder), { withFileTypes: true })) {
        const path = `${folder}${entry.name}`;
        if (entry.isDirectory()) {
          found.push(`${path}/`);
          walk(`${path}/`);
        } else if (entry.name !== FILLER) found.push(path);
      }
    };
    walk("/");
    return found.sort();
  }

  peek(path: string): Uint8Array | null {
    try {
      return new Uint8Array(readFileSync(this.real(path)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw error;
    }
  }

  put(path: string, content: Uint8Array): void {
    mkdirSync(dirname(this.real(path)), { recursive: true });
    writeFileSync(this.real(path), content);
  }

  take(path: string): void {
    rmSync(this.real(path));
  }

  stall(durationMs: Millis): void {
    this.#stalledUntilMs = Math.max(this.#stalledUntilMs, performance.now() + durationMs);
  }

  /** What is to become of an operation. */
  readonly answer: AskDisk = async (operation, path) => {
    const restMs = this.#stalledUntilMs - performance.now();
    if (restMs > 0) await new Promise((resolve) => setTimeout(resolve, restMs));
    return this.fault?.(operation, path) ?? null;
  };

  /** For code of the environment, in place of its own disk. */
  rooted(disk: Disk): Disk {
    return {
      readFile: (path, lengthMax) => disk.readFile(this.real(path), lengthMax),
      open: (path, mode) => disk.open(this.real(path), mode),
      list: (path) => disk.list(this.real(path)),
      stat: (path) => disk.stat(this.real(path)),
      rename: (from, to) => disk.rename(this.real(from), this.real(to)),
      remove: (path) => disk.remove(this.real(path)),
      makeDir: (path) => disk.makeDir(this.real(path)),
      removeDir: (path) => disk.removeDir(this.real(path)),
      syncDir: (path) => disk.syncDir(this.real(path)),
      lock: (path) => disk.lock(this.real(path)),
    };
  }

  close(): void {
    if (this.#small) execFileSync("umount", ["-l", this.root], { stdio: "pipe" });
    rmSync(this.root, { recursive: true, force: true });
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
