import assert from "node:assert/strict";
import { test } from "node:test";
import { framed } from "../../src/api/framing.ts";
import { Prng } from "../../src/base/prng.ts";
import { TcpSourceConnector, type TcpSourceOptions } from "../../src/connectors/tcp_source.ts";
import type { Conn, ListenOptions, Runtime } from "../../src/runtime/runtime.ts";
import type { VirtualHost } from "../../src/runtime/virtual/host.ts";
import type { NetworkOptions } from "../../src/runtime/virtual/network.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { encodeFrame } from "../../src/wire/frame.ts";
import { PositionAckReader } from "../../src/wire/position_ack.ts";
import { realRuntime } from "../lib/real_runtime.ts";
import { CollectedLog } from "./fakes.ts";

const PORT = 7010;

/** A source on a virtual machine, and clients on others. */
class Bench {
  readonly world: VirtualWorld;
  readonly prng: Prng;
  readonly log = new CollectedLog();
  readonly frames: string[] = [];
  blocked = false;
  source!: TcpSourceConnector;
  readonly #machine: VirtualHost;
  #clients = 0;

  constructor(seed: number, options: Partial<TcpSourceOptions> = {}, network: Partial<NetworkOptions> = {}) {
    this.world = new VirtualWorld({ seed, network });
    this.prng = new Prng(seed, "source test");
    this.#machine = this.world.host("worker");
    this.#machine.startProcess(async (runtime) => {
      this.source = sourceOf(runtime, this.log, this.frames, () => this.blocked, options);
      await this.source.listen({ host: "0.0.0.0", port: PORT });
    });
  }

  async listening(open = true): Promise<this> {
    assert.ok(await this.world.runUntil(() => this.source?.address != null, 1_000));
    if (open) this.source.open();
    return this;
  }

  /** A client on a machine of its own; it writes what it is given, in pieces. `null`: it ends its direction. */
  client(): {
    write(bytes: Uint8Array, pieceMax?: number): void;
    end(): void;
    readonly lost: boolean;
    readonly taken: number;
  } {
    const pieces: (Uint8Array | null)[] = [];
    let wake = () => {};
    let lost = false;
    let taken = 0;
    this.world.host(`client${++this.#clients}`).startProcess(async ({ net }) => {
      try {
        const conn = await net.connect({ host: "worker", port: PORT }, { timeoutMs: 5_000 });
        conn.read().then(
          () => {
            lost = true;
          },
          () => {
            lost = true;
          },
        );
        for (;;) {
          while (pieces.length === 0) await new Promise<void>((resolve) => (wake = resolve));
          const piece = pieces.shift()!;
          if (piece === null) return conn.end();
          await conn.write(piece);
          taken += piece.length;
        }
      } catch {
        lost = true;
      }
    });
    const { prng } = this;
    return {
      write(bytes, pieceMax = Number.POSITIVE_INFINITY) {
        for (let at = 0; at < bytes.length; ) {
          const length = pieceMax === Number.POSITIVE_INFINITY ? bytes.length : 1 + prng.int(pieceMax);
          pieces.push(bytes.slice(at, at + length));
          at += length;
        }
        wake();
      },
      end() {
        pieces.push(null);
        wake();
      },
      get lost() {
        return lost;
      },
      get taken() {
        return taken;
      },
    };
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    assert.ok(await this.world.runUntil(condition, 60_000), `${what}; ${this.frames.length} frames`);
  }
}

function sourceOf(
  runtime: Runtime,
  log: CollectedLog,
  frames: string[],
  blocked: () => boolean,
  options: Partial<TcpSourceOptions>,
): TcpSourceConnector {
  const decoder = new TextDecoder();
  return new TcpSourceConnector({
    runtime,
    log,
    name: "words",
    framing: framed.u32,
    frameBytesMax: 16 << 20,
    connectionsMax: 10,
    acks: false,
    checkpoints: true,
    turn: (run) => run(),
    blocked,
    frames: (bytes, starts, ends, count) => {
      assert.ok(count > 0);
      for (let i = 0; i < count; i++) frames.push(decoder.decode(bytes.subarray(starts[i]!, ends[i]!)));
    },
    ...options,
  });
}

