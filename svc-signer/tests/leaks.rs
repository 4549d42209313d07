//! What must not leave a running signer: its memory as a core file, and its secrets in whatever it writes.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

#[allow(dead_code)]
#[path = "support/process.rs"]
mod process;
mod support;

use std::os::unix::process::ExitStatusExt as _;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use dalp_proto::signer::SignStatus;
use dalp_simulators::{
    aws::{Aws, SIGN},
    fault::Fault,
};
use dalp_testing::{Signal, signal};
use process::{Parts, Process, child_of, disguises};
use support::{PIN, Setting, TestToken, approved_transaction, call, custodian, order, until};
use svc_signer::providers::ProviderKind;

/// Keys and PINs are in the memory of both. Whoever started them would have core files of any size; they crash, and leave none.
#[tokio::test(flavor = "multi_thread")]
async fn neither_the_signer_nor_its_partition_process_leaves_a_core_dump() {
    let mut process = Process::start().await;
    let key = process.key("desk").await;
    let signer = process.child.as_ref().unwrap().id();
    let worker = child_of(signer);
    for pid in [signer, worker] {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
    }
    assert!(signal(worker, Signal::ABORT));
    let request = order(&key, call(0));
    let replaced = async || process.sign(&request).await.unwrap();
    approved_transaction(&until(replaced, |outcome| outcome.status() == SignStatus::Approved).await);
    assert!(signal(signer, Signal::ABORT));
    let mut child = process.child.take().unwrap();
    let ended = until(async || child.try_wait().unwrap(), Option::is_some).await.unwrap();
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(Signal::ABORT.as_raw()), false), "{ended:?}");
    let left = std::fs::read_dir(process.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let cores: Vec<_> = left.filter(|name| name.to_string_lossy().contains("core")).collect();
    assert!(cores.is_empty(), "{cores:?}");
}

/// A running signer with planted secrets, and everything that leaves it: log, metrics, answers, its database, its command lines.
#[tokio::test(flavor = "multi_thread")]
async fn no_planted_secret_leaves_a_running_signer() {
    const WRONG_PIN: &str = "planted-wrong-pin-7261";
    const KEY_SECRET: &str = "planted-key-authorization-5521";
    const CLIENT_KEY: &str = "planted-client-key-9902";
    let kek = "5a17".repeat(16);
    let token = TestToken::luna();
    token.device().update(|device| device.key_authorization = KEY_SECRET.to_owned()).unwrap();
    token.secret("template", "{client_certificate} {client_key} {server_ca}");
    let partition = format!(
        "key_authorization = \"{}\"\nntls = {{ directory = \"{}\", template = \"{}\", client_certificate = \"{}\", client_key = \"{}\", server_ca = \"{}\" }}",
        token.secret("key-authorization", KEY_SECRET),
        token.dir.path().join("run").display(),
        token.dir.path().join("template").display(),
        token.secret("certificate", "certificate"),
        token.secret("client-key", CLIENT_KEY),
        token.secret("authority", "authority"),
    );
    let pace = Setting::of(ProviderKind::Dfns).pace();
    let custodians = [custodian(ProviderKind::Dfns, None).await, custodian(ProviderKind::Fireblocks, None).await];
    let sections: String =
        custodians.iter().map(|custodian| custodian.section(token.dir.path(), &pace).unwrap()).collect();
    let aws = Aws::start().await.unwrap();
    let sections = sections + &aws.section(token.dir.path(), pace.call_timeout_ms, "").unwrap();
    let parts = Parts {
        partition,
        telemetry: "log_filter = \"trace\"".to_owned(),
        signer: "allow_mixed = true".to_owned(),
        sections: format!("[local]\nkey_encryption_key = \"{}\"\n{sections}", token.secret("kek", &kek)),
        ..Parts::default()
    };
    let process = Process::start_with(token, parts).await;
    let key = process.key("desk").await;
    let of_aws = process.key_at("kms", "kms").await;
    approved_transaction(&process.sign(&order(&of_aws, call(0))).await.unwrap());
    let quoted = serde_json::json!({"__type": "ValidationException", "message": aws.signer().secret_access_key});
    aws.faults().inject(SIGN, Fault::Answer(400, quoted), 1);
    let of_aws = process.sign(&order(&of_aws, call(1))).await.unwrap();
    assert_eq!(of_aws.error, "PROVIDER_FAILED", "{of_aws:?}");
    for (provider, custodian) in [("local", None), ("dfns", custodians.first()), ("fireblocks", custodians.last())] {
        let key = process.key_at(provider, provider).await;
        approved_transaction(&process.sign(&order(&key, call(0))).await.unwrap());
        if let Some(custodian) = custodian {
            custodian.faults().inject("", Fault::Answer(500, serde_json::json!({"message": "broken"})), 1);
            process.sign(&order(&key, call(1))).await.unwrap();
        }
    }
    let signer = process.child.as_ref().unwrap().id();
    let mut seen = Vec::new();
    for pid in [signer, child_of(signer)] {
        seen.push(String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap()).into_owned());
    }
    // Signed, then everything that makes the partition complain: it is away, asks people, refuses the PIN.
    approved_transaction(&process.sign(&order(&key, call(0))).await.unwrap());
    let device = process.token.device();
    device.lose().unwrap();
    seen.push(format!("{:?}", process.sign(&order(&key, call(1))).await));
    device.bring_back().unwrap();
    device.demand_quorum(1, 1).unwrap();
    seen.push(format!("{:?}", process.sign(&order(&key, call(2))).await));
    device.present(1).unwrap();
    process.token.secret("key-authorization", WRONG_PIN);
    device.bring_back().unwrap();
    seen.push(format!("{:?}", process.sign(&order(&key, call(3))).await));
    std::fs::write(process.token.pin_file(), WRONG_PIN).unwrap();
    device.bring_back().unwrap();
    let last = order(&key, call(4));
    let refused = until(
        async || process.sign(&last).await,
        |answer| answer.as_ref().is_ok_and(|outcome| outcome.error == "PARTITION_PIN_REFUSED"),
    );
    seen.push(format!("{:?}", refused.await));
    seen.push(process.metrics().await);
    assert!(seen.last().unwrap().contains("dalp_signer_partition_starts_total"), "metrics are read");
    let pool = process.postgres.pool().await;
    let tables: Vec<String> = sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'signer'")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert!(tables.len() > 5, "{tables:?}");
    for table in tables {
        let sql = format!("select coalesce(string_agg(t::text, ' '), '') from signer.{table} t");
        seen.push(sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap());
    }
    seen.push(process.log());
    assert!(seen.last().unwrap().contains("partition opened"), "the log is read");

    let url = process.postgres.url();
    let mut secrets = [PIN, WRONG_PIN, KEY_SECRET, CLIENT_KEY, &kek, &"k".repeat(40), &url].map(str::to_owned).to_vec();
    secrets.push(aws.signer().secret_access_key.clone());
    secrets.extend(custodians.iter().flat_map(dalp_simulators::custodian::Custodian::planted_secrets));
    for (place, text) in seen.iter().enumerate() {
        for disguise in secrets.iter().flat_map(|secret| disguises(secret)) {
            assert!(!text.contains(&disguise), "{disguise} in what was seen at {place}: {text}");
        }
    }
    // The search finds what is there.
    for before in ["", "a", "ab"] {
        let told = STANDARD_NO_PAD.encode(format!("{before}{CLIENT_KEY}, and more"));
        assert!(disguises(CLIENT_KEY).iter().any(|disguise| told.contains(disguise)), "{told}");
    }
}
