import assert from "node:assert/strict";
import { test } from "node:test";
import { ProtocolError, ResilienceError } from "../../src/base/errors.ts";
import { FileProgress, HEAD_BYTES_MAX } from "../../src/connectors/file_progress.ts";
import { parsePartName, preparedName, visibleName, writingName } from "../../src/connectors/part_name.ts";
import { readPartPosition } from "../../src/connectors/part_position.ts";
import { readSourcePosition } from "../../src/protocol/connector/source_streams.ts";
import { crc32c } from "../../src/store/crc32c.ts";
import { decodeDeadLetter, encodeDeadLetter } from "../../src/store/dead_letter_file.ts";
import { decisionName, decodeDecision, encodeDecision } from "../../src/store/decision_file.ts";
import { decodeFolderName, encodeFolderName } from "../../src/store/folder_name.ts";
import { readHolder } from "../../src/store/holder.ts";
import { HEADER_BYTES } from "../../src/store/record_file.ts";
import { decodeSavedCluster, encodeSavedCluster } from "../../src/store/saved_cluster.ts";
import { SegmentError } from "../../src/store/state_log/log_errors.ts";
import { readAbout } from "../../src/store/state_log/saved_about.ts";
import {
  decodeEnd,
  decodeEntries,
  decodeSegmentHeader,
  decodeStage,
  encodeEnd,
  encodeEntries,
  encodeRecord,
  encodeSegmentHeader,
  encodeStage,
  RECORD,
  RECORD_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
} from "../../src/store/state_log/segment_format.ts";
import { judge, readSegment } from "../../src/store/state_log/survey.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { decodeValues, encodeValues } from "../../src/wire/values.ts";
import { Chance } from "./chance.ts";
import { joined } from "./damage.ts";
import { diskOf } from "./fakes.ts";
import { fuzz } from "./fuzz.ts";
import { batchOfValues, plain, TEXTS } from "./some_values.ts";

const ID = "0123456789abcdef0123456789abcdef";
const WHOLE = [0, 1, 2, 1000, 2 ** 32, Number.MAX_SAFE_INTEGER];

/** Half of the inputs get the checksum that fits them, as if somebody had written them so: the content is looked at. */
function sealed(bytes: Uint8Array, checksumAt: number, headerBytes: number, chance: Chance): Uint8Array {
  if (bytes.length < headerBytes || chance.below(2) === 0) return bytes;
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  // The length of the body is at 8 in files of both kinds.
  if (chance.below(4) > 0) view.setUint32(8, copy.length - headerBytes);
  view.setUint32(checksumAt, crc32c(copy.subarray(headerBytes), crc32c(copy.subarray(0, checksumAt))));
  return copy;
}

test("fuzz: the saved cluster is read as it was written, or said to be damaged", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "saved cluster",
    make: (chance) => {
      const address = () => ({ host: chance.pick(["", "10.0.0.1", "::1"]), port: chance.below(65_536) });
      const names = ["initializer", "w1", "w2"].slice(0, 1 + chance.below(3));
      const worker = chance.pick(names);
      return encodeSavedCluster({
        state: chance.pick(["forming", "formed"]),
        clusterId: ID,
        application: chance.pick(TEXTS),
        fingerprint: "f1",
        worker,
        role: worker === "initializer" ? "initializer" : "worker",
        generation: Math.max(1, chance.pick(WHOLE)),
        routingVersion: 1,
        keyGroupCount: 1024,
        members: names.map((name) => ({ name, control: address(), data: address() })),
        control: address(),
        data: address(),
        initializerAt: chance.pick(TEXTS),
        incarnation: ID,
        startNumber: 1 + chance.below(9),
        workerCount: names.length,
        savedAtMs: chance.pick(WHOLE),
      });
    },
    decode: (bytes, chance) => decodeSavedCluster(sealed(bytes, 12, HEADER_BYTES, chance)),
    check: (outcome) => {
      if (outcome.kind !== "ok") return;
      const again = decodeSavedCluster(encodeSavedCluster(outcome.saved));
      assert.deepEqual(again, outcome);
    },
  });
});

