/**
 * Processes of Tammar: started, watched and ended by their id.
 *
 * Which program is run: `TAMMAR_TEST_COMMAND`, a JSON array of program and first arguments; without it `dist/tammar`. So
 * the same tests drive the compiled binary and `deno run -A src/cli/main_deno.ts`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { PATIENCE_MS, waitFor, within } from "./wait.ts";

export const root = resolve(import.meta.dirname, "../../..");
/** The compiled binary itself. */
export const binary = join(root, "dist/tammar");

export function tammarCommand(): string[] {
  const given = process.env["TAMMAR_TEST_COMMAND"];
  return given === undefined || given === "" ? [binary] : (JSON.parse(given) as string[]);
}

/** True when the tests drive the sources under Deno: what needs a compiled binary is left out then. */
export const underDeno = tammarCommand().some((word) => word.endsWith("main_deno.ts"));

export interface Ended {
  /** The exit status; null when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface SpawnOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Instead of the command of the tests: an absolute path, or a program with its first arguments. */
  readonly command?: readonly string[];
  /** `argv[0]` as seen by the program. */
  readonly argv0?: string;
}

const outputCharsMax = 4 << 20;

export class Program {
  readonly label: string;
  readonly args: readonly string[];
  readonly ended: Promise<Ended>;
  /** `null` while it runs. */
  end: Ended | null = null;
  stdout = "";
  stderr = "";
  readonly #child: ChildProcess;

  constructor(label: string, args: readonly string[], options: SpawnOptions = {}) {
    this.label = label;
    this.args = args;
    const [file, ...first] = options.command ?? tammarCommand();
    this.#child = spawn(file as string, [...first, ...args], {
      cwd: options.cwd ?? root,
      env: { ...process.env, NO_COLOR: "1", ...options.env },
      stdio: ["ignore", "pipe", "pipe"],
      ...(options.argv0 === undefined ? {} : { argv0: options.argv0 }),
    });
    this.#child.stdout?.setEncoding("utf8");
    this.#child.stderr?.setEncoding("utf8");
    this.#child.stdout?.on("data", (text: string) => {
      this.stdout = (this.stdout + text).slice(-outputCharsMax);
    });
    this.#child.stderr?.on("data", (text: string) => {
      this.stderr = (this.stderr + text).slice(-outputCharsMax);
    });
    this.ended = new Promise((done) => {
      this.#child.once("error", (error) => {
        this.stderr += `${error.message}\n`;
        this.end = { status: 127, signal: null };
        done(this.end);
      });
      // `close` comes when the output is complete.
      this.#child.once("close", (status, signal) => {
        this.end = { status, signal };
        done(this.end);
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Both streams; their order among each other is not known. */
  get output(): string {
    return this.stdout + this.stderr;
  }

  get lines(): string[] {
    return this.output.split("\n");
  }

  signal(name: NodeJS.Signals): void {
    if (this.end === null && this.pid > 0) process.kill(this.pid, name);
  }

  /** SIGKILL, and waits until it is gone. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await within(this.ended, 5_000, `${this.label} to go after SIGKILL`);
  }

  /** The exit status, when it ends by itself in time. */
  async exit(deadlineMs = PATIENCE_MS): Promise<Ended> {
    try {
      return await within(this.ended, deadlineMs, `${this.label} to end`);
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${this.tail()}`);
    }
  }

  /** Until the output holds `pattern`. Fails at once when the process ends before. */
  async waitForOutput(pattern: string | RegExp, deadlineMs = PATIENCE_MS): Promise<void> {
    const holds = (): boolean =>
      typeof pattern === "string" ? this.output.includes(pattern) : pattern.test(this.output);
    await waitFor(
      () => {
        if (holds()) return true;
        if (this.end !== null) {
          throw new Error(`${this.label} ended (${JSON.stringify(this.end)}) before ${pattern}\n${this.tail()}`);
        }
        return false;
      },
      { what: `${pattern} in the output of ${this.label}`, deadlineMs, seen: () => this.tail() },
    );
  }

  /** The last lines, for a message. */
  tail(): string {
    const text = this.output.trimEnd().split("\n").slice(-40);
    return text.map((line) => `    ${this.label} | ${line}`).join("\n");
  }

  /** Resident memory in bytes (Linux). */
  residentBytes(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? Number.NaN) * 1_024;
  }
}

export interface Result {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly output: string;
  readonly ms: number;
}

/** Runs a command to its end. */
export async function runTammar(
  args: readonly string[],
  options: SpawnOptions & { deadlineMs?: number } = {},
): Promise<Result> {
  const began = performance.now();
  const program = new Program(`tammar ${args[0] ?? ""}`, args, options);
  try {
    const { status } = await program.exit(options.deadlineMs ?? PATIENCE_MS);
    const { stdout, stderr, output } = program;
    return { status, stdout, stderr, output, ms: performance.now() - began };
  } finally {
    if (program.end === null) await program.kill();
  }
}
