/**
 * Scenarios that lead to one rare state each, as a function of a seed: what random runs meet too seldom to rely on. Each is
 * run with a few dozen fixed seeds in every run of the tests, so that no run is red by luck.
 */
import { INITIALIZER } from "../../src/base/ids.ts";
import { Prng } from "../../src/base/prng.ts";
import { CHECKPOINTS_ON } from "../../src/simulation/checkpointing.ts";
import type { RareState } from "../../src/simulation/rare_states.ts";
import {
  type Fault,
  ORACLE_IDS,
  SCENARIO_FORMAT,
  type Scenario,
  showSeed,
  type Trigger,
} from "../../src/simulation/scenario.ts";

export interface Directed {
  readonly state: RareState;
  /** With so many seeds. */
  readonly runs: number;
  readonly scenario: (seed: bigint) => Scenario;
}

const FIRST_SEED = 0x5eed_0000_0000n;
const RUNS = 30;

/** All runs in a fixed order, or those to these states. */
export function directedRuns(states: readonly string[]): { readonly state: RareState; readonly scenario: Scenario }[] {
  const chosen = states.length === 0 ? DIRECTED : DIRECTED.filter(({ state }) => states.includes(state));
  return chosen.flatMap(({ state, runs, scenario }) =>
    Array.from({ length: runs }, (_, i) => ({ state, scenario: scenario(FIRST_SEED + BigInt(i)) })),
  );
}

interface Plan {
  readonly application?: Scenario["application"];
  readonly checkpointMs?: number;
  readonly keys?: number;
  readonly limitMs?: number;
  readonly faults: readonly Fault[];
  readonly workers?: number;
  readonly messages?: number;
  readonly everyMs?: number;
  readonly disk?: Scenario["disk"];
  readonly limits?: Scenario["limits"];
  readonly network?: Scenario["network"];
}

function directed(state: RareState, plan: (prng: Prng) => Plan, runs = RUNS): Directed {
  return {
    state,
    runs,
    scenario: (seed) => {
      const { application = "last_four", checkpointMs, keys = 5, limitMs = 20_000 } = plan(new Prng(seed, state));
      const { faults, workers = 2, messages = 150, everyMs = 20, limits, network, disk } = plan(new Prng(seed, state));
      return {
        format: SCENARIO_FORMAT,
        name: `directed: ${state}, seed ${showSeed(seed)}`,
        seed: showSeed(seed),
        workers,
        application,
        keys,
        messages,
        senders: [
          { worker: INITIALIZER, source: 0, batch: 1, everyMs, startMs: 0 },
          { worker: "w1", source: 0, batch: 1, everyMs, startMs: 0 },
        ],
        ...(limits === undefined ? {} : { limits }),
        ...(network === undefined ? {} : { network }),
        ...(disk === undefined ? {} : { disk }),
        ...(checkpointMs === undefined ? {} : { checkpointMs }),
        faults,
        expect: ORACLE_IDS,
        limitMs,
      };
    },
  };
}

/** So many times in a row, with pauses drawn from between the two. */
function again(prng: Prng, times: number, fromMs: number, toMs: number, faults: readonly Fault[]): Fault[] {
  return Array.from({ length: times }, () =>
    faults.map((fault, i) => (i === 0 ? { ...fault, at: later(prng.between(fromMs, toMs)) } : fault)),
  ).flat();
}

function later(ms: number): Trigger {
  return { after: "prev", ms };
}

const at = (ms: number): Trigger => ({ ms });
const soon = later(0);

/** So that a handshake takes a while. */
const DISTANT = { latencyMinMs: 20, latencyMaxMs: 40, slowOneIn: 1_000 };
/** Kernels that take a few bytes at a time, so that records and frames are on the way in pieces. */
const NARROW = { sendBufferBytes: 10, receiveBufferBytes: 10, latencyMinMs: 1, latencyMaxMs: 3 };

/** Records from files to files, with checkpoints. */
const TRANSFERS = { application: "transfers", checkpointMs: 100, messages: 300 } as const;

/** The same, of money that goes from worker to worker. */
const BANK = { ...TRANSFERS, application: "bank" } as const;

