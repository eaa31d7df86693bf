/**
 * A file sink on a virtual machine, what a cluster does with it, and what a reader of the folder sees.
 *
 * The cluster of one worker that is played here is as mean as a real one may be: it dies between any two steps, it decides
 * late, it aborts. What it has decided is durable at once; the rest of it is forgotten with the process.
 */
import assert from "node:assert/strict";
import type { Prng } from "../../src/base/prng.ts";
import type { Vote } from "../../src/connectors/connector.ts";
import { FileSinkConnector } from "../../src/connectors/file_sink.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import type { VirtualHost } from "../../src/runtime/virtual/host.ts";
import type { VirtualProcess } from "../../src/runtime/virtual/process.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { CollectedLog, recordsOf } from "./fakes.ts";

export const FOLDER = "/out";

/** Record `i` of the output; now and then a long one. */
export function recordOf(i: number): string {
  return `${i}${i % 37 === 0 ? "x".repeat(3_000) : ""}\n`;
}

const made = { text: "", ends: [0] };

/** The first `count` records. */
export function outputOf(count: number): string {
  const { ends } = made;
  if (ends.length <= count) {
    const more = Array.from({ length: 2 * count - ends.length + 1 }, (_, i) => recordOf(ends.length - 1 + i));
    for (const record of more) ends.push(ends.at(-1)! + record.length);
    made.text += more.join("");
  }
  return made.text.slice(0, ends[count]);
}

/** What lies visible in the folder, in the order of names: what `cat` shows. */
export function visible(host: VirtualHost, folder = FOLDER): string {
  return visibleNames(host, folder)
    .map((name) => new TextDecoder().decode(host.disk.peek(`${folder}/${name}`)!))
    .join("");
}

export function visibleNames(host: VirtualHost, folder = FOLDER): string[] {
  return namesIn(host, folder).filter((name) => !name.startsWith("."));
}

export function hiddenNames(host: VirtualHost, folder = FOLDER): string[] {
  return namesIn(host, folder).filter((name) => name.startsWith(".") && !name.startsWith(".tammar-"));
}

function namesIn(host: VirtualHost, folder: string): string[] {
  const names = host.disk
    .paths()
    .filter((path) => path.startsWith(`${folder}/`) && path !== `${folder}/`)
    .map((path) => path.slice(folder.length + 1));
  assert.ok(
    names.every((name) => name !== "" && !name.includes("/")),
    `not flat: ${names}`,
  );
  return names;
}

export interface SinkSettings {
  readonly checkpoints?: boolean;
  readonly worker?: string;
  readonly folder?: string;
}

/** One life of the sink. */
export class Writing {
  readonly connector: FileSinkConnector;
  readonly log = new CollectedLog();
  readonly votes = new Map<number, Vote>();
  failure: unknown = null;

  constructor(runtime: Runtime, { checkpoints = true, worker = "w1", folder = FOLDER }: SinkSettings = {}) {
    this.connector = new FileSinkConnector({
      runtime,
      log: this.log,
      worker,
      name: "numbers/sink files",
      directory: folder,
      extension: "txt",
      queueBytesMax: 10_000,
      checkpoints,
      turn: (run) => {
        if (this.failure !== null) return;
        try {
          run();
          this.connector.flush();
        } catch (error) {
          this.failure = error;
        }
      },
      changed: () => {},
      voted: (epoch, vote) => {
        assert.ok(!this.votes.has(epoch), `a second vote for ${epoch}`);
        this.votes.set(epoch, vote);
      },
    });
  }

  /** Records from one number to another, as one batch. */
  write(from: number, to: number): void {
    this.connector.write(recordsOf(Array.from({ length: to - from }, (_, i) => recordOf(from + i))));
    this.connector.flush();
  }

  prepare(epoch: number): unknown {
    this.connector.transactions!.prepare(epoch);
    const position = structuredClone(this.connector.transactions!.snapshot());
    this.connector.flush();
    return position;
  }
}

/** A checkpoint that exists. */
interface Complete {
  readonly epoch: number;
  readonly position: unknown;
  /** Records up to the cut. */
  readonly count: number;
}

