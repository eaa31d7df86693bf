/**
 * What a file sink does to its folder. Every step may be the last before a crash or a power cut:
 *
 *   P1. What is visible is whole records of complete epochs, in order. It comes by a rename, which is all or nothing, and
 *       never changes but for being replaced, by a rename, with itself and what follows it.
 *   P2. `prepare` resolves when what it made is durable, under a name that tells the epoch. `commit` is a rename for each file.
 *   P3. `restore` may run after a crash anywhere, and again after a crash in itself: what was prepared for the epoch that is
 *       gone back to is renamed, all else that is not visible is removed. What was prepared for an epoch before it is the rest
 *       of an aborted one: nothing is prepared before the commits of earlier epochs are durable.
 *   P4. Without checkpoints nothing is known of epochs, and what was prepared for one stays: whoever is started without them by
 *       mistake, and is refused for it, must not take away what a complete checkpoint relies on.
 */
import { EnvironmentError, OutsideError } from "../base/errors.ts";
import type { Epoch } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { type Disk, DiskError, type DiskFile, type Lock, type Random } from "../runtime/runtime.ts";
import { join, parentOf } from "../store/folders.ts";
import { removeIfThere } from "../store/replace_file.ts";
import { bytesToHex } from "../wire/hello.ts";
import { folderIdName, joiningName, parsePartName, preparedName, writingName } from "./part_name.ts";
import type { PartPlan } from "./part_plan.ts";
import type { PartPosition } from "./part_position.ts";
import type { PartSegment } from "./part_segment.ts";

const COPY_BYTES = 256 * 1024;
const ID_FILE_BYTES_MAX = 4096;

export interface PartFolderOptions {
  readonly disk: Disk;
  readonly random: Random;
  readonly log: Log;
  /** Absolute. */
  readonly directory: string;
  readonly worker: string;
}

/** A sync failed: what it was to keep may be gone, though reads show it. */
export class SyncFailed extends Error {
  override readonly name = "SyncFailed";
  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

export class PartFolder {
  readonly directory: string;
  readonly #options: PartFolderOptions;
  #lock: Lock | null = null;
  #id = "";
  #writings = 0;

  constructor(options: PartFolderOptions) {
    this.#options = options;
    this.directory = options.directory;
  }

  /** Known once `restore` has resolved. */
  get id(): string {
    return this.#id;
  }

  /**
   * Takes the folder, and makes it if it is missing; what lies in it stays as it is. Nothing if it is open.
   *
   * @throws {EnvironmentError} The folder can't be used.
   */
  async open(): Promise<void> {
    if (this.#lock === null) await this.#explain(() => this.#open());
  }

  /**
   * Makes the folder what it was at the end of an epoch; opens it if it is not open yet.
   *
   * @param position Of that epoch; null: nothing of this worker is visible. `unchecked`: whatever is visible stays.
   * @returns The first number that no visible file has.
   * @throws {EnvironmentError} The folder can't be used.
   * @throws {OutsideError} It is another one, or has lost something.
   */
  async restore(epoch: Epoch, position: PartPosition | null | "unchecked"): Promise<number> {
    await this.open();
    return await this.#explain(async () => {
      if (typeof position === "object" && position !== null) this.#checkId(position);
      const nextNumber = await this.#settle(epoch, position);
      if (typeof position === "object") for (const part of position?.parts ?? []) await this.#checkPart(part);
      return nextNumber;
    });
  }

