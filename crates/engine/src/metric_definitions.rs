//! Every metric of this crate.

use crate::states::{OperationState, TransactionState};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::time::Duration;

/// Operations accepted, by kind.
pub const OPERATIONS_ACCEPTED: &str = "dalp_engine_operations_accepted_total";
/// Operations that ended, by state.
pub const OPERATIONS_FINISHED: &str = "dalp_engine_operations_finished_total";
/// Transactions that ended, by state.
pub const TRANSACTIONS_FINISHED: &str = "dalp_engine_transactions_finished_total";
/// Time of one batch of a stage, by stage.
pub const STAGE_SECONDS: &str = "dalp_engine_stage_seconds";
/// Nonces that somebody else used.
pub const NONCES_USED_OUTSIDE: &str = "dalp_engine_nonces_used_outside_total";
/// Included transactions whose block disappeared.
pub const TRANSACTIONS_REORGED: &str = "dalp_engine_transactions_reorged_total";
/// Lanes that this instance works on.
pub const LANES_LEASED: &str = "dalp_engine_lanes_leased";
/// Operations that were not accepted because their tenant has as many unfinished ones as it may.
pub const QUOTA_REFUSALS: &str = "dalp_engine_quota_refusals_total";
/// Reservations that made way for others of their lane.
pub const NONCES_MOVED: &str = "dalp_engine_nonces_moved_total";
/// Operations that were not accepted because a custody approval holds their lane, which takes nothing behind it.
pub const BEHIND_APPROVAL_REFUSALS: &str = "dalp_engine_behind_approval_refusals_total";
/// Operations that have ended and were moved to history.
pub const OPERATIONS_MOVED: &str = "dalp_engine_operations_moved_total";
/// Operations that run for longer than they should, by reason: `held` by an approval, or `other`.
pub const OPERATIONS_STALLED: &str = "dalp_engine_operations_stalled";

/// Operations that a policy held when they were accepted, by kind.
pub const OPERATIONS_HELD: &str = "dalp_engine_operations_held_total";
/// Operations that wait for a second person now.
pub const OPERATIONS_AWAITING_CHECKER: &str = "dalp_engine_operations_awaiting_checker";
/// How long the oldest of them waits.
pub const OLDEST_AWAITING_CHECKER_SECONDS: &str = "dalp_engine_oldest_awaiting_checker_seconds";
/// Operations that ended because nobody decided about them in time.
pub const CHECKS_EXPIRED: &str = "dalp_engine_checks_expired_total";

/// Tells the recorder what the metrics mean.
pub fn describe() {
    describe_counter!(OPERATIONS_ACCEPTED, "Operations accepted, by kind");
    describe_counter!(OPERATIONS_FINISHED, "Operations that ended, by state");
    describe_counter!(TRANSACTIONS_FINISHED, "Transactions that ended, by state");
    describe_histogram!(STAGE_SECONDS, Unit::Seconds, "Time of one batch of a stage");
    describe_counter!(NONCES_USED_OUTSIDE, "Nonces that somebody else used");
    describe_counter!(TRANSACTIONS_REORGED, "Included transactions whose block disappeared");
    describe_counter!(QUOTA_REFUSALS, "Operations refused because their tenant has as many unfinished ones as it may");
    describe_counter!(NONCES_MOVED, "Reservations, held for an approval, that made way for others of their lane");
    describe_counter!(
        BEHIND_APPROVAL_REFUSALS,
        "Operations refused because a custody approval holds their lane, which takes nothing behind it"
    );
    describe_counter!(OPERATIONS_MOVED, "Operations that have ended and were moved to history");
    describe_counter!(OPERATIONS_HELD, "Operations that a maker-checker policy held, by kind");
    describe_gauge!(OPERATIONS_AWAITING_CHECKER, "Operations of this service that wait for a second person");
    describe_gauge!(
        OLDEST_AWAITING_CHECKER_SECONDS,
        Unit::Seconds,
        "How long the oldest of them waits; 0 when none does"
    );
    describe_counter!(CHECKS_EXPIRED, "Operations that ended because nobody decided about them in time");
    describe_gauge!(LANES_LEASED, "Lanes that this instance works on");
    describe_gauge!(OPERATIONS_STALLED, "Operations that run for longer than they should, by reason (held, other)");
}

pub(crate) fn operation_accepted(kind: &'static str) {
    counter!(OPERATIONS_ACCEPTED, "kind" => kind).increment(1);
}

pub(crate) fn operation_finished(state: OperationState) {
    counter!(OPERATIONS_FINISHED, "state" => state.as_str()).increment(1);
}

pub(crate) fn operations_moved(count: usize) {
    counter!(OPERATIONS_MOVED).increment(count as u64);
}

pub(crate) fn transactions_finished(state: TransactionState, count: usize) {
    counter!(TRANSACTIONS_FINISHED, "state" => state.as_str()).increment(count as u64);
}

pub(crate) fn stage(stage: &'static str, elapsed: Duration) {
    histogram!(STAGE_SECONDS, "stage" => stage).record(elapsed.as_secs_f64());
}

pub(crate) fn used_outside() {
    counter!(NONCES_USED_OUTSIDE).increment(1);
}

pub(crate) fn reorged(count: usize) {
    counter!(TRANSACTIONS_REORGED).increment(count as u64);
}

pub(crate) fn quota_refused() {
    counter!(QUOTA_REFUSALS).increment(1);
}

pub(crate) fn nonce_moved() {
    counter!(NONCES_MOVED).increment(1);
}

pub(crate) fn refused_behind_approval() {
    counter!(BEHIND_APPROVAL_REFUSALS).increment(1);
}

pub(crate) fn lanes_leased(count: usize) {
    gauge!(LANES_LEASED).set(count as f64);
}

pub(crate) fn operations_stalled(held: u64, other: u64) {
    gauge!(OPERATIONS_STALLED, "reason" => "held").set(held as f64);
    gauge!(OPERATIONS_STALLED, "reason" => "other").set(other as f64);
}

pub(crate) fn operation_held(kind: &'static str) {
    counter!(OPERATIONS_HELD, "kind" => kind).increment(1);
}

pub(crate) fn awaiting_checker(held: u64, oldest_s: f64) {
    gauge!(OPERATIONS_AWAITING_CHECKER).set(held as f64);
    gauge!(OLDEST_AWAITING_CHECKER_SECONDS).set(oldest_s);
}

pub(crate) fn checks_expired(count: u64) {
    counter!(CHECKS_EXPIRED).increment(count);
    for _ in 0..count {
        operation_finished(OperationState::Failed);
    }
}
