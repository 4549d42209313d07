//! What happens on chain. Pure: asked again at every wake-up, the flows decide from what has happened.
//!
//! Step names are stored; they are never renamed.

use super::terms::{Buy, ClaimTokens, CreateOffering, Handle, Rates, Refund, SetPaused, WithdrawProceeds};
use alloy::primitives::{Address, B256, U256};
use dalp_contracts::bindings::{
    AddonFactory::{OfferingCreated, createOfferingCall},
    AssetToken::approveCall,
    Offering::{
        self, Claimed, Finalized, ProceedsWithdrawn, Purchased, Refunded, UnsoldWithdrawn, activateCall, buyCall,
        claimCall, finalizeCall, pauseCall, refundCall, withdrawProceedsCall, withdrawUnsoldCall,
    },
};
use dalp_domain::flows::{Sent, call, events};
use dalp_engine::{Amounts, Cx, Failure, Flow, Flows, Mined, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};

/// How often a purchase is tried because another of the same wallet took its allowance.
pub const ATTEMPTS: u32 = 4;

/// `offering.create`.
pub struct CreateOfferingFlow;
/// `offering.activate`.
pub struct ActivateFlow;
/// `offering.set_paused`.
pub struct SetPausedFlow;
/// `offering.finalize`.
pub struct FinalizeFlow;
/// `offering.buy`.
pub struct BuyFlow;
/// `offering.claim`.
pub struct ClaimFlow;
/// `offering.refund`.
pub struct RefundFlow;
/// `offering.withdraw_proceeds`.
pub struct WithdrawProceedsFlow;
/// `offering.withdraw_unsold`.
pub struct WithdrawUnsoldFlow;

/// A command to carry out on a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct On<C> {
    /// Where.
    pub chain_id: u64,
    /// What was asked for.
    pub command: C,
}

/// A sale to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateOrder {
    /// Where.
    pub chain_id: u64,
    /// The tenant's factory.
    pub factory: Address,
    /// Where the factory puts it.
    pub offering: Address,
    /// The creator's own.
    pub salt: B256,
    /// What the prices come to.
    pub rates: Rates,
    /// What was asked for.
    pub command: CreateOffering,
}

/// A created sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferingMade {
    /// The contract.
    pub offering: Address,
    /// Transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

/// A purchase to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuyOrder {
    /// Where.
    pub chain_id: u64,
    /// Whether the sale may not take the payment yet.
    pub approve: bool,
    /// The least to buy.
    pub minimum_tokens: U256,
    /// The buyer's place on the allow-list, while it is asked for.
    pub proof: Vec<B256>,
    /// What was asked for.
    pub command: Buy,
}

/// A purchase that is in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurchaseMade {
    /// Base units of the asset, decimal.
    pub tokens: String,
    /// Base units of the currency, decimal.
    pub cost: String,
    /// Transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

/// A decided sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Whether the soft cap was reached.
    pub succeeded: bool,
    /// Base units sold, decimal.
    pub sold: String,
    /// Transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

/// Something that was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Base units, decimal.
    pub amount: String,
    /// Transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

/// Payments to return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundOrder {
    /// Where.
    pub chain_id: u64,
    /// In which currencies.
    pub currencies: Vec<Address>,
    /// What was asked for.
    pub command: Refund,
}

/// Payments that were returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundsMade {
    /// By currency.
    pub refunds: Vec<RefundMade>,
}

/// A payment that was returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundMade {
    /// In which currency.
    pub currency: Address,
    /// How much.
    #[serde(flatten)]
    pub moved: Moved,
}

/// Adds the flows of sales.
#[must_use]
pub fn add(flows: Flows) -> Flows {
    flows
        .with::<CreateOfferingFlow>()
        .with::<ActivateFlow>()
        .with::<SetPausedFlow>()
        .with::<FinalizeFlow>()
        .with::<BuyFlow>()
        .with::<ClaimFlow>()
        .with::<RefundFlow>()
        .with::<WithdrawProceedsFlow>()
        .with::<WithdrawUnsoldFlow>()
}

impl Flow for CreateOfferingFlow {
    const KIND: &'static str = "offering.create";
    type Order = CreateOrder;
    type Outcome = OfferingMade;

    fn run(cx: &mut Cx<'_, CreateOrder>) -> Step<OfferingMade> {
        let order = cx.order();
        let mined = cx.transact("create", || {
            let create = createOfferingCall { salt: order.salt, terms: order.command.terms.on_chain(&order.rates) };
            call(order.chain_id, order.command.sender, order.factory, &create)
        })?;
        let made = events::<OfferingCreated>(&mined, order.factory).map(|event| event.offering).next();
        match made {
            Some(offering) => {
                cx.done(OfferingMade { offering, tx_hash: mined.tx_hash, block_number: mined.block_number })
            }
            None => cx.fail(untold("the factory told of no sale")),
        }
    }
}

impl Flow for ActivateFlow {
    const KIND: &'static str = "offering.activate";
    type Order = On<Handle>;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, On<Handle>>) -> Step<Sent> {
        let On { chain_id, command } = cx.order();
        let mined = cx.transact("activate", || call(*chain_id, command.sender, command.offering, &activateCall {}))?;
        cx.done(mined.into())
    }
}

