//! Rules on chain: their parameters in the contracts' encoding, and the calls that change a bound rule.

use super::asset::RuleTarget;
use crate::domain::{
    expression::{Claims, Expression},
    feature::Feature,
    rule::{
        PriceSource, Rule, RuleAction, Sides, VolumeLimit, Window,
        approval::{Covers, Movement},
        holding_period::Earlier,
        issuance::{IssuanceLimit, Measure},
        list::ListEntry,
    },
};
use alloy::{
    primitives::{Address, B256, Bytes, U256, aliases::U48, keccak256},
    sol_types::{SolCall as _, SolValue as _},
};
use dalp_contracts::{
    bindings::{ApprovalRule, AssetFactory, ClaimRule, HolderLimitRule, ListRule, TokenCompliance},
    encode,
};
use std::collections::BTreeMap;

/// Parameters as the rule's contract reads them. A saved expression must have been written down before; as it stands it is the
/// empty expression, which every contract refuses.
#[must_use]
pub fn rule_params(rule: &Rule) -> Bytes {
    match rule {
        Rule::Country(rule) => encode::country_rule_params(rule.allow, &rule.countries),
        Rule::Claim(rule) => encode::claim_rule_params(sides(rule.sides), claim_groups(&rule.claims)),
        Rule::List(rule) => {
            encode::list_rule_params(rule.allow.map(sides), rule.block.map(sides), list_entries(&rule.entries))
        }
        Rule::HolderLimit(rule) => encode::holder_limit_rule_params(
            rule.max_holders,
            &rule.countries.iter().copied().collect::<BTreeMap<u16, u32>>(),
        ),
        Rule::Issuance(rule) => {
            encode::issuance_rule_params(&rule.limits.iter().map(issuance_limit).collect::<Vec<_>>())
        }
        Rule::HoldingPeriod(rule) => encode::holding_period_rule_params(
            rule.days,
            match rule.earlier {
                Earlier::Free => encode::EarlierBalance::Free,
                Earlier::AsNew => encode::EarlierBalance::AsNew,
            },
        ),
        Rule::Approval(rule) => encode::approval_rule_params(rule.approvers.clone(), rule.max_validity_s, rule.mints),
        Rule::TransferLimit(rule) => encode::transfer_limit_rule_params(
            rule.max_amount.map(units),
            rule.per_holder.map(volume),
            rule.per_token.map(volume),
        ),
        Rule::Collateral(rule) => {
            encode::collateral_rule_params(rule.topic.id(), rule.ratio_bps, rule.price.map(price))
        }
    }
}

/// Parameters as the feature's contract reads them.
#[must_use]
pub fn feature_params(feature: &Feature) -> Bytes {
    match feature.fee() {
        None => Bytes::new(),
        Some(fee) => (U256::from(fee.bps), fee.collector).abi_encode_params().into(),
    }
}

/// Groups of topic ids, as the asset factory takes a policy.
#[must_use]
pub fn policy(expression: &Expression) -> Vec<AssetFactory::Group> {
    groups(expression).map(|(all_of, none_of)| AssetFactory::Group { allOf: all_of, noneOf: none_of }).collect()
}

/// The id under which `ApprovalRule` keeps an approval.
#[must_use]
pub fn approval_id(movement: &Movement) -> B256 {
    let (from, to) = (movement.from.unwrap_or_default(), movement.to);
    match movement.covers {
        Covers::Once { amount } => keccak256((from, to, amount).abi_encode()),
        Covers::Standing { .. } => keccak256((from, to).abi_encode()),
    }
}

/// Where an action on rules is sent, and the call.
pub(super) fn transaction(action: &RuleAction, target: &RuleTarget) -> (Address, Vec<u8>) {
    let RuleTarget { compliance, module, params } = target.clone();
    // Governance speaks to a rule through the compliance that the rule knows the asset by.
    let as_compliance =
        |data: Vec<u8>| (compliance, TokenCompliance::callModuleCall { module, data: data.into() }.abi_encode());
    match action {
        RuleAction::SetParameters { .. } => {
            (compliance, TokenCompliance::setModuleParamsCall { module, params }.abi_encode())
        }
        RuleAction::SetListEntries { entries } => {
            as_compliance(ListRule::setEntriesCall { entries: list_entries(entries) }.abi_encode())
        }
        // The three rules that exempt wallets answer to the same function.
        RuleAction::SetExemption { wallet, exempt, .. } => {
            as_compliance(HolderLimitRule::setExemptCall { wallet: *wallet, exempt: *exempt }.abi_encode())
        }
        RuleAction::CountHolders { wallets } => {
            (module, HolderLimitRule::syncCall { compliance, wallets: wallets.clone() }.abi_encode())
        }
        RuleAction::Approve { movement, expires_at } => {
            let approval = ApprovalRule::Approval {
                from: movement.from.unwrap_or_default(),
                to: movement.to,
                amount: units(movement.covers.amount()),
                expiresAt: U48::saturating_from(*expires_at),
                standing: movement.covers.is_standing(),
            };
            (module, ApprovalRule::approveCall { compliance, approval }.abi_encode())
        }
        RuleAction::RevokeApproval { movement } => {
            (module, ApprovalRule::revokeCall { compliance, id: approval_id(movement) }.abi_encode())
        }
    }
}

/// Groups of topic ids, as every contract takes them.
pub(super) fn groups(expression: &Expression) -> impl Iterator<Item = (Vec<U256>, Vec<U256>)> {
    expression.groups().iter().map(|group| {
        (group.all_of.iter().map(|topic| topic.id()).collect(), group.none_of.iter().map(|topic| topic.id()).collect())
    })
}

fn claim_groups(claims: &Claims) -> Vec<ClaimRule::Group> {
    let Some(expression) = claims.written() else { return Vec::new() };
    groups(expression).map(|(all_of, none_of)| ClaimRule::Group { allOf: all_of, noneOf: none_of }).collect()
}

fn list_entries(entries: &[ListEntry]) -> Vec<ListRule::ListEntry> {
    entries
        .iter()
        .map(|entry| ListRule::ListEntry {
            account: entry.account,
            lists: u8::from(entry.allowed) | u8::from(entry.blocked) << 1,
        })
        .collect()
}

fn price(source: PriceSource) -> encode::PriceSource {
    encode::PriceSource { feed: source.feed, max_age_s: source.max_age_s }
}

fn issuance_limit(limit: &IssuanceLimit) -> encode::IssuanceLimit {
    encode::IssuanceLimit {
        measure: match limit.measure {
            Measure::Supply => encode::Issued::Supply,
            Measure::Ever { issued_before } => encode::Issued::Ever { issued_before: units(issued_before) },
            Measure::Within(within) => encode::Issued::Within(window(within)),
        },
        max: units(limit.max),
        price: limit.price.map(price),
    }
}

fn volume(limit: VolumeLimit) -> encode::VolumeLimit {
    encode::VolumeLimit { window: window(limit.window), max: units(limit.max) }
}

fn window(window: Window) -> encode::Window {
    match window {
        Window::Fixed { length_s, start_at } => encode::Window::Fixed { length_s, start_s: start_at },
        Window::Rolling { length_s } => encode::Window::Rolling { length_s },
    }
}

fn sides(sides: Sides) -> encode::Sides {
    match sides {
        Sides::Recipient => encode::Sides::Recipient,
        Sides::Sender => encode::Sides::Sender,
        Sides::Both => encode::Sides::Both,
    }
}

/// Amounts were held to 128 bits when they were parsed.
fn units(amount: U256) -> u128 {
    amount.saturating_to()
}
