/**
 * Sends numbered records to the source of one worker. A plain source acknowledges nothing, so a sender that loses its
 * connection cannot know what arrived: it goes on under new keys, and of the old ones any prefix may have been taken.
 */
import type { Address, Conn, Millis, Runtime } from "../../runtime/runtime.ts";
import { RecordSequence } from "../suite.ts";

export interface SenderOptions {
  readonly address: Address;
  readonly keys: number;
  readonly messages: number;
  readonly batch: number;
  readonly everyMs: Millis;
  /** Id of the stream of its n-th connection. */
  readonly streamId: (n: number) => string;
}

export interface SenderEvents {
  readonly opened: (id: string) => StreamEvents;
  /** All records were handed over on one connection or another. */
  readonly finished: () => void;
}

/** Of one connection. */
export interface StreamEvents {
  /** Before each write: how many records it has. */
  readonly writing: (count: number) => void;
  /** `done`: the worker has read to the end and closed it. `cut`: any prefix may have arrived. */
  readonly closed: (how: "done" | "cut") => void;
}

const RECONNECT_MS: Millis = 200;
const CONNECT_TIMEOUT_MS: Millis = 5_000;
/**
 * Whoever has sent everything never learns by itself that the peer lost its power. It waits longer than any fault holds the
 * system back.
 */
const LAST_WORD_MS: Millis = 120_000;

export async function runSender(runtime: Runtime, options: SenderOptions, events: SenderEvents): Promise<void> {
  let left = options.messages;
  for (let n = 0; left > 0; n++) {
    const conn = await connect(runtime, options.address);
    const id = options.streamId(n);
    left -= await runStream(runtime, options, conn, events.opened(id), new RecordSequence(id, options.keys), left);
  }
  events.finished();
}

async function connect(runtime: Runtime, address: Address): Promise<Conn> {
  for (;;) {
    try {
      return await runtime.net.connect(address, { timeoutMs: CONNECT_TIMEOUT_MS });
    } catch {
      await delay(runtime, RECONNECT_MS);
    }
  }
}

/** Returns how many records were handed over, the last write counted whole. */
async function runStream(
  runtime: Runtime,
  options: SenderOptions,
  conn: Conn,
  events: StreamEvents,
  records: RecordSequence,
  messages: number,
): Promise<number> {
  let lost = false;
  const ended = watch(conn).then((how) => {
    lost = true;
    return how;
  });
  let sent = 0;
  try {
    while (sent < messages && !lost) {
      const count = Math.min(options.batch, messages - sent);
      events.writing(count);
      sent += count;
      await conn.write(encodeRecords(records, count));
      if (sent < messages) await delay(runtime, options.everyMs);
    }
    if (!lost) {
      conn.end();
      runtime.clock.startTimer(LAST_WORD_MS, () => conn.abort());
      if ((await ended) === "ended" && sent === messages) {
        events.closed("done");
        return sent;
      }
    }
  } catch {
    // Cut in a write: as if it had been seen by the reading side.
  }
  conn.abort();
  events.closed("cut");
  return sent;
}

/** A source says nothing: whatever ends reading is the end of the connection. */
async function watch(conn: Conn): Promise<"ended" | "cut"> {
  try {
    while ((await conn.read()) !== null);
    return "ended";
  } catch {
    return "cut";
  }
}

function encodeRecords(records: RecordSequence, count: number): Uint8Array {
  const encoder = new TextEncoder();
  const frames: Uint8Array[] = [];
  let length = 0;
  for (let i = 0; i < count; i++) {
    const { key, value } = records.next();
    const frame = encoder.encode(`${key} ${value}`);
    frames.push(frame);
    length += 4 + frame.length;
  }
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const frame of frames) {
    view.setUint32(at, frame.length);
    bytes.set(frame, at + 4);
    at += 4 + frame.length;
  }
  return bytes;
}

function delay(runtime: Runtime, ms: Millis): Promise<void> {
  return new Promise((resolve) => {
    runtime.clock.startTimer(ms, resolve);
  });
}
