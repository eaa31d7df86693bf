/**
 * The two-phase sink as a program of its own:
 *
 *   bun test/compat/aloc_sink.ts OUT RULES [PORT]        (or deno run -A)
 *
 * It listens on 127.0.0.1, port 7200 unless another one is given (0: any, printed). A worker's output is kept in
 * `OUT.<worker>`, its transaction log in `OUT.<worker>.txnlog`; `RULES.<worker>`, if it is there, is a JSON array of rules:
 * `[{ "transaction": ":c_id=3", "vote": "abort", "close": "before" }]`. It ends with 66 when a worker breaks the protocol.
 */
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { SINK_COOKIE_DEFAULT } from "../../src/api/connector_sink.ts";
import type { SinkRule } from "../../src/simulation/environment/sink_book.ts";
import { TwoPhaseSink } from "../../src/simulation/environment/two_phase_sink.ts";
import { realRuntime } from "../lib/real_runtime.ts";

const runtime = await realRuntime();
const [out = "", rules = "", port = "7200"] = runtime.host.args.filter(
  (argument) => !argument.endsWith("aloc_sink.ts"),
);
if (out === "" || rules === "") {
  console.error("usage: aloc_sink.ts OUT RULES [PORT]");
  runtime.host.exit(2);
}

const sink = new TwoPhaseSink({
  runtime,
  path: resolve(out),
  cookie: SINK_COOKIE_DEFAULT,
  rulesOf: (instance) => {
    const path = `${resolve(rules)}.${instance}`;
    return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as SinkRule[]) : [];
  },
  fatal: (instance, text) => {
    console.error(`${instance}: ${text}`);
    runtime.host.exit(66);
  },
});
const address = await sink.listen({ host: "127.0.0.1", port: Number(port) });
console.log(`listening on ${address.host}:${address.port}`);
