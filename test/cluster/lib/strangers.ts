/** Whatever may connect to a port by mistake or on purpose. Each call ends by itself. */
import { connect, type Socket } from "node:net";
import { host } from "./ports.ts";
import { sleep } from "./wait.ts";

/** Small and good enough for noise; the seed is in the message of a failure. */
export function noise(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

export function noiseBytes(seed: number, length: number): Buffer {
  const next = noise(seed);
  return Buffer.from(Array.from({ length }, () => Math.floor(next() * 256)));
}

function open(port: number): Promise<Socket | null> {
  return new Promise((done) => {
    const socket = connect({ host, port });
    socket.on("error", () => done(null));
    socket.once("connect", () => done(socket));
    socket.resume();
  });
}

async function say(port: number, bytes: Uint8Array, holdMs = 300): Promise<void> {
  const socket = await open(port);
  if (socket === null) return;
  socket.write(bytes);
  await sleep(holdMs);
  socket.destroy();
}

const tlsHello = Buffer.from(
  `16030100a5010000a10303${"5a".repeat(32)}20${"a5".repeat(32)}0008130113021303c02f0100004c${"00".repeat(76)}`,
  "hex",
);

export const strangers: Readonly<Record<string, (port: number, seed: number) => Promise<void>>> = {
  garbage: (port, seed) => say(port, noiseBytes(seed, 65_536)),
  "small garbage": (port, seed) => say(port, noiseBytes(seed, 37)),
  "HTTP request": (port) => say(port, Buffer.from("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")),
  "TLS hello": (port) => say(port, tlsHello),
  "huge length": (port) => say(port, Buffer.from("ffffffff00000000", "hex")),
  "length just too large": (port) => say(port, Buffer.from("7fffffff0102030405", "hex")),
  "zero lengths": (port) => say(port, Buffer.alloc(4_000)),
  "connect and reset": async (port) => {
    const socket = await open(port);
    socket?.resetAndDestroy();
  },
  "connect and half-close": async (port) => {
    const socket = await open(port);
    socket?.end();
    await sleep(300);
    socket?.destroy();
  },
  "one byte at a time": async (port) => {
    const socket = await open(port);
    for (let index = 0; index < 20 && socket !== null && !socket.destroyed; index += 1) {
      socket.write(Buffer.from([0]));
      await sleep(100);
    }
    socket?.destroy();
  },
};
