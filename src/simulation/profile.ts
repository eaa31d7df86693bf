/**
 * The swarm profile of a seed: what kind of run it is. Which fault kinds exist at all is drawn too (Groce et al., "Swarm
 * Testing", ISSTA 2012): a run with three kinds, many of each, finds other bugs than one with a little of everything.
 */
import { Prng } from "../base/prng.ts";
import type { Millis } from "../runtime/runtime.ts";
import type { DiskOptions } from "../runtime/virtual/disk.ts";
import type { NetworkOptions } from "../runtime/virtual/network.ts";
import type { Limits } from "../worker/config.ts";
import { type ApplicationName, WORKERS_MAX } from "./scenario.ts";

/** What is drawn together: a kind of harm, with what mends it. */
export const FAULT_GROUPS = [
  "kill",
  "crash_point",
  "kill_many",
  "power_loss",
  "pause",
  "partition",
  "isolate",
  "cut",
  "blackhole",
  "latency",
  "refuse_connects",
  "disk_stall",
  "disk_full",
  "disk_failure",
  "rot",
  "call_failure",
  "newcomer",
  "bad_start",
  "clock",
  "sink",
  "stranger",
  "command",
  "stop",
] as const;
export type FaultGroup = (typeof FAULT_GROUPS)[number];

/** Those that take a process down. */
export const CRASHES: readonly FaultGroup[] = ["kill", "crash_point", "kill_many", "power_loss"];
/** Drawn less often: they end or refuse whole lives, and there is little to see behind them. */
const RARE: ReadonlySet<FaultGroup> = new Set(["rot", "bad_start", "disk_failure", "disk_full", "stop", "kill_many"]);

export interface Profile {
  readonly workers: number;
  readonly application: ApplicationName;
  readonly keys: number;
  /** For how long faults are injected and input is sent. */
  readonly spanMs: Millis;
  readonly senders: number;
  /** Of each sender, over all of the span. */
  readonly messages: number;
  readonly batch: number;
  readonly everyMs: Millis;
  /** A third of the faults come while the cluster forms. */
  readonly forming: boolean;
  readonly limits: Partial<Limits>;
  readonly network: Partial<NetworkOptions>;
  readonly disk: Partial<DiskOptions>;
  readonly groups: readonly FaultGroup[];
  readonly faults: number;
  /** Undefined: without checkpoints. */
  readonly checkpointMs: Millis | undefined;
  /** Often few: what is asserted of a key ends with the processes it went through. */
  readonly crashesMax: number;
}

export function drawProfile(seed: bigint): Profile {
  const prng = new Prng(seed, "profile");
  // Small clusters are fast and most bugs need two or three.
  const workers = pick(prng, [1, 2, 2, 2, 3, 3, 3, 3, 4, 5, 6, WORKERS_MAX]);
  const checkpointMs = prng.int(5) < 2 ? pick(prng, [20, 100, 300, 1_000]) : undefined;
  const application =
    checkpointMs === undefined
      ? pick(prng, ["last_four", "last_four", "two_hops", "two_hops", "merge_two", "rebalance", "generated"] as const)
      : withLetters(
          seed,
          ofABank(
            seed,
            fromPrograms(seed, twoPhases(seed, pick(prng, ["transfers", "transfers", "generated"] as const))),
          ),
        );
  const spanMs = prng.between(15_000, 110_000);
  const batch = pick(prng, [1, 1, 2, 3, 5, 8]);
  const messages = pick(prng, [100, 400, 1_000, 1_000, 2_000, 4_000]);
  return {
    workers,
    application,
    checkpointMs,
    keys: pick(prng, [1, 2, 5, 10, 30, 100, 1_000]),
    spanMs,
    // Whatever is refused waits until the end, and is sent again in batches of a few hundred.
    messages: application === "letters" ? Math.min(messages, 1_000) : messages,
    senders: 1 + prng.int(Math.min(3, workers)),
    batch,
    everyMs: Math.max(1, Math.round((spanMs * batch) / messages)),
    forming: prng.chance(3),
    limits: withRoom(application, drawLimits(prng)),
    network: drawNetwork(prng),
    disk: prng.chance(3) ? { latencyMaxMs: 5, syncMinMs: 2, syncMaxMs: prng.between(5, 100) } : {},
    // Its sink would take the output of the next cluster for the same one.
    groups: drawGroups(prng, workers).filter((group) => application !== "two_phase" || group !== "stop"),
    faults: 10 + prng.int(30),
    crashesMax: pick(prng, [1, 2, 4, Number.POSITIVE_INFINITY]),
  };
}

