//! What callers ask for, checked and typed. Nothing here knows of protobuf, SQL or the network.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol_types::SolCall as _,
};
use dalp_contracts::bindings::{SmartAccount, SmartAccountFactory};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Signers of one wallet; the contract's own bound.
pub const SIGNERS_MAX: usize = 32;
/// Calls of one user operation.
pub const CALLS_MAX: usize = 32;
/// Bytes of calldata of one call.
pub const CALL_BYTES_MAX: usize = 65_536;
/// Bytes of a signature; a contract may want more than a key's 65.
pub const SIGNATURE_BYTES_MAX: usize = 4_096;
/// How far ahead a deadline may lie, in seconds.
pub const DEADLINE_AHEAD_MAX_S: u64 = 90 * 86_400;
/// User operations of one wallet that may be open at a time.
pub const OPEN_OF_WALLET_MAX: u64 = 100;
/// User operations of one tenant that may be open at a time.
pub const OPEN_OF_TENANT_MAX: u64 = 1_000;
/// The contract's bounds of a guardian's delay, in seconds.
pub const RECOVERY_DELAY_S: std::ops::RangeInclusive<u32> = 86_400..=365 * 86_400;
/// The most gas that callers may give the calls.
pub const CALL_GAS_MAX: u64 = 30_000_000;
/// The least gas that callers may give the verification: with less the entry point could take nothing.
pub const VERIFICATION_GAS_MIN: u64 = 100_000;
/// The most gas that callers may give the verification.
pub const VERIFICATION_GAS_MAX: u64 = 10_000_000;

/// Who signs, and who may bring the wallet back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletConfig {
    /// With their weights.
    pub signers: Vec<(Address, u64)>,
    /// Weight that must sign.
    pub threshold: u64,
    /// May announce other signers.
    pub guardian: Option<Address>,
    /// Seconds during which the signers can cancel that.
    pub recovery_delay_s: u32,
}

/// A wallet to note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateWallet {
    /// For people.
    pub name: String,
    /// Its settings.
    pub config: WalletConfig,
    /// Tells wallets of the same settings apart.
    pub salt: B256,
}

/// A wallet to deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployWallet {
    /// Who sends.
    pub sender: Address,
    /// It.
    pub wallet: Address,
}

/// A call that a wallet makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletCall {
    /// Whom.
    pub to: Address,
    /// The chain's own currency that goes with it.
    pub value_wei: U256,
    /// Calldata.
    pub data: Bytes,
}

/// A user operation to propose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propose {
    /// Who sends it to the entry point.
    pub sender: Address,
    /// The wallet.
    pub wallet: Address,
    /// In order.
    pub calls: Vec<WalletCall>,
    /// Unix seconds by the chain's clock.
    pub deadline_s: u64,
    /// Gas of the calls; none: as estimated.
    pub call_gas_limit: Option<u64>,
    /// Gas of looking at the signatures; none: ample.
    pub verification_gas_limit: Option<u64>,
    /// What it is for.
    pub note: String,
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approve {
    /// Of what.
    pub user_operation_id: Uuid,
    /// Who signs.
    pub signer: Address,
    /// Keccak-256 of the signature that was made elsewhere; none: the platform's key of the signer signs.
    pub signature_hash: Option<B256>,
    /// That signature. It is a secret until it is sent, so it goes into no order: orders are shown to people who decide about them.
    #[serde(skip)]
    pub signature: Option<Bytes>,
}

// === impl WalletConfig ===

impl WalletConfig {
    /// As the factory takes it.
    #[must_use]
    pub fn on_chain(&self) -> SmartAccountFactory::AccountConfig {
        SmartAccountFactory::AccountConfig {
            owners: SmartAccountFactory::SignerSet {
                signers: self.signers.iter().map(|(address, _)| Bytes::copy_from_slice(address.as_slice())).collect(),
                weights: self.signers.iter().map(|(_, weight)| *weight).collect(),
                threshold: self.threshold,
            },
            guardian: self.guardian.unwrap_or_default(),
            recoveryDelay: self.recovery_delay_s,
        }
    }
}

// === impl Approve ===

impl Approve {
    /// An approval with a signature that was made elsewhere, or with the platform's key.
    #[must_use]
    pub fn new(user_operation_id: Uuid, signer: Address, signature: Option<Bytes>) -> Self {
        Self { user_operation_id, signer, signature_hash: signature.as_ref().map(keccak256), signature }
    }

    /// Whether the platform's key of the signer signs.
    #[must_use]
    pub const fn by_platform_key(&self) -> bool {
        self.signature_hash.is_none()
    }
}

// === impl Propose ===

impl Propose {
    /// What the wallet is told.
    #[must_use]
    pub fn call_data(&self) -> Bytes {
        execute(&self.calls)
    }
}

/// The call that makes a wallet make these calls.
#[must_use]
pub fn execute(calls: &[WalletCall]) -> Bytes {
    let calls = calls.iter().map(|call| SmartAccount::AccountCall {
        to: call.to,
        value: call.value_wei,
        data: call.data.clone(),
    });
    SmartAccount::executeCall { calls: calls.collect() }.abi_encode().into()
}
