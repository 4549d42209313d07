//! What happens on chain. Pure: asked again at every wake-up, the flows decide from what has happened.
//!
//! Step names are stored; they are never renamed.

use crate::{
    commands::{
        Act, Approve, Cancel, CreateSettlement, Deliver, Execute, Moved, Reclaim, Reveal, Revoke, StartReclaim,
        VoteCancel, WithdrawVote, moved, tells,
    },
    pairs::{Role, agreement::OpenPair},
    terms::{Deed, Lock},
};
use alloy::primitives::{Address, B256, U256};
use dalp_contracts::bindings::{
    AssetToken::approveCall as allowCall,
    Settlement::{SettlementCreated, SettlementExecuted, SettlementLocked, approveCall, createCall, revealCall},
};
use dalp_domain::flows::{Sent, call, events};
use dalp_engine::{Amounts, Call, Cx, Failure, Flow, Flows, Secret, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use uuid::Uuid;

/// How often an approval is tried because another of the same wallet took its allowance.
pub const ATTEMPTS: u32 = 4;

/// `settlement.create`.
pub struct CreateFlow;
/// `settlement.approve`.
pub struct ApproveFlow;
/// One call of a settlement.
pub struct ActFlow<A>(PhantomData<A>);

/// A command over a settlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct On<C> {
    /// Where.
    pub chain_id: u64,
    /// The settlement contract.
    pub contract: Address,
    /// The settlement.
    pub deed: Deed,
    /// What was asked for.
    pub command: C,
}

/// A settlement to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateOrder {
    /// Where.
    pub chain_id: u64,
    /// The settlement contract.
    pub contract: Address,
    /// Tells equal terms apart.
    pub salt: B256,
    /// The identifier it will have.
    pub settlement_id: B256,
    /// What was asked for.
    pub command: CreateSettlement,
}

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
    /// Whether there is an allowance that does not reach, which some currencies want taken back first.
    pub stale: bool,
    /// What other approvals of the wallet that are under way need of the allowance: it is given for all of them.
    #[serde(default)]
    pub others: U256,
}

/// An opened settlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementMade {
    /// Its identifier.
    pub settlement_id: B256,
    /// The transaction.
    #[serde(flatten)]
    pub sent: Sent,
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

/// `settlement.open_pair`.
pub struct OpenPairFlow;
/// `settlement.show_secret`.
pub struct ShowSecretFlow;

/// One settlement of an exchange to open, or to find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideOrder {
    /// Where.
    pub chain_id: u64,
    /// The settlement contract.
    pub contract: Address,
    /// Tells equal terms apart; absent: the counterparty opens it.
    pub salt: Option<B256>,
    /// The identifier it will have.
    pub settlement_id: Option<B256>,
    /// The latest block: everything of it comes later.
    pub from_block: u64,
}

/// An exchange across two chains to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPairOrder {
    /// What was asked for.
    pub command: OpenPair,
    /// The hash of the secret.
    pub hash: B256,
    /// Under which the signer keeps the secret, if it is ours.
    pub secret_id: Option<Uuid>,
    /// In the order of [`Role::BOTH`].
    pub sides: [SideOrder; 2],
}

/// A settlement that was opened for an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideMade {
    /// Its chain.
    pub chain_id: u64,
    /// It.
    #[serde(flatten)]
    pub made: SettlementMade,
}

/// An exchange whose settlements are opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairMade {
    /// Those that were opened here.
    pub settlements: Vec<SideMade>,
}

/// Showing our secret: the signer writes it into the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowSecret {
    /// Who sends.
    pub sender: Address,
    /// The settlement.
    pub settlement_id: B256,
    /// Under which the signer keeps it.
    pub secret_id: Uuid,
    /// Gas of the call.
    pub gas_limit: u64,
    /// Unix seconds after which the signer refuses.
    pub not_after_s: u64,
}

