//! One update: signed, then submitted. Signed anew when somebody outside used its nonce in between.

use super::{accepted, always_overtaken, call, expected_nonce, sign_step, submit_step};
use crate::domain::update::{SubmitSigned, SubmitUpdate, Update};
use alloy::primitives::{Address, B256, Bytes, U256};
use dalp_contracts::bindings::IssuerSignedScalarFeed::submitCall;
use dalp_engine::{Call, Cx, Failure, Flow, Mined, SignDocument, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};

/// `feed.submit`.
pub struct SubmitUpdateFlow;
/// `feed.submit_signed`.
pub struct SubmitSignedFlow;

/// A value to sign and submit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateOrder {
    /// Where.
    pub chain_id: u64,
    /// Identity of the issuer.
    pub issuer_identity: Address,
    /// Topic of the feed.
    pub topic_id: U256,
    /// Hash of the topic's schema.
    pub schema_hash: B256,
    /// The nonce that stood next when the update was accepted.
    pub nonce: u64,
    /// What was asked for.
    pub command: SubmitUpdate,
}

/// An update that was signed outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedOrder {
    /// Where.
    pub chain_id: u64,
    /// What was asked for.
    pub command: SubmitSigned,
}

/// An accepted update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateAccepted {
    /// The round it made.
    pub round_id: String,
    /// The nonce it carried.
    pub nonce: u64,
    /// Transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

impl Flow for SubmitUpdateFlow {
    const KIND: &'static str = "feed.submit";
    type Order = UpdateOrder;
    type Outcome = UpdateAccepted;

    fn run(cx: &mut Cx<'_, UpdateOrder>) -> Step<UpdateAccepted> {
        let order = cx.order();
        let (chain_id, command) = (order.chain_id, &order.command);
        let feed = command.observation.feed;
        let mut nonce = order.nonce;
        for attempt in 0..super::ATTEMPTS {
            let update = order.update(nonce);
            let document =
                || SignDocument::Eip712 { signer: command.signer, document: update.document(chain_id, feed) };
            let refusal = match cx.try_sign(&sign_step(0, attempt), document)? {
                Err(refusal) => refusal,
                Ok(signature) => {
                    let submit =
                        || submission(chain_id, command.sender, feed, order.issuer_identity, &update, signature.0);
                    match cx.try_transact(&submit_step(attempt), submit)? {
                        Ok(mined) => return done(cx, mined, feed, nonce),
                        Err(refusal) => refusal,
                    }
                }
            };
            match expected_nonce(&refusal) {
                Some(expected) => nonce = expected,
                None => return cx.fail(refusal),
            }
        }
        cx.fail(always_overtaken())
    }
}

impl Flow for SubmitSignedFlow {
    const KIND: &'static str = "feed.submit_signed";
    type Order = SignedOrder;
    type Outcome = UpdateAccepted;

    fn run(cx: &mut Cx<'_, SignedOrder>) -> Step<UpdateAccepted> {
        let SignedOrder { chain_id, command } = cx.order();
        let mined = cx.transact(&submit_step(0), || {
            let SubmitSigned { sender, feed, issuer, update, signature } = command.clone();
            submission(*chain_id, sender, feed, issuer, &update, signature)
        })?;
        done(cx, mined, command.feed, command.update.nonce)
    }
}

fn submission(
    chain_id: u64,
    sender: Address,
    feed: Address,
    issuer: Address,
    update: &Update,
    signature: Bytes,
) -> Call {
    call(chain_id, sender, feed, &submitCall { issuer, update: update.on_chain(), signature })
}

fn done<O>(cx: &Cx<'_, O>, mined: Mined, feed: Address, nonce: u64) -> Step<UpdateAccepted> {
    match accepted(&mined.logs, feed) {
        Some(event) => cx.done(UpdateAccepted {
            round_id: event.roundId.to_string(),
            nonce,
            tx_hash: mined.tx_hash,
            block_number: mined.block_number,
        }),
        None => cx.fail(Failure::new(Reason::Internal.as_str(), "the feed told of no round")),
    }
}

// === impl UpdateOrder ===

