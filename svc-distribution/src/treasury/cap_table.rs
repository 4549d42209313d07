//! Who holds what, out of every movement of an asset. The lists of runs are compared with it.

use super::entitlement::Holding;
use alloy::primitives::{Address, U256};
use std::collections::BTreeMap;

/// Tokens that went from one account to another; to or from nobody where they were burned or minted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// From whom.
    pub from: Address,
    /// To whom.
    pub to: Address,
    /// Base units.
    pub amount: U256,
}

/// Balances as movements leave them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CapTable {
    balances: BTreeMap<Address, U256>,
    supply: U256,
}

/// A movement that cannot have happened: some before it are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{holder} moved {amount} base units and had {had}: movements are missing")]
pub struct Overdrawn {
    /// Who.
    pub holder: Address,
    /// How much moved.
    pub amount: U256,
    /// How much was there.
    pub had: U256,
}

// === impl CapTable ===

impl CapTable {
    /// Notes a movement. Movements are told in the order of the chain.
    pub fn apply(&mut self, moved: Moved) -> Result<(), Overdrawn> {
        let Moved { from, to, amount } = moved;
        if from.is_zero() {
            self.supply += amount;
        } else {
            let had = self.balances.get(&from).copied().unwrap_or_default();
            let left = had.checked_sub(amount).ok_or(Overdrawn { holder: from, amount, had })?;
            if left.is_zero() {
                self.balances.remove(&from)
            } else {
                self.balances.insert(from, left)
            };
        }
        if to.is_zero() {
            self.supply = self.supply.saturating_sub(amount);
        } else if !amount.is_zero() {
            *self.balances.entry(to).or_default() += amount;
        }
        Ok(())
    }

    /// Everybody who holds something, in the order of addresses.
    #[must_use]
    pub fn holdings(&self) -> Vec<Holding> {
        self.balances.iter().map(|(holder, units)| Holding { holder: *holder, units: *units }).collect()
    }

    /// Base units in all.
    #[must_use]
    pub fn supply(&self) -> U256 {
        self.supply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(n: u8) -> Address {
        Address::repeat_byte(n)
    }

    fn moved(from: Address, to: Address, amount: u64) -> Moved {
        Moved { from, to, amount: U256::from(amount) }
    }

    #[test]
    fn balances_follow_from_movements() {
        let mut table = CapTable::default();
        for one in [
            moved(Address::ZERO, account(1), 10),
            moved(account(1), account(2), 4),
            moved(account(2), account(2), 3),
            moved(account(2), account(3), 4),
            moved(account(3), Address::ZERO, 1),
            moved(account(1), account(4), 0),
        ] {
            table.apply(one).unwrap();
        }
        let held: Vec<_> = table.holdings().iter().map(|one| (one.holder, one.units.to::<u64>())).collect();
        assert_eq!(held, [(account(1), 6), (account(3), 3)]);
        assert_eq!(table.supply(), U256::from(9));
    }

    #[test]
    fn a_hole_in_the_movements_is_seen() {
        let mut table = CapTable::default();
        table.apply(moved(Address::ZERO, account(1), 3)).unwrap();
        let overdrawn = table.apply(moved(account(1), account(2), 4)).unwrap_err();
        assert_eq!((overdrawn.holder, overdrawn.had), (account(1), U256::from(3)));
    }
}
