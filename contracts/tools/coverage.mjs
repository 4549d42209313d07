#!/usr/bin/env node
// Line and branch coverage of src/ by the tests: prints it per contract, writes target/coverage/report.json and fails below the goals.
// forge measures without the optimizer, so the tests of gas and of code size are left out: they could only fail.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CONTRACTS, forge, Report, table } from "./report.mjs";

const GOALS = { lines: 97, branches: 92 };

/** From an lcov file: per source file the lines and branches found and hit, and the numbers of those missed. */
function parse(lcov) {
  const files = [];
  let file;
  for (const line of lcov.split("\n")) {
    const [kind, rest] = [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)];
    if (kind === "SF") files.push((file = { path: rest, lines: count(), branches: count() }));
    if (kind === "DA") tally(file.lines, rest.split(",")[0], rest.split(",")[1]);
    if (kind === "BRDA") tally(file.branches, rest.split(",")[0], rest.split(",")[3]);
  }
  return files;
}

const count = () => ({ found: 0, hit: 0, missed: [] });

function tally(into, line, taken) {
  into.found += 1;
  if (taken === "-" || taken === "0") into.missed.push(Number(line));
  else into.hit += 1;
}

const percent = ({ found, hit }) => (found === 0 ? 100 : (100 * hit) / found);
const shown = (part) => `${percent(part).toFixed(2)} %`;
const sum = (files, kind) => ({
  found: files.reduce((total, file) => total + file[kind].found, 0),
  hit: files.reduce((total, file) => total + file[kind].hit, 0),
});

const report = new Report("coverage");
const lcov = join(CONTRACTS, "cache", "coverage.lcov");
const run = forge([
  "coverage", "--exclude-tests", "--report", "lcov", "--report-file", lcov,
  "--no-match-path", "test/gas/*", "--no-match-test", "sizes?_stays?_in_budget",
]);
if (!run.ok) {
  console.error(run.output);
  process.exit(1);
}

const files = parse(readFileSync(lcov, "utf8")).filter(({ path }) => path.startsWith("src/"));
files.sort((a, b) => a.path.localeCompare(b.path));
const rows = [["contract", "lines", "branches", "lines missed", "branches missed at"]];
for (const { path, lines, branches } of files) {
  const name = path.slice("src/".length, -".sol".length);
  const note = `${lines.hit} of ${lines.found}`;
  report.add(`lines.${name}`, "%", percent(lines), { note });
  report.add(`branches.${name}`, "%", percent(branches), { note: `${branches.hit} of ${branches.found}` });
  rows.push([name, shown(lines), shown(branches), lines.missed.join(" "), [...new Set(branches.missed)].join(" ")]);
}
let met = true;
const totals = ["lines", "branches"].map((kind) => {
  const total = sum(files, kind);
  report.add(kind, "%", percent(total), { goal: GOALS[kind], note: `${total.hit} of ${total.found} in src/` });
  met &&= percent(total) >= GOALS[kind];
  return shown(total);
});
rows.push(["all of src", ...totals, "", ""], ["goal", ...Object.values(GOALS).map((goal) => `${goal}.00 %`), "", ""]);
table(rows);
report.write();
if (!met) console.error("coverage: below the goal");
process.exit(met ? 0 : 1);
