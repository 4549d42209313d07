//! Messages to commands. Every field is checked, and all that is wrong is told at once.

use crate::{
    domain::Violations,
    wallet::{
        commands::{
            Approve, CALL_BYTES_MAX, CALL_GAS_MAX, CALLS_MAX, CreateWallet, DeployWallet, Propose, RECOVERY_DELAY_S,
            SIGNATURE_BYTES_MAX, SIGNERS_MAX, VERIFICATION_GAS_MAX, VERIFICATION_GAS_MIN, WalletCall, WalletConfig,
        },
        operation::DEADLINE_MAX_S,
        state::State,
    },
};
use alloy::primitives::{Address, B256, U256, keccak256};
use dalp_proto::wallet as proto;
use dalp_service::fields;
use std::collections::HashSet;
use uuid::Uuid;

/// The longest name of a wallet.
const NAME_CHARS_MAX: usize = 64;
/// The longest note of a proposal.
const NOTE_CHARS_MAX: usize = 200;
/// The longest reason of a cancellation.
const REASON_CHARS_MAX: usize = 500;
/// What ends below this is a precompile, or reserved: it signs nothing, and answers anything.
const LAST_RESERVED: u64 = 0xffff;

/// A cancellation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cancel {
    pub(super) user_operation_id: Uuid,
    pub(super) reason: String,
}

impl TryFrom<&proto::CreateSmartWalletRequest> for CreateWallet {
    type Error = Violations;

    fn try_from(request: &proto::CreateSmartWalletRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let name = violations.text("name", &request.name, NAME_CHARS_MAX);
        let config = config(&mut violations, request);
        let salt = match request.salt.as_str() {
            "" => keccak256(&name),
            text => match fields::bytes32("salt", text) {
                Ok(salt) => salt,
                Err(violation) => {
                    violations.push(violation.path, violation.description);
                    B256::ZERO
                }
            },
        };
        violations.into_result(Self { name, config, salt })
    }
}

fn config(violations: &mut Violations, request: &proto::CreateSmartWalletRequest) -> WalletConfig {
    if !(1..=SIGNERS_MAX).contains(&request.signers.len()) {
        violations.push("signers", format!("must be 1 to {SIGNERS_MAX}"));
    }
    let (mut seen, mut signers, mut total) = (HashSet::new(), Vec::new(), 0_u64);
    for (place, signer) in request.signers.iter().take(SIGNERS_MAX).enumerate() {
        let path = format!("signers[{place}]");
        let address = violations.address(&format!("{path}.address"), &signer.address);
        if !address.is_zero() && is_reserved(address) {
            violations.push(format!("{path}.address"), "is a precompile, which would sign anything");
        }
        if !address.is_zero() && !seen.insert(address) {
            violations.push(format!("{path}.address"), "signs already");
        }
        if signer.weight == 0 {
            violations.push(format!("{path}.weight"), "must be at least 1");
        }
        match total.checked_add(signer.weight) {
            Some(sum) => total = sum,
            None => violations.push(format!("{path}.weight"), "makes the weights together too large for 64 bits"),
        }
        signers.push((address, signer.weight));
    }
    if request.threshold == 0 || request.threshold > total {
        violations.push("threshold", format!("must lie between 1 and the weight of all signers, {total}"));
    }
    let guardian = violations.optional_address("guardian", &request.guardian);
    match guardian {
        Some(_) if !RECOVERY_DELAY_S.contains(&request.recovery_delay_s) => {
            violations.push("recovery_delay_s", "must lie between one day and 365 days with a guardian");
        }
        None if request.recovery_delay_s != 0 => {
            violations.push("recovery_delay_s", "must be 0 without a guardian");
        }
        _ => {}
    }
    WalletConfig { signers, threshold: request.threshold, guardian, recovery_delay_s: request.recovery_delay_s }
}

fn is_reserved(address: Address) -> bool {
    U256::from_be_slice(address.as_slice()) <= U256::from(LAST_RESERVED)
}

impl TryFrom<&proto::DeploySmartWalletRequest> for DeployWallet {
    type Error = Violations;

    fn try_from(request: &proto::DeploySmartWalletRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let command = Self {
            sender: violations.address("sender", &request.sender),
            wallet: violations.address("wallet", &request.wallet),
        };
        violations.into_result(command)
    }
}

