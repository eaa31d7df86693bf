// Two and three workers on the virtual network: what their links promise while connections come and go.

import assert from "node:assert/strict";
import { test } from "node:test";
import { assertNoGap, assertWhole, at, CONTROL_PORT, DATA_PORT } from "./channel_world.ts";
import { VirtualWorkers } from "./virtual_workers.ts";

const PAIR = ["initializer", "w1"] as const;
const THREE = ["initializer", "w1", "w2"] as const;

test("two workers that dial each other at once end with one control connection, and both know of it", async () => {
  let replaced = 0;
  for (let seed = 1; seed <= 40; seed++) {
    const v = new VirtualWorkers({ seed });
    await v.startMesh(PAIR);
    for (const name of PAIR) v.act(name, (worker) => worker.say(name === "w1" ? "initializer" : "w1"));
    assert.ok(await v.world.runUntil(() => v.meshed(PAIR), 5_000), `seed ${seed}: connected`);
    await v.world.runFor(3_000);
    assert.ok(v.meshed(PAIR), `seed ${seed}: still connected`);
    const open = v.world.network.connections().filter((each) => each.port === CONTROL_PORT);
    assert.equal(open.length, 1, `seed ${seed}: ${JSON.stringify(open)}`);
    assertWhole(v.get("w1").controlGot.get("initializer.1"), 1, `seed ${seed}`);
    assertWhole(v.get("initializer").controlGot.get("w1.1"), 1, `seed ${seed}`);
    if (PAIR.some((name) => v.get(name).count(/^control/) > 1)) replaced++;
    v.assertAlive(PAIR);
  }
  assert.ok(replaced <= 4, `a connection was replaced in ${replaced} of 40 runs`);
});

test("links through cuts at any moment lose, double and reorder nothing", async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const v = new VirtualWorkers({ seed });
    const chance = v.world.stream("workload");
    await v.startMesh(THREE);
    const untilMs = v.world.now() + 4_000;
    while (v.world.now() < untilMs) {
      await v.world.runFor(chance.between(1, 30));
      for (const name of THREE) {
        v.act(name, (worker) => {
          for (const other of THREE) {
            if (other === name) continue;
            if (chance.chance(3)) worker.say(other);
            if (chance.chance(2)) worker.ship(other, Math.floor(chance.between(0, 3)), chance.between(8, 40_000));
          }
        });
      }
      if (chance.chance(8)) v.world.network.cut(() => chance.chance(3));
    }
    await v.world.runFor(20);
    assert.ok(
      await v.world.runUntil(
        () =>
          v.meshed(THREE) &&
          THREE.every((name) =>
            THREE.every(
              (other) =>
                name === other ||
                (v.get(name).control_.unacked(other).frames === 0 && v.get(name).data.unacked(other).frames === 0),
            ),
          ),
        10_000,
      ),
      `seed ${seed}: comes to rest`,
    );
    for (const name of THREE) {
      const worker = v.get(name);
      for (const other of THREE) {
        if (other === name) continue;
        const got = v.get(other);
        assertWhole(got.controlGot.get(`${name}.1`), worker.controlSent.get(other) ?? 0, `seed ${seed} control`);
        for (let exchange = 0; exchange < 3; exchange++) {
          const count = worker.dataSent.get(`${other}.${exchange}`) ?? 0;
          assertWhole(got.dataGot.get(`${name}.1.${exchange}`), count, `seed ${seed} data ${exchange}`);
        }
      }
      assert.equal(worker.control_.stats.protocolErrors + worker.data.stats.protocolErrors, 0);
    }
    v.assertAlive(THREE);
  }
});

