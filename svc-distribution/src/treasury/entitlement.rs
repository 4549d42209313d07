//! What each holder is due: units * numerator / denominator, rounded down to a base unit of the currency, as the contract does it. What a
//! payout reserves is the supply by the same rule; the sum of all fractions that are cut off is the rounding, which stays in the treasury.

use crate::airdrop::{list::Recipient, tree::Tree};
use alloy::primitives::{Address, B256, U256, U512};

/// How amounts are rounded, for the record of a run.
pub const ROUNDING_RULE: &str = "Each holder is due units * numerator / denominator in base units of the currency, rounded down. The contract reserves \
                                 supply * numerator / denominator, rounded down. The difference between what is reserved and the sum of what is due is the rounding; it \
                                 returns to the treasury when the last holder is paid.";

/// What one base unit of the asset is due, in base units of the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    /// Over it.
    pub numerator: U256,
    /// Below it; never zero.
    pub denominator: U256,
}

/// What somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Who.
    pub holder: Address,
    /// Base units of the asset; frozen and held ones count.
    pub units: U256,
}

/// What somebody is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entitled {
    /// For what.
    pub holding: Holding,
    /// Base units of the currency.
    pub amount: u128,
}

/// The list of a payout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entitlements {
    /// In the order of addresses, so that the same holdings are the same list; the place is the row's index in the tree.
    pub rows: Vec<Entitled>,
    /// Base units of the asset that they hold together.
    pub supply: U256,
    /// What the contract reserves.
    pub total: u128,
    /// What of it nobody is due.
    pub rounding: u128,
    /// Root of the tree over (place, holder, amount).
    pub root: B256,
}

/// Why there is no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntitlementError {
    /// Nobody holds anything.
    #[error("nobody held anything at the record date")]
    NobodyHolds,
    /// Somebody stands on it twice.
    #[error("{0} holds twice")]
    Twice(Address),
    /// More than the contract can reserve.
    #[error("the payout is more than 2^128 base units of the currency")]
    TooMuch,
}

// === impl Fraction ===

impl Fraction {
    /// What so many base units of the asset are due.
    pub fn due(self, units: U256) -> Result<u128, EntitlementError> {
        let due: U512 = units.widening_mul::<256, 4, 512, 8>(self.numerator) / U512::from(self.denominator);
        u128::try_from(due).map_err(|_| EntitlementError::TooMuch)
    }
}

