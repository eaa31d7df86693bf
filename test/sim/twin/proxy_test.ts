/** The proxy between real processes does what the virtual network does. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createBunRuntime } from "../../../src/runtime/bun.ts";
import type { Conn, NetError, Runtime } from "../../../src/runtime/runtime.ts";
import { NETWORK_DEFAULTS } from "../../../src/runtime/virtual/network.ts";
import { waitFor, within } from "../../cluster/lib/wait.ts";
import { dialThrough } from "./dial.ts";
import { TwinProxy } from "./proxy.ts";

const PORT = 7000;
const NOBODY = 7001;

interface World {
  readonly proxy: TwinProxy;
  /** Both ends of a new connection from `a` to `b`. */
  readonly connect: () => Promise<{ client: Conn; server: Conn }>;
  readonly dial: Runtime["net"]["connect"];
}

async function withProxy(
  body: (world: World) => Promise<void>,
  cutOneIn = 4,
  { receiveBufferBytes, latencyMs } = { receiveBufferBytes: NETWORK_DEFAULTS.receiveBufferBytes, latencyMs: 0 },
): Promise<void> {
  const runtime = createBunRuntime();
  const accepted: Conn[] = [];
  const listener = await runtime.net.listen({
    host: "127.0.0.1",
    port: 0,
    accept: (conn) => void accepted.push(conn),
    failed: () => {},
  });
  const proxy = await TwinProxy.listen({
    resolve: ({ port }) => (port === PORT ? { server: "b", port, real: listener.address } : null),
    ipOf: () => "127.1.0.7",
    latency: { minMs: latencyMs, maxMs: latencyMs },
    network: { ...NETWORK_DEFAULTS, slowOneIn: 1 << 30, cutOneIn, receiveBufferBytes },
    seed: 1n,
  });
  const dial = dialThrough(runtime, proxy.address, "a");
  const connect = async () => {
    const before = accepted.length;
    const client = await dial({ host: "b", port: PORT }, { timeoutMs: 5_000 });
    await waitFor(() => accepted.length > before, { what: "the connection to be accepted" });
    return { client, server: accepted[before]! };
  };
  try {
    await body({ proxy, connect, dial });
  } finally {
    proxy.close();
    listener.close();
  }
}

const bytes = (text: string) => new TextEncoder().encode(text);

async function readText(conn: Conn): Promise<string> {
  try {
    const piece = await conn.read();
    return piece === null ? "END" : new TextDecoder().decode(piece);
  } catch (error) {
    return `ERROR ${(error as NetError).code}`;
  }
}

/** So much text, in however many pieces it comes. */
async function readAll(conn: Conn, length: number): Promise<string> {
  let text = "";
  while (text.length < length) text += await readText(conn);
  return text;
}

async function settled(promise: Promise<unknown>, withinMs: number): Promise<boolean> {
  return within(
    promise.then(() => true),
    withinMs,
    "it",
  ).catch(() => false);
}

test("bytes go both ways, an end is half an end, and each sees the other's address", () =>
  withProxy(async ({ connect }) => {
    const { client, server } = await connect();
    assert.deepEqual(client.peer, { host: "b", port: PORT });
    assert.equal(server.peer.host, "127.1.0.7");
    await client.write(bytes("question"));
    assert.equal(await readAll(server, 8), "question");
    client.end();
    assert.equal(await readText(server), "END");
    await server.write(bytes("answer"));
    assert.equal(await readAll(client, 6), "answer");
    server.end();
    assert.equal(await readText(client), "END");
  }));

test("nobody listening is a refusal, and a refusal can be asked for", () =>
  withProxy(async ({ proxy, dial }) => {
    const refused = (port: number) =>
      assert.rejects(dial({ host: "b", port }, { timeoutMs: 5_000 }), { name: "NetError", code: "refused" });
    await refused(NOBODY);
    proxy.connectFault = () => "refuse";
    await refused(PORT);
    proxy.connectFault = () => "drop";
    await assert.rejects(dial({ host: "b", port: PORT }, { timeoutMs: 300 }), { name: "NetError", code: "timeout" });
  }));

