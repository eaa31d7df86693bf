/**
 * The streams of connector sources in the cluster: brings what this worker's sources ask to the registries, which the
 * initializer has, and the answers back. On the initializer it is the driver of `StreamRegistry`, one for each source.
 *
 *   Z1. What was said in an earlier generation is dropped. The registries begin anew with each generation, before anybody
 *       who is part of it can speak: whoever enters it tells what it has restored, or goes back to (`SourceStreams.seek`).
 *   Z2. Without checkpoints there is one generation for ever. Then an initializer that was started again knows nothing, and
 *       whoever meets it tells what it has; a worker that was started again has nothing open, and says so when it opens.
 */
import { type Generation, INITIALIZER, type WorkerName } from "../base/ids.ts";
import { StreamRegistry } from "../protocol/connector/stream_registry.ts";
import type { ControlMessage, StreamMessage } from "../wire/control.ts";
import type { RegistryAnswer, RegistryRequest } from "../wire/stream_claims.ts";

export interface StreamsOptions {
  readonly name: WorkerName;
  readonly members: readonly WorkerName[];
  readonly generation: () => Generation;
  readonly send: (to: WorkerName, message: ControlMessage) => void;
  /** To this worker's source of that index. */
  readonly answered: (source: number, answer: RegistryAnswer) => void;
}

export class Streams {
  readonly #options: StreamsOptions;
  /** The initializer's, by source; all of one generation. */
  readonly #registries = new Map<number, StreamRegistry>();
  #generation: Generation = 0;
  /** Messages of another generation. */
  stragglers = 0;

  constructor(options: StreamsOptions) {
    this.#options = options;
  }

  /** A source of this worker asks. The answer may come before this returns. */
  toRegistry(source: number, request: RegistryRequest): void {
    const { name, send, generation } = this.#options;
    if (name === INITIALIZER) return this.#decide(name, source, request);
    send(INITIALIZER, { kind: "stream_request", generation: generation(), source, request });
  }

  received(from: WorkerName, message: StreamMessage): void {
    if (message.generation !== this.#options.generation()) {
      this.stragglers++;
      return;
    }
    if (message.kind === "stream_answer") this.#options.answered(message.source, message.answer);
    else if (this.#options.name === INITIALIZER) this.#decide(from, message.source, message.request);
  }

  #decide(from: WorkerName, source: number, request: RegistryRequest): void {
    const { name, members, send, answered } = this.#options;
    const generation = this.#options.generation();
    if (generation !== this.#generation) {
      this.#generation = generation;
      this.#registries.clear();
    }
    let registry = this.#registries.get(source);
    if (registry === undefined) {
      registry = new StreamRegistry(members);
      this.#registries.set(source, registry);
    }
    const tell = (to: WorkerName, answer: RegistryAnswer): void => {
      if (to === name) answered(source, answer);
      else send(to, { kind: "stream_answer", generation, source, answer });
    };
    const answer = registry.handle(from, request);
    const wanted = registry.takeWanted();
    if (answer !== null) tell(from, answer);
    for (const each of wanted) tell(each.worker, each.answer);
  }
}
