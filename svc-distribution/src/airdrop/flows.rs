//! What happens on chain. Pure: asked again at every wake-up, the flows decide from what has happened.
//!
//! Step names are stored; they are never renamed.

use super::terms::{ClaimRow, CreateAirdrop, ReleaseRows, Withdraw};
use crate::decoder::reason_of_revert;
use alloy::primitives::{Address, B256, Bytes, U256};
use dalp_contracts::bindings::{
    AddonFactory::{DistributionCreated, createDistributionCall},
    Distribution::{LeftoverWithdrawn, PushSkipped, Pushed, claimCall, releaseCall, withdrawCall},
};
use dalp_domain::flows::{Sent, call, events};
use dalp_engine::{Amounts, Call, Cx, Failure, Flow, Flows, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};

/// `airdrop.create`.
pub struct CreateAirdropFlow;
/// `airdrop.push_batch`.
pub struct PushBatchFlow;
/// `airdrop.claim`.
pub struct ClaimFlow;
/// `airdrop.release`.
pub struct ReleaseFlow;
/// `airdrop.withdraw`.
pub struct WithdrawFlow;

/// An airdrop to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateOrder {
    /// Where.
    pub chain_id: u64,
    /// The tenant's factory.
    pub factory: Address,
    /// Where the factory puts it.
    pub airdrop: Address,
    /// The creator's own.
    pub salt: B256,
    /// Roots of the list's trees.
    pub roots: Vec<B256>,
    /// Rows of each tree but the last; zero when one holds all.
    pub rows_per_root: u64,
    /// What was asked for.
    pub command: CreateAirdrop,
}

/// A created airdrop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AirdropMade {
    /// The contract.
    pub airdrop: Address,
    /// Transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

/// A batch to push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchOrder {
    /// Where.
    pub chain_id: u64,
    /// Which batch.
    pub command: PushBatch,
    /// The whole call: rows with their proof.
    pub data: Bytes,
}

/// A batch of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushBatch {
    /// Who sends.
    pub sender: Address,
    /// The airdrop.
    pub airdrop: Address,
    /// Number of the push.
    pub push: u32,
    /// Number of the batch in it.
    pub batch: u32,
}

/// A batch that is in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchDone {
    /// How many were paid.
    pub paid: u32,
    /// Who was not, and why.
    pub skipped: Vec<SkippedRow>,
    /// Gas used.
    pub gas_used: u64,
    /// Transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

/// A row that the token refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedRow {
    /// Its place on the list.
    pub index: u64,
    /// The account.
    pub account: Address,
    /// Why.
    pub reason: String,
}

/// A claim to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimOrder {
    /// Where.
    pub chain_id: u64,
    /// Place of the row on the list.
    pub index: u64,
    /// Its amount.
    pub amount: U256,
    /// Its proof.
    pub proof: Vec<B256>,
    /// What was asked for.
    pub command: ClaimRow,
}

/// A release to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseOrder {
    /// Where.
    pub chain_id: u64,
    /// Places of the rows on the list.
    pub indices: Vec<u64>,
    /// What was asked for.
    pub command: ReleaseRows,
}

/// A withdrawal to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawOrder {
    /// Where.
    pub chain_id: u64,
    /// Which currency.
    pub currency: Address,
    /// What was asked for.
    pub command: Withdraw,
}

/// A withdrawal that is in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// Base units, decimal.
    pub amount: String,
    /// Transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

/// Adds the flows of airdrops.
#[must_use]
pub fn add(flows: Flows) -> Flows {
    flows
        .with::<CreateAirdropFlow>()
        .with::<PushBatchFlow>()
        .with::<ClaimFlow>()
        .with::<ReleaseFlow>()
        .with::<WithdrawFlow>()
}

impl Flow for CreateAirdropFlow {
    const KIND: &'static str = "airdrop.create";
    type Order = CreateOrder;
    type Outcome = AirdropMade;

    fn amounts(order: &CreateOrder) -> Amounts {
        Amounts::of(order.command.terms.asset, order.command.total)
    }

    fn run(cx: &mut Cx<'_, CreateOrder>) -> Step<AirdropMade> {
        let order = cx.order();
        let mined = cx.transact("create", || {
            let terms = order.command.terms.on_chain(order.roots.clone(), order.rows_per_root);
            let create = createDistributionCall { salt: order.salt, terms };
            call(order.chain_id, order.command.sender, order.factory, &create)
        })?;
        let made = events::<DistributionCreated>(&mined, order.factory).map(|event| event.distribution).next();
        match made {
            Some(airdrop) => cx.done(AirdropMade { airdrop, tx_hash: mined.tx_hash, block_number: mined.block_number }),
            None => cx.fail(Failure::new(Reason::Internal.as_str(), "the factory told of no airdrop")),
        }
    }
}

impl Flow for PushBatchFlow {
    const KIND: &'static str = "airdrop.push_batch";
    type Order = BatchOrder;
    type Outcome = BatchDone;

    fn run(cx: &mut Cx<'_, BatchOrder>) -> Step<BatchDone> {
        let BatchOrder { chain_id, command, data } = cx.order();
        let mined = cx.transact("push", || Call::new(*chain_id, command.sender, command.airdrop, data.clone()))?;
        let paid = events::<Pushed>(&mined, command.airdrop).count();
        let skipped = events::<PushSkipped>(&mined, command.airdrop).map(|event| SkippedRow {
            index: event.index.saturating_to(),
            account: event.account,
            reason: reason_of_revert(&event.reason),
        });
        cx.done(BatchDone {
            paid: u32::try_from(paid).unwrap_or(u32::MAX),
            skipped: skipped.collect(),
            gas_used: mined.gas_used,
            tx_hash: mined.tx_hash,
            block_number: mined.block_number,
        })
    }
}

impl Flow for ClaimFlow {
    const KIND: &'static str = "airdrop.claim";
    type Order = ClaimOrder;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, ClaimOrder>) -> Step<Sent> {
        let ClaimOrder { chain_id, index, amount, proof, command } = cx.order();
        let mined = cx.transact("claim", || {
            let claim = claimCall {
                index: U256::from(*index),
                account: command.account,
                amount: *amount,
                proof: proof.clone(),
            };
            call(*chain_id, command.sender, command.airdrop, &claim)
        })?;
        cx.done(mined.into())
    }
}

impl Flow for ReleaseFlow {
    const KIND: &'static str = "airdrop.release";
    type Order = ReleaseOrder;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, ReleaseOrder>) -> Step<Sent> {
        let ReleaseOrder { chain_id, indices, command } = cx.order();
        let mined = cx.transact("release", || {
            let indices = indices.iter().map(|index| U256::from(*index)).collect();
            call(*chain_id, command.sender, command.airdrop, &releaseCall { indices })
        })?;
        cx.done(mined.into())
    }
}

impl Flow for WithdrawFlow {
    const KIND: &'static str = "airdrop.withdraw";
    type Order = WithdrawOrder;
    type Outcome = Withdrawn;

    fn run(cx: &mut Cx<'_, WithdrawOrder>) -> Step<Withdrawn> {
        let WithdrawOrder { chain_id, currency, command } = cx.order();
        let mined = cx.transact("withdraw", || {
            call(*chain_id, command.sender, command.airdrop, &withdrawCall { currency: *currency })
        })?;
        let amount = events::<LeftoverWithdrawn>(&mined, command.airdrop).map(|event| event.amount).next();
        cx.done(Withdrawn {
            amount: amount.unwrap_or_default().to_string(),
            tx_hash: mined.tx_hash,
            block_number: mined.block_number,
        })
    }
}
