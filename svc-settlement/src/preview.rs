//! Everything against settling, in the order in which the contract would find it.

use crate::{
    state::{LegState, State},
    terms::{Lock, Terms},
};
use alloy::primitives::{Address, U256};
use dalp_engine::Failure;
use dalp_service::Reason;

/// What is found of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegFinding {
    /// Where it stands.
    pub state: LegState,
    /// Whether the asset is the system's own.
    pub own: bool,
    /// Who would get it; `None` for one on another chain.
    pub receiver: Option<Address>,
    /// Who of the asset refuses it, and why.
    pub veto: Option<(Address, String)>,
}

/// What is found of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockFinding {
    /// It.
    pub lock: Lock,
    /// Base units that the sender has free.
    pub available: U256,
    /// Base units that the contract may take.
    pub allowance: U256,
    /// Whether it is locked, or was until it moved.
    pub locked: bool,
}

/// What the chain says of a settlement at one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Where it stands; `None`: it is not created.
    pub state: Option<State>,
    /// Whether only a secret moves it now, also after the cutoff.
    pub armed: bool,
    /// Whether the secret is out and legs are owed, also when a hold was broken since.
    pub committed: bool,
    /// The block's time.
    pub now_s: u64,
    /// Each leg.
    pub legs: Vec<LegFinding>,
    /// Each lock.
    pub locks: Vec<LockFinding>,
    /// What the contract refused an execution with, where everybody has approved.
    pub execution: Option<Failure>,
}

/// Everything against settling, beside missing approvals and allowances.
#[must_use]
pub fn refusals(terms: &Terms, findings: &Findings) -> Vec<Failure> {
    let mut against = Vec::new();
    match findings.state {
        Some(State::Executed) => return against,
        Some(State::Cancelled | State::Withdrawn) => {
            let state = findings.state.map_or("", State::name);
            let failure = refused(Reason::FailedPrecondition, "the settlement is over").with("status", state);
            return vec![failure];
        }
        Some(State::Breached) => against.extend(breaches(findings)),
        _ => {}
    }
    if findings.now_s >= terms.cutoff && !findings.armed && !findings.committed {
        let failure = refused(Reason::CutoffPassed, "the cutoff has passed");
        against.push(failure.with("cutoff", terms.cutoff));
    }
    for LockFinding { lock, available, locked, .. } in &findings.locks {
        if !locked && available < &lock.amount {
            let failure = refused(Reason::InsufficientFunds, "a sender has less free than it has to lock");
            let failure = failure.with("account", lock.sender).with("asset", lock.asset);
            against.push(failure.with("needed", lock.amount).with("available", available));
        }
    }
    let vetoes = findings.legs.iter().enumerate().filter_map(|(place, leg)| Some((place, leg.veto.as_ref()?)));
    for (place, (module, reason)) in vetoes {
        let failure = refused(Reason::LegNotCompliant, format!("the asset would refuse leg {place}: {reason}"));
        against.push(failure.with("leg", place).with("module", module).with("reason", reason));
    }
    // What only all legs together meet, or a currency that refuses: the contract finds one at a time.
    let known = |found: &Failure| {
        against.iter().any(|one| one.reason == found.reason && one.metadata.get("leg") == found.metadata.get("leg"))
    };
    if let Some(found) = findings.execution.clone().filter(|found| !known(found)) {
        against.push(found);
    }
    against
}

fn breaches(findings: &Findings) -> Vec<Failure> {
    let broken = findings.legs.iter().enumerate().filter(|(_, leg)| leg.state == LegState::Breached);
    let told: Vec<_> = broken
        .map(|(place, _)| refused(Reason::LegBreached, "a custodian broke the hold of a leg").with("leg", place))
        .collect();
    match told.is_empty() {
        false => told,
        // The index is behind the block, or the holds went back since.
        true => vec![refused(Reason::LegBreached, "a custodian broke a hold")],
    }
}

fn refused(reason: Reason, message: impl Into<String>) -> Failure {
    Failure::new(reason.as_str(), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::tests::{ALICE, BOND, delivery};
    use std::collections::BTreeSet;

    fn findings() -> Findings {
        let own = BTreeSet::from([BOND]);
        let leg = LegFinding { state: LegState::Open, own: false, receiver: Some(ALICE), veto: None };
        let locks = delivery().locks(&own).into_iter();
        let lock = |lock: Lock| LockFinding { available: lock.amount, lock, allowance: U256::ZERO, locked: false };
        Findings {
            state: Some(State::Active),
            armed: false,
            committed: false,
            now_s: 999,
            legs: vec![leg; 3],
            locks: locks.map(lock).collect(),
            execution: None,
        }
    }

    fn told(findings: &Findings) -> Vec<String> {
        let said = |failure: Failure| {
            let said: Vec<_> = failure.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("{} {}", failure.reason, said.join(" "))
        };
        refusals(&delivery(), findings).into_iter().map(said).collect()
    }

    #[test]
    fn nothing_is_against_a_sound_settlement() {
        assert!(told(&findings()).is_empty());
        assert!(told(&Findings { state: None, ..findings() }).is_empty(), "nor against sound terms");
        assert!(told(&Findings { state: Some(State::Executed), now_s: 2_000, ..findings() }).is_empty());
        assert!(told(&Findings { now_s: 2_000, armed: true, state: Some(State::Expired), ..findings() }).is_empty());
    }

    #[test]
    fn each_reason_is_told_with_its_numbers() {
        let mut worst = findings();
        worst.now_s = 1_000;
        worst.locks[0].available = U256::from(9);
        worst.legs[1].veto = Some((BOND, "CLAIM_MISSING".into()));
        let poor = format!("INSUFFICIENT_FUNDS account={ALICE} asset={BOND} available=9 needed=10");
        let barred = format!("LEG_NOT_COMPLIANT leg=1 module={BOND} reason=CLAIM_MISSING");
        assert_eq!(told(&worst), ["CUTOFF_PASSED cutoff=1000".to_owned(), poor, barred.clone()]);
        worst.now_s = 999;
        worst.locks[0].locked = true;
        assert_eq!(told(&worst), [barred], "what is locked is not asked for again");
    }

    #[test]
    fn what_the_contract_finds_is_told_once() {
        let mut found = findings();
        let failure = |leg: u32| refused(Reason::LegNotCompliant, "no").with("leg", leg);
        found.execution = Some(failure(2));
        assert_eq!(told(&found), ["LEG_NOT_COMPLIANT leg=2"]);
        found.legs[2].veto = Some((BOND, "CLAIM_MISSING".into()));
        assert_eq!(told(&found).len(), 1);
    }

    #[test]
    fn what_is_over_or_broken_says_so() {
        let over = Findings { state: Some(State::Withdrawn), ..findings() };
        assert_eq!(told(&over), ["FAILED_PRECONDITION status=WITHDRAWN"]);
        let mut broken = Findings { state: Some(State::Breached), ..findings() };
        assert_eq!(told(&broken), ["LEG_BREACHED "]);
        broken.legs[0].state = LegState::Breached;
        assert_eq!(told(&broken), ["LEG_BREACHED leg=0"]);
        broken.now_s = 1_000;
        assert_eq!(told(&broken).len(), 2, "and its cutoff has passed");
        broken.committed = true;
        assert_eq!(told(&broken), ["LEG_BREACHED leg=0"], "which ends nothing once the secret is out");
    }
}
