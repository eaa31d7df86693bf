/** Failpoints are in the build for tests, and in no release. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { examples, withFolder } from "../../cluster/lib/cluster.ts";
import { freePorts } from "../../cluster/lib/ports.ts";
import { binary, Program } from "../../cluster/lib/process.ts";
import { waitFor } from "../../cluster/lib/wait.ts";
import {
  FAILPOINT_VARIABLE,
  parseFailpoints,
  REPORT_PREFIX,
  showFailpoints,
  TWIN_VARIABLE,
  type TwinSettings,
  WANTED,
} from "./failpoints.ts";
import { TEST_BUILD } from "./real_stage.ts";

test("a failpoint is written and read as POINT#N=ACTION", () => {
  const failpoints = parseFailpoints("start.begin#1=stop,data.batch_sent#20=kill");
  assert.deepEqual(failpoints, [
    { point: "start.begin", n: 1, action: "stop" },
    { point: "data.batch_sent", n: 20, action: "kill" },
  ]);
  assert.equal(showFailpoints(failpoints), "start.begin#1=stop,data.batch_sent#20=kill");
  for (const wrong of ["start.begin", "start.begin#0=kill", "nowhere#1=kill", "start.begin#1=sleep"]) {
    assert.throws(() => parseFailpoints(wrong), new RegExp(FAILPOINT_VARIABLE));
  }
});

test("the release contains no name of what only the build for tests knows", () => {
  const names = [FAILPOINT_VARIABLE, TWIN_VARIABLE, REPORT_PREFIX.trim(), WANTED];
  const [release, forTests] = [binary, TEST_BUILD].map((path) => readFileSync(path));
  for (const name of names) {
    assert.ok(forTests!.includes(name), `${name} is in the build for tests, so it would be found`);
    assert.ok(!release!.includes(name), `${name} is in the release`);
  }
});

/** An initializer alone, with a variable in its environment. */
async function runAlone(folder: string): Promise<(command: string, env: Record<string, string>) => Program> {
  const [control, data, source, sink] = (await freePorts(4)).map((port) => `127.0.0.1:${port}`);
  return (command, env) =>
    new Program(
      command,
      [
        ...["worker", "--application-module", examples.wordCount, "--cluster-initializer", "--resilience-dir", folder],
        ...["--control", control!, "--data", data!, "--in", `words@${source}`, "--out", sink!],
      ],
      { command: [command], env },
    );
}

test("a failpoint kills or stops the build for tests at its point, and the release goes on", async () => {
  await withFolder(async (folder) => {
    const alone = await runAlone(folder);
    const run = (command: string, action: string): Program =>
      alone(command, { [FAILPOINT_VARIABLE]: `start.control_listening#1=${action}` });
    const killed = run(TEST_BUILD, "kill");
    assert.deepEqual(await killed.exit(), { status: null, signal: "SIGKILL" });

    const stopped = run(TEST_BUILD, "stop");
    try {
      const isStopped = () =>
        stopped.pid > 0 && /^State:\s+T/m.test(readFileSync(`/proc/${stopped.pid}/status`, "utf8"));
      await waitFor(isStopped, { what: "the process to be stopped", seen: () => stopped.tail() });
      assert.ok(!stopped.output.includes("control: listening"), "it has not come further");
      stopped.signal("SIGCONT");
      await stopped.waitForOutput("data channel: listening");
    } finally {
      await stopped.kill();
    }

    const release = run(binary, "kill");
    try {
      await release.waitForOutput("data channel: listening");
      assert.equal(release.end, null);
    } finally {
      await release.kill();
    }
  });
});

test("the build for tests asks about its calls to disk and network, and the release asks nobody", async () => {
  await withFolder(async (folder) => {
    const alone = await runAlone(folder);
    const settings: TwinSettings = {
      machine: "initializer",
      proxy: { host: "127.0.0.1", port: 1 },
      limits: {},
      tellsOf: [],
      statusMs: 1_000,
      wallOffsetMs: 0,
      asksDiskOf: folder,
      asksNet: true,
    };
    const env = { [TWIN_VARIABLE]: JSON.stringify(settings) };
    const asking = alone(TEST_BUILD, env);
    try {
      await asking.waitForOutput('{"kind":"disk"');
      // Without an answer.
      assert.ok(!asking.output.includes("listening"), "it waits for the answer");
    } finally {
      await asking.kill();
    }
    const release = alone(binary, env);
    try {
      await release.waitForOutput("data channel: listening");
      assert.ok(!release.output.includes(REPORT_PREFIX), "it asks nothing");
    } finally {
      await release.kill();
    }
  });
});
