/** `host:port`, with brackets around IPv6: as people write it and options take it. */
export function showAddress(address: { readonly host: string; readonly port: number }): string {
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
