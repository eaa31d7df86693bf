// Workers that are nothing but their two channels, for tests: they keep what they hear, and stamp what they send so that
// the checkers here can tell what is missing, doubled or out of order.

import assert from "node:assert/strict";
import type { WorkerName } from "../../../src/base/ids.ts";
import type { Log } from "../../../src/base/log.ts";
import type { Address, Runtime } from "../../../src/runtime/runtime.ts";
import type { Hello } from "../../../src/wire/hello.ts";
import { ControlChannel } from "../../../src/worker/channels/control_channel.ts";
import { DataChannel } from "../../../src/worker/channels/data_channel.ts";
import type {
  Admission,
  AdmissionFacts,
  ConnectedInfo,
  LinkKind,
  LinkOwner,
  LocalIdentity,
} from "../../../src/worker/channels/link_owner.ts";
import { DEFAULT_LIMITS, DEFAULT_TIMING, type Limits, type Timing } from "../../../src/worker/config.ts";

export const CONTROL_PORT = 7000;
export const DATA_PORT = 7001;

export interface WorkerSetup {
  readonly startNumber?: number;
  readonly identity?: Partial<LocalIdentity>;
  readonly timing?: Partial<Timing>;
  readonly limits?: Partial<Limits>;
  readonly controlPort?: number;
  readonly dataPort?: number;
  readonly listenHost?: string;
  readonly admit?: (hello: Hello, facts: AdmissionFacts) => Admission;
  /** Keep batches instead of releasing them at once. */
  readonly holdBatches?: boolean;
}

export class ChannelWorker implements LinkOwner {
  readonly name: WorkerName;
  readonly setup: WorkerSetup;
  readonly control_: ControlChannel;
  readonly data: DataChannel;
  readonly events: string[] = [];
  readonly logLines: string[] = [];
  /** Control messages by sender and its start number: the numbers it stamped. */
  readonly controlGot = new Map<string, number[]>();
  /** Batches by sender, its start number and exchange. */
  readonly dataGot = new Map<string, number[]>();
  readonly held: { from: WorkerName; exchange: number; byteCount: number }[] = [];
  readonly refusals: string[] = [];
  readonly creditEvents: string[] = [];
  controlSent = new Map<WorkerName, number>();
  dataSent = new Map<string, number>();
  identityNow: LocalIdentity;
  depth = 0;

  constructor(name: WorkerName, runtime: Runtime, setup: WorkerSetup = {}) {
    this.name = name;
    this.setup = setup;
    const startNumber = setup.startNumber ?? 1;
    const host = setup.listenHost ?? "0.0.0.0";
    const control = { host, port: setup.controlPort ?? CONTROL_PORT };
    const data = { host, port: setup.dataPort ?? DATA_PORT };
    this.identityNow = {
      clusterId: "c".repeat(32),
      buildId: "build-1",
      fingerprint: "fingerprint-1",
      application: "test",
      worker: name,
      generation: 1,
      incarnation: idOf(name, startNumber),
      startNumber,
      checkpoints: true,
      control,
      data,
      workerCount: 2,
      ...setup.identity,
    };
    const log: Log = {
      debug: () => {},
      info: (code, text) => this.logLines.push(`info ${code} ${text}`),
      warn: (code, text) => this.logLines.push(`warn ${code} ${text}`),
      error: (code, text) => this.logLines.push(`error ${code} ${text}`),
    };
    const common = {
      runtime,
      owner: this,
      log,
      timing: { ...DEFAULT_TIMING, ...setup.timing },
      limits: { ...DEFAULT_LIMITS, ...setup.limits },
    };
    this.control_ = new ControlChannel({ ...common, listen: control });
    this.data = new DataChannel({ ...common, listen: data });
  }

  async listen(): Promise<void> {
    await this.control_.listen();
    await this.data.listen();
  }

  identity(): LocalIdentity {
    return this.identityNow;
  }

  turn(run: () => void): void {
    assert.equal(this.depth, 0, "turns do not nest");
    this.depth++;
    try {
      run();
      this.data.flush();
      this.control_.flush();
    } finally {
      this.depth--;
    }
  }

