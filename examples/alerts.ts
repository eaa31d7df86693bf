/**
 * Alerts: five customers pay in and take out; when one's total leaves the limits, an alert goes out.
 *
 * It teaches: a generator, which makes its records itself; an option of the application; state by key that decides whether
 * anything goes on.
 *
 *   tammar receive --listen 127.0.0.1:7002
 *   tammar worker --application-module examples/alerts.ts --cluster-initializer --data 127.0.0.1:7001 \
 *     --out 127.0.0.1:7002 --rate 10
 */
import { application, generatorSource, option, source, tcpSink } from "tammar";

const USERS = ["Fido", "Rex", "Dr. Whiskers", "Feathers", "Mountaineer"];

export default application(
  "Alerts (stateful)",
  {
    options: {
      rate: option.number({ default: 1000, min: 0, help: "transactions a second and worker; 0: as fast as possible" }),
    },
  },
  ({ options }) =>
    source(
      "Alerts (stateful)",
      generatorSource({
        rate: options.rate,
        initial: () => ({ turn: 0, amount: 1, totals: [1, 0, 0, 0, 0] }),
        next: (teller) => {
          teller.turn = (teller.turn + 1) % USERS.length;
          teller.amount = nextAmount(teller.amount, teller.totals[teller.turn]!);
          teller.totals[teller.turn]! += teller.amount;
          return teller;
        },
        emit: ({ turn, amount }) => ({ user: USERS[turn]!, amount }),
      }),
    )
      .keyBy((transaction) => transaction.user)
      .toStateful("check transaction total", {
        initial: () => ({ total: 0 }),
        apply({ user, amount }, state) {
          state.total += amount;
          if (state.total > 2000) return { kind: "Deposit", user, total: state.total };
          if (state.total < -2000) return { kind: "Withdrawal", user, total: state.total };
          return undefined;
        },
      })
      .toSink(tcpSink({ encode: ({ kind, user, total }) => `${kind} Alert for ${user}: ${total}\n` })),
);

/** Made up, from the amount before; a total that has gone far is brought back. */
function nextAmount(before: number, total: number): number {
  if (total > 5000) return -6000;
  if (total < -5000) return 6000;
  const remainder = (before * 1451 + 7) % 2500;
  return (remainder < 0 ? remainder + 2500 : remainder) - 1250;
}
