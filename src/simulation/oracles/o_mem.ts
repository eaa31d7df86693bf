/**
 * O-MEM: what waits in a worker, and what it holds of its system, stays below what the configuration allows, at every sample;
 * and when nothing moves any more, both are back where they began. The caps are those of the configuration's limits, not what
 * the code under test makes of them.
 *
 * A cap is where more input stops being taken, so what is taken in at that moment still comes on top: one read of a source, or
 * one batch, in the form that it has where it waits.
 */
import { NETWORK_DEFAULTS } from "../../runtime/virtual/network.ts";
import { DEFAULT_LIMITS, DEFAULT_TIMING } from "../../worker/config.ts";
import type { Observation, Sample } from "../observation.ts";
import type { Fault, Scenario } from "../scenario.ts";
import { SUITE } from "../suite.ts";
import { type Oracle, REPORTED_MAX, type Violation } from "./oracle.ts";

export const oMem: Oracle = { id: "O-MEM", check, during };

/** What one read may bring: the kernels of the virtual network give no larger pieces. */
const READ_BYTES_MAX = 64 * 1024;
/** So much larger is a short record in a batch of its own, or as a line of four numbers, than as it came in. */
const GROWTH = 12;
/** Credit counts batches; what is not acknowledged counts their frames too, which are a third more for a batch of one record. */
const FRAMED = 1.5;
/** Of a worker with neither peers, nor sources, nor a sink: the lock of its folder, listeners for peers and for tools. */
const ALONE = 4;
/** One that is being given up, and one in its place; that many for each link while it is made anew. */
const LINKS = 3;
/** How long a stranger stays on a source that leaves it alone, and how many a flood of them is. */
const STRANGER_MS = 61_000;
const FLOOD = 80;

/** A handshake that the other end has left, or never hears of, is over by then. */
const HANDSHAKE_MS = DEFAULT_TIMING.handshakeMs + 3_000;

/** Output that is kept for a sink that commits in two phases. */
const KEPT_BYTES_MAX = 64 << 20;

/** One is always on its way, and the next ones when it is not acknowledged yet. */
const BARRIER_BYTES = 6 * 36;

interface Caps {
  readonly unackedBytes: number;
  readonly heldBytes: number;
  readonly queuedBytes: number;
  readonly descriptors: number;
  readonly descriptorsAtRest: number;
}

function capsOf(scenario: Scenario): Caps {
  const limits = { ...DEFAULT_LIMITS, ...scenario.limits };
  const suite = SUITE[scenario.application];
  const exchanges = EXCHANGES[scenario.application];
  const { receiveBufferBytes } = { ...NETWORK_DEFAULTS, ...scenario.network };
  const listeners = suite.programs === true ? 1 : suite.sources.length;
  const onTop = GROWTH * Math.min(READ_BYTES_MAX, listeners > 0 ? receiveBufferBytes : READ_BYTES_MAX);
  const credit = exchanges * limits.exchangeCreditBytes;
  // A file sink has a lock in the place of the connection.
  const descriptorsAtRest = ALONE + listeners + 1 + LINKS * (scenario.workers - 1);
  const floods = scenario.faults.filter((fault) => fault.do === "stranger" && fault.what === "flood").length;
  const strangers = 2 * limits.strangers + limits.externalConnections + listeners * limits.sourceConnections;
  return {
    // What a record becomes behind one exchange goes on to the next in the same call, to the same peer as well.
    unackedBytes: Math.min(limits.linkUnackedBytes, credit * FRAMED) + exchanges * onTop,
    heldBytes: credit + onTop,
    // On a new connection all that is not committed waits again.
    queuedBytes: limits.sinkQueueBytes + onTop + (suite.commits === true ? KEPT_BYTES_MAX : 0),
    descriptorsAtRest,
    // While a process stands still the system accepts for it; all of a flood is there when it goes on.
    descriptors: descriptorsAtRest + LINKS * (scenario.workers - 1) + strangers + floods * FLOOD,
  };
}

