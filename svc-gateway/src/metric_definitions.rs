//! Every metric of the gateway: names and descriptions.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Calls that ended at the gateway, by `reason`.
pub const GATEWAY_REFUSALS_TOTAL: &str = "dalp_gateway_refusals_total";
/// Calls answered from an earlier request with the same idempotency key, by `tenant`.
pub const GATEWAY_REPLAYS_TOTAL: &str = "dalp_gateway_replays_total";
/// Calls that broke off between the gateway and an upstream, by `upstream`.
pub const GATEWAY_UPSTREAM_FAILURES_TOTAL: &str = "dalp_gateway_upstream_failures_total";
/// Whether an upstream says it is serving, by `upstream`.
pub const GATEWAY_UPSTREAM_UP: &str = "dalp_gateway_upstream_up";
/// Requests at the endpoints for custodians' events, by `provider` and `outcome` (delivered, or the reason of the refusal).
pub const GATEWAY_PROVIDER_EVENTS_TOTAL: &str = "dalp_gateway_provider_events_total";
/// How long the database took to say what it knows of a credential.
pub const GATEWAY_CREDENTIAL_READ_SECONDS: &str = "dalp_gateway_credential_read_seconds";
/// Callers that were let in to read by what was known of them, because the database did not answer.
pub const GATEWAY_GRACE_TOTAL: &str = "dalp_gateway_grace_total";
/// Leaves of the audit log that were given their place.
pub const AUDIT_SEALED_TOTAL: &str = "dalp_audit_sealed_total";
/// How long one batch took to be sealed.
pub const AUDIT_SEAL_SECONDS: &str = "dalp_audit_seal_seconds";
/// Leaves without a place; not counted beyond 100,000.
pub const AUDIT_UNSEALED_LEAVES: &str = "dalp_audit_unsealed_leaves";
/// Age of the oldest leaf without a place.
pub const AUDIT_SEAL_LAG_SECONDS: &str = "dalp_audit_seal_lag_seconds";
/// For how long the longest waiting tenant has had leaves under no signed root.
pub const AUDIT_ROOT_LAG_SECONDS: &str = "dalp_audit_root_lag_seconds";
/// Roots that the signer decided about, by `outcome` (signed, refused).
pub const AUDIT_ROOTS_TOTAL: &str = "dalp_audit_roots_total";
/// Calls for the audit log (refused, or without a leaf of their own), by what became of them in `kept` (leaf, counted).
pub const AUDIT_CALLS_TOTAL: &str = "dalp_audit_calls_total";

/// The names, for the test that each is on a dashboard or an allow-list.
pub const ALL: &[&str] = &[
    GATEWAY_REFUSALS_TOTAL,
    GATEWAY_REPLAYS_TOTAL,
    GATEWAY_UPSTREAM_FAILURES_TOTAL,
    GATEWAY_UPSTREAM_UP,
    GATEWAY_PROVIDER_EVENTS_TOTAL,
    GATEWAY_CREDENTIAL_READ_SECONDS,
    GATEWAY_GRACE_TOTAL,
    AUDIT_SEALED_TOTAL,
    AUDIT_SEAL_SECONDS,
    AUDIT_UNSEALED_LEAVES,
    AUDIT_SEAL_LAG_SECONDS,
    AUDIT_ROOT_LAG_SECONDS,
    AUDIT_ROOTS_TOTAL,
    AUDIT_CALLS_TOTAL,
];

/// Tells the recorder what they mean.
pub fn describe() {
    describe_counter!(GATEWAY_REFUSALS_TOTAL, Unit::Count, "calls that ended at the gateway, by reason");
    describe_counter!(GATEWAY_REPLAYS_TOTAL, Unit::Count, "calls answered from an earlier request, by tenant");
    describe_counter!(GATEWAY_UPSTREAM_FAILURES_TOTAL, Unit::Count, "calls that broke off towards an upstream");
    describe_gauge!(GATEWAY_UPSTREAM_UP, Unit::Count, "1 while the upstream says it is serving");
    describe_counter!(GATEWAY_PROVIDER_EVENTS_TOTAL, Unit::Count, "requests at the endpoints for custodians' events");
    describe_histogram!(
        GATEWAY_CREDENTIAL_READ_SECONDS,
        Unit::Seconds,
        "what the database took to tell of a credential"
    );
    describe_counter!(GATEWAY_GRACE_TOTAL, Unit::Count, "callers let in to read while the database was away");
    describe_counter!(AUDIT_SEALED_TOTAL, Unit::Count, "audit leaves that were given their place");
    describe_histogram!(AUDIT_SEAL_SECONDS, Unit::Seconds, "what one batch of audit leaves took to be sealed");
    describe_gauge!(AUDIT_UNSEALED_LEAVES, Unit::Count, "audit leaves without a place");
    describe_gauge!(AUDIT_SEAL_LAG_SECONDS, Unit::Seconds, "age of the oldest audit leaf without a place");
    describe_gauge!(AUDIT_ROOT_LAG_SECONDS, Unit::Seconds, "for how long a tenant has had leaves under no signed root");
    describe_counter!(AUDIT_ROOTS_TOTAL, Unit::Count, "audit roots that the signer decided about, by outcome");
    describe_counter!(AUDIT_CALLS_TOTAL, Unit::Count, "calls for the audit log, by what became of them");
}
