//! Identities and their keys.

use super::{Moves, call, single_transaction};
use crate::domain::identity::{ChangeKey, RegisterIdentity};
use alloy::primitives::{Address, B256, U256};
use dalp_contracts::{
    bindings::{IdentityControl, IdentityFactory},
    encode::key_of,
};
use serde::{Deserialize, Serialize};

/// ERC-734 key type of an ECDSA key.
const KEY_TYPE_ECDSA: u64 = 1;

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

impl Moves for RegisterIdentityOrder {}
impl Moves for ChangeKeyOrder {}

single_transaction! {
    /// `identity.register`.
    RegisterIdentityFlow = "identity.register", RegisterIdentityOrder, "register", |order| {
        let RegisterIdentity { sender, wallet, country } = order.command;
        let create =
            IdentityFactory::createAndRegisterCall { wallet, salt: B256::ZERO, country, claims: Vec::new() };
        call(order.chain_id, sender, order.identity_factory, &create)
    };
    /// `identity.add_key`.
    AddKeyFlow = "identity.add_key", ChangeKeyOrder, "add_key", |order| {
        let (key, purpose) = key_and_purpose(&order.command);
        let add = IdentityControl::addKeyCall { key, purpose, keyType: U256::from(KEY_TYPE_ECDSA) };
        call(order.chain_id, order.command.sender, order.identity, &add)
    };
    /// `identity.remove_key`.
    RemoveKeyFlow = "identity.remove_key", ChangeKeyOrder, "remove_key", |order| {
        let (key, purpose) = key_and_purpose(&order.command);
        call(order.chain_id, order.command.sender, order.identity, &IdentityControl::removeKeyCall { key, purpose })
    };
}

fn key_and_purpose(command: &ChangeKey) -> (B256, U256) {
    (key_of(command.key), U256::from(command.purpose.number()))
}
