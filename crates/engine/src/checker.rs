//! Maker and checker: what a policy holds begins only when other persons than its maker have approved it.
//!
//! Whether an operation is held is decided by the statement that accepts it, from the policies that stand in the database at that moment
//! (`store/accept.rs`): nothing is remembered, so nothing has to be told of a change. What a decision means for a held operation is
//! decided here, purely; `store/checks.rs` carries it out under the lock of the operation's row, so that of an approval, a refusal, a
//! withdrawal and the end of the time exactly one counts.
//!
//! Who is whose person is known to whoever keeps the principals, the gateway; it says so with each decision, and the tables refuse the
//! approval of a maker whatever was said before.

pub use crate::store::checks::{
    accept_change, asked, complete_change, decide, expire, policies, put_policy, remove_policy, tell, unknown_kind,
};

use crate::{
    error::StoreError,
    model::{OperationId, TenantId},
    states::OperationState,
};
use alloy::primitives::{Address, B256, U256};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// The kind of an operation that changes policies. It runs in no engine: who keeps the policies carries it out with the last approval.
pub const POLICY_CHANGE: &str = "policy.change";

/// What an operation moves: base units by asset or currency. An operation that is about an asset and moves nothing of it has it with zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Amounts(BTreeMap<Address, U256>);

/// What a policy asks about an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What it moves.
    pub amounts: Amounts,
    /// Principals from whose wallets it sends, other than the one who asks.
    #[serde(default)]
    pub owners: BTreeSet<String>,
    /// Roles that it takes beside the permission of its RPC.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// Principals through whose hands the credential went that it was asked with; none: nobody has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hands: Option<BTreeSet<String>>,
}

/// A policy of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its name.
    pub policy_id: String,
    /// Kinds of operations; empty: every kind.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// But not these.
    #[serde(default)]
    pub except_kinds: Vec<String>,
    /// Only over this asset or currency.
    #[serde(default)]
    pub asset: Option<Address>,
    /// Only from so many base units of one asset on.
    #[serde(default)]
    pub threshold: Option<U256>,
    /// How many persons beside the maker.
    pub checkers: u32,
    /// Seconds after which what nobody decided has ended.
    pub time_limit_s: u32,
    /// May be approved also where nobody answers for the maker.
    #[serde(default)]
    pub unowned_makers: bool,
}

/// A policy as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPolicy {
    /// It.
    pub policy: Policy,
    /// Since when.
    pub created_at: OffsetDateTime,
    /// By whom.
    pub created_by: String,
}

/// What holds an operation, or held it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckView {
    /// The policies.
    pub policies: Vec<String>,
    /// How many persons they take.
    pub checkers: u32,
    /// What is moved, and from whose wallets.
    pub question: Question,
    /// Hash of the canonical order: what is decided.
    pub payload_hash: B256,
    /// What is asked for, without secrets.
    pub command: serde_json::Value,
    /// The RPC that asked.
    pub method: String,
    /// Until when it can be decided.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// Who has decided, in order.
    pub decisions: Vec<DecisionView>,
}

/// One person's decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionView {
    /// By which principal.
    pub principal: String,
    /// Who stands behind it.
    pub person: String,
    /// Or refused.
    pub approved: bool,
    /// Why.
    pub reason: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// A decision about a held operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Who decides.
    pub principal: String,
    /// The person behind that principal.
    pub person: String,
    /// Through whose hands the credential went that it comes with: they are one with the decider.
    pub hands: BTreeSet<String>,
    /// Who may not: the maker, the owners of the wallets, and the persons behind them.
    pub makers: BTreeSet<String>,
    /// Nor these: through their hands went what the maker asked with.
    pub makers_hands: BTreeSet<String>,
    /// Or refuses.
    pub approved: bool,
    /// Why.
    pub reason: String,
    /// Of what the decider has seen.
    pub payload_hash: B256,
}

