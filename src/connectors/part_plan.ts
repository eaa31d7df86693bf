/** How what was written up to a cut becomes visible: as files of its own, or joined to the last visible one. */
import type { Epoch } from "../base/ids.ts";
import { visibleName } from "./part_name.ts";
import type { PartSegment } from "./part_segment.ts";

const MIB = 1 << 20;
/** A visible file grows at least up to this, and never beyond the other. */
const JOINED_BYTES_MIN = MIB;
const JOINED_BYTES_MAX = 64 * MIB;
/**
 * In between, up to so many times what one checkpoint adds: each join writes the file anew, so a file that grows by small
 * pieces for ever would cost more writing than output.
 */
const JOINED_TIMES = 8;

export interface VisibleFile {
  readonly name: string;
  readonly bytes: number;
}

export interface PartPlan {
  readonly epoch: Epoch;
  readonly segments: readonly PartSegment[];
  /** The visible file that is replaced by itself and the segments behind it; null: each segment becomes a file. */
  readonly join: VisibleFile | null;
  /** The visible files that this gives, in order, one for each segment; with `join` the only one. */
  readonly results: readonly VisibleFile[];
}

/**
 * @param last The last visible file of this worker, if it may be replaced by a longer one.
 * @param firstNumber Of the files of this epoch.
 */
export function planParts(
  epoch: Epoch,
  segments: readonly PartSegment[],
  last: VisibleFile | null,
  naming: { readonly worker: string; readonly extension: string; readonly firstNumber: number },
): PartPlan {
  const filled = segments.filter((segment) => segment.bytes > 0);
  const added = filled.reduce((sum, segment) => sum + segment.bytes, 0);
  if (last !== null && added > 0 && last.bytes + added <= joinedMax(added)) {
    return { epoch, segments: filled, join: last, results: [{ name: last.name, bytes: last.bytes + added }] };
  }
  const results = filled.map((segment, i) => ({
    name: visibleName(epoch, naming.worker, naming.firstNumber + i, naming.extension),
    bytes: segment.bytes,
  }));
  return { epoch, segments: filled, join: null, results };
}

function joinedMax(added: number): number {
  return Math.max(JOINED_BYTES_MIN, Math.min(JOINED_BYTES_MAX, JOINED_TIMES * added));
}
