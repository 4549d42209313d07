//! Kill drills: a service is killed at stages that are waited for, never guessed, and what came of its work is counted on the chain.
//!
//! In reading order: `ground` is the stack that is drilled, `stage` says where a kill falls and brings the service there, `progress` tells how far it is, `push` and
//! `coupon` pay a list of any length and kill svc-distribution at every stage of it.

mod coupon;
mod ground;
mod progress;
mod push;
mod stage;

use std::time::Instant;

use dalp_devstack::report::{Figure, StepRow};

pub use coupon::coupon;
pub use ground::Ground;
pub(crate) use ground::verify;
pub use push::push;

/// A kill that fell where it should.
#[derive(Debug, Clone)]
pub struct Killed {
    /// The stage.
    pub stage: &'static str,
    /// Recipients that the index knew as paid then.
    pub paid: u64,
    /// How long the stage was waited for.
    pub reached_s: f64,
    /// From the kill until it served again.
    pub recovery_s: f64,
}

/// What came of a list that was paid under kills.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was paid.
    pub name: &'static str,
    /// Recipients on the list.
    pub recipients: usize,
    /// Those who have on chain what they are due, to the unit.
    pub paid: usize,
    /// Those who have more.
    pub duplicated: usize,
    /// Those who have less.
    pub lost: usize,
    /// Base units that the paying contract still has on chain.
    pub left: u64,
    /// What it had to pay out, less what recipients have and what is left, all on chain.
    pub difference: i128,
    /// What the platform's own record tells otherwise, or the contract's balance.
    pub deviations: Vec<String>,
    /// From the first request to the last payment.
    pub took_s: f64,
    /// Every kill, in order.
    pub kills: Vec<Killed>,
}

// === impl Outcome ===

impl Outcome {
    /// Of a list that was paid from then on; nobody is counted yet.
    fn of(name: &'static str, recipients: usize, begun: Instant, kills: Vec<Killed>) -> Self {
        let (paid, duplicated, lost, left, difference) = (0, 0, 0, 0, 0);
        let took_s = begun.elapsed().as_secs_f64();
        Self { name, recipients, paid, duplicated, lost, left, difference, deviations: Vec::new(), took_s, kills }
    }

    /// A row for each kill.
    pub fn steps(&self) -> impl Iterator<Item = StepRow> {
        self.kills.iter().map(|kill| StepRow {
            name: format!("{}: {}", self.name, kill.stage),
            expected: "killed here, serves again".to_owned(),
            got: format!(
                "killed with {} of {} known as paid, served again after {:.1} s",
                kill.paid, self.recipients, kill.recovery_s
            ),
            ok: true,
            tx_hash: None,
            gas_used: None,
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // minutes at most
            elapsed_ms: (kill.reached_s * 1_000.0) as u64,
        })
    }

    /// The figures of a report; of a good platform `lost`, `duplicated` and `deviating` are zero.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        let of = |what: &str, unit: &str, value: Vec<f64>, goal, note: &str| {
            Figure::of(&format!("distribution.{}.{what}", self.name), unit, value, goal, note)
        };
        let number = |what: &str, value: usize, goal, note: &str| of(what, "1", vec![count(value)], goal, note);
        let all = Some(count(self.recipients));
        let told = self.deviations.join("; ");
        let recovery_s = self.kills.iter().map(|kill| kill.recovery_s).collect();
        vec![
            number("recipients", self.recipients, None, "on the list"),
            number("paid", self.paid, all, "have on chain what they are due, to the unit"),
            number("duplicated", self.duplicated, Some(0.0), "have more on chain than they are due"),
            number("lost", self.lost, Some(0.0), "have less on chain than they are due"),
            of(
                "left",
                "base units",
                vec![whole(self.left.into())],
                None,
                "in the paying contract on chain; a coupon's rounding",
            ),
            of(
                "difference",
                "base units",
                vec![whole(self.difference)],
                Some(0.0),
                "what the contract had, less what recipients have, less what it has left, all on chain",
            ),
            number("deviating", self.deviations.len(), Some(0.0), &format!("sums of the record that differ: {told}")),
            number("kills", self.kills.len(), None, "SIGKILL of svc-distribution, each at another stage"),
            of(
                "s",
                "s",
                vec![self.took_s],
                None,
                "from the first request to the last recipient paid and indexed, kills included",
            ),
            of("recovery_s", "s", recovery_s, None, "from a kill until the service serves again"),
        ]
    }
}

#[allow(clippy::cast_precision_loss)] // far below 2^52
fn count(value: usize) -> f64 {
    value as f64
}

#[allow(clippy::cast_precision_loss)] // only zero has to be exact
fn whole(value: i128) -> f64 {
    value as f64
}
