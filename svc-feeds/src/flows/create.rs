//! A feed is deployed and entered in the directory by one transaction of the factory.

use super::call;
use crate::domain::feed::{CreateFeed, History};
use alloy::{
    primitives::{Address, B256},
    sol_types::SolEvent as _,
};
use dalp_contracts::bindings::IssuerSignedScalarFeedFactory::{
    FeedConfig, FeedCreated, createCall, createReplacementCall,
};
use dalp_engine::{Cx, Failure, Flow, OperationId, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};

/// `feed.create`.
pub struct CreateFeedFlow;

/// A feed to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateFeedOrder {
    /// Where.
    pub chain_id: u64,
    /// The tenant's factory.
    pub factory: Address,
    /// What was asked for.
    pub command: CreateFeed,
}

/// A created feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedMade {
    /// The feed.
    pub feed: Address,
    /// Hash of the topic's schema.
    pub schema_hash: B256,
    /// Transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

impl Flow for CreateFeedFlow {
    const KIND: &'static str = "feed.create";
    type Order = CreateFeedOrder;
    type Outcome = FeedMade;

    fn run(cx: &mut Cx<'_, CreateFeedOrder>) -> Step<FeedMade> {
        let CreateFeedOrder { chain_id, factory, command } = cx.order();
        let config = config(command, cx.operation_id());
        let mined = cx.transact("create", || match command.replace {
            false => call(*chain_id, command.sender, *factory, &createCall { config }),
            true => call(*chain_id, command.sender, *factory, &createReplacementCall { config }),
        })?;
        let created = mined
            .logs
            .iter()
            .filter(|log| log.address() == *factory)
            .find_map(|log| FeedCreated::decode_log(&log.inner).ok());
        match created {
            Some(created) => cx.done(FeedMade {
                feed: created.feed,
                schema_hash: created.schemaHash,
                tx_hash: mined.tx_hash,
                block_number: mined.block_number,
            }),
            None => cx.fail(Failure::new(Reason::Internal.as_str(), "the factory told of no feed")),
        }
    }
}

/// The operation is the salt, so that the same order never makes two feeds.
fn config(command: &CreateFeed, operation: OperationId) -> FeedConfig {
    let mut salt = [0; 32];
    salt[16..].copy_from_slice(operation.0.as_bytes());
    FeedConfig {
        salt: B256::new(salt),
        subject: command.pair.subject,
        topicId: command.pair.topic_id,
        decimals: command.decimals,
        historyMode: mode(command.history),
        historySize: command.history.size(),
        requirePositive: command.require_positive,
        driftAllowance: command.drift_allowance_s,
        description: command.description.clone(),
    }
}

/// The contract's number of a history mode.
const fn mode(history: History) -> u8 {
    match history {
        History::LatestOnly => 0,
        History::Bounded { .. } => 1,
        History::Full => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::feed::Pair,
        flows::replay::{World, log, play},
    };
    use alloy::{primitives::U256, sol_types::SolCall as _};
    use dalp_engine::flow::Verdict;

    fn order(replace: bool) -> CreateFeedOrder {
        CreateFeedOrder {
            chain_id: 1,
            factory: Address::repeat_byte(0xfa),
            command: CreateFeed {
                sender: Address::repeat_byte(1),
                pair: Pair { subject: Address::ZERO, topic_id: U256::from(5) },
                decimals: 2,
                description: "EUR/CHF".into(),
                history: History::Bounded { size: 4 },
                require_positive: true,
                drift_allowance_s: 30,
                replace,
            },
        }
    }

    #[test]
    fn the_factory_tells_which_feed_it_made() {
        let feed = Address::repeat_byte(0xfe);
        let made = |emitter: Address| {
            move |_: &str| {
                let created = FeedCreated {
                    feed,
                    subject: Address::ZERO,
                    topicId: U256::from(5),
                    schemaHash: B256::repeat_byte(3),
                    creator: Address::repeat_byte(1),
                };
                Ok(vec![log(emitter, &created)])
            }
        };
        let order = order(false);
        let played = play::<CreateFeedFlow>(&order, &World { sign: |_: &str| Ok(()), transact: made(order.factory) });
        let Verdict::Done(made_feed) = played.verdict else { panic!("{:?}", played.verdict) };
        assert_eq!(made_feed["feed"], serde_json::json!(feed));
        let sent = createCall::abi_decode(&played.calls[0].1.data).unwrap().config;
        assert_eq!((sent.historyMode, sent.historySize, sent.driftAllowance, sent.decimals), (1, 4, 30, 2));
        // What another contract says does not count.
        let stranger = play::<CreateFeedFlow>(&order, &World { sign: |_: &str| Ok(()), transact: made(feed) });
        assert!(matches!(stranger.verdict, Verdict::Failed(_)));
    }

    #[test]
    fn a_replacement_is_another_call() {
        let world = World { sign: |_: &str| Ok(()), transact: |_: &str| Ok(vec![]) };
        let played = play::<CreateFeedFlow>(&order(true), &world);
        assert!(createReplacementCall::abi_decode(&played.calls[0].1.data).is_ok());
    }
}