function frame(text: string): Uint8Array {
  return encodeFrame(new TextEncoder().encode(text));
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

test("frames of several clients come whole and in order, over any chunks, while the source is blocked now and then", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const bench = await new Bench(seed, {
      frames: (bytes, starts, ends, count) => {
        assert.equal(bench.blocked, false, "nothing is handed on while it is blocked");
        for (let i = 0; i < count; i++) {
          bench.frames.push(new TextDecoder().decode(bytes.subarray(starts[i]!, ends[i]!)));
        }
        bench.blocked = bench.prng.chance(3);
        if (bench.blocked) {
          bench.world.at(bench.world.now() + bench.prng.between(1, 80), () => {
            bench.blocked = false;
            bench.source.resume();
          });
        }
      },
    }).listening();
    const counts = [40, 300, 7];
    counts.forEach((count, client) => {
      const parts: Uint8Array[] = [];
      for (let i = 0; i < count; i++) {
        const filler = "y".repeat(bench.prng.chance(20) ? bench.prng.int(100_000) : bench.prng.int(50));
        parts.push(frame(`${client} ${i} ${filler}`), frame(""));
      }
      const writer = bench.client();
      writer.write(join(parts), 30_000);
      writer.end();
    });
    const total = 2 * (40 + 300 + 7);
    await bench.until(() => bench.frames.length === total && bench.source.connections === 0, `seed ${seed}`);
    counts.forEach((count, client) => {
      const numbers = bench.frames
        .filter((text) => text.startsWith(`${client} `))
        .map((text) => Number(text.split(" ")[1]));
      assert.deepEqual(
        numbers,
        Array.from({ length: count }, (_, i) => i),
        `seed ${seed}, client ${client}`,
      );
    });
    assert.equal(bench.log.count("source_accepted"), 3);
  }
});

test("nothing is read before open(), and a blocked source reads one chunk ahead at most: the client feels it", async () => {
  const bench = await new Bench(3).listening(false);
  const client = bench.client();
  const bytes = join(Array.from({ length: 20_000 }, (_, i) => frame(`${i}`.padStart(96, "."))));
  client.write(bytes);
  await bench.world.runFor(2_000);
  assert.equal(bench.source.connections, 1);
  assert.equal(bench.source.bytesRead, 0);
  bench.blocked = true;
  bench.source.open();
  await bench.world.runFor(2_000);
  assert.equal(bench.source.bytesRead, 0);
  bench.blocked = false;
  bench.source.resume();
  await bench.until(() => bench.frames.length > 0, "it reads");
  bench.blocked = true;
  const frames = bench.frames.length;
  const read = bench.source.bytesRead;
  await bench.world.runFor(5_000);
  assert.equal(bench.frames.length, frames);
  assert.ok(bench.source.bytesRead <= read + 65_536);
  bench.blocked = false;
  bench.source.resume();
  await bench.until(() => bench.frames.length === 20_000, "the rest");
  assert.equal(bench.source.bytesRead, bytes.length);
});

test("a frame that is too long costs its own connection alone; frames before it count", async () => {
  const bench = await new Bench(4, { frameBytesMax: 100 }).listening();
  const good = bench.client();
  const bad = bench.client();
  good.write(frame("a"));
  bad.write(join([frame("b"), frame("x".repeat(101)), frame("c")]));
  await bench.until(() => bad.lost && bench.frames.length === 2, "it is closed");
  good.write(frame("y".repeat(100)));
  await bench.until(() => bench.frames.length === 3, "the other goes on");
  assert.deepEqual(bench.frames.toSorted(), ["a", "b", "y".repeat(100)]);
  assert.equal(bench.source.connections, 1);
  assert.match(
    bench.log.last("source_frame_too_large"),
    /words source: SourceTCPHandler: Received unexpected expect of size: 101, exceeds max: 100. Closed connection/,
  );
});

