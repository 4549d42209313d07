//! Where keys live. Each provider has a file here and a file of the same name under `config/`, and passes `tests/conformance.rs`.

pub mod custody;
pub mod dfns;
pub mod fireblocks;
pub mod hook;
pub mod http;
pub mod kms;
pub mod local;
pub mod pkcs11;

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::Duration};

use alloy::primitives::B256;
use async_trait::async_trait;
use dalp_service::Reason;
use secp256k1::PublicKey;
use serde::Deserialize;

use self::custody::Custody;
use crate::{
    core::signature::RawSignature,
    store::requests::{NOT_ASKED, Status},
};

/// The providers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Envelope-encrypted keys in the signer's own database.
    Local,
    /// A hardware security module through PKCS#11.
    Pkcs11,
    /// Keys of a DFNS organisation.
    Dfns,
    /// Vault accounts of a Fireblocks workspace.
    Fireblocks,
    /// Keys of AWS Key Management Service.
    Kms,
}

/// What guards a key, as its metadata says. It stands with the key from its creation on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyTier {
    /// Sealed in the signer's database, under a key that the signer's own machine is given.
    EncryptedDatabase,
    /// A cloud's key service, or the signer's database under a key that a cloud's secret manager keeps.
    CloudSecretManager,
    /// A partition of a hardware security module.
    Hsm,
    /// A custodian.
    ThirdPartyCustody,
}

/// A name that is no provider of this build.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no provider called {0}")]
pub struct UnknownProvider(pub String);

/// What a key is for; a provider binds the key to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName {
    /// The tenant.
    pub tenant: String,
    /// The wallet, unique in the tenant.
    pub wallet: String,
}

/// A fresh key.
#[derive(Clone)]
pub struct NewKey {
    /// Its public half.
    pub public_key: PublicKey,
    /// What the provider needs to find it again: a sealed blob, or an identifier inside the HSM.
    pub material: Vec<u8>,
}

/// A key to sign with.
#[derive(Clone, Copy)]
pub struct KeyHandle<'a> {
    /// What it is for.
    pub name: &'a KeyName,
    /// What the provider returned when it was created.
    pub material: &'a [u8],
}

impl fmt::Debug for NewKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the material: sealed or not, it does not belong into a log.
        formatter.debug_struct("NewKey").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyHandle<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyHandle").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A failure of a provider, by what happens next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// A person has to act first, for instance present quorum keys. The request stays open until its deadline.
    #[error("the provider waits for a person: {0}")]
    Pending(String),
    /// Nothing moves until an operator acts.
    #[error("the provider is blocked: {0}")]
    Blocked(String),
    /// It cannot be reached now; the same request is tried again.
    #[error("the provider cannot be reached: {0}")]
    Unavailable(String),
    /// It answered with a failure that repeating does not mend.
    #[error("the provider failed: {0}")]
    Failed(String),
    /// It refuses our credentials.
    #[error("the provider refuses the signer's credentials: {0}")]
    Unauthorized(String),
    /// It refuses our tokens because of their times.
    #[error("the clocks of signer and provider differ: {0}")]
    ClockSkewed(String),
    /// An operator has to act at the HSM's partition.
    #[error("{0}: {1}")]
    Partition(PartitionFault, String),
    /// An operator has to act at the key, where it is kept.
    #[error("{0}: {1}")]
    Key(KeyFault, String),
    /// It does not know the chain, or was not told under which name.
    #[error("the provider does not serve the chain: {0}")]
    ChainNotServed(String),
}

/// What is wrong at an HSM's partition, until an operator has acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionFault {
    /// It refused the PIN, which is not tried a second time.
    #[error("the partition refuses the PIN")]
    PinRefused,
    /// It is locked, disabled, tampered with, or barred from this use.
    #[error("the partition is locked")]
    Locked,
    /// No token has the configured label.
    #[error("there is no such partition")]
    NotFound,
    /// Several tokens have it.
    #[error("several partitions have the label")]
    Ambiguous,
    /// It does not hold the key, and the user may not make one.
    #[error("the partition does not hold the key")]
    KeyMissing,
    /// The key refused its own authorisation, which is not tried a second time.
    #[error("the key refuses its authorisation")]
    KeyAuthorizationRefused,
}

/// What is wrong with a key where it is kept, until an operator has acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// It is disabled, or about to be deleted.
    #[error("the key is disabled where it is kept")]
    Disabled,
    /// It is not there, and the signer may not make one.
    #[error("the provider does not hold the key")]
    Missing,
}

/// How a provider is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderStatus {
    /// Whether it can sign now.
    pub ready: bool,
    /// Detail for people.
    pub detail: String,
}

/// Holds keys.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Which one it is.
    fn kind(&self) -> ProviderKind;

    /// What guards the keys that it makes.
    fn tier(&self) -> KeyTier {
        self.kind().tier()
    }

    /// The longest that creating a key may take.
    fn longest_creation(&self) -> Duration;

    /// Creates a key. A repeat with the same name may answer with the same key, so that a crash leaves no orphans.
    async fn create(&self, name: &KeyName) -> Result<NewKey, ProviderError>;

    /// How it signs.
    fn signing(&self) -> Signing<'_>;

    /// How it is doing; may try to reconnect.
    async fn status(&self) -> ProviderStatus;

    /// Whether it numbers, prices and broadcasts new transactions by itself.
    fn broadcasts(&self) -> bool {
        matches!(self.signing(), Signing::Custody(custody) if custody.broadcasts())
    }
}

