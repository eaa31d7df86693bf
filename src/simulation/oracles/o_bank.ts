/**
 * O-BANK: a checkpoint is a consistent cut. In each one that exists, as somebody reads it from the files of all workers while
 * they work, what was debited is what was credited, to the last transfer: no money is under way. And what is visible is the
 * history of each account, which replayed gives its balances: every transfer once, in the order of its giver.
 *
 * It judges the lines of `bank` in the place of O-SEQ and O-MODEL, which know lines whose place in the output is determined; the
 * order in which several givers are credited is not. That all lines are there at the end is O-MODEL's to say.
 */
import type { WorkerName } from "../../base/ids.ts";
import { beginTaken, credit, type Taken, transferLine, transferOf } from "../bank.ts";
import type { Audit, Observation, Reading } from "../observation.ts";
import type { Scenario } from "../scenario.ts";
import { fileStreamId, ownerIndex, RecordSequence } from "../suite.ts";
import type { Oracle, Violation } from "./oracle.ts";

export const oBank: Oracle = {
  id: "O-BANK",
  check({ audits, ending, timeMs }, { application, messages }) {
    if (application !== "bank" || messages === 0 || ending?.quietMs == null) return [];
    if (audits.some(({ debits, credits }) => debits.size > 0 && credits.size > 0)) return [];
    return [{ oracle: "O-BANK", timeMs, text: "no checkpoint with money in it could be read in all of the run" }];
  },
  during(observation, scenario) {
    if (scenario.application !== "bank") return () => [];
    const books = new Books(observation.workers, scenario);
    const visible = duringVisible(observation, books);
    let audited = 0;
    return () => {
      const violations = visible();
      for (const each of observation.audits.slice(audited)) {
        const why = books.judgeCut(each);
        if (why !== null) {
          const text = `checkpoint ${each.epoch} of generation ${each.generation}: ${why}`;
          violations.push({ oracle: "O-BANK", timeMs: each.timeMs, text });
        }
      }
      audited = observation.audits.length;
      return violations.slice(0, 5);
    };
  },
};

/** The histories of accounts as far as one text goes. */
interface Histories {
  text: string;
  readonly accounts: Map<string, Taken>;
  /** The latest value of each giver's orders. */
  readonly latest: Map<string, number>;
}

function duringVisible(observation: Observation, books: Books): () => Violation[] {
  const seen = new Map<WorkerName | Reading, Histories>();
  return () => {
    const violations: Violation[] = [];
    const look = (worker: WorkerName, what: WorkerName | Reading, text: string): void => {
      let histories = seen.get(what);
      if (histories?.text === text) return;
      // A name that was not durable goes with the power, and comes back with the recovery.
      if (histories === undefined || !text.startsWith(histories.text)) {
        histories = { text: "", accounts: new Map(), latest: new Map() };
        seen.set(what, histories);
      }
      const why = books.judgeLines(worker, histories, text);
      if (why !== null) violations.push({ oracle: "O-BANK", timeMs: observation.timeMs, text: `${worker}: ${why}` });
    };
    for (const [worker, text] of observation.visible) look(worker, worker, text);
    for (const reading of observation.readings) look(reading.worker, reading, reading.text);
    return violations;
  };
}

interface Account {
  /** Of its orders. */
  readonly key: string;
  readonly count: number;
}

/** What the undisturbed run does with the orders of all machines. */
class Books {
  readonly #keys: number;
  readonly #workers: readonly WorkerName[];
  /** By the key of orders: how many there are. */
  readonly #orders = new Map<string, number>();
  /** By account. */
  readonly #givers = new Map<string, Account>();

  constructor(workers: readonly WorkerName[], { keys, messages }: Scenario) {
    this.#keys = keys;
    this.#workers = workers;
    for (const worker of workers) {
      const records = new RecordSequence(fileStreamId(worker), keys);
      for (let i = 0; i < messages; i++) {
        const { key, value } = records.next();
        this.#orders.set(key, value);
      }
    }
    for (const [key, count] of this.#orders) {
      this.#givers.set(transferOf({ key, value: 1 }, keys).from, { key, count });
    }
  }

