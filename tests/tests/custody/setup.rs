//! Set-up calls by keys at custodians. While DFNS asks its approvers for a signature of ours they answer the retryable conflict, all others the operation;
//! either way the same call under the same key goes on with what was accepted.

use dalp_devstack::client::{Client, keyed, reason};
use dalp_devstack::scenario::{ChainView, Wallet};
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::identity::RegisterTopicRequest;
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{GetOperationRequest, ListOperationsRequest, Operation, OperationState, TransactionState};
use dalp_proto::operator::operator_service_client::OperatorServiceClient;
use dalp_proto::operator::{ExplainLaneRequest, ListLanesRequest};
use dalp_proto::signer::key_service_client::KeyServiceClient;
use dalp_proto::signer::{CreateKeyRequest, KeyProvider};
use dalp_proto::system::system_service_client::SystemServiceClient;
use dalp_proto::system::{BootstrapRequest, GrantRoleRequest, SystemRole};
use dalp_proto::transaction::{ProviderHold, ProviderHoldCause};
use dalp_service::Refusal;
use dalp_simulators::custodian::{Custodian, Kind};
use dalp_tests::curl::Gateway;
use dalp_tests::waiting::until;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tonic::{Code, Status};

use super::{CHAIN, Desk, PACE};

const TOPICS: &str = "/v1/topics";
const SYSTEM: &str = "/v1/system:bootstrap";

/// How a set-up call was answered.
#[derive(Debug)]
enum Said {
    /// The operation, and whether it was accepted before.
    Accepted(Box<Operation>, bool),
    /// An approval is pending; the details that it came with.
    Pending(BTreeMap<String, String>),
    /// Not at all: the service comes up again.
    Away,
}

impl Said {
    fn operation_id(&self) -> &str {
        match self {
            Self::Accepted(operation, _) => &operation.operation_id,
            Self::Pending(details) => &details["operation_id"],
            Self::Away => "",
        }
    }

    fn stands(&self, id: &str, state: OperationState) {
        let Self::Accepted(operation, replayed) = self else { panic!("it is still pending: {self:?}") };
        assert_eq!((operation.operation_id.as_str(), operation.state(), *replayed), (id, state, true), "{self:?}");
    }
}

/// An answer over gRPC: a conflict tells its key, and when to come again.
fn told(answer: Result<(Option<Operation>, bool), Status>, key: &str) -> Said {
    let refused = match answer {
        Ok((operation, replayed)) => return Said::Accepted(Box::new(operation.expect("an operation")), replayed),
        Err(refused) if refused.code() == Code::Unavailable => return Said::Away,
        Err(refused) => refused,
    };
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "CUSTODY_APPROVAL_PENDING"), "{refused:?}");
    assert_eq!(refused.metadata().get("idempotency-key").expect("the key"), key);
    let details = Refusal::details(&refused).expect("details");
    assert!(details.retry_after.is_some(), "{details:?}");
    assert_eq!(
        (details.metadata["next"].as_str(), details.metadata["provider"].as_str()),
        ("wait_for_approval", "dfns")
    );
    Said::Pending(details.metadata)
}

/// An answer over HTTP, and the key that it tells.
fn told_over_http((status, head, body): (u16, String, String)) -> (Said, String) {
    let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| *known == name).map(|(_, value)| value.trim().to_owned())
    };
    let key = header("idempotency-key").expect("the key in force, also a generated one");
    if status == 409 {
        assert!(header("retry-after").is_some(), "{head}");
        let info = &body["details"][0];
        assert_eq!(info["reason"], "CUSTODY_APPROVAL_PENDING", "{body}");
        let metadata = info["metadata"].as_object().expect("metadata").iter();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        return (Said::Pending(metadata.map(|(name, value)| (name.clone(), text(value))).collect()), key);
    }
    assert!(matches!(status, 200 | 202), "{status}: {body}");
    let operation = &body["operation"];
    let state = OperationState::from_str_name(operation["state"].as_str().expect("a state")).expect("a state");
    assert_eq!(status == 202, state == OperationState::Running, "{body}");
    let operation_id = operation["operationId"].as_str().expect("an id").to_owned();
    let operation = Operation { operation_id, state: state.into(), ..Operation::default() };
    let replayed = header("idempotency-replayed").as_deref() == Some("true");
    (Said::Accepted(Box::new(operation), replayed), key)
}

