//! What every custodian must do: hold, approve, deny, expire, block, lose answers, fall silent. Each case runs against each of them.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::sync::Arc;

use alloy::primitives::{Address, B256};
use dalp_proto::signer::{
    CreateKeyRequest, DisableKeyRequest, EvmTransaction, SignOutcome, SignRequest, SignStatus, WithdrawRequest,
    key_service_server::KeyService as _, signer_service_server::SignerService as _,
};
use dalp_simulators::{fault::Fault, keys::Twist};
use serde_json::json;
use support::{
    Bench, Setting, age, approved_transaction, call, create,
    custodians::{becomes, bench, brief, cases, error_becomes, id},
    from_caller, order, reason, sender, sign, until,
};
use svc_signer::{providers::ProviderKind, store::evidence::Wanted};

/// Past this deadline a request is given up: at once, as tests have it.
const NO_PATIENCE: &str = "request_deadline_s = 1";

cases! {
    approval_is_a_hold_and_then_a_signature,
    denial_is_final_and_gives_the_nonce_back,
    the_providers_expiry_is_an_error_beside_the_status,
    a_policy_block_stays_until_an_operator_retries,
    a_request_is_at_the_provider_once,
    an_orphan_is_taken_back,
    a_restart_in_the_middle_changes_nothing,
    a_late_approval_after_the_deadline_counts_if_it_was_not_given_up,
    past_the_deadline_the_provider_is_asked_to_give_up,
    a_provider_that_hangs_is_no_hold,
    a_signature_of_another_key_never_leaves,
    high_s_is_normalised,
    burnt_external_id,
    an_unknown_status_is_waited_for,
    a_rate_limit_is_waited_for,
    a_wrong_clock_is_named,
    a_custodian_that_cannot_be_reached_is_no_hold,
    refused_credentials_are_named,
    a_key_created_twice_is_one_key,
    a_disabled_key_releases_nothing,
    no_secret_is_seen_outside,
}

async fn approval_is_a_hold_and_then_a_signature(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().ask_people().await;
    let request = order(&key.address, call(0));
    let held = error_becomes(&bench, &request, "").await;
    assert_eq!(held.status(), SignStatus::Pending, "a hold: {held:?}");
    assert!(!held.detail.is_empty(), "the provider's own words: {held:?}");
    let withdraw = WithdrawRequest { request_id: request.request_id.clone() };
    let refused = bench.edge.withdraw(support::from_peer(withdraw, support::PEER)).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_FIELD", "its people may still release the signature");
    bench.custodian().approve().await;
    let tx = approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
    assert_eq!(sender(&tx), key.address.parse::<Address>().unwrap());
    assert_eq!(bench.custodian().external_ids().await, [format!("dalp-{}", request.request_id)]);
}

async fn denial_is_final_and_gives_the_nonce_back(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().ask_people().await;
    let request = order(&key.address, call(0));
    error_becomes(&bench, &request, "").await;
    bench.custodian().deny().await;
    let denied = becomes(&bench, &request, SignStatus::Denied).await;
    assert_eq!(denied.error, "");
    bench.custodian().allow().await;
    assert_eq!(sign(&bench, &request).await.unwrap(), denied, "for ever");
    bench.signer.release(support::PEER, id(&request)).await.unwrap();
    approved_transaction(&becomes(&bench, &order(&key.address, call(0)), SignStatus::Approved).await);
}

async fn the_providers_expiry_is_an_error_beside_the_status(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().ask_people().await;
    let request = order(&key.address, call(0));
    error_becomes(&bench, &request, "").await;
    bench.custodian().expire().await;
    let expired = becomes(&bench, &request, SignStatus::Expired).await;
    assert_eq!(expired.error, "PROVIDER_EXPIRED");
}

async fn a_policy_block_stays_until_an_operator_retries(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().block().await;
    let request = order(&key.address, call(0));
    let blocked = becomes(&bench, &request, SignStatus::Blocked).await;
    assert_eq!(blocked.error, "", "the provider's policy: {blocked:?}");
    bench.custodian().allow().await;
    // Another policy changes nothing of what was blocked: there it is final.
    assert_eq!(sign(&bench, &request).await.unwrap().status(), SignStatus::Blocked);
    assert!(bench.store.retry_stopped(id(&request)).await.unwrap());
    approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
    let first = format!("dalp-{}", request.request_id);
    assert_eq!(bench.custodian().external_ids().await, [first.clone(), format!("{first}-1")], "under another id");
    assert!(!bench.store.retry_stopped(id(&request)).await.unwrap(), "what is signed is not retried");
    evidence_names_each_attempt(&bench, &request).await;
}