impl TryFrom<&proto::ProposeUserOperationRequest> for Propose {
    type Error = Violations;

    fn try_from(request: &proto::ProposeUserOperationRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        if !(1..=CALLS_MAX).contains(&request.calls.len()) {
            violations.push("calls", format!("must be 1 to {CALLS_MAX}"));
        }
        let calls = request.calls.iter().take(CALLS_MAX).enumerate().map(|(place, call)| WalletCall {
            to: violations.address(&format!("calls[{place}].to"), &call.to),
            value_wei: match call.value_wei.as_str() {
                "" => U256::ZERO,
                text => violations.amount_or_zero(&format!("calls[{place}].value_wei"), text),
            },
            data: violations.bytes(&format!("calls[{place}].data"), &call.data, CALL_BYTES_MAX),
        });
        let calls = calls.collect();
        if request.deadline == 0 || request.deadline > DEADLINE_MAX_S {
            violations.push("deadline", "must be Unix seconds");
        }
        let mut gas = |field: &str, given: u64, least: u64, most: u64| {
            if given != 0 && !(least..=most).contains(&given) {
                violations.push(field, format!("must lie between {least} and {most}"));
            }
            (given != 0).then_some(given)
        };
        let call_gas_limit = gas("call_gas_limit", request.call_gas_limit, 1, CALL_GAS_MAX);
        let verification_gas_limit =
            gas("verification_gas_limit", request.verification_gas_limit, VERIFICATION_GAS_MIN, VERIFICATION_GAS_MAX);
        let note = match request.note.as_str() {
            "" => String::new(),
            text => violations.text("note", text, NOTE_CHARS_MAX),
        };
        let command = Self {
            sender: violations.address("sender", &request.sender),
            wallet: violations.address("wallet", &request.wallet),
            calls,
            deadline_s: request.deadline,
            call_gas_limit,
            verification_gas_limit,
            note,
        };
        violations.into_result(command)
    }
}

impl TryFrom<&proto::ApproveUserOperationRequest> for Approve {
    type Error = Violations;

    fn try_from(request: &proto::ApproveUserOperationRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let signature = violations.bytes("signature", &request.signature, SIGNATURE_BYTES_MAX);
        let command = Self::new(
            id(&mut violations, &request.user_operation_id),
            violations.address("signer", &request.signer),
            (!signature.is_empty()).then_some(signature),
        );
        // What looks like a signature of nothing must not be taken for the wish that the platform signs.
        if !request.signature.is_empty() && command.signature.is_none() {
            violations.push("signature", "must be bytes; leave it out to have the platform's key sign");
        }
        violations.into_result(command)
    }
}

impl TryFrom<&proto::CancelUserOperationRequest> for Cancel {
    type Error = Violations;

    fn try_from(request: &proto::CancelUserOperationRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let command = Self {
            user_operation_id: id(&mut violations, &request.user_operation_id),
            reason: violations.text("reason", &request.reason, REASON_CHARS_MAX),
        };
        violations.into_result(command)
    }
}

/// The id of a user operation.
pub(super) fn id(violations: &mut Violations, text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_else(|_| {
        violations.push("user_operation_id", "must be a UUID");
        Uuid::nil()
    })
}

