//! User operations: what an account's signers sign, and how their signatures go with it. Pure.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol_types::SolValue as _,
};
use dalp_contracts::erc4337::{
    DOMAIN_NAME, DOMAIN_VERSION, free_of_charge,
    interface::{EntryPoint::handleOpsCall, PackedUserOperation},
    user_operation_hash,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// Gas of a verification beside its signatures.
const VERIFICATION_GAS: u64 = 150_000;
/// Gas of one signature, also of one that a contract verifies.
const GAS_OF_A_SIGNATURE: u64 = 100_000;
/// What any transaction costs, and a call of the entry point does not.
const TRANSACTION_GAS: u64 = 21_000;
/// The largest deadline that a nonce has room for.
pub const DEADLINE_MAX_S: u64 = (1 << 48) - 1;

/// A user operation without its signatures. It pays nothing to whoever submits it: the platform's sender bears the gas, so the account needs neither a
/// deposit nor a balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserOperation {
    /// EIP-155 id.
    pub chain_id: u64,
    /// The entry point that the account obeys.
    pub entry_point: Address,
    /// The account.
    pub wallet: Address,
    /// Deadline, what tells it from others, and a sequence that is always zero.
    pub nonce: U256,
    /// What the account is told.
    pub call_data: Bytes,
    /// Gas of that.
    pub call_gas_limit: u64,
    /// Gas of looking at the signatures.
    pub verification_gas_limit: u64,
}

/// A signature with whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// Who.
    pub signer: Address,
    /// Over the hash.
    pub signature: Bytes,
}

/// The nonce of a user operation: each has a sequence of its own, so none waits for another, and the account takes it until the deadline only.
#[must_use]
pub fn nonce(deadline_s: u64, unique: Uuid) -> U256 {
    (U256::from(deadline_s.min(DEADLINE_MAX_S)) << 208) | (U256::from(unique.as_u128()) << 64)
}

/// Gas that verifying so many signers takes, amply.
#[must_use]
pub fn verification_gas(signers: usize) -> u64 {
    VERIFICATION_GAS + GAS_OF_A_SIGNATURE * signers as u64
}

/// The limit for calls that took so much gas as a transaction of their own: half as much again, for what changes until they are made.
#[must_use]
pub fn call_gas(estimated: u64) -> u64 {
    let calls = estimated.saturating_sub(TRANSACTION_GAS);
    calls.saturating_add(calls / 2).saturating_add(50_000)
}

/// Signatures as an account with several signers takes them: in the order of their signers' hashes.
#[must_use]
pub fn together(mut signed: Vec<Signed>) -> Bytes {
    signed.sort_by_key(|one| keccak256(one.signer));
    let (signers, signatures): (Vec<Bytes>, Vec<Bytes>) =
        signed.into_iter().map(|one| (Bytes::copy_from_slice(one.signer.as_slice()), one.signature)).unzip();
    (signers, signatures).abi_encode_params().into()
}

// === impl UserOperation ===

impl UserOperation {
    /// As the entry point takes it, without signatures.
    #[must_use]
    pub fn packed(&self) -> PackedUserOperation {
        free_of_charge(
            self.wallet,
            self.nonce,
            self.call_data.clone(),
            self.verification_gas_limit,
            self.call_gas_limit,
        )
    }

    /// What its signers sign.
    #[must_use]
    pub fn hash(&self) -> B256 {
        user_operation_hash(self.chain_id, self.entry_point, &self.packed())
    }

    /// The nonce's key, which the entry point counts under.
    #[must_use]
    pub fn nonce_key(&self) -> U256 {
        self.nonce >> 64
    }

    /// Unix seconds until which the account takes it.
    #[must_use]
    pub fn deadline_s(&self) -> u64 {
        let deadline: U256 = self.nonce >> 208;
        deadline.to()
    }

    /// The call that carries it out; whatever it paid would go to who sends.
    #[must_use]
    pub fn handle(&self, signed: Vec<Signed>, sender: Address) -> handleOpsCall {
        let packed = PackedUserOperation { signature: together(signed), ..self.packed() };
        handleOpsCall { ops: vec![packed], beneficiary: sender }
    }

