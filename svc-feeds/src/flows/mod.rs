//! What happens on chain. Pure: asked again at every wake-up, the flows decide from what has happened.
//!
//! Step names are stored; they are never renamed.

pub mod batch;
pub mod create;
pub mod directory;
pub mod update;

#[cfg(test)]
pub(crate) mod replay;

pub use dalp_domain::flows::{Sent, call};

use alloy::primitives::Address;
use dalp_chain::Log;
use dalp_contracts::bindings::IssuerSignedScalarFeed::FeedUpdated;
use dalp_engine::{Failure, Flows};
use dalp_service::Reason;

/// How often an update is signed anew because somebody outside used the issuer's nonce before.
pub const ATTEMPTS: u32 = 16;

/// Every flow of this service.
#[must_use]
pub fn all() -> Flows {
    Flows::new()
        .with::<create::CreateFeedFlow>()
        .with::<update::SubmitUpdateFlow>()
        .with::<update::SubmitSignedFlow>()
        .with::<batch::SubmitBatchFlow>()
        .with::<directory::RegisterFeedFlow>()
        .with::<directory::ReplaceFeedFlow>()
        .with::<directory::RemoveFeedFlow>()
        .with::<directory::CreateAdapterFlow>()
}

/// The step that signs an item's update for the given time.
#[must_use]
pub fn sign_step(item: usize, attempt: u32) -> String {
    format!("sign/{item}/{attempt}")
}

/// The step that submits for the given time.
#[must_use]
pub fn submit_step(attempt: u32) -> String {
    format!("submit/{attempt}")
}

/// Whether a step submits.
#[must_use]
pub fn submits(step: &str) -> bool {
    step.starts_with("submit/")
}

/// The nonce that the feed expects instead, when that is all that is wrong with an update.
#[must_use]
pub fn expected_nonce(failure: &Failure) -> Option<u64> {
    let expected = failure.metadata.get("expected")?;
    (failure.reason == Reason::FeedNonceInvalid.as_str()).then(|| expected.parse().ok()).flatten()
}

/// The refusal of an update that does not carry the next nonce.
#[must_use]
pub fn nonce_refused(expected: u64, given: u64) -> Failure {
    Failure::new(Reason::FeedNonceInvalid.as_str(), "another update of the issuer came before")
        .with("expected", expected)
        .with("given", given)
}

/// The failure of an update that lost its nonce to others every time.
pub(crate) fn always_overtaken() -> Failure {
    Failure::new(Reason::Conflict.as_str(), format!("updates from outside took the issuer's nonce {ATTEMPTS} times"))
}

/// The acceptance of an update by a feed.
pub(crate) fn accepted(logs: &[Log], feed: Address) -> Option<FeedUpdated> {
    use alloy::sol_types::SolEvent as _;
    logs.iter()
        .filter(|log| log.address() == feed)
        .find_map(|log| FeedUpdated::decode_log(&log.inner).ok())
        .map(|log| log.data)
}
