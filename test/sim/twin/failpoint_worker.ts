/**
 * `dist/tammar-failpoints`: the command `worker` in a build for tests, which can stop or kill itself at any crash point, dials
 * through a proxy, asks whether calls of its disk and its network are to fail, and says how it is. Nothing of this is in a release: there is no way in from its entries.
 */
import { writeSync } from "node:fs";
import process from "node:process";
import * as library from "../../../mod.ts";
import { type Instruments, workerCommand } from "../../../src/cli/commands/worker.ts";
import { runCommand } from "../../../src/cli/run_command.ts";
import * as run from "../../../src/cli/run_refused.ts";
import { createBunRuntime } from "../../../src/runtime/bun.ts";
import type { DiskErrorCode, Net, NetErrorCode, Runtime } from "../../../src/runtime/runtime.ts";
import type { CrashPoint, WorkerStatus } from "../../../src/worker/crash_points.ts";
import { type AskDisk, askedDisk } from "./asked_disk.ts";
import { type AskNet, askedNet } from "./asked_net.ts";
import { byLine } from "./by_line.ts";
import { dialThrough } from "./dial.ts";
import {
  FAILPOINT_VARIABLE,
  type Failpoint,
  flattenStatus,
  parseFailpoints,
  REPORT_PREFIX,
  TWIN_VARIABLE,
  type TwinOrder,
  type TwinReport,
  type TwinSettings,
} from "./failpoints.ts";

const STDERR = 2;

function report(what: TwinReport): void {
  writeSync(STDERR, `${REPORT_PREFIX}${JSON.stringify(what)}\n`);
}

/** The signal is for the whole process: whichever thread gets it, this one is held meanwhile. */
function endHere(signal: "SIGSTOP" | "SIGKILL", holdMs: number): void {
  process.kill(process.pid, signal);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, holdMs);
}

function instruments(failpoints: readonly Failpoint[], settings: TwinSettings | null): Instruments {
  const passages = new Map<CrashPoint, number>();
  const told = new Set([...failpoints.map(({ point }) => point), ...(settings?.tellsOf ?? [])]);
  const reached = (point: CrashPoint): void => {
    if (!told.has(point)) return;
    const n = (passages.get(point) ?? 0) + 1;
    passages.set(point, n);
    const hit = failpoints.find((failpoint) => failpoint.point === point && failpoint.n === n);
    report({ kind: "passed", point, stops: hit?.action === "stop" });
    if (hit?.action === "kill") endHere("SIGKILL", 60_000);
    if (hit?.action !== "stop") return;
    endHere("SIGSTOP", 20);
    report({ kind: "continued" });
  };
  const observable = (read: () => WorkerStatus): void => {
    if (settings === null) return;
    const tell = () => report({ kind: "status", status: flattenStatus(read()) });
    tell();
    setInterval(tell, settings.statusMs).unref();
  };
  return {
    adjust: (config) => (settings === null ? config : { ...config, limits: { ...config.limits, ...settings.limits } }),
    hooks: { reached, observable },
  };
}

function instrumented(runtime: Runtime, settings: TwinSettings | null): Runtime {
  if (settings === null) return runtime;
  const connect = dialThrough(runtime, settings.proxy, settings.machine);
  const { clock, net } = runtime;
  const asked = new Map<number, (code: DiskErrorCode | NetErrorCode | null) => void>();
  let wallOffsetMs = settings.wallOffsetMs;
  const obey = (order: TwinOrder): void => {
    if (order.kind === "wall") {
      wallOffsetMs = order.offsetMs;
      return;
    }
    asked.get(order.id)?.(order.code);
    asked.delete(order.id);
  };
  byLine(process.stdin, (line) => obey(JSON.parse(line) as TwinOrder));
  let id = 0;
  const folder = settings.asksDiskOf;
  // The application's module and the like are no part of the machine.
  const askDisk: AskDisk = (operation, path) =>
    new Promise((resolve) => {
      if (folder === null || !path.startsWith(folder)) return resolve(null);
      asked.set(++id, resolve as (code: DiskErrorCode | NetErrorCode | null) => void);
      report({ kind: "disk", id, operation, path });
    });
  const askNet: AskNet = (call) =>
    new Promise((resolve) => {
      asked.set(++id, resolve as (code: DiskErrorCode | NetErrorCode | null) => void);
      report({ kind: "net", id, call });
    });
  const dialling: Net = { listen: (options) => net.listen(options), connect };
  return {
    ...runtime,
    clock: { ...clock, wallMs: () => clock.wallMs() + wallOffsetMs },
    net: settings.asksNet ? askedNet(dialling, askNet) : dialling,
    disk: folder === null ? runtime.disk : askedDisk(runtime.disk, askDisk),
  };
}

const failpoints = parseFailpoints(process.env[FAILPOINT_VARIABLE] ?? "");
const text = process.env[TWIN_VARIABLE];
const settings = text === undefined ? null : (JSON.parse(text) as TwinSettings);
const runtime = instrumented(createBunRuntime({ library, run }), settings);
const args = runtime.host.args[0] === "worker" ? runtime.host.args.slice(1) : runtime.host.args;
await runCommand(runtime, workerCommand(null, instruments(failpoints, settings)), args, "tammar-failpoints");
