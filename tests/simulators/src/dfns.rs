//! DFNS: keys, wallets, signatures and broadcasts, policies with their approvals, and the user actions that a credential signs.
//!
//! Strict where the service is: what changes something needs the token of a user action over its very bytes, and that token is good for one call; an external id
//! with another body is a conflict; the account that asks cannot approve. [`DfnsSimulator::decide`] is what approvers do in the dashboard.

pub mod action;
pub mod book;
pub mod events;
pub mod routes;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hyper::Method;
use serde_json::json;
use tokio::sync::Mutex;
use uuid::Uuid;

pub use self::book::{Asked, Policy};
use self::{
    action::{Account, Actions},
    book::Book,
};
use crate::{
    chain::Chain,
    fault::Faults,
    hooks::{Hooks, now_ms},
    http::{Broken, Reply, Request, Running, Service},
    keys::Twist,
};

/// How an organisation is set up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Port on this machine; 0 takes a free one.
    pub port: u16,
    /// The node to which transactions are sent.
    pub node: Option<String>,
    /// The policy.
    pub policy: Policy,
}

/// When the service account's token ends: in the year 2100.
const TOKEN_ENDS_S: i64 = 4_102_444_800;

/// A running organisation. Dropped: gone.
#[derive(Debug)]
pub struct DfnsSimulator {
    shared: Arc<Shared>,
    server: Running,
    organisation: String,
    credential_pem: String,
}

#[derive(Debug)]
struct Shared {
    account: Account,
    actions: Mutex<Actions>,
    book: Mutex<Book>,
    chain: Option<Chain>,
    faults: Faults,
    hooks: Hooks,
    /// Of the webhook.
    secret: String,
    /// How far the service's clock is ahead of ours.
    ahead_s: AtomicI64,
}

/// A refusal in the service's envelope.
#[must_use]
pub fn refused(status: u16, message: &str) -> Reply {
    Reply::new(status, json!({"error": {"id": "er-1", "status": status, "message": message}}))
}

// === impl DfnsSimulator ===

