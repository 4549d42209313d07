//! Rules and their parameters. Each rule validates its own; nothing empty ever means "everyone".

use super::{ViolationKind, Violations, claim::TopicName};
use serde::{Deserialize, Serialize};

/// The most countries of one rule.
pub const MAX_COUNTRIES: usize = 250;
/// The most groups of a claim expression; the contract packs them into one word.
pub const MAX_GROUPS: usize = 8;
/// The most distinct topics of a claim expression.
pub const MAX_TOPICS: usize = 15;

/// A rule with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Allows or blocks countries.
    Country {
        /// True: only these may receive. False: these may not.
        allow: bool,
        /// ISO 3166-1 numeric, ascending, without repeats.
        countries: Vec<u16>,
    },
    /// Demands claims beyond the asset's topics.
    Claim {
        /// OR of AND groups.
        any_of: Vec<Group>,
    },
}

/// Which rule contract a rule is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// `CountryRule`.
    Country,
    /// `ClaimRule`.
    Claim,
}

/// Topics that must all hold, and topics that must not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Must be live.
    pub all_of: Vec<TopicName>,
    /// Must not be live.
    pub none_of: Vec<TopicName>,
}

// === impl Rule ===

impl Rule {
    /// Which contract judges it.
    #[must_use]
    pub fn kind(&self) -> RuleKind {
        match self {
            Self::Country { .. } => RuleKind::Country,
            Self::Claim { .. } => RuleKind::Claim,
        }
    }

    /// A country rule; `path` is that of the rule's message.
    pub fn country(violations: &mut Violations, path: &str, allow: bool, countries: &[u32]) -> Self {
        let kind = ViolationKind::ModuleParameters;
        let field = format!("{path}.countries");
        if countries.is_empty() {
            violations.push_kind(kind, &field, "needs at least one country");
        }
        if countries.len() > MAX_COUNTRIES {
            violations.push_kind(kind, &field, format!("holds at most {MAX_COUNTRIES} countries"));
        }
        let mut codes: Vec<u16> = countries
            .iter()
            .take(MAX_COUNTRIES)
            .enumerate()
            .map(|(index, code)| violations.country(kind, &format!("{field}[{index}]"), *code))
            .collect();
        codes.sort_unstable();
        let before = codes.len();
        codes.dedup();
        if codes.len() != before && !violations.0.iter().any(|violation| violation.field.starts_with(&field)) {
            violations.push_kind(kind, &field, "names a country twice");
        }
        Self::Country { allow, countries: codes }
    }

    /// A claim rule; `path` is that of the rule's message.
    pub fn claim(violations: &mut Violations, path: &str, groups: &[(Vec<String>, Vec<String>)]) -> Self {
        let kind = ViolationKind::ModuleParameters;
        let field = format!("{path}.any_of");
        if groups.is_empty() {
            violations.push_kind(kind, &field, "needs at least one group: an empty expression would let everyone in");
        }
        if groups.len() > MAX_GROUPS {
            violations.push_kind(kind, &field, format!("holds at most {MAX_GROUPS} groups"));
        }
        let any_of: Vec<Group> = groups
            .iter()
            .take(MAX_GROUPS)
            .enumerate()
            .map(|(index, (all_of, none_of))| {
                let here = format!("{field}[{index}]");
                if all_of.is_empty() && none_of.is_empty() {
                    violations.push_kind(kind, &here, "needs at least one topic: an empty group would let everyone in");
                }
                let mut topics = |name: &str, list: &[String]| -> Vec<TopicName> {
                    list.iter()
                        .enumerate()
                        .map(|(at, topic)| violations.topic(kind, &format!("{here}.{name}[{at}]"), topic))
                        .collect()
                };
                let group = Group { all_of: topics("all_of", all_of), none_of: topics("none_of", none_of) };
                if group.all_of.iter().any(|topic| group.none_of.contains(topic)) {
                    violations.push_kind(kind, &here, "asks for a topic and excludes it: nobody could meet it");
                }
                group
            })
            .collect();
        let mut distinct: Vec<&TopicName> = any_of.iter().flat_map(Group::topics).collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() > MAX_TOPICS {
            violations.push_kind(kind, &field, format!("names at most {MAX_TOPICS} topics"));
        }
        Self::Claim { any_of }
    }

    /// The topics it needs to exist.
    #[must_use]
    pub fn topics(&self) -> Vec<&TopicName> {
        match self {
            Self::Country { .. } => Vec::new(),
            Self::Claim { any_of } => any_of.iter().flat_map(Group::topics).collect(),
        }
    }
}

// === impl Group ===

impl Group {
    fn topics(&self) -> impl Iterator<Item = &TopicName> {
        self.all_of.iter().chain(&self.none_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_rule_needs_valid_countries() {
        let mut violations = Violations::new();
        assert_eq!(
            Rule::country(&mut violations, "rule", true, &[756, 276]),
            Rule::Country { allow: true, countries: vec![276, 756] }
        );
        assert!(violations.0.is_empty());
        for (countries, field) in [
            (vec![], "rule.countries"),
            (vec![276, 0], "rule.countries[1]"),
            (vec![1000], "rule.countries[0]"),
            (vec![276, 276], "rule.countries"),
        ] {
            let mut violations = Violations::new();
            Rule::country(&mut violations, "rule", false, &countries);
            assert_eq!(violations.0.len(), 1, "{countries:?}");
            assert_eq!((violations.0[0].field.as_str(), violations.kind()), (field, ViolationKind::ModuleParameters));
        }
    }

    #[test]
    fn an_empty_claim_expression_is_refused() {
        let name = |name: &str| name.to_owned();
        for (groups, field) in [
            (vec![], "rule.any_of"),
            (vec![(vec![], vec![])], "rule.any_of[0]"),
            (vec![(vec![name("kyc")], vec![]), (vec![], vec![])], "rule.any_of[1]"),
            (vec![(vec![name("kyc")], vec![name("kyc")])], "rule.any_of[0]"),
            (vec![(vec![name("KYC")], vec![])], "rule.any_of[0].all_of[0]"),
            ((0..9).map(|_| (vec![name("kyc")], vec![])).collect(), "rule.any_of"),
            (vec![((0..16).map(|index| format!("t{index}")).collect(), vec![])], "rule.any_of"),
        ] {
            let mut violations = Violations::new();
            Rule::claim(&mut violations, "rule", &groups);
            assert_eq!(violations.0.len(), 1, "{groups:?} {violations:?}");
            assert_eq!((violations.0[0].field.as_str(), violations.kind()), (field, ViolationKind::ModuleParameters));
        }
    }
}
