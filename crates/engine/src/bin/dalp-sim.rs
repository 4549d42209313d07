//! `make sim`: plays seeded schedules of faults, or one seed with its trace.
//!
//! The environment says which: `SEED` for one, else `SCHEDULES` of them from `FROM` on; `REPORT` is where the report goes. `BUG` puts a
//! known defect back by its name, to see how soon it is found.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // a command-line tool talks on standard output

use dalp_engine::sim::{Bug, Schedule, Summary, play_many};
use serde_json::json;
use std::{path::PathBuf, process::ExitCode, time::Instant};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What CI plays at least.
const SCHEDULES: u64 = 200_000;
/// With so many violated seeds the rest tells nothing new.
const ENOUGH: usize = 20;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number(name: &str) -> Option<u64> {
    variable(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

fn bug() -> Option<Bug> {
    let name = variable("BUG")?;
    let known = Bug::ALL.iter().find(|bug| format!("{bug:?}") == name);
    Some(*known.unwrap_or_else(|| panic!("BUG is none of {:?}: {name}", Bug::ALL)))
}

fn main() -> ExitCode {
    match number("SEED") {
        Some(seed) => play_one(seed),
        None => play_all(),
    }
}

fn play_one(seed: u64) -> ExitCode {
    let played = Schedule { seed, traced: true, bug: bug(), ..Schedule::default() }.play();
    played.trace.iter().for_each(|line| println!("{line}"));
    println!("seed {seed}: {} lines, violations: {:#?}", played.lines, played.violations);
    if played.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play_all() -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let from = number("FROM").unwrap_or(0);
    let count = number("SCHEDULES").unwrap_or(SCHEDULES);
    let (started_at, started) = (OffsetDateTime::now_utc(), Instant::now());
    let summary = play_many(from..from + count, bug(), threads, ENOUGH);
    let elapsed_s = started.elapsed().as_secs_f64();
    for (seed, violations) in &summary.violated {
        println!("make sim SEED={seed}: {}", violations.join("; "));
    }
    for (what, count) in &summary.seen {
        println!("{count:>12} {what}");
    }
    let per_s = summary.schedules as f64 / elapsed_s;
    println!("{} schedules, {} violated, {per_s:.0} a second", summary.schedules, summary.violated.len());
    let path = PathBuf::from(variable("REPORT").unwrap_or_else(|| "target/sim/report.json".into()));
    if let Err(error) = write(&path, &summary, threads, started_at, elapsed_s) {
        println!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    println!("report: {}", path.display());
    if summary.violated.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The shape of every measuring target's report.
fn write(
    path: &PathBuf,
    summary: &Summary,
    threads: usize,
    started_at: OffsetDateTime,
    elapsed_s: f64,
) -> std::io::Result<()> {
    let figure = |name: &str, value: f64, unit: &str, goal: Option<f64>| json!({"name": name, "value": value, "unit": unit, "runs": 1, "min": value, "max": value, "goal": goal, "note": ""});
    let report = json!({
        "target": "sim",
        "commit": commit(),
        "machine": {"cores": threads, "memory_gib": memory_gib()},
        "started_at": started_at.format(&Rfc3339).map_err(std::io::Error::other)?,
        "elapsed_s": elapsed_s,
        "figures": [
            figure("schedules", summary.schedules as f64, "count", Some(SCHEDULES as f64)),
            figure("violations", summary.violated.len() as f64, "count", Some(0.0)),
            figure("schedules_per_s", summary.schedules as f64 / elapsed_s, "1/s", None),
        ],
        "seen": summary.seen,
        "violated_seeds": summary.violated.keys().collect::<Vec<_>>(),
    });
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, serde_json::to_vec_pretty(&report)?)
}

fn commit() -> String {
    let asked = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output();
    asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn memory_gib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    total_kib.unwrap_or_default() / (1024 * 1024)
}
