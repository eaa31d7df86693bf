/**
 * While a run is on, whatever could decide something behind the seed's back throws: real time, real chance, real timers,
 * the network, the collector of garbage. The world has taken what it needs itself when it was loaded.
 */

type Restore = () => void;

const FUNCTIONS = ["setTimeout", "setInterval", "setImmediate", "queueMicrotask", "fetch"] as const;
const CLASSES = ["WeakRef", "FinalizationRegistry"] as const;

/** @returns A function that puts everything back. */
export function guardGlobals(): Restore {
  const restores: Restore[] = [];
  const replace = (target: object, name: string, value: unknown): void => {
    const before = Object.getOwnPropertyDescriptor(target, name);
    if (before !== undefined && before.configurable !== true && before.writable !== true) return;
    Object.defineProperty(target, name, {
      value,
      configurable: true,
      writable: true,
      enumerable: before?.enumerable ?? true,
    });
    restores.push(() => {
      if (before === undefined) delete (target as Record<string, unknown>)[name];
      else Object.defineProperty(target, name, before);
    });
  };
  // Not an arrow function: classes are called with `new`.
  const refuse = (what: string) =>
    function refused(): never {
      throw new Error(`${what} was used in a simulated run: take it from the Runtime that was given`);
    };
  const scope = globalThis as unknown as Record<string, object>;
  for (const name of FUNCTIONS) replace(scope, name, refuse(name));
  for (const name of CLASSES) replace(scope, name, refuse(name));
  replace(Math, "random", refuse("Math.random"));
  replace(scope["performance"]!, "now", refuse("performance.now"));
  for (const name of ["getRandomValues", "randomUUID"]) replace(scope["crypto"]!, name, refuse(`crypto.${name}`));
  const process = scope["process"];
  if (process !== undefined && "hrtime" in process) replace(process, "hrtime", refuse("process.hrtime"));
  replace(scope, "Date", guardedDate());
  return () => {
    for (const restore of restores.reverse()) restore();
  };
}

/** Dates of a given time are fine; the present is not. */
function guardedDate(): DateConstructor {
  return new Proxy(Date, {
    construct(target, args: unknown[], newTarget) {
      if (args.length === 0) throw new Error("new Date() was used in a simulated run: take the time from the Runtime");
      return Reflect.construct(target, args, newTarget) as object;
    },
    apply() {
      throw new Error("Date() was used in a simulated run: take the time from the Runtime");
    },
    get(target, name, receiver) {
      if (name === "now") {
        return () => {
          throw new Error("Date.now() was used in a simulated run: take the time from the Runtime");
        };
      }
      return Reflect.get(target, name, receiver) as unknown;
    },
  });
}
