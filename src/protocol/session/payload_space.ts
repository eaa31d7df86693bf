/** Of one buffer; a longer payload gets one of its own. */
const BUFFER_BYTES_MAX = 64 * 1024;
/** The smallest; each next size is twice as large. */
const BUFFER_BYTES_MIN = 4 * 1024;
/** Of the buffers that wait to be used again, all together. */
const FREE_BYTES_MAX = 1024 * 1024;

/**
 * Memory for payloads that are kept until they are acknowledged. Buffers are used again: one that is made for each payload is
 * given back to the system by the collector, page by page, and every page of the next one is a fault.
 */
export class PayloadSpace {
  /** By size, the smallest first; what was freed last is taken first, as it may still be in a cache. */
  readonly #free: ArrayBuffer[][] = [];
  #freeBytes = 0;

  /** A copy of the bytes. */
  copy(bytes: Uint8Array): Uint8Array {
    const size = sizeFor(bytes.length);
    if (size > BUFFER_BYTES_MAX) return bytes.slice();
    const free = this.#free[indexOf(size)]?.pop();
    if (free !== undefined) this.#freeBytes -= size;
    const copy = new Uint8Array(free ?? new ArrayBuffer(size), 0, bytes.length);
    copy.set(bytes);
    return copy;
  }

  /** Nobody looks at this copy any more. */
  free(copy: Uint8Array): void {
    const buffer = copy.buffer as ArrayBuffer;
    const size = buffer.byteLength;
    if (size !== sizeFor(copy.length) || size > BUFFER_BYTES_MAX || this.#freeBytes + size > FREE_BYTES_MAX) return;
    const index = indexOf(size);
    while (this.#free.length <= index) this.#free.push([]);
    this.#free[index]!.push(buffer);
    this.#freeBytes += size;
  }
}

function sizeFor(length: number): number {
  let size = BUFFER_BYTES_MIN;
  while (size < length) size *= 2;
  return size;
}

function indexOf(size: number): number {
  return Math.log2(size / BUFFER_BYTES_MIN);
}
