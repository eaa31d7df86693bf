/**
 * The demonstration behind `scripts/demo`: the operator's own command lines, a `kill -9`, and a clean end.
 *
 * A person is watching, so it says what it does before it does it. Whatever happens, and on Ctrl-C, it ends the processes
 * it started by their id and removes its folder.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { freePorts, host } from "../test/cluster/lib/ports.ts";
import { sleep, waitFor } from "../test/cluster/lib/wait.ts";

const root = resolve(import.meta.dirname, "..");
const tammar = join(root, "dist/tammar");
// Before there is anything to clean up; they run in a later turn, when all below is there.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    cleanUp();
    say();
    say(`Stopped by ${signal}: all processes are ended, ${folder} is removed.`);
    process.exit(130);
  });
}

const folder = mkdtempSync(join(tmpdir(), "tammar-demo-"));
const children = new Set<ChildProcess>();

const useColor = process.stdout.isTTY === true && process.env["NO_COLOR"] === undefined;
const paint = (code: string, text: string): string => (useColor ? `\x1b[${code}m${text}\x1b[0m` : text);
const say = (text = ""): void => {
  writeSync(1, `${text}\n`);
};
let stepCount = 0;
/** Somebody who watches gets a moment to read. */
const step = async (text: string): Promise<void> => {
  if (process.stdout.isTTY === true && stepCount > 0) await sleep(1_500);
  stepCount += 1;
  say();
  say(paint("1;36", `${stepCount}. ${text}`));
};

function cleanUp(): void {
  for (const child of children) {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
  }
  rmSync(folder, { recursive: true, force: true });
}

interface Running {
  readonly child: ChildProcess;
  readonly name: string;
  output: string;
  /** Resolves with the exit status, or the signal's name. */
  readonly ended: Promise<number | string>;
}

/** What a person would type, one option a line. */
function shown(args: readonly string[]): string {
  const words = args.map((arg) => (/[^\w@%+=:,./-]/.test(arg) ? `'${arg}'` : arg));
  let text = "dist/tammar";
  for (const word of words) text += word.startsWith("--") ? ` \\\n        ${word}` : ` ${word}`;
  return text.replaceAll(`${root}/`, "");
}

/** Lines of a worker that a watcher may want to see. */
const interesting = /INIT PHASE I|waiting for|connection to \w+ lost|Recovering from|Recovery COMPLETE|starts empty/;

/** Without time and level, and without the name, which stands before it anyway. */
const shorten = (line: string): string => line.replace(/^\S+T\S+Z [A-Z]+ +(\w+: )?/, "");

function start(name: string, args: readonly string[]): Running {
  say(paint("2", `   $ ${shown(args)}`));
  const child = spawn(tammar, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  let partial = "";
  const running: Running = {
    child,
    name,
    output: "",
    ended: new Promise((done) => {
      child.once("error", (error) => {
        running.output += error.message;
        done("error");
      });
      child.once("close", (status, signal) => {
        children.delete(child);
        done(status ?? signal ?? "unknown");
      });
    }),
  };
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8");
    stream?.on("data", (text: string) => {
      running.output = (running.output + text).slice(-200_000);
      const lines = (partial + text).split("\n");
      partial = lines.pop() ?? "";
      for (const line of lines) {
        if (interesting.test(line)) say(paint("33", `   ${name.padEnd(11)} | ${shorten(line)}`));
      }
    });
  }
  return running;
}

async function printed(running: Running, pattern: RegExp, from = 0): Promise<void> {
  await waitFor(
    () => {
      if (running.child.exitCode !== null) throw new Error(`${running.name} ended too early`);
      return pattern.test(running.output.slice(from));
    },
    { what: `${pattern} from ${running.name}`, deadlineMs: 15_000, seen: () => running.output.slice(-2_000) },
  );
}

/** A sink as simple as can be: whoever connects, its lines are counted, and shown while `showing` says so. */
class AlertSink {
  count = 0;
  showing = 0;
  readonly port: number;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => this.#accept(socket));

  constructor(port: number) {
    this.port = port;
  }

