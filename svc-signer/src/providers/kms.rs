//! Keys of AWS Key Management Service, which never leave it: each signature is a call.
//!
//! A key is found by its alias, `alias/<prefix>/<tenant>/<wallet>`, and from then on named by its ARN: an alias can be pointed at another key, an ARN cannot.
//! Before its address is told to anybody, the key has signed something that its public half verifies.

mod pauses;
mod wire;

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use alloy::primitives::{B256, keccak256};
use async_trait::async_trait;
use dalp_aws::{AwsError, Class, Client, KMS};
use secp256k1::PublicKey;
use serde::{Serialize, de::DeserializeOwned};

use self::{
    pauses::Pauses,
    wire::{CreateAlias, CreateKey, Created, ListAliases, Nothing, PublicKeyOf, Sign, Signed, WhichKey},
};
use super::{
    KeyFault, KeyHandle, KeyName, NewKey, Provider, ProviderError, ProviderKind, ProviderStatus, SignAtOnce, Signing,
};
use crate::{config::kms::KmsConfig, core::signature::RawSignature};

/// How often the service is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// How often it is asked while it was not there the last time.
const PROBE_AGAIN: Duration = Duration::from_secs(5);
/// Calls that making a key takes: look for it, make it, name it, read it, have it sign.
const CREATION_CALLS: u32 = 5;
/// What a new key signs to prove itself begins so; no transaction, document or claim is hashed from such bytes.
const PROOF: &[u8] = b"dalp.signer.kms.proof.v1";

/// The keys of one account and region.
pub struct KmsProvider {
    client: Client,
    alias_prefix: String,
    create_keys: bool,
    policy: Option<String>,
    pauses: Pauses,
    /// Held by the one that asks while the account's rate is used up.
    alone: tokio::sync::Mutex<()>,
    /// How long one call waits for pauses of the account's rate to pass.
    patience: Duration,
    probed: Mutex<Option<(Instant, ProviderStatus)>>,
}

// === impl KmsProvider ===

impl KmsProvider {
    /// Reads the credentials; nothing is connected yet.
    pub fn new(config: &KmsConfig) -> Result<Self, String> {
        let settings = config.settings()?;
        let patience = settings.call_timeout;
        let client = Client::new(KMS, settings, config.credentials()?).map_err(|error| format!("kms: {error}"))?;
        Ok(Self {
            client,
            alias_prefix: config.alias_prefix.clone(),
            create_keys: config.create_keys,
            policy: config.policy().map_err(|problem| format!("kms.key_policy: {problem}"))?,
            pauses: Pauses::new(
                Duration::from_millis(config.first_pause_ms),
                Duration::from_millis(config.longest_pause_ms),
            ),
            alone: tokio::sync::Mutex::default(),
            patience,
            probed: Mutex::default(),
        })
    }

    /// Calls an operation; while the account's rate is used up, again after growing pauses, as long as the patience lasts. From a refusal for the rate until the
    /// next answer one call is made at a time, so that those who waited together do not ask together.
    async fn call<A: Serialize + Sync, B: DeserializeOwned>(&self, operation: &str, ask: &A) -> Result<B, AwsError> {
        let give_up = Instant::now() + self.patience;
        let mut last = AwsError::Refused {
            status: 400,
            kind: "ThrottlingException".to_owned(),
            message: "not asked: the account's rate was used up a moment ago".to_owned(),
        };
        loop {
            let alone = match self.pauses.is_on() {
                true => match tokio::time::timeout_at(give_up.into(), self.alone.lock()).await {
                    Ok(alone) => Some(alone).filter(|_| self.pauses.is_on()),
                    Err(_) => return Err(last),
                },
                false => None,
            };
            if alone.is_some()
                && let Some(pause) = self.pauses.left(Instant::now())
            {
                if Instant::now() + pause > give_up {
                    return Err(last);
                }
                tokio::time::sleep(pause).await;
            }
            let asked = Instant::now();
            match self.client.call(operation, ask).await {
                Err(error) if error.class() == Class::Throttled => {
                    self.pauses.refused(asked, Instant::now(), rand::random());
                    last = error;
                }
                answer => {
                    if answer.as_ref().err().is_none_or(|error| error.class() != Class::Unavailable) {
                        self.pauses.passed(asked);
                    }
                    return answer;
                }
            }
        }
    }

    fn alias(&self, name: &KeyName) -> String {
        format!("alias/{}/{}/{}", self.alias_prefix, name.tenant, name.wallet)
    }

