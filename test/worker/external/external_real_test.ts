// The external channel over real sockets: what the virtual network might see otherwise.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Log } from "../../../src/base/log.ts";
import { ExternalServer } from "../../../src/worker/external/external_server.ts";
import type { ExternalHandler } from "../../../src/worker/external/handler.ts";
import { realRuntime } from "../../lib/real_runtime.ts";
import { joined, request, Tool } from "./tool.ts";

const QUIET: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const runtime = await realRuntime();

function worker(keys: readonly string[], heard: string[]): ExternalHandler {
  return {
    worker: "initializer",
    clusterStatus: () => ({ ready: false }),
    partitions: () => ({ state: new Map(), stateless: new Map() }),
    sourceIds: () => [],
    stateEntities: () => new Map([["1", keys]]),
    stateEntityCounts: () => new Map(),
    clusterStateEntityCounts: (answer) => void runtime.clock.startTimer(50, () => answer(new Map())),
    print: (text) => void heard.push(text),
    reportStatus: () => {},
    rotateLog: (worker) => void heard.push(`rotate ${worker}`),
    stop: (reason) => void heard.push(`stop ${reason}`),
    richStatus: (answer) => answer({}),
    checkpoint: (answer) => answer(7, ""),
    resend: (_, answer) => answer({ taken: [], left: [], unsure: [], epoch: 0 }),
  };
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = runtime.clock.monotonicMs() + 60_000;
  while (!condition()) {
    assert.ok(runtime.clock.monotonicMs() < deadline, `not in a minute: ${what}`);
    await new Promise<void>((resolve) => runtime.clock.startTimer(5, resolve));
  }
}

test("ExternalServer answers over real sockets: half-closed clients, large answers, tools that leave at once", async () => {
  const heard: string[] = [];
  const keys = Array.from({ length: 100_000 }, (_, index) => `key number ${index} of a hundred thousand`);
  const server = new ExternalServer({
    runtime,
    limits: { externalConnections: 32, externalFrameBytes: 16_384 },
    log: QUIET,
    handler: worker(keys, heard),
  });
  const address = await server.listen({ host: "127.0.0.1", port: 0 });
  assert.notEqual(address.port, 0);

  const tool = await Tool.connect(runtime, address);
  await tool.conn.write(joined(request(9), request(25), request(17), request(17)));
  tool.conn.end();
  await until("all answers and the end", () => tool.closed !== null);
  assert.equal(tool.closed, "ended");
  assert.deepEqual(tool.ids, [11, 26, 18, 18]);
  assert.deepEqual(tool.json(3), { "1": keys });

  const hasty = await Tool.connect(runtime, address, { read: false });
  await hasty.conn.write(request(3, "bye"));
  hasty.conn.end();
  await until("the stop", () => heard.includes("stop bye"));

  const last = await Tool.connect(runtime, address);
  await last.conn.write(request(17));
  await until("the first bytes of an answer", () => server.counts.requests === 6);
  await server.close();
  await until("the end", () => last.closed !== null);
  assert.deepEqual(last.ids, [18]);
  await assert.rejects(Tool.connect(runtime, address));
});
