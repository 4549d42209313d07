//! Gas without a node's estimator.
//!
//! An estimator tries limits until it has the least that suffices. anvil's breaks off where a limit that it tries leaves a contract at a store
//! with so little that EIP-2200 forbids it, which is not what it takes for running out of gas. Then the limits are tried from here.

use std::iter::successors;

/// The least that any call needs with its transaction.
const LEAST: u64 = 21_000;
/// The most that a transaction may ask for (EIP-7825).
const MOST: u64 = 1 << 24;

/// Limits to try, each an eighth above the one before.
pub fn limits() -> impl Iterator<Item = u64> {
    successors(Some(LEAST), |limit| Some(limit + limit / 8)).take_while(|limit| *limit <= MOST)
}

/// The least of the limits that suffices, with all above it, by whether a call passed with each. `None`: it passes with none.
pub fn least_sufficient(passed: impl IntoIterator<Item = bool>) -> Option<u64> {
    limits().zip(passed).fold(None, |least, (limit, passed)| if passed { least.or(Some(limit)) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_by_an_eighth_up_to_the_most_of_a_transaction() {
        let all: Vec<u64> = limits().collect();
        assert_eq!((all[0], all[1]), (21_000, 23_625));
        assert!(all.len() < 100 && *all.last().expect("limits") > MOST / 8 * 7);
    }

    #[test]
    fn the_least_limit_is_one_from_which_on_everything_passes() {
        let count = limits().count();
        let from = |first: usize| least_sufficient((0..count).map(|index| index >= first));
        assert_eq!((from(0), from(1), from(count)), (Some(21_000), Some(23_625), None));
        // What passes with little, and not with more, is no limit to rely on.
        assert_eq!(least_sufficient((0..count).map(|index| index != 1)), limits().nth(2));
    }
}
