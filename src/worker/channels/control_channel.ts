import { assert } from "../../base/assert.ts";
import type { WorkerName } from "../../base/ids.ts";
import type { Address } from "../../runtime/runtime.ts";
import type { ControlMessage } from "../../wire/control.ts";
import { decodeControlMessage, encodeControlMessage } from "../../wire/control_codec.ts";
import { type ChannelOptions, type HubStats, LinkHub, type LinkStatus } from "./link_hub.ts";

/**
 * The control channel of one worker: one link to each other worker, for messages both ways. Either end may dial; of two
 * connections one stays (`docs/protocol/links.md`, "Who dials"). Messages to a worker that is away are kept for it.
 */
export class ControlChannel {
  readonly #hub: LinkHub;
  readonly #options: ChannelOptions;

  constructor(options: ChannelOptions) {
    this.#options = options;
    const { owner } = options;
    // A message that does not decode ends the connection: the hub sees the ProtocolError.
    this.#hub = new LinkHub("control", options, (link, _kind, _exchange, bytes) =>
      owner.control(link.peer, decodeControlMessage(bytes)),
    );
  }

  /** @throws {NetError} */
  listen(): Promise<Address> {
    return this.#hub.listen();
  }

  /**
   * Keeps a link to `name` (`null`: to whoever answers there, such as the initializer at `--control`). Where the other end
   * is the designated dialler this dials until the link is there for the first time; otherwise for ever. A second call
   * moves what was dialled to another address.
   */
  dial(name: WorkerName | null, address: Address): void {
    this.#hub.dial(name, address);
  }

  /** If `name` is dialled from here, then at `address` from now on. */
  redirect(name: WorkerName, address: Address): void {
    this.#hub.redirect(name, address);
  }

  /** `false`: not taken, since too much waits for that worker already (`limits.linkUnackedBytes`). */
  send(to: WorkerName, message: ControlMessage): boolean {
    const bytes = encodeControlMessage(message);
    assert(bytes.length <= this.#options.limits.controlFrameBytes, "a control message fits a frame");
    const link = this.#hub.linkTo(to);
    if (link.sender.unackedBytes >= this.#options.limits.linkUnackedBytes) return false;
    link.append("control_message", 0, bytes);
    return true;
  }

  connectedTo(name: WorkerName): boolean {
    return this.#hub.connected(this.#hub.linkTo(name));
  }

  /** What `to` has not acknowledged. */
  unacked(to: WorkerName): { readonly frames: number; readonly bytes: number } {
    const { unackedFrames, unackedBytes } = this.#hub.linkTo(to).sender;
    return { frames: unackedFrames, bytes: unackedBytes };
  }

  /** Gives up what `to` has not acknowledged; from inside of `peerConnected` none of it is sent to the new process. */
  discardUnacked(to: WorkerName): void {
    this.#hub.linkTo(to).discard();
  }

  flush(): void {
    this.#hub.flush();
  }

  /**
   * With a goodbye: sends what is queued, says that this worker leaves, and closes; that takes a second at most. Without:
   * closes at once. `done` is called when no connection is left, perhaps at once.
   */
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
