//! The metrics of this crate.

use crate::pairs::Phase;
use crate::store::index::IndexBatch;
use metrics::{counter, describe_counter, describe_gauge, gauge};

/// What happened to settlements, by `event`.
pub const EVENTS: &str = "dalp_settlement_events_total";
/// Events of tenants' settlement contracts that no sound contract tells, by `why`: `unsound` or `repeated`.
pub const LEFT_OUT: &str = "dalp_settlement_events_left_out_total";
/// Requests that were refused before anything was accepted, by `reason`.
pub const REFUSED: &str = "dalp_settlement_refused_total";
/// Previews that found something against settling, by the `reason` that comes first.
pub const PREVIEWS_AGAINST: &str = "dalp_settlement_previews_against_total";

/// Exchanges across two chains that go on.
pub const PAIRS: &str = "dalp_settlement_pairs";
/// How exchanges moved on, by `phase`.
pub const PAIR_PHASES: &str = "dalp_settlement_pair_phases_total";
/// What the platform sent for exchanges by itself, by `action`.
pub const PAIR_ACTIONS: &str = "dalp_settlement_pair_actions_total";
/// What of exchanges needs somebody's attention now, by `kind`.
pub const ATTENTION: &str = "dalp_settlement_attention";

/// What needs attention, so that each has a value before it is needed.
const ATTENTION_KINDS: [&str; 7] =
    ["cutoff_near", "secret_unused", "leg_not_compliant", "mirror_differs", "chain_silent", "stuck", "split"];

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!(EVENTS, "What happened to settlements, by event.");
    describe_counter!(LEFT_OUT, "Events of settlement contracts that no sound contract tells, by why.");
    describe_counter!(REFUSED, "Requests that were refused before anything was accepted, by reason.");
    describe_gauge!(PAIRS, "Exchanges across two chains that go on.");
    describe_counter!(PAIR_PHASES, "How exchanges moved on, by phase.");
    describe_counter!(PAIR_ACTIONS, "What the platform sent for exchanges by itself, by action.");
    describe_gauge!(ATTENTION, "What of exchanges needs somebody's attention now, by kind.");
    describe_counter!(PREVIEWS_AGAINST, "Previews that found something against settling, by the first reason.");
}

pub(crate) fn indexed(index: &IndexBatch, repeated: u64) {
    counter!(LEFT_OUT, "why" => "unsound").increment(index.left_out);
    counter!(LEFT_OUT, "why" => "repeated").increment(repeated);
    for event in &index.happened {
        counter!(EVENTS, "event" => event.told.kind.name()).increment(1);
    }
}

pub(crate) fn pairs(going_on: usize, attention: &[(String, i64)]) {
    gauge!(PAIRS).set(going_on as f64);
    for kind in ATTENTION_KINDS {
        let many = attention.iter().find(|(known, _)| known == kind).map_or(0, |(_, many)| *many);
        gauge!(ATTENTION, "kind" => kind).set(many as f64);
    }
}

pub(crate) fn pair_stands(phase: Phase) {
    counter!(PAIR_PHASES, "phase" => phase.name().to_lowercase()).increment(1);
}

pub(crate) fn pair_acts(action: &str) {
    counter!(PAIR_ACTIONS, "action" => action.to_owned()).increment(1);
}

pub(crate) fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn preview_against(reason: &str) {
    counter!(PREVIEWS_AGAINST, "reason" => reason.to_owned()).increment(1);
}
