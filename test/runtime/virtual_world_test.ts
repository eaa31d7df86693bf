import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Conn,
  type DiskError,
  type DiskFile,
  NetError,
  type NetErrorCode,
  type Runtime,
} from "../../src/runtime/runtime.ts";
import type { VirtualHost } from "../../src/runtime/virtual/host.ts";
import type { VirtualProcess } from "../../src/runtime/virtual/process.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";

const PORT = 5000;

/** Starts a process and waits until its runtime is there. */
async function start(world: VirtualWorld, host: VirtualHost): Promise<{ process: VirtualProcess; runtime: Runtime }> {
  let runtime: Runtime | null = null;
  const process = host.startProcess((started) => {
    runtime = started;
  });
  await world.runUntil(() => runtime !== null, 1000);
  return { process, runtime: runtime! };
}

interface Scene {
  world: VirtualWorld;
  a: VirtualHost;
  b: VirtualHost;
  client: { process: VirtualProcess; runtime: Runtime };
  server: { process: VirtualProcess; runtime: Runtime };
  clientConn: Conn;
  serverConn: Conn;
}

/** Two machines `a` and `b`, a process on each, and a connection from `a` to `b`. */
async function connected(seed: number): Promise<Scene> {
  const world = new VirtualWorld({ seed });
  const a = world.host("a");
  const b = world.host("b");
  const client = await start(world, a);
  const server = await start(world, b);
  let serverConn: Conn | null = null;
  await world.drive(
    server.runtime.net.listen({
      host: "b",
      port: PORT,
      accept: (conn) => {
        serverConn = conn;
      },
      failed: (error) => assert.fail(error),
    }),
  );
  const connecting = client.runtime.net.connect({ host: "b", port: PORT }, { timeoutMs: 1000 });
  const clientConn = await world.drive(connecting);
  await world.runUntil(() => serverConn !== null, 1000);
  return { world, a, b, client, server, clientConn, serverConn: serverConn! };
}

/** Collects what arrives on a connection, and how it ends. */
function collect(conn: Conn): { bytes: number[]; ended: "end" | NetErrorCode | null } {
  const collected: { bytes: number[]; ended: "end" | NetErrorCode | null } = { bytes: [], ended: null };
  void (async () => {
    try {
      for (let piece = await conn.read(); piece !== null; piece = await conn.read()) collected.bytes.push(...piece);
      collected.ended = "end";
    } catch (error) {
      assert.ok(error instanceof NetError);
      collected.ended = error.code;
    }
  })();
  return collected;
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => (from + at) & 255);

/** Is a promise still pending after so much virtual time? */
async function isPending(world: VirtualWorld, promise: Promise<unknown>, afterMs: number): Promise<boolean> {
  let settled = false;
  const settle = () => {
    settled = true;
  };
  promise.then(settle, settle);
  await world.runFor(afterMs);
  return !settled;
}

/** Forty workers that talk to each other, write files and set timers; gives the trace hash and what they saw. */
async function bustle(seed: number): Promise<{ hash: string; steps: number; seen: string }> {
  const world = new VirtualWorld({ seed });
  const seen: string[] = [];
  for (let worker = 0; worker < 40; worker++) {
    const host = world.host(`w${worker}`);
    host.startProcess(async ({ net, disk, clock, random, host: machine }) => {
      const file = await disk.open("/log", "create");
      await net.listen({
        host: "0.0.0.0",
        port: PORT,
        failed: (error) => assert.fail(error),
        accept: (conn) => void echo(conn),
      });
      const echo = async (conn: Conn) => {
        for (let piece = await conn.read(); piece !== null; piece = await conn.read()) {
          await conn.write(new Uint8Array(piece));
          await file.append(piece);
        }
        conn.end();
      };
      clock.startTimer(5 + random.next(), async () => {
        const peer = `w${Math.floor(random.next() * 40)}`;
        const conn = await net.connect({ host: peer, port: PORT }, { timeoutMs: 1000 });
        await conn.write(random.bytes(2000));
        await file.sync();
        conn.end();
        let length = 0;
        for (let piece = await conn.read(); piece !== null; piece = await conn.read()) length += piece.length;
        seen.push(`${machine.pid} ${peer} ${length} ${clock.monotonicMs()}`);
      });
    });
  }
  await world.runFor(200);
  return { hash: world.traceHash(), steps: world.steps, seen: seen.join("\n") };
}

