import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Aligner, type AlignerEffect } from "../../../src/protocol/barrier/aligner.ts";

const CHAIN = [{ fromExchanges: [] }, { fromExchanges: [0] }];

test("a worker alone is aligned at once", () => {
  const aligner = new Aligner(CHAIN, [], 0);
  assert.deepEqual(aligner.begin(1), [
    { kind: "inject", epoch: 1 },
    { kind: "aligned", epoch: 1 },
  ]);
});

test("barriers leave in the order of exchanges, and what comes behind one is held until all are there", () => {
  const aligner = new Aligner(CHAIN, ["b"], 0);
  assert.deepEqual(aligner.begin(1), [
    { kind: "inject", epoch: 1 },
    { kind: "send_barrier", to: "b", exchange: 0, epoch: 1 },
  ]);
  assert.equal(aligner.holds("b", 0), false);
  assert.deepEqual(aligner.barrier("b", 0, 1), [{ kind: "send_barrier", to: "b", exchange: 1, epoch: 1 }]);
  assert.equal(aligner.holds("b", 0), true);
  assert.equal(aligner.holds("b", 1), false);
  assert.deepEqual(aligner.waitingFor(), ["b"]);
  assert.deepEqual(aligner.barrier("b", 1, 1), [{ kind: "aligned", epoch: 1 }]);
  assert.equal(aligner.holds("b", 0), false);
});

test("a barrier that overtakes the coordinator's word begins the epoch", () => {
  const aligner = new Aligner([{ fromExchanges: [] }], ["b"], 0);
  assert.deepEqual(
    aligner.barrier("b", 0, 4).map((effect) => effect.kind),
    ["inject", "send_barrier", "aligned"],
  );
  assert.deepEqual(aligner.begin(4), [], "the word comes late");
});

test("an aborted epoch releases what was held, and its stragglers are dropped", () => {
  const aligner = new Aligner([{ fromExchanges: [] }], ["b", "c"], 0);
  aligner.begin(1);
  aligner.barrier("b", 0, 1);
  assert.deepEqual(aligner.abort(1), [{ kind: "released", epoch: 1 }]);
  assert.equal(aligner.holds("b", 0), false);
  assert.deepEqual(aligner.barrier("c", 0, 1), []);
  assert.deepEqual(aligner.abort(1), []);
  assert.deepEqual(
    aligner.begin(2).map((effect) => effect.kind),
    ["inject", "send_barrier", "send_barrier"],
  );
});

test("a barrier of a later epoch gives the earlier one up", () => {
  const aligner = new Aligner([{ fromExchanges: [] }], ["b", "c"], 0);
  aligner.begin(1);
  assert.deepEqual(
    aligner.barrier("b", 0, 2).map((effect) => `${effect.kind} ${effect.epoch}`),
    ["released 1", "inject 2", "send_barrier 2", "send_barrier 2"],
  );
});

test("the cut is consistent: what one took in before its snapshot is what the other sent before its own", () => {
  const scenario = fc.record({
    workers: fc.integer({ min: 2, max: 4 }),
    exchanges: fc.constantFrom([[]], [[], [0]], [[], [], [0, 1]], [[], [0], [1]]),
    choices: fc.array(fc.nat(), { minLength: 60, maxLength: 400 }),
  });
  fc.assert(
    fc.property(scenario, ({ workers, exchanges, choices }) => {
      const epochsSeen = runCuts(workers, exchanges, choices);
      assert.ok(epochsSeen >= 0);
    }),
    { numRuns: 400 },
  );
});

interface Worker {
  readonly name: string;
  readonly aligner: Aligner;
  still: boolean;
  /** By `peer/exchange`. */
  readonly sent: Map<string, number>;
  readonly taken: Map<string, number>;
  readonly cuts: Map<number, { sent: Map<string, number>; taken: Map<string, number> }>;
}

