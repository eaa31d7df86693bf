/** From a seed to a complete scenario: profile first, then every fault with its trigger. */
import type { WorkerName } from "../base/ids.ts";
import { Prng } from "../base/prng.ts";
import type { Millis } from "../runtime/runtime.ts";
import type { Way } from "../runtime/virtual/network.ts";
import { CRASH_POINTS } from "../worker/crash_points.ts";
import { CRASHES, drawProfile, type FaultGroup, type Profile, pick } from "./profile.ts";
import {
  type Action,
  BAD_STARTS,
  type ChannelName,
  type CommandName,
  type Fault,
  type OracleId,
  SCENARIO_FORMAT,
  type Scenario,
  type SenderPlan,
  STRANGER_KINDS,
  showSeed,
  type Trigger,
  workerNames,
} from "./scenario.ts";
import { SUITE } from "./suite.ts";

/** Asked of every run; O-DET and O-REACH are asked of several runs together. */
const EXPECTED: readonly OracleId[] = [
  "O-SEQ",
  "O-MODEL",
  "O-OWN",
  "O-LIN",
  "O-LIVE",
  "O-FAILCLEAR",
  "O-STAYUP",
  "O-MEM",
  "O-AUTH",
  "O-BANK",
  "O-2PC",
  "O-ACK",
  "O-LETTERS",
];

const FORMING_MS = 2_000;

/** Groups in which a process dies. */
const DEADLY: ReadonlySet<FaultGroup> = new Set([...CRASHES, "disk_full", "disk_failure", "rot", "bad_start"]);

const COMMANDS: readonly CommandName[] = [
  "status",
  "rich_status",
  "print",
  "report_status",
  "rotate",
  "shrink",
  "shrink_query",
  "partitions",
  "partition_counts",
  "stateless_partitions",
  "stateless_partition_counts",
  "source_ids",
  "entities",
  "entity_counts",
  "cluster_entity_counts",
  "checkpoint",
];

const ROTATES_ONE_IN = 3;
/** Whoever sends letters again is done by then, mostly. */
const RESENDER_MS = 20_000;

export function generateScenario(seed: bigint): Scenario {
  const profile = drawProfile(seed);
  const prng = new Prng(seed, "plan");
  const workers = workerNames(profile.workers);
  const faults = new Plan(prng, profile, workers).faults();
  // Drawn apart, as rotation is.
  if (SUITE[profile.application].refuses === true) {
    faults.push(...new Plan(new Prng(seed, "letters"), profile, workers).letters());
  }
  return {
    format: SCENARIO_FORMAT,
    name: `seed ${showSeed(seed)}`,
    seed: showSeed(seed),
    workers: profile.workers,
    application: profile.application,
    keys: profile.keys,
    messages: profile.messages,
    senders: senders(prng, profile, workers),
    starts: workers.map(() => (prng.chance(2) ? 0 : Math.round(prng.between(0, 800)))),
    ...(profile.checkpointMs === undefined ? {} : { checkpointMs: profile.checkpointMs }),
    // Drawn apart, so that whatever else a seed is stays what it is.
    ...(profile.checkpointMs !== undefined && new Prng(seed, "rotation").chance(ROTATES_ONE_IN)
      ? { rotation: true }
      : {}),
    limits: profile.limits,
    network: profile.network,
    disk: profile.disk,
    faults,
    expect: EXPECTED,
    limitMs: Math.round(profile.spanMs + 8_000),
  };
}

function senders(prng: Prng, profile: Profile, workers: readonly WorkerName[]): SenderPlan[] {
  const { sources } = SUITE[profile.application];
  return Array.from({ length: profile.senders }, (_, i) => ({
    worker: pick(prng, workers),
    source: i % Math.max(1, sources.length),
    batch: profile.batch,
    everyMs: profile.everyMs,
    startMs: Math.round(prng.between(0, 1_000)),
  }));
}

/** A fault with what follows it: the first has the trigger, the others come behind it. */
type Group = readonly (Action & { readonly afterMs?: Millis; readonly at?: Trigger })[];

