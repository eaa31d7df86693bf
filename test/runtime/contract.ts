/**
 * What every runtime promises, whatever it runs on: one suite for Bun, Deno and the virtual world.
 *
 * A body awaits only calls of its runtime, so that the virtual world can run it in virtual time.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Address,
  type Conn,
  DiskError,
  type DiskErrorCode,
  type Listener,
  NetError,
  type NetErrorCode,
  type Runtime,
} from "../../src/runtime/runtime.ts";

export interface Stage {
  readonly runtime: Runtime;
  /** An empty folder. */
  readonly folder: string;
  /** An address that takes the attempt to connect and never answers; `null` where that cannot be arranged. */
  silentAddress(): Promise<Address | null>;
  /** Awaits the body of a test, with a deadline. */
  drive<T>(body: Promise<T>): Promise<T>;
  done(): Promise<void>;
}

type Body = (runtime: Runtime, stage: Stage) => Promise<void>;

const CONTRACT: [name: string, body: Body][] = [];

function promise(name: string, body: Body): void {
  CONTRACT.push([name, body]);
}

/** Registers the suite's tests. @param makeStage Called once a test. */
export function runContract(name: string, makeStage: () => Promise<Stage>): void {
  for (const [sentence, body] of CONTRACT) {
    test(`${name}: ${sentence}`, async () => {
      const stage = await makeStage();
      try {
        await stage.drive(body(stage.runtime, stage));
      } finally {
        await stage.done();
      }
    });
  }
}

/** A busy machine may need many times what is usual, and must not fail. */
const TIMEOUT_MS = 60_000;
const MIB = 1024 * 1024;

function sleep(runtime: Runtime, delayMs: number): Promise<void> {
  return new Promise((resolve) => void runtime.clock.startTimer(delayMs, resolve));
}

async function until(runtime: Runtime, what: string, condition: () => boolean): Promise<void> {
  const dueMs = runtime.clock.monotonicMs() + TIMEOUT_MS;
  while (!condition()) {
    assert.ok(runtime.clock.monotonicMs() < dueMs, `waited too long until ${what}`);
    await sleep(runtime, 2);
  }
}

interface Pair {
  readonly client: Conn;
  readonly server: Conn;
  close(): void;
}

async function connectPair(runtime: Runtime, host = "127.0.0.1"): Promise<Pair> {
  const accepted: Conn[] = [];
  const listener = await runtime.net.listen({
    host,
    port: 0,
    accept: (conn) => accepted.push(conn),
    failed: (error) => assert.fail(error),
  });
  const client = await runtime.net.connect(listener.address, { timeoutMs: TIMEOUT_MS });
  await until(runtime, "the connection is accepted", () => accepted.length > 0);
  const server = accepted[0]!;
  return {
    client,
    server,
    close() {
      client.abort();
      server.abort();
      listener.close();
    },
  };
}

/** Bytes whose place in the stream can be told from their value, nearly. */
function pattern(length: number, start = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) bytes[at] = ((start + at) * 131 + ((start + at) >> 8)) & 255;
  return bytes;
}

function sameBytes(actual: Uint8Array, expected: Uint8Array): boolean {
  if (actual.length !== expected.length) return false;
  for (let at = 0; at < actual.length; at++) if (actual[at] !== expected[at]) return false;
  return true;
}

/** Reads to the end of the stream. */
async function readAll(conn: Conn, lengthMax: number): Promise<Uint8Array> {
  const all = new Uint8Array(lengthMax);
  let length = 0;
  for (let piece = await conn.read(); piece !== null; piece = await conn.read()) {
    assert.ok(piece.length > 0 && piece.length <= 64 * 1024, `a piece of ${piece.length} bytes`);
    all.set(piece, length);
    length += piece.length;
  }
  return all.subarray(0, length);
}

