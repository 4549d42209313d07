//! Custodians tell the gateway what happens: an approval is released at once although polling would not look for an hour, and what is forged, replayed, stale
//! or too large changes nothing. One stack with both custodians.

use std::sync::Arc;

use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{GetOperationRequest, Operation, OperationState, TransactionState};
use dalp_simulators::custodian::{Custodian, Kind, Pace};
use dalp_simulators::hooks::{Delivered, Letter, Manner, Postman};
use dalp_tests::load::Load;
use dalp_tests::waiting::until;
use serde_json::{Value, json};

/// Nothing that waits for people is looked at by itself while the test lasts.
const PACE: Pace =
    Pace { call_timeout_ms: 5_000, settle_ms: 1_200, looks_ms: (3_600_000, 3_600_000), broadcast: false };
/// What the gateway takes.
const HOOKS: &str = "[hooks]\nproviders = [\"dfns\", \"fireblocks\"]\nmax_body_bytes = 65536\nrate = { per_second = 100, burst = 200 }\n";

/// A holder whose key is at a custodian that tells what happens.
struct Desk<'a> {
    stack: &'a Stack,
    custodian: &'a Custodian,
    postman: Arc<Postman>,
    load: &'a Load,
    lane: usize,
    name: &'static str,
}

// === impl Desk ===

impl Desk<'_> {
    async fn operation(&self, id: &str) -> Option<Operation> {
        let client = self.stack.client().ok()?;
        let request = GetOperationRequest { operation_id: id.to_owned() };
        OperationServiceClient::new(client.gateway()).get_operation(request).await.ok()?.into_inner().operation
    }

    /// Asks for a transfer, which waits for approvers.
    async fn held(&self, what: &str) -> Operation {
        let key = format!("{}-{what}", self.name);
        let operation = self.load.transfer(self.lane, &key).await.expect("a transfer is accepted");
        self.is_held(&operation).await;
        operation
    }

    async fn is_held(&self, operation: &Operation) {
        let held = |one: &Option<Operation>| {
            let mut transactions = one.iter().flat_map(|one| &one.transactions);
            transactions.any(|one| one.state() == TransactionState::Signing && one.sub_status == "provider_hold")
        };
        until("it waits for approvers", async || self.operation(&operation.operation_id).await, held).await;
    }

    async fn ends(&self, operation: &Operation, state: OperationState) {
        let what = format!("{} ends as {state:?}: {:?}", self.name, self.postman.delivered());
        let ended = |one: &Option<Operation>| one.as_ref().is_some_and(|one| one.state() == state);
        until(&what, async || self.operation(&operation.operation_id).await, ended).await;
    }

    /// The external id of the request that was made last.
    async fn external_id(&self) -> String {
        self.custodian.external_ids().await.pop().expect("a request")
    }

    async fn decided(&self) {
        let granted = self.held("granted").await;
        self.custodian.approve().await;
        self.ends(&granted, OperationState::Completed).await;
        let denied = self.held("denied").await;
        self.custodian.deny().await;
        self.ends(&denied, OperationState::Failed).await;
        let told = self.postman.delivered();
        let outcomes: Vec<_> = told.iter().map(|told| (told.status, told.answer["outcome"].clone())).collect();
        assert!(outcomes.iter().all(|(status, _)| *status == 200), "{outcomes:?}");
        // Each came twice.
        let woken = outcomes.iter().filter(|(_, outcome)| *outcome == "WOKEN").count();
        let again = outcomes.iter().filter(|(_, outcome)| *outcome == "REPEATED").count();
        assert!(woken >= 2 && again >= 1 && again <= woken, "{outcomes:?}");
    }

    async fn refuses(&self) {
        let operation = self.held("attacked").await;
        let event = self.custodian.signed_event(&self.external_id().await);
        let good = self.custodian.signed(&event);
        let post = async |letter: &Letter| self.postman.post(letter).await;
        let header = self.custodian.signature_header();
        let mut changed = good.clone();
        changed.body.push(b' ');
        let mut large = event.clone();
        large["data"]["note"] = json!("x".repeat(70_000));
        let days = if self.name == "dfns" { -400 } else { -200_000 };
        for (what, letter, status, reason) in [
            ("forged", self.custodian.forged(&event), 401, "PROVIDER_EVENT_UNVERIFIED"),
            ("changed", changed, 401, "PROVIDER_EVENT_UNVERIFIED"),
            ("unsigned", good.clone().with(header, None), 401, "PROVIDER_EVENT_UNVERIFIED"),
            ("stale", self.custodian.signed(&self.custodian.moved(&event, days)), 400, "PROVIDER_EVENT_STALE"),
            ("too large", self.custodian.signed(&large), 413, "MESSAGE_TOO_LARGE"),
        ] {
            let refused = post(&letter).await;
            assert_eq!((refused.status, told_reason(&refused)), (status, reason.to_owned()), "{what}: {refused:?}");
        }
        let taken = post(&self.custodian.signed(&self.custodian.invented(&event))).await;
        assert_eq!((taken.status, &taken.answer["outcome"]), (200, &json!("IGNORED")), "an unknown kind: {taken:?}");
        // It says that the request is signed, and is signed itself: the custodian, asked, says that it waits.
        let lie = post(&good).await;
        assert_eq!((lie.status, &lie.answer["outcome"]), (200, &json!("WOKEN")), "{lie:?}");
        let replayed = post(&good).await;
        assert_eq!((replayed.status, &replayed.answer["outcome"]), (200, &json!("REPEATED")), "{replayed:?}");
        self.is_held(&operation).await;
        self.custodian.approve().await;
        self.ends(&operation, OperationState::Completed).await;
    }
}

