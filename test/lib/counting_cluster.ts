/**
 * A virtual cluster that counts records of connector programs by key, and shows what it counted in files of its machines.
 * Without checkpoints it sends to a TCP sink instead.
 */
import assert from "node:assert/strict";
import { application, connectorSource, fileSink, source, tcpSink } from "../../mod.ts";
import type { Application } from "../../src/api/application.ts";
import { NO_CHECKPOINTS } from "../../src/worker/config.ts";
import { type ClientStream, ConnectorClient } from "./connector_client.ts";
import { PORTS, VirtualCluster } from "./virtual_cluster.ts";

const OUTPUT = "/data/counts";
export const COOKIE = "s3cret";

export interface Counted {
  readonly key: string;
  readonly value: number;
  /** Of the key, from 1. */
  readonly n: number;
}

/** Body: `key value`. Output: how many records of its key there were, with this one. */
function counting(toFiles: boolean): Application {
  return application("Counting", () => {
    const counted = source(
      "numbers",
      connectorSource({
        decode: (payload) => {
          const [key = "", value = ""] = payload.text().split(" ");
          return { key, value: Number(value) };
        },
        cookie: "not this one",
      }),
    )
      .keyBy((record) => record.key)
      .toStateful("count", {
        initial: () => ({ n: 0 }),
        apply: ({ key, value }, state): Counted => ({ key, value, n: ++state.n }),
      });
    const encode = (line: Counted) => `${JSON.stringify(line)}\n`;
    return counted.toSink(toFiles ? fileSink({ directory: OUTPUT, encode }) : tcpSink({ encode }));
  });
}

export function countingCluster(seed: number, workers: number, intervalMs: number | null): VirtualCluster {
  const toFiles = intervalMs !== null;
  return new VirtualCluster({
    seed,
    workers,
    application: () => counting(toFiles),
    config: {
      inputs: new Map([
        [
          "numbers",
          {
            host: "0.0.0.0",
            port: PORTS.source,
            frameBytesMax: null,
            connector: { cookie: COOKIE, maxCredits: 67, refillCredits: 10 },
          },
        ],
      ]),
      ...(toFiles ? { outputs: [] } : {}),
      checkpoints: { ...NO_CHECKPOINTS, intervalMs },
    },
  });
}

export async function connect(
  made: VirtualCluster,
  to: string,
  streams: readonly ClientStream[],
  port: number = PORTS.source,
): Promise<ConnectorClient> {
  let found: ConnectorClient | null = null;
  made.world.host(`client${++clients}`).startProcess(async (runtime) => {
    found = new ConnectorClient(runtime, { host: to, port }, { cookie: COOKIE, streams });
    await found.run();
  });
  assert.ok(await made.world.runUntil(() => found !== null, 1_000));
  return found!;
}

let clients = 0;

/** Records 1 to `count` of one key. */
export function keyStream(id: number, count: number, more: Partial<ClientStream> = {}): ClientStream {
  return {
    id: BigInt(id),
    name: `key${id}`,
    // With gaps, from 0.
    ids: Array.from({ length: count }, (_, i) => BigInt(i * 3)),
    body: (index) => new TextEncoder().encode(`key${id} ${index + 1}`),
    ...more,
  };
}

/** What is visible, each worker's files in the order of their names. */
export function visible(made: VirtualCluster): Counted[] {
  return made.names.flatMap((name) => {
    const { disk } = made.machines.get(name)!;
    return disk
      .paths()
      .filter((path) => path.startsWith(`${OUTPUT}/`) && !path.endsWith("/") && !path.startsWith(`${OUTPUT}/.`))
      .flatMap((path) => new TextDecoder().decode(disk.peek(path)!).split("\n").slice(0, -1))
      .map((line) => JSON.parse(line) as Counted);
  });
}

/** Every key has each value once, in order, and was counted so. */
export function assertOnce(lines: readonly Counted[], why: string): number {
  const seen = new Map<string, number>();
  for (const { key, value, n } of lines) {
    const next = (seen.get(key) ?? 0) + 1;
    assert.deepEqual({ key, value, n }, { key, value: next, n: next }, why);
    seen.set(key, next);
  }
  return lines.length;
}

export function said(made: VirtualCluster): string {
  return [...made.processes.values()]
    .flatMap((worker) => [worker.name, ...worker.lines.slice(-15), String(worker.error)])
    .join("\n");
}
