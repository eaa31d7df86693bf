import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../../../src/base/prng.ts";
import { Stop, type StopEvent, type StopPeers } from "../../../src/protocol/stop/stop.ts";
import type { ControlMessage, DrainReport } from "../../../src/wire/control.ts";

const STOP_MS = 8_000;
const TICK_MS = 250;

/** Of one process: how it goes on, and what came of it. */
class Process {
  readonly machine: Stop;
  alive = true;
  /** It was killed, or left without having finished. */
  gone = false;
  /** `stop` does not reach it. */
  deaf = false;
  /** It was stopped for a while. */
  slowed = false;
  /** Its events wait until then. */
  slowUntilMs = 0;
  /** Its own. */
  report: DrainReport | undefined = undefined;
  /** It takes no event any more, and nobody is told. */
  hung = false;
  /** How long it needs to drain; the driver cuts it off at what the machine allows. */
  drainMs = 100;
  involvedMs: number | null = null;
  drains = 0;
  coordinated = false;
  finished: { readonly atMs: number; readonly reports: readonly DrainReport[]; readonly files: string } | null = null;
  /** What its disk holds of the cluster: all, all with the mark that the initializer may decide, nothing. */
  disk: "formed" | "stopping" | "gone" = "formed";
  /** False: a full disk, on which nothing can be decided. */
  hasRoom = true;
  /** What was on its way to the disk is there, though the process died. */
  landsWhenDead = false;
  /** How long the disk takes. */
  diskMs = 0;
  readonly linked = new Set<string>();
  /** The last checkpoint whose output is visible. */
  settled = 0;
  /** It never lost a connection, and had one to everybody from the start. */
  steady = true;

  constructor(
    readonly name: string,
    checkpoints: boolean,
  ) {
    this.machine = new Stop(name, STOP_MS, checkpoints);
  }
}

/**
 * A cluster of nothing but stop machines. Links keep order and what was not delivered, as the control channel does between
 * two living processes.
 */
class World {
  now = 0;
  readonly processes = new Map<string, Process>();
  readonly transcript: string[] = [];
  readonly #events: { at: number; run: () => void }[] = [];
  readonly #links = new Map<string, { readonly held: ControlMessage[]; lastMs: number }>();
  readonly #latency: () => number;

  /** How long the last checkpoint takes, and how long a worker then needs to make its output visible. */
  checkpointMs = 50;
  settleMs: (name: string) => number = () => 10;
  #epoch = 0;

  constructor(names: readonly string[], latency: () => number = () => 1, checkpoints = false) {
    this.#latency = latency;
    for (const name of names) this.processes.set(name, new Process(name, checkpoints));
    for (const a of names) for (const b of names) if (a !== b) this.process(a).linked.add(b);
    for (const name of names) this.#tick(name, TICK_MS);
  }

  process(name: string): Process {
    return this.processes.get(name)!;
  }

  at(at: number, run: () => void): void {
    this.#events.push({ at, run });
  }

