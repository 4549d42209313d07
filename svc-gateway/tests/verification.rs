//! Wallet verification through the gateway: who is asked, for what, how often.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use dalp_proto::{
    feeds::{GetLatestRequest, SubmitUpdateRequest, feed_service_client::FeedServiceClient},
    operator::{DoctorRequest, Verdict, operator_service_client::OperatorServiceClient},
    verification::{
        Factor, GenerateRecoveryCodesRequest, GetVerificationOfRequest, GetVerificationRequest, PolicyMode,
        RemoveFactorRequest, ResetVerificationRequest, SetVerificationPolicyRequest, VerificationPolicy,
    },
};
use dalp_service::Refusal;
use support::{
    bank::{Bank, PIN, WRONG, now, pin, why},
    until,
};
use time::Duration;
use tonic::Request;

#[tokio::test]
async fn a_write_needs_it_once_and_its_repeats_need_nothing() {
    let bank = Bank::open("").await;
    let anna = bank.anna();
    until(async || why(anna.writes("a", None, None).await) == "WALLET_VERIFICATION_NOT_ENROLLED").await;
    let read = anna.request(GetLatestRequest::default(), None, None);
    FeedServiceClient::new(anna.channel.clone()).get_latest(read).await.expect("a read needs nothing");
    anna.enrols_pin(PIN, None).await.unwrap();
    let refused = anna.writes("a", None, Some("k1")).await.unwrap_err();
    let details = Refusal::details(&refused).unwrap();
    assert_eq!(details.reason, "WALLET_VERIFICATION_REQUIRED");
    assert_eq!(details.metadata.get("factors").map(String::as_str), Some("pin"));
    assert_eq!(refused.metadata().get("idempotency-key").unwrap(), "k1", "a refusal tells the key, too");
    assert_eq!(why(anna.writes("a", Some("pin 12"), Some("k1")).await), "INVALID_FIELD");
    assert_eq!(why(anna.writes("a", Some(WRONG), Some("k1")).await), "WALLET_VERIFICATION_FAILED");
    assert_eq!(anna.status().await.failures, 1);

    assert!(!anna.writes("a", Some(&pin()), Some("k1")).await.unwrap());
    assert_eq!(anna.status().await.failures, 0, "the right one sets the count back");
    // A repeat: without anything, and with something wrong, which is not even looked at.
    assert!(anna.writes("a", None, Some("k1")).await.unwrap());
    assert!(anna.writes("a", Some(WRONG), Some("k1")).await.unwrap());
    assert_eq!(anna.status().await.failures, 0);
    // Another message under the same key, another key, another person: not verified.
    assert_eq!(why(anna.writes("b", None, Some("k1")).await), "WALLET_VERIFICATION_REQUIRED");
    assert_eq!(why(anna.writes("a", None, Some("k2")).await), "WALLET_VERIFICATION_REQUIRED");
    assert_eq!(why(bank.person("user-2").writes("a", None, Some("k1")).await), "WALLET_VERIFICATION_NOT_ENROLLED");
    // Verified, then refused for another reason: the same request again needs nothing.
    assert_eq!(why(anna.writes("refuse", Some(&pin()), Some("k3")).await), "INVALID_FIELD");
    assert_eq!(why(anna.writes("refuse", None, Some("k3")).await), "INVALID_FIELD");

    for (metadata, _) in bank.world.upstream.seen.lock().unwrap().iter() {
        assert!(!metadata.contains_key("x-wallet-verification"), "it ends at the gateway");
    }
    let passes = "SELECT count(*) FROM engine.audit_leaves WHERE action = 'verification.pass' AND actor = 'anna' AND body->>'factor' = 'pin'";
    assert_eq!(bank.count(passes).await, 2);
    let refusals =
        "SELECT count(*) FROM engine.audit_leaves WHERE reason = 'WALLET_VERIFICATION_FAILED' AND actor = 'anna'";
    until(async || bank.count(refusals).await == 1).await;
}

