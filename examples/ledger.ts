/**
 * The ledger: transfers come in from a file, and for each goes out the account's new balance, to files of a folder.
 *
 * It teaches: a file source and a file sink, without any server. Each transfer counts exactly once, whoever is killed when:
 * start the same command again, and it goes on from the last checkpoint.
 *
 *   tammar worker --application-module examples/ledger.ts --cluster-initializer --data 127.0.0.1:7001 \
 *     --resilience-dir state --input transfers.ndjson --output balances --rate 1000
 *   cat balances/part-*
 *
 * The input has a JSON object on each line, `{"account":"a1","amount":12.5}`. With several workers, each reads a file of its
 * own; they may share the folder of the output.
 */
import { application, fileSink, fileSource, lines, option, type Payload, source } from "tammar";

interface Transfer {
  account: string;
  amount: number;
}

export default application(
  "Ledger",
  {
    options: {
      input: option.string({ help: "this worker's file of transfers, a JSON object on each line" }),
      output: option.string({ help: "folder for the balances" }),
      rate: option.number({ default: 0, min: 0, help: "transfers a second and worker; 0: as fast as possible" }),
      follow: option.boolean({ help: "go on when the input grows" }),
    },
  },
  ({ options }) =>
    source(
      "transfers",
      fileSource({
        path: options.input,
        framing: lines,
        decode: decodeTransfer,
        rate: options.rate,
        follow: options.follow,
      }),
    )
      .keyBy((transfer) => transfer.account)
      .toStateful("balance", {
        initial: () => ({ balance: 0, n: 0 }),
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

/** An empty line is no transfer; what is no transfer at all is an error of its record. */
function decodeTransfer(line: Payload): Transfer | undefined {
  const text = line.text();
  if (text === "") return undefined;
  const { account, amount } = JSON.parse(text) as Partial<Record<keyof Transfer, unknown>>;
  if (typeof account !== "string") throw new TypeError(`the account is ${JSON.stringify(account)}: expected a text`);
  if (typeof amount !== "number") throw new TypeError(`the amount is ${JSON.stringify(amount)}: expected a number`);
  return { account, amount };
}
