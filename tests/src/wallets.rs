//! Wallets whose keys nobody has.

use alloy::primitives::{Address, keccak256};
use dalp_devstack::scenario::Wallet;

/// Wallets of nobody, of one seed.
#[must_use]
pub fn wallets(seed: &str, count: usize) -> Vec<Wallet> {
    let wallet = |number: usize| {
        let address = Address::from_word(keccak256(format!("{seed}-{number}")));
        Wallet { text: address.to_checksum(None), address }
    };
    (0..count).map(wallet).collect()
}
