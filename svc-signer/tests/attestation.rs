//! Nothing that moves is signed without the attestor's word on this very payload, in time; and what it does not say decides nothing.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use alloy::{
    network::Ethereum,
    primitives::{Address, B256},
    providers::{Provider as _, RootProvider},
};
use async_trait::async_trait;
use dalp_attestation::{Attestation, Judgement, Verdict, wire};
use dalp_proto::{
    attestation as proto,
    signer::{SignOutcome, SignRequest, SignStatus, StatusRequest, signer_service_server::SignerService as _},
};
use dalp_simulators::fault::Fault;
use sqlx::Row as _;
use support::{
    Bench, Holders, PEER, Setting, approved_transaction, call, create, from_peer, meta, order, reason, sign, until,
};
use svc_signer::{
    attestor::{Attestor, Away},
    providers::{Provider as _, ProviderKind},
};
use time::OffsetDateTime;

/// How the attestor answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Pass,
    /// A pass that ends at once.
    Brief,
    Veto,
    Undecided,
    /// It is there, and cannot judge anything of this chain.
    ChainAway,
    /// It cannot read what it is asked about.
    Unreadable,
    Away,
    /// The first answer it ever gave, under the id that is asked for now.
    Replays,
    /// Another payload's judgement.
    OtherPayload,
    OtherRequest,
    Stale,
    ForEver,
    /// A veto's hash under a pass.
    Turned,
    /// A pass that rests on an administrator who is no key of the tenant.
    Presumes(Address),
    TooFew,
}

struct Scripted {
    manner: Mutex<Manner>,
    first: Mutex<Option<proto::Attestation>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(manner: Manner) -> Arc<Self> {
        Arc::new(Self { manner: Mutex::new(manner), first: Mutex::default(), asked: AtomicUsize::new(0) })
    }

