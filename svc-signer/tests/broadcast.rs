//! What every custodian must do that numbers and broadcasts by itself. Each case runs against each of them, before a chain of its own.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::sync::Arc;

use alloy::{
    consensus::Transaction as _,
    network::Ethereum,
    primitives::{Address, U256},
    providers::{Provider as _, RootProvider},
};
use dalp_chain::testing::Anvil;
use dalp_proto::signer::{
    EvmTransaction, Key, ListIntentsRequest, SignStage, SignStatus, WithdrawRequest,
    signer_service_server::SignerService as _,
};
use dalp_simulators::fault::Fault;
use support::{
    Bench, Setting, approved_transaction, by_provider, call, create,
    custodians::{becomes, brief, cases, error_becomes, id},
    order, reason, sign, until,
};
use svc_signer::providers::ProviderKind;

cases! {
    what_the_provider_broadcasts_is_on_the_chain_once,
    a_call_by_the_provider_takes_nothing_of_a_lane_and_is_denied_for_good,
    what_is_held_is_withdrawn_where_the_provider_gives_it_up,
    a_call_in_the_wrong_form_is_refused_and_not_stored,
    what_is_sent_again_has_another_hash,
    what_reverts_is_for_the_chain_to_tell,
    a_chain_that_the_provider_does_not_serve_is_named,
}

/// A signer whose custodian broadcasts by itself, and a key with funds.
async fn broadcasting(kind: ProviderKind, anvil: &Anvil) -> (Bench, Key, RootProvider<Ethereum>) {
    let node = RootProvider::<Ethereum>::new_http(anvil.url.parse().unwrap());
    let custodian = Some(Arc::new(support::custodian(kind, Some(anvil.url.clone())).await));
    let setting = Setting { broadcast: true, ..brief(kind) };
    let holders = support::Holders { custodian, ..Default::default() };
    let bench = Bench::over(setting, Arc::new(dalp_testing::TestPostgres::start()), holders).await;
    let key = create(&bench, "desk").await;
    let address: Address = key.address.parse().unwrap();
    let funded: serde_json::Value =
        node.raw_request("anvil_setBalance".into(), (address, "0xde0b6b3a7640000")).await.unwrap();
    assert!(funded.is_null(), "{funded}");
    (bench, key, node)
}

/// Seven wei, by the provider.
fn payment() -> EvmTransaction {
    by_provider(EvmTransaction { value_wei: "7".to_owned(), data: String::new(), ..call(0) })
}

async fn watermarks(bench: &Bench) -> i64 {
    let pool = bench.postgres.pool().await;
    sqlx::query_scalar("select count(*) from signer.watermarks").fetch_one(&pool).await.unwrap()
}

async fn a_call_by_the_provider_takes_nothing_of_a_lane_and_is_denied_for_good(kind: ProviderKind) {
    let anvil = Anvil::start([] as [&str; 0]);
    let (bench, key, node) = broadcasting(kind, &anvil).await;
    bench.custodian().ask_people().await;
    let request = order(&key.address, payment());
    let held = error_becomes(&bench, &request, "").await;
    assert_eq!(held.status(), SignStatus::Pending, "{held:?}");
    assert!(!held.provider_request_id.is_empty(), "the provider's own id: {held:?}");
    assert_eq!(watermarks(&bench).await, 0);
    let list =
        ListIntentsRequest { tenant: "bank".to_owned(), chain_id: 31337, signer: key.address.clone(), from_nonce: 0 };
    let told = bench.edge.list_intents(support::from_peer(list, support::PEER)).await.unwrap().into_inner();
    assert!(told.by_provider && told.intents.is_empty(), "{told:?}");
    bench.custodian().deny().await;
    let denied = becomes(&bench, &request, SignStatus::Denied).await;
    bench.custodian().allow().await;
    assert_eq!(sign(&bench, &request).await.unwrap(), denied, "for ever");
    // Another one is not held up by it, and nothing of the first was sent.
    becomes(&bench, &order(&key.address, payment()), SignStatus::Approved).await;
    let address: Address = key.address.parse().unwrap();
    assert_eq!(node.get_transaction_count(address).await.unwrap(), 1);
}

