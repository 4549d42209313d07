//! Every metric of the gateway: names and descriptions.

use metrics::{Unit, describe_counter, describe_gauge};

/// Calls that ended at the gateway, by `reason`.
pub const GATEWAY_REFUSALS_TOTAL: &str = "dalp_gateway_refusals_total";
/// Calls answered from an earlier request with the same idempotency key, by `tenant`.
pub const GATEWAY_REPLAYS_TOTAL: &str = "dalp_gateway_replays_total";
/// Calls that broke off between the gateway and an upstream, by `upstream`.
pub const GATEWAY_UPSTREAM_FAILURES_TOTAL: &str = "dalp_gateway_upstream_failures_total";
/// Whether an upstream says it is serving, by `upstream`.
pub const GATEWAY_UPSTREAM_UP: &str = "dalp_gateway_upstream_up";

/// The names, for the test that each is on a dashboard or an allow-list.
pub const ALL: &[&str] =
    &[GATEWAY_REFUSALS_TOTAL, GATEWAY_REPLAYS_TOTAL, GATEWAY_UPSTREAM_FAILURES_TOTAL, GATEWAY_UPSTREAM_UP];

/// Tells the recorder what they mean.
pub fn describe() {
    describe_counter!(GATEWAY_REFUSALS_TOTAL, Unit::Count, "calls that ended at the gateway, by reason");
    describe_counter!(GATEWAY_REPLAYS_TOTAL, Unit::Count, "calls answered from an earlier request, by tenant");
    describe_counter!(GATEWAY_UPSTREAM_FAILURES_TOTAL, Unit::Count, "calls that broke off towards an upstream");
    describe_gauge!(GATEWAY_UPSTREAM_UP, Unit::Count, "1 while the upstream says it is serving");
}
