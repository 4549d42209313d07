//! Topics and trusted issuers.

use super::{Moves, call, single_transaction};
use crate::domain::identity::{AddTrustedIssuer, RegisterTopic, RemoveTrustedIssuer};
use alloy::primitives::Address;
use dalp_contracts::bindings::{RegistryAdministration, TopicSchemeRegistry};
use serde::{Deserialize, Serialize};

/// A command to a registry of the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryOrder<C> {
    /// Where.
    pub chain_id: u64,
    /// The registry.
    pub registry: Address,
    /// Identity of the issuer; zero for topics.
    pub issuer_identity: Address,
    /// What was asked for.
    pub command: C,
}

impl<C> Moves for RegistryOrder<C> {}

single_transaction! {
    /// `topic.register`.
    RegisterTopicFlow = "topic.register", RegistryOrder<RegisterTopic>, "register", |order| {
        let RegisterTopic { sender, name, signature } = &order.command;
        let (name, schema) = (name.as_str().to_owned(), signature.clone());
        call(order.chain_id, *sender, order.registry, &TopicSchemeRegistry::registerTopicSchemeCall { name, schema })
    };
    /// `issuer.add`.
    AddTrustedIssuerFlow = "issuer.add", RegistryOrder<AddTrustedIssuer>, "add", |order| {
        let topics = order.command.topics.iter().map(|topic| topic.id()).collect();
        let add = RegistryAdministration::addTrustedIssuerCall { issuer: order.issuer_identity, topics };
        call(order.chain_id, order.command.sender, order.registry, &add)
    };
    /// `issuer.remove`.
    RemoveTrustedIssuerFlow = "issuer.remove", RegistryOrder<RemoveTrustedIssuer>, "remove", |order| {
        let remove = RegistryAdministration::removeTrustedIssuerCall { issuer: order.issuer_identity };
        call(order.chain_id, order.command.sender, order.registry, &remove)
    };
}
