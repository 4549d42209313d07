#!/usr/bin/env node
// Every fuzz and invariant test at the runs of the foundry profile `fuzz`; writes target/fuzz/report.json and fails on a violation.
//   fuzz.mjs [contract]   only test contracts whose name contains this
import { forge, Report, table } from "./report.mjs";

const report = new Report("fuzz");
const only = process.argv[2] ?? "";
console.log("10,000 runs of each test: the better part of an hour on two cores");
const run = forge(["test", "--json", "--match-test", "^(testFuzz|invariant)_", "--match-contract", only], {
  FOUNDRY_PROFILE: "fuzz",
});
const start = run.output.indexOf("{");
if (start < 0) {
  console.error(run.output);
  process.exit(1);
}

const total = { tests: 0, runs: 0, invariants: 0, invariant_runs: 0, invariant_calls: 0, invariant_reverts: 0, violated: 0 };
const rows = [["test", "runs", "calls", "reverted"]];
const violations = [];
for (const [suite, { test_results: results }] of Object.entries(JSON.parse(run.output.slice(start)))) {
  const contract = suite.split(":")[1];
  for (const [signature, result] of Object.entries(results)) {
    const name = `${contract}.${signature.split("(")[0]}`;
    const { Fuzz: fuzz, Invariant: walk } = result.kind;
    if (result.status !== "Success") {
      total.violated += 1;
      violations.push(`${name}: ${result.reason ?? "failed"}\n${JSON.stringify(result.counterexample)}`);
    }
    if (fuzz) {
      total.tests += 1;
      total.runs += fuzz.runs;
      rows.push([name, fuzz.runs, "", ""]);
      report.add(`runs.${name}`, "runs", fuzz.runs);
    } else if (walk) {
      total.invariants += 1;
      total.invariant_runs += walk.runs;
      total.invariant_calls += walk.calls;
      total.invariant_reverts += walk.reverts;
      const reverted = `${((100 * walk.reverts) / Math.max(walk.calls, 1)).toFixed(0)} %`;
      rows.push([name, walk.runs, walk.calls, reverted]);
      report.add(`calls.${name}`, "calls", walk.calls, { note: `${walk.runs} runs, ${reverted} of the calls refused` });
    }
  }
}
for (const [name, value] of Object.entries(total)) {
  report.add(name, name === "violated" ? "tests" : name.replace(/.*_/, ""), value, name === "violated" ? { goal: 0 } : {});
}
table(rows);
console.log(
  `\n${total.tests} fuzz tests, ${total.runs} runs; ${total.invariants} invariants, ${total.invariant_runs} runs, ` +
    `${total.invariant_calls} calls; ${total.violated} violated`,
);
report.write();
if (violations.length > 0) console.error(violations.join("\n"));
// A run without tests shows nothing, so it does not pass either.
process.exit(run.ok && total.violated === 0 && total.tests + total.invariants > 0 ? 0 : 1);