async function netFailure(attempt: Promise<unknown>, ...codes: NetErrorCode[]): Promise<NetError> {
  const error = await attempt.then(
    () => assert.fail(`nothing failed, expected ${codes.join(" or ")}`),
    (cause) => cause,
  );
  assert.ok(error instanceof NetError, `not a NetError: ${error}`);
  assert.ok(codes.includes(error.code), `${error.code}, expected ${codes.join(" or ")}: ${error.message}`);
  return error;
}

async function diskFailure(attempt: Promise<unknown>, code: DiskErrorCode, path: string): Promise<void> {
  const error = await attempt.then(
    () => assert.fail(`nothing failed, expected ${code}`),
    (cause) => cause,
  );
  assert.ok(error instanceof DiskError, `not a DiskError: ${error}`);
  assert.equal(error.code, code, error.message);
  assert.equal(error.path, path);
  assert.ok(error.message.includes(path), error.message);
}

/** How a connection's incoming direction ended, and how much came before. */
async function ending(conn: Conn): Promise<{ how: "end" | NetErrorCode; length: number }> {
  let length = 0;
  try {
    for (let piece = await conn.read(); piece !== null; piece = await conn.read()) length += piece.length;
    return { how: "end", length };
  } catch (error) {
    assert.ok(error instanceof NetError, `not a NetError: ${error}`);
    return { how: error.code, length };
  }
}

/** Writes until it fails: the first write to a peer that is gone may well succeed. */
async function writeUntilFailure(runtime: Runtime, conn: Conn): Promise<NetError> {
  for (let count = 0; count < 1000; count++) {
    try {
      await conn.write(pattern(1000));
    } catch (error) {
      assert.ok(error instanceof NetError, `not a NetError: ${error}`);
      return error;
    }
    await sleep(runtime, 5);
  }
  return assert.fail("a thousand writes to a peer that is gone succeeded");
}

// Connections.

promise("bytes arrive in both directions, and both ends agree on the addresses", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  assert.deepEqual(client.peer, server.local);
  assert.deepEqual(client.local, server.peer);
  assert.equal(client.peer.host, "127.0.0.1");
  await client.write(pattern(10));
  await server.write(pattern(20));
  client.end();
  server.end();
  assert.ok(sameBytes(await readAll(server, 10), pattern(10)));
  assert.ok(sameBytes(await readAll(client, 20), pattern(20)));
  close();
});

promise("an empty write resolves and sends nothing", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  await client.write(new Uint8Array(0));
  client.end();
  assert.equal(await server.read(), null);
  assert.equal(await server.read(), null);
  close();
});

promise("half-close keeps 16 MiB that are still pending, and the other direction", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  const sent = pattern(16 * MIB);
  let written = false;
  const writing = client.write(sent).then(() => {
    written = true;
  });
  client.end();
  server.end();
  await sleep(runtime, 50);
  assert.equal(written, false, "the kernel took 16 MiB that nobody reads");
  assert.ok(sameBytes(await readAll(server, 17 * MIB), sent));
  await writing;
  assert.equal(await client.read(), null);
  close();
});

promise("a half-closed peer can still be answered", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  await client.write(pattern(100));
  client.end();
  assert.ok(sameBytes(await readAll(server, 100), pattern(100)));
  await sleep(runtime, 20);
  const writing = server.write(pattern(8 * MIB)).then(() => server.end());
  assert.ok(sameBytes(await readAll(client, 8 * MIB), pattern(8 * MIB)));
  await writing;
  close();
});

promise("a buffer may be overwritten once its write has resolved", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  const buffer = new Uint8Array(256 * 1024);
  const reading = readAll(server, 40 * buffer.length);
  for (let round = 1; round <= 40; round++) {
    buffer.fill(round);
    await client.write(buffer);
  }
  buffer.fill(255);
  client.end();
  const all = await reading;
  assert.equal(all.length, 40 * buffer.length);
  for (let at = 0; at < all.length; at++) {
    if (all[at] !== Math.floor(at / buffer.length) + 1) assert.fail(`byte ${at} is ${all[at]}`);
  }
  close();
});

