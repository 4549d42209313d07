//! Whose wallets are whose: a sender must be a key of the tenant, and the principal's own unless it may use any.

use alloy::primitives::Address;
use dalp_proto::signer::{GetKeyRequest, key_service_client::KeyServiceClient};
use dalp_service::{Caller, Reason, Refusal, caller::ANY_WALLET, client::PropagatingChannel};
use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// How long an answer of the signer is believed. The signer itself refuses a disabled key at once.
const BELIEVED: Duration = Duration::from_secs(30);
/// The most keys remembered.
const REMEMBERED: usize = 10_000;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The owning principal.
    pub owner: String,
    /// Whether it was disabled.
    pub disabled: bool,
}

/// Where keys are looked up.
#[async_trait::async_trait]
pub trait Keys: Send + Sync + 'static {
    /// A key of a tenant; `KEY_NOT_FOUND` when there is none.
    async fn key(&self, tenant: &str, address: Address) -> Result<KeyRecord, Refusal>;
}

/// svc-signer's key service.
pub struct RemoteKeys {
    client: KeyServiceClient<PropagatingChannel>,
}

/// Decides who may send from which wallet.
pub struct Rights {
    keys: Box<dyn Keys>,
    known: Mutex<HashMap<(String, Address), (Instant, KeyRecord)>>,
}

// === impl RemoteKeys ===

impl RemoteKeys {
    /// Asks through a channel that proves who we are.
    #[must_use]
    pub fn new(channel: PropagatingChannel) -> Self {
        Self { client: KeyServiceClient::new(channel) }
    }
}

#[async_trait::async_trait]
impl Keys for RemoteKeys {
    async fn key(&self, tenant: &str, address: Address) -> Result<KeyRecord, Refusal> {
        let request = GetKeyRequest { address: address.to_checksum(None), tenant: tenant.to_owned() };
        let answer = self
            .client
            .clone()
            .get_key(request)
            .await
            .map_err(|status| Refusal::from_upstream("svc-signer", status))?;
        let key = answer.into_inner().key.ok_or_else(|| Refusal::new(Reason::KeyNotFound, "there is no such key"))?;
        Ok(KeyRecord { owner: key.owner, disabled: key.disabled })
    }
}

// === impl Rights ===

impl Rights {
    /// Rights over the keys that `keys` knows.
    #[must_use]
    pub fn new(keys: Box<dyn Keys>) -> Self {
        Self { keys, known: Mutex::default() }
    }

    /// Refuses a sender that is no key of the tenant, is disabled, or is not the caller's to use. The principal that owns it.
    pub async fn require_wallet(&self, caller: &Caller, sender: Address) -> Result<String, Refusal> {
        let key = self.lookup(caller.tenant.as_str(), sender).await?;
        let refuse =
            |reason, message: &str| Err(Refusal::new(reason, message).meta("wallet", sender.to_checksum(None)));
        if key.disabled {
            return refuse(Reason::KeyDisabled, "the sender's key is disabled");
        }
        if key.owner != caller.principal.as_str() && !caller.has_role(ANY_WALLET) {
            return refuse(Reason::WalletNotOwned, "the sender is not a wallet of this principal");
        }
        Ok(key.owner)
    }

    async fn lookup(&self, tenant: &str, sender: Address) -> Result<KeyRecord, Refusal> {
        let id = (tenant.to_owned(), sender);
        let known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&id).cloned();
        if let Some((at, key)) = known
            && at.elapsed() < BELIEVED
        {
            return Ok(key);
        }
        let key = self.keys.key(tenant, sender).await?;
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(id, (Instant::now(), key.clone()));
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    struct OneKey(Arc<AtomicUsize>);

    #[async_trait::async_trait]
    impl Keys for OneKey {
        async fn key(&self, tenant: &str, address: Address) -> Result<KeyRecord, Refusal> {
            self.0.fetch_add(1, Ordering::SeqCst);
            match (tenant, address) {
                ("acme", address) if address == Address::repeat_byte(1) => {
                    Ok(KeyRecord { owner: "alice".into(), disabled: false })
                }
                _ => Err(Refusal::new(Reason::KeyNotFound, "none")),
            }
        }
    }

    fn caller(tenant: &str, principal: &str, roles: &[&str]) -> Caller {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        Caller { tenant: tenant.parse().unwrap(), principal: principal.parse().unwrap(), roles }
    }

    #[tokio::test]
    async fn a_wallet_is_its_owner_s_or_anybody_s_with_the_right() {
        let asked = Arc::new(AtomicUsize::new(0));
        let rights = Rights::new(Box::new(OneKey(asked.clone())));
        let wallet = Address::repeat_byte(1);
        assert!(rights.require_wallet(&caller("acme", "alice", &[]), wallet).await.is_ok());
        assert!(rights.require_wallet(&caller("acme", "ops", &[ANY_WALLET]), wallet).await.is_ok());
        let reason = |answer: Result<String, Refusal>| answer.unwrap_err().reason();
        assert_eq!(
            reason(rights.require_wallet(&caller("acme", "bob", &["trader"]), wallet).await),
            Reason::WalletNotOwned
        );
        assert_eq!(asked.load(Ordering::SeqCst), 1, "the answer is remembered");
        assert_eq!(
            reason(rights.require_wallet(&caller("other", "alice", &[ANY_WALLET]), wallet).await),
            Reason::KeyNotFound
        );
    }
}
