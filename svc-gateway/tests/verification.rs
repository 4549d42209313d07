//! Wallet verification through the gateway: who is asked, for what, how often, and that no code is anywhere afterwards.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    io::Write,
    sync::{Arc, LazyLock, Mutex},
};

use dalp_proto::{
    feeds::{GetLatestRequest, SubmitUpdateRequest, feed_service_client::FeedServiceClient},
    verification::{
        BeginTotpRequest, ChangePinRequest, ConfirmRecoveryCodesRequest, ConfirmTotpRequest, EnrolPinRequest, Factor,
        GenerateRecoveryCodesRequest, GetVerificationOfRequest, GetVerificationRequest, PolicyMode, RemoveFactorRequest,
        ResetVerificationRequest, SetVerificationPolicyRequest, Verification, VerificationPolicy,
        wallet_verification_service_client::WalletVerificationServiceClient,
    },
};
use dalp_service::Refusal;
use serde_json::json;
use support::{
    World,
    issuer::{Issuer, Key, changed, claims},
    until,
};
use svc_gateway::verification::totp::Secret;
use time::{Duration, OffsetDateTime};
use tonic::{Request, Status, transport::Channel};

const PIN: &str = "918273";
const WRONG: &str = "pin 918274";

/// A gateway with a provider of identities, a key to seal with, and a policy for all writes of its tenant.
struct Bank {
    world: World,
    key: Key,
    issuer: Issuer,
}

/// Somebody who signed in, at one replica.
struct Person {
    channel: Channel,
    bearer: String,
}

impl Bank {
    async fn open(lines: &str) -> Self {
        let key = Key::new("one");
        let issuer = Issuer::start(vec![key.published()]).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.keep().join("sealing-key");
        std::fs::write(&file, "07".repeat(32)).unwrap();
        let people = format!(
            "{}[[principals]]\nid = \"bert\"\ntenant = \"acme\"\nkind = \"person\"\nroles = [\"operator\"]\noidc = {{ issuer = \"{iss}\", subject = \"user-2\" }}\n\
             [[principals]]\nid = \"bot\"\ntenant = \"acme\"\nkind = \"service\"\nroles = [\"operator\"]\noidc = {{ issuer = \"{iss}\", subject = \"robot\" }}\n\
             [verification]\nissuer = \"Acme Bank\"\n{lines}\n[[verification.keys]]\nid = \"one\"\nkey = \"file:{}\"\n",
            issuer.sections(""),
            file.display(),
            iss = support::issuer::ISSUER,
        );
        let world = support::world_with("", &people).await;
        let bank = Self { world, key, issuer };
        bank.policy(PolicyMode::AllWrites, &[]).await;
        bank
    }

    fn person(&self, subject: &str) -> Person {
        self.person_at(subject, self.world.gateway.addr)
    }

    fn person_at(&self, subject: &str, addr: std::net::SocketAddr) -> Person {
        let token = self.key.sign(&changed("sub", json!(subject)));
        Person { channel: self.world.pki.channel(addr, None), bearer: format!("Bearer {token}") }
    }

    fn anna(&self) -> Person {
        self.person("user-1")
    }

    /// Machines are never asked, so the operator's API key sets the policy.
    fn machine(&self) -> Person {
        let channel = self.world.pki.channel(self.world.gateway.addr, None);
        Person { channel, bearer: format!("Bearer {}", self.world.keys.operator.expose()) }
    }

    async fn policy(&self, mode: PolicyMode, methods: &[&str]) {
        let methods = methods.iter().map(|&method| method.to_owned()).collect();
        let policy = Some(VerificationPolicy { mode: mode.into(), methods, ..VerificationPolicy::default() });
        let machine = self.machine();
        let request = machine.request(SetVerificationPolicyRequest { policy }, None, None);
        machine.factors().set_verification_policy(request).await.unwrap();
    }

    async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.world.database().await).await.unwrap()
    }
}

