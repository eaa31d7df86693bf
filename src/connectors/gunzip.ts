/**
 * Decompressing by the platform, in pieces. It runs outside of the virtual world's time, so a simulated run that reads
 * compressed files is not a function of its seed.
 */

/** Compressed bytes grow up to a thousandfold, and a platform may hand on all that comes of one piece at once. */
const PIECE_BYTES = 4 * 1024;

/** What is decompressed, a piece a call. */
export interface Unpacked {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
  cancel(): Promise<void>;
}

/**
 * The content of a gzip file as a stream of pieces.
 *
 * @param read The compressed bytes at an offset; none at the end of the file.
 */
export function gunzip(read: (offset: number, length: number) => Promise<Uint8Array>): Unpacked {
  let offset = 0;
  const compressed = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      async pull(controller) {
        const piece = await read(offset, PIECE_BYTES);
        offset += piece.length;
        if (piece.length === 0) controller.close();
        else controller.enqueue(new Uint8Array(piece));
      },
    },
    { highWaterMark: 0 },
  );
  return compressed.pipeThrough(new DecompressionStream("gzip")).getReader();
}