const WITH_CHECKPOINTS: readonly Directed[] = [
  directed("late_message_of_old_generation", (prng) => ({
    ...BANK,
    workers: 3,
    network: { latencyMinMs: 5, latencyMaxMs: 20 },
    faults: [
      { at: at(600 + prng.int(200)), do: "kill", worker: "w2" },
      { at: later(50), do: "start", worker: "w2" },
      { at: later(700), do: "kill", worker: "w2" },
      { at: later(50), do: "start", worker: "w2" },
    ],
  })),
  directed("checkpoint_aborted_by_vote", (prng) => ({
    ...TRANSFERS,
    faults: [1, 3, 5].flatMap((n): Fault[] => [
      { at: { point: "cut.frozen", worker: "w1", n }, do: "fail_sync", worker: "w1", n: 1 + prng.int(2) },
      { at: later(400), do: "start", worker: "w1" },
    ]),
  })),
  directed("died_between_commit_and_its_news", (prng) => ({
    ...BANK,
    faults: [
      { at: { point: "decision.durable", worker: INITIALIZER, n: 1 + prng.int(5) }, do: "kill", worker: INITIALIZER },
      { at: later(prng.between(20, 800)), do: "start", worker: INITIALIZER },
    ],
  })),
  directed("uncommitted_at_reconnect", (prng) => ({
    ...TRANSFERS,
    application: "two_phase",
    faults: [
      { at: { point: "decision.durable", worker: INITIALIZER, n: 1 + prng.int(4) }, do: "kill", worker: INITIALIZER },
      { at: later(prng.between(20, 300)), do: "start", worker: INITIALIZER },
      { at: { point: "cut.voted", worker: "w1", n: 8 + prng.int(4) }, do: "kill", worker: "w1" },
      { at: later(prng.between(20, 300)), do: "start", worker: "w1" },
    ],
  })),
  directed("recovery_interrupted_by_recovery", (prng) => ({
    ...BANK,
    workers: 3,
    faults: [
      { at: at(700 + prng.int(300)), do: "kill", worker: "w1" },
      { at: later(50), do: "start", worker: "w1" },
      { at: { point: "recovery.stands_still", worker: "w2", n: 2 }, do: "kill", worker: "w2" },
      { at: later(prng.between(20, 300)), do: "start", worker: "w2" },
    ],
  })),
  directed("barrier_behind_back_pressure", (prng) => ({
    application: "generated",
    checkpointMs: 200,
    keys: 20,
    messages: 600,
    limits: { sinkQueueBytes: 100, exchangeCreditBytes: 300 },
    network: { sendBufferBytes: 500, receiveBufferBytes: 500 },
    faults: [{ at: at(1_000 + prng.int(200)), do: "sink_pause", ms: 3_500 }],
  })),
  // The folder has no room for the new name.
  directed("disk_full_during_decision", (prng) => ({
    ...TRANSFERS,
    faults: [
      {
        at: { point: "checkpoint.decide.before", worker: INITIALIZER, n: 1 + prng.int(4) },
        do: "fail_operation",
        worker: INITIALIZER,
        n: 1,
        code: "full",
      },
      { at: later(600), do: "start", worker: INITIALIZER },
    ],
  })),
  directed("torn_log_record_discarded", (prng) => ({
    ...TRANSFERS,
    disk: { syncMinMs: 4, syncMaxMs: 8 },
    faults: [2, 4, 6, 8].flatMap((n): Fault[] => [
      { at: { point: "cut.frozen", worker: "w1", n }, do: "heal" },
      { at: later(prng.between(1, 8)), do: "power_loss", worker: "w1" },
      { at: later(50), do: "start", worker: "w1" },
    ]),
  })),
  // Five that are not complete in time.
  directed("muted_without_checkpoints", (prng) => ({
    ...TRANSFERS,
    faults: [{ at: at(500 + prng.int(500)), do: "disk_stall", worker: "w1", ms: 170_000 }],
    limitMs: 200_000,
  })),
];