impl Person {
    fn request<T>(&self, message: T, shown: Option<&str>, key: Option<&str>) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.bearer.parse().unwrap());
        if let Some(shown) = shown {
            metadata.insert("x-wallet-verification", shown.parse().unwrap());
        }
        if let Some(key) = key {
            metadata.insert("idempotency-key", key.parse().unwrap());
        }
        request
    }

    fn factors(&self) -> WalletVerificationServiceClient<Channel> {
        WalletVerificationServiceClient::new(self.channel.clone())
    }

    /// Writes; whether it was answered as a repeat.
    async fn writes(&self, feed: &str, shown: Option<&str>, key: Option<&str>) -> Result<bool, Status> {
        let message = SubmitUpdateRequest { feed: feed.to_owned(), ..SubmitUpdateRequest::default() };
        let answer = FeedServiceClient::new(self.channel.clone()).submit_update(self.request(message, shown, key)).await?;
        Ok(answer.metadata().get("idempotency-replayed").unwrap() == "true")
    }

    async fn status(&self) -> Verification {
        let answer = self.factors().get_verification(self.request(GetVerificationRequest {}, None, None)).await;
        answer.unwrap().into_inner().verification.unwrap()
    }

    async fn enrols_pin(&self, pin: &str, shown: Option<&str>) -> Result<Verification, Status> {
        let request = self.request(EnrolPinRequest { pin: pin.to_owned() }, shown, None);
        Ok(self.factors().enrol_pin(request).await?.into_inner().verification.unwrap())
    }

    /// The secret of the app, which is not in use before its first password.
    async fn begins_totp(&self, shown: Option<&str>) -> Result<(Secret, String), Status> {
        let answer = self.factors().begin_totp(self.request(BeginTotpRequest {}, shown, None)).await?.into_inner();
        let (_, rest) = answer.otpauth_uri.split_once("secret=").unwrap();
        let text = rest.split('&').next().unwrap().to_owned();
        let bytes = totp_rs::Secret::Encoded(text.clone()).to_bytes().unwrap();
        Ok((Secret::new(&bytes).unwrap(), text))
    }

    async fn confirms_totp(&self, code: &str) -> Result<Verification, Status> {
        let request = self.request(ConfirmTotpRequest { code: code.to_owned() }, None, None);
        Ok(self.factors().confirm_totp(request).await?.into_inner().verification.unwrap())
    }

    async fn gets_codes(&self, shown: Option<&str>) -> Vec<String> {
        let request = self.request(GenerateRecoveryCodesRequest {}, shown, None);
        self.factors().generate_recovery_codes(request).await.unwrap().into_inner().codes
    }

    async fn confirms_codes(&self, code: &str) -> Result<Verification, Status> {
        let request = self.request(ConfirmRecoveryCodesRequest { code: code.to_owned() }, None, None);
        Ok(self.factors().confirm_recovery_codes(request).await?.into_inner().verification.unwrap())
    }

    async fn changes_pin(&self, pin: &str, shown: &str) -> Result<Verification, Status> {
        let request = self.request(ChangePinRequest { pin: pin.to_owned() }, Some(shown), None);
        Ok(self.factors().change_pin(request).await?.into_inner().verification.unwrap())
    }
}

fn why<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    Refusal::details(&answer.unwrap_err()).unwrap().reason
}

fn pin() -> String {
    format!("pin {PIN}")
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

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
    let refusals = "SELECT count(*) FROM engine.audit_leaves WHERE reason = 'WALLET_VERIFICATION_FAILED' AND actor = 'anna'";
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
        VerificationPolicy { mode: PolicyMode::Chosen.into(), permissions: vec!["nothing:*".into()], ..Default::default() },
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
    assert_eq!(why(anna.writes("a", Some(&shown(&codes[0])), None).await), "WALLET_VERIFICATION_FAILED", "not confirmed");
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
    let reset = |id: &str| ResetVerificationRequest { principal_id: id.to_owned(), reason: "came to the desk".to_owned() };
    let bert = bank.person("user-2");
    bert.enrols_pin(PIN, None).await.unwrap();
    assert_eq!(why(bert.factors().reset_verification(bert.request(reset("anna"), None, None)).await), "WALLET_VERIFICATION_REQUIRED");
    assert_eq!(why(bert.factors().reset_verification(bert.request(reset("bert"), Some(&pin()), None)).await), "PERMISSION_DENIED");
    assert_eq!(why(bert.factors().reset_verification(bert.request(reset("bot"), Some(&pin()), None)).await), "NOT_FOUND");
    let other = GetVerificationOfRequest { principal_id: "anna".to_owned() };
    let seen = bert.factors().get_verification_of(bert.request(other, None, None)).await.unwrap().into_inner();
    assert!(seen.verification.unwrap().locked_for_good);
    bert.factors().reset_verification(bert.request(reset("anna"), Some(&pin()), None)).await.unwrap();
    let status = anna.status().await;
    assert_eq!((status.factors.len(), status.failures, status.locked_for_good), (0, 0, false));
    assert_eq!(why(anna.writes("a", Some("pin 246802"), None).await), "WALLET_VERIFICATION_FAILED", "its factors are gone");
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
    until(async || anna[1].writes("a", None, None).await.is_err() && anna[0].writes("a", None, None).await.is_err()).await;
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
            assert!(["WALLET_VERIFICATION_FAILED", "WALLET_VERIFICATION_LOCKED"].contains(&reason.as_str()), "{reason}");
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
        "[[verification.keys]]",
        &format!("[[verification.keys]]\nid = \"two\"\nkey = \"file:{}\"\n[[verification.keys]]", file.display()),
        1,
    );
    let later = bank.world.replica(&rotated).await;
    let anna = bank.person_at("user-1", later.addr);
    assert!(anna.writes("a", None, Some("before")).await.unwrap(), "a repeat");
    assert_eq!(anna.status().await.failures, 1, "a wrong one counts beyond the process that heard it");
    anna.writes("a", Some(&pin()), Some("after")).await.unwrap();
    anna.changes_pin("246802", &pin()).await.unwrap();
    anna.writes("a", Some("pin 246802"), None).await.unwrap();
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT key_id FROM gateway.verification_pins").fetch_all(&bank.world.database().await).await.unwrap();
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
    let refused = post(&[key.clone()]).await.unwrap();
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

