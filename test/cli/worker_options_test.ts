import assert from "node:assert/strict";
import { test } from "node:test";
import { application, framed, option, source, tcpSink, tcpSource } from "../../mod.ts";
import { ConfigError } from "../../src/base/errors.ts";
import { checkApplication, readWorkerOptions, type WorkerOptions } from "../../src/cli/worker_options.ts";

const HERE = { workingDir: "/home/op", applicationCompiledIn: false };
const MODULE = ["--application-module", "x"];
const INITIALIZER = [...MODULE, "-t", "--control", "127.0.0.1:7000", "--data", "127.0.0.1:7001"];
const WORKER = [...MODULE, "--name", "worker1", "--control", "127.0.0.1:7000"];

function read(args: readonly string[]): WorkerOptions {
  return readWorkerOptions(args, HERE);
}

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.equal(error.exitStatus, 2);
    assert.ok(!error.message.includes("\n"), "one line");
    return error.message;
  }
  assert.fail("nothing was refused");
}

test("the harness's command line of an initializer is read", () => {
  const options = read([
    ...[
      "--application-module",
      "alphabet",
      "--in",
      "Alphabet@127.0.0.1:7010",
      "--out",
      "127.0.0.1:7100,127.0.0.1:7101",
    ],
    ...["--metrics", "127.0.0.1:5001", "--resilience-dir", "/tmp/res/", "--name", "initializer", "--worker-count", "3"],
    ...[
      "--data",
      "127.0.0.1:7001",
      "--external",
      "127.0.0.1:7002",
      "--cluster-initializer",
      "--control",
      "127.0.0.1:7000",
    ],
    ...["--ponythreads=1", "--ponypinasio", "--ponynoblock"],
  ]);
  assert.equal(options.role, "initializer");
  assert.equal(options.name, "initializer");
  assert.equal(options.workerCount, 3);
  assert.deepEqual(options.controlListen, { host: "127.0.0.1", port: 7000 });
  assert.deepEqual(options.dataListen, { host: "127.0.0.1", port: 7001 });
  assert.equal(options.initializerControl, null);
  assert.deepEqual(options.externalListen, { host: "127.0.0.1", port: 7002 });
  assert.deepEqual(options.metrics, { host: "127.0.0.1", port: 5001 });
  assert.deepEqual([...options.inputs], [["Alphabet", { host: "127.0.0.1", port: 7010, frameBytesMax: null }]]);
  assert.deepEqual(options.outputs, [
    { host: "127.0.0.1", port: 7100 },
    { host: "127.0.0.1", port: 7101 },
  ]);
  assert.equal(options.resilienceDir, "/tmp/res");
});

test("short letters mean what they meant in the original", () => {
  const options = read([
    ...[...MODULE, "-t", "-c", "a:1", "-d", "b:2", "-e", "c:3", "-m", "d:4", "-w", "2", "-r", "res", "-n", "ignored"],
    ...["-i", "s@e:5", "-o", "f:6"],
  ]);
  assert.deepEqual(options.controlListen, { host: "a", port: 1 });
  assert.deepEqual(options.dataListen, { host: "b", port: 2 });
  assert.deepEqual(options.externalListen, { host: "c", port: 3 });
  assert.deepEqual(options.metrics, { host: "d", port: 4 });
  assert.equal(options.workerCount, 2);
  assert.equal(options.resilienceDir, "/home/op/res");
  assert.equal(options.name, "initializer");
  assert.deepEqual(options.outputs, [{ host: "f", port: 6 }]);

  const worker = read([...MODULE, "-n", "w1", "-c", "a:1", "-x", "b:2", "-y", "c:0"]);
  assert.equal(worker.name, "w1");
  assert.deepEqual(worker.initializerControl, { host: "a", port: 1 });
  assert.deepEqual(worker.controlListen, { host: "b", port: 2 });
  assert.deepEqual(worker.dataListen, { host: "c", port: 0 });
});

test("defaults: one worker, /tmp, no external channel, no metrics, level info, text", () => {
  const options = read(INITIALIZER);
  assert.equal(options.workerCount, 1);
  assert.equal(options.resilienceDir, "/tmp");
  assert.equal(options.externalListen, null);
  assert.equal(options.metrics, null);
  assert.equal(options.logLevel, "info");
  assert.equal(options.logFormat, "text");
});

