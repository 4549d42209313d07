//! `make up` with each holder of keys: its people decide at the console that it prints, and what they decide takes effect.

use std::process::{Output, Stdio};

use alloy::primitives::U256;
use dalp_devstack::client::{Client, keyed, reason};
use dalp_devstack::scenario::ChainView;
use dalp_devstack::trial::{Keys, Trial};
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{GetOperationRequest, Operation, OperationState};
use dalp_proto::signer::key_service_client::KeyServiceClient;
use dalp_proto::signer::{CreateKeyRequest, ListKeysRequest};
use dalp_simulators::hooks::{Manner, Postman};
use dalp_tests::load::Load;
use dalp_tests::waiting::until;
use serde_json::{Value, json};
use tonic::Status;

/// Who tries the platform, with what was printed for him.
struct Trier {
    trial: Trial,
    printed: String,
    client: Client,
    chain: ChainView,
}

// === impl Trier ===

impl Trier {
    async fn with(keys: Keys) -> Self {
        let trial = Trial::start(false, keys).await.expect("the stack starts");
        let printed = trial.text().expect("what to try");
        let client = trial.stack().client().expect("a client");
        let chain = ChainView::new(trial.stack().chain_url()).expect("a chain");
        Self { trial, printed, client, chain }
    }

    /// Does what the printed line does.
    async fn posts(&self, action: &str) -> Value {
        let console = self.trial.console().expect("a console");
        let line = format!("curl -X POST {console}/{action}");
        assert!(self.printed.lines().any(|printed| printed == line), "{line} in {}", self.printed);
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.post(format!("{console}/{action}")).send().await.expect("the console answers");
        assert!(answer.status().is_success(), "{action}: {}", answer.status());
        answer.json().await.expect("JSON")
    }

    async fn bond(&self, keys: Keys) -> Load {
        Load::prepare(&self.client, &self.chain, 1, keys.provider()).await.expect("a bond")
    }

    async fn look(&self, operation: &Operation) -> Operation {
        let request = GetOperationRequest { operation_id: operation.operation_id.clone() };
        let answer = OperationServiceClient::new(self.client.gateway()).get_operation(request).await;
        answer.ok().and_then(|answer| answer.into_inner().operation).unwrap_or_default()
    }

    /// Asks for a transfer, and sees it held.
    async fn held(&self, load: &Load, key: &str) -> Operation {
        let operation = load.transfer(0, key).await.expect("accepted");
        let holds = |operation: &Operation| operation.transactions.iter().any(|one| one.sub_status == "provider_hold");
        until("people are waited for", async || self.look(&operation).await, holds).await
    }

    async fn ends(&self, operation: &Operation, state: OperationState) -> Operation {
        let ended = |operation: &Operation| operation.state() == state;
        until("it ends", async || self.look(operation).await, ended).await
    }

    async fn create(&self, wallet: &str) -> Result<String, Status> {
        let request = CreateKeyRequest { wallet: wallet.to_owned(), ..CreateKeyRequest::default() };
        let answer = KeyServiceClient::new(self.client.gateway()).create_key(keyed(request, wallet)).await?;
        Ok(answer.into_inner().key.unwrap_or_default().address)
    }

    /// Whether the tenant's log of what happened has its key.
    async fn signs_roots(&self) -> bool {
        let answer = KeyServiceClient::new(self.client.gateway()).list_keys(ListKeysRequest::default()).await;
        answer.is_ok_and(|answer| answer.into_inner().keys.iter().any(|key| key.wallet == "audit-root-1"))
    }

    /// Our half of the evidence for an operation's transaction, as the printed command tells it.
    fn evidence(&self, operation: &Operation) -> Value {
        let line = self.trial.evidence(&operation.transactions[0].tx_hash).expect("a command");
        let printed = self.trial.evidence("TRANSACTION_HASH").expect("a command");
        assert!(self.printed.lines().any(|line| line == printed), "{}", self.printed);
        let told = std::process::Command::new("sh").args(["-c", &line]).output().expect("a shell runs the line");
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let mut told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
        let request = told["requests"][0].take();
        let hash = &operation.transactions[0].tx_hash;
        assert_eq!((&request["status"], &request["tx_hash"]), (&json!("APPROVED"), &json!(hash)));
        request
    }

    /// The command of a ceremony as it was printed, for this wallet.
    fn ceremony(&self, wallet: &str) -> tokio::task::JoinHandle<Output> {
        let line = self.trial.ceremony(wallet).expect("a command");
        let printed = self.trial.ceremony("treasury").expect("a command");
        assert!(self.printed.lines().any(|line| line == printed), "{}", self.printed);
        let run = async move || {
            let mut shell = tokio::process::Command::new("sh");
            let run = shell.args(["-c", &line]).stdin(Stdio::null()).kill_on_drop(true).output().await;
            run.expect("a shell runs the line")
        };
        // The signer may look for the very key at that moment: who is told so repeats it.
        let done = |held: &Output| !String::from_utf8_lossy(&held.stderr).contains("is being made: wait and look");
        tokio::spawn(async move { until("nobody else makes the key", run, done).await })
    }
}

