#!/usr/bin/env node
// What our operations cost beside other implementations and the budget, and how large each contract is; writes target/gas/report.json.
// The numbers are those of the gas snapshots, which running the tests of test/gas renews.
//   gas.mjs [prefix]   only figures whose name begins with this
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CONTRACTS, forge, Report, table } from "./report.mjs";

const K = 1000;
const TOKEN_SIZE = 16_384;
const SIZE = 12_288;

/** Figure, its snapshot, the budget, and what others take; `each` divides the snapshot of a batch. Figures of others are in thousands. */
const ROWS = [
  ["transfer.rules0.native", "budgets/transfer.rules0.native", 95, { erc20: 34.5, trex: 211.7, kit: 378.2 }],
  ["transfer.rules1.native", "budgets/transfer.rules1.native", 107, { trex: 234.8 }],
  ["transfer.rules3.native", "budgets/transfer.rules3.native", 125, { trex: 303.6, kit: 531.9 }],
  ["transfer.rules3_claims.native", "budgets/transfer.rules3_with_claims.native", 125, {}, { note: "two country rules and a claim rule" }],
  ["transfer.rules0.foreign", "budgets_foreign/transfer.rules0.foreign", 118, { erc20: 34.5, trex: 211.7, kit: 378.2 }],
  ["transfer.rules1.foreign", "budgets_foreign/transfer.rules1.foreign", 130, { trex: 234.8 }],
  ["transfer.rules3.foreign", "budgets_foreign/transfer.rules3.foreign", 148, { trex: 303.6, kit: 531.9 }],
  ["mint.rules0", "budgets/mint.rules0", 95, { trex: 206.5, kit: 396 }],
  ["mint.rules1", "budgets/mint.rules1", 107, { trex: 229.6 }],
  ["mint.rules3", "budgets/mint.rules3", 130, { trex: 304.2, kit: 543.6 }],
  ["create_asset", "budgets/create_asset", 800, { trex: 3534, kit: 2749 }],
  ["xvp.create", "settlement/create.plain", 115, { kit: 585 }, { note: "two plain legs" }],
  ["xvp.approve", "settlement/approve.plain", 80, { kit: 77 }, { note: "two plain legs; the kit's approval locks nothing" }],
  ["xvp.execute", "settlement/execute.plain", 75, { kit: 120 }, { note: "two plain legs" }],
  ["airdrop.init", "addons/airdrop_init", null, {}, { note: "no budget is set" }],
  ["airdrop.claim", "addons/airdrop_claim.list16.plain", 72, { kit: 89 }, { note: "from a list of 16" }],
  ["airdrop.claim_long", "addons/airdrop_claim.list1000.plain", 72, { kit: 89 }, { note: "from a list of 1,000 in parts of 16" }],
  ["airdrop.push", "addons/airdrop_push.batch100.plain", 38, { kit: 42 }, { each: 100, note: "per new holder, batch of 100" }],
  ["airdrop.push_asset", "addons/airdrop_push.batch100.asset", null, {}, { each: 100, note: "an asset of ours; cannot go below 38.5 k" }],
  ["feed.steady", "budgets/feed.steady", 70, {}],
  ["feed.growing", "budgets/feed.growing", 105, {}],
];

const only = process.argv[2] ?? "";
const report = new Report("gas");
const run = forge(["test", "--match-path", "test/gas/*"], { FORGE_SNAPSHOT_CHECK: "false" });
const sizes = forge(["build", "--sizes", "--json", "--skip", "test"]);
if (!sizes.output.includes("{")) {
  console.error(sizes.output);
  process.exit(1);
}

const groups = new Map();
function snapshot(path) {
  const [group, name] = path.split("/");
  if (!groups.has(group)) groups.set(group, JSON.parse(readFileSync(join(CONTRACTS, "snapshots", `${group}.json`), "utf8")));
  return groups.get(group)[name];
}

const thousands = (gas) => (gas === null || gas === undefined ? "" : `${(gas / K).toFixed(1)} k`);
const verdict = (value, goal) => (goal === null || value === null ? "" : value <= goal ? "met" : "missed");

const rows = [["gas", "ours", "plain ERC-20", "T-REX 4.1.6", "SettleMint kit", "budget", ""]];
for (const [name, path, budget, { erc20, trex, kit }, { each = 1, note = "" } = {}] of ROWS) {
  if (!name.startsWith(only)) continue;
  const measured = snapshot(path);
  const value = measured === undefined ? null : Math.round(Number(measured) / each);
  const goal = budget === null ? null : budget * K;
  report.add(name, "gas", value, { goal, note: value === null ? `no snapshot ${path}` : note });
  const others = [erc20, trex, kit].map((figure) => (figure === undefined ? "" : thousands(figure * K)));
  rows.push([name, thousands(value), ...others, thousands(goal), verdict(value, goal)]);
}
if (rows.length > 1) table(rows);

const built = JSON.parse(sizes.output.slice(sizes.output.indexOf("{")));
const names = readdirSync(join(CONTRACTS, "artifacts")).filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -5));
const sizeRows = [["runtime size, bytes", "ours", "limit", ""]];
for (const name of names.sort()) {
  if (!`size.${name}`.startsWith(only)) continue;
  const value = built[name]?.runtime_size ?? null;
  const goal = name === "AssetToken" ? TOKEN_SIZE : SIZE;
  report.add(`size.${name}`, "bytes", value, { goal, note: value === null ? "not built" : "" });
  sizeRows.push([name, value ?? "", goal, verdict(value, goal)]);
}
if (sizeRows.length > 1) {
  console.log();
  table(sizeRows);
}
report.write();
if (!run.ok) console.error(run.output.slice(run.output.indexOf("Failing tests:")));
process.exit(run.ok ? 0 : 1);