test("a virtual world does the same again for the same seed, and something else for another", async () => {
  const first = await bustle(1);
  const second = await bustle(1);
  const other = await bustle(2);
  assert.deepEqual(second, first);
  assert.equal(first.seen.split("\n").length, 40);
  assert.notEqual(other.hash, first.hash);
  assert.ok(first.steps > 500, `${first.steps} steps`);
});

test("a virtual world's trace does not depend on the runtime around it", async () => {
  // Bun and Deno compute the same; whoever changes what a world does puts the new value here.
  assert.equal((await bustle(7)).hash, "bd71c221510a9049");
});

test("events of equal time run in an order drawn from the seed", async () => {
  const orders = new Set<string>();
  for (let seed = 0; seed < 20; seed++) {
    const world = new VirtualWorld({ seed });
    const { runtime } = await start(world, world.host("a"));
    let order = "";
    for (const name of ["a", "b", "c"]) runtime.clock.startTimer(10, () => (order += name));
    await world.runFor(20);
    assert.equal(order.length, 3);
    orders.add(order);
  }
  assert.ok(orders.size > 3, [...orders].join());
});

test("microtasks are drained between two steps", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const { runtime } = await start(world, world.host("a"));
  const order: string[] = [];
  for (let count = 0; count < 50; count++) {
    runtime.clock.startTimer(10, async () => {
      order.push(`in ${count}`);
      for (let tick = 0; tick < 20; tick++) await null;
      order.push(`out ${count}`);
    });
  }
  await world.runFor(20);
  assert.equal(order.length, 100);
  for (let at = 0; at < 100; at += 2) assert.equal(order[at]!.slice(3), order[at + 1]!.slice(4));
});

test("a run stops at its limit, and at once when nothing is left to happen", async () => {
  const world = new VirtualWorld({ seed: 1 });
  assert.equal(await world.runUntil(() => false, 1e12), false);
  const { runtime } = await start(world, world.host("a"));
  let fired = false;
  runtime.clock.startTimer(1000, () => {
    fired = true;
  });
  assert.equal(await world.runUntil(() => fired, 500), false);
  assert.equal(await world.runUntil(() => fired, 1000), true);
  await assert.rejects(world.drive(new Promise(() => {})), /stands still.*seed 1/);
});

test("clocks: the wall is as wrong as the machine's, and monotonic time differs between processes", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const right = await start(world, world.host("right"));
  const wrongHost = world.host("wrong", { wallOffsetMs: -3_600_000 });
  const wrong = await start(world, wrongHost);
  assert.equal(right.runtime.clock.wallMs() - wrong.runtime.clock.wallMs(), 3_600_000);
  wrongHost.wallOffsetMs = 5;
  assert.equal(right.runtime.clock.wallMs() - wrong.runtime.clock.wallMs(), -5);
  assert.notEqual(right.runtime.clock.monotonicMs(), wrong.runtime.clock.monotonicMs());
});

test("a killed process does nothing any more, and its peers see their connections end", async () => {
  const endings = new Set<string>();
  for (let seed = 0; seed < 30; seed++) {
    const { world, client, server, clientConn, serverConn } = await connected(seed);
    const seen = collect(clientConn);
    let acted = false;
    server.runtime.clock.startTimer(5, () => {
      acted = true;
    });
    const reading = serverConn.read();
    server.process.kill();
    assert.deepEqual(server.process.exited, { status: 137 });
    server.runtime.clock.soon(() => {
      acted = true;
    });
    const calls = [
      reading,
      serverConn.write(new Uint8Array(10)),
      server.runtime.disk.makeDir("/never"),
      server.runtime.net.connect({ host: "a", port: 1 }, { timeoutMs: 10 }),
      server.runtime.host.writeOut(new Uint8Array(1)),
      server.runtime.host.digest(new Uint8Array(1)),
    ];
    assert.ok(await isPending(world, Promise.race(calls), 1000), `seed ${seed}`);
    assert.equal(acted, false);
    assert.ok(seen.ended === "end" || seen.ended === "reset", `seed ${seed}: ${seen.ended}`);
    endings.add(seen.ended);
    const again = client.runtime.net.connect({ host: "b", port: PORT }, { timeoutMs: 100 });
    await assert.rejects(world.drive(again), (error: NetError) => error.code === "refused");
  }
  assert.equal(endings.size, 2);
});