class Plan {
  readonly #prng: Prng;
  readonly #profile: Profile;
  readonly #workers: readonly WorkerName[];

  constructor(prng: Prng, profile: Profile, workers: readonly WorkerName[]) {
    this.#prng = prng;
    this.#profile = profile;
    this.#workers = workers;
  }

  faults(): Fault[] {
    const { groups, faults, spanMs, senders, crashesMax } = this.#profile;
    const all = groups.filter((group) => group !== "stop");
    const harmless = all.filter((group) => !DEADLY.has(group));
    let crashes = 0;
    const drawn = Array.from({ length: faults }, () => {
      const group = pick(this.#prng, all);
      if (!DEADLY.has(group) || ++crashes <= crashesMax || harmless.length === 0) return group;
      return pick(this.#prng, harmless);
    });
    const time = (): Millis =>
      this.#profile.forming && this.#prng.chance(3)
        ? this.#prng.between(0, FORMING_MS)
        : this.#prng.between(FORMING_MS, spanMs);
    const times = drawn.map(() => Math.round(time())).sort((a, b) => a - b);
    const list: Fault[] = [];
    for (const [i, kind] of drawn.entries()) {
      const ms = times[i]!;
      // Some come when the sink has so many lines, as if somebody watched.
      const linesPerMs = (senders * this.#profile.batch) / this.#profile.everyMs;
      const received = Math.ceil(ms * linesPerMs);
      const at: Trigger = this.#prng.chance(10) && received >= 1 ? { received } : { ms };
      this.#append(list, this.#group(kind), at);
    }
    if (groups.includes("stop")) this.#append(list, this.#stop(), { ms: Math.round(spanMs) });
    return list;
  }

  /** Dead letters are sent again now and then, at bad moments, and somebody dies; the application is corrected at some time. */
  letters(): Fault[] {
    const prng = this.#prng;
    const { spanMs } = this.#profile;
    const list: Fault[] = [];
    const time = (): Trigger => ({ ms: Math.round(prng.between(FORMING_MS, spanMs)) });
    for (let left = 3 + prng.int(10); left > 0; left--) {
      const [worker, through, dead] = [this.#worker(), this.#worker(), this.#worker()];
      const ms = prng.chance(3) ? prng.int(300) : RESENDER_MS;
      const at: Trigger = prng.chance(4)
        ? { point: pick(prng, CRASH_POINTS), worker: through, n: 1 + prng.int(3) }
        : time();
      const group: Group[number][] = [{ do: "resend", worker, through, ms }];
      if (prng.chance(2)) {
        const afterMs = prng.between(0, prng.chance(2) ? 30 : 400);
        const death = pick(prng, ["dead", "through", "power_loss", "all"] as const);
        if (death === "all") {
          group.push({ do: "kill_all", afterMs }, { do: "start_all", afterMs: this.#downMs() });
        } else {
          const victim = death === "through" ? through : dead;
          group.push({ do: death === "power_loss" ? death : "kill", worker: victim, afterMs }, this.#restart(victim));
        }
      }
      this.#append(list, group, at);
    }
    if (!prng.chance(5))
      this.#append(list, [{ do: "correct" }], { ms: Math.round(prng.between(FORMING_MS, spanMs * 0.7)) });
    return list;
  }

  #append(list: Fault[], group: Group, at: Trigger): void {
    for (const [i, { afterMs, at: own, ...action }] of group.entries()) {
      const trigger = i === 0 ? (own ?? at) : { after: "prev" as const, ms: Math.round(afterMs ?? 0) };
      list.push({ at: trigger, ...action });
    }
  }

  #group(kind: FaultGroup): Group {
    const prng = this.#prng;
    const worker = this.#worker();
    switch (kind) {
      case "kill":
        return [{ do: "kill", worker }, this.#restart(worker)];
      case "crash_point":
        return this.#crashPoint(worker);
      case "kill_many":
        return this.#killMany(worker);
      case "power_loss":
        return prng.chance(4)
          ? [{ do: "power_loss_all" }, { do: "start_all", afterMs: this.#downMs() }]
          : [{ do: "power_loss", worker }, this.#restart(worker)];
      case "pause":
        return [{ do: "pause", worker, ms: this.#duration(8_000) }];
      case "partition":
        return [{ do: "partition", ...this.#pair(), way: this.#way(), ms: this.#duration(9_000) }];
      case "isolate":
        return [{ do: "isolate", worker, ms: this.#duration(9_000) }];
      case "cut":
        return this.#cuts();
      case "blackhole": {
        const channel = pick(prng, ["control", "data", "any", "sink", "source"] as const);
        return [{ do: "blackhole", worker, channel, way: this.#way(), ms: this.#duration(9_000) }];
      }
      case "latency": {
        const minMs = pick(prng, [1, 20, 100]);
        return [{ do: "latency", ...this.#pair(), minMs, maxMs: minMs * 2, ms: this.#duration(5_000) }];
      }
      case "refuse_connects":
        return [
          { do: "refuse_connects", worker, how: pick(prng, ["refuse", "drop"]), ms: this.#duration(4_000) },
          { do: "cut", worker, channel: this.#channel() },
        ];
      case "disk_stall":
        return prng.chance(2)
          ? [{ do: "disk_stall", worker, ms: this.#duration(6_000) }]
          : [{ do: "disk_stall", worker, ms: this.#duration(6_000) }, { do: "kill", worker }, this.#restart(worker)];
      case "disk_full":
        return [
          { do: "disk_full", worker, bytes: prng.int(300), ms: this.#duration(3_000) },
          { do: "kill", worker, afterMs: prng.int(20) },
          this.#restart(worker),
          { do: "start", worker, afterMs: 3_100 },
        ];
      case "disk_failure":
        return this.#diskFailure(worker);
      case "rot":
        return [
          pick(prng, [{ do: "kill", worker } as const, { do: "power_loss", worker } as const]),
          this.#profile.checkpointMs !== undefined && prng.chance(3)
            ? { do: "lose_state", worker }
            : { do: "rot", worker, file: prng.int(4), bit: prng.int(1 << 16) },
          { do: "start", worker, afterMs: 50 },
          { do: "restore", worker, afterMs: 400 },
          { do: "start", worker, afterMs: 100 },
        ];
      case "call_failure":
        return [
          { do: "fail_call", worker, n: 1 + prng.int(prng.chance(2) ? 20 : 500) },
          ...(prng.chance(3) ? ([{ do: "kill", worker, afterMs: prng.int(10) }, this.#restart(worker)] as const) : []),
          { do: "start", worker, afterMs: 700 },
        ];
      case "bad_start":
        return this.#badStart(worker);
      case "newcomer":
        return [{ do: "newcomer", name: "one.too.many" }];
      case "clock":
        return [{ do: "clock_jump", worker, byMs: pick(prng, [-1e12, -3.6e6, -5_000, 5_000, 3.6e6, 1e12]) }];
      case "sink":
        return [
          prng.chance(2)
            ? { do: "sink_pause", ms: this.#duration(5_000) }
            : { do: "sink_close", ms: this.#duration(5_000) },
        ];
      case "stranger": {
        const port = pick(prng, ["control", "data", "external", "source"] as const);
        return [{ do: "stranger", worker, port, what: pick(prng, STRANGER_KINDS) }];
      }
      case "command": {
        const command = {
          do: "command",
          worker: this.#worker(),
          what: pick(prng, COMMANDS),
          times: 1 + prng.int(3),
        } as const;
        // At a bad moment: at a step of the worker that is asked, or of another one.
        return prng.chance(4)
          ? [{ ...command, at: { point: pick(prng, CRASH_POINTS), worker, n: 1 + prng.int(3) } }]
          : [command];
      }
      case "stop":
        return this.#stop();
    }
  }

  #worker(): WorkerName {
    return pick(this.#prng, this.#workers);
  }

  /** Two workers, or one and the sink. */
  #pair(): { a: string; b: string } {
    const a = this.#worker();
    const others = this.#workers.filter((name) => name !== a);
    return { a, b: others.length === 0 || this.#prng.chance(6) ? "sink" : pick(this.#prng, others) };
  }

  #way(): Way {
    return pick(this.#prng, ["both", "both", "forward", "back"]);
  }

  #channel(): ChannelName | "any" {
    return pick(this.#prng, ["any", "control", "data", "sink", "source"]);
  }

  /** Mostly short; long enough for a silence to be noticed (5 s) now and then. */
  #duration(msMax: Millis): Millis {
    return Math.round(this.#prng.chance(3) ? this.#prng.between(500, msMax) : this.#prng.between(10, 1_000));
  }

  #downMs(): Millis {
    return this.#prng.chance(4) ? this.#prng.between(1_000, 7_000) : this.#prng.between(5, 800);
  }

  #restart(worker: WorkerName): Group[number] {
    return { do: "start", worker, afterMs: this.#downMs() };
  }

  #crashPoint(worker: WorkerName): Group {
    const point = pick(this.#prng, CRASH_POINTS);
    const at: Trigger = { point, worker, n: 1 + this.#prng.int(3) };
    const other = this.#worker();
    switch (this.#prng.int(4)) {
      case 0:
        return [{ do: "power_loss", worker, at }, this.#restart(worker)];
      case 1:
        return [{ do: "kill", worker: other, at }, this.#restart(other)];
      case 2:
        return [{ do: "cut", worker, channel: "any", at }];
      default:
        return [{ do: "kill", worker, at }, this.#restart(worker)];
    }
  }

  #killMany(worker: WorkerName): Group {
    if (this.#prng.chance(2)) return [{ do: "kill_all" }, { do: "start_all", afterMs: this.#downMs() }];
    const other = this.#worker();
    // The second one dies while the first comes back.
    return [
      { do: "kill", worker },
      this.#restart(worker),
      { do: "kill", worker: other, afterMs: this.#prng.between(0, 60) },
      { do: "start", worker: other, afterMs: this.#downMs() },
    ];
  }

  #badStart(worker: WorkerName): Group {
    const how = pick(this.#prng, BAD_STARTS);
    const start = { do: "bad_start", worker, how, ms: 6_000 } as const;
    if (how === "folder_in_use") return [start];
    return [
      { do: "kill", worker },
      { ...start, afterMs: this.#downMs() },
      { do: "start", worker, afterMs: 6_100 },
    ];
  }

  #cuts(): Group {
    const worker = this.#worker();
    const channel = this.#channel();
    const count = 1 + this.#prng.int(4);
    return Array.from({ length: count }, () => ({
      do: "cut" as const,
      worker,
      channel,
      afterMs: this.#prng.between(0, 120),
    }));
  }

  #diskFailure(worker: WorkerName): Group {
    const prng = this.#prng;
    const failure: Action = prng.chance(2)
      ? { do: "fail_sync", worker, n: 1 + prng.int(2) }
      : { do: "fail_operation", worker, n: 1 + prng.int(30), code: pick(prng, ["io", "full", "too_many_files"]) };
    return [
      failure,
      { do: "kill", worker, afterMs: prng.int(10) },
      this.#restart(worker),
      { do: "start", worker, afterMs: 700 },
    ];
  }

  /** Also asked for twice, from two workers, or with a death in between. */
  #stop(): Group {
    const prng = this.#prng;
    const ask = (): Group[number] =>
      pick(prng, [
        { do: "command", worker: this.#worker(), what: "stop", times: 1 + prng.int(2) },
        { do: "command", worker: this.#worker(), what: "stop_and_report", times: 1 + prng.int(2) },
        { do: "signal", worker: this.#worker(), signal: "SIGTERM" },
        { do: "signal", worker: this.#worker(), signal: "SIGINT" },
      ] as const);
    const second = (): Group[number] =>
      prng.chance(2) ? ask() : pick(prng, [{ do: "kill", worker: this.#worker() }, this.#restart(this.#worker())]);
    const group: Group[number][] = [ask()];
    for (let more = prng.int(3); more > 0; more--) group.push({ ...second(), afterMs: prng.between(0, 1_500) });
    return group;
  }
}