/// The state that a list is filtered by; `None`: all.
pub(super) fn filter(violations: &mut Violations, state: i32) -> Option<State> {
    use proto::UserOperationState as Wire;
    match Wire::try_from(state) {
        Ok(Wire::Unspecified) => None,
        Ok(Wire::Pending) => Some(State::Pending),
        Ok(Wire::Submitted) => Some(State::Submitted),
        Ok(Wire::Executed) => Some(State::Executed),
        Ok(Wire::Expired) => Some(State::Expired),
        Ok(Wire::Cancelled) => Some(State::Cancelled),
        Ok(Wire::Failed) => Some(State::Failed),
        Err(_) => {
            violations.push("state", "is no state of a user operation");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(byte: u8) -> String {
        Address::repeat_byte(byte).to_checksum(None)
    }

    fn creation() -> proto::CreateSmartWalletRequest {
        let signer = |byte, weight| proto::WalletSigner { address: text(byte), weight };
        proto::CreateSmartWalletRequest {
            name: "Treasury".into(),
            signers: vec![signer(1, 1), signer(2, 1), signer(3, 2)],
            threshold: 3,
            ..Default::default()
        }
    }

    fn wrong(change: impl Fn(&mut proto::CreateSmartWalletRequest)) -> Vec<String> {
        let mut request = creation();
        change(&mut request);
        let violations = CreateWallet::try_from(&request).unwrap_err();
        violations.0.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn a_wallet_whose_threshold_can_be_reached_is_taken() {
        let command = CreateWallet::try_from(&creation()).unwrap();
        assert_eq!((command.config.threshold, command.config.signers.len()), (3, 3));
        assert_eq!(command.salt, keccak256("Treasury"));
        let guarded = proto::CreateSmartWalletRequest { guardian: text(9), recovery_delay_s: 86_400, ..creation() };
        assert_eq!(CreateWallet::try_from(&guarded).unwrap().config.guardian, Some(Address::repeat_byte(9)));
    }

    #[test]
    fn what_the_contract_would_refuse_is_told_by_its_field() {
        assert_eq!(wrong(|one| one.threshold = 5), ["threshold"]);
        assert_eq!(wrong(|one| one.threshold = 0), ["threshold"]);
        assert_eq!(wrong(|one| one.signers[1].address = text(1)), ["signers[1].address"]);
        assert_eq!(wrong(|one| one.signers[2].weight = 0), ["signers[2].weight", "threshold"]);
        assert_eq!(wrong(|one| one.signers[0].weight = u64::MAX), ["signers[1].weight", "signers[2].weight"]);
        assert_eq!(wrong(|one| one.signers.clear()), ["signers", "threshold"]);
        assert_eq!(wrong(|one| one.recovery_delay_s = 5), ["recovery_delay_s"]);
        assert_eq!(wrong(|one| one.guardian = text(9)), ["recovery_delay_s"]);
        assert_eq!(wrong(|one| one.salt = "0x12".into()), ["salt"]);
        let identity = Address::with_last_byte(4).to_checksum(None);
        assert_eq!(wrong(|one| one.signers[0].address = identity.clone()), ["signers[0].address"]);
    }

    #[test]
    fn a_proposal_is_bounded() {
        let call = proto::WalletCall { to: text(8), value_wei: String::new(), data: "0x01".into() };
        let request = proto::ProposeUserOperationRequest {
            sender: text(1),
            wallet: text(2),
            calls: vec![call.clone()],
            deadline: 1_900_000_000,
            ..Default::default()
        };
        let command = Propose::try_from(&request).unwrap();
        assert_eq!((command.call_gas_limit, command.calls[0].value_wei), (None, U256::ZERO));
        let fields = |request: proto::ProposeUserOperationRequest| {
            let violations = Propose::try_from(&request).unwrap_err();
            violations.0.into_iter().map(|violation| violation.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(proto::ProposeUserOperationRequest { calls: vec![], ..request.clone() }), ["calls"]);
        let many = vec![call.clone(); CALLS_MAX + 1];
        assert_eq!(fields(proto::ProposeUserOperationRequest { calls: many, ..request.clone() }), ["calls"]);
        let far = DEADLINE_MAX_S + 1;
        assert_eq!(fields(proto::ProposeUserOperationRequest { deadline: far, ..request.clone() }), ["deadline"]);
        let much = proto::ProposeUserOperationRequest { call_gas_limit: CALL_GAS_MAX + 1, ..request.clone() };
        assert_eq!(fields(much), ["call_gas_limit"]);
        let nobody = proto::WalletCall { to: String::new(), ..call };
        assert_eq!(fields(proto::ProposeUserOperationRequest { calls: vec![nobody], ..request }), ["calls[0].to"]);
    }

    #[test]
    fn an_empty_signature_is_no_wish_that_the_platform_signs() {
        let request = |signature: &str| proto::ApproveUserOperationRequest {
            user_operation_id: Uuid::nil().to_string(),
            signer: text(1),
            signature: signature.into(),
        };
        assert_eq!(Approve::try_from(&request("")).unwrap().signature, None);
        assert!(Approve::try_from(&request("0x")).is_err());
        assert!(Approve::try_from(&request("0x01")).unwrap().signature.is_some());
    }
}
