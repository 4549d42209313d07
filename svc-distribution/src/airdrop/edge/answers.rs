//! What is stored, as messages.

use crate::airdrop::{
    list::BadLine,
    store::{
        airdrops::StoredAirdrop,
        outcomes::{Counts, Outcome, PayingTransaction, StoredOutcome},
        pushes::{PushState, StoredPush},
    },
    terms::{Kind, Terms},
};
use alloy::primitives::Address;
use dalp_proto::distribution as proto;

/// An address as the wire carries it.
pub(super) fn text(address: Address) -> String {
    address.to_checksum(None)
}

/// A count of rows; a list has at most a million.
pub(super) fn count(rows: u64) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}

pub(super) fn bad_lines(bad: &[BadLine]) -> Vec<proto::BadLine> {
    bad.iter()
        .map(|bad| proto::BadLine {
            line: bad.line,
            problem: bad.problem.code().to_owned(),
            message: bad.problem.to_string(),
        })
        .collect()
}

fn terms(sender: Address, terms: &Terms) -> proto::AirdropTerms {
    let kind = match terms.kind {
        Kind::Push => proto::AirdropKind::Push,
        Kind::Claim => proto::AirdropKind::Claim,
        Kind::Vesting => proto::AirdropKind::Vesting,
    };
    proto::AirdropTerms {
        sender: text(sender),
        kind: kind.into(),
        leftover_to: text(terms.leftover_to),
        starts_at: terms.starts_at,
        ends_at: terms.ends_at,
        cliff_s: terms.cliff_s,
        duration_s: terms.duration_s,
        cap: if terms.cap.is_zero() { String::new() } else { terms.cap.to_string() },
    }
}

pub(super) fn progress(airdrop: &StoredAirdrop, counts: &Counts, push: Option<&StoredPush>) -> proto::AirdropProgress {
    let state = push.map_or(proto::PushState::Unspecified, |push| match push.state {
        PushState::Running => proto::PushState::Running,
        PushState::Paused => proto::PushState::Paused,
        PushState::Stopped => proto::PushState::Stopped,
        PushState::Done => proto::PushState::Done,
    });
    let paid = match airdrop.terms.kind {
        Kind::Vesting => counts.released_amount,
        Kind::Push | Kind::Claim => counts.paid_amount,
    };
    proto::AirdropProgress {
        recipients: count(airdrop.recipients),
        sent: count(counts.sent),
        paid: count(counts.paid),
        skipped: count(counts.skipped),
        left: count(airdrop.recipients.saturating_sub(counts.paid + counts.skipped)),
        paid_amount: paid.to_string(),
        push_state: state.into(),
        push_error: push.and_then(|push| push.failure.as_ref()).map(ToString::to_string).unwrap_or_default(),
    }
}

pub(super) fn airdrop(stored: &StoredAirdrop, progress: proto::AirdropProgress) -> proto::Airdrop {
    proto::Airdrop {
        airdrop: text(stored.airdrop),
        asset: text(stored.terms.asset),
        terms: Some(terms(stored.sender, &stored.terms)),
        operation_id: stored.operation_id.to_string(),
        created: stored.created_block.is_some(),
        total: stored.total.to_string(),
        digest: stored.digest.to_string(),
        roots: stored.roots.iter().map(ToString::to_string).collect(),
        rows_per_root: stored.parts.rows_per_root,
        progress: Some(progress),
    }
}

pub(super) fn recipient(stored: StoredOutcome) -> proto::Recipient {
    let outcome = match stored.outcome {
        Outcome::Open => proto::RecipientOutcome::Open,
        Outcome::Paid => proto::RecipientOutcome::Paid,
        Outcome::Skipped => proto::RecipientOutcome::Skipped,
        Outcome::Vesting => proto::RecipientOutcome::Vesting,
    };
    let (block_number, tx_hash) = stored.last.map(|(block, hash)| (block, hash.to_string())).unwrap_or_default();
    proto::Recipient {
        index: stored.row.place,
        account: text(stored.row.recipient.account),
        amount: stored.row.recipient.amount.to_string(),
        outcome: outcome.into(),
        reason: stored.reason,
        tx_hash,
        block_number,
        released: if stored.released.is_zero() { String::new() } else { stored.released.to_string() },
    }
}

pub(super) fn transaction(paying: PayingTransaction) -> proto::AirdropTransaction {
    proto::AirdropTransaction {
        tx_hash: paying.tx_hash.to_string(),
        block_number: paying.block,
        paid: count(paying.paid),
        skipped: count(paying.skipped),
        amount: paying.amount.to_string(),
    }
}
