import assert from "node:assert/strict";
import { test } from "node:test";
import { EXIT, TammarError } from "../../src/base/errors.ts";
import { printable } from "../../src/base/log.ts";
import { COMMANDS } from "../../src/cli/main.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { type ExternalAnswer, encodeExternal } from "../../src/wire/external.ts";
import { encodeFrame } from "../../src/wire/frame.ts";
import { encodeConnect, encodeJoin, encodePayload } from "../../src/wire/metrics.ts";
import type { Chance } from "./chance.ts";
import { inPieces, joined } from "./damage.ts";
import { connOf, ToolRuntime } from "./fakes.ts";
import { fuzz } from "./fuzz.ts";
import { plain, TEXTS } from "./some_values.ts";

/** Tools that ask a worker, each with a question. */
const QUESTIONS: readonly (readonly [tool: string, ...args: string[]])[] = [
  ["query", "status", "h:1"],
  ["query", "status", "h:1", "--json"],
  ["query", "cluster-status", "h:1"],
  ["query", "source-ids", "h:1"],
  ["query", "state-entity-count", "h:1"],
  ["query", "partition", "h:1", "--json"],
  ["shutdown", "h:1"],
  ["shrink", "--external", "h:1", "--query"],
  ["shrink", "--external", "h:1", "--count", "1"],
];

const NAMES = ["w1", "größe", "\u001b[31mred", "a\nb", "\u009b31m", "__proto__"];

/** Bodies as they should be, and of any other shape. */
function someAnswer(chance: Chance): ExternalAnswer {
  const name = () => chance.pick(NAMES);
  const anything = plain(chance, 4) ?? null;
  const answers = [
    { kind: "cluster_status_query_response_not_initialized" },
    { kind: "shrink_error_response", text: chance.pick(["Shrinking by 1 workers!", ...NAMES]) },
    {
      kind: "cluster_status_query_response",
      body: { worker_count: 2, worker_names: [name(), name()], processing_messages: true },
    },
    { kind: "shrink_query_response", body: { node_names: [name()], node_count: 1 } },
    { kind: "source_ids_query_response", body: { source_ids: [name(), "1"] } },
    { kind: "state_entity_count_query_response", body: { [name()]: 3 } },
    { kind: "status_query_response", body: { phase: 4, peers: [{ name: name(), lost: [] }], more: anything } },
    { kind: "shutdown_report", body: { worker: name(), status: chance.pick(["draining", "stopped"]), detail: name() } },
    { kind: "shutdown_report", body: { done: true, ok: chance.below(2) === 0 } },
    ...(["cluster_status_query_response", "shrink_query_response", "source_ids_query_response"] as const).map(
      (kind) => ({
        kind,
        body: anything,
      }),
    ),
    { kind: "partition_query_response", body: anything },
    { kind: "shutdown_report", body: anything },
    { kind: "status_query_response", body: anything },
  ];
  return chance.pick(answers) as ExternalAnswer;
}

/** What a tool printed is text of lines and nothing that a terminal obeys. */
function assertHarmless(text: string, what: string): void {
  for (const line of text.split("\n")) assert.equal(printable(line, 1 << 30), line, `${what} is no plain text`);
}

test("fuzz: what a worker answers is printed, or refused in words", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "answers",
    make: (chance) => {
      const question = chance.below(QUESTIONS.length);
      return joined(Uint8Array.of(question), ...chance.some(4, () => encodeExternal(someAnswer(chance))));
    },
    decode: async (bytes, chance) => {
      const [tool, ...args] = QUESTIONS[(bytes[0] ?? 0) % QUESTIONS.length]!;
      const pieces: Uint8Array[] = [];
      if (bytes.length < 10_000) inPieces(bytes.subarray(1), chance, (piece) => pieces.push(piece.slice()));
      else pieces.push(bytes.slice(1));
      const world = new ToolRuntime({ connect: () => connOf(pieces) });
      const command = COMMANDS.find(({ name }) => name === tool)!;
      try {
        const status = await command.run({ runtime: world.runtime, args, program: `tammar ${tool}` });
        return { status, text: world.printed + world.complained };
      } catch (error) {
        if (!(error instanceof TammarError)) throw error;
        return { status: error.exitStatus, text: world.printed + world.complained + error.message };
      }
    },
    check: ({ status, text }) => {
      assert.ok(status === EXIT.done || status === EXIT.failed, `exit status ${status}`);
      assertHarmless(text, "what was printed");
    },
    large: [
      () => answer(1004, `{"a":${"[".repeat(1 << 19)}${"]".repeat(1 << 19)}}`),
      () => answer(1004, `${'{"a":'.repeat(1 << 17)}1${"}".repeat(1 << 17)}`),
      () => answer(1004, JSON.stringify(Array.from({ length: 100_000 }, (_, i) => `n${i}`))),
    ],
  });
});

/** To the first question. */
function answer(id: number, text: string): Uint8Array {
  const out = new ByteWriter();
  out.u16(id);
  out.utf8(text);
  return joined(Uint8Array.of(0), encodeFrame(out.take()));
}

function someMetrics(chance: Chance): Uint8Array {
  const out = new ByteWriter();
  const text = () => chance.pick([...NAMES, ...TEXTS.slice(0, 5)]);
  switch (chance.below(4)) {
    case 0:
      encodeConnect(out);
      break;
    case 1:
      encodeJoin(out, text(), text());
      break;
    default: {
      const bins = Array.from({ length: 65 }, () => chance.pick([0, 0, 0, 1, 2 ** 53]));
      const names = { name: text(), category: text(), worker: text(), pipeline: text(), id: chance.below(65_536) };
      const times = { min: 0, max: chance.pick([7, 2n ** 64n - 1n]), periodNs: chance.pick([0, 2e9]) };
      encodePayload(out, text(), { ...names, bins, ...times, periodEndNs: chance.pick([0, 1_546_300_802e9]) });
    }
  }
  return out.take();
}

/** Tools that listen. */
const LISTENERS: readonly (readonly [tool: string, ...args: string[]])[] = [
  ["metrics", "--listen", "h:1"],
  ["metrics", "--listen", "h:1", "--json"],
  ["receive", "--listen", "h:1", "--framed", "--buffer-size", "40"],
  ["receive", "--listen", "h:1"],
];

test("fuzz: what workers send to a hub or a sink is printed, or said to mean nothing", {
  timeout: 300_000,
}, async () => {
  await fuzz({
    name: "listeners",
    make: (chance) =>
      joined(Uint8Array.of(chance.below(LISTENERS.length)), ...chance.some(4, () => someMetrics(chance))),
    decode: async (bytes, chance) => {
      const which = (bytes[0] ?? 0) % LISTENERS.length;
      const [tool, ...args] = LISTENERS[which]!;
      const pieces: Uint8Array[] = [];
      inPieces(bytes.subarray(1), chance, (piece) => pieces.push(piece.slice()));
      const world = new ToolRuntime({ connect: null, client: pieces });
      const command = COMMANDS.find(({ name }) => name === tool)!;
      const status = await command.run({ runtime: world.runtime, args, program: `tammar ${tool}` });
      return { status, which, world };
    },
    check: ({ status, which, world }) => {
      assert.equal(status, EXIT.done);
      // A sink that prints gives out what it was sent.
      if (which < 2) assertHarmless(world.printed, "what was printed");
      if (which === 1) for (const line of world.printed.split("\n").slice(0, -1)) JSON.parse(line);
      assertHarmless(world.complained, "what was said");
    },
  });
});
