/** Sends frames (u32 length, bytes) to a TCP source and waits when the worker stops reading. */
import { connect, type Socket } from "node:net";
import { host } from "./ports.ts";
import { PATIENCE_MS, sleep, waitFor, within } from "./wait.ts";

export function frame(payload: string | Uint8Array): Buffer {
  const body = Buffer.from(payload as string);
  const bytes = Buffer.alloc(4 + body.length);
  bytes.writeUInt32BE(body.length, 0);
  body.copy(bytes, 4);
  return bytes;
}

export class Sender {
  readonly socket: Socket;
  /** Bytes handed to the socket. */
  sentBytes = 0;
  /** Why the connection is gone; `null` while it is there. */
  lost: string | null = null;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("error", (error) => {
      this.lost = error.message;
    });
    socket.on("close", () => {
      this.lost ??= "closed";
    });
    socket.resume();
  }

  /** Tries again until the deadline: a source listens from Phase II on. */
  static async open(port: number, deadlineMs = PATIENCE_MS): Promise<Sender> {
    const attempt = (): Promise<Socket | null> =>
      new Promise((done) => {
        const socket = connect({ host, port, noDelay: true });
        socket.once("connect", () => done(socket));
        socket.once("error", () => done(null));
      });
    return new Sender(await waitFor(attempt, { what: `a source on ${host}:${port}`, deadlineMs, everyMs: 50 }));
  }

  /** Resolves when the socket has room again, so that at most one piece is in memory. */
  async write(bytes: Uint8Array, deadlineMs = PATIENCE_MS): Promise<void> {
    if (this.lost !== null) throw new Error(`the source connection is gone: ${this.lost}`);
    this.sentBytes += bytes.length;
    if (this.socket.write(bytes)) return;
    const drained = new Promise<void>((done, failed) => {
      const settle = (then: () => void) => () => {
        this.socket.off("drain", ok);
        this.socket.off("close", gone);
        then();
      };
      const ok = settle(done);
      const gone = settle(() => failed(new Error("the source connection closed during a write")));
      this.socket.once("drain", ok);
      this.socket.once("close", gone);
    });
    await within(drained, deadlineMs, "the source to read on");
  }

  async send(payloads: Iterable<string>): Promise<number> {
    let count = 0;
    let parts: Buffer[] = [];
    let size = 0;
    for (const payload of payloads) {
      const bytes = frame(payload);
      parts.push(bytes);
      size += bytes.length;
      count += 1;
      if (size >= 32_768) {
        await this.write(Buffer.concat(parts));
        parts = [];
        size = 0;
      }
    }
    if (size > 0) await this.write(Buffer.concat(parts));
    return count;
  }

  /** `perSecond` payloads a second until `stop` says so; resolves with how many. */
  async pace(payload: (index: number) => string, perSecond: number, stop: () => boolean): Promise<number> {
    const began = performance.now();
    let sent = 0;
    while (!stop()) {
      const due = Math.floor(((performance.now() - began) / 1_000) * perSecond);
      const burst: string[] = [];
      for (; sent < due; sent += 1) burst.push(payload(sent));
      await this.send(burst);
      await sleep(5);
    }
    return sent;
  }

  /** Everything written, then the end of the stream; waits until the peer has closed too. */
  async close(): Promise<void> {
    if (this.lost !== null) return;
    const closed = new Promise<void>((done) => this.socket.once("close", () => done()));
    this.socket.end();
    await within(closed, 10_000, "the source to close its side").catch(() => {});
    this.socket.destroy();
  }
}