#[tokio::test]
async fn keys_certificates_and_machines_are_never_asked_and_have_no_factors() {
    let bank = Bank::open("").await;
    let anna = bank.anna();
    until(async || anna.writes("a", None, None).await.is_err()).await;
    bank.machine().writes("a", None, None).await.expect("an API key");
    bank.machine().writes("a", Some("nonsense"), None).await.expect("what it shows is not looked at");
    bank.person("robot").writes("a", None, None).await.expect("a machine that signs in");
    let channel = bank.world.pki.channel(bank.world.gateway.addr, Some("clients/machine"));
    let mut request = Request::new(SubmitUpdateRequest::default());
    request.metadata_mut().insert("idempotency-key", "c".parse().unwrap());
    FeedServiceClient::new(channel).submit_update(request).await.expect("a certificate");
    for nobody in [bank.machine(), bank.person("robot")] {
        assert_eq!(why(nobody.enrols_pin(PIN, None).await), "FAILED_PRECONDITION");
        let read = nobody.request(GetVerificationRequest {}, None, None);
        assert_eq!(why(nobody.factors().get_verification(read).await), "FAILED_PRECONDITION");
    }
    for (metadata, _) in bank.world.upstream.seen.lock().unwrap().iter() {
        assert!(!metadata.contains_key("x-wallet-verification"));
    }
}

#[tokio::test]
async fn a_policy_chooses_and_what_gets_around_it_is_always_chosen() {
    use dalp_proto::apikey::{CreateApiKeyRequest, Scope, api_key_service_client::ApiKeyServiceClient};
    let bank = Bank::open("").await;
    let anna = bank.anna();
    anna.enrols_pin(PIN, None).await.unwrap();
    until(async || anna.writes("a", None, None).await.is_err()).await;
    bank.policy(PolicyMode::Chosen, &["/dalp.asset.v1.AssetService/Mint"]).await;
    until(async || anna.writes("a", None, None).await.is_ok()).await;
    let own_key = CreateApiKeyRequest { scope: Scope::ReadWrite.into(), ..CreateApiKeyRequest::default() };
    let asked = anna.request(own_key.clone(), None, None);
    let mut keys = ApiKeyServiceClient::new(anna.channel.clone());
    assert_eq!(why(keys.create_api_key(asked).await), "WALLET_VERIFICATION_REQUIRED");
    let off = VerificationPolicy { mode: PolicyMode::Off.into(), ..VerificationPolicy::default() };
    let off = SetVerificationPolicyRequest { policy: Some(off) };
    let asked = anna.request(off.clone(), None, None);
    assert_eq!(why(anna.factors().set_verification_policy(asked).await), "WALLET_VERIFICATION_REQUIRED");
    bank.policy(PolicyMode::Chosen, &["dalp.feeds.v1.FeedService/SubmitUpdate"]).await;
    until(async || anna.writes("a", None, None).await.is_err()).await;
    let asked = anna.request(off, Some(&pin()), None);
    anna.factors().set_verification_policy(asked).await.unwrap();
    until(async || anna.writes("a", None, None).await.is_ok()).await;
    keys.create_api_key(anna.request(own_key, None, None)).await.unwrap();

    let machine = bank.machine();
    for policy in [
        VerificationPolicy::default(),
        VerificationPolicy { mode: PolicyMode::AllWrites.into(), methods: vec!["x".into()], ..Default::default() },
        VerificationPolicy { mode: PolicyMode::Chosen.into(), methods: vec!["x".into()], ..Default::default() },
        VerificationPolicy {
            mode: PolicyMode::Chosen.into(),
            methods: vec!["dalp.asset.v1.AssetService/GetAsset".into()],
            ..Default::default()
        },
        VerificationPolicy {
            mode: PolicyMode::Chosen.into(),
            methods: vec!["dalp.verification.v1.WalletVerificationService/EnrolPin".into()],
            ..Default::default()
        },
        VerificationPolicy {
            mode: PolicyMode::Chosen.into(),
            permissions: vec!["nothing:*".into()],
            ..Default::default()
        },
    ] {
        let request = machine.request(SetVerificationPolicyRequest { policy: Some(policy.clone()) }, None, None);
        assert_eq!(why(machine.factors().set_verification_policy(request).await), "INVALID_FIELD", "{policy:?}");
    }
}