fn over_http(gateway: &Gateway, path: &str, body: &Value, key: Option<&str>, wait_s: Option<u32>) -> (Said, String) {
    let (key, wait) =
        (key.map(|key| format!("Idempotency-Key: {key}")), wait_s.map(|wait| format!("Prefer: wait={wait}")));
    let body = body.to_string();
    let mut arguments = vec!["--header", "Content-Type: application/json", "--data", &body];
    for header in key.iter().chain(&wait) {
        arguments.extend(["--header", header]);
    }
    told_over_http(gateway.curl(&arguments, path))
}

/// Waits for a condition, and has whatever waits meanwhile approved.
async fn approved(custodian: &Custodian, client: &Client, id: &str) -> Operation {
    let look = async || {
        custodian.approve().await;
        operation(client, id).await
    };
    let ended = until("it goes on once it is approved", look, |one| one.state() != OperationState::Running).await;
    assert_eq!(ended.state(), OperationState::Completed, "{ended:?}");
    ended
}

async fn operation(client: &Client, id: &str) -> Operation {
    let request = GetOperationRequest { operation_id: id.to_owned() };
    let answer = OperationServiceClient::new(client.gateway()).get_operation(request).await.expect("readable");
    answer.into_inner().operation.expect("an operation")
}

impl Desk<'_> {
    fn client(&self) -> Client {
        self.stack.client().expect("a client")
    }

    fn sender(&self) -> &str {
        &self.load.holders[self.lane].text
    }

    fn topic(&self, name: &str) -> RegisterTopicRequest {
        let (sender, name) = (self.sender().to_owned(), format!("{}-{}-{name}", self.name, self.by_provider));
        RegisterTopicRequest { sender, name, signature: "(uint64 expiresAt)".to_owned() }
    }

    async fn registers(&self, name: &str, key: &str) -> Said {
        let request = keyed(self.topic(name), key);
        let answer = IdentityServiceClient::new(self.client().gateway()).register_topic(request).await;
        let answer = answer.map(|answer| {
            let replayed = answer.metadata().get("idempotency-replayed").is_some_and(|value| value == "true");
            (answer.into_inner().operation, replayed)
        });
        told(answer, key)
    }

    fn registers_over_http(&self, name: &str, key: Option<&str>, wait_s: Option<u32>) -> (Said, String) {
        let RegisterTopicRequest { sender, name, signature } = self.topic(name);
        let body = json!({"sender": sender, "name": name, "signature": signature});
        over_http(&Gateway::of(self.stack), TOPICS, &body, key, wait_s)
    }

    async fn may_set_up(&self) {
        let client = self.client();
        let grant = GrantRoleRequest {
            sender: self.load.issuer.text.clone(),
            account: self.sender().to_owned(),
            role: SystemRole::ClaimPolicyManager.into(),
        };
        let grant = keyed(grant, &format!("{}-may-set-up", self.name));
        let granted = SystemServiceClient::new(client.gateway()).grant_role(grant).await.expect("accepted");
        let ended = client.finished(granted.into_inner().operation).await.expect("final");
        assert_eq!(ended.state(), OperationState::Completed, "{ended:?}");
    }

    /// Operators are told which provider holds the lane, and since when.
    async fn is_shown(&self, transaction_id: &str) {
        let provider = if self.name == "dfns" { KeyProvider::Dfns } else { KeyProvider::Fireblocks };
        let shown = |hold: &Option<ProviderHold>| {
            let hold = hold.as_ref().unwrap_or_else(|| panic!("a hold of {}", self.name));
            assert_eq!((hold.provider(), hold.cause()), (provider, ProviderHoldCause::Approval), "{hold:?}");
            assert_eq!(
                (hold.transaction_id.as_str(), hold.by_provider),
                (transaction_id, self.by_provider),
                "{hold:?}"
            );
            assert!(hold.since.is_some(), "{hold:?}");
        };
        let mut lanes = OperatorServiceClient::new(self.client().gateway());
        let request = ExplainLaneRequest { chain_id: CHAIN, sender: self.sender().to_owned() };
        let explained = lanes.explain_lane(request).await.expect("a lane").into_inner();
        shown(&explained.holds.iter().find_map(|hold| hold.provider_hold.clone()));
        let request = ListLanesRequest { busy_only: true, ..ListLanesRequest::default() };
        let listed = lanes.list_lanes(request).await.expect("lanes").into_inner().lanes;
        shown(&listed.into_iter().find(|lane| lane.sender == self.sender()).and_then(|lane| lane.provider_hold));
    }
}

