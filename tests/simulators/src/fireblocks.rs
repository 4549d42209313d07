//! Fireblocks: vault accounts, transactions with their full walk, the authorization policy, and the tokens of API users.
//!
//! Strict where the service is: a token covers path, query and body and is used once; an external id is bound for ever (1438); raw signing is off unless the
//! workspace has it; what no rule matches is blocked, and blocked is final. It cannot be approved through the API: [`FireblocksSimulator::approve`] is the console.

pub mod book;
pub mod events;
pub mod policy;
pub mod routes;
pub mod token;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use tokio::sync::Mutex;
use uuid::Uuid;

use self::{
    book::Book,
    routes::Replays,
    token::{Seen, User},
};
pub use self::{
    book::Transaction,
    policy::{Action, Rule},
};
use crate::{
    chain::Chain,
    fault::Faults,
    hooks::Hooks,
    http::{Broken, Reply, Request, Running, Service},
    keys::Twist,
};

/// How a workspace is set up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Port on this machine; 0 takes a free one.
    pub port: u16,
    /// The node to which contract calls are sent.
    pub node: Option<String>,
    /// Whether raw signing is enabled.
    pub raw_enabled: bool,
    /// The authorization policy.
    pub rules: Vec<Rule>,
}

/// A running workspace. Dropped: gone.
#[derive(Debug)]
pub struct FireblocksSimulator {
    shared: Arc<Shared>,
    server: Running,
    api_key: String,
    secret_pem: String,
}

#[derive(Debug)]
struct Shared {
    user: User,
    seen: std::sync::Mutex<Seen>,
    book: Mutex<Book>,
    replays: Mutex<Replays>,
    chain: Option<Chain>,
    faults: Faults,
    /// How far the service's clock is ahead of ours.
    ahead_s: AtomicI64,
    /// The API user has another key by now.
    rekeyed: AtomicBool,
    hooks: Hooks,
}

// === impl FireblocksSimulator ===

impl FireblocksSimulator {
    /// Starts a workspace with one API user.
    ///
    /// # Errors
    /// When the port is taken, or the node's address is none.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let (public_key, secret_pem) = user_key()?;
        let api_key = Uuid::new_v4().to_string();
        let mut book = Book::default();
        (book.rules, book.raw_enabled) = (options.rules, options.raw_enabled);
        let shared = Arc::new(Shared {
            user: User { api_key: api_key.clone(), public_key },
            seen: std::sync::Mutex::default(),
            book: Mutex::new(book),
            replays: Mutex::default(),
            chain: options.node.as_deref().map(Chain::new).transpose()?,
            faults: Faults::default(),
            ahead_s: AtomicI64::new(0),
            rekeyed: AtomicBool::new(false),
            hooks: Hooks::default(),
        });
        let server = Running::start(options.port, Arc::clone(&shared) as Arc<dyn Service>).await?;
        Ok(Self { shared, server, api_key, secret_pem })
    }

    /// The address that clients take, with the version of the API.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.server.origin())
    }

    /// The API user's key.
    #[must_use]
    pub fn api_key(&self) -> &str {
        &self.api_key
    }

    /// The API user's RSA key, PEM.
    #[must_use]
    pub fn secret_pem(&self) -> &str {
        &self.secret_pem
    }

    /// Whom it tells what happens.
    #[must_use]
    pub fn hooks(&self) -> &Hooks {
        &self.shared.hooks
    }

    /// Where it publishes the keys that sign events.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("{}{}", self.server.origin(), events::JWKS)
    }

    /// What goes wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Sets the service's clock ahead of ours, or behind.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.shared.ahead_s.store(seconds, Ordering::SeqCst);
    }

    /// The API user has another key from now on, or its old one again.
    pub fn rekey(&self, rekeyed: bool) {
        self.shared.rekeyed.store(rekeyed, Ordering::SeqCst);
    }

    /// Replaces the authorization policy; it is asked for new transactions.
    pub async fn set_rules(&self, rules: Vec<Rule>) {
        self.shared.book.lock().await.rules = rules;
    }

    /// Enables raw signing, or disables it.
    pub async fn set_raw_enabled(&self, enabled: bool) {
        self.shared.book.lock().await.raw_enabled = enabled;
    }

    /// Makes every key of now sign wrongly.
    pub async fn twist(&self, twist: Twist) {
        self.shared.book.lock().await.vaults.values_mut().for_each(|vault| vault.twist = twist);
    }

    /// Every transaction, oldest first.
    pub async fn transactions(&self) -> Vec<Transaction> {
        self.shared.book.lock().await.transactions.clone()
    }

    /// Names of the vault accounts.
    pub async fn vaults(&self) -> Vec<String> {
        self.shared.book.lock().await.vaults.values().map(|vault| vault.name.clone()).collect()
    }

    /// One more approver approves what waits for approval.
    pub async fn approve(&self) {
        self.decide(|transaction| transaction.approvals += 1).await;
    }

    /// What was sent and is in no block yet is sent again at a higher price: it keeps its id and gets another hash.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn speed_up(&self) -> anyhow::Result<()> {
        let mut book = self.shared.book.lock().await;
        let Some(chain) = &self.shared.chain else { return Ok(()) };
        let book::Book { transactions, vaults, .. } = &mut *book;
        let sent = |one: &&mut Transaction| matches!(one.status.as_str(), "BROADCASTING" | "CONFIRMING");
        for transaction in transactions.iter_mut().filter(sent) {
            let vault = vaults.get(&transaction.vault);
            if let (Some(vault), Some(hash), book::Work::Call(wanted)) = (vault, transaction.tx_hash, &transaction.work)
            {
                transaction.tx_hash = Some(chain.send_again(&vault.key, wanted, hash).await?);
            }
        }
        Ok(())
    }

    /// Takes everything as far as it goes without anybody looking.
    pub async fn settle(&self) {
        let mut book = self.shared.book.lock().await;
        for at in 0..book.transactions.len() {
            // More steps than the longest walk has.
            for _ in 0..8 {
                book.advance(at, self.shared.chain.as_ref()).await;
            }
        }
    }

    /// An approver rejects what waits for approval.
    pub async fn reject(&self) {
        self.decide(|transaction| transaction.set("REJECTED", "REJECTED_BY_USER")).await;
    }

    /// The authorization window of what waits for approval has passed.
    pub async fn expire(&self) {
        self.decide(|transaction| transaction.set("CANCELLED", "TIMEOUT")).await;
    }

    /// Whatever is not final stands so from now on, however often it is looked at.
    pub async fn pin(&self, status: &str, sub_status: &str) {
        let mut book = self.shared.book.lock().await;
        for transaction in book.transactions.iter_mut().filter(|transaction| transaction.is_cancellable()) {
            transaction.set(status, sub_status);
            transaction.pinned = true;
        }
    }

    /// What was pinned goes on from this status.
    pub async fn unpin(&self, status: &str) {
        let mut book = self.shared.book.lock().await;
        for transaction in book.transactions.iter_mut().filter(|transaction| transaction.pinned) {
            transaction.set(status, "");
            transaction.pinned = false;
        }
    }

    async fn decide(&self, decision: impl Fn(&mut Transaction)) {
        let mut book = self.shared.book.lock().await;
        let waiting = book.transactions.iter_mut().filter(|transaction| transaction.status == "PENDING_AUTHORIZATION");
        waiting.for_each(decision);
        self.shared.run_on(&mut book).await;
    }
}