test("a half-open peer is given up within the silence limit, and nothing is lost when the way is open again", async () => {
  for (const way of ["both", "forward", "back"] as const) {
    const v = new VirtualWorkers({ seed: 7 });
    await v.startMesh(PAIR);
    assert.ok(await v.mesh(PAIR));
    await v.world.runFor(2_000);
    v.world.network.partition("initializer", "w1", { way });
    const since = v.world.now();
    for (const name of PAIR) {
      v.act(name, (worker) => {
        const other = name === "w1" ? "initializer" : "w1";
        for (let i = 0; i < 5; i++) worker.say(other);
        for (let i = 0; i < 5; i++) worker.ship(other, 1, 30_000);
      });
    }
    const lost = () => PAIR.every((name) => v.get(name).count(/^control .* lost/) > 0);
    assert.ok(await v.world.runUntil(lost, 12_000), `${way}: both ends notice`);
    assert.ok(v.world.now() - since <= 11_500, `${way}: after ${v.world.now() - since} ms`);
    const first = PAIR.map((name) => v.get(name).events.find((event) => event.includes("lost")));
    assert.ok(
      first.some((event) => /silent for 5\d\d\d ms/.test(event!)),
      `${way}: ${first}`,
    );
    await v.world.runFor(3_000);
    v.world.network.heal();
    const rested = () =>
      v.meshed(PAIR) &&
      PAIR.every((name) => {
        const worker = v.get(name);
        return [...worker.data.status(), ...worker.control_.status()].every((link) => link.unackedFrames === 0);
      });
    assert.ok(await v.world.runUntil(rested, 10_000), `${way}: heals`);
    assertWhole(v.get("w1").controlGot.get("initializer.1"), 5, way);
    assertWhole(v.get("initializer").controlGot.get("w1.1"), 5, way);
    assertWhole(v.get("w1").dataGot.get("initializer.1.1"), 5, way);
    assertWhole(v.get("initializer").dataGot.get("w1.1.1"), 5, way);
    v.assertAlive(PAIR);
  }
});

test("quiet links stay up on heartbeats alone", async () => {
  const v = new VirtualWorkers({ seed: 3 });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  const before = PAIR.map((name) => v.get(name).events.length);
  await v.world.runFor(60_000);
  assert.deepEqual(
    PAIR.map((name) => v.get(name).events.length),
    before,
  );
  assert.ok(v.meshed(PAIR));
});

test("a worker that stood still does not take its own pause for the silence of its peers", async () => {
  const v = new VirtualWorkers({ seed: 4 });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  v.processes.get("w1")!.pause(4_000);
  await v.world.runFor(6_000);
  assert.equal(v.get("w1").count(/lost/), 0, "a pause shorter than the limit costs nothing");
  v.processes.get("w1")!.pause(8_000);
  await v.world.runFor(12_000);
  assert.equal(v.get("w1").count(/lost: silent/), 0, `${v.get("w1").events}`);
  assert.ok(v.get("initializer").count(/lost: silent/) > 0, "the others had to give it up");
  assert.ok(await v.mesh(PAIR));
  v.assertAlive(PAIR);
});

test("a reset is noticed at once, and the link is there again within a tenth of a second", async () => {
  const v = new VirtualWorkers({ seed: 5 });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  await v.world.runFor(1_000);
  const since = v.world.now();
  v.world.network.cut(() => true);
  assert.ok(await v.world.runUntil(() => !v.meshed(PAIR), 100));
  assert.ok(await v.world.runUntil(() => v.meshed(PAIR), 5_000));
  assert.ok(v.world.now() - since < 100, `after ${v.world.now() - since} ms`);
});

test("connections that lasted a while are made anew without a pause, however often they are cut", async () => {
  const v = new VirtualWorkers({ seed: 40 });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  for (let i = 0; i < 8; i++) {
    await v.world.runFor(1_500);
    v.world.network.cut(() => true);
    assert.ok(await v.world.runUntil(() => !v.meshed(PAIR), 100));
    assert.ok(await v.world.runUntil(() => v.meshed(PAIR), 100), `cut ${i}`);
  }
});

test("an attempt that was redirected has no effect, however late it succeeds", async () => {
  const v = new VirtualWorkers({ seed: 41 });
  await v.start("w1");
  await v.start("initializer", {}, (worker) => {
    v.world.network.partition("initializer", "w1");
    worker.data.connectTo("w1", at("w1", DATA_PORT));
  });
  await v.world.runFor(100);
  v.act("initializer", (worker) => worker.data.connectTo("w1", at("w1", DATA_PORT + 1)));
  await v.world.runFor(100);
  v.world.network.heal();
  await v.world.runFor(4_000);
  assert.equal(v.get("w1").count(/connected/), 0, "the old address was given up");
  v.act("initializer", (worker) => worker.data.connectTo("w1", at("w1", DATA_PORT)));
  assert.ok(await v.world.runUntil(() => v.get("w1").count(/data_in .* connected/) === 1, 1_000));
  v.assertAlive(PAIR);
});

