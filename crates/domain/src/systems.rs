//! The contracts of a tenant's system, found through the records that all services share.

use crate::refusals::engine_store;
use alloy::primitives::Address;
use dalp_engine::{Engine, OperationFilter, OperationState, TenantId};
use dalp_service::{Reason, Refusal};
use serde::Deserialize;

/// The operation of svc-compliance that deploys a tenant's contracts; its result names the address book as `system`.
const BOOTSTRAP: &str = "system.bootstrap";
/// Bootstraps that are looked through.
const BOOTSTRAPS: u32 = 100;

/// What the tenant's bootstrap on a chain deployed. The address book is the tenant's to change; these are as the platform recorded them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Deployed {
    /// Address book and roles.
    pub system: Address,
    /// Identity registry.
    pub identity_registry: Address,
    /// Asset factory.
    pub asset_factory: Address,
}

/// The address book that the tenant's bootstrap on a chain ended with.
pub async fn address_book(engine: &Engine, tenant: &str, chain_id: u64) -> Result<Address, Refusal> {
    Ok(deployed(engine, tenant, chain_id).await?.system)
}

/// What the tenant's bootstrap on a chain ended with.
pub async fn deployed(engine: &Engine, tenant: &str, chain_id: u64) -> Result<Deployed, Refusal> {
    let (tenant, reader) = (TenantId::new(tenant), engine.reader());
    let filter = OperationFilter { state: Some(OperationState::Completed), kind: Some(BOOTSTRAP.to_owned()) };
    let page = reader.list_operations(&tenant, &filter, None, BOOTSTRAPS).await.map_err(engine_store)?;
    for listed in page.operations {
        let operation = reader.get_operation(&tenant, listed.operation_id).await.map_err(engine_store)?;
        let Some(operation) = operation else { continue };
        let here = operation.transactions.iter().any(|one| one.lane.chain_id == chain_id);
        let deployed = operation.result.and_then(|result| serde_json::from_value(result).ok());
        if let (true, Some(deployed)) = (here, deployed) {
            return Ok(deployed);
        }
    }
    Err(Refusal::new(
        Reason::SystemNotBootstrapped,
        "the tenant has no system on this chain; call SystemService.Bootstrap first",
    ))
}
