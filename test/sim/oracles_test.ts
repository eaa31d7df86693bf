// Each oracle sees what it is there for, in an observation that was changed or a run in which the environment was; and is quiet
// where nothing is wrong.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { CommandRecord, Observation } from "../../src/simulation/observation.ts";
import { oAuth } from "../../src/simulation/oracles/o_auth.ts";
import { oFailclear } from "../../src/simulation/oracles/o_failclear.ts";
import { oLin } from "../../src/simulation/oracles/o_lin.ts";
import { oMem } from "../../src/simulation/oracles/o_mem.ts";
import { oOwn } from "../../src/simulation/oracles/o_own.ts";
import { oSeq } from "../../src/simulation/oracles/o_seq.ts";
import type { Oracle } from "../../src/simulation/oracles/oracle.ts";
import { type Fault, ORACLE_IDS, type Scenario, STRANGER_KINDS } from "../../src/simulation/scenario.ts";
import { execute } from "./execute.ts";

const QUIET: Scenario = {
  format: 1,
  name: "nothing happens to it",
  seed: "7",
  workers: 3,
  application: "last_four",
  keys: 5,
  messages: 300,
  senders: [{ worker: "w1", source: 0, batch: 2, everyMs: 10, startMs: 0 }],
  faults: [],
  expect: ORACLE_IDS.filter((id) => id !== "O-DET" && id !== "O-REACH"),
  limitMs: 5_000,
};

/** Runs it, changes what was observed, and asks the oracle before and after. */
async function judged(oracle: Oracle, scenario: Scenario, spoil: (observation: Observation) => void): Promise<string> {
  const { observation, violations } = await execute(scenario);
  assert.deepEqual(violations, []);
  spoil(observation);
  const [first] = oracle.check(observation, scenario);
  assert.ok(first !== undefined, `${oracle.id} does not see it`);
  assert.equal(first.oracle, oracle.id);
  return first.text;
}

test("O-OWN fails when a key is processed by another worker, or by two processes at a time", async () => {
  const foreign = await judged(oOwn, QUIET, ({ owners }) => {
    const [span] = [...owners[0]!.values()][0]!;
    Object.assign(span!, { worker: span!.worker === "w1" ? "w2" : "w1" });
  });
  assert.match(foreign, /^key .* belongs to .*, and w. processes it$/);
  const twice = await judged(oOwn, QUIET, ({ owners, processes }) => {
    const spans = [...owners[0]!.values()][0]!;
    processes.push({ ...processes[spans[0]!.process]!, number: processes.length });
    spans.push({ ...spans[0]!, process: processes.length - 1 });
  });
  assert.match(twice, /is processed by process 3 of .* while process . of/);
});

test("O-OWN fails when workers know different clusters, or a key is lost, in two places, or nobody's", async () => {
  const other = await judged(oOwn, QUIET, ({ atRest }) => void Object.assign(atRest[1]!, { generation: 9 }));
  assert.match(other, /generation 9.*knows cluster/);
  const members = await judged(
    oOwn,
    QUIET,
    ({ atRest }) => void Object.assign(atRest[2]!, { members: ["initializer"] }),
  );
  assert.match(members, /members are initializer at w2/);
  const keysOf = (observation: Observation, worker: string) =>
    observation.atRest.find((rest) => rest.worker === worker)!.keys[0] as string[];
  const holder = ({ atRest }: Observation) => atRest.find(({ keys }) => keys[0]!.length > 0)!.worker;
  const lost = await judged(oOwn, QUIET, (observation) => void keysOf(observation, holder(observation)).pop());
  assert.match(lost, /^nobody has key /);
  const doubled = await judged(oOwn, QUIET, (observation) => {
    const worker = holder(observation);
    keysOf(observation, worker === "w2" ? "w1" : "w2").push(keysOf(observation, worker)[0]!);
  });
  assert.match(doubled, /is at .* and at|belongs to/);
  const ghost = await judged(oOwn, QUIET, (observation) => {
    // A key that is owned by whoever has it.
    const worker = holder(observation);
    const keys = keysOf(observation, worker);
    keys.length = 0;
    for (let i = 0; i < 50; i++) keys.push(`ghost${i}`);
  });
  assert.match(ghost, /nobody sent|belongs to/);
});