/// Adds the flows of settlements.
#[must_use]
pub fn add(flows: Flows) -> Flows {
    flows
        .with::<CreateFlow>()
        .with::<ApproveFlow>()
        .with::<OpenPairFlow>()
        .with::<ShowSecretFlow>()
        .with::<ActFlow<Revoke>>()
        .with::<ActFlow<Execute>>()
        .with::<ActFlow<Cancel>>()
        .with::<ActFlow<VoteCancel>>()
        .with::<ActFlow<WithdrawVote>>()
        .with::<ActFlow<Reveal>>()
        .with::<ActFlow<Deliver>>()
        .with::<ActFlow<StartReclaim>>()
        .with::<ActFlow<Reclaim>>()
}

impl Flow for CreateFlow {
    const KIND: &'static str = "settlement.create";
    type Order = CreateOrder;
    type Outcome = SettlementMade;

    fn amounts(order: &CreateOrder) -> Amounts {
        let local = order.command.terms.local();
        local.fold(Amounts::default(), |all, (_, leg)| all.and(leg.asset, leg.amount))
    }

    fn run(cx: &mut Cx<'_, CreateOrder>) -> Step<SettlementMade> {
        let order = cx.order();
        let mined = cx.transact("create", || {
            let deed = Deed { salt: order.salt, terms: order.command.terms.clone() };
            let create = createCall { terms: deed.on_chain() };
            call(order.chain_id, order.command.sender, order.contract, &create)
        })?;
        let made = events::<SettlementCreated>(&mined, order.contract).map(|event| event.id).next();
        match made {
            Some(settlement_id) => cx.done(SettlementMade { settlement_id, sent: mined.into() }),
            // A contract that did something without telling of it is none of ours.
            None => cx.fail(Failure::new(Reason::Internal.as_str(), "the contract told of no settlement")),
        }
    }
}

impl Flow for ApproveFlow {
    const KIND: &'static str = "settlement.approve";
    type Order = ApproveOrder;
    type Outcome = Approved;

    fn amounts(order: &ApproveOrder) -> Amounts {
        order.locks.iter().fold(Amounts::default(), |all, grant| all.and(grant.lock.asset, grant.lock.amount))
    }

    /// Approvals of one wallet in one asset share its allowance: each gives it for all that are under way, and one that finds it taken all the
    /// same gives it again.
    fn run(cx: &mut Cx<'_, ApproveOrder>) -> Step<Approved> {
        let ApproveOrder { locks, on: On { chain_id, contract, deed, command } } = cx.order();
        let allow = |grant: &Grant, value| {
            let allow = allowCall { spender: *contract, value };
            call(*chain_id, command.sender, grant.lock.asset, &allow)
        };
        let mut attempt = 1;
        let mined = loop {
            let again = attempt > 1;
            let missing = || locks.iter().filter(move |grant| grant.missing || again);
            cx.all(&format!("reset/{attempt}"), || {
                let stale = missing().filter(|grant| !grant.lock.own && (grant.stale || again));
                stale.map(|grant| allow(grant, U256::ZERO)).collect::<Vec<_>>()
            })?;
            cx.all(&format!("allow/{attempt}"), || {
                missing().map(|grant| allow(grant, grant.lock.amount.saturating_add(grant.others))).collect::<Vec<_>>()
            })?;
            let tried = cx.try_transact(&format!("approve/{attempt}"), || {
                call(*chain_id, command.sender, *contract, &approveCall { terms: deed.on_chain() })
            })?;
            // A call that was refused in a block gives no reason any more where the block's end has the allowance again.
            let reasons = [Reason::AllowanceInsufficient.as_str(), Failure::REVERTED];
            let taken = |failure: &Failure| reasons.iter().any(|reason| failure.is_for(reason));
            match tried {
                Ok(mined) => break mined,
                Err(failure) if attempt < ATTEMPTS && !command.keep_allowances && taken(&failure) => attempt += 1,
                Err(failure) => {
                    // What was given for this one is taken back. Others that find too little give theirs again.
                    cx.try_all("take_back", || missing().map(|grant| allow(grant, grant.others)).collect::<Vec<_>>())?;
                    return cx.fail(failure);
                }
            }
        };
        let locked = tells::<SettlementLocked>(&mined, *contract);
        let executed = tells::<SettlementExecuted>(&mined, *contract);
        cx.done(Approved { locked, executed, sent: mined.into() })
    }
}