async fn evidence_names_each_attempt(bench: &Bench, request: &SignRequest) {
    // One more at the same nonce: its evidence is this one's, too.
    let cheap = call(0);
    let dearer =
        EvmTransaction { max_fee_per_gas_wei: "20".to_owned(), max_priority_fee_per_gas_wei: "2".to_owned(), ..cheap };
    let replacement = SignRequest { replaces_request_id: request.request_id.clone(), ..order(&request.signer, dearer) };
    let signed = becomes(bench, &replacement, SignStatus::Approved).await;
    let evidence = bench.store.evidence(Wanted::Request(id(request))).await.unwrap();
    let hash = signed.tx_hash.parse::<B256>().unwrap();
    assert_eq!(bench.store.evidence(Wanted::Transaction(hash.0)).await.unwrap(), evidence, "by either");
    let [first, second] = &evidence[..] else { panic!("{evidence:#?}") };
    assert_eq!((&first["request_id"], &second["replaces"]), (&json!(request.request_id), &json!(request.request_id)));
    assert_eq!((&second["tx_hash"], &second["status"]), (&json!(signed.tx_hash), &json!("APPROVED")));
    let attempts: Vec<_> = first["attempts"].as_array().unwrap().iter().map(|one| one["external_id"].clone()).collect();
    let external_id = format!("dalp-{}", request.request_id);
    assert_eq!(attempts, [json!(external_id), json!(format!("{external_id}-1"))]);
    assert!(first["attempts"].as_array().unwrap().iter().all(|one| one["provider_id"].is_string()), "{first:#}");
    let decisions: Vec<_> = first["decisions"].as_array().unwrap().iter().map(|one| one["decision"].clone()).collect();
    assert!(decisions.contains(&json!("retried")) && decisions.contains(&json!("blocked")), "{decisions:?}");
    assert_eq!(first["key"]["wallet"], "desk");
    for kept_out in ["unsigned_tx", "signed_tx", "material", "statement"] {
        assert!(first.get(kept_out).is_none() && first["key"].get(kept_out).is_none(), "{kept_out}");
    }
    assert!(bench.store.evidence(Wanted::Request(uuid::Uuid::new_v4())).await.unwrap().is_empty());
}

async fn a_request_is_at_the_provider_once(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    let replica = bench.replica().await;
    let request = order(&key.address, call(0));
    let answers =
        futures::future::join_all((0..12).map(|at| sign(if at % 2 == 0 { &bench } else { &replica }, &request)));
    for answer in answers.await {
        answer.unwrap();
    }
    let signed = becomes(&bench, &request, SignStatus::Approved).await;
    assert_eq!(becomes(&replica, &request, SignStatus::Approved).await, signed);
    assert_eq!(bench.custodian().external_ids().await.len(), 1);
}

async fn an_orphan_is_taken_back(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().next(Fault::LoseAnswer, 1);
    let request = order(&key.address, call(0));
    let lost = sign(&bench, &request).await.unwrap();
    assert_eq!((lost.status(), lost.error.as_str()), (SignStatus::Pending, "PROVIDER_UNAVAILABLE"), "{lost:?}");
    assert_eq!(bench.custodian().external_ids().await.len(), 1, "it is there all the same");
    approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
    assert_eq!(bench.custodian().external_ids().await.len(), 1, "and was not made again");
}

async fn a_restart_in_the_middle_changes_nothing(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().ask_people().await;
    let request = order(&key.address, call(0));
    error_becomes(&bench, &request, "").await;
    let rest = bench.replica().await;
    drop(bench);
    rest.custodian().approve().await;
    approved_transaction(&becomes(&rest, &request, SignStatus::Approved).await);
    assert_eq!(rest.custodian().external_ids().await.len(), 1);

    // And one that dies between its note that it will ask and the answer: whoever comes next asks whether it was asked.
    rest.custodian().allow().await;
    let request = order(&key.address, call(1));
    rest.custodian().next(Fault::Hang, 1);
    let dying = tokio::spawn({
        let (edge, request) = (rest.edge.clone(), request.clone());
        async move { support::sign_at(&edge, &request).await }
    });
    rest.custodian().faults().hanging(1).await;
    dying.abort();
    rest.custodian().faults().release();
    approved_transaction(&becomes(&rest, &request, SignStatus::Approved).await);
    assert_eq!(rest.custodian().external_ids().await.len(), 2);
}

