//! Drills of operations: something that everything depends on goes away, lies or comes back changed while requests keep coming, and what became of each accepted
//! request is counted on the chain.
//!
//! In reading order: `book` is what was asked and what became of it, `reads` how long nothing could be read, `verdict` counts what the chain has; all three without
//! clock or network. `site` is the stack that is drilled, `run` the load on it, `lanes` what
//! an operator sees and asks of it. Every other module is one drill, or what one drill takes.

mod book;
mod certificates;
mod clock;
mod cluster;
mod device_lost;
mod disk_full;
mod failover;
mod killed;
mod lanes;
mod lying;
mod reads;
mod replicas;
mod restored;
mod run;
mod signer_away;
mod site;
mod upgraded;
mod upstreams;
mod verdict;

use std::path::PathBuf;
use std::time::Duration;

use dalp_devstack::report::{Figure, SkippedRow, StepRow};

use self::run::Run;
use self::site::Site;
use self::verdict::Verdict;

/// Every drill, in the order in which they are done.
pub const DRILLS: [&str; 11] = [
    "killed",
    "replicas",
    "upgraded",
    "signer_away",
    "device_lost",
    "upstreams",
    "certificates",
    "disk_full",
    "clock",
    "failover",
    "restored",
];

/// Seconds within which as much ends a second as before, where one of two replicas went.
const THROUGHPUT_BACK_S: f64 = 10.0;

/// How the drills are done.
#[derive(Debug, Clone)]
pub struct Measures {
    /// Requests a second.
    pub rate: f64,
    /// How long is away what is taken away.
    pub away: Duration,
    /// The folder with the programs of an earlier version, to upgrade from.
    pub old_programs: Option<PathBuf>,
    /// Told of each thing that is over.
    pub tell: fn(&str),
}

/// How a drill ended.
#[derive(Debug, Clone)]
pub enum Ended {
    /// It was done.
    Done(Outcome),
    /// This machine cannot do it.
    Skipped(SkippedRow),
}

/// One thing that went wrong in a drill.
#[derive(Debug, Clone)]
pub struct Episode {
    /// What.
    pub what: String,
    /// How long.
    pub lasted_s: f64,
    /// Requests that became final meanwhile.
    pub ended_meanwhile: usize,
    /// From its end until everything asked for before was final.
    pub recovery_s: Option<f64>,
    /// From its begin until as many requests became final a second as before, where that was waited for.
    pub throughput_back_s: Option<f64>,
    /// The longest time without an answer to a read, of each kind, from its begin until everything was final again.
    pub reads_away_s: Vec<(&'static str, f64)>,
}

/// What came of a drill.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// What was counted.
    pub verdict: Verdict,
    /// What went wrong, in order.
    pub episodes: Vec<Episode>,
    /// Requests a second.
    pub rate: f64,
    /// What else there is to say.
    pub remarks: Vec<String>,
}

/// Does one of [`DRILLS`].
///
/// # Errors
/// When the stack does not come up or does not come back, or the drill cannot be done to its end.
pub async fn drill(name: &str, measures: &Measures) -> anyhow::Result<Ended> {
    let ended = match name {
        "killed" => killed::drill(measures).await,
        "replicas" => replicas::drill(measures).await,
        "upgraded" => upgraded::drill(measures).await,
        "signer_away" => signer_away::drill(measures).await,
        "device_lost" => device_lost::drill(measures).await,
        "upstreams" => upstreams::drill(measures).await,
        "certificates" => certificates::drill(measures).await,
        "disk_full" => disk_full::drill(measures).await,
        "clock" => clock::drill(measures).await,
        "failover" => failover::drill(measures).await,
        "restored" => restored::drill(measures).await,
        other => anyhow::bail!("there is no drill {other}"),
    };
    // A machine or a mount that refuses is no failure of the platform, and no success either.
    match ended {
        Ok(outcome) => Ok(Ended::Done(outcome)),
        Err(error) => match error.downcast::<CannotHere>() {
            Ok(CannotHere(why)) => Ok(Ended::Skipped(SkippedRow { name: format!("operations.{name}"), why })),
            Err(error) => Err(error),
        },
    }
}

