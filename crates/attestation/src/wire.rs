//! Messages to subjects and attestations, and back.

use crate::{Attestation, Judgement, Kind, Subject, Verdict, claim_digest};
use alloy::{
    dyn_abi::TypedData,
    hex,
    primitives::{Address, B256, Bytes, U256, keccak256},
};
use dalp_proto::attestation as proto;
use uuid::Uuid;

/// Most subjects of one request.
pub const SUBJECTS_MAX: usize = 256;
/// Why nothing is said about any payload of a chain: it cannot be judged at now. As of the error catalogue.
pub const AWAY: &str = "ATTESTOR_UNAVAILABLE";

/// What is to be judged, in full.
#[derive(Debug, Clone)]
pub enum Content {
    /// A transaction.
    Call {
        /// Called contract; absent to create one.
        target: Option<Address>,
        /// Native amount.
        value_wei: U256,
        /// Calldata or creation code.
        data: Bytes,
    },
    /// An EIP-712 document.
    Document(Box<TypedData>),
    /// A claim.
    Claim {
        /// The identity contract it is about.
        identity: Address,
        /// Topic id.
        topic: B256,
        /// Claim data.
        data: Bytes,
    },
}

/// A message that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be read")]
pub struct Unreadable(pub &'static str);

/// What the signer takes from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A verdict over the very subject that was asked about.
    Judged {
        /// The verdict, bound.
        attestation: Attestation,
        /// Why it is a veto.
        reason: String,
        /// The same for people.
        detail: String,
        /// Addresses it takes for keys of the tenant.
        presumed_keys: Vec<Address>,
    },
    /// Nothing of its chain is judged now, whatever it is.
    Away {
        /// Why, for people.
        detail: String,
    },
    /// Not judged, though others of its chain may be.
    Undecided {
        /// Why, as of the error catalogue.
        reason: String,
        /// The same for people.
        detail: String,
    },
}

/// Why an answer is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// It is about another request.
    #[error("the answer is about another request")]
    OtherRequest,
    /// Its hash is not that of what was asked about.
    #[error("the attestation's hash is not that of the payload and the verdict")]
    Hash,
    /// It ended before it came.
    #[error("the attestation has expired")]
    Expired,
    /// It would hold longer than the signer lets any hold.
    #[error("the attestation would hold too long")]
    TooLong,
    /// It is none.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Reads a subject; its content is hashed here, never taken from the message.
pub fn subject(message: &proto::Subject) -> Result<(Subject, Content), Unreadable> {
    let content = match message.content.as_ref().ok_or(Unreadable("content"))? {
        proto::subject::Content::Call(call) => Content::Call {
            target: match call.target.as_str() {
                "" => None,
                target => Some(parsed(target, "call.target")?),
            },
            value_wei: U256::from_str_radix(&call.value_wei, 10).map_err(|_| Unreadable("call.value_wei"))?,
            data: bytes(&call.data, "call.data")?,
        },
        proto::subject::Content::Document(document) => {
            Content::Document(serde_json_of(&document.document_json).ok_or(Unreadable("document.document_json"))?)
        }
        proto::subject::Content::Claim(claim) => Content::Claim {
            identity: parsed(&claim.identity, "claim.identity")?,
            topic: parsed(&claim.topic, "claim.topic")?,
            data: bytes(&claim.data, "claim.data")?,
        },
    };
    let request_id = Uuid::try_parse(&message.request_id).map_err(|_| Unreadable("request_id"))?;
    let (kind, target, value_wei, hash) = match &content {
        Content::Call { target, value_wei, data } => (Kind::Call, *target, *value_wei, keccak256(data)),
        Content::Document(document) => {
            let digest = document.eip712_signing_hash().map_err(|_| Unreadable("document.document_json"))?;
            (Kind::Document, document.domain.verifying_contract, U256::ZERO, digest)
        }
        Content::Claim { identity, topic, data } => {
            (Kind::Claim, Some(*identity), U256::ZERO, claim_digest(*identity, *topic, data))
        }
    };
    let subject = Subject {
        kind,
        tenant: message.tenant.clone(),
        chain_id: message.chain_id,
        request_id,
        sender: parsed(&message.sender, "sender")?,
        target,
        value_wei,
        content: hash,
    };
    Ok((subject, content))
}

/// An attestation as a message.
#[must_use]
pub fn attested(
    request_id: Uuid,
    attestation: &Attestation,
    (reason, detail): (&str, &str),
    presumed_keys: &[Address],
) -> proto::Attestation {
    let Attestation { judgement, hash } = attestation;
    proto::Attestation {
        request_id: request_id.to_string(),
        verdict: match judgement.verdict {
            Verdict::Pass => proto::Verdict::Pass,
            Verdict::Veto => proto::Verdict::Veto,
        }
        .into(),
        reason: reason.to_owned(),
        detail: detail.to_owned(),
        block_number: judgement.block_number,
        block_hash: judgement.block_hash.to_string(),
        ruleset: judgement.ruleset.to_string(),
        expires_at_s: judgement.expires_at_s,
        hash: hash.to_string(),
        presumed_keys: presumed_keys.iter().map(|key| key.to_checksum(None)).collect(),
    }
}