  run(untilMs = 60_000): this {
    for (;;) {
      const next = this.#events.reduce<{ at: number; run: () => void } | null>(
        (first, event) => (first === null || event.at < first.at ? event : first),
        null,
      );
      if (next === null || next.at > untilMs) return this;
      this.#events.splice(this.#events.indexOf(next), 1);
      this.now = Math.max(this.now, next.at);
      next.run();
      if ([...this.processes.values()].every(({ alive }) => !alive)) return this;
    }
  }

  request(name: string, reason = "SIGTERM", keep = false): void {
    this.#handle(name, { kind: "requested", reason, keep, peers: this.#peers(name) });
  }

  /** Both ends notice. */
  cut(a: string, b: string): void {
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const process = this.process(one);
      process.steady = false;
      if (process.linked.delete(other)) this.#handle(one, { kind: "peer_gone", peer: other, left: false });
    }
  }

  join(a: string, b: string): void {
    if (this.process(a).linked.has(b) || !this.process(a).alive || !this.process(b).alive) return;
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      this.process(one).linked.add(other);
      this.#handle(one, { kind: "peer_connected", peer: other });
    }
    this.#flow(a, b);
    this.#flow(b, a);
  }

  kill(name: string): void {
    this.#vanish(name, false);
  }

  /** It exists if everybody is there all the while, in the process that has drained. */
  #checkpoint(name: string): void {
    const epoch = ++this.#epoch;
    const others = [...this.processes.values()].filter((process) => process.name !== name);
    const missing = () => others.find((other) => !other.alive || other.hung || !other.linked.has(name));
    const lost = missing();
    this.at(this.now + this.checkpointMs, () => {
      const missed = lost ?? missing();
      if (missed !== undefined) {
        this.#handle(name, { kind: "checkpointed", epoch: 0, reason: `worker ${missed.name} is lost` });
        return;
      }
      for (const process of this.processes.values()) {
        this.at(this.now + this.#latency() + this.settleMs(process.name), () => {
          if (process.alive) process.settled = epoch;
          this.#handle(process.name, { kind: "settled", epoch });
        });
      }
      this.#handle(name, { kind: "checkpointed", epoch, reason: "" });
    });
  }

  /** As at a second signal. */
  leave(name: string): void {
    this.#vanish(name, true);
  }

  /** Stops a process for a while; its events come late. */
  slow(name: string, untilMs: number): void {
    this.process(name).slowed = true;
    this.process(name).slowUntilMs = untilMs;
  }

  #vanish(name: string, left: boolean): void {
    const process = this.process(name);
    if (!process.alive) return;
    process.gone = true;
    process.steady = false;
    this.#end(name, left);
  }

  hang(name: string): void {
    const process = this.process(name);
    process.hung = true;
    process.steady = false;
    this.at(this.now + 5_000, () => {
      for (const other of this.processes.keys()) if (process.linked.has(other)) this.cut(name, other);
    });
  }

  #end(name: string, left: boolean): void {
    const process = this.process(name);
    process.alive = false;
    for (const other of process.linked) {
      const { lastMs } = this.#link(name, other);
      // Behind everything that it said.
      this.at(Math.max(lastMs, this.now + this.#latency()), () => {
        if (!this.process(other).linked.delete(name)) return;
        if (!left) this.process(other).steady = false;
        this.#handle(other, { kind: "peer_gone", peer: name, left });
      });
    }
    if (!left) process.steady = false;
  }

  #peers(name: string): StopPeers {
    const { linked } = this.process(name);
    return {
      connected: [...linked],
      absent: [...this.processes.keys()].filter((other) => other !== name && !linked.has(other)),
    };
  }

  #tick(name: string, at: number): void {
    this.at(at, () => {
      const process = this.process(name);
      if (!process.alive) return;
      this.#handle(name, { kind: "tick" });
      if (this.now < 120_000) this.#tick(name, this.now + TICK_MS);
    });
  }

  /** It may be durable before that is known, also for a process that dies meanwhile. */
  #write(process: Process, disk: Process["disk"], done: () => void): void {
    this.at(this.now + process.diskMs / 2, () => {
      if (!process.alive && !process.landsWhenDead) return;
      if (disk !== "gone" || process.hasRoom) process.disk = disk;
    });
    this.at(this.now + process.diskMs, done);
  }

  #link(from: string, to: string): { readonly held: ControlMessage[]; lastMs: number } {
    const key = `${from}>${to}`;
    let link = this.#links.get(key);
    if (link === undefined) {
      link = { held: [], lastMs: 0 };
      this.#links.set(key, link);
    }
    return link;
  }

  #flow(from: string, to: string): void {
    const link = this.#link(from, to);
    for (let i = 0; i < link.held.length; i++) this.#deliverLater(from, to);
  }

  #deliverLater(from: string, to: string): void {
    const link = this.#link(from, to);
    link.lastMs = Math.max(link.lastMs, this.now + this.#latency());
    this.at(link.lastMs, () => {
      // What a dying process said still arrives; what a lost connection held back comes with the next one.
      if (!this.process(to).linked.has(from)) return;
      const message = link.held.shift();
      if (message === undefined) return;
      this.#handle(to, { kind: "received", from, message, peers: this.#peers(to) });
    });
  }

  #handle(name: string, event: StopEvent): void {
    const process = this.process(name);
    if (!process.alive || process.hung || (process.deaf && event.kind === "received")) return;
    if (this.now < process.slowUntilMs) {
      this.at(process.slowUntilMs, () => this.#handle(name, event));
      return;
    }
    const effects = process.machine.handle(event, this.now);
    if (process.machine.stopping) process.involvedMs ??= this.now;
    for (const effect of effects) {
      assert.equal(process.finished, null, `${name}: an effect behind finish`);
      const at = `${this.now.toString().padStart(5)} ${name}`;
      switch (effect.kind) {
        case "send": {
          this.transcript.push(`${at} -> ${effect.to}: ${show(effect.message)}`);
          process.coordinated ||= effect.message.kind === "stop";
          this.#link(name, effect.to).held.push(effect.message);
          if (process.linked.has(effect.to)) this.#deliverLater(name, effect.to);
          break;
        }
        case "begin_drain": {
          this.transcript.push(`${at} drains within ${effect.withinMs}`);
          process.drains++;
          assert.equal(process.drains, 1, `${name}: drains twice`);
          const report: DrainReport =
            process.drainMs <= effect.withinMs
              ? { worker: name, complete: true, leftBehind: "" }
              : { worker: name, complete: false, leftBehind: "3 records" };
          process.report = report;
          this.at(this.now + Math.min(process.drainMs, effect.withinMs), () =>
            this.#handle(name, { kind: "drained", report }),
          );
          break;
        }
        case "prepare":
          this.#write(process, "stopping", () => this.#handle(name, { kind: "prepared" }));
          break;
        case "last_checkpoint":
          this.transcript.push(`${at} takes a last checkpoint`);
          this.#checkpoint(name);
          break;
        case "decide":
          this.transcript.push(`${at} decides`);
          for (const { settled } of this.processes.values()) assert.equal(settled, this.#epoch, "S6");
          this.#write(process, "gone", () => this.#handle(name, { kind: "decided", durable: process.hasRoom }));
          break;
        case "finish":
          this.transcript.push(`${at} finishes, ${effect.files}: ${effect.reports.map(showReport).join(", ")}`);
          process.finished = { atMs: this.now, reports: effect.reports, files: effect.files };
          if (effect.files === "remove") process.disk = "gone";
          if (effect.files === "keep" || effect.files === "suspend") process.disk = "formed";
          this.#end(name, true);
      }
    }
  }
}

