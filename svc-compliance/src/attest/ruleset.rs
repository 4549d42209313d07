//! What an operator allows beside what a chain says, and the version of all of it.

use alloy::primitives::{Address, B256, FixedBytes, keccak256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Number of the rules that are code: it rises whenever [`super::ruling`] decides anything otherwise.
const CODE: u32 = 4;

/// The rules of one chain that are configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleSet {
    /// What a tenant may do with tokens that are none of the platform's.
    pub foreign_tokens: ForeignTokens,
    /// Contracts that every tenant may call, such as payment tokens.
    pub contracts: Vec<Address>,
    /// Functions of listed contracts that may be called beside those that move or approve tokens. What they do is not looked at.
    pub functions: Vec<ListedFunctions>,
    /// What single tenants may do beyond that.
    pub tenants: Vec<TenantRules>,
}

/// What a tenant may do with tokens that are none of the platform's and on no list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeignTokens {
    /// Nothing.
    #[default]
    Listed,
    /// Transfer them to, or let them be taken by, the tenant's own contracts; transfer them to wallets in its identity registry.
    KnownParties,
}

/// Functions of one contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedFunctions {
    /// The contract.
    pub contract: Address,
    /// Their selectors.
    pub selectors: Vec<FixedBytes<4>>,
}

/// What one tenant may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantRules {
    /// The tenant.
    pub id: String,
    /// Its systems, where they are pinned; else they are looked for on the chain.
    #[serde(default)]
    pub systems: Vec<Address>,
    /// Contracts it may call, such as payment tokens.
    #[serde(default)]
    pub contracts: Vec<Address>,
    /// Whom it may pay the chain's own currency.
    #[serde(default)]
    pub native_payees: Vec<Address>,
}

/// The hash of the canonical form of all chains' rules, by chain id: equal for files that say the same in another order.
#[must_use]
pub fn version<'a>(chains: impl IntoIterator<Item = (u64, &'a RuleSet)>) -> B256 {
    let chains: BTreeMap<u64, RuleSet> = chains.into_iter().map(|(id, rules)| (id, rules.canonical())).collect();
    let text = serde_json::to_vec(&(CODE, chains)).expect("rules are plain data");
    keccak256([b"dalp.attestation.ruleset.v2\0".as_slice(), &text].concat())
}

// === impl RuleSet ===

impl RuleSet {
    fn canonical(&self) -> Self {
        let mut canonical = self.clone();
        canonical.contracts.sort_unstable();
        canonical.contracts.dedup();
        for functions in &mut canonical.functions {
            functions.selectors.sort_unstable();
            functions.selectors.dedup();
        }
        canonical
            .functions
            .sort_by(|one, other| (one.contract, &one.selectors).cmp(&(other.contract, &other.selectors)));
        for tenant in &mut canonical.tenants {
            for list in [&mut tenant.systems, &mut tenant.contracts, &mut tenant.native_payees] {
                list.sort_unstable();
                list.dedup();
            }
        }
        canonical.tenants.sort_by(|one, other| one.id.cmp(&other.id));
        canonical
    }

    /// The rules of one tenant, if it has some.
    #[must_use]
    pub fn of(&self, tenant: &str) -> Option<&TenantRules> {
        self.tenants.iter().find(|rules| rules.id == tenant)
    }

    /// Whether a contract is on a list that counts for the tenant.
    #[must_use]
    pub fn lists(&self, tenant: &str, contract: Address) -> bool {
        self.contracts.contains(&contract) || self.of(tenant).is_some_and(|rules| rules.contracts.contains(&contract))
    }

    /// Whether calldata calls a function that is listed for the contract.
    #[must_use]
    pub fn lists_function(&self, contract: Address, data: &[u8]) -> bool {
        data.first_chunk::<4>().is_some_and(|selector| {
            self.functions
                .iter()
                .any(|listed| listed.contract == contract && listed.selectors.contains(&FixedBytes::new(*selector)))
        })
    }

    /// Whether the tenant may pay this account the chain's own currency.
    #[must_use]
    pub fn pays(&self, tenant: &str, account: Address) -> bool {
        self.of(tenant).is_some_and(|rules| rules.native_payees.contains(&account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(id: &str, contracts: &[u8]) -> TenantRules {
        let contracts = contracts.iter().map(|byte| Address::repeat_byte(*byte)).collect();
        TenantRules { id: id.to_owned(), systems: vec![], contracts, native_payees: vec![] }
    }

    #[test]
    fn the_version_is_that_of_what_the_rules_say() {
        let rules = |tenants| RuleSet { tenants, ..RuleSet::default() };
        let of = |rules: &RuleSet| version([(1, rules)]);
        let one = rules(vec![tenant("a", &[1, 2]), tenant("b", &[3])]);
        assert_eq!(of(&one), of(&rules(vec![tenant("b", &[3]), tenant("a", &[2, 1, 1])])));
        assert_ne!(of(&one), of(&rules(vec![tenant("a", &[1]), tenant("b", &[3])])));
        assert_ne!(of(&one), of(&RuleSet { foreign_tokens: ForeignTokens::KnownParties, ..one.clone() }));
        let (other, none) = (rules(vec![tenant("a", &[9])]), RuleSet::default());
        assert_eq!(version([(1, &one), (2, &other)]), version([(2, &other), (1, &one)]));
        let distinct = [vec![(1, &one)], vec![(2, &one)], vec![(1, &one), (2, &none)], vec![(1, &none), (2, &one)]];
        let distinct: std::collections::HashSet<B256> = distinct.into_iter().map(version).collect();
        assert_eq!(distinct.len(), 4, "which chains are judged, and by which rules, is part of it");
    }

    #[test]
    fn a_function_is_listed_for_its_contract() {
        let contract = Address::repeat_byte(1);
        let functions = vec![ListedFunctions { contract, selectors: vec![FixedBytes::new([1, 2, 3, 4])] }];
        let rules = RuleSet { functions, ..RuleSet::default() };
        assert!(rules.lists_function(contract, &[1, 2, 3, 4, 5]));
        for (other, data) in
            [(contract, &[1, 2, 3, 5][..]), (contract, &[1, 2, 3][..]), (Address::repeat_byte(2), &[1, 2, 3, 4][..])]
        {
            assert!(!rules.lists_function(other, data), "{other} {data:?}");
        }
        assert_ne!(version([(1, &rules)]), version([(1, &RuleSet::default())]));
    }

    #[test]
    fn a_tenants_list_counts_for_that_tenant() {
        let rules = RuleSet {
            contracts: vec![Address::repeat_byte(9)],
            tenants: vec![tenant("a", &[1]), tenant("b", &[2])],
            ..RuleSet::default()
        };
        for (tenant, contract, listed) in
            [("a", 1, true), ("b", 1, false), ("a", 9, true), ("b", 9, true), ("c", 2, false)]
        {
            assert_eq!(rules.lists(tenant, Address::repeat_byte(contract)), listed, "{tenant} {contract}");
        }
    }
}