  /** @returns What is wrong with what the text has more than before; null: nothing. */
  judgeLines(worker: WorkerName, histories: Histories, text: string): string | null {
    if (text !== "" && !text.endsWith("\n")) return "what is visible ends in the middle of a line";
    const more = text.slice(histories.text.length).split("\n").slice(0, -1);
    histories.text = text;
    for (const line of more) {
      const key = line.slice(0, Math.max(0, line.indexOf(" ")));
      const due = this.#nextLine(worker, histories, key);
      if (line !== due) return `"${line}" is visible where "${due ?? "nothing"}" was to come`;
    }
    return null;
  }

  /** The line of the next transfer of this giver to an account of this worker. */
  #nextLine(worker: WorkerName, { accounts, latest }: Histories, key: string): string | null {
    const count = this.#orders.get(key);
    if (count === undefined) return null;
    for (let value = (latest.get(key) ?? 0) + 1; value <= count; value++) {
      const transfer = transferOf({ key, value }, this.#keys);
      if (this.#ownerOf(transfer.to) !== worker) continue;
      latest.set(key, value);
      const account = accounts.get(transfer.to) ?? beginTaken();
      accounts.set(transfer.to, account);
      credit(account, transfer);
      return transferLine({ key, value }, transfer.to, this.#givenBy(key, value), account);
    }
    return null;
  }

  #ownerOf(account: string): WorkerName {
    return this.#workers[ownerIndex(account, this.#workers.length)]!;
  }

  /** @returns What is wrong with a checkpoint; null: nothing. */
  judgeCut({ debits, credits, twice }: Audit): string | null {
    if (twice.length > 0) return `account ${twice[0]} is at two workers`;
    const due = new Map<string, Taken>();
    let debited = 0;
    for (const [account, state] of debits) {
      const giver = this.#givers.get(account);
      const { amount, count } = state as { amount: number; count: number };
      if (giver === undefined || !(count <= giver.count)) return `account ${account} has given ${show(state)}`;
      if (amount !== this.#givenBy(giver.key, count)) {
        return `account ${account} has given ${amount} in ${count} transfers, which are ${this.#givenBy(giver.key, count)}`;
      }
      debited += amount;
      for (let value = 1; value <= count; value++) {
        const transfer = transferOf({ key: giver.key, value }, this.#keys);
        const taken = due.get(transfer.to) ?? beginTaken();
        due.set(transfer.to, taken);
        credit(taken, transfer);
      }
    }
    let credited = 0;
    for (const state of credits.values()) credited += (state as Taken).amount;
    if (debited !== credited) return `${debited} was debited, and ${credited} credited`;
    for (const [account, expected] of due) {
      if (show(credits.get(account)) === show(expected)) continue;
      return `account ${account} was credited ${show(credits.get(account))}, and is due ${show(expected)}`;
    }
    const nobodys = [...credits.keys()].find((account) => !due.has(account));
    return nobodys === undefined ? null : `account ${nobodys} was credited, and nobody has given`;
  }

  /** What the first so many transfers of a giver come to. */
  #givenBy(key: string, count: number): number {
    let sums = this.#sums.get(key);
    if (sums === undefined) {
      sums = [0];
      this.#sums.set(key, sums);
    }
    while (sums.length <= count) {
      sums.push(sums.at(-1)! + transferOf({ key, value: sums.length }, this.#keys).amount);
    }
    return sums[count]!;
  }

  readonly #sums = new Map<string, number[]>();
}

/** Of what was credited, whatever the order in which it came. */
function show(state: unknown): string {
  if (typeof state !== "object" || state === null) return String(state);
  const { amount, count, givers } = state as Partial<Taken>;
  const given = givers instanceof Map ? [...givers].map(([from, sum]) => `${from}:${sum}`).sort() : [];
  return `${amount} in ${count} transfers from ${given.join(" ") || "nobody"}`;
}