/// How a provider signs.
#[derive(Clone, Copy)]
pub enum Signing<'a> {
    /// It is asked and answers with the signature.
    AtOnce(&'a dyn SignAtOnce),
    /// It takes the request and decides later.
    Custody(&'a dyn Custody),
}

/// Signs digests that the core computed.
#[async_trait]
pub trait SignAtOnce: Send + Sync {
    /// Signs 32 bytes. The caller normalises and verifies the answer.
    async fn sign(&self, key: KeyHandle<'_>, digest: B256) -> Result<RawSignature, ProviderError>;

    /// How long a request may wait for people, from when they were first asked, before it is given up, where that is shorter than the signer's own deadline.
    fn longest_hold(&self) -> Option<Duration> {
        None
    }
}

/// The providers that are configured, and which of them may be used.
#[derive(Clone)]
pub struct Providers {
    active: ProviderKind,
    allow_mixed: bool,
    configured: BTreeMap<ProviderKind, Arc<dyn Provider>>,
}

// === impl ProviderError ===

impl ProviderError {
    /// What it means to the caller of a request: its status, detail and typed error. It stays open in each.
    #[must_use]
    pub fn waiting(self) -> (Status, String, &'static str) {
        match self {
            Self::Blocked(detail) => (Status::Blocked, detail, ""),
            Self::Unauthorized(detail) => (Status::Blocked, detail, "PROVIDER_UNAUTHORIZED"),
            Self::ClockSkewed(detail) => (Status::Blocked, detail, "PROVIDER_CLOCK_SKEWED"),
            Self::ChainNotServed(detail) => (Status::Blocked, detail, "CHAIN_NOT_SERVED"),
            Self::Partition(fault, detail) => (Status::Blocked, detail, fault.reason().as_str()),
            Self::Key(fault, detail) => (Status::Blocked, detail, fault.reason().as_str()),
            Self::Failed(detail) => (Status::Pending, detail, "PROVIDER_FAILED"),
            Self::Unavailable(detail) => (Status::Pending, detail, NOT_ASKED),
            // Alone without an error: this one waits for a person.
            Self::Pending(detail) => (Status::Pending, detail, ""),
        }
    }
}

// === impl PartitionFault ===

impl PartitionFault {
    /// The reason in the catalogue.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PinRefused => Reason::PartitionPinRefused,
            Self::Locked => Reason::PartitionLocked,
            Self::NotFound => Reason::PartitionNotFound,
            Self::Ambiguous => Reason::PartitionAmbiguous,
            Self::KeyMissing => Reason::KeyNotInPartition,
            Self::KeyAuthorizationRefused => Reason::KeyAuthorizationRefused,
        }
    }
}

// === impl KeyFault ===

impl KeyFault {
    /// The reason in the catalogue.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Disabled => Reason::ProviderKeyDisabled,
            Self::Missing => Reason::ProviderKeyNotFound,
        }
    }
}

// === impl KeyTier ===

impl KeyTier {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::EncryptedDatabase, Self::CloudSecretManager, Self::Hsm, Self::ThirdPartyCustody];

    /// The name in database and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EncryptedDatabase => "encrypted_database",
            Self::CloudSecretManager => "cloud_secret_manager",
            Self::Hsm => "hsm",
            Self::ThirdPartyCustody => "third_party_custody",
        }
    }

    /// The tier of a stored name.
    #[must_use]
    pub fn of_stored(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == name)
    }
}

// === impl Providers ===

impl Providers {
    /// `active` must be among `configured`; the configuration check has seen to it.
    #[must_use]
    pub fn new(active: ProviderKind, allow_mixed: bool, configured: Vec<Arc<dyn Provider>>) -> Self {
        Self {
            active,
            allow_mixed,
            configured: configured.into_iter().map(|provider| (provider.kind(), provider)).collect(),
        }
    }

    /// The provider for a key of `kind`; `None` means that it is not active.
    #[must_use]
    pub fn select(&self, kind: ProviderKind) -> Option<&Arc<dyn Provider>> {
        if kind == self.active || self.allow_mixed { self.configured.get(&kind) } else { None }
    }

    /// The provider that new keys go to.
    #[must_use]
    pub const fn active(&self) -> ProviderKind {
        self.active
    }

    /// All that are usable.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        self.configured.values().filter(|provider| self.select(provider.kind()).is_some())
    }
}

// === impl ProviderKind ===

impl ProviderKind {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Local, Self::Pkcs11, Self::Dfns, Self::Fireblocks, Self::Kms];

    /// The name in configuration, database and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Pkcs11 => "pkcs11",
            Self::Dfns => "dfns",
            Self::Fireblocks => "fireblocks",
            Self::Kms => "kms",
        }
    }

    /// What guards its keys, unless the provider itself says otherwise.
    #[must_use]
    pub const fn tier(self) -> KeyTier {
        match self {
            Self::Local => KeyTier::EncryptedDatabase,
            Self::Pkcs11 => KeyTier::Hsm,
            Self::Dfns | Self::Fireblocks => KeyTier::ThirdPartyCustody,
            Self::Kms => KeyTier::CloudSecretManager,
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProviderKind {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| UnknownProvider(name.to_owned()))
    }
}
