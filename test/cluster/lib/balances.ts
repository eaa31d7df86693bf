/** What a folder of balances says at this moment, and whether that can be. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Balances {
  /** Lines that are visible. */
  readonly total: number;
  readonly balances: ReadonlyMap<string, number>;
}

/** Reads a folder of balances in the order of its names. @throws A line is cut, or an account does not count from 1 without a gap. */
export function readBalances(folder: string): Balances {
  const counts = new Map<string, number>();
  const balances = new Map<string, number>();
  let total = 0;
  for (const name of existsSync(folder) ? readdirSync(folder).sort() : []) {
    if (name.startsWith(".")) continue;
    const text = readFileSync(join(folder, name), "utf8");
    if (!text.endsWith("\n")) throw new Error(`${name} ends in the middle of a line`);
    for (const line of text.split("\n").slice(0, -1)) {
      const { account, balance, n } = JSON.parse(line) as { account: string; balance: number; n: number };
      const expected = (counts.get(account) ?? 0) + 1;
      if (n !== expected) throw new Error(`${name}: ${line}: expected n to be ${expected}`);
      counts.set(account, n);
      balances.set(account, balance);
      total++;
    }
  }
  return { total, balances };
}
