/** The position of a file sink in a checkpoint. */
import { ResilienceError } from "../base/errors.ts";
import type { VisibleFile } from "./part_plan.ts";

export interface PartPosition {
  readonly version: 1;
  /** Id of the folder, so that another one is not taken for it. */
  readonly folder: string;
  /** The visible files that this epoch adds or makes longer; null: not known when the position was taken. */
  readonly parts: readonly VisibleFile[] | null;
}

/** @throws {ResilienceError} If it is none. */
export function readPartPosition(value: unknown): PartPosition {
  const { version, folder, parts } = (value ?? {}) as Record<string, unknown>;
  const whole =
    version === 1 && typeof folder === "string" && (parts === null || (Array.isArray(parts) && parts.every(isFile)));
  if (whole) return value as PartPosition;
  throw new ResilienceError(
    "position_invalid",
    "Cannot go on writing files: the saved position is not one of a file sink of this version",
  );
}

function isFile(value: unknown): boolean {
  const { name, bytes } = (value ?? {}) as Record<string, unknown>;
  return typeof name === "string" && !name.includes("/") && Number.isSafeInteger(bytes) && (bytes as number) >= 0;
}
