import { EXIT, type ExitStatus } from "../base/errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { ExternalClient } from "./external_client.ts";
import { type ParsedArguments, parseAddress, refuseUnknown } from "./options.ts";
import { complain } from "./terminal.ts";

/**
 * For tools whose only word is the `--external` address of a worker: connects to it, and closes the connection behind `run`.
 * Without an address it says how the tool is called.
 *
 * @throws {ConfigError} More words, or no address. @throws {ExternalError} Nobody is there.
 */
export async function withWorkerAt(
  parsed: ParsedArguments,
  { runtime, program }: { readonly runtime: Runtime; readonly program: string },
  run: (client: ExternalClient) => Promise<ExitStatus>,
): Promise<ExitStatus> {
  const [where, ...more] = parsed.words;
  if (where === undefined) {
    complain(
      runtime.host,
      `Usage: ${program} HOST:PORT\n\nHOST:PORT is the --external address of any worker; see ${program} --help`,
    );
    return EXIT.usage;
  }
  refuseUnknown({ ...parsed, words: more }, []);
  const client = await ExternalClient.connect(runtime, parseAddress(program, where, "connect"), "Unable to connect");
  try {
    return await run(client);
  } finally {
    client.close();
  }
}