    /// The key that an alias stands for, if it stands for one.
    async fn find(&self, alias: &str) -> Result<Option<PublicKeyOf>, ProviderError> {
        match self.call("GetPublicKey", &WhichKey { key_id: alias }).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.class() == Class::NotFound => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    async fn make(&self, name: &KeyName, alias: &str) -> Result<PublicKeyOf, ProviderError> {
        let ask = CreateKey::of(name, self.policy.as_deref());
        let created: Created = self.call("CreateKey", &ask).await.map_err(failure)?;
        let arn = created.key_metadata.arn;
        let named = CreateAlias { alias_name: alias, target_key_id: &arn };
        match self.call::<_, Nothing>("CreateAlias", &named).await {
            Ok(Nothing {}) => {}
            // An answer that was lost, or another signer: whoever has the alias is the key.
            Err(error) if error.class() == Class::Exists => {
                tracing::warn!(alias, key = arn, "the alias was taken meanwhile; if the key is not its, delete it");
            }
            Err(error) => {
                tracing::warn!(key = arn, %error, "a key was made and got no alias: it is never used, delete it");
                return Err(failure(error));
            }
        }
        let missing = || ProviderError::Unavailable("the new key is not to be seen yet".to_owned());
        self.find(alias).await?.ok_or_else(missing)
    }

    /// Has the key sign what can be nothing else, and verifies it.
    async fn prove(&self, arn: &str, public_key: &PublicKey) -> Result<(), ProviderError> {
        let digest = keccak256([PROOF, arn.as_bytes()].concat());
        let raw = self.sign_by(arn, digest).await?;
        raw.normalise(digest, public_key).map_err(|error| ProviderError::Failed(error.to_string()))?;
        Ok(())
    }

    async fn sign_by(&self, arn: &str, digest: B256) -> Result<RawSignature, ProviderError> {
        let signed: Signed = self.call("Sign", &Sign::of(arn, digest)).await.map_err(failure)?;
        signed.read(arn)
    }
}

#[async_trait]
impl Provider for KmsProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Kms
    }

    fn longest_creation(&self) -> Duration {
        (self.client.longest_call() + self.patience).saturating_mul(CREATION_CALLS)
    }

    async fn create(&self, name: &KeyName) -> Result<NewKey, ProviderError> {
        let alias = self.alias(name);
        let found = match self.find(&alias).await? {
            Some(found) => found,
            None if self.create_keys => self.make(name, &alias).await?,
            None => {
                return Err(ProviderError::Key(
                    KeyFault::Missing,
                    format!("no key has the alias {alias}, and kms.create_keys is false"),
                ));
            }
        };
        let public_key = found.read()?;
        self.prove(&found.key_id, &public_key).await?;
        Ok(NewKey { public_key, material: found.key_id.into_bytes() })
    }

    fn signing(&self) -> Signing<'_> {
        Signing::AtOnce(self)
    }

    async fn status(&self) -> ProviderStatus {
        let remembered = self.probed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, status)) = remembered
            && at.elapsed() < if status.ready { PROBE_EVERY } else { PROBE_AGAIN }
        {
            return status;
        }
        let status = match self.call::<_, Nothing>("ListAliases", &ListAliases { limit: 1 }).await {
            Ok(Nothing {}) => ProviderStatus { ready: true, detail: "account reached".to_owned() },
            Err(error) => ProviderStatus { ready: false, detail: failure(error).to_string() },
        };
        *self.probed.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), status.clone()));
        status
    }
}

#[async_trait]
impl SignAtOnce for KmsProvider {
    async fn sign(&self, key: KeyHandle<'_>, digest: B256) -> Result<RawSignature, ProviderError> {
        let arn = std::str::from_utf8(key.material)
            .map_err(|_| ProviderError::Failed("the key's name at AWS is damaged".to_owned()))?;
        self.sign_by(arn, digest).await
    }
}

/// What a failure at AWS means for a request.
fn failure(error: AwsError) -> ProviderError {
    let told = error.to_string();
    match error.class() {
        Class::Throttled | Class::Unavailable => ProviderError::Unavailable(told),
        Class::Credentials | Class::AccessDenied => ProviderError::Unauthorized(told),
        Class::Clock => ProviderError::ClockSkewed(told),
        Class::NotFound => ProviderError::Key(KeyFault::Missing, told),
        Class::Disabled => ProviderError::Key(KeyFault::Disabled, told),
        _ => ProviderError::Failed(told),
    }
}
