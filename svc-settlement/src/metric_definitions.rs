//! The metrics of this crate.

use crate::store::index::IndexBatch;
use metrics::{counter, describe_counter};

/// What happened to settlements, by `event`.
pub const EVENTS: &str = "dalp_settlement_events_total";
/// Events of tenants' settlement contracts that no sound contract tells, by `why`: `unsound` or `repeated`.
pub const LEFT_OUT: &str = "dalp_settlement_events_left_out_total";
/// Requests that were refused before anything was accepted, by `reason`.
pub const REFUSED: &str = "dalp_settlement_refused_total";
/// Previews that found something against settling, by the `reason` that comes first.
pub const PREVIEWS_AGAINST: &str = "dalp_settlement_previews_against_total";

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!(EVENTS, "What happened to settlements, by event.");
    describe_counter!(LEFT_OUT, "Events of settlement contracts that no sound contract tells, by why.");
    describe_counter!(REFUSED, "Requests that were refused before anything was accepted, by reason.");
    describe_counter!(PREVIEWS_AGAINST, "Previews that found something against settling, by the first reason.");
}

pub(crate) fn indexed(index: &IndexBatch, repeated: u64) {
    counter!(LEFT_OUT, "why" => "unsound").increment(index.left_out);
    counter!(LEFT_OUT, "why" => "repeated").increment(repeated);
    for event in &index.happened {
        counter!(EVENTS, "event" => event.told.kind.name()).increment(1);
    }
}

pub(crate) fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn preview_against(reason: &str) {
    counter!(PREVIEWS_AGAINST, "reason" => reason.to_owned()).increment(1);
}
