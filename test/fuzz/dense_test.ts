/**
 * What becomes of a MiB where every byte or two is a value, a frame, a record of its own. `fuzz.ts` holds inputs of usual
 * density to a time; to make a million objects takes longer than that whoever makes them, and how long is a matter of the
 * machine, its caches and its garbage collector: the figures come from `bench/micro/dense.ts`. Judged here is what every
 * machine shows:
 *
 * - memory asked for by a number is paid for by the bytes that came, so no buffer is made anew for each value;
 * - work grows as the input does. An input that is read once takes a third of a second at most, also on a slow machine that is
 *   busy; if something were copied or searched again for each of its values it would take many times the bound below;
 * - a list that is too long is refused before anything in it is read.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ProtocolError } from "../../src/base/errors.ts";
import { decodeCbor } from "../../src/wire/cbor.ts";
import { cborList, type Dense, programsSend, strangersSend, toolsRead, workersSend } from "./dense_inputs.ts";
import { metered } from "./meter.ts";

/** Of processor time for one input. */
const MS_MAX = 5_000;
/** What a decoder may ask for without having seen a byte for it. */
const ASKED_FREE = 512 * 1024;
/** A record can come as one byte, and takes a place in eight arrays (80 bytes); others ask for less. */
const ASKED_A_BYTE = 256;

/** Milliseconds of processor time: others take the machine away for a while, but not what this process has used of it. */
function cost(run: () => unknown): number {
  const before = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

function judge(inputs: readonly Dense[]): void {
  for (const { name, bytes, decode } of inputs) {
    const run = () => {
      try {
        return decode(bytes);
      } catch (error) {
        // Refused is fine, and the sooner the better.
        return error;
      }
    };
    metered(run, (asked, largest) => {
      assert.ok(
        asked <= ASKED_FREE + ASKED_A_BYTE * bytes.length,
        `${name}: ${bytes.length} bytes made it ask for ${asked} bytes, ${largest} at once`,
      );
    });
    const ms = cost(run);
    assert.ok(ms < MS_MAX, `${name}: ${ms.toFixed(0)} ms of processor time for ${bytes.length} bytes`);
  }
}

const LIMIT = { timeout: 300_000 };

test("what strangers can send is read once, however it is packed", LIMIT, () => judge(strangersSend()));

test("what programs beside a worker send is read once", LIMIT, () => judge(programsSend()));

test("what workers send each other, and find in their files, is read once", LIMIT, () => judge(workersSend()));

test("what tools and scenarios read as JSON is read once", LIMIT, () => judge(toolsRead()));

test("a list of CBOR with more items than are taken is refused before any of them is read", () => {
  const tooMany = (item: number) => () => decodeCbor(cborList(65_535, item));
  const refused = { name: ProtocolError.name, message: /more items than are allowed/ };
  assert.throws(tooMany(0xa0), refused);
  // A break means nothing here, and would be refused for that.
  assert.throws(tooMany(0xff), refused);
  assert.throws(() => decodeCbor(cborList(16_383, 0xff)), { message: /the unknown simple value/ });
});