#[tokio::test]
async fn an_app_is_in_use_after_its_first_password_and_takes_each_once() {
    let bank = Bank::open("").await;
    let anna = bank.anna();
    let (first, _) = anna.begins_totp(None).await.unwrap();
    let (secret, _) = anna.begins_totp(None).await.unwrap();
    assert!(anna.status().await.totp_unconfirmed);
    assert!(anna.status().await.factors.is_empty(), "not in use before its first password");
    assert_eq!(why(anna.confirms_totp(&first.password_at(now())).await), "WALLET_VERIFICATION_FAILED", "forgotten");
    let begun = now();
    let confirming = secret.password_at(begun);
    let status = anna.confirms_totp(&confirming).await.unwrap();
    assert_eq!((status.factors, status.totp_unconfirmed), (vec![i32::from(Factor::Totp)], false));
    assert_eq!(why(anna.confirms_totp(&confirming).await), "NOT_FOUND");
    let shown = format!("totp {}", confirming.as_str());
    assert_eq!(why(anna.writes("a", Some(&shown), Some("k")).await), "WALLET_VERIFICATION_FAILED", "it was the first");
    let next = format!("totp {}", secret.password_at(begun + Duration::seconds(30)).as_str());
    anna.writes("a", Some(&next), Some("k")).await.unwrap();
    assert_eq!(why(anna.writes("b", Some(&next), Some("l")).await), "WALLET_VERIFICATION_FAILED", "taken once");
    assert!(anna.writes("a", Some(&next), Some("k")).await.unwrap(), "a repeat uses nothing up");
    // Another one takes what there is.
    assert_eq!(why(anna.begins_totp(None).await), "WALLET_VERIFICATION_REQUIRED");
    assert_eq!(why(anna.enrols_pin(PIN, None).await), "WALLET_VERIFICATION_REQUIRED");
    assert_eq!(why(anna.enrols_pin(PIN, Some(&next)).await), "WALLET_VERIFICATION_FAILED");
}

#[tokio::test]
async fn recovery_codes_are_told_once_confirmed_and_taken_once() {
    let bank = Bank::open("").await;
    let anna = bank.anna();
    let request = anna.request(GenerateRecoveryCodesRequest {}, None, Some("codes"));
    let codes = anna.factors().generate_recovery_codes(request).await.unwrap().into_inner().codes;
    assert_eq!(codes.len(), 10);
    let repeat = anna.request(GenerateRecoveryCodesRequest {}, None, Some("codes"));
    assert!(anna.factors().generate_recovery_codes(repeat).await.unwrap().into_inner().codes.is_empty(), "told once");
    let shown = |code: &str| format!("recovery {code}");
    assert!(anna.status().await.recovery_codes_unconfirmed);
    until(async || anna.writes("a", None, None).await.is_err()).await;
    assert_eq!(
        why(anna.writes("a", Some(&shown(&codes[0])), None).await),
        "WALLET_VERIFICATION_FAILED",
        "not confirmed"
    );
    assert_eq!(why(anna.confirms_codes("AAAA-AAAA-AAAA-AAAA").await), "WALLET_VERIFICATION_FAILED");
    let status = anna.confirms_codes(&codes[0].to_lowercase()).await.unwrap();
    assert_eq!((status.recovery_codes_left, status.recovery_codes_unconfirmed), (10, false));
    anna.writes("a", Some(&shown(&codes[0])), None).await.expect("confirming has not used it up");
    assert_eq!(why(anna.writes("a", Some(&shown(&codes[0])), None).await), "WALLET_VERIFICATION_FAILED", "taken once");
    assert_eq!(anna.status().await.recovery_codes_left, 9);
    // New ones take the place of the old when they are confirmed, and not before.
    let new = anna.gets_codes(Some(&shown(&codes[1]))).await;
    anna.writes("a", Some(&shown(&codes[2])), None).await.unwrap();
    anna.confirms_codes(&new[9]).await.unwrap();
    assert_eq!(why(anna.writes("a", Some(&shown(&codes[3])), None).await), "WALLET_VERIFICATION_FAILED");
    anna.writes("a", Some(&shown(&new[0])), None).await.unwrap();
    assert_eq!(anna.status().await.recovery_codes_left, 9);
}

#[tokio::test]
async fn pins_are_set_changed_and_removed_by_who_shows_what_there_is() {
    let bank = Bank::open("").await;
    let anna = bank.anna();
    for bad in ["", "12345", "111111", "123456", "abcdef"] {
        assert_eq!(why(anna.enrols_pin(bad, None).await), "INVALID_FIELD", "{bad}");
    }
    anna.enrols_pin(PIN, None).await.unwrap();
    assert_eq!(why(anna.enrols_pin("246802", Some(&pin())).await), "ALREADY_EXISTS");
    assert_eq!(why(anna.changes_pin("246802", WRONG).await), "WALLET_VERIFICATION_FAILED");
    assert_eq!(why(anna.changes_pin("246802", "totp 123456").await), "INVALID_FIELD");
    anna.changes_pin("246802", &pin()).await.unwrap();
    until(async || anna.writes("a", None, None).await.is_err()).await;
    assert_eq!(why(anna.writes("a", Some(&pin()), None).await), "WALLET_VERIFICATION_FAILED", "the old one");
    anna.writes("a", Some("pin 246802"), None).await.unwrap();
    let remove = |shown: Option<&str>| anna.request(RemoveFactorRequest { factor: Factor::Pin.into() }, shown, None);
    assert_eq!(why(anna.factors().remove_factor(remove(None)).await), "WALLET_VERIFICATION_REQUIRED");
    anna.factors().remove_factor(remove(Some("pin 246802"))).await.unwrap();
    assert!(anna.status().await.factors.is_empty());
    let leaves = "SELECT count(*) FROM engine.audit_leaves WHERE action IN ('verification.enrol', 'verification.change', 'verification.remove') AND subject = 'anna'";
    assert_eq!(bank.count(leaves).await, 3);
}

