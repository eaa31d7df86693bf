/**
 * A first application: numbers come in over TCP, are converted in two stages, and go out as lines.
 *
 * It teaches: a source with a decoder, stages without state, a sink with an encoder; types that flow from one to the other.
 *
 *   tammar receive --listen 127.0.0.1:7002
 *   tammar worker --application-module examples/celsius.ts --cluster-initializer --data 127.0.0.1:7001 \
 *     --in celsius@127.0.0.1:7010 --out 127.0.0.1:7002
 *
 * Each record is a frame: its length in four bytes, then the temperature as a 32 bit float, both big-endian.
 */
import { application, framed, source, tcpSink, tcpSource } from "tammar";

export default application("Celsius Conversion", () =>
  source("celsius", tcpSource({ framing: framed.u32, decode: (payload) => payload.getFloat32(0) }))
    .to("multiply by 1.8", (celsius) => celsius * 1.8)
    .to("add 32", (product) => product + 32)
    .toSink(tcpSink({ encode: (fahrenheit) => `${fahrenheit}\n` })),
);