function show(message: ControlMessage): string {
  switch (message.kind) {
    case "stop":
      return `stop within ${message.deadlineMs}`;
    case "drained":
      return `drained ${showReport(message)}`;
    case "exit":
      return `exit${message.remove ? ", remove" : message.suspended ? ", suspend" : ""}: ${message.reports.map(showReport).join(", ")}`;
    default:
      return message.kind;
  }
}

function showReport({ worker, complete, leftBehind }: DrainReport): string {
  return complete ? `${worker} ok` : `${worker} (${leftBehind})`;
}

/** The initializer's first. */
function disks(world: World): string[] {
  return [...world.processes.values()].map(({ disk }) => disk);
}

function story(world: World): string {
  return `\n${world.transcript.join("\n")}\n`;
}

const I = "initializer";

test("Stop: the initializer is asked, tells all, and dismisses them when all have drained", () => {
  const world = new World([I, "w1"]);
  world.process("w1").drainMs = 300;
  world.at(10, () => world.request(I));
  world.at(20, () => world.request(I, "a second time"));
  assert.equal(
    story(world.run()),
    `
   10 initializer -> w1: stop within 8000
   10 initializer drains within 7000
   11 w1 drains within 7000
  311 w1 -> initializer: drained w1 ok
  312 initializer decides
  312 initializer -> w1: exit, remove: initializer ok, w1 ok
  312 initializer finishes, remove: initializer ok, w1 ok
  313 w1 finishes, remove: initializer ok, w1 ok
`,
  );
});