/// What is decided at a custodian's console takes effect by the event of it; where events get lost, by looking.
async fn a_custodians_people_decide(keys: Keys) {
    let trier = Trier::with(keys).await;
    let load = trier.bond(keys).await;
    trier.posts("ask").await;
    let granted = trier.held(&load, "granted").await;
    trier.posts("approve").await;
    let granted = trier.ends(&granted, OperationState::Completed).await;
    let evidence = trier.evidence(&granted);
    let known = trier.trial.custodian().expect("a custodian").external_ids().await;
    let named = evidence["attempts"][0]["external_id"].as_str().expect("an id at the custodian");
    assert!(known.iter().any(|id| id == named), "{evidence:#} of {known:?}");
    let delivered = trier.trial.postman().expect("events are brought").delivered();
    assert!(delivered.iter().all(|told| told.status == 200), "{delivered:?}");
    assert!(delivered.iter().any(|told| told.answer["outcome"] == "WOKEN"), "{delivered:?}");

    let lost = Postman::new("http://127.0.0.1:9/", None, Manner::Kept).expect("a postman");
    trier.trial.custodian().expect("a custodian").notify(lost.into());
    // What was on its way before, of a root of the audit log for instance, is still brought.
    let postman = trier.trial.postman().expect("a postman");
    until("what was on its way is there", async || postman.on_the_way(), |left| *left == 0).await;
    let before = postman.delivered().len();
    let denied = trier.held(&load, "denied").await;
    trier.posts("deny").await;
    let denied = trier.ends(&denied, OperationState::Failed).await;
    assert_eq!(denied.error.expect("a reason").reason, "APPROVAL_DENIED");
    assert_eq!(trier.trial.postman().expect("a postman").delivered().len(), before, "nobody was told");
    assert_eq!(load.received(&trier.chain).await.expect("a balance"), U256::from(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn approvers_at_dfns_decide() {
    a_custodians_people_decide(Keys::Dfns).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn approvers_at_fireblocks_decide() {
    a_custodians_people_decide(Keys::Fireblocks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_at_aws_sign() {
    let trier = Trier::with(Keys::Kms).await;
    assert!(trier.trial.console().is_none() && trier.printed.contains("moto"), "nobody approves there");
    let load = trier.bond(Keys::Kms).await;
    let operation = load.transfer(0, "signed").await.expect("accepted");
    trier.ends(&operation, OperationState::Completed).await;
    assert_eq!(load.received(&trier.chain).await.expect("a balance"), U256::from(1));
    until("an audit key is made there, too", async || trier.signs_roots().await, |signs| *signs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_open_the_partition_and_its_keys_sign() {
    let trier = Trier::with(Keys::Luna).await;
    let refused = async || trier.create("early").await.err().as_ref().map(reason);
    let waits = |refused: &Option<String>| refused.as_deref() == Some("CUSTODY_APPROVAL_PENDING");
    until("the partition waits for people", refused, waits).await;
    let ceremonies = [trier.ceremony("load-holder-0"), trier.ceremony("audit-root-1")];
    assert_eq!(trier.posts("present/2").await["stands"]["activated"], json!(false));
    assert_eq!(trier.posts("present/2").await["stands"]["activated"], json!(false), "two shares of one person are one");
    assert_eq!(trier.posts("present/3").await["stands"]["activated"], json!(true));
    for ceremony in ceremonies {
        let held = ceremony.await.expect("it ends");
        assert!(held.status.success(), "{}", String::from_utf8_lossy(&held.stderr));
        assert!(String::from_utf8_lossy(&held.stdout).contains("address"), "{held:?}");
    }
    trier.trial.stack().wait_until_serving().await.expect("it serves");
    let refused = trier.create("unheard-of").await.expect_err("the crypto user makes no keys");
    assert_eq!(reason(&refused), "KEY_NOT_IN_PARTITION");
    let load = trier.bond(Keys::Luna).await;
    until("roots are signed", async || trier.signs_roots().await, |signs| *signs).await;

    trier.posts("deactivate").await;
    let operation = trier.held(&load, "held").await;
    trier.posts("present/1").await;
    assert_eq!(trier.look(&operation).await.state(), OperationState::Running, "one is not enough");
    trier.posts("present/3").await;
    let held = trier.ends(&operation, OperationState::Completed).await;
    let evidence = trier.evidence(&held);
    assert_eq!((&evidence["key"]["provider"], &evidence["attempts"]), (&json!("pkcs11"), &json!([])), "{evidence:#}");
    // Off and on again: what was opened before is void.
    trier.posts("lose").await;
    trier.posts("return").await;
    let operation = load.transfer(0, "after").await.expect("accepted");
    trier.ends(&operation, OperationState::Completed).await;
    assert_eq!(load.received(&trier.chain).await.expect("a balance"), U256::from(2));
}