/// A key at a custodian registers topics: held, repeated every way there is, granted after a restart, and denied.
pub(crate) async fn a_set_up_call_by(desk: &mut Desk<'_>) {
    let stops = desk.name == "dfns" && !desk.by_provider;
    desk.may_set_up().await;
    desk.custodian.ask_people().await;
    let taken_before = desk.custodian.external_ids().await.len();

    // First asked for.
    let key = format!("{}-topic", desk.name);
    let first = desk.registers("first", &key).await.operation_id().to_owned();
    let held = operation(&desk.client(), &first).await;
    desk.waits(&held).await;
    let record = desk.record(&held).await;
    let transaction_id = record.transaction.as_ref().expect("a transaction").transaction_id.clone();
    let hold = record.attempts.last().and_then(|attempt| attempt.hold.clone()).expect("it says who holds it");
    assert_eq!((hold.cause(), hold.transaction_id.as_str()), (ProviderHoldCause::Approval, transaction_id.as_str()));
    desk.is_shown(&transaction_id).await;

    // Repeated.
    let is_told = |said: &Said| match said {
        Said::Pending(details) => {
            assert!(stops, "{said:?}");
            assert_eq!((&details["operation_id"], &details["transaction_id"]), (&first, &transaction_id), "{said:?}");
            assert_eq!((&details["held_transaction_id"], details["provider"].as_str()), (&transaction_id, "dfns"));
            assert!(!details["held_since"].is_empty(), "{said:?}");
        }
        Said::Accepted(operation, again) => {
            assert!(!stops, "{said:?}");
            assert_eq!((&operation.operation_id, *again), (&first, true), "{said:?}");
            assert_eq!(operation.state(), OperationState::Running, "accepted, pending");
        }
        Said::Away => panic!("it serves"),
    };
    is_told(&desk.registers("first", &key).await);
    let (said, told_key) = desk.registers_over_http("first", Some(&key), None);
    is_told(&said);
    assert_eq!(told_key, key);
    let (said, _) = desk.registers_over_http("first", Some(&key), Some(1));
    is_told(&said);

    // Another one, behind it, without a key of its own: the one that is made for it is told.
    let (behind, made) = desk.registers_over_http("behind", None, None);
    assert_eq!(matches!(behind, Said::Pending(_)), stops, "{behind:?}");
    if let Said::Pending(details) = &behind {
        assert_eq!(details["held_transaction_id"], transaction_id, "it stands behind the nonce of the first");
        assert_ne!(details["transaction_id"], transaction_id);
        assert_ne!(details["operation_id"], first);
    }
    // What sets nothing up is answered with its operation.
    let transfer = desk.asked("behind-a-set-up").await;
    assert_eq!(desk.asked("behind-a-set-up").await.operation_id, transfer.operation_id);

    // Nothing of it depends on the process that accepted it.
    desk.stack.service("svc-compliance").expect("a service").restart().expect("it starts again");
    desk.stack.wait_until_serving().await.expect("it serves again");
    let again = async || desk.registers("first", &key).await;
    let said = until("it is answered again", again, |said| said.operation_id() == first).await;
    is_told(&said);

    // Granted.
    let client = desk.client();
    for id in [first.as_str(), behind.operation_id(), &transfer.operation_id] {
        approved(desk.custodian, &client, id).await;
    }
    desk.registers("first", &key).await.stands(&first, OperationState::Completed);
    let (said, _) = desk.registers_over_http("behind", Some(&made), None);
    said.stands(behind.operation_id(), OperationState::Completed);

    // Denied: its end is told as every other's.
    let key = format!("{}-denied", desk.name);
    let (denied, told_key) = desk.registers_over_http("denied", Some(&key), stops.then_some(60));
    assert_eq!((told_key.as_str(), matches!(denied, Said::Pending(_))), (key.as_str(), stops), "{denied:?}");
    let held = operation(&client, denied.operation_id()).await;
    desk.waits(&held).await;
    desk.custodian.deny().await;
    let ended = desk.ends(&held, OperationState::Failed).await;
    assert_eq!(super::failure(&ended), "APPROVAL_DENIED", "{ended:?}");
    desk.registers("denied", &key).await.stands(&ended.operation_id, OperationState::Failed);

    // Three topics and a transfer, each asked for once.
    let list = ListOperationsRequest { page_size: 500, kind: "topic.register".to_owned(), ..Default::default() };
    let listed =
        OperationServiceClient::new(client.gateway()).list_operations(list).await.expect("a list").into_inner();
    let ids = [first.as_str(), behind.operation_id(), denied.operation_id()];
    assert_eq!(listed.operations.iter().filter(|one| ids.contains(&one.operation_id.as_str())).count(), 3);
    let taken = desk.custodian.external_ids().await.len() - taken_before;
    assert_eq!(taken, 4, "asked for once each, whatever was repeated");
}

