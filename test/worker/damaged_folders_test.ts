/**
 * Whatever byte of a worker's folder has changed, and whichever of its files are missing: the cluster goes on with the right
 * numbers, or somebody refuses in words and has changed nothing. Never other numbers, a mistake of ours, or a cluster that hangs.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EXIT, TammarError } from "../../src/base/errors.ts";
import type { VirtualHost } from "../../src/runtime/virtual/host.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { expectedLines } from "../../src/simulation/oracles/with_checkpoints.ts";
import { digestBytes, digestSaved } from "../../src/simulation/saved_digest.ts";
import { SCENARIO_FORMAT, type Scenario, workerNames } from "../../src/simulation/scenario.ts";
import { INPUT_FILE, inputText, OUTPUT_FOLDER, SUITE } from "../../src/simulation/suite.ts";
import { isDeadLettersName } from "../../src/store/dead_letter_file.ts";
import { baseOf, CLUSTER_FILE, DECISION_FILE, isDecisionName, LOCK_FILE } from "../../src/store/folders.ts";
import { decodeSavedCluster, encodeSavedCluster, type SavedCluster } from "../../src/store/saved_cluster.ts";
import { DEFAULT_LIMITS, DEFAULT_TIMING, NO_CHECKPOINTS, type WorkerConfig } from "../../src/worker/config.ts";
import { runWorker } from "../../src/worker/worker.ts";

const isDeno = "Deno" in globalThis;
/** Of all bytes on Deno, where each cluster takes longer. */
const ONE_IN = isDeno ? 8 : 1;

const SCENARIO: Scenario = {
  format: SCENARIO_FORMAT,
  name: "small",
  seed: "1",
  workers: 2,
  application: "transfers",
  keys: 2,
  messages: 40,
  senders: [],
  checkpointMs: 40,
  faults: [],
  expect: [],
  limitMs: 1_000,
};
const NAMES = workerNames(SCENARIO.workers);
const RESILIENCE = "/tmp/";
const EXPECTED = expectedLines(SCENARIO, NAMES);
const LINES = [...EXPECTED.values()].reduce((sum, lines) => sum + lines.length, 0);

type Image = ReadonlyMap<string, Uint8Array>;
type Images = ReadonlyMap<string, Image>;

class Worker {
  working = false;
  status: number | null = null;
  error: unknown = null;
  kill: () => void = () => {};
}

/** Two machines with these files. */
class SmallCluster {
  readonly world: VirtualWorld;
  readonly machines = new Map<string, VirtualHost>();
  readonly workers = new Map<string, Worker>();

  constructor(images: Images | null) {
    // Other ids are drawn than before.
    this.world = new VirtualWorld({ seed: images === null ? 1 : 2 });
    for (const name of NAMES) {
      const machine = this.world.host(name);
      this.machines.set(name, machine);
      const image = images?.get(name);
      if (image === undefined) machine.disk.put(INPUT_FILE, inputText(name, SCENARIO));
      else for (const [path, bytes] of image) machine.disk.put(path, bytes);
    }
  }

  start(name: string, change: Partial<WorkerConfig> = {}): Worker {
    const worker = new Worker();
    this.workers.set(name, worker);
    const say = (code: string) => {
      if (code === "phase_4") worker.working = true;
    };
    const log = { debug: say, info: say, warn: say, error: say };
    const isInitializer = name === "initializer";
    const own = { host: name, port: 0 };
    const config: WorkerConfig = {
      role: isInitializer ? "initializer" : "worker",
      name,
      workerCount: isInitializer ? NAMES.length : 1,
      controlListen: isInitializer ? { host: "0.0.0.0", port: 7000 } : own,
      dataListen: isInitializer ? { host: "0.0.0.0", port: 7001 } : own,
      initializerControl: isInitializer ? null : { host: "initializer", port: 7000 },
      externalListen: null,
      metrics: null,
      inputs: new Map(),
      outputs: [],
      resilienceDir: "/tmp",
      application: SUITE.transfers.build(SCENARIO),
      applicationOptions: {},
      rawArguments: [],
      buildId: "build",
      applicationCodeDigest: "code",
      checkpoints: { ...NO_CHECKPOINTS, intervalMs: SCENARIO.checkpointMs! },
      timing: DEFAULT_TIMING,
      limits: { ...DEFAULT_LIMITS, logSegmentBytes: 500, logSlackBytes: 0 },
      ...change,
    };
    const process = this.machines.get(name)!.startProcess(async (runtime) => {
      try {
        worker.status = await runWorker(config, runtime, log, { reached: () => {}, observable: () => {} });
      } catch (error) {
        worker.error = error;
        worker.status = error instanceof TammarError ? error.exitStatus : EXIT.bug;
      }
      runtime.host.exit(worker.status);
    });
    worker.kill = () => process.kill();
    return worker;
  }

