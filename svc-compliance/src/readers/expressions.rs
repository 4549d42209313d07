//! Which saved expressions are in force: what an order took counts only where the chain says the same.

use super::{ChainReader, bounded, rule_parameters::TopicNames};
use crate::{
    app::App,
    domain::{
        expression::{Claims, Expression, SavedRef},
        rule::{Rule, RuleKind},
    },
    store::expressions::{ExpressionUse, Place, StoredExpression},
};
use alloy::primitives::Address;
use dalp_chain::BlockId;
use dalp_contracts::bindings::{AssetToken, ClaimRule, RegistryAdministration};
use dalp_service::{Reason, Refusal};

/// The version that a reference stands for now, which may be taken for something new.
pub async fn resolve(app: &App, tenant: &str, saved: &SavedRef) -> Result<StoredExpression, Refusal> {
    let stored = app.store.expression(tenant, &saved.name, saved.version).await?;
    stored.filter(|stored| !stored.deleted).ok_or_else(|| {
        let missing = Refusal::new(Reason::NotFound, format!("there is no saved expression {}", saved.name.as_str()))
            .meta("expression", saved.name.as_str());
        match saved.version {
            Some(version) => missing.meta("version", version),
            None => missing,
        }
    })
}

/// Claims written down, with the version that was taken of a saved expression.
pub async fn written(app: &App, tenant: &str, claims: &Claims) -> Result<(Expression, Option<SavedRef>), Refusal> {
    match claims {
        Claims::AnyOf(expression) => Ok((expression.clone(), None)),
        Claims::Saved(saved) => {
            let stored = resolve(app, tenant, saved).await?;
            let taken = SavedRef { name: saved.name.clone(), version: Some(stored.version) };
            Ok((stored.expression, Some(taken)))
        }
    }
}

/// A rule with its claims written down, as [`written`].
pub async fn rule_written(app: &App, tenant: &str, rule: &Rule) -> Result<(Rule, Option<SavedRef>), Refusal> {
    let Some(saved) = rule.saved() else { return Ok((rule.clone(), None)) };
    let (expression, taken) = written(app, tenant, &Claims::Saved(saved.clone())).await?;
    Ok((rule.clone().with_expression(expression), taken))
}

/// What holders of an asset need, as the registry holds it.
pub async fn policy(
    chain: &ChainReader,
    registry: Address,
    asset: Address,
    topics: &TopicNames,
    block: BlockId,
) -> Result<Expression, Refusal> {
    let groups = chain.read_at(registry, RegistryAdministration::policyOfCall { token: asset }, block).await?;
    Ok(topics.expression(groups.into_iter().map(|group| (group.allOf, group.noneOf))))
}

/// Of what orders took, what is in force at a block.
pub async fn in_force(
    app: &App,
    tenant: &str,
    uses: Vec<ExpressionUse>,
    topics: &TopicNames,
    block: BlockId,
) -> Result<Vec<ExpressionUse>, Refusal> {
    let system = app.system(tenant).await?;
    let registry = system.identity_registry;
    let asked = bounded(uses.into_iter().map(|one| async move {
        let stored = app.store.expression(tenant, &one.saved.name, one.saved.version).await?;
        let now = match one.place {
            Place::Policy => Some(policy(&app.chain, registry, one.asset, topics, block).await?),
            Place::Rule => rule(&app.chain, one.asset, topics, block).await?,
        };
        let same = stored.zip(now).is_some_and(|(stored, now)| stored.expression.same_groups(&now));
        Ok(same.then_some(one))
    }));
    Ok(asked.await?.into_iter().flatten().collect())
}

async fn rule(
    chain: &ChainReader,
    asset: Address,
    topics: &TopicNames,
    block: BlockId,
) -> Result<Option<Expression>, Refusal> {
    let compliance = chain.read_at(asset, AssetToken::complianceCall {}, block).await?;
    let bound = super::rules::list_at(chain, compliance, block).await?;
    let Some(rule) = bound.into_iter().find(|rule| rule.name == RuleKind::Claim.contract()) else { return Ok(None) };
    let params = chain.read_at(rule.module, ClaimRule::paramsOfCall { compliance }, block).await?;
    Ok(Some(topics.expression(params.anyOf.into_iter().map(|group| (group.allOf, group.noneOf)))))
}
