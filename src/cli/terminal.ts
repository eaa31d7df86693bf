/** Output of the short-lived commands: whole texts, written in order, waited for. A worker uses `logger.ts` instead. */
import type { Clock, Host, Millis, Runtime } from "../runtime/runtime.ts";

const encoder = new TextEncoder();

/** Writes `text` to standard output. Resolves to `false` when nobody reads it any more. */
export async function print(host: Host, text: string): Promise<boolean> {
  try {
    await host.writeOut(encoder.encode(text));
    return true;
  } catch {
    return false;
  }
}

/** JSON for a terminal or a pipe, in one line: control characters that JSON leaves as they are are escaped as well. */
export function jsonText(value: unknown): string {
  const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(value).replace(/[\u007f-\u009f\u2028\u2029]/g, escaped);
}

/** One line on standard error, as a process's last words. */
export function complain(host: Host, text: string): void {
  host.writeErrNow(encoder.encode(`${text}\n`));
}

/** Waits for `work`, but not longer than `timeoutMs`. `undefined`: it took longer (what it ends with is then ignored). */
export function within<T>(clock: Clock, timeoutMs: Millis, work: Promise<T>): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const cancel = clock.startTimer(timeoutMs, () => resolve(undefined));
    work.then(
      (value) => {
        cancel();
        resolve(value);
      },
      (error) => {
        cancel();
        reject(error);
      },
    );
  });
}

/** Resolves after `delayMs`. */
export function pause(clock: Clock, delayMs: Millis): Promise<void> {
  return new Promise((resolve) => {
    clock.startTimer(delayMs, resolve);
  });
}

/** For commands that run until they are told to stop. */
export interface End {
  /** Resolves at SIGTERM, SIGINT, or `now`. */
  readonly wait: Promise<void>;
  now(): void;
}

export function untilSignal(runtime: Runtime): End {
  let now = () => {};
  const wait = new Promise<void>((resolve) => {
    now = resolve;
  });
  runtime.host.onSignal("SIGTERM", now);
  runtime.host.onSignal("SIGINT", now);
  return { wait, now };
}
