//! Reads about rules: what there is, what is bound, and what a bound rule keeps.

use super::{
    catalogue,
    compliance_messages::movement,
    page_at, page_size, page_token,
    rule_messages::{binding_of, wire_entry, wire_kind, wire_saved},
    simulation::wire_cure,
    terms_messages::wire_feature,
};
use crate::{
    app::App,
    domain::{
        Violations,
        compliance::Cure,
        feature::FeatureKind,
        rule::{
            Rule, RuleKind,
            approval::Covers,
            catalogue::Hook,
            list::{ListEntry, MAX_ENTRIES},
        },
    },
    flows::{asset::RuleTarget, rules::approval_id},
    readers::{
        bounded, expressions, modules,
        rule_parameters::{self, Place, TopicNames, Usage},
        rules,
    },
    store::expressions::Place as StoredPlace,
};
use alloy::primitives::Address;
use dalp_contracts::bindings::{ApprovalRule, AssetToken, IdentityRegistry, ListRule};
use dalp_proto::compliance as proto;
use dalp_service::{Reason, Refusal};

/// Every rule there is.
pub(super) async fn modules(app: &App, tenant: &str) -> Result<proto::ListModulesResponse, Refusal> {
    let system = app.system(tenant).await?;
    let listed = bounded(RuleKind::ALL.map(|kind| {
        let system = system.clone();
        async move { Ok((kind, modules::listed(&app.chain, &system, kind.contract()).await?)) }
    }));
    let modules = listed.await?.into_iter().map(|(kind, module)| proto::Module {
        kind: wire_kind(kind).into(),
        name: kind.contract().to_owned(),
        module: module.map(|module| module.to_checksum(None)).unwrap_or_default(),
        purpose: kind.purpose().to_owned(),
        hooks: kind.hooks().into_iter().map(|hook| wire_hook(hook).into()).collect(),
        parameters: catalogue::parameters(kind.field()),
        reasons: wire_reasons(kind.reasons()),
        calls: kind.calls().into_iter().map(str::to_owned).collect(),
    });
    Ok(proto::ListModulesResponse { modules: modules.collect() })
}

/// The rules of an asset with what the chain holds for them, at one block.
pub(super) async fn of_asset(app: &App, tenant: &str, asset: Address) -> Result<proto::ListRulesResponse, Refusal> {
    let head = app.chain.latest().await?;
    let block = head.id();
    let compliance = app.chain.read_at(asset, AssetToken::complianceCall {}, block).await?;
    let topics = TopicNames::new(app.store.topics(tenant, app.chain.chain_id()).await?);
    let bound = rules::list_at(&app.chain, compliance, block).await?;
    let taken = app.store.expressions_of_asset(tenant, app.chain.chain_id(), asset).await?;
    let taken = taken.into_iter().filter(|one| one.place == StoredPlace::Rule).collect();
    let in_force = expressions::in_force(app, tenant, taken, &topics, block).await?;
    let saved = in_force.first().map(|one| wire_saved(&one.saved));
    let (topics, saved) = (&topics, &saved);
    let rules = bounded(bound.into_iter().map(|rule| async move {
        let place = Place { module: rule.module, compliance, block, block_number: head.number };
        let feature = match FeatureKind::of_contract(&rule.name) {
            Some(kind) => Some(rule_parameters::feature(&app.chain, kind, place).await?),
            None => None,
        };
        let read = match RuleKind::of_contract(&rule.name) {
            Some(kind) => Some(rule_parameters::read(app, tenant, kind, place, topics).await?),
            None => None,
        };
        let (parameters, usage) = read.unzip();
        let expression = match &parameters {
            Some(Rule::Claim(rule)) => rule.claims.written().map(ToString::to_string),
            _ => None,
        };
        Ok(proto::Rule {
            module: rule.module.to_checksum(None),
            name: rule.name,
            parameters: parameters.as_ref().map(binding_of),
            feature: feature.as_ref().map(wire_feature),
            expression: expression.unwrap_or_default(),
            usage: usage.and_then(wire_usage),
            saved_expression: saved.clone().filter(|_| matches!(parameters, Some(Rule::Claim(_)))),
        })
    }));
    Ok(proto::ListRulesResponse { rules: rules.await? })
}

/// Why somebody refuses, on the wire.
pub(super) fn wire_reasons(
    reasons: impl Iterator<Item = (&'static str, Cure, &'static str)>,
) -> Vec<proto::ModuleReason> {
    let wire = |(reason, cure, advice): (&str, Cure, &str)| proto::ModuleReason {
        reason: reason.to_owned(),
        cure: wire_cure(cure).into(),
        advice: advice.to_owned(),
    };
    reasons.map(wire).collect()
}

/// Accounts that are asked about.
fn asked(accounts: &[String]) -> Result<Vec<Address>, Refusal> {
    let mut violations = Violations::new();
    if !(1..=MAX_ENTRIES).contains(&accounts.len()) {
        violations.push("accounts", format!("needs 1 to {MAX_ENTRIES} accounts"));
    }
    let each = accounts.iter().take(MAX_ENTRIES).enumerate();
    let accounts = each.map(|(index, account)| violations.address(&format!("accounts[{index}]"), account)).collect();
    Ok(violations.into_result(accounts)?)
}

