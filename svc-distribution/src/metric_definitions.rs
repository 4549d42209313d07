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

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!(ROWS, "Rows of airdrops that were indexed, by outcome.");
    describe_counter!(LISTS_REFUSED, "Lists that were refused, by problem.");
    describe_gauge!(PUSHES_RUNNING, "Pushes that run now.");
    describe_counter!(PUSHES_STOPPED, "Pushes that stopped because a batch was refused as a whole.");
    describe_counter!(PURCHASES, "Purchases in sales that were indexed.");
    describe_counter!(PURCHASES_REFUSED, "Purchases that were refused before anything was accepted, by reason.");
    describe_counter!(DECIDED, "Sales that were decided, by outcome.");
}

pub(crate) fn indexed(index: &IndexBatch) {
    for payout in &index.airdrops.payouts {
        counter!(ROWS, "outcome" => payout.kind.name()).increment(1);
    }
    counter!(PURCHASES).increment(index.offerings.purchases.len() as u64);
    for turn in &index.offerings.turns {
        if matches!(turn.kind, TurnKind::Succeeded | TurnKind::Refunding) {
            counter!(DECIDED, "outcome" => turn.kind.name()).increment(1);
        }
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
