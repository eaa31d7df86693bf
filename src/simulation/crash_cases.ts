/**
 * Every named crash point of the worker, each with every kind of crash: short stories that lead there, and what happens when
 * the worker gets there for the first and for the last time.
 */

import { INITIALIZER, type WorkerName } from "../base/ids.ts";
import { Prng } from "../base/prng.ts";
import { CRASH_POINTS, type CrashPoint } from "../worker/crash_points.ts";
import { CHECKPOINTS_ON } from "./checkpointing.ts";
import type { RunResult } from "./run.ts";
import { type Action, type Fault, ORACLE_IDS, SCENARIO_FORMAT, type Scenario, type Trigger } from "./scenario.ts";

export const CRASH_VARIANTS = ["self_dies", "self_loses_power", "peer_dies", "connections_cut"] as const;
export type CrashVariant = (typeof CRASH_VARIANTS)[number];

export interface CrashCase {
  readonly point: CrashPoint;
  readonly variant: CrashVariant;
  readonly scenario: Scenario;
}

/** Where a story passes a crash point. */
export interface Passage {
  readonly story: Scenario;
  readonly point: CrashPoint;
  readonly worker: WorkerName;
  /** How often. */
  readonly count: number;
}

/** From the crash until everybody who is down is started again. */
const DOWN_MS = 300;

const STORY_MS = 8_000;
const CHECKPOINT_STORY_MS = 2_600;

/** Points of checkpoints: without them nothing is cut, decided or recovered. */
const CHECKPOINT_POINT = /^(align|checkpoint|commit|cut|decision|recovery|rotation|sink)\./;

export function applicablePoints(): CrashPoint[] {
  return CRASH_POINTS.filter((point) => CHECKPOINTS_ON || !CHECKPOINT_POINT.test(point));
}

export function crashStories(seed: string): Scenario[] {
  const story = (name: string, faults: readonly Fault[]): Scenario => ({
    format: SCENARIO_FORMAT,
    name,
    seed,
    workers: 3,
    application: "two_hops",
    keys: 7,
    messages: 400,
    senders: [
      { worker: INITIALIZER, source: 0, batch: 2, everyMs: 10, startMs: 0 },
      { worker: "w1", source: 0, batch: 2, everyMs: 10, startMs: 0 },
    ],
    // The last one only keeps the story going until its end has been told.
    faults: [...faults, { at: { ms: STORY_MS }, do: "heal" }],
    expect: ORACLE_IDS,
    limitMs: STORY_MS + 1_000,
  });
  const withCheckpoints = (name: string, faults: readonly Fault[]): Scenario => ({
    ...story(name, []),
    workers: 2,
    application: "transfers",
    messages: 200,
    senders: [],
    checkpointMs: 150,
    faults: [...faults, { at: { ms: CHECKPOINT_STORY_MS }, do: "heal" }],
    limitMs: CHECKPOINT_STORY_MS + 1_000,
  });
  const withBank = (name: string, faults: readonly Fault[]): Scenario => ({
    ...withCheckpoints(name, faults),
    application: "bank",
  });
  const checkpointStories = [
    withBank("checkpoints are asked for, a sink rolls back, one comes back", [
      { at: { point: "phase.4", worker: "w1", n: 1 }, do: "fail_sync", worker: "w1", n: 1, path: "/output/.writing" },
      { at: { ms: 600 }, do: "command", worker: "w1", what: "checkpoint", times: 1 },
      { at: { ms: 800 }, do: "command", worker: INITIALIZER, what: "checkpoint", times: 2 },
      { at: { ms: 1_100 }, do: "kill", worker: "w1" },
      { at: { after: "prev", ms: 100 }, do: "start", worker: "w1" },
    ]),
    withCheckpoints("the initializer comes back, the state of one is lost and found", [
      { at: { ms: 700 }, do: "kill", worker: INITIALIZER },
      { at: { after: "prev", ms: 100 }, do: "start", worker: INITIALIZER },
      { at: { ms: 1_500 }, do: "kill", worker: "w1" },
      { at: { after: "prev", ms: 10 }, do: "lose_state", worker: "w1" },
      { at: { after: "prev", ms: 10 }, do: "start", worker: "w1" },
      { at: { after: "prev", ms: 400 }, do: "restore", worker: "w1" },
      { at: { after: "prev", ms: 10 }, do: "start", worker: "w1" },
    ]),
  ];
  const rotated: Scenario = {
    ...withCheckpoints("their logs are rotated, one comes back", [
      { at: { ms: 500 }, do: "command", worker: INITIALIZER, what: "rotate", times: 1 },
      { at: { ms: 700 }, do: "command", worker: "w1", what: "rotate_w1", times: 2 },
      { at: { ms: 1_000 }, do: "kill", worker: "w1" },
      { at: { after: "prev", ms: 100 }, do: "start", worker: "w1" },
      { at: { ms: 1_800 }, do: "command", worker: "w1", what: "rotate", times: 1 },
      { at: { ms: 1_900 }, do: "command", worker: "w1", what: "rotate_w1", times: 1 },
    ]),
    rotation: true,
  };
  const committed: Scenario = {
    ...withCheckpoints("a sink that commits in two phases is lost before its vote and behind it", [
      { at: { point: "sink.asked", worker: "w1", n: 3 }, do: "cut", worker: "w1", channel: "sink" },
      { at: { point: "sink.voted", worker: "w1", n: 6 }, do: "cut", worker: "w1", channel: "sink" },
      { at: { point: "sink.asked", worker: INITIALIZER, n: 3 }, do: "cut", worker: INITIALIZER, channel: "sink" },
      { at: { point: "sink.voted", worker: INITIALIZER, n: 6 }, do: "cut", worker: INITIALIZER, channel: "sink" },
    ]),
    application: "two_phase",
  };
  // What comes after the stop is another cluster, which makes all of its input again.
  const stopped: Scenario = {
    ...withCheckpoints("they take a last checkpoint, and stop", [
      { at: { ms: 1_200 }, do: "signal", worker: "w1", signal: "SIGTERM" },
    ]),
    application: "generated",
    expect: ORACLE_IDS.filter((id) => id !== "O-SEQ" && id !== "O-MODEL"),
  };
  return [
    story("they form, work, one comes back, they stop", [
      { at: { ms: 1_500 }, do: "kill", worker: "w1" },
      { at: { after: "prev", ms: 200 }, do: "start", worker: "w1" },
      { at: { ms: 3_500 }, do: "signal", worker: "w1", signal: "SIGTERM" },
    ]),
    story("the initializer comes back, and is away when they stop", [
      { at: { ms: 1_500 }, do: "kill", worker: INITIALIZER },
      { at: { after: "prev", ms: 200 }, do: "start", worker: INITIALIZER },
      { at: { ms: 3_000 }, do: "kill", worker: INITIALIZER },
      { at: { after: "prev", ms: 50 }, do: "signal", worker: "w1", signal: "SIGTERM" },
    ]),
    story("they are stopped by two at once", [
      { at: { ms: 2_000 }, do: "signal", worker: INITIALIZER, signal: "SIGTERM" },
      { at: { ms: 2_000 }, do: "command", worker: "w2", what: "stop_and_report", times: 1 },
    ]),
    story("one comes back with other options than the others have", [
      { at: { ms: 1_500 }, do: "kill", worker: "w1" },
      { at: { after: "prev", ms: 200 }, do: "bad_start", worker: "w1", how: "other_checkpoints", ms: 2_000 },
      { at: { after: "prev", ms: 2_100 }, do: "start", worker: "w1" },
    ]),
    story("the initializer dies while they form", [
      { at: { point: "cluster.forming_durable", worker: "w2", n: 1 }, do: "kill", worker: INITIALIZER },
      { at: { after: "prev", ms: 100 }, do: "start", worker: INITIALIZER },
    ]),
    ...(CHECKPOINTS_ON ? [...checkpointStories, rotated, committed, stopped] : []),
  ];
}

