import { assert } from "../../base/assert.ts";
import type { Epoch, WorkerName } from "../../base/ids.ts";
import type { Address } from "../../runtime/runtime.ts";
import { decodeBarrier, encodeBarrier } from "../../wire/link.ts";
import { type ChannelOptions, type HubStats, LinkHub, type LinkStatus } from "./link_hub.ts";

const NOTHING = new Uint8Array(0);

/** The data channel of one worker: a link to each other worker for what it sends, and one from each for what it gets. */
export class DataChannel {
  readonly #hub: LinkHub;
  readonly #options: ChannelOptions;

  constructor(options: ChannelOptions) {
    this.#options = options;
    const { owner } = options;
    this.#hub = new LinkHub("data", options, (link, kind, exchange, bytes) => {
      if (kind === "batch") owner.batch(link.peer, exchange, bytes);
      else if (kind === "barrier") owner.barrier(link.peer, exchange, decodeBarrier(bytes));
      else owner.endOfInput(link.peer, exchange);
    });
  }

  /** @throws {NetError} */
  listen(): Promise<Address> {
    return this.#hub.listen();
  }

  /** Keeps a link to `name`, for ever. A second call moves it to another address. */
  connectTo(name: WorkerName, address: Address): void {
    this.#hub.dial(name, address);
  }

  /**
   * `bytes` are valid during the call: a copy is kept until it is acknowledged. They are taken whether there is credit or not;
   * `hasCredit` is to be asked before more input is read.
   */
  sendBatch(to: WorkerName, exchange: number, bytes: Uint8Array): void {
    assert(bytes.length <= this.#options.limits.dataFrameBytes, "a batch fits a frame");
    this.#hub.linkTo(to).append("batch", exchange, bytes);
  }

  sendEnd(to: WorkerName, exchange: number): void {
    this.#hub.linkTo(to).append("end_of_input", exchange, NOTHING);
  }

  /** Behind everything that was sent on this exchange so far. */
  sendBarrier(to: WorkerName, exchange: number, epoch: Epoch): void {
    this.#hub.linkTo(to).append("barrier", exchange, encodeBarrier(epoch));
  }

  /** May sources that feed this exchange go on, as far as `to` is concerned? Changes are told: `creditChanged`. */
  hasCredit(to: WorkerName, exchange: number): boolean {
    return this.#hub.linkTo(to).hasCredit(exchange);
  }

  /** `byteCount` bytes of batches from `from` are processed; batches in the order in which they came. */
  release(from: WorkerName, exchange: number, byteCount: number): void {
    this.#hub.linkFrom(from).release(exchange, byteCount);
  }

  /** Is the link on which batches go to `name` connected? */
  connectedTo(name: WorkerName): boolean {
    return this.#hub.connected(this.#hub.linkTo(name));
  }

  /** What `to` has not acknowledged. */
  unacked(to: WorkerName): { readonly frames: number; readonly bytes: number } {
    const { unackedFrames, unackedBytes } = this.#hub.linkTo(to).sender;
    return { frames: unackedFrames, bytes: unackedBytes };
  }

  flush(): void {
    this.#hub.flush();
  }

  /** As `ControlChannel.close`. */
  close(goodbye: boolean, done: () => void = () => {}): void {
    this.#hub.close(goodbye ? "this worker ends" : null, done);
  }

  get stats(): HubStats {
    return this.#hub.stats;
  }

  status(): LinkStatus[] {
    return this.#hub.status();
  }
}
