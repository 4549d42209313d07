//! Many updates: signed together, submitted in as few transactions as they fit. What one feed refuses leaves the others untouched;
//! what was refused for its nonce alone is signed and submitted again, with its like.

use super::{accepted, always_overtaken, call, expected_nonce, sign_step, submit_step};
use crate::{
    decoder::failure_of_revert,
    domain::update::{SubmitBatch, Update},
};
use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::SolEvent as _,
};
use dalp_contracts::bindings::FeedBatch::{BatchItem, BatchItemRejected, FeedUpdate, submitManyCall};
use dalp_engine::{Cx, Failure, Flow, Mined, SignDocument, Step};
use serde::{Deserialize, Serialize};

/// `feed.submit_batch`.
pub struct SubmitBatchFlow;

/// Values to sign and submit together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchOrder {
    /// Where.
    pub chain_id: u64,
    /// The tenant's batch contract.
    pub batch: Address,
    /// Identity of the issuer.
    pub issuer_identity: Address,
    /// The most items of one transaction.
    pub items_per_transaction: usize,
    /// What is known of the feeds, in the order of the command's observations.
    pub items: Vec<ItemTerms>,
    /// What was asked for.
    pub command: SubmitBatch,
}

/// What an item needs besides its observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemTerms {
    /// Topic of the feed.
    pub topic_id: U256,
    /// Hash of the topic's schema.
    pub schema_hash: B256,
    /// The nonce that stood next when the batch was accepted.
    pub nonce: u64,
}

