//! What a Luna partition does that a software token does not: it waits for people, locks, loses members and falls silent.
//! The module behind these tests is `tests/simulators/quorum-module`; the signer, its worker process, its memory of logins and the signatures are real.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::sync::Arc;

use alloy::primitives::Address;
use dalp_proto::signer::{
    ClaimAttestation, CreateKeyRequest, ReleaseRequest, SignOutcome, SignRequest, SignStatus, StatusRequest,
    WithdrawRequest, key_service_server::KeyService as _, sign_request::Payload,
    signer_service_server::SignerService as _,
};
use dalp_quorum_module::device::{Hang, Member, Twist};
use dalp_service::config::{Problems, Validate as _};
use dalp_testing::TestPostgres;
use support::{
    Bench, Holders, LABEL, PEER, PIN, Setting, TARGET, age, approved_transaction, call, create, from_caller, from_peer,
    luna::{becomes, change, create_refused, device, fresh, is_signed, luna},
    order, reason, sender, sign, until,
};
use svc_signer::{
    config::pkcs11::Pkcs11Config,
    providers::{Provider as _, ProviderKind},
};

// === People ===

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_waits_for_people_is_a_hold_and_then_a_signature() {
    let (bench, key) = luna("").await;
    // Deactivated while the signer is logged in.
    bench.device().demand_quorum(2, 3).unwrap();
    let request = order(&key.address, call(0));
    let held = becomes(&bench, &request, SignStatus::Pending, "").await;
    assert!(held.detail.contains("0x8000001a"), "the partition's own words: {held:?}");
    let status = StatusRequest { request_id: request.request_id.clone() };
    let told = bench.edge.status(from_peer(status, PEER)).await.unwrap().into_inner().outcome.unwrap();
    assert_eq!((told.status(), told.error.as_str()), (SignStatus::Pending, ""), "Status tells the same");
    assert_eq!(create_refused(&bench, "new").await, "CUSTODY_APPROVAL_PENDING");
    bench.device().present(1).unwrap();
    bench.device().present(1).unwrap();
    becomes(&bench, &request, SignStatus::Pending, "").await;
    assert!(bench.device().present(2).unwrap());
    is_signed(&bench, &request).await;
    create(&bench, "new").await;

    // Deactivated before a replica logs in: its login waits, and counts against nobody.
    bench.device().deactivate().unwrap();
    let replica = bench.replica().await;
    let request = order(&key.address, call(1));
    let before = device(&bench);
    for _ in 0..12 {
        let held = becomes(&replica, &request, SignStatus::Pending, "").await;
        assert!(held.detail.contains("0x8000002e"), "{held:?}");
        assert!(!fresh(&bench).status().await.ready);
    }
    let after = device(&bench);
    assert!(after.login_calls > before.login_calls + 10, "it is asked again as often as need be");
    assert_eq!((after.logins, after.bad_pins), (before.logins, 0), "and no PIN was compared");
    for number in [1, 3] {
        bench.device().present(number).unwrap();
    }
    is_signed(&replica, &request).await;
}

async fn withdraw(bench: &Bench, peer: &'static str, request: &SignRequest) -> Result<SignOutcome, tonic::Status> {
    let request = WithdrawRequest { request_id: request.request_id.clone() };
    Ok(bench.edge.withdraw(from_peer(request, peer)).await?.into_inner().outcome.unwrap())
}

