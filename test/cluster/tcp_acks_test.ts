/**
 * A TCP source that acknowledges, on two workers of real processes that are killed again and again. A sender that sends again
 * what was not acknowledged loses nothing, and what was acknowledged is in the output without being sent again.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Prng } from "../../src/base/prng.ts";
import { type Cluster, withCluster } from "./lib/cluster.ts";
import { host } from "./lib/ports.ts";
import { root, runTammar } from "./lib/process.ts";
import { frame } from "./lib/sender.ts";
import { sleep, waitFor } from "./lib/wait.ts";

const KILLS = 10;
const RECORDS = 12_000;
const application = join(root, "test/cluster/apps/acknowledged.ts");

/** Knows the layout of a position by its documentation alone. */
class Sender {
  safe = 0;
  connections = 0;
  paused = false;
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  async run(): Promise<void> {
    while (this.safe < RECORDS) {
      await sleep(20);
      if (!this.paused) await this.#connection();
    }
  }

  #connection(): Promise<void> {
    return new Promise((over) => {
      const base = this.safe;
      let next = base;
      let bytes: Buffer = Buffer.alloc(0);
      const socket = connect({ host, port: this.#port, noDelay: true });
      const timer = setInterval(() => {
        if (this.paused || this.safe === RECORDS) return socket.destroy();
        for (let i = 0; i < 20 && next < RECORDS && socket.writableLength < 65_536; i++)
          socket.write(frame(`r${++next}`));
      }, 10);
      socket.on("connect", () => this.connections++);
      socket.on("data", (chunk) => {
        bytes = Buffer.concat([bytes, chunk as Buffer]);
        for (; bytes.length >= 21; bytes = bytes.subarray(21)) {
          assert.equal(bytes.readUInt32BE(0), 17);
          assert.equal(bytes.readUInt8(4), 1);
          const records = Number(bytes.readBigUInt64BE(5));
          assert.ok(base + records <= next && base + records >= this.safe, `${records} of ${next - base}`);
          const length = Array.from({ length: records }, (_, i) => `r${base + i + 1}`.length + 4);
          assert.equal(
            Number(bytes.readBigUInt64BE(13)),
            length.reduce((sum, each) => sum + each, 0),
          );
          this.safe = base + records;
        }
      });
      socket.on("error", () => {});
      socket.on("close", () => {
        clearInterval(timer);
        over();
      });
    });
  }
}

/** How often each record was counted. */
function look(folder: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const name of readdirSync(folder).sort()) {
    if (name.startsWith(".")) continue;
    for (const line of readFileSync(join(folder, name), "utf8").split("\n").slice(0, -1)) {
      const [text = "", n = ""] = line.split(" ");
      assert.equal(Number(n), (found.get(text) ?? 0) + 1, `${name}: ${line}`);
      found.set(text, Number(n));
    }
  }
  return found;
}

const names = (count: number) => Array.from({ length: count }, (_, i) => `r${i + 1}`);

async function withAcknowledged(body: (cluster: Cluster, output: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "tammar-acks-"));
  const output = join(folder, "seen");
  const extra = ["--output", output, "--checkpoint-interval", "200ms"];
  try {
    await withCluster({ application, workers: 2, sources: ["records"], extra }, (cluster) => body(cluster, output));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test("nothing that a TCP source has acknowledged is lost to kill -9, and resending the rest makes it whole", async () => {
  const seed = BigInt(process.env["TAMMAR_TEST_SEED"] ?? Date.now());
  console.log(`TAMMAR_TEST_SEED=${seed}`);
  const random = new Prng(seed, "kills");
  await withAcknowledged(async (cluster, output) => {
    await cluster.startAll();
    const sender = new Sender(cluster.sourcePort(1, "records"));
    const running = sender.run();
    for (let kills = 0; kills < KILLS; kills++) {
      const before = sender.safe;
      await waitFor(() => sender.safe > before || sender.safe === RECORDS, {
        what: "an acknowledgement",
      });
      await sleep(random.between(0, 300));
      const victims = [[0], [1], [0, 1]][random.int(3)]!;
      await Promise.all(victims.map((index) => cluster.program(index).kill()));
      const { safe } = sender;
      sender.paused = true;
      for (const index of victims) cluster.start(index);
      await cluster.waitReady();
      const missing = () => {
        const found = look(output);
        return names(safe).filter((text) => !found.has(text));
      };
      await waitFor(() => missing().length === 0, {
        what: "all that was acknowledged",
        seen: () => `${missing().length} of ${safe} are missing, from ${missing()[0]}`,
      });
      sender.paused = false;
    }
    await running;
    await waitFor(() => look(output).size === RECORDS, { what: "every record" });
    const found = look(output);
    assert.deepEqual(
      names(RECORDS).filter((text) => !found.has(text)),
      [],
    );
    const again = [...found.values()].filter((n) => n > 1).length;
    console.log(`${KILLS} kills, ${sender.connections} connections; ${again} records were counted more than once`);
    // What a rollback costs was said.
    const said = [0, 1].map((index) => cluster.program(index).tail()).join("\n");
    assert.match(said, /records source: (the state covers the first|the last \d+ frames|the rollback took back)/);
    assert.equal((await cluster.shutdownThrough(0)).status, 0);
    assert.deepEqual(await cluster.exits(), [0, 0]);
  });
});

test("tammar send --acks ends with 0 when all is safe, and with 1 and how far it is when the worker dies", async () => {
  await withAcknowledged(async (cluster, output) => {
    await cluster.startAll();
    const target = ["send", "--host", `${host}:${cluster.sourcePort(0, "records")}`, "--no-write"];
    const sent = await runTammar([...target, "--messages", "3000", "--acks", "20"]);
    assert.equal(sent.status, 0, sent.stderr);
    assert.match(sent.stdout, /All 3000 messages are acknowledged/);
    await waitFor(() => look(output).size === 3_000, { what: "every record" });
    const gone = runTammar([...target, "--messages", "1000000", "--acks", "20"]);
    await sleep(500);
    await cluster.program(0).kill();
    const lost = await gone;
    assert.equal(lost.status, 1);
    assert.match(lost.stderr, /has acknowledged \d+ of \d+ messages: send the others again/);
  });
});
