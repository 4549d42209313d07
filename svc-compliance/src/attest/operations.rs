//! User operations of smart wallets: what they do, read from their fields alone. Pure. Each call in one is judged like a call that its wallet makes; whatever
//! else a user operation could carry (a wallet to create, a paymaster, a price) is refused.

use super::{
    acts::Act,
    ruling::{FUNCTION_FORBIDDEN, TOO_MANY_PARTIES, VALUE_FORBIDDEN, Veto, veto},
};
use alloy::{
    dyn_abi::TypedData,
    primitives::{Address, B256, Bytes, U256},
    sol_types::SolCall as _,
};
use dalp_contracts::{
    bindings::SmartAccount,
    deployer::ENTRY_POINT,
    erc4337::{
        encode_type,
        interface::{
            EntryPoint::{handleAggregatedOpsCall, handleOpsCall},
            PackedUserOperation,
        },
        user_operation_hash,
    },
};
use serde::Deserialize;

/// Calls of one user operation.
const CALLS_MAX: usize = 32;
/// User operations of one transaction.
const OPERATIONS_MAX: usize = 1;
/// How far ahead of the latest block a deadline may lie, in seconds: the service's own bound, and what two views of the latest block may differ by.
const DEADLINE_AHEAD_MAX_S: u64 = 90 * 86_400 + 3_600;
/// The most gas of the calls, and of the verification: the service's own bounds.
const CALL_GAS_MAX: u128 = 30_000_000;
const VERIFICATION_GAS_MAX: u128 = 10_000_000;

/// A user operation that is looked at call by call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// Whose calls they are.
    pub wallet: Address,
    /// Until when, in Unix seconds.
    pub deadline_s: u64,
    /// What the wallet is told, as a whole.
    pub call_data: Bytes,
    /// In order.
    pub calls: Vec<OrderedCall>,
}

/// One call that a wallet makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedCall {
    /// Whom.
    pub to: Address,
    /// The chain's own currency.
    pub value_wei: U256,
    /// Calldata.
    pub data: Bytes,
}

/// What a wallet does to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnItself {
    /// From then on these sign.
    Signers(Vec<Bytes>),
    /// From then on this one may announce other signers; zero: nobody.
    Guardian(Address),
    /// What the guardian announced is withdrawn.
    CancelsRecovery,
}

/// The user operations that a call hands to the entry point. `None`: it is no such call.
pub fn handed_over(sender: Address, target: Address, data: &[u8]) -> Option<Result<Vec<Ordered>, Veto>> {
    if target != ENTRY_POINT || data.first_chunk::<4>() != Some(&handleOpsCall::SELECTOR) {
        return None;
    }
    let Ok(call) = handleOpsCall::abi_decode(data) else {
        return Some(Err(veto(FUNCTION_FORBIDDEN, "the user operations cannot be read".to_owned())));
    };
    if call.ops.is_empty() || call.ops.len() > OPERATIONS_MAX {
        let detail = "a transaction carries one user operation".to_owned();
        return Some(Err(veto(TOO_MANY_PARTIES, detail)));
    }
    if call.beneficiary != sender {
        let detail = format!("{} would be paid for the user operations of another sender", call.beneficiary);
        return Some(Err(veto(VALUE_FORBIDDEN, detail)));
    }
    Some(call.ops.iter().map(ordered).collect())
}

/// The user operation that a document lets its wallet carry out. `None`: it is no user operation for the entry point.
pub fn approved(document: &TypedData, chain_id: u64) -> Option<Result<Ordered, Veto>> {
    if document.encode_type().ok()? != encode_type() || document.domain.verifying_contract != Some(ENTRY_POINT) {
        return None;
    }
    let unreadable = || veto(FUNCTION_FORBIDDEN, "the user operation cannot be read".to_owned());
    let Ok(message) = serde_json::from_value::<Message>(document.message.clone()) else {
        return Some(Err(unreadable()));
    };
    let operation = message.packed();
    // What was read is what is signed, to the letter, on this chain.
    if document.eip712_signing_hash().ok()? != user_operation_hash(chain_id, ENTRY_POINT, &operation) {
        return Some(Err(unreadable()));
    }
    Some(ordered(&operation))
}