  startAll(change: Partial<WorkerConfig> = {}): void {
    for (const name of NAMES) this.start(name, change);
  }

  lineCount(): number {
    let count = 0;
    for (const name of NAMES) count += this.lines(name).length;
    return count;
  }

  lines(name: string): string[] {
    const { disk } = this.machines.get(name)!;
    return disk
      .paths()
      .filter((path) => path.startsWith(`${OUTPUT_FOLDER}/`) && !baseOf(path).startsWith(".") && !path.endsWith("/"))
      .flatMap((path) => new TextDecoder().decode(disk.peek(path)!).split("\n").slice(0, -1));
  }

  /** Every line once, in the order of its key. Null: so it is, or the beginning of it. */
  wrong(): string | null {
    const counts = new Map<string, number>();
    for (const line of NAMES.flatMap((name) => this.lines(name))) {
      const key = line.slice(0, line.indexOf(" "));
      const count = counts.get(key) ?? 0;
      if (line !== EXPECTED.get(key)?.[count]) return `"${line}" where "${EXPECTED.get(key)?.[count]}" was to come`;
      counts.set(key, count + 1);
    }
    return null;
  }

  left(): string[] {
    return NAMES.filter((name) => this.workers.get(name)!.status !== null);
  }

  /** Until all has come out, or somebody has left. */
  run(): Promise<boolean> {
    return this.world.runUntilOrFor(
      () => this.world.steps % 16 === 0 && (this.left().length > 0 || this.lineCount() === LINES),
      20_000,
    );
  }

  images(): Images {
    return new Map([...this.machines].map(([name, { disk }]) => [name, imageOf(disk)]));
  }

  /** Of what is saved, without what says how often a worker was started: each file, or what it means. */
  saved(name: string): Record<string, string | null> {
    const { disk } = this.machines.get(name)!;
    const files = [...imageOf(disk)].filter(([path]) => isSaved(path) && baseOf(path) !== CLUSTER_FILE);
    const { cluster } = digestSaved(disk, "/tmp");
    return { ...Object.fromEntries(files.map(([path, bytes]) => [path, digestBytes(bytes)])), cluster };
  }
}

function imageOf(disk: VirtualHost["disk"]): Image {
  return new Map(
    disk
      .paths()
      .filter((path) => !path.endsWith("/"))
      .map((path) => [path, disk.peek(path)!]),
  );
}

/** What counts: the text in a lock is for people, and dead letters are none of the state. */
function isSaved(path: string): boolean {
  return path.startsWith(RESILIENCE) && baseOf(path) !== LOCK_FILE && !isDeadLettersName(baseOf(path));
}

/** A cluster of which all machines lose their power at this moment of its work. */
function poweredOff(isThen: (cluster: SmallCluster) => boolean): Promise<Images> {
  return stopped(isThen, (cluster) => {
    for (const machine of cluster.machines.values()) machine.powerLoss();
  });
}

async function stopped(
  isThen: (cluster: SmallCluster) => boolean,
  stop: (cluster: SmallCluster) => void,
): Promise<Images> {
  const cluster = new SmallCluster(null);
  cluster.startAll();
  assert.ok(await cluster.world.runUntil(() => isThen(cluster), 20_000));
  stop(cluster);
  const count = cluster.lineCount();
  assert.ok(count < LINES, `${count} of ${LINES} lines are there before the damage`);
  return cluster.images();
}

const halfway = (cluster: SmallCluster): boolean => cluster.world.steps % 16 === 0 && cluster.lineCount() >= LINES / 2;

interface Outcomes {
  right: number;
  /** By code. */
  readonly refused: Map<string, number>;
  /** One refusal of each code that proposes to give up the state. */
  readonly proposed: Map<string, { readonly images: Images; readonly by: string; readonly text: string }>;
}

function begin(): Outcomes {
  return { right: 0, refused: new Map(), proposed: new Map() };
}

/** Statuses that say that what is saved cannot be used, or does not belong there. */
const REFUSALS: readonly number[] = [EXIT.resilience, EXIT.identity];

