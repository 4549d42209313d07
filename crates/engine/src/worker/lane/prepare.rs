//! Simulate, price, bind.
//!
//! Every transaction is run once at one block before a nonce is bound. Where calls of its kind were estimated before, it is run with
//! the gas that sufficed for those: passing shows that it suffices for this one, too. Whatever does not pass is estimated
//! anew at the latest block, and only that answer can refuse it.

use super::{LaneError, LaneWorker, backoff, refusal};
use crate::{
    flow::Failure,
    states::TransactionState,
    store::{self, Attempt, BindOrder, Binding, Handover, QueuedTransaction},
    worker::market::CallKind,
};
use alloy::primitives::{Bytes, U64, U256};
use dalp_chain::{BlockNumberOrTag, ChainError, FeeInputs, Fees, NodeError, NodeErrorKind, RpcResult, fees, gas};
use serde_json::{Value, json};
use std::time::Duration;

/// The sub-status of what a node says is out of gas: an estimate may have broken off.
const OUT_OF_GAS: &str = "out_of_gas";

/// What the simulation of one transaction came to.
enum Verdict {
    Passed { gas_limit: u64 },
    Refused(Refused),
    NotNow(String),
}

/// A refusal and the sub-status that tells of it.
struct Refused {
    sub_status: &'static str,
    failure: Failure,
}

/// How a simulation is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// At a block that may be a moment old, with gas known from calls of the kind.
    Quick,
    /// At the block given, everything estimated.
    Thorough,
}

/// What a round of preparing brought.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) bound: Vec<Attempt>,
    /// Written down to be handed over.
    pub(super) handed: Vec<Handover>,
    /// Something left the queue or was put off.
    pub(super) progress: bool,
}

impl LaneWorker {
    /// Simulates transactions and binds those that pass. Nothing is bound, let alone signed, before that.
    pub(super) async fn prepare(&self, queued: &[QueuedTransaction]) -> Result<Prepared, LaneError> {
        let shared = &self.shared;
        let (verdicts, price) = match self.judge(queued).await {
            Ok(judged) => judged,
            Err(error @ (LaneError::Chain(_) | LaneError::Fees(_))) => {
                let ids: Vec<_> = queued.iter().map(|one| one.id).collect();
                let tries = queued.iter().map(|one| one.tries).max().unwrap_or(0);
                let text = error.to_string();
                store::retry("defer", || {
                    shared.store.defer_queued(&ids, backoff(tries), "simulate", "retrying_upstream", &text)
                })
                .await?;
                return Ok(Prepared::default());
            }
            Err(error) => return Err(error),
        };
        let (mut bindings, mut refused) = (Vec::new(), Vec::new());
        for (transaction, verdict) in queued.iter().zip(verdicts) {
            match verdict {
                Verdict::Passed { gas_limit } => {
                    bindings.push(Binding { transaction: transaction.clone(), gas_limit, fees: price });
                }
                Verdict::Refused(Refused { sub_status, failure }) => {
                    refused.push(refusal(transaction, TransactionState::Failed, sub_status, failure));
                }
                Verdict::NotNow(error) if transaction.tries >= shared.config.retry_budget => {
                    let failure = Failure::new("SIMULATION_UNAVAILABLE", error);
                    refused.push(refusal(transaction, TransactionState::DeadLetter, "retries_exhausted", failure));
                }
                Verdict::NotNow(error) => {
                    let (ids, pause) = ([transaction.id], backoff(transaction.tries));
                    store::retry("defer", || {
                        shared.store.defer_queued(&ids, pause, "estimate_gas", "retrying_upstream", &error)
                    })
                    .await?;
                }
            }
        }
        let mut prepared = Prepared { progress: !bindings.is_empty() || !refused.is_empty(), ..Prepared::default() };
        if !refused.is_empty() {
            shared.store.refuse_queued(refused).await?;
            shared.woken();
        }
        if !bindings.is_empty() && self.look.by_provider {
            let ids: Vec<_> = bindings.iter().map(|binding| binding.transaction.id).collect();
            prepared.handed = store::retry("hand over", || shared.store.hand_over(self.lane, &ids)).await?;
        } else if !bindings.is_empty() {
            let order = BindOrder { lane: self.lane, holes: self.look.holes, bindings };
            prepared.bound = shared.joint.bind(order).await?;
        }
        Ok(prepared)
    }

    /// Simulates all quickly, then thoroughly what did not pass.
    async fn judge(&self, queued: &[QueuedTransaction]) -> Result<(Vec<Verdict>, Fees), LaneError> {
        let all: Vec<&QueuedTransaction> = queued.iter().collect();
        let inputs = self.market_inputs().await?;
        let price = fees::price(&inputs, &self.node.config().fees)?;
        let mut verdicts = self.simulate(&all, &inputs, &price, Effort::Quick).await?;
        let doubtful: Vec<usize> =
            (0..verdicts.len()).filter(|index| matches!(verdicts[*index], Verdict::Refused(_))).collect();
        if !doubtful.is_empty() {
            let latest = self.latest_inputs().await?;
            let again: Vec<&QueuedTransaction> = doubtful.iter().map(|index| &queued[*index]).collect();
            let decided = self.simulate(&again, &latest, &price, Effort::Thorough).await?;
            for (index, verdict) in doubtful.into_iter().zip(decided) {
                verdicts[index] = verdict;
            }
        }
        Ok((verdicts, price))
    }

