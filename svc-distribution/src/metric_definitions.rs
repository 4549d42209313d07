//! The metrics of this crate.

use crate::{index::IndexBatch, offering::store::index::TurnKind};
use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Rows of airdrops that were indexed, by `outcome`: paid, started, released, skipped.
pub const ROWS: &str = "dalp_airdrop_rows_total";
/// Lists that were refused, by `problem`.
pub const LISTS_REFUSED: &str = "dalp_airdrop_lists_refused_total";
/// Pushes that run now.
pub const PUSHES_RUNNING: &str = "dalp_airdrop_pushes_running";
/// Pushes that stopped because a batch was refused as a whole.
pub const PUSHES_STOPPED: &str = "dalp_airdrop_pushes_stopped_total";

/// Purchases in sales that were indexed.
pub const PURCHASES: &str = "dalp_offering_purchases_total";
/// Purchases that were refused before anything was accepted, by `reason`.
pub const PURCHASES_REFUSED: &str = "dalp_offering_purchases_refused_total";
/// Sales that were decided, by `outcome`: succeeded, refunding.
pub const DECIDED: &str = "dalp_offering_decided_total";

/// Payments to holders that were indexed, by `outcome`: paid, skipped.
pub const PAYMENTS: &str = "dalp_treasury_payments_total";
/// Runs that are being paid now.
pub const RUNS_PAYING: &str = "dalp_treasury_runs_paying";
/// Runs that stopped because something was refused as a whole.
pub const RUNS_STOPPED: &str = "dalp_treasury_runs_stopped_total";
/// Runs that were refused before anything moved, by `reason`.
pub const RUNS_REFUSED: &str = "dalp_treasury_runs_refused_total";

/// Runs that were started because they were due.
pub const SCHEDULED_RUNS: &str = "dalp_treasury_scheduled_runs_total";
/// Payments ahead that their treasuries could not make today.
pub const PAYMENTS_SHORT: &str = "dalp_treasury_payments_short";

/// Events that cannot be true, and were therefore not indexed, by `table`.
pub const EVENTS_IGNORED: &str = "dalp_distribution_events_ignored_total";

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!(ROWS, "Rows of airdrops that were indexed, by outcome.");
    describe_counter!(LISTS_REFUSED, "Lists that were refused, by problem.");
    describe_gauge!(PUSHES_RUNNING, "Pushes that run now.");
    describe_counter!(PUSHES_STOPPED, "Pushes that stopped because a batch was refused as a whole.");
    describe_counter!(PURCHASES, "Purchases in sales that were indexed.");
    describe_counter!(PURCHASES_REFUSED, "Purchases that were refused before anything was accepted, by reason.");
    describe_counter!(DECIDED, "Sales that were decided, by outcome.");
    describe_counter!(PAYMENTS, "Payments to holders that were indexed, by outcome.");
    describe_gauge!(RUNS_PAYING, "Runs that are being paid now.");
    describe_counter!(RUNS_STOPPED, "Runs that stopped because something was refused as a whole.");
    describe_counter!(SCHEDULED_RUNS, "Runs that were started because they were due.");
    describe_gauge!(PAYMENTS_SHORT, "Payments ahead that their treasuries could not make today.");
    describe_counter!(EVENTS_IGNORED, "Events that cannot be true, and were therefore not indexed, by table.");
    describe_counter!(RUNS_REFUSED, "Runs that were refused before anything moved, by reason.");
}

pub(crate) fn indexed(index: &IndexBatch) {
    for payout in &index.airdrops.payouts {
        counter!(ROWS, "outcome" => payout.kind.name()).increment(1);
    }
    for payment in &index.treasuries.payments {
        counter!(PAYMENTS, "outcome" => payment.told.name()).increment(1);
    }
    counter!(PURCHASES).increment(index.offerings.purchases.len() as u64);
    for turn in &index.offerings.turns {
        if matches!(turn.kind, TurnKind::Succeeded | TurnKind::Refunding) {
            counter!(DECIDED, "outcome" => turn.kind.name()).increment(1);
        }
    }
}

/// A contract of ours tells of nothing twice. One that does, or of amounts that cannot be, must not stop the index of all others.
pub(crate) fn events_ignored(table: &'static str, told: usize, written: u64) {
    let ignored = (told as u64).saturating_sub(written);
    if ignored > 0 {
        tracing::warn!(table, ignored, "contracts told of what cannot be true, which is not indexed");
        counter!(EVENTS_IGNORED, "table" => table).increment(ignored);
    }
}

pub(crate) fn purchase_refused(reason: &str) {
    counter!(PURCHASES_REFUSED, "reason" => reason.to_owned()).increment(1);
}

pub(crate) fn list_refused(problem: &'static str) {
    counter!(LISTS_REFUSED, "problem" => problem).increment(1);
}

pub(crate) fn pushes_running(count: usize) {
    gauge!(PUSHES_RUNNING).set(count as f64);
}

pub(crate) fn push_stopped() {
    counter!(PUSHES_STOPPED).increment(1);
}

pub(crate) fn runs_paying(count: usize) {
    gauge!(RUNS_PAYING).set(count as f64);
}

pub(crate) fn run_stopped() {
    counter!(RUNS_STOPPED).increment(1);
}

pub(crate) fn run_refused(reason: &str) {
    counter!(RUNS_REFUSED, "reason" => reason.to_owned()).increment(1);
}

pub(crate) fn scheduled_run() {
    counter!(SCHEDULED_RUNS).increment(1);
}

pub(crate) fn payments_short(count: usize) {
    gauge!(PAYMENTS_SHORT).set(count as f64);
}
