//! The rules of an asset, and what each would say of a movement.

use super::ChainReader;
use crate::domain::compliance::{Cure, cure_of};
use alloy::primitives::{Address, U256};
use dalp_chain::BlockId;
use dalp_contracts::{
    bindings::{AssetToken, CountryRule, TokenCompliance},
    revert::reason_text,
};
use dalp_service::Refusal;

/// A bound rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleView {
    /// Contract.
    pub module: Address,
    /// Name.
    pub name: String,
}

/// What one check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictView {
    /// `token`, `identity`, or the name of the rule.
    pub check: String,
    /// The rule's contract; none for checks of the token and the registry.
    pub module: Option<Address>,
    /// Reason code of a veto, with who can cure it and how.
    pub veto: Option<(String, Cure, &'static str)>,
}

/// The rules of an asset in the order they are asked.
pub async fn list(chain: &ChainReader, asset: Address) -> Result<Vec<RuleView>, Refusal> {
    let block = chain.latest().await?.id();
    let compliance = chain.read_at(asset, AssetToken::complianceCall {}, block).await?;
    let modules = chain.read_at(compliance, TokenCompliance::getModulesCall {}, block).await?;
    let rules = modules.into_iter().map(|module| async move {
        let name = rule_name(chain, module, block).await?;
        Ok::<_, Refusal>(RuleView { module, name })
    });
    futures::future::try_join_all(rules).await
}

/// The whole evaluation of a movement at the latest block, and that block.
pub async fn simulate(
    chain: &ChainReader,
    asset: Address,
    from: Option<Address>,
    to: Option<Address>,
    amount: U256,
) -> Result<(Vec<VerdictView>, u64), Refusal> {
    let head = chain.latest().await?;
    let block = head.id();
    let compliance = chain.read_at(asset, AssetToken::complianceCall {}, block).await?;
    let asked = TokenCompliance::explainCall { from: from.unwrap_or_default(), to: to.unwrap_or_default(), amount };
    let verdicts = chain.read_at(compliance, asked, block).await?;
    let named = verdicts.into_iter().enumerate().map(|(index, verdict)| async move {
        let (check, module) = match index {
            0 => ("token".to_owned(), None),
            1 => ("identity".to_owned(), None),
            _ => (rule_name(chain, verdict.module, block).await?, Some(verdict.module)),
        };
        let reason = (!verdict.reason.is_zero()).then(|| reason_text(verdict.reason));
        let veto = reason.map(|reason| {
            let (cure, advice) = cure_of(&reason);
            (reason, cure, advice)
        });
        Ok::<_, Refusal>(VerdictView { check, module, veto })
    });
    Ok((futures::future::try_join_all(named).await?, head.number))
}

/// The name of a rule; every rule answers to it alike.
async fn rule_name(chain: &ChainReader, module: Address, block: BlockId) -> Result<String, Refusal> {
    Ok(chain.read_at(module, CountryRule::nameCall {}, block).await?)
}
