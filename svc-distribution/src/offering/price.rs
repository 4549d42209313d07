//! Prices. People write whole units of a currency for one whole token (`99.75`); the contract counts base units of the currency for
//! 1e18 base units of the asset. Nothing is rounded between the two: a price that does not fit is refused.

use alloy::primitives::{U256, U512};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Digits of a price, at most.
const MAX_DIGITS: usize = 60;
/// Decimals behind which the contract counts the asset.
const RATIO_DECIMALS: u32 = 18;
/// Hundredths of a percent.
const BPS: u64 = 10_000;

/// Whole units of a currency for one whole token: `digits / 10^scale`, without trailing zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Price {
    digits: U256,
    scale: u32,
}

/// Why a price cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// It is no decimal number.
    #[error("not a price: expected a decimal number such as 99.75, without sign or leading zeros")]
    Malformed,
    /// Nothing is sold for nothing.
    #[error("must be greater than zero")]
    Zero,
    /// A part of it would be lost.
    #[error("is too precise: less than a base unit of the currency for 1e18 base units of the asset")]
    TooPrecise,
    /// The contract cannot count it.
    #[error("is too large")]
    TooLarge,
}

/// What a payment buys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bought {
    /// Base units of the asset, rounded down.
    pub tokens: U256,
    /// What they cost in base units of the currency, rounded up; never more than the payment.
    pub cost: U256,
}

// === impl Price ===

impl Price {
    /// Base units of a currency for 1e18 base units of an asset, by the decimals of both.
    pub fn ratio(self, currency_decimals: u8, asset_decimals: u8) -> Result<U256, PriceError> {
        let up = ten_to(u32::from(currency_decimals) + RATIO_DECIMALS).ok_or(PriceError::TooLarge)?;
        let down = ten_to(u32::from(asset_decimals) + self.scale).ok_or(PriceError::TooPrecise)?;
        let product: U512 = self.digits.widening_mul(up);
        let down = U512::from(down);
        if product % down != U512::ZERO {
            return Err(PriceError::TooPrecise);
        }
        U256::checked_from_limbs_slice((product / down).as_limbs()).ok_or(PriceError::TooLarge)
    }

    /// The price that a ratio of the contract stands for.
    #[must_use]
    pub fn of_ratio(ratio: U256, currency_decimals: u8, asset_decimals: u8) -> Self {
        // An asset has at most 18 decimals.
        let scale = (u32::from(currency_decimals) + RATIO_DECIMALS).saturating_sub(asset_decimals.into());
        Self { digits: ratio, scale }.trimmed()
    }

    fn trimmed(mut self) -> Self {
        let ten = U256::from(10);
        while self.scale > 0 && self.digits % ten == U256::ZERO {
            (self.digits, self.scale) = (self.digits / ten, self.scale - 1);
        }
        self
    }
}

impl FromStr for Price {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(PriceError::Malformed),
            Some(parts) => parts,
            None => (text, ""),
        };
        let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || leading_zero || !digits_only(whole) || !digits_only(fraction) {
            return Err(PriceError::Malformed);
        }
        if text.len() > MAX_DIGITS {
            return Err(PriceError::TooLarge);
        }
        let digits: U256 = format!("{whole}{fraction}").parse().map_err(|_| PriceError::Malformed)?;
        if digits.is_zero() {
            return Err(PriceError::Zero);
        }
        Ok(Self { digits, scale: fraction.len() as u32 }.trimmed())
    }
}

impl TryFrom<String> for Price {
    type Error = PriceError;

    fn try_from(text: String) -> Result<Self, PriceError> {
        text.parse()
    }
}

impl From<Price> for String {
    fn from(price: Price) -> Self {
        price.to_string()
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (digits, scale) = (self.digits.to_string(), self.scale as usize);
        match scale {
            0 => f.write_str(&digits),
            scale => {
                let digits = format!("{digits:0>width$}", width = scale + 1);
                let (whole, fraction) = digits.split_at(digits.len() - scale);
                write!(f, "{whole}.{fraction}")
            }
        }
    }
}

/// A ratio less a discount in hundredths of a percent, rounded up, as the contract does.
#[must_use]
pub fn discounted(ratio: U256, discount_bps: u16) -> U256 {
    let left = U512::from(BPS - u64::from(discount_bps).min(BPS));
    narrow((U512::from(ratio) * left).div_ceil(U512::from(BPS)))
}

