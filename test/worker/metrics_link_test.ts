import assert from "node:assert/strict";
import { test } from "node:test";
import type { Log } from "../../src/base/log.ts";
import type { Conn, Listener, Runtime } from "../../src/runtime/runtime.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { MetricsLink } from "../../src/worker/metrics_link.ts";

const GREETING = "0000000101" + "0000001b02" + "0000000b6d6574726963733a617070" + "00000007776f726b657231";

interface Scene {
  readonly world: VirtualWorld;
  readonly link: MetricsLink;
  readonly log: string[];
  readonly hub: Runtime;
  /** Connections the hub took, and what came on each, in hex. */
  readonly conns: Conn[];
  readonly received: string[];
  listen(options?: { read?: boolean }): Promise<Listener>;
}

function scene(): Scene {
  const world = new VirtualWorld({ seed: 3 });
  const log: string[] = [];
  const write = (_code: string, text: string) => void log.push(text);
  const collect: Log = { debug: write, info: write, warn: write, error: write };
  const worker = world.host("worker").startProcess((runtime) => {
    runtime.host.onUncaught((error) => {
      throw error;
    });
  });
  const hub = world.host("hub").startProcess(() => {}).runtime;
  const link = new MetricsLink({
    runtime: worker.runtime,
    log: collect,
    address: { host: "hub", port: 5001 },
    application: "app",
    worker: "worker1",
  });
  const conns: Conn[] = [];
  const received: string[] = [];
  const listen = ({ read = true } = {}) =>
    world.drive(
      hub.net.listen({
        host: "0.0.0.0",
        port: 5001,
        accept: (conn) => {
          const index = conns.push(conn) - 1;
          received.push("");
          if (read) void collectBytes(conn, (hex) => (received[index] += hex));
        },
        failed: (error) => assert.fail(error.message),
      }),
    );
  return { world, link, log, hub, conns, received, listen };
}

async function collectBytes(conn: Conn, take: (hex: string) => void): Promise<void> {
  try {
    for (;;) {
      const chunk = await conn.read();
      if (chunk === null) return conn.end();
      take(Array.from(chunk, (byte) => byte.toString(16).padStart(2, "0")).join(""));
    }
  } catch {
    // The connection was cut; what came is what came.
  }
}

test("MetricsLink greets the hub at each connection and sends reports", async () => {
  const at = scene();
  await at.listen();
  at.link.start();
  assert.equal(at.link.send(Uint8Array.of(1)), false, "it is not connected yet");
  await at.world.runUntil(() => at.received[0] === GREETING, 1_000);
  assert.equal(at.received[0], GREETING);
  await at.world.runFor(100);
  assert.equal(at.link.send(Uint8Array.of(0xaa, 0xbb)), true);
  await at.world.runUntil(() => at.received[0] === `${GREETING}aabb`, 1_000);

  at.conns[0]!.abort();
  await at.world.runUntil(() => at.received[1] === GREETING, 2_000);
  assert.equal(at.received[1], GREETING);
  assert.deepEqual(at.link.counts, { sent: 1, dropped: 1 });
  assert.deepEqual(at.log, [
    "worker1: metrics outgoing connected to hub:5001",
    "worker1: metrics connection closed",
    "worker1: metrics outgoing connected to hub:5001",
  ]);
});

test("MetricsLink dials an absent hub every 250 ms for ever, without a word, and drops reports", async () => {
  const at = scene();
  at.link.start();
  for (let i = 0; i < 100; i++) {
    await at.world.runFor(2_000);
    assert.equal(at.link.send(new Uint8Array(1_000)), false);
  }
  assert.deepEqual(at.log, []);
  await at.listen();
  const before = at.world.now();
  assert.equal(await at.world.runUntil(() => at.received[0] === GREETING, 1_000), true);
  assert.ok(at.world.now() - before <= 300);
  assert.equal(at.received[0], GREETING, "nothing was queued");
});

test("MetricsLink holds one report for a hub that does not read, gives it up, and comes back", async () => {
  const at = scene();
  await at.listen({ read: false });
  at.link.start();
  await at.world.runUntil(() => at.conns.length === 1, 1_000);
  await at.world.runFor(100);
  const report = new Uint8Array(100_000);
  let taken = 0;
  for (let i = 0; i < 1_000; i++) {
    if (at.link.send(report)) taken++;
    await at.world.runFor(10);
  }
  assert.ok(taken <= 4, `${taken} reports were taken`);
  assert.equal(at.conns.length, 1);
  await at.world.runFor(31_000);
  assert.equal(at.conns.length, 2);
});

test("MetricsLink reads what a hub sends slowly, and throws it away", async () => {
  const at = scene();
  await at.listen();
  at.link.start();
  await at.world.runUntil(() => at.conns.length === 1, 1_000);
  let written = 0;
  const flood = async () => {
    for (;;) {
      await at.conns[0]!.write(new Uint8Array(65_536).fill(0x47));
      written += 65_536;
    }
  };
  flood().catch(() => {});
  await at.world.runFor(10_000);
  assert.ok(written > 0);
  assert.ok(written < 10_000_000, `${written} bytes in ten seconds`);
  assert.equal(at.link.send(Uint8Array.of(0xcc)), true);
  await at.world.runUntil(() => at.received[0]!.endsWith("cc"), 1_000);
  assert.equal(at.received[0], `${GREETING}cc`);
});

test("MetricsLink.close() ends the connection, the tries and the pauses", async () => {
  const at = scene();
  await at.listen();
  at.link.start();
  await at.world.runUntil(() => at.received[0] === GREETING, 1_000);
  at.link.close();
  assert.equal(at.link.send(Uint8Array.of(1)), false);
  await at.world.runFor(5_000);
  assert.equal(at.conns.length, 1);

  const absent = scene();
  absent.link.start();
  await absent.world.runFor(100);
  absent.link.close();
  await absent.listen();
  await absent.world.runFor(5_000);
  assert.equal(absent.conns.length, 0);
});