test("a frame that ends with its connection is dropped, and the next connection begins at a header", async () => {
  const bench = await new Bench(5).listening();
  const cut = bench.client();
  cut.write(join([frame("whole"), frame("cut off").slice(0, 8)]));
  cut.end();
  await bench.until(() => bench.frames.length === 1 && bench.source.connections === 0, "it is gone");
  bench.client().write(frame("next"));
  await bench.until(() => bench.frames.length === 2, "the next one");
  assert.deepEqual(bench.frames, ["whole", "next"]);
  assert.match(bench.log.last("source_connection_closed"), /8 bytes of a frame that never became whole were dropped/);
});

test("at the cap of connections the oldest without a frame goes; with frames from all the newcomer is refused", async () => {
  const bench = await new Bench(6, { connectionsMax: 3 }).listening();
  const known = bench.client();
  known.write(frame("a"));
  await bench.until(() => bench.frames.length === 1, "a");
  const [idle, partial] = [bench.client(), bench.client()];
  partial.write(frame("begun").slice(0, 6));
  await bench.until(() => bench.source.connections === 3, "three");
  const newcomer = bench.client();
  newcomer.write(frame("b"));
  await bench.until(() => bench.frames.length === 2, "the newcomer is heard");
  assert.equal([idle, partial].filter((client) => client.lost).length, 1);
  assert.equal(known.lost, false);
  assert.equal(bench.source.refused, 1);
  const another = bench.client();
  another.write(frame("c"));
  await bench.until(() => bench.frames.length === 3, "c");
  const refused = bench.client();
  await bench.until(() => refused.lost, "nobody is left to make room");
  assert.equal(bench.source.refused, 3);
  for (const client of [known, newcomer, another]) {
    assert.equal(client.lost, false);
    client.write(frame("more"));
  }
  await bench.until(() => bench.frames.length === 6, "more");
});

test("a stranger that sends its first frame a byte a second is closed; a client with frames may be as slow as it likes", async () => {
  const bench = await new Bench(7).listening();
  const slow = bench.client();
  const known = bench.client();
  known.write(frame("a"));
  await bench.until(() => bench.frames.length === 1, "a");
  const bytes = frame("x".repeat(100));
  for (let i = 0; i < 16; i++) {
    slow.write(bytes.slice(i, i + 1));
    known.write(bytes.slice(i, i + 1));
    await bench.world.runFor(1_000);
  }
  assert.equal(slow.lost, true);
  assert.equal(bench.log.count("source_too_slow"), 1);
  assert.equal(known.lost, false);
  known.write(bytes.slice(16));
  await bench.until(() => bench.frames.length === 2, "the slow frame of a known client");
});

test("a first frame that waits for a blocked source is not held against the client", async () => {
  const bench = await new Bench(8).listening();
  const client = bench.client();
  const bytes = frame("x".repeat(300_000));
  client.write(bytes.slice(0, 100));
  await bench.world.runFor(100);
  assert.equal(bench.source.bytesRead, 100);
  bench.blocked = true;
  client.write(bytes.slice(100, 5_000));
  await bench.world.runFor(60_000);
  bench.blocked = false;
  bench.source.resume();
  await bench.world.runFor(1_000);
  client.write(bytes.slice(5_000));
  await bench.until(() => bench.frames.length === 1, "the frame");
  assert.equal(client.lost, false);
});