fn told_reason(delivered: &Delivered) -> String {
    delivered.answer["details"][0]["reason"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_released_by_an_event_and_nothing_by_a_forged_one() {
    let secrets = tempfile::tempdir().expect("a folder");
    let mut options = Options { gateway: HOOKS.to_owned(), ..Options::default() };
    let mut custodians = Vec::new();
    for kind in [Kind::Dfns, Kind::Fireblocks] {
        let custodian = Custodian::start(kind, None).await.expect("a custodian");
        options.signer += &(custodian.section(secrets.path(), &PACE).expect("a section") + "\n");
        options.signer += &(custodian.webhook_section(secrets.path()).expect("a section") + "\n");
        custodians.push((kind, custodian));
    }
    let stack = Stack::start(&options).await.expect("the stack starts");
    let client = stack.client().expect("a client");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let load = Load::prepare_with(&client, &chain, &["dfns", "fireblocks"]).await.expect("a bond");
    let authorities = stack.folder().join("pki/ca.pem");
    let address = stack.settings().address("svc-gateway");
    for (lane, (kind, custodian)) in custodians.iter().enumerate() {
        custodian.ask_people().await;
        let name = kind.name();
        let (_, port) = address.rsplit_once(':').expect("an address with a port");
        let url = format!("https://localhost:{port}/hooks/{name}");
        let postman = Arc::new(Postman::new(&url, Some(&authorities), Manner::Twice).expect("a postman"));
        custodian.notify(Arc::clone(&postman));
        let desk = Desk { stack: &stack, custodian, postman, load: &load, lane, name };
        desk.decided().await;
        desk.refuses().await;
    }
    let elsewhere = Postman::new(&format!("https://{address}/hooks/nobody"), Some(&authorities), Manner::Kept);
    let nobody = match elsewhere {
        Ok(postman) => postman.post(&Letter { headers: Vec::new(), body: b"{}".to_vec() }).await,
        Err(error) => panic!("{error:#}"),
    };
    assert_eq!((nobody.status, told_reason(&nobody)), (404, "NOT_FOUND".to_owned()), "{nobody:?}");
    let said: Value = nobody.answer;
    assert!(said["message"].is_string(), "{said}");
}
