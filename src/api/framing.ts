/** How a byte stream is cut into records: a header with the payload's length, then the payload. */
export interface Framing {
  /** Bytes of the header, 1 to 8. */
  readonly headerBytes: number;
  /** Byte order of the header. */
  readonly littleEndian: boolean;
}

interface Framed {
  /** A header of any size: `framed({ bytes: 3, littleEndian: true })`. */
  (header: { readonly bytes: number; readonly littleEndian?: boolean }): Framing;
  /** One byte: payloads of up to 255 bytes. */
  readonly u8: Framing;
  /** Two bytes, big-endian: payloads of up to 65,535 bytes. */
  readonly u16: Framing;
  /** Four bytes, big-endian: the usual one. */
  readonly u32: Framing;
  /** Eight bytes, big-endian. */
  readonly u64: Framing;
}

/**
 * Frames with a length header: `framed.u32`, or `framed({ bytes, littleEndian })`. The length counts the payload alone.
 * A header outside of 1 to 8 bytes is refused when the source is declared.
 */
export const framed: Framed = Object.assign(
  (header: { readonly bytes: number; readonly littleEndian?: boolean }): Framing => ({
    headerBytes: header.bytes,
    littleEndian: header.littleEndian ?? false,
  }),
  {
    u8: { headerBytes: 1, littleEndian: false },
    u16: { headerBytes: 2, littleEndian: false },
    u32: { headerBytes: 4, littleEndian: false },
    u64: { headerBytes: 8, littleEndian: false },
  },
);

/** A record is a line. */
export interface LineFraming {
  readonly kind: "lines";
}

/**
 * A record is what lies before a line feed, for files; a carriage return in front of it is left out as well. An empty line is
 * a record too.
 */
export const lines: LineFraming = { kind: "lines" };
