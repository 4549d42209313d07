//! Typed payloads. The signer understands what it signs; there is no variant for a bare hash.

use std::fmt;

use alloy::{
    consensus::{TxEip1559, TxLegacy},
    dyn_abi::TypedData,
    primitives::{Address, B256, Bytes, TxKind, U256},
};
use serde::{Deserialize, Serialize};

/// First four bytes of calldata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector(pub [u8; 4]);

/// The kind of a payload, as grants and rules name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayloadKind {
    /// An EVM transaction.
    EvmTransaction,
    /// An EIP-712 document.
    Eip712,
    /// An ERC-735 claim.
    Claim,
    /// The call that shows the secret of a settlement: granted by itself, carried out as the transaction it is.
    SettlementReveal,
    /// The root of a tenant's audit log.
    AuditRoot,
}

/// What a payload acts on: a contract, or the creation of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A call to, or a statement about, this address.
    Contract(Address),
    /// Contract creation.
    Create,
    /// A document that names no contract.
    Unnamed,
}

/// An unsigned transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnsignedTransaction {
    /// EIP-1559.
    Eip1559(TxEip1559),
    /// Legacy with EIP-155.
    Legacy(TxLegacy),
    /// Numbered, priced and broadcast by the key's provider.
    ByProvider(ProviderCall),
}

/// A transaction as a provider is asked for it that numbers, prices and broadcasts by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderCall {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Target or creation.
    pub to: TxKind,
    /// Value in wei.
    pub value: U256,
    /// Calldata.
    pub input: Bytes,
}

/// A claim of ERC-735.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The identity contract the claim is about.
    pub identity: Address,
    /// Topic id.
    pub topic: B256,
    /// Claim data.
    pub data: Bytes,
}

/// The root of a tenant's audit log at a size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRoot {
    /// Whose log: the tenant that owns the key.
    pub tenant: String,
    /// How many leaves it covers.
    pub size: u64,
    /// Root of the tree over them.
    pub root: B256,
    /// When it was made, in microseconds since 1970.
    pub sealed_at_us: u64,
}

/// What a caller wants signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// An EVM transaction.
    Transaction(UnsignedTransaction),
    /// An EIP-712 document.
    Document(Box<TypedData>),
    /// A claim.
    Claim(Claim),
    /// The root of an audit log.
    AuditRoot(AuditRoot),
}

/// Why a payload cannot be signed at all, whoever asks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// A transaction or document that any chain would accept can be replayed.
    #[error("chain id 0 is valid on every chain and is refused")]
    ChainIdZero,
    /// An EIP-712 domain without a chain id is valid on every chain.
    #[error("the document's domain has no chainId")]
    NoChainId,
    /// The document does not follow EIP-712.
    #[error("not a valid EIP-712 document: {0}")]
    Document(String),
}

// === impl Selector ===

impl Selector {
    /// The selector of calldata; `None` below four bytes.
    #[must_use]
    pub fn of(data: &[u8]) -> Option<Self> {
        data.first_chunk::<4>().map(|first| Self(*first))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 4];
        let digits = text.strip_prefix("0x").ok_or_else(|| serde::de::Error::custom("a selector starts with 0x"))?;
        hex::decode_to_slice(digits, &mut bytes)
            .map_err(|_| serde::de::Error::custom("a selector has 4 bytes of hex"))?;
        Ok(Self(bytes))
    }
}

// === impl PayloadKind ===

impl PayloadKind {
    /// The name in configuration, database and audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EvmTransaction => "evm_transaction",
            Self::Eip712 => "eip712",
            Self::Claim => "claim",
            Self::SettlementReveal => "settlement_reveal",
            Self::AuditRoot => "audit_root",
        }
    }
}

// === impl UnsignedTransaction ===

