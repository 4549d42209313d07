//! The report of a measuring target: one JSON shape for all of them, so that runs can be compared.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use time::OffsetDateTime;

/// What a target writes at its end.
#[derive(Debug, Serialize)]
pub struct Report {
    target: String,
    commit: String,
    machine: Machine,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    elapsed_s: f64,
    /// Steps of a scenario, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepRow>,
    /// What could not be done here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedRow>,
    /// Measured figures.
    pub figures: Vec<Figure>,
    #[serde(skip)]
    begun: Instant,
}

/// The machine a report was made on.
#[derive(Debug, Serialize)]
struct Machine {
    cores: usize,
    memory_gib: u64,
}

/// One step of a scenario.
#[derive(Debug, Clone, Serialize)]
pub struct StepRow {
    /// What the step does.
    pub name: String,
    /// The outcome that the scenario demands.
    pub expected: String,
    /// The outcome that was seen.
    pub got: String,
    /// Whether they agree.
    pub ok: bool,
    /// Hash of the step's last transaction, if it made one.
    pub tx_hash: Option<String>,
    /// Gas of all the step's transactions.
    pub gas_used: Option<u64>,
    /// Wall time.
    pub elapsed_ms: u64,
}

/// A part of a target that this machine cannot do.
#[derive(Debug, Clone, Serialize)]
pub struct SkippedRow {
    /// Which.
    pub name: String,
    /// What is missing or refused here.
    pub why: String,
}

/// One measured figure; `value` is the median of `runs`.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// Name, as the list of figures gives it.
    pub name: String,
    /// The median; `None` when it could not be measured, with the reason in `note`.
    pub value: Option<f64>,
    /// Unit, for instance `tx/s`.
    pub unit: String,
    /// How many runs.
    pub runs: usize,
    /// Smallest run.
    pub min: Option<f64>,
    /// Largest run.
    pub max: Option<f64>,
    /// What to reach, if anything.
    pub goal: Option<f64>,
    /// How it was measured, or why not.
    pub note: String,
}

// === impl Report ===

impl Report {
    /// Starts the clock of a report.
    #[must_use]
    pub fn begin(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            commit: commit(),
            machine: Machine {
                cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
                memory_gib: memory_gib(),
            },
            started_at: OffsetDateTime::now_utc(),
            elapsed_s: 0.0,
            steps: Vec::new(),
            skipped: Vec::new(),
            figures: Vec::new(),
            begun: Instant::now(),
        }
    }

    /// Writes the report as it stands, with the time it took until now.
    ///
    /// # Errors
    /// When the file or its folder cannot be written.
    pub fn write(&mut self, path: &Path) -> anyhow::Result<()> {
        self.elapsed_s = self.begun.elapsed().as_secs_f64();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}

// === impl Figure ===

impl Figure {
    /// A figure from its runs.
    #[must_use]
    pub fn of(name: &str, unit: &str, mut runs: Vec<f64>, goal: Option<f64>, note: &str) -> Self {
        runs.sort_by(f64::total_cmp);
        Self {
            name: name.to_owned(),
            value: runs.get(runs.len() / 2).copied(),
            unit: unit.to_owned(),
            runs: runs.len(),
            min: runs.first().copied(),
            max: runs.last().copied(),
            goal,
            note: note.to_owned(),
        }
    }

    /// A figure that could not be measured.
    #[must_use]
    pub fn missing(name: &str, unit: &str, goal: Option<f64>, why: &str) -> Self {
        Self::of(name, unit, Vec::new(), goal, why)
    }
}

fn commit() -> String {
    std::process::Command::new("git")
        .args(["rev-parse", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

fn memory_gib() -> u64 {
    std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| text.lines().next()?.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |kib| kib.div_ceil(1024 * 1024))
}
