import assert from "node:assert/strict";
import { test } from "node:test";
import { INITIALIZER, type WorkerName } from "../../../src/base/ids.ts";
import {
  type ClusterInformation,
  Membership,
  type MembershipEffect,
  type MembershipEvent,
} from "../../../src/protocol/membership/membership.ts";
import type { ControlMessage, MemberAddress } from "../../../src/wire/control.ts";

/** Clusters of nothing but machines: links that are cut and made anew, files that survive, processes that come and go. */
class World {
  readonly workers = new Map<WorkerName, Process>();
  readonly files = new Map<WorkerName, { state: "forming" | "formed"; cluster: ClusterInformation }>();
  readonly transcript: string[] = [];
  #ids = 0;
  readonly count: number;

  constructor(count: number) {
    this.count = count;
  }

  /** Where workers are that are not where they were. */
  readonly elsewhere = new Map<WorkerName, MemberAddress>();

  addressOf(name: WorkerName): MemberAddress {
    return this.elsewhere.get(name) ?? addressOf(name);
  }

  start(name: WorkerName): Process {
    const file = this.files.get(name);
    const cluster = file?.state === "formed" ? file.cluster : null;
    const process = new Process(this, name, `${++this.#ids}`.padStart(32, "0"));
    this.workers.set(name, process);
    process.handle({ kind: "started", cluster, self: this.addressOf(name) });
    return process;
  }

  kill(name: WorkerName): void {
    this.workers.delete(name);
    for (const other of this.workers.values()) other.lose(name);
  }

  /** Makes every connection that could be there, and delivers what waits, until nothing changes any more. */
  settle(): void {
    for (let round = 0; round < 1_000; round++) if (!this.step()) return;
    assert.fail("the cluster never settled");
  }

  step(): boolean {
    for (const a of this.workers.values()) {
      for (const b of this.workers.values()) {
        if (a === b) continue;
        if (!a.linked.has(b.name) && a.wants(b.name)) {
          const verdict = b.machine.admit(
            a.name,
            a.machine.cluster !== null,
            b.linked.has(a.name) ? this.addressOf(a.name).control : null,
          );
          if (verdict.kind === "refuse") continue;
          a.connect(b);
          b.connect(a);
          return true;
        }
      }
    }
    for (const process of this.workers.values()) {
      const job = process.jobs.shift();
      if (job !== undefined) {
        job();
        return true;
      }
    }
    return false;
  }
}

class Process {
  readonly machine: Membership;
  readonly linked = new Set<WorkerName>();
  readonly known = new Map<WorkerName, Process>();
  readonly jobs: (() => void)[] = [];
  readonly outbox = new Map<WorkerName, ControlMessage[]>();
  readonly world: World;
  readonly name: WorkerName;

  constructor(world: World, name: WorkerName, clusterId: string) {
    this.world = world;
    this.name = name;
    this.machine = new Membership({
      role: name === INITIALIZER ? "initializer" : "worker",
      name,
      workerCount: world.count,
      keyGroupCount: 16,
      newClusterId: clusterId,
    });
  }

  wants(peer: WorkerName): boolean {
    if (peer === INITIALIZER) return true;
    return this.machine.cluster?.members.some((member) => member.name === peer) ?? false;
  }

  connect(peer: Process): void {
    this.linked.add(peer.name);
    const fresh = this.known.get(peer.name) !== peer;
    this.known.set(peer.name, peer);
    if (fresh) this.outbox.delete(peer.name);
    for (const channel of ["control", "data"] as const) {
      this.handle({ kind: "connected", channel, peer: this.world.addressOf(peer.name), newIncarnation: fresh });
    }
    for (const message of this.outbox.get(peer.name) ?? []) this.deliver(peer.name, message);
    this.outbox.delete(peer.name);
  }

  lose(peer: WorkerName): void {
    if (!this.linked.delete(peer)) return;
    for (const channel of ["control", "data"] as const) this.handle({ kind: "lost", channel, peer });
  }