export class Cluster {
  readonly world: VirtualWorld;
  readonly host: VirtualHost;
  readonly settings: SinkSettings;
  readonly random: Prng;
  /** Durable, as the coordinator's decision record is. */
  complete: Complete = { epoch: 0, position: null, count: 0 };
  /** The last epoch that was ever begun. */
  epoch = 0;
  process: VirtualProcess | null = null;
  writing: Writing | null = null;
  /** Records given to the sink in this life, counted from the first of all. */
  count = 0;
  /** Cut, and not decided yet. */
  cut: (Complete & { decided?: boolean }) | null = null;

  constructor(seed: number, settings: SinkSettings = {}) {
    this.world = new VirtualWorld({ seed });
    this.host = this.world.host("machine");
    this.settings = settings;
    this.random = this.world.stream("test");
  }

  get sink(): Writing {
    return this.writing!;
  }

  start(): void {
    this.process = this.host.startProcess(() => {});
    this.writing = new Writing(this.process.runtime, this.settings);
    // Either may come first.
    const startsFirst = this.random.chance(2);
    if (startsFirst) this.sink.connector.start();
    this.goBack();
    if (!startsFirst) this.sink.connector.start();
  }

  goBack(): void {
    const { epoch, position, count } = this.complete;
    this.sink.connector.transactions!.rollBack(epoch, position);
    this.count = count;
    this.cut = null;
    this.sink.votes.clear();
    this.sink.connector.flush();
  }

  write(count: number): void {
    this.sink.write(this.count, this.count + count);
    this.count += count;
  }

  begin(): void {
    const epoch = ++this.epoch;
    this.cut = { epoch, position: this.sink.prepare(epoch), count: this.count };
  }

  get vote(): Vote | null {
    return this.cut === null ? null : (this.sink.votes.get(this.cut.epoch) ?? null);
  }

  /** The coordinator writes its decision. */
  decide(): void {
    assert.equal(this.vote?.kind, "commit");
    this.complete = this.cut!;
  }

  /** The sink learns of it. */
  commit(): void {
    this.sink.connector.transactions!.commit(this.complete.epoch);
    this.sink.connector.flush();
    this.cut = null;
  }

  abort(): void {
    this.sink.connector.transactions!.abort(this.cut!.epoch);
    this.sink.connector.flush();
    this.cut = null;
  }

  /** One checkpoint from beginning to end, without trouble. */
  async checkpoint(): Promise<void> {
    this.begin();
    assert.ok(await this.world.runUntil(() => this.vote !== null, 60_000), "no vote");
    this.decide();
    this.commit();
  }

  async ready(): Promise<void> {
    const { sink } = this;
    const isReady = () => sink.connector.status().phase === "ready" || sink.failure !== null;
    assert.ok(await this.world.runUntil(isReady, 60_000), "it does not become ready");
    this.check();
  }

  kill(power: boolean): void {
    if (power) {
      this.host.powerLoss();
      this.host.powerOn();
    } else this.process!.kill();
  }

  /** What a reader sees is whole records from the first on, and none that may still be taken back. */
  check(): void {
    assert.equal(this.sink.failure, null, String(this.sink.failure));
    const seen = visible(this.host, this.settings.folder ?? FOLDER);
    const allowed = outputOf(this.complete.count);
    assert.ok(
      allowed.startsWith(seen),
      `what is visible is not the beginning of the output: ${firstDifference(seen, allowed)}`,
    );
    assert.ok(seen === "" || seen.endsWith("\n"), "a record is cut");
  }

  /**
   * Everything is visible that a complete checkpoint covers, and nothing else is there. Behind a disk that failed, something
   * that means nothing may lie around until the next start.
   */
  async end(failed = false): Promise<void> {
    await this.checkpoint();
    const expected = outputOf(this.complete.count);
    const done = () => visible(this.host) === expected && (failed || hiddenNames(this.host).length === 0);
    const isDone = await this.world.runUntil(done, 60_000);
    assert.ok(isDone, `at the end ${firstDifference(visible(this.host), expected)}; hidden: ${hiddenNames(this.host)}`);
    this.check();
    if (!failed) return;
    this.kill(false);
    this.start();
    await this.ready();
    await this.end();
  }
}

function firstDifference(seen: string, expected: string): string {
  let at = 0;
  while (at < seen.length && seen[at] === expected[at]) at++;
  return `at ${at} of ${expected.length}: ${JSON.stringify(seen.slice(at, at + 40))}, expected ${JSON.stringify(expected.slice(at, at + 40))}`;
}