impl Flow for OpenPairFlow {
    const KIND: &'static str = "settlement.open_pair";
    type Order = OpenPairOrder;
    type Outcome = PairMade;

    /// Opening binds nobody, so both are opened at once, and one that cannot be opened leaves nothing to undo.
    fn run(cx: &mut Cx<'_, OpenPairOrder>) -> Step<PairMade> {
        let OpenPairOrder { command, hash, sides, .. } = cx.order();
        let ours =
            || Role::BOTH.into_iter().map(|role| (role, &sides[role.place()])).filter(|(_, side)| side.salt.is_some());
        let mined = cx.all("create", || {
            ours().map(|(role, side)| {
                let deed = Deed { salt: side.salt.unwrap_or_default(), terms: command.terms(role, *hash) };
                call(side.chain_id, command.sender, side.contract, &createCall { terms: deed.on_chain() })
            })
        })?;
        let made = ours().zip(mined).map(|((_, side), mined)| {
            let settlement_id = events::<SettlementCreated>(&mined, side.contract).map(|event| event.id).next()?;
            Some(SideMade { chain_id: side.chain_id, made: SettlementMade { settlement_id, sent: mined.into() } })
        });
        match made.collect() {
            Some(settlements) => cx.done(PairMade { settlements }),
            None => cx.fail(Failure::new(Reason::Internal.as_str(), "a contract told of no settlement")),
        }
    }
}

impl Flow for ShowSecretFlow {
    const KIND: &'static str = "settlement.show_secret";
    type Order = On<ShowSecret>;
    type Outcome = Moved;

    fn run(cx: &mut Cx<'_, On<ShowSecret>>) -> Step<Moved> {
        let On { chain_id, contract, deed, command } = cx.order();
        let mined = cx.transact("reveal", || {
            let reveal = revealCall { terms: deed.on_chain(), secret: B256::ZERO };
            let secret = Secret {
                id: command.secret_id,
                gas_limit: command.gas_limit,
                not_after_s: command.not_after_s,
                lacking: Reason::SecretMismatch.as_str().to_owned(),
            };
            Call { secret: Some(secret), ..call(*chain_id, command.sender, *contract, &reveal) }
        })?;
        cx.done(moved(mined, *contract))
    }
}

impl<A: Act> Flow for ActFlow<A> {
    const KIND: &'static str = A::KIND;
    type Order = On<A>;
    type Outcome = A::Outcome;

    fn amounts(order: &On<A>) -> Amounts {
        order.deed.terms.local().fold(Amounts::default(), |all, (_, leg)| all.and(leg.asset, leg.amount))
    }