fn ordered(operation: &PackedUserOperation) -> Result<Ordered, Veto> {
    let forbidden = |detail: &str| Err(veto(FUNCTION_FORBIDDEN, detail.to_owned()));
    if !operation.initCode.is_empty() {
        return forbidden("a user operation that creates its wallet");
    }
    if !operation.paymasterAndData.is_empty() {
        return forbidden("a user operation with a paymaster");
    }
    if !operation.gasFees.is_zero() {
        let detail = "the wallet would pay for its user operation out of its own";
        return Err(veto(VALUE_FORBIDDEN, detail.to_owned()));
    }
    if !operation.preVerificationGas.is_zero() {
        return Err(veto(VALUE_FORBIDDEN, "the wallet would pay for more than its calls".to_owned()));
    }
    let gas: U256 = operation.accountGasLimits.into();
    let (verification, calls) = (gas >> 128, gas & U256::from(u128::MAX));
    if verification > U256::from(VERIFICATION_GAS_MAX) || calls > U256::from(CALL_GAS_MAX) {
        return forbidden("a user operation with more gas than the platform gives one");
    }
    if operation.nonce & U256::from(u64::MAX) != U256::ZERO {
        return forbidden("a user operation that follows another");
    }
    let deadline: U256 = operation.nonce >> 208;
    let told = operation.callData.first_chunk::<4>() == Some(&SmartAccount::executeCall::SELECTOR);
    let Some(told) = told.then(|| SmartAccount::executeCall::abi_decode(&operation.callData).ok()).flatten() else {
        return forbidden("a user operation that is no list of calls");
    };
    if told.calls.len() > CALLS_MAX {
        let detail = format!("a user operation makes at most {CALLS_MAX} calls");
        return Err(veto(TOO_MANY_PARTIES, detail));
    }
    let calls = told.calls.into_iter().map(|call| OrderedCall { to: call.to, value_wei: call.value, data: call.data });
    let (wallet, call_data) = (operation.sender, operation.callData.clone());
    Ok(Ordered { wallet, deadline_s: deadline.to(), call_data, calls: calls.collect() })
}

/// Whether a user operation ends soon enough. To the account a deadline of zero is none at all.
pub fn ends_in_time(ordered: &Ordered, now_s: u64) -> Result<(), Veto> {
    let deadline_s = ordered.deadline_s;
    if deadline_s > now_s && deadline_s <= now_s.saturating_add(DEADLINE_AHEAD_MAX_S) {
        return Ok(());
    }
    let detail =
        format!("a user operation until {deadline_s}, which is no deadline, over, or more than 90 days after {now_s}");
    Err(veto(FUNCTION_FORBIDDEN, detail))
}

/// What a wallet does to itself by a call. Of its functions only those that are listed here.
pub fn on_itself(call: &OrderedCall) -> Result<OnItself, Veto> {
    if !call.value_wei.is_zero() {
        return Err(veto(VALUE_FORBIDDEN, "a wallet pays itself nothing".to_owned()));
    }
    let of = |selector: [u8; 4]| call.data.first_chunk::<4>() == Some(&selector);
    let read = if of(SmartAccount::setOwnersCall::SELECTOR) {
        SmartAccount::setOwnersCall::abi_decode(&call.data).ok().map(|call| OnItself::Signers(call.owners.signers))
    } else if of(SmartAccount::setGuardianCall::SELECTOR) {
        SmartAccount::setGuardianCall::abi_decode(&call.data).ok().map(|call| OnItself::Guardian(call.guardian))
    } else if of(SmartAccount::cancelRecoveryCall::SELECTOR) {
        Some(OnItself::CancelsRecovery)
    } else {
        None
    };
    read.ok_or_else(|| {
        veto(FUNCTION_FORBIDDEN, "the wallet calls itself otherwise than to change who signs".to_owned())
    })
}

