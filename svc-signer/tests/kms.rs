//! Keys of AWS KMS, at a moto that knows access keys, policies and key states, behind a door at which calls hang, answers get lost and signatures are others.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::sync::Arc;

use alloy::primitives::Address;
use dalp_proto::signer::{
    CreateKeyRequest, EvmTransaction, Key, ListKeysRequest, SignOutcome, SignRequest, SignStatus,
    key_service_server::KeyService as _,
};
use dalp_simulators::{
    aws::{Aws, CREATE_ALIAS, CREATE_KEY, SIGN},
    fault::Fault,
    keys::Twist,
};
use dalp_testing::TestPostgres;
use serde_json::json;
use support::{
    Bench, Holders, Setting, age, approved_transaction, call, create, from_caller, order, reason, sender, sign, until,
};
use svc_signer::providers::{ProviderKind, ProviderStatus};

/// Of the wallet `desk` of the tenant `bank`.
const ALIAS: &str = "alias/dalp/bank/desk";

async fn bench() -> (Bench, Key) {
    let bench = Bench::new(ProviderKind::Kms).await;
    let key = create(&bench, "desk").await;
    (bench, key)
}

fn aws(bench: &Bench) -> &Aws {
    bench.aws.as_deref().unwrap()
}

/// The same account and database, with keys of the `[kms]` section.
async fn with(bench: &Bench, kms: &str) -> Bench {
    bench.replica_of(Setting { kms: kms.to_owned(), ..Setting::of(ProviderKind::Kms) }).await
}

async fn becomes(bench: &Bench, request: &SignRequest, status: SignStatus) -> SignOutcome {
    until(async || sign(bench, request).await.unwrap(), |outcome| outcome.status() == status).await
}

async fn refused(bench: &Bench, wallet: &str) -> String {
    let request = CreateKeyRequest { wallet: wallet.to_owned(), ..Default::default() };
    reason(&bench.keys.create_key(from_caller(request, "bank", wallet)).await.unwrap_err())
}

