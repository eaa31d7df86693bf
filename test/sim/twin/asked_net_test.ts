/** The network that asks: what every runtime promises while no call fails, and what a call leaves that fails. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createBunRuntime } from "../../../src/runtime/bun.ts";
import { type Conn, NetError, type NetErrorCode } from "../../../src/runtime/runtime.ts";
import type { NetCall } from "../../../src/runtime/virtual/network.ts";
import { waitFor } from "../../cluster/lib/wait.ts";
import { runContract } from "../../runtime/contract.ts";
import { makeRealStage } from "../../runtime/real_stage.ts";
import { askedNet } from "./asked_net.ts";

/** Answers come late, as from another process. */
async function late<T>(answer: T): Promise<T> {
  await new Promise((resolve) => setTimeout(resolve, 1));
  return answer;
}

runContract("a network that asks", () =>
  makeRealStage(() => {
    const runtime = createBunRuntime();
    return { ...runtime, net: askedNet(runtime.net, () => late(null)) };
  }),
);

/** A listener whose calls do not fail, and a network whose first call of this kind does. */
function failingOnce(kind: NetCall) {
  const { net } = createBunRuntime();
  let left = 1;
  const failures: NetError[] = [];
  const accepted: Conn[] = [];
  const asked = askedNet(net, (call) => late(call === kind && left-- > 0 ? "other" : null));
  const listening = {
    host: "127.0.0.1",
    port: 0,
    accept: (conn: Conn) => void accepted.push(conn),
    failed: (error: NetError) => void failures.push(error),
  };
  return { net, asked, listening, failures, accepted };
}

function fails(code: NetErrorCode) {
  return (error: unknown) => error instanceof NetError && error.code === code;
}

const CONNECTING = { timeoutMs: 5_000 };

test("a listen and a connect that fail do so once, and leave nothing", async () => {
  const { asked, listening } = failingOnce("listen");
  await assert.rejects(asked.listen(listening), fails("other"));
  const listener = await asked.listen(listening);
  const other = failingOnce("connect");
  await assert.rejects(other.asked.connect(listener.address, CONNECTING), fails("other"));
  const conn = await other.asked.connect(listener.address, CONNECTING);
  conn.abort();
  listener.close();
});

test("an accept that fails is told to the listener, the dialler finds its connection cut, and the next one is accepted", async () => {
  const { net, asked, listening, failures, accepted } = failingOnce("accept");
  const listener = await asked.listen(listening);
  const first = await net.connect(listener.address, CONNECTING);
  await assert.rejects(first.read(), fails("reset"));
  assert.deepEqual(
    failures.map(({ code }) => code),
    ["other"],
  );
  const second = await net.connect(listener.address, CONNECTING);
  await waitFor(() => accepted.length === 1, { what: "the second to be accepted" });
  for (const conn of [second, ...accepted]) conn.abort();
  listener.close();
});

for (const kind of ["read", "write"] as const) {
  test(`a ${kind} that fails cuts its connection: both ends find it reset`, async () => {
    const { net, asked, listening, accepted } = failingOnce(kind);
    const listener = await net.listen(listening);
    const conn = await asked.connect(listener.address, CONNECTING);
    await waitFor(() => accepted.length === 1, { what: "it to be accepted" });
    const peer = accepted[0]!;
    const reading = conn.read();
    if (kind === "read") await peer.write(new Uint8Array(3));
    else await assert.rejects(conn.write(new Uint8Array(3)), fails("reset"));
    await assert.rejects(reading, fails("reset"));
    await assert.rejects(peer.read(), fails("reset"));
    await assert.rejects(conn.write(new Uint8Array(1)), fails("reset"));
    conn.abort();
    await assert.rejects(conn.read(), fails("closed"));
    listener.close();
  });
}