/// What hands over user operations, or makes an account act, otherwise than by the entry point's own call: it would hide what is done.
#[must_use]
pub fn hides(selector: [u8; 4]) -> Option<Act> {
    match selector {
        handleOpsCall::SELECTOR | handleAggregatedOpsCall::SELECTOR => Some(Act::Hides("a bundle of user operations")),
        SmartAccount::executeCall::SELECTOR => Some(Act::Hides("a list of calls")),
        _ => None,
    }
}

/// The message of a document, by the names of its type.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Message {
    sender: Address,
    nonce: U256,
    init_code: Bytes,
    call_data: Bytes,
    account_gas_limits: B256,
    pre_verification_gas: U256,
    gas_fees: B256,
    paymaster_and_data: Bytes,
}

// === impl Message ===

impl Message {
    fn packed(self) -> PackedUserOperation {
        PackedUserOperation {
            sender: self.sender,
            nonce: self.nonce,
            initCode: self.init_code,
            callData: self.call_data,
            accountGasLimits: self.account_gas_limits,
            preVerificationGas: self.pre_verification_gas,
            gasFees: self.gas_fees,
            paymasterAndData: self.paymaster_and_data,
            signature: Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wallet::{
        commands::{WalletCall, execute},
        operation::{UserOperation, tests::some},
    };

    const SENDER: Address = Address::repeat_byte(5);
    const ASSET: Address = Address::repeat_byte(8);

    fn operation() -> UserOperation {
        let call = WalletCall { to: ASSET, value_wei: U256::from(3), data: Bytes::from_static(&[1, 2, 3, 4]) };
        some(execute(&[call]))
    }

    fn handed(change: impl Fn(&mut handleOpsCall)) -> Result<Vec<Ordered>, String> {
        let mut call = operation().handle(vec![], SENDER);
        change(&mut call);
        let handed = handed_over(SENDER, ENTRY_POINT, &call.abi_encode()).unwrap();
        handed.map_err(|veto| veto.reason)
    }

    #[test]
    fn what_is_handed_over_is_seen_call_by_call() {
        let seen = handed(|_| {}).unwrap();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].wallet, operation().wallet);
        let inner = OrderedCall { to: ASSET, value_wei: U256::from(3), data: Bytes::from_static(&[1, 2, 3, 4]) };
        assert_eq!(seen[0].calls, [inner]);
    }

    #[test]
    fn what_a_user_operation_could_carry_besides_is_refused() {
        let some = Bytes::from_static(&[1]);
        assert_eq!(handed(|call| call.ops[0].initCode = some.clone()), Err(FUNCTION_FORBIDDEN.into()));
        assert_eq!(handed(|call| call.ops[0].paymasterAndData = some.clone()), Err(FUNCTION_FORBIDDEN.into()));
        assert_eq!(handed(|call| call.ops[0].gasFees = B256::with_last_byte(1)), Err(VALUE_FORBIDDEN.into()));
        assert_eq!(handed(|call| call.ops[0].callData = some.clone()), Err(FUNCTION_FORBIDDEN.into()));
        let cut = operation().call_data[..20].to_vec();
        assert_eq!(handed(|call| call.ops[0].callData = cut.clone().into()), Err(FUNCTION_FORBIDDEN.into()));
        assert_eq!(handed(|call| call.beneficiary = ASSET), Err(VALUE_FORBIDDEN.into()));
        assert_eq!(handed(|call| call.ops.clear()), Err(TOO_MANY_PARTIES.into()));
        assert_eq!(handed(|call| call.ops = vec![call.ops[0].clone(); 2]), Err(TOO_MANY_PARTIES.into()));
        let follows = |call: &mut handleOpsCall| call.ops[0].nonce |= U256::ONE;
        assert_eq!(handed(follows), Err(FUNCTION_FORBIDDEN.into()));
        let much = B256::from(U256::from(CALL_GAS_MAX + 1));
        assert_eq!(handed(|call| call.ops[0].accountGasLimits = much), Err(FUNCTION_FORBIDDEN.into()));
        let much = B256::from(U256::from(VERIFICATION_GAS_MAX + 1) << 128);
        assert_eq!(handed(|call| call.ops[0].accountGasLimits = much), Err(FUNCTION_FORBIDDEN.into()));
        assert_eq!(handed(|call| call.ops[0].preVerificationGas = U256::ONE), Err(VALUE_FORBIDDEN.into()));
        let call = WalletCall { to: ASSET, value_wei: U256::ZERO, data: Bytes::new() };
        let many = execute(&vec![call; CALLS_MAX + 1]);
        assert_eq!(handed(|call| call.ops[0].callData = many.clone()), Err(TOO_MANY_PARTIES.into()));
    }