test("whoever aborts or is cut off resets the other end", () =>
  withProxy(async ({ proxy, connect }) => {
    const first = await connect();
    const seen = readText(first.server);
    first.client.abort();
    assert.equal(await seen, "ERROR reset");
    const second = await connect();
    const both = [readText(second.client), readText(second.server)];
    assert.equal(
      proxy.cut(({ client, server, port }) => client === "a" && server === "b" && port === PORT),
      1,
    );
    assert.deepEqual(await Promise.all(both), ["ERROR reset", "ERROR reset"]);
  }));

test("a blocked way holds back what is sent, lets the other way through, and gives it out when it opens", () =>
  withProxy(async ({ proxy, connect, dial }) => {
    const { client, server } = await connect();
    const ways: [block: () => void, open: () => void][] = [
      [() => proxy.partition("a", "b", { way: "forward" }), () => proxy.heal("a", "b")],
      [() => void proxy.blackhole(() => true, { way: "forward" }), () => proxy.openAgain(() => true)],
    ];
    for (const [block, open] of ways) {
      block();
      await client.write(bytes("held"));
      await server.write(bytes("through"));
      assert.equal(await readAll(client, 7), "through");
      const held = readAll(server, 4);
      assert.equal(await settled(held, 150), false);
      open();
      assert.equal(await held, "held");
    }
    proxy.partition("a", "b");
    await assert.rejects(dial({ host: "b", port: PORT }, { timeoutMs: 300 }), { name: "NetError", code: "timeout" });
  }));

test("a reset behind a blocked way is lost: the other end learns of it when it sends", () =>
  withProxy(async ({ proxy, connect }) => {
    const { client, server } = await connect();
    proxy.partition("a", "b", { way: "forward" });
    client.abort();
    const seen = readText(server);
    assert.equal(await settled(seen, 150), false);
    proxy.heal();
    assert.equal(await settled(seen, 150), false);
    await server.write(bytes("anybody there?"));
    assert.equal(await seen, "ERROR reset");
  }));

test("what arrives in pieces, cut anywhere, is whole and in order", () =>
  withProxy(async ({ connect }) => {
    const { client, server } = await connect();
    let sent = "";
    for (let i = 0; i < 40; i++) {
      sent += `record ${i};`;
      await client.write(bytes(`record ${i};`));
    }
    client.end();
    const pieces: string[] = [];
    for (let piece = await readText(server); piece !== "END"; piece = await readText(server)) pieces.push(piece);
    assert.equal(pieces.join(""), sent);
    assert.ok(
      pieces.some((piece) => !piece.startsWith("record ")),
      "some piece begins inside of a record",
    );
  }, 1));

test("latency delays in order, and a reader that does not read holds the writer up", () =>
  withProxy(async ({ proxy, connect }) => {
    const { client, server } = await connect();
    proxy.setLatency("a", "b", { minMs: 60, maxMs: 90 });
    const sentMs = performance.now();
    for (const part of ["one ", "two ", "three"]) await client.write(bytes(part));
    assert.equal(await readAll(server, 13), "one two three");
    assert.ok(performance.now() - sentMs >= 60);
    proxy.resetLatencies();
    const large = new Uint8Array(24 << 20);
    const written = client.write(large);
    assert.equal(await settled(written, 300), false);
    for (let count = 0; count < large.length; ) count += (await server.read())!.length;
    await written;
  }));

test("a window of a few bytes and a latency make a bandwidth, and nothing is lost by it", async () => {
  const slow = { receiveBufferBytes: 100, latencyMs: 20 };
  await withProxy(
    async ({ connect }) => {
      const { client, server } = await connect();
      const began = performance.now();
      const text = "0123456789".repeat(100);
      await client.write(bytes(text));
      assert.equal(await readAll(server, text.length), text);
      // Ten windows, one behind the other; how much longer is the machine's affair.
      const tookMs = performance.now() - began;
      assert.ok(tookMs >= 190, `took ${tookMs} ms`);
    },
    1 << 30,
    slow,
  );
});