async fn release(bench: &Bench, request: &SignRequest) -> Result<(), tonic::Status> {
    let request = ReleaseRequest { request_id: request.request_id.clone() };
    bench.edge.release(from_peer(request, PEER)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_people_is_withdrawn_and_never_signed() {
    let (bench, key) = luna("").await;
    bench.device().demand_quorum(1, 1).unwrap();
    let (request, other) = (order(&key.address, call(0)), order(&key.address, call(0)));
    becomes(&bench, &request, SignStatus::Pending, "").await;
    let stranger = withdraw(&bench, "spiffe://dalp.dev/svc-feeds", &request).await.unwrap_err();
    assert_eq!(reason(&stranger), "NOT_FOUND", "another's");
    let told = withdraw(&bench, PEER, &request).await.unwrap();
    assert_eq!((told.status(), told.error.as_str()), (SignStatus::Denied, "WITHDRAWN"), "{told:?}");
    assert_eq!(withdraw(&bench, PEER, &request).await.unwrap(), told, "as often as anybody asks");
    assert_eq!(reason(&sign(&bench, &other).await.unwrap_err()), "WATERMARK_CONFLICT", "its nonce is not free yet");
    release(&bench, &request).await.unwrap();
    becomes(&bench, &other, SignStatus::Pending, "").await;
    bench.device().present(1).unwrap();
    is_signed(&bench, &other).await;
    let stands = SignOutcome { updated_at: sign(&bench, &request).await.unwrap().updated_at, ..told };
    assert_eq!(
        sign(&bench, &request).await.unwrap(),
        stands,
        "for ever: the release of its nonce is later, and no more"
    );
    assert_eq!(sign(&bench.replica().await, &request).await.unwrap(), stands, "whoever is asked");
    let late = withdraw(&bench, PEER, &other).await.unwrap();
    assert_eq!(late.status(), SignStatus::Approved, "too late: it is signed");
    assert_eq!(reason(&release(&bench, &other).await.unwrap_err()), "WATERMARK_CONFLICT");
}

/// Withdrawn while the partition signs: one of the two counts, and there is no signature beside a withdrawal.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_signed_or_withdrawn_and_never_both() {
    let (bench, key) = luna("").await;
    for nonce in 0..40 {
        let request = order(&key.address, call(nonce));
        let (signed, withdrawn) = tokio::join!(sign(&bench, &request), async {
            until(async || withdraw(&bench, PEER, &request).await, Result::is_ok).await.unwrap()
        });
        let stands = sign(&bench, &request).await.unwrap();
        assert_eq!(withdrawn, stands, "what was told stands");
        let signed = signed.unwrap();
        assert!(signed.status() == SignStatus::Pending || signed == stands, "{signed:?}");
        let is_withdrawn = stands.status() == SignStatus::Denied;
        assert_eq!(is_withdrawn, stands.signed_transaction.is_empty(), "{stands:?}");
        assert_eq!(is_withdrawn, release(&bench, &request).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_ends_with_the_window_for_people() {
    let (bench, key) = luna("quorum_retry_s = 60").await;
    bench.device().demand_quorum(1, 1).unwrap();
    let (held, away) = (order(&key.address, call(0)), order(&key.address, call(1)));
    becomes(&bench, &held, SignStatus::Pending, "").await;
    age(&bench).await;
    let expired = becomes(&bench, &held, SignStatus::Expired, "POLL_TIMEOUT").await;
    assert!(expired.detail.contains("people"), "{expired:?}");
    bench.device().present(1).unwrap();
    assert_eq!(sign(&bench, &held).await.unwrap(), expired, "for ever");

    // The window is for people: a device that is away is waited for until the signer's own deadline.
    bench.device().lose().unwrap();
    becomes(&bench, &away, SignStatus::Pending, "PROVIDER_UNAVAILABLE").await;
    age(&bench).await;
    becomes(&bench, &away, SignStatus::Pending, "PROVIDER_UNAVAILABLE").await;
    bench.device().bring_back().unwrap();
    is_signed(&bench, &away).await;
}

/// The window is for people, and begins when they are asked: what waited for a device that was away has all of it left.
#[tokio::test(flavor = "multi_thread")]
async fn the_window_for_people_begins_with_the_hold() {
    let (bench, key) = luna("quorum_retry_s = 60").await;
    let request = order(&key.address, call(0));
    bench.device().lose().unwrap();
    becomes(&bench, &request, SignStatus::Pending, "PROVIDER_UNAVAILABLE").await;
    age(&bench).await;
    bench.device().bring_back().unwrap();
    bench.device().demand_quorum(1, 1).unwrap();
    becomes(&bench, &request, SignStatus::Pending, "").await;
    for _ in 0..3 {
        let held = sign(&bench, &request).await.unwrap();
        assert_eq!((held.status(), held.error.as_str()), (SignStatus::Pending, ""), "{held:?}");
    }
    // A hold that ends and one that begins later are two.
    bench.device().lose().unwrap();
    becomes(&bench, &request, SignStatus::Pending, "PROVIDER_UNAVAILABLE").await;
    age(&bench).await;
    bench.device().bring_back().unwrap();
    becomes(&bench, &request, SignStatus::Pending, "").await;
    bench.device().present(1).unwrap();
    is_signed(&bench, &request).await;
}

/// A login that asks people blocks its thread for minutes. Callers are told to wait, the login goes on, and it is one login.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_does_not_return_holds_nobody_up() {
    let setting = Setting {
        allow_mixed: true,
        partition: "login_deadline_ms = 600000".to_owned(),
        ..Setting::of(ProviderKind::Pkcs11)
    };
    let bench = Bench::over(setting.clone(), Arc::new(TestPostgres::start()), Holders::luna()).await;
    let key = create(&bench, "desk").await;
    let local = CreateKeyRequest { wallet: "local".to_owned(), provider: "local".to_owned(), ..Default::default() };
    let local = bench.keys.create_key(from_caller(local, "bank", "local")).await.unwrap().into_inner().key.unwrap();
    let replica = bench.replica_of(setting).await;
    let before = device(&bench).login_calls;
    change(&bench, |device| device.hang = Hang::Login);
    let request = order(&key.address, call(0));
    let waiting = tokio::spawn({
        let (edge, request) = (replica.edge.clone(), request.clone());
        async move { support::sign_at(&edge, &request).await }
    });
    until(async || device(&bench).hanging, |hanging| *hanging == 1).await;
    for nonce in 0..20 {
        approved_transaction(&sign(&replica, &order(&local.address, call(nonce))).await.unwrap());
    }
    let told = waiting.await.unwrap().unwrap();
    assert_eq!((told.status(), told.error.as_str()), (SignStatus::Pending, "PROVIDER_UNAVAILABLE"), "{told:?}");
    assert_eq!(device(&bench).hanging, 1, "the login still waits");
    change(&bench, |device| device.hang = Hang::Nothing);
    is_signed(&replica, &request).await;
    assert_eq!(device(&bench).login_calls, before + 1);
}

// === PINs ===

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_is_tried_once_by_three_replicas_that_start_again_and_again() {
    let (bench, key) = luna("").await;
    let token = bench.token.clone().unwrap();
    std::fs::write(token.pin_file(), "wrong\n").unwrap();
    let before = device(&bench).login_calls;
    for _ in 0..6 {
        let replicas = [fresh(&bench), fresh(&bench), fresh(&bench)];
        let ready = futures::future::join_all(replicas.iter().map(|replica| replica.status())).await;
        assert!(ready.iter().all(|status| !status.ready), "{ready:?}");
    }
    let after = device(&bench);
    assert_eq!((after.login_calls - before, after.bad_pins), (1, 1));
    let replica = bench.replica().await;
    let request = order(&key.address, call(0));
    becomes(&replica, &request, SignStatus::Blocked, "PARTITION_PIN_REFUSED").await;
    assert_eq!(create_refused(&replica, "new").await, "PARTITION_PIN_REFUSED");
    std::fs::write(token.pin_file(), PIN).unwrap();
    is_signed(&replica, &request).await;
    assert_eq!(device(&bench).bad_pins, 0);
}

/// The process dies after the partition compared the PIN and before it learns the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_in_its_login_does_not_try_a_wrong_pin_again() {
    let (bench, _) = luna("").await;
    let pin_file = bench.token.as_ref().unwrap().pin_file();
    let tries = async |pin: &str| {
        std::fs::write(&pin_file, pin).unwrap();
        let before = device(&bench).logins;
        for _ in 0..8 {
            assert!(!fresh(&bench).status().await.ready);
        }
        device(&bench).logins - before
    };
    change(&bench, |device| device.dies_in_login = true);
    assert_eq!(tries("wrong").await, 1, "the partition tells that it counted a wrong PIN");
    // One that keeps it to itself: three of ten.
    change(&bench, |device| (device.tells_of_bad_pins, device.bad_pins) = (false, 0));
    assert_eq!(tries("also wrong").await, 3);
    // The right PIN is not taken for a wrong one because the process died once.
    change(&bench, |device| (device.tells_of_bad_pins, device.bad_pins) = (true, 0));
    std::fs::write(&pin_file, PIN).unwrap();
    assert!(!fresh(&bench).status().await.ready);
    change(&bench, |device| device.dies_in_login = false);
    assert!(fresh(&bench).status().await.ready);
}

/// While people are asked no PIN is compared: what dies then has tried none, however often.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_dies_while_people_are_asked_is_no_try_of_the_pin() {
    let (bench, _) = luna("login_deadline_ms = 600000").await;
    let noted = async || {
        let row = sqlx::query_as::<_, (bool, i32)>("select asking, undecided from signer.pin_latch");
        row.fetch_one(&bench.postgres.pool().await).await.unwrap()
    };
    for round in 0..5 {
        change(&bench, |device| (device.hang, device.dies_while_hanging) = (Hang::Login, false));
        let replica = fresh(&bench);
        let waiting = tokio::spawn(async move { replica.opened().await });
        until(async || noted().await, |noted| *noted == (true, 0)).await;
        change(&bench, |device| device.dies_while_hanging = true);
        waiting.await.unwrap().unwrap_err();
        assert_eq!(noted().await, (false, 0), "round {round}");
    }
    change(&bench, |device| (device.hang, device.dies_while_hanging) = (Hang::Nothing, false));
    assert!(fresh(&bench).status().await.ready);
    // A whole signer that dies meanwhile leaves its note, and that counts nobody's try either.
    let left = "update signer.pin_latch set state = 'trying', asking = true, undecided = 0, updated_at = now() - interval '1 hour'";
    for _ in 0..5 {
        sqlx::query(left).execute(&bench.postgres.pool().await).await.unwrap();
        assert!(fresh(&bench).status().await.ready);
    }
}

/// What `C_GetTokenInfo` tells of others: of the security officer to everybody, and to a crypto user also of the officer whose user PIN is meant.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_pins_of_others_bar_no_login() {
    let (bench, _) = luna("").await;
    change(&bench, |device| device.tells_of_the_security_officer = true);
    assert!(fresh(&bench).status().await.ready, "the security officer's PIN is none of ours");
    let user = bench
        .replica_of(Setting { partition: "crypto_user = true".to_owned(), ..Setting::of(ProviderKind::Pkcs11) })
        .await;
    change(&bench, |device| device.bad_pins = 9);
    assert!(!fresh(&bench).status().await.ready, "the officer's last try is left to its operators");
    assert!(fresh(&user).status().await.ready, "and the crypto user has tries of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_partition_is_named_and_nobody_logs_in() {
    let (bench, key) = luna("").await;
    let request = order(&key.address, call(0));
    let replica = bench.replica().await;
    // Locked, and one wrong PIN before it.
    for (bad_pins, login_calls) in [(10, 0), (9, 0)] {
        let before = device(&bench).login_calls;
        change(&bench, |device| device.bad_pins = bad_pins);
        for _ in 0..4 {
            assert!(!fresh(&bench).status().await.ready);
        }
        becomes(&replica, &request, SignStatus::Blocked, "PARTITION_LOCKED").await;
        assert_eq!(create_refused(&replica, "new").await, "PARTITION_LOCKED");
        assert_eq!(device(&bench).login_calls - before, login_calls);
    }
    // One that tells nothing beforehand says it to the login.
    change(&bench, |device| (device.bad_pins, device.tells_of_bad_pins) = (10, false));
    let said = until(async || fresh(&bench).status().await.detail, |detail| detail.contains("0x80000007")).await;
    assert!(said.contains("locked"), "{said}");
    change(&bench, |device| device.bad_pins = 0);
    is_signed(&replica, &request).await;
}

// === Labels and keys ===

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_no_partition_or_two_have_is_named_and_nobody_logs_in() {
    let (bench, key) = luna("").await;
    let request = order(&key.address, call(0));
    let before = device(&bench).login_calls;
    let replica = bench.replica().await;
    change(&bench, |device| device.relabelled = Some((LABEL.to_owned(), "elsewhere".to_owned())));
    becomes(&replica, &request, SignStatus::Blocked, "PARTITION_NOT_FOUND").await;
    assert_eq!(create_refused(&replica, "new").await, "PARTITION_NOT_FOUND");
    bench.token.as_ref().unwrap().initialise("second");
    change(&bench, |device| device.relabelled = Some(("second".to_owned(), LABEL.to_owned())));
    becomes(&replica, &request, SignStatus::Blocked, "PARTITION_AMBIGUOUS").await;
    assert_eq!(create_refused(&replica, "new").await, "PARTITION_AMBIGUOUS");
    assert_eq!(device(&bench).login_calls, before);
    change(&bench, |device| device.relabelled = None);
    is_signed(&replica, &request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_with_an_authorisation_of_their_own_are_opened_once_and_wrong_data_is_tried_once() {
    const OPEN: &str = "open sesame";
    let holders = Holders::luna();
    let token = holders.token.clone().unwrap();
    let reference = token.secret("key-authorization", OPEN);
    let partition = format!("key_authorization = \"{reference}\"");
    let setting = Setting { partition, ..Setting::of(ProviderKind::Pkcs11) };
    let bench = Bench::over(setting, Arc::new(TestPostgres::start()), holders).await;
    let key = create(&bench, "desk").await;
    change(&bench, |device| device.key_authorization = OPEN.to_owned());
    let requests: Vec<_> = (0..20).map(|nonce| order(&key.address, call(nonce))).collect();
    for answer in futures::future::join_all(requests.iter().map(|request| sign(&bench, request))).await {
        approved_transaction(&answer.unwrap());
    }
    // Another member of the group takes over: the key is authorised there, and nobody is asked.
    change(&bench, |device| device.failovers += 1);
    is_signed(&bench, &order(&key.address, call(30))).await;
    assert_eq!(device(&bench).bad_authorizations, 0);

    token.secret("key-authorization", "wrong");
    let request = order(&key.address, call(20));
    for _ in 0..3 {
        let replica = bench.replica().await;
        becomes(&replica, &request, SignStatus::Blocked, "KEY_AUTHORIZATION_REFUSED").await;
        becomes(&replica, &request, SignStatus::Blocked, "KEY_AUTHORIZATION_REFUSED").await;
    }
    assert_eq!(device(&bench).bad_authorizations, 1);
    token.secret("key-authorization", OPEN);
    is_signed(&bench.replica().await, &request).await;

    // A signer that has none to give waits for people.
    let setting = Setting::of(ProviderKind::Pkcs11);
    let without = bench.replica_of(setting).await;
    becomes(&without, &order(&key.address, call(21)), SignStatus::Pending, "").await;
}

/// Whoever asked may be gone before the key has answered: what was begun is written down as it ends all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_authorisation_whose_caller_gives_up_is_carried_through() {
    const OPEN: &str = "open sesame";
    let holders = Holders::luna();
    let reference = holders.token.clone().unwrap().secret("key-authorization", OPEN);
    let partition = format!("key_authorization = \"{reference}\"\ncall_deadline_ms = 600000");
    let setting = Setting { partition, ..Setting::of(ProviderKind::Pkcs11) };
    let bench = Bench::over(setting.clone(), Arc::new(TestPostgres::start()), holders).await;
    let key = create(&bench, "desk").await;
    change(&bench, |device| device.key_authorization = OPEN.to_owned());
    let undecided = async || {
        let row = sqlx::query_as::<_, (String, i32)>(
            "select state, undecided from signer.pin_latch where partition like '%/%'",
        );
        row.fetch_optional(&bench.postgres.pool().await).await.unwrap()
    };
    for nonce in 0..5 {
        change(&bench, |device| device.hang = Hang::Authorize);
        let replica = bench.replica_of(setting.clone()).await;
        let waiting = tokio::spawn({
            let (edge, request) = (replica.edge.clone(), order(&key.address, call(nonce)));
            async move { support::sign_at(&edge, &request).await }
        });
        until(async || device(&bench).hanging, |hanging| *hanging == 1).await;
        waiting.abort();
        waiting.await.unwrap_err();
        change(&bench, |device| device.hang = Hang::Nothing);
        until(undecided, |row| *row == Some(("clear".to_owned(), 0))).await;
    }
    is_signed(&bench, &order(&key.address, call(9))).await;
}

// === The device ===

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_group_that_is_away_is_told_and_the_others_sign() {
    let (bench, key) = luna("ha_members = 3").await;
    let member = |serial: &str, up| Member { serial: serial.to_owned(), up };
    let group = |up: [bool; 3]| vec![member("1001", up[0]), member("1002", up[1]), member("1003", up[2])];
    let hsm = bench.hsm.clone().unwrap();
    change(&bench, |device| device.members = group([true, true, true]));
    assert!(hsm.status().await.detail.contains("3 of 3 members"));
    change(&bench, |device| device.members = group([true, false, true]));
    let status = hsm.status().await;
    assert!(status.ready && status.detail.contains("2 of 3 members"), "{status:?}");
    assert!(status.detail.contains("1002 (0x8000001f)"), "{status:?}");
    approved_transaction(&sign(&bench, &order(&key.address, call(0))).await.unwrap());

    // All of them away: sessions and login are gone, and the library is initialised anew.
    let pid = hsm.worker_pid();
    change(&bench, |device| device.members = group([false, false, false]));
    let request = order(&key.address, call(1));
    becomes(&bench, &request, SignStatus::Pending, "PROVIDER_UNAVAILABLE").await;
    change(&bench, |device| (device.members, device.restarts) = (group([true, true, true]), device.restarts + 1));
    is_signed(&bench, &request).await;
    assert_ne!(hsm.worker_pid(), pid);
}

/// Named regression: after an HSM restart every call failed until the service was restarted.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_lost_is_used_again_when_it_is_back() {
    let (bench, key) = luna("").await;
    for round in 0..3 {
        bench.device().lose().unwrap();
        let request = order(&key.address, call(2 * round));
        becomes(&bench, &request, SignStatus::Pending, "PROVIDER_UNAVAILABLE").await;
        assert_eq!(create_refused(&bench, "new").await, "PROVIDER_UNAVAILABLE", "not taken for a wrong label");
        bench.device().bring_back().unwrap();
        is_signed(&bench, &request).await;
        // Off and on between two calls: what was opened before is void.
        bench.device().bring_back().unwrap();
        approved_transaction(&sign(&bench, &order(&key.address, call(2 * round + 1))).await.unwrap());
    }
    assert_eq!(device(&bench).bad_pins, 0);
}

/// What the device did after we stopped waiting is read by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_does_not_return_is_of_unknown_outcome_and_nothing_of_it_leaves() {
    let (bench, key) = luna("").await;
    let hsm = bench.hsm.clone().unwrap();
    let pid = hsm.worker_pid();
    change(&bench, |device| device.hang = Hang::Sign);
    let request = order(&key.address, call(0));
    let told = sign(&bench, &request).await.unwrap();
    assert_eq!((told.status(), told.error.as_str()), (SignStatus::Pending, "PROVIDER_UNAVAILABLE"), "{told:?}");
    assert!(told.detail.contains("outcome is unknown"), "{told:?}");
    change(&bench, |device| device.hang = Hang::Nothing);
    is_signed(&bench, &request).await;
    assert_ne!(hsm.worker_pid(), pid, "the process that hung is gone");
    let signed = sign(&bench, &request).await.unwrap();
    assert_eq!(sign(&bench.replica().await, &request).await.unwrap(), signed, "one signature, whoever asks");
}

