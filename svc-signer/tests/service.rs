//! The signer as its peers meet it: over mutual TLS, as a stream, and after a SIGKILL in the middle.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

#[allow(dead_code)]
#[path = "support/process.rs"]
mod process;
mod support;

use std::{process::Command, time::Duration};

use dalp_proto::signer::{
    CreateKeyRequest, SignStatus, StatusRequest, WatchStatusRequest, key_service_client::KeyServiceClient,
};
use dalp_simulators::aws::Aws;
use dalp_testing::{Signal, signal};
use process::{Parts, Process, child_of, disguises};
use support::{PIN, TestToken, approved_transaction, call, order, reason, until};
use svc_signer::providers::ProviderKind;
use tonic::{Code, Request};

#[tokio::test(flavor = "multi_thread")]
async fn peers_sign_over_mutual_tls_and_others_do_not() {
    let mut process = Process::start().await;
    let key = process.key("desk").await;
    let request = order(&key, call(0));
    let signed = process.sign(&request).await.unwrap();
    approved_transaction(&signed);
    let status = StatusRequest { request_id: request.request_id.clone() };
    let found = process.signer("svc-compliance").status(status.clone()).await.unwrap().into_inner().outcome.unwrap();
    assert_eq!(found, signed);

    // The gateway administers keys and has roots of the audit log signed, nothing else; svc-feeds may ask, but holds no grant for transactions.
    let refused = process.signer("svc-gateway").sign(request.clone()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "GRANT_MISSING"));
    let refused = process.signer("svc-feeds").sign(order(&key, call(1))).await.unwrap_err();
    assert_eq!(reason(&refused), "GRANT_MISSING");
    let refused = process.signer("svc-feeds").status(status).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_FOUND", "another peer's request is not there");
    let mut create = Request::new(CreateKeyRequest::default());
    create.metadata_mut().insert("dalp-tenant", "bank".parse().unwrap());
    let refused = KeyServiceClient::new(process.channel("svc-compliance")).create_key(create).await.unwrap_err();
    assert_eq!(reason(&refused), "PEER_NOT_ALLOWED", "a domain service makes no keys");

    // A certificate that is revoked meanwhile: the open connection ends and no other one comes about.
    let held = process.signer("svc-compliance");
    held.clone().sign(request.clone()).await.unwrap();
    process.pki.revoke(process.pki.files("svc-compliance").serial).unwrap();
    let broken = until(async || held.clone().sign(request.clone()).await, Result::is_err).await.unwrap_err();
    // Cancelled is the client's own word for a call that its connection ended under.
    assert!(matches!(broken.code(), Code::Unavailable | Code::Unknown | Code::Cancelled), "{broken:?}");
    held.clone().sign(request.clone()).await.expect_err("no other connection comes about");
    let log = process.log();
    assert!(log.contains("no longer holds"), "{log}");
    for secret in [support::PIN, &"k".repeat(40)] {
        assert!(!log.contains(secret), "a secret in the log");
    }
}

/// Local keys under a key-encryption key that AWS Secrets Manager keeps; a PIN from there as well.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_of_the_cloud_where_its_secret_manager_keeps_what_opens_them() {
    let aws = Aws::start().await.unwrap();
    let kek = "5a18".repeat(16);
    let kept = serde_json::json!({ "kek": kek, "pin": PIN }).to_string();
    aws.store_secret("dalp/svc-signer/keys", &kept).await.unwrap();
    let keys = aws.signer();
    let parts = Parts {
        partition: "pin = \"aws-secret:dalp/svc-signer/keys#pin\"".to_owned(),
        telemetry: "log_filter = \"trace\"".to_owned(),
        signer: "allow_mixed = true".to_owned(),
        sections: "[local]\nkey_encryption_key = \"aws-secret:dalp/svc-signer/keys#kek\"\n".to_owned(),
        environment: vec![
            ("AWS_REGION", aws.region().to_owned()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", aws.endpoint()),
            ("AWS_ACCESS_KEY_ID", keys.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", keys.secret_access_key.clone()),
        ],
    };
    let process = Process::start_with(TestToken::new(), parts).await;
    for (provider, tier) in [("pkcs11", "hsm"), ("local", "cloud_secret_manager")] {
        let key = process.made_at(provider, provider).await;
        assert_eq!((key.provider.as_str(), key.tier.as_str()), (provider, tier));
        approved_transaction(&process.sign(&order(&key.address, call(0))).await.unwrap());
    }
    let check = || {
        let checked = Command::new(support::program())
            .arg("--config")
            .arg(process.dir.path().join("signer.toml"))
            .arg("check-config")
            .envs(process.environment.clone())
            .output()
            .unwrap();
        (checked.status.success(), String::from_utf8_lossy(&checked.stderr).into_owned())
    };
    assert_eq!(check(), (true, String::new()));
    aws.deny(&["secretsmanager:GetSecretValue"]).await.unwrap();
    let (passed, told) = check();
    assert!(!passed && told.contains("local.key_encryption_key") && told.contains("AccessDeniedException"), "{told}");
    for secret in [kek.as_str(), &keys.secret_access_key, PIN] {
        assert!(disguises(secret).iter().all(|disguise| !process.log().contains(disguise) && !told.contains(disguise)));
    }
}

/// Crashed and started again with a wrong PIN, alone and beside others: one try.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_looping_signer_tries_a_wrong_pin_once() {
    let token = TestToken::luna();
    std::fs::write(token.pin_file(), "wrong").unwrap();
    let mut process = Process::start_with(token, Parts::default()).await;
    let failures = |process: &Process| process.log().matches("partition not opened").count();
    for round in 1..=5 {
        let seen = failures(&process);
        if round > 1 {
            process.restart().await;
        }
        until(async || failures(&process), |now| *now > seen).await;
        let device = process.token.device().read().unwrap();
        assert_eq!((device.login_calls, device.bad_pins), (1, 1), "round {round}");
    }
}

