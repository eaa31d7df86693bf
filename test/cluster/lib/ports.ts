/**
 * Ports that stay free while a test kills and restarts what listens on them.
 *
 * A port from the kernel's own range (bind port 0) may be taken by an outgoing connection of anybody while its worker is
 * down. So these come from below that range, where only somebody who asks for the very port gets it, and each is bound
 * once to see that it is free. Where the range is unknown, port 0 has to do.
 */
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:net";

export const host = "127.0.0.1";

function lowestKernelPort(): number {
  try {
    const [low] = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").trim().split(/\s+/);
    return Number(low);
  } catch {
    return 0;
  }
}

function bind(port: number): Promise<Server | null> {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", () => done(null));
    server.listen({ host, port }, () => done(server));
  });
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("a listening server without a port");
  return address.port;
}

/** Nobody has to listen at a port yet for it to be meant for somebody. */
const given = new Set<number>();

/** `count` different ports, all held at the same time while they are being chosen; none is given twice. */
export async function freePorts(count: number): Promise<number[]> {
  const low = 10_240;
  const high = lowestKernelPort();
  const held: Server[] = [];
  for (let tries = 0; held.length < count; tries += 1) {
    if (tries > 1_000 + count) throw new Error(`no ${count} free ports on ${host}`);
    const wanted = high > low + 2_000 ? low + Math.floor(Math.random() * (high - low)) : 0;
    if (given.has(wanted)) continue;
    const server = await bind(wanted);
    if (server !== null) held.push(server);
  }
  const ports = held.map(portOf);
  for (const port of ports) given.add(port);
  await Promise.all(held.map((server) => new Promise((done) => server.close(done))));
  return ports;
}
