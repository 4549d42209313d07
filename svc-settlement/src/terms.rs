//! What a settlement is bound to, and who locks what: the same arithmetic as the contract's, so that it can be told before anybody approves.
//! Nothing here knows of protobuf, SQL or the network.

use alloy::{
    primitives::{Address, B256, U256, aliases::U40, keccak256},
    sol_types::SolValue as _,
};
use dalp_contracts::bindings::Settlement;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// The most legs that are created here. Settlements from outside have at most 32.
pub const MAX_LEGS: usize = 20;
/// The most legs that the contract takes.
const MAX_LEGS_ON_CHAIN: usize = 32;

/// One movement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// What moves.
    pub asset: Address,
    /// Who sends.
    pub from: Address,
    /// Who receives.
    pub to: Address,
    /// Base units.
    pub amount: U256,
    /// The chain it moves on; zero: this one.
    pub chain_id: u64,
}

/// How a secret is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashKind {
    /// keccak256 of the 32 bytes.
    Keccak256,
    /// SHA-256 of the 32 bytes.
    Sha256,
}

/// The lock of a settlement with external legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashLock {
    /// How the secret is hashed.
    pub kind: HashKind,
    /// Hash of the secret.
    pub hash: B256,
}

/// What the parties agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// For people.
    pub name: String,
    /// Unix seconds: approvals and executions before it, reclaims after it.
    pub cutoff: u64,
    /// The last approval executes.
    pub auto_execute: bool,
    /// The lock, when and only when a leg is external.
    pub hash_lock: Option<HashLock>,
    /// Movements.
    pub legs: Vec<Leg>,
}

/// Terms with what tells equal ones apart: as the contract knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// The creator's own.
    pub salt: B256,
    /// What is agreed on.
    pub terms: Terms,
}

/// What a sender locks of one asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Who.
    pub sender: Address,
    /// What.
    pub asset: Address,
    /// Whether it is held on the sender's account instead of kept in escrow.
    pub own: bool,
    /// Base units.
    pub amount: U256,
}

// === impl Leg ===

impl Leg {
    /// Whether it moves here.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.chain_id == 0
    }
}

// === impl HashKind ===

impl HashKind {
    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keccak256 => "keccak256",
            Self::Sha256 => "sha256",
        }
    }

    /// The kind of a stored name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Keccak256, Self::Sha256].into_iter().find(|kind| kind.name() == name)
    }

    /// Its number in the contract, where zero is none.
    const fn number(self) -> u8 {
        match self {
            Self::Keccak256 => 1,
            Self::Sha256 => 2,
        }
    }
}

// === impl HashLock ===

impl HashLock {
    /// Whether a secret opens it.
    #[must_use]
    pub fn opens(&self, secret: B256) -> bool {
        let hash = match self.kind {
            HashKind::Keccak256 => keccak256(secret),
            HashKind::Sha256 => B256::from_slice(&Sha256::digest(secret)),
        };
        hash == self.hash
    }
}

// === impl Terms ===

impl Terms {
    /// The legs that move here, with their numbers.
    pub fn local(&self) -> impl Iterator<Item = (usize, &Leg)> {
        self.legs.iter().enumerate().filter(|(_, leg)| leg.is_local())
    }

    /// Whether a leg moves elsewhere, so that only a secret settles it.
    #[must_use]
    pub fn is_cross_chain(&self) -> bool {
        self.legs.iter().any(|leg| !leg.is_local())
    }

    /// Whether a contract takes them at all, as far as they tell by themselves.
    fn are_sound(&self) -> bool {
        let sound = |leg: &Leg| {
            let accounts = !leg.from.is_zero() && !leg.to.is_zero() && leg.from != leg.to;
            accounts && !leg.amount.is_zero() && (!leg.is_local() || leg.amount.bit_len() <= 128)
        };
        let locked = self.hash_lock.is_some_and(|lock| !lock.hash.is_zero());
        let lock = locked == self.is_cross_chain() && locked == self.hash_lock.is_some();
        let some_here = self.local().next().is_some() && self.legs.len() <= MAX_LEGS_ON_CHAIN;
        self.cutoff > 0 && some_here && lock && self.legs.iter().all(sound)
    }

    /// Who sends a local leg, in the order of the legs.
    #[must_use]
    pub fn senders(&self) -> Vec<Address> {
        once_each(self.local().map(|(_, leg)| leg.from))
    }

    /// Who sends or receives a local leg, in the order of the legs.
    #[must_use]
    pub fn parties(&self) -> Vec<Address> {
        once_each(self.local().flat_map(|(_, leg)| [leg.from, leg.to]))
    }

    /// The assets that move here, in the order of the legs.
    #[must_use]
    pub fn assets(&self) -> Vec<Address> {
        once_each(self.local().map(|(_, leg)| leg.asset))
    }