  admit(hello: Hello, facts: AdmissionFacts): Admission {
    return this.setup.admit?.(hello, facts) ?? { kind: "welcome" };
  }

  peerConnected(peer: WorkerName, link: LinkKind, info: ConnectedInfo): void {
    this.events.push(`${link} ${peer} connected${info.newIncarnation ? " new" : ""}`);
  }

  peerLost(peer: WorkerName, link: LinkKind, why: string): void {
    this.events.push(`${link} ${peer} lost: ${why}`);
  }

  peerSuperseded(peer: WorkerName, link: LinkKind): void {
    this.events.push(`${link} ${peer} superseded`);
  }

  peerLeft(peer: WorkerName, link: LinkKind, reason: string): void {
    this.events.push(`${link} ${peer} left: ${reason}`);
  }

  refused(peer: WorkerName | null, by: "us" | "them", code: string, sentence: string): void {
    this.refusals.push(`${code} of ${peer} by ${by}: ${sentence}`);
  }

  control(from: WorkerName, message: { kind: string; reason?: string }): void {
    const [start, number] = message.reason!.split(":").map(Number);
    push(this.controlGot, `${from}.${start}`, number!);
  }

  batch(from: WorkerName, exchange: number, bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    push(this.dataGot, `${from}.${view.getUint32(0)}.${exchange}`, view.getUint32(4));
    for (let i = 8; i < bytes.length; i += 97)
      assert.equal(bytes[i], view.getUint32(4) & 255, "bytes as they were sent");
    if (this.setup.holdBatches) this.held.push({ from, exchange, byteCount: bytes.length });
    else this.data.release(from, exchange, bytes.length);
  }

  endOfInput(from: WorkerName, exchange: number): void {
    this.events.push(`end of exchange ${exchange} from ${from}`);
  }

  barrier(from: WorkerName, exchange: number, epoch: number): void {
    this.events.push(`barrier ${epoch} of exchange ${exchange} from ${from}`);
  }

  creditChanged(peer: WorkerName, exchange: number): void {
    this.creditEvents.push(`${peer} ${exchange} ${this.data.hasCredit(peer, exchange) ? "usable" : "used up"}`);
  }

  /** Sends the next numbered control message. */
  say(to: WorkerName): void {
    const number = (this.controlSent.get(to) ?? 0) + 1;
    this.controlSent.set(to, number);
    assert.ok(
      this.control_.send(to, {
        kind: "stop_requested",
        keep: false,
        reason: `${this.identityNow.startNumber}:${number}`,
      }),
    );
  }

  /** Sends the next numbered batch of an exchange. */
  ship(to: WorkerName, exchange: number, byteCount: number): void {
    const key = `${to}.${exchange}`;
    const number = (this.dataSent.get(key) ?? 0) + 1;
    this.dataSent.set(key, number);
    const bytes = new Uint8Array(Math.max(8, byteCount)).fill(number & 255);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, this.identityNow.startNumber);
    view.setUint32(4, number);
    this.data.sendBatch(to, exchange, bytes);
  }

  releaseHeld(): void {
    for (const { from, exchange, byteCount } of this.held.splice(0)) this.data.release(from, exchange, byteCount);
  }

  count(pattern: RegExp): number {
    return this.events.filter((event) => pattern.test(event)).length;
  }

  close(): void {
    this.control_.close(false);
    this.data.close(false);
  }
}

function push(map: Map<string, number[]>, key: string, value: number): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

export function idOf(name: string, startNumber: number): string {
  let hash = startNumber;
  for (const character of name) hash = (hash * 31 + character.charCodeAt(0)) >>> 0;
  return hash.toString(16).padStart(32, "a");
}

/** 1, 2, 3 … `count`, and nothing else. */
export function assertWhole(got: readonly number[] | undefined, count: number, what: string): void {
  assert.deepEqual(
    got ?? [],
    Array.from({ length: count }, (_, i) => i + 1),
    what,
  );
}

/** Each one more than the one before it. */
export function assertNoGap(got: readonly number[] | undefined, what: string): void {
  for (let i = 1; i < (got?.length ?? 0); i++) assert.equal(got![i], got![i - 1]! + 1, `${what}: ${got}`);
}

export function at(host: string, port: number): Address {
  return { host, port };
}
