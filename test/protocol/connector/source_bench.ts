/** One worker's source with its registry beside it, and frames by hand. */
import { SourceConnection, type SourceConnectionOptions } from "../../../src/protocol/connector/source_connection.ts";
import { SourceStreams } from "../../../src/protocol/connector/source_streams.ts";
import { StreamRegistry } from "../../../src/protocol/connector/stream_registry.ts";
import { ByteWriter } from "../../../src/wire/byte_writer.ts";
import { type ConnectorFrame, decodeConnectorFrame, encodeConnectorFrame } from "../../../src/wire/connector.ts";
import { FrameSplitter } from "../../../src/wire/frame.ts";

export const utf8 = (text: string) => new TextEncoder().encode(text);

export class SourceBench {
  readonly streams: SourceStreams;
  readonly registry = new StreamRegistry(["w"]);
  readonly #options: SourceConnectionOptions;
  /** Bodies handed on, as text, in order. */
  readonly records: string[] = [];
  #epoch = 0;

  constructor(options: { checkpoints?: boolean; credits?: number; refill?: number; cookie?: string } = {}) {
    this.streams = new SourceStreams({ checkpoints: options.checkpoints ?? true });
    this.#options = {
      cookie: utf8(options.cookie ?? "cookie"),
      maxCredits: options.credits ?? 10,
      refillCredits: options.refill ?? 0,
    };
    this.streams.announce();
    this.exchange();
  }

  connect(): SourceConnection {
    return new SourceConnection(this.#options, this.streams);
  }

  /** A connection that has said HELLO, and was welcomed. */
  greeted(): SourceConnection {
    const connection = this.connect();
    this.send(connection, { kind: "hello", version: "0.0.1", cookie: utf8("cookie"), program: "p", instance: "i" });
    frames(connection);
    return connection;
  }

  /** What comes of it, at the end of the turn. */
  send(connection: SourceConnection, ...list: readonly ConnectorFrame[]): ConnectorFrame[] {
    const out = new ByteWriter();
    for (const frame of list) encodeConnectorFrame(frame, out);
    this.sendBytes(connection, out.take());
    connection.topUp();
    return frames(connection);
  }

  /** Whole frames, and no end of the turn. */
  sendBytes(connection: SourceConnection, bytes: Uint8Array): void {
    const splitter = new FrameSplitter({ lengthMax: 1 << 20 });
    splitter.push(bytes);
    const places = connection.receive(splitter.bytes, splitter.starts, splitter.ends, splitter.count);
    for (let i = 0; i < places.count; i++) {
      this.records.push(new TextDecoder().decode(splitter.bytes.subarray(places.starts[i], places.ends[i])));
    }
    this.exchange();
  }

  /** Opens a stream. */
  open(connection: SourceConnection, stream: bigint): ConnectorFrame {
    return this.send(connection, { kind: "notify", stream, name: utf8(`s${stream}`), point: 0n })[0]!;
  }

  exchange(): void {
    for (const request of this.streams.takeRequests()) {
      const answer = this.registry.handle("w", request);
      if (answer !== null) this.streams.answered(answer);
    }
  }

  barrier(): number {
    this.streams.snapshot(++this.#epoch);
    return this.#epoch;
  }

  complete(epoch: number, ...connections: readonly SourceConnection[]): ConnectorFrame[] {
    if (!this.streams.cover(epoch)) return [];
    for (const connection of connections) connection.acknowledge();
    this.exchange();
    return connections.flatMap(frames);
  }

  checkpoint(...connections: readonly SourceConnection[]): ConnectorFrame[] {
    return this.complete(this.barrier(), ...connections);
  }
}

export function message(stream: bigint, id: bigint, body: string, key = ""): ConnectorFrame {
  return { kind: "message", stream, id, eventTime: 0n, key: utf8(key), body: utf8(body) };
}

/** What waits to be sent; it is sent. */
export function frames(connection: SourceConnection): ConnectorFrame[] {
  return decodeAll(connection.out.take());
}

export function decodeAll(bytes: Uint8Array): ConnectorFrame[] {
  const splitter = new FrameSplitter({ lengthMax: 1 << 20 });
  splitter.push(bytes);
  return Array.from({ length: splitter.count }, (_, i) =>
    decodeConnectorFrame(splitter.bytes.slice(splitter.starts[i]!, splitter.ends[i]!)),
  );
}
