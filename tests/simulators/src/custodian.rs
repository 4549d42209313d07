//! Either simulated custodian, with what an operator and an approver do in its console.

use std::{path::Path, str::FromStr, sync::Arc};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::{
    dfns::{self, DfnsSimulator, Policy},
    fault::{Fault, Faults},
    fireblocks::{self, FireblocksSimulator},
    hooks::{Letter, Postman},
    keys::Twist,
};

/// Which custodian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// DFNS.
    Dfns,
    /// Fireblocks, with raw signing.
    Fireblocks,
}

/// How a signer is to work with it.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Longest call.
    pub call_timeout_ms: u64,
    /// How long a request is followed before its caller is told to wait.
    pub settle_ms: u64,
    /// Pause before the first look at what waits for people, and the longest one.
    pub looks_ms: (u64, u64),
    /// It numbers and broadcasts by itself.
    pub broadcast: bool,
}

/// A running custodian. Dropped: gone.
#[derive(Debug)]
pub enum Custodian {
    /// An organisation at DFNS.
    Dfns(DfnsSimulator),
    /// A workspace at Fireblocks.
    Fireblocks(FireblocksSimulator),
}

// === impl Kind ===

impl Kind {
    /// Its name, as a signer's configuration has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dfns => "dfns",
            Self::Fireblocks => "fireblocks",
        }
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match [Self::Dfns, Self::Fireblocks].into_iter().find(|kind| kind.name() == text) {
            Some(kind) => Ok(kind),
            None => bail!("{text} is no custodian: dfns or fireblocks"),
        }
    }
}

// === impl Custodian ===

impl Custodian {
    /// One that signs everything without asking; with the node to which it broadcasts, where it does.
    ///
    /// # Errors
    /// When it finds no port, or the node's address is none.
    pub async fn start(kind: Kind, node: Option<String>) -> anyhow::Result<Self> {
        let custodian = match kind {
            Kind::Fireblocks => {
                let options = fireblocks::Options { raw_enabled: true, node, ..Default::default() };
                Self::Fireblocks(FireblocksSimulator::start(options).await?)
            }
            Kind::Dfns => {
                let options = dfns::Options { node, ..Default::default() };
                Self::Dfns(DfnsSimulator::start(options).await?)
            }
        };
        custodian.allow().await;
        Ok(custodian)
    }