test("a killed process leaves what it appended, gives up its locks and its port", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const host = world.host("a");
  const first = await start(world, host);
  const { disk, net } = first.runtime;
  const listen = { host: "0.0.0.0", port: PORT, accept: () => {}, failed: () => {} };
  await world.drive(net.listen(listen));
  assert.notEqual(await world.drive(disk.lock("/LOCK")), null);
  const file = await world.drive(disk.open("/log", "create"));
  void file.append(new Uint8Array([1, 2, 3]));
  const second = await start(world, host);
  assert.equal(await world.drive(second.runtime.disk.lock("/LOCK")), null);
  await assert.rejects(world.drive(second.runtime.net.listen(listen)), /in use/);
  first.process.kill();
  assert.notEqual(await world.drive(second.runtime.disk.lock("/LOCK")), null);
  await world.drive(second.runtime.net.listen(listen));
  assert.deepEqual([...(await world.drive(second.runtime.disk.readFile("/log", 10)))], [1, 2, 3]);
});

test("exit ends a process with its status, from a callback and from a microtask", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const host = world.host("a");
  let after = false;
  const callback = host.startProcess(({ host: machine }) => {
    machine.exit(3);
    after = true;
  });
  const microtask = host.startProcess(async ({ host: machine, clock }) => {
    await null;
    clock.startTimer(1, () => {
      after = true;
    });
    machine.exit(4);
  });
  await world.runFor(100);
  assert.deepEqual(callback.exited, { status: 3 });
  assert.deepEqual(microtask.exited, { status: 4 });
  assert.equal(after, false);
});

test("what a process does not catch reaches its handler, or ends it with status 1", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const host = world.host("a");
  const caught: string[] = [];
  const handled = host.startProcess(({ host: machine, clock }) => {
    machine.onUncaught((error) => caught.push((error as Error).message));
    clock.startTimer(1, () => {
      throw new Error("boom");
    });
  });
  const unhandled = host.startProcess(async () => {
    await null;
    throw new Error("bang");
  });
  await world.runFor(10);
  assert.deepEqual(caught, ["boom"]);
  assert.equal(handled.exited, null);
  assert.deepEqual(unhandled.exited, { status: 1 });
  assert.match(unhandled.stderr, /bang/);
});

test("signals reach their handlers, and end a process that has none", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const { process, runtime } = await start(world, world.host("a"));
  let heard = 0;
  const off = runtime.host.onSignal("SIGTERM", () => heard++);
  process.signal("SIGTERM");
  await world.runFor(10);
  assert.equal(heard, 1);
  off();
  process.signal("SIGTERM");
  assert.deepEqual(process.exited, { status: 143 });
});

test("arguments, environment, modules and output belong to a process", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const module = { default: 42 };
  const host = world.host("a", { args: ["x"], env: { ONE: "1" }, modules: { "/app.ts": module } });
  const { process, runtime } = await start(world, host);
  assert.deepEqual([...runtime.host.args], ["x"]);
  assert.equal(runtime.host.env("ONE"), "1");
  assert.equal(await world.drive(runtime.host.importModule("/app.ts")), module);
  await assert.rejects(world.drive(runtime.host.importModule("/other.ts")), /other\.ts/);
  await world.drive(runtime.host.writeOut(new TextEncoder().encode("grüß")));
  assert.equal(process.stdout, "grüß");
  process.outputStalled = true;
  const writing = runtime.host.writeErr(new TextEncoder().encode("late"));
  assert.ok(await isPending(world, writing, 1000));
  process.resumeOutput();
  await world.drive(writing);
  assert.equal(process.stderr, "late");
  process.outputGone = true;
  await assert.rejects(
    world.drive(runtime.host.writeOut(new Uint8Array(1))),
    (error: NetError) => error.code === "closed",
  );
  const other = host.startProcess(() => {}, { args: ["y"], env: { TWO: "2" } });
  assert.deepEqual([...other.runtime.host.args], ["y"]);
  assert.equal(other.runtime.host.env("ONE"), "1");
});

test("a paused process does nothing until it goes on, while its kernel still receives", async () => {
  const { world, server, clientConn, serverConn } = await connected(3);
  const seen = collect(serverConn);
  server.process.pause(5000);
  await world.drive(clientConn.write(new Uint8Array(numbers(0, 200))));
  await world.runFor(4000);
  assert.deepEqual(seen.bytes, []);
  await world.runFor(2000);
  assert.deepEqual(seen.bytes, numbers(0, 200));
});