impl Flow for SetPausedFlow {
    const KIND: &'static str = "offering.set_paused";
    type Order = On<SetPaused>;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, On<SetPaused>>) -> Step<Sent> {
        let On { chain_id, command } = cx.order();
        let pause = pauseCall { on: command.paused };
        let mined = cx.transact("set_paused", || call(*chain_id, command.sender, command.offering, &pause))?;
        cx.done(mined.into())
    }
}

impl Flow for FinalizeFlow {
    const KIND: &'static str = "offering.finalize";
    type Order = On<Handle>;
    type Outcome = Decided;

    fn run(cx: &mut Cx<'_, On<Handle>>) -> Step<Decided> {
        let On { chain_id, command } = cx.order();
        let mined = cx.transact("finalize", || call(*chain_id, command.sender, command.offering, &finalizeCall {}))?;
        let Some(told) = events::<Finalized>(&mined, command.offering).next() else {
            return cx.fail(untold("the sale told of no outcome"));
        };
        cx.done(Decided {
            succeeded: told.succeeded,
            sold: told.sold.to_string(),
            tx_hash: mined.tx_hash,
            block_number: mined.block_number,
        })
    }
}

impl Flow for BuyFlow {
    const KIND: &'static str = "offering.buy";
    type Order = BuyOrder;
    type Outcome = PurchaseMade;

    fn amounts(order: &BuyOrder) -> Amounts {
        Amounts::of(order.command.currency, order.command.payment)
    }

    /// Purchases of one wallet in one currency share its allowance: one that finds it taken asks for its own again.
    fn run(cx: &mut Cx<'_, BuyOrder>) -> Step<PurchaseMade> {
        let BuyOrder { chain_id, approve, minimum_tokens, proof, command } = cx.order();
        let mut attempt = 1;
        let mined = loop {
            if *approve || attempt > 1 {
                cx.transact(&format!("approve/{attempt}"), || {
                    let approve = approveCall { spender: command.offering, value: command.payment };
                    call(*chain_id, command.sender, command.currency, &approve)
                })?;
            }
            let tried = cx.try_transact(&format!("buy/{attempt}"), || {
                let purchase = Offering::Purchase {
                    currency: command.currency,
                    payment: command.payment,
                    minimumTokens: *minimum_tokens,
                    termsHash: command.terms_hash,
                    proof: proof.clone(),
                };
                call(*chain_id, command.sender, command.offering, &buyCall { purchase })
            })?;
            match tried {
                Ok(mined) => break mined,
                Err(failure) if attempt < ATTEMPTS && failure.is_for(Reason::AllowanceInsufficient.as_str()) => {
                    attempt += 1;
                }
                Err(failure) => return cx.fail(failure),
            }
        };
        let Some(told) = events::<Purchased>(&mined, command.offering).next() else {
            return cx.fail(untold("the sale told of no purchase"));
        };
        cx.done(PurchaseMade {
            tokens: told.tokens.to_string(),
            cost: told.cost.to_string(),
            tx_hash: mined.tx_hash,
            block_number: mined.block_number,
        })
    }
}

impl Flow for ClaimFlow {
    const KIND: &'static str = "offering.claim";
    type Order = On<ClaimTokens>;
    type Outcome = Moved;

    fn run(cx: &mut Cx<'_, On<ClaimTokens>>) -> Step<Moved> {
        let On { chain_id, command } = cx.order();
        let claim = claimCall { buyer: command.buyer };
        let mined = cx.transact("claim", || call(*chain_id, command.sender, command.offering, &claim))?;
        let amount = events::<Claimed>(&mined, command.offering).map(|event| event.amount).next();
        cx.done(Moved::of(amount, &mined))
    }
}

impl Flow for RefundFlow {
    const KIND: &'static str = "offering.refund";
    type Order = RefundOrder;
    type Outcome = RefundsMade;

    fn run(cx: &mut Cx<'_, RefundOrder>) -> Step<RefundsMade> {
        let RefundOrder { chain_id, currencies, command } = cx.order();
        let mined = cx.all("refund", || {
            currencies.iter().map(|currency| {
                let refund = refundCall { buyer: command.buyer, currency: *currency };
                call(*chain_id, command.sender, command.offering, &refund)
            })
        })?;
        let made = currencies.iter().zip(&mined).map(|(currency, mined)| {
            let amount = events::<Refunded>(mined, command.offering).map(|event| event.amount).next();
            RefundMade { currency: *currency, moved: Moved::of(amount, mined) }
        });
        cx.done(RefundsMade { refunds: made.collect() })
    }
}

impl Flow for WithdrawProceedsFlow {
    const KIND: &'static str = "offering.withdraw_proceeds";
    type Order = On<WithdrawProceeds>;
    type Outcome = Moved;

    fn run(cx: &mut Cx<'_, On<WithdrawProceeds>>) -> Step<Moved> {
        let On { chain_id, command } = cx.order();
        let withdraw = withdrawProceedsCall { currency: command.currency };
        let mined = cx.transact("withdraw", || call(*chain_id, command.sender, command.offering, &withdraw))?;
        let amount = events::<ProceedsWithdrawn>(&mined, command.offering).map(|event| event.amount).next();
        cx.done(Moved::of(amount, &mined))
    }
}

