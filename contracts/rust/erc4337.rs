//! User operations of ERC-4337, as the standard's entry point v0.8 takes them. Written from the standard; nothing of an entry point's code is in it.

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::sol_types::{Eip712Domain, SolStruct, eip712_domain};

/// The interface of an entry point.
#[allow(missing_docs, unreachable_pub, clippy::all)] // its members are the standard's
pub mod interface {
    alloy::sol! {
        #[derive(Debug, PartialEq, Eq)]
        struct PackedUserOperation {
            address sender;
            uint256 nonce;
            bytes initCode;
            bytes callData;
            bytes32 accountGasLimits;
            uint256 preVerificationGas;
            bytes32 gasFees;
            bytes paymasterAndData;
            bytes signature;
        }

        struct AggregatedUserOperations {
            PackedUserOperation[] userOps;
            address aggregator;
            bytes signature;
        }

        interface EntryPoint {
            event UserOperationEvent(bytes32 indexed userOpHash, address indexed sender, address indexed paymaster, uint256 nonce, bool success, uint256 actualGasCost, uint256 actualGasUsed);
            event UserOperationRevertReason(bytes32 indexed userOpHash, address indexed sender, uint256 nonce, bytes revertReason);

            error FailedOp(uint256 opIndex, string reason);
            error FailedOpWithRevert(uint256 opIndex, string reason, bytes inner);

            function handleOps(PackedUserOperation[] calldata ops, address payable beneficiary) external;
            function handleAggregatedOps(AggregatedUserOperations[] calldata opsPerAggregator, address payable beneficiary) external;
            function getNonce(address sender, uint192 key) external view returns (uint256 nonce);
            function getUserOpHash(PackedUserOperation calldata userOp) external view returns (bytes32);
        }
    }
}

/// What is signed of a user operation.
mod signed {
    alloy::sol! {
        #[allow(missing_docs)] // the standard's
        struct PackedUserOperation {
            address sender;
            uint256 nonce;
            bytes initCode;
            bytes callData;
            bytes32 accountGasLimits;
            uint256 preVerificationGas;
            bytes32 gasFees;
            bytes paymasterAndData;
        }
    }
}

/// Name of the domain under which user operations are signed.
pub const DOMAIN_NAME: &str = "ERC4337";
/// Its version.
pub const DOMAIN_VERSION: &str = "1";

/// The EIP-712 type of a user operation.
#[must_use]
pub fn encode_type() -> String {
    signed::PackedUserOperation::eip712_encode_type().into_owned()
}

/// Domain of an entry point.
#[must_use]
pub fn domain(chain_id: u64, entry_point: Address) -> Eip712Domain {
    eip712_domain! {
        name: DOMAIN_NAME,
        version: DOMAIN_VERSION,
        chain_id: chain_id,
        verifying_contract: entry_point,
    }
}

/// What an account's signers sign; equal to the entry point's `getUserOpHash`. The signature that stands in the operation is no part of it.
#[must_use]
pub fn user_operation_hash(chain_id: u64, entry_point: Address, operation: &interface::PackedUserOperation) -> B256 {
    let signed = signed::PackedUserOperation {
        sender: operation.sender,
        nonce: operation.nonce,
        initCode: operation.initCode.clone(),
        callData: operation.callData.clone(),
        accountGasLimits: operation.accountGasLimits,
        preVerificationGas: operation.preVerificationGas,
        gasFees: operation.gasFees,
        paymasterAndData: operation.paymasterAndData.clone(),
    };
    signed.eip712_signing_hash(&domain(chain_id, entry_point))
}

/// A user operation that pays nothing to whoever submits it, makes no account and has no paymaster.
#[must_use]
pub fn free_of_charge(
    account: Address,
    nonce: U256,
    call_data: Bytes,
    verification_gas_limit: u64,
    call_gas_limit: u64,
) -> interface::PackedUserOperation {
    let limits: U256 = (U256::from(verification_gas_limit) << 128) | U256::from(call_gas_limit);
    interface::PackedUserOperation {
        sender: account,
        nonce,
        initCode: Bytes::new(),
        callData: call_data,
        accountGasLimits: limits.into(),
        preVerificationGas: U256::ZERO,
        gasFees: B256::ZERO,
        paymasterAndData: Bytes::new(),
        signature: Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployer::ENTRY_POINT;
    use alloy::primitives::keccak256;

    #[test]
    fn the_type_is_the_standards() {
        let text = "PackedUserOperation(address sender,uint256 nonce,bytes initCode,bytes callData,bytes32 accountGasLimits,uint256 preVerificationGas,bytes32 gasFees,bytes paymasterAndData)";
        assert_eq!(encode_type(), text);
        // `PACKED_USEROP_TYPEHASH` of the standard's entry point.
        let known = "0x29a0bca4af4be3421398da00295e58e6d7de38cb492214754cb6a47507dd6f8e";
        assert_eq!(keccak256(text).to_string(), known);
    }

    #[test]
    fn everything_but_the_signature_is_signed() {
        let account = Address::repeat_byte(1);
        let made = free_of_charge(account, U256::from(7), Bytes::from_static(&[1]), 2, 3);
        let hash = |operation: &interface::PackedUserOperation| user_operation_hash(1, ENTRY_POINT, operation);
        let changed = |change: &dyn Fn(&mut interface::PackedUserOperation)| {
            let mut other = made.clone();
            change(&mut other);
            hash(&other) != hash(&made)
        };
        assert!(changed(&|one| one.nonce = U256::from(8)));
        assert!(changed(&|one| one.callData = Bytes::new()));
        assert!(changed(&|one| one.gasFees = B256::with_last_byte(1)));
        assert!(changed(&|one| one.initCode = Bytes::from_static(&[1])));
        assert!(changed(&|one| one.paymasterAndData = Bytes::from_static(&[1])));
        assert!(!changed(&|one| one.signature = Bytes::from_static(&[1])));
        assert_ne!(user_operation_hash(2, ENTRY_POINT, &made), hash(&made));
        assert_eq!(made.accountGasLimits[15], 2);
        assert_eq!(made.accountGasLimits[31], 3);
    }
}