#[tokio::test]
async fn wrong_ones_lock_all_factors_until_a_recovery_code_or_an_administrator_ends_it() {
    let bank = Bank::open("free_failures = 2\nlockout_s = 3600\nfailures_most = 4").await;
    let anna = bank.anna();
    anna.enrols_pin(PIN, None).await.unwrap();
    let codes = anna.gets_codes(Some(&pin())).await;
    anna.confirms_codes(&codes[0]).await.unwrap();
    until(async || anna.writes("a", None, None).await.is_err()).await;
    for shown in [WRONG, "totp 123456", "recovery AAAA-AAAA-AAAA-AAAA"] {
        assert_eq!(why(anna.writes("a", Some(shown), None).await), "WALLET_VERIFICATION_FAILED", "{shown}");
    }
    let recovery = format!("recovery {}", codes[1]);
    for right in [pin(), recovery.clone()] {
        let refused = anna.writes("a", Some(&right), None).await.unwrap_err();
        let details = Refusal::details(&refused).unwrap();
        assert_eq!(details.reason, "WALLET_VERIFICATION_LOCKED");
        assert!(details.metadata.contains_key("locked_until"));
    }
    let status = anna.status().await;
    assert!(status.failures == 3 && status.locked_until.is_some() && !status.locked_for_good, "{status:?}");
    assert_eq!(status.recovery_codes_left, 10, "nothing is used up by a refusal");
    assert_eq!(why(anna.changes_pin("246802", &pin()).await), "WALLET_VERIFICATION_LOCKED");
    let status = anna.changes_pin("246802", &recovery).await.unwrap();
    assert!(status.failures == 0 && status.locked_until.is_none() && status.recovery_codes_left == 9, "{status:?}");
    anna.writes("a", Some("pin 246802"), None).await.unwrap();

    // For good: with wrong recovery codes at ChangePin, which a lockout does not bar.
    for _ in 0..4 {
        assert_eq!(why(anna.changes_pin("135790", "recovery AAAA-AAAA-AAAA-AAAA").await), "WALLET_VERIFICATION_FAILED");
    }
    let status = anna.status().await;
    assert!(status.locked_for_good && status.locked_until.is_none(), "{status:?}");
    let reset =
        |id: &str| ResetVerificationRequest { principal_id: id.to_owned(), reason: "came to the desk".to_owned() };
    let bert = bank.person("user-2");
    bert.enrols_pin(PIN, None).await.unwrap();
    assert_eq!(
        why(bert.factors().reset_verification(bert.request(reset("anna"), None, None)).await),
        "WALLET_VERIFICATION_REQUIRED"
    );
    assert_eq!(
        why(bert.factors().reset_verification(bert.request(reset("bert"), Some(&pin()), None)).await),
        "PERMISSION_DENIED"
    );
    assert_eq!(
        why(bert.factors().reset_verification(bert.request(reset("bot"), Some(&pin()), None)).await),
        "NOT_FOUND"
    );
    let other = GetVerificationOfRequest { principal_id: "anna".to_owned() };
    let seen = bert.factors().get_verification_of(bert.request(other, None, None)).await.unwrap().into_inner();
    assert!(seen.verification.unwrap().locked_for_good);
    bert.factors().reset_verification(bert.request(reset("anna"), Some(&pin()), None)).await.unwrap();
    let status = anna.status().await;
    assert_eq!((status.factors.len(), status.failures, status.locked_for_good), (0, 0, false));
    assert_eq!(
        why(anna.writes("a", Some("pin 246802"), None).await),
        "WALLET_VERIFICATION_FAILED",
        "its factors are gone"
    );
    anna.enrols_pin("302914", None).await.unwrap();
    anna.writes("a", Some("pin 302914"), None).await.unwrap();
    let leaves = "SELECT count(*) FROM engine.audit_leaves WHERE action = 'verification.reset' AND actor = 'acme/bert' AND body->>'reason' = 'came to the desk'";
    assert_eq!(bank.count(leaves).await, 1);
    let locks = "SELECT count(*) FROM engine.audit_leaves WHERE action = 'verification.lock' AND subject = 'anna'";
    assert!(bank.count(locks).await >= 2);
}

