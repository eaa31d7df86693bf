/** A crowd of strangers at one port, in processes of their own (`crowd_program.ts`): as many as their descriptors need. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { host } from "./ports.ts";
import { Program, root } from "./process.ts";
import { PATIENCE_MS, waitFor } from "./wait.ts";

/** Connections. */
export interface CrowdState {
  begun: number;
  opened: number;
  open: number;
  /** By the worker, after they were open. */
  closed: number;
  /** Closed before the client had seen them open. */
  failed: number;
}

export interface CrowdOptions {
  /** What each says at first. Hex. */
  readonly say?: string;
  /** Then one byte, so often. */
  readonly dripMs?: number;
  /** Who is closed comes again. */
  readonly again?: boolean;
}

/** Descriptors that a crowd's process needs for itself. */
const OWN_DESCRIPTORS = 64;

function connectionsPerProcess(): number {
  const [, , hard] = /^Max open files\s+(\S+)\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "utf8")) ?? [];
  return Math.max(64, Number(hard ?? 1_024) - OWN_DESCRIPTORS);
}

export class Crowd {
  readonly what: string;
  readonly count: number;
  readonly #programs: readonly Program[];

  private constructor(what: string, count: number, programs: readonly Program[]) {
    this.what = what;
    this.count = count;
    this.#programs = programs;
  }

  static open(what: string, port: number, count: number, options: CrowdOptions = {}): Crowd {
    const most = connectionsPerProcess();
    const programs: Program[] = [];
    for (let rest = count; rest > 0; rest -= most) {
      const args = [
        ...[host, `${port}`, `${Math.min(rest, most)}`],
        ...(options.say === undefined ? [] : ["--say", options.say]),
        ...(options.dripMs === undefined ? [] : ["--drip", `${options.dripMs}`]),
        ...(options.again === true ? ["--again"] : []),
      ];
      const command = [join(root, "node_modules/.bin/bun"), join(root, "test/cluster/lib/crowd_program.ts")];
      programs.push(new Program(`crowd at ${what}`, args, { command }));
    }
    return new Crowd(what, count, programs);
  }

  get state(): CrowdState {
    const sum: CrowdState = { begun: 0, opened: 0, open: 0, closed: 0, failed: 0 };
    for (const { stdout } of this.#programs) {
      const line = stdout.slice(-1_000).split("\n").at(-2);
      if (line === undefined) continue;
      const state = JSON.parse(line) as CrowdState;
      for (const name of Object.keys(sum) as (keyof CrowdState)[]) sum[name] += state[name];
    }
    return sum;
  }

  /** Until all have come, and no more than `openMax` of them are still connected. */
  async waitForRest(openMax: number, deadlineMs = PATIENCE_MS): Promise<void> {
    await waitFor(
      () => {
        const { begun, opened, failed, open } = this.state;
        return begun >= this.count && opened + failed === begun && open <= openMax;
      },
      {
        what: `at most ${openMax} of ${this.count} connections at ${this.what} to stay`,
        deadlineMs,
        everyMs: 50,
        seen: () => `    ${JSON.stringify(this.state)}\n${this.#programs.map((program) => program.stderr).join("\n")}`,
      },
    );
  }

  async close(): Promise<void> {
    for (const program of this.#programs) if (program.end === null) await program.kill();
  }
}