    /// The EIP-712 document that is signed.
    #[must_use]
    pub fn document(&self) -> Value {
        let field = |name: &str, of: &str| json!({"name": name, "type": of});
        let packed = self.packed();
        json!({
            "types": {
                "EIP712Domain": [
                    field("name", "string"),
                    field("version", "string"),
                    field("chainId", "uint256"),
                    field("verifyingContract", "address"),
                ],
                "PackedUserOperation": [
                    field("sender", "address"),
                    field("nonce", "uint256"),
                    field("initCode", "bytes"),
                    field("callData", "bytes"),
                    field("accountGasLimits", "bytes32"),
                    field("preVerificationGas", "uint256"),
                    field("gasFees", "bytes32"),
                    field("paymasterAndData", "bytes"),
                ],
            },
            "primaryType": "PackedUserOperation",
            "domain": {
                "name": DOMAIN_NAME,
                "version": DOMAIN_VERSION,
                "chainId": self.chain_id,
                "verifyingContract": self.entry_point.to_checksum(None),
            },
            "message": {
                "sender": packed.sender.to_checksum(None),
                "nonce": packed.nonce.to_string(),
                "initCode": packed.initCode.to_string(),
                "callData": packed.callData.to_string(),
                "accountGasLimits": packed.accountGasLimits.to_string(),
                "preVerificationGas": packed.preVerificationGas.to_string(),
                "gasFees": packed.gasFees.to_string(),
                "paymasterAndData": packed.paymasterAndData.to_string(),
            },
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloy::{dyn_abi::TypedData, sol_types::SolCall as _};
    use dalp_contracts::deployer::ENTRY_POINT;

    pub(crate) fn some(call_data: Bytes) -> UserOperation {
        UserOperation {
            chain_id: 31_337,
            entry_point: ENTRY_POINT,
            wallet: Address::repeat_byte(0xaa),
            nonce: nonce(1_900_000_000, Uuid::from_u128(7)),
            call_data,
            call_gas_limit: 100_000,
            verification_gas_limit: 300_000,
        }
    }

    #[test]
    fn the_document_has_the_hash_of_the_operation() {
        let operation = some(Bytes::from_static(&[1, 2, 3]));
        let document: TypedData = serde_json::from_value(operation.document()).unwrap();
        assert_eq!(document.eip712_signing_hash().unwrap(), operation.hash());
        assert_eq!(document.encode_type().unwrap(), dalp_contracts::erc4337::encode_type());
    }

    #[test]
    fn a_nonce_carries_the_deadline_and_tells_operations_apart() {
        let operation = some(Bytes::new());
        assert_eq!(operation.deadline_s(), 1_900_000_000);
        assert_eq!(operation.nonce & U256::from(u64::MAX), U256::ZERO, "the first of its sequence");
        let deadline: U256 = operation.nonce_key() >> 144;
        assert_eq!(deadline, U256::from(1_900_000_000_u64));
        let [one, other] = [1, 2].map(|unique| nonce(9, Uuid::from_u128(unique)));
        assert_ne!(one, other);
        assert_eq!(nonce(u64::MAX, Uuid::from_u128(u128::MAX)) >> 208, U256::from(DEADLINE_MAX_S));
        assert_eq!(
            (nonce(0, Uuid::from_u128(u128::MAX)) >> 208),
            U256::ZERO,
            "what tells it apart stays below the deadline"
        );
    }

    #[test]
    fn signatures_stand_in_the_order_of_their_signers_hashes() {
        let signed = |byte| Signed { signer: Address::repeat_byte(byte), signature: Bytes::from(vec![byte; 65]) };
        let all = [signed(1), signed(2), signed(3)];
        let packed = together(all.to_vec());
        let mut turned = all.to_vec();
        turned.reverse();
        assert_eq!(together(turned), packed);
        let (signers, signatures) = <(Vec<Bytes>, Vec<Bytes>)>::abi_decode_params(&packed).unwrap();
        let hashes: Vec<B256> = signers.iter().map(keccak256).collect();
        assert!(hashes.is_sorted());
        for (signer, signature) in signers.iter().zip(&signatures) {
            assert_eq!(signer[0], signature[0], "each with its own");
        }
    }

    #[test]
    fn what_is_sent_pays_nothing() {
        let sender = Address::repeat_byte(5);
        let call = some(Bytes::from_static(&[9])).handle(vec![], sender);
        let [operation] = &call.ops[..] else { panic!("one") };
        assert!(operation.gasFees.is_zero() && operation.preVerificationGas.is_zero());
        assert!(operation.initCode.is_empty() && operation.paymasterAndData.is_empty());
        assert_eq!(call.beneficiary, sender);
        assert_eq!(handleOpsCall::abi_decode(&call.abi_encode()).unwrap().ops, call.ops);
    }

    #[test]
    fn gas_is_ample() {
        assert_eq!(call_gas(121_000), 200_000);
        assert_eq!(call_gas(0), 50_000);
        assert!(verification_gas(32) > verification_gas(1));
    }
}
