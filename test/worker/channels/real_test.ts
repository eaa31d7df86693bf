// The channels on the runtime that runs this test: real sockets on loopback.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Runtime } from "../../../src/runtime/runtime.ts";
import { realRuntime } from "../../lib/real_runtime.ts";
import { assertWhole, ChannelWorker, type WorkerSetup } from "./channel_world.ts";

async function started(runtime: Runtime, name: string, setup: WorkerSetup = {}): Promise<ChannelWorker> {
  const worker = new ChannelWorker(name, runtime, { listenHost: "127.0.0.1", controlPort: 0, dataPort: 0, ...setup });
  const control = await worker.control_.listen();
  const data = await worker.data.listen();
  worker.identityNow = { ...worker.identityNow, control, data };
  return worker;
}

async function until(runtime: Runtime, condition: () => boolean, what: string): Promise<void> {
  const deadline = runtime.clock.monotonicMs() + 60_000;
  while (!condition()) {
    assert.ok(runtime.clock.monotonicMs() < deadline, what);
    await new Promise<void>((resolve) => runtime.clock.startTimer(2, resolve));
  }
}

/** Both dial both. */
function mesh(a: ChannelWorker, b: ChannelWorker): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.turn(() => {
      from.control_.dial(to.name, to.identityNow.control);
      from.data.connectTo(to.name, to.identityNow.data);
    });
  }
}

const meshed = (a: ChannelWorker, b: ChannelWorker): boolean =>
  a.control_.connectedTo(b.name) &&
  b.control_.connectedTo(a.name) &&
  a.data.connectedTo(b.name) &&
  b.data.connectedTo(a.name);

test("two workers on real sockets: messages, batches of all sizes both ways, strangers, a restart, a goodbye", async () => {
  const runtime = await realRuntime();
  const a = await started(runtime, "initializer");
  let b = await started(runtime, "w1");
  mesh(a, b);
  await until(runtime, () => meshed(a, b), "connected");

  const sizes = [8, 9, 100, 4_096, 65_536, 70_000, 262_144, 1_000_000, 16 << 20];
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.turn(() => {
      for (const size of sizes) from.ship(to.name, 2, size);
      for (let i = 0; i < 100; i++) from.say(to.name);
    });
  }
  await until(runtime, () => a.data.unacked("w1").frames + b.data.unacked("initializer").frames === 0, "all arrived");
  await until(runtime, () => a.control_.unacked("w1").frames + b.control_.unacked("initializer").frames === 0, "all");
  assertWhole(b.dataGot.get("initializer.1.2"), sizes.length, "to w1");
  assertWhole(a.dataGot.get("w1.1.2"), sizes.length, "to the initializer");
  assertWhole(b.controlGot.get("initializer.1"), 100, "to w1");
  assertWhole(a.controlGot.get("w1.1"), 100, "to the initializer");

  const conn = await runtime.net.connect(a.identityNow.control, { timeoutMs: 60_000 });
  await conn.write(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"));
  await assert.doesNotReject(conn.read().catch(() => null));
  conn.abort();
  await until(runtime, () => a.control_.stats.strangersClosed.get("not_tammar") === 1, "the stranger is gone");

  // The end of a process, as the other one sees it.
  b.close();
  await until(runtime, () => !a.control_.connectedTo("w1") && !a.data.connectedTo("w1"), "noticed");
  a.turn(() => {
    for (let i = 0; i < 20; i++) a.ship("w1", 2, 50_000);
    a.say("w1");
  });
  b = await started(runtime, "w1", { startNumber: 2 });
  mesh(a, b);
  await until(runtime, () => meshed(a, b), "connected again");
  await until(runtime, () => a.data.unacked("w1").frames === 0 && a.control_.unacked("w1").frames === 0, "all arrived");
  assert.equal(b.dataGot.get("initializer.1.2")!.length, 20);
  assert.equal(b.dataGot.get("initializer.1.2")!.at(-1), sizes.length + 20);
  assert.ok(a.events.includes("control w1 superseded"));

  let left = 0;
  b.turn(() => {
    b.say("initializer");
    b.control_.close(true, () => left++);
    b.data.close(true, () => left++);
  });
  await until(runtime, () => left === 2 && a.count(/^control w1 left/) === 1, "goodbye");
  assertWhole(a.controlGot.get("w1.2"), 1, "the last word");
  a.close();
  assert.equal(a.control_.stats.protocolErrors + a.data.stats.protocolErrors, 0);
});

test("a slow reader on real sockets holds the sender's credit, not its memory", async () => {
  const runtime = await realRuntime();
  const limits = { exchangeCreditBytes: 1 << 20 };
  const a = await started(runtime, "initializer", { limits });
  const b = await started(runtime, "w1", { limits, holdBatches: true });
  mesh(a, b);
  await until(runtime, () => meshed(a, b), "connected");
  let shipped = 0;
  const round = () => {
    a.turn(() => {
      while (shipped < 400 && a.data.hasCredit("w1", 0)) {
        a.ship("w1", 0, 65_536);
        shipped++;
      }
    });
    b.turn(() => b.releaseHeld());
  };
  await until(
    runtime,
    () => {
      round();
      assert.ok(a.data.unacked("w1").bytes < 3 << 20);
      assert.ok(b.held.length <= 33);
      return b.dataGot.get("initializer.1.0")?.length === 400;
    },
    "all arrived",
  );
  assertWhole(b.dataGot.get("initializer.1.0"), 400, "in order");
  a.close();
  b.close();
});