    #[test]
    fn what_ends_never_or_too_late_is_refused() {
        let seen = handed(|_| {}).unwrap();
        let until = |deadline_s| Ordered { deadline_s, ..seen[0].clone() };
        assert_eq!(seen[0].deadline_s, operation().deadline_s());
        assert!(ends_in_time(&until(1_001), 1_000).is_ok());
        assert!(ends_in_time(&until(1_000 + DEADLINE_AHEAD_MAX_S), 1_000).is_ok());
        for deadline_s in [0, 999, 1_000, 1_001 + DEADLINE_AHEAD_MAX_S] {
            assert!(ends_in_time(&until(deadline_s), 1_000).is_err(), "{deadline_s}");
        }
    }

    #[test]
    fn only_the_entry_point_is_handed_user_operations() {
        let call = operation().handle(vec![], SENDER).abi_encode();
        assert!(handed_over(SENDER, ASSET, &call).is_none());
        assert!(handed_over(SENDER, ENTRY_POINT, &[1, 2, 3, 4]).is_none());
        for selector in
            [handleOpsCall::SELECTOR, handleAggregatedOpsCall::SELECTOR, SmartAccount::executeCall::SELECTOR]
        {
            assert!(matches!(hides(selector), Some(Act::Hides(_))));
        }
        assert_eq!(hides([1, 2, 3, 4]), None);
    }

    #[test]
    fn a_document_is_what_is_signed_or_nothing() {
        let parsed = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut document = operation().document();
            change(&mut document);
            approved(&serde_json::from_value::<TypedData>(document).unwrap(), operation().chain_id)
        };
        assert_eq!(parsed(&|_| {}).unwrap().unwrap().calls[0].to, ASSET);
        assert!(parsed(&|one| one["domain"]["verifyingContract"] = ASSET.to_string().into()).is_none());
        assert!(parsed(&|one| one["domain"]["chainId"] = 7.into()).unwrap().is_err(), "of another chain");
        assert!(parsed(&|one| one["domain"]["name"] = "Other".into()).unwrap().is_err(), "under another name");
        assert!(
            parsed(&|one| one["message"]["gasFees"] = B256::with_last_byte(1).to_string().into()).unwrap().is_err()
        );
    }

    #[test]
    fn a_wallet_changes_who_signs_and_nothing_else_of_itself() {
        let call = |data: Vec<u8>| OrderedCall { to: ASSET, value_wei: U256::ZERO, data: data.into() };
        let owners =
            SmartAccount::SignerSet { signers: vec![Bytes::from(vec![1; 20])], weights: vec![1], threshold: 1 };
        let owners = SmartAccount::setOwnersCall { owners }.abi_encode();
        assert_eq!(on_itself(&call(owners)).unwrap(), OnItself::Signers(vec![Bytes::from(vec![1; 20])]));
        let guardian = SmartAccount::setGuardianCall { guardian: ASSET, recoveryDelay: 1 }.abi_encode();
        assert_eq!(on_itself(&call(guardian)).unwrap(), OnItself::Guardian(ASSET));
        let cancels = SmartAccount::cancelRecoveryCall {}.abi_encode();
        assert_eq!(on_itself(&call(cancels.clone())).unwrap(), OnItself::CancelsRecovery);
        assert!(on_itself(&OrderedCall { value_wei: U256::from(1), ..call(cancels) }).is_err());
        assert!(on_itself(&call(execute(&[]).to_vec())).is_err(), "a list within a list");
        assert!(on_itself(&call(vec![])).is_err());
    }
}
