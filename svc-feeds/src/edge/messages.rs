//! Messages to commands.

use crate::domain::{
    feed::{ChangeDirectory, CreateFeed, DirectoryChange, History, MAX_DECIMALS, MAX_DESCRIPTION, Pair},
    fields::{subject, topic, topic_by_id, value},
    update::{MAX_BATCH, MAX_SIGNATURE, Observation, SubmitBatch, SubmitSigned, SubmitUpdate, Update},
};
use alloy::primitives::{Address, U256};
use dalp_proto::feeds as proto;
use dalp_service::{
    Refusal,
    fields::{self, Violations},
};
use std::collections::BTreeSet;

/// Who sends, who issues and who signs; the later ones default to the earlier ones.
fn parties(bad: &mut Violations, sender: &str, issuer: &str, signer: &str) -> (Address, Address, Address) {
    let sender = bad.check(fields::nonzero_address("sender", sender)).unwrap_or_default();
    let mut or = |path: &str, text: &str, default: Address| match text {
        "" => default,
        text => bad.check(fields::nonzero_address(path, text)).unwrap_or_default(),
    };
    let issuer = or("issuer", issuer, sender);
    (sender, issuer, or("signer", signer, issuer))
}

fn pair(bad: &mut Violations, about: &str, topic_name: &str, topic_id: &str) -> Pair {
    Pair {
        subject: bad.check(subject("subject", about)).unwrap_or_default(),
        topic_id: topic(bad, topic_name, topic_id),
    }
}

fn observation(bad: &mut Violations, path: &str, feed: &str, text: &str, observed_at: u64) -> Observation {
    Observation {
        feed: bad.check(fields::nonzero_address(&format!("{path}feed"), feed)).unwrap_or_default(),
        value: bad.check(value(&format!("{path}value"), text)).unwrap_or_default(),
        observed_at,
    }
}

fn history(bad: &mut Violations, mode: i32, size: u32) -> History {
    let mode: Option<proto::HistoryMode> = bad.check(fields::enum_value("history_mode", mode));
    let history = match mode {
        Some(proto::HistoryMode::LatestOnly) => History::LatestOnly,
        Some(proto::HistoryMode::Bounded) => History::Bounded { size },
        Some(proto::HistoryMode::Full) | Some(proto::HistoryMode::Unspecified) | None => History::Full,
    };
    match (history, size) {
        (History::Bounded { .. }, 0) => bad.push("history_size", "must be at least 1 in mode BOUNDED"),
        (History::LatestOnly | History::Full, 1..) => {
            bad.push("history_size", "must be 0: only mode BOUNDED has a size");
        }
        _ => {}
    }
    history
}

impl TryFrom<&proto::CreateFeedRequest> for CreateFeed {
    type Error = Refusal;

    fn try_from(request: &proto::CreateFeedRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let decimals = bad.check(fields::in_range("decimals", request.decimals, 0, u32::from(MAX_DECIMALS)));
        let command = Self {
            sender: bad.check(fields::nonzero_address("sender", &request.sender)).unwrap_or_default(),
            pair: pair(&mut bad, &request.subject, &request.topic_name, &request.topic_id),
            decimals: decimals.and_then(|decimals| u8::try_from(decimals).ok()).unwrap_or_default(),
            description: bad
                .check(fields::bounded_string("description", &request.description, 1, MAX_DESCRIPTION))
                .unwrap_or_default(),
            history: history(&mut bad, request.history_mode, request.history_size),
            require_positive: request.require_positive,
            drift_allowance_s: request.drift_allowance_s,
            replace: request.replace,
        };
        bad.finish()?;
        Ok(command)
    }
}

impl TryFrom<&proto::SubmitUpdateRequest> for SubmitUpdate {
    type Error = Refusal;

    fn try_from(request: &proto::SubmitUpdateRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let (sender, issuer, signer) = parties(&mut bad, &request.sender, &request.issuer, &request.signer);
        let observation = observation(&mut bad, "", &request.feed, &request.value, request.observed_at);
        bad.finish()?;
        Ok(Self { sender, issuer, signer, deadline: request.deadline, observation })
    }
}

impl TryFrom<&proto::SubmitBatchRequest> for SubmitBatch {
    type Error = Refusal;

