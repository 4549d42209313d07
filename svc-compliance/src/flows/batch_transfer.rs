//! Transfers to many receivers: as few transactions as gas allows, all-or-nothing per transaction, each outcome reported.

use super::asset::checked;
use crate::domain::asset::BatchTransfer;
use alloy::{primitives::B256, sol_types::SolCall as _};
use dalp_contracts::bindings::AssetToken;
use dalp_engine::{Amounts, Call, Cx, Failure, Flow, Step};
use serde::{Deserialize, Serialize};

/// `asset.batch_transfer`.
pub struct BatchTransferFlow;

/// A batch with the size that gas allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchTransferOrder {
    /// Where.
    pub chain_id: u64,
    /// Items in one transaction, measured when the batch was accepted.
    pub items_per_transaction: usize,
    /// What was asked for.
    pub command: BatchTransfer,
}

/// What became of one transaction of the batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkOutcome {
    /// Index of its first item.
    pub first_item: usize,
    /// How many items it carries.
    pub items: usize,
    /// Its hash, when it succeeded.
    pub tx_hash: Option<B256>,
    /// Why none of its items moved.
    pub refusal: Option<Failure>,
}

impl Flow for BatchTransferFlow {
    const KIND: &'static str = "asset.batch_transfer";
    type Order = BatchTransferOrder;
    type Outcome = Vec<ChunkOutcome>;

    fn amounts(order: &BatchTransferOrder) -> Amounts {
        let all = Amounts::about(order.command.asset);
        order.command.items.iter().fold(all, |all, (_, amount)| all.and(order.command.asset, *amount))
    }

    fn run(cx: &mut Cx<'_, BatchTransferOrder>) -> Step<Vec<ChunkOutcome>> {
        let order = cx.order();
        let size = order.items_per_transaction.max(1);
        let outcomes = cx.try_all("transfers", || {
            order.command.items.chunks(size).map(|items| transaction(order, items)).collect::<Vec<_>>()
        })?;
        let chunks: Vec<ChunkOutcome> = outcomes
            .into_iter()
            .zip(order.command.items.chunks(size))
            .enumerate()
            .map(|(index, (outcome, items))| ChunkOutcome {
                first_item: index * size,
                items: items.len(),
                tx_hash: outcome.as_ref().ok().map(|mined| mined.tx_hash),
                refusal: outcome.err().map(|refusal| naming_the_item(refusal, index * size)),
            })
            .collect();
        // Nothing moved: the operation is refused. Some moved: it is done, and each refusal stands beside its items.
        match chunks.first().and_then(|first| first.refusal.clone()) {
            Some(refusal) if chunks.iter().all(|chunk| chunk.tx_hash.is_none()) => cx.fail(refusal),
            _ => cx.done(chunks),
        }
    }
}

/// The checks of a transaction stand in the order of its items.
fn naming_the_item(mut refusal: Failure, first_item: usize) -> Failure {
    match refusal.metadata.remove("check").and_then(|check| check.parse::<usize>().ok()) {
        Some(check) => refusal.with("item", first_item + check),
        None => refusal,
    }
}

fn transaction(order: &BatchTransferOrder, items: &[(alloy::primitives::Address, alloy::primitives::U256)]) -> Call {
    let BatchTransfer { sender, asset, .. } = &order.command;
    let (to_list, amounts) = items.iter().copied().unzip();
    let data = AssetToken::batchTransferCall { toList: to_list, amounts }.abi_encode();
    let call = Call::new(order.chain_id, *sender, *asset, data);
    // Each item is asked by itself: the first refusal names module and reason. Sums are left to the simulation of the call.
    items.iter().fold(call, |call, (to, amount)| checked(call, *sender, *to, *amount))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::replay::play;
    use alloy::primitives::{Address, U256};
    use dalp_engine::flow::Verdict;

    fn order(items: usize) -> BatchTransferOrder {
        let items = vec![(Address::repeat_byte(3), U256::from(1)); items];
        let command = BatchTransfer { sender: Address::repeat_byte(1), asset: Address::repeat_byte(2), items };
        BatchTransferOrder { chain_id: 1, items_per_transaction: 64, command }
    }

    #[test]
    fn a_batch_is_split_and_each_part_reported() {
        let refusal = Failure::new("COMPLIANCE_REFUSED", "no").with("check", 3);
        let played = play::<BatchTransferFlow>(&order(130), |name| {
            if name == "transfers[1]" { Err(refusal.clone()) } else { Ok(vec![]) }
        });
        assert_eq!(played.calls.len(), 3);
        let Verdict::Done(outcome) = played.verdict else { panic!("{:?}", played.verdict) };
        let chunks: Vec<ChunkOutcome> = serde_json::from_value(outcome).expect("chunks");
        assert_eq!(
            chunks.iter().map(|chunk| (chunk.first_item, chunk.items, chunk.tx_hash.is_some())).collect::<Vec<_>>(),
            [(0, 64, true), (64, 64, false), (128, 2, true)]
        );
        assert_eq!(chunks[1].refusal.as_ref().map(|refusal| refusal.metadata["item"].as_str()), Some("67"));
    }

    #[test]
    fn a_batch_of_which_nothing_moved_is_refused() {
        let played = play::<BatchTransferFlow>(&order(100), |_| Err(Failure::new("COMPLIANCE_REFUSED", "no")));
        assert!(matches!(played.verdict, Verdict::Failed(failure) if failure.reason == "COMPLIANCE_REFUSED"));
    }
}
