//! Keys at DFNS.
//!
//! A thin client: [`request`] composes what goes on the wire, [`answer`] reads the provider's words, both without I/O. Each call that changes something costs three
//! round trips: a challenge over its very bytes, the credential's answer, and the call itself.

pub mod answer;
pub mod credentials;
pub mod request;
pub mod webhook;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use alloy::primitives::Address;
use async_trait::async_trait;
use reqwest::Method;
use secp256k1::PublicKey;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use self::{
    answer::{Approval, Challenge, Key, Page, Refused, Request, UserAction, Wallet},
    credentials::Credentials,
    request::Place,
    webhook::Webhook,
};
use super::{
    KeyName, NewKey, Provider, ProviderError, ProviderKind, ProviderStatus, Signing,
    custody::{Custody, Order, Pace, Report, State},
    hook::Hook,
    http::{Call, Door},
};
use crate::{
    config::{Mode, dfns::DfnsConfig},
    core::{payload::Payload, signature::address_of},
};

/// How often the provider is asked whether it is there: each question is a part of the rate limit.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// Pages of a list that are read to find one entry. Lists begin with the youngest.
const PAGES_MAX: usize = 100;

/// One organisation.
pub struct DfnsProvider {
    config: DfnsConfig,
    credentials: Credentials,
    door: Door,
    webhook: Option<Webhook>,
    probed: Mutex<Option<(Instant, ProviderStatus)>>,
}

// === impl DfnsProvider ===

impl DfnsProvider {
    /// Reads the credentials; nothing is connected yet.
    pub fn new(config: DfnsConfig) -> Result<Self, String> {
        let credentials = config.credentials()?;
        let timeout = Duration::from_millis(config.call_timeout_ms);
        let door = Door::new(&config.base()?, timeout, usize::from(config.calls_at_once))?;
        let webhook = config.webhook.as_ref().map(|webhook| webhook.hook()).transpose();
        let webhook = webhook.map_err(|problem| format!("dfns.webhook.{problem}"))?;
        Ok(Self { config, credentials, door, webhook, probed: Mutex::default() })
    }

    /// Sends a call with the account's token; one that changes something also with the credential's signature over it.
    async fn read<T: DeserializeOwned>(&self, call: Call) -> Result<Result<T, Refused>, ProviderError> {
        if self.credentials.expires_s().is_some_and(|end| end <= OffsetDateTime::now_utc().unix_timestamp()) {
            return Err(ProviderError::Unauthorized("the service account's token has expired".to_owned()));
        }
        if call.method == Method::GET {
            return self.send(call).await;
        }
        let challenge: Challenge = match self.send(request::challenge(&call)).await? {
            Ok(challenge) => challenge,
            Err(refused) => return Ok(Err(refused)),
        };
        let allowed = &challenge.allow_credentials.key;
        if !allowed.iter().any(|credential| credential.id == self.credentials.id()) {
            return Err(ProviderError::Unauthorized("the challenge is not for dfns.credential_id".to_owned()));
        }
        let assertion = self
            .credentials
            .assertion(&challenge.challenge)
            .map_err(|problem| ProviderError::Failed(problem.to_owned()))?;
        let action = request::action(&challenge.challenge_identifier, self.credentials.id(), &assertion);
        match self.send::<UserAction>(action).await? {
            Ok(action) => self.send(call.with("x-dfns-useraction", action.user_action)).await,
            Err(refused) => Ok(Err(refused)),
        }
    }

    async fn send<T: DeserializeOwned>(&self, call: Call) -> Result<Result<T, Refused>, ProviderError> {
        let call = call.with("authorization", format!("Bearer {}", self.credentials.token()));
        let answer = self.door.send(&call).await?;
        let read = answer::read(&answer)?;
        // What it says of us may quote what we said.
        Ok(read.map_err(|refused| Refused {
            message: refused.message.replace(self.credentials.token(), "***"),
            ..refused
        }))
    }

    async fn get<T: DeserializeOwned>(&self, call: Call) -> Result<T, ProviderError> {
        self.read(call).await?.map_err(|refused| refused.error())
    }

    /// The first entry of a list that is wanted.
    async fn first<T: DeserializeOwned>(
        &self,
        list: impl Fn(Option<&str>) -> Call,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, ProviderError> {
        let mut page: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let answer: Page<T> = self.get(list(page.as_deref())).await?;
            if let Some(found) = answer.items.into_iter().find(&wanted) {
                return Ok(Some(found));
            }
            page = answer.next_page_token.filter(|page| !page.is_empty());
            if page.is_none() {
                return Ok(None);
            }
        }
        Err(ProviderError::Failed("the provider's list does not end".to_owned()))
    }

    fn place(order: &Order<'_>) -> Result<Place, ProviderError> {
        serde_json::from_slice(order.key.material)
            .map_err(|_| ProviderError::Failed("the key's place at the provider is damaged".to_owned()))
    }

    /// The wallet that broadcasts an order; `None`: it is only signed.
    fn wallet<'p>(&self, order: &Order<'_>, place: &'p Place) -> Result<Option<&'p str>, ProviderError> {
        // As it was asked for, whatever the mode is by now: what is signed for us is never broadcast, and the other way round.
        let Payload::Transaction(tx) = order.payload else { return Ok(None) };
        if !tx.is_by_provider() {
            return Ok(None);
        }
        let network = self.config.network_of(tx.chain_id());
        let wallet = network.and_then(|network| place.wallets.get(network)).ok_or_else(|| {
            ProviderError::ChainNotServed(format!("the key has no wallet on a network of chain {}", tx.chain_id()))
        })?;
        Ok(Some(wallet))
    }

