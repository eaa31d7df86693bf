/**
 * Many runs, over several processes of a runtime. A child does every `jobs`-th piece and says a line of JSON for each; the
 * parent puts them in order, so that the result does not depend on how many there are.
 */
import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { piecesOf, type RunReport, runPiece, type Work, wordsOf, workOf } from "./work.ts";

export type RuntimeName = "bun" | "deno";

/** A run that takes longer, in real time, goes round in circles. */
const RUN_MS = 240_000;

/**
 * Has `count` pieces of `work` done by as many children and calls `each` in the order of pieces.
 *
 * @param runtime Left out: the one that this runs on.
 * @throws {Error} A child died, or hangs: it says in which run.
 */
export async function share(
  work: Work,
  count: number,
  jobsMax: number,
  each: (report: RunReport, index: number) => void,
  runtime?: RuntimeName,
): Promise<void> {
  const jobs = Math.min(jobsMax, count);
  const waiting: RunReport[][] = Array.from({ length: jobs }, () => []);
  let next = 0;
  const drain = (): void => {
    for (; next < count; next++) {
      const report = waiting[next % jobs]!.shift();
      if (report === undefined) return;
      each(report, next);
    }
  };
  const taken = waiting.map(() => 0);
  const children = waiting.map((queue, job) => {
    const take = (line: string): void => {
      taken[job]!++;
      queue.push(JSON.parse(line) as RunReport);
      drain();
    };
    return child([...wordsOf(work), String(job), String(jobs)], take, runtime);
  });
  try {
    await Promise.all(
      children.map(async ({ over }, job) => {
        const why = await over;
        if (why === null) return;
        const index = job + jobs * taken[job]!;
        const at = index < count ? (await piecesOf(work)).at(index).name : "its end";
        throw new Error(`a process of the simulator ${why}, at ${at}`);
      }),
    );
  } finally {
    for (const { kill } of children) kill();
  }
  if (next < count) throw new Error(`${count - next} of ${count} runs are missing`);
}

/** The child's side of `share`. */
export async function doShare(words: readonly string[]): Promise<void> {
  const [job, jobs] = words.slice(-2).map(Number) as [number, number];
  const pieces = await piecesOf(workOf(words.slice(0, -2)));
  for (let i = job; i < pieces.count; i += jobs) {
    process.stdout.write(`${JSON.stringify(await runPiece(pieces.at(i)))}\n`);
  }
}

interface Child {
  /** Why it ended; null: in order. */
  readonly over: Promise<string | null>;
  readonly kill: () => void;
}

/** Starts this program again and hands over each line it says. */
function child(args: readonly string[], line: (text: string) => void, runtime?: RuntimeName): Child {
  const isDeno = runtime === undefined ? "Deno" in globalThis : runtime === "deno";
  const runtimeArgs = isDeno ? ["run", "-A", "--no-check"] : [];
  const main = fileURLToPath(new URL("./main.ts", import.meta.url));
  const executable =
    runtime === undefined
      ? process.execPath
      : fileURLToPath(new URL(`../../node_modules/.bin/${runtime}`, import.meta.url));
  const started = spawn(executable, [...runtimeArgs, main, "--child", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const kill = (): void => void started.kill("SIGKILL");
  const over = new Promise<string | null>((resolve) => {
    const hangs = (): void => {
      resolve(`has said nothing for ${RUN_MS / 1000} s`);
      kill();
    };
    let timer = setTimeout(hangs, RUN_MS);
    let rest = "";
    started.stdout.setEncoding("utf8");
    started.stdout.on("data", (chunk: string) => {
      clearTimeout(timer);
      timer = setTimeout(hangs, RUN_MS);
      const lines = (rest + chunk).split("\n");
      rest = lines.pop()!;
      for (const text of lines) line(text);
    });
    started.on("error", (error) => resolve(`could not be started: ${error.message}`));
    started.on("close", (status, signal) => {
      clearTimeout(timer);
      resolve(status === 0 ? null : `ended with ${status ?? signal}`);
    });
  });
  return { over, kill };
}

/** Of the hashes of runs, in order. */
export class HashOfHashes {
  #a = 0x811c_9dc5 | 0;
  #b = 0x9e37_79b9 | 0;

  add(hash: string): void {
    for (let at = 0; at < hash.length; at++) {
      this.#a = Math.imul(this.#a ^ hash.charCodeAt(at), 0x0100_0193);
      this.#b = Math.imul(((this.#b << 13) | (this.#b >>> 19)) ^ hash.charCodeAt(at), 0x85eb_ca6b);
    }
  }

  get hex(): string {
    return (this.#a >>> 0).toString(16).padStart(8, "0") + (this.#b >>> 0).toString(16).padStart(8, "0");
  }
}
