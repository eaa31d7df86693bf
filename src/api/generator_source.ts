/** What a generator may know when it starts. */
export interface GeneratorContext {
  /** Name of the worker it runs on; the first one of a cluster is `initializer`. */
  readonly worker: string;
  /** How many workers the cluster has. Each runs its own copy of the generator. */
  readonly workers: number;
}

/** A state that begins as `0` is a `number`: the compiler keeps literals where `initial` gives one of several. */
export type StateOf<S> = S extends number ? number : S extends bigint ? bigint : S;

export interface GeneratorSettings<S, T> {
  /** The first state; `undefined`: nothing at all on this worker. */
  readonly initial: (context: GeneratorContext) => S | undefined;
  /** The state after this one; `undefined` ends the source. May change and return the same object if there is an `emit`. */
  readonly next: (state: StateOf<S>) => StateOf<S> | undefined;
  /** The record of a state, a value of its own; `undefined`: none. Without it the states are the records. */
  readonly emit?: (state: StateOf<S>) => T | undefined;
  /** Records a second and worker. 0 or left out: as fast as they are taken. */
  readonly rate?: number;
}

/** A source that makes its records itself. Made by `generatorSource`. */
export interface GeneratorSource<T> {
  readonly kind: "generator";
  readonly initial: (context: GeneratorContext) => unknown;
  readonly next: (state: unknown) => unknown;
  readonly emit: ((state: unknown) => T | undefined) | undefined;
  /** Records a second; 0: unpaced. */
  readonly rate: number;
}

/**
 * Records out of nothing but the previous state: `emit(initial)`, `emit(next(initial))`, ... It is not a `function*`, since
 * a state can be saved and a suspended function can't.
 *
 * ```ts
 * source("numbers", generatorSource({ initial: () => 1, next: (n) => n + 1, rate: 1000 }))
 * ```
 */
export function generatorSource<S, T = StateOf<S>>(settings: GeneratorSettings<S, T>): GeneratorSource<T> {
  return {
    kind: "generator",
    initial: settings.initial,
    next: settings.next as (state: unknown) => unknown,
    emit: settings.emit as ((state: unknown) => T | undefined) | undefined,
    rate: settings.rate ?? 0,
  };
}
