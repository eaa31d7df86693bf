import type { SavedCluster } from "../../src/store/saved_cluster.ts";

export function aSavedCluster(changes: Partial<SavedCluster> = {}): SavedCluster {
  const initializer = {
    name: "initializer",
    control: { host: "127.0.0.1", port: 6000 },
    data: { host: "127.0.0.1", port: 6001 },
  };
  const worker1 = { name: "worker1", control: { host: "10.0.0.7", port: 6002 }, data: { host: "::1", port: 6003 } };
  return {
    state: "formed",
    clusterId: "0123456789abcdef0123456789abcdef",
    application: "Alerts (stateful)",
    fingerprint: "f".repeat(64),
    worker: "worker1",
    role: "worker",
    generation: 3,
    routingVersion: 1,
    keyGroupCount: 1024,
    members: [initializer, worker1],
    control: worker1.control,
    data: worker1.data,
    initializerAt: "127.0.0.1:6000",
    incarnation: "fedcba9876543210fedcba9876543210",
    startNumber: 2,
    workerCount: 2,
    savedAtMs: 1_790_000_000_000,
    ...changes,
  };
}
