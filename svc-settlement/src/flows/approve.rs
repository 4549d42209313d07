//! Approving: the allowances that are missing, then the approval.
//!
//! Approvals of one wallet in one asset share its allowance. Each gives it for all that are under way, so that whichever comes last leaves enough for
//! those before it; one that finds it taken all the same gives it again.

use super::On;
use crate::{
    commands::{Approve, tells},
    terms::Lock,
};
use alloy::primitives::U256;
use dalp_contracts::bindings::{
    AssetToken::approveCall as allowCall,
    Settlement::{SettlementExecuted, SettlementLocked, approveCall},
};
use dalp_domain::flows::{Sent, call};
use dalp_engine::{Amounts, Call, Cx, Failure, Flow, Mined, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};

/// How often an approval is tried because its allowance was taken.
const ATTEMPTS: u32 = 4;

/// `settlement.approve`.
pub struct ApproveFlow;
/// Its first version, for what was accepted by it: it set allowances to zero that others relied on.
pub struct FirstApproveFlow;

/// An approval to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApproveOrder {
    /// What is locked, each with whether its allowance has to be given first.
    pub locks: Vec<Grant>,
    /// The approval.
    #[serde(flatten)]
    pub on: On<Approve>,
}

/// What is locked of an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// It.
    #[serde(flatten)]
    pub lock: Lock,
    /// Whether the settlement may not take so much yet.
    pub missing: bool,
    /// For the first version: whether there was an allowance that did not reach.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// What other approvals of the wallet that are under way need of the allowance: it is given for all of them.
    #[serde(default)]
    pub others: U256,
}

/// An approval that is in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// Whether it was the last one.
    pub locked: bool,
    /// Whether it executed.
    pub executed: bool,
    /// The transaction.
    #[serde(flatten)]
    pub sent: Sent,
}

// === impl Grant ===

impl Grant {
    /// The allowance that suffices for all that are under way.
    fn needed(&self) -> U256 {
        self.lock.amount.saturating_add(self.others)
    }
}

// === impl ApproveOrder ===

impl ApproveOrder {
    fn allow(&self, grant: &Grant, value: U256) -> Call {
        let allow = allowCall { spender: self.on.contract, value };
        call(self.on.chain_id, self.on.command.sender, grant.lock.asset, &allow)
    }

    fn approve(&self) -> Call {
        let On { chain_id, contract, deed, command } = &self.on;
        call(*chain_id, command.sender, *contract, &approveCall { terms: deed.on_chain() })
    }

    /// What has to be allowed before an attempt: at first what is missing, then everything.
    fn missing(&self, attempt: u32) -> Vec<&Grant> {
        self.locks.iter().filter(|grant| grant.missing || attempt > 1).collect()
    }

    /// Whether a refused approval is tried again with new allowances.
    fn tries_again(&self, attempt: u32, failure: &Failure) -> bool {
        // A call that was refused in a block gives no reason any more where the block's end has the allowance again.
        let taken = [Reason::AllowanceInsufficient.as_str(), Failure::REVERTED];
        attempt < ATTEMPTS && !self.on.command.keep_allowances && taken.iter().any(|reason| failure.is_for(reason))
    }

    /// What was given for this one is taken back. Others that find too little give theirs again.
    fn give_up<T>(&self, cx: &mut Cx<'_, Self>, attempt: u32, failure: Failure) -> Step<T> {
        cx.try_all("take_back", || self.each(&self.missing(attempt), |grant| grant.others))?;
        cx.fail(failure)
    }

    fn each(&self, grants: &[&Grant], value: impl Fn(&Grant) -> U256) -> Vec<Call> {
        grants.iter().map(|grant| self.allow(grant, value(grant))).collect()
    }

    fn approved(&self, mined: Mined) -> Approved {
        let contract = self.on.contract;
        let (locked, executed) =
            (tells::<SettlementLocked>(&mined, contract), tells::<SettlementExecuted>(&mined, contract));
        Approved { locked, executed, sent: mined.into() }
    }

    fn amounts(&self) -> Amounts {
        self.locks.iter().fold(Amounts::default(), |all, grant| all.and(grant.lock.asset, grant.lock.amount))
    }
}

impl Flow for ApproveFlow {
    const KIND: &'static str = "settlement.approve";
    const VERSION: u32 = 2;
    type Order = ApproveOrder;
    type Outcome = Approved;

    fn amounts(order: &ApproveOrder) -> Amounts {
        order.amounts()
    }

