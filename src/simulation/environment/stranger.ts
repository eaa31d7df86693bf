/** Whoever connects to a port and is not of the system: a scanner, a browser, a program that took the wrong port. */
import type { Address, Conn, Millis, Random, Runtime } from "../../runtime/runtime.ts";
import { decodeExternalRequest, type ExternalRequestKind, encodeExternal } from "../../wire/external.ts";
import { bytesToHex, type Channel, encodeHandshake, PROTOCOL_VERSION } from "../../wire/hello.ts";
import { SMALL_FRAME_BYTES_MAX, writeAck, writeCredit, writePayloadHeader, writeResume } from "../../wire/link.ts";
import type { ChannelName, StrangerKind } from "../scenario.ts";

export interface StrangerEvents {
  readonly opened: () => void;
  readonly received: (bytes: number) => void;
  /** By the worker; not when the stranger loses its patience. */
  readonly closed: () => void;
}

/** Nobody is that patient; a worker that lets it sit for so long is wrong (or its source, which never sends first). */
const PATIENCE_MS: Millis = 60_000;
const FLOOD_CONNECTIONS = 80;
const text = (what: string) => new TextEncoder().encode(what);

/** What a TLS client says first, up to its random bytes. */
const TLS_HELLO = [0x16, 0x03, 0x01, 0x00, 0xc8, 0x01, 0x00, 0x00, 0xc4, 0x03, 0x03];

interface Words {
  readonly pieces: Uint8Array[];
  /** Between two pieces. */
  readonly pauseMs: Millis;
  /** Closes its side behind them: the answer may be patience, where one legal frame was among them. */
  readonly ends?: boolean;
}

function words({ random }: Runtime, port: ChannelName, what: StrangerKind): Words {
  switch (what) {
    case "garbage":
      return { pieces: [random.bytes(300), random.bytes(5_000)], pauseMs: 5 };
    case "http":
      return { pieces: [text("GET / HTTP/1.1\r\nHost: worker\r\nUser-Agent: scanner\r\n\r\n")], pauseMs: 0 };
    case "tls":
      return { pieces: [new Uint8Array([...TLS_HELLO, ...random.bytes(200)])], pauseMs: 0 };
    case "huge":
      return { pieces: [new Uint8Array([0xff, 0xff, 0xff, 0xff, 1, 2, 3])], pauseMs: 0 };
    case "zeros":
      return { pieces: [new Uint8Array(4_000)], pauseMs: 0 };
    case "slow":
      // A length that would be fine, and then a byte at a time for longer than any handshake may take.
      return {
        pieces: [new Uint8Array([0, 0, 0, 200]), ...Array.from({ length: 90 }, () => random.bytes(1))],
        pauseMs: 100,
      };
    case "idle":
    case "flood":
      return { pieces: [], pauseMs: 0 };
    case "other_cluster":
      return { pieces: [helloOfAnother(random, port), linkFrames(random)], pauseMs: 20, ends: port === "external" };
    case "mutated":
      return mutated(random, port);
  }
}

/** Changes bytes of what would be legal, so that it is not, or is without effect. */
function mutated(random: Random, port: ChannelName): Words {
  switch (port) {
    case "external":
      return { pieces: Array.from({ length: 3 }, () => badRequest(random)), pauseMs: 5, ends: true };
    case "source": {
      // Letters alone are no record.
      const letters = random.bytes(8).map((byte) => 0x61 + (byte % 26));
      return { pieces: [new Uint8Array([0, 0, 0, letters.length, ...letters, 0, 0, 0, 90])], pauseMs: 0 };
    }
    default:
      return { pieces: [mutate(random, helloOfAnother(random, port)), mutate(random, linkFrames(random))], pauseMs: 5 };
  }
}

