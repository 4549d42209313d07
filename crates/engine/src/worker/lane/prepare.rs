//! Simulate, price, bind.

use super::{LaneError, LaneWorker, backoff, refusal};
use crate::{
    flow::Failure,
    states::TransactionState,
    store::{self, Binding, QueuedTransaction},
};
use alloy::primitives::{Bytes, U64, U256};
use dalp_chain::{BlockNumberOrTag, ChainError, Fees, NodeError, NodeErrorKind, RpcResult, fees};
use serde_json::{Value, json};

/// What the simulation of one transaction came to.
enum Verdict {
    Passed { gas: u64 },
    Refused(Failure),
    NotNow(String),
}

impl LaneWorker {
    /// Simulates transactions at one block and binds those that pass. Nothing is bound, let alone signed, before that.
    pub(super) async fn prepare(&self, queued: &[QueuedTransaction]) -> Result<bool, LaneError> {
        let shared = &self.shared;
        let simulated = self.simulate(queued).await;
        let (verdicts, balance_wei, price) = match simulated {
            Ok(simulated) => simulated,
            Err(error @ (LaneError::Chain(_) | LaneError::Fees(_))) => {
                let ids: Vec<_> = queued.iter().map(|one| one.id).collect();
                let tries = queued.iter().map(|one| one.tries).max().unwrap_or(0);
                let text = error.to_string();
                store::retry("defer", || {
                    shared.store.defer_queued(&ids, backoff(tries), "simulate", "retrying_upstream", &text)
                })
                .await?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let (mut bindings, mut refused) = (Vec::new(), Vec::new());
        for (transaction, verdict) in queued.iter().zip(verdicts) {
            match verdict {
                Verdict::Passed { gas } => {
                    let gas_limit = gas.saturating_add(gas.saturating_mul(shared.config.gas_margin_percent) / 100);
                    let needed_wei = U256::from(gas_limit)
                        .saturating_mul(U256::from(price.max_price_wei()))
                        .saturating_add(transaction.value_wei);
                    if needed_wei > balance_wei {
                        let failure = Failure::new(
                            "INSUFFICIENT_FUNDS",
                            format!("{} cannot pay for gas and value", self.lane.sender),
                        );
                        let failure = failure
                            .with("needed_wei", needed_wei)
                            .with("available_wei", balance_wei)
                            .with("sender", self.lane.sender);
                        refused.push(refusal(transaction, TransactionState::Failed, "insufficient_funds", failure));
                    } else {
                        bindings.push(Binding { transaction: transaction.clone(), gas_limit, fees: price });
                    }
                }
                Verdict::Refused(failure) => {
                    refused.push(refusal(transaction, TransactionState::Failed, "simulation_reverted", failure))
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
        let progress = !bindings.is_empty() || !refused.is_empty();
        if !refused.is_empty() {
            shared.store.refuse_queued(refused).await?;
            shared.woken();
        }
        if !bindings.is_empty() {
            shared.store.bind(self.lane, bindings).await?;
        }
        Ok(progress)
    }

    /// Pre-checks and estimates of all, at one block, in few requests.
    async fn simulate(&self, queued: &[QueuedTransaction]) -> Result<(Vec<Verdict>, U256, Fees), LaneError> {
        let inputs = self.upstreams.fee_inputs().await?;
        let price = fees::price(&inputs, &self.upstreams.config().fees)?;
        let block = BlockNumberOrTag::Number(inputs.block_number);
        let mut calls: Vec<(&'static str, Value)> = vec![("eth_getBalance", json!([self.lane.sender, block]))];
        for transaction in queued {
            for check in &transaction.checks {
                calls.push((
                    "eth_call",
                    json!([{"from": self.lane.sender, "to": check.target, "input": check.data}, block]),
                ));
            }
            calls.push(("eth_estimateGas", json!([self.request(transaction), block])));
        }
        let mut answers = self.upstreams.batch(calls).await.map_err(ChainError::from)?.into_iter();
        let malformed = |reason: String| ChainError::Malformed { method: "eth_getBalance".into(), reason };
        let balance = answers.next().ok_or_else(|| malformed("no answer".into()))?.map_err(ChainError::Node)?;
        let balance_wei: U256 = serde_json::from_str(balance.get()).map_err(|error| malformed(error.to_string()))?;
        let verdicts = queued
            .iter()
            .map(|transaction| {
                let mut verdict = None;
                for (index, check) in transaction.checks.iter().enumerate() {
                    let failed = match answer::<Bytes>(answers.next()) {
                        Ok(output) => {
                            let refused = self.shared.decoder.judge(&check.decoder, &output).err();
                            refused.map(|failure| Verdict::Refused(of_check(failure, index, transaction.checks.len())))
                        }
                        Err(error) => Some(self.failed(error)),
                    };
                    verdict = verdict.or(failed); // every answer is taken, the first failure counts
                }
                let estimate = match answer::<U64>(answers.next()) {
                    Ok(gas) => Verdict::Passed { gas: gas.to() },
                    Err(error) => self.failed(error),
                };
                verdict.unwrap_or(estimate)
            })
            .collect();
        Ok((verdicts, balance_wei, price))
    }

    fn failed(&self, error: NodeError) -> Verdict {
        match error.kind {
            NodeErrorKind::Reverted => {
                Verdict::Refused(self.shared.decoder.decode_revert(&error.data.unwrap_or_default()))
            }
            NodeErrorKind::InsufficientFunds { .. } => {
                Verdict::Refused(Failure::new("INSUFFICIENT_FUNDS", error.message))
            }
            kind if kind.is_about_the_node() => Verdict::NotNow(error.message),
            // An estimate that failed is never replaced by a guess.
            _ => Verdict::Refused(Failure::new("SIMULATION_REFUSED", error.message)),
        }
    }

    /// Simulates one transaction again, as it stands. `Some`: it is refused now.
    pub(super) async fn refused_now(&self, transaction: &QueuedTransaction) -> Result<Option<Failure>, LaneError> {
        let (verdicts, _, _) = self.simulate(std::slice::from_ref(transaction)).await?;
        match verdicts.into_iter().next() {
            Some(Verdict::Refused(failure)) => Ok(Some(failure)),
            Some(Verdict::NotNow(reason)) => {
                Err(ChainError::Malformed { method: "eth_estimateGas".into(), reason }.into())
            }
            Some(Verdict::Passed { .. }) | None => Ok(None),
        }
    }
}

/// Says which of several checks refused, counted from 0.
fn of_check(failure: Failure, index: usize, checks: usize) -> Failure {
    if checks > 1 { failure.with("check", index) } else { failure }
}

#[allow(clippy::result_large_err)] // the node's own error, used up at once
fn answer<T: serde::de::DeserializeOwned>(answer: Option<RpcResult>) -> Result<T, NodeError> {
    let internal = |message: String| NodeError { kind: NodeErrorKind::NodeBusy, code: 0, message, data: None };
    let raw = answer.ok_or_else(|| internal("no answer in the batch".into()))??;
    serde_json::from_str(raw.get()).map_err(|error| internal(error.to_string()))
}
