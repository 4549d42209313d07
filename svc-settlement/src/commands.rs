//! What callers ask for, checked and typed, and what the contract is asked for then. Nothing here knows of protobuf, SQL or the network.

use crate::terms::{Deed, Terms};
use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::{SolCall, SolEvent};
use dalp_contracts::bindings::Settlement::{
    AmountsReclaimed, LegDeliverable, LegDelivered, ReclaimStarted, SettlementBreached, SettlementCancelled,
    SettlementExecuted, deliverCall, executeCall, reclaimCall, revealCall, revokeCall, startReclaimCall,
    voteCancelCall, withdrawVoteCall,
};
use dalp_domain::flows::{Sent, events};
use dalp_engine::Mined;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What opens a hash lock. It is written into no log.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub B256);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A settlement to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSettlement {
    /// Who sends.
    pub sender: Address,
    /// Under which terms.
    pub terms: Terms,
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approve {
    /// Who sends and locks.
    pub sender: Address,
    /// The settlement.
    pub settlement_id: B256,
    /// Leave allowances as they are.
    pub keep_allowances: bool,
}

/// One call of a settlement, whose outcome its events tell.
pub trait Act: Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Name of the kind of operation. Stored; never changes.
    const KIND: &'static str;
    /// Name of its step. Stored; never changes.
    const STEP: &'static str;
    /// What the contract is asked for.
    type Call: SolCall;
    /// What it ends with.
    type Outcome: Serialize;

    /// Who sends.
    fn sender(&self) -> Address;
    /// The settlement.
    fn settlement_id(&self) -> B256;
    /// What the contract is asked for.
    fn call(&self, deed: &Deed) -> Self::Call;
    /// What the contract told.
    fn outcome(&self, mined: Mined, contract: Address) -> Self::Outcome;
}

/// A transaction that moved legs, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Whether every local leg has moved.
    pub executed: bool,
    /// Legs that moved by themselves.
    pub delivered: Vec<u64>,
    /// Legs that are owed.
    pub deliverable: Vec<u64>,
    /// The transaction.
    #[serde(flatten)]
    pub sent: Sent,
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voted {
    /// Whether that cancelled it.
    pub cancelled: bool,
    /// The transaction.
    #[serde(flatten)]
    pub sent: Sent,
}

/// The first step of a reclaim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// From this block on amounts go back.
    pub reclaim_from_block: u64,
    /// The transaction.
    #[serde(flatten)]
    pub sent: Sent,
}

/// Amounts that went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaimed {
    /// Whose they were.
    pub party: Address,
    /// Whether a broken hold is why.
    pub breached: bool,
    /// The transaction.
    #[serde(flatten)]
    pub sent: Sent,
}