/** @param result Of the story, undisturbed. */
export function passages(result: RunResult): Passage[] {
  const applicable = new Set<string>(applicablePoints());
  return [...result.observation.passed].flatMap(([name, count]) => {
    const [worker, point] = name.split(" ") as [WorkerName, CrashPoint];
    return applicable.has(point) ? [{ story: result.scenario, point, worker, count }] : [];
  });
}

/**
 * For each passage of the initializer and of others: all variants, at the first and the last time. Stories with checkpoints
 * take long, and are for what the others do not pass.
 */
export function crashCases(all: readonly Passage[]): CrashCase[] {
  const isPlain = ({ story }: Passage): boolean => story.checkpointMs === undefined;
  const plain = new Set(all.filter(isPlain).map(({ point }) => point));
  /** The story in which a worker passes a point for the first time. */
  const first = new Map<string, Scenario>();
  for (const { point, worker, story } of all) {
    if (story.checkpointMs !== undefined && !first.has(`${worker} ${point}`)) first.set(`${worker} ${point}`, story);
  }
  const chosen = all.filter(
    (passage) =>
      isPlain(passage) ||
      (!plain.has(passage.point) && first.get(`${passage.worker} ${passage.point}`) === passage.story),
  );
  return chosen.flatMap((passage) => {
    const times = passage.count === 1 ? [1] : [1, passage.count];
    return times.flatMap((n) => CRASH_VARIANTS.map((variant) => crashCase(passage, n, variant)));
  });
}

function crashCase(passage: Passage, n: number, variant: CrashVariant): CrashCase {
  const { story, point, worker } = passage;
  const name = `${story.name}: ${variant} at ${point} of ${worker}, time ${n}`;
  const faults = [...story.faults, ...crash({ point, worker, n }, worker, variant)];
  return { point, variant, scenario: { ...story, name, faults } };
}

/** Two crashes in one story, drawn from the seed: the second may come while the first is being mended. */
export function crashPairs(all: readonly Passage[], count: number, seed: bigint): CrashCase[] {
  const prng = new Prng(seed, "pairs");
  return Array.from({ length: count }, (_, i) => {
    const first = all[prng.int(all.length)]!;
    const others = all.filter(({ story }) => story === first.story);
    const second = others[prng.int(others.length)]!;
    const [one, two] = [first, second].map(({ point, worker, count: passed }) => {
      const variant = CRASH_VARIANTS[prng.int(CRASH_VARIANTS.length)]!;
      return { variant, faults: crash({ point, worker, n: 1 + prng.int(passed) }, worker, variant) };
    });
    const name = `pair ${i}: ${one!.variant} at ${first.point} of ${first.worker}, ${two!.variant} at ${second.point} of ${second.worker}`;
    const faults = [...first.story.faults, ...one!.faults, ...two!.faults];
    return { point: first.point, variant: one!.variant, scenario: { ...first.story, name, faults } };
  });
}

function crash(at: Trigger, worker: WorkerName, variant: CrashVariant): Fault[] {
  const peer = worker === INITIALIZER ? "w1" : INITIALIZER;
  const actions: Readonly<Record<CrashVariant, Action>> = {
    self_dies: { do: "kill", worker },
    self_loses_power: { do: "power_loss", worker },
    peer_dies: { do: "kill", worker: peer },
    connections_cut: { do: "cut", worker, channel: "any" },
  };
  return [
    { at, ...actions[variant] },
    { at: { after: "prev", ms: DOWN_MS }, do: "start_all" },
  ];
}