static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(Arc::default);

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that the database holds, as text; bytes are there as hexadecimal digits.
async fn everything(database: &sqlx::PgPool) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('gateway', 'engine') ORDER BY 1",
    )
    .fetch_all(database)
    .await
    .unwrap();
    let mut all = String::new();
    for table in tables {
        let query = sqlx::AssertSqlSafe(format!("SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {table} t"));
        let rows: String = sqlx::query_scalar(query).fetch_one(database).await.unwrap();
        all.push_str(&rows);
        all.push('\n');
    }
    all
}

#[tokio::test]
async fn no_code_is_in_the_log_an_answer_the_audit_or_the_database() {
    // The first of this process: a test runs in one of its own.
    tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG).with_writer(|| Log).init();
    let bank = Bank::open("").await;
    let anna = bank.anna();
    let mut heard = String::new();
    anna.enrols_pin(PIN, None).await.unwrap();
    until(async || anna.writes("a", None, None).await.is_err()).await;
    let (secret, text) = anna.begins_totp(Some(&pin())).await.unwrap();
    let begun = now();
    let passwords = [secret.password_at(begun), secret.password_at(begun + Duration::seconds(30))];
    anna.confirms_totp(&passwords[0]).await.unwrap();
    let codes = anna.gets_codes(Some(&pin())).await;
    anna.confirms_codes(&codes[0]).await.unwrap();
    let wrong = ["pin 773311", "totp 664422", "recovery ZZZZ-YYYY-XXXX-WWWW", "pin 55x55y55z", "PIN 440044"];
    for shown in wrong {
        let status = anna.writes("a", Some(shown), Some("k")).await.unwrap_err();
        heard.push_str(&format!("{status:?}"));
    }
    let recovery = format!("recovery {}", codes[1]);
    anna.writes("a", Some(&recovery), Some("k")).await.unwrap();
    heard.push_str(&format!("{:?}", anna.confirms_totp("884466").await.unwrap_err()));
    heard.push_str(&format!("{:?}", anna.changes_pin("975310", &pin()).await.unwrap()));
    let refusals = "SELECT count(*) FROM engine.audit_leaves WHERE reason = 'WALLET_VERIFICATION_FAILED'";
    until(async || bank.count(refusals).await == 4).await;

    let database = everything(&bank.world.database().await).await;
    let log = String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned();
    assert!(log.contains("refused at the gateway") && database.contains("verification.pass"), "there is something to look at");
    let mut secrets: Vec<String> = [PIN, "975310", "773311", "664422", "884466", "55x55y55z", "440044"].map(str::to_owned).to_vec();
    secrets.extend(passwords.iter().map(|password| password.to_string()));
    secrets.extend([text.clone(), "ZZZZYYYYXXXXWWWW".to_owned(), "ZZZZ-YYYY-XXXX-WWWW".to_owned()]);
    secrets.push(codes[0].clone());
    secrets.extend(codes.iter().map(|code| code.replace('-', "")));
    let raw = totp_rs::Secret::Encoded(text).to_bytes().unwrap();
    for (place, held) in [("log", &log), ("answer", &heard), ("database", &database)] {
        for secret in &secrets {
            // Six digits are also part of times and numbers by chance: as a word of its own they are not.
            let alone = |at: usize| {
                let of_word = |one: Option<char>| one.is_some_and(|one| one.is_ascii_alphanumeric() || one == '.');
                !of_word(held[..at].chars().next_back()) && !of_word(held[at + secret.len()..].chars().next())
            };
            let found = held.match_indices(secret.as_str()).find(|(at, _)| secret.len() > 6 || alone(*at));
            assert!(found.is_none(), "a code is in the {place}");
            let hex = hex::encode(secret);
            assert!(!held.contains(&hex), "a code is in the {place}, in hexadecimal digits");
        }
        assert!(!held.contains(&hex::encode(&raw)), "the secret is in the {place}");
    }
    // Nor is a plain hash of the message that held a PIN, which would be undone within a second.
    use prost::Message as _;
    use sha2::{Digest as _, Sha256};
    for chosen in [PIN, "975310"] {
        let message = EnrolPinRequest { pin: chosen.to_owned() }.encode_to_vec();
        assert!(!database.contains(&hex::encode(Sha256::digest(&message))));
        let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
        framed.extend(&message);
        assert!(!database.contains(&hex::encode(Sha256::digest(&framed))));
    }
    let _ = (&bank.issuer, claims());
}