/// While the partition answers nothing at all, another provider signs whatever it is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_partition_holds_up_no_other_provider() {
    let setting = Setting {
        allow_mixed: true,
        partition: "call_deadline_ms = 600000".to_owned(),
        ..Setting::of(ProviderKind::Pkcs11)
    };
    let bench = Bench::over(setting, Arc::new(TestPostgres::start()), Holders::luna()).await;
    let create_at = async |wallet: &str, provider: &str| {
        let request =
            CreateKeyRequest { wallet: wallet.to_owned(), provider: provider.to_owned(), ..Default::default() };
        bench.keys.create_key(from_caller(request, "bank", wallet)).await.unwrap().into_inner().key.unwrap()
    };
    let (held, quick) = (create_at("held", "pkcs11").await, create_at("quick", "local").await);
    change(&bench, |device| device.hang = Hang::Sign);
    let hanging: Vec<_> = (0..64)
        .map(|nonce| {
            let (edge, request) = (bench.edge.clone(), order(&held.address, call(nonce)));
            tokio::spawn(async move { support::sign_at(&edge, &request).await })
        })
        .collect();
    // As many as it has sessions.
    until(async || device(&bench).hanging, |hanging| *hanging == 4).await;
    let orders: Vec<_> = (0..200).map(|nonce| order(&quick.address, call(nonce))).collect();
    for answer in futures::future::join_all(orders.iter().map(|order| sign(&bench, order))).await {
        approved_transaction(&answer.unwrap());
    }
    assert!(hanging.iter().all(|task| !task.is_finished()), "the partition answered nobody meanwhile");
    change(&bench, |device| device.hang = Hang::Nothing);
    for task in hanging {
        approved_transaction(&task.await.unwrap().unwrap());
    }
}

