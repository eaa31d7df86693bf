// Whoever can open a connection, and those of us who do not belong here.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Conn, Runtime } from "../../../src/runtime/runtime.ts";
import { encodeHandshake, type Hello, PROTOCOL_VERSION } from "../../../src/wire/hello.ts";
import { PAYLOAD_HEADER_BYTES, writeAck, writePayloadHeader, writeResume } from "../../../src/wire/link.ts";
import { assertWhole, at, CONTROL_PORT, DATA_PORT, idOf } from "./channel_world.ts";
import { VirtualWorkers } from "./virtual_workers.ts";

const PAIR = ["initializer", "w1"] as const;
const encoder = new TextEncoder();

const HELLO: Hello = {
  kind: "hello",
  protocolVersion: PROTOCOL_VERSION,
  channel: "control",
  clusterId: "c".repeat(32),
  buildId: "build-1",
  fingerprint: "fingerprint-1",
  application: "test",
  worker: "w9",
  generation: 1,
  incarnation: idOf("w9", 1),
  startNumber: 1,
  checkpoints: true,
  controlHost: "",
  controlPort: 7000,
  dataHost: "",
  dataPort: 7001,
  oldestUnacked: 1,
  workerCount: 0,
};

const RESUME = resume(1, 0);

function resume(oldestUnacked: number, receivedThrough: number): Uint8Array {
  const bytes = new Uint8Array(21);
  writeResume(new DataView(bytes.buffer), 0, oldestUnacked, receivedThrough);
  return bytes;
}

function payload(sequence: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(PAYLOAD_HEADER_BYTES + body.length);
  writePayloadHeader(new DataView(bytes.buffer), 0, "control_message", 0, 1, sequence, body.length);
  bytes.set(body, PAYLOAD_HEADER_BYTES);
  return bytes;
}

/** A worker, and a machine from which somebody connects to it. */
async function besieged(seed: number, port = CONTROL_PORT, target: (typeof PAIR)[number] = "initializer") {
  const v = new VirtualWorkers({ seed });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  const worker = v.get(target);
  const events = worker.events.length;
  const host = v.host("stranger");
  /** Ends of the stranger's connections: `open`, or how each ended. */
  const conns: { conn: Conn; state: string; got: number[] }[] = [];
  let runtime: Runtime | null = null;
  host.startProcess((its) => {
    runtime = its;
  });
  await v.world.runFor(1);
  return {
    v,
    worker,
    conns,
    connect(then: (conn: Conn) => unknown = () => {}) {
      void runtime!.net.connect(at(target, port), { timeoutMs: 5_000 }).then(
        (conn) => {
          const entry = { conn, state: "open", got: [] as number[] };
          conns.push(entry);
          const read = (): void => {
            conn.read().then(
              (chunk) => {
                if (chunk === null) entry.state = "ended";
                else {
                  entry.got.push(...chunk);
                  read();
                }
              },
              (error) => {
                entry.state = error.code;
              },
            );
          };
          read();
          return then(conn);
        },
        () => {},
      );
    },
    runtime: () => runtime!,
    /** The link that was there has not noticed anything, and works. */
    async assertUndisturbed() {
      assert.deepEqual(worker.events.slice(events), []);
      v.act("w1", (w1) => w1.say("initializer"));
      v.act("initializer", (w) => w.say("w1"));
      await v.world.runFor(50);
      assertWhole(worker.controlGot.get("w1.1"), v.get("w1").controlSent.get("initializer")!, "control");
      assertWhole(v.get("w1").controlGot.get("initializer.1"), worker.controlSent.get("w1")!, "control");
      v.assertAlive(PAIR);
    },
  };
}

