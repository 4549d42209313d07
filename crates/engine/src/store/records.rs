//! The statements that the workers make, as a seam: production has PostgreSQL behind it, the simulator a model of it that a
//! test compares with PostgreSQL call by call. Each method is one commit.

use super::{
    Admitted, Adoption, Attempt, BindOrder, Ending, FinalAttempt, Finished, Forgotten, Handover, HandoverEnding, Heard,
    Inclusion, LaneLook, NewAttempt, NewOperation, PendingSignature, QueueLook, QueuedTransaction, Refusal, Settled,
    SignedBytes, Store,
};
use crate::{
    custody::Held,
    error::StoreError,
    flow::Flows,
    model::{LaneId, RequestId, TransactionId},
};
use alloy::primitives::B256;
use async_trait::async_trait;
use dalp_chain::Fees;
use std::{collections::BTreeSet, time::Duration};

macro_rules! statements {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// What the workers ask of the store. The meaning of each stands beside its statement.
        #[async_trait]
        pub(crate) trait Records: Send + Sync + 'static {
            $($(#[$doc])* async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError>;)*
        }

        #[async_trait]
        impl Records for Store {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                Store::$name(self, $($argument),*).await
            })*
        }

        #[cfg(feature = "sim")]
        #[async_trait]
        impl Records for crate::sim::Memory {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                self.commit(stringify!($name), |tables, service| tables.$name(service, $($argument),*)).await
            })*
        }
    };
}

statements! {
    fn hint() -> ();
    fn admit(news: &[NewOperation]) -> Vec<Admitted>;
    fn drive(flows: &Flows, chains: &BTreeSet<u64>, limit: i64) -> (usize, BTreeSet<LaneId>);
    fn stalled(after: Duration) -> (u64, u64);
    fn claim_signatures(limit: i64, again_after: Duration) -> Vec<PendingSignature>;
    fn settle_signatures(settled: &[Settled]) -> ();
    fn lease_lanes(instance: &str, lease: Duration, more: i64) -> Vec<LaneId>;
    fn look_at_lanes(instance: &str, lanes: &[LaneId]) -> Vec<LaneLook>;
    fn queued(looks: &[QueueLook]) -> Vec<Vec<QueuedTransaction>>;
    fn hashes_of(lane: LaneId, nonces: &[u64]) -> Vec<(u64, B256)>;
    fn known_requests(lane: LaneId, from_nonce: u64) -> Vec<RequestId>;
    fn forgotten(lane: LaneId, requests: &[RequestId]) -> Vec<Forgotten>;
    fn adopt(lane: LaneId, adoptions: &[Adoption]) -> ();
    fn reconcile_lane(lane: LaneId, least_next_nonce: u64) -> ();
    fn resynced(lane: LaneId, asked: u64) -> ();
    fn bind(orders: &[BindOrder]) -> Vec<Vec<Attempt>>;
    fn store_signed(given: &[SignedBytes]) -> Vec<RequestId>;
    fn mark_sent(ids: &[RequestId], again_after: Duration) -> ();
    fn defer_attempt(attempt: &Attempt, pause: Duration, action: &str, sub_status: &str, error: &str, hold: Option<Held>) -> ();
    fn defer_queued(ids: &[TransactionId], pause: Duration, action: &str, sub_status: &str, error: &str) -> ();
    fn signs_at_once(lane: LaneId) -> ();
    fn replace(lane: LaneId, new: &NewAttempt<'_>) -> ();
    fn drop_bump(id: TransactionId, error: &str) -> ();
    fn drop_replacement(refused: &Attempt, ending: Ending, pause: Duration, error: &str) -> ();
    fn requeue_used_outside(lane: LaneId, attempt: &Attempt) -> ();
    fn overtake(lane: LaneId, nonces: &[u64]) -> ();
    fn released(id: RequestId) -> ();
    fn move_reservation(lane: LaneId, attempt: &Attempt, pause: Duration) -> bool;
    fn refuse_queued(refusals: Vec<Refusal>) -> ();
    fn end_attempts(lane: LaneId, ended: Vec<(Attempt, Refusal)>, ending: Ending, fill_fees: Fees) -> ();
    fn refuse_filler(lane: LaneId, filler: &Attempt, pause: Duration) -> ();
    fn fill_holes(lane: LaneId, fees: Fees) -> ();
    fn broadcasts(lane: LaneId, by_provider: bool) -> ();
    fn hand_over(lane: LaneId, ids: &[TransactionId]) -> Vec<Handover>;
    fn heard(of: &Handover, heard: &Heard) -> ();
    fn end_handover(of: &Handover, ending: HandoverEnding, refusal: Refusal) -> ();
    fn requeue_handover(of: &Handover, pause: Duration) -> ();
    fn requeue_attempt(lane: LaneId, attempt: &Attempt, pause: Duration) -> ();
    fn not_withdrawn(of: &Handover, why: &str) -> ();
    fn our_hashes(hashes: &[B256]) -> Vec<B256>;
    fn include(inclusions: &[Inclusion]) -> BTreeSet<LaneId>;
    fn mined_blocks(chain_id: u64) -> Vec<(u64, B256)>;
    fn retract(chain_id: u64, blocks: &[B256]) -> usize;
    fn final_attempts(chain_id: u64, blocks: &[B256], limit: i64) -> Vec<FinalAttempt>;
    fn finish(finished: Vec<Finished>) -> ();
}
