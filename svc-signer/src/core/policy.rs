//! What keys may be used for. The most specific matching rule decides; no match is a refusal; the answer names the rule.

use alloy::primitives::{Address, U256};
use serde::Deserialize;

use super::payload::{Destination, Payload, PayloadKind, Selector};

/// Name that stands in the answer when no rule matches.
pub const CATCH_ALL: &str = "catch-all-deny";

/// What a matching rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Sign, within the rule's limits.
    Allow,
    /// Refuse.
    Deny,
}

/// A limit over time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollingLimit {
    /// At most this much value per key within the window, in wei, decimal.
    #[serde(deserialize_with = "wei")]
    pub limit_wei: U256,
    /// Length of the window in seconds.
    pub window_s: u32,
}

/// One rule. Empty lists match everything.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique name, shown in refusals and audit.
    pub name: String,
    /// What it says.
    pub action: Action,
    /// Tenants it is about.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Keys it is about.
    #[serde(default)]
    pub signers: Vec<Address>,
    /// Chains it is about.
    #[serde(default)]
    pub chain_ids: Vec<u64>,
    /// Payload kinds it is about.
    #[serde(default)]
    pub kinds: Vec<PayloadKind>,
    /// Contracts it is about; a creation matches only an empty list.
    #[serde(default)]
    pub destinations: Vec<Address>,
    /// Functions it is about.
    #[serde(default)]
    pub selectors: Vec<Selector>,
    /// Cap on the value of one payload in wei, decimal.
    #[serde(default, deserialize_with = "optional_wei")]
    pub max_value_wei: Option<U256>,
    /// Limit over time.
    #[serde(default)]
    pub rolling: Option<RollingLimit>,
}

/// A decision, with the rule that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Allowed by this rule, whose rolling limit the store still has to check.
    Allow(&'a Rule),
    /// Refused.
    Deny {
        /// The rule that decided.
        rule: &'a str,
        /// Why, in a sentence for people.
        why: &'static str,
    },
}

/// All rules, most specific first.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    rules: Vec<Rule>,
}

// === impl Policy ===

impl Policy {
    /// Orders the rules by how specific they are; equals keep the order of the file.
    #[must_use]
    pub fn new(mut rules: Vec<Rule>) -> Self {
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.specificity()));
        Self { rules }
    }

    /// Decides a request.
    #[must_use]
    pub fn decide(&self, tenant: &str, signer: Address, payload: &Payload) -> Decision<'_> {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(tenant, signer, payload)) else {
            return Decision::Deny { rule: CATCH_ALL, why: "no rule matches" };
        };
        let denied = |why| Decision::Deny { rule: &rule.name, why };
        match rule.action {
            Action::Deny => denied("the rule denies"),
            Action::Allow if rule.max_value_wei.is_some_and(|cap| payload.value_wei() > cap) => {
                denied("the value is above the cap of one payload")
            }
            Action::Allow => Decision::Allow(rule),
        }
    }

    /// The rules in the order in which they are asked.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

// === impl Rule ===

impl Rule {
    /// A key says more than a contract, a contract more than a function, and so on down.
    fn specificity(&self) -> u32 {
        [
            !self.signers.is_empty(),
            !self.destinations.is_empty(),
            !self.selectors.is_empty(),
            !self.tenants.is_empty(),
            !self.chain_ids.is_empty(),
            !self.kinds.is_empty(),
        ]
        .into_iter()
        .fold(0, |weight, said| weight * 2 + u32::from(said))
    }

    fn matches(&self, tenant: &str, signer: Address, payload: &Payload) -> bool {
        let destination = match payload.destination() {
            _ if self.destinations.is_empty() => true,
            Destination::Contract(contract) => self.destinations.contains(&contract),
            Destination::Create | Destination::Unnamed => false,
        };
        destination
            && (self.tenants.is_empty() || self.tenants.iter().any(|name| name == tenant))
            && (self.signers.is_empty() || self.signers.contains(&signer))
            && (self.kinds.is_empty() || self.kinds.contains(&payload.kind()))
            && (self.chain_ids.is_empty() || payload.chain_id().is_some_and(|id| self.chain_ids.contains(&id)))
            && (self.selectors.is_empty() || payload.selector().is_some_and(|found| self.selectors.contains(&found)))
    }
}

fn wei<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<U256, D::Error> {
    let text = String::deserialize(deserializer)?;
    U256::from_str_radix(&text, 10).map_err(|_| serde::de::Error::custom("an amount in wei is a decimal string"))
}

fn optional_wei<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<U256>, D::Error> {
    wei(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use alloy::{consensus::TxEip1559, primitives::TxKind};

    use super::*;
    use crate::core::payload::UnsignedTransaction;

    fn rule(name: &str, action: Action) -> Rule {
        Rule {
            name: name.to_owned(),
            action,
            tenants: vec![],
            signers: vec![],
            chain_ids: vec![],
            kinds: vec![],
            destinations: vec![],
            selectors: vec![],
            max_value_wei: None,
            rolling: None,
        }
    }

    fn pay(to: u8, value: u64) -> Payload {
        Payload::Transaction(UnsignedTransaction::Eip1559(TxEip1559 {
            chain_id: 5,
            to: TxKind::Call(Address::repeat_byte(to)),
            value: U256::from(value),
            ..Default::default()
        }))
    }

    #[test]
    fn nothing_is_allowed_without_a_rule() {
        let policy = Policy::new(vec![]);
        assert!(matches!(policy.decide("t", Address::ZERO, &pay(1, 0)), Decision::Deny { rule: CATCH_ALL, .. }));
    }

    #[test]
    fn the_most_specific_rule_wins_whatever_the_order_of_the_file() {
        let wide = Rule { kinds: vec![PayloadKind::EvmTransaction], ..rule("wide", Action::Allow) };
        let contract = Rule { destinations: vec![Address::repeat_byte(1)], ..rule("contract", Action::Deny) };
        let key = Rule { signers: vec![Address::repeat_byte(9)], ..rule("key", Action::Allow) };
        for rules in [vec![wide.clone(), contract.clone(), key.clone()], vec![key, contract, wide]] {
            let policy = Policy::new(rules);
            let name = |signer: u8, to: u8| match policy.decide("t", Address::repeat_byte(signer), &pay(to, 0)) {
                Decision::Allow(rule) => rule.name.clone(),
                Decision::Deny { rule, .. } => rule.to_owned(),
            };
            assert_eq!(name(9, 1), "key");
            assert_eq!(name(8, 1), "contract");
            assert_eq!(name(8, 2), "wide");
        }
    }

    #[test]
    fn a_cap_refuses_by_name() {
        let policy = Policy::new(vec![Rule { max_value_wei: Some(U256::from(10)), ..rule("small", Action::Allow) }]);
        assert!(matches!(policy.decide("t", Address::ZERO, &pay(1, 10)), Decision::Allow(_)));
        assert!(matches!(policy.decide("t", Address::ZERO, &pay(1, 11)), Decision::Deny { rule: "small", .. }));
    }
}
