/**
 * The word count: text comes in over TCP, and for every word goes out how often it has been seen so far.
 *
 * It teaches: a stage that makes many records out of one, a key, and state by key. With several workers each word is
 * counted by one of them, whichever worker its text came to.
 *
 *   tammar receive --listen 127.0.0.1:7002
 *   tammar worker --application-module examples/word_count.ts --cluster-initializer --data 127.0.0.1:7001 \
 *     --in words@127.0.0.1:7010 --out 127.0.0.1:7002
 *   tammar send --host 127.0.0.1:7010 --messages 100 --file some.txt
 *
 * Each record is a frame: its length in four bytes, big-endian, then UTF-8 text.
 */
import { application, framed, source, tcpSink, tcpSource } from "tammar";

export default application("Word Count Application", () =>
  source("words", tcpSource({ framing: framed.u32, decode: (payload) => payload.text() }))
    .to("split into words", splitIntoWords)
    .keyBy((word) => word)
    .toStateful("count word", {
      initial: () => ({ count: 0 }),
      apply: (word, state) => ({ word, count: ++state.count }),
    })
    .toSink(tcpSink({ encode: ({ word, count }) => `${word} => ${count}\n` })),
);

/** Lower case, without punctuation at either end. Two blanks in a row have an empty word between them. */
function splitIntoWords(text: string): string[] {
  return text.split("\n").flatMap((line) => strip(line.toLowerCase()).split(" ").map(strip));
}

function strip(text: string): string {
  return text.replace(/^[ -/:-@[-`{-~]+|[ -/:-@[-`{-~]+$/g, "");
}