    /// Its section of a signer's configuration. Its credentials are written into the folder of secrets.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn section(&self, secrets: &Path, pace: &Pace) -> anyhow::Result<String> {
        let secret = |name: &str, text: &str| {
            let path = secrets.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok(format!("file:{}", path.display()))
        };
        // Undecided requests are looked at as good as always.
        let Pace { call_timeout_ms, settle_ms, looks_ms: (first_ms, longest_ms), broadcast } = pace;
        let mode = if *broadcast { "broadcast" } else { "sign_only" };
        let pace = format!(
            "mode = \"{mode}\"\ncall_timeout_ms = {call_timeout_ms}\n\
             polling = {{ settle_ms = {settle_ms}, first_ms = {first_ms}, longest_ms = {longest_ms}, attempts = 3 }}\n"
        );
        Ok(match self {
            Self::Dfns(simulator) => format!(
                "[dfns]\nbase_url = \"{}\"\norganization_id = \"{}\"\nauth_token = \"{}\"\ncredential_id = \"{}\"\n\
                 credential_key = \"{}\"\nnetworks = {{ 31337 = \"EthereumSepolia\" }}\n{pace}",
                simulator.base_url(),
                simulator.organisation(),
                secret("dfns-token", simulator.token())?,
                simulator.credential_id(),
                secret("dfns-credential.pem", simulator.credential_pem())?,
            ),
            Self::Fireblocks(simulator) => format!(
                "[fireblocks]\nbase_url = \"{}\"\napi_key = \"{}\"\nsecret_key = \"{}\"\nasset = \"ETH_TEST5\"\n\
                 assets = {{ 31337 = \"ETH_TEST5\" }}\n{pace}",
                simulator.base_url(),
                secret("fireblocks-api-key", simulator.api_key())?,
                secret("fireblocks-rsa.pem", simulator.secret_pem())?,
            ),
        })
    }

    /// What its events need in a signer's configuration, after its section.
    ///
    /// # Errors
    /// When the secret cannot be written.
    pub fn webhook_section(&self, secrets: &Path) -> anyhow::Result<String> {
        Ok(match self {
            Self::Dfns(simulator) => {
                let path = secrets.join("dfns-webhook");
                std::fs::write(&path, simulator.webhook_secret())
                    .with_context(|| format!("cannot write {}", path.display()))?;
                // An old secret beside it, as during a rotation.
                let old = secrets.join("dfns-webhook-old");
                std::fs::write(&old, "the-secret-of-before")
                    .with_context(|| format!("cannot write {}", old.display()))?;
                format!("[dfns.webhook]\nsecrets = [\"file:{}\", \"file:{}\"]\n", old.display(), path.display())
            }
            Self::Fireblocks(simulator) => format!(
                "[fireblocks.webhook]\njwks_url = \"{}\"\nworkspace_id = \"{}\"\n",
                simulator.jwks_url(),
                fireblocks::events::WORKSPACE
            ),
        })
    }

    /// From now on it tells what happens, and time passes for its requests by itself.
    pub fn notify(&self, postman: Arc<Postman>) {
        match self {
            Self::Dfns(simulator) => simulator.hooks().notify(postman),
            Self::Fireblocks(simulator) => simulator.hooks().notify(postman),
        }
    }

    /// Signs a body as it signs its events.
    #[must_use]
    pub fn signed(&self, body: &Value) -> Letter {
        let body = body.to_string().into_bytes();
        match self {
            Self::Dfns(simulator) => dfns::events::signed(simulator.webhook_secret(), body),
            Self::Fireblocks(_) => fireblocks::events::signed(fireblocks::events::KEY_ID, body),
        }
    }

    /// As [`Custodian::signed`], by a key or secret that is none of its.
    #[must_use]
    pub fn forged(&self, body: &Value) -> Letter {
        let body = body.to_string().into_bytes();
        match self {
            Self::Dfns(_) => dfns::events::signed("a secret that somebody guessed", body),
            Self::Fireblocks(_) => fireblocks::events::signed("webhook-key-2", body),
        }
    }

    /// An event of now that says of the request of this external id that it is signed.
    #[must_use]
    pub fn signed_event(&self, external_id: &str) -> Value {
        match self {
            Self::Dfns(_) => {
                let request = json!({"id": "sig-0", "externalId": external_id, "status": "Signed", "signature": {"r": "0x1", "s": "0x1", "recid": 0}});
                dfns::events::event("wallet.signature.signed", &json!({ "signatureRequest": request }))
            }
            Self::Fireblocks(_) => {
                let data = json!({"id": "tx-0", "externalTxId": external_id, "status": "COMPLETED"});
                fireblocks::events::event("transaction.status.updated", "tx-0", &data)
            }
        }
    }

    /// Another time of an event, in seconds from now.
    #[must_use]
    pub fn moved(&self, event: &Value, seconds: i64) -> Value {
        let mut event = event.clone();
        let (field, by) = match self {
            Self::Dfns(_) => ("timestampSent", seconds),
            Self::Fireblocks(_) => ("createdAt", seconds * 1000),
        };
        event[field] = json!(event[field].as_i64().unwrap_or_default() + by);
        event
    }

    /// Another kind of an event, which nobody has heard of.
    #[must_use]
    pub fn invented(&self, event: &Value) -> Value {
        let mut event = event.clone();
        event[if matches!(self, Self::Dfns(_)) { "kind" } else { "eventType" }] = json!("quantum.entangled");
        event["id"] = json!("event-of-an-unknown-kind");
        event
    }

    /// The header that its signature stands in.
    #[must_use]
    pub const fn signature_header(&self) -> &'static str {
        match self {
            Self::Dfns(_) => dfns::events::SIGNATURE,
            Self::Fireblocks(_) => fireblocks::events::SIGNATURE,
        }
    }

    /// What goes wrong at it.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        match self {
            Self::Dfns(simulator) => simulator.faults(),
            Self::Fireblocks(simulator) => simulator.faults(),
        }
    }

    /// From now on everything is signed without asking.
    pub async fn allow(&self) {
        match self {
            Self::Dfns(simulator) => simulator.set_policy(Policy::NoAction).await,
            Self::Fireblocks(simulator) => {
                simulator.set_rules(vec![fireblocks::Rule::all(fireblocks::Action::Allow)]).await;
            }
        }
    }

    /// From now on a person is asked.
    pub async fn ask_people(&self) {
        match self {
            Self::Dfns(simulator) => simulator.set_policy(Policy::RequestApproval).await,
            Self::Fireblocks(simulator) => {
                simulator.set_rules(vec![fireblocks::Rule::all(fireblocks::Action::Approval(1))]).await;
            }
        }
    }

    /// From now on the policy stops everything.
    pub async fn block(&self) {
        match self {
            Self::Dfns(simulator) => simulator.set_policy(Policy::BlockLater).await,
            Self::Fireblocks(simulator) => simulator.set_rules(vec![]).await,
        }
    }

    /// A person approves everything that waits.
    pub async fn approve(&self) {
        match self {
            Self::Dfns(simulator) => simulator.decide("Approved").await,
            Self::Fireblocks(simulator) => simulator.approve().await,
        }
    }

    /// A person rejects everything that waits.
    pub async fn deny(&self) {
        match self {
            Self::Dfns(simulator) => simulator.decide("Denied").await,
            Self::Fireblocks(simulator) => simulator.reject().await,
        }
    }

    /// Nobody decided in time.
    pub async fn expire(&self) {
        match self {
            Self::Dfns(simulator) => simulator.decide("Expired").await,
            Self::Fireblocks(simulator) => simulator.expire().await,
        }
    }

    /// Signatures come twisted from now on.
    pub async fn twist(&self, twist: Twist) {
        match self {
            Self::Dfns(simulator) => simulator.twist(twist).await,
            Self::Fireblocks(simulator) => simulator.twist(twist).await,
        }
    }

    /// Its clock goes ahead.
    ///
    /// # Panics
    /// At one whose credentials carry no times.
    pub fn set_clock_ahead(&self, seconds: i64) {
        match self {
            Self::Dfns(_) => panic!("its credentials carry no times, not {seconds} either"),
            Self::Fireblocks(simulator) => simulator.set_clock_ahead(seconds),
        }
    }

    /// Our credentials are good there no longer, or are again: the service account's token has ended, the API user has another key.
    pub fn turn_away(&self, away: bool) {
        match self {
            Self::Dfns(simulator) => simulator.end_token(away),
            Self::Fireblocks(simulator) => simulator.rekey(away),
        }
    }

    /// A status that nobody has heard of, from now on, of all that is not final.
    pub async fn invent_a_status(&self) {
        match self {
            Self::Dfns(simulator) => simulator.pin("QuantumReview").await,
            Self::Fireblocks(simulator) => simulator.pin("PENDING_QUANTUM_REVIEW", "SECOND_THOUGHTS").await,
        }
    }

    /// What stands at an invented status goes on and is signed.
    pub async fn forget_the_status(&self) {
        match self {
            Self::Dfns(simulator) => simulator.unpin().await,
            Self::Fireblocks(simulator) => simulator.unpin("QUEUED").await,
        }
    }

    /// All that is not final fails through a fault of the provider.
    pub async fn fail(&self) {
        match self {
            Self::Dfns(simulator) => simulator.pin("Failed").await,
            Self::Fireblocks(simulator) => simulator.pin("FAILED", "INTERNAL_ERROR").await,
        }
    }

    /// What it has sent and no block has is sent again at a higher price, under another hash.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn speed_up(&self) -> anyhow::Result<()> {
        match self {
            Self::Dfns(simulator) => simulator.speed_up().await,
            Self::Fireblocks(simulator) => simulator.speed_up().await,
        }
    }

    /// External ids of the requests that it has taken, oldest first.
    pub async fn external_ids(&self) -> Vec<String> {
        match self {
            Self::Dfns(simulator) => simulator
                .requests()
                .await
                .into_iter()
                .filter_map(|asked| asked.body["externalId"].as_str().map(str::to_owned))
                .collect(),
            Self::Fireblocks(simulator) => {
                simulator.transactions().await.into_iter().filter_map(|transaction| transaction.external_id).collect()
            }
        }
    }

    /// The route that takes new requests.
    #[must_use]
    pub fn submissions(&self) -> &'static str {
        match self {
            Self::Dfns(_) => "POST /keys/",
            Self::Fireblocks(_) => "POST /v1/transactions",
        }
    }

    /// The route that takes what it broadcasts by itself.
    #[must_use]
    pub fn broadcasts(&self) -> &'static str {
        match self {
            Self::Dfns(_) => "POST /wallets/",
            Self::Fireblocks(_) => "POST /v1/transactions",
        }
    }

    /// The next new requests fail so.
    pub fn next(&self, fault: Fault, times: usize) {
        self.faults().inject(self.submissions(), fault, times);
    }

    /// The route that makes keys.
    #[must_use]
    pub fn creations(&self) -> &'static str {
        match self {
            Self::Dfns(_) => "POST /keys",
            Self::Fireblocks(_) => "POST /v1/vault/accounts",
        }
    }

    /// Names of the keys that it holds.
    pub async fn key_names(&self) -> Vec<String> {
        match self {
            Self::Dfns(simulator) => simulator.keys().await,
            Self::Fireblocks(simulator) => simulator.vaults().await,
        }
    }

    /// What was approved is signed.
    pub async fn settle(&self) {
        match self {
            Self::Dfns(simulator) => simulator.settle().await,
            Self::Fireblocks(simulator) => simulator.settle().await,
        }
    }

    /// Whether a request that waits can be taken back through the API.
    #[must_use]
    pub fn can_give_up(&self) -> bool {
        match self {
            Self::Dfns(_) => false,
            Self::Fireblocks(_) => true,
        }
    }

    /// Whether its credentials carry times.
    #[must_use]
    pub fn minds_clocks(&self) -> bool {
        match self {
            Self::Dfns(_) => false,
            Self::Fireblocks(_) => true,
        }
    }

    /// Of [`Custodian::planted_secrets`], what it is sent and could quote.
    #[must_use]
    pub fn quotable_secrets(&self) -> Vec<String> {
        match self {
            Self::Dfns(simulator) => vec![simulator.token().to_owned()],
            Self::Fireblocks(simulator) => vec![simulator.api_key().to_owned()],
        }
    }

    /// What must never be seen outside.
    #[must_use]
    pub fn planted_secrets(&self) -> Vec<String> {
        match self {
            Self::Dfns(simulator) => {
                vec![
                    simulator.token().to_owned(),
                    simulator.credential_pem().lines().nth(1).unwrap_or_default().to_owned(),
                ]
            }
            Self::Fireblocks(simulator) => vec![
                simulator.api_key().to_owned(),
                simulator.secret_pem().lines().nth(1).unwrap_or_default().to_owned(),
                simulator.secret_pem().lines().nth(5).unwrap_or_default().to_owned(),
            ],
        }
    }
}
