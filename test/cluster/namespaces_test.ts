/**
 * Two machines, as far as one can have them: two network namespaces with an address each. Both workers listen on wildcard
 * addresses, and each must tell the other an address that it can reach.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { examples, notRunHere, withFolder } from "./lib/cluster.ts";
import { Program, runTammar, tammarCommand } from "./lib/process.ts";
import { waitFor } from "./lib/wait.ts";

const suffix = `${process.pid % 10_000}`;
const [left, right] = [`tmra${suffix}`, `tmrb${suffix}`];
const [leftAddress, rightAddress] = ["10.231.77.1", "10.231.77.2"];

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: "pipe" });
}

function setUp(): string | null {
  try {
    execFileSync("ip", ["-V"], { stdio: "pipe" });
  } catch {
    return "there is no ip command (package iproute2)";
  }
  try {
    ip("netns", "add", left);
    ip("netns", "add", right);
    ip("-n", left, "link", "add", "tmr0", "type", "veth", "peer", "name", "tmr0", "netns", right);
    for (const [space, address] of [
      [left, leftAddress],
      [right, rightAddress],
    ] as const) {
      ip("-n", space, "addr", "add", `${address}/24`, "dev", "tmr0");
      ip("-n", space, "link", "set", "tmr0", "up");
      ip("-n", space, "link", "set", "lo", "up");
    }
    return null;
  } catch (error) {
    tearDown();
    return `network namespaces are not permitted (${(error as Error).message.split("\n").at(-2) ?? "error"})`;
  }
}

function tearDown(): void {
  for (const space of [left, right]) {
    try {
      ip("netns", "del", space);
    } catch {
      // It was never made.
    }
  }
}

test("two workers on two machines that listen on wildcard addresses find each other, and again after a kill", async () => {
  const obstacle = setUp();
  if (obstacle !== null) {
    notRunHere("two workers in two network namespaces", obstacle);
    return;
  }
  const programs: Program[] = [];
  const inside = (space: string): string[] => ["ip", "netns", "exec", space, ...tammarCommand()];
  const start = (space: string, label: string, args: readonly string[]): Program => {
    const program = new Program(label, args, { command: inside(space) });
    programs.push(program);
    return program;
  };
  try {
    await withFolder(async (folder) => {
      // Each machine has a disk of its own, and ports may be the same on both.
      const common = [
        "worker",
        "--application-module",
        examples.alerts,
        "--out",
        `${leftAddress}:7010`,
        "--rate",
        "200",
      ];
      const first = [
        ...[...common, "--resilience-dir", `${folder}/left`, "--cluster-initializer", "--worker-count", "2"],
        ...["--control", "0.0.0.0:6000", "--data", "0.0.0.0:6001", "--external", "0.0.0.0:6002"],
      ];
      const second = [
        ...[...common, "--resilience-dir", `${folder}/right`, "--name", "worker1", "--control", `${leftAddress}:6000`],
        ...["--my-control", "0.0.0.0:6000", "--my-data", "0.0.0.0:6001", "--external", "0.0.0.0:6002"],
      ];
      const sink = start(left, "sink", ["receive", "--listen", "0.0.0.0:7010"]);
      await sink.waitForOutput("Listening on");
      const initializer = start(left, "initializer", first);
      let worker = start(right, "worker1", second);
      await initializer.waitForOutput("INIT PHASE IV");
      await worker.waitForOutput("INIT PHASE IV");
      const names = ["Fido", "Rex", "Dr. Whiskers", "Feathers", "Mountaineer"];
      // Users of both workers: records crossed the wire.
      await waitFor(() => names.every((name) => sink.stdout.includes(`Alert for ${name}:`)), {
        what: "alerts for all users",
        seen: () => sink.tail(),
      });

      // `ip netns exec` becomes the program, so this is the worker's own process.
      for (const victim of ["worker", "initializer"] as const) {
        const again = victim === "worker" ? worker : initializer;
        await again.kill();
        const back = victim === "worker" ? start(right, "worker1", second) : start(left, "initializer", first);
        if (victim === "worker") worker = back;
        await back.waitForOutput("INIT PHASE IV");
        const from = sink.stdout.length;
        await waitFor(() => sink.stdout.length > from + 200, { what: "more alerts" });
      }

      const result = await runTammar(["shutdown", `${leftAddress}:6002`], { command: inside(right) });
      assert.equal(result.status, 0, result.output);
      assert.equal((await worker.exit()).status, 0, worker.tail());
    });
  } catch (error) {
    for (const program of programs) console.log(program.tail());
    throw error;
  } finally {
    for (const program of programs) if (program.end === null) await program.kill();
    tearDown();
  }
});
