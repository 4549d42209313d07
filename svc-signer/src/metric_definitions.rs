//! Every metric of this crate: names and descriptions.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Sign requests, by `outcome` (a status in capitals, or `refused`).
pub const REQUESTS_TOTAL: &str = "dalp_signer_requests_total";
/// Time of one provider call, by `provider`.
pub const PROVIDER_SECONDS: &str = "dalp_signer_provider_seconds";
/// Whether a provider can sign now, by `provider`.
pub const PROVIDER_READY: &str = "dalp_signer_provider_ready";
/// Requests that wait for a decision and are due, as the last sweep found them, by `provider`.
pub const OPEN_REQUESTS: &str = "dalp_signer_open_requests";
/// What came as an event of a custodian, by `provider` and `outcome` (woken, ignored, repeated, unverified, stale, failed).
pub const PROVIDER_EVENTS_TOTAL: &str = "dalp_signer_provider_events_total";
/// Items of one write to the database, by `writer` (admissions, outcomes, leaves).
pub const BATCH_SIZE: &str = "dalp_signer_batch_size";
/// Starts of a partition's process, by `outcome` (opened, failed).
pub const PARTITION_STARTS_TOTAL: &str = "dalp_signer_partition_starts_total";
/// Processes of a partition that were killed because they hung or lost their device.
pub const PARTITION_KILLS_TOTAL: &str = "dalp_signer_partition_kills_total";
/// Members of the HA group behind a partition that do not answer.
pub const PARTITION_MEMBERS_AWAY: &str = "dalp_signer_partition_members_away";

/// Payloads that the attestor was asked about, by `outcome` (PASS, VETO, UNDECIDED, AWAY, DISBELIEVED).
pub const ATTESTATIONS_TOTAL: &str = "dalp_signer_attestations_total";
/// Time of one question to the attestor, for several payloads.
pub const ATTEST_SECONDS: &str = "dalp_signer_attest_seconds";
/// Whether the attestor says that it can judge.
pub const ATTESTOR_READY: &str = "dalp_signer_attestor_ready";

/// Tells the recorder what they mean.
pub fn describe() {
    describe_counter!(REQUESTS_TOTAL, Unit::Count, "sign requests by outcome");
    describe_histogram!(PROVIDER_SECONDS, Unit::Seconds, "time of one provider call");
    describe_gauge!(PROVIDER_READY, Unit::Count, "whether a provider can sign now");
    describe_counter!(ATTESTATIONS_TOTAL, Unit::Count, "payloads that the attestor was asked about, by outcome");
    describe_histogram!(ATTEST_SECONDS, Unit::Seconds, "time of one question to the attestor");
    describe_gauge!(ATTESTOR_READY, Unit::Count, "whether the attestor can judge");
    describe_gauge!(OPEN_REQUESTS, Unit::Count, "requests that wait for a decision");
    describe_counter!(PROVIDER_EVENTS_TOTAL, Unit::Count, "what came as an event of a custodian, by outcome");
    describe_histogram!(BATCH_SIZE, Unit::Count, "items of one write to the database");
    describe_counter!(PARTITION_STARTS_TOTAL, Unit::Count, "starts of a partition's process by outcome");
    describe_counter!(PARTITION_KILLS_TOTAL, Unit::Count, "processes of a partition that were killed");
    describe_gauge!(PARTITION_MEMBERS_AWAY, Unit::Count, "members of the HA group that do not answer");
}