/// What is known of a held operation when its row is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where the operation stands.
    pub state: OperationState,
    /// How many persons it takes.
    pub checkers: u32,
    /// Of what is held.
    pub payload_hash: B256,
    /// Whether the time is over.
    pub expired: bool,
    /// Who has decided, and how.
    pub decided: BTreeMap<String, bool>,
    /// Those who have approved, with through whose hands each one's credential went.
    pub approvals: BTreeMap<String, BTreeSet<String>>,
}

/// What a decision does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This person has said so before.
    Nothing,
    /// It is noted, and so many more persons are needed.
    Waits(u32),
    /// The operation begins.
    Begins,
    /// The operation ends refused.
    Ends,
}

/// Why a decision does not count.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The tenant has no such operation, or none that a policy held.
    #[error("no such held operation")]
    NotFound,
    /// It was decided, has ended or was withdrawn.
    #[error("the operation is {0} and waits for nobody")]
    NotHeld(OperationState),
    /// The time to decide is over.
    #[error("the time to decide is over")]
    Expired,
    /// The decider is the maker, or owns a wallet that it sends from.
    #[error("who asked for an operation does not approve it")]
    Maker,
    /// The credential of the decider went through the hands of the maker, or the maker's through the decider's.
    #[error("the credential went through the hands of who asked")]
    MakersHand(String),
    /// The credential of the decider went through the hands of one who has approved, or that one's through the decider's.
    #[error("the credential went through the hands of who has approved")]
    CheckersHand(String),
    /// What the decider has seen is not what is held.
    #[error("the hash is not that of what is held")]
    OtherPayload,
    /// The same person has decided otherwise.
    #[error("the person has decided before")]
    Decided,
    /// The database did not answer.
    #[error("not stored")]
    Store(#[from] StoreError),
}

/// A decision that counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// What it did.
    pub next: Next,
    /// The kind of the operation.
    pub kind: String,
    /// Its order, for who carries it out without an engine.
    pub order: serde_json::Value,
}

/// A change of policies that somebody asks for who may.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// The operation that it will be.
    pub operation_id: OperationId,
    /// Whose.
    pub tenant: &'a TenantId,
    /// Who keeps policies, as the owner of the operation.
    pub service: &'a str,
    /// Who asks.
    pub principal: &'a str,
    /// By which RPC.
    pub method: &'a str,
    /// Under which key.
    pub key: &'a str,
    /// What is to be changed.
    pub order: serde_json::Value,
    /// Through whose hands the credential went that asks.
    pub hands: BTreeSet<String>,
}

/// What was asked for, and by whom: enough to find out who may decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Who asked.
    pub principal: String,
    /// By which RPC.
    pub method: String,
    /// What it moves, from whose wallets, and what it takes to be asked for.
    pub question: Question,
    /// Every policy that held it, as far as it still stands, takes a maker for whom nobody answers.
    pub unowned_makers: bool,
}

/// What became of a change of policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changing {
    /// A policy holds it.
    Held,
    /// Nothing holds it: who keeps policies carries it out in the same commit.
    Free,
    /// It was asked for before under the same key.
    Repeat(OperationId),
}

// === impl Amounts ===

impl Amounts {
    /// So much of one asset.
    #[must_use]
    pub fn of(asset: Address, units: U256) -> Self {
        Self::default().and(asset, units)
    }

    /// An asset of which nothing is moved.
    #[must_use]
    pub fn about(asset: Address) -> Self {
        Self::of(asset, U256::ZERO)
    }

    /// And so much of another one; of one that is there already, as much more.
    #[must_use]
    pub fn and(mut self, asset: Address, units: U256) -> Self {
        let sum = self.0.entry(asset).or_default();
        *sum = sum.saturating_add(units);
        self
    }