    fn run(cx: &mut Cx<'_, ApproveOrder>) -> Step<Approved> {
        let order = cx.order();
        let mut attempt = 1;
        loop {
            let missing = order.missing(attempt);
            let allow = format!("allow/{attempt}");
            let given = cx.try_all(&allow, || order.each(&missing, Grant::needed))?;
            // Some currencies change an allowance only from zero. Others keep what is there until the new one is: nobody finds nothing in between.
            let mut stubborn = Vec::new();
            for (place, (grant, outcome)) in missing.iter().zip(given).enumerate() {
                match outcome {
                    Err(failure) if grant.lock.own => {
                        return cx.fail(failure.with("step", format!("{allow}[{place}]")));
                    }
                    Err(_) => stubborn.push(*grant),
                    Ok(_) => {}
                }
            }
            cx.all(&format!("reset/{attempt}"), || order.each(&stubborn, |_| U256::ZERO))?;
            cx.all(&format!("allow_from_zero/{attempt}"), || order.each(&stubborn, Grant::needed))?;
            match cx.try_transact(&format!("approve/{attempt}"), || order.approve())? {
                Ok(mined) => return cx.done(order.approved(mined)),
                Err(failure) if order.tries_again(attempt, &failure) => attempt += 1,
                Err(failure) => return order.give_up(cx, attempt, failure),
            }
        }
    }
}

impl Flow for FirstApproveFlow {
    const KIND: &'static str = ApproveFlow::KIND;
    const VERSION: u32 = 1;
    type Order = ApproveOrder;
    type Outcome = Approved;

    fn amounts(order: &ApproveOrder) -> Amounts {
        order.amounts()
    }