  handle(event: MembershipEvent): void {
    for (const effect of this.machine.handle(event)) this.perform(effect);
  }

  perform(effect: MembershipEffect): void {
    switch (effect.kind) {
      case "send":
        this.world.transcript.push(`${this.name} -> ${effect.to}: ${effect.message.kind}`);
        if (this.linked.has(effect.to)) this.deliver(effect.to, effect.message);
        else this.outbox.set(effect.to, [...(this.outbox.get(effect.to) ?? []), effect.message]);
        return;
      case "save":
        this.jobs.push(() => {
          this.world.files.set(this.name, { state: effect.state, cluster: effect.cluster });
          this.handle({ kind: "saved", state: effect.state });
        });
        return;
      case "ready":
        this.jobs.push(() => this.handle({ kind: "released" }));
        return;
      case "reached":
        this.world.transcript.push(`${this.name}: phase ${effect.phase}`);
        if (effect.phase === 2) this.jobs.push(() => this.handle({ kind: "sinks_connected" }));
        return;
      default:
        return;
    }
  }

  deliver(to: WorkerName, message: ControlMessage): void {
    const target = this.world.workers.get(to);
    target?.jobs.push(() => {
      if (this.world.workers.get(this.name) === this) target.handle({ kind: "received", from: this.name, message });
    });
  }
}

function addressOf(name: WorkerName): MemberAddress {
  return { name, control: { host: name, port: 1 }, data: { host: name, port: 2 } };
}

function namesOf(count: number): WorkerName[] {
  return [INITIALIZER, ...Array.from({ length: count - 1 }, (_, i) => `w${i + 1}`)];
}

function assertWorking(world: World): void {
  for (const name of namesOf(world.count))
    assert.equal(world.workers.get(name)?.machine.phase, 4, `${name} works:\n${world.transcript.join("\n")}`);
}

test("a cluster of one forms and works without asking anybody", () => {
  const world = new World(1);
  world.start(INITIALIZER);
  world.settle();
  assertWorking(world);
  assert.equal(world.files.get(INITIALIZER)?.state, "formed");
});

test("two workers form a cluster, step by step", () => {
  const world = new World(2);
  world.start(INITIALIZER);
  world.start("w1");
  world.settle();
  assertWorking(world);
  assert.deepEqual(
    world.transcript.filter((line) => !line.includes("phase_reached")),
    [
      "initializer -> w1: form",
      "w1 -> initializer: form_saved",
      "initializer: phase 1",
      "initializer -> w1: formed",
      "initializer: phase 2",
      "initializer: phase 3",
      "w1: phase 1",
      "w1: phase 2",
      "w1: phase 3",
      "initializer: phase 4",
      "initializer -> w1: work",
      "w1: phase 4",
    ],
  );
});

test("nobody is formed before everybody's copy is durable", () => {
  const world = new World(3);
  for (const name of namesOf(3)) world.start(name);
  let formedSeen = 0;
  while (world.step()) {
    const formed = [...world.files.values()].filter((file) => file.state === "formed").length;
    if (formed > 0) {
      formedSeen++;
      assert.equal(world.files.size, 3, "a copy was formed while another was missing");
    }
  }
  assert.ok(formedSeen > 0);
  assertWorking(world);
});

test("the order of starts does not matter", () => {
  for (const order of [
    ["w2", "w1", INITIALIZER],
    ["w1", INITIALIZER, "w2"],
    [INITIALIZER, "w2", "w1"],
  ]) {
    const world = new World(3);
    for (const name of order) {
      world.start(name);
      world.settle();
    }
    assertWorking(world);
    assert.deepEqual(world.workers.get("w1")!.machine.memberNames, [INITIALIZER, "w1", "w2"]);
  }
});

