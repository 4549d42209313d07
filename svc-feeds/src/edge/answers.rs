//! What is stored, as messages.

use crate::{
    domain::feed::{History, Terms},
    readers::feeds::OnChainRound,
    store::{directory, rounds::StoredRound},
};
use alloy::primitives::Address;
use dalp_proto::feeds as proto;

/// An address as the wire carries it.
pub(super) fn text(address: Address) -> String {
    address.to_checksum(None)
}

/// The settings of a feed.
pub(super) fn feed(address: Address, terms: &Terms, stale_after_s: Option<u64>) -> proto::Feed {
    let mut feed = proto::Feed {
        feed: text(address),
        kind: proto::FeedKind::External.into(),
        subject: if terms.pair.subject.is_zero() { String::new() } else { text(terms.pair.subject) },
        topic_id: format!("{:#066x}", terms.pair.topic_id),
        decimals: terms.decimals.into(),
        description: terms.description.clone(),
        stale_after_s: stale_after_s.unwrap_or_default(),
        ..Default::default()
    };
    if let Some(signed) = &terms.signed {
        let mode = match signed.history {
            History::LatestOnly => proto::HistoryMode::LatestOnly,
            History::Bounded { .. } => proto::HistoryMode::Bounded,
            History::Full => proto::HistoryMode::Full,
        };
        feed.kind = proto::FeedKind::IssuerSigned.into();
        feed.schema_hash = signed.schema_hash.to_string();
        feed.history_mode = mode.into();
        feed.history_size = signed.history.size();
        feed.require_positive = signed.require_positive;
        feed.drift_allowance_s = signed.drift_allowance_s;
    }
    feed
}

/// The feed of a pair.
pub(super) fn entry(entry: &directory::DirectoryEntry) -> proto::DirectoryEntry {
    proto::DirectoryEntry {
        feed: Some(feed(entry.feed.feed, &entry.feed.terms, entry.feed.stale_after_s)),
        phase: entry.phase,
        since_block: entry.since_block,
        adapter: entry.adapter.map(text).unwrap_or_default(),
    }
}

/// A stored round.
pub(super) fn round(round: &StoredRound) -> proto::Round {
    proto::Round {
        round_id: round.round_id.to_string(),
        value: round.value.to_string(),
        observed_at: round.observed_at,
        issuer: text(round.issuer),
        signer: round.signer.map(text).unwrap_or_default(),
        nonce: round.nonce.to_string(),
        deadline: round.deadline.to_string(),
        signature: round.signature.to_string(),
        block_number: round.block,
        tx_hash: round.tx_hash.to_string(),
    }
}

/// A round as a contract reads it.
pub(super) fn on_chain_round(round: OnChainRound) -> proto::Round {
    proto::Round {
        round_id: round.round_id.to_string(),
        value: round.value.to_string(),
        observed_at: round.observed_at,
        ..Default::default()
    }
}