promise("a piece that was read stays as it is until the next read", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  await client.write(new Uint8Array(1000).fill(1));
  const piece = (await server.read())!;
  const copy = new Uint8Array(piece);
  const writing = client.write(new Uint8Array(MIB).fill(2));
  await sleep(runtime, 30);
  assert.ok(sameBytes(piece, copy));
  client.end();
  const rest = await readAll(server, 2 * MIB);
  await writing;
  assert.equal(copy.length + rest.length, 1000 + MIB);
  close();
});

promise("one large write arrives whole in small pieces, however slowly they are read", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  const sent = pattern(4 * MIB);
  const writing = client.write(sent).then(() => client.end());
  const all = new Uint8Array(sent.length);
  let length = 0;
  let count = 0;
  for (let piece = await server.read(); piece !== null; piece = await server.read()) {
    assert.ok(piece.length <= 64 * 1024);
    all.set(piece, length);
    length += piece.length;
    if (count++ % 10 === 0) await sleep(runtime, 2);
  }
  await writing;
  assert.ok(sameBytes(all, sent));
  close();
});

promise("many small writes keep their order", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  const reading = readAll(server, 100_000);
  let sent = 0;
  for (let size = 1; sent < 50_000; size = (size * 7) % 97) {
    await client.write(pattern(size, sent));
    sent += size;
  }
  client.end();
  assert.ok(sameBytes(await reading, pattern(sent)));
  close();
});

promise("a write to a peer that is gone fails with reset, and so does the read after it", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  server.abort();
  const error = await writeUntilFailure(runtime, client);
  assert.equal(error.code, "reset");
  assert.ok(error.bytesTaken >= 0 && error.bytesTaken <= 1000);
  await netFailure(client.write(pattern(10)), "reset");
  await netFailure(client.read(), "reset");
  close();
});

promise("a pending write fails when the peer goes, and says how much was taken", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  const writing = client.write(new Uint8Array(32 * MIB));
  writing.catch(() => {});
  await sleep(runtime, 50);
  server.abort();
  const error = await netFailure(writing, "reset");
  assert.ok(error.bytesTaken > 0 && error.bytesTaken < 32 * MIB, `${error.bytesTaken} bytes taken`);
  close();
});

promise("a pending read ends when the peer goes", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  const reading = ending(client);
  await sleep(runtime, 10);
  server.abort();
  const { how, length } = await reading;
  assert.ok(how === "end" || how === "reset", how);
  assert.equal(length, 0);
  close();
});

promise("a connection that is cut while nobody reads ends once somebody does", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  await client.write(pattern(50_000));
  await sleep(runtime, 20);
  client.abort();
  await sleep(runtime, 50);
  const { how, length } = await ending(server);
  assert.ok(how === "end" || how === "reset", how);
  assert.ok(length <= 50_000);
  close();
});

promise("abort rejects the pending read and write with closed, and what comes after", async (runtime) => {
  const { client, close } = await connectPair(runtime);
  const reading = client.read();
  const writing = client.write(new Uint8Array(64 * MIB));
  reading.catch(() => {});
  writing.catch(() => {});
  await sleep(runtime, 30);
  client.abort();
  client.abort();
  await netFailure(reading, "closed");
  const { bytesTaken } = await netFailure(writing, "closed");
  assert.ok(bytesTaken > 0 && bytesTaken < 64 * MIB, `${bytesTaken} bytes taken`);
  await netFailure(client.read(), "closed");
  await netFailure(client.write(pattern(1)), "closed");
  client.end();
  close();
});

promise("a write after end is refused, and a second end is harmless", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  client.end();
  client.end();
  await netFailure(client.write(pattern(1)), "closed");
  assert.equal(await server.read(), null);
  close();
});