    /// Pre-checks and runs of all, at one block, in few requests.
    async fn simulate(
        &self,
        queued: &[&QueuedTransaction],
        inputs: &FeeInputs,
        price: &Fees,
        effort: Effort,
    ) -> Result<Vec<Verdict>, LaneError> {
        let block = BlockNumberOrTag::Number(inputs.block_number);
        let market = self.market();
        let known: Vec<Option<u64>> = queued
            .iter()
            .map(|transaction| match &transaction.secret {
                // Without the secret it can be run, and not estimated.
                Some(secret) => Some(secret.gas_limit),
                None => (effort == Effort::Quick).then(|| market.gas(CallKind::of(transaction))).flatten(),
            })
            .collect();
        let mut calls: Vec<(&'static str, Value)> = vec![("eth_getBalance", json!([self.lane.sender, block]))];
        for (transaction, known) in queued.iter().zip(&known) {
            for check in &transaction.checks {
                let question = json!({"from": self.lane.sender, "to": check.target, "input": check.data});
                calls.push(("eth_call", json!([question, block])));
            }
            let mut request = self.request(transaction);
            request.gas = *known;
            let method = if known.is_some() { "eth_call" } else { "eth_estimateGas" };
            calls.push((method, json!([request, block])));
        }
        let mut answers = self.node.batch(calls).await.map_err(ChainError::from)?.into_iter();
        let malformed = |reason: String| ChainError::Malformed { method: "eth_getBalance".into(), reason };
        let balance = answers.next().ok_or_else(|| malformed("no answer".into()))?.map_err(ChainError::Node)?;
        let balance_wei: U256 = serde_json::from_str(balance.get()).map_err(|error| malformed(error.to_string()))?;
        let verdicts = queued.iter().zip(known).map(|(transaction, known)| {
            let mut refused = None;
            for (index, check) in transaction.checks.iter().enumerate() {
                let failed = match answer::<Bytes>(answers.next()) {
                    Ok(output) => self
                        .shared
                        .decoder
                        .judge(&check.decoder, &output)
                        .err()
                        .map(|failure| reverted(of_check(failure, index, transaction.checks.len()))),
                    // Limits are tried for the call itself only: a check that runs out of gas has not passed.
                    Err(error) => Some(match self.failed(error) {
                        Verdict::Refused(refused) if refused.sub_status == OUT_OF_GAS => reverted(refused.failure),
                        failed => failed,
                    }),
                };
                refused = refused.or(failed); // every answer is taken, the first failure counts
            }
            let needed = match known {
                Some(gas) if transaction.secret.is_some() => match answer::<Bytes>(answers.next()) {
                    Err(error) if !self.lacks_only_the_secret(transaction, &error) => Err(error),
                    _ => Ok(gas),
                },
                Some(gas) => answer::<Bytes>(answers.next()).map(|_| gas),
                None => answer::<U64>(answers.next()).map(|gas| gas.to::<u64>()).inspect(|gas| {
                    // Others of the kind may need a little more: more non-zero bytes, a colder slot.
                    market.learn_gas(CallKind::of(transaction), gas + gas / 16);
                }),
            };
            refused.unwrap_or_else(|| match needed {
                Ok(gas) => self.affordable(transaction, gas, price, balance_wei),
                Err(error) => self.failed(error),
            })
        });
        let mut verdicts: Vec<Verdict> = verdicts.collect();
        for (transaction, verdict) in queued.iter().zip(&mut verdicts) {
            let dry = matches!(verdict, Verdict::Refused(refused) if refused.sub_status == OUT_OF_GAS);
            if dry
                && transaction.secret.is_none()
                && effort == Effort::Thorough
                && let Some(gas) = self.gas_by_limits(transaction, block).await?
            {
                *verdict = self.affordable(transaction, gas, price, balance_wei);
            }
        }
        Ok(verdicts)
    }

    /// Gas that suffices, where the node's estimator breaks off. `None`: no limit does.
    async fn gas_by_limits(
        &self,
        transaction: &QueuedTransaction,
        block: BlockNumberOrTag,
    ) -> Result<Option<u64>, LaneError> {
        let tries = gas::limits().map(|limit| {
            let request = self.request(transaction).gas_limit(limit);
            ("eth_call", json!([request, block]))
        });
        let answers = self.node.batch(tries.collect()).await.map_err(ChainError::from)?;
        Ok(gas::least_sufficient(answers.iter().map(Result::is_ok)))
    }

    /// The gas limit, if the sender can pay for it.
    fn affordable(&self, transaction: &QueuedTransaction, gas: u64, price: &Fees, balance_wei: U256) -> Verdict {
        let gas_limit = gas.saturating_add(gas.saturating_mul(self.shared.config.gas_margin_percent) / 100);
        let needed_wei = U256::from(gas_limit)
            .saturating_mul(U256::from(price.max_price_wei()))
            .saturating_add(transaction.value_wei);
        if needed_wei <= balance_wei {
            return Verdict::Passed { gas_limit };
        }
        let message = format!("{} cannot pay for gas and value", self.lane.sender);
        let failure = Failure::new("INSUFFICIENT_FUNDS", message)
            .with("needed_wei", needed_wei)
            .with("available_wei", balance_wei)
            .with("sender", self.lane.sender);
        Verdict::Refused(Refused { sub_status: "insufficient_funds", failure })
    }

    /// Whether the contract has nothing against a call but the word that the signer fills in.
    fn lacks_only_the_secret(&self, transaction: &QueuedTransaction, error: &NodeError) -> bool {
        let refused = || self.shared.decoder.decode_revert(&error.data.clone().unwrap_or_default());
        matches!(error.kind, NodeErrorKind::Reverted)
            && transaction.secret.as_ref().is_some_and(|secret| refused().reason == secret.lacking)
    }

    fn failed(&self, error: NodeError) -> Verdict {
        match error.kind {
            NodeErrorKind::Reverted => reverted(self.shared.decoder.decode_revert(&error.data.unwrap_or_default())),
            NodeErrorKind::InsufficientFunds { .. } => Verdict::Refused(Refused {
                sub_status: "insufficient_funds",
                failure: Failure::new("INSUFFICIENT_FUNDS", error.message),
            }),
            NodeErrorKind::OutOfGas => Verdict::Refused(Refused {
                sub_status: OUT_OF_GAS,
                failure: Failure::new("SIMULATION_REFUSED", error.message),
            }),
            kind if kind.is_about_the_node() => Verdict::NotNow(error.message),
            // An estimate that failed is never replaced by a guess.
            _ => reverted(Failure::new("SIMULATION_REFUSED", error.message)),
        }
    }

    /// Simulates one transaction again, as it stands. `Some`: it is refused now.
    pub(super) async fn refused_now(&self, transaction: &QueuedTransaction) -> Result<Option<Failure>, LaneError> {
        match self.simulate_again(transaction).await? {
            Verdict::Refused(refused) => Ok(Some(refused.failure)),
            Verdict::NotNow(reason) => Err(ChainError::Malformed { method: "eth_estimateGas".into(), reason }.into()),
            Verdict::Passed { .. } => Ok(None),
        }
    }

    /// The gas limit that one transaction would get now. `None`: it cannot be told.
    pub(super) async fn gas_limit_now(&self, transaction: &QueuedTransaction) -> Option<u64> {
        match self.simulate_again(transaction).await {
            Ok(Verdict::Passed { gas_limit }) => Some(gas_limit),
            Ok(Verdict::Refused(_) | Verdict::NotNow(_)) | Err(_) => None,
        }
    }

    async fn simulate_again(&self, transaction: &QueuedTransaction) -> Result<Verdict, LaneError> {
        let latest = self.latest_inputs().await?;
        let price = fees::price(&latest, &self.node.config().fees)?;
        let verdict = self.simulate(&[transaction], &latest, &price, Effort::Thorough).await?.pop();
        Ok(verdict.unwrap_or_else(|| Verdict::NotNow("no answer".into())))
    }

    /// Prices of the last block that was seen. The confirmer sees every block before it wakes a flow for it, so what a flow
    /// orders is never simulated at a block older than what it waited for.
    async fn market_inputs(&self) -> Result<FeeInputs, LaneError> {
        let fresh_for = self.node.config().poll_interval() * 2 + Duration::from_secs(1);
        match self.market().inputs(fresh_for) {
            Some(inputs) => Ok(inputs),
            None => self.latest_inputs().await,
        }
    }

    async fn latest_inputs(&self) -> Result<FeeInputs, LaneError> {
        let inputs = self.node.fee_inputs().await?;
        self.market().saw(inputs);
        Ok(inputs)
    }

    pub(super) async fn market_fees(&self) -> Result<Fees, LaneError> {
        Ok(fees::price(&self.market_inputs().await?, &self.node.config().fees)?)
    }
}

/// Says which of several checks refused, counted from 0.
fn of_check(failure: Failure, index: usize, checks: usize) -> Failure {
    if checks > 1 { failure.with("check", index) } else { failure }
}

fn reverted(failure: Failure) -> Verdict {
    Verdict::Refused(Refused { sub_status: "simulation_reverted", failure })
}

#[allow(clippy::result_large_err)] // the node's own error, used up at once
fn answer<T: serde::de::DeserializeOwned>(answer: Option<RpcResult>) -> Result<T, NodeError> {
    let internal = |message: String| NodeError { kind: NodeErrorKind::NodeBusy, code: 0, message, data: None };
    let raw = answer.ok_or_else(|| internal("no answer in the batch".into()))??;
    serde_json::from_str(raw.get()).map_err(|error| internal(error.to_string()))
}
