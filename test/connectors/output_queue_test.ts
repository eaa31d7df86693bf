import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OutputQueue } from "../../src/connectors/output_queue.ts";

type Step =
  | { readonly kind: "push"; readonly sizes: readonly number[] }
  /** The system takes a part of what is offered, while more is pushed. */
  | { readonly kind: "take"; readonly part: number; readonly meanwhile: readonly number[] }
  | { readonly kind: "lose" }
  /** What is behind a write that may be under way is taken back. */
  | { readonly kind: "drop"; readonly part: number };

const sizes = fc.array(
  fc.oneof(
    { weight: 2, arbitrary: fc.constant(0) },
    { weight: 8, arbitrary: fc.integer({ min: 1, max: 40 }) },
    { weight: 1, arbitrary: fc.constant(300 * 1024) },
  ),
  { maxLength: 8 },
);
const part = fc.oneof(fc.constant(1), fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true }));
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("push" as const), sizes }),
    fc.record({ kind: fc.constant("take" as const), part, meanwhile: sizes }),
    fc.record({ kind: fc.constant("lose" as const) }),
    fc.record({ kind: fc.constant("drop" as const), part }),
  ),
  { maxLength: 60 },
);

/** All bytes ever pushed in one row, and how far the system has taken them. */
class Model {
  stream = new Uint8Array(0);
  /** Where records begin and end; equal neighbours are empty records. */
  readonly borders: number[] = [0];
  at = 0;

  /** As an entry of the queue. Bytes tell their place, so that what is out of order shows. */
  entry(recordSizes: readonly number[]): { bytes: Uint8Array; ends: Uint32Array } {
    const ends = new Uint32Array(recordSizes.length);
    let length = 0;
    recordSizes.forEach((size, i) => {
      length += size;
      ends[i] = length;
      this.borders.push(this.stream.length + length);
    });
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = Math.imul(this.stream.length + i, 0x9e37_79b9) >>> 24;
    const grown = new Uint8Array(this.stream.length + length);
    grown.set(this.stream);
    grown.set(bytes, this.stream.length);
    this.stream = grown;
    return { bytes, ends };
  }

  /** Takes back what comes behind the record that byte `at + offered` ends in. */
  dropBehind(offered: number): void {
    const last = this.at + offered;
    const end = this.borders.find((border) => border >= last)!;
    this.stream = this.stream.subarray(0, end);
    const index = this.borders.lastIndexOf(end);
    this.borders.length = index + 1;
  }

  /** Start of the record that the next byte belongs to. */
  get start(): number {
    return this.borders.findLast((border) => border <= this.at)!;
  }

  /** End of the record that has been begun; `at` if none has. */
  get end(): number {
    return this.borders.find((border) => border >= this.at)!;
  }
}

test("an output queue offers every byte once a connection, and begins each connection with a whole record", () => {
  fc.assert(
    fc.property(steps, (script) => {
      const queue = new OutputQueue();
      const model = new Model();
      const take = (share: number, meanwhile: readonly number[]) => {
        const offered = queue.next();
        queue.push(model.entry(meanwhile));
        if (offered === null) return;
        assert.ok(offered.length > 0 && offered.length <= 256 * 1024);
        const count = share === 1 ? offered.length : Math.floor(offered.length * share);
        same(offered, model.stream.subarray(model.at, model.at + offered.length));
        queue.taken(count);
        model.at += count;
      };
      for (const step of script) {
        if (step.kind === "push") queue.push(model.entry(step.sizes));
        else if (step.kind === "take") take(step.part, step.meanwhile);
        else if (step.kind === "drop") {
          const offered = Math.floor((queue.next()?.length ?? 0) * step.part);
          queue.dropBehind(offered);
          model.dropBehind(offered);
        } else {
          assert.equal(queue.rewind(), model.at - model.start);
          model.at = model.start;
          assert.equal(queue.cut, false);
        }
        assert.equal(queue.bytes, model.stream.length - model.at);
        assert.equal(queue.cut, model.at !== model.start);
        assert.equal(queue.restOfRecord, model.end - model.at);
        const whole = model.borders.slice(1).filter((border, i) => border > model.at && border > model.borders[i]!);
        const empty = model.borders.slice(1).filter((border, i) => border === model.borders[i]!);
        const counted = queue.countRecords();
        assert.ok(counted >= whole.length && counted <= whole.length + empty.length, `${counted} of ${whole.length}`);
      }
      while (queue.next() !== null) take(1, []);
      assert.equal(model.at, model.stream.length);
      assert.equal(queue.bytes, 0);
    }),
    { numRuns: 300 },
  );
});

test("an output queue of many small entries joins them into few writes", () => {
  const queue = new OutputQueue();
  const record = new Uint8Array(100);
  for (let i = 0; i < 10_000; i++) queue.push({ bytes: record, ends: Uint32Array.of(100) });
  let writes = 0;
  for (let bytes = queue.next(); bytes !== null; bytes = queue.next()) {
    queue.taken(bytes.length);
    writes++;
  }
  assert.equal(writes, 4);
});

test("an output queue refuses to have more taken than it had", () => {
  const queue = new OutputQueue();
  queue.push({ bytes: new Uint8Array(3), ends: Uint32Array.of(3) });
  assert.throws(() => queue.taken(4), /more was taken/);
});

/** `deepEqual` of 300 KiB would be slow. */
function same(actual: Uint8Array, expected: Uint8Array): void {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) if (actual[i] !== expected[i]) assert.fail(`byte ${i} differs`);
}