    fn run(cx: &mut Cx<'_, ApproveOrder>) -> Step<Approved> {
        let order = cx.order();
        let mut attempt = 1;
        loop {
            let missing = order.missing(attempt);
            cx.all(&format!("reset/{attempt}"), || {
                let stale = |grant: &&&Grant| !grant.lock.own && (grant.stale || attempt > 1);
                order.each(&missing.iter().filter(stale).copied().collect::<Vec<_>>(), |_| U256::ZERO)
            })?;
            cx.all(&format!("allow/{attempt}"), || order.each(&missing, Grant::needed))?;
            match cx.try_transact(&format!("approve/{attempt}"), || order.approve())? {
                Ok(mined) => return cx.done(order.approved(mined)),
                Err(failure) if order.tries_again(attempt, &failure) => attempt += 1,
                Err(failure) => return order.give_up(cx, attempt, failure),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        flows::tests::{CONTRACT, deed, mined, play},
        terms::tests::{ALICE, BOND, CASH},
    };
    use alloy::{primitives::Address, sol_types::SolCall as _};
    use dalp_engine::flow::{StepOutcome, Verdict};
    use serde_json::Value;

    fn approval(locks: &[(Address, bool, bool, bool)], keep_allowances: bool) -> Value {
        let locks = locks.iter().map(|(asset, own, missing, stale)| Grant {
            lock: Lock { sender: ALICE, asset: *asset, own: *own, amount: U256::from(10) },
            missing: *missing,
            stale: *stale,
            others: U256::from(5),
        });
        let command = Approve { sender: ALICE, settlement_id: deed().id(), keep_allowances };
        let on = On { chain_id: 1, contract: CONTRACT, deed: deed(), command };
        serde_json::to_value(ApproveOrder { locks: locks.collect(), on }).unwrap()
    }

    fn refused(reason: &str) -> StepOutcome {
        StepOutcome::Failed { failure: Failure::new(reason, "no") }
    }

    /// An approval where so many find their allowance taken.
    fn approve(version: u32, order: &Value, mut taken: usize, ends: &StepOutcome) -> (Vec<String>, Verdict) {
        play(ApproveFlow::KIND, version, order, |name, _| {
            let refused = name.starts_with("approve") && taken > 0;
            taken -= usize::from(refused);
            if refused { ends.clone() } else { mined(SettlementLocked { id: deed().id() }) }
        })
    }

    fn names(version: u32, order: &Value, taken: usize, reason: &str) -> Vec<String> {
        approve(version, order, taken, &refused(reason)).0
    }

    #[test]
    fn an_approval_gives_the_allowances_that_are_missing() {
        let (order, none) = (approval(&[(BOND, true, false, false)], false), refused(""));
        let (names, verdict) = approve(2, &order, 0, &none);
        assert_eq!(names, ["approve/1"]);
        assert!(matches!(verdict, Verdict::Done(made) if made["locked"] == true && made["executed"] == false));
        let both = approval(&[(BOND, true, true, false), (CASH, false, true, false)], false);
        assert_eq!(approve(2, &both, 0, &none).0, ["allow/1[0]", "allow/1[1]", "approve/1"]);
    }

    #[test]
    fn nobody_finds_an_allowance_set_to_zero_unless_its_currency_wants_that() {
        let order = approval(&[(CASH, false, true, true)], false);
        assert_eq!(
            names(2, &order, 1, "ALLOWANCE_INSUFFICIENT"),
            ["allow/1[0]", "approve/1", "allow/2[0]", "approve/2"]
        );
        let mut given = Vec::new();
        let (names, verdict) = play(ApproveFlow::KIND, 2, &order, |name, call| {
            let stubborn = name.starts_with("allow/");
            if !stubborn && !name.starts_with("approve") {
                given.push(allowCall::abi_decode(&call.data).unwrap().value);
            }
            if stubborn { refused(Failure::REVERTED) } else { mined(SettlementLocked { id: deed().id() }) }
        });
        assert_eq!(names, ["allow/1[0]", "reset/1[0]", "allow_from_zero/1[0]", "approve/1"]);
        assert_eq!(given, [U256::ZERO, U256::from(15)], "for all that are under way");
        assert!(matches!(verdict, Verdict::Done(_)));
        // An own asset gives its reason, and is asked for nothing else.
        let own = approval(&[(BOND, true, true, false)], false);
        let (names, verdict) = play(ApproveFlow::KIND, 2, &own, |_, _| refused("ASSET_PAUSED"));
        assert_eq!(names, ["allow/1[0]"]);
        assert!(
            matches!(verdict, Verdict::Failed(failure) if failure.reason == "ASSET_PAUSED" && failure.metadata["step"] == "allow/1[0]")
        );
    }

    #[test]
    fn an_approval_whose_allowance_was_taken_gives_it_again() {
        for version in [1, 2] {
            let order = approval(&[(BOND, true, false, false)], false);
            assert_eq!(names(version, &order, 1, "ALLOWANCE_INSUFFICIENT"), ["approve/1", "allow/2[0]", "approve/2"]);
            let (names_of_all, verdict) = approve(version, &order, 9, &refused("ALLOWANCE_INSUFFICIENT"));
            assert_eq!(names_of_all.len(), 8, "so often and no further");
            assert_eq!(names_of_all.last().map(String::as_str), Some("take_back[0]"), "what was given is taken back");
            assert!(matches!(verdict, Verdict::Failed(failure) if failure.reason == "ALLOWANCE_INSUFFICIENT"));
            let kept = approval(&[(BOND, true, false, false)], true);
            assert_eq!(names(version, &kept, 1, "ALLOWANCE_INSUFFICIENT"), ["approve/1"], "allowances are left alone");
            assert_eq!(names(version, &order, 1, "CUTOFF_PASSED"), ["approve/1"], "any other refusal ends it");
            let vetoed = |why| StepOutcome::Failed {
                failure: Failure::new("ATTESTATION_REFUSED", "no").with("attestor_reason", why),
            };
            let again = approve(version, &order, 1, &vetoed("ALLOWANCE_INSUFFICIENT")).0;
            assert_eq!(again, ["approve/1", "allow/2[0]", "approve/2"], "the attestor may be the first to see it");
            assert_eq!(approve(version, &order, 1, &vetoed("COMPLIANCE_REFUSED")).0, ["approve/1"]);
            let again = names(version, &order, 1, Failure::REVERTED);
            assert_eq!(again, ["approve/1", "allow/2[0]", "approve/2"], "by the block's end nobody can tell");
        }
    }

    #[test]
    fn an_approval_gives_what_all_that_are_under_way_need_and_takes_its_own_back() {
        let mut given = Vec::new();
        let (_, verdict) = play(ApproveFlow::KIND, 2, &approval(&[(BOND, true, true, false)], false), |name, call| {
            if name.starts_with("approve") {
                return refused("COMPLIANCE_REFUSED");
            }
            given.extend(allowCall::abi_decode(&call.data).map(|allow| allow.value));
            mined(SettlementLocked { id: deed().id() })
        });
        assert!(matches!(verdict, Verdict::Failed(failure) if failure.reason == "COMPLIANCE_REFUSED"));
        assert_eq!(given, [U256::from(15), U256::from(5)]);
    }

    #[test]
    fn the_first_version_goes_on_as_it_began() {
        let stale = approval(&[(BOND, true, true, true), (CASH, false, true, true)], false);
        assert_eq!(names(1, &stale, 0, ""), ["reset/1[0]", "allow/1[0]", "allow/1[1]", "approve/1"]);
        let order = approval(&[(CASH, false, true, false)], false);
        let again = ["allow/1[0]", "approve/1", "reset/2[0]", "allow/2[0]", "approve/2"];
        assert_eq!(names(1, &order, 1, "ALLOWANCE_INSUFFICIENT"), again);
    }
}
