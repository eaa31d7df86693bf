/** Looks for a first violation in what every run of the tests does with the simulator: for copies with a planted bug. */
import { readFileSync } from "node:fs";
import { Prng } from "../../src/base/prng.ts";
import { crashStories } from "../../src/simulation/crash_cases.ts";
import type { Violation } from "../../src/simulation/oracles/oracle.ts";
import { parseScenario, parseSeed, showSeed } from "../../src/simulation/scenario.ts";
import { type Piece, piecesOf, runPiece } from "./work.ts";

export interface Hunted {
  /** Null: none was found. */
  readonly violation: Violation | null;
  /** Of the run that has it, in words. */
  readonly where: string;
  readonly runs: number;
}

/** @param words Where to look (`seeds` or `crashes`), the first seed, how many, and a scenario file that is run first. */
export async function huntFor([look, first, count, file]: readonly string[]): Promise<Hunted> {
  let runs = 0;
  for await (const { piece, where } of pieces(look!, parseSeed(first!), Number(count), file)) {
    runs++;
    const { violations } = await runPiece(piece);
    if (violations.length > 0) return { violation: violations[0]!, where, runs };
  }
  return { violation: null, where: "", runs };
}

interface Place {
  readonly piece: Piece;
  readonly where: string;
}

async function* pieces(look: string, first: bigint, count: number, file: string | undefined): AsyncGenerator<Place> {
  if (file !== undefined) {
    yield { piece: { name: file, scenario: parseScenario(readFileSync(file, "utf8")) }, where: "its scenario" };
  }
  if (look === "seeds") {
    const seeds = await piecesOf({ kind: "seeds", first, count });
    for (let i = 0; i < seeds.count; i++) yield { piece: seeds.at(i), where: `seed ${i + 1}` };
  } else if (look === "crashes") {
    for (const story of crashStories(showSeed(first)))
      yield { piece: { name: story.name, scenario: story }, where: "a story" };
    const crashes = await piecesOf({ kind: "crash", seed: first, pairs: 0 });
    const order = shuffled(crashes.count, new Prng(first, "hunt"));
    for (const [i, index] of order.entries()) yield { piece: crashes.at(index), where: `crash ${i + 1}` };
  } else throw new Error(`a planted bug can be looked for in seeds, crashes or a test, not in "${look}"`);
}

function shuffled(count: number, prng: Prng): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = prng.int(i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
