/**
 * Errors by whose fault they are, and the exit status each ends a process with (`docs/operating.md`, "Exit status").
 * Messages say what was attempted, what is the case, with the value, and what to do.
 */

export const EXIT = {
  done: 0,
  /** Failed while running. */
  failed: 1,
  /** Wrong usage: options, module. Nothing was started. */
  usage: 2,
  /** Port in use, disk, permission. */
  environment: 11,
  /** Resilience files. */
  resilience: 12,
  /** Build, application, cluster or name do not match. */
  identity: 13,
  /** Storage failed while running. */
  storage: 20,
  /** The error policy of user code says stop. */
  userCode: 21,
  /** An outside system broke its contract. */
  outside: 22,
  /** A bug of ours. */
  bug: 70,
} as const;

export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

/** An error that ends the process with a status of its own and one message for people. */
export abstract class TammarError extends Error {
  abstract readonly exitStatus: ExitStatus;
  /** Short and stable, for scripts and for JSON logs: `port_in_use`, `fingerprint_differs`. */
  readonly code: string;
  constructor(code: string, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.code = code;
  }
}

/** Whoever runs it: a wrong option, address, module name. */
export class ConfigError extends TammarError {
  override readonly name = "ConfigError";
  override readonly exitStatus = EXIT.usage;
}

/** The application's author: a wrong graph. Names the stage. */
export class PlanError extends TammarError {
  override readonly name = "PlanError";
  override readonly exitStatus = EXIT.usage;
}

/** The machine: a port in use, no permission, no space. */
export class EnvironmentError extends TammarError {
  override readonly name = "EnvironmentError";
  override readonly exitStatus = EXIT.environment;
}

/** Files in the resilience directory: foreign, damaged, in use. */
export class ResilienceError extends TammarError {
  override readonly name = "ResilienceError";
  override readonly exitStatus = EXIT.resilience;
}

/** Another build, application, cluster, or a name that is taken. */
export class IdentityError extends TammarError {
  override readonly name = "IdentityError";
  override readonly exitStatus = EXIT.identity;
}

/** User code refused a record, and its policy says that the worker ends then. */
export class UserCodeError extends TammarError {
  override readonly name = "UserCodeError";
  override readonly exitStatus = EXIT.userCode;
  /** Names the record, the same after each restart; null: it was none. */
  readonly at: string | null;
  constructor(code: string, message: string, options: { cause?: unknown; at?: string } = {}) {
    super(code, message, options);
    this.at = options.at ?? null;
  }
}

/** A peer sent bytes that are no legal message. The connection is closed; nothing else is disturbed. */
export class ProtocolError extends TammarError {
  override readonly name = "ProtocolError";
  override readonly exitStatus = EXIT.failed;
}

/** The disk failed while running. */
export class StorageError extends TammarError {
  override readonly name = "StorageError";
  override readonly exitStatus = EXIT.storage;
}

/** An outside system broke its contract: an input file that was replaced, a sink that lost what it had promised to keep. */
export class OutsideError extends TammarError {
  override readonly name = "OutsideError";
  override readonly exitStatus = EXIT.outside;
}
