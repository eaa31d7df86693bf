import { generateScenario } from "../../src/simulation/generate.ts";
import { execute } from "./execute.ts";
const from = BigInt(process.argv[2] ?? "1"), want = Number(process.argv[3] ?? 20);
let n = 0, bad = 0; const t0 = Date.now(); const reach = new Map<string, number>(); let commits = 0, aborts = 0;
for (let seed = from; n < want; seed++) {
  const s = generateScenario(seed);
  if (s.application !== "two_phase") continue;
  n++;
  const r = await execute(s);
  for (const t of r.observation.transactions) if (t.entry.event === "phase2") t.entry.decision === "commit" ? commits++ : aborts++;
  for (const [k, v] of r.reached) if (/sink_|rare/.test(k)) reach.set(k, (reach.get(k) ?? 0) + v);
  if (r.violations.length > 0) { bad++; console.log("seed", seed, r.violations.slice(0, 3)); }
}
console.log(n, "runs", bad, "bad", (Date.now() - t0) / 1000, "s", { commits, aborts });
console.log([...reach].sort());