test("Stop: a worker is asked and asks the initializer; being asked again meanwhile changes nothing", () => {
  const world = new World([I, "w1", "w2"]);
  world.at(10, () => world.request("w1"));
  world.at(10, () => world.request("w2"));
  assert.equal(
    story(world.run()),
    `
   10 w1 -> initializer: stop_requested
   10 w2 -> initializer: stop_requested
   11 initializer -> w1: stop within 8000
   11 initializer -> w2: stop within 8000
   11 initializer drains within 7000
   12 w1 drains within 7000
   12 w2 drains within 7000
  112 w1 -> initializer: drained w1 ok
  112 w2 -> initializer: drained w2 ok
  113 initializer decides
  113 initializer -> w1: exit, remove: initializer ok, w1 ok, w2 ok
  113 initializer -> w2: exit, remove: initializer ok, w1 ok, w2 ok
  113 initializer finishes, remove: initializer ok, w1 ok, w2 ok
  114 w1 finishes, remove: initializer ok, w1 ok, w2 ok
  114 w2 finishes, remove: initializer ok, w1 ok, w2 ok
`,
  );
});

test("Stop: while the initializer is away the worker that was asked coordinates, and names who keeps its files", () => {
  const world = new World([I, "w1", "w2"]);
  world.kill(I);
  world.at(10, () => world.request("w1"));
  assert.equal(
    story(world.run()),
    `
   10 w1 -> w2: stop within 8000
   10 w1 drains within 7000
   11 w2 drains within 7000
  111 w2 -> w1: drained w2 ok
  112 w1 -> w2: exit: initializer (not reachable; all files stay), w1 ok, w2 ok
  112 w1 finishes, undecided: initializer (not reachable; all files stay), w1 ok, w2 ok
  113 w2 finishes, undecided: initializer (not reachable; all files stay), w1 ok, w2 ok
`,
  );
});

test("Stop: an initializer that is lost while it is asked, or another worker then, is not waited for", () => {
  const world = new World([I, "w1", "w2"], () => 50);
  world.at(10, () => world.request("w1"));
  world.at(20, () => world.kill("w2"));
  world.at(30, () => world.kill(I));
  assert.equal(
    story(world.run()),
    `
   10 w1 -> initializer: stop_requested
   80 w1 drains within 7000
  180 w1 finishes, undecided: initializer (not reachable; all files stay), w1 ok, w2 (not reachable; all files stay)
`,
  );
});

test("Stop: a silent initializer is replaced after 1.5 s, and noticed as lost later", () => {
  const world = new World([I, "w1"]);
  world.hang(I);
  world.at(10, () => world.request("w1"));
  assert.equal(
    story(world.run()),
    `
   10 w1 -> initializer: stop_requested
 1750 w1 -> initializer: stop within 8000
 1750 w1 drains within 7000
 5000 w1 finishes, undecided: initializer (lost during the stop; all files stay), w1 ok
`,
  );
});

test("Stop: workers that lose their coordinator leave when they have drained", () => {
  const world = new World([I, "w1", "w2"]);
  world.process("w1").drainMs = 50;
  world.process("w2").drainMs = 500;
  world.process(I).drainMs = 1_000;
  world.at(10, () => world.request(I));
  world.at(200, () => world.kill(I));
  assert.equal(
    story(world.run()),
    `
   10 initializer -> w1: stop within 8000
   10 initializer -> w2: stop within 8000
   10 initializer drains within 7000
   11 w1 drains within 7000
   11 w2 drains within 7000
   61 w1 -> initializer: drained w1 ok
  201 w1 finishes, undecided: w1 ok
  511 w2 finishes, undecided: w2 ok
`,
  );
});