test("fuzz: the decision file is read as it was written, or said to be damaged", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "decision file",
    make: () => encodeDecision(ID),
    decode: (bytes, chance) => {
      const used = chance.pick(WHOLE);
      const name = decisionName(ID, { epoch: chance.pick([0, used]), used, generation: chance.pick(WHOLE) });
      return decodeDecision(name, sealed(bytes, 12, HEADER_BYTES, chance));
    },
    check: (outcome) => {
      if (outcome.kind !== "ok") return;
      const { clusterId, decision } = outcome;
      assert.deepEqual(decodeDecision(decisionName(clusterId, decision), encodeDecision(clusterId)), outcome);
    },
  });
});

function someHeader(chance: Chance) {
  return {
    clusterId: ID,
    application: chance.pick(TEXTS.filter((text) => text !== "\ud800")),
    worker: "worker1",
    number: 1 + chance.below(3),
    base: 1,
    previousSequence: 0,
    previousChecksum: 0,
  };
}

test("fuzz: the header of a segment is read as it was written, or said to be damaged", {
  timeout: 300_000,
}, async () => {
  await fuzz({
    name: "segment header",
    make: (chance) => encodeSegmentHeader(someHeader(chance)),
    decode: (bytes, chance) => decodeSegmentHeader(sealed(bytes, 12, SEGMENT_HEADER_BYTES, chance)),
    check: (outcome) => {
      if (outcome.kind !== "ok") return;
      const again = decodeSegmentHeader(encodeSegmentHeader(outcome.header));
      assert.ok(again.kind === "ok");
      assert.deepEqual(again.header, outcome.header);
    },
  });
});

const NO_ABOUT = { base: 1, roundFrom: 0, roundWritten: 0, credit: 0 };

function writeRecords(chance: Chance, out: ByteWriter): void {
  let sequence = 1;
  let secured = 0;
  const record = (kind: (typeof RECORD)[keyof typeof RECORD], epoch: number, write: (out: ByteWriter) => void) => {
    encodeRecord(out, { kind, sequence, epoch, securedSequence: secured }, write);
    sequence++;
  };
  for (let epoch = 1; epoch <= 1 + chance.below(3); epoch++) {
    record(RECORD.stage, epoch, (body) =>
      encodeStage(body, { number: epoch, id: "p/count", version: 1, codec: false }),
    );
    for (let rest = chance.below(3); rest > 0; rest--) {
      const count = chance.below(4);
      const keys = Array.from({ length: count }, (_, i) => `key ${i}`);
      const isRemoval = chance.below(4) === 0;
      const values = isRemoval ? null : keys.map(() => ({ n: epoch }));
      const kind = isRemoval ? RECORD.removed : RECORD.entries;
      const hashes = keys.map((_, i) => i);
      record(kind, epoch, (body) => encodeEntries(body, epoch, count, hashes, keys, values));
    }
    record(RECORD.end, epoch, (body) => {
      const about = { ...NO_ABOUT, stages: [{ id: "p/count", version: 1, keys: 2, entryBytes: 30 }] };
      encodeEnd(body, { generation: 1, base: 1, wallMs: 1000 * epoch, about }, { epoch });
    });
    secured = sequence - 1;
  }
}

/** Epochs that `writeRecords` may end, as they must come back: when they were written says which they are. */
function isWritten({ epoch, wallMs, base }: { epoch: number; wallMs: number; base: number }): boolean {
  return epoch >= 1 && epoch <= 3 && wallMs === 1000 * epoch && base === 1;
}

