//! Rules of the wire to rules of the domain, and back.

use crate::domain::{
    ViolationKind, Violations,
    expression::{Claims, Expression, ExpressionName, SavedRef},
    rule::{
        ApprovalRule, ClaimRule, CollateralRule, CountryRule, Fields, HolderLimitRule, HoldingPeriodRule, IssuanceRule,
        ListRule, PriceSource, Rule, RuleKind, Sides, TransferLimitRule, VolumeLimit, Window,
        holding_period::Earlier,
        issuance::{IssuanceLimit, Measure},
        list::ListEntry,
    },
};
use alloy::primitives::{Address, U256};
use dalp_proto::asset::{self as proto, issuance_limit, rule_binding::Rule as Wire};

/// A rule at a path; nothing given is a violation.
pub(super) fn rule(violations: &mut Violations, path: &str, binding: Option<&proto::RuleBinding>) -> Option<Rule> {
    let Some(wire) = binding.and_then(|binding| binding.rule.as_ref()) else {
        let kinds: Vec<_> = RuleKind::ALL.iter().map(|kind| kind.field()).collect();
        let description = format!("names no rule: one of {}", kinds.join(", "));
        violations.push_kind(ViolationKind::ModuleParameters, path, description);
        return None;
    };
    let before = violations.0.len();
    let mut fields = Fields::new(violations, format!("{path}.{}", kind_of(wire).field()));
    let fields = &mut fields;
    let parsed = match wire {
        Wire::Country(wire) => {
            let allow = mode(fields, wire.mode);
            Some(Rule::Country(CountryRule::new(fields, allow, &wire.countries)))
        }
        Wire::Claim(wire) => claim(fields, wire).map(Rule::Claim),
        Wire::List(wire) => {
            let (allow, block) = (sides(fields, "allow", wire.allow), sides(fields, "block", wire.block));
            Some(Rule::List(ListRule::new(fields, allow, block, &entries(&wire.entries))))
        }
        Wire::HolderLimit(wire) => {
            let countries: Vec<_> = wire.countries.iter().map(|limit| (limit.country, limit.max_holders)).collect();
            Some(Rule::HolderLimit(HolderLimitRule::new(fields, wire.max_holders, &countries)))
        }
        Wire::Issuance(wire) => {
            let limits = match IssuanceRule::counts(fields, wire.limits.len()) {
                true => limits(fields, &wire.limits),
                false => Vec::new(),
            };
            Some(Rule::Issuance(IssuanceRule::new(fields, limits)))
        }
        Wire::HoldingPeriod(wire) => earlier(fields, wire.earlier)
            .map(|earlier| Rule::HoldingPeriod(HoldingPeriodRule::new(fields, wire.days, earlier))),
        Wire::Approval(wire) => {
            Some(Rule::Approval(ApprovalRule::new(fields, &wire.approvers, wire.max_validity_s, wire.mints)))
        }
        Wire::TransferLimit(wire) => {
            let per_holder = wire.per_holder.as_ref().map(|limit| volume(&mut fields.below("per_holder"), limit));
            let per_token = wire.per_token.as_ref().map(|limit| volume(&mut fields.below("per_token"), limit));
            Some(Rule::TransferLimit(TransferLimitRule::new(fields, &wire.max_amount, per_holder, per_token)))
        }
        Wire::Collateral(wire) => {
            let price = price(fields, wire.price.as_ref());
            Some(Rule::Collateral(CollateralRule::new(fields, &wire.topic, wire.ratio_bps, price)))
        }
    };
    // What stands in for a refused value goes no further.
    parsed.filter(|_| violations.0.len() == before)
}

/// A kind as the wire names it.
pub(super) fn wire_kind(kind: RuleKind) -> proto::RuleKind {
    match kind {
        RuleKind::Country => proto::RuleKind::Country,
        RuleKind::Claim => proto::RuleKind::Claim,
        RuleKind::List => proto::RuleKind::List,
        RuleKind::HolderLimit => proto::RuleKind::HolderLimit,
        RuleKind::Issuance => proto::RuleKind::Issuance,
        RuleKind::HoldingPeriod => proto::RuleKind::HoldingPeriod,
        RuleKind::Approval => proto::RuleKind::Approval,
        RuleKind::TransferLimit => proto::RuleKind::TransferLimit,
        RuleKind::Collateral => proto::RuleKind::Collateral,
    }
}

