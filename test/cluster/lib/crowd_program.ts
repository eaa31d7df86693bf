/**
 * A crowd of strangers, as a process of its own: opens many connections to one port at once, holds them, and says on each line
 * of its standard output how it stands.
 *
 *   crowd_program.ts HOST PORT COUNT [--say HEX] [--drip MS] [--again]
 *
 * `--say`: what each says at first. `--drip`: then one byte, so often. `--again`: who is closed comes again.
 */
import { connect } from "node:net";
import process from "node:process";
import type { CrowdState } from "./crowd.ts";

const [host, port, count, ...options] = process.argv.slice(2);
function option(name: string): string | null {
  const at = options.indexOf(name);
  return at < 0 ? null : (options[at + 1] ?? "");
}
const first = Buffer.from(option("--say") ?? "", "hex");
const dripMs = Number(option("--drip") ?? "0");
const again = options.includes("--again");
/** Connections that are being opened at the same time: the backlog of a listener holds as many. */
const OPENING_MAX = 500;
/** Should nobody end it. */
const LIFE_MS = 120_000;

const wanted = Number(count);
const state: CrowdState = { begun: 0, opened: 0, open: 0, closed: 0, failed: 0 };
let opening = 0;

function come(): void {
  opening += 1;
  state.begun += 1;
  let isOpen = false;
  let drip: ReturnType<typeof setInterval> | undefined;
  const socket = connect({ host: host as string, port: Number(port) });
  socket.on("error", () => {});
  socket.on("connect", () => {
    opening -= 1;
    isOpen = true;
    state.opened += 1;
    state.open += 1;
    if (first.length > 0) socket.write(first);
    if (dripMs > 0) drip = setInterval(() => socket.write(Buffer.alloc(1)), dripMs);
  });
  socket.on("end", () => socket.destroy());
  socket.on("close", () => {
    clearInterval(drip);
    if (isOpen) {
      state.open -= 1;
      state.closed += 1;
    } else {
      opening -= 1;
      state.failed += 1;
    }
  });
  socket.resume();
}

setInterval(() => {
  while (opening < OPENING_MAX && (again ? state.open + opening : state.begun) < wanted) come();
}, 5);
setInterval(() => process.stdout.write(`${JSON.stringify(state)}\n`), 100);
setTimeout(() => process.exit(), LIFE_MS);
