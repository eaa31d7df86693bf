import { EnvironmentError } from "../base/errors.ts";
import { NetError } from "../runtime/runtime.ts";

/** Turns a failed `listen` into what the operator can act on. */
export function listenError(option: string, value: string, error: unknown): EnvironmentError {
  const why =
    error instanceof NetError
      ? (REASONS[error.code] ?? `${error.message}; give another address, or see to the network of this machine`)
      : String(error);
  return new EnvironmentError(
    error instanceof NetError ? error.code : "listen_failed",
    `Cannot listen on ${option} ${value}: ${why}`,
    { cause: error },
  );
}

const REASONS: { readonly [code: string]: string | undefined } = {
  address_in_use: "the port is in use by another process; end it or give another port",
  address_not_available: "this machine has no such address; give one of its own, or 0.0.0.0 for all",
  permission: "no permission; ports below 1024 need it, give a higher one",
  unresolvable: "the host name cannot be resolved; give an address of this machine",
};