/// Entries of a list as the domain reads them.
pub(super) fn entries(wire: &[proto::ListEntry]) -> Vec<(&str, bool, bool)> {
    wire.iter().map(|entry| (entry.account.as_str(), entry.allowed, entry.blocked)).collect()
}

/// An entry on the wire.
pub(super) fn wire_entry(entry: &ListEntry) -> proto::ListEntry {
    proto::ListEntry { account: text(entry.account), allowed: entry.allowed, blocked: entry.blocked }
}

/// A rule on the wire.
pub(super) fn binding_of(rule: &Rule) -> proto::RuleBinding {
    let wire = match rule {
        Rule::Country(rule) => Wire::Country(proto::CountryRule {
            mode: if rule.allow { proto::CountryMode::Allow } else { proto::CountryMode::Block }.into(),
            countries: rule.countries.iter().map(|code| u32::from(*code)).collect(),
        }),
        Rule::Claim(rule) => Wire::Claim(proto::ClaimRule {
            any_of: rule.claims.written().map(wire_groups).unwrap_or_default(),
            expression: rule.claims.saved().map(|saved| wire_claims(&Claims::Saved(saved.clone()))),
            sides: wire_sides(Some(rule.sides)),
        }),
        Rule::List(rule) => Wire::List(proto::ListRule {
            allow: wire_sides(rule.allow),
            block: wire_sides(rule.block),
            entries: rule.entries.iter().map(wire_entry).collect(),
        }),
        Rule::HolderLimit(rule) => {
            let limit = |(country, max_holders): &(u16, u32)| proto::CountryLimit {
                country: u32::from(*country),
                max_holders: *max_holders,
            };
            Wire::HolderLimit(proto::HolderLimitRule {
                max_holders: rule.max_holders.unwrap_or_default(),
                countries: rule.countries.iter().map(limit).collect(),
            })
        }
        Rule::Issuance(rule) => {
            Wire::Issuance(proto::IssuanceRule { limits: rule.limits.iter().map(wire_limit).collect() })
        }
        Rule::HoldingPeriod(rule) => Wire::HoldingPeriod(proto::HoldingPeriodRule {
            days: rule.days.into(),
            earlier: match rule.earlier {
                Earlier::Free => proto::EarlierBalance::Free,
                Earlier::AsNew => proto::EarlierBalance::AsNew,
            }
            .into(),
        }),
        Rule::Approval(rule) => Wire::Approval(proto::ApprovalRule {
            approvers: rule.approvers.iter().copied().map(text).collect(),
            max_validity_s: rule.max_validity_s,
            mints: rule.mints,
        }),
        Rule::TransferLimit(rule) => Wire::TransferLimit(proto::TransferLimitRule {
            max_amount: rule.max_amount.map(|amount| amount.to_string()).unwrap_or_default(),
            per_holder: rule.per_holder.map(wire_volume),
            per_token: rule.per_token.map(wire_volume),
        }),
        Rule::Collateral(rule) => Wire::Collateral(proto::CollateralRule {
            topic: rule.topic.as_str().to_owned(),
            ratio_bps: rule.ratio_bps,
            price: rule.price.map(wire_price),
        }),
    };
    proto::RuleBinding { rule: Some(wire) }
}

// === from the wire ===

fn kind_of(wire: &Wire) -> RuleKind {
    match wire {
        Wire::Country(_) => RuleKind::Country,
        Wire::Claim(_) => RuleKind::Claim,
        Wire::List(_) => RuleKind::List,
        Wire::HolderLimit(_) => RuleKind::HolderLimit,
        Wire::Issuance(_) => RuleKind::Issuance,
        Wire::HoldingPeriod(_) => RuleKind::HoldingPeriod,
        Wire::Approval(_) => RuleKind::Approval,
        Wire::TransferLimit(_) => RuleKind::TransferLimit,
        Wire::Collateral(_) => RuleKind::Collateral,
    }
}

