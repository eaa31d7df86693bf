import { generateScenario } from "../../src/simulation/generate.ts";
import { execute } from "./execute.ts";
const s = generateScenario(BigInt(process.argv[2]!));
const r = await execute(s);
console.log(r.violations, JSON.stringify(r.observation.ending), s.workers, s.checkpointMs, JSON.stringify(s.limits), JSON.stringify(s.network));
const last = Number(process.argv[3] ?? 40);
for (const l of r.observation.log.slice(-last)) console.log(l.timeMs.toFixed(1), l.worker, l.process, l.level, l.code, l.text.slice(0, 200));
for (const t of r.observation.transactions.slice(-12)) console.log(t.timeMs.toFixed(1), t.worker, JSON.stringify(t.entry).replace(/Two phases-w-\w+-id-\d+/, ""));
