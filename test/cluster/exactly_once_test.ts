/**
 * From connector programs to a two-phase sink through three workers of real processes, which are killed thirty times: what
 * the sink has committed at the end is what an undisturbed run gives, to the last byte.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Prng } from "../../src/base/prng.ts";
import { type ClientStream, ConnectorClient } from "../lib/connector_client.ts";
import { realRuntime } from "../lib/real_runtime.ts";
import { notRunHere } from "./lib/cluster.ts";
import { withHarness } from "./lib/harness.ts";
import { freePorts, host } from "./lib/ports.ts";
import { underDeno } from "./lib/process.ts";
import { RealTwoPhaseSink } from "./lib/two_phase_sink.ts";
import { sleep, waitFor } from "./lib/wait.ts";

const KILLS = 30;
const LINES = 20_000;
const COOKIE = "Dragons-Love-Tacos";

/** Lines of one letter, numbered from 1; ids are places in the text, from 0. */
function lines(letter: string): ClientStream {
  const texts = Array.from({ length: LINES }, (_, at) => `${letter} ${at + 1}\n`);
  let place = 0;
  const ids = texts.map((text) => {
    const id = BigInt(place);
    place += text.length;
    return id;
  });
  const bytes = new TextEncoder();
  return { id: BigInt(letter.charCodeAt(0)), name: letter, ids, body: (at) => bytes.encode(texts[at]!) };
}

test("each record of connector programs is committed once, in order, through thirty kills of three workers", async () => {
  if (underDeno) return notRunHere("kills under exactly-once", "the old program names need the compiled binary");
  const seed = BigInt(process.env["TAMMAR_TEST_SEED"] ?? Date.now());
  console.log(`TAMMAR_TEST_SEED=${seed}`);
  const random = new Prng(seed, "kills");
  const folder = mkdtempSync(join(tmpdir(), "tammar-exactly-once-"));
  const [out] = (await freePorts(1)) as [number];
  const sink = await RealTwoPhaseSink.open(join(folder, "out"), out, []);
  const clients: ConnectorClient[] = [];
  const options = {
    command:
      "machida3 --application-module passthrough --source connector --step asis --key-by first-byte " +
      `--step asis-state --sink connector --checkpoint-interval 100ms --out ${host}:${out}`,
    workers: 3,
    sources: ["InputBlobs"],
    inputTail: `:${COOKIE}:500:50`,
    withoutOut: true,
  };
  const letters = [..."abcdefghi"];
  try {
    await withHarness(options, async (harness) => {
      await harness.startAll();
      const running: Promise<void>[] = [];
      for (const at of [0, 1, 2]) {
        const streams = letters.slice(at * 3, at * 3 + 3).map(lines);
        const address = { host, port: harness.places[at]!.sources[0]! };
        const client = new ConnectorClient(await realRuntime(), address, { cookie: COOKIE, streams });
        // So that it lasts.
        Object.assign(client, { messagesMax: 8, paceMs: 5 });
        clients.push(client);
        running.push(client.run());
      }
      let kills = 0;
      while (kills < KILLS) {
        await sleep(random.between(100, 1_200));
        const dead = random.chance(4) ? [0, 1, 2] : random.chance(4) ? [0, 1 + random.int(2)] : [random.int(3)];
        await Promise.all(dead.map((at) => harness.programs[at]!.kill()));
        kills += dead.length;
        await sleep(random.between(0, 300));
        for (const at of dead) harness.start(at);
      }
      for (const client of clients) client.messagesMax = 1_000;
      const committed = (): string => harness.places.map(({ name }) => sink.committed(name)).join("");
      const linesBefore = committed().split("\n").length - 1;
      await waitFor(() => clients.every((client) => client.finished), {
        what: "the last acknowledgements",
        deadlineMs: 90_000,
        seen: () => harness.tails(),
      });
      await Promise.all(running);
      assert.deepEqual(
        clients.flatMap(({ violations }) => violations),
        [],
      );
      assert.deepEqual(await harness.stop(), [0, 0, 0]);
      assert.deepEqual(sink.fatal, []);
      console.log(
        `${kills} kills, ${linesBefore} lines were committed by then, ${committed().length} bytes at the end`,
      );
      // By letter: which worker's file a letter is in is the cluster's business.
      const found = new Map(letters.map((letter) => [letter, ""]));
      for (const line of committed().split(/(?<=\n)/)) found.set(line[0]!, found.get(line[0]!)! + line);
      for (const letter of letters) {
        const expected = Array.from({ length: LINES }, (_, at) => `${letter} ${at + 1}\n`).join("");
        assert.ok(found.get(letter) === expected, `${letter}: ${found.get(letter)!.split("\n").length - 1} lines`);
      }
    });
  } finally {
    for (const client of clients) client.stop();
    sink.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
