//! Topics and trusted issuers.

use super::{Sent, call};
use crate::domain::identity::{AddTrustedIssuer, RegisterTopic, RemoveTrustedIssuer};
use alloy::primitives::Address;
use dalp_contracts::bindings::{RegistryAdministration, TopicSchemeRegistry};
use dalp_engine::{Cx, Flow, Step};
use serde::{Deserialize, Serialize};

/// `topic.register`.
pub struct RegisterTopicFlow;
/// `issuer.add`.
pub struct AddTrustedIssuerFlow;
/// `issuer.remove`.
pub struct RemoveTrustedIssuerFlow;

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

impl Flow for RegisterTopicFlow {
    const KIND: &'static str = "topic.register";
    type Order = RegistryOrder<RegisterTopic>;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, Self::Order>) -> Step<Sent> {
        let RegistryOrder { chain_id, registry, command, .. } = cx.order();
        let register = TopicSchemeRegistry::registerTopicSchemeCall {
            name: command.name.as_str().to_owned(),
            schema: command.signature.clone(),
        };
        let mined = cx.transact("register", || call(*chain_id, command.sender, *registry, &register))?;
        cx.done(mined.into())
    }
}

impl Flow for AddTrustedIssuerFlow {
    const KIND: &'static str = "issuer.add";
    type Order = RegistryOrder<AddTrustedIssuer>;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, Self::Order>) -> Step<Sent> {
        let RegistryOrder { chain_id, registry, issuer_identity, command } = cx.order();
        let topics = command.topics.iter().map(|topic| topic.id()).collect();
        let add = RegistryAdministration::addTrustedIssuerCall { issuer: *issuer_identity, topics };
        let mined = cx.transact("add", || call(*chain_id, command.sender, *registry, &add))?;
        cx.done(mined.into())
    }
}

impl Flow for RemoveTrustedIssuerFlow {
    const KIND: &'static str = "issuer.remove";
    type Order = RegistryOrder<RemoveTrustedIssuer>;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, Self::Order>) -> Step<Sent> {
        let RegistryOrder { chain_id, registry, issuer_identity, command } = cx.order();
        let remove = RegistryAdministration::removeTrustedIssuerCall { issuer: *issuer_identity };
        let mined = cx.transact("remove", || call(*chain_id, command.sender, *registry, &remove))?;
        cx.done(mined.into())
    }
}
