// The first frame of every control and data connection, in both directions. A small fixed layout, since nothing generic
// is decoded for a stranger: `docs/protocol/links.md`.
//
//   u32 length (at most 1,024) | "TMR1" | u8 kind | u16 protocol version | u8 channel | 16 cluster id
//   | str16 build id | str16 application fingerprint | str16 application name | str16 worker name
//   | u32 generation | 16 incarnation | u32 start number | u8 checkpoints: 1 on, 0 off | what belongs to the kind

import { assert, unreachable } from "../base/assert.ts";
import { ProtocolError } from "../base/errors.ts";
import { type Generation, WORKER_NAME, type WorkerName } from "../base/ids.ts";
import { ByteReader, decodeUtf8 } from "./byte_reader.ts";
import { ByteWriter } from "./byte_writer.ts";

/** Version of the control and data channels. Any change to their bytes changes it. */
export const PROTOCOL_VERSION = 2;

/** Largest payload of a handshake frame, in bytes. */
export const HANDSHAKE_LENGTH_MAX = 1024;

/** Cluster id (or incarnation) of a worker that does not know it yet. Matches every cluster. */
export const UNKNOWN_ID = "0".repeat(32);

const MAGIC = 0x544d5231; // "TMR1"
const ID_BYTES = 16;
const KINDS = ["hello", "welcome", "refuse"] as const;
const CHANNELS = ["control", "data"] as const;
/** Names and ids are at most this many bytes, so that every handshake fits. */
const TEXT_BYTES_MAX = 128;

export type Channel = (typeof CHANNELS)[number];

/** Who speaks. The same fields in all three kinds, so that both sides can show both values. */
export interface Identity {
  readonly protocolVersion: number;
  readonly channel: Channel;
  /** 32 lower-case hex digits; `UNKNOWN_ID`: not known yet. */
  readonly clusterId: string;
  /** Printable ASCII, at most 128 bytes. */
  readonly buildId: string;
  /** Of the application's code and plan. Printable ASCII, at most 128 bytes. */
  readonly fingerprint: string;
  /** At most 128 bytes; a longer name is cut, at both ends alike. */
  readonly application: string;
  readonly worker: WorkerName;
  /** 0: none yet. */
  readonly generation: Generation;
  /** Random, saved: 32 lower-case hex digits. */
  readonly incarnation: string;
  /** Counts the starts of one incarnation, from 1. */
  readonly startNumber: number;
  /** Does it take checkpoints? All workers of a cluster do, or none. */
  readonly checkpoints: boolean;
}

/** From the side that dialled. */
export interface Hello extends Identity {
  readonly kind: "hello";
  /** What the worker listens on, as others can reach it. An empty host: the address you see me at. */
  readonly controlHost: string;
  readonly controlPort: number;
  readonly dataHost: string;
  readonly dataPort: number;
  /** First sequence number of this link that the receiver has not acknowledged. */
  readonly oldestUnacked: number;
  /** The `--worker-count` this worker was started with; 0: none. */
  readonly workerCount: number;
}

/** Accepted. */
export interface Welcome extends Identity {
  readonly kind: "welcome";
  /** Last sequence number of this link that was received in order. */
  readonly receivedThrough: number;
}

/** Not accepted, and why; the connection is closed behind it. */
export interface Refuse extends Identity {
  readonly kind: "refuse";
  /** Short and stable: `fingerprint_differs`. */
  readonly code: string;
  /** For people. Cut at the end if the frame would be too long. */
  readonly sentence: string;
}

export type Handshake = Hello | Welcome | Refuse;