    fn run(cx: &mut Cx<'_, On<A>>) -> Step<A::Outcome> {
        let On { chain_id, contract, deed, command } = cx.order();
        let mined = cx.transact(A::STEP, || call(*chain_id, command.sender(), *contract, &command.call(deed)))?;
        cx.done(command.outcome(mined, *contract))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::tests::{ALICE, BOND, CASH, delivery};
    use alloy::sol_types::{SolCall as _, SolEvent};
    use dalp_contracts::bindings::Settlement::{LegDeliverable, SettlementCancelled};
    use dalp_engine::{
        Mined, OperationId,
        flow::{History, RecordedStep, StepInput, StepOutcome, Verdict},
    };
    use serde_json::{Value, json};

    const CONTRACT: Address = Address::repeat_byte(0x5e);

    fn deed() -> Deed {
        Deed { salt: B256::repeat_byte(3), terms: delivery() }
    }

    fn mined(told: impl SolEvent) -> StepOutcome {
        let inner = alloy::primitives::Log { address: CONTRACT, data: told.encode_log_data() };
        let mined = Mined {
            tx_hash: B256::ZERO,
            block_number: 3,
            block_hash: B256::ZERO,
            gas_used: 1,
            contract_address: None,
            logs: vec![dalp_chain::Log { inner, ..Default::default() }],
        };
        StepOutcome::Mined { mined }
    }

    /// The transactions in order and how it ended, where steps end so.
    fn play(kind: &str, order: &Value, mut ends: impl FnMut(&str) -> StepOutcome) -> (Vec<String>, Verdict) {
        let flows = add(Flows::new());
        let (mut history, mut names) = (History::default(), Vec::new());
        for _ in 0..40 {
            let decision = flows.ask(kind, 1, OperationId(uuid::Uuid::nil()), order, &history);
            if decision.verdict != Verdict::Waiting {
                return (names, decision.verdict);
            }
            for (name, input) in decision.new_steps {
                let outcome = match &input {
                    StepInput::Transaction { .. } => {
                        names.push(name.clone());
                        Some(ends(&name))
                    }
                    _ => None,
                };
                history.steps.insert(name, RecordedStep { input, outcome });
            }
        }
        panic!("never done: {names:?}");
    }

    fn approval(locks: &[(Address, bool, bool, bool)], keep_allowances: bool) -> Value {
        let locks = locks.iter().map(|(asset, own, missing, stale)| Grant {
            lock: Lock { sender: ALICE, asset: *asset, own: *own, amount: U256::from(10) },
            missing: *missing,
            stale: *stale,
            others: U256::ZERO,
        });
        let command = Approve { sender: ALICE, settlement_id: deed().id(), keep_allowances };
        let on = On { chain_id: 1, contract: CONTRACT, deed: deed(), command };
        serde_json::to_value(ApproveOrder { locks: locks.collect(), on }).unwrap()
    }

    /// An approval where so many find their allowance taken.
    fn approve(order: &Value, mut taken: usize, reason: &str) -> (Vec<String>, Verdict) {
        refused_so_often(order, &mut taken, &Failure::new(reason, "no"))
    }

    fn refused_so_often(order: &Value, taken: &mut usize, failure: &Failure) -> (Vec<String>, Verdict) {
        play("settlement.approve", order, |name| {
            let refused = name.starts_with("approve") && *taken > 0;
            *taken -= usize::from(refused);
            match refused {
                true => StepOutcome::Failed { failure: failure.clone() },
                false => mined(SettlementLocked { id: deed().id() }),
            }
        })
    }

    #[test]
    fn an_approval_gives_the_allowances_that_are_missing() {
        let (names, verdict) = approve(&approval(&[(BOND, true, false, false)], false), 0, "");
        assert_eq!(names, ["approve/1"]);
        assert!(matches!(verdict, Verdict::Done(made) if made["locked"] == true && made["executed"] == false));
        let some = approval(&[(BOND, true, true, true), (CASH, false, false, true)], false);
        assert_eq!(approve(&some, 0, "").0, ["allow/1[0]", "approve/1"]);
        let stale = approval(&[(BOND, true, true, true), (CASH, false, true, true)], false);
        assert_eq!(approve(&stale, 0, "").0, ["reset/1[0]", "allow/1[0]", "allow/1[1]", "approve/1"]);
    }

    #[test]
    fn an_approval_whose_allowance_was_taken_gives_it_again() {
        let order = approval(&[(BOND, true, false, false)], false);
        let (names, verdict) = approve(&order, 1, "ALLOWANCE_INSUFFICIENT");
        assert_eq!(names, ["approve/1", "allow/2[0]", "approve/2"]);
        assert!(matches!(verdict, Verdict::Done(_)));
        let (names, verdict) = approve(&order, 9, "ALLOWANCE_INSUFFICIENT");
        assert_eq!(names.len(), 8, "so often and no further");
        assert_eq!(names.last().map(String::as_str), Some("take_back[0]"), "and what was given is taken back");
        assert!(matches!(verdict, Verdict::Failed(failure) if failure.reason == "ALLOWANCE_INSUFFICIENT"));
        let kept = approval(&[(BOND, true, false, false)], true);
        assert_eq!(approve(&kept, 1, "ALLOWANCE_INSUFFICIENT").0, ["approve/1"], "allowances are left alone");
        assert_eq!(approve(&order, 1, "CUTOFF_PASSED").0, ["approve/1"], "any other refusal ends it");
        let vetoed = |why| Failure::new("ATTESTATION_REFUSED", "no").with("attestor_reason", why);
        let (names, _) = refused_so_often(&order, &mut 1, &vetoed("ALLOWANCE_INSUFFICIENT"));
        assert_eq!(names, ["approve/1", "allow/2[0]", "approve/2"], "the attestor may be the first to see it");
        assert_eq!(refused_so_often(&order, &mut 1, &vetoed("COMPLIANCE_REFUSED")).0, ["approve/1"]);
        let names = approve(&order, 1, Failure::REVERTED).0;
        assert_eq!(names, ["approve/1", "allow/2[0]", "approve/2"], "by the block's end nobody can tell");
    }

    #[test]
    fn an_approval_gives_what_all_that_are_under_way_need_and_takes_its_own_back() {
        let mut order = approval(&[(BOND, true, true, false)], false);
        order["locks"][0]["others"] = json!(U256::from(5));
        let mut given = Vec::new();
        let flows = add(Flows::new());
        let mut history = History::default();
        loop {
            let decision = flows.ask("settlement.approve", 1, OperationId(uuid::Uuid::nil()), &order, &history);
            if decision.verdict != Verdict::Waiting {
                assert!(matches!(decision.verdict, Verdict::Failed(failure) if failure.reason == "COMPLIANCE_REFUSED"));
                break;
            }
            for (name, input) in decision.new_steps {
                let outcome = match &input {
                    StepInput::Transaction { .. } if name.starts_with("approve") => {
                        Some(StepOutcome::Failed { failure: Failure::new("COMPLIANCE_REFUSED", "no") })
                    }
                    StepInput::Transaction { call } => {
                        given.extend(allowCall::abi_decode(&call.data).map(|allow| allow.value));
                        Some(mined(SettlementLocked { id: deed().id() }))
                    }
                    _ => None,
                };
                history.steps.insert(name, RecordedStep { input, outcome });
            }
        }
        assert_eq!(given, [U256::from(15), U256::from(5)]);
    }

    #[test]
    fn acts_end_with_what_the_contract_told() {
        let order = |command: Value| json!({ "chain_id": 1, "contract": CONTRACT, "deed": deed(), "command": command });
        let id = deed().id();
        let votes = order(json!({ "sender": ALICE, "settlement_id": id }));
        let (names, verdict) = play("settlement.vote_cancel", &votes, |_| mined(SettlementCancelled { id }));
        assert_eq!(names, ["vote_cancel"]);
        assert!(matches!(verdict, Verdict::Done(made) if made["cancelled"] == true));
        let (_, verdict) = play("settlement.cancel", &votes, |_| mined(SettlementLocked { id }));
        assert!(matches!(verdict, Verdict::Done(made) if made["cancelled"] == false), "only a vote by then");
        let reveals = order(json!({ "sender": ALICE, "settlement_id": id, "secret": B256::ZERO }));
        let owed = || mined(LegDeliverable { id, leg: U256::from(1), cause: Default::default() });
        let (_, verdict) = play("settlement.reveal", &reveals, |_| owed());
        assert!(
            matches!(verdict, Verdict::Done(made) if made["deliverable"] == json!([1]) && made["executed"] == false)
        );
    }
}
