// Names in the folder of a file sink. `w` is the worker, `x` the extension.
//
//   | name                            | what                                                                          |
//   |---------------------------------|-------------------------------------------------------------------------------|
//   | part-<16 digits>-w-<8 digits>.x | visible: whole records of complete checkpoints, from the epoch in its name on  |
//   | .<16 digits>.part-...           | prepared for that epoch: becomes the visible file of the name behind the epoch |
//   | .writing-w-<number>             | being written, belongs to no epoch yet                                         |
//   | .joining-w                      | being made of a visible file and what follows it                               |
//   | .tammar-w                       | locked while the worker runs; holds the id of the folder                       |
//
// Visible names sort in the order of epochs, and for each worker in the order of records. Workers are told apart by their
// whole name: no extension has a dash, so `part-...-a-1-00000000.x` is of worker `a-1`.
import type { Epoch } from "../base/ids.ts";

const EPOCH_DIGITS = 16;
const NUMBER_DIGITS = 8;

export type PartName =
  | { readonly kind: "visible"; readonly epoch: Epoch; readonly number: number }
  | { readonly kind: "prepared"; readonly epoch: Epoch; readonly target: string }
  | { readonly kind: "scratch" };

/** @param number Of several of one epoch, from 0. */
export function visibleName(epoch: Epoch, worker: string, number: number, extension: string): string {
  return `part-${digits(epoch, EPOCH_DIGITS)}-${worker}-${digits(number, NUMBER_DIGITS)}.${extension}`;
}

export function preparedName(epoch: Epoch, target: string): string {
  return `.${digits(epoch, EPOCH_DIGITS)}.${target}`;
}

export function writingName(worker: string, number: number): string {
  return `.writing-${worker}-${number}`;
}

export function joiningName(worker: string): string {
  return `.joining-${worker}`;
}

export function folderIdName(worker: string): string {
  return `.tammar-${worker}`;
}

/** What a name means to this worker; null: nothing. */
export function parsePartName(name: string, worker: string): PartName | null {
  if (name === joiningName(worker)) return { kind: "scratch" };
  const writing = `.writing-${worker}-`;
  if (name.startsWith(writing) && /^\d+$/.test(name.slice(writing.length))) return { kind: "scratch" };
  const prepared = /^\.(\d{16})\.(part-.*)$/.exec(name);
  if (prepared !== null) {
    const target = prepared[2]!;
    return parseVisible(target, worker) === null ? null : { kind: "prepared", epoch: Number(prepared[1]), target };
  }
  return parseVisible(name, worker);
}

function parseVisible(name: string, worker: string): PartName | null {
  const whole = /^part-(\d{16})-(.*)-(\d{8})\.[A-Za-z0-9.]+$/.exec(name);
  if (whole === null || whole[2] !== worker) return null;
  return { kind: "visible", epoch: Number(whole[1]), number: Number(whole[3]) };
}

function digits(value: number, count: number): string {
  return String(value).padStart(count, "0");
}