test("a worker without --my-control and --my-data listens on free ports where the initializer can reach it", () => {
  assert.deepEqual(read(WORKER).controlListen, { host: "127.0.0.1", port: 0 });
  assert.deepEqual(read([...MODULE, "-n", "w", "-c", "localhost:1"]).dataListen, { host: "127.0.0.1", port: 0 });
  assert.deepEqual(read([...MODULE, "-n", "w", "-c", "[::1]:1"]).dataListen, { host: "::1", port: 0 });
  assert.deepEqual(read([...MODULE, "-n", "w", "-c", "10.0.0.7:1"]).controlListen, { host: "0.0.0.0", port: 0 });
  assert.deepEqual(read([...MODULE, "-n", "w", "-c", "[fd00::7]:1"]).controlListen, { host: "::", port: 0 });
});

test("--in takes names with blanks and colons, IPv6, a frame limit, and several entries", () => {
  const text = "Split and Count@127.0.0.1:1900,a:b@[::1]:0:65_536";
  assert.deepEqual(
    [...read([...INITIALIZER, "--in", text]).inputs],
    [
      ["Split and Count", { host: "127.0.0.1", port: 1900, frameBytesMax: null }],
      ["a:b", { host: "::1", port: 0, frameBytesMax: 65_536 }],
    ],
  );
});