async function judge(images: Images, what: string, outcomes: Outcomes): Promise<void> {
  const cluster = new SmallCluster(images);
  const before = new Map(NAMES.map((name) => [name, cluster.saved(name)]));
  cluster.startAll();
  await cluster.run();
  assert.equal(cluster.wrong(), null, what);
  const left = cluster.left();
  if (left.length === 0) {
    assert.equal(cluster.lineCount(), LINES, `${what}: it hangs`);
    outcomes.right++;
    return;
  }
  for (const name of left) {
    const { error, status } = cluster.workers.get(name)!;
    assert.ok(error instanceof TammarError, `${what}: ${name} left with ${String((error as Error)?.stack ?? error)}`);
    assert.ok(REFUSALS.includes(status!), `${what}: ${name} left with ${status}, ${error.code}: ${error.message}`);
    assert.ok(error.message.length > 40, `${what}: ${error.message}`);
    // Who had no place in a cluster, and was given one before it was refused, keeps that.
    const { cluster: place, ...files } = before.get(name)!;
    const { cluster: placeNow, ...filesNow } = cluster.saved(name);
    assert.deepEqual(filesNow, files, `${what}: ${error.code}, and something was changed`);
    if (place !== null) assert.equal(placeNow, place, `${what}: ${error.code}, and its place was changed`);
    outcomes.refused.set(error.code, (outcomes.refused.get(error.code) ?? 0) + 1);
    if (/accept-state-loss/.test(error.message) && !outcomes.proposed.has(error.code)) {
      outcomes.proposed.set(error.code, { images, by: name, text: error.message });
    }
  }
}

function report(what: string, { right, refused }: Outcomes): void {
  const codes = [...refused].map(([code, count]) => `${count} ${code}`).join(", ");
  console.log(`${what}: ${right} right; refused: ${codes || "none"}`);
}

function changed(images: Images, name: string, path: string, bytes: Uint8Array | null): Images {
  const image = new Map(images.get(name)!);
  if (bytes === null) image.delete(path);
  else image.set(path, bytes);
  return new Map(images).set(name, image);
}

/** Every byte of every file of every worker, one bit of it, another one from byte to byte. */
async function everyByte(
  images: Images,
  what: string,
  isMeant: (path: string) => boolean = () => true,
): Promise<Outcomes> {
  const outcomes = begin();
  let count = 0;
  for (const name of NAMES) {
    for (const [path, bytes] of images.get(name)!) {
      if (!path.startsWith(RESILIENCE) || !isMeant(path)) continue;
      for (let at = 0; at < bytes.length; at++) {
        if (count++ % ONE_IN !== 0) continue;
        const flipped = bytes.slice();
        flipped[at]! ^= 1 << (at % 8);
        await judge(changed(images, name, path, flipped), `${what}: ${name}, ${path}, byte ${at}`, outcomes);
      }
    }
  }
  report(`${what}, one of ${ONE_IN} of ${count} bytes`, outcomes);
  return outcomes;
}

/** Every character of the name that says which checkpoint exists, one bit of it. */
async function everyDecisionName(images: Images, what: string): Promise<Outcomes> {
  const outcomes = begin();
  for (const [path, bytes] of images.get("initializer")!) {
    const name = baseOf(path);
    if (!isDecisionName(name)) continue;
    for (let at = 0; at < name.length; at++) {
      const other = name.slice(0, at) + String.fromCharCode(name.charCodeAt(at) ^ (1 << (at % 3))) + name.slice(at + 1);
      const to = path.slice(0, -name.length) + other;
      const moved = changed(changed(images, "initializer", path, null), "initializer", to, bytes);
      await judge(moved, `${what}: ${name} is called ${other}`, outcomes);
    }
  }
  report(`${what}, every character of the decision's name`, outcomes);
  return outcomes;
}

/** Every subset of the files of each worker missing. */
async function everySubset(images: Images, what: string): Promise<Outcomes> {
  const outcomes = begin();
  for (const name of NAMES) {
    const paths = [...images.get(name)!.keys()].filter((path) => path.startsWith(RESILIENCE));
    assert.ok(paths.length <= 8, paths.join(" "));
    for (let subset = 1; subset < 1 << paths.length; subset++) {
      const missing = paths.filter((_, i) => (subset & (1 << i)) !== 0);
      const left = missing.reduce((all, path) => changed(all, name, path, null), images);
      await judge(left, `${what}: ${name} without ${missing.join(" ")}`, outcomes);
    }
  }
  report(`${what}, every subset`, outcomes);
  return outcomes;
}

