/** Looks for a first violation in what every run of the tests does with the simulator: for copies with a planted bug. */
import { readFileSync } from "node:fs";
import { Prng } from "../../src/base/prng.ts";
import { crashStories } from "../../src/simulation/crash_cases.ts";
import type { Violation } from "../../src/simulation/oracles/oracle.ts";
import { parseScenario, parseSeed, type Scenario, showSeed } from "../../src/simulation/scenario.ts";
import { type Piece, piecesOf, runPiece, type Work } from "./work.ts";

export interface Hunted {
  /** Null: none was found. */
  readonly violation: Violation | null;
  /** What was run when it was found; null: nothing was found. */
  readonly scenario: Scenario | null;
  /** Of that run, in words. */
  readonly where: string;
  /** So many runs were looked at, or left out at the beginning. */
  readonly runs: number;
}

/**
 * @param words Where to look (`seeds`, `crashes` or `directed`), the first seed, how many, how many runs to leave out at the
 *   beginning, and a scenario file that is run before all.
 */
export async function huntFor([look, first, count, leftOut, file]: readonly string[]): Promise<Hunted> {
  let runs = 0;
  for await (const { piece, where } of places(look!, parseSeed(first!), Number(count), file)) {
    if (++runs <= Number(leftOut)) continue;
    const { violations } = await runPiece(piece);
    if (violations.length > 0) return { violation: violations[0]!, scenario: piece.scenario, where, runs };
  }
  return { violation: null, scenario: null, where: "", runs };
}

interface Place {
  readonly piece: Piece;
  readonly where: string;
}

async function* places(look: string, first: bigint, count: number, file: string | undefined): AsyncGenerator<Place> {
  const placed = (scenario: Scenario, where: string): Place => ({ piece: { name: scenario.name, scenario }, where });
  if (file !== undefined) yield placed(parseScenario(readFileSync(file, "utf8")), "its own scenario");
  if (look === "seeds") {
    const seeds = await piecesOf({ kind: "seeds", first, count });
    for (let i = 0; i < seeds.count; i++) yield { piece: seeds.at(i), where: `seed ${i + 1}` };
    return;
  }
  if (look === "crashes") for (const story of crashStories(showSeed(first))) yield placed(story, "a story");
  const pieces = await piecesOf(workOf(look, first));
  // Their order is that of what they are about, so the first ones are all alike.
  for (const [i, index] of shuffled(pieces.count, new Prng(first, "hunt")).entries()) {
    yield { piece: pieces.at(index), where: `${look === "crashes" ? "crash" : "directed run"} ${i + 1}` };
  }
}

function workOf(look: string, seed: bigint): Work {
  if (look === "crashes") return { kind: "crash", seed, pairs: 0 };
  if (look === "directed") return { kind: "directed", states: [] };
  throw new Error(`a planted bug is looked for in seeds, crashes, directed or a test, not in "${look}"`);
}

function shuffled(count: number, prng: Prng): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = prng.int(i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