// === What comes out ===

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_not_the_keys_never_leaves() {
    let (bench, key) = luna("").await;
    for (nonce, twist) in [(0, Twist::OtherKey), (1, Twist::Short), (2, Twist::ZeroR)] {
        change(&bench, |device| device.twist = twist);
        let request = order(&key.address, call(nonce));
        let refused = becomes(&bench, &request, SignStatus::Pending, "PROVIDER_FAILED").await;
        assert_eq!((refused.signature.as_str(), refused.signed_transaction.as_str()), ("", ""), "{twist:?}");
        change(&bench, |device| device.twist = Twist::Honest);
        is_signed(&bench, &request).await;
    }
    change(&bench, |device| device.twist = Twist::HighS);
    for nonce in 3..8 {
        let tx = approved_transaction(&sign(&bench, &order(&key.address, call(nonce))).await.unwrap());
        assert!(tx.signature().normalize_s().is_none(), "low s");
        assert_eq!(sender(&tx), key.address.parse::<Address>().unwrap());
    }
}

/// The RPC takes typed payloads only, and the core makes the digest: there is no way to bring one of another length. What is 31 bytes where 32 are due is
/// refused before anything is signed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_31_bytes_long_is_refused() {
    let (bench, key) = luna("").await;
    let topic = |bytes: usize| {
        let claim = ClaimAttestation {
            identity: TARGET.to_owned(),
            topic: format!("0x{}", "01".repeat(bytes)),
            data: "0x01".to_owned(),
        };
        SignRequest { payload: Some(Payload::Claim(claim)), ..order(&key.address, call(0)) }
    };
    let before = device(&bench).signatures;
    for bytes in [31, 33] {
        assert_eq!(reason(&sign(&bench, &topic(bytes)).await.unwrap_err()), "INVALID_FIELD");
    }
    assert_eq!(device(&bench).signatures, before);
    assert_eq!(sign(&bench, &topic(32)).await.unwrap().status(), SignStatus::Approved);
}