test("close() hands on what was read and held back, closes everybody, and takes nothing more", async () => {
  const bench = await new Bench(9).listening();
  const client = bench.client();
  client.write(frame("a"));
  await bench.until(() => bench.frames.length === 1, "a");
  bench.blocked = true;
  client.write(join([frame("b"), frame("c"), frame("d").slice(0, 3)]));
  await bench.world.runFor(100);
  assert.deepEqual(bench.frames, ["a"]);
  bench.source.close(true);
  assert.deepEqual(bench.frames, ["a", "b", "c"]);
  await bench.until(() => client.lost, "closed");
  bench.blocked = false;
  bench.source.resume();
  const late = bench.client();
  await bench.until(() => late.lost, "nobody listens");
  await bench.world.runFor(100);
  assert.deepEqual(bench.frames, ["a", "b", "c"]);
  assert.equal(bench.source.connections, 0);
});

test("close() hands on a chunk that was read and waits for its turn", async () => {
  let accept: ListenOptions["accept"] = () => {};
  const soon: (() => void)[] = [];
  const frames: string[] = [];
  const runtime = {
    clock: { monotonicMs: () => 1_000_000, soon: (run: () => void) => soon.push(run) },
    net: {
      listen: (options: ListenOptions) => {
        accept = options.accept;
        return Promise.resolve({ address: options, close: () => {} });
      },
    },
  } as unknown as Runtime;
  const source = sourceOf(runtime, new CollectedLog(), frames, () => false, {});
  await source.listen({ host: "::1", port: PORT });
  source.open();
  accept(readyConn([frame("a")], () => {}));
  while (soon.length === 0) await null;
  assert.deepEqual(frames, []);
  source.close(true);
  assert.deepEqual(frames, ["a"]);
  for (const run of soon) run();
  assert.deepEqual(frames, ["a"]);
});

/** A connection that has its chunks ready: each read completes without the event loop. */
function readyConn(chunks: Iterable<Uint8Array>, ended: () => void): Conn {
  const iterator = chunks[Symbol.iterator]();
  const address = { host: "10.0.0.9", port: 9 };
  return {
    peer: address,
    local: address,
    read: () => {
      const { done, value } = iterator.next();
      if (done === true) ended();
      return Promise.resolve(done === true ? null : value);
    },
    write: () => Promise.resolve(),
    end: () => {},
    abort: () => {},
  };
}

test("timers fire while clients flood, even when every read completes at once", async () => {
  const { clock } = await realRuntime();
  const until = clock.monotonicMs() + 250;
  function* flood(): Generator<Uint8Array> {
    while (clock.monotonicMs() < until) yield chunk;
  }
  const chunk = join(Array.from({ length: 600 }, (_, i) => frame(`${i}`.padStart(96, "."))));
  let accept: ListenOptions["accept"] = () => {};
  const net = {
    listen: (options: ListenOptions) => {
      accept = options.accept;
      return Promise.resolve({ address: options, close: () => {} });
    },
  };
  let count = 0;
  const source = sourceOf({ clock, net } as unknown as Runtime, new CollectedLog(), [], () => false, {
    frames: (_bytes, _starts, _ends, frameCount) => {
      count += frameCount;
    },
  });
  await source.listen({ host: "::1", port: PORT });
  source.open();
  let fired = 0;
  let floods = 3;
  const tick = () => {
    fired++;
    if (floods > 0) clock.startTimer(5, tick);
  };
  clock.startTimer(5, tick);
  await new Promise<void>((resolve) => {
    const ended = () => {
      floods--;
      if (floods === 0) resolve();
    };
    for (let i = 0; i < 3; i++) accept(readyConn(flood(), ended));
  });
  assert.ok(count > 1_000);
  // Of about 45. The machine may be busy; without turns in between it would be none.
  assert.ok(fired >= 5, `the timer fired ${fired} times`);
  source.close(true);
});

