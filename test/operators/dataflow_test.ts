import assert from "node:assert/strict";
import { test } from "node:test";
import { application, generatorSource, source, tcpSink } from "../../mod.ts";
import { encodeSinkBatch } from "../../src/operators/sink_encoder.ts";
import { world } from "./world.ts";

const numbers = (count: number) =>
  generatorSource({ initial: () => 0, next: (n) => (n + 1 < count ? n + 1 : undefined) });

test("Dataflow sends records through stages to the sink in order", () => {
  const app = application("a", () =>
    source("s", numbers(10))
      .to("double", (n) => n * 2)
      .to("twice or never", (n) => (n % 4 === 0 ? [n, n + 1] : undefined))
      .toSink(tcpSink({ encode: (n) => `${n}\n` })),
  );
  const [worker] = world(app);
  worker!.generate("s", 10);
  assert.deepEqual(worker!.output(0), [0, 1, 4, 5, 8, 9, 12, 13, 16, 17]);
  void encodeSinkBatch;
});