async fn status(bench: &Bench) -> ProviderStatus {
    bench.signer.providers().select(ProviderKind::Kms).unwrap().status().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_once_under_its_alias_and_is_of_the_cloud() {
    let (bench, key) = bench().await;
    assert_eq!((key.provider.as_str(), key.tier.as_str()), ("kms", "cloud_secret_manager"));
    assert_eq!(aws(&bench).aliases().await.unwrap(), [ALIAS]);
    let tx = approved_transaction(&sign(&bench, &order(&key.address, call(0))).await.unwrap());
    assert_eq!(sender(&tx), key.address.parse::<Address>().unwrap());
    assert!(status(&bench).await.ready);
    let changed = sqlx::query("update signer.keys set tier = 'hsm'").execute(&bench.postgres.pool().await).await;
    assert!(changed.unwrap_err().to_string().contains("keeps its tier"));
}

/// Made, and the answer is lost on the way; or it got its alias, and that answer is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_found_by_its_alias_and_one_without_is_never_used() {
    let bench = Bench::new(ProviderKind::Kms).await;
    for (lost, keys) in [(CREATE_ALIAS, 1), (CREATE_KEY, 3)] {
        let wallet = if lost == CREATE_ALIAS { "named" } else { "nameless" };
        aws(&bench).faults().inject(lost, Fault::LoseAnswer, 1);
        assert_eq!(refused(&bench, wallet).await, "PROVIDER_UNAVAILABLE");
        let key = create(&bench, wallet).await;
        approved_transaction(&sign(&bench, &order(&key.address, call(0))).await.unwrap());
        assert_eq!(aws(&bench).keys().await.unwrap(), keys, "{lost}");
    }
    assert_eq!(aws(&bench).aliases().await.unwrap(), ["alias/dalp/bank/named", "alias/dalp/bank/nameless"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_told_only_after_the_key_has_proven_it() {
    let bench = Bench::new(ProviderKind::Kms).await;
    aws(&bench).twist(Twist::OtherKey);
    assert_eq!(refused(&bench, "desk").await, "PROVIDER_FAILED");
    let listed = bench.keys.list_keys(from_caller(ListKeysRequest::default(), "bank", "l")).await.unwrap();
    assert!(listed.into_inner().keys.is_empty());
    aws(&bench).twist(Twist::None);
    create(&bench, "desk").await;
    assert_eq!(aws(&bench).keys().await.unwrap(), 1, "the key that was there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_ceremony_is_taken_up_and_one_of_another_kind_is_not() {
    let bench = Bench::new(ProviderKind::Kms).await;
    let strict = with(&bench, "create_keys = false\nalias_prefix = \"bank-one\"").await;
    assert_eq!(refused(&strict, "desk").await, "PROVIDER_KEY_NOT_FOUND");
    aws(&bench).make_key("alias/bank-one/bank/desk", "ECC_NIST_P256").await.unwrap();
    assert_eq!(refused(&strict, "desk").await, "PROVIDER_BLOCKED");
    aws(&bench).make_key("alias/bank-one/bank/desk", "ECC_SECG_P256K1").await.unwrap();
    let key = create(&strict, "desk").await;
    approved_transaction(&sign(&strict, &order(&key.address, call(0))).await.unwrap());
    assert_eq!(aws(&bench).asked(CREATE_KEY), 0);

    // The alias is pointed at another key: ours is named by its ARN, and stays what it is.
    aws(&bench).make_key("alias/bank-one/bank/desk", "ECC_SECG_P256K1").await.unwrap();
    let tx = approved_transaction(&sign(&strict, &order(&key.address, call(1))).await.unwrap());
    assert_eq!(sender(&tx), key.address.parse::<Address>().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_key_blocks_until_it_is_enabled() {
    let (bench, key) = bench().await;
    for (nonce, state) in [(0, "Disabled"), (1, "PendingDeletion")] {
        aws(&bench).set_state(ALIAS, state).await.unwrap();
        let request = order(&key.address, call(nonce));
        let blocked = sign(&bench, &request).await.unwrap();
        assert_eq!(
            (blocked.status(), blocked.error.as_str()),
            (SignStatus::Blocked, "PROVIDER_KEY_DISABLED"),
            "{blocked:?}"
        );
        aws(&bench).set_state(ALIAS, "Enabled").await.unwrap();
        approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
    }
    aws(&bench).set_state(ALIAS, "gone").await.unwrap();
    let gone = sign(&bench, &order(&key.address, call(2))).await.unwrap();
    assert_eq!((gone.status(), gone.error.as_str()), (SignStatus::Blocked, "PROVIDER_KEY_NOT_FOUND"), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn past_our_deadline_a_blocked_request_expires() {
    let (bench, key) = bench().await;
    aws(&bench).set_state(ALIAS, "Disabled").await.unwrap();
    let request = order(&key.address, call(0));
    assert_eq!(sign(&bench, &request).await.unwrap().status(), SignStatus::Blocked);
    age(&bench).await;
    let late =
        bench.replica_of(Setting { signer: "request_deadline_s = 1".to_owned(), ..Setting::of(ProviderKind::Kms) });
    let expired = becomes(&late.await, &request, SignStatus::Expired).await;
    assert_eq!(expired.error, "POLL_TIMEOUT");
    aws(&bench).set_state(ALIAS, "Enabled").await.unwrap();
    assert_eq!(sign(&bench, &request).await.unwrap().status(), SignStatus::Expired, "for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_access_and_credentials_are_named() {
    let (bench, key) = bench().await;
    aws(&bench).deny(&["kms:Sign", "kms:ListAliases"]).await.unwrap();
    let request = order(&key.address, call(0));
    let denied = sign(&bench, &request).await.unwrap();
    assert_eq!((denied.status(), denied.error.as_str()), (SignStatus::Blocked, "PROVIDER_UNAUTHORIZED"), "{denied:?}");
    assert!(denied.detail.contains("not authorized to perform: kms:Sign"), "{denied:?}");
    let probed = status(&bench).await;
    assert!(!probed.ready && probed.detail.contains("kms:ListAliases"), "{probed:?}");
    aws(&bench).deny(&[]).await.unwrap();
    approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
    aws(&bench).deny(&["kms:CreateKey"]).await.unwrap();
    assert_eq!(refused(&bench, "new").await, "PROVIDER_UNAUTHORIZED");

    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("wrong"), "w".repeat(40)).unwrap();
    let wrong = format!("secret_access_key = \"file:{}\"", secrets.path().join("wrong").display());
    let stranger = with(&bench, &wrong).await;
    let refused = sign(&stranger, &order(&key.address, call(1))).await.unwrap();
    assert_eq!(
        (refused.status(), refused.error.as_str()),
        (SignStatus::Blocked, "PROVIDER_UNAUTHORIZED"),
        "{refused:?}"
    );
    assert!(refused.detail.contains("InvalidSignatureException"), "{refused:?}");
    assert!(!status(&stranger).await.ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_named() {
    let (bench, key) = bench().await;
    for (nonce, ahead_s) in [(0, 3600), (1, -3600)] {
        aws(&bench).set_clock_ahead(ahead_s).await.unwrap();
        let request = order(&key.address, call(nonce));
        let skewed = sign(&bench, &request).await.unwrap();
        assert_eq!(
            (skewed.status(), skewed.error.as_str()),
            (SignStatus::Blocked, "PROVIDER_CLOCK_SKEWED"),
            "{skewed:?}"
        );
        assert_eq!(refused(&bench, "new").await, "PROVIDER_CLOCK_SKEWED");
        aws(&bench).set_clock_ahead(0).await.unwrap();
        approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_rate_is_waited_for_with_growing_pauses() {
    let (bench, key) = bench().await;
    // A short shortage is nobody's business.
    let throttled = Fault::Answer(400, json!({ "__type": "ThrottlingException", "message": "Rate exceeded" }));
    aws(&bench).faults().inject(SIGN, throttled, 2);
    approved_transaction(&sign(&bench, &order(&key.address, call(0))).await.unwrap());

    aws(&bench).faults().limit_per_minute(Some(0));
    let before = aws(&bench).asked(SIGN);
    let request = order(&key.address, call(1));
    let limited = sign(&bench, &request).await.unwrap();
    assert_eq!(
        (limited.status(), limited.error.as_str()),
        (SignStatus::Pending, "PROVIDER_UNAVAILABLE"),
        "{limited:?}"
    );
    assert!(limited.detail.contains("ThrottlingException"), "{limited:?}");
    let asked = aws(&bench).asked(SIGN) - before;
    assert!((3..=16).contains(&asked), "two seconds of pauses of 20 ms that double up to half a second: {asked}");
    // Sixty-four at once ask no more often: one asks for all.
    let before = aws(&bench).asked(SIGN);
    let orders: Vec<_> = (10..74).map(|nonce| order(&key.address, call(nonce))).collect();
    for answer in futures::future::join_all(orders.iter().map(|order| sign(&bench, order))).await {
        assert_eq!(answer.unwrap().error, "PROVIDER_UNAVAILABLE");
    }
    let asked = aws(&bench).asked(SIGN) - before;
    assert!(asked <= 16, "{asked}");
    aws(&bench).faults().limit_per_minute(None);
    approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_or_is_away_is_no_hold() {
    let (bench, key) = bench().await;
    let brief = bench.replica_of(Setting { call_timeout_ms: 300, ..Setting::of(ProviderKind::Kms) }).await;
    aws(&bench).faults().inject(SIGN, Fault::Hang, 1);
    let request = order(&key.address, call(0));
    let silent = sign(&brief, &request).await.unwrap();
    assert_eq!((silent.status(), silent.error.as_str()), (SignStatus::Pending, "PROVIDER_UNAVAILABLE"), "{silent:?}");
    assert!(silent.detail.contains("did not answer in time"), "{silent:?}");
    aws(&bench).faults().release();
    approved_transaction(&becomes(&brief, &request, SignStatus::Approved).await);

    let away = with(&bench, "endpoint = \"http://127.0.0.1:9\"").await;
    let request = order(&key.address, call(1));
    let unreached = sign(&away, &request).await.unwrap();
    assert_eq!((unreached.status(), unreached.error.as_str()), (SignStatus::Pending, "PROVIDER_UNAVAILABLE"));
    assert!(unreached.detail.contains("no connection"), "{unreached:?}");
    assert_eq!(refused(&away, "new").await, "PROVIDER_UNAVAILABLE");
    assert!(!status(&away).await.ready);
    approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_kms_holds_up_no_other_provider() {
    let setting = Setting { allow_mixed: true, call_timeout_ms: 60_000, ..Setting::of(ProviderKind::Pkcs11) };
    let holders = Holders { aws: Holders::of(ProviderKind::Kms).await.aws, ..Holders::of(ProviderKind::Pkcs11).await };
    let bench = Bench::over(setting, Arc::new(TestPostgres::start()), holders).await;
    let create_at = async |wallet: &str, provider: ProviderKind| {
        let request =
            CreateKeyRequest { wallet: wallet.to_owned(), provider: provider.to_string(), ..Default::default() };
        bench.keys.create_key(from_caller(request, "bank", wallet)).await.unwrap().into_inner().key.unwrap()
    };
    let held = create_at("held", ProviderKind::Kms).await;
    let quick = create_at("quick", ProviderKind::Pkcs11).await;
    aws(&bench).faults().inject("", Fault::Hang, usize::MAX);
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
    aws(&bench).faults().hanging(16).await;
    let orders: Vec<_> = (0..200).map(|nonce| order(&quick.address, call(nonce))).collect();
    for answer in futures::future::join_all(orders.iter().map(|order| sign(&bench, order))).await {
        approved_transaction(&answer.unwrap());
    }
    assert!(hanging.iter().all(|task| !task.is_finished()), "AWS answered nobody meanwhile");
    sweep.abort();
    aws(&bench).faults().release();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_not_the_keys_never_leaves() {
    let (bench, key) = bench().await;
    aws(&bench).twist(Twist::OtherKey);
    let request = order(&key.address, call(0));
    let refused = sign(&bench, &request).await.unwrap();
    assert_eq!((refused.status(), refused.error.as_str()), (SignStatus::Pending, "PROVIDER_FAILED"), "{refused:?}");
    assert!(refused.detail.contains("another key") && refused.signed_transaction.is_empty(), "{refused:?}");
    aws(&bench).twist(Twist::None);
    approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn high_s_is_normalised() {
    let (bench, key) = bench().await;
    aws(&bench).twist(Twist::HighS);
    for nonce in 0..8 {
        let tx = approved_transaction(&sign(&bench, &order(&key.address, call(nonce))).await.unwrap());
        assert!(tx.signature().normalize_s().is_none(), "low s");
        assert_eq!(sender(&tx), key.address.parse::<Address>().unwrap());
    }
}

/// The signer dies while AWS signs; AWS signs each time differently, and one signature only may leave.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_changes_nothing() {
    let (bench, key) = bench().await;
    let replica = bench.replica().await;
    let request = order(&key.address, call(0));
    aws(&bench).faults().inject(SIGN, Fault::Hang, 1);
    let dying = tokio::spawn({
        let (edge, request) = (bench.edge.clone(), request.clone());
        async move { support::sign_at(&edge, &request).await }
    });
    aws(&bench).faults().hanging(1).await;
    dying.abort();
    aws(&bench).faults().release();
    let signed = becomes(&replica, &request, SignStatus::Approved).await;
    approved_transaction(&signed);
    assert_eq!(sign(&bench, &request).await.unwrap(), signed);
    // Lost on the way back: asked again, and the one that was stored is the one.
    aws(&bench).faults().inject(SIGN, Fault::LoseAnswer, 1);
    let request = order(&key.address, EvmTransaction { data: "0x12345678".to_owned(), ..call(1) });
    assert_eq!(sign(&bench, &request).await.unwrap().error, "PROVIDER_UNAVAILABLE");
    let signed = becomes(&bench, &request, SignStatus::Approved).await;
    assert_eq!(sign(&replica, &request).await.unwrap(), signed);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_asked_for_many_times_at_once_has_one_signature() {
    let (bench, key) = bench().await;
    let replica = bench.replica().await;
    for nonce in 0..4 {
        let request = order(&key.address, call(nonce));
        let asking = (0..16).map(|number| sign(if number % 4 == 0 { &replica } else { &bench }, &request));
        let answers = futures::future::join_all(asking).await;
        let stored = sign(&bench, &request).await.unwrap();
        approved_transaction(&stored);
        for answer in answers {
            assert_eq!(answer.unwrap(), stored);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_refusal_is_tried_again() {
    let (bench, key) = bench().await;
    let unheard = Fault::Answer(400, json!({ "__type": "QuantumReviewException", "message": "second thoughts" }));
    aws(&bench).faults().inject(SIGN, unheard, 1);
    let request = order(&key.address, call(0));
    let failed = sign(&bench, &request).await.unwrap();
    assert_eq!((failed.status(), failed.error.as_str()), (SignStatus::Pending, "PROVIDER_FAILED"), "{failed:?}");
    assert!(failed.detail.contains("QuantumReviewException"), "{failed:?}");
    approved_transaction(&becomes(&bench, &request, SignStatus::Approved).await);
}

/// Answers, errors, the database and every text of the configured provider are searched for what was planted.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_seen_outside() {
    let (bench, key) = bench().await;
    let secret = aws(&bench).signer().secret_access_key.clone();
    let mut seen = vec![format!("{:?}", bench.config)];
    for (nonce, kind) in [(0, "InvalidSignatureException"), (1, "ValidationException"), (2, "KMSInternalException")] {
        let quoted =
            json!({ "__type": kind, "message": format!("you sent {secret}\nThe Canonical String was {secret}") });
        aws(&bench).faults().inject("", Fault::Answer(400, quoted.clone()), 1);
        seen.push(format!("{:?}", sign(&bench, &order(&key.address, call(nonce))).await));
        aws(&bench).faults().inject("", Fault::Answer(400, quoted), 1);
        let request = CreateKeyRequest { wallet: format!("w{nonce}"), ..Default::default() };
        seen.push(format!("{:?}", bench.keys.create_key(from_caller(request, "bank", &format!("w{nonce}"))).await));
    }
    let pool = bench.postgres.pool().await;
    for table in ["requests", "audit_leaves", "keys"] {
        let sql = format!("select coalesce(string_agg(t::text, ' '), '') from signer.{table} t");
        seen.push(sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap());
    }
    assert!(seen.iter().any(|text| text.contains("you sent ***")), "it was quoted: {seen:?}");
    for text in &seen {
        assert!(!text.contains(&secret), "{text}");
    }
}
