/** What the channels ask of the worker that owns them, and what they tell it. */
import type { Epoch, Generation, WorkerName } from "../../base/ids.ts";
import type { Address } from "../../runtime/runtime.ts";
import type { ControlMessage } from "../../wire/control.ts";
import type { Hello, Welcome } from "../../wire/hello.ts";

/** What this worker says of itself in its first frames. */
export interface LocalIdentity {
  /** 32 lower-case hex digits, or `UNKNOWN_ID`. */
  readonly clusterId: string;
  readonly buildId: string;
  readonly fingerprint: string;
  readonly application: string;
  readonly worker: WorkerName;
  /** 0: none yet. */
  readonly generation: Generation;
  readonly incarnation: string;
  /** Higher than that of every earlier process of this worker. */
  readonly startNumber: number;
  readonly checkpoints: boolean;
  /** Where others can reach this worker. An empty host: at the address they see it come from. */
  readonly control: Address;
  readonly data: Address;
  /** 0: not told. */
  readonly workerCount: number;
}

/** `data_out` is the link on which this worker sends, `data_in` the one on which it receives. */
export type LinkKind = "control" | "data_out" | "data_in";

export interface ConnectedInfo {
  readonly hello: Hello | Welcome;
  /** This channel had not met this process of the peer before; at the first contact too. */
  readonly newIncarnation: boolean;
  /** The peer's end of the connection. */
  readonly observed: Address;
  /** Our end of it: an address at which that peer reaches us. */
  readonly local: Address;
}

export type Admission =
  | { readonly kind: "welcome" }
  /** `code` is short printable ASCII; `sentence` is for people at both ends. */
  | { readonly kind: "refuse"; readonly code: string; readonly sentence: string };

/** What is known of the peer when it asks to be let in. */
export interface AdmissionFacts {
  readonly channel: "control" | "data";
  /** The peer's end of the connection. */
  readonly from: Address;
  /** `first`: this name was never here; `newer`: a later process of it. An older one is refused unasked. */
  readonly standing: "first" | "same" | "newer";
  /** A connection of that name is open on this channel at this moment. */
  readonly connected: boolean;
}

/**
 * Implemented by the worker. Everything is called inside of `turn`, from the channels alone; a call may use the channels
 * freely.
 */
export interface LinkOwner {
  /** May change: cluster id and generation are learned. Asked for each handshake, and its generation for each payload. */
  identity(): LocalIdentity;
  /** May this one in? Program, cluster and name have been compared already. */
  admit(hello: Hello, facts: AdmissionFacts): Admission;
  /** A connection is open. The link's payloads that the peer does not have follow on it. */
  peerConnected(peer: WorkerName, link: LinkKind, info: ConnectedInfo): void;
  /** The connection is gone; whoever dials makes it anew. */
  peerLost(peer: WorkerName, link: LinkKind, why: string): void;
  /** Another process speaks for that name from now on; `peerConnected` follows, and before it `peerLost` if need be. */
  peerSuperseded(peer: WorkerName, link: LinkKind): void;
  /** It said goodbye, which is the last thing it says; `peerLost` follows. */
  peerLeft(peer: WorkerName, link: LinkKind, reason: string): void;
  /** `by` "us": we turned that peer away (`null`: it said no name). By "them": the peer turned us away. */
  refused(peer: WorkerName | null, by: "us" | "them", code: string, sentence: string): void;
  control(from: WorkerName, message: ControlMessage): void;
  /**
   * In order, exactly once between two living processes. `bytes` are valid during the call: to keep them is to copy them. Each
   * is to be released, when it is processed, with `DataChannel.release`.
   */
  batch(from: WorkerName, exchange: number, bytes: Uint8Array): void;
  endOfInput(from: WorkerName, exchange: number): void;
  /** In order with the batches of its exchange. */
  barrier(from: WorkerName, exchange: number, epoch: Epoch): void;
  /** `hasCredit` of this exchange answers differently than before. */
  creditChanged(peer: WorkerName, exchange: number): void;
  /** Every completion goes through here: calls `run`, then flushes all channels once. Never called inside of itself. */
  turn(run: () => void): void;
}