promise("a second read or write while one is pending is refused and disturbs nothing", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  const reading = client.read();
  await assert.rejects(client.read(), /pending/);
  const writing = client.write(new Uint8Array(32 * MIB).fill(1));
  await assert.rejects(client.write(pattern(1)), /pending/);
  await server.write(pattern(1));
  assert.ok(sameBytes((await reading)!, pattern(1)));
  client.end();
  assert.deepEqual(await ending(server), { how: "end", length: 32 * MIB });
  await writing;
  close();
});

promise("a peer that never reads keeps the writer waiting, and nothing piles up in memory", async (runtime) => {
  const { client, close } = await connectPair(runtime);
  const buffer = new Uint8Array(MIB);
  let taken = 0;
  let stopped = false;
  const writing = (async () => {
    while (!stopped) {
      await client.write(buffer);
      taken += buffer.length;
    }
  })();
  writing.catch(() => {});
  let before = -1;
  let residentBefore = 0;
  while (taken !== before) {
    before = taken;
    residentBefore = runtime.host.residentBytes();
    await sleep(runtime, 300);
    assert.ok(taken <= 20 * MIB, `${taken} bytes were taken, and writes still go through`);
  }
  const grown = runtime.host.residentBytes() - residentBefore;
  assert.ok(grown < 32 * MIB, `memory grew by ${grown} bytes`);
  stopped = true;
  close();
  await netFailure(writing, "closed");
});

promise("what is read ahead for a reader that stalls is bounded, and all of it arrives later", async (runtime) => {
  const { client, server, close } = await connectPair(runtime);
  const sent = pattern(24 * MIB);
  const residentBefore = runtime.host.residentBytes();
  const writing = client.write(sent).then(() => client.end());
  assert.ok((await server.read())!.length > 0);
  await sleep(runtime, 200);
  const grown = runtime.host.residentBytes() - residentBefore;
  assert.ok(grown < 24 * MIB, `memory grew by ${grown} bytes`);
  const { how } = await ending(server);
  assert.equal(how, "end");
  await writing;
  close();
});

// Listening and connecting.

promise("port 0 gives a free port, and a port in use is refused", async (runtime) => {
  const accept = () => {};
  const failed = (error: NetError) => assert.fail(error);
  const listener = await runtime.net.listen({ host: "127.0.0.1", port: 0, accept, failed });
  assert.equal(listener.address.host, "127.0.0.1");
  assert.ok(listener.address.port > 0 && listener.address.port < 65_536);
  const again = runtime.net.listen({ ...listener.address, accept, failed });
  const error = await netFailure(again, "address_in_use");
  assert.ok(error.message.includes(`127.0.0.1:${listener.address.port}`), error.message);
  listener.close();
  listener.close();
  // Deno gives the port back a moment after `close`.
  let reopened: Listener | null = null;
  for (let tries = 0; reopened === null && tries < 1_000; tries++) {
    await sleep(runtime, 2);
    reopened = await runtime.net.listen({ ...listener.address, accept, failed }).catch(() => null);
  }
  assert.deepEqual(reopened?.address, listener.address);
  reopened?.close();
});

promise("listening on a name binds its address; foreign and unknown ones are refused", async (runtime) => {
  const accept = () => {};
  const failed = (error: NetError) => assert.fail(error);
  const listener = await runtime.net.listen({ host: "localhost", port: 0, accept, failed });
  assert.ok(["127.0.0.1", "::1"].includes(listener.address.host), listener.address.host);
  listener.close();
  const foreign = runtime.net.listen({ host: "203.0.113.1", port: 0, accept, failed });
  await netFailure(foreign, "address_not_available");
  const unknown = runtime.net.listen({ host: "no-such-host.invalid", port: 0, accept, failed });
  await netFailure(unknown, "unresolvable");
});