/// What accounts are exempt from: of the registry, and of each bound rule that exempts wallets.
pub(super) async fn exemptions(
    app: &App,
    tenant: &str,
    asset: Address,
    accounts: &[String],
) -> Result<proto::GetExemptionsResponse, Refusal> {
    let accounts = asked(accounts)?;
    let registry = app.system(tenant).await?.identity_registry;
    let block = app.chain.latest().await?.id();
    let compliance = app.chain.read_at(asset, AssetToken::complianceCall {}, block).await?;
    let bound = rules::list_at(&app.chain, compliance, block).await?;
    let exempting: Vec<(RuleKind, Address)> = bound
        .into_iter()
        .filter_map(|rule| Some((RuleKind::of_contract(&rule.name).filter(|kind| kind.exempts())?, rule.module)))
        .collect();
    let exempting = &exempting;
    let exemptions = bounded(accounts.into_iter().map(|account| async move {
        let identity = IdentityRegistry::isExemptCall { token: asset, account };
        let mut rules = Vec::new();
        for (kind, module) in exempting {
            if rule_parameters::exempts(&app.chain, *kind, *module, compliance, account, block).await? {
                rules.push(wire_kind(*kind).into());
            }
        }
        let identity = app.chain.read_at(registry, identity, block).await?;
        Ok(proto::Exemption { account: account.to_checksum(None), identity, rules })
    }));
    Ok(proto::GetExemptionsResponse { exemptions: exemptions.await? })
}

/// Where accounts stand on the lists of an asset.
pub(super) async fn list_entries(
    app: &App,
    asset: Address,
    accounts: &[String],
) -> Result<proto::GetListEntriesResponse, Refusal> {
    let accounts = asked(accounts)?;
    let RuleTarget { compliance, module, .. } = modules::bound(&app.chain, asset, RuleKind::List).await?;
    let block = app.chain.latest().await?.id();
    let entries = bounded(accounts.into_iter().map(|account| async move {
        let lists = app.chain.read_at(module, ListRule::listsOfCall { compliance, account }, block).await?;
        Ok(wire_entry(&ListEntry { account, allowed: lists & 1 != 0, blocked: lists & 2 != 0 }))
    }));
    Ok(proto::GetListEntriesResponse { entries: entries.await? })
}

/// A page of the accounts on the lists of an asset, from the indexed log.
pub(super) async fn listed(
    app: &App,
    tenant: &str,
    asset: Address,
    request: &proto::ListListEntriesRequest,
) -> Result<proto::ListListEntriesResponse, Refusal> {
    let limit = page_size(request.page_size)?;
    let (block, after) = page_at(app, request.block_number, &request.page_token).await?;
    let RuleTarget { compliance, module, .. } = modules::bound(&app.chain, asset, RuleKind::List).await?;
    let bound = (compliance, module);
    let mut found = app.store.listed(tenant, app.chain.chain_id(), bound, block, after, limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next_page_token = found.last().filter(|_| more).map(|(last, _)| page_token(block, *last)).unwrap_or_default();
    let entry = |(account, lists): (Address, u8)| {
        wire_entry(&ListEntry { account, allowed: lists & 1 != 0, blocked: lists & 2 != 0 })
    };
    Ok(proto::ListListEntriesResponse {
        entries: found.into_iter().map(entry).collect(),
        block_number: block,
        next_page_token,
    })
}

/// The approval of a movement.
pub(super) async fn approval(
    app: &App,
    asset: Address,
    asked: Option<&proto::ApprovedMovement>,
) -> Result<proto::GetApprovalResponse, Refusal> {
    let mut violations = Violations::new();
    let wanted = movement(&mut violations, asked);
    let wanted = violations.into_result(wanted)?;
    let target = modules::bound(&app.chain, asset, RuleKind::Approval).await?;
    let head = app.chain.latest().await?;
    let (compliance, block) = (target.compliance, head.id());
    let id = approval_id(&wanted);
    let given = app.chain.read_at(target.module, ApprovalRule::approvalOfCall { compliance, id }, block).await?;
    if given.approver.is_zero() {
        return Err(Refusal::new(Reason::NotFound, "there is no approval of this movement"));
    }
    let params = app.chain.read_at(target.module, ApprovalRule::paramsOfCall { compliance }, block).await?;
    let expires_at: u64 = given.expiresAt.saturating_to();
    let amount = match wanted.covers {
        Covers::Once { amount } => amount.to_string(),
        Covers::Standing { .. } => given.max.to_string(),
    };
    Ok(proto::GetApprovalResponse {
        approver: given.approver.to_checksum(None),
        expires_at,
        amount,
        counts: head.timestamp_s < expires_at && params.approvers.contains(&given.approver),
    })
}

fn wire_hook(hook: Hook) -> proto::Hook {
    match hook {
        Hook::Check => proto::Hook::Check,
        Hook::Transfer => proto::Hook::Transfer,
        Hook::Mint => proto::Hook::Mint,
        Hook::Burn => proto::Hook::Burn,
        Hook::CheckMint => proto::Hook::CheckMint,
    }
}

fn wire_usage(usage: Usage) -> Option<proto::RuleUsage> {
    (usage != Usage::default()).then(|| proto::RuleUsage {
        holders: usage.holders.unwrap_or_default(),
        countries: usage
            .by_country
            .into_iter()
            .map(|(country, holders)| proto::CountryHolders { country: country.into(), holders })
            .collect(),
        issued: usage.issued.into_iter().map(|issued| issued.to_string()).collect(),
    })
}