    fn try_from(request: &proto::SubmitBatchRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let (sender, issuer, signer) = parties(&mut bad, &request.sender, &request.issuer, &request.signer);
        if !(1..=MAX_BATCH).contains(&request.values.len()) {
            bad.push("values", format!("must hold 1 to {MAX_BATCH} values"));
        }
        let mut seen = BTreeSet::new();
        let mut observations = Vec::new();
        for (index, one) in request.values.iter().take(MAX_BATCH).enumerate() {
            let path = format!("values[{index}].");
            let observation = observation(&mut bad, &path, &one.feed, &one.value, one.observed_at);
            if !seen.insert(observation.feed) && !observation.feed.is_zero() {
                bad.push(format!("{path}feed"), "stands here before: each feed once, or its values would race");
            }
            observations.push(observation);
        }
        bad.finish()?;
        Ok(Self { sender, issuer, signer, deadline: request.deadline, observations })
    }
}

impl TryFrom<&proto::SubmitSignedUpdateRequest> for SubmitSigned {
    type Error = Refusal;

    fn try_from(request: &proto::SubmitSignedUpdateRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let update = Update {
            topic_id: bad.check(topic_by_id("topic_id", &request.topic_id)).unwrap_or_default(),
            schema_hash: bad.check(fields::bytes32("schema_hash", &request.schema_hash)).unwrap_or_default(),
            value: bad.check(value("value", &request.value)).unwrap_or_default(),
            observed_at: request.observed_at,
            nonce: request.nonce,
            deadline: U256::from(request.deadline),
        };
        let command = Self {
            sender: bad.check(fields::nonzero_address("sender", &request.sender)).unwrap_or_default(),
            feed: bad.check(fields::nonzero_address("feed", &request.feed)).unwrap_or_default(),
            issuer: bad.check(fields::nonzero_address("issuer", &request.issuer)).unwrap_or_default(),
            update,
            signature: bad.check(fields::hex_bytes("signature", &request.signature, MAX_SIGNATURE)).unwrap_or_default(),
        };
        bad.finish()?;
        Ok(command)
    }
}

/// A pair of a read.
pub(super) fn read_pair(about: &str, topic_name: &str, topic_id: &str) -> Result<Pair, Refusal> {
    let mut bad = Violations::new();
    let pair = pair(&mut bad, about, topic_name, topic_id);
    bad.finish()?;
    Ok(pair)
}

/// A round of a read; our own ids fit 64 bits, foreign ones 80.
pub(super) fn read_round(text: &str) -> Result<u128, Refusal> {
    let round = fields::amount("round_id", text)?;
    u128::try_from(round)
        .ok()
        .filter(|round| *round < 1 << 80)
        .ok_or_else(|| fields::violation("round_id", "is too large: a round has 80 bits").into())
}

macro_rules! directory_change {
    ($($message:ident => |$request:ident, $bad:ident| $change:expr;)+) => {$(
        impl TryFrom<&proto::$message> for ChangeDirectory {
            type Error = Refusal;

            fn try_from($request: &proto::$message) -> Result<Self, Refusal> {
                let mut $bad = Violations::new();
                let command = Self {
                    sender: $bad.check(fields::nonzero_address("sender", &$request.sender)).unwrap_or_default(),
                    pair: pair(&mut $bad, &$request.subject, &$request.topic_name, &$request.topic_id),
                    change: $change,
                };
                $bad.finish()?;
                Ok(command)
            }
        }
    )+};
}