promise("connecting to a port where nobody listens is refused", async (runtime) => {
  const failed = (error: NetError) => assert.fail(error);
  const listener = await runtime.net.listen({ host: "127.0.0.1", port: 0, accept: () => {}, failed });
  listener.close();
  await sleep(runtime, 10);
  const error = await netFailure(runtime.net.connect(listener.address, { timeoutMs: TIMEOUT_MS }), "refused");
  assert.ok(error.message.includes(`127.0.0.1:${listener.address.port}`), error.message);
});

promise("connecting to an unknown name is unresolvable", async (runtime) => {
  const attempt = runtime.net.connect({ host: "no-such-host.invalid", port: 80 }, { timeoutMs: TIMEOUT_MS });
  await netFailure(attempt, "unresolvable");
});

promise("connecting to somebody who never answers times out", async (runtime, stage) => {
  const address = await stage.silentAddress();
  if (address === null) return console.log("skipped: no address here keeps silent");
  const startMs = runtime.clock.monotonicMs();
  await netFailure(runtime.net.connect(address, { timeoutMs: 150 }), "timeout");
  const tookMs = runtime.clock.monotonicMs() - startMs;
  assert.ok(tookMs >= 149 && tookMs < TIMEOUT_MS, `${tookMs} ms`);
});

promise("IPv6 works, without brackets", async (runtime) => {
  let pair: Pair;
  try {
    pair = await connectPair(runtime, "::1");
  } catch (error) {
    if (error instanceof NetError && error.code === "address_not_available") {
      return console.log("skipped: this machine has no IPv6");
    }
    throw error;
  }
  const { client, server, close } = pair;
  assert.equal(client.peer.host, "::1");
  assert.deepEqual(server.peer, client.local);
  await client.write(pattern(10));
  client.end();
  assert.ok(sameBytes(await readAll(server, 10), pattern(10)));
  close();
});

promise("a listener on the wildcard address is reached by 127.0.0.1", async (runtime) => {
  for (const host of ["0.0.0.0", "::"]) {
    const accepted: Conn[] = [];
    const failed = (error: NetError) => assert.fail(error);
    const accept = (conn: Conn) => void accepted.push(conn);
    let listener: Listener;
    try {
      listener = await runtime.net.listen({ host, port: 0, accept, failed });
    } catch (error) {
      if (host === "::") return console.log("skipped: this machine has no IPv6");
      throw error;
    }
    const address = { host: "127.0.0.1", port: listener.address.port };
    const client = await runtime.net.connect(address, { timeoutMs: TIMEOUT_MS });
    await until(runtime, "the connection is accepted", () => accepted.length > 0);
    assert.equal(accepted[0]!.peer.host, "127.0.0.1");
    client.abort();
    accepted[0]!.abort();
    listener.close();
  }
});

promise("a throw in accept closes that connection and is reported; the listener goes on", async (runtime) => {
  const failures: NetError[] = [];
  const accepted: Conn[] = [];
  const boom = new Error("boom");
  let first = true;
  const listener = await runtime.net.listen({
    host: "127.0.0.1",
    port: 0,
    failed: (error) => failures.push(error),
    accept(conn) {
      if (first) {
        first = false;
        throw boom;
      }
      accepted.push(conn);
    },
  });
  const refused = await runtime.net.connect(listener.address, { timeoutMs: TIMEOUT_MS });
  const { how } = await ending(refused);
  assert.ok(how === "end" || how === "reset", how);
  refused.abort();
  assert.equal(failures.length, 1);
  assert.equal(failures[0]!.cause, boom);
  const welcome = await runtime.net.connect(listener.address, { timeoutMs: TIMEOUT_MS });
  await until(runtime, "the second is accepted", () => accepted.length === 1);
  welcome.abort();
  accepted[0]!.abort();
  listener.close();
});

