/** What a real process holds open, as the virtual one counts it: TCP sockets and locks of folders, but no other files. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Of a worker's files, and of a file sink's output. */
const LOCK = /\/(LOCK|\.tammar-[^/]*)$/;

/** `null`: no `/proc` here, or the process is gone. Not counted: what the runtime itself needs, and pipes to the stage. */
export function descriptorsOf(pid: number, folder: string): number | null {
  try {
    const sockets = new Set<string>();
    for (const family of ["tcp", "tcp6"]) {
      for (const line of readFileSync(`/proc/${pid}/net/${family}`, "latin1").split("\n").slice(1)) {
        const inode = line.trim().split(/\s+/)[9];
        if (inode !== undefined && inode !== "0") sockets.add(`socket:[${inode}]`);
      }
    }
    let count = 0;
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      let target: string;
      try {
        target = readlinkSync(`/proc/${pid}/fd/${fd}`);
      } catch {
        continue; // Closed meanwhile.
      }
      if (sockets.has(target) || (target.startsWith(`${folder}/`) && LOCK.test(target))) count++;
    }
    return count;
  } catch {
    return null;
  }
}
