/** What both socket adapters share: errors of every kind as `NetError`, addresses as text. */

import { type Address, NetError, type NetErrorCode } from "./runtime.ts";

/** Error codes of the system, and names of Deno's error classes where it gives no code. */
const CODES: ReadonlyMap<string, NetErrorCode> = new Map([
  ["EADDRINUSE", "address_in_use"],
  ["EADDRNOTAVAIL", "address_not_available"],
  ["EACCES", "permission"],
  ["EPERM", "permission"],
  ["NotCapable", "permission"],
  ["PermissionDenied", "permission"],
  ["ECONNREFUSED", "refused"],
  ["ECONNRESET", "reset"],
  ["ECONNABORTED", "reset"],
  ["EPIPE", "reset"],
  ["ENOTCONN", "reset"],
  ["NotConnected", "reset"],
  ["ETIMEDOUT", "timeout"],
  ["EHOSTUNREACH", "unreachable"],
  ["ENETUNREACH", "unreachable"],
  ["EHOSTDOWN", "unreachable"],
  ["ENETDOWN", "unreachable"],
  ["ENOTFOUND", "unresolvable"],
  ["EAI_AGAIN", "unresolvable"],
  ["EAI_FAIL", "unresolvable"],
  ["EAI_NODATA", "unresolvable"],
  ["EAI_NONAME", "unresolvable"],
  ["URIError", "unresolvable"],
  ["EINTR", "closed"],
  ["EBADF", "closed"],
  ["Interrupted", "closed"],
  ["BadResource", "closed"],
]);

const SENTENCES: Readonly<Record<NetErrorCode, string>> = {
  address_in_use: "the address is in use by another listener",
  address_not_available: "this machine does not have that address",
  closed: "the connection was closed on this side",
  other: "the system reports an error",
  permission: "permission denied",
  refused: "connection refused, nothing listens there",
  reset: "the connection was cut by the peer",
  timeout: "no answer in time",
  unreachable: "there is no route to that address",
  unresolvable: "the host name cannot be resolved",
};

export function netErrorCode(cause: unknown): NetErrorCode {
  if (cause instanceof NetError) return cause.code;
  const { code, name, message } = cause as { code?: unknown; name?: unknown; message?: unknown };
  const known = CODES.get(String(code)) ?? CODES.get(String(name));
  if (known !== undefined) return known;
  // Deno gives a plain Error without a code for a name that cannot be looked up.
  return String(message).includes("failed to lookup address") ? "unresolvable" : "other";
}

/**
 * @param attempt What was tried, such as `Cannot listen on 127.0.0.1:80`.
 * @param cause The platform's error, kept as `cause`; with code `other` its message is in ours.
 */
export function netErrorOf(attempt: string, cause: unknown): NetError {
  const code = netErrorCode(cause);
  const detail = code === "other" ? `${SENTENCES.other}: ${messageOf(cause)}` : SENTENCES[code];
  return new NetError(code, `${attempt}: ${detail}`, { cause });
}

/** A `NetError` that has no platform error behind it. */
export function netError(code: NetErrorCode, attempt: string, bytesTaken = 0, cause?: unknown): NetError {
  return new NetError(code, `${attempt}: ${SENTENCES[code]}`, { bytesTaken, cause });
}

/** `10.0.0.1:5000`, `[::1]:5000`. */
export function addressText(address: Address): string {
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** An IPv4 peer of a dual-stack listener shows up as `::ffff:10.0.0.1`; for us it is `10.0.0.1`. */
export function plainHost(host: string): string {
  return host.startsWith("::ffff:") && host.includes(".") ? host.slice("::ffff:".length) : host;
}

export function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