#[tokio::test]
async fn two_replicas_take_a_password_once_and_let_a_repeat_on_that_came_at_once() {
    let bank = Bank::open("").await;
    let second = bank.world.replica(&bank.world.text).await;
    let anna = [bank.anna(), bank.person_at("user-1", second.addr)];
    let (secret, _) = anna[0].begins_totp(None).await.unwrap();
    let begun = now();
    anna[0].confirms_totp(&secret.password_at(begun)).await.unwrap();
    until(async || anna[1].writes("a", None, None).await.is_err() && anna[0].writes("a", None, None).await.is_err())
        .await;
    let shown = format!("totp {}", secret.password_at(begun + Duration::seconds(30)).as_str());
    let tries = (0..8).map(|index| {
        let (anna, shown) = (&anna[index % 2], &shown);
        async move { anna.writes("a", Some(shown), Some(&format!("k{}", index / 4))).await }
    });
    let answers = futures::future::join_all(tries).await;
    // Four of each key at once: all of the one key pass, as one and its repeats, and none of the other.
    let passed = |key: usize| answers[4 * key..4 * key + 4].iter().filter(|answer| answer.is_ok()).count();
    let mut both = [passed(0), passed(1)];
    both.sort_unstable();
    assert_eq!(both[0], 0, "a password is taken for one write");
    assert!(both[1] >= 1, "{answers:?}");
    let verified = "SELECT count(*) FROM gateway.verifications";
    assert_eq!(bank.count(verified).await, 1);
    for answer in answers {
        if let Err(status) = answer {
            let reason = Refusal::details(&status).unwrap().reason;
            assert!(
                ["WALLET_VERIFICATION_FAILED", "WALLET_VERIFICATION_LOCKED"].contains(&reason.as_str()),
                "{reason}"
            );
        }
    }
}

#[tokio::test]
async fn what_was_verified_stays_so_over_a_restart_and_a_rotation_of_the_key() {
    let bank = Bank::open("").await;
    let anna = bank.anna();
    anna.enrols_pin(PIN, None).await.unwrap();
    until(async || anna.writes("a", None, None).await.is_err()).await;
    anna.writes("a", Some(&pin()), Some("before")).await.unwrap();
    assert_eq!(why(anna.writes("a", Some(WRONG), Some("other")).await), "WALLET_VERIFICATION_FAILED");
    // A process of later, with a new key before the old one.
    let file = bank.world.pki.path("second-key");
    std::fs::write(&file, "08".repeat(32)).unwrap();
    let rotated = bank.world.text.replacen(
        "[[sealing.keys]]",
        &format!("[[sealing.keys]]\nid = \"two\"\nkey = \"file:{}\"\n[[sealing.keys]]", file.display()),
        1,
    );
    let later = bank.world.replica(&rotated).await;
    let anna = bank.person_at("user-1", later.addr);
    assert!(anna.writes("a", None, Some("before")).await.unwrap(), "a repeat");
    assert_eq!(anna.status().await.failures, 1, "a wrong one counts beyond the process that heard it");
    anna.writes("a", Some(&pin()), Some("after")).await.unwrap();
    anna.changes_pin("246802", &pin()).await.unwrap();
    anna.writes("a", Some("pin 246802"), None).await.unwrap();
    let ids: Vec<String> = sqlx::query_scalar("SELECT key_id FROM gateway.verification_pins")
        .fetch_all(&bank.world.database().await)
        .await
        .unwrap();
    assert_eq!(ids, ["two"]);
}