async fn a_late_approval_after_the_deadline_counts_if_it_was_not_given_up(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().ask_people().await;
    let request = order(&key.address, call(0));
    error_becomes(&bench, &request, "").await;
    // Approved while nobody was looking; then the deadline passes before the next look.
    bench.custodian().approve().await;
    bench.custodian().settle().await;
    let late = bench.replica_of(Setting { signer: NO_PATIENCE.to_owned(), ..brief(kind) }).await;
    age(&bench).await;
    approved_transaction(&becomes(&late, &request, SignStatus::Approved).await);
}

async fn past_the_deadline_the_provider_is_asked_to_give_up(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().ask_people().await;
    let request = order(&key.address, call(0));
    error_becomes(&bench, &request, "").await;
    let late = bench.replica_of(Setting { signer: NO_PATIENCE.to_owned(), ..brief(kind) }).await;
    age(&bench).await;
    if bench.custodian().can_give_up() {
        let expired = becomes(&late, &request, SignStatus::Expired).await;
        assert_eq!(expired.error, "POLL_TIMEOUT");
    } else {
        // Our time-out is not final there: the nonce stays held until the provider decides.
        let held = sign(&late, &request).await.unwrap();
        assert_eq!(held.status(), SignStatus::Pending);
        bench.custodian().deny().await;
        assert_eq!(becomes(&late, &request, SignStatus::Expired).await.error, "POLL_TIMEOUT");
    }
    bench.custodian().approve().await;
    assert_eq!(sign(&late, &request).await.unwrap().status(), SignStatus::Expired, "for ever");
}

async fn a_provider_that_hangs_is_no_hold(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().next(Fault::Hang, 1);
    let request = order(&key.address, call(0));
    let silent = sign(&bench, &request).await.unwrap();
    assert_eq!((silent.status(), silent.error.as_str()), (SignStatus::Pending, "PROVIDER_UNAVAILABLE"), "{silent:?}");
    bench.custodian().faults().release();
    approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
}

async fn a_signature_of_another_key_never_leaves(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().twist(Twist::OtherKey).await;
    let request = order(&key.address, call(0));
    // Three attempts, each under an id of its own; then it is over.
    let refused = becomes(&bench, &request, SignStatus::Denied).await;
    assert_eq!((refused.error.as_str(), refused.signed_transaction.as_str()), ("PROVIDER_FAILED", ""), "{refused:?}");
    assert!(refused.detail.contains("another key"), "{refused:?}");
    assert_eq!(bench.custodian().external_ids().await.len(), 3);
}

async fn high_s_is_normalised(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().twist(Twist::HighS).await;
    let tx = approved_transaction(&becomes(&bench, &order(&key.address, call(0)), SignStatus::Approved).await);
    assert!(tx.signature().normalize_s().is_none(), "low s");
    assert_eq!(sender(&tx), key.address.parse::<Address>().unwrap());
}

/// Named regression: after a failure the external id stays bound; recovery confirmed the dead transaction for ever.
async fn burnt_external_id(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().ask_people().await;
    let request = order(&key.address, call(0));
    error_becomes(&bench, &request, "").await;
    bench.custodian().fail().await;
    bench.custodian().allow().await;
    let failed = error_becomes(&bench, &request, "PROVIDER_FAILED").await;
    assert_eq!(failed.status(), SignStatus::Pending);
    // The next attempt stands in the database, so a fresh process knows it, too.
    let replica = bench.replica().await;
    approved_transaction(&becomes(&replica, &request, SignStatus::Approved).await);
    let first = format!("dalp-{}", request.request_id);
    assert_eq!(bench.custodian().external_ids().await, [first.clone(), format!("{first}-1")]);
}

/// Named regression: one new provider status made every read fail.
async fn an_unknown_status_is_waited_for(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().ask_people().await;
    let request = order(&key.address, call(0));
    error_becomes(&bench, &request, "").await;
    bench.custodian().invent_a_status().await;
    let detail = |outcome: &SignOutcome| outcome.detail.to_uppercase().contains("QUANTUM");
    let waited = until(async || sign(&bench, &request).await.unwrap(), detail).await;
    assert_eq!(waited.status(), SignStatus::Pending);
    bench.custodian().forget_the_status().await;
    approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
}