const GARBAGE: readonly (readonly [string, Uint8Array, string])[] = [
  ["HTTP", encoder.encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "not_tammar"],
  ["a TLS hello", Uint8Array.of(0x16, 0x03, 0x01, 0x02, 0x00, 0x01), "not_tammar"],
  ["a length of 4 GiB", Uint8Array.of(0xff, 0xff, 0xff, 0xff), "not_tammar"],
  ["a length just beyond a handshake", Uint8Array.of(0, 0, 4, 1), "not_tammar"],
  ["an empty frame", Uint8Array.of(0, 0, 0, 0), "not_tammar"],
  ["an external channel message", Uint8Array.of(0, 0, 0, 3, 8, 0, 0), "not_tammar"],
  ["zeros", new Uint8Array(4_096), "early_bytes"],
  ["a hello that is cut short", encodeHandshake(HELLO).slice(0, 60).fill(56, 3, 4), "truncated"],
  ["two hellos", new Uint8Array([...encodeHandshake(HELLO), ...encodeHandshake(HELLO)]), "early_bytes"],
  ["a hello and half a frame", new Uint8Array([...encodeHandshake(HELLO), 0, 0]), "early_bytes"],
  [
    "a welcome",
    encodeHandshake({
      ...HELLO,
      kind: "welcome",
      receivedThrough: 0,
    }),
    "bad_handshake",
  ],
];

for (const port of [CONTROL_PORT, DATA_PORT]) {
  const name = port === CONTROL_PORT ? "control" : "data";
  test(`garbage on the ${name} port is closed at once, counted, and disturbs nobody`, async () => {
    for (const [what, bytes, code] of GARBAGE) {
      const { v, worker, conns, connect, assertUndisturbed } = await besieged(21, port);
      connect((conn) => conn.write(bytes).catch(() => {}));
      // Three cuts of the same: byte by byte, in halves, and whole.
      connect(async (conn) => {
        for (const byte of bytes.subarray(0, 200)) await conn.write(Uint8Array.of(byte)).catch(() => {});
        await conn.write(bytes.subarray(200)).catch(() => {});
      });
      await v.world.runFor(1_000);
      assert.deepEqual(
        conns.map((each) => each.state === "open"),
        [false, false],
        `${what}: closed`,
      );
      const stats = (port === CONTROL_PORT ? worker.control_ : worker.data).stats;
      // Byte by byte, two hellos are a hello, its answer, and then something that is no link frame.
      assert.ok(stats.strangersClosed.get(code)! >= 1, `${what}: ${JSON.stringify([...stats.strangersClosed])}`);
      const lines = worker.logLines.filter((line) => line.startsWith("warn stranger_closed"));
      assert.ok(lines.length >= 1 && lines.every((line) => line.includes(`to the ${name} port`)), `${lines}`);
      await assertUndisturbed();
    }
  });
}

test("one byte a second is closed when the handshake's time is over, all of it", async () => {
  const { v, worker, conns, connect, runtime, assertUndisturbed } = await besieged(22);
  const hello = encodeHandshake(HELLO);
  connect((conn) => {
    let sent = 0;
    const next = (): void => {
      conn.write(hello.subarray(sent, ++sent)).then(
        () => void runtime().clock.startTimer(1_000, next),
        () => {},
      );
    };
    next();
  });
  await v.world.runFor(4_900);
  assert.equal(conns[0]!.state, "open");
  await v.world.runFor(200);
  assert.notEqual(conns[0]!.state, "open");
  assert.equal(worker.control_.stats.strangersClosed.get("handshake_late"), 1);
  await assertUndisturbed();
});

test("two hundred idle connections: 8 of one address stay until their time is over, the oldest go first", async () => {
  const { v, worker, conns, connect, assertUndisturbed } = await besieged(23);
  const before = worker.control_.stats.accepted;
  for (let i = 0; i < 200; i++) connect();
  await v.world.runFor(1_000);
  assert.equal(worker.control_.stats.accepted, before + 200);
  const open = conns.filter((each) => each.state === "open");
  assert.equal(open.length, 8);
  assert.equal(worker.control_.stats.strangersClosed.get("too_many_strangers"), 192);
  await assertUndisturbed();
  await v.world.runFor(5_000);
  assert.equal(conns.filter((each) => each.state === "open").length, 0);
  assert.equal(worker.control_.stats.strangersClosed.get("said_nothing"), 8);
  const lines = worker.logLines.filter((line) => line.startsWith("warn stranger_closed"));
  assert.equal(lines.length, 10, "ten a minute");
  await v.world.runFor(60_000);
  connect((conn) => conn.end());
  await v.world.runFor(100);
  assert.match(worker.logLines.at(-2)!, /190 more of the kind were only counted/);
});

