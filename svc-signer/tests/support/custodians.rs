//! What tests of custodians share: each case runs against each of them.

/// Runs each case against each custodian, as a test of its own in the custodian's module.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        mod dfns {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(super::ProviderKind::Dfns).await;
            })*
        }
        mod fireblocks {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(super::ProviderKind::Fireblocks).await;
            })*
        }
    };
}

pub(crate) use cases;
use dalp_proto::signer::{Key, SignOutcome, SignRequest, SignStatus};
use svc_signer::providers::ProviderKind;

use super::{Bench, Holders, Setting, create, sign, until};

/// Callers are told to wait soon.
pub fn brief(kind: ProviderKind) -> Setting {
    Setting { settle_ms: 300, ..Setting::of(kind) }
}

/// A signer whose keys are at a custodian, and a key.
pub async fn bench(kind: ProviderKind) -> (Bench, Key) {
    let holders = Holders::of(kind).await;
    let bench = Bench::over(brief(kind), std::sync::Arc::new(dalp_testing::TestPostgres::start()), holders).await;
    let key = create(&bench, "desk").await;
    (bench, key)
}

/// Asks again until the request stands so.
pub async fn becomes(bench: &Bench, request: &SignRequest, status: SignStatus) -> SignOutcome {
    until(async || sign(bench, request).await.unwrap(), |outcome| outcome.status() == status).await
}

/// Asks again until this stands beside its status.
pub async fn error_becomes(bench: &Bench, request: &SignRequest, error: &str) -> SignOutcome {
    until(async || sign(bench, request).await.unwrap(), |outcome| outcome.error == error).await
}

/// The id of a request.
pub fn id(request: &SignRequest) -> uuid::Uuid {
    request.request_id.parse().unwrap()
}
