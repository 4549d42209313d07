//! The chain as typed reads: wallets, their signers' signatures, and what became of user operations.

use super::{
    commands::{CreateWallet, Propose},
    flows::refused,
    operation::{Signed, UserOperation},
    state::Signers,
};
use crate::decoder::ContractDecoder;
use alloy::{
    primitives::{Address, B256, Bytes, Signature, U256, aliases::U192},
    sol_types::SolEvent as _,
};
use dalp_chain::{BlockId, Filter, Finality, TransactionRequest};
use dalp_contracts::{
    bindings::{SmartAccount, SmartAccountFactory, System},
    erc4337::interface::EntryPoint::{UserOperationEvent, UserOperationRevertReason, getNonceCall},
    roles::names,
};
use dalp_domain::{ChainReader, Head, ReadError};
use dalp_engine::{Decoder as _, Failure};
use dalp_service::{Reason, Refusal};
use futures::TryFutureExt as _;

/// Blocks that may stand above the one with the `finalized` tag, amply.
const BLOCKS_UNTIL_FINALIZED: u64 = 256;
/// What a contract answers that takes a signature (ERC-1271).
const SIGNATURE_TAKEN: [u8; 4] = [0x16, 0x26, 0xba, 0x7e];

alloy::sol! {
    #[allow(missing_docs, unreachable_pub)] // the standard's
    interface IERC1271 {
        function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4 answer);
    }
}

/// A wallet as it stands on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Who signs.
    pub signers: Signers,
    /// May announce other signers.
    pub guardian: Option<Address>,
    /// Seconds during which that can be cancelled.
    pub recovery_delay_s: u32,
    /// Unix seconds from which on it can be carried out; 0: nothing is announced.
    pub recovery_ready_at: u64,
    /// Whose operations it accepts.
    pub entry_point: Address,
}

/// What became of a user operation that an entry point carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct CarriedOut {
    /// The transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
    /// Whether its calls were made.
    pub outcome: Result<(), Failure>,
}

/// The factory of a system's wallets.
pub async fn factory(chain: &ChainReader, system: Address) -> Result<Address, Refusal> {
    let factory = chain.read(system, System::getCall { name: names::SMART_ACCOUNT_FACTORY }).await?;
    if factory.is_zero() {
        let text = "the tenant's system has no factory of smart wallets";
        return Err(Refusal::new(Reason::FailedPrecondition, text).meta("system", system.to_checksum(None)));
    }
    Ok(factory)
}

/// Where a wallet of these settings stands, or will.
pub async fn predicted(chain: &ChainReader, factory: Address, command: &CreateWallet) -> Result<Address, ReadError> {
    let predict = SmartAccountFactory::predictCall { config: command.config.on_chain(), salt: command.salt };
    chain.read(factory, predict).await
}

/// A wallet at a block; `None`: it is not deployed.
pub async fn account(chain: &ChainReader, wallet: Address, at: Head) -> Result<Option<Account>, Refusal> {
    if !has_code(chain, wallet, at).await? {
        return Ok(None);
    }
    let (signers, threshold, recovery, entry_point) = futures::try_join!(
        chain.read_at(wallet, SmartAccount::getSignersCall { start: 0, end: u64::MAX }, at.id()),
        chain.read_at(wallet, SmartAccount::thresholdCall {}, at.id()),
        chain.read_at(wallet, SmartAccount::recoveryCall {}, at.id()),
        chain.read_at(wallet, SmartAccount::entryPointCall {}, at.id()),
    )?;
    let weights = futures::future::try_join_all(signers.into_iter().map(|signer| {
        let asked = SmartAccount::signerWeightCall { signer: signer.clone() };
        chain.read_at(wallet, asked, at.id()).map_ok(move |weight| (signer, weight))
    }));
    Ok(Some(Account {
        signers: Signers { signers: weights.await?, threshold },
        guardian: Some(recovery.guardian).filter(|guardian| !guardian.is_zero()),
        recovery_delay_s: recovery.recoveryDelay,
        recovery_ready_at: recovery.readyAt.saturating_to(),
        entry_point,
    }))
}

/// Whether there is code at an address at a block.
pub async fn has_code(chain: &ChainReader, address: Address, at: Head) -> Result<bool, Refusal> {
    match chain.upstreams().code(address, at.id()).await {
        Ok(code) => Ok(!code.is_empty()),
        Err(error) => Err(Refusal::new(Reason::ChainUnavailable, "the chain cannot be read").source(error)),
    }
}

/// Runs the calls of a proposal as the wallet does when the entry point tells it. What refuses them is the error.
pub async fn rehearsed(
    chain: &ChainReader,
    entry_point: Address,
    command: &Propose,
    at: Head,
) -> Result<(), ReadError> {
    let told = TransactionRequest::default().from(entry_point).to(command.wallet).input(command.call_data().into());
    match chain.upstreams().call(&told, at.id()).await {
        Ok(_) => Ok(()),
        Err(dalp_chain::CallError::Revert(data)) => Err(ReadError::Reverted(data.to_vec())),
        Err(error) => Err(ReadError::Chain(error)),
    }
}