impl UnsignedTransaction {
    /// EIP-155 chain id; 0 where there is none.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        match self {
            Self::Eip1559(tx) => tx.chain_id,
            Self::Legacy(tx) => tx.chain_id.unwrap_or(0),
            Self::ByProvider(tx) => tx.chain_id,
        }
    }

    /// Whether the key's provider broadcasts it by itself.
    #[must_use]
    pub const fn is_by_provider(&self) -> bool {
        matches!(self, Self::ByProvider(_))
    }

    /// Nonce of the sender; `None` where the provider gives one.
    #[must_use]
    pub const fn nonce(&self) -> Option<u64> {
        match self {
            Self::Eip1559(tx) => Some(tx.nonce),
            Self::Legacy(tx) => Some(tx.nonce),
            Self::ByProvider(_) => None,
        }
    }

    /// Target or creation.
    #[must_use]
    pub const fn to(&self) -> TxKind {
        match self {
            Self::Eip1559(tx) => tx.to,
            Self::Legacy(tx) => tx.to,
            Self::ByProvider(tx) => tx.to,
        }
    }

    /// Most gas that it may use: what a provider gives it nobody knows here.
    #[must_use]
    pub const fn gas_limit(&self) -> u64 {
        match self {
            Self::Eip1559(tx) => tx.gas_limit,
            Self::Legacy(tx) => tx.gas_limit,
            Self::ByProvider(_) => u64::MAX,
        }
    }

    /// Value in wei.
    #[must_use]
    pub const fn value_wei(&self) -> U256 {
        match self {
            Self::Eip1559(tx) => tx.value,
            Self::Legacy(tx) => tx.value,
            Self::ByProvider(tx) => tx.value,
        }
    }

    /// Calldata.
    #[must_use]
    pub const fn data(&self) -> &Bytes {
        match self {
            Self::Eip1559(tx) => &tx.input,
            Self::Legacy(tx) => &tx.input,
            Self::ByProvider(tx) => &tx.input,
        }
    }

    /// Calldata, to be filled in.
    pub const fn data_mut(&mut self) -> &mut Bytes {
        match self {
            Self::Eip1559(tx) => &mut tx.input,
            Self::Legacy(tx) => &mut tx.input,
            Self::ByProvider(tx) => &mut tx.input,
        }
    }
}

// === impl Payload ===

impl Payload {
    /// Refuses what may be signed for nobody.
    pub fn validate(&self) -> Result<(), PayloadError> {
        match self {
            Self::Transaction(tx) if tx.chain_id() == 0 => Err(PayloadError::ChainIdZero),
            Self::Document(document) => match document.domain.chain_id {
                None => Err(PayloadError::NoChainId),
                Some(chain_id) if chain_id.is_zero() => Err(PayloadError::ChainIdZero),
                Some(_) => Ok(()),
            },
            Self::Transaction(_) | Self::Claim(_) | Self::AuditRoot(_) => Ok(()),
        }
    }

    /// Whether the key's provider broadcasts it by itself.
    #[must_use]
    pub const fn is_by_provider(&self) -> bool {
        matches!(self, Self::Transaction(tx) if tx.is_by_provider())
    }

    /// The kind, as grants and rules name it.
    #[must_use]
    pub const fn kind(&self) -> PayloadKind {
        match self {
            Self::Transaction(_) => PayloadKind::EvmTransaction,
            Self::Document(_) => PayloadKind::Eip712,
            Self::Claim(_) => PayloadKind::Claim,
            Self::AuditRoot(_) => PayloadKind::AuditRoot,
        }
    }

    /// What it acts on.
    #[must_use]
    pub fn destination(&self) -> Destination {
        match self {
            Self::Transaction(tx) => match tx.to() {
                TxKind::Call(to) => Destination::Contract(to),
                TxKind::Create => Destination::Create,
            },
            Self::Document(document) => {
                document.domain.verifying_contract.map_or(Destination::Unnamed, Destination::Contract)
            }
            Self::Claim(claim) => Destination::Contract(claim.identity),
            Self::AuditRoot(_) => Destination::Unnamed,
        }
    }

    /// The function it calls; creations, documents and claims call none.
    #[must_use]
    pub fn selector(&self) -> Option<Selector> {
        match self {
            Self::Transaction(tx) if matches!(tx.to(), TxKind::Call(_)) => Selector::of(tx.data()),
            _ => None,
        }
    }

    /// Value it moves, in wei.
    #[must_use]
    pub fn value_wei(&self) -> U256 {
        match self {
            Self::Transaction(tx) => tx.value_wei(),
            Self::Document(_) | Self::Claim(_) | Self::AuditRoot(_) => U256::ZERO,
        }
    }

    /// The chain it is meant for, where it names one.
    #[must_use]
    pub fn chain_id(&self) -> Option<u64> {
        match self {
            Self::Transaction(tx) => Some(tx.chain_id()),
            Self::Document(document) => document.domain.chain_id.and_then(|id| u64::try_from(id).ok()),
            Self::Claim(_) | Self::AuditRoot(_) => None,
        }
    }
}

// === impl AuditRoot ===

impl AuditRoot {
    /// As verifiers know it.
    #[must_use]
    pub fn statement(&self) -> dalp_audit::Root {
        let Self { tenant, size, root, sealed_at_us } = self.clone();
        dalp_audit::Root { tenant, size, root: root.0, sealed_at_us }
    }
}