test("a partition holds bytes back without any event, and after it they arrive in order", async () => {
  for (let seed = 0; seed < 40; seed++) {
    const { world, client, clientConn, serverConn } = await connected(seed);
    const seen = collect(serverConn);
    let sent = 0;
    const writing = (async () => {
      while (sent < 5000) {
        const size = Math.min(5000 - sent, 1 + (sent % 37));
        await clientConn.write(new Uint8Array(numbers(sent, sent + size)));
        sent += size;
      }
    })();
    await world.runFor(0.5 + (seed % 7) / 5);
    world.network.partition("a", "b");
    await world.runFor(60_000);
    assert.equal(seen.ended, null);
    const before = seen.bytes.length;
    const attempt = client.runtime.net.connect({ host: "b", port: PORT }, { timeoutMs: 3000 });
    await assert.rejects(world.drive(attempt), (error: NetError) => error.code === "timeout");
    assert.equal(seen.bytes.length, before);
    world.network.heal();
    await world.drive(writing);
    await world.runUntil(() => seen.bytes.length === 5000, 10_000);
    assert.deepEqual(seen.bytes, numbers(0, 5000), `seed ${seed}`);
  }
});

test("ways that open and close all the time neither lose, double nor reorder bytes", async () => {
  for (let seed = 0; seed < 40; seed++) {
    const { world, clientConn, serverConn } = await connected(seed);
    const faults = world.stream("faults");
    const seen = collect(serverConn);
    const echoed = collect(clientConn);
    const writing = (async () => {
      for (let sent = 0; sent < 20_000; sent += 100) {
        await clientConn.write(new Uint8Array(numbers(sent, sent + 100)));
        await serverConn.write(new Uint8Array(numbers(sent, sent + 100)));
      }
      clientConn.end();
      serverConn.end();
    })();
    for (let round = 0; round < 60; round++) {
      const way = (["both", "forward", "back"] as const)[faults.int(3)];
      if (faults.chance(2)) world.network.partition("a", "b", { way });
      else world.network.blackhole(() => true, { way });
      await world.runFor(faults.between(0, 20));
      world.network.heal();
      await world.runFor(faults.between(0, 2));
    }
    await world.drive(writing);
    await world.runUntil(() => seen.ended !== null && echoed.ended !== null, 10_000);
    assert.deepEqual(seen, { bytes: numbers(0, 20_000), ended: "end" }, `seed ${seed}`);
    assert.deepEqual(echoed, { bytes: numbers(0, 20_000), ended: "end" }, `seed ${seed}`);
    assert.equal(world.network.connections().length, 0);
  }
});

test("when only the way back is blocked, bytes arrive but the writer soon waits", async () => {
  const { world, clientConn, serverConn } = await connected(1);
  const seen = collect(serverConn);
  world.network.partition("a", "b", { way: "back" });
  const writing = clientConn.write(new Uint8Array(1024 * 1024));
  assert.ok(await isPending(world, writing, 10_000));
  assert.ok(seen.bytes.length > 0 && seen.bytes.length <= 128 * 1024, `${seen.bytes.length} bytes`);
  world.network.heal("a", "b");
  await world.drive(writing);
});

test("a reset that is lost leaves the other end half-open until it sends something", async () => {
  let halfOpen = 0;
  for (let seed = 0; seed < 20; seed++) {
    const { world, server, clientConn } = await connected(seed);
    const seen = collect(clientConn);
    world.network.partition("a", "b");
    server.process.kill();
    await world.runFor(10_000);
    assert.equal(seen.ended, null);
    world.network.heal();
    await world.runFor(10_000);
    // The kernel closed in one of two ways: a FIN is sent again, a reset is not.
    if (seen.ended === "end") continue;
    assert.equal(seen.ended, null);
    halfOpen++;
    await world.drive(clientConn.write(new Uint8Array(10)));
    await world.runFor(1000);
    assert.equal(seen.ended, "reset");
  }
  assert.ok(halfOpen > 3 && halfOpen < 17, `${halfOpen} of 20`);
});