/// The list of a payout to everybody who holds something, whatever order they are told in.
pub fn entitle(fraction: Fraction, holdings: &[Holding]) -> Result<Entitlements, EntitlementError> {
    let mut holdings: Vec<Holding> = holdings.iter().copied().filter(|holding| !holding.units.is_zero()).collect();
    holdings.sort_unstable_by_key(|holding| holding.holder);
    if let Some(twice) = holdings.windows(2).find(|pair| pair[0].holder == pair[1].holder) {
        return Err(EntitlementError::Twice(twice[0].holder));
    }
    let (mut rows, mut supply, mut sum) = (Vec::with_capacity(holdings.len()), U256::ZERO, 0_u128);
    for holding in holdings {
        let amount = fraction.due(holding.units)?;
        supply = supply.checked_add(holding.units).ok_or(EntitlementError::TooMuch)?;
        sum = sum.checked_add(amount).ok_or(EntitlementError::TooMuch)?;
        rows.push(Entitled { holding, amount });
    }
    if rows.is_empty() {
        return Err(EntitlementError::NobodyHolds);
    }
    let total = fraction.due(supply)?;
    let leaves: Vec<Recipient> =
        rows.iter().map(|row| Recipient { account: row.holding.holder, amount: row.amount }).collect();
    // Parts rounded down never exceed the whole rounded down.
    let rounding = total - sum;
    Ok(Entitlements { root: Tree::of_part(0, &leaves).root(), rows, supply, total, rounding })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: u128 = 1_000_000_000_000_000_000;

    fn fraction(numerator: u128, denominator: u128) -> Fraction {
        Fraction { numerator: U256::from(numerator), denominator: U256::from(denominator) }
    }

    fn holding(who: u64, units: u128) -> Holding {
        Holding { holder: Address::left_padding_from(&who.to_be_bytes()), units: U256::from(units) }
    }

    #[test]
    fn rounding_is_told_and_never_paid() {
        let list = entitle(fraction(10, 3), &[holding(3, 1), holding(1, 1), holding(2, 1)]).unwrap();
        assert_eq!(list.rows.iter().map(|row| row.amount).collect::<Vec<_>>(), [3, 3, 3]);
        assert_eq!((list.supply, list.total, list.rounding), (U256::from(3), 10, 1));
    }

    #[test]
    fn a_holder_of_next_to_nothing_is_on_the_list_with_nothing() {
        let list = entitle(fraction(1, ONE), &[holding(1, 5), holding(2, 0)]).unwrap();
        assert_eq!((list.rows.len(), list.rows[0].amount, list.total), (1, 0, 0));
    }

    #[test]
    fn what_cannot_be_paid_is_no_list() {
        assert_eq!(entitle(fraction(1, 1), &[holding(1, 0)]), Err(EntitlementError::NobodyHolds));
        let twice = entitle(fraction(1, 1), &[holding(7, 1), holding(7, 1)]);
        assert!(matches!(twice, Err(EntitlementError::Twice(_))));
        assert_eq!(entitle(fraction(2, 1), &[holding(1, u128::MAX)]), Err(EntitlementError::TooMuch));
        let wide = Fraction { numerator: U256::MAX, denominator: U256::MAX };
        assert_eq!(wide.due(U256::from(7)), Ok(7), "the product does not fit 256 bits, the quotient does");
    }

    fn holdings() -> impl Strategy<Value = Vec<Holding>> {
        let one = (any::<u64>(), 1..10_u128.pow(30));
        prop::collection::vec(one, 1..60).prop_map(|rows| {
            let by_holder: std::collections::BTreeMap<u64, u128> = rows.into_iter().collect();
            by_holder.into_iter().map(|(who, units)| holding(who, units)).collect()
        })
    }

    proptest! {
        #[test]
        fn sums_equal_the_pot_to_the_unit(holdings in holdings(), numerator in 1..u64::MAX, denominator in 1..u64::MAX) {
            let fraction = fraction(numerator.into(), u128::from(denominator) * 1_000_000_007);
            let list = entitle(fraction, &holdings).unwrap();
            let sum: u128 = list.rows.iter().map(|row| row.amount).sum();
            prop_assert_eq!(sum + list.rounding, list.total);
            prop_assert!(list.rounding < list.rows.len() as u128, "less than a unit for each holder");
        }

        #[test]
        fn no_holder_is_over_paid_and_none_loses_a_whole_unit(holdings in holdings(), numerator in 1..u64::MAX, denominator in 1..u64::MAX) {
            let list = entitle(fraction(numerator.into(), denominator.into()), &holdings).unwrap();
            for row in &list.rows {
                let exact = row.holding.units * U256::from(numerator);
                let paid = U256::from(row.amount) * U256::from(denominator);
                prop_assert!(paid <= exact && exact - paid < U256::from(denominator));
            }
        }

        #[test]
        fn the_order_in_which_holders_are_told_does_not_matter(holdings in holdings(), turn in any::<usize>()) {
            let mut turned = holdings.clone();
            turned.rotate_left(turn % holdings.len());
            turned.reverse();
            prop_assert_eq!(entitle(fraction(3, 7), &holdings), entitle(fraction(3, 7), &turned));
        }

        #[test]
        fn a_dividend_is_divided_whole_but_for_the_fractions(holdings in holdings(), total in 1..u128::from(u64::MAX)) {
            let supply: U256 = holdings.iter().map(|holding| holding.units).sum();
            let list = entitle(Fraction { numerator: U256::from(total), denominator: supply }, &holdings).unwrap();
            prop_assert_eq!(list.total, total);
        }
    }
}