test("O-OWN is quiet with checkpoints and deaths, where every key of the input is there at the end", async () => {
  const { violations, observation } = await execute({
    ...QUIET,
    application: "transfers",
    senders: [],
    checkpointMs: 100,
    faults: [
      { at: { ms: 1_000 }, do: "kill", worker: "w1" },
      { at: { after: "prev", ms: 300 }, do: "start", worker: "w1" },
    ],
  });
  assert.deepEqual(violations, []);
  assert.equal(observation.atRest.length, 3);
  const keys = observation.atRest.flatMap((rest) => rest.keys[0]!);
  assert.equal(keys.length, 15);
});

const COMMANDS: readonly Fault[] = (
  [
    "status",
    "print",
    "shrink",
    "shrink_query",
    "entities",
    "rich_status",
    "partitions",
    "cluster_entity_counts",
  ] as const
).map((what, i) => ({ at: { ms: 2_000 + 100 * i }, do: "command", worker: i % 2 === 0 ? "w1" : "w2", what, times: 2 }));
const ASKING: Scenario = { ...QUIET, faults: [{ ...COMMANDS[0]!, at: { ms: 5 } }, ...COMMANDS] };

test("O-LIN fails on an answer that was not true at any moment, or of another kind, or one too many", async () => {
  const answerOf = ({ commands }: Observation, what: string): CommandRecord["answers"][number] =>
    commands.findLast((command) => command.what === what)!.answers[0]!;
  const ready = "cluster_status_query_response";
  const stops = await judged(oLin, ASKING, (observation) => {
    Object.assign(answerOf(observation, "status"), {
      body: { worker_count: 3, worker_names: ["initializer", "w1", "w2"], processing_messages: false },
    });
  });
  assert.match(stops, /^status to w1 at 2000 ms: it stops, and nobody asked for that$/);
  const early = await judged(oLin, ASKING, ({ commands }) => {
    const body = { worker_count: 3, worker_names: ["initializer", "w1", "w2"], processing_messages: true };
    commands[0]!.answers.push({ timeMs: 1, kind: ready, body });
  });
  assert.match(early, /it works, and has not said so|answers to 2 questions/);
  const late = await judged(oLin, ASKING, (observation) => {
    Object.assign(answerOf(observation, "status"), { kind: "cluster_status_query_response_not_initialized" });
  });
  assert.match(late, /it does not work, and did before/);
  const members = await judged(oLin, ASKING, (observation) => {
    const body = { worker_count: 2, worker_names: ["initializer", "w2"], processing_messages: true };
    Object.assign(answerOf(observation, "status"), { body });
  });
  assert.match(members, /it has the workers initializer w2, 2/);
  const kind = await judged(oLin, ASKING, (observation) => {
    Object.assign(answerOf(observation, "entities"), { kind: ready });
  });
  assert.match(kind, /^entities to w1 .*: it was answered with cluster_status_query_response$/);
  const reasonless = await judged(oLin, ASKING, (observation) => {
    Object.assign(answerOf(observation, "shrink"), { body: "" });
  });
  assert.match(reasonless, /refused without a reason/);
});

test("O-LIN fails on a command that is done more often than asked, less often, or never answered", async () => {
  const print = (observation: Observation) => observation.log.findIndex(({ code }) => code === "external_print");
  const more = await judged(oLin, ASKING, (observation) => {
    observation.log.push(observation.log[print(observation)]!);
  });
  assert.match(more, /^print to w2 at 2100 ms: it was done 3 times, and asked for 2 times$/);
  const less = await judged(oLin, ASKING, (observation) => void observation.log.splice(print(observation), 1));
  assert.match(less, /it was taken, and done 1 of 2 times/);
  const never = await judged(oLin, ASKING, ({ commands, processes }) => {
    for (const process of processes) process.endedMs = null;
    Object.assign(commands.at(-1)!, { outcome: "timeout", endedMs: commands.at(-1)!.askedMs + 20_000 });
  });
  assert.match(never, /it was never answered/);
});

