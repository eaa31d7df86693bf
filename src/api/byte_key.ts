/** Keys that are bytes. Inside, every key is a text: one of bytes has a UTF-16 unit from 0 to 255 for each. */

/** Units that one call of `fromCharCode` is given. */
const CHUNK = 1024;

export function textOfByteKey(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += CHUNK) {
    text += String.fromCharCode.apply(null, bytes.subarray(at, at + CHUNK) as unknown as number[]);
  }
  return text;
}

/**
 * The bytes of a key that `keyBy` was given as bytes, from `context.key` or what `initial` is given.
 *
 * @throws {RangeError} It is the key of a text: a unit of it is above 255.
 */
export function keyBytes(key: string): Uint8Array {
  const bytes = new Uint8Array(key.length);
  for (let i = 0; i < key.length; i++) {
    const unit = key.charCodeAt(i);
    if (unit > 255) throw new RangeError(`The key is a text, not bytes: its unit ${i} is ${unit}, above 255`);
    bytes[i] = unit;
  }
  return bytes;
}
