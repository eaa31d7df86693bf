/** What a TCP source with `acks` told a sender to be safe is safe, and what it did not can be sent again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { application, fileSink, framed, source, tcpSource } from "../../mod.ts";
import type { Prng } from "../../src/base/prng.ts";
import type { Conn, Runtime } from "../../src/runtime/runtime.ts";
import { encodeFrame } from "../../src/wire/frame.ts";
import { PositionAckReader } from "../../src/wire/position_ack.ts";
import { NO_CHECKPOINTS } from "../../src/worker/config.ts";
import { said } from "../lib/counting_cluster.ts";
import { PORTS, VirtualCluster } from "../lib/virtual_cluster.ts";

/** Kills and power cuts at acknowledgements, each in a cluster that has survived the ones before. */
const FORKS = 300;
const FORKS_PER_CLUSTER = 10;
const OUTPUT = "/data/seen";

function cluster(seed: number, workers: number): VirtualCluster {
  return new VirtualCluster({
    seed,
    workers,
    application: () =>
      application("Seen", () =>
        source("numbers", tcpSource({ framing: framed.u32, acks: true, decode: (payload) => payload.text() }))
          .keyBy((text) => text)
          .toStateful("count", {
            initial: () => ({ n: 0 }),
            apply: (text, state) => `${text} ${++state.n}`,
          })
          .toSink(fileSink({ directory: OUTPUT, encode: (line) => `${line}\n` })),
      ),
    config: { outputs: [], checkpoints: { ...NO_CHECKPOINTS, intervalMs: 20 } },
  });
}

/** Sends `id.1`, `id.2`, ...; keeps what is not acknowledged, and begins with it on each connection. */
class Sender {
  /** Records that are safe. */
  safe = 0;
  sent = 0;
  connections = 0;
  violation: string | null = null;
  told: () => void = () => {};
  paused = false;
  until = Number.POSITIVE_INFINITY;
  readonly id: string;
  readonly #to: string;
  #conn: Conn | null = null;

  constructor(id: string, to: string) {
    this.id = id;
    this.#to = to;
  }

  /** Its worker is gone, and a peer without power says nothing. */
  cut(): void {
    this.#conn?.abort();
  }