const STOPPED: Scenario = {
  ...QUIET,
  faults: [
    { at: { ms: 2_500 }, do: "command", worker: "w1", what: "stop_and_report", times: 2 },
    { at: { after: "prev", ms: 2 }, do: "command", worker: "w2", what: "stop", times: 2 },
  ],
};

test("O-LIN is quiet when a stop is asked for twice, and fails on one that nobody asked for, comes twice, or hangs", async () => {
  const unasked = await judged(oLin, STOPPED, ({ stopsAskedMs }) => void stopsAskedMs.splice(0));
  assert.match(unasked, /stops: stop 1 of a cluster, and 0 asked for/);
  const twice = await judged(oLin, STOPPED, ({ log }) => void log.push(log.find(({ code }) => code === "stopping")!));
  assert.match(twice, /stops a second time/);
  const hangs = await judged(oLin, STOPPED, (observation) => {
    observation.timeMs = 60_000;
    Object.assign(observation.processes[1]!, { endedMs: 50_000 });
  });
  assert.match(hangs, /is still there|does not leave/);
  const order = await judged(oLin, STOPPED, ({ commands }) => void commands[0]!.answers.reverse());
  assert.match(order, /before it has begun|was told to/);
});

test("O-MEM fails on a queue, on what is held, and on sockets above their caps, and on what is left at rest", async () => {
  const sampled = (change: object) => (observation: Observation) => {
    const sample = observation.samples[3]!;
    Object.assign(observation.samples, { 3: { ...sample, ...change } });
  };
  const many = await judged(oMem, QUIET, sampled({ descriptors: 5_000 }));
  assert.match(many, /it holds 5000 sockets and files, \d+ is the most/);
  const held = await judged(oMem, QUIET, sampled({ heldBytes: new Map([["w2", 1e8]]) }));
  assert.match(held, /100000000 bytes of w2 are not processed/);
  const queued = await judged(oMem, QUIET, (observation) => {
    const { status } = observation.samples[3]!;
    Object.assign(status.sinks[0]!, { queued_bytes: 1e8 });
  });
  assert.match(queued, /100000000 bytes wait for the sink/);
  const leak = await judged(oMem, QUIET, ({ atRest }) => void Object.assign(atRest[0]!, { descriptors: 13 }));
  assert.match(leak, /at rest: it holds 13 sockets and files, and 12 when it begins/);
});

const FULL: Scenario = {
  ...QUIET,
  messages: 20_000,
  keys: 10,
  senders: [{ worker: "w1", source: 0, batch: 20, everyMs: 1, startMs: 500 }],
  limits: { sinkQueueBytes: 100, exchangeCreditBytes: 300, dataFrameBytes: 1_000 },
  network: { receiveBufferBytes: 500, sendBufferBytes: 500 },
  faults: [{ at: { ms: 1_000 }, do: "sink_pause", ms: 8_000 }],
  limitMs: 12_000,
};

test("O-MEM is quiet while a sink reads nothing and queues are full, and fails where the worker has other caps", async () => {
  assert.deepEqual((await execute(FULL)).violations, []);
  // What the oracle believes the limits to be, the workers were not told.
  const { limits: _, ...unlimited } = FULL;
  // More of it: kernels and the time before the pause take up a good deal.
  const { observation } = await execute({ ...unlimited, messages: 60_000, network: {}, expect: [] });
  assert.match(
    oMem.check(observation, FULL)[0]?.text ?? "",
    /bytes wait for the sink|are not acknowledged|not processed/,
  );
});

const PORTS = ["control", "data", "external", "source"] as const;
const VISITED: Scenario = {
  ...QUIET,
  faults: PORTS.flatMap((port) => STRANGER_KINDS.map((what) => ({ port, what }))).map(({ port, what }, i) => ({
    at: { ms: 20_000 + 700 * i },
    do: "stranger",
    worker: i % 3 === 0 ? "initializer" : `w${i % 3}`,
    port,
    what,
  })),
  limitMs: 60_000,
};

