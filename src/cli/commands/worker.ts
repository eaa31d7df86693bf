import type { Application } from "../../api/application.ts";
import { EXIT, type ExitStatus, TammarError } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import { DEFAULT_TIMING, limitsWithin, NO_CHECKPOINTS, type WorkerConfig } from "../../worker/config.ts";
import { NO_HOOKS, type WorkerHooks } from "../../worker/crash_points.ts";
import { runWorker } from "../../worker/worker.ts";
import { applicationDigest } from "../application_digest.ts";
import { buildId } from "../build_id.ts";
import type { Command, Invocation } from "../command.ts";
import { commandHelp } from "../help.ts";
import { createLogger, type Logger } from "../logger.ts";
import { defaultMemoryLimit } from "../memory_limit.ts";
import { loadApplication } from "../module_loader.ts";
import { report } from "../run_command.ts";
import { print } from "../terminal.ts";
import {
  applicationModuleOf,
  applicationOptions,
  checkApplication,
  LATER_OPTIONS,
  readWorkerOptions,
  WORKER_OPTIONS,
  type WorkerOptions,
  wantsHelp,
} from "../worker_options.ts";

/** An application that is part of this executable, and what identifies its code. */
export interface CompiledIn {
  readonly application: Application;
  readonly codeDigest: string;
  readonly buildId: string;
}

/** For builds made for tests, which no release is: changes what the command line said, and watches from inside. */
export interface Instruments {
  readonly adjust: (config: WorkerConfig) => WorkerConfig;
  readonly hooks: WorkerHooks;
}

const NO_INSTRUMENTS: Instruments = { adjust: (config) => config, hooks: NO_HOOKS };

/** How long the log may take at the end, when its reader is slow. */
const FLUSH_MS = 1_000;

export const worker: Command = workerCommand(null);

/** The command that runs a worker; `compiledIn`: of this application, instead of one that is named on the command line. */
export function workerCommand(compiledIn: CompiledIn | null, instruments = NO_INSTRUMENTS): Command {
  const options =
    compiledIn === null ? WORKER_OPTIONS : WORKER_OPTIONS.filter((option) => option.name !== "application-module");
  const module = compiledIn === null ? "--application-module ./alerts.ts " : "";
  const command: Command = {
    name: "worker",
    calledAs: ["machida", "machida3", "tammar-worker"],
    summary: "Run one worker of a cluster",
    usage: compiledIn === null ? "--application-module MODULE [options]" : "[options]",
    options,
    examples: [
      `${module}--cluster-initializer --worker-count 2 --control 127.0.0.1:7000 --data 127.0.0.1:7001 --out 127.0.0.1:7200`,
      `${module}--name worker1 --control 127.0.0.1:7000 --out 127.0.0.1:7200`,
    ],
    async run(invocation) {
      if (wantsHelp(invocation.args)) {
        await print(invocation.runtime.host, await help(command, invocation, compiledIn));
        return EXIT.done;
      }
      return runOneWorker(invocation, compiledIn, instruments);
    },
  };
  return command;
}

async function help(command: Command, invocation: Invocation, compiledIn: CompiledIn | null): Promise<string> {
  const later = { title: "Options of a later release", options: LATER_OPTIONS };
  const module = compiledIn === null ? applicationModuleOf(invocation.args) : null;
  if (compiledIn === null && module === null) return commandHelp(command, invocation.program, [later]);
  try {
    const application = compiledIn?.application ?? (await loadApplication(invocation.runtime, module!)).application;
    const own = {
      title: `Options of ${JSON.stringify(application.name)}`,
      options: applicationOptions(application.options),
    };
    return commandHelp(command, invocation.program, [own, later]);
  } catch (error) {
    if (!(error instanceof TammarError)) throw error;
    return `${commandHelp(command, invocation.program, [later])}\nThe application's options are not shown: ${error.message}\n`;
  }
}

async function runOneWorker(
  { runtime, args }: Invocation,
  compiledIn: CompiledIn | null,
  instruments: Instruments,
): Promise<ExitStatus> {
  const { workingDir } = runtime.host;
  const options = readWorkerOptions(args, { workingDir, applicationCompiledIn: compiledIn !== null });
  const loaded = compiledIn ?? (await load(runtime, options.applicationModule!));
  const checked = checkApplication(args, options, loaded.application);
  const config: WorkerConfig = {
    role: options.role,
    name: options.name,
    workerCount: options.workerCount,
    controlListen: options.controlListen,
    dataListen: options.dataListen,
    initializerControl: options.initializerControl,
    externalListen: options.externalListen,
    metrics: options.metrics,
    inputs: options.inputs,
    outputs: options.outputs,
    resilienceDir: options.resilienceDir,
    application: loaded.application,
    applicationOptions: checked.values,
    rawArguments: args,
    buildId: loaded.buildId,
    applicationCodeDigest: loaded.codeDigest,
    checkpoints: {
      ...NO_CHECKPOINTS,
      intervalMs: options.checkpointIntervalMs,
      rotation: options.logRotation,
      acceptStateLoss: options.acceptStateLoss,
      acceptOtherVersion: options.acceptOtherVersion,
    },
    timing: DEFAULT_TIMING,
    limits: {
      ...limitsWithin(runtime.host.descriptorsMax),
      memoryBytes: options.memoryLimitBytes ?? (await defaultMemoryLimit(runtime.disk)),
    },
  };
  return superviseWorker(runtime, instruments.adjust(config), options, checked.warnings, instruments.hooks);
}

async function load(runtime: Runtime, module: string): Promise<CompiledIn> {
  const { path, application } = await loadApplication(runtime, module);
  return { application, codeDigest: await applicationDigest(runtime, path), buildId: await buildId(runtime) };
}

async function superviseWorker(
  runtime: Runtime,
  config: WorkerConfig,
  options: WorkerOptions,
  warnings: readonly string[],
  hooks: WorkerHooks,
): Promise<ExitStatus> {
  const { host, clock } = runtime;
  const log = createLogger(host, clock, { level: options.logLevel, format: options.logFormat, worker: config.name });
  host.onUncaught((error) => void fail(runtime, log, error).then((status) => host.exit(status)));
  for (const warning of warnings) log.warn("option_ignored", warning);
  try {
    const status = await runWorker(config, runtime, log, hooks);
    await log.flush(FLUSH_MS);
    return status;
  } catch (error) {
    return fail(runtime, log, error);
  }
}

/** Says in the log and on standard error what ended the worker. */
async function fail(runtime: Runtime, log: Logger, error: unknown): Promise<ExitStatus> {
  if (error instanceof TammarError) {
    log.error(error.code, error.message);
  } else {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    log.error("bug", `unexpected failure inside Tammar: ${printable(text, 4_096)}`);
  }
  await log.flush(FLUSH_MS);
  return report(runtime, error);
}
