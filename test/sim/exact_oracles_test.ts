// What an oracle allows by design, and that it allows no more than that.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Observation, SinkConnection } from "../../src/simulation/observation.ts";
import { oLive } from "../../src/simulation/oracles/o_live.ts";
import { oModel } from "../../src/simulation/oracles/o_model.ts";
import { oSeq } from "../../src/simulation/oracles/o_seq.ts";
import type { Scenario } from "../../src/simulation/scenario.ts";
import { execute } from "./execute.ts";

const QUIET: Scenario = {
  format: 1,
  name: "nothing happens to it",
  seed: "7",
  workers: 2,
  application: "last_four",
  keys: 5,
  messages: 100,
  senders: [{ worker: "w1", source: 0, batch: 2, everyMs: 10, startMs: 0 }],
  faults: [],
  expect: ["O-SEQ", "O-MODEL", "O-LIVE", "O-STAYUP"],
  limitMs: 5_000,
};

async function observed(change: Partial<Scenario> = {}): Promise<{ observation: Observation; scenario: Scenario }> {
  const scenario = { ...QUIET, ...change };
  const { observation, violations } = await execute(scenario);
  assert.deepEqual(violations, []);
  return { observation, scenario };
}

function busiest(observation: Observation): SinkConnection {
  return observation.connections.reduce((a, b) => (b.lines.length > a.lines.length ? b : a));
}

/** Takes lines out of a connection. */
function lose(connection: SinkConnection, from: number, count: number): void {
  connection.lines.splice(from, count);
  connection.timesMs.splice(from, count);
}

/** What came on a connection from this line on came on a new one, and the old one has got this end. */
function splitAt(observation: Observation, connection: SinkConnection, line: number, end: "cut" | null): void {
  const rest = {
    ...connection,
    number: observation.connections.length,
    lines: connection.lines.splice(line),
    timesMs: connection.timesMs.splice(line),
  };
  connection.end = end;
  observation.connections.push(rest);
}

test("a connection that is in use has lost nothing; one that was replaced without an end may have", async () => {
  const missing = async (end: "cut" | null, isReplaced: boolean): Promise<string> => {
    const { observation, scenario } = await observed();
    const connection = busiest(observation);
    if (isReplaced) {
      splitAt(observation, connection, 20, end);
      lose(connection, 18, 2);
    } else {
      connection.end = end;
      lose(connection, connection.lines.length - 1, 1);
    }
    return oModel.check(observation, scenario)[0]?.text ?? "allowed";
  };
  assert.match(await missing(null, false), /missing at the end/);
  assert.equal(await missing(null, true), "allowed");
  assert.equal(await missing("cut", true), "allowed");
});

test("where order is not kept, what a lost connection took along is bounded, and counts only grow", async () => {
  const network = { sendBufferBytes: 64, receiveBufferBytes: 64 };
  const rebalanced = async (spoil: (connection: SinkConnection) => void): Promise<string> => {
    const { observation, scenario } = await observed({ application: "rebalance", network });
    const connection = busiest(observation);
    splitAt(observation, connection, 40, "cut");
    spoil(connection);
    return oModel.check(observation, scenario)[0]?.text ?? "allowed";
  };
  assert.equal(await rebalanced((connection) => lose(connection, 36, 4)), "allowed");
  assert.match(await rebalanced((connection) => lose(connection, 10, 30)), /bytes of all workers are missing/);
  const swapped = await rebalanced((connection) => {
    // Two lines of one key.
    const key = connection.lines[0]!.split(" ")[0];
    const other = connection.lines.findIndex((line, i) => i > 0 && line.split(" ")[0] === key);
    [connection.lines[0], connection.lines[other]] = [connection.lines[other]!, connection.lines[0]!];
  });
  assert.match(swapped, /was to come/);
});

test("a stop that was asked for before a stream began does not excuse what is missing of it", async () => {
  const { observation, scenario } = await observed();
  observation.stopsAskedMs.unshift(0);
  lose(busiest(observation), busiest(observation).lines.length - 1, 1);
  assert.match(oModel.check(observation, scenario)[0]?.text ?? "", /missing at the end/);
});

test("behind gaps in the output, steps of the values add up, and what was seen before is not counted again", async () => {
  const windows = async (before: string, after: string): Promise<string> => {
    const { observation, scenario } = await observed({ application: "generated", senders: [], messages: 40 });
    // One earlier process of each worker: its generator began anew once.
    for (const worker of observation.workers) {
      observation.processes.unshift({ ...observation.latest(worker)!, number: -1, startedMs: -2, endedMs: -1 });
    }
    const connection = busiest(observation);
    const key = connection.lines[0]!.split(" ")[0];
    const ofKey = connection.lines.filter((line) => line.startsWith(`${key} `));
    connection.lines.splice(0, Number.POSITIVE_INFINITY, `${key} 0 0 0 7`, `${key} ${before}`, `${key} ${after}`);
    connection.timesMs.length = 3;
    assert.ok(ofKey.length > 3);
    splitAt(observation, connection, 1, "cut");
    splitAt(observation, observation.connections.at(-1)!, 1, "cut");
    return oSeq.check(observation, scenario)[0]?.text ?? "allowed";
  };
  assert.equal(await windows("7 8 1 2", "8 1 2 3"), "allowed");
  assert.equal(await windows("8 9 1 2", "9 1 2 3"), "allowed");
  assert.match(await windows("8 9 1 2", "4 5 1 2"), /values do not grow by one \(2 times, 1 can be by design\)/);
});

test("a worker that leaves with 0 and does not say that all came out has not stopped in order", async () => {
  const { observation, scenario } = await observed();
  const at = observation.log.findIndex(({ code }) => code === "stopped");
  Object.assign(observation.log[at]!, { level: "warn", text: "Shut down. What stayed behind: w1: 3 records" });
  assert.match(
    oLive.check(observation, scenario)[0]?.text ?? "",
    /did not stop in order: exit 0, "Shut down. What stayed/,
  );
});
