//! A regulated token moves by a key that is at a custodian: when its approvers let it, and not when they do not. One stack with both custodians for each mode: they sign and
//! we broadcast, or they number, price and broadcast by themselves.

#[path = "custody/behind.rs"]
mod behind;
#[path = "custody/setup.rs"]
mod setup;

use dalp_chain::testing::Anvil;
use dalp_devstack::client::{keyed, reason};
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{GetOperationRequest, Operation, OperationState, TransactionState};
use dalp_proto::operator::operator_service_client::OperatorServiceClient;
use dalp_proto::operator::{ExplainLaneRequest, HoldKind};
use dalp_proto::transaction::transaction_service_client::TransactionServiceClient;
use dalp_proto::transaction::{
    AttemptKind, AttemptState, BumpTransactionRequest, CancelOutcome, CancelTransactionRequest, GetTransactionRequest,
    TransactionRecord,
};
use dalp_proto::wallet::smart_wallet_service_client::SmartWalletServiceClient;
use dalp_proto::wallet::{ApproveUserOperationRequest, CancelUserOperationRequest};
use dalp_simulators::custodian::{Custodian, Kind, Pace};
use dalp_tests::load::Load;
use dalp_tests::waiting::until;

const CHAIN: u64 = 31_337;
/// As with a real one, and sooner.
const PACE: Pace = Pace { call_timeout_ms: 5_000, settle_ms: 300, looks_ms: (50, 200), broadcast: false };

/// They broadcast by themselves.
const BROADCAST: Pace = Pace { broadcast: true, ..PACE };

