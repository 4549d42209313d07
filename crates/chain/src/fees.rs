//! From what a node suggests to what is signed, and the rule for replacements. Pure: no clock, no network.

use crate::config::{FeeKind, FeePolicy};

/// A replacement must raise every price by at least this much, or nodes refuse it. geth and most clones ask 10 %,
/// Nethermind and Besu 10 %, and 12.5 % is one full base-fee step, so that a bumped price also outruns the base fee.
pub const MIN_BUMP_PER_MILLE: u128 = 125;

/// What the chain and its node say about prices at one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeeInputs {
    /// Block that the base fee was read from.
    pub block_number: u64,
    /// Base fee of that block. Absent on chains without EIP-1559.
    pub base_fee_wei: Option<u128>,
    /// `eth_maxPriorityFeePerGas`. Absent if the node does not know the method.
    pub priority_fee_wei: Option<u128>,
    /// `eth_gasPrice`. Absent if the node does not know the method.
    pub gas_price_wei: Option<u128>,
}

/// Prices per gas, as signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fees {
    /// Type 2.
    Eip1559 {
        /// `maxFeePerGas`.
        max_fee_wei: u128,
        /// `maxPriorityFeePerGas`, never above `max_fee_wei`.
        priority_fee_wei: u128,
    },
    /// Type 0.
    Legacy {
        /// `gasPrice`.
        gas_price_wei: u128,
    },
}

/// Why there is no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FeeError {
    /// The price of the moment (or the least price of a replacement) is above the configured cap.
    #[error("{needed_wei} wei per gas is needed, the cap is {cap_wei}")]
    AboveCap {
        /// Least price that would be accepted.
        needed_wei: u128,
        /// Configured cap.
        cap_wei: u128,
    },
    /// Type 2 is configured, but the chain has no base fee.
    #[error("the chain has no base fee, so EIP-1559 fees cannot be priced")]
    NoBaseFee,
    /// The node suggests no price.
    #[error("the node suggests no gas price")]
    NoGasPrice,
}

/// Prices a new transaction.
///
/// Headroom raises what we are *willing* to pay (`max_fee`); the tip is not raised, because it is always paid.
pub fn price(inputs: &FeeInputs, policy: &FeePolicy) -> Result<Fees, FeeError> {
    let typed = match policy.kind {
        FeeKind::Eip1559 => true,
        FeeKind::Legacy => false,
        FeeKind::Auto => inputs.base_fee_wei.is_some(),
    };
    let cap_wei = policy.max_fee_cap_wei;
    if typed {
        let base_fee_wei = inputs.base_fee_wei.ok_or(FeeError::NoBaseFee)?;
        let priority_fee_wei = policy.priority_fee_wei.or(inputs.priority_fee_wei).unwrap_or(0);
        let needed_wei = base_fee_wei.saturating_add(priority_fee_wei);
        if needed_wei > cap_wei {
            return Err(FeeError::AboveCap { needed_wei, cap_wei });
        }
        let max_fee_wei =
            with_headroom(base_fee_wei, policy.headroom_bps).saturating_add(priority_fee_wei).min(cap_wei);
        Ok(Fees::Eip1559 { max_fee_wei, priority_fee_wei })
    } else {
        let needed_wei = match (inputs.gas_price_wei, inputs.base_fee_wei) {
            (Some(gas_price_wei), Some(base_fee_wei)) => gas_price_wei.max(base_fee_wei),
            (Some(price_wei), None) | (None, Some(price_wei)) => price_wei,
            (None, None) => return Err(FeeError::NoGasPrice),
        };
        if needed_wei > cap_wei {
            return Err(FeeError::AboveCap { needed_wei, cap_wei });
        }
        Ok(Fees::Legacy { gas_price_wei: with_headroom(needed_wei, policy.headroom_bps).min(cap_wei) })
    }
}

/// Prices a replacement of a transaction signed with `previous`: at least the node's rule above it, at least the market,
/// never above the cap. Keeps the transaction type, because nodes compare like with like.
pub fn bump(previous: &Fees, market: &Fees, cap_wei: u128) -> Result<Fees, FeeError> {
    let least = |price_wei: u128| {
        price_wei.saturating_add((price_wei.saturating_mul(MIN_BUMP_PER_MILLE)).div_ceil(1000).max(1))
    };
    let capped = |least_wei: u128, market_wei: u128| {
        if least_wei > cap_wei {
            Err(FeeError::AboveCap { needed_wei: least_wei, cap_wei })
        } else {
            Ok(least_wei.max(market_wei).min(cap_wei))
        }
    };
    match *previous {
        Fees::Eip1559 { max_fee_wei, priority_fee_wei } => {
            let market_tip_wei = match *market {
                Fees::Eip1559 { priority_fee_wei, .. } => priority_fee_wei,
                Fees::Legacy { .. } => 0,
            };
            let max_fee_wei = capped(least(max_fee_wei), market.max_price_wei())?;
            // The tip's own least bump never passes the bumped max fee, since it started at or below it.
            let priority_fee_wei = least(priority_fee_wei).max(market_tip_wei).min(max_fee_wei);
            Ok(Fees::Eip1559 { max_fee_wei, priority_fee_wei })
        }
        Fees::Legacy { gas_price_wei } => {
            Ok(Fees::Legacy { gas_price_wei: capped(least(gas_price_wei), market.max_price_wei())? })
        }
    }
}

