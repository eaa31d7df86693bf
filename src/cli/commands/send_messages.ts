/** What `tammar send` sends: numbers, or what files hold. */
import { ConfigError } from "../../base/errors.ts";
import type { DiskFile } from "../../runtime/runtime.ts";

export interface Message {
  readonly bytes: Uint8Array;
  /** Does it already have its header? */
  readonly framed: boolean;
}

export interface Messages {
  /** `null`: there are no more. */
  next(): Promise<Message | null>;
}

/** The numbers after `startFrom`, as text, or as 8 bytes with `partition` behind them. */
export function countingMessages(options: { u64: boolean; startFrom: number; partition: string }): Messages {
  const encoder = new TextEncoder();
  const partition = encoder.encode(options.partition);
  let last = options.startFrom;
  return {
    async next() {
      last++;
      if (!options.u64) return { bytes: encoder.encode(String(last)), framed: false };
      const bytes = new Uint8Array(8 + partition.length);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(last));
      bytes.set(partition, 8);
      return { bytes, framed: false };
    },
  };
}

/** `lines`: each line without its newline, empty ones left out; a number: that many bytes; `variable`: u32 length, payload. */
export type FileLayout = "lines" | "variable" | number;

const CHUNK_BYTES = 64 << 10;
const MESSAGE_BYTES_MAX = 16 << 20;

/** The content of files, one after the other; `repeats`: over and over. */
export function fileMessages(files: readonly DiskFile[], layout: FileLayout, repeats: boolean): Messages {
  let index = 0;
  let offset = 0;
  let found = false;
  let bytes: Uint8Array = new Uint8Array(0);
  let at = 0;

  /** Reads on in the current file. `false`: it is at its end. */
  const readMore = async (): Promise<boolean> => {
    const chunk = await files[index]!.readAt(offset, CHUNK_BYTES);
    if (chunk.length === 0) return false;
    offset += chunk.length;
    const rest = new Uint8Array(bytes.length - at + chunk.length);
    rest.set(bytes.subarray(at));
    rest.set(chunk, bytes.length - at);
    if (rest.length > MESSAGE_BYTES_MAX + CHUNK_BYTES) {
      throw new ConfigError(
        "message_too_large",
        `A message in the file is longer than ${MESSAGE_BYTES_MAX} bytes: check its layout`,
      );
    }
    bytes = rest;
    at = 0;
    return true;
  };

  const take = (length: number, framed: boolean): Message => {
    const message = { bytes: bytes.slice(at, at + length), framed };
    at += length;
    found = true;
    return message;
  };

  const nextLine = async (): Promise<Message | null> => {
    for (let from = at; ; ) {
      const newline = bytes.indexOf(0x0a, from);
      if (newline > at) {
        const message = take(newline - at, false);
        at++;
        return message;
      }
      if (newline === at) {
        from = ++at;
        continue;
      }
      const unread = bytes.length - at;
      if (!(await readMore())) return unread === 0 ? null : take(unread, false);
      from = at + unread;
    }
  };

  const nextFrame = async (lengthOf: () => number | null): Promise<Message | null> => {
    for (;;) {
      const length = lengthOf();
      if (length !== null && bytes.length - at >= length) return take(length, true);
      if (await readMore()) continue;
      if (bytes.length > at) {
        throw new ConfigError(
          "file_layout",
          `The file ends inside of a message (${bytes.length - at} bytes too many): check --msg-size or --variable-size`,
        );
      }
      return null;
    }
  };

  const variableLength = (): number | null => {
    if (bytes.length - at < 4) return null;
    return 4 + new DataView(bytes.buffer, bytes.byteOffset + at).getUint32(0);
  };

  return {
    async next() {
      for (;;) {
        const message =
          layout === "lines"
            ? await nextLine()
            : await nextFrame(layout === "variable" ? variableLength : () => layout);
        if (message !== null) return message;
        bytes = new Uint8Array(0);
        at = 0;
        offset = 0;
        index++;
        if (index < files.length) continue;
        if (!repeats || !found) return null;
        index = 0;
      }
    },
  };
}