test("a worker stops dialling a peer that came by itself, unless it is the designated dialler", async () => {
  const v = new VirtualWorkers({ seed: 42 });
  await v.start("initializer", {}, (worker) => worker.control_.dial("w1", at("initializer", 7_999)));
  await v.world.runFor(2_000);
  const tries = v.get("initializer").control_.stats.connectsFailed;
  assert.ok(tries > 3);
  await v.start("w1", {}, (worker) => worker.control_.dial("initializer", at("initializer", CONTROL_PORT)));
  assert.ok(await v.world.runUntil(() => v.get("initializer").control_.connectedTo("w1"), 1_000));
  const then = v.get("initializer").control_.stats.connectsFailed;
  await v.world.runFor(5_000);
  assert.equal(v.get("initializer").control_.stats.connectsFailed, then);
});

test("a second way to a worker that is connected already changes nothing but the address for next time", async () => {
  const v = new VirtualWorkers({ seed: 43 });
  await v.start("initializer");
  await v.start("w1", {}, (worker) => worker.control_.dial("initializer", at("initializer", CONTROL_PORT)));
  assert.ok(await v.world.runUntil(() => v.get("w1").control_.connectedTo("initializer"), 1_000));
  const conn = v.world.network.connections()[0]!.id;
  v.act("w1", (worker) => worker.control_.dial(null, at("initializer", CONTROL_PORT)));
  await v.world.runFor(1_000);
  assert.deepEqual(
    v.world.network.connections().map((each) => each.id),
    [conn],
  );
  assert.deepEqual(v.get("w1").events, ["control initializer connected new"]);
  assert.deepEqual(v.get("w1").refusals, []);
});

test("a peer that is away is dialled with growing pauses, and found when it comes", async () => {
  const v = new VirtualWorkers({ seed: 6 });
  v.host("w1");
  await v.start("initializer", {}, (worker) => worker.data.connectTo("w1", at("w1", DATA_PORT)));
  await v.world.runFor(20_000);
  const { connectsFailed } = v.get("initializer").data.stats;
  assert.ok(connectsFailed >= 20 && connectsFailed <= 50, `${connectsFailed} tries in 20 seconds`);
  v.act("initializer", (worker) => worker.ship("w1", 0, 100));
  await v.start("w1");
  assert.ok(await v.world.runUntil(() => v.get("w1").dataGot.size > 0, 1_200));
  assert.equal(v.get("initializer").logLines.length, 1, "said once");
});

test("a restarted worker supersedes its half-open predecessor, and gets what was not acknowledged", async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const v = new VirtualWorkers({ seed });
    await v.startMesh(PAIR);
    assert.ok(await v.mesh(PAIR));
    await v.world.runFor(seed * 37);
    v.act("initializer", (worker) => {
      for (let i = 0; i < 20; i++) worker.ship("w1", 0, 20_000);
      worker.say("w1");
    });
    v.act("w1", (worker) => worker.ship("initializer", 0, 20_000));
    await v.world.runFor(seed * 0.2);
    // Its machine goes without a word; on another start it is back, and the old connections were never closed.
    v.host("w1").powerLoss();
    await v.world.runFor(1_000);
    v.act("initializer", (worker) => {
      for (let i = 0; i < 5; i++) worker.ship("w1", 0, 20_000);
      worker.say("w1");
    });
    v.host("w1").powerOn();
    await v.start("w1", {}, (worker) => v.dialAll(worker, PAIR));
    v.act("w1", (worker) => {
      worker.say("initializer");
      worker.ship("initializer", 0, 100);
    });
    const rested = () =>
      v.meshed(PAIR) &&
      v.get("initializer").data.unacked("w1").frames === 0 &&
      v.get("initializer").control_.unacked("w1").frames === 0;
    assert.ok(await v.world.runUntil(rested, 10_000), `seed ${seed}`);
    await v.world.runFor(100);
    const got = v.get("w1").dataGot.get("initializer.1.0");
    assertNoGap(got, `seed ${seed}`);
    assert.equal(got!.at(-1), 25, `seed ${seed}: through the last`);
    assertNoGap(v.get("w1").controlGot.get("initializer.1"), `seed ${seed}`);
    assertWhole(v.get("initializer").controlGot.get("w1.2"), 1, `seed ${seed}`);
    assertWhole(v.get("initializer").dataGot.get("w1.2.0"), 1, `seed ${seed}`);
    assert.ok(v.get("initializer").count(/^control w1 superseded/) === 1, `${v.get("initializer").events}`);
    assert.ok(v.get("initializer").count(/^control w1 connected new/) === 2);
    assert.ok(v.get("initializer").data.hasCredit("w1", 0));
    v.assertAlive(PAIR);
  }
});