/// A holder whose key is at a custodian.
struct Desk<'a> {
    stack: &'a mut Stack,
    chain: &'a ChainView,
    custodian: &'a Custodian,
    load: &'a Load,
    lane: usize,
    name: &'static str,
    /// The custodian numbers, prices and broadcasts by itself.
    by_provider: bool,
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
        let expected = match self.by_provider {
            true => (TransactionState::Broadcasting, "provider_policy"),
            false => (TransactionState::Signing, "provider_hold"),
        };
        let held = |one: &Option<Operation>| {
            let mut transactions = one.iter().flat_map(|one| &one.transactions);
            transactions.any(|one| (one.state(), one.sub_status.as_str()) == expected)
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
        self.is_no_smart_wallet_s(&operation).await;
        assert_eq!(self.seen().await, (got, nonce), "nothing moves before somebody decides");
        decide(self.custodian).await;
        let ended = self.ends(&operation, state).await;
        let moved = u64::from(state == OperationState::Completed);
        assert_eq!(self.seen().await.0, got + moved, "{what}");
        ended
    }

    /// What a custodian holds is released by no approval of a smart wallet's, nor taken back as one.
    async fn is_no_smart_wallet_s(&self, held: &Operation) {
        let client = self.stack.client().expect("a client");
        let mut wallets = SmartWalletServiceClient::new(client.gateway());
        let user_operation_id = held.operation_id.clone();
        let approve = ApproveUserOperationRequest {
            user_operation_id: user_operation_id.clone(),
            signer: self.load.holders[self.lane].text.clone(),
            signature: String::new(),
        };
        let refused = wallets.approve_user_operation(approve).await.expect_err("it is none");
        assert_eq!(reason(&refused), "NOT_FOUND", "{refused:?}");
        let cancel = CancelUserOperationRequest { user_operation_id, reason: "not the custodian's".to_owned() };
        let refused = wallets.cancel_user_operation(cancel).await.expect_err("it is none");
        assert_eq!(reason(&refused), "NOT_FOUND", "{refused:?}");
        self.waits(held).await;
    }

    /// A transaction of an operation with its attempts.
    async fn record(&self, operation: &Operation) -> TransactionRecord {
        let operation = self.operation(&operation.operation_id).await.expect("an operation");
        let transaction_id = operation.transactions.last().expect("a transaction").transaction_id.clone();
        let client = self.stack.client().expect("a client");
        let mut transactions = TransactionServiceClient::new(client.gateway());
        let answer = transactions.get_transaction(GetTransactionRequest { transaction_id }).await.expect("a record");
        answer.into_inner().transaction.expect("a transaction")
    }

    /// What was handed over is told as such, and none of it is ours to hasten.
    async fn tells_the_truth_of_a_handover(&self, held: &Operation) {
        let record = self.record(held).await;
        let [attempt] = &record.attempts[..] else { panic!("{record:#?}") };
        assert_eq!((attempt.kind(), attempt.state()), (AttemptKind::Handover, AttemptState::Handed), "{attempt:?}");
        assert!(attempt.held && !attempt.provider_request_id.is_empty(), "{attempt:?}");
        assert_eq!((attempt.nonce, attempt.gas_limit, attempt.tx_hash.as_str()), (None, 0, ""), "{attempt:?}");
        let transaction = record.transaction.expect("a transaction");
        assert!(transaction.nonce.is_none(), "no nonce is reserved: {transaction:?}");
        assert!(
            transaction.history.iter().any(|one| !one.last_error.is_empty()),
            "the custodian's words: {transaction:?}"
        );
        let client = self.stack.client().expect("a client");
        let mut transactions = TransactionServiceClient::new(client.gateway());
        let bump = BumpTransactionRequest {
            transaction_id: transaction.transaction_id.clone(),
            reason: "somebody is in a hurry".to_owned(),
        };
        let refused =
            transactions.bump_transaction(keyed(bump, &format!("{}-bump", self.name))).await.expect_err("not ours");
        assert_eq!(reason(&refused), "BROADCAST_BY_PROVIDER", "{refused:?}");
        let mut lanes = OperatorServiceClient::new(client.gateway());
        let request = ExplainLaneRequest { chain_id: CHAIN, sender: self.load.holders[self.lane].text.clone() };
        let lane = lanes.explain_lane(request).await.expect("a lane").into_inner().lane.expect("a lane");
        assert!(lane.by_provider && lane.in_flight > 0, "{lane:?}");
    }

    /// Cancelled while it is held: where the provider gives it up, that is its end; else its people decide.
    async fn cancelled_while_it_waits(&self) {
        let before = self.seen().await;
        let operation = self.asked("cancelled").await;
        self.waits(&operation).await;
        let transaction_id = self.record(&operation).await.transaction.expect("a transaction").transaction_id;
        let client = self.stack.client().expect("a client");
        let mut transactions = TransactionServiceClient::new(client.gateway());
        let cancel = CancelTransactionRequest { transaction_id, reason: "a mistake".to_owned() };
        let answer = transactions.cancel_transaction(keyed(cancel, &format!("{}-cancel", self.name))).await;
        assert_eq!(answer.expect("recorded").into_inner().outcome(), CancelOutcome::WithdrawalRecorded);
        if self.custodian.can_give_up() {
            let ended = self.ends(&operation, OperationState::Failed).await;
            assert_eq!(failure(&ended), "TRANSACTION_CANCELLED", "{ended:?}");
        } else {
            let told = |record: &TransactionRecord| {
                let history = record.transaction.iter().flat_map(|one| &one.history);
                !record.cancel_requested && history.into_iter().any(|one| one.action == "withdraw")
            };
            until("the history says that it goes on", async || self.record(&operation).await, told).await;
            self.custodian.deny().await;
            self.ends(&operation, OperationState::Failed).await;
        }
        assert_eq!(self.seen().await, before, "nothing moved");
    }

    /// One that waits for people holds no other up, and is not held up itself.
    async fn one_waits_and_another_goes(&self) {
        let (got, _) = self.seen().await;
        let waiting = self.asked("waits-long").await;
        self.waits(&waiting).await;
        self.custodian.allow().await;
        let other = self.asked("passes-it").await;
        self.ends(&other, OperationState::Completed).await;
        assert_eq!(self.seen().await.0, got + 1, "and the first still waits");
        self.custodian.approve().await;
        self.ends(&waiting, OperationState::Completed).await;
        assert_eq!(self.seen().await.0, got + 2);
        self.custodian.ask_people().await;
    }

    async fn seen(&self) -> (u64, u64) {
        let got = self.load.received(self.chain).await.expect("a balance");
        let nonce = self.chain.nonce(self.load.holders[self.lane].address).await.expect("a nonce");
        (got.to(), nonce)
    }

    /// Killed wherever they stand between acceptance and block, three times.
    async fn killed_on_the_way(&mut self) {
        self.custodian.allow().await;
        for round in 0..3 {
            let (got, _) = self.seen().await;
            let operation = self.asked(&format!("on-the-way-{round}")).await;
            for service in ["svc-signer", "svc-compliance"] {
                self.stack.service(service).expect("a service").restart().expect("it starts again");
            }
            self.stack.wait_until_serving().await.expect("it serves again");
            self.ends(&operation, OperationState::Completed).await;
            assert_eq!(self.seen().await.0, got + 1, "once");
        }
        self.custodian.ask_people().await;
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
        let name = kind.name();
        let mut desk =
            Desk { stack: &mut stack, chain: &chain, custodian, load: &load, lane, name, by_provider: false };
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
        behind::an_approval(&mut desk).await;
        setup::a_set_up_call_by(&mut desk).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_moves_by_keys_whose_custodians_broadcast_by_themselves() {
    let secrets = tempfile::tempdir().expect("a folder");
    // The custodians have a node of the chain, as they have of those that they serve.
    let defaults = Options::default();
    let anvil = Anvil::start(&defaults.chain_arguments);
    let mut options = Options { chain_url: Some(anvil.url.clone()), ..defaults };
    let mut custodians = Vec::new();
    for kind in [Kind::Dfns, Kind::Fireblocks] {
        let custodian = Custodian::start(kind, Some(anvil.url.clone())).await.expect("a custodian");
        options.signer += &(custodian.section(secrets.path(), &BROADCAST).expect("a section") + "\n");
        custodians.push((kind, custodian));
    }
    let mut stack = Stack::start(&options).await.expect("the stack starts");
    let client = stack.client().expect("a client");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let load = Load::prepare_with(&client, &chain, &["dfns", "fireblocks"]).await.expect("a bond");
    for (lane, (kind, custodian)) in custodians.iter().enumerate() {
        let name = kind.name();
        let mut desk = Desk { stack: &mut stack, chain: &chain, custodian, load: &load, lane, name, by_provider: true };
        let straight = desk.asked("straight").await;
        desk.ends(&straight, OperationState::Completed).await;
        custodian.ask_people().await;
        let told = async |custodian: &Custodian| custodian.approve().await;
        desk.decided("granted", told, OperationState::Completed).await;
        let held = desk.asked("told").await;
        desk.waits(&held).await;
        desk.tells_the_truth_of_a_handover(&held).await;
        custodian.deny().await;
        let denied = desk.ends(&held, OperationState::Failed).await;
        assert_eq!(failure(&denied), "APPROVAL_DENIED", "{denied:?}");
        let expired = desk.decided("expired", async |custodian| custodian.expire().await, OperationState::Failed).await;
        assert_eq!(failure(&expired), "APPROVAL_EXPIRED", "{expired:?}");
        desk.cancelled_while_it_waits().await;
        desk.one_waits_and_another_goes().await;
        desk.killed_while_it_waits().await;
        desk.killed_on_the_way().await;
        let ids = custodian.external_ids().await;
        let (_, nonce) = desk.seen().await;
        // Eight were sent, and each of the eleven orders was handed over once.
        assert_eq!((ids.len(), nonce), (11, 8), "{ids:?}");
        setup::a_set_up_call_by(&mut desk).await;
    }
}