/// What a payment buys at a ratio, as the contract counts.
#[must_use]
pub fn bought(ratio: U256, payment: U256) -> Bought {
    let one = U256::from(10).pow(U256::from(RATIO_DECIMALS));
    let tokens = match ratio.is_zero() {
        true => U256::ZERO,
        false => narrow(payment.widening_mul::<256, 4, 512, 8>(one) / U512::from(ratio)),
    };
    let cost = narrow(tokens.widening_mul::<256, 4, 512, 8>(ratio).div_ceil(U512::from(one)));
    Bought { tokens, cost }
}

/// What does not fit is more than any sale has.
fn narrow(wide: U512) -> U256 {
    U256::checked_from_limbs_slice(wide.as_limbs()).unwrap_or(U256::MAX)
}

fn ten_to(power: u32) -> Option<U256> {
    U256::from(10).checked_pow(U256::from(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(text: &str) -> Result<Price, PriceError> {
        text.parse()
    }

    #[test]
    fn a_price_is_read_and_written_alike() {
        for (text, shown) in
            [("99.75", "99.75"), ("1.50", "1.5"), ("1000", "1000"), ("0.000001", "0.000001"), ("10.0", "10")]
        {
            assert_eq!(price(text).unwrap().to_string(), shown);
            let stored = serde_json::to_string(&price(text).unwrap()).unwrap();
            assert_eq!(serde_json::from_str::<Price>(&stored).unwrap(), price(text).unwrap());
        }
        for malformed in ["", ".", "1.", ".5", "-1", "+1", "01", "1e3", "1,5", "1.2.3", " 1", "0x1"] {
            assert_eq!(price(malformed), Err(PriceError::Malformed), "{malformed}");
        }
        assert_eq!((price("0"), price("0.000")), (Err(PriceError::Zero), Err(PriceError::Zero)));
        assert_eq!(price(&"9".repeat(61)), Err(PriceError::TooLarge));
    }

    #[test]
    fn a_price_becomes_a_ratio_without_loss_or_is_refused() {
        let one = U256::from(10).pow(U256::from(18));
        // A bond without decimals at 1,000.50 of a currency with 6.
        assert_eq!(price("1000.5").unwrap().ratio(6, 0), Ok(U256::from(1_000_500_000_u64) * one));
        // A token with 18 decimals at 2 of a currency with 2: 200 cents for 1e18 base units.
        assert_eq!(price("2").unwrap().ratio(2, 18), Ok(U256::from(200)));
        assert_eq!(price("2.001").unwrap().ratio(2, 18), Err(PriceError::TooPrecise));
        assert_eq!(price("1").unwrap().ratio(255, 0), Err(PriceError::TooLarge));
        assert_eq!(price(&"9".repeat(60)).unwrap().ratio(18, 0), Err(PriceError::TooLarge));
        for (text, currency, asset) in [("1000.5", 6, 0), ("2", 2, 18), ("0.03", 8, 4)] {
            let price = price(text).unwrap();
            assert_eq!(Price::of_ratio(price.ratio(currency, asset).unwrap(), currency, asset), price);
        }
    }

    /// The numbers of the contract's own tests: price 2e18 for 1e18 base units, 201 paid.
    #[test]
    fn only_whole_base_units_are_paid_for() {
        let two = U256::from(2) * U256::from(10).pow(U256::from(18));
        assert_eq!(bought(two, U256::from(201)), Bought { tokens: U256::from(100), cost: U256::from(200) });
        assert_eq!(bought(two, U256::from(1)), Bought { tokens: U256::ZERO, cost: U256::ZERO });
        assert_eq!(bought(U256::ONE, U256::MAX).tokens, U256::MAX, "more than any sale has");
        assert_eq!(discounted(two, 1_000), two / U256::from(10) * U256::from(9));
        assert_eq!(discounted(U256::from(3), 1), U256::from(3), "rounded up");
    }

    #[test]
    fn the_cost_neither_exceeds_the_payment_nor_undercuts_the_price() {
        let one = U256::from(10).pow(U256::from(18));
        for ratio in [1_u64, 7, 999_999_999_999_999_999, 1_000_000_000_000_000_001, u64::MAX].map(U256::from) {
            for payment in [0_u64, 1, 2, 1_000, 123_456_789].map(U256::from) {
                let Bought { tokens, cost } = bought(ratio, payment);
                assert!(cost <= payment, "{ratio} {payment}");
                assert!(tokens * ratio <= cost * one, "the price is paid");
                assert!((tokens + U256::ONE) * ratio > payment * one, "one token more would cost more");
            }
        }
    }
}
