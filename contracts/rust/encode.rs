//! Encodings the contracts expect inside `bytes` arguments: rule parameters and claim data.
use alloy::primitives::{Address, B256, Bytes, U256, eip191_hash_message, keccak256};
use alloy::sol_types::SolValue;

mod rules;
pub use rules::*;

/// Id of a claim topic: keccak-256 of its name.
pub fn topic_id(name: &str) -> U256 {
    U256::from_be_bytes(keccak256(name.as_bytes()).0)
}

/// Claim data in the envelope that carries the expiry (unix seconds, `None` never expires) inside what the issuer signs.
pub fn claim_data(expires_at_s: Option<u64>, payload: &[u8]) -> Bytes {
    let tag = keccak256(b"dalp.claim.v1");
    let mut data = Vec::with_capacity(16 + payload.len());
    data.extend_from_slice(&tag[..8]);
    data.extend_from_slice(&expires_at_s.unwrap_or(0).to_be_bytes());
    data.extend_from_slice(payload);
    data.into()
}

/// What an issuer revokes: the digest of (identity, topic, data).
pub fn claim_digest(identity: Address, topic: U256, data: &Bytes) -> B256 {
    keccak256((identity, topic, data.clone()).abi_encode_params())
}

/// What an issuer's CLAIM key signs: the digest as an eth-signed message.
pub fn claim_signing_hash(identity: Address, topic: U256, data: &Bytes) -> B256 {
    eip191_hash_message(claim_digest(identity, topic, data))
}

/// ERC-735 claim id.
pub fn claim_id(issuer: Address, topic: U256) -> B256 {
    keccak256((issuer, topic).abi_encode())
}

/// ERC-734 key of an account.
pub fn key_of(account: Address) -> B256 {
    keccak256(account.abi_encode())
}

/// Leaf of an airdrop's tree: what `StandardMerkleTree` of @openzeppelin/merkle-tree hashes a row
/// `["uint256", "address", "uint256"]` to. Hashed twice, so that an inner node can never pass for a leaf.
pub fn airdrop_leaf(index: U256, account: Address, amount: U256) -> B256 {
    keccak256(keccak256((index, account, amount).abi_encode()))
}

/// Leaf of a presale's allow-list: a row `["address"]` of the same kind of tree.
pub fn allow_list_leaf(account: Address) -> B256 {
    keccak256(keccak256(account.abi_encode()))
}

/// Inner node of such a tree; the order of the children does not matter.
pub fn merkle_node(left: B256, right: B256) -> B256 {
    let (low, high) = if left <= right { (left, right) } else { (right, left) };
    keccak256([low.0, high.0].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::{address, b256};

    #[test]
    fn digest_and_key_are_those_of_abi_encode() {
        let identity = address!("0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045");
        let topic = topic_id("kyc");
        // abi.encode(address, uint256, bytes): two words, offset 0x60, length, padded bytes.
        let mut expected = vec![0; 12];
        expected.extend(identity);
        expected.extend(topic.to_be_bytes::<32>());
        expected.extend(U256::from(0x60).to_be_bytes::<32>());
        expected.extend(U256::from(2).to_be_bytes::<32>());
        expected.extend([0xab, 0xcd]);
        expected.extend([0; 30]);
        assert_eq!(claim_digest(identity, topic, &Bytes::from_static(&[0xab, 0xcd])), keccak256(&expected));
        let mut key = vec![0; 12];
        key.extend(identity);
        assert_eq!(key_of(identity), keccak256(&key));
    }

    /// Made with @openzeppelin/merkle-tree 1.0.8: seven rows [i, 0xa0000 + i, 1000 (i + 1)]; the proof is row 3's in the tree
    /// with unsorted leaves. `test/Distribution.t.sol` holds the contract to the same vectors.
    #[test]
    fn leaves_and_nodes_are_those_of_openzeppelin() {
        let account = Address::from_word(U256::from(0xa0003).into());
        let leaf = airdrop_leaf(U256::from(3), account, U256::from(4000));
        assert_eq!(leaf, b256!("0x8122845a30f6981e282776b566c8e29fdeed0eaae1ff62e94350ff2b4cb7fe15"));
        let proof = [
            b256!("0xd11770a2a0a393739a5bdd5cdeec5165ae06a8f5cb74f2c502144b20b3d65250"),
            b256!("0xe7eef11a9c641f9986a26bbe95832005d4e863f363b90c81292eae0691cf9f57"),
            b256!("0xc21f44c65b18a833395b98b34342883c6590f26e34a02b74285a76f25736cc9d"),
        ];
        let root = proof.into_iter().fold(leaf, merkle_node);
        assert_eq!(root, b256!("0xc6b9e1caba9e45c023012f5244d1e4dca873f32ebbca73ec84214a75d1c4de7f"));
        assert_eq!(
            allow_list_leaf(Address::repeat_byte(0xa1)),
            b256!("0x00852f79cf8e382b2134c27d3a4da0202329cd98c5cf68be50690c490a944bcc")
        );
    }
}