test("O-AUTH is quiet when strangers of every kind visit every port, and fails when one changes anything", async () => {
  const { observation, violations } = await execute(VISITED);
  assert.deepEqual(violations, []);
  for (const port of PORTS) {
    const kinds = observation.strangers.filter((stranger) => stranger.port === port).map(({ what }) => what);
    // The last one of a flood may be turned away before it is connected.
    for (const kind of STRANGER_KINDS) assert.ok(kinds.includes(kind) || kind === "flood", `${kind} at ${port}`);
  }
  const at = (port: string, what: string) =>
    observation.strangers.find((stranger) => stranger.port === port && stranger.what === what)!;
  const failsWith = (sentence: RegExp): void => {
    assert.match(oAuth.check(observation, VISITED)[0]?.text ?? "nothing", sentence);
  };
  const hello = at("control", "other_cluster");
  const saved = hello.savedAfter;
  assert.ok(saved !== null);
  hello.savedAfter = "other bytes";
  failsWith(/^a stranger \(other_cluster\) at the control port .* the saved cluster information has changed$/);
  hello.savedAfter = saved;
  const idle = at("data", "idle");
  const { endedMs } = idle;
  idle.endedMs = idle.openedMs + 9_000;
  failsWith(/^a stranger \(idle\) at the data port .* it is open for 9000 ms, and 5000 are allowed$/);
  idle.endedMs = null;
  failsWith(/it is open for/);
  idle.endedMs = endedMs;
  const after = observation.samples.find(
    ({ process, timeMs }) => process === hello.process && timeMs >= hello.endedMs!,
  )!;
  Object.assign(after.status, { generation: 8 });
  failsWith(/phase 4, generation 1, .* became .* phase 4, generation 8, /);
});

test("O-AUTH fails on a member that nobody started, and on a worker that changes its cluster", async () => {
  const member = await judged(oAuth, QUIET, ({ samples }) => {
    Object.assign(samples[5]!, { members: ["initializer", "w1", "w2", "eve"] });
  });
  assert.match(member, /eve is a member, and nobody started it/);
  const cluster = await judged(oAuth, QUIET, ({ samples }) => void Object.assign(samples[8]!, { clusterId: "0f" }));
  assert.match(cluster, /its cluster .* became/);
});

/** Each start that must be refused, of w1, after a kill where it has to be down for that. */
const REFUSED: Scenario = {
  ...QUIET,
  faults: [
    { at: { ms: 2_000 }, do: "bad_start", worker: "w1", how: "folder_in_use", ms: 6_000 },
    { at: { ms: 2_500 }, do: "newcomer", name: "late" },
    ...(["other_application", "other_cluster", "other_worker", "port_in_use", "other_checkpoints"] as const).flatMap(
      (how, i): Fault[] => [
        { at: { ms: 9_000 + 8_000 * i }, do: "kill", worker: "w1" },
        { at: { after: "prev", ms: 100 }, do: "bad_start", worker: "w1", how, ms: 6_000 },
        { at: { after: "prev", ms: 6_100 }, do: "start", worker: "w1" },
      ],
    ),
  ],
  limitMs: 60_000,
};

test("O-FAILCLEAR is quiet when starts that must be refused are refused, each for its own reason", async () => {
  const { observation, violations } = await execute(REFUSED);
  assert.deepEqual(violations, []);
  const refusals = observation.processes
    .filter(({ provoked }) => provoked !== null)
    .map(({ provoked, status, errorCode }) => [provoked, status, errorCode]);
  assert.deepEqual(refusals, [
    ["other_application", 12, "resilience_other_application"],
    ["other_cluster", 12, "resilience_other_cluster"],
    ["other_worker", 12, "resilience_foreign"],
    ["port_in_use", 11, "address_in_use"],
    ["other_checkpoints", 2, "checkpoints_differ"],
  ]);
  const others = observation.newcomers.map(({ name, status, errorCode }) => [name, status, errorCode]);
  assert.deepEqual(others, [
    ["w1", 12, "resilience_in_use"],
    ["late", 13, "cluster_full"],
  ]);
});