fn claim(fields: &mut Fields<'_>, wire: &proto::ClaimRule) -> Option<ClaimRule> {
    let sides = sides(fields, "sides", wire.sides).unwrap_or_default();
    let claims = match &wire.expression {
        Some(_) if !wire.any_of.is_empty() => {
            fields.refuse("expression", "is given beside any_of: one of them says what is asked");
            None
        }
        Some(expression) => claims(&mut fields.below("expression"), expression),
        None => {
            let groups: Vec<_> = wire.any_of.iter().map(|one| (one.all_of.clone(), one.none_of.clone())).collect();
            Some(Claims::AnyOf(Expression::of_groups(fields, "any_of", &groups)))
        }
    };
    Some(ClaimRule { sides, claims: claims? })
}

/// Claims as text, or by the name of a saved expression.
pub(super) fn claims(fields: &mut Fields<'_>, wire: &proto::ClaimExpression) -> Option<Claims> {
    match &wire.form {
        Some(proto::claim_expression::Form::Text(text)) => match Expression::parse(text) {
            Ok(expression) => Some(Claims::AnyOf(expression)),
            Err(error) => {
                fields.refuse("text", error.to_string());
                None
            }
        },
        Some(proto::claim_expression::Form::Saved(saved)) => match ExpressionName::new(&saved.name) {
            Some(name) => {
                Some(Claims::Saved(SavedRef { name, version: (saved.version != 0).then_some(saved.version) }))
            }
            None => {
                fields.refuse("saved.name", "must be 1 to 64 of [a-z0-9._-]");
                None
            }
        },
        None => {
            fields.refuse("", "is empty: an empty expression would let everyone in");
            None
        }
    }
}

fn limits(fields: &mut Fields<'_>, wire: &[proto::IssuanceLimit]) -> Vec<IssuanceLimit> {
    wire.iter()
        .enumerate()
        .filter_map(|(index, limit)| issuance_limit_of(&mut fields.below(&format!("limits[{index}]")), limit))
        .collect()
}

fn issuance_limit_of(fields: &mut Fields<'_>, wire: &proto::IssuanceLimit) -> Option<IssuanceLimit> {
    let measure = match &wire.measure {
        Some(issuance_limit::Measure::Supply(_)) => Some(Measure::Supply),
        Some(issuance_limit::Measure::Ever(ever)) => Some(Measure::Ever {
            issued_before: fields.optional_amount("ever.issued_before", &ever.issued_before).unwrap_or_default(),
        }),
        Some(issuance_limit::Measure::Window(wire)) => window(&mut fields.below("window"), wire).map(Measure::Within),
        None => {
            fields.refuse("measure", "is missing: one of supply, ever, window");
            None
        }
    };
    let max = fields.amount("max", &wire.max);
    let price = price(fields, wire.price.as_ref());
    Some(IssuanceLimit { measure: measure?, max, price })
}

fn price(fields: &mut Fields<'_>, wire: Option<&proto::PriceSource>) -> Option<PriceSource> {
    wire.map(|wire| PriceSource::new(&mut fields.below("price"), &wire.feed, wire.max_age_s))
}

fn volume(fields: &mut Fields<'_>, wire: &proto::VolumeLimit) -> Option<VolumeLimit> {
    let window = match &wire.window {
        Some(wire) => window(&mut fields.below("window"), wire),
        None => {
            fields.refuse("window", "is missing");
            None
        }
    };
    let max = fields.amount("max", &wire.max);
    Some(VolumeLimit { window: window?, max })
}

fn window(fields: &mut Fields<'_>, wire: &proto::Window) -> Option<Window> {
    match &wire.kind {
        Some(proto::window::Kind::Fixed(wire)) => Some(Window::fixed(fields, wire.length_s, wire.start_at)),
        Some(proto::window::Kind::Rolling(wire)) => Some(Window::rolling(fields, wire.length_s)),
        None => {
            fields.refuse("", "is empty: one of fixed, rolling");
            None
        }
    }
}

fn mode(fields: &mut Fields<'_>, mode: i32) -> bool {
    match proto::CountryMode::try_from(mode) {
        Ok(proto::CountryMode::Allow) => true,
        Ok(proto::CountryMode::Block) => false,
        Ok(proto::CountryMode::Unspecified) | Err(_) => {
            fields.refuse("mode", format!("unknown value {mode}: one of COUNTRY_MODE_ALLOW, COUNTRY_MODE_BLOCK"));
            false
        }
    }
}

