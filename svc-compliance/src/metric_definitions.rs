//! The metrics of this crate.

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

/// Movements that compliance refused, by `module` and `reason`.
pub const REFUSALS: &str = "dalp_compliance_refusals_total";

/// Payloads that the attestor judged, by `verdict` (pass, veto, undecided) and `reason`.
pub const VERDICTS: &str = "dalp_attestor_verdicts_total";
/// Time of one judgement of several payloads.
pub const JUDGE_SECONDS: &str = "dalp_attestor_judge_seconds";

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!(REFUSALS, "Movements that compliance refused, by module and reason.");
    describe_counter!(VERDICTS, "Payloads that the attestor judged, by verdict and reason.");
    describe_histogram!(JUDGE_SECONDS, Unit::Seconds, "Time of one judgement of several payloads.");
}

/// A movement was refused.
pub(crate) fn refused(module: &'static str, reason: &str) {
    counter!(REFUSALS, "module" => module, "reason" => label(reason)).increment(1);
}

/// A payload was judged.
pub(crate) fn judged(verdict: &'static str, reason: &str) {
    let reason = crate::attest::ruling::REASONS
        .iter()
        .copied()
        .find(|known| *known == reason)
        .or_else(|| reason.parse::<dalp_service::Reason>().ok().map(dalp_service::Reason::as_str));
    counter!(VERDICTS, "verdict" => verdict, "reason" => reason.unwrap_or("none")).increment(1);
}

/// Several payloads were judged together.
pub(crate) fn judged_within(seconds: f64) {
    histogram!(JUDGE_SECONDS).record(seconds);
}

/// Codes of foreign rules are not ours to count one by one.
fn label(reason: &str) -> &'static str {
    crate::domain::compliance::REASONS.iter().find(|(code, ..)| *code == reason).map_or("other", |(code, ..)| *code)
}