test("Stop: a worker that is lost or leaves before it has reported is not waited for", () => {
  const world = new World([I, "w1", "w2"]);
  world.process("w1").drainMs = 3_000;
  world.process("w2").drainMs = 3_000;
  world.at(10, () => world.request(I));
  world.at(200, () => world.kill("w1"));
  world.at(300, () => world.leave("w2"));
  assert.equal(
    story(world.run()).split("\n").at(-2),
    "  301 initializer finishes, keep: initializer ok, w1 (lost during the stop; all files stay), " +
      "w2 (left before it had reported; all files stay)",
  );
});

test("Stop: at the deadline everybody leaves, and who did not answer is named", () => {
  const world = new World([I, "w1", "w2"]);
  world.process("w1").drainMs = 60_000;
  world.process("w2").deaf = true;
  world.at(10, () => world.request(I));
  assert.equal(
    story(world.run()),
    `
   10 initializer -> w1: stop within 8000
   10 initializer -> w2: stop within 8000
   10 initializer drains within 7000
   11 w1 drains within 7000
 7011 w1 -> initializer: drained w1 (3 records)
 8250 initializer -> w1: exit: initializer ok, w1 (3 records), w2 (no answer within 8000 ms; all files stay)
 8250 initializer -> w2: exit: initializer ok, w1 (3 records), w2 (no answer within 8000 ms; all files stay)
 8250 initializer finishes, keep: initializer ok, w1 (3 records), w2 (no answer within 8000 ms; all files stay)
 8251 w1 finishes, keep: initializer ok, w1 (3 records), w2 (no answer within 8000 ms; all files stay)
`,
  );
});

test("Stop: two coordinators get every report, their own included, and nobody waits for a deadline", () => {
  const world = new World([I, "w1", "w2"]);
  // The initializer wakes up when w1 has begun to coordinate.
  world.slow(I, 1_755);
  world.at(10, () => world.request("w1"));
  world.process(I).drainMs = 300;
  const lines = story(world.run()).split("\n");
  const everybody = "initializer ok, w1 ok, w2 ok";
  for (const name of [I, "w1", "w2"]) {
    assert.match(lines.find((line) => line.includes(`${name} finishes`)) ?? "", new RegExp(`: ${everybody}$`), name);
  }
  assert.ok(world.process(I).coordinated && world.process("w1").coordinated);
  assert.ok(world.now < 3_000, `it took ${world.now}`);
});

test("Stop: a coordinator that another one dismisses still waits for those that it told alone", () => {
  const world = new World([I, "w1", "w2"]);
  world.cut(I, "w2");
  world.slow(I, 1_755);
  world.process("w2").drainMs = 3_000;
  world.at(10, () => world.request("w1"));
  const lines = story(world.run())
    .split("\n")
    .filter((line) => line.includes("finishes"));
  assert.deepEqual(lines, [
    " 1855 initializer finishes, keep: initializer ok, w1 ok, w2 (not reachable; all files stay)",
    " 4752 w1 finishes, keep: initializer ok, w1 ok, w2 ok",
    " 4753 w2 finishes, undecided: initializer ok, w1 ok, w2 ok",
  ]);
});

test("Stop: who comes during a stop is told, and who comes back reports again", () => {
  const world = new World([I, "w1", "w2"]);
  world.cut(I, "w2");
  world.process(I).drainMs = 2_000;
  world.process("w1").drainMs = 200;
  world.at(10, () => world.request(I));
  world.at(500, () => world.join(I, "w2"));
  world.at(1_000, () => world.cut(I, "w1"));
  world.at(1_000, () => world.join(I, "w1"));
  assert.equal(
    story(world.run()),
    `
   10 initializer -> w1: stop within 8000
   10 initializer drains within 7000
   11 w1 drains within 7000
  211 w1 -> initializer: drained w1 ok
  500 initializer -> w2: stop within 7510
  501 w2 drains within 6510
  601 w2 -> initializer: drained w2 ok
 1000 w1 finishes, undecided: w1 ok
 2010 initializer decides
 2010 initializer -> w2: exit, remove: initializer ok, w1 ok, w2 ok
 2010 initializer finishes, remove: initializer ok, w1 ok, w2 ok
 2011 w2 finishes, remove: initializer ok, w1 ok, w2 ok
`,
  );
});

