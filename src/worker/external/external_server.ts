/**
 * The external channel's server: takes connections of tools, carries their requests out through the worker's
 * `ExternalHandler`, and answers. Whoever connects is a stranger: see `external_connection.ts` for what one connection can
 * cost, and below for how many there can be.
 */
import { showAddress } from "../../base/address.ts";
import { type Log, printable } from "../../base/log.ts";
import type { Address, Conn, Listener, Runtime } from "../../runtime/runtime.ts";
import {
  decodeExternalRequest,
  type ExternalAnswer,
  type ExternalRequest,
  encodeExternal,
  type LettersPiece,
  type ShrinkRequest,
  type ShutdownReport,
} from "../../wire/external.ts";
import type { FrameTooLarge } from "../../wire/frame.ts";
import { RESEND_BYTES_MAX, type ResendOutcome } from "../../wire/resend.ts";
import { Alarm } from "../channels/alarm.ts";
import { BoundedLog } from "../channels/bounded_log.ts";
import type { Limits } from "../config.ts";
import { type Answer, type ConnectionOwner, ExternalConnection } from "./external_connection.ts";
import type { ClusterEntityCounts, ExternalHandler, StepLists, StopEvent } from "./handler.ts";

export interface ExternalServerOptions {
  readonly runtime: Runtime;
  readonly limits: Pick<Limits, "externalConnections" | "externalFrameBytes">;
  readonly log: Log;
  readonly handler: ExternalHandler;
}

/** Connections without a complete request from one address that is not this machine's own. */
const STRANGERS_PER_ADDRESS_MAX = 8;
/** Of all batches of dead letters that are not whole yet. */
const DRAFT_BYTES_MAX = 4 * RESEND_BYTES_MAX;
/** How long `close` waits for answers to be taken. */
const CLOSE_MS = 1_000;

interface Draft {
  readonly total: number;
  readonly pieces: Uint8Array[];
  through: number;
}

export interface ExternalCounts {
  readonly connections: number;
  readonly requests: number;
  /** Frames that mean nothing here. */
  readonly faults: number;
  /** Connections closed for garbage, silence, or being too many. */
  readonly closed: number;
}

export class ExternalServer {
  readonly #options: ExternalServerOptions;
  readonly #handler: ExternalHandler;
  readonly #log: BoundedLog;
  readonly #alarm: Alarm;
  /** In the order they came. */
  readonly #connections = new Set<ExternalConnection>();
  /** Batches of dead letters that are not whole yet. */
  readonly #drafts = new Map<ExternalConnection, Draft>();
  #listener: Listener | null = null;
  #closing = false;
  #allSaid: () => void = () => {};
  #counts = { connections: 0, requests: 0, faults: 0, closed: 0 };

  constructor(options: ExternalServerOptions) {
    this.#options = options;
    this.#handler = options.handler;
    this.#log = new BoundedLog(options.log, options.runtime.clock);
    this.#alarm = new Alarm(options.runtime.clock, (now) => {
      for (const connection of [...this.#connections]) connection.check(now);
    });
  }

  get counts(): ExternalCounts {
    return this.#counts;
  }