promise("clients that leave at once do not disturb the listener", async (runtime) => {
  const accepted: Conn[] = [];
  const listener = await runtime.net.listen({
    host: "127.0.0.1",
    port: 0,
    accept: (conn) => accepted.push(conn),
    // A client that was gone before it was accepted may be reported.
    failed: (error) => assert.equal(error.code, "reset", error.message),
  });
  for (let count = 0; count < 50; count++) {
    const rude = await runtime.net.connect(listener.address, { timeoutMs: TIMEOUT_MS });
    if (count % 2 === 0) void rude.write(pattern(100)).catch(() => {});
    rude.abort();
  }
  const polite = await runtime.net.connect(listener.address, { timeoutMs: TIMEOUT_MS });
  await polite.write(pattern(5));
  polite.end();
  const last = () => accepted.find((conn) => conn.peer.port === polite.local.port);
  await until(runtime, "the polite one is accepted", () => last() !== undefined);
  assert.ok(sameBytes(await readAll(last()!, 5), pattern(5)));
  for (const conn of accepted) conn.abort();
  polite.abort();
  listener.close();
});

promise("closing a listener refuses newcomers and keeps the connections it accepted", async (runtime) => {
  const accepted: Conn[] = [];
  const failed = (error: NetError) => assert.fail(error);
  const accept = (conn: Conn) => void accepted.push(conn);
  const listener = await runtime.net.listen({ host: "127.0.0.1", port: 0, accept, failed });
  const client = await runtime.net.connect(listener.address, { timeoutMs: TIMEOUT_MS });
  await until(runtime, "the connection is accepted", () => accepted.length === 1);
  listener.close();
  await sleep(runtime, 20);
  await netFailure(runtime.net.connect(listener.address, { timeoutMs: TIMEOUT_MS }), "refused");
  await client.write(pattern(7));
  client.end();
  assert.ok(sameBytes(await readAll(accepted[0]!, 7), pattern(7)));
  client.abort();
  accepted[0]!.abort();
});

// Time and chance.

promise("timers fire once, in order, never early; a cancelled one never", async (runtime) => {
  const { clock } = runtime;
  const startMs = clock.monotonicMs();
  const fired: string[] = [];
  const start = (name: string, delayMs: number) =>
    clock.startTimer(delayMs, () => {
      const tookMs = clock.monotonicMs() - startMs;
      assert.ok(tookMs >= delayMs, `${name} fired after ${tookMs} ms`);
      fired.push(name);
    });
  start("third", 60.5);
  start("first", 0);
  const cancel = start("never", 20);
  const cancelLate = start("second", 30);
  clock.startTimer(5, cancel);
  start("in 100 days", 100 * 86_400_000)();
  await sleep(runtime, 150);
  cancelLate();
  cancelLate();
  assert.deepEqual(fired, ["first", "second", "third"]);
});

promise("soon keeps its order and comes after microtasks", async (runtime) => {
  const order: string[] = [];
  runtime.clock.soon(() => order.push("soon 1"));
  runtime.clock.soon(() => {
    order.push("soon 2");
    runtime.clock.soon(() => order.push("soon 4"));
  });
  runtime.clock.soon(() => order.push("soon 3"));
  void Promise.resolve().then(() => order.push("microtask"));
  order.push("now");
  await until(runtime, "all have run", () => order.length === 6);
  assert.deepEqual(order, ["now", "microtask", "soon 1", "soon 2", "soon 3", "soon 4"]);
});

promise("the monotonic clock never steps back, the wall clock is the present", async (runtime) => {
  let lastMs = runtime.clock.monotonicMs();
  for (let count = 0; count < 50; count++) {
    const nowMs = runtime.clock.monotonicMs();
    assert.ok(nowMs >= lastMs);
    lastMs = nowMs;
    if (count % 10 === 0) await sleep(runtime, 1);
  }
  assert.ok(runtime.clock.wallMs() > Date.UTC(2025, 0, 1));
});

