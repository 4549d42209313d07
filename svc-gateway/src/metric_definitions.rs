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
/// What persons showed to verify writes, by `factor` (pin, totp, recovery, none) and `outcome` (passed, repeat, failed, locked, missing, not_enrolled).
pub const GATEWAY_VERIFICATIONS_TOTAL: &str = "dalp_gateway_verifications_total";
/// Lockouts of persons after wrong verifications that began or grew.
pub const GATEWAY_VERIFICATION_LOCKOUTS_TOTAL: &str = "dalp_gateway_verification_lockouts_total";
/// Persons from whom nothing is taken now.
pub const GATEWAY_VERIFICATION_LOCKED: &str = "dalp_gateway_verification_locked";
/// How long one PIN took to be hashed.
pub const GATEWAY_PIN_HASH_SECONDS: &str = "dalp_gateway_pin_hash_seconds";
/// Tries to sign in at the status page, by `outcome` (admitted, refused, limited, unavailable).
pub const GATEWAY_STATUS_SIGN_INS_TOTAL: &str = "dalp_gateway_status_sign_ins_total";
/// Status pages that are open now.
pub const GATEWAY_STATUS_PAGES: &str = "dalp_gateway_status_pages";
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
/// Tries to deliver events to webhooks, by `outcome` (delivered, again, dead, gone).
pub const WEBHOOK_TRIES_TOTAL: &str = "dalp_webhook_tries_total";
/// How long one try took.
pub const WEBHOOK_TRY_SECONDS: &str = "dalp_webhook_try_seconds";
/// Deliveries of active webhooks that wait.
pub const WEBHOOK_PENDING: &str = "dalp_webhook_pending";
/// Dead letters of webhooks.
pub const WEBHOOK_DEAD: &str = "dalp_webhook_dead";
/// Age of the oldest delivery of an active webhook that waits.
pub const WEBHOOK_LAG_SECONDS: &str = "dalp_webhook_lag_seconds";

/// The names, for the test that each is on a dashboard or an allow-list.
pub const ALL: &[&str] = &[
    GATEWAY_REFUSALS_TOTAL,
    GATEWAY_REPLAYS_TOTAL,
    GATEWAY_UPSTREAM_FAILURES_TOTAL,
    GATEWAY_UPSTREAM_UP,
    GATEWAY_PROVIDER_EVENTS_TOTAL,
    GATEWAY_CREDENTIAL_READ_SECONDS,
    GATEWAY_GRACE_TOTAL,
    GATEWAY_VERIFICATIONS_TOTAL,
    GATEWAY_VERIFICATION_LOCKOUTS_TOTAL,
    GATEWAY_VERIFICATION_LOCKED,
    GATEWAY_PIN_HASH_SECONDS,
    GATEWAY_STATUS_SIGN_INS_TOTAL,
    GATEWAY_STATUS_PAGES,
    AUDIT_SEALED_TOTAL,
    AUDIT_SEAL_SECONDS,
    AUDIT_UNSEALED_LEAVES,
    AUDIT_SEAL_LAG_SECONDS,
    AUDIT_ROOT_LAG_SECONDS,
    AUDIT_ROOTS_TOTAL,
    AUDIT_CALLS_TOTAL,
    WEBHOOK_TRIES_TOTAL,
    WEBHOOK_TRY_SECONDS,
    WEBHOOK_PENDING,
    WEBHOOK_DEAD,
    WEBHOOK_LAG_SECONDS,
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
    describe_counter!(GATEWAY_VERIFICATIONS_TOTAL, Unit::Count, "what persons showed to verify writes, by outcome");
    describe_counter!(GATEWAY_VERIFICATION_LOCKOUTS_TOTAL, Unit::Count, "lockouts of persons that began or grew");
    describe_gauge!(GATEWAY_VERIFICATION_LOCKED, Unit::Count, "persons from whom nothing is taken now");
    describe_histogram!(GATEWAY_PIN_HASH_SECONDS, Unit::Seconds, "what one PIN took to be hashed");
    describe_counter!(GATEWAY_STATUS_SIGN_INS_TOTAL, Unit::Count, "tries to sign in at the status page, by outcome");
    describe_gauge!(GATEWAY_STATUS_PAGES, Unit::Count, "status pages that are open");
    describe_counter!(AUDIT_SEALED_TOTAL, Unit::Count, "audit leaves that were given their place");
    describe_histogram!(AUDIT_SEAL_SECONDS, Unit::Seconds, "what one batch of audit leaves took to be sealed");
    describe_gauge!(AUDIT_UNSEALED_LEAVES, Unit::Count, "audit leaves without a place");
    describe_gauge!(AUDIT_SEAL_LAG_SECONDS, Unit::Seconds, "age of the oldest audit leaf without a place");
    describe_gauge!(AUDIT_ROOT_LAG_SECONDS, Unit::Seconds, "for how long a tenant has had leaves under no signed root");
    describe_counter!(AUDIT_ROOTS_TOTAL, Unit::Count, "audit roots that the signer decided about, by outcome");
    describe_counter!(AUDIT_CALLS_TOTAL, Unit::Count, "calls for the audit log, by what became of them");
    describe_counter!(WEBHOOK_TRIES_TOTAL, Unit::Count, "tries to deliver events to webhooks, by outcome");
    describe_histogram!(WEBHOOK_TRY_SECONDS, Unit::Seconds, "what one try to deliver to a webhook took");
    describe_gauge!(WEBHOOK_PENDING, Unit::Count, "deliveries of active webhooks that wait");
    describe_gauge!(WEBHOOK_DEAD, Unit::Count, "dead letters of webhooks");
    describe_gauge!(WEBHOOK_LAG_SECONDS, Unit::Seconds, "age of the oldest delivery of an active webhook that waits");
}
