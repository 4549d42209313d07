//! What tests of a Luna partition share.

use std::sync::Arc;

use alloy::primitives::Address;
use dalp_proto::signer::{
    CreateKeyRequest, Key, SignOutcome, SignRequest, SignStatus, key_service_server::KeyService as _,
};
use dalp_quorum_module::device::State;
use svc_signer::{config::pkcs11::Pkcs11Config, providers::pkcs11::Pkcs11Provider};
use zeroize::Zeroizing;

use super::{Bench, approved_transaction, create, from_caller, program, reason, sender, sign, until};

/// A signer whose keys are in a partition, and a key.
pub async fn luna(partition: &str) -> (Bench, Key) {
    let bench = Bench::luna(partition).await;
    let key = create(&bench, "desk").await;
    (bench, key)
}

/// Asks again until the request stands so.
pub async fn becomes(bench: &Bench, request: &SignRequest, status: SignStatus, error: &str) -> SignOutcome {
    let wanted = |outcome: &SignOutcome| outcome.status() == status && outcome.error == error;
    until(async || sign(bench, request).await.unwrap(), wanted).await
}

pub async fn is_signed(bench: &Bench, request: &SignRequest) {
    let signed = becomes(bench, request, SignStatus::Approved, "").await;
    assert_eq!(sender(&approved_transaction(&signed)), request.signer.parse::<Address>().unwrap());
}

pub async fn create_refused(bench: &Bench, wallet: &str) -> String {
    let request = CreateKeyRequest { wallet: wallet.to_owned(), ..Default::default() };
    reason(&bench.keys.create_key(from_caller(request, "bank", wallet)).await.unwrap_err())
}

pub fn device(bench: &Bench) -> State {
    bench.device().read().unwrap()
}

pub fn change(bench: &Bench, change: impl FnOnce(&mut State)) {
    bench.device().update(change).unwrap();
}

/// A replica that has just started over the same database and partition.
pub fn fresh(bench: &Bench) -> Pkcs11Provider {
    let config: Pkcs11Config = bench.config.pkcs11.clone().unwrap();
    Pkcs11Provider::new(config, program(), Zeroizing::new(vec![7; 40]), Arc::new(bench.store.clone()))
}