/// A whole system by a key at DFNS: a batch of which each part waits for its approval.
#[tokio::test(flavor = "multi_thread")]
async fn a_system_is_set_up_by_a_key_whose_approvers_are_asked_for_each_part() {
    let secrets = tempfile::tempdir().expect("a folder");
    let dfns = Custodian::start(Kind::Dfns, None).await.expect("a custodian");
    let options = Options { signer: dfns.section(secrets.path(), &PACE).expect("a section"), ..Options::default() };
    let mut stack = Stack::start(&options).await.expect("the stack starts");
    let client = stack.client().expect("a client");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let admin = wallet_at_dfns(&client, &chain).await;
    dfns.ask_people().await;

    const KEY: &str = "a-system";
    let gateway = Gateway::of(&stack);
    let body = json!({"admin": admin.text});
    let bootstrap = async |client: &Client| {
        let request = keyed(BootstrapRequest { admin: admin.text.clone(), chain_id: 0 }, KEY);
        let answer = SystemServiceClient::new(client.gateway()).bootstrap(request).await;
        let answer = answer.map(|answer| {
            let replayed = answer.metadata().get("idempotency-replayed").is_some_and(|value| value == "true");
            (answer.into_inner().operation, replayed)
        });
        told(answer, KEY)
    };
    let id = bootstrap(&client).await.operation_id().to_owned();
    let (mut stages, mut killed) = (Vec::new(), false);
    loop {
        // Each stage is held, says so, and is approved.
        let pending = until(
            "the next stage is held, or all is done",
            async || bootstrap(&client).await,
            |said| match said {
                Said::Pending(details) => !stages.contains(&details["transaction_id"]),
                Said::Accepted(operation, _) => operation.state() != OperationState::Running,
                Said::Away => false,
            },
        );
        let Said::Pending(details) = pending.await else { break };
        assert_eq!(details["operation_id"], id);
        stages.push(details["transaction_id"].clone());
        if stages.len() == 1 {
            // Under another key it is the same system, and waits as well. The made key is told.
            let (other, made) = over_http(&gateway, SYSTEM, &body, None, None);
            assert!(matches!(&other, Said::Pending(_)) && other.operation_id() == id, "{other:?}");
            assert!(!made.is_empty() && made != KEY);
        }
        let done = |one: &Operation| {
            let mut transactions = one.transactions.iter();
            transactions.any(|one| one.state() == TransactionState::Completed)
        };
        if !killed && done(&operation(&client, &id).await) {
            // Partly done, and held.
            stack.service("svc-compliance").expect("a service").restart().expect("it starts again");
            stack.wait_until_serving().await.expect("it serves again");
            killed = true;
        }
        dfns.approve().await;
    }
    assert!(killed && stages.len() >= 3, "deployer, contracts and configuration: {stages:?}");
    bootstrap(&client).await.stands(&id, OperationState::Completed);
    let (waited, _) = over_http(&gateway, SYSTEM, &body, Some(KEY), Some(30));
    waited.stands(&id, OperationState::Completed);

    // Nothing was done twice.
    let ended = operation(&client, &id).await;
    assert!(ended.transactions.iter().all(|one| one.state() == TransactionState::Completed), "{ended:#?}");
    let mut asked = dfns.external_ids().await;
    assert_eq!(asked.len(), ended.transactions.len(), "each was asked for once");
    asked.dedup();
    assert_eq!(asked.len(), ended.transactions.len());
    let nonce = chain.nonce(admin.address).await.expect("a nonce");
    assert_eq!(nonce, ended.transactions.len() as u64);
    let list = ListOperationsRequest { kind: "system.bootstrap".to_owned(), ..Default::default() };
    let listed = OperationServiceClient::new(client.gateway()).list_operations(list).await.expect("a list");
    assert_eq!(listed.into_inner().operations.len(), 1);
}

async fn wallet_at_dfns(client: &Client, chain: &ChainView) -> Wallet {
    let request = CreateKeyRequest { wallet: "admin".to_owned(), provider: "dfns".to_owned(), owner: String::new() };
    let created = KeyServiceClient::new(client.gateway()).create_key(keyed(request, "admin")).await.expect("a key");
    let text = created.into_inner().key.expect("a key").address;
    let address = text.parse().expect("an address");
    chain
        .fund(address, alloy::primitives::U256::from(10u64).pow(alloy::primitives::U256::from(21u64)))
        .await
        .expect("funded");
    Wallet { text, address }
}