/// The signature in the form that the account takes, if it is the signer's over the hash: as the account decides it, by the signer's own word where the
/// signer is a contract, else by the key.
pub async fn verified(
    chain: &ChainReader,
    signer: Address,
    hash: B256,
    signature: &Bytes,
    at: Head,
) -> Result<Option<Bytes>, Refusal> {
    if !has_code(chain, signer, at).await? {
        return Ok(of_key(signer, hash, signature));
    }
    let asked = IERC1271::isValidSignatureCall { hash, signature: signature.clone() };
    match chain.read_at(signer, asked, at.id()).await {
        Ok(answer) if answer.0 == SIGNATURE_TAKEN => Ok(Some(signature.clone())),
        Err(error) if error.is_unavailable() => Err(error.into()),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// The signature of a key with low s and v 27 or 28, if it is the signer's over the hash.
fn of_key(signer: Address, hash: B256, signature: &Bytes) -> Option<Bytes> {
    let signature = Signature::from_raw(signature).ok()?;
    let signature = signature.normalize_s().unwrap_or(signature);
    let recovered = signature.recover_address_from_prehash(&hash).ok()?;
    (recovered == signer).then(|| Bytes::copy_from_slice(&signature.as_bytes()))
}

/// Whether the entry point takes a user operation with these signatures from this sender. What it refuses with is the failure.
pub async fn taken(
    chain: &ChainReader,
    operation: &UserOperation,
    signed: Vec<Signed>,
    sender: Address,
    at: Head,
) -> Result<Result<(), Failure>, Refusal> {
    match chain.read_as(sender, operation.entry_point, operation.handle(signed, sender), at.id()).await {
        Ok(_) => Ok(Ok(())),
        Err(ReadError::Reverted(data)) => Ok(Err(ContractDecoder.decode_revert(&data))),
        Err(error) if error.is_unavailable() => Err(error.into()),
        Err(error) => Ok(Err(Failure::new(Reason::SimulationReverted.as_str(), error.to_string()))),
    }
}

/// Whether the entry point carried a user operation out by a block, whoever sent it.
pub async fn is_used(chain: &ChainReader, operation: &UserOperation, at: BlockId) -> Result<bool, ReadError> {
    let key = operation.nonce_key().to::<U192>();
    let next = chain.read_at(operation.entry_point, getNonceCall { sender: operation.wallet, key }, at).await?;
    Ok(next & U256::from(u64::MAX) != U256::ZERO)
}

fn unreachable(error: dalp_chain::ChainError) -> Refusal {
    Refusal::new(Reason::ChainUnavailable, "the chain cannot be read").source(error)
}

/// What became of a user operation that the entry point carried out by a final block, whoever sent it. `None`: nothing that this node knows of.
pub async fn carried_out(
    chain: &ChainReader,
    operation: &UserOperation,
    from_block: u64,
    by: Head,
) -> Result<Option<CarriedOut>, Refusal> {
    // It was proposed at a block that others may have replaced by longer branches of lower blocks.
    let replaced = match chain.upstreams().config().finality {
        Finality::Depth(depth) => depth,
        Finality::FinalizedTag => BLOCKS_UNTIL_FINALIZED,
    };
    let hash = operation.hash();
    let filter = Filter::new()
        .address(operation.entry_point)
        .event_signature(vec![UserOperationEvent::SIGNATURE_HASH, UserOperationRevertReason::SIGNATURE_HASH])
        .topic1(hash);
    let from = from_block.saturating_sub(replaced);
    let logs = chain.upstreams().logs_between(&filter, from, by.number).await.map_err(unreachable)?;
    let told = logs.iter().find_map(|log| Some((log, UserOperationEvent::decode_log(&log.inner).ok()?.data)));
    let Some((log, event)) = told else { return Ok(None) };
    let (Some(tx_hash), Some(block_number)) = (log.transaction_hash, log.block_number) else { return Ok(None) };
    let reverted = logs.iter().find_map(|log| UserOperationRevertReason::decode_log(&log.inner).ok());
    let outcome = match event.success {
        true => Ok(()),
        false => Err(refused(&reverted.map(|log| log.data.revertReason).unwrap_or_default())),
    };
    Ok(Some(CarriedOut { tx_hash, block_number, outcome }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::{
        primitives::U256,
        signers::{SignerSync as _, local::PrivateKeySigner},
    };

    #[test]
    fn a_key_s_signature_is_taken_in_one_form_only() {
        let (key, hash) = (PrivateKeySigner::random(), B256::repeat_byte(7));
        let signed = key.sign_hash_sync(&hash).unwrap();
        let canonical = Bytes::copy_from_slice(&signed.as_bytes());
        assert_eq!(of_key(key.address(), hash, &canonical), Some(canonical.clone()));
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let order = U256::from_str_radix(order, 16).unwrap();
        let high = Signature::new(signed.r(), order - signed.s(), !signed.v());
        let high = Bytes::copy_from_slice(&high.as_bytes());
        assert_eq!(of_key(key.address(), hash, &high), Some(canonical.clone()), "a high s is brought low");
        let mut bare = canonical.to_vec();
        bare[64] -= 27;
        assert_eq!(of_key(key.address(), hash, &bare.into()), Some(canonical.clone()), "v without 27");
        assert_eq!(of_key(Address::repeat_byte(1), hash, &canonical), None, "of somebody else");
        assert_eq!(of_key(key.address(), B256::ZERO, &canonical), None, "over something else");
        assert_eq!(of_key(key.address(), hash, &Bytes::from(vec![1; 64])), None, "too short");
    }
}