    /// Both.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        other.0.into_iter().fold(self, |all, (asset, units)| all.and(asset, units))
    }

    /// By asset.
    pub fn iter(&self) -> impl Iterator<Item = (Address, U256)> {
        self.0.iter().map(|(asset, units)| (*asset, *units))
    }

    /// As the accepting statement compares them with thresholds.
    pub(crate) fn rows(&self) -> serde_json::Value {
        let row = |(asset, units): (Address, U256)| serde_json::json!({"asset": format!("{asset:#x}"), "amount": units.to_string()});
        self.iter().map(row).collect()
    }
}

// === impl Policy ===

impl Policy {
    /// Whether it holds an operation. The accepting statement says the same in its own words; a test compares the two.
    #[must_use]
    pub fn holds(&self, kind: &str, amounts: &Amounts) -> bool {
        let named = |kinds: &[String]| kinds.iter().any(|one| one == kind);
        if named(&self.except_kinds) || !(self.kinds.is_empty() || named(&self.kinds)) {
            return false;
        }
        if self.asset.is_none() && self.threshold.is_none() {
            return true;
        }
        amounts.iter().any(|(asset, units)| {
            self.asset.is_none_or(|only| only == asset) && self.threshold.is_none_or(|threshold| units >= threshold)
        })
    }
}

// === impl Decision ===

impl Decision {
    /// The maker who made what the decider shows, or the decider who made what the maker showed. A third one who made both is neither.
    fn makers_hand(&self) -> Option<String> {
        let own = [&self.person, &self.principal];
        let made_mine = self.hands.intersection(&self.makers).next();
        made_mine.or_else(|| own.into_iter().find(|who| self.makers_hands.contains(*who))).cloned()
    }

    /// The same of this decider and one who has approved.
    fn shares_a_hand(&self, (person, hands): (&String, &BTreeSet<String>)) -> Option<String> {
        let own = [&self.person, &self.principal];
        self.hands.get(person).or_else(|| own.into_iter().find(|who| hands.contains(*who))).cloned()
    }
}

// === impl Standing ===

impl Standing {
    /// What a decision does, if it counts.
    pub fn decide(&self, decision: &Decision) -> Result<Next, CheckError> {
        if self.decided.get(&decision.person) == Some(&decision.approved) && self.payload_hash == decision.payload_hash
        {
            return Ok(Next::Nothing);
        }
        if self.state != OperationState::AwaitingChecker {
            return Err(CheckError::NotHeld(self.state));
        }
        if self.expired {
            return Err(CheckError::Expired);
        }
        let is_maker = [&decision.person, &decision.principal].into_iter().any(|who| decision.makers.contains(who));
        if decision.approved && is_maker {
            return Err(CheckError::Maker);
        }
        if decision.approved
            && let Some(hand) = decision.makers_hand()
        {
            return Err(CheckError::MakersHand(hand));
        }
        if self.payload_hash != decision.payload_hash {
            return Err(CheckError::OtherPayload);
        }
        if self.decided.contains_key(&decision.person) {
            return Err(CheckError::Decided);
        }
        if decision.approved
            && let Some(hand) = self.approvals.iter().find_map(|approval| decision.shares_a_hand(approval))
        {
            return Err(CheckError::CheckersHand(hand));
        }
        if !decision.approved {
            return Ok(Next::Ends);
        }
        let approved = self.decided.values().filter(|approved| **approved).count();
        let approved = u32::try_from(approved).unwrap_or(u32::MAX).saturating_add(1);
        Ok(match self.checkers.saturating_sub(approved) {
            0 => Next::Begins,
            more => Next::Waits(more),
        })
    }
}

/// What is asked for, for people: the command of an order, or all of it where it has none, without secrets.
pub(crate) fn readable(order: &serde_json::Value) -> serde_json::Value {
    let mut command = order.get("command").unwrap_or(order).clone();
    veil(&mut command);
    command
}

fn veil(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "secret" if !value.is_null() => *value = "***".into(),
                    _ => veil(value),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(veil),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
