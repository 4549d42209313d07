//! The metrics of this crate.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Movements that compliance refused, by `module` and `reason`.
pub const REFUSALS: &str = "dalp_compliance_refusals_total";

/// Payloads that the attestor judged, by `chain` (none: of no chain that it serves), `verdict` (pass, veto, undecided, away) and `reason`.
pub const VERDICTS: &str = "dalp_attestor_verdicts_total";
/// Time of one judgement of several payloads of one chain, by `chain`.
pub const JUDGE_SECONDS: &str = "dalp_attestor_judge_seconds";
/// Whether the attestor can judge payloads of a chain, by `chain`: a node answers, and its latest block is young enough.
pub const CHAIN_READY: &str = "dalp_attestor_chain_ready";

/// User operations of smart wallets that go on.
pub const USER_OPERATIONS: &str = "dalp_wallet_user_operations";
/// Where user operations came to stand, by `state`.
pub const USER_OPERATION_STATES: &str = "dalp_wallet_user_operation_states_total";
/// Approvals of user operations that were accepted, by `key`: `platform` or `outside`.
pub const USER_OPERATION_APPROVALS: &str = "dalp_wallet_user_operation_approvals_total";
/// Looks at user operations whose approvals suffice and that the entry point would not take.
pub const USER_OPERATIONS_HELD: &str = "dalp_wallet_user_operations_held_total";
/// Requests about smart wallets that were refused before anything was accepted, by `reason`.
pub const WALLET_REFUSED: &str = "dalp_wallet_refused_total";

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!(REFUSALS, "Movements that compliance refused, by module and reason.");
    describe_counter!(VERDICTS, "Payloads that the attestor judged, by chain, verdict and reason.");
    describe_histogram!(JUDGE_SECONDS, Unit::Seconds, "Time of one judgement of several payloads of one chain.");
    describe_gauge!(CHAIN_READY, "Whether the attestor can judge payloads of a chain.");
    describe_gauge!(USER_OPERATIONS, "User operations of smart wallets that go on.");
    describe_counter!(USER_OPERATION_STATES, "Where user operations came to stand, by state.");
    describe_counter!(USER_OPERATION_APPROVALS, "Approvals of user operations that were accepted, by key.");
    describe_counter!(USER_OPERATIONS_HELD, "Looks at approved user operations that the entry point would not take.");
    describe_counter!(WALLET_REFUSED, "Requests about smart wallets that were refused at once, by reason.");
}

/// A movement was refused.
pub(crate) fn refused(module: &'static str, reason: &str) {
    counter!(REFUSALS, "module" => module, "reason" => label(reason)).increment(1);
}

/// A payload was judged.
pub(crate) fn judged(chain: &str, verdict: &'static str, reason: &str) {
    let reason = crate::attest::ruling::REASONS
        .iter()
        .copied()
        .find(|known| *known == reason)
        .or_else(|| reason.parse::<dalp_service::Reason>().ok().map(dalp_service::Reason::as_str));
    let reason = reason.unwrap_or("none");
    counter!(VERDICTS, "chain" => chain.to_owned(), "verdict" => verdict, "reason" => reason).increment(1);
}

/// Several payloads of a chain were judged together.
pub(crate) fn judged_within(chain_id: u64, seconds: f64) {
    histogram!(JUDGE_SECONDS, "chain" => chain_id.to_string()).record(seconds);
}

/// A chain was looked at.
pub(crate) fn chain_ready(chain_id: u64, ready: bool) {
    gauge!(CHAIN_READY, "chain" => chain_id.to_string()).set(f64::from(u8::from(ready)));
}

/// So many user operations go on.
pub(crate) fn user_operations(going_on: usize) {
    gauge!(USER_OPERATIONS).set(going_on as f64);
}

/// A user operation came to stand so.
pub(crate) fn user_operation_stands(state: crate::wallet::state::State) {
    counter!(USER_OPERATION_STATES, "state" => state.name().to_lowercase()).increment(1);
}

/// A user operation was approved.
pub(crate) fn user_operation_approved(by_platform: bool) {
    let key = if by_platform { "platform" } else { "outside" };
    counter!(USER_OPERATION_APPROVALS, "key" => key).increment(1);
}

/// A user operation is not sent though its approvals suffice.
pub(crate) fn user_operation_held() {
    counter!(USER_OPERATIONS_HELD).increment(1);
}

/// A request about smart wallets was refused.
pub(crate) fn wallet_refused(reason: &'static str) {
    counter!(WALLET_REFUSED, "reason" => reason).increment(1);
}

/// Codes of foreign rules are not ours to count one by one.
fn label(reason: &str) -> &'static str {
    crate::domain::compliance::REASONS.iter().find(|(code, ..)| *code == reason).map_or("other", |(code, ..)| *code)
}
