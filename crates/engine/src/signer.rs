//! What the engine needs of a signer, and the adapter to svc-signer.

mod remote;

pub use remote::RemoteSigner;

use crate::{
    custody::KeyProvider,
    flow::{Failure, Secret, SignDocument, Signature},
    model::{LaneId, RequestId, TenantId},
};
use alloy::primitives::{Address, B256, Bytes, U256};
use dalp_chain::Fees;

/// Signs typed payloads. Every method may be called again with the same arguments.
#[async_trait::async_trait]
pub trait Signer: Send + Sync + 'static {
    /// Asks for a signature. The same request id answers with the stored outcome.
    async fn sign(&self, request: SignRequest) -> Result<SignOutcome, SignError>;
    /// Where a request stands.
    async fn status(&self, request_id: RequestId) -> Result<SignOutcome, SignError>;
    /// Frees the watermark of a request that a provider refused for good.
    async fn release(&self, request_id: RequestId) -> Result<(), SignError>;
    /// The requests that the signer knows of a lane, from a nonce on.
    async fn list_intents(&self, tenant: &TenantId, lane: LaneId, from_nonce: u64) -> Result<Vec<Intent>, SignError>;
    /// Whether the sender's provider numbers, prices and broadcasts by itself, so that transactions are asked for with [`SignPayload::ByProvider`].
    async fn broadcasts(&self, tenant: &TenantId, lane: LaneId) -> Result<bool, SignError>;
    /// Asks for a [`SignPayload::ByProvider`] to be given up, or for a transaction that no provider has anything of to be withdrawn, so that it is never signed. Only
    /// [`SignOutcome::Denied`] says that it is.
    async fn withdraw(&self, request_id: RequestId) -> Result<SignOutcome, SignError>;
}

/// A request to sign.
#[derive(Debug, Clone, PartialEq)]
pub struct SignRequest {
    /// Deterministic, stored before the call.
    pub request_id: RequestId,
    /// Owner of the key.
    pub tenant: TenantId,
    /// What to sign.
    pub payload: SignPayload,
    /// The request that this one replaces at the same nonce.
    pub replaces: Option<RequestId>,
}

/// What to sign.
#[derive(Debug, Clone, PartialEq)]
pub enum SignPayload {
    /// A transaction.
    Transaction(UnsignedTransaction),
    /// A transaction whose calldata lacks a secret: the signer writes it in.
    Reveal {
        /// With the zero word.
        transaction: UnsignedTransaction,
        /// The secret.
        secret: Secret,
    },
    /// A call that the sender's provider numbers, prices and broadcasts by itself.
    ByProvider(ProviderCall),
    /// A document or claim.
    Document(SignDocument),
}

/// A call for a provider that broadcasts by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderCall {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Sender.
    pub sender: Address,
    /// Called contract; absent to create one.
    pub target: Option<Address>,
    /// Native amount.
    pub value_wei: U256,
    /// Calldata.
    pub data: Bytes,
    /// Set where the calldata lacks a secret, which the signer writes in.
    pub secret: Option<Secret>,
}

// === impl SignPayload ===

impl SignPayload {
    /// The transaction, if it is one.
    pub fn transaction(&self) -> Option<&UnsignedTransaction> {
        match self {
            Self::Transaction(transaction) | Self::Reveal { transaction, .. } => Some(transaction),
            Self::Document(_) | Self::ByProvider(_) => None,
        }
    }
}

/// Every field of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedTransaction {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Sender.
    pub sender: Address,
    /// Nonce.
    pub nonce: u64,
    /// Called contract; absent to create one.
    pub target: Option<Address>,
    /// Native amount.
    pub value_wei: U256,
    /// Calldata.
    pub data: Bytes,
    /// Gas limit.
    pub gas_limit: u64,
    /// Prices.
    pub fees: Fees,
}

/// Where a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignOutcome {
    /// Not decided yet; ask again.
    Pending {
        /// Who holds the key, if the signer says so.
        provider: Option<KeyProvider>,
        /// Detail of the provider, for people.
        detail: String,
    },
    /// Blocked by the provider until an operator acts; ask again.
    Blocked {
        /// Who holds the key, if the signer says so.
        provider: Option<KeyProvider>,
        /// Detail of the provider, for people.
        detail: String,
    },
    /// A signed transaction.
    SignedTransaction {
        /// EIP-2718 bytes.
        raw: Bytes,
        /// Their keccak256.
        tx_hash: B256,
    },
    /// A signature over a document.
    Signed(Signature),
    /// With a provider that broadcasts by itself, and not refused.
    ByProvider(ProviderWord),
    /// Refused by a person or policy of the provider; final.
    Denied(Failure),
    /// Not decided in time; final.
    Expired(Failure),
}

/// What is known of a call that is with a provider that broadcasts by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderWord {
    /// Which provider it is, if the signer says so.
    pub provider: Option<KeyProvider>,
    /// The provider's own id of it; empty while it has told none.
    pub provider_id: String,
    /// How it stands there.
    pub stage: ProviderStage,
    /// The provider's own words, for people.
    pub detail: String,
}

/// How a call stands at a provider that broadcasts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderStage {
    /// It is being worked on.
    Working,
    /// A person has to decide.
    Held,
    /// The provider's policy has stopped it, or it cannot be given to the provider, until an operator acts.
    Blocked,
    /// It was sent, under this hash. The provider may send it again under another one.
    Sent(B256),
    /// It was sent, under this hash, and the provider says that it failed: reverted, or dropped. The chain has the last word.
    Failed(B256),
}

/// One transaction request that the signer knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Nonce of the transaction.
    pub nonce: u64,
    /// The request.
    pub request_id: RequestId,
    /// What it asks for; known once it is signed.
    pub transaction: Option<UnsignedTransaction>,
    /// Where it stands.
    pub outcome: SignOutcome,
}

/// Why the signer gave no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// No answer. The request may have been taken all the same: ask again with the same id.
    #[error("signer unavailable: {0}")]
    Unavailable(String),
    /// The signer is there, and the compliance attestor is away: nobody's fault, however often it is asked.
    #[error("not judged: {0}")]
    Unjudged(String),
    /// The signer refuses this request for good; nothing was handed to a provider.
    #[error("signer refused: {0}")]
    Refused(Failure),
    /// Another request of the lane holds the nonce.
    #[error("signer's watermark stands at {next_nonce:?}")]
    WatermarkConflict {
        /// The next nonce that the signer would sign, if it says so.
        next_nonce: Option<u64>,
    },
    /// The signer does not know the request.
    #[error("signer does not know the request")]
    NotFound,
}
