//! The metrics of this crate.

use metrics::{counter, describe_counter};

/// Movements that compliance refused, by `module` and `reason`.
pub const REFUSALS: &str = "dalp_compliance_refusals_total";

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!(REFUSALS, "Movements that compliance refused, by module and reason.");
}

/// A movement was refused.
pub(crate) fn refused(module: &'static str, reason: &str) {
    counter!(REFUSALS, "module" => module, "reason" => label(reason)).increment(1);
}

/// Codes of foreign rules are not ours to count one by one.
fn label(reason: &str) -> &'static str {
    crate::domain::compliance::REASONS.iter().find(|(code, ..)| *code == reason).map_or("other", |(code, ..)| *code)
}