directory_change! {
    RegisterFeedRequest => |request, bad| DirectoryChange::Register {
        feed: bad.check(fields::nonzero_address("feed", &request.feed)).unwrap_or_default(),
    };
    ReplaceFeedRequest => |request, bad| DirectoryChange::Replace {
        feed: bad.check(fields::nonzero_address("feed", &request.feed)).unwrap_or_default(),
    };
    RemoveFeedRequest => |request, bad| DirectoryChange::Remove;
    CreateAdapterRequest => |request, bad| DirectoryChange::CreateAdapter;
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::I256;

    const WALLET: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";
    const OTHER: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

    fn paths(refusal: &Refusal) -> Vec<&str> {
        refusal.violations().iter().map(|(path, _)| path.as_str()).collect()
    }

    fn create() -> proto::CreateFeedRequest {
        proto::CreateFeedRequest {
            sender: WALLET.into(),
            topic_name: "price".into(),
            decimals: 18,
            description: "EUR/CHF".into(),
            history_mode: proto::HistoryMode::Bounded.into(),
            history_size: 3,
            ..Default::default()
        }
    }

    #[test]
    fn a_feed_has_its_limits() {
        let command = CreateFeed::try_from(&create()).unwrap();
        assert_eq!((command.decimals, command.history), (18, History::Bounded { size: 3 }));
        assert!(command.pair.subject.is_zero(), "global");
        let wrong = proto::CreateFeedRequest {
            decimals: 19,
            description: String::new(),
            history_mode: 9,
            topic_name: String::new(),
            sender: "0x1".into(),
            ..create()
        };
        let refusal = CreateFeed::try_from(&wrong).unwrap_err();
        let expected = ["decimals", "sender", "topic_name", "description", "history_mode", "history_size"];
        assert_eq!(paths(&refusal), expected);
        for (mode, size) in
            [(proto::HistoryMode::Bounded, 0), (proto::HistoryMode::Full, 1), (proto::HistoryMode::LatestOnly, 1)]
        {
            let request = proto::CreateFeedRequest { history_mode: mode.into(), history_size: size, ..create() };
            assert_eq!(paths(&CreateFeed::try_from(&request).unwrap_err()), ["history_size"], "{mode:?}");
        }
    }

    #[test]
    fn issuer_and_signer_default_to_the_sender() {
        let request = proto::SubmitUpdateRequest {
            feed: OTHER.into(),
            value: "-15000".into(),
            observed_at: 5,
            sender: WALLET.into(),
            ..Default::default()
        };
        let command = SubmitUpdate::try_from(&request).unwrap();
        assert_eq!((command.issuer, command.signer), (command.sender, command.sender));
        assert_eq!(command.observation.value, I256::try_from(-15_000).unwrap());
        let issued = proto::SubmitUpdateRequest { issuer: OTHER.into(), ..request.clone() };
        let command = SubmitUpdate::try_from(&issued).unwrap();
        assert_eq!((command.signer, command.issuer != command.sender), (command.issuer, true));
        let wrong =
            proto::SubmitUpdateRequest { value: "1.5".into(), feed: String::new(), signer: "x".into(), ..request };
        assert_eq!(paths(&SubmitUpdate::try_from(&wrong).unwrap_err()), ["signer", "feed", "value"]);
    }

    #[test]
    fn a_batch_names_each_feed_once() {
        let one = |feed: &str| proto::BatchValue { feed: feed.into(), value: "1".into(), observed_at: 1 };
        let batch = |values| proto::SubmitBatchRequest { sender: WALLET.into(), values, ..Default::default() };
        assert!(SubmitBatch::try_from(&batch(vec![one(WALLET), one(OTHER)])).is_ok());
        let refusal = SubmitBatch::try_from(&batch(vec![one(WALLET), one(WALLET)])).unwrap_err();
        assert_eq!(paths(&refusal), ["values[1].feed"]);
        assert_eq!(paths(&SubmitBatch::try_from(&batch(vec![])).unwrap_err()), ["values"]);
        assert_eq!(paths(&SubmitBatch::try_from(&batch(vec![one(WALLET); 501])).unwrap_err())[0], "values");
    }

    #[test]
    fn a_signed_update_is_taken_as_it_is() {
        let request = proto::SubmitSignedUpdateRequest {
            sender: WALLET.into(),
            feed: OTHER.into(),
            issuer: OTHER.into(),
            topic_id: "5".into(),
            schema_hash: format!("0x{}", "ab".repeat(32)),
            value: "0".into(),
            signature: "0x01".into(),
            ..Default::default()
        };
        assert_eq!(SubmitSigned::try_from(&request).unwrap().signature.len(), 1, "the feed judges it");
        let wrong = proto::SubmitSignedUpdateRequest { signature: "01".into(), schema_hash: "0x".into(), ..request };
        assert_eq!(paths(&SubmitSigned::try_from(&wrong).unwrap_err()), ["schema_hash", "signature"]);
    }

    #[test]
    fn rounds_have_80_bits() {
        assert_eq!(read_round("1208925819614629174706175").unwrap(), (1 << 80) - 1);
        assert!(read_round("1208925819614629174706176").is_err());
        assert!(read_round("-1").is_err());
    }
}
