//! Which contracts judge for a tenant and for an asset, and whether they would take parameters.

use super::{ChainReader, ReadError, rules};
use crate::{
    domain::{
        feature::{Feature, FeatureKind},
        rule::{Rule, RuleKind, approval::Movement},
    },
    flows::{
        asset::RuleTarget,
        rules::{approval_id, feature_params, rule_params},
    },
    store::systems::SystemAddresses,
};
use alloy::{
    primitives::{Address, Bytes, U256},
    sol_types::SolError as _,
};
use dalp_contracts::{
    bindings::{ApprovalRule, AssetToken, CountryRule, HoldingPeriodRule, System},
    decode_revert,
    revert::reason_text,
    roles::book_key,
};
use dalp_service::{Reason, Refusal};

/// How somebody becomes an approver; stands in the metadata of the refusal.
pub const APPROVERS_NAMED_BY: &str = "ComplianceService.SetRuleParameters, from the asset's governance";

/// The contract that the tenant's address book names; none where the tenant's system is older than the contract.
pub async fn listed(chain: &ChainReader, system: &SystemAddresses, contract: &str) -> Result<Option<Address>, Refusal> {
    let address = chain.read(system.system, System::getCall { name: book_key(contract) }).await?;
    Ok((!address.is_zero()).then_some(address))
}

/// As [`listed`]; none is a refusal.
pub async fn require(chain: &ChainReader, system: &SystemAddresses, contract: &str) -> Result<Address, Refusal> {
    listed(chain, system, contract).await?.ok_or_else(|| {
        Refusal::new(Reason::ModuleUnknown, format!("the tenant's system has no {contract}")).meta("module", contract)
    })
}

/// The rule of a kind that an asset is bound to. None is a refusal.
pub async fn bound(chain: &ChainReader, asset: Address, kind: RuleKind) -> Result<RuleTarget, Refusal> {
    let compliance = chain.read(asset, AssetToken::complianceCall {}).await?;
    let rules = rules::list(chain, asset).await?;
    let bound = rules.into_iter().find(|rule| rule.name == kind.contract());
    let module = bound.map(|rule| rule.module).ok_or_else(|| {
        Refusal::new(Reason::NotFound, format!("no {} is bound to the asset; bind one with AddRule", kind.contract()))
            .meta("module", kind.contract())
            .meta("asset", asset.to_checksum(None))
    })?;
    Ok(RuleTarget { compliance, module, params: Bytes::new() })
}

/// The feature of a kind that an asset has, if it has one.
pub async fn feature(chain: &ChainReader, asset: Address, kind: FeatureKind) -> Result<Option<Address>, Refusal> {
    let bound = rules::list(chain, asset).await?;
    Ok(bound.into_iter().find(|rule| rule.name == kind.contract()).map(|rule| rule.module))
}

/// As [`feature`], with the asset's compliance. None is a refusal.
pub async fn attached(chain: &ChainReader, asset: Address, kind: FeatureKind) -> Result<RuleTarget, Refusal> {
    let compliance = chain.read(asset, AssetToken::complianceCall {}).await?;
    let module = feature(chain, asset, kind).await?.ok_or_else(|| {
        let message = format!("the asset has no {}; attach it with AttachFeature", kind.contract());
        Refusal::new(Reason::FeatureNotAttached, message)
            .meta("feature", kind.contract())
            .meta("asset", asset.to_checksum(None))
    })?;
    Ok(RuleTarget { compliance, module, params: Bytes::new() })
}

/// As [`accepted_params`], of a feature.
pub async fn accepted_feature(
    chain: &ChainReader,
    module: Address,
    feature: &Feature,
    path: &str,
) -> Result<Bytes, Refusal> {
    let params = feature_params(feature);
    validate(chain, module, params.clone(), |field| format!("{path}.{}", feature.kind().field_of(field))).await?;
    Ok(params)
}