    /// The bit of a sender in the contract's book: that of its first leg. Zero: it sends nothing here.
    #[must_use]
    pub fn sender_bit(&self, account: Address) -> u32 {
        let first = self.local().find(|(_, leg)| leg.from == account);
        first.and_then(|(place, _)| 1_u32.checked_shl(place as u32)).unwrap_or(0)
    }

    /// The bit of a party's vote: a sender's, or 32 further than the first leg towards one who sends nothing. Zero: it is none.
    #[must_use]
    pub fn party_bit(&self, account: Address) -> u64 {
        let sends = u64::from(self.sender_bit(account));
        let first = self.local().find(|(_, leg)| leg.to == account);
        let receives = first.and_then(|(place, _)| 1_u64.checked_shl(32 + place as u32)).unwrap_or(0);
        if sends == 0 { receives } else { sends }
    }

    /// What senders lock, by the assets that are the system's own: those are held in full, other currencies are netted.
    #[must_use]
    pub fn locks(&self, own: &BTreeSet<Address>) -> Vec<Lock> {
        let mut locks: Vec<Lock> = Vec::new();
        for (_, leg) in self.local() {
            let (sender, asset) = (leg.from, leg.asset);
            if locks.iter().any(|lock| (lock.sender, lock.asset) == (sender, asset)) {
                continue;
            }
            let total = |takes: fn(&Leg) -> Address| {
                let those = self.local().filter(|(_, leg)| takes(leg) == sender && leg.asset == asset);
                those.fold(U256::ZERO, |sum, (_, leg)| sum.saturating_add(leg.amount))
            };
            let (sends, gets) = (total(|leg| leg.from), total(|leg| leg.to));
            let own = own.contains(&asset);
            let amount = if own { sends } else { sends.saturating_sub(gets) };
            if !amount.is_zero() {
                locks.push(Lock { sender, asset, own, amount });
            }
        }
        locks
    }
}

fn once_each(accounts: impl Iterator<Item = Address>) -> Vec<Address> {
    let mut seen = BTreeSet::new();
    accounts.filter(|account| seen.insert(*account)).collect()
}

// === impl Deed ===

impl Deed {
    /// As the contract takes it.
    #[must_use]
    pub fn on_chain(&self) -> Settlement::Terms {
        let lock = self.terms.hash_lock;
        Settlement::Terms {
            salt: self.salt,
            name: self.terms.name.clone(),
            // Checked to be before the year 10000, which fits.
            cutoff: U40::saturating_from(self.terms.cutoff),
            autoExecute: self.terms.auto_execute,
            hashKind: lock.map_or(0, |lock| lock.kind.number()),
            hashlock: lock.map_or(B256::ZERO, |lock| lock.hash),
            legs: self.terms.legs.iter().map(on_chain).collect(),
        }
    }

    /// Its identifier.
    #[must_use]
    pub fn id(&self) -> B256 {
        keccak256(self.on_chain().abi_encode())
    }

    /// The deed that a contract tells of under an identifier. `None` for one that reads back as another: its name is no text, so no
    /// call could be written for it; and for one that no sound contract takes.
    #[must_use]
    pub fn told(id: B256, told: Settlement::Terms) -> Option<Self> {
        let kind = match told.hashKind {
            0 => None,
            1 => Some(HashKind::Keccak256),
            2 => Some(HashKind::Sha256),
            _ => return None,
        };
        let legs = told.legs.into_iter().map(|leg| Leg {
            asset: leg.asset,
            from: leg.from,
            to: leg.to,
            amount: leg.amount,
            chain_id: leg.chainId,
        });
        let terms = Terms {
            name: told.name,
            cutoff: told.cutoff.to(),
            auto_execute: told.autoExecute,
            hash_lock: kind.map(|kind| HashLock { kind, hash: told.hashlock }),
            legs: legs.collect(),
        };
        let deed = Self { salt: told.salt, terms };
        // PostgreSQL keeps no NUL.
        (deed.id() == id && !deed.terms.name.contains('\0') && deed.terms.are_sound()).then_some(deed)
    }
}

