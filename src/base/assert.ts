/** A broken promise inside Tammar itself. The process logs it, flushes and exits 70; recovery is made for that. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** Checks what must hold by our own reasoning. What comes from outside is validated instead, with an error of its own. */
export function assert(condition: boolean, message = "assertion failed"): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** The end of an exhaustive `switch`: the compiler lists what is missing. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${JSON.stringify(value)}`);
}