    fn becomes(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn answer(&self, asked: &proto::Subject) -> proto::Attestation {
        let manner = *self.manner.lock().unwrap();
        let (mut subject, _) = wire::subject(asked).unwrap();
        let now_s = OffsetDateTime::now_utc().unix_timestamp().unsigned_abs();
        let expires_at_s = match manner {
            Manner::Brief => now_s + 2,
            Manner::Stale => now_s,
            Manner::ForEver => now_s + 3_600,
            _ => now_s + 60,
        };
        let verdict = if matches!(manner, Manner::Veto | Manner::Turned) { Verdict::Veto } else { Verdict::Pass };
        let judgement = Judgement {
            verdict,
            block_number: 7,
            block_hash: B256::repeat_byte(7),
            ruleset: B256::repeat_byte(8),
            expires_at_s,
        };
        match manner {
            Manner::OtherPayload => subject.content = B256::repeat_byte(9),
            Manner::OtherRequest => subject.request_id = uuid::Uuid::new_v4(),
            _ => {}
        }
        let presumed: Vec<Address> = match manner {
            Manner::Presumes(key) => vec![key],
            _ => vec![],
        };
        let why = if verdict == Verdict::Veto { ("COMPLIANCE_REFUSED", "CountryRule refuses") } else { ("", "") };
        let mut answer = wire::attested(subject.request_id, &Attestation::of(&subject, judgement), why, &presumed);
        match manner {
            Manner::Undecided => answer.set_verdict(proto::Verdict::Undecided),
            Manner::ChainAway => {
                answer.set_verdict(proto::Verdict::Undecided);
                answer.reason = wire::AWAY.to_owned();
            }
            Manner::Unreadable => {
                answer.set_verdict(proto::Verdict::Undecided);
                answer.reason = "INVALID_FIELD".to_owned();
            }
            Manner::Turned => answer.set_verdict(proto::Verdict::Pass),
            Manner::Replays => {
                let first = self.first.lock().unwrap().clone().unwrap();
                return proto::Attestation { request_id: asked.request_id.clone(), ..first };
            }
            _ => {}
        }
        self.first.lock().unwrap().get_or_insert_with(|| answer.clone());
        answer
    }
}

#[async_trait]
impl Attestor for Scripted {
    async fn attest(&self, subjects: Vec<proto::Subject>) -> Result<Vec<proto::Attestation>, Away> {
        self.asked.fetch_add(subjects.len(), Ordering::SeqCst);
        match *self.manner.lock().unwrap() {
            Manner::Away => return Err(Away("gone".to_owned())),
            Manner::TooFew => return Ok(vec![]),
            _ => {}
        }
        Ok(subjects.iter().map(|subject| self.answer(subject)).collect())
    }
}

async fn bench(provider: ProviderKind, attestor: &Arc<Scripted>) -> Bench {
    let attestor: Arc<dyn Attestor> = attestor.clone();
    let setting = Setting { attestor: Some(attestor), ..Setting::of(provider) };
    Bench::over(setting, Arc::new(dalp_testing::TestPostgres::start()), Holders::of(provider).await).await
}

async fn status(bench: &Bench, request: &SignRequest) -> SignOutcome {
    let asked = StatusRequest { request_id: request.request_id.clone() };
    bench.edge.status(from_peer(asked, PEER)).await.unwrap().into_inner().outcome.unwrap()
}

/// The process of the HSM answers nothing more, until it is given up and another takes its place.
async fn stop_hsm(bench: &Bench) {
    let hsm = bench.hsm.clone().unwrap();
    until(async || hsm.status().await, |status| status.ready).await;
    assert!(dalp_testing::signal(hsm.worker_pid().unwrap(), dalp_testing::Signal::STOP));
}

async fn requests(bench: &Bench) -> i64 {
    let pool = bench.postgres.pool().await;
    sqlx::query("select count(*) from signer.requests").fetch_one(&pool).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_signed_with_its_evidence() {
    let attestor = Scripted::new(Manner::Pass);
    let bench = bench(ProviderKind::Local, &attestor).await;
    let key = create(&bench, "desk").await;
    let request = order(&key.address, call(0));
    let outcome = sign(&bench, &request).await.unwrap();
    approved_transaction(&outcome);
    let evidence = outcome.attestation.clone().unwrap();
    assert_eq!((evidence.verdict.as_str(), evidence.block_number), ("PASS", 7));
    assert_eq!(status(&bench, &request).await, outcome, "it stays with the request");
    assert_eq!(sign(&bench, &request).await.unwrap(), outcome);
    assert_eq!(attestor.asked(), 1, "a repeat is answered without asking");
    let pool = bench.postgres.pool().await;
    let leaf = sqlx::query("select reason from signer.audit_leaves where subject = 'sign' and decision = 'approved'");
    let reason: String = leaf.fetch_one(&pool).await.unwrap().get(0);
    assert!(reason.contains(&evidence.hash), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_veto_is_for_good() {
    let attestor = Scripted::new(Manner::Veto);
    let bench = bench(ProviderKind::Local, &attestor).await;
    let key = create(&bench, "desk").await;
    let request = order(&key.address, call(0));
    let refused = sign(&bench, &request).await.unwrap_err();
    assert_eq!(
        (reason(&refused).as_str(), meta(&refused, "attestor_reason").as_str()),
        ("ATTESTATION_REFUSED", "COMPLIANCE_REFUSED")
    );
    attestor.becomes(Manner::Pass);
    let again = sign(&bench, &request).await.unwrap();
    assert_eq!((again.status(), again.error.as_str()), (SignStatus::Denied, "ATTESTATION_REFUSED"));
    assert!(again.detail.contains("CountryRule refuses"), "{again:?}");
    assert_eq!(again.attestation.unwrap().verdict, "VETO");
    let other = order(&key.address, call(0));
    approved_transaction(&sign(&bench, &other).await.unwrap());
}

/// Whoever answers for the attestor, or whatever became of its answer on the way: nothing is signed, and nothing is decided.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_fit_is_none() {
    let attestor = Scripted::new(Manner::Pass);
    let bench = bench(ProviderKind::Local, &attestor).await;
    let key = create(&bench, "desk").await;
    approved_transaction(&sign(&bench, &order(&key.address, call(0))).await.unwrap());
    let request = order(&key.address, call(1));
    for manner in [
        Manner::Away,
        Manner::ChainAway,
        Manner::Undecided,
        Manner::TooFew,
        Manner::Replays,
        Manner::OtherPayload,
        Manner::OtherRequest,
        Manner::Stale,
        Manner::ForEver,
        Manner::Turned,
    ] {
        attestor.becomes(manner);
        let refused = sign(&bench, &request).await.unwrap_err();
        let expected = if manner == Manner::Undecided { "ATTESTATION_UNDECIDED" } else { "ATTESTOR_UNAVAILABLE" };
        assert_eq!(reason(&refused), expected, "{manner:?}");
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{manner:?}");
        assert_eq!(requests(&bench).await, 1, "{manner:?}: nothing was accepted or refused");
    }
    attestor.becomes(Manner::Pass);
    approved_transaction(&sign(&bench, &request).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_of_somebody_elses_vouches_for_nothing() {
    let attestor = Scripted::new(Manner::Presumes(Address::repeat_byte(0x66)));
    let bench = bench(ProviderKind::Local, &attestor).await;
    let key = create(&bench, "desk").await;
    let request = order(&key.address, call(0));
    let refused = sign(&bench, &request).await.unwrap_err();
    assert_eq!(meta(&refused, "attestor_reason"), "KEY_UNKNOWN");
    let stands = sign(&bench, &request).await.unwrap();
    assert_eq!((stands.status(), stands.error.as_str()), (SignStatus::Denied, "ATTESTATION_REFUSED"));
    assert_eq!(stands.attestation.unwrap().verdict, "VETO", "nothing of it reads as a pass");
    attestor.becomes(Manner::Presumes(key.address.parse().unwrap()));
    approved_transaction(&sign(&bench, &order(&key.address, call(0))).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_nothing_needs_no_word() {
    let attestor = Scripted::new(Manner::Away);
    let bench = bench(ProviderKind::Local, &attestor).await;
    let key = create(&bench, "desk").await;
    let mut cancel = call(0);
    (cancel.target, cancel.data, cancel.gas_limit) = (key.address.clone(), String::new(), 21_000);
    let outcome = sign(&bench, &order(&key.address, cancel.clone())).await.unwrap();
    approved_transaction(&outcome);
    assert_eq!((attestor.asked(), outcome.attestation), (0, None));
    (cancel.nonce, cancel.gas_limit) = (1, 9_000_000);
    let refused = sign(&bench, &order(&key.address, cancel)).await.unwrap_err();
    assert_eq!(reason(&refused), "ATTESTOR_UNAVAILABLE", "its fee may be a large one");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_attestor_cannot_read_is_refused() {
    let attestor = Scripted::new(Manner::Unreadable);
    let bench = bench(ProviderKind::Local, &attestor).await;
    let key = create(&bench, "desk").await;
    let request = order(&key.address, call(0));
    let refused = sign(&bench, &request).await.unwrap_err();
    assert_eq!(
        (reason(&refused).as_str(), meta(&refused, "attestor_reason").as_str()),
        ("ATTESTATION_REFUSED", "INVALID_FIELD")
    );
    attestor.becomes(Manner::Pass);
    let stands = sign(&bench, &request).await.unwrap();
    assert_eq!((stands.status(), stands.attestation.unwrap().verdict.as_str()), (SignStatus::Denied, "VETO"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_without_an_attestor_signs_nothing_that_moves() {
    let attestor = Scripted::new(Manner::Pass);
    let mut bench = bench(ProviderKind::Local, &attestor).await;
    let key = create(&bench, "desk").await;
    let (config, store, providers) = (bench.config.clone(), bench.store.clone(), bench.signer.providers().clone());
    let alone = Arc::new(svc_signer::signing::Signer::new(&config, store, providers));
    bench.edge = svc_signer::edge::signer::SignerEdge::new(alone, dalp_service::stop::Stop::new());
    let refused = sign(&bench, &order(&key.address, call(0))).await.unwrap_err();
    assert_eq!(reason(&refused), "ATTESTATION_REQUIRED");
}

/// Held at the HSM until the attestation has expired: it is asked for again before the key is used, and its word then counts.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_hold_the_attestor_is_asked_again() {
    let attestor = Scripted::new(Manner::Brief);
    let bench = bench(ProviderKind::Pkcs11, &attestor).await;
    let key = create(&bench, "desk").await;
    let (held, denied) = (order(&key.address, call(0)), order(&key.address, call(1)));
    let mut expire = Vec::new();
    for request in [&held, &denied] {
        stop_hsm(&bench).await;
        let outcome = sign(&bench, request).await.unwrap();
        assert_eq!(outcome.status(), SignStatus::Pending, "{outcome:?}");
        expire.push(outcome.attestation.unwrap().expires_at_s);
    }
    let asked = attestor.asked();
    attestor.becomes(Manner::Away);
    let expired = |now_s: &u64| expire.iter().all(|expires_at_s| expires_at_s <= now_s);
    until(async || OffsetDateTime::now_utc().unix_timestamp().unsigned_abs(), expired).await;
    // The HSM may be back: without the attestor it is not asked.
    let waits =
        until(async || sign(&bench, &held).await.unwrap(), |outcome| outcome.error == "ATTESTOR_UNAVAILABLE").await;
    assert_eq!(waits.status(), SignStatus::Pending, "{waits:?}");
    assert!(attestor.asked() > asked);
    attestor.becomes(Manner::Veto);
    let refused =
        until(async || sign(&bench, &denied).await.unwrap(), |outcome| outcome.status() != SignStatus::Pending).await;
    assert_eq!((refused.status(), refused.error.as_str()), (SignStatus::Denied, "ATTESTATION_REFUSED"), "{refused:?}");
    assert!(refused.signed_transaction.is_empty());
    attestor.becomes(Manner::Pass);
    let signed =
        until(async || sign(&bench, &held).await.unwrap(), |outcome| outcome.status() != SignStatus::Pending).await;
    approved_transaction(&signed);
    let pool = bench.postgres.pool().await;
    let leaves =
        sqlx::query("select decision from signer.audit_leaves where subject = 'attestation' order by decision")
            .fetch_all(&pool)
            .await
            .unwrap();
    let decisions: Vec<String> = leaves.iter().map(|leaf| leaf.get(0)).collect();
    assert_eq!(decisions, ["pass", "veto"]);
}

/// Who can write the row of a request cannot have it signed under another's attestation.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_attestation_is_asked_for_again() {
    let attestor = Scripted::new(Manner::Pass);
    let bench = bench(ProviderKind::Pkcs11, &attestor).await;
    let key = create(&bench, "desk").await;
    stop_hsm(&bench).await;
    let request = order(&key.address, call(0));
    assert_eq!(sign(&bench, &request).await.unwrap().status(), SignStatus::Pending);
    let pool = bench.postgres.pool().await;
    sqlx::query("update signer.requests set attested_until = attested_until + 100000").execute(&pool).await.unwrap();
    attestor.becomes(Manner::Veto);
    let outcome =
        until(async || sign(&bench, &request).await.unwrap(), |outcome| outcome.status() != SignStatus::Pending).await;
    assert_eq!(outcome.error, "ATTESTATION_REFUSED", "a longer life does not fit the hash");
    let forced = sqlx::query("update signer.requests set status = 'APPROVED', signature = $1").bind(vec![0_u8; 65]);
    assert!(forced.execute(&pool).await.is_err(), "and the database lets nobody approve what was vetoed");
}

/// The answer to an order was lost, and meanwhile the attestor thinks otherwise: what the provider has broadcast is found and told all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_custodial_broadcast_is_found_before_the_attestor_is_asked() {
    let attestor = Scripted::new(Manner::Brief);
    let word: Arc<dyn Attestor> = attestor.clone();
    let anvil = dalp_chain::testing::Anvil::start([] as [&str; 0]);
    let node = RootProvider::<Ethereum>::new_http(anvil.url.parse().unwrap());
    let custodian = support::custodian(ProviderKind::Dfns, Some(anvil.url.clone())).await;
    let holders = Holders { custodian: Some(Arc::new(custodian)), ..Default::default() };
    let setting = Setting { attestor: Some(word), broadcast: true, settle_ms: 1, ..Setting::of(ProviderKind::Dfns) };
    let bench = Bench::over(setting, Arc::new(dalp_testing::TestPostgres::start()), holders).await;
    let key = create(&bench, "desk").await;
    let address: Address = key.address.parse().unwrap();
    let _: serde_json::Value =
        node.raw_request("anvil_setBalance".into(), (address, "0xde0b6b3a7640000")).await.unwrap();
    bench.custodian().faults().inject(bench.custodian().broadcasts(), Fault::LoseAnswer, 1);
    let mut pay = call(0);
    (pay.value_wei, pay.data) = ("7".to_owned(), String::new());
    let request = order(&key.address, support::by_provider(pay));
    let lost = sign(&bench, &request).await.unwrap();
    assert_eq!((lost.status(), lost.error.as_str()), (SignStatus::Pending, "PROVIDER_UNAVAILABLE"), "{lost:?}");
    let until_s = lost.attestation.unwrap().expires_at_s;
    attestor.becomes(Manner::Veto);
    until(async || OffsetDateTime::now_utc().unix_timestamp().unsigned_abs(), |now_s| *now_s > until_s).await;
    let sent =
        until(async || sign(&bench, &request).await.unwrap(), |outcome| outcome.status() != SignStatus::Pending).await;
    assert_eq!(sent.status(), SignStatus::Approved, "{sent:?}");
    let found = node.get_transaction_by_hash(sent.tx_hash.parse().unwrap()).await.unwrap();
    assert!(found.is_some(), "{sent:?}");
}

/// A custodian released it after its attestation had expired: the signature does not leave before the attestor has spoken again.
#[tokio::test(flavor = "multi_thread")]
async fn a_custodians_late_release_is_judged_again() {
    let attestor = Scripted::new(Manner::Brief);
    let word: Arc<dyn Attestor> = attestor.clone();
    let setting = Setting { attestor: Some(word), settle_ms: 1, ..Setting::of(ProviderKind::Dfns) };
    let bench =
        Bench::over(setting, Arc::new(dalp_testing::TestPostgres::start()), Holders::of(ProviderKind::Dfns).await)
            .await;
    let key = create(&bench, "desk").await;
    bench.custodian().ask_people().await;
    let request = order(&key.address, call(0));
    let held = sign(&bench, &request).await.unwrap();
    assert_eq!(held.status(), SignStatus::Pending, "{held:?}");
    let until_s = held.attestation.unwrap().expires_at_s;
    until(async || OffsetDateTime::now_utc().unix_timestamp().unsigned_abs(), |now_s| *now_s > until_s).await;
    attestor.becomes(Manner::Veto);
    bench.custodian().approve().await;
    let outcome =
        until(async || sign(&bench, &request).await.unwrap(), |outcome| outcome.status() != SignStatus::Pending).await;
    assert_eq!((outcome.status(), outcome.error.as_str()), (SignStatus::Denied, "ATTESTATION_REFUSED"), "{outcome:?}");
    assert!(outcome.signed_transaction.is_empty());
}

/// Whoever asks for signatures cannot be configured to judge them, and without a judge nothing starts that needs one.
#[test]
fn a_configuration_names_a_judge_who_does_not_ask() {
    use dalp_service::config::{Problems, Validate as _};
    let attestor = |identity: &str| -> svc_signer::config::attestor::AttestorConfig {
        toml::from_str(&format!(
            "peer = {{ address = \"a:1\", spiffe_id = \"spiffe://dalp.dev/{identity}\" }}\n\
             [client_tls]\ncertificate = \"/dev/null\"\nkey = \"/dev/null\"\ntrust_anchors = \"/dev/null\"\n"
        ))
        .unwrap()
    };
    let problems = |identity: &str| {
        let mut problems = Problems::default();
        attestor(identity).validate(&mut problems);
        format!("{problems:?}")
    };
    for asking in ["svc-compliance", "svc-feeds", "svc-settlement", "svc-distribution", "svc-gateway"] {
        assert!(problems(asking).contains("may not judge"), "{asking}: {}", problems(asking));
    }
    assert!(!problems("svc-attestor").contains("may not judge"));
}

#[test]
fn a_configuration_lets_the_judge_ask_for_nothing() {
    use dalp_service::config::{Problems, Validate as _};
    let mut config: svc_signer::config::SignerConfig = toml::from_str(include_str!("../config.example.toml")).unwrap();
    let problems = |config: &svc_signer::config::SignerConfig| {
        let mut problems = Problems::default();
        config.validate(&mut problems);
        format!("{problems:?}")
    };
    let refused = "it may not ask for what it judges";
    assert!(!problems(&config).contains(refused));
    config.grants[0].peer = config.attestor.as_ref().unwrap().peer.spiffe_id.to_string();
    assert!(problems(&config).contains(refused), "{}", problems(&config));
}