test("fuzz: a segment gives the epochs that were written, or fewer, or is refused", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "segment",
    make: (chance) => {
      const out = new ByteWriter();
      out.bytes(encodeSegmentHeader({ ...someHeader(chance), number: 1 }));
      writeRecords(chance, out);
      return out.take();
    },
    decode: async (bytes) => {
      const read = await readSegment(diskOf({ "/state/s": bytes }), "/state/s", 1, null, 0);
      return judge("/state", [read], []);
    },
    check: ({ ends, torn }, bytes) => {
      for (const end of ends) assert.ok(isWritten(end), JSON.stringify(end));
      if (torn !== null) assert.ok(torn.offset <= bytes.length);
    },
    announced: (error) => error instanceof SegmentError,
    large: [
      () => {
        const out = new ByteWriter();
        out.bytes(encodeSegmentHeader({ ...someHeader(new Chance(1)), number: 1 }));
        const keys = Array.from({ length: 100 }, (_, i) => `key ${i}`);
        const hashes = keys.map((_, i) => i);
        const values = keys.map(() => ({ n: 1 }));
        for (let sequence = 1; out.length < 1 << 20; sequence++) {
          const fields = { kind: RECORD.entries, sequence, epoch: 1, securedSequence: 0 };
          encodeRecord(out, fields, (body) => encodeEntries(body, 1, 100, hashes, keys, values));
        }
        return out.take();
      },
      // Marks of records everywhere: each is looked at as if one began there.
      () => joined(encodeSegmentHeader({ ...someHeader(new Chance(1)), number: 1 }), marks(1 << 20)),
    ],
  });
});

/** Beginnings of records as long as can be, one behind the other. */
function marks(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + RECORD_HEADER_BYTES <= length; at += RECORD_HEADER_BYTES) {
    view.setUint32(at, 0x544d5352);
    view.setUint32(at + 4, length - at - RECORD_HEADER_BYTES);
    view.setUint32(at + 8, RECORD.entries);
    view.setUint32(at + 16, 7);
  }
  return bytes;
}

test("fuzz: the records of a segment mean something, or are refused", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "records of a segment",
    make: (chance) => {
      const out = new ByteWriter();
      const kind = chance.pick([RECORD.stage, RECORD.entries, RECORD.removed, RECORD.end]);
      out.u8(kind);
      const values = batchOfValues(chance);
      const keys = values.map(() => chance.pick(TEXTS));
      const hashes = keys.map((_, i) => i);
      switch (kind) {
        case RECORD.stage:
          encodeStage(out, {
            number: chance.below(65_536),
            id: "p/größe 🦘",
            version: 1,
            codec: chance.below(2) === 1,
          });
          break;
        case RECORD.end: {
          const stages = chance.some(3, () => ({ id: "p/count", version: 1, keys: 7, entryBytes: 30 }));
          const about = { ...NO_ABOUT, stages };
          encodeEnd(out, { generation: 1, base: 1, wallMs: chance.pick(WHOLE), about }, plain(chance, 3));
          break;
        }
        default:
          encodeEntries(out, 1, keys.length, hashes, keys, kind === RECORD.entries ? values : null);
      }
      return out.take();
    },
    decode: (bytes) => {
      const body = bytes.subarray(1);
      switch (bytes[0]) {
        case RECORD.stage:
          return decodeStage(body);
        case RECORD.entries:
        case RECORD.removed:
          return decodeEntries(bytes[0], body);
        default:
          return readAbout(decodeEnd(body).fields.about);
      }
    },
    // Their reader makes a sentence with the place of whatever is thrown, so that plain errors do, but no accident.
    announced: (error) => error instanceof ProtocolError || (error as Error).constructor === Error,
  });
});

test("fuzz: positions in a checkpoint are read, or refused", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "positions",
    make: (chance) => {
      const names = chance.some(3, (i) => `file ${i}`);
      const progress = {
        version: 1,
        finished: names,
        started: names.map((name) => ({
          name,
          offset: chance.pick(WHOLE),
          headLength: chance.below(HEAD_BYTES_MAX),
          headChecksum: 7,
          atEnd: false,
        })),
      };
      const parts = chance.pick([null, names.map((name) => ({ name, bytes: chance.pick(WHOLE) }))]);
      const streams = new Uint8Array(16 * names.length);
      const position = chance.pick<unknown>([progress, { version: 1, folder: ID, parts }, { streams }, null]);
      const out = new ByteWriter();
      encodeValues([position], 1, out);
      return out.take();
    },
    decode: (bytes) => {
      const [position] = decodeValues(bytes, 0, bytes.length, 1);
      const readers = [
        () => FileProgress.from(position).snapshot(),
        () => readPartPosition(position),
        () => readSourcePosition(position),
      ];
      return readers.flatMap((read) => {
        try {
          return [read()];
        } catch (error) {
          if (!(error instanceof ResilienceError)) throw error;
          return [];
        }
      });
    },
    announced: (error) => error instanceof ProtocolError,
  });
});

