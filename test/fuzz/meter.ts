/**
 * Adds up what code asks of memory by a number: typed arrays, buffers and arrays of a length. That is where a length that a
 * stranger announced would show; what is made of bytes that came is not counted. (Resident memory would not show it: pages
 * that nobody writes to are not there.)
 */
const COUNTED = [
  "ArrayBuffer",
  "Uint8Array",
  "Int8Array",
  "Uint8ClampedArray",
  "Uint16Array",
  "Int16Array",
  "Uint32Array",
  "Int32Array",
  "Float32Array",
  "Float64Array",
  "BigInt64Array",
  "BigUint64Array",
  "Array",
] as const;

const POINTER_BYTES = 8;

/** Runs it and reports how many bytes were asked for in all, and at once. What `judge` throws wins over what `run` throws. */
export function metered<T>(run: () => T | Promise<T>, judge: (asked: number, largest: number) => void): T | Promise<T> {
  const globals = globalThis as unknown as Record<string, new (...args: never[]) => object>;
  const originals = COUNTED.map((name) => globals[name]!);
  let asked = 0;
  let largest = 0;
  COUNTED.forEach((name, i) => {
    const original = originals[i]!;
    const elementBytes = (original as { BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT;
    const unit = elementBytes ?? (name === "Array" ? POINTER_BYTES : 1);
    globals[name] = new Proxy(original, {
      construct(target, args: unknown[], newTarget) {
        const [length] = args;
        if (typeof length === "number" && args.length === 1) {
          asked += length * unit;
          largest = Math.max(largest, length * unit);
          // Not to be had anyway, and the machine is to survive the test.
          if (length * unit > 2 ** 30) throw new RangeError(`${length * unit} bytes asked for at once`);
        }
        return Reflect.construct(target, args, newTarget) as object;
      },
    });
  });
  const end = (): void => {
    COUNTED.forEach((name, i) => {
      globals[name] = originals[i]!;
    });
  };
  const failed = (error: unknown): never => {
    end();
    // Refused, but perhaps only after the memory was asked for.
    judge(asked, largest);
    throw error;
  };
  let running: T | Promise<T>;
  try {
    running = run();
  } catch (error) {
    return failed(error);
  }
  if (running instanceof Promise) {
    return running.then((result) => {
      end();
      judge(asked, largest);
      return result;
    }, failed);
  }
  end();
  judge(asked, largest);
  return running;
}
