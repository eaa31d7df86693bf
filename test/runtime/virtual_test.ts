import type { Runtime } from "../../src/runtime/runtime.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { runContract } from "./contract.ts";

for (const seed of [1, 2, 3]) {
  runContract(`virtual runtime, seed ${seed}`, async () => {
    const world = new VirtualWorld({ seed });
    const host = world.host("machine", { files: { "/scratch/.keep": "" } });
    let runtime: Runtime | null = null;
    const process = host.startProcess((started) => {
      runtime = started;
    });
    await world.runUntil(() => runtime !== null, 1000);
    await world.drive(runtime!.disk.makeDir("/scratch/empty"));
    return {
      runtime: runtime!,
      folder: "/scratch/empty",
      silentAddress: async () => {
        world.host("silent").powerLoss();
        return { host: "silent", port: 80 };
      },
      drive: (body) => world.drive(body),
      done: async () => process.kill(),
    };
  });
}
