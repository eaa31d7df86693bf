/** What a connector program was told to be safe is safe. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConnectorClient } from "../lib/connector_client.ts";
import { assertOnce, connect, countingCluster, keyStream, said, visible } from "../lib/counting_cluster.ts";

/** Power cuts at acknowledgements, each in a cluster that has survived the ones before. */
const ACK_FORKS = 1_000;
const FORKS_PER_CLUSTER = 10;

test(`what was acknowledged is there when everything loses power at that very moment: ${ACK_FORKS} times`, {
  timeout: 200_000,
}, async () => {
  let forks = 0;
  let acks = 0;
  for (let seed = 1; forks < ACK_FORKS; seed++) {
    const workers = 1 + (seed % 3);
    const made = countingCluster(seed, workers, 20);
    const random = made.world.stream("power");
    made.startAll();
    assert.ok(await made.working(), said(made));
    const acknowledged = new Map<bigint, bigint>();
    /** Acknowledgements until the next power cut. */
    let left = 0;
    const programs: ConnectorClient[] = [];
    for (const id of [1, 2]) {
      const program = await connect(made, made.names[id % workers]!, [keyStream(id, 100_000)]);
      Object.assign(program, { messagesMax: 3, paceMs: 2 });
      program.told = (told, point) => {
        if (left === 0 || point < 0n) return;
        acknowledged.set(told, point);
        acks++;
        if (--left > 0) return;
        for (const machine of made.machines.values()) machine.powerLoss();
        for (const each of programs) each.pause();
      };
      programs.push(program);
    }
    for (let fork = 0; fork < FORKS_PER_CLUSTER; fork++) {
      left = 1 + random.int(4);
      for (const program of programs) program.resume();
      assert.ok(await made.world.runUntil(() => left === 0, 20_000), said(made));
      for (const machine of made.machines.values()) machine.powerOn();
      for (const name of made.names) {
        if (random.chance(4)) await made.world.runFor(random.between(1, 50));
        made.start(name);
      }
      assert.ok(await made.working(), `seed ${seed}, fork ${fork}\n${said(made)}`);
      const lost = () => {
        const lines = visible(made);
        return [...acknowledged].filter(([id, point]) => {
          const value = Number(point) / 3 + 1;
          return !lines.some((line) => line.key === `key${id}` && line.value === value);
        });
      };
      // Nobody sends: what a checkpoint had prepared becomes visible by itself.
      await made.world.runUntil(() => made.world.steps % 100 === 0 && lost().length === 0, 5_000);
      assert.deepEqual(lost(), [], `seed ${seed}, fork ${fork}\n${said(made)}`);
      forks++;
    }
    assertOnce(visible(made), `seed ${seed}`);
    assert.deepEqual(
      programs.flatMap(({ violations }) => violations),
      [],
      `seed ${seed}`,
    );
  }
  console.log(`${forks} power cuts, after ${acks} acknowledgements`);
});