/// The rule's parameters in its encoding, once its contract has said that it would take them now. `path` is that of the binding.
pub async fn accepted_params(chain: &ChainReader, module: Address, rule: &Rule, path: &str) -> Result<Bytes, Refusal> {
    let params = rule_params(rule);
    validate(chain, module, params.clone(), |field| format!("{path}.{}", rule.kind().field_of(field))).await?;
    Ok(params)
}

/// Asks a module whether it would take parameters. `path_of` says what the contract's name of a field is called on the wire.
pub async fn validate(
    chain: &ChainReader,
    module: Address,
    params: Bytes,
    path_of: impl FnOnce(&str) -> String,
) -> Result<(), Refusal> {
    let revert = match chain.read(module, CountryRule::validateCall { params }).await {
        Ok(_) => return Ok(()),
        Err(ReadError::Reverted(data)) => data,
        Err(error) => return Err(error.into()),
    };
    let (field, description) = match CountryRule::InvalidParams::abi_decode(&revert) {
        Ok(invalid) => (path_of(&reason_text(invalid.field)), "is refused by the module's contract".to_owned()),
        Err(_) => (path_of("any_of"), format!("is refused by the module's contract: {}", decode_revert(&revert))),
    };
    Err(Refusal::new(Reason::ModuleParametersInvalid, format!("{field}: {description}")).field(field, description))
}

/// Refuses new parameters that change what is fixed while a rule stays bound.
pub async fn refuse_fixed(chain: &ChainReader, target: &RuleTarget, rule: &Rule, path: &str) -> Result<(), Refusal> {
    let Rule::HoldingPeriod(period) = rule else { return Ok(()) };
    let now = chain.read(target.module, HoldingPeriodRule::paramsOfCall { compliance: target.compliance }).await?;
    if super::rule_parameters::earlier(now.earlier) == Some(period.earlier) {
        return Ok(());
    }
    let (field, description) = (
        format!("{path}.holding_period.earlier"),
        "cannot change while the rule stays bound; remove it and bind it again",
    );
    Err(Refusal::new(Reason::ModuleParametersInvalid, format!("{field}: {description}")).field(field, description))
}

/// Refuses a sender who is no approver of the asset's `ApprovalRule`.
pub async fn require_approver(chain: &ChainReader, target: &RuleTarget, sender: Address) -> Result<(), Refusal> {
    let params = chain.read(target.module, ApprovalRule::paramsOfCall { compliance: target.compliance }).await?;
    if params.approvers.contains(&sender) {
        return Ok(());
    }
    Err(Refusal::new(Reason::AssetRoleMissing, "the sender is no approver of the asset")
        .meta("role", "approver")
        .meta("granted_by", APPROVERS_NAMED_BY)
        .meta("sender", sender.to_checksum(None)))
}

/// Refuses where there is no approval of a movement.
pub async fn require_approval(chain: &ChainReader, target: &RuleTarget, movement: &Movement) -> Result<(), Refusal> {
    let asked = ApprovalRule::approvalOfCall { compliance: target.compliance, id: approval_id(movement) };
    match chain.read(target.module, asked).await?.approver.is_zero() {
        false => Ok(()),
        true => Err(Refusal::new(Reason::NotFound, "there is no approval of this movement")),
    }
}

/// Refuses an approval that would end too late or has ended already, by the chain's clock.
pub async fn require_expiry(chain: &ChainReader, target: &RuleTarget, expires_at: u64) -> Result<(), Refusal> {
    let params = chain.read(target.module, ApprovalRule::paramsOfCall { compliance: target.compliance }).await?;
    let now = chain.latest().await?.timestamp_s;
    let latest = U256::from(now) + U256::from(params.maxValiditySeconds);
    if expires_at > now && U256::from(expires_at) <= latest {
        return Ok(());
    }
    let text = format!(
        "must lie after {now}, the chain's time, and not after {latest}: no approval outlives the rule's validity"
    );
    Err(Refusal::new(Reason::InvalidField, format!("expires_at {text}")).field("expires_at", text))
}
