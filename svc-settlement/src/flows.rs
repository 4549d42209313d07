//! What happens on chain. Pure: asked again at every wake-up, the flows decide from what has happened.
//!
//! Step names are stored; they are never renamed.

mod approve;

pub use approve::{ApproveFlow, ApproveOrder, Approved, FirstApproveFlow, Grant};

use crate::{
    commands::{
        Act, Cancel, CreateSettlement, Deliver, Execute, Moved, Reclaim, Reveal, Revoke, StartReclaim, VoteCancel,
        WithdrawVote, moved,
    },
    pairs::{Role, agreement::OpenPair},
    terms::Deed,
};
use alloy::primitives::{Address, B256};
use dalp_contracts::bindings::Settlement::{SettlementCreated, createCall, revealCall};
use dalp_domain::flows::{Sent, call, events};
use dalp_engine::{Amounts, Call, Cx, Failure, Flow, Flows, Secret, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use uuid::Uuid;

/// `settlement.create`.
pub struct CreateFlow;
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

/// An opened settlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementMade {
    /// Its identifier.
    pub settlement_id: B256,
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
        .with::<FirstApproveFlow>()
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
    use crate::terms::tests::{ALICE, delivery};
    use alloy::{primitives::U256, sol_types::SolEvent};
    use dalp_contracts::bindings::Settlement::{LegDeliverable, SettlementCancelled, SettlementLocked};
    use dalp_engine::{
        Mined, OperationId,
        flow::{History, RecordedStep, StepInput, StepOutcome, Verdict},
    };
    use serde_json::{Value, json};

    pub(super) const CONTRACT: Address = Address::repeat_byte(0x5e);

    pub(super) fn deed() -> Deed {
        Deed { salt: B256::repeat_byte(3), terms: delivery() }
    }

    pub(super) fn mined(told: impl SolEvent) -> StepOutcome {
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
    pub(super) fn play(
        kind: &str,
        version: u32,
        order: &Value,
        mut ends: impl FnMut(&str, &Call) -> StepOutcome,
    ) -> (Vec<String>, Verdict) {
        let flows = add(Flows::new());
        let (mut history, mut names) = (History::default(), Vec::new());
        for _ in 0..40 {
            let decision = flows.ask(kind, version, OperationId(uuid::Uuid::nil()), order, &history);
            if decision.verdict != Verdict::Waiting {
                return (names, decision.verdict);
            }
            for (name, input) in decision.new_steps {
                let outcome = match &input {
                    StepInput::Transaction { call } => {
                        names.push(name.clone());
                        Some(ends(&name, call))
                    }
                    _ => None,
                };
                history.steps.insert(name, RecordedStep { input, outcome });
            }
        }
        panic!("never done: {names:?}");
    }

    #[test]
    fn acts_end_with_what_the_contract_told() {
        let order = |command: Value| json!({ "chain_id": 1, "contract": CONTRACT, "deed": deed(), "command": command });
        let id = deed().id();
        let votes = order(json!({ "sender": ALICE, "settlement_id": id }));
        let (names, verdict) = play("settlement.vote_cancel", 1, &votes, |_, _| mined(SettlementCancelled { id }));
        assert_eq!(names, ["vote_cancel"]);
        assert!(matches!(verdict, Verdict::Done(made) if made["cancelled"] == true));
        let (_, verdict) = play("settlement.cancel", 1, &votes, |_, _| mined(SettlementLocked { id }));
        assert!(matches!(verdict, Verdict::Done(made) if made["cancelled"] == false), "only a vote by then");
        let reveals = order(json!({ "sender": ALICE, "settlement_id": id, "secret": B256::ZERO }));
        let owed = || mined(LegDeliverable { id, leg: U256::from(1), cause: Default::default() });
        let (_, verdict) = play("settlement.reveal", 1, &reveals, |_, _| owed());
        assert!(
            matches!(verdict, Verdict::Done(made) if made["deliverable"] == json!([1]) && made["executed"] == false)
        );
    }
}
