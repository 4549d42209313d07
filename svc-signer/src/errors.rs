//! Why the signer refuses, and what that is on the wire.

use alloy::primitives::{Address, B256};
use dalp_attestation::Attestation;
use dalp_service::{Reason, Refusal};
use time::OffsetDateTime;

use crate::{
    core::reveal::RevealError,
    providers::{ProviderError, ProviderKind},
    store::{StoreError, requests::StoredRequest},
};

/// A refusal or failure of the signer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// The tenant has no such key.
    #[error("tenant {tenant} has no key {signer}")]
    KeyNotFound {
        /// Tenant.
        tenant: String,
        /// Address.
        signer: Address,
    },
    /// The key signs nothing more.
    #[error("key {0} is disabled")]
    KeyDisabled(Address),
    /// The key is for something else.
    #[error(
        "key {signer} does not sign a payload of the kind {kind}: audit keys sign audit roots, and nothing else does"
    )]
    KeyPurpose {
        /// Address.
        signer: Address,
        /// Kind of payload.
        kind: &'static str,
    },
    /// Another key has this wallet name.
    #[error("another key of the tenant is called {0}")]
    WalletTaken(String),
    /// Another request makes this key right now.
    #[error("the key {0} is being made; repeat the request")]
    KeyInTheMaking(String),
    /// No grant covers the request.
    #[error("{peer} holds no grant for this {kind} with this key, contract and function")]
    GrantMissing {
        /// The peer.
        peer: String,
        /// Kind of payload.
        kind: &'static str,
    },
    /// A rule refuses.
    #[error("rule {rule}: {why}")]
    PolicyDenied {
        /// The rule.
        rule: String,
        /// Why.
        why: &'static str,
    },
    /// There is no attestation over the payload.
    #[error("the payload needs a compliance attestation")]
    AttestationRequired,
    /// The attestor refuses the payload.
    #[error("the compliance attestor refuses: {reason}: {detail}")]
    AttestationRefused {
        /// What it said, bound to the payload.
        attestation: Box<Attestation>,
        /// Its reason.
        reason: String,
        /// The same for people.
        detail: String,
    },
    /// The attestor gave no verdict. Nothing is decided.
    #[error("the compliance attestor gave no verdict: {0}")]
    AttestorUnavailable(String),
    /// The attestor answers, and cannot judge this payload. Nothing is decided.
    #[error("the compliance attestor could not judge the payload: {0}")]
    AttestationUndecided(String),
    /// The nonce is held by another request.
    #[error("nonce {nonce} is held by another request")]
    WatermarkConflict {
        /// The nonce asked for.
        nonce: i64,
        /// The nonce after the highest one known.
        next_nonce: i64,
    },
    /// The id stands for another payload; with the request it stands for, where that is the caller's own.
    #[error("the request id was used for another payload")]
    RequestIdReused(Option<Box<StoredRequest>>),
    /// The log is not the one that was signed before.
    #[error(
        "the root of {size} leaves {what} of {last_size} leaves that was signed before: the log was rewritten, or restored and continued differently"
    )]
    LogRewritten {
        /// Of how many leaves it is.
        size: u64,
        /// How it stands to the last one.
        what: &'static str,
        /// Of how many leaves that was.
        last_size: u64,
        /// That one.
        last_root: B256,
    },
    /// Nothing shows that the root continues the last one.
    #[error("the root needs a proof that it continues that of {last_size} leaves, the last one that was signed")]
    RootUnproven {
        /// Of how many leaves that was.
        last_size: u64,
    },
    /// The idempotency key stands for another payload.
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// The peer made no such request.
    #[error("there is no such request")]
    RequestNotFound,
    /// A request that is signed or undecided keeps its nonce.
    #[error("only a finally refused, unsigned request gives its nonce back")]
    ReleaseRefused,
    /// Keys of this provider are not in use.
    #[error("provider {0} is not active")]
    ProviderNotActive(ProviderKind),
    /// Events of this provider are not taken.
    #[error("there is no [{0}.webhook] section: its events are not taken")]
    NoEvents(ProviderKind),
    /// What came as an event is not signed as its provider signs.
    #[error("not an event of {0}: {1}")]
    EventUnverified(ProviderKind, &'static str),
    /// An event is signed and not of now.
    #[error("the event is of {at}, and may be {tolerance_s} s away from now")]
    EventStale {
        /// Of when it is.
        at: OffsetDateTime,
        /// How far that may be from now, in seconds.
        tolerance_s: u64,
    },
    /// The key's provider broadcasts by itself, and the request does not say so, or the other way round. Nothing is stored of it.
    #[error("transactions of key {signer} are broadcast by {}", if *.by_provider { "its provider" } else { "us" })]
    BroadcastMode {
        /// Address.
        signer: Address,
        /// Who does.
        by_provider: bool,
    },
    /// Only what the provider broadcasts is withdrawn.
    #[error("request_id is not of a transaction that the key's provider broadcasts")]
    NotWithdrawn,
    /// There is no such secret of the tenant.
    #[error("the tenant has no such secret")]
    SecretNotFound,
    /// The secret is not written into this call.
    #[error("settlement_reveal.transaction.data {0}")]
    RevealRefused(#[from] RevealError),
    /// It is too late to show the secret.
    #[error("the secret is not shown after {not_after_s}")]
    RevealTooLate {
        /// Until when it was, unix seconds.
        not_after_s: u64,
    },
    /// Nothing seals secrets here.
    #[error("secrets of settlements need local.key_encryption_key")]
    NothingSeals,
    /// The secret was made with another hash or for other terms.
    #[error("the secret was made with another hash or for other terms")]
    SecretReused,
    /// Nothing says what the secret was made for.
    #[error("the secret was made before secrets were bound to terms, and is not shown any more")]
    SecretUnbound,
    /// The provider failed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The database failed.
    #[error("the signer's store failed")]
    Store(#[from] StoreError),
}

// === impl SignerError ===

impl SignerError {
    /// The reason in the catalogue.
    #[must_use]
    pub const fn code(&self) -> Reason {
        match self {
            Self::KeyNotFound { .. } => Reason::KeyNotFound,
            Self::KeyDisabled(_) => Reason::KeyDisabled,
            Self::KeyPurpose { .. } => Reason::KeyPurposeMismatch,
            Self::WalletTaken(_) => Reason::KeyLabelTaken,
            Self::KeyInTheMaking(_) => Reason::Conflict,
            Self::GrantMissing { .. } => Reason::GrantMissing,
            Self::PolicyDenied { .. } => Reason::PolicyDenied,
            Self::AttestationRequired => Reason::AttestationRequired,
            Self::AttestationRefused { .. } => Reason::AttestationRefused,
            Self::AttestorUnavailable(_) => Reason::AttestorUnavailable,
            Self::AttestationUndecided(_) => Reason::AttestationUndecided,
            Self::WatermarkConflict { .. } | Self::ReleaseRefused => Reason::WatermarkConflict,
            Self::RequestIdReused(_) => Reason::RequestIdReused,
            Self::LogRewritten { .. } => Reason::AuditLogRewritten,
            Self::RootUnproven { .. } => Reason::AuditRootUnproven,
            Self::IdempotencyKeyReused => Reason::IdempotencyKeyReused,
            Self::RequestNotFound | Self::SecretNotFound => Reason::NotFound,
            Self::RevealRefused(_) | Self::NotWithdrawn => Reason::InvalidField,
            Self::BroadcastMode { .. } => Reason::BroadcastModeMismatch,
            Self::SecretUnbound => Reason::PolicyDenied,
            Self::RevealTooLate { .. } => Reason::CutoffPassed,
            Self::SecretReused => Reason::RequestIdReused,
            Self::ProviderNotActive(_) | Self::NothingSeals | Self::NoEvents(_) => Reason::ProviderNotActive,
            Self::EventUnverified(..) => Reason::ProviderEventUnverified,
            Self::EventStale { .. } => Reason::ProviderEventStale,
            Self::Provider(ProviderError::Pending(_)) => Reason::CustodyApprovalPending,
            Self::Provider(ProviderError::Partition(fault, _)) => fault.reason(),
            Self::Provider(ProviderError::Key(fault, _)) => fault.reason(),
            Self::Provider(ProviderError::Blocked(_)) => Reason::ProviderBlocked,
            Self::Provider(ProviderError::Failed(_)) => Reason::ProviderFailed,
            Self::Provider(ProviderError::Unauthorized(_)) => Reason::ProviderUnauthorized,
            Self::Provider(ProviderError::ClockSkewed(_)) => Reason::ProviderClockSkewed,
            Self::Provider(ProviderError::ChainNotServed(_)) => Reason::ChainNotServed,
            Self::Provider(_) => Reason::ProviderUnavailable,
            Self::Store(StoreError::Unavailable(_) | StoreError::NotMigrated) => Reason::DatabaseUnavailable,
            Self::Store(StoreError::Closed) => Reason::Stopping,
            Self::Store(_) => Reason::Internal,
        }
    }
}

impl From<SignerError> for Refusal {
    fn from(error: SignerError) -> Self {
        let message = error.to_string();
        let refusal = Self::new(error.code(), message);
        match error {
            SignerError::PolicyDenied { rule, .. } => refusal.meta("rule", rule),
            SignerError::GrantMissing { peer, .. } => refusal.meta("peer", peer),
            SignerError::AttestationRefused { attestation, reason, .. } => refusal
                .meta("attestor_reason", reason)
                .meta("block_number", attestation.judgement.block_number)
                .meta("attestation", attestation.hash),
            SignerError::WatermarkConflict { nonce, next_nonce } => {
                refusal.meta("nonce", nonce).meta("next_nonce", next_nonce)
            }
            SignerError::LogRewritten { size, last_size, last_root, .. } => {
                refusal.meta("size", size).meta("last_size", last_size).meta("last_root", last_root)
            }
            SignerError::RootUnproven { last_size } => refusal.meta("last_size", last_size),
            SignerError::BroadcastMode { by_provider, .. } => refusal.meta("by_provider", by_provider),
            SignerError::RevealTooLate { not_after_s } => refusal.meta("cutoff", not_after_s),
            // What a caller needs whose own memory of the request is lost.
            SignerError::RequestIdReused(Some(known)) => {
                let refusal = refusal.meta("status", known.status.as_str()).meta("signer", known.signer);
                match (known.chain_id, known.nonce) {
                    (Some(chain_id), Some(nonce)) => refusal.meta("chain_id", chain_id).meta("nonce", nonce),
                    _ => refusal,
                }
            }
            SignerError::Store(
                source @ (StoreError::Unavailable(_) | StoreError::NotMigrated | StoreError::Closed),
            ) => refusal.source(source),
            SignerError::Store(source) => Self::internal(source),
            _ => refusal,
        }
    }
}
