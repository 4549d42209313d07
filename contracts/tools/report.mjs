// The report of a measuring target: one JSON shape for all of them, so that runs can be compared.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const CONTRACTS = join(dirname(fileURLToPath(import.meta.url)), "..");
const GIB = 1024 ** 3;

/** A report whose clock runs; `write` stops it and puts it at `target/<target>/report.json`. */
export class Report {
  #begun = process.hrtime.bigint();
  #content;

  constructor(target) {
    this.#content = {
      target,
      commit: execFileSync("git", ["rev-parse", "HEAD"], { cwd: CONTRACTS, encoding: "utf8" }).trim(),
      machine: { cores: availableParallelism(), memory_gib: Math.ceil(totalmem() / GIB) },
      started_at: new Date().toISOString(),
      elapsed_s: 0,
      figures: [],
    };
  }

  /** `value` is null when it could not be measured; `note` then says why. */
  add(name, unit, value, { goal = null, note = "" } = {}) {
    const runs = value === null ? 0 : 1;
    this.#content.figures.push({ name, value, unit, runs, min: value, max: value, goal, note });
  }

  write() {
    this.#content.elapsed_s = Number(process.hrtime.bigint() - this.#begun) / 1e9;
    const file = join(CONTRACTS, "..", "target", this.#content.target, "report.json");
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, JSON.stringify(this.#content, null, 2) + "\n");
    console.log(`\ntarget/${this.#content.target}/report.json, ${this.#content.elapsed_s.toFixed(0)} s`);
  }
}

/** Runs forge and returns its status and output; errors go to the terminal. */
export function forge(args, env = {}) {
  const tool = join(CONTRACTS, "tools", "forge");
  if (!existsSync(join(CONTRACTS, "node_modules", "@foundry-rs"))) throw new Error("npm tools not installed: make setup");
  const run = spawnSync(tool, args, {
    cwd: CONTRACTS,
    env: { ...process.env, ...env },
    encoding: "utf8",
    maxBuffer: GIB,
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (run.error) throw run.error;
  return { ok: run.status === 0, output: run.stdout };
}

/** Prints rows as a table: the first column to the left, the others to the right. */
export function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)));
  for (const row of rows) {
    const cells = row.map((cell, i) => (i === 0 ? String(cell).padEnd(widths[i]) : String(cell).padStart(widths[i])));
    console.log(cells.join("  ").trimEnd());
  }
}