/// What an answer is worth to whoever asked about this subject: the hash is computed again, and an answer to another question is none.
pub fn accept(
    subject: &Subject,
    message: &proto::Attestation,
    now_s: u64,
    longest_s: u64,
) -> Result<Answer, Disbelief> {
    if Uuid::try_parse(&message.request_id) != Ok(subject.request_id) {
        return Err(Disbelief::OtherRequest);
    }
    let verdict = match message.verdict() {
        proto::Verdict::Pass => Verdict::Pass,
        proto::Verdict::Veto => Verdict::Veto,
        proto::Verdict::Undecided if message.reason == AWAY => {
            return Ok(Answer::Away { detail: message.detail.clone() });
        }
        proto::Verdict::Undecided => {
            return Ok(Answer::Undecided { reason: message.reason.clone(), detail: message.detail.clone() });
        }
        proto::Verdict::Unspecified => return Err(Unreadable("verdict").into()),
    };
    let judgement = Judgement {
        verdict,
        block_number: message.block_number,
        block_hash: parsed(&message.block_hash, "block_hash")?,
        ruleset: parsed(&message.ruleset, "ruleset")?,
        expires_at_s: message.expires_at_s,
    };
    let attestation = Attestation::of(subject, judgement);
    if parsed::<B256>(&message.hash, "hash")? != attestation.hash {
        return Err(Disbelief::Hash);
    }
    if judgement.expires_at_s <= now_s {
        return Err(Disbelief::Expired);
    }
    if judgement.expires_at_s > now_s.saturating_add(longest_s) {
        return Err(Disbelief::TooLong);
    }
    let presumed_keys =
        message.presumed_keys.iter().map(|key| parsed(key, "presumed_keys")).collect::<Result<_, _>>()?;
    Ok(Answer::Judged { attestation, reason: message.reason.clone(), detail: message.detail.clone(), presumed_keys })
}

fn parsed<T: std::str::FromStr>(text: &str, what: &'static str) -> Result<T, Unreadable> {
    text.parse().map_err(|_| Unreadable(what))
}

fn bytes(text: &str, what: &'static str) -> Result<Bytes, Unreadable> {
    hex::decode(text).map(Bytes::from).map_err(|_| Unreadable(what))
}

fn serde_json_of(json: &str) -> Option<Box<TypedData>> {
    serde_json::from_str(json).ok().map(Box::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> proto::Subject {
        proto::Subject {
            request_id: Uuid::from_u128(7).to_string(),
            tenant: "bank".to_owned(),
            chain_id: 1,
            sender: Address::repeat_byte(1).to_string(),
            content: Some(proto::subject::Content::Call(proto::Call {
                target: Address::repeat_byte(2).to_string(),
                value_wei: "0".to_owned(),
                data: "0xa9059cbb".to_owned(),
            })),
        }
    }

    fn answered(expires_at_s: u64) -> (Subject, proto::Attestation) {
        let (subject, _) = subject(&asked()).unwrap();
        let judgement = Judgement {
            verdict: Verdict::Pass,
            block_number: 1,
            block_hash: B256::repeat_byte(1),
            ruleset: B256::repeat_byte(2),
            expires_at_s,
        };
        let message = attested(subject.request_id, &Attestation::of(&subject, judgement), ("", ""), &[]);
        (subject, message)
    }

    #[test]
    fn an_honest_answer_is_believed() {
        let (subject, message) = answered(100);
        let Ok(Answer::Judged { attestation, .. }) = accept(&subject, &message, 50, 60) else { panic!("believed") };
        assert!(attestation.covers(&subject, 50));
    }

    #[test]
    fn a_chain_that_is_away_is_told_from_a_payload_that_cannot_be_judged() {
        let (subject, mut message) = answered(100);
        message.set_verdict(proto::Verdict::Undecided);
        message.reason = "CHAIN_UNAVAILABLE".to_owned();
        assert!(matches!(accept(&subject, &message, 50, 60), Ok(Answer::Undecided { .. })));
        message.reason = AWAY.to_owned();
        assert!(matches!(accept(&subject, &message, 50, 60), Ok(Answer::Away { .. })));
        message.set_verdict(proto::Verdict::Pass);
        assert!(matches!(accept(&subject, &message, 50, 60), Ok(Answer::Judged { .. })), "a reason decides nothing");
    }

    #[test]
    fn an_answer_that_does_not_fit_is_not_believed() {
        let (subject, message) = answered(100);
        assert_eq!(accept(&subject, &message, 100, 60), Err(Disbelief::Expired));
        assert_eq!(accept(&subject, &message, 10, 60), Err(Disbelief::TooLong));
        let other = Subject { request_id: Uuid::from_u128(8), ..subject.clone() };
        assert_eq!(accept(&other, &message, 50, 60), Err(Disbelief::OtherRequest));
        let renamed = proto::Attestation { request_id: other.request_id.to_string(), ..message.clone() };
        assert_eq!(accept(&other, &renamed, 50, 60), Err(Disbelief::Hash), "replayed under another id");
        let paid = Subject { content: B256::repeat_byte(9), ..subject.clone() };
        assert_eq!(accept(&paid, &message, 50, 60), Err(Disbelief::Hash), "another payload");
        let mut turned = message.clone();
        turned.set_verdict(proto::Verdict::Veto);
        assert_eq!(accept(&subject, &turned, 50, 60), Err(Disbelief::Hash));
        let longer = proto::Attestation { expires_at_s: 105, ..message };
        assert_eq!(accept(&subject, &longer, 50, 60), Err(Disbelief::Hash), "a life made longer");
    }

    #[test]
    fn the_content_is_hashed_from_what_is_to_be_signed() {
        let (subject, _) = subject(&asked()).unwrap();
        assert_eq!(subject.content, keccak256([0xa9, 0x05, 0x9c, 0xbb]));
        let unreadable = proto::Subject { content: None, ..asked() };
        assert_eq!(super::subject(&unreadable).unwrap_err(), Unreadable("content"));
    }
}