test("fuzz: a dead letter is read as it was written, or said to be none", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "dead letter",
    make: (chance) => {
      const out = new ByteWriter();
      const bytes = chance.pick([null, chance.bytes(chance.below(20))]);
      encodeDeadLetter(out, {
        atMs: chance.pick(WHOLE),
        worker: "w1",
        source: chance.pick([null, ...TEXTS]),
        place: chance.pick([
          null,
          { kind: "file", file: "/in", byte: 7 },
          { kind: "tcp", peer: "127.0.0.1:1", frame: 1, byte: 0 },
          { kind: "connector", stream: "18446744073709551615", message: "0" },
          { kind: "generator", step: 9 },
        ]),
        time: chance.pick([null, ...WHOLE]),
        head: chance.pick([null, chance.bytes(chance.below(9))]),
        framing: chance.pick([null, { headerBytes: 4, littleEndian: false }]),
        stage: chance.pick(TEXTS),
        during: "apply",
        key: chance.pick([null, ...TEXTS]),
        error: chance.pick(TEXTS),
        bytes,
        value: bytes === null ? chance.pick([plain(chance, 2), () => {}, 7n]) : undefined,
        unfit: null,
      });
      return out.take();
    },
    decode: (bytes, chance) => {
      // Half of them with the checksum that fits.
      if (bytes.length < 8 || chance.below(2) === 0) return decodeDeadLetter(bytes);
      const copy = bytes.slice();
      const view = new DataView(copy.buffer);
      view.setUint32(0, copy.length - 8);
      view.setUint32(4, crc32c(copy.subarray(8)));
      return decodeDeadLetter(copy);
    },
    check: (read, bytes) => {
      if (read.kind === "letter") assert.ok(read.end <= bytes.length);
      if (read.kind === "more") assert.ok(read.bytes > bytes.length);
    },
  });
});

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const encoded = (string: string) => new TextEncoder().encode(string);

test("fuzz: names of files and folders, and the text of a lock, mean what they say or nothing", {
  timeout: 300_000,
}, async () => {
  await fuzz({
    name: "names",
    make: (chance) => {
      const worker = chance.pick(["w1", "a-1", "part-0", "w"]);
      const epoch = chance.pick(WHOLE.filter((number) => number < 1e16));
      const visible = visibleName(epoch, worker, chance.below(1000), "txt");
      return encoded(
        chance.pick([
          visible,
          preparedName(epoch, visible),
          writingName(worker, chance.below(9)),
          encodeFolderName(chance.pick(TEXTS)),
          `tammar worker lock\npid ${chance.below(40_000)}\nsince ${chance.below(2 ** 32)}\n`,
        ]),
      );
    },
    decode: async (bytes) => {
      const name = text(bytes);
      return {
        parts: ["w1", "a-1", "part-0", "w"].map((worker) => parsePartName(name, worker)),
        folder: decodeFolderName(name),
        holder: await readHolder(diskOf({ "/LOCK": bytes }), "/LOCK"),
      };
    },
    check: ({ parts, folder, holder }, bytes) => {
      const name = text(bytes);
      if (folder !== null) assert.equal(encodeFolderName(folder), name);
      if (holder !== null) assert.ok(Number.isSafeInteger(holder.pid) && holder.sinceMs >= 0);
      assert.ok(parts.filter((part) => part !== null).length <= 1, `${name} is of two workers`);
      for (const part of parts) if (part?.kind === "visible") assert.ok(name.startsWith("part-"));
    },
  });
});
