//! Lanes and transactions from an operator's seat, through the gateway.

use dalp_devstack::client::{Client, Gateway, reason};
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::Stack;
use dalp_proto::operation::{Operation, OperationState, TransactionState};
use dalp_proto::operator::operator_service_client::OperatorServiceClient;
use dalp_proto::operator::{
    CloseDeadLetterRequest, ExplainLaneRequest, ExplainLaneResponse, HoldKind, Lane, ListDeadLettersRequest,
    ListLanesRequest, PauseLaneRequest, ResumeLaneRequest, ResyncLaneRequest, RetryDeadLetterRequest,
};
use dalp_proto::transaction::transaction_service_client::TransactionServiceClient;
use dalp_proto::transaction::{
    AttemptKind, AttemptState, BumpTransactionRequest, CancelOutcome, CancelTransactionRequest, GetTransactionRequest,
    ListTransactionsRequest, TransactionRecord,
};
use dalp_tests::load::Load;

use crate::support::{Keys, until, with_key};

const CHAIN: u64 = 31_337;

/// Who sits where.
pub(crate) struct Desk<'a> {
    stack: &'a Stack,
    /// Orders transfers.
    client: &'a Client,
    load: &'a Load,
    keys: &'a Keys,
    /// Keeps lanes going.
    keeper: Client,
    /// The sender of the lane.
    sender: String,
}

fn attempts(record: &TransactionRecord) -> Vec<(AttemptKind, AttemptState)> {
    record.attempts.iter().map(|one| (one.kind(), one.state())).collect()
}

fn transaction_of(operation: &Operation) -> String {
    operation.transactions[0].transaction_id.clone()
}

// === impl Desk ===

impl<'a> Desk<'a> {
    pub(crate) fn new(stack: &'a Stack, client: &'a Client, load: &'a Load, keys: &'a Keys) -> Self {
        let keeper = with_key(stack, &keys.keeper);
        Self { stack, client, load, keys, keeper, sender: load.holders[0].text.clone() }
    }

    fn lanes(&self) -> OperatorServiceClient<Gateway> {
        OperatorServiceClient::new(self.keeper.gateway())
    }

    fn transactions(&self) -> TransactionServiceClient<Gateway> {
        TransactionServiceClient::new(self.keeper.gateway())
    }

    fn pause_request(&self, reason: &str) -> PauseLaneRequest {
        PauseLaneRequest { chain_id: CHAIN, sender: self.sender.clone(), reason: reason.to_owned() }
    }

    async fn explain(&self) -> ExplainLaneResponse {
        let request = ExplainLaneRequest { chain_id: CHAIN, sender: self.sender.clone() };
        self.lanes().explain_lane(request).await.expect("explained").into_inner()
    }

    async fn get(&self, transaction_id: &str) -> TransactionRecord {
        let request = GetTransactionRequest { transaction_id: transaction_id.to_owned() };
        let answer = self.transactions().get_transaction(request).await.expect("it is there").into_inner();
        answer.transaction.expect("a transaction")
    }

    async fn until_attempt(&self, transaction_id: &str, wanted: (AttemptKind, AttemptState)) -> TransactionRecord {
        let what = format!("an attempt {wanted:?}");
        until(&what, async || self.get(transaction_id).await, |record| attempts(record).contains(&wanted)).await
    }

    /// Who may not, and what is not asked properly.
    pub(crate) async fn rights(&self) {
        let first = self.load.transfer(0, "lane-begins").await.expect("accepted");
        self.client.finished(Some(first.clone())).await.expect("it ends");
        let pause = || self.pause_request("planned maintenance");
        for (what, key, expected) in [
            ("orders, and keeps no lanes", &self.keys.colleague, "PERMISSION_DENIED"),
            ("may only read", &self.keys.reader, "READ_ONLY_KEY"),
            ("another tenant's lane does not exist", &self.keys.foreign, "NOT_FOUND"),
        ] {
            let mut theirs = OperatorServiceClient::new(with_key(self.stack, key).gateway());
            let status = theirs.pause_lane(pause()).await.expect_err(what);
            assert_eq!(reason(&status), expected, "{what}: {status:?}");
        }
        let status = self.lanes().pause_lane(self.pause_request("")).await.expect_err("no reason");
        assert_eq!(reason(&status), "INVALID_FIELD", "{status:?}");
        let unknown = PauseLaneRequest { chain_id: 1, ..pause() };
        assert_eq!(reason(&self.lanes().pause_lane(unknown).await.expect_err("no such lane")), "NOT_FOUND");
        let status = self.lanes().pause_lane(PauseLaneRequest { sender: "0x12".into(), ..pause() }).await;
        assert_eq!(reason(&status.expect_err("no address")), "INVALID_FIELD");
        let foreign = with_key(self.stack, &self.keys.foreign);
        let lanes = OperatorServiceClient::new(foreign.gateway()).list_lanes(ListLanesRequest::default()).await;
        assert!(lanes.expect("a page").into_inner().lanes.is_empty(), "another tenant has no lanes");
        let mut theirs = TransactionServiceClient::new(foreign.gateway());
        let get = GetTransactionRequest { transaction_id: transaction_of(&first) };
        assert_eq!(reason(&theirs.get_transaction(get).await.expect_err("another tenant's")), "NOT_FOUND");
        let list = theirs.list_transactions(ListTransactionsRequest::default()).await.expect("a page").into_inner();
        assert!(list.transactions.is_empty());
        assert!(self.explain().await.lane.expect("a lane").pause.is_none(), "nothing of that was done");
        self.dead_letter_rights(transaction_of(&first)).await;
    }

