//! Where a user operation stands, and when its approvals suffice. Pure.

use super::operation::Signed;
use alloy::primitives::{Address, Bytes};

/// Where a user operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Approvals are collected.
    Pending,
    /// On its way to the entry point.
    Submitted,
    /// Its calls were made.
    Executed,
    /// Its deadline passed.
    Expired,
    /// Given up before it was sent.
    Cancelled,
    /// Refused, or one of its calls was.
    Failed,
}

/// Who signs for an account, as the chain says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    /// With their weights; keys behind verifiers are longer than an address.
    pub signers: Vec<(Bytes, u64)>,
    /// Weight that must sign.
    pub threshold: u64,
}

// === impl State ===

impl State {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Submitted, Self::Executed, Self::Expired, Self::Cancelled, Self::Failed];

    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Submitted => "SUBMITTED",
            Self::Executed => "EXECUTED",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
            Self::Failed => "FAILED",
        }
    }

    /// That of a stored name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Submitted)
    }
}

// === impl Signers ===

impl Signers {
    /// The weight of a signer; `None`: it signs for the account no more, or never did.
    #[must_use]
    pub fn weight_of(&self, signer: Address) -> Option<u64> {
        self.signers.iter().find(|(known, _)| known[..] == signer[..]).map(|(_, weight)| *weight)
    }

    /// The weight of those among these who sign for the account now.
    #[must_use]
    pub fn weight(&self, signers: impl IntoIterator<Item = Address>) -> u64 {
        signers.into_iter().filter_map(|signer| self.weight_of(signer)).fold(0, u64::saturating_add)
    }

    /// The signatures to send, once they suffice: those of present signers, and of these, heaviest first, no more than are needed.
    #[must_use]
    pub fn release(&self, signed: &[Signed]) -> Option<Vec<Signed>> {
        let mut present: Vec<(u64, &Signed)> =
            signed.iter().filter_map(|one| Some((self.weight_of(one.signer)?, one))).collect();
        present.sort_by(|(weight, one), (other_weight, other)| {
            other_weight.cmp(weight).then_with(|| one.signer.cmp(&other.signer))
        });
        let (mut collected, mut taken) = (0_u64, Vec::new());
        for (weight, one) in present {
            if self.threshold > 0 && collected >= self.threshold {
                break;
            }
            collected = collected.saturating_add(weight);
            taken.push(one.clone());
        }
        (self.threshold > 0 && collected >= self.threshold).then_some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Address = Address::repeat_byte(1);
    const B: Address = Address::repeat_byte(2);
    const C: Address = Address::repeat_byte(3);

    fn signers(threshold: u64) -> Signers {
        let signers = [(A, 1), (B, 1), (C, 2)];
        let signers = signers.map(|(address, weight)| (Bytes::copy_from_slice(address.as_slice()), weight));
        Signers { signers: signers.to_vec(), threshold }
    }

    fn by(who: &[Address]) -> Vec<Signed> {
        who.iter().map(|signer| Signed { signer: *signer, signature: Bytes::new() }).collect()
    }

    fn released(threshold: u64, who: &[Address]) -> Option<Vec<Address>> {
        let released = signers(threshold).release(&by(who))?;
        Some(released.into_iter().map(|one| one.signer).collect())
    }

    #[test]
    fn weight_decides_and_not_the_number_of_signers() {
        assert_eq!(released(3, &[A, B]), None);
        assert_eq!(released(3, &[A, C]), Some(vec![C, A]));
        assert_eq!(released(3, &[B, C]), Some(vec![C, B]));
        assert_eq!(released(3, &[A, B, C]), Some(vec![C, A]), "no more than are needed");
        assert_eq!(released(2, &[C]), Some(vec![C]));
        assert_eq!(released(1, &[]), None);
    }

    #[test]
    fn who_signs_no_more_counts_for_nothing() {
        let gone = Address::repeat_byte(9);
        assert_eq!(released(3, &[A, B, gone]), None);
        assert_eq!(signers(3).weight([A, C, gone]), 3);
        let longer = Signers { signers: vec![(Bytes::from(vec![1; 40]), 5)], threshold: 1 };
        assert_eq!(longer.weight_of(A), None, "a key behind a verifier is no address");
    }

    #[test]
    fn a_threshold_of_nothing_releases_nothing() {
        assert_eq!(released(0, &[A, B, C]), None);
    }

    #[test]
    fn states_have_names() {
        for state in State::ALL {
            assert_eq!(State::of_name(state.name()), Some(state));
        }
        assert_eq!(State::ALL.into_iter().filter(|state| state.is_over()).count(), 4);
    }
}