#[tokio::test]
async fn ten_thousand_wrong_pins_open_nothing_and_the_service_is_well_after() {
    let bank = Bank::open("").await;
    let (anna, bert) = (bank.anna(), bank.person("user-2"));
    anna.enrols_pin(PIN, None).await.unwrap();
    bert.enrols_pin(PIN, None).await.unwrap();
    until(async || anna.writes("a", None, None).await.is_err()).await;
    let anna = Arc::new(anna);
    let mut tried = 0_u32;
    for _ in 0..100 {
        let round = (0..100_u32).map(|index| {
            let (anna, shown) = (Arc::clone(&anna), format!("pin {:06}", 100_000 + tried + index));
            async move { anna.writes("a", Some(&shown), Some("k")).await }
        });
        for answer in futures::future::join_all(round).await {
            let reason = why(answer);
            let known = ["WALLET_VERIFICATION_FAILED", "WALLET_VERIFICATION_LOCKED", "OVERLOADED"];
            assert!(known.contains(&reason.as_str()), "{reason}");
        }
        tried += 100;
    }
    assert_eq!(tried, 10_000);
    let status = anna.status().await;
    assert!(status.failures >= 5 && status.locked_until.is_some(), "{status:?}");
    assert!(status.failures < 50, "nobody is charged for what was not looked at: {status:?}");
    assert_eq!(why(anna.writes("a", Some(&pin()), None).await), "WALLET_VERIFICATION_LOCKED");
    bert.writes("a", Some(&pin()), None).await.expect("others are not locked, and are served");
    assert_eq!(bank.count("SELECT count(*) FROM gateway.verifications WHERE principal_id = 'anna'").await, 0);
}

#[tokio::test]
async fn over_http_it_is_a_header() {
    let bank = Bank::open("").await;
    let anna = bank.anna();
    anna.enrols_pin(PIN, None).await.unwrap();
    until(async || anna.writes("a", None, None).await.is_err()).await;
    let authority = reqwest::Certificate::from_pem(&std::fs::read(bank.world.pki.path("ca.pem")).unwrap()).unwrap();
    let addr = bank.world.gateway.addr;
    let client = reqwest::Client::builder().tls_certs_only([authority]).resolve("localhost", addr).build().unwrap();
    let post = |headers: &[(&'static str, String)]| {
        let mut request = client.post(format!("https://localhost:{}/v1/feeds/eur-usd:submit", addr.port())).body("{}");
        request = request.header("content-type", "application/json").header("authorization", &anna.bearer);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.send()
    };
    let key = ("idempotency-key", "rest".to_owned());
    let refused = post(std::slice::from_ref(&key)).await.unwrap();
    assert_eq!(refused.status().as_u16(), 400);
    assert!(refused.text().await.unwrap().contains("WALLET_VERIFICATION_REQUIRED"));
    let refused = post(&[key.clone(), ("x-wallet-verification", WRONG.to_owned())]).await.unwrap();
    assert_eq!(refused.status().as_u16(), 403);
    let passed = post(&[key.clone(), ("X-Wallet-Verification", pin())]).await.unwrap();
    assert!(passed.status().is_success(), "{}", passed.text().await.unwrap());
    let repeat = post(&[key]).await.unwrap();
    assert_eq!(repeat.headers().get("idempotency-replayed").unwrap(), "true");
    // The same message by gRPC is the same write.
    assert!(anna.writes("eur-usd", None, Some("rest")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealing_key_that_is_missing_is_named_before_anybody_needs_it() {
    let bank = Bank::open("").await;
    bank.anna().enrols_pin(PIN, None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sealing-key");
    std::fs::write(&file, "08".repeat(32)).unwrap();
    let second = format!("[[sealing.keys]]\nid = \"two\"\nkey = \"file:{}\"\n", file.display());
    let (before, first) = bank.world.text.split_once("[[sealing.keys]]").unwrap();
    let with_both = bank.world.replica(&format!("{before}{second}[[sealing.keys]]{first}")).await;
    let without = bank.world.replica(&format!("{before}{second}")).await;
    let found = async |addr| {
        let mut operator = OperatorServiceClient::new(bank.world.pki.channel(addr, None));
        let asked = bank.machine().request(DoctorRequest {}, None, None);
        let findings = operator.doctor(asked).await.unwrap().into_inner().findings;
        let ours = findings.into_iter().filter(|finding| finding.subject.starts_with("sealing key"));
        ours.map(|finding| (finding.verdict(), finding.subject, finding.detail)).collect::<Vec<_>>()
    };
    for whole in [bank.world.gateway.addr, with_both.addr] {
        let found = found(whole).await;
        assert!(matches!(&found[..], [(Verdict::Ok, _, _)]), "{found:?}");
    }
    let found = found(without.addr).await;
    let [(Verdict::Failing, subject, detail)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(subject, "sealing key one");
    assert!(detail.contains("1 PINs, 0 authenticator apps, 0 secrets of webhooks"), "{detail}");
}