async fn a_rate_limit_is_waited_for(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().faults().limit_per_minute(Some(0));
    let request = order(&key.address, call(0));
    let limited = sign(&bench, &request).await.unwrap();
    assert_eq!(
        (limited.status(), limited.error.as_str()),
        (SignStatus::Pending, "PROVIDER_UNAVAILABLE"),
        "{limited:?}"
    );
    assert!(limited.detail.contains("429"), "{limited:?}");
    bench.custodian().faults().limit_per_minute(None);
    approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
    assert_eq!(bench.custodian().external_ids().await.len(), 1);
}

async fn a_wrong_clock_is_named(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    if !bench.custodian().minds_clocks() {
        return; // its credentials carry no times
    }
    for ahead_s in [3600, -3600] {
        bench.custodian().set_clock_ahead(ahead_s);
        let request = order(&key.address, call(if ahead_s > 0 { 0 } else { 1 }));
        let skewed = sign(&bench, &request).await.unwrap();
        assert_eq!(
            (skewed.status(), skewed.error.as_str()),
            (SignStatus::Blocked, "PROVIDER_CLOCK_SKEWED"),
            "{skewed:?}"
        );
        let create = CreateKeyRequest { wallet: format!("new{}", ahead_s.unsigned_abs()), ..Default::default() };
        let refused = bench.keys.create_key(from_caller(create, "bank", &ahead_s.to_string())).await.unwrap_err();
        assert_eq!(reason(&refused), "PROVIDER_CLOCK_SKEWED");
        bench.custodian().set_clock_ahead(0);
        approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
    }
}

async fn a_custodian_that_cannot_be_reached_is_no_hold(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    let custodian_at = Some("http://127.0.0.1:9".to_owned());
    let away = bench.replica_of(Setting { custodian_at, ..brief(kind) }).await;
    let request = order(&key.address, call(0));
    let unreached = sign(&away, &request).await.unwrap();
    assert_eq!(
        (unreached.status(), unreached.error.as_str()),
        (SignStatus::Pending, "PROVIDER_UNAVAILABLE"),
        "{unreached:?}"
    );
    let create = CreateKeyRequest { wallet: "new".to_owned(), ..Default::default() };
    let refused = away.keys.create_key(from_caller(create, "bank", "new")).await.unwrap_err();
    assert_eq!(reason(&refused), "PROVIDER_UNAVAILABLE");
    let provider = away.signer.providers().select(kind).unwrap();
    assert!(!provider.status().await.ready);
    // The same request, once it can be reached.
    approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
    assert_eq!(bench.custodian().external_ids().await.len(), 1);
}

/// The service account's token has ended, or the API user has another key: the simulators themselves find that out.
async fn refused_credentials_are_named(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().turn_away(true);
    let request = order(&key.address, call(0));
    let refused = sign(&bench, &request).await.unwrap();
    assert_eq!(
        (refused.status(), refused.error.as_str()),
        (SignStatus::Blocked, "PROVIDER_UNAUTHORIZED"),
        "{refused:?}"
    );
    let create = CreateKeyRequest { wallet: "new".to_owned(), ..Default::default() };
    let status = bench.keys.create_key(from_caller(create, "bank", "new")).await.unwrap_err();
    assert_eq!(reason(&status), "PROVIDER_UNAUTHORIZED");
    let probed = bench.signer.providers().select(kind).unwrap().status().await;
    assert!(!probed.ready, "{probed:?}");
    assert!(bench.custodian().external_ids().await.is_empty(), "nothing came in");
    bench.custodian().turn_away(false);
    approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
}

async fn a_key_created_twice_is_one_key(kind: ProviderKind) {
    let bench = Bench::new(kind).await;
    // Made at the provider, and the answer is lost on the way.
    bench.custodian().faults().inject(bench.custodian().creations(), Fault::LoseAnswer, 1);
    let request = CreateKeyRequest { wallet: "desk".to_owned(), ..Default::default() };
    let lost = bench.keys.create_key(from_caller(request, "bank", "desk")).await.unwrap_err();
    assert_eq!(reason(&lost), "PROVIDER_UNAVAILABLE");
    let key = create(&bench, "desk").await;
    assert_eq!(key.provider, kind.as_str());
    assert_eq!(bench.custodian().key_names().await, ["dalp:bank:desk"]);
    approved_transaction(&becomes(&bench, &order(&key.address, call(0)), SignStatus::Approved).await);
}

