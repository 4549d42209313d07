//! EIP-712 documents that keys of issuers sign for our contracts.
use alloy::primitives::{Address, B256};
use alloy::sol_types::{Eip712Domain, SolStruct, eip712_domain};

use crate::bindings::IssuerSignedScalarFeed::FeedUpdate;

/// Domain of a feed: the signature counts on one chain, for one feed.
pub fn feed_domain(chain_id: u64, feed: Address) -> Eip712Domain {
    eip712_domain! {
        name: "IssuerSignedScalarFeed",
        version: "1",
        chain_id: chain_id,
        verifying_contract: feed,
    }
}

/// What a CLAIM key of the issuer signs for `feed`; equal to `IssuerSignedScalarFeed.digestOf`.
pub fn feed_update_digest(chain_id: u64, feed: Address, update: &FeedUpdate) -> B256 {
    update.eip712_signing_hash(&feed_domain(chain_id, feed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::topic_id;
    use alloy::primitives::{I256, U256, address, b256, keccak256};

    #[test]
    fn the_document_has_the_fields_of_the_requirement() {
        assert_eq!(
            FeedUpdate::eip712_encode_type(),
            "FeedUpdate(uint256 topicId,bytes32 schemaHash,int256 value,uint256 observedAt,uint256 nonce,uint256 deadline)"
        );
    }

    /// The same document at the same place as in `test/feeds/IssuerSignedScalarFeed.t.sol`.
    #[test]
    fn the_digest_equals_the_contracts() {
        let update = FeedUpdate {
            topicId: topic_id("price"),
            schemaHash: keccak256("(int256 value)"),
            value: I256::try_from(-15_000).unwrap(),
            observedAt: U256::from(1_800_000_000_u64),
            nonce: U256::from(1),
            deadline: U256::from(1_800_000_600_u64),
        };
        let feed = address!("0x000000000000000000000000000000000000feed");
        assert_eq!(
            feed_update_digest(31_337, feed, &update),
            b256!("0x2db30418114ff173189f1399ba0f5db950706a8ecb3e24d7e37921c0a8e01c80")
        );
    }
}
