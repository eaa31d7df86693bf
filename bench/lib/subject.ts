/** What is measured: processes with a source port each, all writing to one sink. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { freePorts, host } from "../../test/cluster/lib/ports.ts";

export const root = resolve(import.meta.dirname, "../..");
export const bun = join(root, "node_modules/.bin/bun");
export const deno = join(root, "node_modules/.bin/deno");
export const binary = join(root, "dist/tammar");

export type RuntimeName = "bun" | "deno";

export interface Subject {
  readonly sourcePorts: readonly number[];
  /** Milliseconds from the start of the first process until the last was ready. */
  readonly startMs: number;
  /** User and system time of all its processes so far, microseconds. */
  cpuMicros(): number;
  residentBytes(): number;
  stop(): Promise<void>;
}

/** Ticks are hundredths of a second on every Linux that matters here. */
const MICROS_A_TICK = 10_000;

function cpuMicrosOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The second field is the name in parentheses and may hold blanks; utime and stime are fields 14 and 15.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * MICROS_A_TICK;
}

function residentBytesOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1_024;
}

/** Every process that was started and has not ended. */
export const running = new Set<ChildProcess>();

/** For Ctrl-C: whatever was started goes. */
export function killAll(): void {
  for (const child of running) child.kill("SIGKILL");
}

interface Started {
  readonly child: ChildProcess;
  readonly ready: Promise<number>;
}

function start(command: readonly string[], ready: string): Started {
  const began = performance.now();
  const child = spawn(command[0] as string, command.slice(1), {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1" },
  });
  running.add(child);
  let output = "";
  const isReady = new Promise<number>((done, failed) => {
    const timer = setTimeout(
      () => failed(new Error(`not ready after a minute: ${command.join(" ")}\n${output}`)),
      60_000,
    );
    const take = (bytes: Buffer): void => {
      output = (output + bytes.toString("utf8")).slice(-100_000);
      if (!output.includes(ready)) return;
      clearTimeout(timer);
      done(performance.now() - began);
    };
    child.stdout?.on("data", take);
    child.stderr?.on("data", take);
    child.once("exit", (status) => {
      running.delete(child);
      clearTimeout(timer);
      failed(new Error(`ended with ${status}: ${command.join(" ")}\n${output}`));
    });
  });
  isReady.catch(() => {});
  return { child, ready: isReady };
}

/** What is in `processes` may be replaced by other processes later. */
async function subject(
  processes: readonly Started[],
  sourcePorts: readonly number[],
  end: "kill" | "shut down",
  folder: string | null,
): Promise<Subject> {
  const pids = (): number[] => processes.map(({ child }) => child.pid as number);
  const stop = async (): Promise<void> => {
    const gone = processes.map(({ child }) =>
      child.exitCode !== null || child.signalCode !== null
        ? Promise.resolve()
        : new Promise<void>((done) => child.once("exit", () => done())),
    );
    if (end === "shut down") processes[0]?.child.kill("SIGTERM");
    else for (const { child } of processes) child.kill("SIGKILL");
    const late = setTimeout(() => {
      for (const { child } of processes) child.kill("SIGKILL");
    }, 11_000);
    await Promise.all(gone);
    clearTimeout(late);
    if (folder !== null) rmSync(folder, { recursive: true, force: true });
  };
  try {
    const startMs = Math.max(...(await Promise.all(processes.map(({ ready }) => ready))));
    return {
      sourcePorts,
      startMs,
      cpuMicros: () => pids().reduce((sum, pid) => sum + cpuMicrosOf(pid), 0),
      residentBytes: () => pids().reduce((sum, pid) => sum + residentBytesOf(pid), 0),
      stop,
    };
  } catch (error) {
    for (const { child } of processes) child.kill("SIGKILL");
    if (folder !== null) rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

/** `count` bare loops that know nothing of each other. */
export async function startBareLoops(runtime: RuntimeName, count: number, sinkPort: number): Promise<Subject> {
  const ports = await freePorts(count);
  const script = join(root, "bench/bare_loop.ts");
  const lead = runtime === "bun" ? [bun, script] : [deno, "run", "-A", "--no-check", script];
  const processes = ports.map((port) => start([...lead, `${port}`, `${sinkPort}`], "ready"));
  return subject(processes, ports, "kill", null);
}

export interface EngineOptions {
  readonly runtime: RuntimeName;
  readonly workers: number;
  readonly sinkPort: number;
  /** Below bench/apps/. */
  readonly application: string;
  /** Name of its TCP source, if it has one. */
  readonly source?: string;
  readonly extra?: readonly string[];
}

/** A cluster whose workers can be killed and started again. */
export interface Engine extends Subject {
  /** Where the cluster has its files. */
  readonly folder: string;
  readonly externalPorts: readonly number[];
  /** `kill -9`; resolves when the process is gone. */
  kill(index: number): Promise<void>;
  /** Of one worker's process so far, microseconds. */
  cpuMicrosOf(index: number): number;
  /** Starts a worker again with its command line; resolves with the milliseconds until it is ready. */
  restart(index: number): Promise<number>;
}

/** A cluster of Tammar: the compiled binary, or the same sources under Deno. */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const { runtime, workers, sinkPort, application, source, extra = [] } = options;
  const ports = await freePorts(workers * 4);
  const folder = mkdtempSync(join(tmpdir(), "tammar-bench-"));
  const lead = runtime === "bun" ? [binary] : [deno, "run", "-A", "--no-check", join(root, "src/cli/main_deno.ts")];
  const at = (index: number): string => `${host}:${ports[index]}`;
  const every = (which: number): number[] => Array.from({ length: workers }, (_, index) => ports[index * 4 + which]!);
  const sourcePorts = every(2);
  const startOne = (index: number): Started =>
    start(
      [
        ...lead,
        ...["worker", "--application-module", join(root, "bench/apps", application)],
        ...(source === undefined ? [] : ["--in", `${source}@${host}:${sourcePorts[index]}`]),
        ...["--out", `${host}:${sinkPort}`, "--resilience-dir", folder, "--external", at(index * 4 + 3)],
        ...(index === 0
          ? ["--cluster-initializer", "--worker-count", `${workers}`, "--control", at(0), "--data", at(1)]
          : [
              ...["--name", `worker${index}`, "--control", at(0)],
              ...["--my-control", at(index * 4), "--my-data", at(index * 4 + 1)],
            ]),
        ...extra,
      ],
      "INIT PHASE IV",
    );
  const processes = sourcePorts.map((_, index) => startOne(index));
  const made = await subject(processes, sourcePorts, "shut down", folder);
  return {
    ...made,
    folder,
    externalPorts: every(3),
    async kill(index) {
      const { child } = processes[index]!;
      const gone = new Promise<void>((done) => child.once("exit", () => done()));
      child.kill("SIGKILL");
      await gone;
    },
    cpuMicrosOf: (index) => cpuMicrosOf(processes[index]!.child.pid!),
    restart(index) {
      const started = startOne(index);
      processes[index] = started;
      return started.ready;
    },
  };
}