const WRONG: [what: string, args: readonly string[], message: RegExp][] = [
  ["--worker-count 0", [...INITIALIZER, "--worker-count", "0"], /^--worker-count must be at least 1\./],
  ["--worker-count two", [...INITIALIZER, "-w", "two"], /^-w two: not a whole number/],
  [
    "a control address without port",
    [...MODULE, "-t", "-c", "127.0.0.1", "-d", "a:1"],
    /^-c 127\.0\.0\.1: the port is missing/,
  ],
  [
    "a data address without port",
    [...MODULE, "-t", "--data", "127.0.0.1"],
    /^--data 127\.0\.0\.1: the port is missing/,
  ],
  ["a my-control address without port", [...WORKER, "--my-control", "h"], /^--my-control h: the port is missing/],
  ["a my-data address without port", [...WORKER, "--my-data", "h"], /^--my-data h: the port is missing/],
  ["an external address without port", [...INITIALIZER, "--external", "h"], /^--external h: the port is missing/],
  ["a metrics address without port", [...INITIALIZER, "--metrics", "h"], /^--metrics h: the port is missing/],
  ["a join address without port", [...WORKER, "--join", "h"], /^--join h: the port is missing/],
  ["metrics at port 0", [...INITIALIZER, "--metrics", "h:0"], /^--metrics h:0: nothing can be reached at port 0/],
  ["control of a worker at port 0", [...MODULE, "-n", "w", "-c", "h:0"], /^-c h:0: nothing can be reached at port 0/],
  [
    "--join of an initializer",
    [...INITIALIZER, "--join", "h:1"],
    /^--join cannot be given together with --cluster-initializer/,
  ],
  [
    "an initializer without --data",
    [...MODULE, "-t"],
    /^Cluster initializer needs its data channel address to be specified via --data\./,
  ],
  ["a negative --worker-count", [...INITIALIZER, "--worker-count=-1"], /^--worker-count must be at least 1, not -1/],
  ["an initializer of two without --control", [...MODULE, "-t", "-d", "a:1", "-w", "2"], /--control/],
  [
    "--worker-count of a worker",
    [...WORKER, "--worker-count", "2"],
    /^Only supply --worker-count to cluster initializer or to joining worker\. .*"--worker-count 2"/,
  ],
  ["--data of a worker", [...WORKER, "--data", "h:1"], /^Only supply --data to cluster initializer\. .*"--data h:1"/],
  [
    "a joiner without a name",
    [...MODULE, "--join", "h:1"],
    /^You must specify a name for the worker via the -n parameter\./,
  ],
  ["a worker without a name", [...MODULE, "-c", "h:1"], /^You must specify a worker name via --name\/-n\./],
  ["a worker without --control", [...MODULE, "-n", "w1"], /^Worker w1 needs the control address/],
  [
    "a worker called initializer",
    [...MODULE, "-n", "initializer", "-c", "h:1"],
    /^--name initializer: this name belongs to/,
  ],
  ["a name with a slash", [...MODULE, "-n", "../x", "-c", "h:1"], /^--name \.\.\/x: a worker's name has 1 to 64/],
  ["a name with a leading dot", [...MODULE, "-n", ".x", "-c", "h:1"], /^--name \.x/],
  ["a name of 65 characters", [...MODULE, "-n", "x".repeat(65), "-c", "h:1"], /^--name x+/],
  ["an empty name", [...MODULE, "--name=", "-c", "h:1"], /^--name has an empty value/],
  ["no module", ["-t", "-d", "h:1"], /^You must provide the application with --application-module/],
  ["--cluster-initializer=false", [...MODULE, "--cluster-initializer=false"], /^--cluster-initializer takes no value/],
  ["a missing value", [...MODULE, "--control", "--data", "h:1"], /^--control needs a value/],
  ["--in without @", [...INITIALIZER, "--in", "127.0.0.1:1"], /^--in "127\.0\.0\.1:1": there is no @/],
  ["--in without a port", [...INITIALIZER, "--in", "a@h"], /^--in "a@h": the port is missing/],
  ["--in without a name", [...INITIALIZER, "--in", "@h:1"], /the source's name is missing/],
  ["--in with two @", [...INITIALIZER, "--in", "a@b@h:1"], /more than one @/],
  ["--in with a bad limit", [...INITIALIZER, "--in", "a@h:1:big"], /^--in "a@h:1:\.\.\.": MAX is no frame size/],
  ["--in with a limit of 0", [...INITIALIZER, "--in", "a@h:1:0"], /MAX is no frame size/],
  ["--in with credits of 0", [...INITIALIZER, "--in", "a@h:1:cookie:0:3"], /MAXCREDITS is no whole number from 1/],
  [
    "--in with a wrong refill",
    [...INITIALIZER, "--in", "a@h:1:cookie:5:6"],
    /REFILLCREDITS is no whole number from 0 to 5/,
  ],
  [
    "--in with half of a connector's fields",
    [...INITIALIZER, "--in", "a@h:1:cookie:5"],
    /behind the port there is one/,
  ],
  ["--in with a colon in the cookie", [...INITIALIZER, "--in", "a@h:1:coo:kie:5:6"], /neither colon nor comma/],
  ["--in with a name twice", [...INITIALIZER, "--in", "a@h:1,a@h:2"], /already has an address/],
  ["--in with an empty entry", [...INITIALIZER, "--in", "a@h:1,"], /an entry is empty/],
  ["--out without a port", [...INITIALIZER, "--out", "h:1,h"], /^--out h: the port is missing/],
  ["--out with an empty entry", [...INITIALIZER, "--out", ",h:1"], /^--out : the host is missing/],
  ["--log-level loud", [...INITIALIZER, "--log-level", "loud"], /^--log-level loud: expected error, warn, info, debug/],
  ["--log-format xml", [...INITIALIZER, "--log-format", "xml"], /^--log-format xml: expected text, json/],
  ["--ponythreads 4", [...INITIALIZER, "--ponythreads", "4"], /^--ponythreads 4: a worker has one thread/],
  ["--ponythreads=0", [...INITIALIZER, "--ponythreads=0"], /^--ponythreads 0/],
  ["--run-with-resilience=yes", [...INITIALIZER, "--run-with-resilience=yes"], /^--run-with-resilience takes no value/],
  ["--event-log-file-size 0", [...INITIALIZER, "--log-rotation", "-l", "0"], /^-l must be at least 1/],
  [
    "--log-rotation without checkpoints",
    [...INITIALIZER, "--log-rotation", "--checkpoint-interval", "off"],
    /^--log-rotation has no log to rotate with --checkpoint-interval off/,
  ],
  ["--event-log-file-size alone", [...INITIALIZER, "-l", "10"], /only together with --log-rotation/],
  ["--event-log-file-size x", [...INITIALIZER, "-l", "x"], /^-l x: not a whole number/],
  ["--time-between-checkpoints 1_000", [...INITIALIZER, "--time-between-checkpoints", "1_000.5"], /not a whole number/],
  ["--checkpoint-interval 1", [...INITIALIZER, "--checkpoint-interval", "1"], /^--checkpoint-interval 1: give a time/],
  ["--checkpoint-interval 0s", [...INITIALIZER, "--checkpoint-interval", "0s"], /from 1ms to 24h/],
  ["--checkpoint-interval 25h", [...INITIALIZER, "--checkpoint-interval", "25h"], /from 1ms to 24h/],
  [
    "two intervals",
    [...INITIALIZER, "--checkpoint-interval", "1s", "--time-between-checkpoints", "5"],
    /say the same thing twice/,
  ],
  ["--time-between-checkpoints -1", [...INITIALIZER, "--time-between-checkpoints=-1"], /must be at least 0/],
  [
    "--join",
    [...MODULE, "-n", "w3", "--join", "h:1"],
    /^--join h:1: joining a running cluster comes with a later release/,
  ],
  [
    "a mistyped option that makes another one missing",
    [...MODULE, "--nmae", "w1", "-c", "h:1"],
    /^Unknown option --nmae: did you mean --name\?/,
  ],
];

test("checkpoints are taken every second unless another pause is given, in words or in nanoseconds, or off", () => {
  const pause = (...args: string[]) => read([...INITIALIZER, ...args]).checkpointIntervalMs;
  assert.equal(pause(), 1_000);
  assert.equal(pause("--run-with-resilience"), 1_000);
  assert.equal(pause("--checkpoint-interval", "250ms"), 250);
  assert.equal(pause("--checkpoint-interval=1.5s"), 1_500);
  assert.equal(pause("--checkpoint-interval", "2m"), 120_000);
  assert.equal(pause("--checkpoint-interval", "off"), null);
  assert.equal(pause("--time-between-checkpoints", "5000000000"), 5_000);
  assert.equal(pause("--time-between-checkpoints", "0"), 1, "as often as they can be");
  assert.equal(read(INITIALIZER).logRotation, null);
  assert.deepEqual(read([...INITIALIZER, "--log-rotation"]).logRotation, { fileBytes: null });
  assert.deepEqual(read([...INITIALIZER, "--log-rotation", "-l", "1_000"]).logRotation, { fileBytes: 1000 });
  assert.equal(read(INITIALIZER).acceptStateLoss, false);
  assert.equal(read([...INITIALIZER, "--accept-state-loss"]).acceptStateLoss, true);
  assert.equal(read(INITIALIZER).acceptOtherVersion, false);
  assert.equal(read([...INITIALIZER, "--accept-other-version"]).acceptOtherVersion, true);
  assert.equal(read(INITIALIZER).memoryLimitBytes, null);
  assert.equal(read([...INITIALIZER, "--memory-limit", "off"]).memoryLimitBytes, Number.POSITIVE_INFINITY);
  assert.equal(read([...INITIALIZER, "--memory-limit=3_000_000_000"]).memoryLimitBytes, 3e9);
});

for (const [what, args, message] of WRONG) {
  test(`wrong usage is refused with one line: ${what}`, () => {
    assert.match(
      refusal(() => read(args)),
      message,
    );
  });
}

const WORDS = application(
  "Words",
  {
    options: {
      windowSize: option.number({ default: 50 }),
      mode: option.string({ default: "plain" }),
      loud: option.boolean(),
      depth: option.number(),
    },
  },
  () =>
    source("words", tcpSource({ framing: framed.u32, decode: (payload) => payload.text() }))
      .to("shout", (word) => word.toUpperCase())
      .toSink(tcpSink({ encode: (word) => word })),
);
const ADDRESSES = ["--in", "words@127.0.0.1:7010", "--out", "127.0.0.1:7200"];

function check(...args: string[]) {
  const all = [...INITIALIZER, ...args];
  return checkApplication(all, read(all), WORDS);
}

test("dead options are accepted, with one warning that names them as they were written", () => {
  const { warnings } = check(
    ...ADDRESSES,
    ...["--depth", "1"],
    ...["-f", "x", "--stop-pause", "2_000", "--resilience-dos-server=h:1", "--resilience-enable-io-journal"],
    ...[
      "--resilience-no-local-file-io",
      "--spike-seed",
      "1",
      "--spike-prob",
      "0.5",
      "--spike-margin",
      "1",
      "--spike-drop",
    ],
    ...["--worker-name", "x", "--stage", "y"],
  );
  assert.equal(warnings.length, 1);
  assert.equal(
    warnings[0],
    "Ignoring -f, --stop-pause, --resilience-dos-server, --resilience-enable-io-journal, --resilience-no-local-file-io, " +
      "--spike-seed, --spike-prob, --spike-margin, --spike-drop, --worker-name, --stage: these options have no effect here",
  );
});

test("an initializer is told that --my-control and --my-data do nothing there, and nothing else", () => {
  assert.deepEqual(check(...ADDRESSES, "--depth", "1").warnings, []);
  assert.deepEqual(check(...ADDRESSES, "--depth", "1", "-x", "h:1").warnings, [
    "Ignoring -x: this option has no effect here",
  ]);
});

test("an application may have an option of its own where the original's does nothing", () => {
  const staged = application("Staged", { options: { stage: option.string({ default: "" }) } }, () =>
    source("words", tcpSource({ framing: framed.u32, decode: (payload) => payload.text() })).toSink(
      tcpSink({ encode: (word) => word }),
    ),
  );
  const all = [...INITIALIZER, ...ADDRESSES, "--stage", "two"];
  const { values, warnings } = checkApplication(all, read(all), staged);
  assert.equal(values["stage"], "two");
  assert.deepEqual(warnings, []);
});

test("an application's own options are read from the same command line", () => {
  assert.deepEqual(
    { ...check(...ADDRESSES, "--depth=-3", "--window-size", "10", "--loud", "--mode=").values },
    {
      windowSize: 10,
      mode: "",
      loud: true,
      depth: -3,
    },
  );
  assert.equal(check(...ADDRESSES, "--depth", "1", "--loud=false").values["loud"], false);
});

test("an application's options are refused where they are wrong or missing", () => {
  assert.match(
    refusal(() => check(...ADDRESSES)),
    /^--depth is missing/,
  );
  assert.match(
    refusal(() => check(...ADDRESSES, "--depth", "deep")),
    /^--depth deep: expected a number/,
  );
  assert.match(
    refusal(() => check(...ADDRESSES, "--depth")),
    /^--depth needs a value/,
  );
  assert.match(
    refusal(() => check(...ADDRESSES, "--depth", "1", "--loud=maybe")),
    /^--loud maybe: expected true or false/,
  );
});

test("what neither the worker nor the application knows is refused with the nearest name of both", () => {
  assert.match(
    refusal(() => check(...ADDRESSES, "--window-sise", "1")),
    /^Unknown option --window-sise: did you mean --window-size\?/,
  );
  assert.match(
    refusal(() => check(...ADDRESSES, "--exernal", "h:1")),
    /^Unknown option --exernal: did you mean --external\?/,
  );
  assert.match(
    refusal(() => check(...ADDRESSES, "--frobnicate")),
    /^Unknown option --frobnicate: see --help/,
  );
  assert.match(
    refusal(() => check(...ADDRESSES, "--depth", "1", "stray")),
    /^Unexpected argument "stray"/,
  );
});

test("an application that asks for the raw arguments gets them all, and nothing is unknown", () => {
  let seen: readonly string[] = [];
  const raw = application("Raw", { rawArguments: true }, ({ args }) => {
    seen = args;
    return source("words", tcpSource({ framing: framed.u32, decode: (payload) => payload.text() })).toSink(
      tcpSink({ encode: (word) => word }),
    );
  });
  const all = [...INITIALIZER, ...ADDRESSES, "--whatever", "7", "-Z"];
  checkApplication(all, read(all), raw);
  assert.deepEqual(seen, all);
});

test("an application must not take a name of the worker's own options", () => {
  const taken = application("Taken", { options: { workerCount: option.number({ default: 1 }) } }, () => []);
  assert.match(
    refusal(() => checkApplication(INITIALIZER, read(INITIALIZER), taken)),
    /declares the option --worker-count/,
  );
});

test("--in gives a connector source its cookie and credits, and no refusal shows a cookie", () => {
  const { inputs } = read([
    ...INITIALIZER,
    "--in",
    "Blobs@127.0.0.1:7010:Dragons-Love-Tacos:1_500:50,x@[::1]:7011::1:0",
  ]);
  assert.deepEqual(inputs.get("Blobs"), {
    host: "127.0.0.1",
    port: 7010,
    frameBytesMax: null,
    connector: { cookie: "Dragons-Love-Tacos", maxCredits: 1_500, refillCredits: 50 },
  });
  assert.deepEqual(inputs.get("x")!.connector, { cookie: "", maxCredits: 1, refillCredits: 0 });
  for (const entry of [
    "a@h:1:s3cret",
    "a@h:1:s3cret:5",
    "a@h:1:s3cret:x:5",
    "a@h:x:s3cret:5:5",
    "a@[::1]:1:s3cret:5:6",
    "a:1:s3cret:5:5",
    "a@[::1:1:s3cret:5:5",
    "@h:1:s3cret:5:5",
    "a@b@h:1:s3cret:5:5",
    "a@h:1:s3:s3cret:5:5",
  ]) {
    const message = refusal(() => read([...INITIALIZER, "--in", entry]));
    assert.match(message, /^--in "/);
    assert.doesNotMatch(message, /s3cret/, entry);
  }
});

test("every TCP source needs its address, and --in names no other source", () => {
  const out = ["--out", "127.0.0.1:7200", "--depth", "1"];
  assert.match(
    refusal(() => check(...out)),
    /^--in gives no address for the source "words": .*--in "words@127\.0\.0\.1:7010"/,
  );
  assert.match(
    refusal(() => check(...out, "--in", "wrods@h:1")),
    /^--in names the source "wrods": the sources that listen of application "Words" are "words"; did you mean "words"\?/,
  );
});

test("every TCP sink needs its address", () => {
  assert.match(
    refusal(() => check("--in", "words@h:1", "--depth", "1")),
    /^--out is missing: application "Words" sends to one address/,
  );
});