    /// A transaction that is well is no dead letter.
    async fn dead_letter_rights(&self, id: String) {
        let none =
            self.lanes().list_dead_letters(ListDeadLettersRequest::default()).await.expect("a page").into_inner();
        assert!(none.dead_letters.is_empty() && none.next_page_token.is_empty());
        let retry = || RetryDeadLetterRequest { id: id.clone(), reason: "perhaps".into() };
        let close = |id: &str, reason: &str| CloseDeadLetterRequest { id: id.to_owned(), reason: reason.to_owned() };
        assert_eq!(reason(&self.lanes().retry_dead_letter(retry()).await.expect_err("it is well")), "NOT_FOUND");
        for (request, expected) in
            [(close(&id, "why"), "NOT_FOUND"), (close(&id, ""), "INVALID_FIELD"), (close("x", "why"), "INVALID_FIELD")]
        {
            assert_eq!(reason(&self.lanes().close_dead_letter(request).await.expect_err("refused")), expected);
        }
        let mut theirs = OperatorServiceClient::new(with_key(self.stack, &self.keys.colleague).gateway());
        let status = theirs.retry_dead_letter(retry()).await.expect_err("orders, and keeps no lanes");
        assert_eq!(reason(&status), "PERMISSION_DENIED");
    }

    pub(crate) async fn pause_and_resume(&self) {
        let lanes = self.lanes().list_lanes(ListLanesRequest::default()).await.expect("a page").into_inner().lanes;
        let ours: Vec<&Lane> = lanes.iter().filter(|lane| lane.sender == self.sender).collect();
        assert_eq!(ours.len(), 1, "{lanes:?}");
        assert_eq!((ours[0].queued, ours[0].in_flight, ours[0].next_nonce), (0, 0, Some(1)));
        let paused = self.lanes().pause_lane(self.pause_request("planned maintenance")).await.expect("paused");
        assert_eq!(paused.into_inner().lane.and_then(|lane| lane.pause).expect("paused").by, "keeper");
        let waits = self.load.transfer(0, "waits-for-the-pause").await.expect("a paused lane takes work");
        let explained = until(
            "its worker has it",
            async || self.explain().await,
            |told| told.holds.len() == 1 && told.chain.is_some(),
        )
        .await;
        let (hold, lane) = (&explained.holds[0], explained.lane.as_ref().expect("a lane"));
        assert_eq!(hold.kind(), HoldKind::Paused, "{explained:?}");
        assert!(hold.message.contains("keeper") && hold.message.contains("planned maintenance"), "{hold:?}");
        assert!(!hold.remedy.is_empty());
        assert_eq!((lane.queued, lane.in_flight, lane.next_nonce), (1, 0, Some(1)));
        let chain = explained.chain.as_ref().expect("the node was asked");
        assert_eq!((chain.latest_nonce, chain.pending_nonce), (1, 1), "{chain:?}");
        assert_ne!(chain.balance_wei, "0");
        let front = &explained.front[0];
        assert_eq!((front.transaction_id.clone(), front.state()), (transaction_of(&waits), TransactionState::Queued));
        let busy = ListLanesRequest { busy_only: true, ..ListLanesRequest::default() };
        let busy = self.lanes().list_lanes(busy).await.expect("a page").into_inner().lanes;
        assert_eq!(busy.iter().map(|lane| lane.sender.as_str()).collect::<Vec<_>>(), [self.sender.as_str()]);
        let resume =
            ResumeLaneRequest { chain_id: CHAIN, sender: self.sender.clone(), reason: "maintenance is over".into() };
        let resumed = self.lanes().resume_lane(resume).await.expect("resumed").into_inner().lane.expect("a lane");
        assert!(resumed.pause.is_none());
        let done = self.client.finished(Some(waits)).await.expect("it ends");
        assert_eq!(done.state(), OperationState::Completed, "{done:?}");
        assert!(self.explain().await.holds.is_empty());
    }

    pub(crate) async fn resync(&self) {
        let request =
            ResyncLaneRequest { chain_id: CHAIN, sender: self.sender.clone(), reason: "key was used aside".into() };
        // Its worker may have compared it before the answer is read; that it was asked for stands in the audit.
        self.lanes().resync_lane(request).await.expect("recorded").into_inner().lane.expect("a lane");
        let done = |told: &ExplainLaneResponse| told.lane.as_ref().is_some_and(|lane| !lane.resync_pending);
        until("the worker has compared the lane", async || self.explain().await, done).await;
    }

