#!/usr/bin/env node
// Every fuzz and invariant test at the runs of the foundry profile `fuzz`; shows each test as it ends, writes target/fuzz/report.json and
// fails on a violation. Ended early (Ctrl-C) it reports what had ended by then, and fails.
//   fuzz.mjs [contract]   only test contracts whose name contains this
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { CONTRACTS, Report } from "./report.mjs";

const COUNTS = {
  tests: "tests",
  runs: "runs",
  invariants: "invariants",
  invariant_runs: "runs",
  invariant_calls: "calls",
  invariant_reverts: "calls",
};

const report = new Report("fuzz");
console.log("10,000 runs of each test: this takes long; each is shown as it ends");
const total = Object.fromEntries(Object.keys(COUNTS).map((name) => [name, 0]));
let violated = 0;
let contract = "";

/** One line of forge's output: a heading names the contract, then each test has a line with its counts. */
function read(line) {
  const heading = line.match(/^Ran \d+ tests? for .*:(\w+)$/);
  if (heading) contract = heading[1];
  const test = line.match(/^\[(PASS|FAIL)(.*?)\] ?(\w+)\(.*\) \(runs: (\d+)(?:, calls: (\d+), reverts: (\d+))?/);
  if (!test) {
    if (line.startsWith("[FAIL")) fail(line);
    return;
  }
  const [, verdict, why, testName, runs, calls, reverts] = test;
  const name = `${contract}.${testName}`;
  if (verdict === "FAIL") fail(`${name}${why}`);
  if (calls === undefined) {
    total.tests += 1;
    total.runs += Number(runs);
    report.add(`runs.${name}`, "runs", Number(runs));
    console.log(`${verdict} ${name}: ${runs} runs`);
  } else {
    total.invariants += 1;
    total.invariant_runs += Number(runs);
    total.invariant_calls += Number(calls);
    total.invariant_reverts += Number(reverts);
    const refused = `${((100 * reverts) / Math.max(calls, 1)).toFixed(0)} % of the calls refused`;
    report.add(`calls.${name}`, "calls", Number(calls), { note: `${runs} runs, ${refused}` });
    console.log(`${verdict} ${name}: ${runs} runs, ${calls} calls, ${refused}`);
  }
}

function fail(what) {
  violated += 1;
  console.error(`VIOLATED ${what}`);
}

const args = ["test", "--match-test", "^(testFuzz|invariant)_", "--match-contract", process.argv[2] ?? ""];
const run = spawn(join(CONTRACTS, "tools", "forge"), args, {
  cwd: CONTRACTS,
  env: { ...process.env, FOUNDRY_PROFILE: "fuzz" },
  stdio: ["ignore", "pipe", "inherit"],
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => run.kill());
const lines = createInterface({ input: run.stdout });
// forge lists the failures once more at the end.
lines.on("line", (line) => (line === "Failing tests:" ? lines.removeAllListeners("line") : read(line)));
const ended = new Promise((resolve) => lines.on("close", resolve));
const status = await new Promise((resolve) => run.on("close", resolve));
await ended;

const note = status === null ? "ended early" : "";
for (const [name, unit] of Object.entries(COUNTS)) report.add(name, unit, total[name], { note });
report.add("violated", "tests", violated, { goal: 0, note });
console.log(
  `\n${total.tests} fuzz tests, ${total.runs} runs; ${total.invariants} invariants, ${total.invariant_runs} runs, ` +
    `${total.invariant_calls} calls; ${violated} violated`,
);
report.write();
// A run without tests shows nothing, so it does not pass either.
process.exit(status === 0 && violated === 0 && total.tests + total.invariants > 0 ? 0 : 1);