async fn what_is_held_is_withdrawn_where_the_provider_gives_it_up(kind: ProviderKind) {
    let anvil = Anvil::start([] as [&str; 0]);
    let (bench, key, node) = broadcasting(kind, &anvil).await;
    bench.custodian().ask_people().await;
    let request = order(&key.address, payment());
    error_becomes(&bench, &request, "").await;
    let withdraw = |peer: &'static str| {
        let request = WithdrawRequest { request_id: request.request_id.clone() };
        bench.edge.withdraw(support::from_peer(request, peer))
    };
    assert_eq!(reason(&withdraw("spiffe://dalp.dev/svc-feeds").await.unwrap_err()), "NOT_FOUND", "another's");
    let told = withdraw(support::PEER).await.unwrap().into_inner().outcome.unwrap();
    let address: Address = key.address.parse().unwrap();
    if bench.custodian().can_give_up() {
        assert_eq!((told.status(), told.error.as_str()), (SignStatus::Denied, "WITHDRAWN"), "{told:?}");
        bench.custodian().approve().await;
        bench.custodian().settle().await;
        assert_eq!(sign(&bench, &request).await.unwrap(), told, "for ever");
        assert_eq!(node.get_transaction_count(address).await.unwrap(), 0);
    } else {
        assert_eq!(told.status(), SignStatus::Pending, "its people decide: {told:?}");
        bench.custodian().approve().await;
        let sent = becomes(&bench, &request, SignStatus::Approved).await;
        let late = withdraw(support::PEER).await.unwrap().into_inner().outcome.unwrap();
        assert_eq!((late.status(), late.tx_hash), (SignStatus::Approved, sent.tx_hash), "too late");
        assert_eq!(node.get_transaction_count(address).await.unwrap(), 1);
    }
}

async fn a_call_in_the_wrong_form_is_refused_and_not_stored(kind: ProviderKind) {
    let anvil = Anvil::start([] as [&str; 0]);
    let (bench, key, _) = broadcasting(kind, &anvil).await;
    let numbered = order(&key.address, call(0));
    let refused = sign(&bench, &numbered).await.unwrap_err();
    assert_eq!(
        (reason(&refused), support::meta(&refused, "by_provider")),
        ("BROADCAST_MODE_MISMATCH".to_owned(), "true".to_owned())
    );
    // As after a change of the mode: both replicas share everything else.
    let signing = bench.replica_of(brief(kind)).await;
    let request = order(&key.address, payment());
    let refused = sign(&signing, &request).await.unwrap_err();
    assert_eq!(support::meta(&refused, "by_provider"), "false");
    assert!(bench.store.request(id(&request)).await.unwrap().is_none(), "nothing stands under its id");
    assert!(bench.custodian().external_ids().await.is_empty());
    // What was taken in one form goes on in it, whatever the mode is by now.
    bench.custodian().ask_people().await;
    error_becomes(&bench, &request, "").await;
    bench.custodian().approve().await;
    let sent = becomes(&signing, &request, SignStatus::Approved).await;
    assert_ne!(sent.stage(), SignStage::Unspecified, "{sent:?}");
    bench.custodian().allow().await;
    approved_transaction(&becomes(&signing, &numbered, SignStatus::Approved).await);
    assert!(sign(&bench, &numbered).await.unwrap().stage() == SignStage::Unspecified);
}