export const DIRECTED: readonly Directed[] = [
  ...(CHECKPOINTS_ON ? WITH_CHECKPOINTS : []),
  // The dialler hears nothing and connects again, while what it sent before is still on its slow way.
  directed("duplicate_filtered", (prng) => ({
    messages: 1_500,
    everyMs: 8,
    network: DISTANT,
    faults: [
      { at: at(1_500 + prng.int(200)), do: "blackhole", worker: "w1", channel: "data", way: "back", ms: 5_900 },
      { at: later(4_000), do: "latency", a: "w1", b: INITIALIZER, minMs: 400, maxMs: 900, ms: 950 },
      { at: later(3_000), do: "heal" },
    ],
  })),
  // Its hello is on a slow way when it dies, and its successor is faster.
  directed("old_process_refused", (prng) => ({
    network: DISTANT,
    faults: [
      { at: at(1_500), do: "kill", worker: "w1" },
      ...[2, 4, 6].flatMap((n): Fault[] => [
        { at: later(100), do: "start", worker: "w1" },
        { at: { point: "start.external_listening", worker: "w1", n }, do: "heal" },
        { at: later(prng.between(40, 60)), do: "latency", a: "w1", b: INITIALIZER, minMs: 600, maxMs: 900, ms: 60 },
        { at: later(prng.between(20, 60)), do: "kill", worker: "w1" },
        { at: later(40), do: "start", worker: "w1" },
        { at: later(2_000), do: "kill", worker: "w1" },
      ]),
      { at: later(100), do: "start", worker: "w1" },
    ],
  })),
  directed("predecessor_superseded", (prng) => ({
    faults: [
      { at: at(1_500 + prng.int(500)), do: "power_loss", worker: "w1" },
      { at: later(prng.between(20, 3_000)), do: "start", worker: "w1" },
    ],
  })),
  directed("zombie_came_back", (prng) => ({
    faults: [{ at: at(1_500 + prng.int(500)), do: "pause", worker: "w1", ms: 7_000 + prng.int(3_000) }],
  })),
  directed("saved_file_torn", (prng) => ({
    disk: { syncMinMs: 4, syncMaxMs: 8 },
    faults: [
      { at: at(1_500), do: "kill", worker: "w1" },
      ...[1, 2, 3, 4, 5, 6, 7, 8].flatMap((n): Fault[] => [
        { at: later(20), do: "start", worker: "w1" },
        // The number of the start is saved now.
        { at: { point: "start.external_listening", worker: "w1", n: n + 1 }, do: "heal" },
        { at: later(prng.between(1, 5)), do: "power_loss", worker: "w1" },
      ]),
      { at: later(20), do: "start", worker: "w1" },
    ],
  })),
  directed("disk_full_during_save", (prng) => ({
    faults: [
      { at: at(1_500), do: "kill", worker: "w1" },
      { at: later(50), do: "start", worker: "w1" },
      {
        at: { point: "start.external_listening", worker: "w1", n: 2 },
        do: "disk_full",
        worker: "w1",
        bytes: prng.int(200),
        ms: 900,
      },
      { at: later(1_000), do: "start", worker: "w1" },
    ],
  })),
  directed("sync_failed_during_save", (prng) => ({
    faults: [
      { at: at(1_500), do: "kill", worker: "w1" },
      { at: later(50), do: "start", worker: "w1" },
      { at: { point: "start.external_listening", worker: "w1", n: 2 }, do: "fail_sync", worker: "w1", n: 1 },
      { at: later(1_000 + prng.int(200)), do: "start", worker: "w1" },
    ],
  })),
  directed("rot_refused", (prng) => ({
    faults: [
      { at: at(1_500), do: "kill", worker: "w1" },
      { at: later(10), do: "rot", worker: "w1", file: 1, bit: prng.int(1 << 16) },
      { at: later(10), do: "start", worker: "w1" },
      { at: later(600), do: "restore", worker: "w1" },
      { at: later(10), do: "start", worker: "w1" },
    ],
  })),
  directed("newcomer_refused_full", (prng) => ({
    faults: [
      { at: at(1_000 + prng.int(1_000)), do: "newcomer", name: "one.too.many" },
      { at: later(500), do: "heal" },
    ],
  })),
  directed("newcomer_refused_name", (prng) => ({
    faults: [
      { at: at(1_000 + prng.int(1_000)), do: "newcomer", name: "w1" },
      { at: later(500), do: "heal" },
    ],
  })),
  directed("died_between_forming_and_formed", (prng) => ({
    workers: 3,
    faults: [
      { at: { point: "cluster.forming_durable", worker: "w1", n: 1 }, do: "kill", worker: "w1" },
      { at: later(prng.between(1, 800)), do: "start", worker: "w1" },
    ],
  })),
  directed("cluster_abandoned", (prng) => ({
    workers: 3,
    faults: [
      { at: { point: "cluster.forming_durable", worker: "w2", n: 1 }, do: "kill", worker: INITIALIZER },
      { at: later(prng.between(50, 800)), do: "start", worker: INITIALIZER },
    ],
  })),
  directed("record_cut_at_sink", (prng) => ({
    messages: 500,
    everyMs: 1,
    network: NARROW,
    faults: [
      { at: at(400), do: "heal" },
      ...again(prng, 10, 20, 80, [{ at: soon, do: "cut", worker: "w1", channel: "sink" }]),
    ],
  })),
  directed("frame_cut_at_source", (prng) => ({
    messages: 500,
    everyMs: 1,
    network: NARROW,
    faults: [
      { at: at(400), do: "heal" },
      ...again(prng, 10, 20, 80, [{ at: soon, do: "cut", worker: "w1", channel: "source" }]),
    ],
  })),
  directed(
    "strangers_crowded_out",
    (prng) => ({
      limits: { strangers: 4 },
      faults: [
        { at: at(1_500 + prng.int(100)), do: "stranger", worker: "w1", port: "control", what: "flood" },
        { at: later(500), do: "heal" },
      ],
    }),
    10,
  ),
  directed("stopped_twice", (prng) => ({
    faults: [
      { at: at(2_000), do: "signal", worker: "w1", signal: "SIGTERM" },
      { at: later(prng.between(0, 100)), do: "command", worker: INITIALIZER, what: "stop", times: 1 },
    ],
  })),
  directed("stopped_before_work", (prng) => ({
    workers: 3,
    faults: [
      {
        at: {
          point: (["phase.1", "phase.2", "phase.3"] as const)[prng.int(3)]!,
          worker: (["w1", INITIALIZER] as const)[prng.int(2)]!,
          n: 1,
        },
        do: "signal",
        worker: "w1",
        signal: "SIGTERM",
      },
    ],
  })),
];