impl UpdateOrder {
    fn update(&self, nonce: u64) -> Update {
        let SubmitUpdate { observation, deadline, .. } = self.command;
        Update {
            topic_id: self.topic_id,
            schema_hash: self.schema_hash,
            value: observation.value,
            observed_at: observation.observed_at,
            nonce,
            deadline: U256::from(deadline),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::update::Observation,
        flows::{
            nonce_refused,
            replay::{World, log, play},
        },
    };
    use alloy::{primitives::I256, sol_types::SolCall as _};
    use dalp_contracts::bindings::IssuerSignedScalarFeed::FeedUpdated;
    use dalp_engine::flow::Verdict;

    const FEED: Address = Address::repeat_byte(0xfe);

    fn order() -> UpdateOrder {
        UpdateOrder {
            chain_id: 1,
            issuer_identity: Address::repeat_byte(2),
            topic_id: U256::from(5),
            schema_hash: B256::repeat_byte(3),
            nonce: 4,
            command: SubmitUpdate {
                sender: Address::repeat_byte(7),
                issuer: Address::repeat_byte(8),
                signer: Address::repeat_byte(9),
                deadline: 0,
                observation: Observation { feed: FEED, value: I256::MINUS_ONE, observed_at: 100 },
            },
        }
    }

    fn round() -> Result<Vec<dalp_chain::Log>, Failure> {
        let event = FeedUpdated {
            issuer: Address::repeat_byte(2),
            roundId: alloy::primitives::Uint::from(11),
            value: I256::MINUS_ONE,
            observedAt: U256::from(100),
            nonce: U256::from(4),
            deadline: U256::ZERO,
            signature: Bytes::new(),
        };
        Ok(vec![log(FEED, &event)])
    }

    #[test]
    fn an_update_is_signed_and_submitted() {
        let played = play::<SubmitUpdateFlow>(&order(), &World { sign: |_: &str| Ok(()), transact: |_: &str| round() });
        let Verdict::Done(result) = played.verdict else { panic!("{:?}", played.verdict) };
        assert_eq!((result["round_id"].as_str(), result["nonce"].as_u64()), (Some("11"), Some(4)));
        assert_eq!(played.documents[0].1.signer(), Address::repeat_byte(9));
        let sent = submitCall::abi_decode(&played.calls[0].1.data).unwrap();
        assert_eq!(
            (sent.issuer, sent.update.nonce, sent.signature.len()),
            (Address::repeat_byte(2), U256::from(4), 65)
        );
    }

    #[test]
    fn a_lost_nonce_is_signed_anew_wherever_it_was_lost() {
        let world = World {
            sign: |name: &str| if name == "sign/0/0" { Err(nonce_refused(6, 4)) } else { Ok(()) },
            transact: |name: &str| if name == "submit/1" { Err(nonce_refused(7, 6)) } else { round() },
        };
        let played = play::<SubmitUpdateFlow>(&order(), &world);
        assert!(matches!(played.verdict, Verdict::Done(_)), "{:?}", played.verdict);
        let names: Vec<_> = played.documents.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sign/0/0", "sign/0/1", "sign/0/2"]);
        let nonces: Vec<_> =
            played.calls.iter().map(|(_, call)| submitCall::abi_decode(&call.data).unwrap().update.nonce).collect();
        assert_eq!(nonces, [U256::from(6), U256::from(7)]);
    }

    #[test]
    fn another_refusal_is_the_caller_s_and_a_lost_race_ends() {
        let stale = || Failure::new("FEED_OBSERVATION_INVALID", "no").with("expected", 9);
        let refused = World { sign: |_: &str| Ok(()), transact: |_: &str| Err(stale()) };
        let played = play::<SubmitUpdateFlow>(&order(), &refused);
        assert_eq!((played.verdict, played.calls.len()), (Verdict::Failed(stale()), 1));
        let denied = World { sign: |_: &str| Err(Failure::new("POLICY_DENIED", "no")), transact: |_: &str| round() };
        let played = play::<SubmitUpdateFlow>(&order(), &denied);
        assert!(matches!(played.verdict, Verdict::Failed(failure) if failure.reason == "POLICY_DENIED"));
        let never = World { sign: |_: &str| Err(nonce_refused(6, 4)), transact: |_: &str| round() };
        let played = play::<SubmitUpdateFlow>(&order(), &never);
        assert_eq!(played.documents.len(), super::super::ATTEMPTS as usize);
        assert!(matches!(played.verdict, Verdict::Failed(failure) if failure.reason == "CONFLICT"));
    }
}
