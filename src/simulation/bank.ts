/**
 * The bank of the suite: each record moves money from one account to another one, which mostly belongs to another worker. A
 * debit at the one is followed by a credit at the other, so money is under way for a while, and in no consistent cut is it.
 *
 * Accounts have numbers as keys, and each remembers who has given to it last, by a map whose keys are numbers too and whose
 * order counts: what a plain object would put into another order.
 */
import type { Application } from "../api/application.ts";
import { application } from "../api/application.ts";
import { fileSink } from "../api/file_sink.ts";
import type { Stream } from "../api/stream.ts";

/** A record of the input: the `value`-th transfer (from 1) of the one account whose orders have this key. */
export interface Order {
  readonly key: string;
  readonly value: number;
}

export interface Transfer {
  readonly from: string;
  readonly to: string;
  readonly amount: number;
}

/** What an account has given away. State of the stage `debit`. */
export interface Given {
  amount: number;
  count: number;
}

/** What an account has been given. State of the stage `credit`. */
export interface Taken {
  amount: number;
  count: number;
  /** What each account has given, who gave last at the end. */
  readonly givers: Map<string, number>;
}

export const BANK_NAME = "Bank";
export const DEBIT_STAGE = "records/debit";
export const CREDIT_STAGE = "records/credit";
/** Machines that give orders at most: `WORKERS_MAX`. */
const MACHINES = 7;
const GIVERS_SHOWN = 4;

/** @param keys Accounts of each machine whose orders there are. */
export function transferOf({ key, value }: Order, keys: number): Transfer {
  const [machine, place] = placeOf(key);
  const toMachine = (machine + value) % MACHINES;
  const toPlace = (place + (value >> 1)) % keys;
  return {
    from: String(machine * keys + place),
    to: String(toMachine * keys + toPlace),
    amount: 1 + ((value * 13) % 97),
  };
}

/** `f-initializer.k3` is account 3 of machine 0, `f-w2.k0` account 0 of machine 2. */
function placeOf(key: string): [machine: number, place: number] {
  const found = /^f-(?:initializer|w(\d+))\.k(\d+)$/.exec(key);
  if (found === null) throw new Error(`"${key}" is the key of no orders`);
  return [Number(found[1] ?? 0), Number(found[2])];
}

/** What comes out for a transfer once it is credited. `given`, of the giver, and `taken` are what they are behind it. */
export function transferLine({ key, value }: Order, to: string, given: number, taken: Taken): string {
  const latest = [...taken.givers.keys()].slice(-GIVERS_SHOWN).join(",");
  return `${key} ${value} ${to} ${given} ${taken.count}/${taken.amount}/${latest}`;
}

export function beginTaken(): Taken {
  return { amount: 0, count: 0, givers: new Map() };
}

export function credit(taken: Taken, { from, amount }: Transfer): void {
  taken.amount += amount;
  taken.count++;
  const before = taken.givers.get(from) ?? 0;
  taken.givers.delete(from);
  taken.givers.set(from, before + amount);
}

/** @param watch As `WatchStage` of the suite. */
export function bank(
  keys: number,
  orders: () => Stream<Order>,
  directory: string,
  watch: (stage: number) => (key: string) => void,
): Application {
  const [debited, credited] = [watch(0), watch(1)];
  return application(BANK_NAME, () =>
    orders()
      .to("transfer", (order) => ({ order, transfer: transferOf(order, keys) }))
      .keyBy(({ transfer }) => transfer.from)
      .toStateful("debit", {
        initial: (): Given => ({ amount: 0, count: 0 }),
        apply({ order, transfer }, state: Given) {
          debited(transfer.from);
          state.amount += transfer.amount;
          state.count++;
          return { order, transfer, given: state.amount };
        },
      })
      .keyBy(({ transfer }) => transfer.to)
      .toStateful("credit", {
        initial: beginTaken,
        apply({ order, transfer, given }, state: Taken) {
          credited(transfer.to);
          credit(state, transfer);
          return transferLine(order, transfer.to, given, state);
        },
      })
      .toSink(fileSink({ directory, encode: (line) => `${line}\n` })),
  );
}
