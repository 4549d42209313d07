//! What is stored and read, as messages.

use crate::wallet::{
    readers::Account,
    state::State,
    store::{approvals::StoredApproval, operations::StoredUserOperation, wallets::StoredWallet},
};
use alloy::primitives::{Address, Bytes};
use dalp_engine::Failure;
use dalp_proto::wallet as proto;
use time::OffsetDateTime;

pub(super) fn wallet(stored: &StoredWallet) -> proto::SmartWallet {
    let config = &stored.config;
    proto::SmartWallet {
        wallet: text(stored.wallet),
        name: stored.name.clone(),
        chain_id: stored.chain_id,
        signers: config
            .signers
            .iter()
            .map(|(address, weight)| proto::WalletSigner { address: text(*address), weight: *weight })
            .collect(),
        threshold: config.threshold,
        guardian: config.guardian.map(text).unwrap_or_default(),
        recovery_delay_s: config.recovery_delay_s,
        salt: stored.salt.to_string(),
        created_by: stored.created_by.clone(),
        created_at: unix(stored.created_at),
    }
}

pub(super) fn on_chain(account: Option<Account>) -> proto::SmartWalletOnChain {
    let Some(account) = account else { return proto::SmartWalletOnChain::default() };
    proto::SmartWalletOnChain {
        deployed: true,
        signers: account
            .signers
            .signers
            .iter()
            .map(|(signer, weight)| proto::WalletSigner { address: signer_text(signer), weight: *weight })
            .collect(),
        threshold: account.signers.threshold,
        guardian: account.guardian.map(text).unwrap_or_default(),
        recovery_delay_s: account.recovery_delay_s,
        recovery_ready_at: account.recovery_ready_at,
        entry_point: text(account.entry_point),
    }
}

pub(super) fn user_operation(stored: &StoredUserOperation, approvals: &[StoredApproval]) -> proto::UserOperation {
    let StoredUserOperation { command, user_operation, .. } = stored;
    let mine = approvals.iter().filter(|approval| approval.user_operation_id == stored.id);
    proto::UserOperation {
        user_operation_id: stored.id.to_string(),
        wallet: text(command.wallet),
        chain_id: user_operation.chain_id,
        sender: text(command.sender),
        proposed_by: stored.proposed_by.clone(),
        note: command.note.clone(),
        calls: command
            .calls
            .iter()
            .map(|call| proto::WalletCall {
                to: text(call.to),
                value_wei: call.value_wei.to_string(),
                data: call.data.to_string(),
            })
            .collect(),
        deadline: user_operation.deadline_s(),
        nonce: user_operation.nonce.to_string(),
        call_gas_limit: user_operation.call_gas_limit,
        verification_gas_limit: user_operation.verification_gas_limit,
        entry_point: text(user_operation.entry_point),
        hash: stored.hash.to_string(),
        document_json: user_operation.document().to_string(),
        state: state(stored.state).into(),
        approvals: mine.map(approval).collect(),
        failure: stored.failure.as_ref().map(failure),
        submission_id: stored.submission_id.map(|id| id.to_string()).unwrap_or_default(),
        tx_hash: stored.mined.map(|(tx_hash, _)| tx_hash.to_string()).unwrap_or_default(),
        block_number: stored.mined.map(|(_, block)| block).unwrap_or_default(),
        proposed_at: unix(stored.proposed_at),
        ended_at: stored.ended_at.map(unix).unwrap_or_default(),
    }
}

fn approval(stored: &StoredApproval) -> proto::UserOperationApproval {
    proto::UserOperationApproval {
        signer: text(stored.signer),
        approved_by: stored.approved_by.clone(),
        platform_key: stored.platform_key,
        signed: stored.settled,
        operation_id: stored.operation_id.to_string(),
        at: unix(stored.at),
    }
}

fn failure(failure: &Failure) -> proto::UserOperationFailure {
    proto::UserOperationFailure {
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        metadata: failure.metadata.clone().into_iter().collect(),
    }
}

fn state(state: State) -> proto::UserOperationState {
    match state {
        State::Pending => proto::UserOperationState::Pending,
        State::Submitted => proto::UserOperationState::Submitted,
        State::Executed => proto::UserOperationState::Executed,
        State::Expired => proto::UserOperationState::Expired,
        State::Cancelled => proto::UserOperationState::Cancelled,
        State::Failed => proto::UserOperationState::Failed,
    }
}

fn signer_text(signer: &Bytes) -> String {
    match <[u8; 20]>::try_from(&signer[..]) {
        Ok(address) => text(address.into()),
        Err(_) => signer.to_string(),
    }
}

fn text(address: Address) -> String {
    address.to_checksum(None)
}

fn unix(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signer_is_an_address_or_what_it_is() {
        let address = Address::repeat_byte(0xab);
        assert_eq!(signer_text(&Bytes::copy_from_slice(address.as_slice())), address.to_checksum(None));
        assert_eq!(signer_text(&Bytes::from(vec![1; 21])), format!("0x{}", "01".repeat(21)));
    }
}