  async run(runtime: Runtime, random: Prng): Promise<void> {
    const sleep = (ms: number) => new Promise<void>((resolve) => void runtime.clock.startTimer(ms, resolve));
    for (;;) {
      await sleep(random.between(1, 30));
      if (this.paused || this.safe >= this.until) continue;
      let conn: Conn;
      try {
        conn = await runtime.net.connect({ host: this.#to, port: PORTS.source }, { timeoutMs: 500 });
      } catch {
        continue;
      }
      this.#conn = conn;
      this.connections++;
      const base = this.safe;
      let next = base;
      this.#listen(conn, base, () => next);
      try {
        while (this.#conn === conn && !this.paused) {
          for (let i = random.int(4); i > 0 && next < this.until; i--) {
            await conn.write(encodeFrame(new TextEncoder().encode(`${this.id}.${++next}`)));
            this.sent = Math.max(this.sent, next);
          }
          if (this.safe >= this.until) break;
          await sleep(random.between(1, 10));
        }
      } catch {
        // Cut: it connects anew.
      }
      conn.abort();
      if (this.#conn === conn) this.#conn = null;
    }
  }

  async #listen(conn: Conn, base: number, next: () => number): Promise<void> {
    const acks = new PositionAckReader();
    try {
      for (let bytes = await conn.read(); bytes !== null; bytes = await conn.read()) {
        this.violation ??= acks.push(bytes);
        const records = acks.position?.records ?? 0;
        if (base + records > next()) this.violation ??= `${records} are acknowledged, and ${next() - base} were sent`;
        if (base + records <= this.safe) continue;
        this.safe = base + records;
        this.told();
      }
    } catch {
      // As above.
    }
    if (this.#conn === conn) this.#conn = null;
  }
}

/** How often each record is in the output. */
function visible(made: VirtualCluster): Map<string, number> {
  const found = new Map<string, number>();
  for (const { disk } of made.machines.values()) {
    for (const path of disk.paths()) {
      if (!path.startsWith(`${OUTPUT}/`) || path.endsWith("/") || path.startsWith(`${OUTPUT}/.`)) continue;
      for (const line of new TextDecoder().decode(disk.peek(path)!).split("\n").slice(0, -1)) {
        const [text = "", n = ""] = line.split(" ");
        // Exactly once for each time that it was taken in.
        assert.equal(Number(n), (found.get(text) ?? 0) + 1, line);
        found.set(text, Number(n));
      }
    }
  }
  return found;
}

const missing = (found: ReadonlyMap<string, number>, { id, safe }: Sender): string[] =>
  Array.from({ length: safe }, (_, i) => `${id}.${i + 1}`).filter((text) => !found.has(text));

test(`what a TCP sender was told to be safe survives kills and power cuts at that very moment: ${FORKS} times`, {
  timeout: 200_000,
}, async () => {
  let forks = 0;
  let acks = 0;
  let again = 0;
  for (let seed = 1; forks < FORKS; seed++) {
    const workers = 1 + (seed % 3);
    const made = cluster(seed, workers);
    const random = made.world.stream("power");
    made.startAll();
    assert.ok(await made.working(), said(made));
    let left = 0;
    const victims = () => (random.chance(2) ? made.names : [made.names[random.int(workers)]!]);
    const senders = [1, 2].map((number) => new Sender(`s${number}`, made.names[number % workers]!));
    const strike = () => {
      const isPower = random.chance(2);
      for (const name of victims()) {
        if (isPower) made.machines.get(name)!.powerLoss();
        else made.processes.get(name)!.process!.kill();
      }
    };
    for (const sender of senders) {
      sender.told = () => {
        acks++;
        if (left === 0 || --left > 0) return;
        strike();
        // Only what is acknowledged counts: nobody sends it again.
        for (const each of senders) Object.assign(each, { paused: true });
        for (const each of senders) each.cut();
      };
      made.world
        .host(`client ${sender.id}`)
        .startProcess((runtime) => sender.run(runtime, made.world.stream(sender.id)));
    }
    for (let fork = 0; fork < FORKS_PER_CLUSTER; fork++) {
      left = 1 + random.int(4);
      for (const sender of senders) sender.paused = false;
      assert.ok(await made.world.runUntil(() => left === 0, 20_000), said(made));
      for (const machine of made.machines.values()) machine.powerOn();
      for (const name of made.names) {
        if (made.processes.get(name)!.process!.alive) continue;
        if (random.chance(4)) await made.world.runFor(random.between(1, 50));
        made.start(name);
      }
      assert.ok(await made.working(), `seed ${seed}, fork ${fork}\n${said(made)}`);
      const lost = () => senders.flatMap((sender) => missing(visible(made), sender));
      await made.world.runUntil(() => made.world.steps % 100 === 0 && lost().length === 0, 5_000);
      assert.deepEqual(lost(), [], `seed ${seed}, fork ${fork}\n${said(made)}`);
      forks++;
    }
    // And with what was not acknowledged sent again, all is there: at least once.
    for (const sender of senders) {
      sender.until = Math.max(sender.sent, sender.safe) + 20;
      sender.paused = false;
    }
    const allSafe = () => senders.every(({ safe, until }) => safe === until);
    assert.ok(await made.world.runUntil(allSafe, 20_000), `seed ${seed}\n${said(made)}`);
    await made.world.runUntil(() => senders.every((sender) => missing(visible(made), sender).length === 0), 5_000);
    const found = visible(made);
    for (const sender of senders) {
      assert.deepEqual(missing(found, sender), [], `seed ${seed}`);
      assert.equal(sender.violation, null, `seed ${seed}`);
    }
    for (const count of found.values()) if (count > 1) again++;
  }
  console.log(`${forks} deaths, after ${acks} acknowledgements; ${again} records came twice or more`);
});