test("timers fire while a client floods a real socket", async () => {
  const runtime = await realRuntime();
  const { clock, net } = runtime;
  let count = 0;
  const source = sourceOf(runtime, new CollectedLog(), [], () => false, {
    frames: (_bytes, _starts, _ends, frameCount) => {
      count += frameCount;
    },
  });
  await source.listen({ host: "127.0.0.1", port: 0 });
  source.open();
  const client = await net.connect(source.address!, { timeoutMs: 5_000 });
  const chunk = join(Array.from({ length: 2_000 }, (_, i) => frame(`${i}`.padStart(96, "."))));
  const until = clock.monotonicMs() + 300;
  let fired = 0;
  let flooding = true;
  const tick = () => {
    fired++;
    if (flooding) clock.startTimer(5, tick);
  };
  clock.startTimer(5, tick);
  let sent = 0;
  while (clock.monotonicMs() < until) {
    await client.write(chunk);
    sent += 2_000;
  }
  flooding = false;
  client.end();
  const deadline = clock.monotonicMs() + 10_000;
  while (source.connections > 0 && clock.monotonicMs() < deadline) {
    await new Promise<void>((resolve) => clock.startTimer(5, resolve));
  }
  assert.equal(count, sent);
  assert.ok(fired >= 5, `the timer fired ${fired} times`);
  source.close(true);
});

test("a rollback says which frames a source has taken in and lost, and a new process goes on counting", async () => {
  const bench = await new Bench(1).listening();
  const client = bench.client();
  const { checkpoints } = bench.source;
  for (let i = 0; i < 5; i++) client.write(encodeFrame(new TextEncoder().encode(`${i}`)));
  assert.ok(await bench.world.runUntil(() => bench.frames.length === 5, 1_000));
  const position = checkpoints!.snapshot(1);
  for (let i = 0; i < 3; i++) client.write(encodeFrame(new TextEncoder().encode(`${i}`)));
  assert.ok(await bench.world.runUntil(() => bench.frames.length === 8, 1_000));
  assert.equal(bench.source.status()["frames_covered"], 0);
  checkpoints!.acknowledge(1);
  assert.equal(bench.source.status()["frames_covered"], 5);
  checkpoints!.seek(position, false);
  assert.equal(bench.source.status()["frames"], 5);
  assert.equal(bench.source.status()["frames_taken_back"], 3);
  assert.match(
    bench.log.lines.at(-1)!,
    / from .*: the last 3 frames \(15 bytes\) .* send again what came behind frame 5 \(byte 25\) of that/,
  );
  checkpoints!.seek(position, false);
  assert.match(bench.log.lines.at(-1)!, /the rollback took back 0 frames \(0 bytes\): the state covers all 5 frames/);
  const other = await new Bench(2).listening(false);
  other.source.checkpoints!.seek(position, true);
  assert.match(other.log.lines.at(-1)!, /to the process before: the state covers the first 5 frames \(25 bytes\)/);
  assert.equal(other.source.status()["last_rollback_counted"], false);
  assert.match(String(other.source.status()["last_rollback_connections"]), /the first 5 frames/);
  const early = await new Bench(7).listening(false);
  early.source.checkpoints!.seek(null, false);
  assert.ok(!early.log.lines.some((line) => line.startsWith("source_position")), "a first start goes back to nothing");
  early.source.checkpoints!.seek(null, true);
  assert.match(
    early.log.lines.at(-1)!,
    /covers the first 0 frames .* is not known: send again what came behind frame 0/,
  );
  assert.throws(() => other.source.checkpoints!.seek({ version: 2, frames: -1 }, true), /not one of a TCP source/);
});

/** A client that reads what it is told, unless it is told to be deaf. */
async function listener(bench: Bench, name: string, deaf = false) {
  const acks = new PositionAckReader();
  const client = { acks, told: [] as number[], over: false, write: (_bytes: Uint8Array) => {}, end: () => {} };
  let conn: Conn | null = null;
  bench.world.host(name).startProcess(async ({ net }) => {
    const made = await net.connect({ host: "worker", port: PORT }, { timeoutMs: 5_000 });
    conn = made;
    client.write = (bytes) => void made.write(bytes).catch(() => {});
    client.end = () => made.end();
    try {
      for (let bytes = deaf ? null : await made.read(); bytes !== null; bytes = await made.read()) {
        assert.equal(acks.push(bytes), null);
        // A piece of a frame says nothing yet.
        const { records } = acks.position ?? { records: null };
        if (records !== null && records !== client.told.at(-1)) client.told.push(records);
      }
    } catch {
      // Cut.
    }
    client.over = !deaf;
  });
  await bench.until(() => conn !== null, "it connects");
  return client;
}

