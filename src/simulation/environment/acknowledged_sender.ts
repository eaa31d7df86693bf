/**
 * Sends to a TCP source that acknowledges, as its documentation says: what it was told to be safe it forgets, and on the next
 * connection it begins behind that. A strict one, which notices what a source must not say.
 */
import type { Address, Conn, Millis, Runtime } from "../../runtime/runtime.ts";
import { encodeFrame } from "../../wire/frame.ts";
import { PositionAckReader } from "../../wire/position_ack.ts";

export interface AcknowledgedSenderOptions {
  readonly texts: readonly string[];
  /** Where its n-th try goes, from 0. */
  readonly addressOf: (n: number) => Address;
  /** What a source did that it must not do is put here. */
  readonly violations: string[];
}

const CONNECT_TIMEOUT_MS: Millis = 2_000;
/** Between tries to connect, and between writes. */
const RETRY_MS: Millis = 300;
const PACE_MS: Millis = 20;
const BATCH = 3;
/** A source that says nothing for so long, though it has something to say, may be a machine without power. */
const SILENCE_MS: Millis = 10_000;

/** Until all is safe. */
export async function runAcknowledgedSender(runtime: Runtime, options: AcknowledgedSenderOptions): Promise<void> {
  let safe = 0;
  for (let n = 0; safe < options.texts.length; n++) {
    if (n > 0) await delay(runtime, RETRY_MS);
    try {
      const conn = await runtime.net.connect(options.addressOf(n), { timeoutMs: CONNECT_TIMEOUT_MS });
      safe = await sendFrom(runtime, options, conn, safe);
    } catch {
      // Nobody is there.
    }
  }
}

/** On one connection. Returns how many records are safe. */
async function sendFrom(
  runtime: Runtime,
  { texts, violations }: AcknowledgedSenderOptions,
  conn: Conn,
  first: number,
): Promise<number> {
  const { clock } = runtime;
  const acks = new PositionAckReader();
  let next = first;
  let safe = first;
  let heardMs = clock.monotonicMs();
  let isOver = false;
  const heard = (bytes: Uint8Array): void => {
    const why = acks.push(bytes);
    if (why !== null) violations.push(`the source says ${why}`);
    const told = first + (acks.position?.records ?? 0);
    if (told > next) violations.push(`${told} records are acknowledged, and ${next} were sent`);
    const length = texts.slice(first, told).reduce((sum, text) => sum + 4 + text.length, 0);
    if ((acks.position?.bytes ?? 0) !== length)
      violations.push(`${told} records have not ${acks.position?.bytes} bytes`);
    safe = told;
    heardMs = clock.monotonicMs();
  };
  const reading = (async () => {
    try {
      for (let bytes = await conn.read(); bytes !== null; bytes = await conn.read()) heard(bytes);
    } catch {
      // Cut.
    }
    isOver = true;
  })();
  // A write may wait for as long as nothing is read there: then the silence ends it.
  const writing = (async () => {
    try {
      while (!isOver && next < texts.length) {
        const count = Math.min(BATCH, texts.length - next);
        const frames = texts.slice(next, next + count).map((text) => encodeFrame(new TextEncoder().encode(text)));
        next += count;
        for (const frame of frames) await conn.write(frame);
        await delay(runtime, PACE_MS);
      }
    } catch {
      isOver = true;
    }
  })();
  while (!isOver && safe < texts.length) {
    await delay(runtime, PACE_MS);
    if (clock.monotonicMs() - heardMs > SILENCE_MS) break;
  }
  if (safe === texts.length) conn.end();
  isOver = true;
  conn.abort();
  await reading;
  await writing;
  return safe;
}

function delay(runtime: Runtime, ms: Millis): Promise<void> {
  return new Promise((resolve) => {
    runtime.clock.startTimer(ms, resolve);
  });
}
