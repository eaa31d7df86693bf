/**
 * What the most that can be packed into a MiB costs: every byte or two of it a value, a frame, a record of its own. Milliseconds
 * of processor time for each MiB, the best of some, beside a bare loop in the same process which makes as much of as many bytes:
 *
 *   json     `JSON.parse` of an empty object for each three bytes
 *   views    a view for each five bytes, the smallest frame
 *   buffers  an empty buffer of its own for each two bytes
 *
 *   bun bench/micro/dense.ts
 *   deno run -A bench/micro/dense.ts
 *
 * The ratio differs from processor to processor, and between rounds by a factor of two; `test/fuzz/dense_test.ts` judges only
 * that the work grows as the input does.
 */
import process from "node:process";
import {
  type Bare,
  type Dense,
  listOf,
  MIB,
  programsSend,
  strangersSend,
  toolsRead,
  utf8,
  workersSend,
} from "../../test/fuzz/dense_inputs.ts";

const ROUNDS = 10;

const JSON_TEXT = utf8(listOf("{}"));
const BARE: Readonly<Record<Bare, () => unknown>> = {
  json: () => JSON.parse(new TextDecoder().decode(JSON_TEXT)),
  views: () => {
    const views: Uint8Array[] = [];
    for (let at = 0; at + 5 <= JSON_TEXT.length; at += 5) views.push(JSON_TEXT.subarray(at, at + 5));
    return views;
  },
  buffers: () => {
    const buffers: ArrayBuffer[] = [];
    for (let at = 0; at < MIB; at += 2) buffers.push(JSON_TEXT.slice(at, at).buffer);
    return buffers;
  },
};

/** The best of some, as others take the machine away and garbage is collected. */
function cost(run: () => unknown, length: number): number {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < ROUNDS; i++) {
    const began = performance.now();
    const before = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, performance.now() - began, (user + system) / 1000);
  }
  return (best * MIB) / length;
}

function print(title: string, inputs: readonly Dense[]): void {
  console.log(`\n${title.padEnd(34)} ms/MiB`);
  for (const { name, bytes, decode, bare } of inputs) {
    const taken = cost(() => {
      try {
        return decode(bytes);
      } catch (error) {
        return error;
      }
    }, bytes.length);
    const loop = cost(BARE[bare], MIB);
    const ratio = (taken / loop).toFixed(1).padStart(5);
    console.log(
      `${name.padEnd(34)} ${taken.toFixed(1).padStart(6)}  ${bare.padEnd(7)} ${loop.toFixed(1).padStart(6)}  ${ratio} times`,
    );
  }
}

print("strangers", strangersSend());
print("programs beside a worker", programsSend());
print("peers and files", workersSend());
print("tools and scenarios", toolsRead());
