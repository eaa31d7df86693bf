/** Waiting for a condition, with a deadline and a sentence to say when it passes. */

/**
 * How long is waited for anything at all, unless it takes long by itself. That is no promise of the product: what is fast on a
 * machine of one's own takes ten times as long where others use the processors too, and must not fail there.
 */
export const PATIENCE_MS = 60_000;

export interface WaitOptions {
  /** What is waited for, for the message: `Phase IV at worker1`. */
  readonly what: string;
  /** `PATIENCE_MS` by default. */
  readonly deadlineMs?: number;
  /** Between two looks. 20 ms by default. */
  readonly everyMs?: number;
  /** Added to the message: what was seen instead. */
  readonly seen?: () => string;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}

/** Resolves with the first value that is not false, null or undefined. */
export async function waitFor<T>(
  look: () => T | false | null | undefined | Promise<T | false | null | undefined>,
  options: WaitOptions,
): Promise<T> {
  const deadlineMs = options.deadlineMs ?? PATIENCE_MS;
  const end = performance.now() + deadlineMs;
  for (;;) {
    const value = await look();
    if (value !== false && value !== null && value !== undefined) return value;
    if (performance.now() > end) {
      const seen = options.seen === undefined ? "" : `\n${options.seen()}`;
      throw new Error(`waited ${deadlineMs} ms for ${options.what}${seen}`);
    }
    await sleep(options.everyMs ?? 20);
  }
}

/** Rejects when `promise` takes longer. */
export async function within<T>(promise: Promise<T>, deadlineMs: number, what: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${deadlineMs} ms for ${what}`)), deadlineMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
