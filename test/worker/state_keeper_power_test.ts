// The state keeper on the virtual disk, against a model: checkpoints, rollbacks, kills, power cuts, rounds.
import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import { Prng } from "../../src/base/prng.ts";
import type { VirtualHost } from "../../src/runtime/virtual/host.ts";
import type { VirtualProcess } from "../../src/runtime/virtual/process.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import type { StateKeeper } from "../../src/worker/state_keeper.ts";
import { FOLDER, openKeeper, TestFlow } from "./keeper_world.ts";

const SEEDS = Number(process.env.SEEDS ?? 200);
const SMALL = { slackBytes: 1500, segmentBytes: 2000 };
const STAGES = [{ id: "p/count" }, { id: "p/sum" }];
const KEYS = 150;

type Rotation = "off" | "on" | "now_and_then";

/** Of each stage. */
type Content = Map<string, number>[];

/** One worker's life: what it does, and what must be on its disk. */
class Life {
  readonly world: VirtualWorld;
  readonly prng: Prng;
  readonly host: VirtualHost;
  process: VirtualProcess;
  keeper: StateKeeper | null = null;
  flow = new TestFlow(STAGES);
  /** What each epoch that was begun had at its cut. */
  readonly cuts = new Map<number, Content>([[0, STAGES.map(() => new Map())]]);
  /** Epochs whose end has resolved, and that were not rolled back since. */
  durable: number[] = [];
  complete = 0;
  used = 0;
  /** A step of a checkpoint in so many is its last. */
  readonly failsOneIn: number;
  readonly rotation: Rotation;
  /** Rotated segments that had a durable end, while rotation was always on. */
  readonly kept = new Set<string>();
  rotated = 0;

  constructor(seed: number, rotation: Rotation) {
    this.rotation = rotation;
    this.world = new VirtualWorld({ seed });
    this.prng = new Prng(seed, "keeper life");
    this.failsOneIn = [3, 10, 100][seed % 3]!;
    this.host = this.world.host("machine");
    this.host.disk.put(`${FOLDER}/LOCK`, "");
    this.process = this.host.startProcess(() => {});
  }

  async open(): Promise<void> {
    const rotates = this.rotation === "now_and_then" ? this.prng.chance(2) : this.rotation === "on";
    const onRotation = (step: "begun" | "durable", path: string) => {
      if (step === "begun") this.rotated++;
      else if (this.rotation === "on") this.kept.add(path);
    };
    this.keeper = await this.world.drive(openKeeper(this.process.runtime, { ...SMALL, rotates, onRotation }));
    const { epochs } = this.keeper.facts();
    for (const epoch of this.durable) {
      if (epoch >= this.complete) assert.ok(epochs.includes(epoch), `${epoch} was durable, and there are ${epochs}`);
    }
    for (const epoch of epochs) assert.ok(this.cuts.has(epoch), `${epoch} was never begun`);
    await this.restore(this.complete > 0 || epochs.length === 0 ? this.complete : 0);
  }

  /** @param epoch Everything after it is gone then. */
  async restore(epoch: number): Promise<void> {
    this.flow = new TestFlow(STAGES);
    const { entries } = await this.world.drive(this.keeper!.restore(epoch, this.flow.dataflow));
    assert.deepEqual(this.content(), this.cuts.get(epoch), `epoch ${epoch}`);
    assert.equal(entries, this.content()[0]!.size + this.content()[1]!.size);
    this.durable = this.durable.filter((durable) => durable <= epoch);
    this.complete = Math.min(this.complete, epoch);
  }

  content(): Content {
    return STAGES.map((_, stage) => this.flow.all(stage));
  }

  touch(count: number): void {
    for (let i = 0; i < count; i++) {
      const key = `key ${this.prng.int(KEYS)}`;
      this.flow.set(key, this.prng.chance(6) ? null : this.prng.u32(), this.prng.chance(3) ? 1 : 0);
    }
  }

  /** Begins a checkpoint; how far it comes is drawn. */
  async checkpoint(): Promise<void> {
    const keeper = this.keeper!;
    const epoch = ++this.used;
    if (this.rotation !== "off" && this.prng.chance(3)) keeper.rotate();
    this.touch(this.prng.int(this.prng.chance(3) ? 60 : 6));
    this.cuts.set(epoch, this.content());
    keeper.freeze(epoch);
    for (let done = false; !done; ) {
      if (this.prng.chance(this.failsOneIn * 2)) return;
      done = keeper.slice(0);
      // What an earlier epoch still had in the queue becomes durable, or this one's beginning gets to the disk.
      if (this.prng.chance(4)) await this.world.runFor(this.prng.int(4));
      this.touch(this.prng.int(8));
    }
    if (this.prng.chance(this.failsOneIn)) return;
    const ended = keeper.end(epoch, 1, { epoch });
    if (this.prng.chance(this.failsOneIn)) {
      // It takes longer than anybody wants to wait; whether it becomes durable is not known.
      ended.catch(() => {});
      return;
    }
    await this.world.drive(ended);
    this.durable.push(epoch);
    if (this.prng.chance(4)) return;
    keeper.completed(epoch);
    this.complete = epoch;
    this.durable = this.durable.filter((durable) => durable >= epoch);
  }

  async step(): Promise<void> {
    switch (this.prng.int(12)) {
      case 0:
        // A later end that nobody decided may be there as well, but everyone returns to the last that exists.
        await this.restore(this.complete);
        break;
      case 1:
        this.process.kill();
        this.process = this.host.startProcess(() => {});
        await this.open();
        break;
      case 2:
        await this.world.runUntil(() => this.prng.chance(5), 50);
        this.host.powerLoss();
        this.host.powerOn();
        this.process = this.host.startProcess(() => {});
        await this.open();
        break;
      case 3:
        await this.world.drive(this.keeper!.close());
        await this.open();
        break;
      default:
        await this.checkpoint();
    }
    const there = new Set(this.host.disk.paths());
    for (const path of this.kept) assert.ok(there.has(path), `${path} has gone`);
  }
}

test("StateKeeper has every epoch that was durable, and what it was, whatever happens to its process and its machine", async () => {
  let folders = 0;
  for (let seed = 0; seed < SEEDS; seed++) {
    const life = new Life(seed, "off");
    try {
      await life.open();
      for (let step = 0; step < 60; step++) await life.step();
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
    folders += life.host.disk.paths().filter((path) => /segment-0{15}1$/.test(path)).length;
  }
  assert.ok(folders < SEEDS / 2, `rounds end: ${folders} of ${SEEDS} folders still have their first segment`);
});

test("StateKeeper with rotation has every epoch that was durable too, and no file of its log ever goes", async () => {
  let rotated = 0;
  for (let seed = 0; seed < SEEDS / 2; seed++) {
    const life = new Life(seed, "on");
    try {
      await life.open();
      for (let step = 0; step < 60; step++) await life.step();
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
    rotated += life.rotated;
    assert.equal(life.host.disk.paths().filter((path) => path.includes("/state/segment")).length, 0);
  }
  assert.ok(rotated > SEEDS * 4, `${rotated} files`);
});

test("StateKeeper goes on whether rotation is on or off from one start to the next", async () => {
  for (let seed = 0; seed < SEEDS / 2; seed++) {
    const life = new Life(seed, "now_and_then");
    try {
      await life.open();
      for (let step = 0; step < 60; step++) await life.step();
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});
