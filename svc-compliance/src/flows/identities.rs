//! Identities and their keys.

use super::{Sent, call};
use crate::domain::identity::{ChangeKey, RegisterIdentity};
use alloy::primitives::{Address, B256, U256};
use dalp_contracts::{
    bindings::{IdentityControl, IdentityFactory},
    encode::key_of,
};
use dalp_engine::{Cx, Flow, Step};
use serde::{Deserialize, Serialize};

/// ERC-734 key type of an ECDSA key.
const KEY_TYPE_ECDSA: u64 = 1;

/// `identity.register`.
pub struct RegisterIdentityFlow;
/// `identity.add_key`.
pub struct AddKeyFlow;
/// `identity.remove_key`.
pub struct RemoveKeyFlow;

/// An identity to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterIdentityOrder {
    /// Where.
    pub chain_id: u64,
    /// The tenant's identity factory.
    pub identity_factory: Address,
    /// What was asked for.
    pub command: RegisterIdentity,
}

/// A key to add or remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeKeyOrder {
    /// Where.
    pub chain_id: u64,
    /// The identity.
    pub identity: Address,
    /// What was asked for.
    pub command: ChangeKey,
}

impl Flow for RegisterIdentityFlow {
    const KIND: &'static str = "identity.register";
    type Order = RegisterIdentityOrder;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, RegisterIdentityOrder>) -> Step<Sent> {
        let order = cx.order();
        let command = &order.command;
        let create = IdentityFactory::createAndRegisterCall {
            wallet: command.wallet,
            salt: B256::ZERO,
            country: command.country,
            claims: Vec::new(),
        };
        let mined =
            cx.transact("register", || call(order.chain_id, command.sender, order.identity_factory, &create))?;
        cx.done(mined.into())
    }
}

impl Flow for AddKeyFlow {
    const KIND: &'static str = "identity.add_key";
    type Order = ChangeKeyOrder;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, ChangeKeyOrder>) -> Step<Sent> {
        let ChangeKeyOrder { chain_id, identity, command } = cx.order();
        let add = IdentityControl::addKeyCall {
            key: key_of(command.key),
            purpose: U256::from(command.purpose.number()),
            keyType: U256::from(KEY_TYPE_ECDSA),
        };
        let mined = cx.transact("add_key", || call(*chain_id, command.sender, *identity, &add))?;
        cx.done(mined.into())
    }
}

impl Flow for RemoveKeyFlow {
    const KIND: &'static str = "identity.remove_key";
    type Order = ChangeKeyOrder;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, ChangeKeyOrder>) -> Step<Sent> {
        let ChangeKeyOrder { chain_id, identity, command } = cx.order();
        let remove =
            IdentityControl::removeKeyCall { key: key_of(command.key), purpose: U256::from(command.purpose.number()) };
        let mined = cx.transact("remove_key", || call(*chain_id, command.sender, *identity, &remove))?;
        cx.done(mined.into())
    }
}
