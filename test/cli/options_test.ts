import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError } from "../../src/base/errors.ts";
import { editDistance, nearest } from "../../src/cli/nearest.ts";
import {
  addressText,
  integerOf,
  type OptionSpec,
  parseAddress,
  parseArguments,
  refuseUnknown,
  textOf,
} from "../../src/cli/options.ts";
import { withoutPonyOptions } from "../../src/cli/pony_options.ts";

const SPECS: readonly OptionSpec[] = [
  { name: "name", letter: "n", value: "NAME", help: "" },
  { name: "count", letter: "c", value: "N", help: "" },
  { name: "fast", letter: "f", value: null, help: "" },
  { name: "loud", value: null, help: "", isSwitch: true },
];

function given(...args: string[]): Record<string, string | null> {
  const parsed = parseArguments(args, SPECS);
  return Object.fromEntries([...parsed.given].map(([name, { value }]) => [name, value]));
}

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.message;
  }
  assert.fail("nothing was refused");
}

test("parseArguments() takes all five spellings of a value", () => {
  for (const args of [["--name", "a"], ["--name=a"], ["-n", "a"], ["-na"], ["-n=a"]]) {
    assert.deepEqual(given(...args), { name: "a" }, args.join(" "));
  }
});

test("parseArguments() takes the last of a repeated option, in any order with others", () => {
  assert.deepEqual(given("--name", "a", "-f", "-n=b", "--count=1"), { name: "b", fast: null, count: "1" });
});

test("parseArguments() takes a value that begins with a dash only with an equals sign", () => {
  assert.deepEqual(given("--name=-a"), { name: "-a" });
  assert.deepEqual(given("-n=-a"), { name: "-a" });
  assert.match(
    refusal(() => given("--name", "-a")),
    /^--name needs a value: .*--name=-a/,
  );
});

test("parseArguments() keeps what follows the first equals sign, more of them and blanks too", () => {
  assert.deepEqual(given("--name=a=b c"), { name: "a=b c" });
  assert.deepEqual(given("--name", "Split and Count@127.0.0.1:1"), { name: "Split and Count@127.0.0.1:1" });
});

test("parseArguments() refuses a missing value, naming the option as it was written", () => {
  assert.match(
    refusal(() => given("--name")),
    /^--name needs a value/,
  );
  assert.match(
    refusal(() => given("-n", "--fast")),
    /^-n needs a value/,
  );
});

test("parseArguments() refuses a value of a flag, but not of a switch", () => {
  assert.match(
    refusal(() => given("--fast=false")),
    /^--fast takes no value, but "--fast=false" gives one/,
  );
  assert.match(
    refusal(() => given("-fx")),
    /^-f takes no value/,
  );
  assert.deepEqual(given("--loud=false"), { loud: "false" });
  assert.deepEqual(given("--loud"), { loud: null });
});

test("parseArguments() lists unknown options and stray words instead of dropping them", () => {
  const parsed = parseArguments(["x", "--nmae=3", "-z", "-", "--", "--name"], SPECS);
  assert.deepEqual(parsed.unknown, ["--nmae", "-z"]);
  assert.deepEqual(parsed.words, ["x", "-", "--name"]);
  assert.match(
    refusal(() => refuseUnknown(parsed, SPECS)),
    /^Unknown option --nmae: did you mean --name\?$/,
  );
  assert.match(
    refusal(() => refuseUnknown(parseArguments(["x"], SPECS), SPECS)),
    /^Unexpected argument "x"/,
  );
});

test("parseArguments() doesn't take a name of the language's own objects for an option", () => {
  assert.deepEqual(parseArguments(["--constructor", "--__proto__=1", "--toString"], SPECS).unknown, [
    "--constructor",
    "--__proto__",
    "--toString",
  ]);
});

test("textOf() refuses an empty value", () => {
  assert.match(
    refusal(() => textOf(parseArguments(["--name="], SPECS), "name")),
    /^--name has an empty value/,
  );
});