impl Flow for WithdrawUnsoldFlow {
    const KIND: &'static str = "offering.withdraw_unsold";
    type Order = On<Handle>;
    type Outcome = Moved;

    fn run(cx: &mut Cx<'_, On<Handle>>) -> Step<Moved> {
        let On { chain_id, command } = cx.order();
        let withdraw = withdrawUnsoldCall {};
        let mined = cx.transact("withdraw", || call(*chain_id, command.sender, command.offering, &withdraw))?;
        let amount = events::<UnsoldWithdrawn>(&mined, command.offering).map(|event| event.amount).next();
        cx.done(Moved::of(amount, &mined))
    }
}

/// A contract that did something without telling of it is none of ours.
fn untold(message: &str) -> Failure {
    Failure::new(Reason::Internal.as_str(), message)
}

// === impl Moved ===

impl Moved {
    pub(crate) fn of(amount: Option<U256>, mined: &Mined) -> Self {
        Self {
            amount: amount.unwrap_or_default().to_string(),
            tx_hash: mined.tx_hash,
            block_number: mined.block_number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::sol_types::SolEvent as _;
    use dalp_engine::{
        OperationId,
        flow::{History, RecordedStep, StepInput, StepOutcome, Verdict},
    };

    const SALE: Address = Address::repeat_byte(0x0f);

    fn order(approve: bool) -> serde_json::Value {
        let command = Buy {
            sender: Address::repeat_byte(0xb1),
            offering: SALE,
            currency: Address::repeat_byte(0xc1),
            payment: U256::from(201),
            minimum_tokens: None,
            terms_hash: B256::ZERO,
        };
        let order = BuyOrder { chain_id: 1, approve, minimum_tokens: U256::from(100), proof: vec![], command };
        serde_json::to_value(order).unwrap()
    }

    fn bought() -> StepOutcome {
        let told = Purchased {
            buyer: Address::ZERO,
            currency: Address::ZERO,
            tokens: U256::from(100),
            cost: U256::from(200),
            termsHash: B256::ZERO,
        };
        let inner = alloy::primitives::Log { address: SALE, data: told.encode_log_data() };
        let log = dalp_chain::Log { inner, ..Default::default() };
        let mined = Mined {
            tx_hash: B256::ZERO,
            block_number: 3,
            block_hash: B256::ZERO,
            gas_used: 1,
            contract_address: None,
            logs: vec![log],
        };
        StepOutcome::Mined { mined }
    }

    /// The steps in order and how it ended, where so many purchases find their allowance taken.
    fn play(approve: bool, taken: usize, reason: &str) -> (Vec<String>, Verdict) {
        let flows = add(Flows::new());
        let (mut history, mut names, mut left) = (History::default(), Vec::new(), taken);
        for _ in 0..20 {
            let decision = flows.ask(BuyFlow::KIND, 1, OperationId(uuid::Uuid::nil()), &order(approve), &history);
            if decision.verdict != Verdict::Waiting {
                return (names, decision.verdict);
            }
            for (name, input) in decision.new_steps {
                assert!(matches!(input, StepInput::Transaction { .. }));
                let refused = name.starts_with("buy") && left > 0;
                left -= usize::from(refused);
                let outcome = match refused {
                    true => StepOutcome::Failed { failure: Failure::new(reason, "no") },
                    false => bought(),
                };
                names.push(name.clone());
                history.steps.insert(name, RecordedStep { input, outcome: Some(outcome) });
            }
        }
        panic!("never done: {names:?}");
    }

    #[test]
    fn a_purchase_allows_the_sale_to_take_the_payment_where_it_may_not() {
        let (names, verdict) = play(false, 0, "");
        assert_eq!(names, ["buy/1"]);
        assert!(matches!(verdict, Verdict::Done(made) if made["tokens"] == "100" && made["cost"] == "200"));
        assert_eq!(play(true, 0, "").0, ["approve/1", "buy/1"]);
    }

    #[test]
    fn a_purchase_whose_allowance_was_taken_asks_for_it_again() {
        let (names, verdict) = play(true, 1, "ALLOWANCE_INSUFFICIENT");
        assert_eq!(names, ["approve/1", "buy/1", "approve/2", "buy/2"]);
        assert!(matches!(verdict, Verdict::Done(_)));
        let (names, verdict) = play(true, 9, "ALLOWANCE_INSUFFICIENT");
        assert_eq!(names.len(), 8, "so often and no further");
        assert!(matches!(verdict, Verdict::Failed(failure) if failure.reason == "ALLOWANCE_INSUFFICIENT"));
    }

    #[test]
    fn any_other_refusal_ends_a_purchase() {
        let (names, verdict) = play(true, 1, "SALE_ENDED");
        assert_eq!(names, ["approve/1", "buy/1"]);
        assert!(matches!(verdict, Verdict::Failed(failure) if failure.reason == "SALE_ENDED"));
    }
}
