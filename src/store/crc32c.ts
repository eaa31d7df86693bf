/** CRC-32C (Castagnoli, as in iSCSI, RFC 3720 appendix B.4): the checksum of every file in the resilience folder. */

const POLYNOMIAL = 0x82f63b78;

const TABLE = makeTable();

function makeTable(): Uint32Array {
  const table = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    let value = i;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
    table[i] = value >>> 0;
  }
  return table;
}

/** The checksum of `bytes`, or of what gave `previous` followed by `bytes`. From 0 to 2^32 - 1. */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  let value = ~previous;
  for (let i = 0; i < bytes.length; i++) value = TABLE[(value ^ bytes[i]!) & 0xff]! ^ (value >>> 8);
  return ~value >>> 0;
}