promise("random numbers are in [0, 1), random bytes as long as asked and not all the same", async (runtime) => {
  for (let count = 0; count < 1000; count++) {
    const drawn = runtime.random.next();
    assert.ok(drawn >= 0 && drawn < 1);
  }
  assert.equal(runtime.random.bytes(0).length, 0);
  const long = runtime.random.bytes(100_001);
  assert.equal(long.length, 100_001);
  assert.ok(new Set(long.subarray(99_000)).size > 100);
  assert.ok(!sameBytes(runtime.random.bytes(16), runtime.random.bytes(16)));
});

// Files.

promise("a file is made, appended to, synced, read, cut, and read again", async (runtime, { folder }) => {
  const { disk } = runtime;
  const path = `${folder}/log`;
  const file = await disk.open(path, "create");
  await file.append(pattern(1000));
  await file.append(pattern(500, 1000));
  await file.append(new Uint8Array(0));
  await file.sync();
  await disk.syncDir(folder);
  assert.equal(await file.length(), 1500);
  assert.ok(sameBytes(await file.readAt(100, 200), pattern(200, 100)));
  assert.ok(sameBytes(await file.readAt(1400, 500), pattern(100, 1400)));
  assert.equal((await file.readAt(5000, 10)).length, 0);
  await file.truncate(1200);
  await file.append(pattern(10));
  await file.close();
  await file.close();
  const stat = (await disk.stat(path))!;
  assert.equal(stat.kind, "file");
  assert.equal(stat.length, 1210);
  assert.equal(stat.mode, 0o600);
  assert.equal(stat.ownedByUs, true);
  const again = await disk.open(path, "append");
  await again.append(pattern(5));
  assert.equal(await again.length(), 1215);
  await again.close();
  const all = await disk.readFile(path, 1215);
  assert.ok(sameBytes(all.subarray(0, 1200), pattern(1200)));
  assert.ok(sameBytes(all.subarray(1200, 1210), pattern(10)));
  await diskFailure(disk.readFile(path, 1214), "too_large", path);
});

promise("an append has copied its bytes when it returns", async (runtime, { folder }) => {
  const file = await runtime.disk.open(`${folder}/copy`, "create");
  const bytes = new Uint8Array(1000).fill(1);
  const appending = file.append(bytes);
  bytes.fill(2);
  await appending;
  assert.ok((await file.readAt(0, 1000)).every((byte) => byte === 1));
  await file.close();
});

promise("calls on a closed file fail", async (runtime, { folder }) => {
  const path = `${folder}/closed`;
  const file = await runtime.disk.open(path, "create");
  await file.close();
  await diskFailure(file.append(pattern(1)), "other", path);
  await diskFailure(file.sync(), "other", path);
  await diskFailure(file.readAt(0, 1), "other", path);
  await diskFailure(file.length(), "other", path);
  await diskFailure(file.truncate(0), "other", path);
});

promise("disk errors have a code and the path", async (runtime, { folder }) => {
  const { disk } = runtime;
  const missing = `${folder}/missing`;
  const present = `${folder}/present`;
  await (await disk.open(present, "create")).close();
  await diskFailure(disk.open(missing, "read"), "not_found", missing);
  await diskFailure(disk.open(missing, "append"), "not_found", missing);
  await diskFailure(disk.open(present, "create"), "exists", present);
  await diskFailure(disk.readFile(missing, 10), "not_found", missing);
  await diskFailure(disk.list(missing), "not_found", missing);
  await diskFailure(disk.list(present), "not_folder", present);
  await diskFailure(disk.remove(missing), "not_found", missing);
  await diskFailure(disk.removeDir(missing), "not_found", missing);
  await diskFailure(disk.rename(missing, present), "not_found", missing);
  await diskFailure(disk.syncDir(missing), "not_found", missing);
  await diskFailure(disk.makeDir(present), "not_folder", present);
  await diskFailure(disk.open(`${present}/below`, "read"), "not_folder", `${present}/below`);
  await diskFailure(disk.lock(`${missing}/LOCK`), "not_found", `${missing}/LOCK`);
  assert.equal(await disk.stat(missing), null);
  assert.equal(await disk.stat(`${present}/below`), null);
});