async fn a_disabled_key_releases_nothing(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    bench.custodian().ask_people().await;
    let request = order(&key.address, call(0));
    error_becomes(&bench, &request, "").await;
    let disable = DisableKeyRequest { address: key.address.clone(), reason: "lost".to_owned() };
    bench.keys.disable_key(from_caller(disable, "bank", "d")).await.unwrap();
    bench.custodian().approve().await;
    let denied = becomes(&bench, &request, SignStatus::Denied).await;
    assert_eq!((denied.signed_transaction.as_str(), denied.signature.as_str()), ("", ""));
}

/// Answers, errors, the database and every text of a configured provider are searched for what was planted.
async fn no_secret_is_seen_outside(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    let secrets = bench.custodian().planted_secrets();
    // A provider that quotes what it was sent.
    let quotable = bench.custodian().quotable_secrets().join(" ");
    let quoted = json!({"message": quotable, "code": 1000, "error": {"message": quotable}});
    let mut seen = vec![format!("{:?}", bench.config)];
    for (nonce, status) in [(0, 400), (1, 401), (2, 500)] {
        bench.custodian().faults().inject("", Fault::Answer(status, quoted.clone()), 1);
        seen.push(format!("{:?}", sign(&bench, &order(&key.address, call(nonce))).await));
        bench.custodian().faults().inject("", Fault::Answer(status, quoted.clone()), 1);
        let create = CreateKeyRequest { wallet: format!("w{nonce}"), ..Default::default() };
        seen.push(format!("{:?}", bench.keys.create_key(from_caller(create, "bank", &format!("w{nonce}"))).await));
    }
    let pool = bench.postgres.pool().await;
    for table in ["requests", "audit_leaves", "custody_attempts", "keys"] {
        let sql = format!("select coalesce(string_agg(t::text, ' '), '') from signer.{table} t");
        seen.push(sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap());
    }
    for text in &seen {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} in {text}");
        }
    }
}

/// A provider that hangs leaves the others at full speed: while one custodian answers nothing at all, the HSM signs whatever it is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_dfns_holds_up_no_other_provider() {
    a_hanging_custodian_holds_up_no_other_provider(ProviderKind::Dfns).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_fireblocks_holds_up_no_other_provider() {
    a_hanging_custodian_holds_up_no_other_provider(ProviderKind::Fireblocks).await;
}

async fn a_hanging_custodian_holds_up_no_other_provider(kind: ProviderKind) {
    let setting = Setting { allow_mixed: true, call_timeout_ms: 60_000, ..Setting::of(ProviderKind::Pkcs11) };
    let mut holders = support::Holders::of(ProviderKind::Pkcs11).await;
    holders.custodian = support::Holders::of(kind).await.custodian;
    let bench = Bench::over(setting, Arc::new(dalp_testing::TestPostgres::start()), holders).await;
    let create_at = async |wallet: &str, provider: ProviderKind| {
        let request =
            CreateKeyRequest { wallet: wallet.to_owned(), provider: provider.to_string(), ..Default::default() };
        bench.keys.create_key(from_caller(request, "bank", wallet)).await.unwrap().into_inner().key.unwrap()
    };
    let held = create_at("held", kind).await;
    let quick = create_at("quick", ProviderKind::Pkcs11).await;
    bench.custodian().faults().inject("", Fault::Hang, usize::MAX);
    let hanging: Vec<_> = (0..64)
        .map(|nonce| {
            let (edge, request) = (bench.edge.clone(), order(&held.address, call(nonce)));
            tokio::spawn(async move { support::sign_at(&edge, &request).await })
        })
        .collect();
    let sweep = tokio::spawn({
        let signer = Arc::clone(&bench.signer);
        async move { signer.sweep().await }
    });
    bench.custodian().faults().hanging(16).await;
    let orders: Vec<_> = (0..200).map(|nonce| order(&quick.address, call(nonce))).collect();
    for answer in futures::future::join_all(orders.iter().map(|order| sign(&bench, order))).await {
        approved_transaction(&answer.unwrap());
    }
    assert!(hanging.iter().all(|task| !task.is_finished()), "the custodian answered nobody meanwhile");
    sweep.abort();
    bench.custodian().faults().release();
}
