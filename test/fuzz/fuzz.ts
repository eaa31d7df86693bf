/**
 * Fuzzing without tools: inputs are made from a seed, which is the commit's, so that each commit tries inputs of its own and
 * everybody the same ones for it. It is printed; `FUZZ_SEED=<seed>` takes another one, `FUZZ_SEED=now` a fresh one, and
 * `FUZZ_RUNS` another number of inputs.
 *
 * What failed once is kept in `corpus/<name of the target>.hex`, a line for each input: its bytes, and behind `#` what they
 * did. These are run each time, before anything else; a failure prints the line to add.
 *
 * Of every target it is asked: nothing is thrown but what is announced; nothing is allocated that the bytes that came do not
 * pay for (`meter.ts`); no input takes out of all proportion to its length. Decoders are built for 10 ms of processor time a
 * MiB, and what the large inputs take is printed. But that is a matter of the machine and of what else it does, so an input
 * fails only above bounds that are at least ten times what was measured on a slow and busy one: those of a loop over a length
 * that was announced, of a search that starts again and again, of an expression that tries everything.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Chance } from "./chance.ts";
import { damage, withLength } from "./damage.ts";
import { metered } from "./meter.ts";

export const RUNS = Number(process.env["FUZZ_RUNS"] ?? 100_000);
/** The same for all targets of one process. */
export const SEED = seed();

/** One input in so many is metered: that takes longer. */
const METERED_ONE_IN = 64;
/** What a decoder may ask for without having seen a byte for it: a buffer that it keeps, the first piece of a large body. */
const ALLOCATED_FREE = 512 * 1024;
/** Numbers, objects and strings take more room than the bytes that they come from. */
const ALLOCATED_A_BYTE = 256;
/** Of processor time. Measured at most: 14, a tool that is given 7,500 pieces of a byte. */
const SLOW_MS = 250;
/** Of processor time. Measured at most: 100, where a MiB is a hundred thousand values. */
const SLOW_MS_A_MIB = 1_000;
/** Of an input that failed, in the report. */
const SHOWN_BYTES_MAX = 4096;

export interface FuzzTarget<T> {
  /** Also of its corpus, with `_` for each blank. */
  readonly name: string;
  /** A legal input. */
  readonly make: (chance: Chance) => Uint8Array;
  /** Throws nothing that is not announced. This is what is metered. */
  readonly decode: (bytes: Uint8Array, chance: Chance) => T | Promise<T>;
  /** What must hold of the result. */
  readonly check?: (result: T, bytes: Uint8Array, chance: Chance) => void;
  /** What is thrown for bytes that mean nothing. Default: nothing is. */
  readonly announced?: (error: unknown) => boolean;
  /** Large inputs, about 1 MiB each, that a decoder may take long for. */
  readonly large?: readonly ((chance: Chance) => Uint8Array)[];
}

/** A quarter of the inputs are legal, most are damaged legal ones, some are noise. */
export async function fuzz<T>(target: FuzzTarget<T>): Promise<void> {
  const runs = RUNS;
  const chance = new Chance(SEED);
  const began = performance.now();
  for (const bytes of corpusOf(target.name)) await attempt(target, bytes, new Chance(1), "corpus", true);
  await lengthsWithNothingBehind(target, chance);
  for (const large of target.large ?? [])
    console.log(`fuzz ${target.name}: ${await largeInputs(target, large, chance)}`);
  let last = target.make(chance);
  let refused = 0;
  for (let i = 0; i < runs; i++) {
    const kind = chance.below(16);
    let bytes: Uint8Array;
    if (kind === 0) bytes = chance.bytes(chance.below(64));
    else {
      const legal = target.make(chance);
      bytes = kind < 5 ? legal : damage(chance, legal, last);
      last = legal;
    }
    const outcome = attempt(target, bytes, chance, `FUZZ_SEED=${SEED}, input ${i}`, i % METERED_ONE_IN === 0);
    // A promise for each input would double the time of what needs none.
    if (!(typeof outcome === "boolean" ? outcome : await outcome)) refused++;
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  console.log(`fuzz ${target.name}: ${runs} inputs, ${refused} refused, FUZZ_SEED=${SEED}, ${seconds} s`);
  // Otherwise the inputs are not what they are meant to be.
  if (target.announced !== undefined && runs >= 1000) {
    assert.ok(refused > runs / 10 && refused < runs * 0.9, `${refused} of ${runs} were refused`);
  }
}

/** Each place of a legal input in turn announces 2 GB, with 10 bytes behind it. */
async function lengthsWithNothingBehind<T>(target: FuzzTarget<T>, chance: Chance): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const legal = target.make(chance);
    for (let at = 0; at < Math.min(legal.length, 160); at++) {
      const bytes = withLength(legal, at, 0x7fff_ffff, at % 2 === 0).slice(0, at + 14);
      await attempt(target, bytes, chance, `2 GB announced at ${at}, FUZZ_SEED=${SEED}`, true);
    }
  }
}

