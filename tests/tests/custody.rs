//! A regulated token moves by a key that is at a custodian: when its approvers let it, and not when they do not. One stack with both custodians.

use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{GetOperationRequest, Operation, OperationState, TransactionState};
use dalp_proto::operator::operator_service_client::OperatorServiceClient;
use dalp_proto::operator::{ExplainLaneRequest, HoldKind};
use dalp_simulators::custodian::{Custodian, Kind, Pace};
use dalp_tests::load::Load;
use dalp_tests::waiting::until;

const CHAIN: u64 = 31_337;
/// As with a real one, and sooner.
const PACE: Pace = Pace { call_timeout_ms: 5_000, settle_ms: 300, looks_ms: (50, 200), broadcast: false };

/// A holder whose key is at a custodian.
struct Desk<'a> {
    stack: &'a mut Stack,
    chain: &'a ChainView,
    custodian: &'a Custodian,
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

    async fn asked(&self, what: &str) -> Operation {
        self.load.transfer(self.lane, &format!("{}-{what}", self.name)).await.expect("a transfer is accepted")
    }

    /// Waits until approvers are asked: nothing is sent meanwhile, and the operator sees what holds the lane.
    async fn waits(&self, operation: &Operation) {
        let held = |one: &Option<Operation>| {
            let mut transactions = one.iter().flat_map(|one| &one.transactions);
            transactions.any(|one| one.state() == TransactionState::Signing && one.sub_status == "provider_hold")
        };
        until("it waits for approvers", async || self.operation(&operation.operation_id).await, held).await;
        let request = ExplainLaneRequest { chain_id: CHAIN, sender: self.load.holders[self.lane].text.clone() };
        let holds = async || {
            let client = self.stack.client().ok()?;
            let mut lanes = OperatorServiceClient::new(client.gateway());
            let told = lanes.explain_lane(request.clone()).await.ok()?.into_inner();
            Some(told.holds.iter().any(|hold| hold.kind() == HoldKind::Approval))
        };
        until("the lane tells what holds it", holds, |held| *held == Some(true)).await;
    }

    async fn ends(&self, operation: &Operation, state: OperationState) -> Operation {
        let what = format!("{} ends as {state:?}", self.name);
        let ended = until(
            &what,
            async || self.operation(&operation.operation_id).await,
            |one| one.as_ref().is_some_and(|one| one.state() == state),
        );
        ended.await.expect("an operation")
    }

    /// Asks for a transfer, lets it wait and has it decided; what moved and what the nonce is afterwards.
    async fn decided(&self, what: &str, decide: impl AsyncFnOnce(&Custodian), state: OperationState) -> Operation {
        let (got, nonce) = self.seen().await;
        let operation = self.asked(what).await;
        self.waits(&operation).await;
        assert_eq!(self.seen().await, (got, nonce), "nothing moves before somebody decides");
        decide(self.custodian).await;
        let ended = self.ends(&operation, state).await;
        let moved = u64::from(state == OperationState::Completed);
        assert_eq!(self.seen().await.0, got + moved, "{what}");
        ended
    }

    async fn seen(&self) -> (u64, u64) {
        let got = self.load.received(self.chain).await.expect("a balance");
        let nonce = self.chain.nonce(self.load.holders[self.lane].address).await.expect("a nonce");
        (got.to(), nonce)
    }

    async fn killed_while_it_waits(&mut self) {
        let (got, _) = self.seen().await;
        let operation = self.asked("killed").await;
        self.waits(&operation).await;
        for service in ["svc-compliance", "svc-signer"] {
            self.stack.service(service).expect("a service").restart().expect("it starts again");
        }
        self.stack.wait_until_serving().await.expect("it serves again");
        self.custodian.approve().await;
        self.ends(&operation, OperationState::Completed).await;
        assert_eq!(self.seen().await.0, got + 1, "once");
    }
}

fn failure(operation: &Operation) -> &str {
    operation.error.as_ref().map(|error| error.reason.as_str()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_moves_by_keys_at_custodians_when_their_approvers_let_it() {
    let secrets = tempfile::tempdir().expect("a folder");
    let mut options = Options::default();
    let mut custodians = Vec::new();
    for kind in [Kind::Dfns, Kind::Fireblocks] {
        let custodian = Custodian::start(kind, None).await.expect("a custodian");
        options.signer += &(custodian.section(secrets.path(), &PACE).expect("a section") + "\n");
        custodians.push((kind, custodian));
    }
    let mut stack = Stack::start(&options).await.expect("the stack starts");
    let client = stack.client().expect("a client");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let load = Load::prepare_with(&client, &chain, &["dfns", "fireblocks"]).await.expect("a bond");
    for (lane, (kind, custodian)) in custodians.iter().enumerate() {
        let mut desk = Desk { stack: &mut stack, chain: &chain, custodian, load: &load, lane, name: kind.name() };
        let straight = desk.asked("straight").await;
        desk.ends(&straight, OperationState::Completed).await;
        custodian.ask_people().await;
        desk.decided("granted", async |custodian| custodian.approve().await, OperationState::Completed).await;
        let denied = desk.decided("denied", async |custodian| custodian.deny().await, OperationState::Failed).await;
        assert_eq!(failure(&denied), "APPROVAL_DENIED", "{denied:?}");
        let expired = desk.decided("expired", async |custodian| custodian.expire().await, OperationState::Failed).await;
        assert_eq!(failure(&expired), "APPROVAL_EXPIRED", "{expired:?}");
        desk.decided("granted-after", async |custodian| custodian.approve().await, OperationState::Completed).await;
        desk.killed_while_it_waits().await;
    }
}