// === impl Shared ===

impl Shared {
    fn now(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

#[async_trait]
impl Service for Shared {
    async fn before(&self, request: &Request) -> Result<Option<Reply>, Broken> {
        self.faults.before(&format!("{} {}", request.method, request.path)).await
    }

    async fn answer(&self, request: Request) -> Result<Reply, Broken> {
        let route = format!("{} {}", request.method, request.path);
        if request.path == events::JWKS {
            return Ok(Reply::ok(events::published()));
        }
        let now = self.now();
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX) + self.ahead_s.load(Ordering::SeqCst);
        let checked = {
            let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let other = || User { api_key: Uuid::new_v4().to_string(), ..self.user.clone() };
            let rekeyed = self.rekeyed.load(Ordering::SeqCst).then(other);
            token::check(&request, rekeyed.as_ref().unwrap_or(&self.user), &mut seen, now_s)
        };
        if let Err(refused) = checked {
            return Ok(refused);
        }
        // Per endpoint: ids do not count apart.
        let endpoint = request.path.split('/').take(4).collect::<Vec<_>>().join("/");
        if self.faults.is_over_limit(&format!("{} {endpoint}", request.method)) {
            return Ok(Reply::new(429, json!({"message": "Too many requests", "code": 429})));
        }
        let mut book = self.book.lock().await;
        let mut replays = self.replays.lock().await;
        let reply = routes::answer(&request, &mut book, &mut replays, self.chain.as_ref(), now.as_millis()).await;
        self.run_on(&mut book).await;
        drop((book, replays));
        self.faults.after(&route)?;
        Ok(reply.with("x-request-id", Uuid::new_v4().to_string()))
    }
}

/// The RSA key of the API user. One for the process: making one takes longer than a test.
fn user_key() -> anyhow::Result<(Vec<u8>, String)> {
    static KEY: OnceLock<Option<(Vec<u8>, String)>> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = KeyPair::generate(KeySize::Rsa2048).ok()?;
        let der: Pkcs8V1Der<'_> = key.as_der().ok()?;
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        Some((key.public_key().as_ref().to_vec(), pem))
    })
    .clone()
    .ok_or_else(|| anyhow::anyhow!("no RSA key could be made"))
}
