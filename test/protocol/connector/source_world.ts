/**
 * A connector source on a few workers, with its registry, its clients and a coordinator, all in the hands of a test: every
 * message between them waits until it is delivered, connections are byte pipes that can be cut anywhere.
 *
 * Checked all the time: no record is taken in twice by the state that stands, every complete checkpoint holds a prefix of
 * each stream, and a client hears of nothing that a rollback could take back.
 */
import assert from "node:assert/strict";
import { SourceConnection } from "../../../src/protocol/connector/source_connection.ts";
import { type SourcePosition, SourceStreams } from "../../../src/protocol/connector/source_streams.ts";
import {
  type RegistryAnswer,
  type RegistryRequest,
  StreamRegistry,
} from "../../../src/protocol/connector/stream_registry.ts";
import { MESSAGE_AT } from "../../../src/wire/connector.ts";
import { FrameSplitter } from "../../../src/wire/frame.ts";
import { ClientMemory, ClientSession, type ClientStream } from "../../lib/connector_client.ts";

export interface Taken {
  readonly stream: bigint;
  readonly id: bigint;
}

type Command = { readonly kind: "barrier" | "complete"; readonly epoch: number };

class Worker {
  readonly name: string;
  readonly streams: SourceStreams;
  /** What its state consists of. */
  taken: Taken[] = [];
  readonly toRegistry: RegistryRequest[] = [];
  readonly fromRegistry: RegistryAnswer[] = [];
  readonly commands: Command[] = [];
  readonly saved = new Map<number, { readonly position: SourcePosition; readonly count: number }>();
  readonly pipes = new Set<Pipe>();

  constructor(name: string, checkpoints: boolean) {
    this.name = name;
    this.streams = new SourceStreams({ checkpoints });
    this.streams.announce();
  }
}

interface Pipe {
  readonly worker: Worker;
  readonly server: SourceConnection;
  readonly client: ClientSession;
  readonly splitter: FrameSplitter;
  /** Bytes on their way. */
  toServer: Uint8Array;
  toClient: Uint8Array;
  /** The client has given it up; the worker may not know. */
  abandoned: boolean;
}

interface Client {
  readonly streams: readonly ClientStream[];
  memory: ClientMemory;
  pipe: Pipe | null;
}

const COOKIE = "cookie";

export class SourceWorld {
  readonly workers: readonly Worker[];
  readonly registry: StreamRegistry;
  readonly clients: Client[] = [];
  readonly #checkpoints: boolean;
  readonly #credits: { readonly maxCredits: number; readonly refillCredits: number };
  #epoch = 0;
  #collecting: Set<string> | null = null;
  complete = 0;
  /** By the last complete checkpoint. */
  readonly durable = new Map<bigint, bigint>();
  rollbacks = 0;

