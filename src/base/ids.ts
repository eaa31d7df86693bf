/** Branded numbers and names, so that a sequence cannot pass for a generation. */

export type WorkerName = string & { readonly __worker?: true };
/** One incarnation of the cluster; fences stragglers. From 1. */
export type Generation = number & { readonly __generation?: true };
/** One checkpoint. From 1; 0 is the empty state before the first. */
export type Epoch = number & { readonly __epoch?: true };
/** Version of the table from key group to worker. From 1. */
export type RoutingVersion = number & { readonly __routing?: true };
/** Place in one link, from 1. */
export type Sequence = number & { readonly __sequence?: true };
/** From 0 to `keyGroupCount - 1`. */
export type KeyGroup = number & { readonly __keyGroup?: true };
/** Event time in whole microseconds since the Unix epoch: exact in a double. */
export type EventTime = number & { readonly __eventTime?: true };

/** The worker that coordinates, for the whole life of the cluster. */
export const INITIALIZER: WorkerName = "initializer";

/** What a worker may be called. `.` alone, `..` and a leading dot are refused, since names become folders. */
export const WORKER_NAME = /^(?!\.)[A-Za-z0-9._-]{1,64}$/;