/** Exchanges of each application, each with a credit of its own. */
const EXCHANGES: Readonly<Record<Scenario["application"], number>> = {
  last_four: 1,
  two_hops: 2,
  merge_two: 2,
  rebalance: 2,
  generated: 1,
  transfers: 2,
  bank: 2,
  two_phase: 2,
  programs: 2,
  acknowledged: 2,
  letters: 2,
};

function during(observation: Observation, scenario: Scenario): () => Violation[] {
  const caps = capsOf(scenario);
  let seen = 0;
  return () => {
    const violations: Violation[] = [];
    const { samples } = observation;
    for (; seen < samples.length; seen++) {
      const sample = samples[seen]!;
      const why = judge(sample, caps);
      if (why === null) continue;
      violations.push({ oracle: "O-MEM", timeMs: sample.timeMs, text: `${sample.worker}: ${why}` });
    }
    return violations.slice(0, REPORTED_MAX);
  };
}

/** Which cap it is above, if it is. */
function judge({ status, heldBytes, descriptors }: Sample, caps: Caps): string | null {
  for (const { name, unacked_bytes } of status.peers) {
    if (unacked_bytes > caps.unackedBytes) {
      return `${unacked_bytes} bytes for ${name} are not acknowledged, ${caps.unackedBytes} is the most`;
    }
  }
  for (const { queued_bytes } of status.sinks) {
    if (queued_bytes > caps.queuedBytes) {
      return `${queued_bytes} bytes wait for the sink, ${caps.queuedBytes} is the most`;
    }
  }
  for (const [peer, bytes] of heldBytes ?? []) {
    if (bytes > caps.heldBytes) return `${bytes} bytes of ${peer} are not processed, ${caps.heldBytes} is the most`;
  }
  if (descriptors === null || descriptors <= caps.descriptors) return null;
  return `it holds ${descriptors} sockets and files, ${caps.descriptors} is the most`;
}

/** Back to where it began. */
function check(observation: Observation, scenario: Scenario): Violation[] {
  const violations = during(observation, scenario)();
  const { descriptorsAtRest } = capsOf(scenario);
  const barriers = scenario.checkpointMs === undefined ? 0 : EXCHANGES[scenario.application] * BARRIER_BYTES;
  const { atRest, samples, faults, processes, ending } = observation;
  for (const { worker, process, descriptors } of atRest) {
    const say = (text: string): void =>
      void violations.push({ oracle: "O-MEM", timeMs: ending!.quietMs!, text: `${worker}, at rest: ${text}` });
    // A source lets its clients be as slow as they like.
    const lingering = faults
      .filter(({ kind, timeMs }) => kind === "stranger" && timeMs + STRANGER_MS > ending!.quietMs!)
      .map(({ index }) => scenario.faults[index] as Fault & { readonly do: "stranger" })
      .filter((stranger) => stranger.worker === worker)
      .reduce((sum, { what }) => sum + (what === "flood" ? FLOOD : 1), 0);
    // One on each channel for every process that died a moment ago in the middle of one.
    const halfOpen =
      processes.filter(
        ({ endedMs }) => endedMs !== null && endedMs <= ending!.quietMs! && endedMs > ending!.quietMs! - HANDSHAKE_MS,
      ).length * 2;
    if (descriptors !== null && descriptors > descriptorsAtRest + lingering + halfOpen) {
      say(`it holds ${descriptors} sockets and files, and ${descriptorsAtRest} when it begins`);
    }
    const last = samples.findLast((sample) => sample.process === process && sample.timeMs <= ending!.quietMs!);
    if (last === undefined) continue;
    for (const { name, unacked_bytes } of last.status.peers) {
      if (unacked_bytes > barriers) say(`${unacked_bytes} bytes for ${name} are not acknowledged`);
    }
    for (const { queued_bytes } of last.status.sinks) {
      if (queued_bytes > 0) say(`${queued_bytes} bytes wait for the sink`);
    }
    for (const [peer, bytes] of last.heldBytes ?? []) if (bytes > 0) say(`${bytes} bytes of ${peer} are not processed`);
  }
  return violations.slice(0, REPORTED_MAX);
}
