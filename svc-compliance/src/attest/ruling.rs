//! Whether a call may be signed, given what it does and who is who. Pure; what it does to balances and rules the simulation tells.

use super::{
    acts::{Act, Moved},
    ruleset::ForeignTokens,
};
use alloy::primitives::Address;

/// Who somebody is to a tenant, as its contracts and the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A token of its asset factory.
    Asset,
    /// Another contract of its system.
    Contract,
    /// A contract on its list.
    Listed,
    /// A wallet in its identity registry.
    Investor,
    /// Nobody the attestor knows.
    Unknown,
}

/// Why the attestor refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veto {
    /// A reason of the attestor's rules, or of the error catalogue.
    pub reason: String,
    /// For people.
    pub detail: String,
}

/// The call acts on a contract that neither the tenant's system nor the rules know.
pub const TARGET_UNKNOWN: &str = "TARGET_UNKNOWN";
/// The call gives to, or relies on, somebody unknown.
pub const COUNTERPARTY_UNKNOWN: &str = "COUNTERPARTY_UNKNOWN";
/// The code to create is none of the platform's.
pub const CREATION_UNKNOWN: &str = "CREATION_UNKNOWN";
/// The function wraps other calls.
pub const FUNCTION_FORBIDDEN: &str = "FUNCTION_FORBIDDEN";
/// The document is none that the attestor understands.
pub const DOCUMENT_UNKNOWN: &str = "DOCUMENT_UNKNOWN";
/// The chain's own currency goes to somebody who is on no list.
pub const VALUE_FORBIDDEN: &str = "VALUE_FORBIDDEN";

/// All of them.
pub const REASONS: [&str; 6] =
    [TARGET_UNKNOWN, COUNTERPARTY_UNKNOWN, CREATION_UNKNOWN, FUNCTION_FORBIDDEN, DOCUMENT_UNKNOWN, VALUE_FORBIDDEN];

/// A call, with who its parties are.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// Who is called.
    pub target: Address,
    /// Who that is.
    pub standing: Standing,
    /// What the call does.
    pub act: &'a Act,
    /// Who the others in [`parties`] are, in their order.
    pub parties: &'a [(Address, Standing)],
    /// Whether it carries native value.
    pub has_value: bool,
    /// Whether the target may be paid native value.
    pub is_payee: bool,
    /// What goes with foreign tokens.
    pub foreign_tokens: ForeignTokens,
}

/// Whose standing matters beside the target's. Receivers of the platform's own tokens are judged by the tokens themselves.
#[must_use]
pub fn parties(standing: Standing, act: &Act) -> Vec<Address> {
    match act {
        Act::Lets { spender } => vec![*spender],
        // An entry that is taken away relies on nobody.
        Act::Trusts(contracts) => contracts.iter().copied().filter(|contract| !contract.is_zero()).collect(),
        Act::Moves(moved) if standing == Standing::Unknown => moved.iter().map(|moved| moved.to).collect(),
        Act::Moves(_) | Act::Executes { .. } | Act::Pays | Act::Hides(_) | Act::Other => vec![],
    }
}

/// Decides. The movements that are left to the token's own compliance are returned.
pub fn rule(case: &Case<'_>) -> Result<Vec<Moved>, Veto> {
    let Case { target, standing, act, parties, has_value, is_payee, foreign_tokens } = *case;
    if has_value && !is_payee {
        return Err(veto(VALUE_FORBIDDEN, format!("{target} may not be paid the chain's own currency")));
    }
    if *act == Act::Pays && has_value {
        return Ok(vec![]);
    }
    if let Act::Hides(what) = act {
        return Err(veto(FUNCTION_FORBIDDEN, format!("{what} hides what would be called")));
    }
    let stranger = |allowed: fn(Standing) -> bool| {
        parties.iter().find(|(_, standing)| !allowed(*standing)).map(|(account, _)| {
            veto(COUNTERPARTY_UNKNOWN, format!("{account} is no contract of the tenant's system and on no list"))
        })
    };
    let is_contract = |standing: Standing| matches!(standing, Standing::Asset | Standing::Contract | Standing::Listed);
    let is_party = |standing: Standing| standing != Standing::Unknown;
    let foreign = |refusal: Option<Veto>| match (foreign_tokens, refusal) {
        (ForeignTokens::Listed, _) => Err(unknown_target(target)),
        (ForeignTokens::KnownParties, Some(veto)) => Err(veto),
        (ForeignTokens::KnownParties, None) => Ok(vec![]),
    };
    match (standing, act) {
        (Standing::Unknown, Act::Lets { .. }) => foreign(stranger(is_contract)),
        (Standing::Unknown, Act::Moves(moved)) if moved.iter().all(|moved| moved.from.is_some()) => {
            foreign(stranger(is_party))
        }
        (Standing::Unknown | Standing::Investor, _) => Err(unknown_target(target)),
        (Standing::Asset | Standing::Contract | Standing::Listed, Act::Lets { .. } | Act::Trusts(_)) => {
            stranger(is_contract).map_or(Ok(vec![]), Err)
        }
        (Standing::Asset, Act::Moves(moved)) => Ok(moved.clone()),
        (Standing::Asset | Standing::Contract | Standing::Listed, _) => Ok(vec![]),
    }
}