/** Workers that send numbered batches to each other over ordered links, in an order that `choices` decides. */
function runCuts(count: number, exchanges: readonly (readonly number[])[], choices: readonly number[]): number {
  const names = Array.from({ length: count }, (_, i) => `w${i}`);
  const links = new Map<string, (number | { barrier: number; exchange: number })[]>();
  for (const a of names) for (const b of names) if (a !== b) links.set(`${a}>${b}`, []);
  const all: Worker[] = names.map((name) => ({
    name,
    aligner: new Aligner(
      exchanges.map((fromExchanges) => ({ fromExchanges })),
      names.filter((other) => other !== name),
      0,
    ),
    still: false,
    sent: new Map(),
    taken: new Map(),
    cuts: new Map(),
  }));
  const bump = (map: Map<string, number>, key: string) => map.set(key, (map.get(key) ?? 0) + 1);
  const send = (from: Worker, exchange: number, to: string) => {
    bump(from.sent, `${to}/${exchange}`);
    links.get(`${from.name}>${to}`)!.push(exchange);
  };
  const perform = (worker: Worker, effects: AlignerEffect[]) => {
    for (const effect of effects) {
      if (effect.kind === "inject") worker.still = true;
      else if (effect.kind === "send_barrier") {
        links.get(`${worker.name}>${effect.to}`)!.push({ barrier: effect.epoch, exchange: effect.exchange });
      } else {
        worker.still = false;
        if (effect.kind === "aligned") {
          worker.cuts.set(effect.epoch, { sent: new Map(worker.sent), taken: new Map(worker.taken) });
        }
      }
    }
  };
  let epoch = 0;
  const step = (choice: number) => {
    const worker = all[choice % count]!;
    const what = Math.floor(choice / count) % 4;
    if (what === 0 && !worker.still) {
      const exchange = Math.floor(choice / 16) % exchanges.length;
      if (exchanges[exchange]!.length === 0)
        send(
          worker,
          exchange,
          names[(choice + 1 + (choice % (count - 1))) % count] === worker.name
            ? names.find((n) => n !== worker.name)!
            : names[(choice + 1 + (choice % (count - 1))) % count]!,
        );
      return;
    }
    if (what === 1 && worker === all[0]) {
      if (all.every((other) => other.aligner.aligning === 0)) epoch++;
      for (const other of all)
        if (Math.floor(choice / 64) % 2 === 0 || other === worker) perform(other, other.aligner.begin(epoch));
      return;
    }
    receive(worker, names[Math.floor(choice / 8) % count]!);
  };
  const receive = (worker: Worker, from: string): boolean => {
    const link = links.get(`${from}>${worker.name}`);
    // The first frame of the link whose exchange is not held; frames of one exchange keep their order.
    const at = link?.findIndex((frame) => typeof frame !== "number" || !worker.aligner.holds(from, frame)) ?? -1;
    if (link === undefined || at < 0) return false;
    const [frame] = link.splice(at, 1);
    if (typeof frame !== "number") {
      perform(worker, worker.aligner.barrier(from, frame!.exchange, frame!.barrier));
      return true;
    }
    bump(worker.taken, `${from}/${frame}`);
    // What is behind this exchange puts something into the next ones.
    exchanges.forEach((before, exchange) => {
      if (before.includes(frame)) send(worker, exchange, from);
    });
    return true;
  };
  for (const choice of choices) step(choice);
  for (const worker of all) perform(worker, worker.aligner.begin(epoch));
  for (let moved = true; moved; ) {
    moved = false;
    for (const worker of all) for (const from of names) moved = receive(worker, from) || moved;
  }
  for (let cut = 1; cut <= epoch; cut++) {
    for (const worker of all) {
      const mine = worker.cuts.get(cut);
      assert.ok(mine, `${worker.name} was never aligned for ${cut}`);
      for (const other of all) {
        if (other === worker) continue;
        for (let exchange = 0; exchange < exchanges.length; exchange++) {
          const sent = other.cuts.get(cut)!.sent.get(`${worker.name}/${exchange}`) ?? 0;
          const taken: number = mine.taken.get(`${other.name}/${exchange}`) ?? 0;
          assert.equal(taken, sent, `epoch ${cut}, exchange ${exchange}, ${other.name} to ${worker.name}`);
        }
      }
    }
  }
  return epoch;
}
