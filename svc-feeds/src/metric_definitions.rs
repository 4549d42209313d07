//! The metrics of this crate.

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Accepted rounds that were indexed, by `chain`.
pub const ROUNDS: &str = "dalp_feeds_rounds_total";
/// Updates ordered here that were refused, by `reason`.
pub const REJECTED: &str = "dalp_feeds_rejected_total";
/// Rounds whose nonce does not follow the issuer's one before.
pub const NONCE_GAPS: &str = "dalp_feeds_nonce_gaps_total";
/// Watched feeds that are stale now.
pub const STALE: &str = "dalp_feeds_stale";
/// Feeds whose last signer could sign no further update now.
pub const SIGNERS_LOST: &str = "dalp_feeds_signers_lost";
/// Feeds whose last signer is about to lose its right.
pub const SIGNERS_LOSING: &str = "dalp_feeds_signers_losing";
/// Updates that wait for their turn or their block.
pub const WAITING: &str = "dalp_feeds_updates_waiting";

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!(ROUNDS, "Accepted rounds that were indexed, by chain.");
    describe_counter!(REJECTED, "Updates ordered here that were refused, by reason.");
    describe_counter!(NONCE_GAPS, "Rounds whose nonce does not follow the issuer's one before.");
    describe_gauge!(STALE, "Watched feeds that are stale now.");
    describe_gauge!(SIGNERS_LOST, "Feeds whose last signer could sign no further update now.");
    describe_gauge!(SIGNERS_LOSING, "Feeds whose last signer is about to lose its right.");
    describe_gauge!(WAITING, "Updates that wait for their turn or their block.");
}

pub(crate) fn indexed(chain_id: u64, rounds: usize) {
    counter!(ROUNDS, "chain" => chain_id.to_string()).increment(rounds as u64);
}

pub(crate) fn rejected(reason: &str) {
    counter!(REJECTED, "reason" => reason.to_owned()).increment(1);
}

pub(crate) fn nonce_gaps(count: usize) {
    counter!(NONCE_GAPS).increment(count as u64);
}

pub(crate) fn signers(lost: usize, losing: usize) {
    gauge!(SIGNERS_LOST).set(lost as f64);
    gauge!(SIGNERS_LOSING).set(losing as f64);
}

pub(crate) fn standing(stale: usize, waiting: usize) {
    gauge!(STALE).set(stale as f64);
    gauge!(WAITING).set(waiting as f64);
}
