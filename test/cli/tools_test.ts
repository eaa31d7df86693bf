import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { encodeDeadLetter, encodeDeadLettersHeader } from "../../src/store/dead_letter_file.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { encodePositionAck } from "../../src/wire/position_ack.ts";
import { withFolder } from "../lib/real_runtime.ts";
import { eventually, runMain, startMain, writeFiles } from "./run_main.ts";

interface Request {
  readonly id: number;
  readonly text: string;
}

/** A frame of the external channel, written here once more so that the tools are not checked by themselves. */
function frame(id: number, text: string): Buffer {
  const body = Buffer.from(text);
  const bytes = Buffer.alloc(6 + body.length);
  bytes.writeUInt32BE(2 + body.length, 0);
  bytes.writeUInt16BE(id, 4);
  body.copy(bytes, 6);
  return bytes;
}

/** Listens like a worker's external channel; `answer` is called for each request. */
async function withWorker<T>(
  answer: (request: Request, socket: Socket) => void,
  use: (address: string, requests: Request[]) => Promise<T>,
): Promise<T> {
  const requests: Request[] = [];
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("end", () => socket.end());
    let rest = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
        const end = 4 + rest.readUInt32BE(0);
        const request = { id: rest.readUInt16BE(4), text: rest.subarray(6, end).toString() };
        rest = rest.subarray(end);
        requests.push(request);
        answer(request, socket);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  try {
    return await use(`127.0.0.1:${port}`, requests);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

async function freeAddress(): Promise<string> {
  return withWorker(
    () => {},
    async (address) => address,
  );
}

const report = (fields: object): Buffer => frame(1002, JSON.stringify(fields));

test("shutdown waits for the last report and prints a line for each change of a worker", async () => {
  await withWorker(
    (_request, socket) => {
      socket.write(report({ worker: "initializer", status: "draining", detail: "" }));
      socket.write(report({ worker: "worker1", status: "stopped", detail: "3 batches left behind" }));
      socket.write(report({ worker: "worker1", status: "stopped", detail: "3 batches left behind" }));
      socket.write(report({ done: true, ok: true }));
    },
    async (address, requests) => {
      assert.deepEqual(await runMain(["shutdown", address]), {
        status: 0,
        out: "initializer: draining\nworker1: stopped: 3 batches left behind\n",
        err: "",
      });
      assert.deepEqual(requests, [{ id: 1001, text: "" }]);
    },
  );
});

test("shutdown is exit 1 when the cluster says that it did not stop cleanly", async () => {
  await withWorker(
    (_request, socket) => {
      socket.write(report({ worker: "worker1", status: "absent", detail: "" }));
      socket.write(report({ done: true, ok: false }));
    },
    async (address) => {
      const { status, err } = await runMain(["shutdown", address]);
      assert.equal(status, 1);
      assert.match(err, /^Error: The cluster of .* did not stop cleanly: worker1 absent\n$/);
    },
  );
});

test("shutdown is exit 1 when the connection ends before the last report", async () => {
  await withWorker(
    (_request, socket) => socket.end(report({ worker: "initializer", status: "draining", detail: "" })),
    async (address) => {
      const { status, err } = await runMain(["shutdown", address]);
      assert.equal(status, 1);
      assert.match(err, /ended the connection before .*: initializer draining\n$/);
    },
  );
});

test("shutdown of a server that only knows the original's request says what is known, exit 0", async () => {
  await withWorker(
    (request, socket) => {
      if (request.id === 3) socket.end();
    },
    async (address, requests) => {
      const { status, out, err } = await runMain(["shutdown", address]);
      assert.equal(status, 0, err);
      assert.match(out, /took the request and closed the connection/);
      assert.deepEqual(
        requests.map(({ id }) => id),
        [1001, 3],
      );
    },
  );
});

test("shutdown is exit 1 with one sentence: nobody listens, somebody else's port, no answer in time", async () => {
  const nobody = await freeAddress();
  const refused = await runMain(["shutdown", nobody]);
  assert.equal(refused.status, 1);
  assert.match(refused.err, new RegExp(`^Error: Unable to connect to ${nobody}: nobody listens there[^\n]*\n$`));

  await withWorker(
    (_request, socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"),
    async (address) => {
      const { status, err } = await runMain(["shutdown", address]);
      assert.equal(status, 1);
      assert.match(err, /^Error: Received invalid message from [^\n]* not the external channel of a worker\n$/);
    },
  );
  await withWorker(
    (_request, socket) => socket.end(),
    async (address) => {
      const { status, err } = await runMain(["shutdown", address]);
      assert.equal(status, 1);
      assert.match(err, /^Error: [^\n]* closed the connection without an answer[^\n]*\n$/);
    },
  );
  await withWorker(
    () => {},
    async (address) => {
      const { status, err } = await runMain(["shutdown", address, "--timeout", "1"]);
      assert.equal(status, 1);
      assert.match(err, /^Error: No end of the cluster of [^\n]* within 1 s: there was no answer[^\n]*\n$/);
    },
  );
});

test("shutdown --keep asks for that, and never in the original's way, which would remove the files", async () => {
  await withWorker(
    () => {},
    async (address, requests) => {
      const { status, err } = await runMain(["shutdown", "--keep", address, "--timeout", "4"]);
      assert.equal(status, 1, err);
      assert.deepEqual(requests, [{ id: 1007, text: "" }]);
    },
  );
});

test("checkpoint waits for the answer: exit 0 with its number, 1 with why there is none", async () => {
  const answers = [
    [{ epoch: 12, reason: "" }, 0, /^Checkpoint 12 is complete\n$/],
    [{ epoch: 0, reason: "the cluster recovers" }, 1, /^Error: [^\n]* took no checkpoint: the cluster recovers\n$/],
    [null, 1, /^Error: [^\n]* is none to what was asked\n$/],
    [{ epoch: "12" }, 1, /^Error: [^\n]* is none to what was asked\n$/],
  ] as const;
  for (const [body, expected, text] of answers) {
    await withWorker(
      (_request, socket) => void socket.write(frame(1006, JSON.stringify(body))),
      async (address, requests) => {
        const { status, out, err } = await runMain(["checkpoint", address]);
        assert.equal(status, expected, err);
        assert.match(out + err, text);
        assert.deepEqual(requests, [{ id: 1005, text: "" }]);
      },
    );
  }
  await withWorker(
    (_request, socket) => socket.end(),
    async (address) => {
      const { status, err } = await runMain(["checkpoint", address]);
      assert.equal(status, 1);
      assert.match(err, /^Error: Cannot tell whether a checkpoint was taken [^\n]*\n$/);
    },
  );
  assert.equal((await runMain(["checkpoint"])).status, 2);
  assert.equal((await runMain(["checkpoint", "127.0.0.1:1", "--timeout", "soon"])).status, 2);
  assert.equal((await runMain(["checkpoint", await freeAddress()])).status, 1);
});

test("shutdown without an argument is its usage, exit 2; a wrong address too", async () => {
  const bare = await runMain([], { calledAs: "cluster_shutdown" });
  assert.equal(bare.status, 2);
  assert.match(bare.err, /^Usage: cluster_shutdown HOST:PORT$/m);
  assert.equal((await runMain(["shutdown", "127.0.0.1"])).status, 2);
  assert.equal((await runMain(["shutdown", "127.0.0.1:1", "127.0.0.1:2"])).status, 2);
  assert.equal((await runMain(["shutdown", "127.0.0.1:1", "--tiemout", "2"])).status, 2);
});

const STATUS = { worker_count: 2, worker_names: ["initializer", "worker1"], processing_messages: true };

test("query prints the status line that scripts take apart, and JSON alone with --json", async () => {
  await withWorker(
    (_request, socket) => socket.write(frame(10, JSON.stringify(STATUS))),
    async (address) => {
      const plain = await runMain(["-e", address, "-t", "cluster-status-query"], { calledAs: "external_sender" });
      assert.deepEqual(plain, {
        status: 0,
        out: "Connected...\nCluster Status:\nProcessing messages: true, Worker count: 2, Workers: |initializer,worker1,|\n",
        err: "",
      });
      const json = await runMain(
        ["--external", address, "--type", "cluster-status-query", "--json", "--ponythreads=1"],
        {
          calledAs: "external_sender",
        },
      );
      assert.equal(json.status, 0);
      assert.deepEqual(JSON.parse(json.out), STATUS);
      const short = await runMain(["query", "cluster-status", address, "-j"]);
      assert.equal(short.out, json.out);
    },
  );
});

test("query says that a cluster is not initialized yet in both forms", async () => {
  await withWorker(
    (_request, socket) => socket.write(frame(11, "")),
    async (address) => {
      assert.equal(
        (await runMain(["query", "-e", address, "-t", "CLUSTER-STATUS-QUERY"])).out,
        "Connected...\nCluster Status:\nCluster not yet initialized\nProcessing messages: false\n",
      );
      const json = await runMain(["query", "-e", address, "-t", "cluster-status-query", "-j"]);
      assert.deepEqual(json, { status: 0, out: '{"processing_messages": false}\n', err: "" });
    },
  );
});

test("every query sends its message id and prints title and body", async () => {
  const body = { "340282366920938463463374607431768211455": { initializer: ["1", "2"] } };
  const cases: [type: string, id: number, answerId: number, title: string][] = [
    ["partition-query", 7, 8, "Partition Distribution:"],
    ["partition-count-query", 12, 13, "Partition Distribution (counts):"],
    ["state-entity-query", 17, 18, "State Entity Distribution:"],
    ["state-entity-count-query", 21, 22, "State Entity Count:"],
    ["stateless-partition-query", 19, 20, "Stateless Partition Distribution:"],
    ["stateless-partition-count-query", 23, 24, "Stateless Partition Count:"],
    ["cluster-state-entity-count-query", 25, 26, "Cluster State Entity Count:"],
  ];
  for (const [type, id, answerId, title] of cases) {
    await withWorker(
      (_request, socket) => socket.write(frame(answerId, JSON.stringify(body))),
      async (address, requests) => {
        const plain = await runMain(["query", "-e", address, "-t", type]);
        assert.equal(plain.out, `Connected...\n${title}\n${JSON.stringify(body)}\n`, type);
        const json = await runMain(["query", "-e", address, "-t", type, "--json"]);
        assert.deepEqual(JSON.parse(json.out), body);
        assert.deepEqual(requests, [
          { id, text: "" },
          { id, text: "" },
        ]);
      },
    );
  }
});

test("query prints source ids one a line, and everything that a worker tells about itself", async () => {
  await withWorker(
    ({ id }, socket) =>
      socket.write(
        id === 14
          ? frame(15, `{"source_ids":["12","34"]}`)
          : frame(1004, `{"phase":4,"peers":[{"name":"worker1","since_ms":5}],"sinks":[]}`),
      ),
    async (address) => {
      assert.equal((await runMain(["query", "source-ids", address])).out, "Connected...\nSource Ids:\n12\n34\n");
      assert.equal(
        (await runMain(["query", "status", address])).out,
        "Connected...\nStatus:\nphase: 4\npeers:\n  - name: worker1\n    since ms: 5\nsinks: none\n",
      );
    },
  );
});

test("what is only told, not asked, is exit 0 once it is written", async () => {
  for (const [type, message, expected] of [
    ["print", "grüße", { id: 1, text: "grüße" }],
    ["rotate-log", "worker1", { id: 2, text: "worker1" }],
    ["clean-shutdown", "bye", { id: 3, text: "bye" }],
    ["boundary-count-status", "x", { id: 16, text: "boundary-count-status" }],
  ] as const) {
    await withWorker(
      () => {},
      async (address, requests) => {
        assert.equal((await runMain(["query", "-e", address, "-t", type, "-m", message])).status, 0);
        await eventually(`${type} to arrive`, () => requests.length > 0);
        assert.deepEqual(requests, [expected]);
      },
    );
  }
});

test("query is exit 1 where there is no connection, no answer, or no worker; exit 2 for wrong usage", async () => {
  const refused = await runMain(["query", "-e", await freeAddress(), "-t", "partition-query", "--json"]);
  assert.equal(refused.status, 1);
  assert.equal(refused.out, "");
  assert.match(refused.err, /^Error: Failed to connect to /);
  await withWorker(
    (_request, socket) => socket.end(),
    async (address) => {
      const { status, err } = await runMain(["query", "partition", address]);
      assert.equal(status, 1);
      assert.match(err, /Error reading header/);
    },
  );
  await withWorker(
    (_request, socket) => socket.write(frame(8, "{not json")),
    async (address) => {
      const { status, err } = await runMain(["query", "partition", address]);
      assert.equal(status, 1);
      assert.match(err, /Received invalid message/);
    },
  );
  await withWorker(
    () => {},
    async (address) => {
      const { status, err } = await runMain(["query", "partition", address, "--timeout", "1"]);
      assert.equal(status, 1);
      assert.match(err, /no answer within 1 s/);
    },
  );
  for (const args of [
    [],
    ["partition"],
    ["partiton", "h:1"],
    ["-t", "partition-query"],
    ["partition", "h"],
    ["partition", "h:1", "x"],
  ]) {
    assert.equal((await runMain(["query", ...args])).status, 2, args.join(" "));
  }
  assert.match((await runMain(["query", "partiton", "h:1"])).err, /did you mean partition\?/);
});

test("an answer larger than a worker would take is read", async () => {
  const keys = Array.from({ length: 50_000 }, (_, i) => `key_${i}`);
  await withWorker(
    (_request, socket) => socket.write(frame(18, JSON.stringify({ 1: keys }))),
    async (address) => {
      const { out } = await runMain(["query", "state-entity", address, "--json"]);
      assert.equal(JSON.parse(out)["1"].length, 50_000);
    },
  );
});

test("shrink asks, prints the answer, and is exit 1 when it was refused", async () => {
  await withWorker(
    ({ text }, socket) =>
      socket.write(
        JSON.parse(text).query
          ? frame(5, `{"node_names":["worker1","worker2"],"node_count":2}`)
          : frame(6, JSON.parse(text).node_count === 1 ? "Shrinking by 1 workers!" : "Invalid shrink targets!"),
      ),
    async (address, requests) => {
      const shrink = (...args: string[]) => runMain(["-e", address, ...args], { calledAs: "cluster_shrinker" });
      assert.deepEqual(await shrink("-q"), {
        status: 0,
        out: "Eligible for shrink: Node count: 2, Nodes: |worker1,worker2,|\n",
        err: "",
      });
      assert.deepEqual(await shrink("--count", "1"), {
        status: 0,
        out: "Cluster shrink response: Shrinking by 1 workers!\n",
        err: "",
      });
      const refused = await shrink("-w", "worker9,worker8");
      assert.deepEqual(refused, { status: 1, out: "Cluster shrink response: Invalid shrink targets!\n", err: "" });
      assert.deepEqual(JSON.parse(requests.at(-1)!.text), {
        query: false,
        node_names: ["worker9", "worker8"],
        node_count: 0,
      });
      for (const args of [[], ["-q", "-c", "1"], ["-c", "0"], ["-c", "x"]]) {
        assert.equal((await shrink(...args)).status, 2, args.join(" "));
      }
    },
  );
});

test("receive prints bytes as they come, or the payload of each frame as a line", async () => {
  for (const [args, sent, printed] of [
    [[], "one\ntwo\nthr", "one\ntwo\nthr"],
    [["--framed"], "\0\0\0\x03one\0\0\0\0\0\0\0\x05two\n!", "one\ntwo\n!\n"],
    [["--no-write"], "one\n", ""],
  ] as const) {
    const running = await startMain(["--listen", "127.0.0.1:0", ...args, "--ponynoblock"], {
      calledAs: "data_receiver",
    });
    const [, port] = await eventually("the address", () => /^Listening on 127\.0\.0\.1:(\d+)\n/.exec(running.out()));
    const socket = connect(Number(port), "127.0.0.1");
    const closed = new Promise((resolve) => socket.on("close", resolve));
    // Byte by byte, so that frames are cut anywhere.
    for (const byte of Buffer.from(sent, "latin1")) socket.write(Buffer.of(byte));
    socket.end();
    socket.resume();
    await closed;
    await eventually("the output", () => running.out().endsWith(printed));
    running.stop();
    const { status, out } = await running.ended;
    assert.equal(status, 0);
    assert.equal(out.slice(out.indexOf("\n") + 1), printed);
  }
});

test("receive closes a connection whose frame is above --buffer-size, and goes on with others", async () => {
  const running = await startMain(["receive", "-l", "127.0.0.1:0", "-f", "-b", "4"]);
  const [, port] = await eventually("the address", () => /:(\d+)\n/.exec(running.out()));
  for (const text of ["\0\0\0\x05hello", "\0\0\0\x04good"]) {
    const socket = connect(Number(port), "127.0.0.1");
    const closed = new Promise((resolve) => socket.on("close", resolve));
    socket.on("error", () => {});
    socket.end(Buffer.from(text, "latin1"));
    socket.resume();
    await closed;
  }
  await eventually("the good record", () => running.out().endsWith("good\n"));
  running.stop();
  const { out, err } = await running.ended;
  assert.ok(!out.includes("hello"));
  assert.match(err, /a record of 5 bytes is above --buffer-size 4/);
});

test("receive is exit 2 for wrong usage, exit 11 for a port in use", async () => {
  assert.equal((await runMain(["receive"])).status, 2);
  assert.equal((await runMain(["receive", "--listen", "x"])).status, 2);
  await withWorker(
    () => {},
    async (address) => {
      const { status, err } = await runMain(["receive", "--listen", address]);
      assert.equal(status, 11);
      assert.ok(err.includes(address), err);
    },
  );
});

/** What a TCP source would have got from `tammar send`. */
async function sent(
  args: readonly string[],
  files: Record<string, string> = {},
): Promise<{ bytes: Buffer; copy: string | null; out: string }> {
  return withFolder(async (workingDir) => {
    writeFiles(workingDir, files);
    const chunks: Buffer[] = [];
    let ended = false;
    const server = createServer((socket) => {
      socket.on("data", (chunk: Buffer) => chunks.push(chunk));
      socket.on("end", () => {
        ended = true;
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const { status, out, err } = await runMain(["send", "--host", `127.0.0.1:${port}`, ...args], { workingDir });
    assert.equal(status, 0, err);
    await eventually("the end of the connection", () => ended);
    server.close();
    const copy = join(workingDir, "sent.txt");
    return { bytes: Buffer.concat(chunks), copy: existsSync(copy) ? readFileSync(copy, "utf8") : null, out };
  });
}

function framesOf(bytes: Buffer): string[] {
  const found: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32BE(at);
    found.push(bytes.subarray(at + 4, end).toString("latin1"));
    at = end;
  }
  return found;
}

const FAST = ["--interval", "1_000", "--batch-size", "3", "--no-write"];

test("send counts when it has no file, and keeps a copy unless told otherwise", async () => {
  const { bytes, copy, out } = await sent(["--messages", "4", "--start-from", "8", "-i", "1000"]);
  assert.deepEqual(framesOf(bytes), ["9", "10", "11", "12"]);
  assert.match(copy ?? "", /^\d{19}, 9\n\d{19}, 10\n\d{19}, 11\n\d{19}, 12\n$/);
  assert.equal(out, "Connected\n");
  assert.equal((await sent(["-m", "1", "-w"])).copy, null);
});

test("send --u64 frames each number once", async () => {
  const { bytes } = await sent(["--messages", "2", "--u64", "--partition", "key", ...FAST]);
  assert.equal(bytes.toString("hex"), "0000000b0000000000000001" + "6b6579" + "0000000b0000000000000002" + "6b6579");
});

test("send sends the lines of files in order, empty ones left out, over and over with --repeat", async () => {
  const files = { "a.txt": "one\n\n\ntwo\n", "b.txt": "\nthree" };
  assert.deepEqual(framesOf((await sent(["-m", "10", "-f", "a.txt,b.txt", ...FAST], files)).bytes), [
    "one",
    "two",
    "three",
  ]);
  assert.deepEqual(framesOf((await sent(["-m", "7", "-f", "a.txt,b.txt", "--repeat", ...FAST], files)).bytes), [
    ...["one", "two", "three", "one", "two", "three", "one"],
  ]);
  assert.deepEqual(
    framesOf((await sent(["-m", "7", "-f", "e.txt", "--repeat", ...FAST], { "e.txt": "\n\n" })).bytes),
    [],
  );
});

test("send reads lines longer than what it reads at once", async () => {
  const lines = ["x".repeat(150_000), "y", "z".repeat(70_000)];
  const { bytes } = await sent(["-m", "3", "-f", "a.txt", ...FAST], { "a.txt": lines.join("\n") });
  assert.deepEqual(framesOf(bytes), lines);
});

test("send --binary sends frames as they are in the file", async () => {
  const files = { "frames.bin": "\0\0\0\x02ab\0\0\0\x01c", "fixed.bin": "\0\0\0\x02ab\0\0\0\x02cd" };
  const variable = await sent(["-m", "5", "--binary", "--variable-size", "-f", "frames.bin", ...FAST], files);
  assert.deepEqual(framesOf(variable.bytes), ["ab", "c"]);
  const fixed = await sent(["-m", "1", "--binary", "--msg-size", "6", "-f", "fixed.bin", ...FAST], files);
  assert.deepEqual(framesOf(fixed.bytes), ["ab"]);
});

test("send shares messages out over several hosts in turn", async () => {
  const got: Buffer[][] = [[], []];
  let ended = 0;
  const servers = got.map((chunks) =>
    createServer((socket) => {
      socket.on("data", (chunk: Buffer) => chunks.push(chunk));
      socket.on("end", () => ended++);
    }),
  );
  for (const server of servers) await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const hosts = servers.map((server) => `127.0.0.1:${(server.address() as { port: number }).port}`).join(",");
  assert.equal((await runMain(["send", "-h", hosts, "-m", "5", ...FAST])).status, 0);
  await eventually("both ends", () => ended === 2);
  for (const server of servers) server.close();
  assert.deepEqual(
    got.map((chunks) => framesOf(Buffer.concat(chunks))),
    [
      ["1", "3", "5"],
      ["2", "4"],
    ],
  );
});

/** A source that acknowledges so many records, in two steps, if any. */
async function acknowledging(records: number | null, end = false) {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    if (records === null) return void socket.resume();
    socket.write(encodePositionAck(0, 0));
    socket.once("data", () => {
      socket.resume();
      const bytes = encodePositionAck(records, records * 5);
      socket.write(bytes.subarray(0, 7));
      setTimeout(() => {
        socket.write(bytes.subarray(7));
        if (end) socket.destroy();
      }, 20);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const result = await runMain(["send", "-h", `127.0.0.1:${port}`, "-m", "7", "--acks", "1", ...FAST]);
  server.close();
  return result;
}

test("send --acks waits until all is acknowledged, and says in words how far it is if not", async () => {
  const all = await acknowledging(7);
  assert.equal(all.status, 0, all.err);
  assert.match(all.out, /All 7 messages are acknowledged/);
  const some = await acknowledging(5);
  assert.equal(some.status, 1);
  assert.match(some.err, /has acknowledged 5 of 7 messages: send the others again/);
  const none = await acknowledging(null);
  assert.equal(none.status, 1);
  assert.match(
    none.err,
    /has acknowledged 0 of 7 messages: .* the source has said nothing: does its application have acks: true/,
  );
  const lost = await acknowledging(3, true);
  assert.equal(lost.status, 1);
  assert.match(lost.err, /has acknowledged 3 of 7 messages: .*the (connection was lost|source has closed)/);
});

test("send is exit 2 for wrong usage and exit 1 where nobody listens", async () => {
  for (const args of [
    [],
    ["--host", "127.0.0.1:1"],
    ["--messages", "1"],
    ["--host", "127.0.0.1", "--messages", "1"],
    ["--host", "127.0.0.1:1", "--messages", "1", "--binary", "--file", "x"],
    ["--host", "127.0.0.1:1", "--messages", "1", "--msg-size", "8"],
    ["--host", "127.0.0.1:1", "--messages", "1", "--file", "/does/not/exist"],
    ["--host", "127.0.0.1:1", "--messages", "1", "--u64", "--file", "x"],
    ["--host", "127.0.0.1:1", "--messages", "many"],
  ]) {
    assert.equal((await runMain(["send", ...args])).status, 2, args.join(" "));
  }
  const refused = await runMain(["send", "--host", await freeAddress(), "-m", "1", "-w"]);
  assert.equal(refused.status, 1);
  assert.match(refused.err, /^Error: Unable to connect to /);
});

test("metrics prints every legal frame of the vectors and skips the others, without losing the connection", async () => {
  const vectors = JSON.parse(readFileSync(new URL("../vectors/metrics.json", import.meta.url), "utf8")) as {
    name: string;
    hex: string;
    decoded?: { type: string; name: string; worker: string; total: string };
    error?: string;
  }[];
  const legal = vectors.filter(({ decoded }) => decoded?.type === "payload");
  assert.ok(legal.length > 3);
  const running = await startMain(["metrics", "--listen", "127.0.0.1:0"]);
  const [, port] = await eventually("the address", () => /:(\d+)\n/.exec(running.out()));
  const socket = connect(Number(port), "127.0.0.1");
  socket.on("error", () => {});
  for (const { hex } of legal) socket.write(Buffer.from(hex, "hex"));
  socket.write(Buffer.from("0000000199", "hex"));
  socket.end(Buffer.from(legal[0]!.hex, "hex"));
  const lines = () => running.out().split("\n").slice(1, -1);
  const expected = [...legal, legal[0]!].filter(({ decoded }) => decoded!.total !== "0");
  await eventually("all of them", () => lines().length >= expected.length);
  running.stop();
  const { status, err } = await running.ended;
  assert.equal(status, 0);
  assert.match(err, /a message of type 153; skipped/);
  assert.equal(lines().length, expected.length);
  for (const [at, { decoded }] of expected.entries()) {
    assert.ok(lines()[at]!.includes(`"${decoded!.name}": ${decoded!.total} records`), `${lines()[at]}`);
  }
});

test("metrics --json prints one object a line and nothing else", async () => {
  const vectors = JSON.parse(readFileSync(new URL("../vectors/metrics.json", import.meta.url), "utf8")) as {
    name: string;
    hex: string;
  }[];
  const byName = (name: string) => Buffer.from(vectors.find((vector) => vector.name === name)!.hex, "hex");
  const address = await freeAddress();
  const running = await startMain(["metrics", "--json", "--listen", address]);
  const socket = await new Promise<Socket>((resolve) => {
    const attempt = () => {
      const socket = connect(Number(address.split(":")[1]), "127.0.0.1");
      socket.on("connect", () => resolve(socket));
      socket.on("error", () => setTimeout(attempt, 5));
    };
    attempt();
  });
  socket.end(Buffer.concat([byName("connect"), byName("join"), byName("payload-computation")]));
  await eventually("the line", () => running.out().endsWith("\n"));
  running.stop();
  const { out } = await running.ended;
  const { bins, ...line } = JSON.parse(out);
  assert.equal(bins.length, 65);
  assert.deepEqual(line, {
    time: "2019-01-01T00:00:02.000Z",
    application: "app",
    worker: "initializer",
    pipeline: "convert",
    category: "computation",
    name: "multiply by 1.8",
    id: 2,
    count: 9,
    min_ns: 0,
    max_ns: 123_456_789,
    period_ns: 2_000_000_000,
    period_end_ns: "1546300802000000000",
  });
});

test("store says what is in a directory without workers, and is exit 2 for wrong usage", async () => {
  await withFolder(async (workingDir) => {
    mkdirSync(join(workingDir, "empty"));
    const run = (...args: string[]) => runMain(["store", ...args], { workingDir });
    assert.match((await run("show", "empty")).out, /nothing is saved in /);
    assert.match((await run("list", "empty")).out, /no checkpoints in /);
    assert.equal((await run("verify", "empty")).status, 0);
    assert.match((await run("clean", "empty")).out, /nothing to clean/);
    for (const args of [
      [],
      ["show"],
      ["sohw", "empty"],
      ["show", "empty", "more"],
      ["show", "gone"],
      ["show", "empty", "--dry-run"],
      ["show", "empty", "--key", "k"],
      ["list", "empty", "--stage", "s"],
      ["show", "empty", "--stage", "s"],
      ["show", "empty", "--stage", "s", "--checkpoint", "0"],
    ]) {
      assert.equal((await run(...args)).status, 2, args.join(" "));
    }
  });
});

test("dead-letters lists records that were refused, as lines and as JSON, and sends those that came over TCP again", async () => {
  await withFolder(async (workingDir) => {
    const folder = join(workingDir, "Alerts/w1");
    mkdirSync(folder, { recursive: true });
    const out = new ByteWriter();
    encodeDeadLettersHeader(out);
    const letter = {
      ...{ place: null, time: null, head: null },
      atMs: 0,
      worker: "w1",
      source: "words",
      during: "decode",
      key: null,
      error: "Error: no\u001b",
      unfit: null,
    };
    const framing = { headerBytes: 2, littleEndian: true };
    const bytes = new TextEncoder().encode("hello");
    const place = { kind: "tcp", peer: "127.0.0.1:9", frame: 3, byte: 21 } as const;
    encodeDeadLetter(out, { ...letter, place, framing, stage: "words/decode", bytes, value: undefined });
    const value = { n: 7n };
    encodeDeadLetter(out, { ...letter, source: null, framing: null, stage: "words/x", key: "k", bytes: null, value });
    encodeDeadLetter(out, { ...letter, framing: null, stage: "words/x", bytes: null, value: { f: () => {} } });
    const file = join(folder, `dead-letters-${"0".repeat(32)}`);
    writeFileSync(file, out.written());
    const run = (...args: string[]) => runMain(["dead-letters", ...args], { workingDir });
    const listed = await run(".");
    assert.equal(listed.status, 0, listed.err);
    assert.equal(
      listed.out,
      "1970-01-01T00:00:00.000Z w1 words/decode (decode): Error: no\\u001b: 5 bytes hello; from source words, frame 3 (at byte 21) of the connection from 127.0.0.1:9; can be let in again\n" +
        '1970-01-01T00:00:00.000Z w1 words/x (decode, key "k"): Error: no\\u001b: {"n":{"$bigint":"7"}}; from a source that is not known (behind an exchange); can be let in again\n' +
        "1970-01-01T00:00:00.000Z w1 words/x (decode): Error: no\\u001b: no record: $.value.f is a function (f): only plain data can be carried; from source words; can only be listed\n" +
        "3 dead letters\n",
    );
    const json = (await run(".", "--json", "--source", "words")).out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      json.map(({ bytes }) => bytes),
      ["aGVsbG8=", null],
    );
    assert.deepEqual(
      json.map(({ resendable }) => resendable),
      [true, false],
    );
    assert.match(json[1].why_not, /^the record was not kept: /);
    const received: number[] = [];
    const server = createServer((socket) => socket.on("data", (chunk: Buffer) => received.push(...chunk)));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const sent = await run(".", "--send-to", `127.0.0.1:${port}`);
    assert.match(sent.out, /^1 sent again\n1 not sent: it was decoded already\n1 not sent: the record was not kept: /);
    await eventually("the record", () => received.length === 7);
    assert.deepEqual(received, [5, 0, ...bytes]);
    server.close();
    // Cut short: what is whole is listed, and what is not is said.
    writeFileSync(file, out.written().subarray(0, out.length - 3));
    const cut = await run("Alerts");
    assert.equal(cut.status, 0, "a worker may be writing it just now");
    assert.match(cut.out, /2 dead letters\n$/);
    assert.match(cut.err, /torn at offset \d+: the last letter is not whole/);
    const damaged = out.written().slice();
    damaged[30]! ^= 1;
    writeFileSync(file, damaged);
    const bad = await run("Alerts");
    assert.equal(bad.status, 12);
    assert.match(bad.err, /damaged at offset 8: the checksum of a letter is wrong/);
    assert.equal((await run("nowhere")).status, 2);
    assert.equal((await run()).status, 2);
  });
});

test("links writes the original's names, but only from an executable", async () => {
  await withFolder(async (workingDir) => {
    const { status, out } = await runMain(["links", "bin"], { workingDir, compiled: true });
    assert.equal(status, 0);
    for (const name of [
      "machida",
      "machida3",
      "cluster_shutdown",
      "cluster_shrinker",
      "external_sender",
      "sender",
      "data_receiver",
    ]) {
      assert.ok(out.includes(`${workingDir}/bin/${name} -> /opt/tammar\n`), name);
    }
    assert.equal(out.trimEnd().split("\n").length, 7);
    writeFiles(workingDir, { file: "not a folder" });
    const refused = await runMain(["links", "file"], { workingDir, compiled: true });
    assert.equal(refused.status, 11);
    assert.match(refused.err, /^Error: Cannot write links in .*file: it is not a folder/);
    assert.equal((await runMain(["links", "bin"], { workingDir })).status, 2);
    assert.equal((await runMain(["links"], { compiled: true })).status, 2);
  });
});

const WATCHED = {
  application: "Words",
  cluster_id: "c1",
  worker_names: ["initializer", "worker1"],
  absent: [],
  workers: {
    initializer: {
      phase: 4,
      generation: 3,
      muted: [{ input: "source words", by: ["sink words/out"] }],
      sinks: [{ name: "words/out", connected: true, queued_bytes: 20, muted_ms: 1500 }],
      stages: [{ keys: 3 }, { keys: 4 }],
      checkpoint: {
        ...{
          epoch: 9,
          age_ms: 400,
          duration_ms: 12.5,
          total_state_bytes: 2048,
          total_written_bytes: 512,
          align_ms: 1.5,
        },
        ...{ write_ms: 3, state_bytes: 1024, written_bytes: 256, recovery_role: "survivor", recovery_epoch: 7 },
        ...{ writing_epoch: 10, writing_ms: 12_000 },
        ...{ recovery_age_ms: 61_000, recovery_reason: "worker1 has started", recovery_gather_ms: 10 },
      },
    },
    worker1: { phase: 4, checkpoint: { epoch: 9, age_ms: 410, recovery_role: "returned", recovery_restore_ms: 20 } },
  },
};

test("query --watch shows checkpoint, recovery and who is muted, says when the worker is gone, sees it again, and ends with 0", async () => {
  // The second look gets no answer, as from a worker that is just ending.
  let looks = 0;
  await withWorker(
    (_request, socket) => {
      if (++looks === 2) return socket.destroy();
      return socket.write(frame(1004, JSON.stringify(WATCHED)));
    },
    async (address) => {
      const text = await startMain(["query", "--watch", address, "--interval", "1"]);
      await eventually("three blocks", () => text.out().split('"Words", cluster c1; 2 workers answered').length > 2);
      text.stop();
      const { status, out, err } = await text.ended;
      assert.deepEqual([status, err], [0, ""]);
      assert.match(out, /checkpoint 9, 400 ms old; took 12.5 ms, state 2048 bytes, wrote 512 bytes/);
      assert.match(out, /initializer: checkpoint 9; aligned in 1.5 ms, written in 3 ms; state 1024 bytes/);
      assert.match(
        out,
        /last recovery: 61.0 s ago, to checkpoint 7: worker1 has started; returned: worker1; survivors: initializer/,
      );
      assert.match(out, /initializer: stood still 10 ms until/);
      assert.match(out, /worker1: .* read 0 keys in 20 ms/);
      assert.match(out, /muted: source words, by sink words\/out/);
      assert.match(out, /checkpoint 10 writing for 12\.0 s/);
      assert.match(out, /sink words\/out: connected, 20 bytes queued, has held its sources back for 1.5 s/);
      assert.match(out, /unreachable: .*; it is tried again/);
      assert.ok(!out.includes("\u001b"), "no redrawing on a pipe");

      const json = await startMain(["query", "status", address, "--watch", "--json", "--interval", "200ms"]);
      await eventually("two objects", () => json.out().split("\n").length > 2);
      json.stop();
      assert.equal((await json.ended).status, 0);
      for (const line of (await json.ended).out.trimEnd().split("\n")) {
        assert.deepEqual({ ...JSON.parse(line), at: "" }, { at: "", reachable: true, status: WATCHED });
      }
    },
  );
  const nobody = await startMain(["query", "--watch", await freeAddress(), "--json"]);
  const line = await eventually("a line", () => nobody.out().includes("\n") && nobody.out());
  assert.equal(JSON.parse(line).reachable, false);
  assert.match(JSON.parse(line).error, /nobody listens there/);
  nobody.stop();
  assert.equal((await nobody.ended).status, 0);
});

test("query refuses an interval without --watch or out of bounds, and to watch something else than the status", async () => {
  for (const [args, says] of [
    [["query", "status", "127.0.0.1:1", "--interval", "2"], /--interval has a meaning only with --watch/],
    [["query", "--watch", "127.0.0.1:1", "--interval", "0"], /--interval/],
    [["query", "--watch", "127.0.0.1:1", "--interval", "3601"], /--interval/],
    [["query", "--watch", "127.0.0.1:1", "--interval", "99ms"], /--interval 99ms: give a time from 100ms to 1h/],
    [["query", "--watch", "127.0.0.1:1", "--interval", "2h"], /--interval/],
    [["query", "--watch", "127.0.0.1:1", "--interval", "soon"], /--interval soon: give a time/],
    [["query", "partition", "127.0.0.1:1", "--watch"], /--watch shows the status/],
  ] as const) {
    const { status, err } = await runMain(args);
    assert.equal(status, 2, err);
    assert.match(err, says);
  }
});