test("integerOf() reads underscores and refuses everything that is no whole number in its range", () => {
  const read = (text: string) =>
    integerOf(parseArguments([`--count=${text}`], SPECS), "count", { min: 1, max: 2_000_000_000 });
  assert.equal(read("1_000_000_000"), 1_000_000_000);
  assert.equal(read("007"), 7);
  for (const bad of ["two", "1.5", "1e3", "0x10", "", " 1", "1 ", "_1", "١"]) {
    assert.match(
      refusal(() => read(bad)),
      /^--count /,
      JSON.stringify(bad),
    );
  }
  assert.equal(
    refusal(() => read("0")),
    "--count must be at least 1, not 0.",
  );
  assert.match(
    refusal(() => read("-5")),
    /must be at least 1/,
  );
  assert.match(
    refusal(() => read("3000000000")),
    /must be at most 2000000000/,
  );
});

test("parseAddress() reads host and port, IPv6 in brackets", () => {
  const cases: [string, string, number][] = [
    ["127.0.0.1:7000", "127.0.0.1", 7000],
    ["worker-1.example.com:1", "worker-1.example.com", 1],
    ["[::1]:7000", "::1", 7000],
    ["[fe80::1%eth0]:65535", "fe80::1%eth0", 65535],
    ["localhost:0", "localhost", 0],
  ];
  for (const [text, host, port] of cases) {
    assert.deepEqual(parseAddress("--data", text, "listen"), { host, port });
    assert.equal(addressText({ host, port }), text);
  }
});

test("parseAddress() refuses what is no address, with option and value", () => {
  const cases: [string, RegExp][] = [
    ["127.0.0.1", /the port is missing/],
    ["127.0.0.1:", /the port is missing/],
    [":7000", /the host is missing/],
    ["127.0.0.1:65536", /65536 is no port/],
    ["127.0.0.1:70000000", /is no port/],
    ["127.0.0.1:-1", /is no port/],
    ["127.0.0.1:http", /http is no port/],
    ["127.0.0.1:1:2", /is no port/],
    ["::1:7000", /IPv6 address goes in brackets/],
    ["[::1]", /the port is missing/],
    ["[::1]7000", /a colon and the port must follow/],
    ["[127.0.0.1]:1", /no IPv6 address/],
    ["[::1:7000", /no IPv6 address/],
    ["http://x:1", /is no port/],
    ["a b:1", /characters that no host name has/],
    ["\u001b[31mx:1", /characters that no host name has/],
  ];
  for (const [text, expected] of cases) {
    const message = refusal(() => parseAddress("--data", text, "listen"));
    assert.match(message, expected, text);
    assert.match(message, /^--data /, text);
    assert.ok(!message.includes("\u001b"), "control characters are escaped");
  }
  assert.match(
    refusal(() => parseAddress("--metrics", "127.0.0.1:0", "connect")),
    /nothing can be reached at port 0/,
  );
});

test("withoutPonyOptions() takes out options of the original's runtime in both spellings", () => {
  const { kept, threads } = withoutPonyOptions([
    "--name",
    "a",
    "--ponythreads",
    "1",
    "--ponynoblock",
    "--ponypinasio",
    "--ponygcfactor=2.0",
    "b",
  ]);
  assert.deepEqual(kept, ["--name", "a", "b"]);
  assert.equal(threads, "1");
  assert.equal(withoutPonyOptions(["--ponythreads=4"]).threads, "4");
});

test("nearest() finds what was meant, and nothing where nothing is near", () => {
  const names = ["--worker-count", "--name", "--control", "--my-control"];
  assert.equal(nearest("--worker-cuont", names), "--worker-count");
  assert.equal(nearest("--workers-count", names), "--worker-count");
  assert.equal(nearest("--mycontrol", names), "--my-control");
  assert.equal(nearest("--frobnicate", names), null);
  assert.equal(nearest("x".repeat(1_000_000), names), null);
});

test("editDistance() counts insertions, removals, replacements and swaps", () => {
  assert.equal(editDistance("", "abc"), 3);
  assert.equal(editDistance("abc", "abc"), 0);
  assert.equal(editDistance("acb", "abc"), 1);
  assert.equal(editDistance("kitten", "sitting"), 3);
});
