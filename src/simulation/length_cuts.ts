/**
 * Watches what workers read of each other's frames, and counts how often a piece ends inside of a length field. It keeps two
 * numbers a direction: bytes of the length that are there, and bytes of the frame that are still to come.
 */
import type { ConnectionView } from "../runtime/virtual/network.ts";

const LENGTH_BYTES = 4;

interface Reading {
  lengthBytes: number;
  length: number;
  bodyLeft: number;
}

export class LengthCuts {
  readonly #readings = new Map<number, Reading>();

  /** Does this piece end inside of a length? */
  read(connection: ConnectionView, reader: "client" | "server", piece: Uint8Array): boolean {
    const id = connection.id * 2 + (reader === "client" ? 0 : 1);
    let reading = this.#readings.get(id);
    if (reading === undefined) {
      reading = { lengthBytes: 0, length: 0, bodyLeft: 0 };
      this.#readings.set(id, reading);
    }
    let at = 0;
    while (at < piece.length) {
      if (reading.bodyLeft > 0) {
        const part = Math.min(reading.bodyLeft, piece.length - at);
        reading.bodyLeft -= part;
        at += part;
        continue;
      }
      reading.length = reading.length * 256 + piece[at++]!;
      if (++reading.lengthBytes < LENGTH_BYTES) continue;
      reading.bodyLeft = reading.length;
      reading.length = 0;
      reading.lengthBytes = 0;
    }
    return reading.lengthBytes > 0;
  }
}