async fn what_is_sent_again_has_another_hash(kind: ProviderKind) {
    let anvil = Anvil::start(["--no-mining"]);
    let (bench, key, node) = broadcasting(kind, &anvil).await;
    let request = order(&key.address, payment());
    let sent = becomes(&bench, &request, SignStatus::Approved).await;
    assert_eq!(sent.stage(), SignStage::Broadcast, "{sent:?}");
    bench.custodian().speed_up().await.unwrap();
    let again = until(async || sign(&bench, &request).await.unwrap(), |told| told.tx_hash != sent.tx_hash).await;
    assert_eq!((again.status(), again.stage()), (SignStatus::Approved, SignStage::Broadcast));
    assert_eq!(again.provider_request_id, sent.provider_request_id, "the same request");
    let _: serde_json::Value = node.raw_request("evm_mine".into(), ()).await.unwrap();
    let done = until(async || sign(&bench, &request).await.unwrap(), |told| told.stage() == SignStage::Confirmed).await;
    assert_eq!(done.tx_hash, again.tx_hash);
    assert!(node.get_transaction_receipt(done.tx_hash.parse().unwrap()).await.unwrap().unwrap().status());
    assert_eq!(bench.custodian().external_ids().await.len(), 1);
    // The database lets stage and hash change, and nothing else.
    let pool = bench.postgres.pool().await;
    for forced in ["status = 'DENIED'", "stage = ''", "digest = sha256('')", "nonce = 4"] {
        let statement = format!("update signer.requests set {forced} where request_id = $1");
        let changed = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id(&request)).execute(&pool).await;
        assert!(changed.is_err(), "{forced}");
    }
}

async fn what_reverts_is_for_the_chain_to_tell(kind: ProviderKind) {
    let anvil = Anvil::start(["--no-mining"]);
    let (bench, key, node) = broadcasting(kind, &anvil).await;
    let request = order(&key.address, payment());
    let sent = becomes(&bench, &request, SignStatus::Approved).await;
    // Between the provider's estimate and the block the target becomes a contract that refuses everything.
    let _: serde_json::Value = node.raw_request("anvil_setCode".into(), (support::TARGET, "0x5f5ffd")).await.unwrap();
    let _: serde_json::Value = node.raw_request("evm_mine".into(), ()).await.unwrap();
    let failed = until(async || sign(&bench, &request).await.unwrap(), |told| told.stage() == SignStage::Failed).await;
    assert_eq!((failed.status(), failed.tx_hash.as_str()), (SignStatus::Approved, sent.tx_hash.as_str()));
    assert!(!node.get_transaction_receipt(failed.tx_hash.parse().unwrap()).await.unwrap().unwrap().status());
}

async fn what_the_provider_broadcasts_is_on_the_chain_once(kind: ProviderKind) {
    let anvil = Anvil::start([] as [&str; 0]);
    let (bench, key, node) = broadcasting(kind, &anvil).await;
    let address: Address = key.address.parse().unwrap();

    // The answer to the order is lost, and it is not given a second time.
    bench.custodian().faults().inject(bench.custodian().broadcasts(), Fault::LoseAnswer, 1);
    let request = order(&key.address, payment());
    let sent = becomes(&bench, &request, SignStatus::Approved).await;
    assert_eq!((sent.signed_transaction.as_str(), sent.signature.as_str()), ("", ""), "its bytes stay there");
    assert_ne!(sent.stage(), SignStage::Unspecified);
    let found = node.get_transaction_by_hash(sent.tx_hash.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((found.inner.signer(), found.value()), (address, U256::from(7)));
    assert_eq!(found.to(), Some(support::TARGET.parse().unwrap()));
    assert_eq!(node.get_transaction_count(address).await.unwrap(), 1);
    let done = until(async || sign(&bench, &request).await.unwrap(), |told| told.stage() == SignStage::Confirmed).await;
    assert_eq!((done.status(), &done.tx_hash), (SignStatus::Approved, &sent.tx_hash), "for ever");
}

async fn a_chain_that_the_provider_does_not_serve_is_named(kind: ProviderKind) {
    let anvil = Anvil::start([] as [&str; 0]);
    let (bench, key, _) = broadcasting(kind, &anvil).await;
    let elsewhere = order(&key.address, EvmTransaction { chain_id: 1, ..payment() });
    let blocked = error_becomes(&bench, &elsewhere, "CHAIN_NOT_SERVED").await;
    assert_eq!((blocked.status(), blocked.tx_hash.as_str()), (SignStatus::Blocked, ""), "{blocked:?}");
    assert!(bench.custodian().external_ids().await.is_empty(), "it was not asked");
}
