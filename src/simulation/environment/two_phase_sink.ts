/**
 * A sink program that commits in two phases, with its sockets and files: for each worker's instance name one file of output,
 * `<path>.<instance>`, and one transaction log, `<path>.<instance>.txnlog`, a line an entry. What it answers, and how a line looks, is in
 * `sink_book.ts`. A new connection of an instance takes over from the one before.
 */
import type { Address, Conn, DiskFile, Listener, Millis, Runtime } from "../../runtime/runtime.ts";
import { decodeConnectorFrame, TAG } from "../../wire/connector.ts";
import { FrameSplitter } from "../../wire/frame.ts";
import { readSinkLog, SinkBook, type SinkLogEntry, type SinkRule, SinkSession, sinkLogLine } from "./sink_book.ts";

export interface TwoPhaseSinkOptions {
  readonly runtime: Runtime;
  /** Absolute; what files are called before the dot and the instance name. */
  readonly path: string;
  readonly cookie: string;
  readonly rulesOf?: (instance: string) => readonly SinkRule[];
  /** An entry is in the log; it may not be durable. */
  readonly logged?: (instance: string, entry: SinkLogEntry, timeMs: Millis) => void;
  /** A worker has broken the protocol: the program has to end. */
  readonly fatal: (instance: string, text: string) => void;
}

interface Shelf {
  readonly instance: string;
  readonly book: SinkBook;
  readonly output: DiskFile;
  readonly log: DiskFile;
  /** The connection that has it. */
  current: Conn | null;
}

const FRAME_BYTES_MAX = 16 << 20;
const LOG_BYTES_MAX = 256 << 20;

export class TwoPhaseSink {
  readonly #options: TwoPhaseSinkOptions;
  readonly #shelves = new Map<string, Shelf>();
  readonly #conns = new Set<Conn>();
  #listener: Listener | null = null;
  /** Frames of all connections are worked on one after the other. */
  #work: Promise<void> = Promise.resolve();
  #paused: (() => void)[] | null = null;
  #ended = false;

  constructor(options: TwoPhaseSinkOptions) {
    this.#options = options;
  }

  async listen(address: Address): Promise<Address> {
    this.#listener = await this.#options.runtime.net.listen({
      ...address,
      accept: (conn) => void this.#serve(conn),
      failed: () => {},
    });
    return this.#listener.address;
  }

  /** Stops reading; connections stay. */
  pause(): void {
    this.#paused ??= [];
  }

  resume(): void {
    const waiting = this.#paused ?? [];
    this.#paused = null;
    for (const go of waiting) go();
  }

  /** Bytes of output that count. */
  committed(instance: string): number {
    return this.#shelves.get(instance)?.book.committed ?? 0;
  }

  cutAll(): void {
    for (const conn of this.#conns) conn.abort();
  }

  close(): void {
    this.#ended = true;
    this.#listener?.close();
    this.cutAll();
  }

  async #serve(conn: Conn): Promise<void> {
    const splitter = new FrameSplitter({ lengthMax: FRAME_BYTES_MAX });
    const session = new SinkSession({
      cookie: this.#options.cookie,
      open: (instance) => {
        const shelf = this.#shelves.get(instance)!;
        if (shelf.current !== null && shelf.current !== conn) shelf.current.abort();
        shelf.current = conn;
        return shelf.book;
      },
    });
    this.#conns.add(conn);
    try {
      for (;;) {
        while (this.#paused !== null) await new Promise<void>((resolve) => this.#paused!.push(resolve));
        const chunk = await conn.read();
        if (chunk === null || this.#ended) break;
        if (splitter.push(chunk) !== "ok") break;
        const frames = Array.from({ length: splitter.count }, (_, i) =>
          splitter.bytes.slice(splitter.starts[i]!, splitter.ends[i]!),
        );
        const worked = this.#work.then(() => this.#receive(conn, session, frames));
        this.#work = worked.then(
          () => {},
          () => {},
        );
        if (!(await worked)) break;
      }
      conn.end();
    } catch {
      // It is gone; what was promised on it is in the log.
    }
    this.#conns.delete(conn);
    const shelf = this.#shelves.get(session.instance);
    if (shelf?.current === conn) shelf.current = null;
  }

  /** Returns whether the connection goes on. */
  async #receive(conn: Conn, session: SinkSession, frames: readonly Uint8Array[]): Promise<boolean> {
    const { runtime, logged, fatal } = this.#options;
    const output: Uint8Array[] = [];
    const append = async (): Promise<void> => {
      if (output.length === 0) return;
      const bytes = joined(output.splice(0));
      await this.#shelves.get(session.instance)!.output.append(bytes);
    };
    for (const frame of frames) {
      if (frame[0] === TAG.hello) await this.#load(frame);
      const isOver = session.instance !== "" && this.#shelves.get(session.instance)?.current !== conn;
      if (isOver || this.#ended) return false;
      for (const action of session.receive(frame)) {
        const shelf = this.#shelves.get(session.instance)!;
        if (action.kind !== "append") await append();
        switch (action.kind) {
          case "append":
            output.push(action.bytes);
            break;
          case "truncate":
            await shelf.output.truncate(action.length);
            break;
          case "log":
            await shelf.log.append(sinkLogLine(action.entry));
            logged?.(session.instance, action.entry, runtime.clock.monotonicMs());
            break;
          case "sync":
            await shelf.output.sync();
            await shelf.log.sync();
            break;
          case "send":
            await conn.write(action.bytes);
            break;
          case "close":
            return false;
          case "fatal":
            this.close();
            fatal(session.instance, action.text);
            return false;
        }
      }
    }
    await append();
    return true;
  }

  /** Takes the files of the instance in this HELLO. */
  async #load(frame: Uint8Array): Promise<void> {
    const hello = decodeConnectorFrame(frame);
    if (hello.kind !== "hello" || this.#shelves.has(hello.instance)) return;
    const { instance } = hello;
    const { path, rulesOf } = this.#options;
    const output = await this.#open(`${path}.${instance}`);
    const logPath = `${path}.${instance}.txnlog`;
    const log = await this.#open(logPath);
    const { entries, wholeBytes } = readSinkLog(await this.#options.runtime.disk.readFile(logPath, LOG_BYTES_MAX));
    await log.truncate(wholeBytes);
    const book = new SinkBook(entries, await output.length(), rulesOf?.(instance));
    this.#shelves.set(instance, { instance, book, output, log, current: null });
  }

  async #open(path: string): Promise<DiskFile> {
    const { disk } = this.#options.runtime;
    if ((await disk.stat(path)) !== null) return disk.open(path, "append");
    const file = await disk.open(path, "create");
    await disk.syncDir(path.slice(0, path.lastIndexOf("/")) || "/");
    return file;
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
