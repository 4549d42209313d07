//! How keys come into a Luna partition: by its crypto officer in a ceremony, for a signer that makes none; and the files by which a client reaches it.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use alloy::primitives::Address;
use dalp_proto::signer::{CreateKeyRequest, key_service_server::KeyService as _};
use dalp_quorum_module::device::Twist;
use dalp_service::config::SecretRef;
use dalp_testing::TestPostgres;
use support::{
    Bench, Holders, PIN, Setting, call, create, from_caller,
    luna::{change, create_refused, device, is_signed, luna},
    order, until,
};
use svc_signer::{
    keys::CeremonyError,
    providers::{KeyName, ProviderKind},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_crypto_user_signs_with_the_keys_of_a_ceremony_and_makes_none() {
    let bench = Bench::luna("crypto_user = true").await;
    assert_eq!(create_refused(&bench, "desk").await, "KEY_NOT_IN_PARTITION");
    assert_eq!(device(&bench).generated, 0, "it was not even tried");
    let name = KeyName { tenant: "bank".to_owned(), wallet: "desk".to_owned() };
    let officer: SecretRef = bench.token.as_ref().unwrap().secret("officer-pin", PIN).parse().unwrap();
    let made = svc_signer::keys::ceremony(&bench.config, &name, officer.clone(), |_| {}).await.unwrap();
    assert_eq!(made.label, "dalp:bank:desk");
    assert_eq!(svc_signer::keys::ceremony(&bench.config, &name, officer.clone(), |_| {}).await.unwrap(), made, "again");
    assert_eq!(device(&bench).generated, 1);
    let key = until(
        async || {
            let request = CreateKeyRequest { wallet: "desk".to_owned(), ..Default::default() };
            bench.keys.create_key(from_caller(request, "bank", "desk")).await
        },
        Result::is_ok,
    );
    let key = key.await.unwrap().into_inner().key.unwrap();
    assert_eq!(key.address.parse::<Address>().unwrap(), made.address);
    is_signed(&bench, &order(&key.address, call(0))).await;
    let known = svc_signer::keys::ceremony(&bench.config, &name, officer.clone(), |_| {}).await.unwrap_err();
    assert!(matches!(known, CeremonyError::Taken(_)), "{known:?}");
    assert_eq!(device(&bench).generated, 1, "a known wallet gets no second key, wherever its first one is");
    for wallet in ["", "No Name", "a:b"] {
        let name = KeyName { wallet: wallet.to_owned(), ..name.clone() };
        svc_signer::keys::ceremony(&bench.config, &name, officer.clone(), |_| {}).await.unwrap_err();
    }
}

/// The public key beside a private key is an object of its own: whose it is, only a signature tells.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_its_key_does_not_prove_is_not_used() {
    let bench = Bench::luna("").await;
    change(&bench, |device| device.twist = Twist::OtherKey);
    assert_eq!(create_refused(&bench, "desk").await, "PROVIDER_FAILED");
    let name = KeyName { tenant: "bank".to_owned(), wallet: "desk".to_owned() };
    let officer: SecretRef = bench.token.as_ref().unwrap().secret("officer-pin", PIN).parse().unwrap();
    let refused = svc_signer::keys::ceremony(&bench.config, &name, officer.clone(), |_| {}).await.unwrap_err();
    assert!(matches!(refused, CeremonyError::Provider(_)), "{refused:?}");
    let keys: i64 =
        sqlx::query_scalar("select count(*) from signer.keys").fetch_one(&bench.postgres.pool().await).await.unwrap();
    assert_eq!(keys, 0);
    change(&bench, |device| device.twist = Twist::Honest);
    let made = svc_signer::keys::ceremony(&bench.config, &name, officer, |_| {}).await.unwrap();
    assert_eq!(create(&bench, "desk").await.address.parse::<Address>().unwrap(), made.address, "the same key");
    assert_eq!(device(&bench).generated, 1);
}