test("a cluster that has lost its power goes on with the right numbers when nothing is damaged", async () => {
  const outcomes = begin();
  await judge(await poweredOff(halfway), "nothing", outcomes);
  assert.equal(outcomes.right, 1);
});

test("with any byte changed in a folder the numbers are right, or the start is refused", {
  timeout: 500_000,
}, async () => {
  const outcomes = await everyByte(await poweredOff(halfway), "bytes");
  assert.ok(outcomes.refused.size > 0);
  // Damage is said as damage, with its place, also where nothing in the file itself tells that it was whole.
  assert.ok((outcomes.refused.get("state_damaged") ?? 0) > 0);
  assert.match(
    outcomes.proposed.get("state_damaged")!.text,
    /state\/segment-[0-9a-f]{16} cannot be read from offset \d+ on: .* the file was damaged/,
  );
  assert.equal(outcomes.refused.get("state_stale"), undefined);
  await acceptLosses(outcomes);
});

test("with any of the files missing the numbers are right, or the start is refused", { timeout: 400_000 }, async () => {
  const outcomes = await everySubset(await poweredOff(halfway), "files");
  assert.ok(outcomes.refused.size > 0);
  await acceptLosses(outcomes);
});

test("so it is while a decision is being written, and in folders of a suspended cluster", {
  timeout: 400_000,
}, async () => {
  const isDeciding = (cluster: SmallCluster): boolean =>
    cluster.lineCount() > 0 &&
    cluster.machines
      .get("initializer")!
      .disk.paths()
      .some((path) => baseOf(path).startsWith(`${DECISION_FILE}-2-`));
  const deciding = await stopped(isDeciding, (cluster) => {
    for (const worker of cluster.workers.values()) worker.kill();
  });
  await everySubset(deciding, "deciding");
  await everyByte(deciding, "deciding", (path) => isDecisionName(baseOf(path)));
  const renamed = await everyDecisionName(deciding, "deciding");
  assert.ok(renamed.right === 0 && (renamed.refused.get("resilience_damaged") ?? 0) > 0);
  const suspended = await poweredOff(halfway);
  await everySubset(new Map([...suspended].map(([name, image]) => [name, suspend(image)])), "suspended");
});

/** As `tammar shutdown --keep` leaves it. */
function suspend(image: Image): Image {
  return new Map(
    [...image].map(([path, bytes]) => {
      if (!isSaved(path) || baseOf(path) !== CLUSTER_FILE) return [path, bytes];
      const outcome = decodeSavedCluster(bytes);
      assert.equal(outcome.kind, "ok");
      return [path, encodeSavedCluster({ ...(outcome as { saved: SavedCluster }).saved, state: "suspended" })];
    }),
  );
}

/** Does what each of the refusals proposes, to the letter, and what is said then: the cluster works. */
async function acceptLosses({ proposed }: Outcomes): Promise<void> {
  assert.ok(proposed.size > 0, "nothing was refused that can be accepted");
  for (const [code, { images, by, text }] of proposed) {
    const who = /start the initializer with --accept-state-loss/.test(text) ? "initializer" : by;
    let cluster = await accepting(images, who);
    // Whoever has lost all state begins anew, and its output does not go on where other output ended.
    const wantsRoom = NAMES.filter((name) => /move it away/.test(String(cluster.workers.get(name)!.error)));
    if (wantsRoom.length > 0) {
      const moved = [...cluster.images()].map(([name, image]): [string, Image] => {
        const isThere = ([path]: [string, Uint8Array]) => !wantsRoom.includes(name) || !path.startsWith(OUTPUT_FOLDER);
        return [name, new Map([...image].filter(isThere))];
      });
      cluster = await accepting(new Map(moved), who);
    }
    const errors = cluster.left().map((name) => `${name}: ${String(cluster.workers.get(name)!.error)}`);
    assert.deepEqual(errors, [], `${code}: ${text}`);
    assert.ok(
      NAMES.every((name) => cluster.workers.get(name)!.working),
      `${code}: it hangs`,
    );
  }
  console.log(`accepted: ${[...proposed.keys()].join(", ")}`);
}

/** Some seconds of a cluster of which one worker accepts that state is lost. */
async function accepting(images: Images, who: string): Promise<SmallCluster> {
  const cluster = new SmallCluster(images);
  for (const name of NAMES) {
    const checkpoints = { ...NO_CHECKPOINTS, intervalMs: SCENARIO.checkpointMs!, acceptStateLoss: name === who };
    cluster.start(name, { checkpoints });
  }
  await cluster.world.runFor(8_000);
  return cluster;
}