test("a cluster works again after any set of workers died at any step of its start and came back", () => {
  // Every step of forming three workers x every set of the dead.
  for (let steps = 0; steps < 60; steps++) {
    for (let dead = 1; dead < 8; dead++) {
      const world = new World(3);
      const names = namesOf(3);
      for (const name of names) world.start(name);
      for (let i = 0; i < steps; i++) world.step();
      const killed = names.filter((_, i) => (dead & (1 << i)) !== 0);
      for (const name of killed) world.kill(name);
      // What the survivors have in memory of a cluster whose initializer begins anew is given up by the driver.
      const initializerBeginsAnew = killed.includes(INITIALIZER) && world.files.get(INITIALIZER)?.state !== "formed";
      if (initializerBeginsAnew)
        for (const process of world.workers.values()) process.handle({ kind: "forming_abandoned" });
      world.transcript.push(`--- after ${steps} steps, killed ${killed.join(" ")}`);
      for (const name of killed.reverse()) world.start(name);
      world.settle();
      assertWorking(world);
    }
  }
});

test("one worker too many and a taken name are refused with both names", () => {
  const world = new World(2);
  world.start(INITIALIZER);
  world.start("w1");
  world.settle();
  const machine = world.workers.get(INITIALIZER)!.machine;
  const surplus = machine.admit("w2", false, null);
  assert.ok(surplus.kind === "refuse" && surplus.code === "cluster_full");
  assert.match(surplus.sentence, /initializer, w1.*"w2" is one too many/);
  const taken = machine.admit("w1", false, { host: "10.0.0.1", port: 7 });
  assert.ok(taken.kind === "refuse" && taken.code === "name_taken");
  assert.match(taken.sentence, /10\.0\.0\.1:7/);
  const withoutFiles = machine.admit("w1", false, null);
  assert.ok(withoutFiles.kind === "refuse" && withoutFiles.code === "name_taken");
  assert.equal(machine.admit("w1", true, null).kind, "welcome");
  assert.equal(machine.admit(INITIALIZER, true, null).kind, "refuse");
});

test("who waits says for whom", () => {
  const world = new World(3);
  const initializer = world.start(INITIALIZER);
  assert.equal(initializer.machine.waitingFor(), "waiting for 2 of 3 workers; have: initializer");
  world.start("w1");
  world.settle();
  assert.equal(initializer.machine.waitingFor(), "waiting for 1 of 3 workers; have: initializer, w1");
  world.kill("w1");
  assert.equal(initializer.machine.waitingFor(), "waiting for 2 of 3 workers; have: initializer");
});

test("a worker that came back elsewhere is announced to the others, and they save it", () => {
  const world = new World(3);
  for (const name of namesOf(3)) world.start(name);
  world.settle();
  const moved: MemberAddress = { name: "w1", control: { host: "w1", port: 91 }, data: { host: "w1", port: 92 } };
  const initializer = world.workers.get(INITIALIZER)!;
  initializer.handle({ kind: "connected", channel: "control", peer: moved, newIncarnation: false });
  world.settle();
  const told = world.files.get("w2")!.cluster.members.find((member) => member.name === "w1");
  assert.deepEqual(told, moved);
});

test("a worker that died at any step of the start and is back elsewhere is known there to everybody", () => {
  for (let steps = 0; steps < 60; steps++) comesBackElsewhere(steps);
});

function comesBackElsewhere(steps: number): void {
  const world = new World(3);
  for (const name of namesOf(3)) world.start(name);
  for (let i = 0; i < steps; i++) world.step();
  const moved: MemberAddress = { name: "w2", control: { host: "w2", port: 91 }, data: { host: "w2", port: 92 } };
  world.kill("w2");
  world.elsewhere.set("w2", moved);
  world.start("w2");
  world.settle();
  assertWorking(world);
  for (const name of [INITIALIZER, "w1"]) {
    const told = world.files.get(name)!.cluster.members.find((member) => member.name === "w2");
    assert.deepEqual(told, moved, `${name} after ${steps} steps`);
    assert.equal(world.files.get(name)!.state, "formed");
  }
}
