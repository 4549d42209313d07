//! Changes of the directory: one transaction each.

use super::{Sent, call};
use crate::domain::feed::{ChangeDirectory, DirectoryChange};
use alloy::{
    primitives::{Address, B256},
    sol_types::SolEvent as _,
};
use dalp_contracts::bindings::FeedsDirectory::{
    AdapterCreated, createAdapterCall, registerCall, removeCall, replaceCall,
};
use dalp_engine::{Call, Cx, Flow, Mined, Step};
use serde::{Deserialize, Serialize};

/// A change of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryOrder {
    /// Where.
    pub chain_id: u64,
    /// The tenant's directory.
    pub directory: Address,
    /// The adapter that the pair has already.
    #[serde(default)]
    pub adapter: Option<Address>,
    /// What was asked for.
    pub command: ChangeDirectory,
}

/// An adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterMade {
    /// The adapter.
    pub adapter: Address,
    /// Transaction; none when the adapter was there before.
    pub tx_hash: Option<B256>,
    /// Its block.
    pub block_number: Option<u64>,
}

/// `feed.create_adapter`.
pub struct CreateAdapterFlow;

macro_rules! change {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)+) => {$(
        $(#[$doc])*
        pub struct $name;

        impl Flow for $name {
            const KIND: &'static str = $kind;
            type Order = DirectoryOrder;
            type Outcome = Sent;

            fn run(cx: &mut Cx<'_, DirectoryOrder>) -> Step<Sent> {
                let order = cx.order();
                let mined = cx.transact("change", || transaction(order))?;
                cx.done(mined.into())
            }
        }
    )+};
}

change! {
    /// `feed.register`.
    RegisterFeedFlow = "feed.register";
    /// `feed.replace`.
    ReplaceFeedFlow = "feed.replace";
    /// `feed.remove`.
    RemoveFeedFlow = "feed.remove";
}

impl Flow for CreateAdapterFlow {
    const KIND: &'static str = "feed.create_adapter";
    type Order = DirectoryOrder;
    type Outcome = AdapterMade;

    fn run(cx: &mut Cx<'_, DirectoryOrder>) -> Step<AdapterMade> {
        let order = cx.order();
        if let Some(adapter) = order.adapter {
            return cx.done(AdapterMade { adapter, tx_hash: None, block_number: None });
        }
        let mined = cx.transact("create", || transaction(order))?;
        match created(order, &mined) {
            Some(adapter) => {
                cx.done(AdapterMade { adapter, tx_hash: Some(mined.tx_hash), block_number: Some(mined.block_number) })
            }
            None => cx.fail(dalp_engine::Failure::new(
                dalp_service::Reason::Conflict.as_str(),
                "another transaction created the adapter first; GetAdapter tells its address",
            )),
        }
    }
}

fn transaction(order: &DirectoryOrder) -> Call {
    let DirectoryOrder { chain_id, directory, command, .. } = order;
    let (sender, subject, topic) = (command.sender, command.pair.subject, command.pair.topic_id);
    match command.change {
        DirectoryChange::Register { feed } => {
            call(*chain_id, sender, *directory, &registerCall { subject, topicId: topic, feed })
        }
        DirectoryChange::Replace { feed } => {
            call(*chain_id, sender, *directory, &replaceCall { subject, topicId: topic, feed })
        }
        DirectoryChange::Remove => call(*chain_id, sender, *directory, &removeCall { subject, topicId: topic }),
        DirectoryChange::CreateAdapter => {
            call(*chain_id, sender, *directory, &createAdapterCall { subject, topicId: topic })
        }
    }
}

fn created(order: &DirectoryOrder, mined: &Mined) -> Option<Address> {
    mined
        .logs
        .iter()
        .filter(|log| log.address() == order.directory)
        .find_map(|log| AdapterCreated::decode_log(&log.inner).ok())
        .map(|log| log.adapter)
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

    fn order(change: DirectoryChange) -> DirectoryOrder {
        let pair = Pair { subject: Address::repeat_byte(5), topic_id: U256::from(6) };
        DirectoryOrder {
            chain_id: 1,
            directory: Address::repeat_byte(0xd1),
            adapter: None,
            command: ChangeDirectory { sender: Address::repeat_byte(1), pair, change },
        }
    }

    #[test]
    fn each_change_is_its_call() {
        let feed = Address::repeat_byte(9);
        let world = World { sign: |_: &str| Ok(()), transact: |_: &str| Ok(vec![]) };
        let data = |played: crate::flows::replay::Played| played.calls[0].1.data.clone();
        let register = data(play::<RegisterFeedFlow>(&order(DirectoryChange::Register { feed }), &world));
        assert_eq!(registerCall::abi_decode(&register).unwrap().feed, feed);
        let replace = data(play::<ReplaceFeedFlow>(&order(DirectoryChange::Replace { feed }), &world));
        assert_eq!(replaceCall::abi_decode(&replace).unwrap().feed, feed);
        let remove = data(play::<RemoveFeedFlow>(&order(DirectoryChange::Remove), &world));
        assert_eq!(removeCall::abi_decode(&remove).unwrap().topicId, U256::from(6));
    }

    #[test]
    fn an_adapter_that_is_there_needs_no_transaction() {
        let adapter = Address::repeat_byte(0xad);
        let made = AdapterCreated { subject: Address::repeat_byte(5), topicId: U256::from(6), adapter, decimals: 2 };
        let mut order = order(DirectoryChange::CreateAdapter);
        let world =
            World { sign: |_: &str| Ok(()), transact: |_: &str| Ok(vec![log(Address::repeat_byte(0xd1), &made)]) };
        let played = play::<CreateAdapterFlow>(&order, &world);
        assert!(matches!(&played.verdict, Verdict::Done(done) if done["adapter"] == serde_json::json!(adapter)));
        order.adapter = Some(adapter);
        let played = play::<CreateAdapterFlow>(&order, &world);
        assert!(played.calls.is_empty() && matches!(played.verdict, Verdict::Done(_)));
    }
}
