// Credit: how many bytes of one exchange a receiver lets one sender send ahead of what it has processed.
//
// Both ends count the bytes of batches of an exchange since the younger of the two processes began. The receiver allows
// `released + window`, the sender compares that with what it has sent. Limits are absolute, so that saying one twice, or
// saying it late, changes nothing.
//
//   K1. Both ends begin with a limit of `window`, without a word being said.
//   K2. A limit never shrinks between the same two processes.
//   K3. A sender that has used up its credit is told a higher limit before everything it sent is released: there is no
//       state in which both wait.
//   K4. Credit is advice to the sender's sources. A batch that exists is sent, credit or not; so nothing is lost, and a
//       window is overrun by at most what one turn produces.

import { assert } from "../../base/assert.ts";

/** A new limit is worth a frame when it is higher by this part of the window. */
const GRANT_FRACTION = 4;

/** The receiver's side, for one sender. */
export class CreditGranter {
  readonly #windowBytes: number;
  readonly #exchanges = new Map<number, Granted>();

  constructor(windowBytes: number) {
    this.#windowBytes = windowBytes;
  }

  received(exchange: number, byteCount: number): void {
    this.#of(exchange).received += byteCount;
  }

  /**
   * `byteCount` bytes of that exchange were processed. Bytes are released in the order in which they were received.
   *
   * @returns whether a new limit is due.
   */
  release(exchange: number, byteCount: number): boolean {
    const granted = this.#of(exchange);
    // What came from the sender's predecessor is not in the successor's account.
    const foreign = Math.min(granted.foreign, byteCount);
    granted.foreign -= foreign;
    granted.released += byteCount - foreign;
    assert(granted.released <= granted.received, "no more is released than was received");
    return this.#isDue(granted);
  }

  /** Bytes received and not yet released, of all exchanges. */
  get heldBytes(): number {
    let held = 0;
    for (const { received, released, foreign } of this.#exchanges.values()) held += received - released + foreign;
    return held;
  }

  /** Calls `tell` for every limit that is due, until it returns false (no room); what it took counts as told. */
  tellDue(tell: (exchange: number, limit: number) => boolean): void {
    for (const [exchange, granted] of this.#exchanges) {
      if (!this.#isDue(granted)) continue;
      const limit = granted.released + this.#windowBytes;
      if (!tell(exchange, limit)) return;
      granted.told = limit;
    }
  }

  get anyDue(): boolean {
    for (const granted of this.#exchanges.values()) if (this.#isDue(granted)) return true;
    return false;
  }

  /** A new connection of the same two processes: limits may have been lost with the old one, all are said again. */
  reconnected(): void {
    for (const granted of this.#exchanges.values()) granted.told = this.#windowBytes;
  }

  /** The sender is another process. What its predecessor sent and was not released yet stays outside of the account. */
  restart(): void {
    for (const granted of this.#exchanges.values()) {
      granted.foreign += granted.received - granted.released;
      granted.received = 0;
      granted.released = 0;
      granted.told = this.#windowBytes;
    }
  }

  #isDue(granted: Granted): boolean {
    return granted.released + this.#windowBytes - granted.told >= this.#windowBytes / GRANT_FRACTION;
  }

  #of(exchange: number): Granted {
    let granted = this.#exchanges.get(exchange);
    if (granted === undefined) {
      granted = { received: 0, released: 0, foreign: 0, told: this.#windowBytes };
      this.#exchanges.set(exchange, granted);
    }
    return granted;
  }
}

interface Granted {
  received: number;
  released: number;
  /** Received from the sender's predecessor and not yet released. */
  foreign: number;
  /** The limit the sender knows. */
  told: number;
}

/** The sender's side, for one receiver. */
export class CreditSpender {
  readonly #windowBytes: number;
  readonly #exchanges = new Map<number, Spent>();

  constructor(windowBytes: number) {
    this.#windowBytes = windowBytes;
  }

  /** Exchanges that have sent something. */
  exchanges(): IterableIterator<number> {
    return this.#exchanges.keys();
  }

  spend(exchange: number, byteCount: number): void {
    this.#of(exchange).sent += byteCount;
  }

  has(exchange: number): boolean {
    const spent = this.#exchanges.get(exchange);
    return spent === undefined || spent.sent < spent.limit;
  }

  grant(exchange: number, limit: number): void {
    const spent = this.#of(exchange);
    spent.limit = Math.max(spent.limit, limit);
  }

  /** The receiver is another process, which knows nothing: call `spend` again for everything it will be sent. */
  restart(): void {
    for (const spent of this.#exchanges.values()) {
      spent.sent = 0;
      spent.limit = this.#windowBytes;
    }
  }

  #of(exchange: number): Spent {
    let spent = this.#exchanges.get(exchange);
    if (spent === undefined) {
      spent = { sent: 0, limit: this.#windowBytes };
      this.#exchanges.set(exchange, spent);
    }
    return spent;
  }
}

interface Spent {
  sent: number;
  limit: number;
}