/// Why this machine cannot do a drill.
#[derive(Debug, thiserror::Error)]
#[error("cannot be done here: {0}")]
struct CannotHere(String);

// === impl Episode ===

impl Episode {
    fn say(&self) -> String {
        let recovered =
            self.recovery_s.map_or_else(|| "not all final".to_owned(), |s| format!("all final {s:.1} s after"));
        let back = self.throughput_back_s.map_or_else(String::new, |s| format!(", throughput back after {s:.1} s"));
        let reads = self.reads_away_s.iter().map(|(kind, s)| format!(", {kind} not read for {s:.1} s"));
        format!(
            "{:.1} s, {} final meanwhile, {recovered}{back}{}",
            self.lasted_s,
            self.ended_meanwhile,
            reads.collect::<String>()
        )
    }
}

// === impl Outcome ===

impl Outcome {
    /// A row for each thing that went wrong.
    pub fn steps(&self) -> impl Iterator<Item = StepRow> {
        self.episodes.iter().map(|episode| {
            StepRow {
                name: format!("operations.{}: {}", self.name, episode.what),
                expected: "all that was asked for before its end becomes final".to_owned(),
                got: episode.say(),
                ok: episode.recovery_s.is_some(),
                tx_hash: None,
                gas_used: None,
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // minutes at most
                elapsed_ms: (episode.lasted_s * 1_000.0) as u64,
            }
        })
    }

    /// The figures of a report; of a good platform `lost`, `duplicated` and `gapped` are zero.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        let verdict = &self.verdict;
        let of = |what: &str, unit: &str, values: Vec<f64>, goal, note: &str| {
            Figure::of(&format!("operations.{}.{what}", self.name), unit, values, goal, note)
        };
        let number = |what: &str, value: usize, goal, note: &str| of(what, "1", vec![count(value)], goal, note);
        let worst = |episode: &Episode| episode.reads_away_s.iter().map(|(_, s)| *s).fold(0.0, f64::max);
        let told = [verdict.examples.join("; "), self.remarks.join("; ")].join(" ");
        let what: Vec<&str> = self.episodes.iter().map(|episode| episode.what.as_str()).collect();
        let mut figures = vec![
            number(
                "accepted",
                verdict.accepted,
                None,
                &format!("of {} asked for, {} a second", verdict.asked, self.rate),
            ),
            number("refused", verdict.refused, Some(0.0), "good requests that were refused, or not answered in time"),
            number(
                "lost",
                verdict.lost,
                Some(0.0),
                &format!("accepted, and not completed with its transfer on chain. {told}"),
            ),
            number(
                "duplicated",
                verdict.duplicated,
                Some(0.0),
                "transfers on chain beyond the one that each request asked for",
            ),
            number(
                "gapped",
                verdict.gapped,
                Some(0.0),
                "nonces bound and not used, and transactions that wait behind a gap",
            ),
            of(
                "recovery_s",
                "s",
                self.episodes.iter().filter_map(|episode| episode.recovery_s).collect(),
                None,
                &format!(
                    "from the end of the fault until all that was asked for before is final, for each of: {}",
                    what.join(", ")
                ),
            ),
            of(
                "reads_away_s",
                "s",
                self.episodes.iter().map(worst).collect(),
                None,
                "the longest time without an answer to a read (operations, balances: the worse of both) for each of them",
            ),
        ];
        let back: Vec<f64> = self.episodes.iter().filter_map(|episode| episode.throughput_back_s).collect();
        if !back.is_empty() {
            let note = "from the begin of the fault until as many become final a second as before it, over 5 s; the goal is for each, so the value is the worst";
            let figure = of("throughput_back_s", "s", back, Some(THROUGHPUT_BACK_S), note);
            figures.push(Figure { value: figure.max, ..figure });
        }
        figures
    }
}

#[allow(clippy::cast_precision_loss)] // far below 2^52
fn count(value: usize) -> f64 {
    value as f64
}
