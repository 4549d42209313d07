//! The parameters of bound rules as the chain holds them, typed, with what counts against their limits.

use super::ChainReader;
use crate::{
    app::App,
    domain::{
        claim::{TopicName, asset_topics},
        expression::{Claims, Expression, Group},
        feature::{Feature, FeatureKind, Fee},
        rule::{
            ApprovalRule, ClaimRule, CollateralRule, CountryRule, HolderLimitRule, HoldingPeriodRule, IssuanceRule,
            ListRule, PriceSource, Rule, RuleKind, Sides, TransferLimitRule, VolumeLimit, Window,
            holding_period::Earlier,
            issuance::{IssuanceLimit, Measure},
        },
    },
};
use alloy::{
    primitives::{Address, U256, aliases::U48},
    sol_types::SolValue as _,
};
use dalp_chain::BlockId;
use dalp_contracts::bindings as contracts;
use dalp_service::Refusal;
use std::collections::HashMap;

/// Kinds of windows and measures, as the contracts write them.
const FIXED: u8 = 1;
const ROLLING: u8 = 2;
const EVER: u8 = 3;

/// What the chain knows only by its hash, by name.
#[derive(Debug, Clone, Default)]
pub struct TopicNames(HashMap<U256, TopicName>);

/// Where and when a rule is read.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Contract of the rule.
    pub module: Address,
    /// Compliance of the asset.
    pub compliance: Address,
    /// All of an answer hold for one block.
    pub block: BlockId,
    /// Height of that block.
    pub block_number: u64,
}

/// What counts against the limits of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Holders in all.
    pub holders: Option<u32>,
    /// Holders of the countries that have a limit.
    pub by_country: Vec<(u16, u32)>,
    /// What is used up of each limit on issuance.
    pub issued: Vec<U256>,
}

// === impl TopicNames ===

impl TopicNames {
    /// The names of a tenant's topics.
    #[must_use]
    pub fn new(names: Vec<TopicName>) -> Self {
        let ours = [asset_topics::ISSUER, asset_topics::CLASS, asset_topics::ISIN, asset_topics::COLLATERAL]
            .map(TopicName::unchecked);
        Self(names.into_iter().chain(ours).map(|name| (name.id(), name)).collect())
    }

    /// The name of a topic; 0x and its id where it was not registered through us.
    #[must_use]
    pub fn of(&self, id: U256) -> TopicName {
        self.0.get(&id).cloned().unwrap_or_else(|| TopicName::unchecked(&format!("{id:#066x}")))
    }

    /// An expression of topic ids.
    #[must_use]
    pub fn expression(&self, groups: impl IntoIterator<Item = (Vec<U256>, Vec<U256>)>) -> Expression {
        let named = |ids: Vec<U256>| ids.into_iter().map(|id| self.of(id)).collect();
        let groups =
            groups.into_iter().map(|(all_of, none_of)| Group { all_of: named(all_of), none_of: named(none_of) });
        Expression::of_contract(groups.collect())
    }
}

/// What a rule holds for an asset, and what is used of it.
pub async fn read(
    app: &App,
    tenant: &str,
    kind: RuleKind,
    place: Place,
    topics: &TopicNames,
) -> Result<(Rule, Usage), Refusal> {
    let Place { module, compliance, block, .. } = place;
    let chain = &app.chain;
    let mut usage = Usage::default();
    let rule = match kind {
        RuleKind::Country => {
            let params = chain.read_at(module, contracts::CountryRule::paramsOfCall { compliance }, block).await?;
            Rule::Country(CountryRule { allow: params.allow, countries: params.countries })
        }
        RuleKind::Claim => {
            let params = chain.read_at(module, contracts::ClaimRule::paramsOfCall { compliance }, block).await?;
            let groups = params.anyOf.into_iter().map(|group| (group.allOf, group.noneOf));
            let claims = Claims::AnyOf(topics.expression(groups));
            Rule::Claim(ClaimRule { sides: sides(params.sides).unwrap_or_default(), claims })
        }
        RuleKind::List => {
            let params = chain.read_at(module, contracts::ListRule::paramsOfCall { compliance }, block).await?;
            let (allow, block) = (sides(params.allowSides), sides(params.blockSides));
            Rule::List(ListRule { allow, block, entries: Vec::new() })
        }
        RuleKind::HolderLimit => {
            let (rule, used) = holder_limit(app, tenant, place).await?;
            usage = used;
            Rule::HolderLimit(rule)
        }
        RuleKind::Issuance => {
            let params = chain.read_at(module, contracts::IssuanceRule::paramsOfCall { compliance }, block).await?;
            usage.issued = params.issued;
            Rule::Issuance(IssuanceRule { limits: params.limits.into_iter().map(issuance_limit).collect() })
        }
        RuleKind::HoldingPeriod => {
            let params =
                chain.read_at(module, contracts::HoldingPeriodRule::paramsOfCall { compliance }, block).await?;
            let earlier = earlier(params.earlier).unwrap_or(Earlier::Free);
            Rule::HoldingPeriod(HoldingPeriodRule { days: params.periodDays, earlier })
        }
        RuleKind::Approval => {
            let params = chain.read_at(module, contracts::ApprovalRule::paramsOfCall { compliance }, block).await?;
            Rule::Approval(ApprovalRule {
                approvers: params.approvers,
                max_validity_s: params.maxValiditySeconds,
                mints: params.mints,
            })
        }
        RuleKind::TransferLimit => {
            let params =
                chain.read_at(module, contracts::TransferLimitRule::paramsOfCall { compliance }, block).await?;
            let volume = |limit: contracts::TransferLimitRule::VolumeLimit| {
                let window = window(limit.kind, limit.lengthSeconds, limit.start)?;
                Some(VolumeLimit { window, max: U256::from(limit.max) })
            };
            Rule::TransferLimit(TransferLimitRule {
                max_amount: (params.maxAmount != 0).then(|| U256::from(params.maxAmount)),
                per_holder: volume(params.perHolder),
                per_token: volume(params.perToken),
            })
        }
        RuleKind::Collateral => {
            let params = chain.read_at(module, contracts::CollateralRule::paramsOfCall { compliance }, block).await?;
            Rule::Collateral(CollateralRule {
                topic: topics.of(params.topic),
                ratio_bps: params.ratioBps,
                price: price(params.feed, params.maxAgeSeconds),
            })
        }
    };
    Ok((rule, usage))
}