  /** @returns What is really bound. @throws {NetError} as `Net.listen`. */
  async listen(address: Address): Promise<Address> {
    this.#listener = await this.#options.runtime.net.listen({
      ...address,
      accept: (conn) => this.#accept(conn),
      failed: (error) =>
        this.#log.warn("external_accept_failed", `external: cannot accept a connection: ${error.message}`),
    });
    return this.#listener.address;
  }

  /**
   * Takes nothing new; resolves when all answers have been taken, after a second at the latest. Clients may still be about
   * to close their side then; the process may leave nevertheless.
   */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    this.#listener?.close();
    for (const connection of [...this.#connections]) connection.finish();
    if (!this.#hasSaidAll()) {
      await new Promise<void>((resolve) => {
        const cancel = this.#options.runtime.clock.startTimer(CLOSE_MS, resolve);
        this.#allSaid = () => {
          cancel();
          resolve();
        };
      });
    }
    for (const connection of [...this.#connections]) if (!connection.hasSaidAll) connection.abort();
    if (this.#connections.size === 0) this.#alarm.stop();
  }

  #hasSaidAll(): boolean {
    return [...this.#connections].every((connection) => connection.hasSaidAll);
  }

  #accept(conn: Conn): void {
    if (this.#closing) return conn.abort();
    this.#makeRoom(conn.peer.host);
    if (this.#connections.size >= this.#options.limits.externalConnections) {
      this.#refuse(conn.peer, `${this.#connections.size} connections are open, which is the most`);
      return conn.abort();
    }
    const connection = new ExternalConnection(
      conn,
      this.#options.runtime,
      this.#options.limits.externalFrameBytes,
      this.#connectionOwner,
    );
    this.#counts.connections++;
    this.#connections.add(connection);
    void connection.run();
  }

  /**
   * The oldest that has not said anything yet goes: first of the same foreign address, then of all; and if all have, the oldest
   * that waits for nothing.
   */
  #makeRoom(host: string): void {
    const all = [...this.#connections];
    const strangers = all.filter((connection) => connection.stranger);
    const neighbours = isLoopback(host) ? [] : strangers.filter((connection) => connection.conn.peer.host === host);
    let oldest: ExternalConnection | undefined;
    if (neighbours.length >= STRANGERS_PER_ADDRESS_MAX) oldest = neighbours[0];
    else if (all.length >= this.#options.limits.externalConnections) {
      oldest = strangers[0] ?? all.find((connection) => connection.idle);
    }
    if (oldest === undefined) return;
    const why = oldest.stranger ? "it has sent nothing yet" : "it waits for no answer";
    this.#refuse(oldest.conn.peer, `${why}, and others want its place`);
    oldest.abort();
  }

  #refuse(peer: Address, why: string): void {
    this.#counts.closed++;
    this.#log.warn("external_closed", `external: closed the connection of ${showAddress(peer)}: ${why}`);
  }

  readonly #connectionOwner: ConnectionOwner = {
    frame: (connection, payload, answer) => this.#frame(connection, payload, answer),
    tooLarge: (connection, failure) => this.#refuse(connection.conn.peer, tooLargeText(failure)),
    givenUp: (connection, why) => this.#refuse(connection.conn.peer, why),
    deadline: (at) => this.#alarm.at(at),
    saidAll: () => {
      if (this.#closing && this.#hasSaidAll()) this.#allSaid();
    },
    gone: (connection) => {
      this.#connections.delete(connection);
      this.#drafts.delete(connection);
      if (!this.#closing) return;
      if (this.#hasSaidAll()) this.#allSaid();
      if (this.#connections.size === 0) this.#alarm.stop();
    },
  };

  #frame(connection: ExternalConnection, payload: Uint8Array, answer: Answer): void {
    const request = decodeExternalRequest(payload);
    if (request.kind === "fault") {
      this.#counts.faults++;
      const peer = showAddress(connection.conn.peer);
      this.#log.warn(
        "external_fault",
        `external: a message from ${peer} is not answered: ${printable(request.sentence)}`,
      );
      answer.done();
      return;
    }
    this.#counts.requests++;
    if (request.kind === "letters_resend") this.#letters(connection, request, answer);
    else this.#carryOut(request, answer);
  }

  /** Pieces of a batch come in order; the last one is answered. What all connections may have us hold is bounded. */
  #letters(connection: ExternalConnection, { total, at, piece }: LettersPiece, answer: Answer): void {
    const isLast = at + piece.length === total;
    if (at === 0) {
      this.#drafts.delete(connection);
      let held = total;
      for (const draft of this.#drafts.values()) held += draft.total;
      if (held <= DRAFT_BYTES_MAX) this.#drafts.set(connection, { total, pieces: [], through: 0 });
    }
    const draft = this.#drafts.get(connection);
    const isInOrder = draft !== undefined && draft.through === at && draft.total === total;
    if (isInOrder) {
      draft.pieces.push(piece.slice());
      draft.through += piece.length;
    } else this.#drafts.delete(connection);
    if (!isLast) return answer.done();
    this.#drafts.delete(connection);
    const say = (body: ResendOutcome) => {
      answer.send(encodeExternal({ kind: "letters_response", body }));
      answer.done();
    };
    if (isInOrder) return this.#handler.resend(joined(draft.pieces, total), say);
    const why = "a piece is missing, or others send as much as can be held: send them again in a moment";
    say({ taken: [], left: [{ letters: [], why }], unsure: [], epoch: 0 });
  }

  #carryOut(request: Exclude<ExternalRequest, LettersPiece>, answer: Answer): void {
    const handler = this.#handler;
    const say = (message: ExternalAnswer) => {
      answer.send(encodeExternal(message));
      answer.done();
    };
    switch (request.kind) {
      case "print":
        handler.print(request.text);
        return answer.done();
      case "report_status":
        handler.reportStatus(request.text);
        return answer.done();
      case "rotate_log":
        handler.rotateLog(request.text);
        return answer.done();
      case "clean_shutdown":
        handler.stop(request.text, false, () => {});
        return answer.done();
      case "shutdown_and_report":
      case "suspend_and_report":
        return handler.stop(request.text, request.kind === "suspend_and_report", (event) => {
          for (const body of shutdownReports(event)) answer.send(encodeExternal({ kind: "shutdown_report", body }));
          if (event.kind === "finished") answer.done();
        });
      case "shrink_request":
        return say(this.#shrink(request));
      case "cluster_status_query": {
        const status = handler.clusterStatus();
        if (!status.ready) return say({ kind: "cluster_status_query_response_not_initialized" });
        const { worker_count, worker_names, processing_messages } = status;
        return say({
          kind: "cluster_status_query_response",
          body: { worker_count, worker_names, processing_messages },
        });
      }
      case "partition_query": {
        const { state, stateless } = handler.partitions();
        const body = { state_partitions: lists(state), stateless_partitions: lists(stateless) };
        return say({ kind: "partition_query_response", body });
      }
      case "partition_count_query": {
        const { state, stateless } = handler.partitions();
        const body = { state_partitions: counts(state), stateless_partitions: counts(stateless) };
        return say({ kind: "partition_count_query_response", body });
      }
      case "stateless_partition_query":
        return say({ kind: "stateless_partition_query_response", body: lists(handler.partitions().stateless) });
      case "stateless_partition_count_query":
        return say({ kind: "stateless_partition_count_query_response", body: counts(handler.partitions().stateless) });
      case "source_ids_query":
        return say({ kind: "source_ids_query_response", body: { source_ids: handler.sourceIds() } });
      case "state_entity_query":
        return say({ kind: "state_entity_query_response", body: Object.fromEntries(handler.stateEntities()) });
      case "state_entity_count_query":
        return say({
          kind: "state_entity_count_query_response",
          body: Object.fromEntries(handler.stateEntityCounts()),
        });
      case "cluster_state_entity_count_query": {
        const sayCounts = (of: ClusterEntityCounts) =>
          say({ kind: "cluster_state_entity_count_query_response", body: clusterCounts(of) });
        answer.within(() => sayCounts(new Map()));
        return handler.clusterStateEntityCounts(sayCounts);
      }
      case "status_query":
        answer.within(() => say({ kind: "status_query_response", body: { worker: handler.worker, answered: false } }));
        return handler.richStatus((body) => say({ kind: "status_query_response", body }));
      case "checkpoint_request":
        return handler.checkpoint((epoch, reason) => say({ kind: "checkpoint_response", body: { epoch, reason } }));
    }
  }

  #shrink(request: ShrinkRequest): ExternalAnswer {
    const status = this.#handler.clusterStatus();
    const refuse = (text: string): ExternalAnswer => ({ kind: "shrink_error_response", text });
    if (!request.query) {
      const text = "Cannot shrink the cluster: removing workers comes with a later release";
      this.#log.warn("shrink_refused", `external: ${text}`);
      return refuse(text);
    }
    if (!status.ready) return refuse("Cannot say who could leave: the cluster is not ready to work yet");
    const names = status.worker_names.slice(1);
    return { kind: "shrink_query_response", body: { node_names: names, node_count: names.length } };
  }
}

// `Object.fromEntries` defines fields, so that even a worker called `__proto__` becomes one.

function lists(of: StepLists): Record<string, Record<string, readonly string[]>> {
  return Object.fromEntries([...of].map(([group, workers]) => [group, Object.fromEntries(workers)]));
}

function counts(of: StepLists): Record<string, Record<string, number>> {
  return Object.fromEntries(
    [...of].map(([group, workers]) => [
      group,
      Object.fromEntries([...workers].map(([worker, steps]) => [worker, steps.length])),
    ]),
  );
}

function clusterCounts(of: ClusterEntityCounts): Record<string, Record<string, Record<string, number>>> {
  return Object.fromEntries(
    [...of].map(([worker, groups]) => [
      worker,
      Object.fromEntries([...groups].map(([group, steps]) => [group, Object.fromEntries(steps)])),
    ]),
  );
}

function shutdownReports(event: StopEvent): readonly ShutdownReport[] {
  switch (event.kind) {
    case "stopping":
      return event.workers.map((worker) => ({ worker, status: "draining", detail: event.reason }));
    case "stopped":
      return [{ worker: event.worker, status: event.complete ? "stopped" : "incomplete", detail: event.leftBehind }];
    case "finished":
      return [{ done: true, ok: event.complete }];
  }
}

function joined(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function tooLargeText(failure: FrameTooLarge): string {
  return `it announced a message of ${failure.length} bytes, and ${failure.lengthMax} is the most; is it another protocol?`;
}

function isLoopback(host: string): boolean {
  return host === "::1" || host.startsWith("127.") || host.startsWith("::ffff:127.");
}
