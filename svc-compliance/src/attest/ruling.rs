//! Whether a call may be signed, given what it does and who is who. Pure; what it does to balances and rules the simulation tells.

use super::{
    acts::{Act, Moved},
    ruleset::ForeignTokens,
};
use alloy::primitives::Address;
use std::collections::HashSet;

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
    /// On its list of payees, and nothing else that matters.
    Payee,
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
/// The function of a listed contract is neither a token's nor listed.
pub const FUNCTION_UNKNOWN: &str = "FUNCTION_UNKNOWN";
/// More parties than one call may have.
pub const TOO_MANY_PARTIES: &str = "TOO_MANY_PARTIES";
/// The document is none that the attestor understands.
pub const DOCUMENT_UNKNOWN: &str = "DOCUMENT_UNKNOWN";
/// The chain's own currency goes to somebody who is on no list.
pub const VALUE_FORBIDDEN: &str = "VALUE_FORBIDDEN";

/// All of them.
pub const REASONS: [&str; 8] = [
    TARGET_UNKNOWN,
    COUNTERPARTY_UNKNOWN,
    CREATION_UNKNOWN,
    FUNCTION_FORBIDDEN,
    FUNCTION_UNKNOWN,
    TOO_MANY_PARTIES,
    DOCUMENT_UNKNOWN,
    VALUE_FORBIDDEN,
];

/// Different parties of one call that are looked up.
pub const PARTIES_MAX: usize = 256;

/// A call, with who its target is.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// Who is called.
    pub target: Address,
    /// Who that is.
    pub standing: Standing,
    /// What the call does.
    pub act: &'a Act,
    /// Whether it carries native value.
    pub has_value: bool,
    /// Whether the target may be paid native value.
    pub is_payee: bool,
    /// Whether the rules list this function of the target.
    pub is_listed_function: bool,
    /// What goes with foreign tokens.
    pub foreign_tokens: ForeignTokens,
}

/// What is decided before anybody but the target is looked up. Returns the parties that it depends on besides, each once: each of them must pass
/// [`admits`]. Receivers of the platform's own tokens are judged by the tokens themselves.
pub fn rule(case: &Case<'_>) -> Result<Vec<Address>, Veto> {
    let Case { target, standing, act, has_value, is_payee, is_listed_function, foreign_tokens } = *case;
    if has_value && !is_payee {
        return Err(veto(VALUE_FORBIDDEN, format!("{target} may not be paid the chain's own currency")));
    }
    if *act == Act::Pays && has_value {
        return Ok(vec![]);
    }
    if let Act::Hides(what) = act {
        return Err(veto(FUNCTION_FORBIDDEN, format!("{what} hides what would be called")));
    }
    match (standing, act) {
        (Standing::Unknown, _) if foreign_tokens == ForeignTokens::Listed => Err(unknown_target(target)),
        (Standing::Unknown, Act::Lets { spender, .. }) => distinct([*spender]),
        (Standing::Unknown, Act::Moves(moved)) if moved.iter().all(|moved| moved.from.is_some()) => {
            distinct(moved.iter().map(|moved| moved.to))
        }
        (Standing::Unknown | Standing::Investor | Standing::Payee, _) => Err(unknown_target(target)),
        (Standing::Asset | Standing::Contract | Standing::Listed, Act::Lets { spender, .. }) => distinct([*spender]),
        // No rule of the platform's stands between a listed token and its receivers.
        (Standing::Listed, Act::Moves(moved)) => distinct(moved.iter().map(|moved| moved.to)),
        (Standing::Listed, Act::Other | Act::Promises(_) | Act::Trusts(_) | Act::Executes { .. } | Act::Pays)
            if !is_listed_function =>
        {
            Err(veto(FUNCTION_UNKNOWN, format!("the function of {target} is none of a token's and on no list")))
        }
        // An entry that is taken away relies on nobody.
        (Standing::Asset | Standing::Contract | Standing::Listed, Act::Trusts(contracts)) => {
            distinct(contracts.iter().copied().filter(|contract| !contract.is_zero()))
        }
        (Standing::Asset | Standing::Contract | Standing::Listed, _) => Ok(vec![]),
    }
}