test("an older process of a worker is refused at both ends, and its successor notices nothing", async () => {
  const v = new VirtualWorkers({ seed: 8 });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  v.kill("w1");
  await v.start("w1", { startNumber: 5 }, (worker) => v.dialAll(worker, PAIR));
  assert.ok(await v.mesh(PAIR));
  const events = v.get("initializer").events.length;
  // The old one comes back to life on another machine.
  const successor = v.get("w1");
  v.host("elsewhere");
  await v.start("w1", { startNumber: 2, listenHost: "elsewhere" }, (worker) => v.dialAll(worker, PAIR));
  const zombie = v.get("w1");
  await v.world.runFor(2_000);
  assert.ok(zombie.refusals.some((each) => /^superseded of initializer by them: .*start 5 .*start 2$/.test(each)));
  assert.ok(v.get("initializer").refusals.every((each) => each.startsWith("superseded of w1 by us")));
  assert.equal(v.get("initializer").events.length, events, "nobody else notices");
  assert.ok(successor.control_.connectedTo("initializer"));
});

test("credit stops at the window, comes back with releases, and one exchange does not use up another's", async () => {
  const v = new VirtualWorkers({ seed: 9 });
  const limits = { exchangeCreditBytes: 100_000 };
  await v.startMesh(PAIR, { limits, holdBatches: true });
  assert.ok(await v.mesh(PAIR));
  v.act("initializer", (worker) => {
    for (let i = 0; i < 4; i++) worker.ship("w1", 1, 30_000);
  });
  await v.world.runFor(200);
  const sender = v.get("initializer");
  assert.deepEqual(sender.creditEvents, ["w1 1 used up"]);
  assert.equal(sender.data.hasCredit("w1", 1), false);
  assert.equal(sender.data.hasCredit("w1", 2), true);
  assert.equal(sender.data.unacked("w1").frames, 0, "acknowledged, not released");
  assert.equal(v.get("w1").held.length, 4, "the overrun arrived as well");
  v.act("w1", (worker) => worker.data.release("initializer", 1, worker.held.shift()!.byteCount));
  await v.world.runFor(50);
  assert.deepEqual(sender.creditEvents, ["w1 1 used up", "w1 1 usable"], "30,000 more than 120,000 - 100,000");
  // Limits survive a reconnect, also when they were lost with the old connection.
  v.act("w1", (worker) => worker.releaseHeld());
  v.world.network.cut(() => true);
  assert.ok(await v.mesh(PAIR));
  v.act("initializer", (worker) => worker.ship("w1", 1, 90_000));
  await v.world.runFor(100);
  assert.equal(sender.data.hasCredit("w1", 1), true);
});

test("credit that comes back is told in the turn in which it came, before its flush", async () => {
  const v = new VirtualWorkers({ seed: 44 });
  const limits = { exchangeCreditBytes: 10_000 };
  await v.startMesh(PAIR, { limits, holdBatches: true });
  assert.ok(await v.mesh(PAIR));
  const sender = v.get("initializer");
  let told = false;
  sender.creditChanged = (peer, exchange) => {
    told = sender.data.hasCredit(peer, exchange);
    // What the owner does about it is flushed with this turn.
    if (told) sender.ship("w1", 0, 100);
  };
  v.act("initializer", (worker) => worker.ship("w1", 0, 12_000));
  await v.world.runFor(20);
  v.act("w1", (worker) => worker.releaseHeld());
  await v.world.runFor(20);
  assert.ok(told);
  assertWhole(v.get("w1").dataGot.get("initializer.1.0"), 2, "the second left at once, not with the next event");
});