/// The ceremony as an operator holds it, and the signer that logs in as one who makes no keys.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_ceremony_is_the_one_that_signs() {
    let process = {
        let partition = "crypto_user = true".to_owned();
        Process::start_with(TestToken::luna(), Parts { partition, ..Parts::default() }).await
    };
    let officer_pin = process.token.secret("officer-pin", PIN);
    let ceremony = || {
        let held = Command::new(support::program())
            .arg("--config")
            .arg(process.dir.path().join("signer.toml"))
            .args(["key-ceremony", "--tenant", "bank", "--wallet", "desk", "--officer-pin", &officer_pin])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&held.stderr).into_owned();
        (held.status.success(), String::from_utf8(held.stdout).unwrap(), told)
    };
    // The signer may be logging in at that moment: the ceremony waits by itself.
    let (done, said, told) = ceremony();
    assert!(done && said.contains("dalp:bank:desk"), "{said} {told}");
    assert!(told.contains("logging in as the crypto officer"), "it says what it does: {told}");
    let (done, again, told) = ceremony();
    assert!(done, "{told}");
    assert_eq!(again, said, "a repeat finds it");
    let key = process.key("desk").await;
    assert!(said.contains(&key), "{key} in {said}");
    approved_transaction(&process.sign(&order(&key, call(0))).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_request_is_streamed_to_its_end() {
    let process = Process::start().await;
    let key = process.key("desk").await;
    let request = order(&key, call(0));
    // The token is away: the request waits.
    std::fs::write(process.token.pin_file(), "wrong").unwrap();
    assert!(signal(child_of(process.child.as_ref().unwrap().id()), Signal::KILL));
    let outcome =
        until(async || process.sign(&request).await.unwrap(), |outcome| outcome.status() != SignStatus::Pending).await;
    assert_eq!(outcome.status(), SignStatus::Blocked, "{outcome:?}");
    let watch = WatchStatusRequest { request_id: request.request_id.clone() };
    let mut changes = process.signer("svc-compliance").watch_status(watch.clone()).await.unwrap().into_inner();
    let mut next = async || tokio::time::timeout(Duration::from_secs(30), changes.message()).await.unwrap().unwrap();
    let first = next().await.unwrap().outcome.unwrap();
    assert_eq!(first.status(), SignStatus::Blocked, "first the present state");
    std::fs::write(process.token.pin_file(), support::PIN).unwrap();
    let mut last = first;
    while last.status() == SignStatus::Blocked {
        last = next().await.unwrap().outcome.unwrap();
    }
    approved_transaction(&last);
    assert!(next().await.is_none(), "the stream ends after the final state");
    let stranger = process.signer("svc-feeds").watch_status(watch.clone()).await.unwrap_err();
    assert_eq!(reason(&stranger), "NOT_FOUND");
    // Of a final request there is one state to tell.
    let mut again = process.signer("svc-compliance").watch_status(watch).await.unwrap().into_inner();
    assert_eq!(again.message().await.unwrap().unwrap().outcome.unwrap(), last);
    assert!(again.message().await.unwrap().is_none());
}

/// An HSM signs each time differently, so that an equal signature is the stored one.
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_killed_in_the_middle_answers_the_same_id_with_the_same_signature() {
    let mut process = Process::start().await;
    let key = process.key("desk").await;
    for round in 0..6u64 {
        let requests: Vec<_> = (0..20).map(|number| order(&key, call(round * 20 + number))).collect();
        let asking: Vec<_> = requests
            .iter()
            .map(|request| {
                let (mut signer, request) = (process.signer("svc-compliance"), request.clone());
                tokio::spawn(async move { signer.sign(request).await })
            })
            .collect();
        // Further into the work in each round.
        tokio::time::sleep(Duration::from_millis(4 * round)).await;
        process.restart().await;
        let mut answered = Vec::new();
        for asked in asking {
            answered.push(asked.await.unwrap().ok().map(|answer| answer.into_inner().outcome.unwrap()));
        }
        for (request, before) in requests.iter().zip(answered) {
            let signed = until(
                async || process.sign(request).await,
                |answer| answer.as_ref().is_ok_and(|outcome| outcome.status() == SignStatus::Approved),
            );
            let signed = signed.await.unwrap();
            approved_transaction(&signed);
            assert_eq!(process.sign(request).await.unwrap(), signed, "the stored one");
            if let Some(before) = before.filter(|outcome| outcome.status() == SignStatus::Approved) {
                assert_eq!(before, signed, "what had left before the kill is what is answered after it");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_process_killed_in_the_middle_of_a_signature_is_replaced() {
    let bench = support::Bench::new(ProviderKind::Pkcs11).await;
    let key = support::create(&bench, "desk").await;
    let pid = bench.hsm.as_ref().unwrap().worker_pid().unwrap();
    let request = order(&key.address, call(0));
    // Stopped, it has the call and does not answer; then it is gone.
    assert!(signal(pid, Signal::STOP));
    let asked = async {
        let (asked, ()) = tokio::join!(support::sign(&bench, &request), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(signal(pid, Signal::KILL));
        });
        asked
    };
    let signed = asked.await.unwrap();
    approved_transaction(&signed);
    assert_eq!(support::sign(&bench, &request).await.unwrap(), signed);
    assert_ne!(bench.hsm.as_ref().unwrap().worker_pid().unwrap(), pid);
}