test("Stop: with checkpoints a last one is taken when all have drained, and the files go when its output is visible", () => {
  const world = new World([I, "w1"], () => 1, true);
  world.settleMs = (name) => (name === "w1" ? 200 : 0);
  world.at(10, () => world.request(I));
  assert.equal(
    story(world.run()),
    `
   10 initializer -> w1: stop within 8000
   10 initializer drains within 7000
   11 w1 drains within 7000
  111 w1 -> initializer: drained w1 ok
  112 initializer takes a last checkpoint
  363 w1 -> initializer: settled
  364 initializer decides
  364 initializer -> w1: exit, remove: initializer ok, w1 ok
  364 initializer finishes, remove: initializer ok, w1 ok
  365 w1 finishes, remove: initializer ok, w1 ok
`,
  );
});

test("Stop: with checkpoints all may be kept, for the next start: whoever is asked, and by whoever is told", () => {
  const world = new World([I, "w1", "w2"], () => 1, true);
  world.at(10, () => world.request("w2", "maintenance", true));
  world.run();
  assert.deepEqual(disks(world), ["formed", "formed", "formed"], story(world));
  for (const { finished } of world.processes.values()) assert.equal(finished?.files, "suspend", story(world));
  const twice = new World([I, "w1"], () => 1, true);
  twice.at(10, () => twice.request(I));
  twice.at(10, () => twice.request("w1", "maintenance", true));
  assert.deepEqual(disks(twice.run()), ["formed", "formed"], `who wants to keep them wins: ${story(twice)}`);
});

test("Stop: without the last checkpoint, or where its output does not become visible, all files stay, and why is said", () => {
  const lost = new World([I, "w1", "w2"], () => 1, true);
  lost.at(10, () => lost.request(I));
  lost.at(130, () => lost.kill("w2"));
  assert.deepEqual(disks(lost.run()), ["formed", "formed", "stopping"], story(lost));
  assert.match(story(lost), /finishes, keep: initializer \(no last checkpoint: worker w2 is lost; all files stay\)/);

  const slow = new World([I, "w1"], () => 1, true);
  slow.settleMs = () => 30_000;
  slow.at(10, () => slow.request(I));
  assert.deepEqual(disks(slow.run()), ["formed", "formed"], story(slow));
  assert.match(story(slow), /no last checkpoint: it did not complete within 8000 ms/);

  const alone = new World([I], () => 1, true);
  alone.at(10, () => alone.request(I));
  assert.deepEqual(disks(alone.run()), ["gone"], story(alone));
});

test("Stop: an initializer that dies behind its decision has decided, and who did not hear of it is prepared for that", () => {
  const world = new World([I, "w1", "w2"]);
  world.process(I).diskMs = 100;
  world.process(I).landsWhenDead = true;
  world.at(10, () => world.request(I));
  world.at(170, () => world.kill(I));
  assert.deepEqual(disks(world.run()), ["gone", "stopping", "stopping"], story(world));
});

test("Stop: on a full disk the initializer decides nothing, and says so", () => {
  const world = new World([I, "w1"]);
  world.process(I).hasRoom = false;
  world.at(10, () => world.request(I));
  assert.deepEqual(disks(world.run()), ["formed", "formed"], story(world));
});

test("Stop: a disk that stalls on the decision keeps nobody", () => {
  const world = new World([I, "w1"]);
  world.process(I).diskMs = 30_000;
  world.at(10, () => world.request(I));
  const finished = world.run().process(I).finished;
  assert.equal(finished?.files, "undecided");
  assert.ok(finished.atMs < 10_000, `it took ${finished.atMs}`);
});