test("a link that nobody acknowledges has no credit beyond its limit, and gets it back", async () => {
  const v = new VirtualWorkers({ seed: 10 });
  v.host("w1");
  const limits = { linkUnackedBytes: 50_000, exchangeCreditBytes: 1_000_000 };
  await v.start("initializer", { limits }, (worker) => {
    worker.data.connectTo("w1", at("w1", DATA_PORT));
    worker.ship("w1", 0, 60_000);
  });
  await v.world.runFor(10);
  assert.deepEqual(v.get("initializer").creditEvents, ["w1 0 used up"]);
  await v.start("w1", { limits });
  assert.ok(await v.world.runUntil(() => v.get("initializer").creditEvents.at(-1) === "w1 0 usable", 3_000));
});

test("a batch of 16 MiB arrives, and one byte more is not taken from the sender", async () => {
  const v = new VirtualWorkers({ seed: 11 });
  await v.startMesh(PAIR);
  v.act("initializer", (worker) => {
    worker.ship("w1", 0, 16 << 20);
    worker.ship("w1", 0, 10);
    assert.throws(() => worker.ship("w1", 0, (16 << 20) + 1));
  });
  assert.ok(await v.world.runUntil(() => v.get("w1").dataGot.get("initializer.1.0")?.length === 2, 60_000));
});

test("end of input comes behind the batches before it", async () => {
  const v = new VirtualWorkers({ seed: 12 });
  await v.startMesh(PAIR);
  v.act("initializer", (worker) => {
    worker.ship("w1", 3, 50_000);
    worker.data.sendEnd("w1", 3);
  });
  assert.ok(await v.world.runUntil(() => v.get("w1").count(/^end of exchange 3 from initializer/) > 0, 5_000));
  assertWhole(v.get("w1").dataGot.get("initializer.1.3"), 1, "the batch was first");
});

test("payloads of an older generation are counted and dropped, and hold no credit", async () => {
  const v = new VirtualWorkers({ seed: 13 });
  const limits = { exchangeCreditBytes: 1_000 };
  await v.start("w1", { limits, holdBatches: true });
  await v.start("initializer", { limits });
  v.get("w1").identityNow = { ...v.get("w1").identityNow, generation: 2 };
  v.act("initializer", (worker) => {
    worker.data.connectTo("w1", at("w1", DATA_PORT));
    worker.ship("w1", 0, 2_000);
    worker.identityNow = { ...worker.identityNow, generation: 2 };
    worker.ship("w1", 0, 8);
  });
  assert.ok(await v.world.runUntil(() => v.get("w1").dataGot.size > 0, 5_000));
  assert.deepEqual(v.get("w1").dataGot.get("initializer.1.0"), [2]);
  assert.equal(v.get("w1").data.status()[0]!.counters.stragglersDropped, 1);
  await v.world.runFor(50);
  assert.ok(v.get("initializer").data.hasCredit("w1", 0));
});

test("a worker that leaves says so, after everything it had to say", async () => {
  const v = new VirtualWorkers({ seed: 14 });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  let done = 0;
  v.act("w1", (worker) => {
    for (let i = 0; i < 50; i++) worker.say("initializer");
    worker.ship("initializer", 0, 1 << 20);
    worker.control_.close(true, () => done++);
    worker.data.close(true, () => done++);
  });
  assert.ok(await v.world.runUntil(() => done === 2, 1_500));
  assertWhole(v.get("initializer").controlGot.get("w1.1"), 50, "all of it");
  assertWhole(v.get("initializer").dataGot.get("w1.1.0"), 1, "the batch too");
  assert.equal(v.get("initializer").count(/^control w1 left: this worker ends/), 1);
  assert.equal(v.get("initializer").count(/^control w1 lost: it left/), 1);
  const open = v.world.network.connections().length;
  assert.equal(open, 0, "nothing stays open");
  v.assertAlive(PAIR);
});