test("strangers of many addresses are 64 at most, and a worker still gets in", async () => {
  const { v, worker } = await besieged(24);
  const idle: Conn[] = [];
  for (let machine = 0; machine < 12; machine++) {
    v.host(`idle${machine}`).startProcess((runtime) => {
      for (let i = 0; i < 8; i++) {
        void runtime.net.connect(at("initializer", CONTROL_PORT), { timeoutMs: 5_000 }).then(
          (conn) => idle.push(conn),
          () => {},
        );
      }
    });
  }
  await v.world.runFor(500);
  assert.equal(worker.control_.stats.strangersClosed.get("too_many_strangers"), 32);
  await v.start("w2", {}, (w2) => w2.control_.dial("initializer", at("initializer", CONTROL_PORT)));
  assert.ok(await v.world.runUntil(() => worker.control_.connectedTo("w2"), 1_000));
  assert.equal(worker.control_.stats.strangersClosed.get("too_many_strangers"), 33, "it came in the place of one");
  v.assertAlive(PAIR);
});

test("connections from the machine itself have no limit per address", async () => {
  const { v, worker } = await besieged(25);
  const idle: Conn[] = [];
  v.host("initializer").startProcess((runtime) => {
    for (let i = 0; i < 40; i++) {
      void runtime.net.connect(at("127.0.0.1", CONTROL_PORT), { timeoutMs: 5_000 }).then(
        (conn) => idle.push(conn),
        () => {},
      );
    }
  });
  await v.world.runFor(500);
  assert.equal(idle.length, 40);
  assert.equal(worker.control_.stats.strangersClosed.size, 0);
});

test("a welcomed connection that says anything but resume is closed, and the peer's link stays", async () => {
  for (const bytes of [
    Uint8Array.of(0, 0, 0, 1, 4), // heartbeat
    Uint8Array.of(0, 0, 0, 9, 2, 0, 0, 0, 0, 0, 0, 0, 0), // ack
    Uint8Array.of(0, 0, 0, 1, 99),
    encoder.encode("GET / HTTP/1.1\r\n"),
  ]) {
    const { v, conns, connect, assertUndisturbed, worker } = await besieged(26);
    connect(async (conn) => {
      await conn.write(encodeHandshake({ ...HELLO, worker: "w1", incarnation: idOf("w1", 1) }));
    });
    await v.world.runFor(50);
    assert.ok(conns[0]!.got.length > 100, "a welcome");
    void conns[0]!.conn.write(bytes);
    await v.world.runFor(50);
    assert.notEqual(conns[0]!.state, "open");
    assert.equal(worker.control_.stats.protocolErrors, 0);
    await assertUndisturbed();
  }
});

test("a hello that nobody stands behind replaces nothing", async () => {
  const { v, conns, connect, assertUndisturbed } = await besieged(27);
  // As from an attempt that w1 gave up long ago: w1 is the designated dialler, its connections replace what is there.
  connect((conn) => conn.write(encodeHandshake({ ...HELLO, worker: "w1", incarnation: idOf("w1", 1) })));
  await v.world.runFor(500);
  assert.equal(conns[0]!.state, "open");
  await assertUndisturbed();
  await v.world.runFor(5_000);
  assert.notEqual(conns[0]!.state, "open");
  await assertUndisturbed();
});

test("a peer that acknowledges what was never sent is cut off, and so is one that leaves a gap", async () => {
  const ack = new Uint8Array(13);
  writeAck(new DataView(ack.buffer), 0, 1);
  for (const bytes of [ack, payload(2, new Uint8Array(0)), resume(1, 1)]) {
    const { v, conns, connect, worker } = await besieged(28);
    connect((conn) => conn.write(encodeHandshake(HELLO)));
    await v.world.runFor(20);
    void conns[0]!.conn.write(RESUME);
    await v.world.runFor(20);
    assert.ok(worker.control_.connectedTo("w9"));
    void conns[0]!.conn.write(bytes);
    await v.world.runFor(20);
    assert.equal(worker.control_.connectedTo("w9"), false);
    assert.equal(worker.control_.stats.protocolErrors, 1);
    assert.match(
      worker.logLines.at(-1)!,
      /link_violation .* (payload 1 of a link on which only 0|payload 2 came where 1)/,
    );
    v.assertAlive(PAIR);
  }
});

