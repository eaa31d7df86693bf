/**
 * Whoever reads output while it comes: at any moment, one file after the other, as a program does that lists a folder and opens
 * what it finds there. What it has read is to be the beginning of what will have come in the end.
 */
import type { Prng } from "../../base/prng.ts";
import type { Millis } from "../../runtime/runtime.ts";

/** What can be read, in the order in which it belongs together. */
export interface VisibleOutput {
  readonly parts: () => readonly string[];
  /** Null: it is not there any more. */
  readonly read: (part: string) => Uint8Array | null;
}

export interface ReaderWorld {
  now(): Millis;
  at(timeMs: Millis, run: () => void): void;
}

/** From one reading to the next, and from one file to the next. */
const PAUSE_MS_MAX: Millis = 3_000;
const BETWEEN_MS_MAX: Millis = 4;

/** Reads again and again. `seen` gets what one reading has brought; one that found a file gone brings nothing. */
export function beginReading(
  world: ReaderWorld,
  prng: Prng,
  output: VisibleOutput,
  seen: (text: string) => void,
): void {
  const later = (): void => world.at(world.now() + prng.between(1, PAUSE_MS_MAX), () => next(output.parts(), 0, []));
  const next = (parts: readonly string[], at: number, pieces: Uint8Array[]): void => {
    if (at === parts.length) {
      seen(join(pieces));
      return later();
    }
    const piece = output.read(parts[at]!);
    if (piece === null) return later();
    pieces.push(piece);
    world.at(world.now() + prng.between(0, BETWEEN_MS_MAX), () => next(parts, at + 1, pieces));
  };
  later();
}

function join(pieces: readonly Uint8Array[]): string {
  const decoder = new TextDecoder();
  return pieces.map((piece) => decoder.decode(piece)).join("");
}