/** A third of the runs with checkpoints, of a stream of chance of its own. */
function twoPhases(seed: bigint, otherwise: ApplicationName): ApplicationName {
  return new Prng(seed, "two phases").chance(3) ? "two_phase" : otherwise;
}

/** A quarter of them, likewise. */
function fromPrograms(seed: bigint, otherwise: ApplicationName): ApplicationName {
  const prng = new Prng(seed, "programs");
  if (!prng.chance(4)) return otherwise;
  return prng.chance(2) ? "acknowledged" : "programs";
}

/** And a half of those that would be `transfers` then. */
function ofABank(seed: bigint, otherwise: ApplicationName): ApplicationName {
  return otherwise === "transfers" && new Prng(seed, "bank").chance(2) ? "bank" : otherwise;
}

/** And a fifth of all with checkpoints. */
function withLetters(seed: bigint, otherwise: ApplicationName): ApplicationName {
  return new Prng(seed, "with letters").chance(5) ? "letters" : otherwise;
}

function drawGroups(prng: Prng, workers: number): FaultGroup[] {
  const groups = FAULT_GROUPS.filter((group) => prng.chance(RARE.has(group) ? 6 : 3));
  if (!groups.some((group) => CRASHES.includes(group)) && prng.chance(3)) groups.push(pick(prng, CRASHES));
  const alone: readonly FaultGroup[] = ["partition", "isolate"];
  const usable = groups.filter((group) => workers > 1 || !alone.includes(group));
  while (usable.filter((group) => group !== "stop").length < 3) {
    const more = pick(prng, ["cut", "pause", "latency", "sink", "command", "stranger", "disk_stall"] as const);
    if (!usable.includes(more)) usable.push(more);
  }
  return usable;
}

/** A transfer of the bank, or a record of letters, needs more than the smallest frames have; one that cannot travel is refused, and that is not the matter here. */
function withRoom(application: ApplicationName, limits: Partial<Limits>): Partial<Limits> {
  if ((application !== "bank" && application !== "letters") || limits.dataFrameBytes === undefined) return limits;
  return { ...limits, dataFrameBytes: Math.max(400, limits.dataFrameBytes) };
}

/** Often tiny: bugs sit where a queue is full, a credit spent, a frame as large as it may be. */
function drawLimits(prng: Prng): Partial<Limits> {
  const limits: { -readonly [name in keyof Limits]?: number } = {};
  if (prng.chance(2)) limits.exchangeCreditBytes = pick(prng, [1, 100, 300, 1_000, 10_000]);
  if (prng.chance(2)) limits.sinkQueueBytes = pick(prng, [1, 30, 100, 1_000, 10_000]);
  // Not smaller: it bounds the queue of control messages too, which a cluster cannot do without.
  if (prng.chance(3)) limits.linkUnackedBytes = pick(prng, [20_000, 100_000]);
  if (prng.chance(3)) limits.dataFrameBytes = pick(prng, [256, 300, 400, 1_000]);
  if (prng.chance(4)) limits.strangers = pick(prng, [4, 8, 16]);
  if (prng.chance(2)) limits.logSegmentBytes = pick(prng, [300, 1_000, 10_000]);
  if (prng.chance(2)) limits.logSlackBytes = pick(prng, [0, 500, 5_000]);
  if (prng.chance(2)) limits.sliceKeys = pick(prng, [1, 3, 20]);
  return limits;
}

function drawNetwork(prng: Prng): Partial<NetworkOptions> {
  const network: { -readonly [name in keyof NetworkOptions]?: number } = {};
  if (prng.chance(2)) {
    network.latencyMinMs = pick(prng, [0.05, 1, 5]);
    network.latencyMaxMs = network.latencyMinMs + pick(prng, [0.1, 5, 40]);
  }
  if (prng.chance(4)) network.slowOneIn = 4;
  if (prng.chance(4)) network.cutOneIn = pick(prng, [1, 2, 1_000]);
  if (prng.chance(3)) {
    // A window of a few bytes moves once in a round trip: with a slow network nothing would come through.
    const steady = network.latencyMaxMs === undefined ? [64, 500, 4_096, 65_536] : [2_000, 4_096, 65_536];
    // Where a round trip takes a second now and then, even these would let through less than is sent.
    const sizes = network.slowOneIn === undefined ? steady : [65_536];
    network.sendBufferBytes = pick(prng, sizes);
    network.receiveBufferBytes = pick(prng, sizes);
  }
  return network;
}

export function pick<T>(prng: Prng, values: readonly T[]): T {
  return values[prng.int(values.length)]!;
}