/// A refusal of the attestor's own.
#[must_use]
pub fn veto(reason: &str, detail: String) -> Veto {
    Veto { reason: reason.to_owned(), detail }
}

fn unknown_target(target: Address) -> Veto {
    veto(TARGET_UNKNOWN, format!("{target} is no contract of the tenant's system and on no list"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::{Bytes, U256};

    const TARGET: Address = Address::repeat_byte(1);
    const OTHER: Address = Address::repeat_byte(2);
    const ALL: [Standing; 5] =
        [Standing::Asset, Standing::Contract, Standing::Listed, Standing::Investor, Standing::Unknown];

    fn moves(from: Option<Address>) -> Act {
        Act::Moves(vec![Moved { from, to: OTHER, amount: U256::from(1) }])
    }

    fn decide(standing: Standing, act: &Act, other: Standing, foreign_tokens: ForeignTokens) -> Result<usize, String> {
        let parties: Vec<_> = parties(standing, act).into_iter().map(|party| (party, other)).collect();
        let case = Case {
            target: TARGET,
            standing,
            act,
            parties: &parties,
            has_value: false,
            is_payee: false,
            foreign_tokens,
        };
        rule(&case).map(|moved| moved.len()).map_err(|veto| veto.reason)
    }

    #[test]
    fn nothing_reaches_a_stranger() {
        let acts = [
            Act::Other,
            Act::Pays,
            Act::Trusts(vec![OTHER]),
            moves(None),
            Act::Executes { target: OTHER, value_wei: U256::ZERO, data: Bytes::new() },
        ];
        for act in &acts {
            for target in [Standing::Unknown, Standing::Investor] {
                for foreign in [ForeignTokens::Listed, ForeignTokens::KnownParties] {
                    assert_eq!(decide(target, act, Standing::Contract, foreign), Err(TARGET_UNKNOWN.into()), "{act:?}");
                }
            }
        }
    }

    #[test]
    fn only_contracts_of_ours_are_approved_or_relied_on() {
        for act in [Act::Lets { spender: OTHER }, Act::Trusts(vec![OTHER])] {
            for target in [Standing::Asset, Standing::Contract, Standing::Listed] {
                for party in ALL {
                    let known = matches!(party, Standing::Asset | Standing::Contract | Standing::Listed);
                    let expected = if known { Ok(0) } else { Err(COUNTERPARTY_UNKNOWN.into()) };
                    assert_eq!(decide(target, &act, party, ForeignTokens::Listed), expected, "{act:?} {party:?}");
                }
            }
        }
    }

    #[test]
    fn movements_of_assets_are_left_to_their_compliance() {
        assert_eq!(decide(Standing::Asset, &moves(Some(OTHER)), Standing::Unknown, ForeignTokens::Listed), Ok(1));
        assert_eq!(decide(Standing::Asset, &moves(None), Standing::Unknown, ForeignTokens::Listed), Ok(1));
        assert_eq!(decide(Standing::Listed, &moves(Some(OTHER)), Standing::Unknown, ForeignTokens::Listed), Ok(0));
    }

    #[test]
    fn foreign_tokens_go_to_known_parties_where_the_rules_say_so() {
        for (act, party, passes) in [
            (Act::Lets { spender: OTHER }, Standing::Contract, true),
            (Act::Lets { spender: OTHER }, Standing::Investor, false),
            (Act::Lets { spender: OTHER }, Standing::Unknown, false),
            (moves(Some(TARGET)), Standing::Contract, true),
            (moves(Some(TARGET)), Standing::Investor, true),
            (moves(Some(TARGET)), Standing::Unknown, false),
        ] {
            assert!(decide(Standing::Unknown, &act, party, ForeignTokens::Listed).is_err(), "{act:?}");
            assert_eq!(decide(Standing::Unknown, &act, party, ForeignTokens::KnownParties).is_ok(), passes, "{act:?}");
        }
    }

    #[test]
    fn value_goes_to_listed_payees_only() {
        for (standing, is_payee) in ALL.into_iter().flat_map(|standing| [(standing, true), (standing, false)]) {
            let case = Case {
                target: TARGET,
                standing,
                act: &Act::Pays,
                parties: &[],
                has_value: true,
                is_payee,
                foreign_tokens: ForeignTokens::KnownParties,
            };
            assert_eq!(rule(&case).is_ok(), is_payee, "{standing:?}");
        }
    }

    #[test]
    fn what_wraps_calls_is_refused_whoever_is_asked() {
        for standing in ALL {
            assert_eq!(
                decide(standing, &Act::Hides("multicall"), Standing::Contract, ForeignTokens::KnownParties),
                Err(FUNCTION_FORBIDDEN.into())
            );
        }
    }
}
