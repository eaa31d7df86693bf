// A story about one link in a few commands, with everything the two ends did: `transcripts/*.txt`. A line that starts with
// `> ` is a command, lines that start with `#` are for the reader, the others are what happened.

import { LinkWorld, type Side } from "./link_world.ts";

/** Runs the commands of a transcript and returns it with what happened now. */
export function replay(text: string): string {
  let world = new LinkWorld("control");
  const out: string[] = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("#") || line === "") out.push(line);
    if (!line.startsWith("> ")) continue;
    out.push(line);
    const [verb, first = "", second = ""] = line.slice(2).split(" ");
    const before = world.lines.length;
    switch (verb) {
      case "link":
        world = new LinkWorld(first as "control" | "data", second === "" ? undefined : Number(second));
        continue;
      case "append":
        world.append(first as Side, second);
        break;
      case "dial":
        world.connect(first as Side);
        break;
      case "fill":
        world.note(`${world.fill(first as Side)} bytes on their way`);
        break;
      case "deliver":
        world.note(
          `${world.deliver(first as Side, second === "" ? Number.POSITIVE_INFINITY : Number(second))} bytes arrived`,
        );
        break;
      case "release":
        world.releaseAll(first as Side);
        break;
      case "cut":
        world.cut();
        break;
      case "restart":
        world.restart(first as Side);
        break;
      case "settle":
        world.settle();
        world.checkSettled();
        break;
      case "wait":
        world.nowMs += Number(first);
        break;
      case "show": {
        const { link } = world.ends[first as Side];
        const credit = link.kind === "data_out" ? `, credit ${link.hasCredit(0) ? "left" : "used up"}` : "";
        world.note(
          `${first}: keeps ${link.sender.unackedFrames} from ${link.sender.oldestUnacked}, ` +
            `has received through ${link.receiver.receivedThrough}${credit}`,
        );
        break;
      }
      default:
        throw new Error(`Unknown command: ${line}`);
    }
    world.checkAlways();
    for (const each of world.lines.slice(before)) out.push(`  ${each}`);
  }
  return out.join("\n");
}