    /// What an order is at this provider.
    fn call(&self, order: &Order<'_>, place: &Place) -> Result<Call, ProviderError> {
        Ok(match (order.payload, self.wallet(order, place)?) {
            (Payload::Transaction(tx), Some(wallet)) => request::broadcast(wallet, tx, order.external_id),
            (Payload::Transaction(tx), None) => request::sign_transaction(place, tx, order.external_id)
                .ok_or_else(|| ProviderError::Failed("a call without a wallet".to_owned()))?,
            (Payload::Document(document), _) => request::sign_document(place, document, order.external_id),
            (Payload::Claim(_) | Payload::AuditRoot(_), _) => {
                request::sign_hash(place, order.digest, order.external_id)
            }
        })
    }

    /// Reads a request; of a rejected one its approval, too, for only that tells a denial from an expiry.
    async fn report(&self, found: Request) -> Result<Report, ProviderError> {
        let approval = match &found.approval_id {
            Some(id) if found.was_rejected() => self.get::<Approval>(request::approval(id)).await?.status,
            _ => None,
        };
        Ok(found.report(approval.as_deref()))
    }
}

#[async_trait]
impl Provider for DfnsProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Dfns
    }

    fn longest_creation(&self) -> Duration {
        // Look for the key, make it in three trips, and a wallet in three for each network.
        let wallets = u32::try_from(self.config.networks.len()).unwrap_or(u32::MAX);
        self.door.longest_call().saturating_mul(wallets.saturating_mul(3).saturating_add(6))
    }

    async fn create(&self, name: &KeyName) -> Result<NewKey, ProviderError> {
        let label = format!("dalp:{}:{}", name.tenant, name.wallet);
        let named = |key: &Key| {
            key.name.as_deref() == Some(&label) && key.status.as_deref().is_none_or(|status| status == "Active")
        };
        // The provider has no external id for keys: one that a crash has left is found by its name.
        let key: Key = match self.first(request::keys, named).await? {
            Some(key) => key,
            None => self.get(request::create_key(&label)).await?,
        };
        let not_a_key = || ProviderError::Failed("the provider's public key is not on secp256k1".to_owned());
        let point = hex::decode(key.public_key.trim_start_matches("0x")).map_err(|_| not_a_key())?;
        let public_key = PublicKey::from_slice(&point).map_err(|_| not_a_key())?;
        let mut wallets = BTreeMap::new();
        if self.config.mode == Mode::Broadcast {
            for network in self.config.networks.values() {
                let wallet: Wallet = self.get(request::create_wallet(network, &key.id, &label)).await?;
                let address = wallet.address.and_then(|address| address.parse::<Address>().ok());
                if address != Some(address_of(&public_key)) {
                    return Err(ProviderError::Failed(format!("the wallet on {network} is not of the key")));
                }
                wallets.insert(network.clone(), wallet.id);
            }
        }
        let place = Place { key: key.id, wallets };
        Ok(NewKey { public_key, material: serde_json::to_vec(&place).expect("texts are JSON") })
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
        let status = match self.get::<serde_json::Value>(request::probe()).await {
            Ok(_) => ProviderStatus { ready: true, detail: "organisation reached".to_owned() },
            Err(error) => ProviderStatus { ready: false, detail: error.to_string() },
        };
        *self.probed.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), status.clone()));
        status
    }
}

#[async_trait]
impl Custody for DfnsProvider {
    fn pace(&self) -> Pace {
        // Look for it, three trips to send it, and its approval.
        self.config.polling.pace(self.door.longest_call() * 5)
    }

    fn broadcasts(&self) -> bool {
        self.config.mode == Mode::Broadcast
    }

    fn hook(&self) -> Option<&dyn Hook> {
        self.webhook.as_ref().map(|webhook| webhook as &dyn Hook)
    }

    async fn submit(&self, order: &Order<'_>) -> Result<Report, ProviderError> {
        let call = self.call(order, &Self::place(order)?)?;
        // The same body under the same external id answers with what is there; another body is a conflict.
        match self.read::<Request>(call).await? {
            Ok(found) => self.report(found).await,
            Err(refused) if refused.is_policy() => {
                Ok(Report { id: None, said: refused.message, state: State::Blocked })
            }
            Err(refused) => Err(refused.error()),
        }
    }

    async fn find(&self, order: &Order<'_>) -> Result<Option<Report>, ProviderError> {
        let place = Self::place(order)?;
        let wallet = self.wallet(order, &place)?;
        let list = |page: Option<&str>| match wallet {
            Some(wallet) => request::transactions(wallet, page),
            None => request::signatures(&place, page),
        };
        let ours = |found: &Request| found.external_id.as_deref() == Some(order.external_id);
        let Some(found) = self.first(list, ours).await? else { return Ok(None) };
        let ordered: serde_json::Value = serde_json::from_slice(&self.call(order, &place)?.body).unwrap_or_default();
        if !found.is_order(&ordered) {
            // After a restore of our database the id may stand for something else.
            let id = order.external_id;
            return Err(ProviderError::Blocked(format!(
                "the external id {id} stands for another request at the provider"
            )));
        }
        self.report(found).await.map(Some)
    }

    async fn look(&self, order: &Order<'_>, id: &str) -> Result<Report, ProviderError> {
        let place = Self::place(order)?;
        let call = match self.wallet(order, &place)? {
            Some(wallet) => request::transaction(wallet, id),
            None => request::signature(&place, id),
        };
        let found: Request = self.get(call).await?;
        self.report(found).await
    }

    /// A request that waits for approval cannot be taken back through the API; only its approvers, or their time, end it.
    async fn cancel(&self, order: &Order<'_>, id: &str) -> Result<Report, ProviderError> {
        self.look(order, id).await
    }
}
