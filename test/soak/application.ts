/**
 * What `scripts/soak` runs: the ledger, from files to files, with a larger state, so that the log of states is written anew every
 * minute and not only after an hour.
 */
import { application, fileSink, fileSource, lines, option, source } from "tammar";

interface Transfer {
  readonly account: string;
  readonly amount: number;
}

export default application(
  "Soak",
  {
    options: {
      input: option.string({ help: "this worker's file of transfers, a JSON object on each line" }),
      output: option.string({ help: "folder for the balances" }),
      rate: option.number({ default: 2_000, help: "transfers a second and worker" }),
      pad: option.number({ default: 400, help: "characters that the state of an account holds beside its balance" }),
    },
  },
  ({ options }) =>
    source(
      "transfers",
      fileSource({
        path: options.input,
        framing: lines,
        decode: (line) => JSON.parse(line.text()) as Transfer,
        rate: options.rate,
      }),
    )
      .keyBy((transfer) => transfer.account)
      .toStateful("balance", {
        initial: () => ({ balance: 0, n: 0, memo: "m".repeat(options.pad) }),
        apply({ account, amount }, state) {
          state.balance += amount;
          state.n += 1;
          return { account, balance: state.balance, n: state.n };
        },
      })
      .toSink(
        fileSink({
          directory: options.output,
          extension: "ndjson",
          encode: (entry) => `${JSON.stringify(entry)}\n`,
        }),
      ),
);