/// Whether a party may have the part that the act gives it.
pub fn admits(act: &Act, account: Address, standing: Standing) -> Result<(), Veto> {
    let is_admitted = match act {
        Act::Moves(_) => standing != Standing::Unknown,
        _ => matches!(standing, Standing::Asset | Standing::Contract | Standing::Listed),
    };
    if is_admitted {
        return Ok(());
    }
    Err(veto(COUNTERPARTY_UNKNOWN, format!("{account} is no contract of the tenant's system and on no list")))
}

/// What a party's part rests on, where what moves was promised: a wallet that nobody knows may be another one of the tenant's, which the signer can tell.
pub fn admits_promised(account: Address, standing: Standing) -> Option<Address> {
    (standing == Standing::Unknown).then_some(account)
}

/// The movements that are left to the token's own compliance.
#[must_use]
pub fn left_to_compliance(standing: Standing, act: &Act) -> Vec<Moved> {
    match (standing, act) {
        (Standing::Asset, Act::Moves(moved)) => moved.clone(),
        _ => vec![],
    }
}

fn distinct(parties: impl IntoIterator<Item = Address>) -> Result<Vec<Address>, Veto> {
    let mut seen = HashSet::new();
    let mut distinct = Vec::new();
    for party in parties {
        if seen.insert(party) {
            if distinct.len() == PARTIES_MAX {
                let detail = format!("the call has more than {PARTIES_MAX} parties: split it");
                return Err(veto(TOO_MANY_PARTIES, detail));
            }
            distinct.push(party);
        }
    }
    Ok(distinct)
}

/// A refusal of the attestor's own.
#[must_use]
pub fn veto(reason: &str, detail: String) -> Veto {
    Veto { reason: reason.to_owned(), detail }
}