/// A feature with what it holds for an asset.
pub async fn feature(chain: &ChainReader, kind: FeatureKind, place: Place) -> Result<Feature, Refusal> {
    let Place { module, compliance, block, .. } = place;
    Ok(match kind {
        FeatureKind::VotingPower => Feature::VotingPower,
        FeatureKind::ManagementFee => {
            let fee = chain.read_at(module, contracts::ManagementFee::paramsOfCall { compliance }, block).await?;
            Feature::ManagementFee(Fee { bps: fee.yearlyBps, collector: fee.collector })
        }
        FeatureKind::TransactionFee => {
            let fee = chain.read_at(module, contracts::TransactionFee::paramsOfCall { compliance }, block).await?;
            Feature::TransactionFee(Fee { bps: fee.bps, collector: fee.collector })
        }
    })
}

/// Whether a rule leaves a wallet out; the rules that never do say no.
pub async fn exempts(
    chain: &ChainReader,
    kind: RuleKind,
    module: Address,
    compliance: Address,
    wallet: Address,
    block: BlockId,
) -> Result<bool, Refusal> {
    Ok(match kind {
        RuleKind::HolderLimit => {
            let asked = contracts::HolderLimitRule::walletOfCall { compliance, wallet };
            chain.read_at(module, asked, block).await?.exempt
        }
        RuleKind::HoldingPeriod => {
            chain.read_at(module, contracts::HoldingPeriodRule::isExemptCall { compliance, wallet }, block).await?
        }
        RuleKind::TransferLimit => {
            chain.read_at(module, contracts::TransferLimitRule::isExemptCall { compliance, wallet }, block).await?
        }
        _ => false,
    })
}

/// The treatment of earlier balances as the contract writes it.
#[must_use]
pub fn earlier(written: u8) -> Option<Earlier> {
    match written {
        1 => Some(Earlier::Free),
        2 => Some(Earlier::AsNew),
        _ => None,
    }
}

/// The contract answers for one country at a time; which countries have a limit stands in the indexed log of its parameters.
async fn holder_limit(app: &App, tenant: &str, place: Place) -> Result<(HolderLimitRule, Usage), Refusal> {
    let Place { module, compliance, block, block_number } = place;
    let chain = &app.chain;
    let totals = chain.read_at(module, contracts::HolderLimitRule::holdersOfCall { compliance }, block).await?;
    app.indexed_up_to(block_number).await?;
    let params = app.store.rule_params(tenant, chain.chain_id(), (compliance, module), block_number).await?;
    // As `holder_limit_rule_params` writes them.
    let set = params.and_then(|params| <(U256, Vec<(U256, U256)>)>::abi_decode_params(&params).ok());
    let mut rule = HolderLimitRule { max_holders: nonzero(totals.max), countries: Vec::new() };
    let mut usage = Usage { holders: Some(totals.holders.saturating_to()), ..Usage::default() };
    for (country, _) in set.map(|(_, countries)| countries).unwrap_or_default() {
        let country: u16 = country.saturating_to();
        let asked = contracts::HolderLimitRule::holdersOfCountryCall { compliance, country };
        let answer = chain.read_at(module, asked, block).await?;
        if answer.limited {
            rule.countries.push((country, answer.max.saturating_to()));
            usage.by_country.push((country, answer.holders.saturating_to()));
        }
    }
    Ok((rule, usage))
}

fn issuance_limit(limit: contracts::IssuanceRule::IssuanceLimit) -> IssuanceLimit {
    let measure = match window(limit.kind, limit.lengthSeconds, limit.start) {
        Some(window) => Measure::Within(window),
        None if limit.kind == EVER => Measure::Ever { issued_before: U256::ZERO },
        None => Measure::Supply,
    };
    IssuanceLimit { measure, max: U256::from(limit.max), price: price(limit.feed, limit.maxAgeSeconds) }
}

fn price(feed: Address, max_age_s: u32) -> Option<PriceSource> {
    (!feed.is_zero()).then_some(PriceSource { feed, max_age_s })
}

fn window(kind: u8, length_s: u32, start: U48) -> Option<Window> {
    match kind {
        FIXED => Some(Window::Fixed { length_s, start_at: start.saturating_to() }),
        ROLLING => Some(Window::Rolling { length_s }),
        _ => None,
    }
}

fn sides(written: u8) -> Option<Sides> {
    match written {
        1 => Some(Sides::Recipient),
        2 => Some(Sides::Sender),
        3 => Some(Sides::Both),
        _ => None,
    }
}

fn nonzero(limit: U256) -> Option<u32> {
    (!limit.is_zero()).then(|| limit.saturating_to())
}