/** The whole frame, length included. */
export function encodeHandshake(message: Handshake): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter(HANDSHAKE_LENGTH_MAX);
  const frame = out.beginFrame();
  out.u32(MAGIC);
  out.u8(KINDS.indexOf(message.kind) + 1);
  out.u16(message.protocolVersion);
  out.u8(CHANNELS.indexOf(message.channel) + 1);
  writeId(out, message.clusterId);
  out.str16(checkPrintable("build id", message.buildId));
  out.str16(checkPrintable("application fingerprint", message.fingerprint));
  out.str16(cutUtf8(message.application, TEXT_BYTES_MAX));
  assert(WORKER_NAME.test(message.worker), "a worker name that was checked at the door");
  out.str16(message.worker);
  out.u32(message.generation);
  writeId(out, message.incarnation);
  out.u32(message.startNumber);
  out.u8(message.checkpoints ? 1 : 0);
  switch (message.kind) {
    case "hello":
      out.u16(message.controlPort);
      out.u16(message.dataPort);
      out.str16(checkPrintable("control host", message.controlHost));
      out.str16(checkPrintable("data host", message.dataHost));
      out.f64(message.oldestUnacked);
      out.u16(message.workerCount);
      break;
    case "welcome":
      out.f64(message.receivedThrough);
      break;
    case "refuse":
      out.str16(checkPrintable("refusal code", message.code));
      out.str16(cutUtf8(message.sentence, HANDSHAKE_LENGTH_MAX - (out.length - frame - 4) - 2));
      break;
    default:
      unreachable(message);
  }
  assert(out.length - frame - 4 <= HANDSHAKE_LENGTH_MAX, "a handshake fits its limit");
  out.endFrame(frame);
  return out.take();
}

/**
 * Decodes the payload of a handshake frame (without its length). Bytes behind the last field are ignored.
 *
 * @throws {ProtocolError} `not_tammar` when the peer speaks something else; `truncated`, `bad_text`, `bad_handshake`.
 */
export function decodeHandshake(bytes: Uint8Array): Handshake {
  const reader = new ByteReader("the handshake", bytes);
  if (reader.remaining < 4 || reader.u32() !== MAGIC) {
    throw new ProtocolError("not_tammar", "the first frame is no Tammar handshake: something else speaks on this port");
  }
  if (bytes.length > HANDSHAKE_LENGTH_MAX) {
    throw bad(`it has ${bytes.length} bytes, at most ${HANDSHAKE_LENGTH_MAX} are allowed`);
  }
  const kindNumber = reader.u8();
  const kind = KINDS[kindNumber - 1];
  if (kind === undefined) throw bad(`kind ${kindNumber} is unknown`);
  const protocolVersion = reader.u16();
  const channelNumber = reader.u8();
  const channel = CHANNELS[channelNumber - 1];
  if (channel === undefined) throw bad(`channel ${channelNumber} is unknown`);
  const identity: Identity = {
    protocolVersion,
    channel,
    clusterId: bytesToHex(reader.bytes(ID_BYTES)),
    buildId: readPrintable(reader, "build id"),
    fingerprint: readPrintable(reader, "application fingerprint"),
    application: readText(reader, "application name"),
    worker: readWorker(reader),
    generation: reader.u32(),
    incarnation: bytesToHex(reader.bytes(ID_BYTES)),
    startNumber: reader.u32(),
    checkpoints: readFlag(reader, "checkpoints"),
  };
  switch (kind) {
    case "hello": {
      const controlPort = reader.u16();
      const dataPort = reader.u16();
      const controlHost = readPrintable(reader, "control host");
      const dataHost = readPrintable(reader, "data host");
      const oldestUnacked = readSequence(reader, "oldest unacknowledged sequence number");
      const workerCount = reader.u16();
      return { kind, ...identity, controlHost, controlPort, dataHost, dataPort, oldestUnacked, workerCount };
    }
    case "welcome":
      return { kind, ...identity, receivedThrough: readSequence(reader, "received sequence number") };
    case "refuse":
      return { kind, ...identity, code: readPrintable(reader, "refusal code"), sentence: escapeText(reader.str16()) };
    default:
      return unreachable(kind);
  }
}

/** Why two ends do not belong together. Both ends say the same, each from its own side. */
export interface IdentityDifference {
  readonly code:
    | "application_differs"
    | "build_differs"
    | "checkpoints_differ"
    | "cluster_differs"
    | "fingerprint_differs"
    | "protocol_version_differs";
  /** `application fingerprint differs: ours 3f2a…, theirs 91c0…` */
  readonly sentence: string;
}

