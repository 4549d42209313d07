//! The rules of an asset.

use super::ChainReader;
use alloy::primitives::Address;
use dalp_chain::BlockId;
use dalp_contracts::bindings::{AssetToken, CountryRule, TokenCompliance};
use dalp_service::Refusal;

/// A bound rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleView {
    /// Contract.
    pub module: Address,
    /// Name.
    pub name: String,
}

/// The rules of an asset in the order they are asked.
pub async fn list(chain: &ChainReader, asset: Address) -> Result<Vec<RuleView>, Refusal> {
    let block = chain.latest().await?.id();
    let compliance = chain.read_at(asset, AssetToken::complianceCall {}, block).await?;
    list_at(chain, compliance, block).await
}

/// The rules of a compliance in the order they are asked.
pub async fn list_at(chain: &ChainReader, compliance: Address, block: BlockId) -> Result<Vec<RuleView>, Refusal> {
    let modules = chain.read_at(compliance, TokenCompliance::getModulesCall {}, block).await?;
    let rules = modules.into_iter().map(|module| async move {
        let name = rule_name(chain, module, block).await?;
        Ok::<_, Refusal>(RuleView { module, name })
    });
    futures::future::try_join_all(rules).await
}

/// The name of a rule; every rule answers to it alike.
pub(super) async fn rule_name(chain: &ChainReader, module: Address, block: BlockId) -> Result<String, Refusal> {
    Ok(chain.read_at(module, CountryRule::nameCall {}, block).await?)
}
