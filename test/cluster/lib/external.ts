/** A client of the external channel that shares no code with Tammar's own tools. */
import { connect } from "node:net";
import { host } from "./ports.ts";

export interface Status {
  readonly processing_messages: boolean;
  readonly worker_count?: number;
  readonly worker_names?: readonly string[];
}

/** One frame there: u32 length, u16 id, text. */
export function externalFrame(id: number, text = ""): Buffer {
  const body = Buffer.from(text, "utf8");
  const frame = Buffer.alloc(6 + body.length);
  frame.writeUInt32BE(2 + body.length, 0);
  frame.writeUInt16BE(id, 4);
  body.copy(frame, 6);
  return frame;
}

/** Sends one request and resolves with the first answer. */
export function ask(port: number, id: number, text = "", timeoutMs = 20_000): Promise<{ id: number; text: string }> {
  return new Promise((done, failed) => {
    const socket = connect({ host, port });
    let got: Buffer = Buffer.alloc(0);
    const fail = (why: string): void => {
      clearTimeout(timer);
      socket.destroy();
      failed(new Error(`external channel ${host}:${port}, message ${id}: ${why}`));
    };
    const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
    socket.on("connect", () => socket.write(externalFrame(id, text)));
    socket.on("error", (error) => fail(error.message));
    socket.on("close", () => fail("closed without an answer"));
    socket.on("data", (bytes: Buffer) => {
      got = Buffer.concat([got, bytes]);
      if (got.length < 6 || got.length < 4 + got.readUInt32BE(0)) return;
      clearTimeout(timer);
      socket.removeAllListeners("close");
      done({ id: got.readUInt16BE(4), text: got.subarray(6, 4 + got.readUInt32BE(0)).toString("utf8") });
      socket.destroy();
    });
  });
}

/** `null` when nobody answers. */
export async function status(port: number): Promise<Status | null> {
  try {
    const answer = await ask(port, 9);
    if (answer.id === 11) return { processing_messages: false };
    return answer.id === 10 ? (JSON.parse(answer.text) as Status) : null;
  } catch {
    return null;
  }
}