test("a resume that acknowledges what was never sent replaces nothing", async () => {
  const { v, conns, connect, worker, assertUndisturbed } = await besieged(29);
  connect((conn) => conn.write(encodeHandshake({ ...HELLO, worker: "w1", incarnation: idOf("w1", 1) })));
  await v.world.runFor(20);
  void conns[0]!.conn.write(resume(1, 99));
  await v.world.runFor(20);
  assert.equal(worker.control_.stats.strangersClosed.get("acked_unsent"), 1);
  await assertUndisturbed();
});

test("an older process that was welcomed before its successor came is too late with its resume", async () => {
  const { v, conns, connect, worker } = await besieged(34);
  connect((conn) => conn.write(encodeHandshake(HELLO)));
  await v.world.runFor(20);
  connect((conn) => conn.write(encodeHandshake({ ...HELLO, startNumber: 2, incarnation: idOf("w9", 2) })));
  await v.world.runFor(20);
  void conns[1]!.conn.write(RESUME);
  await v.world.runFor(20);
  void conns[0]!.conn.write(RESUME);
  await v.world.runFor(20);
  assert.deepEqual(
    conns.map((each) => each.state === "open"),
    [false, true],
  );
  assert.equal(worker.control_.stats.strangersClosed.get("superseded"), 1);
  assert.deepEqual(
    worker.events.filter((event) => event.includes("w9")),
    ["control w9 connected new"],
  );
});

test("of two connections of the end that is not designated, the first stays, whenever the second is recognized", async () => {
  // w1 comes after w0, so that it is the designated dialler of the two.
  const hello = encodeHandshake({ ...HELLO, worker: "w0", incarnation: idOf("w0", 1) });
  const { v, conns, connect, worker } = await besieged(35, CONTROL_PORT, "w1");
  connect((conn) => conn.write(hello));
  connect((conn) => conn.write(hello));
  await v.world.runFor(20);
  void conns[0]!.conn.write(RESUME);
  await v.world.runFor(20);
  void conns[1]!.conn.write(RESUME);
  await v.world.runFor(20);
  connect((conn) => conn.write(hello));
  await v.world.runFor(20);
  assert.deepEqual(
    conns.map((each) => each.state === "open"),
    [true, false, false],
  );
  assert.match(String.fromCharCode(...conns[2]!.got), /duplicate/);
  assert.equal(worker.control_.stats.duplicates, 2);
  assert.deepEqual(
    worker.events.filter((event) => event.includes("w0")),
    ["control w0 connected new"],
  );
  assert.deepEqual(worker.refusals, [], "harmless");
});

test("a listener that sends payloads before it resumed the link is cut off", async () => {
  const v = new VirtualWorkers({ seed: 36 });
  v.host("w9").startProcess((runtime) =>
    runtime.net.listen({
      host: "0.0.0.0",
      port: CONTROL_PORT,
      failed: () => {},
      accept: async (conn) => {
        await conn.read();
        await conn.write(encodeHandshake({ ...HELLO, kind: "welcome", receivedThrough: 0 }));
        await conn.read();
        await conn.write(payload(1, new Uint8Array(0)));
        await conn.read().catch(() => {});
      },
    }),
  );
  await v.start("initializer", {}, (worker) => worker.control_.dial("w9", at("w9", CONTROL_PORT)));
  await v.world.runFor(100);
  assert.match(v.get("initializer").logLines.join(), /link_violation .*before the link was resumed/);
});

// ---- refusals

const MISMATCHES: readonly (readonly [string, object, RegExp])[] = [
  ["fingerprint_differs", { fingerprint: "fingerprint-2" }, /application fingerprint differs: ours .*-2, theirs .*-1/],
  ["build_differs", { buildId: "build-2" }, /build id differs: ours build-2, theirs build-1/],
  ["cluster_differs", { clusterId: "d".repeat(32) }, /cluster id differs: ours dddddd.*, theirs cccccc/],
  ["application_differs", { application: "other" }, /application name differs: ours "other", theirs "test"/],
];

