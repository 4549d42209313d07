//! The providers' own clients drive the simulators: what they send passes every check, and what they read is what they expect.
#![allow(clippy::unwrap_used, missing_docs)] // a test that cannot go on stops where it stands

use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256, Signature, U256};
use dalp_simulators::{
    dfns::{self, DfnsSimulator},
    fireblocks::{self, Action, FireblocksSimulator, Rule},
};
use serde_json::{Value, json};

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../custody-clients")
}

/// Runs a client to its end and reads what it prints.
async fn run(script: &str, arguments: &[&str]) -> Value {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/custody-py/bin/python");
    let program = if script.ends_with(".py") { python } else { PathBuf::from("node") };
    assert!(
        clients().join("node_modules").is_dir(),
        "the providers' clients are not installed: make tools (or npm ci in tests/custody-clients)"
    );
    let output = tokio::process::Command::new(&program)
        .current_dir(clients())
        .arg(script)
        .args(arguments)
        .output()
        .await
        .unwrap_or_else(|error| panic!("{}: {error}: make tools", program.display()));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{script}: {error}: {said}"))
}

fn recovered(r: &str, s: &str, odd: bool, digest: B256) -> Address {
    let number = |text: &str| U256::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    Signature::new(number(r), number(s), odd).recover_address_from_prehash(&digest).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fireblocks_own_client_is_content() {
    fireblocks_is_content("fireblocks.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fireblocks_own_python_client_is_content() {
    fireblocks_is_content("fireblocks_client.py").await;
}

async fn fireblocks_is_content(script: &str) {
    let rules = vec![Rule::all(Action::Allow)];
    let options = fireblocks::Options { raw_enabled: true, rules, ..Default::default() };
    let simulator = FireblocksSimulator::start(options).await.unwrap();
    let folder = std::env::temp_dir().join(format!("dalp-fireblocks-{}", uuid::Uuid::new_v4()));
    std::fs::write(&folder, simulator.secret_pem()).unwrap();
    let key_file = folder.display().to_string();
    let said = run(script, &[&simulator.base_url(), simulator.api_key(), &key_file]).await;
    std::fs::remove_file(&folder).unwrap();
    let text = |pointer: &str| said.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    assert_eq!(said["statuses"], json!(["SUBMITTED", "QUEUED", "PENDING_SIGNATURE", "COMPLETED"]));
    assert_eq!((&said["listed"], &said["sameId"]), (&json!(["their desk: 1"]), &json!(true)));
    assert_eq!(said["duplicate"]["code"], 1438, "{said}");
    assert_eq!(said["refused"]["code"], -6, "{said}");
    let signer = recovered(
        &text("/signature/r"),
        &text("/signature/s"),
        said["signature"]["v"] == 1,
        format!("0x{}", text("/content")).parse().unwrap(),
    );
    assert_eq!(signer, text("/address").parse::<Address>().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn dfns_own_client_is_content() {
    let simulator = DfnsSimulator::start(dfns::Options::default()).await.unwrap();
    let file = std::env::temp_dir().join(format!("dalp-dfns-{}", uuid::Uuid::new_v4()));
    std::fs::write(&file, simulator.credential_pem()).unwrap();
    let key_file = file.display().to_string();
    let arguments = [
        &simulator.base_url(),
        simulator.organisation(),
        simulator.token(),
        simulator.credential_id(),
        key_file.as_str(),
    ];
    let said = run("dfns.mjs", &arguments).await;
    std::fs::remove_file(&file).unwrap();
    let text = |pointer: &str| said.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    assert_eq!(said["statuses"], json!(["Executing", "Signed"]), "{said}");
    assert_eq!((&said["listed"], &said["sameId"]), (&json!(["their desk"]), &json!(true)));
    assert_eq!(said["conflict"]["status"], 409, "{said}");
    assert_eq!(said["refused"]["status"], 401, "{said}");
    let digest = B256::repeat_byte(0xab);
    let signer = recovered(&text("/signature/r"), &text("/signature/s"), said["signature"]["recid"] == 1, digest);
    assert_eq!(signer, text("/address").parse::<Address>().unwrap());
}
