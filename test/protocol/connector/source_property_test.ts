import { test } from "node:test";
import fc from "fast-check";
import { clientStreams, SourceWorld } from "./source_world.ts";

type Step =
  | { kind: "connect"; client: number; worker: number; cutOld: boolean }
  | { kind: "abandon"; client: number; atOnce: boolean }
  | { kind: "pump"; client: number; messages: number }
  | { kind: "deliver"; client: number; way: "up" | "down"; bytes: number }
  | { kind: "deliver_old"; bytes: number }
  | { kind: "registry"; worker: number; way: "up" | "down" }
  | { kind: "command"; worker: number }
  | { kind: "begin" | "abort" | "remind" | "notice" | "roll_back" }
  | { kind: "restart_client"; client: number }
  | { kind: "exchange"; client: number; messages: number }
  | { kind: "checkpoint"; told: number };

const WORKERS = 3;
const CLIENTS = 3;
const worker = fc.nat({ max: WORKERS - 1 });
const client = fc.nat({ max: CLIENTS - 1 });
const way = fc.constantFrom<"up" | "down">("up", "down");
const bytes = fc.oneof(fc.nat({ max: 50 }), fc.constant(10_000));
const kind = <K extends Step["kind"]>(name: K) => fc.constant(name);

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: kind("connect"), client, worker, cutOld: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: kind("abandon"), client, atOnce: fc.boolean() }) },
  { weight: 24, arbitrary: fc.record({ kind: kind("exchange"), client, messages: fc.nat({ max: 6 }) }) },
  { weight: 5, arbitrary: fc.record({ kind: kind("checkpoint"), told: fc.nat({ max: WORKERS }) }) },
  { weight: 10, arbitrary: fc.record({ kind: kind("pump"), client, messages: fc.nat({ max: 6 }) }) },
  { weight: 24, arbitrary: fc.record({ kind: kind("deliver"), client, way, bytes }) },
  { weight: 2, arbitrary: fc.record({ kind: kind("deliver_old"), bytes }) },
  { weight: 20, arbitrary: fc.record({ kind: kind("registry"), worker, way }) },
  { weight: 16, arbitrary: fc.record({ kind: kind("command"), worker }) },
  { weight: 8, arbitrary: fc.record({ kind: kind("begin") }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom<"abort" | "roll_back">("abort", "roll_back") }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom<"remind" | "notice">("remind", "notice") }) },
  { weight: 1, arbitrary: fc.record({ kind: kind("restart_client"), client }) },
);

function apply(world: SourceWorld, each: Step): void {
  switch (each.kind) {
    case "connect":
      return world.connect(each.client, each.worker, each.cutOld);
    case "abandon":
      return world.abandon(each.client, each.atOnce);
    case "pump":
      return world.pump(each.client, each.messages);
    case "deliver":
      return world.deliver(each.client, each.way, each.bytes);
    case "deliver_old":
      return world.deliverOld(each.bytes);
    case "registry":
      return world.deliverRegistry(each.worker, each.way);
    case "command":
      return world.command(each.worker);
    case "begin":
      return world.begin();
    case "abort":
      return world.abort();
    case "remind":
      return world.remind();
    case "notice":
      return world.noticeGone();
    case "roll_back":
      return world.rollBack();
    case "exchange":
      return world.exchange(each.client, each.messages);
    case "checkpoint":
      return world.checkpoint(each.told);
    case "restart_client":
      return world.restartClient(each.client);
  }
}

test("a connector source takes each record in once, whatever is cut, restarted or rolled back", {
  timeout: 300_000,
}, () => {
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 20, maxLength: 250, size: "max" }),
      fc.array(fc.array(fc.nat({ max: 12 }), { minLength: 1, maxLength: 3 }), {
        minLength: CLIENTS,
        maxLength: CLIENTS,
      }),
      fc.integer({ min: 1, max: 8 }),
      (steps, lengths, maxCredits) => {
        const sets = lengths.map((each, i) => clientStreams(i, each));
        const world = new SourceWorld(WORKERS, sets, { maxCredits, refillCredits: Math.floor(maxCredits / 2) });
        for (const each of steps) apply(world, each);
        world.settle();
      },
    ),
    { numRuns: Number(process.env["FUZZ_RUNS"] ?? 500) },
  );
});