/// What became of every item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchDone {
    /// In the order of the values asked for.
    pub items: Vec<ItemOutcome>,
    /// How many of them were accepted.
    pub accepted: usize,
    /// Transactions, in order.
    pub tx_hashes: Vec<B256>,
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemOutcome {
    /// The feed.
    pub feed: Address,
    /// The round it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_id: Option<String>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// An item that is not settled yet.
struct Open {
    index: usize,
    nonce: u64,
}

/// An item that was signed.
struct Signed {
    open: Open,
    update: Update,
    signature: Bytes,
}

impl Flow for SubmitBatchFlow {
    const KIND: &'static str = "feed.submit_batch";
    type Order = BatchOrder;
    type Outcome = BatchDone;

    fn run(cx: &mut Cx<'_, BatchOrder>) -> Step<BatchDone> {
        let order = cx.order();
        let mut settled: Vec<Option<Result<String, Failure>>> = vec![None; order.items.len()];
        let mut open: Vec<Open> =
            order.items.iter().enumerate().map(|(index, item)| Open { index, nonce: item.nonce }).collect();
        let mut tx_hashes = Vec::new();
        for attempt in 0..super::ATTEMPTS {
            if open.is_empty() {
                break;
            }
            let mut again = Vec::new();
            let signed = sign(cx, attempt, std::mem::take(&mut open), &mut settled, &mut again)?;
            let chunks: Vec<&[Signed]> = signed.chunks(order.items_per_transaction.max(1)).collect();
            let calls = || chunks.iter().map(|chunk| order.submission(chunk)).collect::<Vec<_>>();
            for (chunk, outcome) in chunks.iter().zip(cx.try_all(&submit_step(attempt), calls)?) {
                if let Ok(mined) = &outcome {
                    tx_hashes.push(mined.tx_hash);
                }
                for (place, item) in chunk.iter().enumerate() {
                    let index = item.open.index;
                    let result =
                        outcome.as_ref().map_err(Clone::clone).and_then(|mined| order.item(mined, place, index));
                    match result {
                        Err(failure) => retry_or_settle(index, failure, &mut settled, &mut again),
                        Ok(round_id) => settled[index] = Some(Ok(round_id)),
                    }
                }
            }
            open = again;
        }
        let items: Vec<ItemOutcome> = order
            .command
            .observations
            .iter()
            .zip(settled)
            .map(|(observation, outcome)| {
                let outcome = outcome.unwrap_or_else(|| Err(always_overtaken()));
                let (round_id, error) = match outcome {
                    Ok(round_id) => (Some(round_id), None),
                    Err(failure) => (None, Some(failure)),
                };
                ItemOutcome { feed: observation.feed, round_id, error }
            })
            .collect();
        let accepted = items.iter().filter(|item| item.error.is_none()).count();
        cx.done(BatchDone { items, accepted, tx_hashes })
    }
}

/// Has all open items signed at once.
fn sign(
    cx: &mut Cx<'_, BatchOrder>,
    attempt: u32,
    open: Vec<Open>,
    settled: &mut [Option<Result<String, Failure>>],
    again: &mut Vec<Open>,
) -> Step<Vec<Signed>> {
    let order = cx.order();
    // All are asked for before the first is waited for.
    let asked: Vec<_> = open
        .into_iter()
        .map(|open| {
            let update = order.update(&open);
            let feed = order.command.observations[open.index].feed;
            let document = || SignDocument::Eip712 {
                signer: order.command.signer,
                document: update.document(order.chain_id, feed),
            };
            let answer = cx.try_sign(&sign_step(open.index, attempt), document);
            (open, update, answer)
        })
        .collect();
    let mut signed = Vec::with_capacity(asked.len());
    for (open, update, answer) in asked {
        match answer? {
            Ok(signature) => signed.push(Signed { open, update, signature: signature.0 }),
            Err(failure) => retry_or_settle(open.index, failure, settled, again),
        }
    }
    Ok(signed)
}

fn retry_or_settle(
    index: usize,
    failure: Failure,
    settled: &mut [Option<Result<String, Failure>>],
    again: &mut Vec<Open>,
) {
    match expected_nonce(&failure) {
        Some(nonce) => again.push(Open { index, nonce }),
        None => settled[index] = Some(Err(failure)),
    }
}

// === impl BatchOrder ===

impl BatchOrder {
    fn update(&self, open: &Open) -> Update {
        let (item, observation) = (self.items[open.index], self.command.observations[open.index]);
        Update {
            topic_id: item.topic_id,
            schema_hash: item.schema_hash,
            value: observation.value,
            observed_at: observation.observed_at,
            nonce: open.nonce,
            deadline: U256::from(self.command.deadline),
        }
    }

    fn submission(&self, chunk: &[Signed]) -> dalp_engine::Call {
        let items = chunk
            .iter()
            .map(|item| {
                let update = item.update.on_chain();
                BatchItem {
                    feed: self.command.observations[item.open.index].feed,
                    issuer: self.issuer_identity,
                    update: FeedUpdate {
                        topicId: update.topicId,
                        schemaHash: update.schemaHash,
                        value: update.value,
                        observedAt: update.observedAt,
                        nonce: update.nonce,
                        deadline: update.deadline,
                    },
                    signature: item.signature.clone(),
                }
            })
            .collect();
        call(self.chain_id, self.command.sender, self.batch, &submitManyCall { items })
    }

    /// The round of an item, or why its feed refused it; `place` is its place in the transaction.
    fn item(&self, mined: &Mined, place: usize, index: usize) -> Result<String, Failure> {
        let rejected = mined
            .logs
            .iter()
            .filter(|log| log.address() == self.batch)
            .filter_map(|log| BatchItemRejected::decode_log(&log.inner).ok())
            .find(|log| log.index == U256::from(place));
        match (rejected, accepted(&mined.logs, self.command.observations[index].feed)) {
            (Some(rejected), _) => Err(failure_of_revert(&rejected.reason)),
            (None, Some(event)) => Ok(event.roundId.to_string()),
            (None, None) => Err(Failure::new(dalp_service::Reason::Internal.as_str(), "the feed told of no round")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::update::Observation,
        flows::replay::{World, log, play},
    };
    use alloy::{
        primitives::I256,
        sol_types::{SolCall as _, SolError as _},
    };
    use dalp_contracts::bindings::IssuerSignedScalarFeed::{FeedUpdated, InvalidNonce, ValueNotPositive};
    use dalp_engine::flow::Verdict;

    fn feed(number: u8) -> Address {
        Address::repeat_byte(number)
    }

    fn order(items: u8) -> BatchOrder {
        let observation = |n| Observation { feed: feed(n), value: I256::ONE, observed_at: 5 };
        let terms = ItemTerms { topic_id: U256::from(1), schema_hash: B256::ZERO, nonce: 1 };
        BatchOrder {
            chain_id: 1,
            batch: Address::repeat_byte(0xba),
            issuer_identity: Address::repeat_byte(0xdd),
            items_per_transaction: 2,
            items: vec![terms; items.into()],
            command: SubmitBatch {
                sender: Address::repeat_byte(0xaa),
                issuer: Address::repeat_byte(0xbb),
                signer: Address::repeat_byte(0xcc),
                deadline: 0,
                observations: (1..=items).map(observation).collect(),
            },
        }
    }

    fn round(number: u8) -> dalp_chain::Log {
        let event = FeedUpdated {
            issuer: Address::ZERO,
            roundId: alloy::primitives::Uint::from(number),
            value: I256::ONE,
            observedAt: U256::from(5),
            nonce: U256::ONE,
            deadline: U256::ZERO,
            signature: Bytes::new(),
        };
        log(feed(number), &event)
    }

    fn rejected(place: u64, of: Address, reason: Vec<u8>) -> dalp_chain::Log {
        log(
            Address::repeat_byte(0xba),
            &BatchItemRejected { index: U256::from(place), feed: of, reason: reason.into() },
        )
    }

    #[test]
    fn one_refusal_leaves_the_others_and_a_lost_nonce_comes_again() {
        let world = World {
            sign: |_: &str| Ok(()),
            transact: |name: &str| {
                Ok(match name {
                    "submit/0[0]" => {
                        vec![round(1), rejected(1, feed(2), ValueNotPositive { value: I256::ZERO }.abi_encode())]
                    }
                    "submit/0[1]" => {
                        let lost = InvalidNonce { expected: U256::from(3), given: U256::ONE }.abi_encode();
                        vec![rejected(0, feed(3), lost)]
                    }
                    _ => vec![round(3)],
                })
            },
        };
        let played = play::<SubmitBatchFlow>(&order(3), &world);
        let Verdict::Done(done) = played.verdict else { panic!("{:?}", played.verdict) };
        let done: BatchDone = serde_json::from_value(done).unwrap();
        assert_eq!((done.accepted, done.tx_hashes.len()), (2, 3));
        assert_eq!(done.items[0].round_id.as_deref(), Some("1"));
        assert_eq!(done.items[1].error.as_ref().unwrap().reason, "FEED_VALUE_NOT_POSITIVE");
        assert_eq!(done.items[2].round_id.as_deref(), Some("3"));
        let names: Vec<_> = played.documents.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sign/0/0", "sign/1/0", "sign/2/0", "sign/2/1"]);
        let last = submitManyCall::abi_decode(&played.calls[2].1.data).unwrap();
        assert_eq!((last.items.len(), last.items[0].update.nonce), (1, U256::from(3)));
    }

    #[test]
    fn what_the_signer_refuses_is_the_item_s_own() {
        let world = World {
            sign: |name: &str| if name == "sign/0/0" { Err(Failure::new("POLICY_DENIED", "no")) } else { Ok(()) },
            transact: |_: &str| Ok(vec![round(2)]),
        };
        let played = play::<SubmitBatchFlow>(&order(2), &world);
        let Verdict::Done(done) = played.verdict else { panic!("{:?}", played.verdict) };
        let done: BatchDone = serde_json::from_value(done).unwrap();
        assert_eq!(done.items[0].error.as_ref().unwrap().reason, "POLICY_DENIED");
        assert_eq!(done.accepted, 1);
    }
}