async function largeInputs<T>(
  target: FuzzTarget<T>,
  make: (chance: Chance) => Uint8Array,
  chance: Chance,
): Promise<string> {
  const legal = make(chance);
  // How long it takes and what it asks for is what matters here.
  const unchecked: FuzzTarget<T> = { ...target, check: () => {} };
  for (let i = 0; i < 8; i++) {
    const bytes = i < 2 ? legal : damage(chance, legal, legal);
    await attempt(unchecked, bytes, chance, `large input ${i}, FUZZ_SEED=${SEED}`, i % 2 === 1);
  }
  const ms = await leastMs(target, legal, chance.state, 0);
  return `${legal.length} bytes in ${ms.toFixed(1)} ms`;
}

/** `false`: refused as announced. */
function attempt<T>(
  target: FuzzTarget<T>,
  bytes: Uint8Array,
  chance: Chance,
  what: string,
  isMetered: boolean,
): boolean | Promise<boolean> {
  const before = chance.state;
  const start = performance.now();
  const refused = (error: unknown): boolean | Promise<boolean> => {
    if (!target.announced?.(error)) throw told(error);
    return inTime(false);
  };
  const accepted = (result: T): boolean | Promise<boolean> => {
    const outcome = inTime(true);
    try {
      target.check?.(result, bytes, chance);
    } catch (error) {
      throw told(error);
    }
    return outcome;
  };
  const inTime = (outcome: boolean): boolean | Promise<boolean> => {
    if (isMetered || performance.now() - start <= limitMs(bytes)) return outcome;
    return lookAgain(target, bytes, before, what, outcome);
  };
  const told = (error: unknown) => new Error(`${(error as Error)?.stack ?? error}\n${tell(target, bytes, what)}`);
  const decode = () => target.decode(bytes, chance);
  let decoded: T | Promise<T>;
  try {
    decoded = isMetered ? meteredDecode(bytes, decode) : decode();
  } catch (error) {
    return refused(error);
  }
  return decoded instanceof Promise ? decoded.then(accepted, refused) : accepted(decoded);
}

function meteredDecode<T>(bytes: Uint8Array, decode: () => T | Promise<T>): T | Promise<T> {
  return metered(decode, (asked, largest) => {
    if (asked <= ALLOCATED_FREE + ALLOCATED_A_BYTE * bytes.length) return;
    throw new Error(`${bytes.length} bytes made it ask for ${asked} bytes, ${largest} at once`);
  });
}

async function lookAgain<T>(
  target: FuzzTarget<T>,
  bytes: Uint8Array,
  chanceState: number,
  what: string,
  accepted: boolean,
): Promise<boolean> {
  const ms = await leastMs(target, bytes, chanceState, limitMs(bytes));
  assert.ok(ms <= limitMs(bytes), `took ${ms} ms for ${bytes.length} bytes: ${tell(target, bytes, what)}`);
  return accepted;
}

/** The least of five times, or the first that is short enough. */
async function leastMs<T>(
  target: FuzzTarget<T>,
  bytes: Uint8Array,
  chanceState: number,
  enoughMs: number,
): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5 && least > enoughMs; i++) {
    const chance = new Chance(chanceState);
    const began = performance.now();
    // Others take the machine away for a while, but not what this process has used of it.
    const used = process.cpuUsage();
    try {
      await target.decode(bytes, chance);
    } catch {
      // As before.
    }
    const { user, system } = process.cpuUsage(used);
    least = Math.min(least, performance.now() - began, (user + system) / 1000);
  }
  return least;
}

function limitMs(bytes: Uint8Array): number {
  return Math.max(SLOW_MS, (SLOW_MS_A_MIB * bytes.length) / 2 ** 20);
}

function tell<T>(target: FuzzTarget<T>, bytes: Uint8Array, what: string): string {
  const hex = Buffer.from(bytes.subarray(0, SHOWN_BYTES_MAX)).toString("hex") || "-";
  const cut = bytes.length > SHOWN_BYTES_MAX ? ` (the first ${SHOWN_BYTES_MAX} bytes of ${bytes.length})` : "";
  return `${target.name}, ${what}; for ${corpusFile(target.name)}:\n${hex} # what it did${cut}`;
}

function corpusFile(name: string): string {
  return `test/fuzz/corpus/${name.replaceAll(" ", "_")}.hex`;
}

/** A line is hexadecimal digits (`-`: no bytes at all), and a remark behind `#`. */
function corpusOf(name: string): Uint8Array[] {
  const path = join(import.meta.dirname, "../..", corpusFile(name));
  if (!existsSync(path)) throw new Error(`there is no ${corpusFile(name)}; make it, if only with a remark`);
  const lines = readFileSync(path, "utf8").split("\n");
  const inputs = lines.map((line) => line.replace(/#.*/, "").trim()).filter((line) => line !== "");
  return inputs.map((hex) => {
    assert.match(hex, /^(-|([0-9a-f]{2})+)$/, `${corpusFile(name)} has a line that is not hexadecimal`);
    return new Uint8Array(Buffer.from(hex === "-" ? "" : hex, "hex"));
  });
}

function seed(): number {
  const given = process.env["FUZZ_SEED"];
  if (given !== undefined && given !== "now") return Number(given) >>> 0;
  if (given === undefined) {
    try {
      const hash = execFileSync("git", ["rev-parse", "HEAD"], {
        cwd: import.meta.dirname,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
      if (/^[0-9a-f]{40}/.test(hash)) return Number.parseInt(hash.slice(0, 8), 16);
    } catch {
      // A copy without its history, or a machine without git.
    }
  }
  return Date.now() >>> 0;
}
