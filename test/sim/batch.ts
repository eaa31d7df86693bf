/**
 * Many runs, over several processes of a runtime. A child does every `jobs`-th piece and says a line of JSON for each; the
 * parent puts them in order, so that the result does not depend on how many there are.
 */
import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { piecesOf, type RunReport, runPiece, type Work, wordsOf, workOf } from "./work.ts";

export type RuntimeName = "bun" | "deno";

/**
 * Has `count` pieces of `work` done by as many children and calls `each` in the order of pieces.
 *
 * @param runtime Left out: the one that this runs on.
 * @throws {Error} A child died.
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
  await Promise.all(
    waiting.map((queue, job) => {
      const take = (line: string): void => {
        queue.push(JSON.parse(line) as RunReport);
        drain();
      };
      return child([...wordsOf(work), String(job), String(jobs)], take, runtime);
    }),
  );
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

/** Starts this program again and hands over each line it says. */
function child(args: readonly string[], line: (text: string) => void, runtime?: RuntimeName): Promise<void> {
  const isDeno = runtime === undefined ? "Deno" in globalThis : runtime === "deno";
  const runtimeArgs = isDeno ? ["run", "-A", "--no-check"] : [];
  const main = fileURLToPath(new URL("./main.ts", import.meta.url));
  const executable =
    runtime === undefined
      ? process.execPath
      : fileURLToPath(new URL(`../../node_modules/.bin/${runtime}`, import.meta.url));
  return new Promise((resolve, reject) => {
    const started = spawn(executable, [...runtimeArgs, main, "--child", ...args], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let rest = "";
    started.stdout.setEncoding("utf8");
    started.stdout.on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop()!;
      for (const text of lines) line(text);
    });
    started.on("error", reject);
    started.on("close", (status, signal) => {
      if (status === 0) resolve();
      else reject(new Error(`a process of the simulator ended with ${status ?? signal}`));
    });
  });
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
