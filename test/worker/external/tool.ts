import { type Address, type Conn, NetError, type Runtime } from "../../../src/runtime/runtime.ts";
import { FrameSplitter } from "../../../src/wire/frame.ts";

/** A client of the external channel as tests want it: what came, and whether it is over. */
export class Tool {
  readonly conn: Conn;
  readonly frames: Uint8Array[] = [];
  /** How the server ended it; null: it has not. */
  closed: "ended" | "cut" | null = null;
  readonly #splitter = new FrameSplitter({ lengthMax: 64 << 20 });

  private constructor(conn: Conn) {
    this.conn = conn;
  }

  static async connect(runtime: Runtime, address: Address, options: { read?: boolean } = {}): Promise<Tool> {
    const tool = new Tool(await runtime.net.connect(address, { timeoutMs: 5_000 }));
    if (options.read ?? true) void tool.read();
    return tool;
  }

  async read(): Promise<void> {
    try {
      for (;;) {
        const chunk = await this.conn.read();
        if (chunk === null) break;
        this.#splitter.push(chunk);
        for (let i = 0; i < this.#splitter.count; i++) {
          this.frames.push(this.#splitter.bytes.slice(this.#splitter.starts[i]!, this.#splitter.ends[i]!));
        }
      }
      this.closed = "ended";
    } catch (error) {
      if (!(error instanceof NetError)) throw error;
      this.closed = "cut";
    }
  }

  /** Ids of the answers, in order. */
  get ids(): number[] {
    return this.frames.map((frame) => (frame[0]! << 8) | frame[1]!);
  }

  text(index: number): string {
    return new TextDecoder().decode(this.frames[index]!.subarray(2));
  }

  json(index: number): unknown {
    return JSON.parse(this.text(index));
  }
}

export function request(id: number, body = ""): Uint8Array {
  const text = new TextEncoder().encode(body);
  const frame = new Uint8Array(6 + text.length);
  new DataView(frame.buffer).setUint32(0, 2 + text.length);
  new DataView(frame.buffer).setUint16(4, id);
  frame.set(text, 6);
  return frame;
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
