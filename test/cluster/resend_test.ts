/**
 * Records that an application refuses, and its corrected version takes, with real processes: suspended, started again with another
 * module, let in again through one worker; each counts once, and a second run sends nothing.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { withCluster } from "./lib/cluster.ts";
import { runTammar } from "./lib/process.ts";
import { waitFor } from "./lib/wait.ts";

const RECORDS = 1_000;

/** What ends in 1 is not decoded, what ends in 3 not doubled, in 5 not counted, in 7 not put out. */
const PICKY = `
import { application, fileSink, fileSource, lines, option, source } from "tammar";
const refused = [1, 3, 5, 7];
const refuse = (number, digit) => {
  if (refused.includes(digit) && number % 10 === digit) throw new Error("no " + digit);
  return number;
};
export default application(
  "Picky",
  { options: { input: option.string({ help: "file" }), output: option.string({ help: "folder" }) } },
  ({ options }) =>
    source("numbers", fileSource({ path: options.input, framing: lines, decode: (line) => refuse(Number(line.text()), 1) }))
      .to("double", (number) => ({ number: refuse(number, 3) }))
      .keyBy(({ number }) => "k" + (number % 50))
      .toStateful("count", {
        initial: () => ({ n: 0 }),
        apply({ number }, state) { refuse(number, 5); state.n++; return { number, n: state.n }; },
      })
      .toSink(fileSink({ directory: options.output, encode: ({ number, n }) => refuse(number, 7) + " " + n + "\\n" })),
);
`;

function linesOf(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => !name.startsWith("."))
    .flatMap((name) => readFileSync(join(folder, name), "utf8").split("\n").slice(0, -1));
}

test("what the application refused goes into its corrected version, once; a second run sends nothing", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tammar-resend-"));
  try {
    const module = join(folder, "picky.ts");
    writeFileSync(module, PICKY);
    for (const index of [0, 1]) {
      const numbers = Array.from({ length: RECORDS }, (_, i) => `${index * RECORDS + i}\n`);
      writeFileSync(join(folder, `input-${index}`), numbers.join(""));
    }
    const output = join(folder, "output");
    const extra = (index: number) => [
      ...["--input", join(folder, `input-${index}`), "--output", output, "--checkpoint-interval", "200ms"],
    ];
    await withCluster({ application: module, workers: 2, extra }, async (cluster) => {
      const external = (index: number) => `127.0.0.1:${cluster.place(index).external}`;
      const resend = (through: number, ...more: string[]) =>
        runTammar(["dead-letters", cluster.dir, "--resend", external(through), ...more]);
      await cluster.startAll();
      const good = 2 * RECORDS * 0.6;
      await waitFor(() => linesOf(output).length === good, { what: "what is good", everyMs: 50 });
      assert.equal((await runTammar(["shutdown", "--keep", external(0)])).status, 0);
      assert.deepEqual(await cluster.exits(), [0, 0]);
      const nobody = await resend(0);
      assert.equal(nobody.status, 1);
      assert.match(nobody.output, /Unable to connect/);

      writeFileSync(module, PICKY.replace("[1, 3, 5, 7]", "[]"));
      await cluster.startAll();
      const refused = 2 * RECORDS * 0.4;
      const first = await resend(1);
      assert.equal(first.status, 0, first.output);
      assert.match(first.output, new RegExp(`^${refused} let in again \\(checkpoint \\d+ has them\\)\\n$`));
      const second = await resend(0);
      assert.equal(second.status, 0, second.output);
      assert.equal(second.stdout, `0 let in again\n${refused} left out: let in before (--again sends them, too)\n`);
      const listed = await runTammar(["dead-letters", cluster.dir]);
      assert.equal(listed.stdout.match(/; was let in again\n/g)?.length, refused);
      assert.ok(
        /numbers\/decode \(decode\): Error: no 1: 2 bytes 11; from source numbers, .*input-0 at byte 23; was/.test(
          listed.stdout,
        ),
      );

      assert.equal((await cluster.shutdownThrough(1)).status, 0);
      assert.deepEqual(await cluster.exits(), [0, 0]);
      const out = linesOf(output).map((line) => line.split(" ").map(Number) as [number, number]);
      assert.deepEqual(
        out.map(([number]) => number).sort((a, b) => a - b),
        Array.from({ length: 2 * RECORDS }, (_, i) => i),
      );
      // Also those that a sink refused had been counted once, before.
      for (let key = 0; key < 50; key++) {
        const counts = out.filter(([number]) => number % 50 === key).map(([, n]) => n);
        assert.equal(Math.max(...counts), (2 * RECORDS) / 50, `key ${key}`);
      }
      const gone = await runTammar(["store", "clean", cluster.dir, "--dead-letters"]);
      assert.equal(gone.status, 0, gone.output);
      assert.deepEqual(cluster.files(), [], gone.output);
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