test("a client is told what each checkpoint covers of its own connection, and may end its direction before", async () => {
  const bench = await new Bench(3, { acks: true }).listening();
  const { checkpoints } = bench.source;
  const one = await listener(bench, "one");
  const two = await listener(bench, "two");
  await bench.until(() => one.told.length === 1 && two.told.length === 1, "both are told 0");
  one.write(join([frame("a"), frame("b"), frame("c")]));
  two.write(frame("dd"));
  await bench.until(() => bench.frames.length === 4, "all are taken in");
  checkpoints!.snapshot(1);
  two.write(frame("e"));
  await bench.until(() => bench.frames.length === 5, "one more");
  two.end();
  checkpoints!.acknowledge(1);
  await bench.until(() => one.told.at(-1) === 3 && two.told.at(-1) === 1, "both know");
  assert.deepEqual(one.acks.position, { records: 3, bytes: 15 });
  assert.deepEqual(two.acks.position, { records: 1, bytes: 6 });
  assert.equal(two.over, false);
  checkpoints!.snapshot(2);
  checkpoints!.acknowledge(2);
  await bench.until(() => two.over, "its last record is safe");
  assert.deepEqual(two.told, [0, 1, 2]);
  assert.deepEqual(one.told, [0, 3]);
});

test("a rollback closes the connections that it took records from, and no other", async () => {
  const bench = await new Bench(4, { acks: true }).listening();
  const { checkpoints } = bench.source;
  const one = await listener(bench, "one");
  const two = await listener(bench, "two");
  one.write(frame("a"));
  two.write(frame("b"));
  await bench.until(() => bench.frames.length === 2, "both are taken in");
  // It exists, though this worker has not heard of it.
  const position = checkpoints!.snapshot(1);
  two.write(frame("c"));
  await bench.until(() => bench.frames.length === 3, "one more");
  checkpoints!.seek(position, false);
  await bench.until(() => two.over && one.told.at(-1) === 1, "one is told, two is cut");
  assert.deepEqual(two.told, [0]);
  assert.equal(one.over, false);
  one.write(frame("d"));
  await bench.until(() => bench.frames.length === 4, "one goes on");
  checkpoints!.snapshot(2);
  checkpoints!.acknowledge(2);
  await bench.until(() => one.told.at(-1) === 2, "and is told");
  checkpoints!.seek(null, false);
  await bench.until(() => one.over, "back to nothing");
});

test("a client that does not read what it is told costs one write, and is read on", async () => {
  const bench = await new Bench(5, { acks: true }, { receiveBufferBytes: 32, sendBufferBytes: 32 }).listening();
  const { checkpoints } = bench.source;
  const client = await listener(bench, "deaf", true);
  for (let i = 1; i <= 200; i++) {
    client.write(frame("x"));
    await bench.until(() => bench.frames.length === i, `frame ${i}`);
    checkpoints!.snapshot(i);
    checkpoints!.acknowledge(i);
  }
  assert.equal(bench.source.connections, 1);
});

test("without checkpoints nothing is acknowledged, and the log says why", async () => {
  const bench = await new Bench(6, { acks: true, checkpoints: false }).listening();
  const client = await listener(bench, "one");
  client.write(frame("x"));
  await bench.until(() => bench.frames.length === 1, "it is taken in");
  client.end();
  await bench.until(() => client.over, "it is closed");
  assert.deepEqual(client.told, []);
  assert.ok(bench.log.lines.some((line) => line.startsWith("source_acks_off")));
});