    /// With a chain that makes no blocks.
    pub(crate) async fn bump_and_cancel(&self, chain: &ChainView) {
        chain.mine_every(0).await.expect("a development chain");
        let dear = self.load.transfer(0, "bumped").await.expect("accepted");
        let wrong = self.load.transfer(0, "cancelled").await.expect("accepted");
        let (bumped, cancelled) = (transaction_of(&dear), transaction_of(&wrong));
        for id in [&bumped, &cancelled] {
            self.until_attempt(id, (AttemptKind::Call, AttemptState::Sent)).await;
        }
        let lane = self.explain().await.lane.expect("a lane");
        assert_eq!((lane.in_flight, lane.queued), (2, 0));
        // The wallet belongs to somebody else, and the keeper may act for it.
        let mut colleague = TransactionServiceClient::new(with_key(self.stack, &self.keys.colleague).gateway());
        let bump = |why: &str| BumpTransactionRequest { transaction_id: bumped.clone(), reason: why.to_owned() };
        let status = colleague.bump_transaction(bump("mine is urgent")).await.expect_err("another's wallet");
        assert_eq!(reason(&status), "WALLET_NOT_OWNED");
        assert_eq!(
            reason(&self.transactions().bump_transaction(bump("")).await.expect_err("no reason")),
            "INVALID_FIELD"
        );
        let recorded = self.transactions().bump_transaction(bump("the client waits")).await.expect("recorded");
        let recorded = recorded.into_inner().transaction.and_then(|record| record.transaction).expect("a transaction");
        assert_eq!(recorded.state(), TransactionState::Broadcasting);
        let record = self.until_attempt(&bumped, (AttemptKind::Replacement, AttemptState::Sent)).await;
        assert!(!record.bump_requested, "it is dealt with");
        let prices: Vec<u128> = record.attempts.iter().map(|one| one.max_fee_wei.parse().expect("a price")).collect();
        assert!(prices[1] * 1000 >= prices[0] * 1125, "{prices:?}");
        let cancel = || CancelTransactionRequest { transaction_id: cancelled.clone(), reason: "a mistake".into() };
        let answer = self.transactions().cancel_transaction(cancel()).await.expect("recorded").into_inner();
        assert_eq!(answer.outcome(), CancelOutcome::ReplacementRecorded);
        self.until_attempt(&cancelled, (AttemptKind::Cancel, AttemptState::Sent)).await;
        chain.mine_every(1).await.expect("a development chain");
        let dear = self.client.finished(Some(dear)).await.expect("it ends");
        assert_eq!(dear.state(), OperationState::Completed, "{dear:?}");
        let wrong = self.client.finished(Some(wrong)).await.expect("it ends");
        assert_eq!(wrong.error.as_ref().map(|error| error.reason.as_str()), Some("TRANSACTION_CANCELLED"), "{wrong:?}");
        assert_eq!(wrong.transactions[0].state(), TransactionState::Cancelled);
        let (first, last) = (AttemptState::Superseded, AttemptState::Done);
        let told = attempts(&self.get(&bumped).await);
        assert_eq!(told, [(AttemptKind::Call, first), (AttemptKind::Replacement, last)]);
        let late = self.transactions().bump_transaction(bump("again")).await.expect_err("it is final");
        assert_eq!(reason(&late), "TRANSACTION_NOT_BUMPABLE");
        let late = self.transactions().cancel_transaction(cancel()).await.expect_err("it is final");
        assert_eq!(reason(&late), "TRANSACTION_NOT_CANCELLABLE");
        let list = ListTransactionsRequest { sender: self.sender.clone(), page_size: 2, ..Default::default() };
        let page = self.transactions().list_transactions(list).await.expect("a page").into_inner();
        let newest: Vec<_> =
            page.transactions.iter().filter_map(|one| Some(one.transaction.as_ref()?.transaction_id.clone())).collect();
        assert_eq!(newest, [cancelled, bumped]);
        assert!(!page.next_page_token.is_empty());
    }

    /// Every action stands in the audit with who and why, in the order in which they were done; what was refused stands there as refused.
    pub(crate) async fn audit(&self) {
        let pool = sqlx::PgPool::connect(&self.stack.settings().database_url).await.expect("the database");
        let told: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT action, actor, body->>'reason' FROM engine.audit_leaves
             WHERE action IN ('lane.pause', 'lane.resume', 'lane.ask_resync', 'transaction.bump', 'transaction.cancel') ORDER BY sequence",
        )
        .fetch_all(&pool)
        .await
        .expect("readable");
        let told: Vec<_> = told.iter().map(|(what, who, why)| (what.as_str(), who.as_str(), why.as_str())).collect();
        assert_eq!(
            told,
            [
                ("lane.pause", "keeper", "planned maintenance"),
                ("lane.resume", "keeper", "maintenance is over"),
                ("lane.ask_resync", "keeper", "key was used aside"),
                ("transaction.bump", "keeper", "the client waits"),
                ("transaction.cancel", "keeper", "a mistake"),
            ]
        );
        pool.close().await;
    }
}