fn sides(fields: &mut Fields<'_>, field: &str, sides: i32) -> Option<Sides> {
    match proto::Sides::try_from(sides) {
        Ok(proto::Sides::Unspecified) => None,
        Ok(proto::Sides::Recipient) => Some(Sides::Recipient),
        Ok(proto::Sides::Sender) => Some(Sides::Sender),
        Ok(proto::Sides::Both) => Some(Sides::Both),
        Err(_) => {
            fields.refuse(field, format!("unknown value {sides}: one of SIDES_RECIPIENT, SIDES_SENDER, SIDES_BOTH"));
            // Only so that a refused side is not said to be missing as well.
            Some(Sides::Recipient)
        }
    }
}

fn earlier(fields: &mut Fields<'_>, earlier: i32) -> Option<Earlier> {
    match proto::EarlierBalance::try_from(earlier) {
        Ok(proto::EarlierBalance::Free) => Some(Earlier::Free),
        Ok(proto::EarlierBalance::AsNew) => Some(Earlier::AsNew),
        Ok(proto::EarlierBalance::Unspecified) | Err(_) => {
            let names = "EARLIER_BALANCE_FREE, EARLIER_BALANCE_AS_NEW";
            fields.refuse("earlier", format!("unknown value {earlier}: one of {names}"));
            None
        }
    }
}

// === to the wire ===

fn text(address: Address) -> String {
    address.to_checksum(None)
}

/// Groups on the wire.
pub(super) fn wire_groups(expression: &Expression) -> Vec<proto::ClaimGroup> {
    let names = |topics: &[crate::domain::claim::TopicName]| {
        topics.iter().map(|topic| topic.as_str().to_owned()).collect::<Vec<_>>()
    };
    expression
        .groups()
        .iter()
        .map(|group| proto::ClaimGroup { all_of: names(&group.all_of), none_of: names(&group.none_of) })
        .collect()
}

/// Claims on the wire.
pub(super) fn wire_claims(claims: &Claims) -> proto::ClaimExpression {
    let form = match claims {
        Claims::AnyOf(expression) => proto::claim_expression::Form::Text(expression.to_string()),
        Claims::Saved(saved) => proto::claim_expression::Form::Saved(wire_saved(saved)),
    };
    proto::ClaimExpression { form: Some(form) }
}

/// A reference to a saved expression on the wire.
pub(super) fn wire_saved(saved: &SavedRef) -> proto::SavedExpression {
    proto::SavedExpression { name: saved.name.as_str().to_owned(), version: saved.version.unwrap_or_default() }
}

fn wire_sides(sides: Option<Sides>) -> i32 {
    match sides {
        None => proto::Sides::Unspecified,
        Some(Sides::Recipient) => proto::Sides::Recipient,
        Some(Sides::Sender) => proto::Sides::Sender,
        Some(Sides::Both) => proto::Sides::Both,
    }
    .into()
}

fn wire_limit(limit: &IssuanceLimit) -> proto::IssuanceLimit {
    let measure = match limit.measure {
        Measure::Supply => issuance_limit::Measure::Supply(proto::SupplyMeasure {}),
        Measure::Ever { issued_before } => {
            let issued_before = if issued_before == U256::ZERO { String::new() } else { issued_before.to_string() };
            issuance_limit::Measure::Ever(proto::EverMeasure { issued_before })
        }
        Measure::Within(window) => issuance_limit::Measure::Window(wire_window(window)),
    };
    proto::IssuanceLimit { max: limit.max.to_string(), price: limit.price.map(wire_price), measure: Some(measure) }
}

fn wire_price(price: PriceSource) -> proto::PriceSource {
    proto::PriceSource { feed: text(price.feed), max_age_s: price.max_age_s }
}

fn wire_volume(limit: VolumeLimit) -> proto::VolumeLimit {
    proto::VolumeLimit { window: Some(wire_window(limit.window)), max: limit.max.to_string() }
}

fn wire_window(window: Window) -> proto::Window {
    let kind = match window {
        Window::Fixed { length_s, start_at } => proto::window::Kind::Fixed(proto::FixedWindow { length_s, start_at }),
        Window::Rolling { length_s } => proto::window::Kind::Rolling(proto::RollingWindow { length_s }),
    };
    proto::Window { kind: Some(kind) }
}

#[cfg(test)]
mod tests;