// === impl Fees ===

impl Fees {
    /// Most that one unit of gas can cost.
    pub fn max_price_wei(&self) -> u128 {
        match *self {
            Self::Eip1559 { max_fee_wei, .. } => max_fee_wei,
            Self::Legacy { gas_price_wei } => gas_price_wei,
        }
    }

    /// Writes the prices into a request, and removes those of the other type.
    pub fn apply_to(&self, request: &mut crate::TransactionRequest) {
        match *self {
            Self::Eip1559 { max_fee_wei, priority_fee_wei } => {
                request.gas_price = None;
                request.max_fee_per_gas = Some(max_fee_wei);
                request.max_priority_fee_per_gas = Some(priority_fee_wei);
            }
            Self::Legacy { gas_price_wei } => {
                request.gas_price = Some(gas_price_wei);
                request.max_fee_per_gas = None;
                request.max_priority_fee_per_gas = None;
            }
        }
    }
}

fn with_headroom(price_wei: u128, headroom_bps: u32) -> u128 {
    price_wei.saturating_add(price_wei.saturating_mul(u128::from(headroom_bps)) / 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: FeePolicy =
        FeePolicy { kind: FeeKind::Auto, max_fee_cap_wei: 1_000, headroom_bps: 10_000, priority_fee_wei: None };

    fn inputs(base: Option<u128>, tip: Option<u128>, gas_price: Option<u128>) -> FeeInputs {
        FeeInputs { block_number: 1, base_fee_wei: base, priority_fee_wei: tip, gas_price_wei: gas_price }
    }

    #[test]
    fn auto_follows_the_chain() {
        assert_eq!(
            price(&inputs(Some(100), Some(5), None), &POLICY),
            Ok(Fees::Eip1559 { max_fee_wei: 205, priority_fee_wei: 5 })
        );
        assert_eq!(price(&inputs(None, None, Some(100)), &POLICY), Ok(Fees::Legacy { gas_price_wei: 200 }));
        assert_eq!(price(&inputs(None, None, None), &POLICY), Err(FeeError::NoGasPrice));
        let typed = FeePolicy { kind: FeeKind::Eip1559, ..POLICY };
        assert_eq!(price(&inputs(None, None, Some(1)), &typed), Err(FeeError::NoBaseFee));
    }

    #[test]
    fn headroom_is_cut_at_the_cap_but_a_price_above_it_is_refused() {
        assert_eq!(
            price(&inputs(Some(900), Some(50), None), &POLICY),
            Ok(Fees::Eip1559 { max_fee_wei: 1_000, priority_fee_wei: 50 })
        );
        assert_eq!(
            price(&inputs(Some(990), Some(50), None), &POLICY),
            Err(FeeError::AboveCap { needed_wei: 1_040, cap_wei: 1_000 })
        );
    }

    #[test]
    fn free_gas_chain_is_priced_at_zero_and_can_still_be_replaced() {
        let free = price(&inputs(Some(0), Some(0), Some(0)), &POLICY).expect("priced");
        assert_eq!(free, Fees::Eip1559 { max_fee_wei: 0, priority_fee_wei: 0 });
        assert_eq!(bump(&free, &free, 1_000), Ok(Fees::Eip1559 { max_fee_wei: 1, priority_fee_wei: 1 }));
    }

    #[test]
    fn bump_above_the_cap_is_refused_rather_than_cut() {
        let previous = Fees::Legacy { gas_price_wei: 900 };
        assert_eq!(bump(&previous, &previous, 1_000), Err(FeeError::AboveCap { needed_wei: 1_013, cap_wei: 1_000 }));
    }

    proptest! {
        #[test]
        fn bump_obeys_rule_cap_and_order(max in 0u128..1 << 60, tip_part in 0u128..=1000, market in 0u128..1 << 60, cap in 1u128..1 << 61) {
            let tip = max * tip_part / 1000;
            let previous = Fees::Eip1559 { max_fee_wei: max, priority_fee_wei: tip };
            let market = Fees::Eip1559 { max_fee_wei: market, priority_fee_wei: market / 10 };
            if let Ok(Fees::Eip1559 { max_fee_wei, priority_fee_wei }) = bump(&previous, &market, cap) {
                prop_assert!(max_fee_wei * 1000 >= max * 1125 && max_fee_wei > max);
                prop_assert!(priority_fee_wei * 1000 >= tip * 1125 && priority_fee_wei > tip);
                prop_assert!(priority_fee_wei <= max_fee_wei && max_fee_wei <= cap);
            }
        }
    }
}
