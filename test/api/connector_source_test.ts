import assert from "node:assert/strict";
import { test } from "node:test";
import { type ConnectorSource, checkConnectorSource, connectorSource } from "../../src/api/connector_source.ts";
import { Payload } from "../../src/api/payload.ts";
import { PlanError } from "../../src/base/errors.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { encodeConnectorFrame } from "../../src/wire/connector.ts";

const utf8 = (text: string) => new TextEncoder().encode(text);

test("a decoder sees body, key, event time and place of each message, one after the other", () => {
  const out = new ByteWriter();
  const places: number[] = [];
  const add = (stream: bigint, id: bigint, eventTime: bigint, key: Uint8Array, body: string) => {
    places.push(out.length + 4);
    encodeConnectorFrame({ kind: "message", stream, id, eventTime, key, body: utf8(body) }, out);
  };
  add(2n ** 64n - 1n, 0n, -1n, utf8("ключ"), "a");
  add(1n, 2n ** 63n, 1_546_300_800_000n, new Uint8Array(0), "bc");
  add(1n, 2n ** 63n + 1n, 0n, Uint8Array.of(0xff), "");
  const definition = connectorSource({
    decode: (payload, message) => ({
      body: payload.text(),
      key: message.key,
      keyBytes: [...message.keyBytes()].length,
      eventTime: message.eventTime,
      stream: message.stream,
      id: message.id,
    }),
  });
  checkConnectorSource("source", definition as ConnectorSource<unknown>);
  // What is before the chunk must not matter.
  const chunk = new Uint8Array(out.length + 3).subarray(3);
  chunk.set(out.take());
  const payload = new Payload();
  for (let again = 0; again < 2; again++) {
    definition.message.openChunk(chunk, Uint32Array.from(places));
    payload.openChunk(chunk);
    const decoded = ["a", "bc", ""].map((body, i) => {
      const end = (places[i + 1] ?? chunk.length + 4) - 4;
      payload.openRecord(end - body.length, end);
      return definition.decode(payload);
    });
    assert.deepEqual(decoded, [
      { body: "a", key: "ключ", keyBytes: 8, eventTime: -1n, stream: 2n ** 64n - 1n, id: 0n },
      { body: "bc", key: "", keyBytes: 0, eventTime: 1_546_300_800_000n, stream: 1n, id: 2n ** 63n },
      { body: "", key: "\ufffd", keyBytes: 1, eventTime: 0n, stream: 1n, id: 2n ** 63n + 1n },
    ]);
  }
});

test("a connector source refuses what can't be, in words", () => {
  const decode = () => 1;
  const wrong: [object, RegExp][] = [
    [{}, /source "x": decode is undefined/],
    [{ decode, eventTime: 1 }, /eventTime is a number/],
    [{ decode, cookie: 7 }, /cookie/],
    [{ decode, cookie: "x".repeat(65_536) }, /cookie/],
    [{ decode, maxCredits: 0 }, /maxCredits is 0: give it 1 to 4294967295/],
    [{ decode, maxCredits: 1.5 }, /maxCredits is 1.5/],
    [{ decode, maxCredits: 10, refillCredits: 11 }, /refillCredits is 11: give it 0 to maxCredits/],
  ];
  for (const [settings, message] of wrong) {
    const definition = connectorSource(settings as Parameters<typeof connectorSource>[0]);
    assert.throws(
      () => checkConnectorSource('source "x"', definition),
      (error) => error instanceof PlanError && message.test(error.message),
    );
  }
  const { cookie, maxCredits, refillCredits } = connectorSource({ decode, maxCredits: 67 });
  assert.deepEqual([cookie, maxCredits, refillCredits], ["", 67, 33]);
});