test("Stop: whatever happens, everybody finds the cluster again or nobody does, in time, with the reports of all who were there", () => {
  let coordinators = 0;
  const outcomes = new Map<string, number>();
  for (let seed = 1; seed <= 3_000; seed++) {
    const prng = new Prng(seed, "stop");
    const names = [I, "w1", "w2", "w3"].slice(0, 1 + prng.int(4));
    const kept = new Prng(seed, "checkpoints");
    const world = new World(names, () => prng.between(0.1, prng.chance(20) ? 200 : 10), kept.chance(2));
    world.checkpointMs = kept.between(1, kept.chance(5) ? 9_000 : 300);
    world.settleMs = () => kept.between(0, kept.chance(10) ? 9_000 : 300);
    const any = () => names[prng.int(names.length)]!;
    const pair = (): [string, string] | null => {
      const [a, b] = [any(), any()];
      return a === b ? null : [a, b];
    };
    for (const name of names) {
      world.process(name).drainMs = prng.chance(4) ? prng.between(2_000, 9_000) : prng.between(250, 1_500);
    }
    const disk = new Prng(seed, "disk");
    const isSlow = disk.chance(2);
    for (const name of names) {
      world.process(name).diskMs = isSlow ? disk.between(0, 300) : 0;
      world.process(name).landsWhenDead = disk.chance(2);
      world.process(name).hasRoom = !disk.chance(10);
    }
    for (let cuts = prng.int(3); cuts > 0; cuts--) {
      const ends = pair();
      if (ends !== null) world.cut(...ends);
    }
    for (let requests = 1 + prng.int(3); requests > 0; requests--) {
      const at = prng.between(0, prng.chance(2) ? 50 : 3_000);
      const name = any();
      world.at(at, () => world.request(name));
    }
    for (let faults = prng.int(5); faults > 0; faults--) {
      const at = prng.between(0, 6_000);
      const fault = prng.int(6);
      const ends = pair();
      const name = any();
      world.at(at, () => {
        if (fault === 0) world.kill(name);
        else if (fault === 1) world.hang(name);
        else if (fault === 2) world.leave(name);
        else if (fault === 3) world.slow(name, world.now + 1_800);
        else if (ends === null) return;
        else if (fault === 4) world.cut(...ends);
        else world.join(...ends);
      });
    }
    world.run();
    const what = `seed ${seed}${story(world)}`;
    const [initializer, ...others] = disks(world);
    if (initializer === "gone") assert.ok(!others.includes("formed"), `${others} would be refused, ${what}`);
    else assert.ok(!others.includes("gone"), `${others} would be refused, ${what}`);
    const outcome = `${initializer} ${[...new Set(others)].sort().join(" ")}`;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    for (const process of world.processes.values()) {
      if (process.involvedMs === null || process.hung || process.gone) continue;
      assert.notEqual(process.finished, null, `${process.name} did not finish, ${what}`);
      const took = process.finished!.atMs - process.involvedMs;
      // A process that was stopped for a while sees its ticks late.
      const late = process.slowed ? 1_800 : 0;
      assert.ok(took <= STOP_MS + 1_500 + TICK_MS + late, `${process.name} took ${took}, ${what}`);
      if (!process.coordinated || !process.steady) continue;
      coordinators++;
      for (const other of world.processes.values()) {
        if (!other.steady || other.slowed || process.slowed) continue;
        const report = process.finished!.reports.find(({ worker }) => worker === other.name);
        if (report?.leftBehind.includes("no last checkpoint")) continue;
        assert.deepEqual(report, other.report, `${process.name} about ${other.name}, ${what}`);
      }
    }
  }
  assert.ok(coordinators > 500, `${coordinators} had all connections`);
  for (const outcome of [
    "gone gone",
    "gone gone stopping",
    "formed formed",
    "formed stopping",
    "formed formed stopping",
  ]) {
    assert.ok((outcomes.get(outcome) ?? 0) > 5, `${outcome}: ${JSON.stringify([...outcomes])}`);
  }
});