test("a worker that leaves waits a second for a peer that does not read, and no longer", async () => {
  const v = new VirtualWorkers({ seed: 15 });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  v.processes.get("initializer")!.pause(60_000);
  const since = v.world.now();
  let done = 0;
  v.act("w1", (worker) => {
    worker.ship("initializer", 0, 8 << 20);
    worker.control_.close(true, () => done++);
    worker.data.close(true, () => done++);
  });
  assert.ok(await v.world.runUntil(() => done === 2, 3_000));
  assert.ok(v.world.now() - since < 1_200);
});

test("a channel that is closed without goodbye is gone at once", async () => {
  const v = new VirtualWorkers({ seed: 16 });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  let done = 0;
  v.act("w1", (worker) => {
    worker.control_.close(false, () => done++);
    worker.data.close(false, () => done++);
    assert.equal(done, 2);
  });
  await v.world.runFor(50);
  assert.equal(v.get("initializer").count(/left/), 0);
  assert.equal(v.get("initializer").count(/^control w1 lost/), 1);
});

test("a worker that moved is found at its new address by whoever dials it", async () => {
  const v = new VirtualWorkers({ seed: 17 });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  v.kill("initializer");
  await v.world.runFor(500);
  await v.start("initializer", { controlPort: 7500, dataPort: 7501 }, (worker) => {
    worker.data.connectTo("w1", at("w1", DATA_PORT));
    // Not the designated dialler of this pair, but it came back and knows where the other is.
    worker.control_.dial("w1", at("w1", CONTROL_PORT));
  });
  assert.ok(await v.world.runUntil(() => v.get("initializer").control_.connectedTo("w1"), 2_000), "it dialled itself");
  assert.equal(v.get("w1").data.connectedTo("initializer"), false);
  v.act("w1", (worker) => {
    worker.control_.redirect("initializer", at("initializer", 7500));
    worker.data.connectTo("initializer", at("initializer", 7501));
  });
  assert.ok(await v.world.runUntil(() => v.meshed(PAIR), 2_000));
  // From now on the designated dialler dials again, at the new address.
  v.world.network.cut(() => true);
  assert.ok(await v.world.runUntil(() => !v.meshed(PAIR), 100));
  assert.ok(await v.world.runUntil(() => v.meshed(PAIR), 2_000));
  const control = v.world.network.connections().find((each) => each.port === 7500);
  assert.equal(control?.client, "w1");
});

test("an address where another worker listens is turned away, and disturbs that worker's link with us in nothing", async () => {
  const v = new VirtualWorkers({ seed: 18 });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  const events = PAIR.map((name) => v.get(name).events.length);
  v.act("w1", (worker) => {
    worker.control_.dial("w0", at("initializer", CONTROL_PORT));
    worker.data.connectTo("w0", at("initializer", DATA_PORT));
  });
  await v.world.runFor(5_000);
  assert.ok(v.get("w1").refusals.length >= 8, "said each time");
  assert.ok(v.get("w1").refusals.every((each) => /^name_differs of initializer by us/.test(each)));
  assert.deepEqual(
    PAIR.map((name) => v.get(name).events.length),
    events,
  );
});

test("the initializer is dialled without a name, and has one afterwards", async () => {
  const v = new VirtualWorkers({ seed: 19 });
  await v.start("initializer");
  await v.start("w1", {}, (worker) => {
    worker.control_.dial("initializer", at("initializer", 7999));
    worker.control_.dial(null, at("initializer", CONTROL_PORT));
    worker.say("initializer");
  });
  assert.ok(await v.world.runUntil(() => v.get("initializer").controlGot.has("w1.1"), 2_000));
  v.world.network.cut(() => true);
  assert.ok(await v.world.runUntil(() => !v.get("w1").control_.connectedTo("initializer"), 2_000));
  assert.ok(await v.world.runUntil(() => v.get("w1").control_.connectedTo("initializer"), 2_000), "dialled again");
  await v.world.runFor(2_000);
  assert.equal(v.get("w1").control_.status().length, 1);
});