test("power loss tells nobody; with the power back, who sends is reset", async () => {
  const { world, b, server, clientConn } = await connected(1);
  const seen = collect(clientConn);
  b.powerLoss();
  assert.deepEqual(server.process.exited, { status: 137 });
  await world.drive(clientConn.write(new Uint8Array(10)));
  await world.runFor(60_000);
  assert.equal(seen.ended, null);
  assert.throws(() => b.startProcess(() => {}), /no power/);
  b.powerOn();
  await world.runFor(1000);
  assert.equal(seen.ended, "reset");
  await start(world, b);
});

test("connections can be cut, blackholed and refused by choice", async () => {
  const { world, client, clientConn, serverConn } = await connected(1);
  const seen = [collect(clientConn), collect(serverConn)];
  assert.equal(
    world.network.cut((conn) => conn.server === "a"),
    0,
  );
  assert.equal(
    world.network.cut((conn) => conn.client === "a" && conn.port === PORT),
    1,
  );
  await world.runFor(100);
  assert.deepEqual(
    seen.map(({ ended }) => ended),
    ["reset", "reset"],
  );
  assert.equal(world.network.connections().length, 0);
  const { net } = client.runtime;
  world.network.connectFault = (_client, server) => (server === "b" ? "refuse" : null);
  const refused = net.connect({ host: "b", port: PORT }, { timeoutMs: 1000 });
  await assert.rejects(world.drive(refused), (error: NetError) => error.code === "refused");
  world.network.connectFault = () => "drop";
  const dropped = net.connect({ host: "b", port: PORT }, { timeoutMs: 1000 });
  await assert.rejects(world.drive(dropped), (error: NetError) => error.code === "timeout");
  world.network.connectFault = null;
  const unreachable = net.connect({ host: "10.9.9.9", port: PORT }, { timeoutMs: 1000 });
  await assert.rejects(world.drive(unreachable), (error: NetError) => error.code === "unreachable");
});

test("whoever keeps a piece beyond the next read, or touches bytes before their write resolved, finds out", async () => {
  const { world, clientConn, serverConn } = await connected(1);
  const bytes = new Uint8Array([1, 2, 3]);
  const writing = clientConn.write(bytes);
  bytes.fill(9);
  await world.drive(writing);
  const piece = (await world.drive(serverConn.read()))!;
  assert.equal(piece[0], 9);
  clientConn.end();
  const next = serverConn.read();
  assert.notEqual(piece[0], 9);
  await world.drive(next);
});

async function writeLog(world: VirtualWorld, host: VirtualHost): Promise<DiskFile> {
  const { runtime } = await start(world, host);
  const { disk } = runtime;
  return world.drive(
    (async () => {
      await disk.makeDir("/data");
      await disk.syncDir("/");
      const file = await disk.open("/data/log", "create");
      await disk.syncDir("/data");
      for (let count = 0; count < 5; count++) await file.append(new Uint8Array(1000).fill(1));
      await file.sync();
      for (let count = 0; count < 5; count++) await file.append(new Uint8Array(1000).fill(2));
      return file;
    })(),
  );
}

test("power loss keeps what was synced, and keeps, drops or tears the rest", async () => {
  const outcomes = new Set<string>();
  for (let seed = 0; seed < 200; seed++) {
    const world = new VirtualWorld({ seed });
    const host = world.host("a");
    await writeLog(world, host);
    host.powerLoss();
    const left = host.disk.peek("/data/log")!;
    assert.ok(left.length >= 5000 && left.length <= 10_000);
    assert.ok(
      left.subarray(0, 5000).every((byte) => byte === 1),
      `seed ${seed}: what was synced is damaged`,
    );
    const tail = left.subarray(5000);
    if (tail.length === 0) outcomes.add("dropped");
    else if (tail.length === 5000 && tail.every((byte) => byte === 2)) outcomes.add("kept");
    else if (tail.every((byte) => byte === 2 || byte === 0)) outcomes.add("holes");
    else outcomes.add("garbage");
  }
  assert.deepEqual([...outcomes].sort(), ["dropped", "garbage", "holes", "kept"]);
});

test("process death loses nothing of a file", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const host = world.host("a");
  await writeLog(world, host);
  for (const process of host.processes) process.kill();
  assert.equal(host.disk.peek("/data/log")!.length, 10_000);
});

