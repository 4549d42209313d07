//! Claims: signed by the issuer's claim key, then added to the subject's identity; revoked at the issuer by digest.

use super::{Moves, Sent, call, single_transaction};
use crate::domain::{
    claim::{SCHEME_ECDSA, with_expiry},
    identity::{IssueClaim, RevokeClaim},
};
use alloy::primitives::{Address, B256, U256};
use dalp_contracts::bindings::Identity;
use dalp_engine::{Cx, Flow, SignDocument, Step};
use serde::{Deserialize, Serialize};

/// `claim.issue`.
pub struct IssueClaimFlow;

/// A claim to sign and add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueClaimOrder {
    /// Where.
    pub chain_id: u64,
    /// Identity of the issuer.
    pub issuer_identity: Address,
    /// Identity of the subject.
    pub subject_identity: Address,
    /// What was asked for.
    pub command: IssueClaim,
}

/// A claim to revoke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeClaimOrder {
    /// Where.
    pub chain_id: u64,
    /// Identity of the issuer.
    pub issuer_identity: Address,
    /// Digest of (identity, topic, data).
    pub digest: B256,
    /// What was asked for.
    pub command: RevokeClaim,
}

impl Flow for IssueClaimFlow {
    const KIND: &'static str = "claim.issue";
    type Order = IssueClaimOrder;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, IssueClaimOrder>) -> Step<Sent> {
        let order = cx.order();
        let command = &order.command;
        let data = with_expiry(command.expires_at, &command.data);
        let topic = command.topic.id();
        let signature = cx.sign("sign", || SignDocument::Claim {
            signer: command.issuer,
            identity: order.subject_identity,
            topic: B256::from(topic.to_be_bytes::<32>()),
            data: data.clone(),
        })?;
        let add = Identity::addClaimCall {
            topic,
            scheme: U256::from(SCHEME_ECDSA),
            issuer: order.issuer_identity,
            signature: signature.0,
            data,
            uri: String::new(),
        };
        let mined = cx.transact("add_claim", || call(order.chain_id, command.issuer, order.subject_identity, &add))?;
        cx.done(mined.into())
    }
}

impl Moves for RevokeClaimOrder {}

single_transaction! {
    /// `claim.revoke`.
    RevokeClaimFlow = "claim.revoke", RevokeClaimOrder, "revoke", |order| {
        let revoke = Identity::revokeClaim_1Call { digest: order.digest };
        call(order.chain_id, order.command.issuer, order.issuer_identity, &revoke)
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::claim::TopicName, flows::replay::play};
    use alloy::{primitives::Bytes, sol_types::SolCall as _};
    use dalp_engine::flow::Verdict;

    #[test]
    fn a_claim_is_signed_before_it_is_added() {
        let order = IssueClaimOrder {
            chain_id: 1,
            issuer_identity: Address::repeat_byte(1),
            subject_identity: Address::repeat_byte(2),
            command: IssueClaim {
                issuer: Address::repeat_byte(3),
                subject: Address::repeat_byte(4),
                topic: TopicName::unchecked("kyc"),
                data: Bytes::from_static(b"x"),
                expires_at: 5,
            },
        };
        let played = play::<IssueClaimFlow>(&order, |_| Ok(vec![]));
        assert!(matches!(played.verdict, Verdict::Done(_)));
        let SignDocument::Claim { signer, identity, data, .. } = &played.documents[0].1 else { panic!("a claim") };
        assert_eq!((*signer, *identity), (Address::repeat_byte(3), Address::repeat_byte(2)));
        let sent = Identity::addClaimCall::abi_decode(&played.calls[0].1.data).expect("addClaim");
        assert_eq!((&sent.data, sent.signature.len()), (data, 65));
    }
}
