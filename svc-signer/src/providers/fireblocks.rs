//! Keys in vault accounts of Fireblocks.
//!
//! A thin client: [`request`] composes what goes on the wire, [`status`] reads the platform's words, both without I/O. The platform's policy and its approvers
//! decide when a request is signed; nothing here can approve one.

pub mod answer;
pub mod credentials;
pub mod jwks;
pub mod request;
pub mod status;
pub mod webhook;

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use alloy::primitives::Address;
use async_trait::async_trait;
use secp256k1::PublicKey;
use time::OffsetDateTime;
use uuid::Uuid;

use self::{
    answer::{Addresses, EXTERNAL_ID_USED, PublicKeyInfo, Refused, Transaction, Vault, Vaults},
    credentials::Credentials,
    request::Place,
    webhook::Webhook,
};
use super::{
    KeyName, NewKey, Provider, ProviderError, ProviderKind, ProviderStatus, Signing,
    custody::{Custody, Order, Pace, Report},
    hook::Hook,
    http::{Answer, Call, Door},
};
use crate::{
    config::{Mode, fireblocks::FireblocksConfig},
    core::{payload::Payload, signature::address_of},
};

/// How often the platform is asked whether it is there: each question costs an RSA signature and a part of the rate limit.
const PROBE_EVERY: Duration = Duration::from_secs(30);

/// One workspace.
pub struct FireblocksProvider {
    config: FireblocksConfig,
    credentials: Credentials,
    door: Door,
    /// Path before every endpoint, `/v1`.
    prefix: String,
    webhook: Option<Webhook>,
    probed: Mutex<Option<(Instant, ProviderStatus)>>,
}

// === impl FireblocksProvider ===

impl FireblocksProvider {
    /// Reads the credentials; nothing is connected yet.
    pub fn new(config: FireblocksConfig) -> Result<Self, String> {
        let credentials = config.credentials()?;
        let base = config.base()?;
        let door = Door::new(&base, Duration::from_millis(config.call_timeout_ms), usize::from(config.calls_at_once))?;
        let prefix = base.path().trim_end_matches('/').to_owned();
        let webhook = config.hook().map_err(|problem| format!("fireblocks.webhook.{problem}"))?;
        Ok(Self { config, credentials, door, prefix, webhook, probed: Mutex::default() })
    }

    /// Signs the call's token, and sends it.
    async fn send(&self, call: Call) -> Result<Answer, ProviderError> {
        let (credentials, target, body) = (self.credentials.clone(), call.target.clone(), call.body.clone());
        let signing = tokio::task::spawn_blocking(move || {
            credentials.token(&target, &body, OffsetDateTime::now_utc().unix_timestamp(), Uuid::new_v4())
        });
        let token = signing
            .await
            .map_err(|_| ProviderError::Unavailable("the token was not signed".to_owned()))?
            .map_err(|problem| ProviderError::Failed(problem.to_owned()))?;
        let call = call.with("X-API-Key", self.credentials.api_key()).with("Authorization", format!("Bearer {token}"));
        self.door.send(&call).await
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, call: Call) -> Result<Result<T, Refused>, ProviderError> {
        let answer = self.send(call).await?;
        let read = answer::read(&answer)?;
        // What it says of us may quote what we said.
        Ok(read.map_err(|refused| Refused { message: self.redacted(&refused.message), ..refused }))
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, call: Call) -> Result<T, ProviderError> {
        self.read(call).await?.map_err(|refused| refused.error())
    }

    fn redacted(&self, text: &str) -> String {
        text.replace(self.credentials.api_key(), "***")
    }

    fn place(order: &Order<'_>) -> Result<Place, ProviderError> {
        serde_json::from_slice(order.key.material)
            .map_err(|_| ProviderError::Failed("the key's place at the provider is damaged".to_owned()))
    }

    /// What an order is at this provider.
    fn call(&self, order: &Order<'_>, place: &Place) -> Result<Call, ProviderError> {
        let note = format!("{} {}", order.key.name.tenant, order.key.name.wallet);
        // As it was asked for, whatever the mode is by now: what is signed for us is never broadcast, and the other way round.
        Ok(match order.payload {
            Payload::Transaction(tx) if tx.is_by_provider() => {
                let asset = self.config.asset_of(tx.chain_id()).ok_or_else(|| {
                    ProviderError::ChainNotServed(format!(
                        "fireblocks.assets names no asset of chain {}",
                        tx.chain_id()
                    ))
                })?;
                request::contract_call(&self.prefix, place, asset, tx, order.external_id, &note)
            }
            Payload::Document(document) => request::typed(&self.prefix, place, document, order.external_id, &note),
            Payload::Transaction(_) | Payload::Claim(_) | Payload::AuditRoot(_) => {
                request::raw(&self.prefix, place, order.digest, order.external_id, &note)
            }
        })
    }

    /// The vault account of this name, made if there is none.
    async fn vault(&self, name: &str, idempotency_key: &str) -> Result<Vault, ProviderError> {
        let mut after: Option<String> = None;
        loop {
            let page: Vaults = self.get(request::vaults_named(&self.prefix, name, after.as_deref())).await?;
            if let Some(found) = page.accounts.into_iter().find(|vault| vault.name == name) {
                return Ok(found);
            }
            after = page.paging.after.filter(|after| !after.is_empty());
            if after.is_none() {
                return self.get(request::create_vault(&self.prefix, name, idempotency_key)).await;
            }
        }
    }
}

