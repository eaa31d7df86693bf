/** Alphabet: votes for letters, and their running totals. */
import { application, framed, source, tcpSink, tcpSource } from "tammar";

export default application("alphabet", ({ inputs }) =>
  source(
    inputs[0] ?? "alphabet",
    tcpSource({
      framing: framed.u32,
      decode: (payload) => ({ letter: payload.text(0, 1), votes: payload.getUint32(1) }),
    }),
  )
    .keyBy(({ letter }) => letter)
    .toStateful("add votes", {
      initial: () => ({ votes: 0 }),
      apply({ letter, votes }, state) {
        state.votes += votes;
        return { letter, total: state.votes };
      },
    })
    .toSink(tcpSink({ encode: ({ letter, total }) => `${letter} => ${total}\n` })),
);