/** `null`: the same program in the same cluster. Compares neither names nor generations: who may join is not for here. */
export function compareIdentity(ours: Identity, theirs: Identity): IdentityDifference | null {
  if (ours.protocolVersion !== theirs.protocolVersion) {
    const sentence = `protocol version differs: ours ${ours.protocolVersion}, theirs ${theirs.protocolVersion}`;
    return { code: "protocol_version_differs", sentence };
  }
  if (ours.clusterId !== theirs.clusterId && ours.clusterId !== UNKNOWN_ID && theirs.clusterId !== UNKNOWN_ID) {
    return { code: "cluster_differs", sentence: differs("cluster id", ours.clusterId, theirs.clusterId) };
  }
  if (ours.buildId !== theirs.buildId) {
    return { code: "build_differs", sentence: differs("build id", ours.buildId, theirs.buildId) };
  }
  const ourApplication = cutUtf8(ours.application, TEXT_BYTES_MAX);
  const theirApplication = cutUtf8(theirs.application, TEXT_BYTES_MAX);
  if (ourApplication !== theirApplication) {
    const sentence = `application name differs: ours ${quote(ourApplication)}, theirs ${quote(theirApplication)}`;
    return { code: "application_differs", sentence };
  }
  if (ours.fingerprint !== theirs.fingerprint) {
    const sentence = differs("application fingerprint", ours.fingerprint, theirs.fingerprint);
    return { code: "fingerprint_differs", sentence };
  }
  if (ours.checkpoints !== theirs.checkpoints) {
    const show = (on: boolean): string => (on ? "on" : "off");
    const sentence = `checkpoints differ: ours ${show(ours.checkpoints)}, theirs ${show(theirs.checkpoints)}`;
    return { code: "checkpoints_differ", sentence };
  }
  return null;
}

function differs(what: string, ours: string, theirs: string): string {
  // Both cut to the same length, unless that would hide the difference.
  const cut = ours.slice(0, 12) !== theirs.slice(0, 12);
  const show = (id: string) => (id === "" ? "none" : cut && id.length > 12 ? `${id.slice(0, 12)}…` : id);
  return `${what} differs: ours ${show(ours)}, theirs ${show(theirs)}`;
}

function quote(text: string): string {
  return `"${escapeText(text)}"`;
}

/** Text of a stranger goes to logs and terminals: control characters are shown, not obeyed. */
function escapeText(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`);
}

function bad(why: string): ProtocolError {
  return new ProtocolError("bad_handshake", `the handshake is refused: ${why}`);
}

function readText(reader: ByteReader, what: string): string {
  const length = reader.u16();
  if (length > TEXT_BYTES_MAX) throw bad(`${what} has ${length} bytes, at most ${TEXT_BYTES_MAX} are allowed`);
  reader.offset -= 2;
  return reader.str16();
}

function readPrintable(reader: ByteReader, what: string): string {
  const text = readText(reader, what);
  if (!/^[\x20-\x7e]*$/.test(text)) throw bad(`${what} is not printable ASCII`);
  return text;
}

function readWorker(reader: ByteReader): WorkerName {
  const name = readText(reader, "worker name");
  if (!WORKER_NAME.test(name)) throw bad(`worker name ${JSON.stringify(name)} is not allowed`);
  return name;
}

function readFlag(reader: ByteReader, what: string): boolean {
  const value = reader.u8();
  if (value > 1) throw bad(`${what} is ${value}`);
  return value === 1;
}

function readSequence(reader: ByteReader, what: string): number {
  const value = reader.f64();
  if (!Number.isSafeInteger(value) || value < 0) throw bad(`${what} is ${value}`);
  return value;
}

function checkPrintable(what: string, text: string): string {
  assert(text.length <= TEXT_BYTES_MAX && /^[\x20-\x7e]*$/.test(text), `${what} is short and printable ASCII`);
  return text;
}

/** The longest prefix of whole characters that has at most `bytesMax` bytes as UTF-8, as the other end will read it. */
function cutUtf8(text: string, bytesMax: number): string {
  const bytes = new Uint8Array(Math.max(bytesMax, 0));
  const { written } = new TextEncoder().encodeInto(text, bytes);
  return decodeUtf8("a name", bytes.subarray(0, written));
}

function writeId(out: ByteWriter, hex: string): void {
  assert(/^[0-9a-f]{32}$/.test(hex), "an id has 32 lower-case hex digits");
  for (let i = 0; i < hex.length; i += 2) out.u8(Number.parseInt(hex.slice(i, i + 2), 16));
}

/** Lower case, two digits a byte: 16 random bytes make a cluster id or an incarnation. */
export function bytesToHex(bytes: Uint8Array): string {
  let hex = "";
  for (const byte of bytes) hex += byte.toString(16).padStart(2, "0");
  return hex;
}