// === Configuration ===

#[tokio::test(flavor = "multi_thread")]
async fn what_return_codes_mean_is_configuration() {
    let (bench, key) = luna("codes = { 0x80007777 = \"quorum\", 0x8000002e = \"locked\" }").await;
    let replica = bench.replica().await;
    let request = order(&key.address, call(0));
    change(&bench, |device| device.login_code = 0x8000_7777);
    for _ in 0..5 {
        assert!(fresh(&bench).status().await.detail.contains("waits for a person"));
    }
    becomes(&replica, &request, SignStatus::Pending, "").await;
    change(&bench, |device| device.login_code = 0x8000_002E);
    becomes(&replica, &request, SignStatus::Blocked, "PARTITION_LOCKED").await;
    change(&bench, |device| device.login_code = 0);

    let problems = |codes: &str| {
        let section = bench.token.as_ref().unwrap().section_with(&format!("codes = {{ {codes} }}"));
        let table: toml::Table = section.parse().unwrap();
        let config: Pkcs11Config = table["pkcs11"].clone().try_into().unwrap();
        let mut problems = Problems::default();
        config.validate(&mut problems);
        problems.found().len()
    };
    assert_eq!(problems("0x80007777 = \"quorum\""), 0);
    assert_eq!(problems("0x000000a0 = \"transport\""), 1, "a wrong PIN would be tried again and again");
    assert_eq!(problems("0xA0 = \"quorum\""), 1);
    assert_eq!(problems("0xA0 = \"bad_pin\""), 0);
    assert_eq!(problems("0x00a00000 = \"quorum\""), 1, "the vendor's own number of the same");
    assert_eq!(problems("0x80000007 = \"quorum\", 0xA4 = \"transport\""), 2, "locked by wrong PINs");
    assert_eq!(problems("0x80000007 = \"locked\""), 0);
    assert_eq!(problems("PIN_INCORRECT = \"bad_pin\""), 1);
}