impl DfnsSimulator {
    /// Starts an organisation with one service account.
    ///
    /// # Errors
    /// When the port is taken, or the node's address is none.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
        let pem = STANDARD.encode(key.to_pkcs8v1()?.as_ref());
        let organisation = format!("or-{}", Uuid::new_v4().simple());
        let claims = json!({
            "exp": TOKEN_ENDS_S,
            "jti": Uuid::new_v4(),
            "https://custom/app_metadata": {"orgId": organisation},
        });
        let token = format!(
            "{}.{}.{}",
            URL_SAFE_NO_PAD.encode(json!({"alg": "none"}).to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string()),
            Uuid::new_v4().simple()
        );
        let account = Account {
            token,
            token_ends_s: TOKEN_ENDS_S,
            credential_id: format!("cr-{}", Uuid::new_v4().simple()),
            public_key: key.public_key().as_ref().to_vec(),
        };
        let shared = Arc::new(Shared {
            account,
            actions: Mutex::default(),
            book: Mutex::new(Book { policy: options.policy, ..Book::default() }),
            chain: options.node.as_deref().map(Chain::new).transpose()?,
            faults: Faults::default(),
            hooks: Hooks::default(),
            secret: Uuid::new_v4().simple().to_string(),
            ahead_s: AtomicI64::new(0),
        });
        let server = Running::start(options.port, Arc::clone(&shared) as Arc<dyn Service>).await?;
        let credential_pem = format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n");
        Ok(Self { shared, server, organisation, credential_pem })
    }

    /// The address that clients take.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.server.origin()
    }

    /// The organisation's id.
    #[must_use]
    pub fn organisation(&self) -> &str {
        &self.organisation
    }

    /// The service account's token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.shared.account.token
    }

    /// Id of the account's credential.
    #[must_use]
    pub fn credential_id(&self) -> &str {
        &self.shared.account.credential_id
    }

    /// The credential's P-256 key, PEM.
    #[must_use]
    pub fn credential_pem(&self) -> &str {
        &self.credential_pem
    }

    /// Whom it tells what happens.
    #[must_use]
    pub fn hooks(&self) -> &Hooks {
        &self.shared.hooks
    }

    /// The secret of its webhook.
    #[must_use]
    pub fn webhook_secret(&self) -> &str {
        &self.shared.secret
    }

    /// What goes wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// The service account's token has ended, or, as after it was renewed for longer, has not.
    pub fn end_token(&self, ended: bool) {
        self.shared.ahead_s.store(if ended { TOKEN_ENDS_S } else { 0 }, Ordering::SeqCst);
    }

    /// Replaces the policy; it is asked for new requests.
    pub async fn set_policy(&self, policy: Policy) {
        self.shared.book.lock().await.policy = policy;
    }

    /// Makes every key of now sign wrongly.
    pub async fn twist(&self, twist: Twist) {
        self.shared.book.lock().await.keys.iter_mut().for_each(|held| held.twist = twist);
    }

    /// Every request, oldest first.
    pub async fn requests(&self) -> Vec<Asked> {
        self.shared.book.lock().await.requests.clone()
    }

    /// Names of the keys.
    pub async fn keys(&self) -> Vec<String> {
        self.shared.book.lock().await.keys.iter().filter_map(|held| held.name.clone()).collect()
    }

    /// Whatever waits is decided so: `Approved`, `Denied` or `Expired`.
    pub async fn decide(&self, decision: &str) {
        let mut book = self.shared.book.lock().await;
        let waiting = book.approvals.values_mut().filter(|status| *status == "Pending");
        waiting.for_each(|status| decision.clone_into(status));
        self.shared.run_on(&mut book).await;
    }

    /// Whatever is not over stands so from now on, however often it is looked at.
    pub async fn pin(&self, status: &str) {
        let mut book = self.shared.book.lock().await;
        for asked in book.requests.iter_mut().filter(|asked| asked.is_open()) {
            asked.status = status.to_owned();
            asked.pinned = true;
        }
    }

    /// What was pinned goes on and is carried out.
    pub async fn unpin(&self) {
        let mut book = self.shared.book.lock().await;
        for asked in book.requests.iter_mut().filter(|asked| asked.pinned) {
            asked.status = "Executing".to_owned();
            asked.pinned = false;
        }
    }

    /// What was sent and is in no block yet is sent again at a higher price: it keeps its id and gets another hash.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn speed_up(&self) -> anyhow::Result<()> {
        let mut book = self.shared.book.lock().await;
        let Some(chain) = &self.shared.chain else { return Ok(()) };
        let book::Book { requests, keys, .. } = &mut *book;
        for asked in requests.iter_mut().filter(|asked| asked.status == "Broadcasted") {
            let held = keys.iter().find(|held| held.id == asked.key);
            if let (Some(held), Some(hash), book::Work::Call(wanted)) = (held, asked.tx_hash, &asked.work) {
                asked.tx_hash = Some(chain.send_again(&held.key, wanted, hash).await?);
            }
        }
        Ok(())
    }

    /// Takes everything as far as it goes without anybody looking.
    pub async fn settle(&self) {
        let mut book = self.shared.book.lock().await;
        for at in 0..book.requests.len() {
            // More steps than the longest walk has.
            for _ in 0..4 {
                book.advance(at, self.shared.chain.as_ref()).await;
            }
        }
    }
}

#[async_trait]
impl Service for Shared {
    async fn before(&self, request: &Request) -> Result<Option<Reply>, Broken> {
        self.faults.before(&format!("{} {}", request.method, request.path)).await
    }

    async fn answer(&self, request: Request) -> Result<Reply, Broken> {
        let route = format!("{} {}", request.method, request.path);
        // The rate is the organisation's, whatever is asked.
        if self.faults.is_over_limit("organisation") {
            return Ok(refused(429, "Too many requests"));
        }
        let now_s =
            i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX).saturating_add(self.ahead_s.load(Ordering::SeqCst));
        if let Err(refused) = action::authorised(&request, &self.account, now_s) {
            return Ok(refused);
        }
        let reply = match (request.method == Method::POST, request.path.as_str()) {
            (true, "/auth/action/init") => {
                let body = request.json().unwrap_or_default();
                self.actions.lock().await.init(&body, &self.account)
            }
            (true, "/auth/action") => {
                let body = request.json().unwrap_or_default();
                self.actions.lock().await.complete(&body, &self.account)
            }
            _ => {
                if request.method != Method::GET
                    && let Err(refused) = self.actions.lock().await.spend(&request)
                {
                    return Ok(refused);
                }
                let mut book = self.book.lock().await;
                let reply = routes::answer(&request, &mut book, self.chain.as_ref()).await;
                self.run_on(&mut book).await;
                reply
            }
        };
        self.faults.after(&route)?;
        Ok(reply)
    }
}