  constructor(
    workerCount: number,
    streamSets: readonly (readonly ClientStream[])[],
    options: { checkpoints?: boolean; maxCredits?: number; refillCredits?: number } = {},
  ) {
    this.#checkpoints = options.checkpoints ?? true;
    this.#credits = { maxCredits: options.maxCredits ?? 5, refillCredits: options.refillCredits ?? 1 };
    this.workers = Array.from({ length: workerCount }, (_, i) => new Worker(`w${i}`, this.#checkpoints));
    this.registry = new StreamRegistry(this.workers.map(({ name }) => name));
    for (const streams of streamSets) this.clients.push({ streams, memory: new ClientMemory(), pipe: null });
    this.#collect();
  }

  /** The client gives up the connection that it has; the worker learns of it later, or at once. */
  connect(client: number, worker: number, cutOld: boolean): void {
    const who = this.clients[client]!;
    if (who.pipe !== null) this.abandon(client, cutOld);
    const on = this.workers[worker]!;
    const session = new ClientSession({ cookie: COOKIE, streams: who.streams }, who.memory);
    session.told = (stream, point) => {
      if (!this.#checkpoints) return;
      const durable = this.durable.get(stream) ?? -1n;
      assert.ok(point <= durable, `stream ${stream}: told ${point}, durable ${durable}`);
    };
    const pipe: Pipe = {
      worker: on,
      server: new SourceConnection({ cookie: new TextEncoder().encode(COOKIE), ...this.#credits }, on.streams),
      client: session,
      splitter: new FrameSplitter({ lengthMax: 16_384 }),
      toServer: new Uint8Array(0),
      toClient: new Uint8Array(0),
      abandoned: false,
    };
    on.pipes.add(pipe);
    who.pipe = pipe;
    this.#move(pipe);
  }

  abandon(client: number, atOnce: boolean): void {
    const who = this.clients[client]!;
    const { pipe } = who;
    who.pipe = null;
    if (pipe === null) return;
    pipe.abandoned = true;
    if (atOnce) this.#serverGone(pipe);
  }

  /** The program dies, and its successor knows nothing. */
  restartClient(client: number): void {
    this.abandon(client, true);
    this.clients[client]!.memory = new ClientMemory();
  }

  /** The workers notice that abandoned connections are gone; what was on its way is lost. */
  noticeGone(): void {
    for (const { pipes } of this.workers) for (const pipe of [...pipes]) if (pipe.abandoned) this.#serverGone(pipe);
  }

  pump(client: number, messages: number): void {
    const pipe = this.clients[client]!.pipe;
    if (pipe === null) return;
    pipe.client.pump(messages);
    this.#move(pipe);
  }

  /** Delivers so many bytes on the connection of a client, old ones of it too. */
  deliver(client: number, way: "up" | "down", byteCount: number): void {
    const pipe = this.clients[client]!.pipe;
    if (pipe === null) return;
    if (way === "up") this.#toServer(pipe, byteCount);
    else this.#toClient(client, pipe, byteCount);
  }

  /** What is still on its way to a worker from connections that the clients gave up. */
  deliverOld(byteCount: number): void {
    for (const { pipes } of this.workers) {
      for (const pipe of [...pipes]) if (pipe.abandoned) this.#toServer(pipe, byteCount);
    }
  }

  deliverRegistry(worker: number, way: "up" | "down"): void {
    const from = this.workers[worker]!;
    if (way === "up") {
      const request = from.toRegistry.shift();
      if (request === undefined) return;
      const answer = this.registry.handle(from.name, request);
      if (answer !== null) from.fromRegistry.push(answer);
    } else {
      const answer = from.fromRegistry.shift();
      if (answer !== undefined) from.streams.answered(answer);
      this.#collect();
    }
  }

  begin(): void {
    if (this.#collecting !== null) return;
    const epoch = ++this.#epoch;
    this.#collecting = new Set(this.workers.map(({ name }) => name));
    for (const { commands } of this.workers) commands.push({ kind: "barrier", epoch });
  }

  abort(): void {
    this.#collecting = null;
  }

  /** The next command of the coordinator reaches a worker. */
  command(worker: number): void {
    const on = this.workers[worker]!;
    const command = on.commands.shift();
    if (command === undefined) return;
    if (command.kind === "barrier") {
      on.saved.set(command.epoch, { position: on.streams.snapshot(command.epoch), count: on.taken.length });
      if (command.epoch !== this.#epoch || this.#collecting === null) return;
      this.#collecting.delete(on.name);
      if (this.#collecting.size === 0) this.#completed(command.epoch);
    } else if (on.streams.cover(command.epoch)) {
      for (const { server } of on.pipes) server.acknowledge();
      this.#collect();
    }
  }

  remind(): void {
    for (const { pipes } of this.workers) for (const { server } of pipes) server.remind();
    this.#collect();
  }

  rollBack(): void {
    this.rollbacks++;
    this.#collecting = null;
    this.registry.reset(this.workers.map(({ name }) => name));
    for (const worker of this.workers) {
      worker.commands.length = 0;
      worker.toRegistry.length = 0;
      worker.fromRegistry.length = 0;
      for (const pipe of [...worker.pipes]) {
        pipe.server.restart("");
        // It may be a while until a client hears of it, and it sends on meanwhile.
        if (pipe.server.closing !== null) this.#closing(pipe);
      }
      const saved = worker.saved.get(this.complete);
      assert.ok(this.complete === 0 || saved !== undefined);
      worker.taken.length = saved?.count ?? 0;
      worker.streams.seek(saved?.position ?? null);
    }
    this.#collect();
  }

  /** Everything between one client, its worker and the registry arrives, a few times to and fro. */
  exchange(client: number, messages: number): void {
    for (let round = 0; round < 4; round++) {
      this.pump(client, round < 3 ? 0 : messages);
      this.deliver(client, "up", 1e9);
      const pipe = this.clients[client]!.pipe;
      if (pipe !== null) this.#exchangeRegistry(this.workers.indexOf(pipe.worker));
      this.deliver(client, "down", 1e9);
    }
    this.deliver(client, "up", 1e9);
  }

  #exchangeRegistry(worker: number): void {
    const { toRegistry, fromRegistry } = this.workers[worker]!;
    while (toRegistry.length > 0) this.deliverRegistry(worker, "up");
    while (fromRegistry.length > 0) this.deliverRegistry(worker, "down");
  }

  /** A checkpoint from begin to end; the last workers of the list do not hear of its completion yet. */
  checkpoint(toldCount: number): void {
    this.begin();
    for (let i = 0; i < this.workers.length; i++) {
      while (this.workers[i]!.commands.some(({ kind }) => kind === "barrier")) this.command(i);
    }
    for (let i = 0; i < Math.min(toldCount, this.workers.length); i++) {
      while (this.workers[i]!.commands.length > 0) this.command(i);
    }
  }

  /** Faults are over: everything is delivered, until all clients are finished. */
  settle(): void {
    for (let round = 0; round < 400; round++) {
      this.noticeGone();
      for (const [i, client] of this.clients.entries()) {
        if (client.pipe === null && !this.#finished(client)) this.connect(i, i % this.workers.length, true);
        this.pump(i, 1_000);
        this.deliver(i, "up", 1e9);
      }
      for (let i = 0; i < this.workers.length; i++) {
        for (let rest = 50; rest > 0; rest--) {
          this.deliverRegistry(i, "up");
          this.deliverRegistry(i, "down");
        }
      }
      this.begin();
      for (let i = 0; i < this.workers.length; i++) {
        this.command(i);
        this.command(i);
      }
      this.remind();
      for (let i = 0; i < this.clients.length; i++) this.deliver(i, "down", 1e9);
      if (this.clients.every((client) => this.#finished(client))) return this.#checkSettled();
    }
    assert.fail(`not settled; awaited ${this.registry.awaited}`);
  }

  #finished({ streams, memory }: Client): boolean {
    return streams.every(({ id }) => memory.of(id).finished);
  }

  #checkSettled(): void {
    const all = new Map<bigint, bigint[]>();
    for (const { taken } of this.workers) {
      for (const { stream, id } of taken) all.set(stream, [...(all.get(stream) ?? []), id]);
    }
    for (const { streams } of this.clients) {
      for (const { id, ids } of streams) {
        const got = (all.get(id) ?? []).sort((a, b) => (a < b ? -1 : 1));
        assert.deepEqual(got, [...ids], `stream ${id}`);
      }
    }
  }

  #completed(epoch: number): void {
    this.#collecting = null;
    this.complete = epoch;
    for (const { commands } of this.workers) commands.push({ kind: "complete", epoch });
    const cut = new Map<bigint, bigint[]>();
    for (const { taken, saved } of this.workers) {
      for (const { stream, id } of taken.slice(0, saved.get(epoch)!.count)) {
        cut.set(stream, [...(cut.get(stream) ?? []), id]);
      }
    }
    for (const { streams } of this.clients) {
      for (const { id, ids } of streams) {
        const got = (cut.get(id) ?? []).sort((a, b) => (a < b ? -1 : 1));
        assert.deepEqual(got, ids.slice(0, got.length), `stream ${id} in checkpoint ${epoch}`);
        this.durable.set(id, got.at(-1) ?? -1n);
      }
    }
  }

  #toServer(pipe: Pipe, byteCount: number): void {
    const chunk = pipe.toServer.slice(0, byteCount);
    pipe.toServer = pipe.toServer.slice(byteCount);
    if (chunk.length === 0 || pipe.server.closing !== null) return;
    pipe.splitter.push(chunk);
    const { splitter, server, worker } = pipe;
    const places = server.receive(splitter.bytes, splitter.starts, splitter.ends, splitter.count);
    const view = new DataView(splitter.bytes.buffer, splitter.bytes.byteOffset);
    for (let i = 0; i < places.count; i++) {
      const at = places.frames[i]!;
      const stream = view.getBigUint64(at + MESSAGE_AT.stream);
      const id = view.getBigUint64(at + MESSAGE_AT.id);
      worker.taken.push({ stream, id });
    }
    this.#checkOnce();
    server.topUp();
    if (server.closing !== null) this.#closing(pipe);
    this.#collect();
  }

  #toClient(client: number, pipe: Pipe, byteCount: number): void {
    const chunk = pipe.toClient.slice(0, byteCount);
    pipe.toClient = pipe.toClient.slice(byteCount);
    pipe.client.receive(chunk);
    assert.deepEqual(pipe.client.violations, []);
    assert.equal(pipe.client.error, null);
    this.#move(pipe);
    if (pipe.client.over) this.abandon(client, true);
  }

  #closing(pipe: Pipe): void {
    this.#move(pipe);
    pipe.server.disconnected();
    this.#collect();
  }

  #serverGone(pipe: Pipe): void {
    pipe.worker.pipes.delete(pipe);
    pipe.server.disconnected();
    for (const client of this.clients) if (client.pipe === pipe) client.pipe = null;
    this.#collect();
  }

  #move(pipe: Pipe): void {
    pipe.toServer = new Uint8Array([...pipe.toServer, ...pipe.client.out.take()]);
    pipe.toClient = new Uint8Array([...pipe.toClient, ...pipe.server.out.take()]);
  }

  #collect(): void {
    for (const worker of this.workers) {
      worker.toRegistry.push(...worker.streams.takeRequests());
      for (const pipe of worker.pipes) this.#move(pipe);
    }
  }

  #checkOnce(): void {
    if (!this.#checkpoints) return;
    const seen = new Set<string>();
    for (const { taken } of this.workers) {
      for (const { stream, id } of taken) {
        const record = `${stream}:${id}`;
        assert.ok(!seen.has(record), `${record} was taken in twice`);
        seen.add(record);
      }
    }
  }
}

/** Streams whose ids begin and step in different ways; some are empty. */
export function clientStreams(client: number, lengths: readonly number[]): ClientStream[] {
  return lengths.map((length, i) => {
    const base = [0n, 1n, 0xffff_fff0n, (1n << 53n) - 3n, (1n << 64n) - 400n][(client + i) % 5]!;
    const step = BigInt(1 + ((client + i) % 3));
    return {
      id: (BigInt(client + 1) << 40n) + BigInt(i),
      name: `stream ${client} ${i}`,
      ids: Array.from({ length }, (_, n) => base + step * BigInt(n)),
      body: (n) => Uint8Array.of(n),
    };
  });
}
