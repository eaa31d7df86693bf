import assert from "node:assert/strict";
import { test } from "node:test";
import { application, fileSink, fileSource, framed, generatorSource, lines, source, tcpSink } from "../../mod.ts";
import { PlanError } from "../../src/base/errors.ts";
import { planFingerprintText } from "../../src/plan/fingerprint_text.ts";
import { planApplication } from "../../src/plan/plan.ts";

// biome-ignore lint/suspicious/noExplicitAny: what authors without a compiler write.
type Any = any;

function refused(build: () => unknown, ...parts: string[]): void {
  assert.throws(build, (error) => {
    assert.ok(error instanceof PlanError, String(error));
    for (const part of parts) assert.ok(error.message.includes(part), `${part} is not in: ${error.message}`);
    return true;
  });
}

const decode = (payload: { text(): string }): string => payload.text();
const file = (change: object) => source("words", fileSource({ path: "a", framing: lines, decode, ...change } as Any));

test("a file source that cannot work is refused with its name and the remedy", () => {
  refused(() => file({ path: undefined }), 'source "words"', "either a path or a directory");
  refused(() => file({ path: "" }), 'source "words"', "either a path or a directory");
  refused(() => file({ directory: "b" }), "either a path or a directory");
  refused(() => file({ framing: undefined }), "framing is undefined", "lines");
  refused(() => file({ framing: framed({ bytes: 9 }) }), "1 to 8");
  refused(() => file({ decode: undefined }), "decode is undefined");
  refused(() => file({ eventTime: 5 }), "eventTime is a number");
  refused(() => file({ lengthMax: 0 }), "lengthMax is 0");
  refused(() => file({ follow: "yes" }), "follow is a string");
  refused(() => file({ rate: -1 }), "rate is -1");
  assert.ok(file({}));
  assert.ok(file({ path: undefined, directory: "b", framing: framed.u16, follow: true, rate: 5 }));
});

const sink = (change: object) => file({}).toSink(fileSink({ directory: "out", encode: String, ...change } as Any));

test("a file sink that cannot work is refused with what stands before it and the remedy", () => {
  refused(() => sink({ directory: undefined }), 'source "words"', "directory is undefined");
  refused(() => sink({ directory: "" }), 'directory is ""');
  refused(() => sink({ encode: undefined }), "encode is undefined");
  refused(() => sink({ extension: "a/b" }), 'extension is "a/b"', "ndjson");
  refused(() => sink({ extension: "a-b" }), "extension");
  refused(() => sink({ extension: ".txt" }), "extension");
  refused(() => sink({ name: "" }), "file sink");
  assert.ok(sink({ extension: "tar.gz", name: "totals" }));
});

const context = { args: [], options: {}, worker: "initializer", workers: 1, inputs: [] } as Any;

test("file sinks are known by their names and take no entry of --out", () => {
  const encode = String;
  const plan = planApplication(
    application("Files", () => [
      source("a", fileSource({ path: "a", framing: lines, decode })).toSinks([
        fileSink({ directory: "x", encode }),
        tcpSink({ encode }),
        fileSink({ directory: "x", encode, name: "copy" }),
        tcpSink({ encode }),
      ]),
      source("b", generatorSource({ initial: () => 1, next: (n) => n + 1 })).toSink(
        fileSink({ directory: "y", encode }),
      ),
    ]),
    context,
  );
  assert.deepEqual(
    plan.sinks.map(({ id, output }) => [id, output]),
    [
      ["a/sink files", null],
      ["a/sink 0", 0],
      ["a/sink copy", null],
      ["a/sink 1", 1],
      ["b/sink files", null],
    ],
  );
  const text = planFingerprintText(plan);
  assert.ok(text.includes('source file "a" to "a/sink files" "a/sink 0" "a/sink copy" "a/sink 1"\n'), text);
  assert.ok(text.includes('sink file "a/sink files"\n') && text.includes('sink tcp "a/sink 1" at 1\n'), text);
});

test("two file sinks of one pipeline need names of their own", () => {
  const build = () =>
    planApplication(
      application("Files", () =>
        file({}).toSinks([fileSink({ directory: "x", encode: String }), fileSink({ directory: "y", encode: String })]),
      ),
      context,
    );
  refused(build, "a/sink files".replace("a", "words"), "give each file sink of a pipeline a name of its own");
});
