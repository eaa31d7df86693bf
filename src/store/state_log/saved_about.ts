/** What a worker's state keeper tells the log about itself at each end (`worker/state_keeper.ts`). */
import { FieldReader } from "../read_fields.ts";

export interface SavedStage {
  readonly id: string;
  readonly version: number;
  readonly keys: number;
  /** Bytes of an entry in the log, on average. */
  readonly entryBytes: number;
}

/** What a keeper says at an end of the log. */
export interface SavedAbout {
  readonly base: number;
  readonly roundFrom: number;
  readonly roundWritten: number;
  readonly credit: number;
  readonly stages: readonly SavedStage[];
}

/** @throws {Error} It makes no sense. */
export function readAbout(about: unknown): SavedAbout {
  const most = Number.MAX_SAFE_INTEGER;
  const fields = new FieldReader("what the log says about itself", about);
  const read = {
    base: fields.whole("base", 1, most),
    roundFrom: fields.whole("roundFrom", 0, most),
    roundWritten: fields.whole("roundWritten", 0, most),
    credit: fields.whole("credit", 0, most),
    stages: fields.list("stages", 10_000).map((saved) => {
      const stage = new FieldReader("a stage", saved);
      const { id, version, keys, entryBytes } = {
        id: stage.text("id", () => true),
        version: stage.whole("version", 1, most),
        keys: stage.whole("keys", 0, most),
        entryBytes: stage.whole("entryBytes", 1, most),
      };
      stage.end();
      return { id, version, keys, entryBytes };
    }),
  };
  fields.end();
  return read;
}
