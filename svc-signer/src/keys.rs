//! Creating keys: an idempotency key stands for one key, whatever crashes in between.

use std::{path::PathBuf, sync::Arc, time::Duration};

use alloy::primitives::Address;
use dalp_service::{TenantId, config::SecretRef};

use crate::{
    config::{
        SignerConfig,
        pkcs11::{NtlsConfig, Pkcs11Config},
    },
    core::signature::address_of,
    errors::SignerError,
    providers::{
        KeyName, Provider, ProviderError, ProviderKind,
        pkcs11::{self, Pkcs11Provider},
    },
    signing::Signer,
    store::{
        Leaf, Store, StoreError,
        keys::{Creation, Earlier, KeyRecord, Stored},
    },
};

/// A key that was made in a ceremony.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CeremonialKey {
    /// Its label in the partition.
    pub label: String,
    /// Its `CKA_ID`.
    pub id: [u8; 32],
    /// Its address.
    pub address: Address,
}

/// Why a ceremony made no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CeremonyError {
    /// There is no partition to make it in.
    #[error("there is no [pkcs11] section")]
    NoPartition,
    /// The name is none that a wallet can have.
    #[error("{0}")]
    Name(String),
    /// The signer knows a key of this wallet: another one of its label would leave neither to be found.
    #[error("{0} has a key already")]
    Taken(String),
    /// Somebody makes it right now.
    #[error("a key of {0} is being made: wait and look whether it is there")]
    InTheMaking(String),
    /// The signer's secrets or its worker cannot be had.
    #[error("{0}")]
    Start(String),
    /// The memory of logins cannot be read.
    #[error("the memory of logins is not there")]
    Store(#[from] StoreError),
    /// The partition made none.
    #[error("the partition made no key")]
    Provider(#[from] ProviderError),
}

/// Between two looks whether another login has ended, or people have come. A login that died is waited for as long as one may take.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A folder that is taken away, if it is empty by then.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0); // absent is as good
    }
}

/// Whether a wallet can be called so.
#[must_use]
pub fn is_wallet_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Makes a wallet's key in the configured partition as its crypto officer, or finds it there, and has it prove its address by a signature. The officer's PIN has its
/// place in the memory of logins as every other: a wrong one is tried once. While another process logs in or people are asked, it waits and says so.
pub async fn ceremony(
    config: &SignerConfig,
    name: &KeyName,
    officer_pin: SecretRef,
    mut progress: impl FnMut(&str),
) -> Result<CeremonialKey, CeremonyError> {
    if !is_wallet_name(&name.wallet) {
        return Err(CeremonyError::Name(format!("{} is not 1 to 64 of [a-z0-9-]", name.wallet)));
    }
    let tenant = name.tenant.parse::<TenantId>().map_err(|error| CeremonyError::Name(error.to_string()))?;
    let name = KeyName { tenant: tenant.to_string(), wallet: name.wallet.clone() };
    let partition = config.pkcs11.clone().ok_or(CeremonyError::NoPartition)?;
    // Files of the network link of its own: a signer that runs with the same configuration keeps its files, also when this ends.
    let ntls = partition.ntls.as_ref().map(|ntls| NtlsConfig {
        directory: ntls.directory.join(format!("ceremony-{}", std::process::id())),
        ..ntls.clone()
    });
    let _folder = ntls.as_ref().map(|ntls| Folder(ntls.directory.clone()));
    let officer = Pkcs11Config { crypto_user: false, pin: officer_pin, sessions: 1, ntls, ..partition };
    let store = Store::new(config)?;
    store.migrate().await?;
    let provider = crate::partition(config, officer, Arc::new(store.clone()))
        .map_err(|error| CeremonyError::Start(error.to_string()))?;
    if store.wallet_taken(&name).await? {
        return Err(CeremonyError::Taken(name.wallet));
    }
    // People may need long to log in; nobody but they waits for it here.
    progress("logging in as the crypto officer; a quorum partition asks its people now");
    let mut told = "";
    loop {
        let waits = match provider.opened().await {
            Ok(()) => break,
            Err(error) if Pkcs11Provider::is_busy(&error) => {
                "another process logs in to the partition right now; waiting for it to end"
            }
            // No PIN was compared, so that asking again is no try of one.
            Err(ProviderError::Pending(_)) => "the partition is not activated; waiting for its people",
            Err(error) => return Err(error.into()),
        };
        if waits != told {
            progress(waits);
        }
        told = waits;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    progress("logged in; making the key and having it prove its address");
    if !store.reserve(&name, provider.longest_creation()).await? {
        return Err(CeremonyError::InTheMaking(name.wallet));
    }
    let made = provider.create(&name).await;
    store.unreserve(&name).await?;
    let key = made?;
    let address = address_of(&key.public_key);
    let (label, id) = pkcs11::label(&name);
    let leaf = Leaf {
        subject: "key",
        tenant: name.tenant,
        peer: "operator".to_owned(),
        signer: Some(address.into_array()),
        request_id: None,
        decision: "ceremony",
        reason: label.clone(),
    };
    store.write_leaves(&[leaf]).await?;
    Ok(CeremonialKey { label, id, address })
}

/// Creates a key, or answers with the one that the idempotency key stands for. The flag says which.
pub async fn create_key(
    signer: &Signer,
    provider: ProviderKind,
    creation: &Creation,
) -> Result<(KeyRecord, bool), SignerError> {
    if let Some(key) = earlier(signer, creation).await? {
        return Ok((key, true));
    }
    let holder = signer.providers().select(provider).ok_or(SignerError::ProviderNotActive(provider))?;
    if !signer.store().reserve(&creation.name, holder.longest_creation()).await? {
        return Err(SignerError::KeyInTheMaking(creation.name.wallet.clone()));
    }
    let made = make(signer, holder.as_ref(), provider, creation).await;
    if let Err(error) = signer.store().unreserve(&creation.name).await {
        // It ends by itself; until then a repeat is asked to wait.
        tracing::warn!(tenant = creation.name.tenant, %error, "reservation not given back");
    }
    made
}

async fn make(
    signer: &Signer,
    holder: &dyn Provider,
    provider: ProviderKind,
    creation: &Creation,
) -> Result<(KeyRecord, bool), SignerError> {
    // Looked at again: the one who held the reservation before may have been this very request.
    if let Some(key) = earlier(signer, creation).await? {
        return Ok((key, true));
    }
    if signer.store().wallet_taken(&creation.name).await? {
        return Err(SignerError::WalletTaken(creation.name.wallet.clone()));
    }
    let key = holder.create(&creation.name).await?;
    match signer.store().insert_key(creation, (provider, holder.tier()), &key).await? {
        Stored::Key(record) => {
            tracing::info!(tenant = creation.name.tenant, signer = %record.address, %provider, "key created");
            Ok((record, false))
        }
        // Someone was faster; with the same idempotency key it was this very request.
        Stored::WalletTaken => match earlier(signer, creation).await? {
            Some(key) => Ok((key, true)),
            None => Err(SignerError::WalletTaken(creation.name.wallet.clone())),
        },
        Stored::IdempotencyKeyUsed => Err(SignerError::IdempotencyKeyReused),
    }
}

async fn earlier(signer: &Signer, creation: &Creation) -> Result<Option<KeyRecord>, SignerError> {
    match signer.store().earlier_creation(creation).await? {
        Earlier::None => Ok(None),
        Earlier::Same(key) => Ok(Some(key)),
        Earlier::Other => Err(SignerError::IdempotencyKeyReused),
    }
}