#[async_trait]
impl Provider for FireblocksProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Fireblocks
    }

    fn longest_creation(&self) -> Duration {
        // Look for the account, make it, make its wallet, read address and key; a workspace with many accounts of one prefix has more pages.
        self.door.longest_call() * 8
    }

    async fn create(&self, name: &KeyName) -> Result<NewKey, ProviderError> {
        let label = format!("dalp:{}:{}", name.tenant, name.wallet);
        // Replayed for a day by the platform; past it the account is found by its name.
        let idempotency =
            |what: &str| Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{what}:{label}").as_bytes()).to_string();
        let vault = self.vault(&label, &idempotency("vault")).await?;
        let place = Place { vault: vault.id, asset: self.config.asset.clone() };
        if !vault.assets.iter().any(|asset| asset.id == place.asset) {
            let _: serde_json::Value =
                self.get(request::create_wallet(&self.prefix, &place, &idempotency(&place.asset))).await?;
        }
        let info: PublicKeyInfo = self.get(request::public_key(&self.prefix, &place)).await?;
        let not_a_key = || ProviderError::Failed("the provider's public key is not on secp256k1".to_owned());
        let point = hex::decode(info.public_key.trim_start_matches("0x")).map_err(|_| not_a_key())?;
        let public_key = PublicKey::from_slice(&point).map_err(|_| not_a_key())?;
        let addresses: Addresses = self.get(request::addresses(&self.prefix, &place)).await?;
        let address = addresses.addresses.first().and_then(|entry| entry.address.parse::<Address>().ok());
        if address != Some(address_of(&public_key)) {
            return Err(ProviderError::Failed("the provider's address is not that of its public key".to_owned()));
        }
        let material = serde_json::to_vec(&place).expect("two texts are JSON");
        Ok(NewKey { public_key, material })
    }

    fn signing(&self) -> Signing<'_> {
        Signing::Custody(self)
    }

    async fn status(&self) -> ProviderStatus {
        let remembered = self.probed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, status)) = remembered
            && at.elapsed() < PROBE_EVERY
        {
            return status;
        }
        let status = match self.get::<serde_json::Value>(request::probe(&self.prefix)).await {
            Ok(_) => ProviderStatus { ready: true, detail: format!("{} workspace", self.config.environment_name()) },
            Err(error) => ProviderStatus { ready: false, detail: error.to_string() },
        };
        *self.probed.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), status.clone()));
        status
    }
}

#[async_trait]
impl Custody for FireblocksProvider {
    fn pace(&self) -> Pace {
        // Look for it, send it, and look for it where the id was taken.
        self.config.polling.pace(self.door.longest_call() * 3)
    }

    fn broadcasts(&self) -> bool {
        self.config.mode == Mode::Broadcast
    }

    fn hook(&self) -> Option<&dyn Hook> {
        self.webhook.as_ref().map(|webhook| webhook as &dyn Hook)
    }

    async fn submit(&self, order: &Order<'_>) -> Result<Report, ProviderError> {
        let call = self.call(order, &Self::place(order)?)?;
        match self.read::<Transaction>(call).await? {
            // The answer has its id and a first status, nothing more.
            Ok(created) => Ok(created.report()),
            Err(refused) if refused.code == Some(EXTERNAL_ID_USED) => {
                self.find(order).await?.ok_or_else(|| refused.error())
            }
            Err(refused) => Err(refused.error()),
        }
    }

    async fn find(&self, order: &Order<'_>) -> Result<Option<Report>, ProviderError> {
        let place = Self::place(order)?;
        match self.read::<Transaction>(request::transaction_by_external_id(&self.prefix, order.external_id)).await? {
            Ok(found) => {
                let ordered = self.call(order, &place)?;
                let ordered: serde_json::Value = serde_json::from_slice(&ordered.body).unwrap_or_default();
                // After a restore of our database the id may stand for something else.
                if found.is_order(&ordered, &place.vault) {
                    return Ok(Some(found.report()));
                }
                let id = order.external_id;
                Err(ProviderError::Blocked(format!("the external id {id} stands for another request at the provider")))
            }
            Err(Refused { http: 404, .. }) => Ok(None),
            Err(refused) => Err(refused.error()),
        }
    }

    async fn look(&self, _: &Order<'_>, id: &str) -> Result<Report, ProviderError> {
        Ok(self.get::<Transaction>(request::transaction(&self.prefix, id)).await?.report())
    }

    async fn cancel(&self, order: &Order<'_>, id: &str) -> Result<Report, ProviderError> {
        // Refused once it is broadcast or done; how it stands then is asked either way.
        let answer = self.send(request::cancel(&self.prefix, id)).await?;
        if matches!(answer.status, 401 | 403 | 429 | 500..) {
            let refused = answer::read::<serde_json::Value>(&answer)?.err();
            return Err(refused.map_or_else(|| ProviderError::Failed("cancel".to_owned()), |refused| refused.error()));
        }
        self.look(order, id).await
    }
}