test("O-FAILCLEAR is quiet when a worker saves for the first time while another process wants its folder", async () => {
  const { observation, violations } = await execute({
    ...QUIET,
    seed: "0x4e5b",
    starts: [431, 0, 370],
    network: { latencyMaxMs: 10 },
    faults: [{ at: { ms: 600 }, do: "bad_start", worker: "w1", how: "folder_in_use", ms: 6_000 }],
  });
  assert.deepEqual(violations, []);
  assert.equal(observation.newcomers[0]?.errorCode, "resilience_in_use");
});

test("O-FAILCLEAR fails on another status, a second error, a stack trace, no advice, a delay, files that have changed", async () => {
  const { observation, violations } = await execute(REFUSED);
  assert.deepEqual(violations, []);
  const refused = observation.processes.find(({ provoked }) => provoked === "other_worker")!;
  const original = { ...refused };
  const failsWith = (sentence: RegExp, change: Partial<typeof refused>): void => {
    Object.assign(refused, change);
    assert.match(oFailclear.check(observation, REFUSED)[0]?.text ?? "nothing", sentence);
    Object.assign(refused, original);
    assert.deepEqual(oFailclear.check(observation, REFUSED), []);
  };
  failsWith(/resilience_foreign ends with status 12, and it left with 13/, { status: 13 });
  failsWith(/its code oops is in no class/, { errorCode: "oops" });
  failsWith(/not for people/, { errorText: `${original.errorText}\n    at open (store.ts:12:3)` });
  failsWith(/does not say what to do/, {
    errorText: "Cannot use /tmp/Last%20four/w1: it belongs to w2 of this cluster",
  });
  failsWith(/does not say where/, { errorText: "Something is not right here, please give it another try" });
  failsWith(/ms to be refused with resilience_foreign/, { startedMs: original.startedMs - 9_000 });
  failsWith(/ms to leave with resilience_foreign/, { leavingMs: original.leavingMs! - 9_000 });
  failsWith(/what was saved has changed/, { savedAfter: { ...original.savedAfter!, exact: "nothing" } });
  failsWith(/was refused with save_failed/, { errorCode: "save_failed", status: 20 });
  failsWith(/was to be refused/, { cause: "kill", status: null, endedMs: original.endedMs! + 6_000 });
  const { worker, number } = refused;
  observation.log.push({
    timeMs: 1,
    worker,
    process: number,
    level: "error",
    code: "leaving_failed",
    text: "it failed",
  });
  assert.match(
    oFailclear.check(observation, REFUSED)[0]!.text,
    /it said 2 errors: resilience_foreign, .* leaving_failed/,
  );
});

test("O-FAILCLEAR fails on a start that is not refused", async () => {
  const { observation, violations } = await execute(QUIET);
  assert.deepEqual(violations, []);
  const first = observation.processes.find(({ worker }) => worker === "w1")!;
  // The same as a process that lives on though its start was wrong.
  Object.assign(first, { provoked: "other_application" });
  assert.match(oFailclear.check(observation, QUIET)[0]?.text ?? "", /it left with status 0, and was to be refused/);
});

for (const application of ["transfers", "two_phase"] as const) {
  const read: Scenario = {
    ...QUIET,
    application,
    senders: [],
    checkpointMs: 100,
    messages: 600,
    faults: [
      { at: { ms: 2_000 }, do: "power_loss", worker: "w1" },
      { at: { after: "prev", ms: 300 }, do: "start", worker: "w1" },
    ],
    limitMs: 8_000,
  };

  test(`whoever reads the output of ${application} while it comes sees the beginning of it, or O-SEQ says so`, async () => {
    const { observation, violations } = await execute(read);
    assert.deepEqual(violations, []);
    const { readings } = observation;
    assert.ok(
      readings.some(({ text }) => text !== ""),
      "somebody has read something",
    );
    const why = (): string => oSeq.during!(observation, read)()[0]?.text ?? "nothing";
    assert.equal(why(), "nothing");
    const reading = readings.findLast(({ text }) => text.split("\n").length > 5)!;
    const { text } = reading;
    const lines = text.split("\n");
    reading.text = lines.toSpliced(0, 1).join("\n");
    assert.match(why(), /is visible where/);
    reading.text = `${text}${lines[0]}\n`;
    assert.match(why(), /is visible where/);
    reading.text = text.slice(0, -3);
    assert.match(why(), /ends in the middle of a line/);
  });
}