/// A call on, or a movement of, something nobody knows.
#[must_use]
pub fn unknown_target(target: Address) -> Veto {
    veto(TARGET_UNKNOWN, format!("{target} is no contract of the tenant's system and on no list"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::acts::act_of;
    use alloy::primitives::{Bytes, U256};

    const TARGET: Address = Address::repeat_byte(1);
    const OTHER: Address = Address::repeat_byte(2);
    const ALL: [Standing; 6] =
        [Standing::Asset, Standing::Contract, Standing::Listed, Standing::Investor, Standing::Payee, Standing::Unknown];

    fn moves(from: Option<Address>) -> Act {
        Act::Moves(vec![Moved { from, to: OTHER, amount: U256::from(1) }])
    }

    fn case(standing: Standing, act: &Act, foreign_tokens: ForeignTokens) -> Case<'_> {
        Case {
            target: TARGET,
            standing,
            act,
            has_value: false,
            is_payee: false,
            is_listed_function: false,
            foreign_tokens,
        }
    }

    fn decide_case(case: &Case<'_>, other: Standing) -> Result<usize, String> {
        rule(case)
            .and_then(|parties| parties.into_iter().try_for_each(|party| admits(case.act, party, other)))
            .map(|()| left_to_compliance(case.standing, case.act).len())
            .map_err(|veto| veto.reason)
    }

    fn decide(standing: Standing, act: &Act, other: Standing, foreign_tokens: ForeignTokens) -> Result<usize, String> {
        decide_case(&case(standing, act, foreign_tokens), other)
    }

    #[test]
    fn nothing_reaches_a_stranger() {
        let acts = [
            Act::Other,
            Act::Promises(vec![]),
            Act::Pays,
            Act::Trusts(vec![OTHER]),
            moves(None),
            Act::Executes { target: OTHER, value_wei: U256::ZERO, data: Bytes::new() },
        ];
        for act in &acts {
            for target in [Standing::Unknown, Standing::Investor, Standing::Payee] {
                for foreign in [ForeignTokens::Listed, ForeignTokens::KnownParties] {
                    assert_eq!(decide(target, act, Standing::Contract, foreign), Err(TARGET_UNKNOWN.into()), "{act:?}");
                }
            }
        }
    }

    #[test]
    fn only_contracts_of_ours_are_approved_or_relied_on() {
        for act in [Act::Lets { spender: OTHER, amount: U256::ONE }, Act::Trusts(vec![OTHER])] {
            for target in [Standing::Asset, Standing::Contract, Standing::Listed] {
                for party in ALL {
                    let known = matches!(party, Standing::Asset | Standing::Contract | Standing::Listed);
                    let expected = if known { Ok(0) } else { Err(COUNTERPARTY_UNKNOWN.into()) };
                    let case = Case { is_listed_function: true, ..case(target, &act, ForeignTokens::Listed) };
                    assert_eq!(decide_case(&case, party), expected, "{act:?} {party:?}");
                }
            }
        }
    }

    #[test]
    fn movements_of_assets_are_left_to_their_compliance() {
        assert_eq!(decide(Standing::Asset, &moves(Some(OTHER)), Standing::Unknown, ForeignTokens::Listed), Ok(1));
        assert_eq!(decide(Standing::Asset, &moves(None), Standing::Unknown, ForeignTokens::Listed), Ok(1));
    }

    #[test]
    fn a_listed_token_goes_to_known_parties_only() {
        for act in [moves(Some(OTHER)), moves(None)] {
            for party in ALL {
                let known = party != Standing::Unknown;
                let expected = if known { Ok(0) } else { Err(COUNTERPARTY_UNKNOWN.into()) };
                for foreign in [ForeignTokens::Listed, ForeignTokens::KnownParties] {
                    assert_eq!(decide(Standing::Listed, &act, party, foreign), expected, "{act:?} {party:?}");
                }
            }
        }
    }

    #[test]
    fn of_a_listed_contract_only_listed_functions_are_called() {
        let sent = act_of(OTHER, &[]);
        let selectors: [[u8; 4]; 4] = [
            [0xa2, 0x2c, 0xb4, 0x65], // setApprovalForAll
            [0x8f, 0xcb, 0xaf, 0x2c], // permit, as one token has it
            [0xe3, 0xee, 0x16, 0x0e], // transferWithAuthorization
            [0xd7, 0x3d, 0xd6, 0x23], // increaseApproval
        ];
        let acts = selectors.map(|selector| act_of(OTHER, &[&selector[..], &[0; 288]].concat()));
        for act in acts.iter().chain([&sent, &Act::Trusts(vec![OTHER])]) {
            let strict = case(Standing::Listed, act, ForeignTokens::KnownParties);
            assert_eq!(decide_case(&strict, Standing::Contract), Err(FUNCTION_UNKNOWN.into()), "{act:?}");
            let listed = Case { is_listed_function: true, ..strict };
            assert_eq!(decide_case(&listed, Standing::Contract), Ok(0), "{act:?}");
        }
        assert_eq!(decide(Standing::Listed, &Act::States, Standing::Unknown, ForeignTokens::Listed), Ok(0));
    }

    #[test]
    fn parties_are_few_and_each_counts_once() {
        let to = |number: usize| Address::left_padding_from(&(number as u64 + 1).to_be_bytes());
        let of = |count: usize| {
            let one = |number| Moved { from: Some(OTHER), to: to(number), amount: U256::from(1) };
            Act::Moves((0..count).chain(0..count).map(one).collect())
        };
        let (most, more) = (of(PARTIES_MAX), of(PARTIES_MAX + 1));
        let known = ForeignTokens::KnownParties;
        for standing in [Standing::Listed, Standing::Unknown] {
            assert_eq!(rule(&case(standing, &most, known)).map(|parties| parties.len()), Ok(PARTIES_MAX));
            assert_eq!(decide(standing, &more, Standing::Contract, known), Err(TOO_MANY_PARTIES.into()));
        }
        assert_eq!(rule(&case(Standing::Asset, &more, known)), Ok(vec![]), "its compliance judges them");
        assert_eq!(
            rule(&case(Standing::Unknown, &more, ForeignTokens::Listed)).map_err(|veto| veto.reason),
            Err(TARGET_UNKNOWN.into()),
            "nobody is looked up for what is refused anyway"
        );
    }

    #[test]
    fn foreign_tokens_go_to_known_parties_where_the_rules_say_so() {
        for (act, party, passes) in [
            (Act::Lets { spender: OTHER, amount: U256::ONE }, Standing::Contract, true),
            (Act::Lets { spender: OTHER, amount: U256::ONE }, Standing::Investor, false),
            (Act::Lets { spender: OTHER, amount: U256::ONE }, Standing::Unknown, false),
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
            let case = Case { has_value: true, is_payee, ..case(standing, &Act::Pays, ForeignTokens::KnownParties) };
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