  async #explain<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      throw new EnvironmentError(
        `output_${error.code}`,
        `Cannot write output to ${this.directory}: ${error.message}; see to that disk, then start again`,
        { cause: error },
      );
    }
  }

  /** Makes the file of a segment. */
  async create(segment: PartSegment): Promise<void> {
    const name = writingName(this.#options.worker, ++this.#writings);
    const path = this.#path(name);
    // Left behind by a try that failed after it was made.
    await removeIfThere(this.#options.disk, path);
    segment.file = await this.#options.disk.open(path, "create");
    segment.name = name;
  }

  async append(segment: PartSegment, bytes: Uint8Array): Promise<void> {
    if (segment.torn) {
      await segment.file!.truncate(segment.written);
      segment.torn = false;
    }
    try {
      await segment.file!.append(bytes);
    } catch (error) {
      segment.torn = true;
      throw error;
    }
  }

  /** Everything of the plan is in its segments' files. Resolves when it is durable (P2). */
  async prepare(plan: PartPlan): Promise<void> {
    if (plan.results.length === 0) return;
    if (plan.join !== null) await this.#join(plan);
    else {
      for (const [i, segment] of plan.segments.entries()) {
        await this.#sync(segment);
        await this.#rename(segment, preparedName(plan.epoch, plan.results[i]!.name));
      }
    }
    await this.#syncDir();
  }

  /** May be called again after it failed. */
  async commit(plan: PartPlan): Promise<void> {
    if (plan.results.length === 0) return;
    const { disk } = this.#options;
    for (const [i, { name }] of plan.results.entries()) {
      // A power cut may keep a later rename and lose an earlier one, and a reader would miss something in between.
      if (i > 0) await this.#syncDir();
      try {
        await disk.rename(this.#path(preparedName(plan.epoch, name)), this.#path(name));
      } catch (error) {
        // Done by the call before.
        if (
          !(error instanceof DiskError && error.code === "not_found") ||
          (await disk.stat(this.#path(name))) === null
        ) {
          throw error;
        }
      }
    }
    await this.#syncDir();
    if (plan.join !== null) for (const segment of plan.segments) await this.discard(segment);
  }

  /** The epoch of the plan will not exist; its segments wait for the next one. */
  async abort(plan: PartPlan): Promise<void> {
    if (plan.join === null) return;
    await removeIfThere(this.#options.disk, this.#path(preparedName(plan.epoch, plan.join.name)));
  }

  async closeFile(segment: PartSegment): Promise<void> {
    const { file } = segment;
    segment.file = null;
    await file?.close();
  }

  /** Removes the file of a segment. */
  async discard(segment: PartSegment): Promise<void> {
    await this.closeFile(segment);
    if (segment.name !== null) await removeIfThere(this.#options.disk, this.#path(segment.name));
    segment.name = null;
  }

  /** Another process may have the folder. */
  async close(): Promise<void> {
    const lock = this.#lock;
    this.#lock = null;
    await lock?.release();
  }

  async #open(): Promise<void> {
    const { disk, worker } = this.#options;
    await disk.makeDir(this.directory);
    const name = folderIdName(worker);
    const lock = await disk.lock(this.#path(name));
    if (lock === null) {
      throw new EnvironmentError(
        "output_in_use",
        `Cannot write output to ${this.directory}: another sink of a worker called ${worker} writes there; ` +
          "give each sink a folder of its own",
      );
    }
    this.#lock = lock;
    this.#id = await this.#openId(name);
    await this.#syncAbove();
  }

  /**
   * The folder is durable when its name is in the folder above, and so on. All of them, since they may have been made by a
   * process that died before it came to this.
   */
  async #syncAbove(): Promise<void> {
    for (let folder = this.directory; folder !== "/"; folder = parentOf(folder)) {
      try {
        await this.#options.disk.syncDir(parentOf(folder));
      } catch (error) {
        // One that we may not read was not made by us.
        if (!(error instanceof DiskError && error.code === "permission")) throw error;
      }
    }
  }

  /** The id of the folder, made if it has none. Synced in any case: who wrote it may have died before it was durable. */
  async #openId(name: string): Promise<string> {
    const { disk, random, worker } = this.#options;
    const file = await disk.open(this.#path(name), "append");
    let id: string | undefined;
    try {
      const content = new TextDecoder().decode(await file.readAt(0, ID_FILE_BYTES_MAX));
      id = /^Tammar file sink [^\n]*, folder ([0-9a-f]{32})\n$/.exec(content)?.[1];
      if (id === undefined) {
        id = bytesToHex(random.bytes(16));
        await file.truncate(0);
        await file.append(new TextEncoder().encode(`Tammar file sink of worker ${worker}, folder ${id}\n`));
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await this.#syncDir();
    return id;
  }

  #checkId({ folder }: PartPosition): void {
    if (folder === this.#id) return;
    throw new OutsideError(
      "output_folder_differs",
      `Cannot go on writing output to ${this.directory}: it is folder ${this.#id.slice(0, 8)} of worker ` +
        `${this.#options.worker}, and the checkpoint's output went to folder ${folder.slice(0, 8)}; give that one, or move all ` +
        "its files here, those with a dot in front too",
    );
  }

  async #settle(epoch: Epoch, position: PartPosition | null | "unchecked"): Promise<number> {
    const { disk, worker } = this.#options;
    let nextNumber = 0;
    const visible: string[] = [];
    // Sorted, so that what is prepared becomes visible in the order of its parts.
    for (const { name, kind } of await disk.list(this.directory)) {
      const part = kind === "file" ? parsePartName(name, worker) : null;
      if (part === null) continue;
      if (part.kind === "visible") {
        visible.push(name);
        nextNumber = Math.max(nextNumber, part.number + 1);
        continue;
      }
      if (part.kind === "prepared" && part.epoch === epoch && position !== null) {
        await disk.rename(this.#path(name), this.#path(part.target));
        await this.#syncDir();
        const target = parsePartName(part.target, worker);
        if (target?.kind === "visible") nextNumber = Math.max(nextNumber, target.number + 1);
      } else if (part.kind === "prepared" && part.epoch !== epoch && position === "unchecked") {
      } else {
        await removeIfThere(disk, this.#path(name));
      }
    }
    if (position === null && visible.length > 0) {
      throw new EnvironmentError(
        "output_not_empty",
        `Cannot write output to ${this.directory}: it has output of an earlier run of worker ${worker} (${visible[0]}` +
          `${visible.length === 1 ? "" : ` and ${visible.length - 1} more`}); move it away or give another folder`,
      );
    }
    // Always: what was renamed before may not be durable yet, and the next epoch relies on it.
    await this.#syncDir();
    return nextNumber;
  }

  async #checkPart({ name, bytes }: { readonly name: string; readonly bytes: number }): Promise<void> {
    const { disk, log } = this.#options;
    const path = this.#path(name);
    const stat = await disk.stat(path);
    if (stat?.length === bytes) return;
    if (stat?.length === 0) {
      log.warn("output_given_up", `${path} is empty, so the ${bytes} bytes of output that it had are given up`);
      return;
    }
    throw new OutsideError(
      "output_lost",
      `Cannot go on writing output to ${this.directory}: ${name} ` +
        `${stat === null ? "is not there" : `has ${stat.length} bytes`}, and ${bytes} bytes of complete checkpoints belong ` +
        "there; put the file back, or an empty one of that name to go on without them",
    );
  }

  async #sync(segment: PartSegment): Promise<void> {
    if (!segment.synced) {
      const file = segment.file ?? (await this.#options.disk.open(this.#path(segment.name!), "append"));
      segment.file = file;
      try {
        await file.sync();
      } catch (error) {
        throw new SyncFailed(error);
      }
      segment.synced = true;
    }
    await this.closeFile(segment);
  }

  async #rename(segment: PartSegment, name: string): Promise<void> {
    if (segment.name === name) return;
    await this.#options.disk.rename(this.#path(segment.name!), this.#path(name));
    segment.name = name;
  }

  /** The last visible file and the segments behind it as one prepared file. The segments' files stay until the commit. */
  async #join({ epoch, join: last, segments, results }: PartPlan): Promise<void> {
    const { disk, worker } = this.#options;
    const path = this.#path(joiningName(worker));
    await removeIfThere(disk, path);
    const joined = await disk.open(path, "create");
    try {
      await this.#copy(last!.name, last!.bytes, joined);
      for (const segment of segments) {
        await this.closeFile(segment);
        await this.#copy(segment.name!, segment.bytes, joined);
      }
      await joined.sync();
    } finally {
      await joined.close();
    }
    await disk.rename(path, this.#path(preparedName(epoch, results[0]!.name)));
  }

  /** @throws {OutsideError} If the file has not as many bytes as it should. */
  async #copy(name: string, length: number, to: DiskFile): Promise<void> {
    const from = await this.#options.disk.open(this.#path(name), "read");
    try {
      const there = await from.length();
      if (there !== length) {
        throw new OutsideError(
          "output_changed",
          `${this.#path(name)} has ${there} bytes, and ${length} were written: somebody else has changed it`,
        );
      }
      for (let at = 0; at < length; at += COPY_BYTES) {
        await to.append(await from.readAt(at, Math.min(COPY_BYTES, length - at)));
      }
    } finally {
      await from.close();
    }
  }

  #syncDir(): Promise<void> {
    return this.#options.disk.syncDir(this.directory);
  }

  #path(name: string): string {
    return join(this.directory, name);
  }
}
