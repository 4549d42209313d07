//! Creating keys: an idempotency key stands for one key, whatever crashes in between.

use crate::{
    errors::SignerError,
    providers::{Provider, ProviderKind},
    signing::Signer,
    store::keys::{Creation, Earlier, KeyRecord, Stored},
};

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
    match signer.store().insert_key(creation, provider, &key).await? {
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