test("what was meant for an earlier process can be given up before its successor hears it", async () => {
  const v = new VirtualWorkers({ seed: 20 });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  v.kill("w1");
  v.act("initializer", (worker) => {
    for (let i = 0; i < 3; i++) worker.say("w1");
    const told = worker.peerConnected.bind(worker);
    worker.peerConnected = (peer, link, info) => {
      told(peer, link, info);
      if (link === "control" && info.newIncarnation) worker.control_.discardUnacked(peer);
    };
  });
  await v.world.runFor(300);
  await v.start("w1", {}, (worker) => v.dialAll(worker, PAIR));
  assert.ok(await v.mesh(PAIR));
  v.act("initializer", (worker) => worker.say("w1"));
  assert.ok(await v.world.runUntil(() => v.get("w1").controlGot.size > 0, 1_000));
  assert.deepEqual(v.get("w1").controlGot.get("initializer.1"), [4]);
});

test("restarts and cuts in any order keep the promise between living processes", async () => {
  for (let seed = 100; seed < 115; seed++) {
    const v = new VirtualWorkers({ seed });
    const chance = v.world.stream("workload");
    await v.startMesh(THREE);
    /** What a dead process of a name had got, by name. */
    const graves = new Map<string, ReturnType<typeof v.get>[]>();
    const untilMs = v.world.now() + 5_000;
    while (v.world.now() < untilMs) {
      await v.world.runFor(chance.between(1, 60));
      for (const name of THREE) {
        v.act(name, (worker) => {
          for (const other of THREE) {
            if (other === name) continue;
            if (chance.chance(3)) worker.say(other);
            if (chance.chance(2)) worker.ship(other, Math.floor(chance.between(0, 2)), chance.between(8, 30_000));
          }
        });
      }
      if (chance.chance(12)) v.world.network.cut(() => chance.chance(2));
      if (chance.chance(15)) {
        const name = THREE[Math.floor(chance.between(0, 3))]!;
        graves.set(name, [...(graves.get(name) ?? []), v.get(name)]);
        if (chance.chance(2)) v.kill(name);
        else {
          v.host(name).powerLoss();
          await v.world.runFor(chance.between(0, 800));
          v.host(name).powerOn();
        }
        await v.start(name, {}, (worker) => v.dialAll(worker, THREE));
      }
    }
    await v.world.runFor(20);
    const rested = () =>
      v.meshed(THREE) &&
      THREE.every((name) =>
        v
          .get(name)
          .data.status()
          .concat(v.get(name).control_.status())
          .every((link) => link.unackedFrames === 0),
      );
    assert.ok(await v.world.runUntil(rested, 15_000), `seed ${seed}: comes to rest`);
    await v.world.runFor(50);
    for (const name of THREE) {
      const worker = v.get(name);
      for (const other of THREE) {
        if (other === name) continue;
        const start = worker.identityNow.startNumber;
        const lives = [...(graves.get(other) ?? []), v.get(other)];
        for (const life of lives) {
          assertNoGap(life.controlGot.get(`${name}.${start}`), `seed ${seed}: control ${name} to ${other}`);
          for (let exchange = 0; exchange < 2; exchange++) {
            assertNoGap(life.dataGot.get(`${name}.${start}.${exchange}`), `seed ${seed}: data ${name} to ${other}`);
          }
        }
        // Every payload reached some process of that name, and what the living one has ends with the last.
        const seen = new Set(lives.flatMap((life) => life.controlGot.get(`${name}.${start}`) ?? []));
        assert.equal(seen.size, worker.controlSent.get(other) ?? 0, `seed ${seed}: control ${name} to ${other}`);
        for (let exchange = 0; exchange < 2; exchange++) {
          const batches = new Set(lives.flatMap((life) => life.dataGot.get(`${name}.${start}.${exchange}`) ?? []));
          assert.equal(batches.size, worker.dataSent.get(`${other}.${exchange}`) ?? 0, `seed ${seed}: data`);
        }
      }
      assert.equal(worker.control_.stats.protocolErrors + worker.data.stats.protocolErrors, 0, `${worker.logLines}`);
    }
    v.assertAlive(THREE);
  }
});
