import { NOTHING_COVERED } from "./connector.ts";

/**
 * A place in a stream: everything up to and including the message of this id. -1 is before the first: on the wire 2^64-1,
 * in here a number that compares as it should. No message has the id 2^64-1.
 */
export type Point = bigint;

export const NOTHING: Point = -1n;

export function pointFromWire(wire: bigint): Point {
  return wire === NOTHING_COVERED ? NOTHING : wire;
}

export function pointToWire(point: Point): bigint {
  return BigInt.asUintN(64, point);
}
