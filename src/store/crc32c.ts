/**
 * CRC-32C (Castagnoli, as in iSCSI, RFC 3720 appendix B.4): the checksum of every file in the resilience folder.
 *
 * Eight bytes a step by eight tables (Kounavis, Berry: "A Systematic Approach to Building High Performance Software-based
 * CRC Generators", 2005): several times faster than byte by byte, and a restore reads everything.
 */

const POLYNOMIAL = 0x82f63b78;

/** Table k: what a byte contributes that has k more bytes behind it. */
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let i = 0; i < 256; i++) {
    let value = i;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
    tables[i] = value;
  }
  for (let i = 256; i < tables.length; i++) {
    const before = tables[i - 256]!;
    tables[i] = tables[before & 0xff]! ^ (before >>> 8);
  }
  return tables;
}

/** The checksum of `bytes`, or of what gave `previous` followed by `bytes`. From 0 to 2^32 - 1. */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  const tables = TABLES;
  const { length } = bytes;
  let value = ~previous;
  let i = 0;
  for (; i + 8 <= length; i += 8) {
    value ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    value =
      tables[0x700 | (value & 0xff)]! ^
      tables[0x600 | ((value >>> 8) & 0xff)]! ^
      tables[0x500 | ((value >>> 16) & 0xff)]! ^
      tables[0x400 | (value >>> 24)]! ^
      tables[0x300 | bytes[i + 4]!]! ^
      tables[0x200 | bytes[i + 5]!]! ^
      tables[0x100 | bytes[i + 6]!]! ^
      tables[bytes[i + 7]!]!;
  }
  for (; i < length; i++) value = tables[(value ^ bytes[i]!) & 0xff]! ^ (value >>> 8);
  return ~value >>> 0;
}