test("an entry is durable only after syncDir of its folder, whatever was synced in the file", async () => {
  const outcomes = new Set<string>();
  for (let seed = 0; seed < 100; seed++) {
    const world = new VirtualWorld({ seed });
    const host = world.host("a", { files: { "/data/manifest": "old", "/data/removed": "x" } });
    const { runtime } = await start(world, host);
    await world.drive(
      (async () => {
        const { disk } = runtime;
        const file = await disk.open("/data/manifest.new", "create");
        await file.append(new TextEncoder().encode("new"));
        await file.sync();
        await disk.rename("/data/manifest.new", "/data/manifest");
        if (seed >= 50) await disk.syncDir("/data");
        await disk.remove("/data/removed");
      })(),
    );
    host.powerLoss();
    const manifest = new TextDecoder().decode(host.disk.peek("/data/manifest")!);
    if (seed >= 50) assert.equal(manifest, "new");
    else outcomes.add(manifest);
    outcomes.add(host.disk.peek("/data/removed") === null ? "removed" : "still there");
    outcomes.add(host.disk.paths().join());
  }
  for (const outcome of ["old", "new", "removed", "still there"]) assert.ok(outcomes.has(outcome), outcome);
});

test("operations after a sync began are not covered by it", async () => {
  let lost = 0;
  for (let seed = 0; seed < 40; seed++) {
    const world = new VirtualWorld({ seed });
    const host = world.host("a", { files: { "/log": "" } });
    const { runtime } = await start(world, host);
    const file = await world.drive(runtime.disk.open("/log", "append"));
    void file.append(new Uint8Array([1]));
    const syncing = file.sync();
    void file.append(new Uint8Array([2]));
    await world.drive(syncing);
    host.powerLoss();
    const left = host.disk.peek("/log")!;
    assert.equal(left[0], 1);
    if (left[1] !== 2) lost++;
  }
  assert.ok(lost > 5 && lost < 40, `${lost} of 40`);
});

test("a sync that fails says so once, and a part is lost though reads show it until the power goes", async () => {
  let lost = 0;
  for (let seed = 0; seed < 40; seed++) {
    const world = new VirtualWorld({ seed });
    const host = world.host("a", { files: { "/log": "" } });
    const { runtime } = await start(world, host);
    const file = await world.drive(runtime.disk.open("/log", "append"));
    await world.drive(file.append(new Uint8Array([1, 2, 3])));
    host.disk.fault = (operation) => (operation === "sync" ? "io" : null);
    await assert.rejects(world.drive(file.sync()), (error: DiskError) => error.code === "io" && error.path === "/log");
    host.disk.fault = null;
    await world.drive(file.sync());
    assert.equal((await world.drive(file.readAt(0, 3))).length, 3);
    host.powerLoss();
    if (host.disk.peek("/log")!.length < 3) lost++;
  }
  assert.ok(lost > 5 && lost < 35, `${lost} of 40`);
});

test("a full disk takes what fits and says so", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const host = world.host("a", { files: { "/log": "1234567890" } });
  const { runtime } = await start(world, host);
  host.disk.spaceBytes = 25;
  const file = await world.drive(runtime.disk.open("/log", "append"));
  await world.drive(file.append(new Uint8Array(10)));
  await assert.rejects(world.drive(file.append(new Uint8Array(10))), (error: DiskError) => error.code === "full");
  assert.equal(await world.drive(file.length()), 25);
  await world.drive(file.truncate(20));
  await world.drive(file.append(new Uint8Array(5)));
});

test("a disk that stalls makes its callers wait, and nobody else", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const host = world.host("a", { files: { "/log": "" } });
  const { runtime } = await start(world, host);
  const file = await world.drive(runtime.disk.open("/log", "append"));
  host.disk.stall(30_000);
  const syncing = file.sync();
  let ticks = 0;
  const tick = () => {
    ticks++;
    runtime.clock.startTimer(100, tick);
  };
  tick();
  assert.ok(await isPending(world, syncing, 29_000));
  assert.ok(ticks > 200);
  await world.drive(syncing);
});

test("two processes of one machine share its disk, and machines do not", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const a = world.host("a");
  const first = await start(world, a);
  const second = await start(world, a);
  const elsewhere = await start(world, world.host("b"));
  await world.drive(first.runtime.disk.open("/x", "create"));
  assert.notEqual(await world.drive(second.runtime.disk.stat("/x")), null);
  assert.equal(await world.drive(elsewhere.runtime.disk.stat("/x")), null);
  assert.deepEqual(a.disk.paths(), ["/x"]);
});
