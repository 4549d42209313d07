//! Commands on identities, claims, topics and trusted issuers.

use super::claim::TopicName;
use alloy::primitives::{Address, Bytes};
use serde::{Deserialize, Serialize};

/// Create an identity for a wallet and register it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterIdentity {
    /// Signs and pays.
    pub sender: Address,
    /// The participant.
    pub wallet: Address,
    /// ISO 3166-1 numeric.
    pub country: u16,
}

/// Purposes of ERC-734.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPurpose {
    /// 1.
    Management,
    /// 2.
    Action,
    /// 3.
    Claim,
}

/// Add a key to an identity, or remove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeKey {
    /// Signs and pays; holds a management key.
    pub sender: Address,
    /// Whose identity.
    pub wallet: Address,
    /// The key's account.
    pub key: Address,
    /// What it is for.
    pub purpose: KeyPurpose,
    /// Add, else remove.
    pub add: bool,
}

/// Sign a claim and add it to the subject's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueClaim {
    /// Signs the claim and sends it.
    pub issuer: Address,
    /// Whom it is about.
    pub subject: Address,
    /// The topic.
    pub topic: TopicName,
    /// Payload without the expiry envelope.
    pub data: Bytes,
    /// Unix seconds; 0 never.
    pub expires_at: u64,
}

/// Revoke a claim at its issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeClaim {
    /// The claim's issuer.
    pub issuer: Address,
    /// Whom it is about.
    pub subject: Address,
    /// The topic.
    pub topic: TopicName,
}

/// Register a claim topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterTopic {
    /// Signs and pays.
    pub sender: Address,
    /// The topic.
    pub name: TopicName,
    /// ABI signature of its data.
    pub signature: String,
}

/// Trust an issuer for topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddTrustedIssuer {
    /// Signs and pays.
    pub sender: Address,
    /// The issuer's wallet.
    pub issuer: Address,
    /// At least one.
    pub topics: Vec<TopicName>,
}

/// Withdraw trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveTrustedIssuer {
    /// Signs and pays.
    pub sender: Address,
    /// The issuer's wallet.
    pub issuer: Address,
}

/// Move what a lost wallet has to a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverWallet {
    /// Signs and pays.
    pub sender: Address,
    /// Whose keys are gone.
    pub lost_wallet: Address,
    /// Takes over.
    pub new_wallet: Address,
    /// The assets to recover; empty: all.
    pub assets: Vec<Address>,
    /// Why.
    pub reason: String,
}

/// A recovery to look at beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewRecovery {
    /// Who would send it.
    pub sender: Option<Address>,
    /// Whose keys are gone.
    pub lost_wallet: Address,
    /// Takes over.
    pub new_wallet: Address,
    /// The assets to recover; empty: all.
    pub assets: Vec<Address>,
}

// === impl KeyPurpose ===

impl KeyPurpose {
    /// The number of ERC-734.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Management => 1,
            Self::Action => 2,
            Self::Claim => 3,
        }
    }
}
