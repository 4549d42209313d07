//! Every metric of this crate. Labels are configuration names, so their number is bounded.

use metrics::{counter, gauge, histogram};
use std::time::Duration;

/// Requests by chain, upstream and outcome (`ok`, `refused`, `rate_limited`, `failed`).
pub const UPSTREAM_REQUESTS: &str = "dalp_chain_upstream_requests_total";
/// Seconds until an upstream answered.
pub const UPSTREAM_SECONDS: &str = "dalp_chain_upstream_seconds";
/// Head of each upstream.
pub const UPSTREAM_HEAD: &str = "dalp_chain_upstream_head";
/// 1 while an upstream is out of use because it serves another chain.
pub const UPSTREAM_QUARANTINED: &str = "dalp_chain_upstream_quarantined";
/// Raw transactions sent, by chain and outcome.
pub const SENDS: &str = "dalp_chain_sends_total";
/// Highest block committed by a follower.
pub const FOLLOWER_BLOCK: &str = "dalp_chain_follower_block";
/// Blocks between a follower and the head.
pub const FOLLOWER_LAG: &str = "dalp_chain_follower_lag_blocks";
/// Blocks retracted by reorgs.
pub const FOLLOWER_RETRACTED: &str = "dalp_chain_follower_retracted_total";
/// Failed turns of a follower, by cause (`chain`, `sink`, `history`).
pub const FOLLOWER_FAILURES: &str = "dalp_chain_follower_failures_total";

/// All names, for the dashboard test.
pub const ALL: &[&str] = &[
    UPSTREAM_REQUESTS,
    UPSTREAM_SECONDS,
    UPSTREAM_HEAD,
    UPSTREAM_QUARANTINED,
    SENDS,
    FOLLOWER_BLOCK,
    FOLLOWER_LAG,
    FOLLOWER_RETRACTED,
    FOLLOWER_FAILURES,
];

pub(crate) fn upstream_request(chain_id: u64, upstream: &str, outcome: &'static str, latency: Duration) {
    let (chain, upstream) = (chain_id.to_string(), upstream.to_owned());
    histogram!(UPSTREAM_SECONDS, "chain" => chain.clone(), "upstream" => upstream.clone())
        .record(latency.as_secs_f64());
    counter!(UPSTREAM_REQUESTS, "chain" => chain, "upstream" => upstream, "outcome" => outcome).increment(1);
}

pub(crate) fn upstream_head(chain_id: u64, upstream: &str, head: u64) {
    gauge!(UPSTREAM_HEAD, "chain" => chain_id.to_string(), "upstream" => upstream.to_owned()).set(head as f64);
}

pub(crate) fn upstream_quarantined(chain_id: u64, upstream: &str, quarantined: bool) {
    gauge!(UPSTREAM_QUARANTINED, "chain" => chain_id.to_string(), "upstream" => upstream.to_owned())
        .set(f64::from(u8::from(quarantined)));
}

pub(crate) fn sent(chain_id: u64, outcome: &'static str) {
    counter!(SENDS, "chain" => chain_id.to_string(), "outcome" => outcome).increment(1);
}

pub(crate) fn follower_at(chain_id: u64, block: u64, head: u64) {
    gauge!(FOLLOWER_BLOCK, "chain" => chain_id.to_string()).set(block as f64);
    gauge!(FOLLOWER_LAG, "chain" => chain_id.to_string()).set(head.saturating_sub(block) as f64);
}

pub(crate) fn follower_retracted(chain_id: u64, blocks: u64) {
    counter!(FOLLOWER_RETRACTED, "chain" => chain_id.to_string()).increment(blocks);
}

pub(crate) fn follower_failed(chain_id: u64, cause: &'static str) {
    counter!(FOLLOWER_FAILURES, "chain" => chain_id.to_string(), "cause" => cause).increment(1);
}
