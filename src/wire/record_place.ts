/** Where in its source a record was, as whoever looks for it there would say it. Plain data: dead letters keep it. */
export type RecordPlace =
  /** `byte`: where the record begins, with its header; of a compressed file, in what it holds. */
  | { readonly kind: "file"; readonly file: string; readonly byte: number }
  /** `frame`: from 1, of that connection, as acknowledgements and rollbacks count; `byte`: where it begins. */
  | { readonly kind: "tcp"; readonly peer: string; readonly frame: number; readonly byte: number }
  /** Decimal texts, as both are integers of 64 bits. */
  | { readonly kind: "connector"; readonly stream: string; readonly message: string }
  /** `step`: from 0, of that worker's generator. */
  | { readonly kind: "generator"; readonly step: number };

/** Number `record` of what a source hands over. Asked within the call that hands it over, if at all. */
export type LocateRecord = (record: number) => RecordPlace | null;

export function placeText(place: RecordPlace): string {
  switch (place.kind) {
    case "file":
      return `${place.file} at byte ${place.byte}`;
    case "tcp":
      return `frame ${place.frame} (at byte ${place.byte}) of the connection from ${place.peer}`;
    case "connector":
      return `message ${place.message} of stream ${place.stream}`;
    case "generator":
      return `step ${place.step}`;
  }
}

/** @returns null: it is none. */
export function readPlace(value: unknown): RecordPlace | null {
  const { kind, file, byte, peer, frame, stream, message, step } = (
    typeof value === "object" && value !== null ? value : {}
  ) as Record<string, unknown>;
  const isCount = (field: unknown): field is number => Number.isSafeInteger(field) && (field as number) >= 0;
  const isText = (field: unknown): field is string => typeof field === "string";
  switch (kind) {
    case "file":
      return isText(file) && isCount(byte) ? { kind, file, byte } : null;
    case "tcp":
      return isText(peer) && isCount(frame) && isCount(byte) ? { kind, peer, frame, byte } : null;
    case "connector":
      return isText(stream) && isText(message) ? { kind, stream, message } : null;
    case "generator":
      return isCount(step) ? { kind, step } : null;
    default:
      return null;
  }
}