function helloOfAnother(random: Random, port: ChannelName): Uint8Array {
  const channel: Channel = port === "data" ? "data" : "control";
  return encodeHandshake({
    kind: "hello",
    protocolVersion: PROTOCOL_VERSION,
    channel,
    clusterId: bytesToHex(random.bytes(16)),
    buildId: "build",
    fingerprint: "",
    application: "Last four",
    worker: "w1",
    generation: 1,
    incarnation: bytesToHex(random.bytes(16)),
    startNumber: 1,
    checkpoints: true,
    controlHost: "",
    controlPort: 1,
    dataHost: "",
    dataPort: 1,
    oldestUnacked: 1,
    workerCount: 0,
  });
}

/** As if the link were open already. */
function linkFrames(random: Random): Uint8Array {
  const body = random.bytes(40);
  const bytes = new Uint8Array(4 * SMALL_FRAME_BYTES_MAX);
  const view = new DataView(bytes.buffer);
  let at = writeResume(view, 0, 1, 0);
  at = writeAck(view, at, 1);
  at = writeCredit(view, at, 0, 1e9);
  at = writePayloadHeader(view, at, "control_message", 0, 1, 1, body.length);
  bytes.set(body, at);
  return bytes.subarray(0, at + body.length);
}

/** Tools that only ask change nothing, whatever becomes of their question; a changed byte may make a command of one. */
const QUESTIONS: readonly ExternalRequestKind[] = [
  "cluster_status_query",
  "partition_query",
  "state_entity_count_query",
];

function badRequest(random: Random): Uint8Array {
  for (;;) {
    const kind = QUESTIONS[random.bytes(1)[0]! % QUESTIONS.length]!;
    const bytes = mutate(random, encodeExternal({ kind } as Parameters<typeof encodeExternal>[0]));
    const request = decodeExternalRequest(bytes.subarray(4));
    if (request.kind === "fault" || QUESTIONS.includes(request.kind)) return bytes;
  }
}

/** One to three bytes are others, one time in four the end is missing. */
function mutate(random: Random, original: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(original);
  const [count, cut] = random.bytes(2);
  for (let i = 0; i <= count! % 3; i++) {
    const [high, low, other] = random.bytes(3);
    bytes[((high! << 8) | low!) % bytes.length]! ^= other!;
  }
  return cut! % 4 === 0 ? bytes.subarray(0, 1 + (count! % bytes.length)) : bytes;
}

export async function runStranger(
  runtime: Runtime,
  address: Address,
  port: ChannelName,
  what: StrangerKind,
  events: StrangerEvents,
): Promise<void> {
  const count = what === "flood" ? FLOOD_CONNECTIONS : 1;
  for (let i = 1; i < count; i++) void runOne(runtime, address, port, what, null);
  await runOne(runtime, address, port, what, events);
}

async function runOne(
  runtime: Runtime,
  address: Address,
  port: ChannelName,
  what: StrangerKind,
  events: StrangerEvents | null,
): Promise<void> {
  let conn: Conn;
  try {
    conn = await runtime.net.connect(address, { timeoutMs: 5_000 });
  } catch {
    return;
  }
  events?.opened();
  let patient = true;
  runtime.clock.startTimer(PATIENCE_MS, () => {
    patient = false;
    conn.abort();
  });
  const reading = read(conn, events, () => patient);
  try {
    const { pieces, pauseMs, ends } = words(runtime, port, what);
    for (const piece of pieces) {
      await conn.write(piece);
      await new Promise<void>((resolve) => {
        runtime.clock.startTimer(pauseMs, resolve);
      });
    }
    if (ends === true) conn.end();
  } catch {
    // Closed while it spoke: that is what the worker is meant to do.
  }
  await reading;
}

async function read(conn: Conn, events: StrangerEvents | null, patient: () => boolean): Promise<void> {
  try {
    for (;;) {
      const bytes = await conn.read();
      if (bytes === null) break;
      events?.received(bytes.length);
    }
    conn.end();
  } catch {
    // Cut: closed as well.
  }
  if (patient()) events?.closed();
}