promise("rename replaces what is there", async (runtime, { folder }) => {
  const { disk } = runtime;
  for (const [name, content] of [
    ["old", 1],
    ["new", 2],
  ] as const) {
    const file = await disk.open(`${folder}/${name}`, "create");
    await file.append(new Uint8Array([content]));
    await file.sync();
    await file.close();
  }
  await disk.rename(`${folder}/new`, `${folder}/old`);
  await disk.syncDir(folder);
  assert.deepEqual([...(await disk.readFile(`${folder}/old`, 10))], [2]);
  assert.equal(await disk.stat(`${folder}/new`), null);
});

promise(
  "folders are made with their parents and mode 0700, listed in order, removed when empty",
  async (runtime, stage) => {
    const { disk } = runtime;
    const { folder } = stage;
    await disk.makeDir(`${folder}/a/b/c`);
    await disk.makeDir(`${folder}/a/b/c`);
    for (const part of ["a", "a/b", "a/b/c"]) {
      const stat = (await disk.stat(`${folder}/${part}`))!;
      assert.equal(stat.kind, "folder");
      assert.equal(stat.mode, 0o700);
    }
    for (const name of ["w10", "w1", "Z", "ä", "_"]) await (await disk.open(`${folder}/a/${name}`, "create")).close();
    assert.deepEqual(
      (await disk.list(`${folder}/a`)).map(({ name, kind }) => `${name} ${kind}`),
      ["Z file", "_ file", "b folder", "w1 file", "w10 file", "ä file"],
    );
    await diskFailure(disk.removeDir(`${folder}/a`), "not_empty", `${folder}/a`);
    await disk.removeDir(`${folder}/a/b/c`);
    assert.deepEqual(await disk.list(`${folder}/a/b`), []);
  },
);

promise("a file that was removed is still there for who has it open", async (runtime, { folder }) => {
  const file = await runtime.disk.open(`${folder}/gone`, "create");
  await file.append(pattern(10));
  await runtime.disk.remove(`${folder}/gone`);
  await file.append(pattern(10, 10));
  assert.ok(sameBytes(await file.readAt(0, 100), pattern(20)));
  await file.close();
});

promise("a lock is held once, and free again after its release", async (runtime, { folder }) => {
  const { disk } = runtime;
  const path = `${folder}/LOCK`;
  const lock = (await disk.lock(path))!;
  assert.notEqual(lock, null);
  assert.equal((await disk.stat(path))!.mode, 0o600);
  assert.equal(await disk.lock(path), null);
  await lock.release();
  await lock.release();
  const second = (await disk.lock(path))!;
  assert.notEqual(second, null);
  await second.removeAndRelease();
  await second.release();
  assert.equal(await disk.stat(path), null);
  const third = (await disk.lock(path))!;
  assert.notEqual(third, null);
  assert.equal(await disk.lock(path), null);
  await third.removeAndRelease();
});

// The host.

promise("the host digests bytes, knows its process and counts its work", async (runtime) => {
  const { host } = runtime;
  const digest = await host.digest(new TextEncoder().encode("abc"));
  const hex = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  assert.equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  assert.ok(host.pid > 0);
  assert.equal(host.calledAs, "tammar");
  assert.ok(host.workingDir.startsWith("/"));
  assert.equal(host.env("TAMMAR_NO_SUCH_VARIABLE"), undefined);
  assert.ok(host.residentBytes() > 1_000_000);
  assert.ok(host.descriptorsMax === null || host.descriptorsMax > 20);
  const before = host.cpuMicros();
  await sleep(runtime, 20);
  assert.ok(host.cpuMicros() >= before);
});