  listen(): Promise<void> {
    return new Promise((done, failed) => {
      this.#server.once("error", failed);
      this.#server.listen(this.port, host, () => done());
    });
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  /** Shows the next `count` alerts as they come. */
  async show(count: number): Promise<void> {
    this.showing = count;
    await waitFor(() => this.showing === 0, { what: "alerts at the sink", deadlineMs: 15_000 });
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    let partial = "";
    socket.setEncoding("utf8");
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("data", (text) => {
      const lines = (partial + text).split("\n");
      partial = lines.pop() ?? "";
      for (const line of lines) {
        this.count += 1;
        if (this.showing === 0) continue;
        this.showing -= 1;
        say(paint("32", `   sink        < ${line}`));
      }
    });
  }
}

async function demo(): Promise<void> {
  const [out, control, data, external, control1, data1, external1] = (await freePorts(7)) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const common = ["worker", "--application-module", join(root, "examples/alerts.ts"), "--rate", "10"];
  const shared = ["--out", `${host}:${out}`, "--resilience-dir", folder];
  const first = [
    ...common,
    ...shared,
    ...["--cluster-initializer", "--worker-count", "2", "--control", `${host}:${control}`],
    ...["--data", `${host}:${data}`, "--external", `${host}:${external}`],
  ];
  const second = [
    ...common,
    ...shared,
    ...["--name", "worker1", "--control", `${host}:${control}`, "--my-control", `${host}:${control1}`],
    ...["--my-data", `${host}:${data1}`, "--external", `${host}:${external1}`],
  ];

  say(paint("1", "Tammar: a cluster of two workers that watches bank accounts (examples/alerts.ts)"));
  say(`Files of the cluster go to ${folder}, which is removed at the end.`);

  await step(`A sink listens on ${host}:${out}; alerts go there.`);
  const sink = new AlertSink(out);
  await sink.listen();

  try {
    await step("Start the two workers: first the initializer, then worker1.");
    let initializer = start("initializer", first);
    const worker = start("worker1", second);
    await Promise.all([printed(initializer, /INIT PHASE IV/), printed(worker, /INIT PHASE IV/)]);

    await step("The cluster works. Alerts arrive at the sink:");
    await sink.show(8);

    await step(`Kill the initializer with kill -9 (process ${initializer.child.pid}).`);
    const before = worker.output.length;
    initializer.child.kill("SIGKILL");
    await initializer.ended;
    await printed(worker, /initializer/, before);
    say("   It is gone, worker1 noticed. Meanwhile worker1 goes on with the users it owns:");
    await sink.show(2);

    await step("Start it again with the same command line.");
    const since = worker.output.length;
    const began = performance.now();
    initializer = start("initializer", first);
    await printed(initializer, /INIT PHASE IV/);
    await printed(worker, /initializer/, since);
    const back = Math.round(performance.now() - began);
    say(paint("1", `   The initializer reconnected to worker1: the cluster is whole again after ${back} ms.`));
    say("   Both went back to the last checkpoint, a second old at most: every total goes on from there.");
    await sink.show(6);

    await step("Shut the whole cluster down through the other worker, worker1.");
    const tool = start("shutdown", ["shutdown", `${host}:${external1}`]);
    const toolStatus = await tool.ended;
    for (const line of tool.output.trimEnd().split("\n")) say(`   ${line}`);
    const statuses = await Promise.all([initializer.ended, worker.ended]);
    say(`   exit status: shutdown tool ${toolStatus}, initializer ${statuses[0]}, worker1 ${statuses[1]}`);
    const left = readdirSync(folder, { recursive: true });
    say(`   files left: ${left.length === 0 ? "none" : left.join(", ")}`);
    if (toolStatus !== 0 || statuses.some((status) => status !== 0) || left.length > 0) {
      throw new Error("the cluster did not end cleanly");
    }
    await totals(control, data, external, control1, data1, external1);
    await sleep(50);
    say();
    say(
      paint(
        "1",
        `Done: ${sink.count} alerts arrived, and no transfer was lost. Next: README.md, "A first application".`,
      ),
    );
  } finally {
    sink.close();
  }
}

const TRANSFERS = 8_000;
const ACCOUNTS = 200;

/** The ledger, from files to files: both workers are killed under load, and every balance is right to the last transfer. */
async function totals(...ports: readonly number[]): Promise<void> {
  const [control, data, external, control1, data1, external1] = ports.map((port) => `${host}:${port}`) as string[];
  const output = join(folder, "balances");
  const state = join(folder, "state");
  const expected = new Map<string, number>();
  await step(`Now exact totals: two files of ${TRANSFERS} transfers each, from files to files (examples/ledger.ts).`);
  for (const file of [1, 2]) {
    const lines: string[] = [];
    for (let i = 0; i < TRANSFERS; i++) {
      const account = `account${Math.floor(Math.random() * ACCOUNTS)}`;
      const amount = Math.floor(Math.random() * 200) - 80;
      expected.set(account, (expected.get(account) ?? 0) + amount);
      lines.push(`${JSON.stringify({ account, amount })}\n`);
    }
    writeFileSync(join(folder, `transfers${file}.ndjson`), lines.join(""));
  }
  const common = ["worker", "--application-module", join(root, "examples/ledger.ts"), "--rate", "2000"];
  const shared = ["--output", output, "--resilience-dir", state];
  const commands = [
    [
      ...[...common, ...shared, "--input", join(folder, "transfers1.ndjson"), "--cluster-initializer"],
      ...["--worker-count", "2", "--control", control!, "--data", data!, "--external", external!],
    ],
    [
      ...[...common, ...shared, "--input", join(folder, "transfers2.ndjson"), "--name", "worker1"],
      ...["--control", control!, "--my-control", control1!, "--my-data", data1!, "--external", external1!],
    ],
  ];
  const names = ["initializer", "worker1"];
  const startBoth = () => commands.map((args, i) => start(names[i]!, args));
  let running = startBoth();
  const ready = () => Promise.all(running.map((worker) => printed(worker, /INIT PHASE IV/)));
  await ready();
  await waitFor(() => readBalances(output).count > 0, { what: "balances of a checkpoint", deadlineMs: 15_000 });
  await sleep(300);

  await step("Pull the plug on both at once: kill -9, under load.");
  for (const { child } of running) child.kill("SIGKILL");
  await Promise.all(running.map(({ ended }) => ended));
  say(`   ${readBalances(output).count} of ${2 * TRANSFERS} lines are visible: those of the last checkpoint.`);

  await step("Start them again with the same command lines, and wait for the end of the input.");
  const began = performance.now();
  running = startBoth();
  await ready();
  say(`   Both work again after ${Math.round(performance.now() - began)} ms.`);
  await waitFor(() => readBalances(output).count >= 2 * TRANSFERS, { what: "every transfer", deadlineMs: 30_000 });
  const { count, balances } = readBalances(output);
  const wrong = [...expected].filter(([account, balance]) => balances.get(account) !== balance);
  const sum = (map: ReadonlyMap<string, number>) => [...map.values()].reduce((total, balance) => total + balance, 0);
  say(`   ${count} lines for ${2 * TRANSFERS} transfers; ${balances.size} accounts, ${wrong.length} of them wrong.`);
  say(paint("1", `   All balances together: ${sum(balances)}. In the files of transfers: ${sum(expected)}.`));
  if (count !== 2 * TRANSFERS || wrong.length > 0) throw new Error("the balances are not right");

  const tool = start("shutdown", ["shutdown", external1!]);
  const statuses = await Promise.all([tool.ended, ...running.map(({ ended }) => ended)]);
  if (statuses.some((status) => status !== 0)) throw new Error(`the ledger did not end cleanly: ${statuses}`);
}

/** What is visible in the folder; each account has its last balance. */
function readBalances(output: string): { readonly count: number; readonly balances: ReadonlyMap<string, number> } {
  const balances = new Map<string, number>();
  let count = 0;
  for (const name of existsSync(output) ? readdirSync(output).sort() : []) {
    if (name.startsWith(".")) continue;
    for (const line of readFileSync(join(output, name), "utf8").split("\n").slice(0, -1)) {
      const { account, balance } = JSON.parse(line) as { account: string; balance: number };
      balances.set(account, balance);
      count += 1;
    }
  }
  return { count, balances };
}

try {
  await demo();
  cleanUp();
} catch (error) {
  cleanUp();
  say();
  say(paint("31", `The demo failed: ${(error as Error).message}`));
  process.exit(1);
}