/// Commands of one call each: their fields beside sender and settlement, their call, and their outcome.
macro_rules! acts {
    ($($(#[$doc:meta])* $act:ident($kind:literal, $step:literal) { $($(#[$field_doc:meta])* $field:ident: $type:ty),* }
        $call:ident = |$self:ident, $terms:ident| $made:expr; $outcome:ty = |$mined:ident, $contract:ident| $read:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $act {
            /// Who sends.
            pub sender: Address,
            /// The settlement.
            pub settlement_id: B256,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Act for $act {
            const KIND: &'static str = $kind;
            const STEP: &'static str = $step;
            type Call = $call;
            type Outcome = $outcome;

            fn sender(&self) -> Address {
                self.sender
            }

            fn settlement_id(&self) -> B256 {
                self.settlement_id
            }

            fn call(&self, deed: &Deed) -> $call {
                let ($self, $terms) = (self, deed.on_chain());
                let _ = $self;
                $made
            }

            fn outcome(&self, $mined: Mined, $contract: Address) -> $outcome {
                let _ = $contract;
                $read
            }
        }
    )+};
}

acts! {
    /// Takes an approval back.
    Revoke("settlement.revoke", "revoke") {}
        revokeCall = |this, terms| revokeCall { terms };
        Sent = |mined, contract| mined.into();
    /// Moves every leg.
    Execute("settlement.execute", "execute") {}
        executeCall = |this, terms| executeCall { terms };
        Moved = |mined, contract| moved(mined, contract);
    /// Cancels at once.
    Cancel("settlement.cancel", "cancel") {}
        voteCancelCall = |this, terms| voteCancelCall { terms };
        Voted = |mined, contract| voted(mined, contract);
    /// Votes to cancel.
    VoteCancel("settlement.vote_cancel", "vote_cancel") {}
        voteCancelCall = |this, terms| voteCancelCall { terms };
        Voted = |mined, contract| voted(mined, contract);
    /// Takes a vote back.
    WithdrawVote("settlement.withdraw_vote", "withdraw_vote") {}
        withdrawVoteCall = |this, terms| withdrawVoteCall { terms };
        Sent = |mined, contract| mined.into();
    /// Shows a secret.
    Reveal("settlement.reveal", "reveal") {
        /// It.
        secret: Secret
    }
        revealCall = |this, terms| revealCall { terms, secret: this.secret.0 };
        Moved = |mined, contract| moved(mined, contract);
    /// Moves a committed leg.
    Deliver("settlement.deliver", "deliver") {
        /// Its number.
        leg: u32
    }
        deliverCall = |this, terms| deliverCall { terms, leg: U256::from(this.leg) };
        Moved = |mined, contract| moved(mined, contract);
    /// Starts the way back after the cutoff.
    StartReclaim("settlement.start_reclaim", "start_reclaim") {}
        startReclaimCall = |this, terms| startReclaimCall { terms };
        Started = |mined, contract| started(mined, contract);
    /// Gives amounts back.
    Reclaim("settlement.reclaim", "reclaim") {
        /// Whose.
        party: Address
    }
        reclaimCall = |this, terms| reclaimCall { terms, sender: this.party };
        Reclaimed = |mined, contract| reclaimed(mined, contract);
}

/// Whether a contract told of something in a transaction.
pub(crate) fn tells<E: SolEvent>(mined: &Mined, contract: Address) -> bool {
    events::<E>(mined, contract).next().is_some()
}

pub(crate) fn moved(mined: Mined, contract: Address) -> Moved {
    let executed = tells::<SettlementExecuted>(&mined, contract);
    let delivered = events::<LegDelivered>(&mined, contract).map(|event| event.leg.saturating_to()).collect();
    let deliverable = events::<LegDeliverable>(&mined, contract).map(|event| event.leg.saturating_to()).collect();
    Moved { executed, delivered, deliverable, sent: mined.into() }
}

fn voted(mined: Mined, contract: Address) -> Voted {
    let cancelled = tells::<SettlementCancelled>(&mined, contract);
    Voted { cancelled, sent: mined.into() }
}

fn started(mined: Mined, contract: Address) -> Started {
    let told = events::<ReclaimStarted>(&mined, contract).next();
    let reclaim_from_block = told.map_or(0, |event| event.fromBlock.saturating_to());
    Started { reclaim_from_block, sent: mined.into() }
}

fn reclaimed(mined: Mined, contract: Address) -> Reclaimed {
    let told = events::<AmountsReclaimed>(&mined, contract).next();
    let breached = tells::<SettlementBreached>(&mined, contract);
    Reclaimed { party: told.map_or(Address::ZERO, |event| event.sender), breached, sent: mined.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_stored_as_it_is_and_written_into_no_log() {
        let secret = Secret(B256::repeat_byte(0xab));
        let reveal = Reveal { sender: Address::ZERO, settlement_id: B256::ZERO, secret };
        assert!(!format!("{reveal:?}").contains("abab"));
        assert_eq!(serde_json::to_value(&reveal).unwrap()["secret"], B256::repeat_byte(0xab).to_string());
    }
}