for (const [code, identity, sentence] of MISMATCHES) {
  test(`a worker of another kind is refused at both ends with both values: ${code}`, async () => {
    const v = new VirtualWorkers({ seed: 30 });
    await v.start("initializer");
    await v.start("w1", { identity }, (worker) => {
      worker.control_.dial("initializer", at("initializer", CONTROL_PORT));
      worker.data.connectTo("initializer", at("initializer", DATA_PORT));
    });
    await v.world.runFor(3_000);
    const newcomer = v.get("w1");
    assert.ok(newcomer.refusals.length >= 4);
    for (const each of newcomer.refusals) {
      assert.ok(each.startsWith(`${code} of initializer by them: `), each);
      assert.match(each, sentence);
    }
    const there = v.get("initializer");
    assert.ok(there.refusals.every((each) => each.startsWith(`${code} of w1 by us: `)));
    assert.deepEqual(there.events, []);
    const lines = there.logLines.filter((line) => line.startsWith("warn refused"));
    assert.ok(lines.length >= 2 && lines.length <= 20, "two ports, ten lines a minute each");
    assert.match(lines[0]!, /refused worker w1 at 10\.0\.0\.2:\d+: .*ours .*theirs /);
  });
}

test("whom the owner does not admit is told why, and what it knows is what the owner is asked", async () => {
  const v = new VirtualWorkers({ seed: 31 });
  const asked: string[] = [];
  await v.start("initializer", {
    admit(hello, facts) {
      asked.push(`${hello.worker} ${facts.channel} ${facts.standing} ${facts.connected} ${facts.from.host}`);
      if (hello.worker === "w2") return { kind: "refuse", code: "cluster_full", sentence: "there are 2 of 2 workers" };
      return { kind: "welcome" };
    },
  });
  await v.start("w1", {}, (worker) => worker.control_.dial(null, at("initializer", CONTROL_PORT)));
  await v.start("w2", {}, (worker) => worker.control_.dial(null, at("initializer", CONTROL_PORT)));
  await v.world.runFor(300);
  assert.match(v.get("w2").refusals[0]!, /^cluster_full of initializer by them: there are 2 of 2 workers$/);
  assert.match(v.get("initializer").refusals[0]!, /^cluster_full of w2 by us: there are 2 of 2 workers$/);
  v.kill("w1");
  await v.start("w1", {}, (worker) => worker.control_.dial(null, at("initializer", CONTROL_PORT)));
  await v.world.runFor(300);
  assert.ok(asked.includes("w1 control first false 10.0.0.2"));
  assert.ok(asked.includes("w1 control newer false 10.0.0.2"), `${asked}`);
  assert.ok(asked.includes("w2 control first false 10.0.0.3"));
});

test("a second worker of the initializer's name, the wrong port and one's own port are refused by name", async () => {
  const v = new VirtualWorkers({ seed: 32 });
  await v.start("initializer");
  const first = v.get("initializer");
  v.host("elsewhere");
  await v.start("initializer", { listenHost: "elsewhere", startNumber: 7 }, (worker) =>
    worker.control_.dial(null, at("initializer", CONTROL_PORT)),
  );
  await v.world.runFor(200);
  assert.match(v.get("initializer").refusals[0]!, /^name_taken .* worker name initializer is taken/);
  assert.match(first.refusals[0]!, /^name_taken of initializer by us/);
  await v.start("w1", {}, (worker) => {
    worker.control_.dial("initializer", at("initializer", DATA_PORT));
    worker.control_.dial(null, at("w1", CONTROL_PORT));
  });
  await v.world.runFor(200);
  const codes = v.get("w1").refusals.map((each) => each.split(" ")[0]);
  assert.ok(codes.includes("wrong_channel") && codes.includes("own_address"), `${codes}`);
});

test("a control message that does not decode ends the connection, is said, and is not tried in a tight loop", async () => {
  const v = new VirtualWorkers({ seed: 33 });
  await v.startMesh(PAIR);
  assert.ok(await v.mesh(PAIR));
  v.act("w1", (worker) => worker.control_.send("initializer", { kind: "unheard_of" } as never));
  await v.world.runFor(20_000);
  const { stats } = v.get("initializer").control_;
  assert.ok(stats.protocolErrors >= 2 && stats.protocolErrors <= 45, `${stats.protocolErrors} in 20 seconds`);
  assert.match(v.get("initializer").logLines.join("\n"), /link_violation .*its kind is "unheard_of"/);
  v.assertAlive(PAIR);
});