/// A ceremony beside a login of somebody else waits for its turn, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_waits_while_somebody_else_logs_in() {
    let (bench, _) = luna("login_deadline_ms = 600000").await;
    let other = |state: &'static str| {
        sqlx::query(
            "insert into signer.pin_latch (partition, pin_digest, state) values ($1, decode(repeat('ab', 32), 'hex'), $2)
             on conflict (partition, pin_digest) do update set state = excluded.state",
        )
        .bind(bench.config.pkcs11.as_ref().unwrap().partition())
        .bind(state)
    };
    other("trying").execute(&bench.postgres.pool().await).await.unwrap();
    let officer: SecretRef = bench.token.as_ref().unwrap().secret("officer-pin", PIN).parse().unwrap();
    let (told, mut said) = tokio::sync::mpsc::unbounded_channel();
    let ceremony = tokio::spawn({
        let config = bench.config.clone();
        async move {
            let name = KeyName { tenant: "bank".to_owned(), wallet: "treasury".to_owned() };
            let progress = |said: &str| told.send(said.to_owned()).unwrap();
            svc_signer::keys::ceremony(&config, &name, officer, progress).await
        }
    });
    while !said.recv().await.unwrap().contains("another process") {}
    assert!(!ceremony.is_finished());
    other("clear").execute(&bench.postgres.pool().await).await.unwrap();
    assert_eq!(ceremony.await.unwrap().unwrap().label, "dalp:bank:treasury");
    assert!(said.recv().await.unwrap().contains("logged in"));
}

/// A partition that answers a login at once that it waits for people: the ceremony waits with it, and no try of the officer's PIN is spent.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_waits_for_people() {
    let bench = Bench::luna("crypto_user = true").await;
    bench.device().demand_quorum(2, 3).unwrap();
    let officer: SecretRef = bench.token.as_ref().unwrap().secret("officer-pin", PIN).parse().unwrap();
    let (told, mut said) = tokio::sync::mpsc::unbounded_channel();
    let ceremony = tokio::spawn({
        let config = bench.config.clone();
        async move {
            let name = KeyName { tenant: "bank".to_owned(), wallet: "desk".to_owned() };
            let progress = |said: &str| told.send(said.to_owned()).unwrap();
            svc_signer::keys::ceremony(&config, &name, officer, progress).await
        }
    });
    while !said.recv().await.unwrap().contains("waiting for its people") {}
    assert!(!bench.device().present(3).unwrap());
    let asked = device(&bench).login_calls;
    until(async || device(&bench).login_calls, |calls| *calls > asked).await;
    assert!(!ceremony.is_finished(), "one is not enough");
    assert_eq!(device(&bench).logins, 0, "no PIN was compared");
    assert!(bench.device().present(1).unwrap());
    let made = ceremony.await.unwrap().unwrap();
    assert_eq!(create(&bench, "desk").await.address.parse::<Address>().unwrap(), made.address);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_files_are_written_before_the_module_is_loaded() {
    let holders = Holders::luna();
    let token = holders.token.clone().unwrap();
    let run = token.dir.path().join("run");
    let template =
        "ClientCertFile = {client_certificate};\nClientPrivKeyFile = {client_key};\nServerCAFile = {server_ca};\n";
    token.secret("Chrystoki.template", template);
    let ntls = format!(
        "ntls = {{ directory = \"{}\", template = \"{}\", client_certificate = \"{}\", client_key = \"{}\", server_ca = \"{}\" }}",
        run.display(),
        token.dir.path().join("Chrystoki.template").display(),
        token.secret("client.pem", "certificate"),
        token.secret("client.key", "planted key"),
        token.secret("ca.pem", "authority"),
    );
    token.device().update(|device| device.wants_client_files = true).unwrap();
    let setting = Setting { partition: ntls, ..Setting::of(ProviderKind::Pkcs11) };
    let bench = Bench::over(setting, Arc::new(TestPostgres::start()), holders).await;
    assert!(!run.exists(), "not before it is used");
    let without = bench.replica_of(Setting::of(ProviderKind::Pkcs11)).await;
    assert_eq!(create_refused(&without, "desk").await, "PARTITION_NOT_FOUND", "no file, no link, no slot");
    create(&bench, "desk").await;
    let conf = std::fs::read_to_string(run.join("Chrystoki.conf")).unwrap();
    assert!(conf.contains(&run.join("client.key").display().to_string()), "{conf}");
    let key = std::fs::metadata(run.join("client.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    // A ceremony beside the running signer has files of its own, and takes only those away.
    let name = KeyName { tenant: "bank".to_owned(), wallet: "treasury".to_owned() };
    let officer: SecretRef = token.secret("officer-pin", PIN).parse().unwrap();
    svc_signer::keys::ceremony(&bench.config, &name, officer, |_| {}).await.unwrap();
    let mut left: Vec<_> = std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["Chrystoki.conf", "client.key", "client.pem", "server-ca.pem"]);
    drop(bench);
    until(async || run.join("client.key").exists(), |there| !there).await;
}