fn on_chain(leg: &Leg) -> Settlement::Leg {
    Settlement::Leg { asset: leg.asset, from: leg.from, to: leg.to, amount: leg.amount, chainId: leg.chain_id }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const ALICE: Address = Address::repeat_byte(0xa1);
    pub(crate) const BOB: Address = Address::repeat_byte(0xb1);
    pub(crate) const CAROL: Address = Address::repeat_byte(0xc1);
    pub(crate) const BOND: Address = Address::repeat_byte(0x0b);
    pub(crate) const CASH: Address = Address::repeat_byte(0x0c);

    pub(crate) fn leg(asset: Address, from: Address, to: Address, amount: u64) -> Leg {
        Leg { asset, from, to, amount: U256::from(amount), chain_id: 0 }
    }

    /// Alice's bonds against Bob's cash, of which Carol gets a part.
    pub(crate) fn delivery() -> Terms {
        Terms {
            name: "Trade".into(),
            cutoff: 1_000,
            auto_execute: false,
            hash_lock: None,
            legs: vec![leg(BOND, ALICE, BOB, 10), leg(CASH, BOB, ALICE, 900), leg(CASH, BOB, CAROL, 100)],
        }
    }

    /// The same with a leg elsewhere.
    pub(crate) fn cross_chain() -> Terms {
        let mut terms = delivery();
        terms.legs.push(Leg { chain_id: 4_242, ..leg(CASH, BOB, ALICE, 7) });
        terms.hash_lock = Some(HashLock { kind: HashKind::Sha256, hash: B256::repeat_byte(5) });
        terms
    }

    #[test]
    fn parties_have_the_bits_of_the_contract() {
        let terms = cross_chain();
        assert_eq!(terms.senders(), [ALICE, BOB]);
        assert_eq!(terms.parties(), [ALICE, BOB, CAROL]);
        assert_eq!(terms.assets(), [BOND, CASH]);
        assert_eq!([ALICE, BOB, CAROL].map(|one| terms.sender_bit(one)), [1, 2, 0]);
        assert_eq!([ALICE, BOB, CAROL].map(|one| terms.party_bit(one)), [1, 2, 1 << 34]);
        assert_eq!(terms.party_bit(CASH), 0);
        assert!(terms.is_cross_chain() && !delivery().is_cross_chain());
    }

    #[test]
    fn a_lock_opens_to_its_secret_only() {
        // Of 32 zero bytes, as anybody can compute.
        let hashes = [
            (HashKind::Keccak256, "0x290decd9548b62a8d60345a988386fc84ba6bc95484008f6362f93160ef3e563"),
            (HashKind::Sha256, "0x66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"),
        ];
        for (kind, hash) in hashes {
            let lock = HashLock { kind, hash: hash.parse().unwrap() };
            assert!(lock.opens(B256::ZERO) && !lock.opens(B256::with_last_byte(1)), "{kind:?}");
        }
    }

    #[test]
    fn own_assets_are_locked_in_full_and_currencies_net() {
        let own = BTreeSet::from([BOND]);
        let lock = |sender, asset, own, amount: u64| Lock { sender, asset, own, amount: U256::from(amount) };
        assert_eq!(delivery().locks(&own), [lock(ALICE, BOND, true, 10), lock(BOB, CASH, false, 1_000)]);
        // Alice gives 400 of the 900 back; what goes elsewhere is nobody's lock here.
        let mut terms = cross_chain();
        terms.legs.push(leg(CASH, ALICE, BOB, 400));
        assert_eq!(terms.locks(&own), [lock(ALICE, BOND, true, 10), lock(BOB, CASH, false, 600)]);
        let both = BTreeSet::from([BOND, CASH]);
        let full = [lock(ALICE, BOND, true, 10), lock(BOB, CASH, true, 1_000), lock(ALICE, CASH, true, 400)];
        assert_eq!(terms.locks(&both), full);
    }

    #[test]
    fn a_deed_reads_back_from_what_the_contract_tells() {
        for terms in [delivery(), cross_chain()] {
            let deed = Deed { salt: B256::repeat_byte(3), terms };
            assert_eq!(Deed::told(deed.id(), deed.on_chain()), Some(deed.clone()));
            assert_eq!(Deed::told(B256::ZERO, deed.on_chain()), None, "another's");
            let named = Deed { terms: Terms { name: "a\0b".into(), ..deed.terms.clone() }, ..deed };
            assert_eq!(Deed::told(named.id(), named.on_chain()), None);
        }
        let lies: [fn(&mut Terms); 8] = [
            |terms| terms.legs.clear(),
            |terms| terms.legs = vec![terms.legs[0].clone(); 33],
            |terms| terms.legs[0].amount = U256::ZERO,
            |terms| terms.legs[0].amount = U256::ONE << 128_usize,
            |terms| terms.legs[0].to = ALICE,
            |terms| terms.cutoff = 0,
            |terms| terms.hash_lock = None,
            |terms| terms.legs.retain(|leg| !leg.is_local()),
        ];
        for lie in lies {
            let mut deed = Deed { salt: B256::ZERO, terms: cross_chain() };
            lie(&mut deed.terms);
            assert_eq!(Deed::told(deed.id(), deed.on_chain()), None, "no sound contract: {deed:?}");
        }
        let other = Deed { salt: B256::repeat_byte(4), terms: delivery() };
        assert_ne!(other.id(), Deed { salt: B256::repeat_byte(3), terms: delivery() }.id());
    }
}
