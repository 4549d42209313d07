//! AWS to test against: moto (`aws/server.py`, which tells what is added to it), and before it a door at which what moto does not play goes wrong: refusals
//! for the rate, answers that are lost, calls that hang, signatures of another key and with a high s.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alloy::primitives::{B256, U256};
use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{
    fault::Faults,
    http::{Broken, Reply, Request, Running, Service},
    keys::{Key, ORDER, Twist},
};

/// How long it may take to listen: it is a Python program with much to load.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);
/// A signature is asked for.
pub const SIGN: &str = "POST /TrentService.Sign";
/// A key is made.
pub const CREATE_KEY: &str = "POST /TrentService.CreateKey";
/// A key gets its alias.
pub const CREATE_ALIAS: &str = "POST /TrentService.CreateAlias";
/// A secret is read.
pub const GET_SECRET: &str = "POST /secretsmanager.GetSecretValue";

/// An access key.
#[derive(Debug, Clone, Deserialize)]
pub struct AccessKey {
    /// Its id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

/// A running account. Dropped: gone.
#[derive(Debug)]
pub struct Aws {
    _moto: Child,
    door: Running,
    state: Arc<Door>,
    listening: Listening,
}

#[derive(Debug, Clone, Deserialize)]
struct Listening {
    port: u16,
    region: String,
    account: String,
    role: String,
    cluster_token: String,
    users: BTreeMap<String, AccessKey>,
}

#[derive(Debug)]
struct Door {
    http: reqwest::Client,
    moto: String,
    faults: Faults,
    twist: Mutex<Twist>,
    asked: Mutex<BTreeMap<String, usize>>,
    /// What the agent beside a container tells, and the token that it wants to see.
    agent: Mutex<Option<(String, AccessKey)>>,
}

// === impl Aws ===

impl Aws {
    /// An account with nothing in it but a user with the policy of a signer.
    ///
    /// # Errors
    /// When moto is not installed (`make tools`), or does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python = root.join(".tools/aws-py/bin/python");
        ensure!(python.exists(), "moto is not installed: make tools");
        let mut moto = Command::new(python)
            .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("aws/server.py"))
            .stdin(Stdio::piped()) // ends with this process, whatever becomes of it
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("moto does not start")?;
        let told = moto.stdout.take().context("moto has a standard output")?;
        let mut line = String::new();
        tokio::time::timeout(LISTENS_WITHIN, BufReader::new(told).read_line(&mut line))
            .await
            .context("moto does not listen in time")??;
        let listening: Listening = serde_json::from_str(&line).context("moto ended before it listened")?;
        let state = Arc::new(Door {
            http: reqwest::Client::builder().no_proxy().build()?,
            moto: format!("http://127.0.0.1:{}", listening.port),
            faults: Faults::default(),
            twist: Mutex::default(),
            asked: Mutex::default(),
            agent: Mutex::default(),
        });
        let door = Running::start(0, Arc::clone(&state) as Arc<dyn Service>).await?;
        Ok(Self { _moto: moto, door, state, listening })
    }

    /// Where its services are.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.door.origin()
    }

    /// Where they are without the door; also the token service and the metadata of a machine.
    #[must_use]
    pub fn moto(&self) -> &str {
        &self.state.moto
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.listening.region
    }

    /// The account's number.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.listening.account
    }

    /// The signer's role, which the machine has and the cluster's token stands for.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.listening.role
    }

    /// The token with which the cluster says that a process has the role.
    #[must_use]
    pub fn cluster_token(&self) -> &str {
        &self.listening.cluster_token
    }

    /// The signer's access key.
    ///
    /// # Panics
    /// Never: moto made it.
    #[must_use]
    pub fn signer(&self) -> &AccessKey {
        self.listening.users.get("signer").expect("the account has this user")
    }

    /// The section of a signer's configuration that uses it, with the access key in the folder of secrets. Keys in `other` replace these.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn section(&self, secrets: &Path, call_timeout_ms: u64, other: &str) -> anyhow::Result<String> {
        let secret = |name: &str, text: &str| {
            let path = secrets.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok(format!("file:{}", path.display()))
        };
        let AccessKey { access_key_id, secret_access_key } = self.signer();
        let own = [
            ("region", format!("{:?}", self.region())),
            ("endpoint", format!("{:?}", self.endpoint())),
            ("access_key_id", format!("{:?}", secret("aws-access-key-id", access_key_id)?)),
            ("secret_access_key", format!("{:?}", secret("aws-secret-access-key", secret_access_key)?)),
            ("call_timeout_ms", call_timeout_ms.to_string()),
            ("first_pause_ms", "20".to_owned()),
            ("longest_pause_ms", "500".to_owned()),
        ];
        let replaced =
            |key: &str| other.lines().any(|line| line.split_once(" = ").is_some_and(|(name, _)| name == key));
        let own = own.iter().filter(|(key, _)| !replaced(key)).map(|(key, value)| format!("{key} = {value}\n"));
        Ok(format!("[kms]\n{}{other}\n", own.collect::<String>()))
    }

    /// What goes wrong at the door. A request is known by its operation, as in [`SIGN`].
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.state.faults
    }

    /// Signatures come twisted from now on.
    pub fn twist(&self, twist: Twist) {
        *locked(&self.state.twist) = twist;
    }

    /// How often an operation was asked for.
    #[must_use]
    pub fn asked(&self, operation: &str) -> usize {
        locked(&self.state.asked).get(operation).copied().unwrap_or_default()
    }

    /// The agent beside a container from now on: it tells the signer's keys to whoever shows the token.
    #[must_use]
    pub fn agent(&self, token: &str) -> String {
        *locked(&self.state.agent) = Some((token.to_owned(), self.signer().clone()));
        format!("{}/agent", self.endpoint())
    }

    /// An operator of the account does something (`aws/server.py` tells what there is).
    ///
    /// # Errors
    /// When that fails.
    pub async fn order(&self, order: Value) -> anyhow::Result<Value> {
        let answer = self.state.http.post(format!("{}/stand-in", self.state.moto)).json(&order).send().await?;
        ensure!(answer.status().is_success(), "{order}: {}", answer.status());
        Ok(answer.json().await?)
    }

    /// The signer may not do this any more; nothing: it may again what its policy says.
    ///
    /// # Errors
    /// When that fails.
    pub async fn deny(&self, actions: &[&str]) -> anyhow::Result<()> {
        self.order(json!({ "do": "deny", "actions": actions })).await.map(drop)
    }

    /// The account's clock goes ahead.
    ///
    /// # Errors
    /// When that fails.
    pub async fn set_clock_ahead(&self, seconds: i64) -> anyhow::Result<()> {
        self.order(json!({ "do": "clock", "ahead_s": seconds })).await.map(drop)
    }

    /// A key's state: Enabled, Disabled, PendingDeletion, gone.
    ///
    /// # Errors
    /// When that fails.
    pub async fn set_state(&self, alias: &str, state: &str) -> anyhow::Result<()> {
        self.order(json!({ "do": "state", "alias": alias, "to": state })).await.map(drop)
    }

    /// Makes a key under an alias, in place of any that has it.
    ///
    /// # Errors
    /// When that fails.
    pub async fn make_key(&self, alias: &str, spec: &str) -> anyhow::Result<()> {
        self.order(json!({ "do": "make", "alias": alias, "spec": spec })).await.map(drop)
    }

    /// Stores a secret, or a further version of it; answers with the version's id.
    ///
    /// # Errors
    /// When that fails.
    pub async fn store_secret(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let stored = self.order(json!({ "do": "secret", "name": name, "text": text })).await?;
        stored["VersionId"].as_str().map(str::to_owned).context("the answer names no version")
    }

    /// The aliases of all keys.
    ///
    /// # Errors
    /// When that fails.
    pub async fn aliases(&self) -> anyhow::Result<Vec<String>> {
        let keys = self.order(json!({ "do": "keys" })).await?;
        let aliases = keys.as_array().into_iter().flatten().flat_map(|key| key["aliases"].as_array()).flatten();
        Ok(aliases.filter_map(|alias| alias.as_str().map(str::to_owned)).collect())
    }

    /// How many keys there are, with an alias and without.
    ///
    /// # Errors
    /// When that fails.
    pub async fn keys(&self) -> anyhow::Result<usize> {
        Ok(self.order(json!({ "do": "keys" })).await?.as_array().map_or(0, Vec::len))
    }
}

#[async_trait]
impl Service for Door {
    async fn before(&self, request: &Request) -> Result<Option<Reply>, Broken> {
        if request.path == "/agent" {
            return Ok(Some(self.tell(request)));
        }
        let operation = operation(request);
        *locked(&self.asked).entry(operation.clone()).or_default() += 1;
        if self.faults.is_over_limit(&operation) {
            return Ok(Some(Reply::new(400, json!({ "__type": "ThrottlingException", "message": "Rate exceeded" }))));
        }
        self.faults.before(&operation).await
    }

    async fn answer(&self, request: Request) -> Result<Reply, Broken> {
        let operation = operation(&request);
        let reply = self.forward(&request).await.map_err(|_| Broken)?;
        self.faults.after(&operation)?;
        if operation == SIGN && reply.status == 200 { self.twisted(&request, reply) } else { Ok(reply) }
    }
}

/// What a request asks for, as faults are injected by.
fn operation(request: &Request) -> String {
    format!("{} {}{}", request.method, request.path, request.header("x-amz-target").unwrap_or_default())
}

// === impl Door ===

impl Door {
    /// The request as it came: its signature covers the host that was called.
    async fn forward(&self, request: &Request) -> anyhow::Result<Reply> {
        let mut headers = request.headers.clone();
        for own in ["content-length", "connection"] {
            headers.remove(own);
        }
        let url = format!("{}{}", self.moto, request.target);
        let answer =
            self.http.request(request.method.clone(), url).headers(headers).body(request.body.clone()).send().await?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await?;
        let body = if body.is_empty() { json!({}) } else { serde_json::from_slice(&body)? };
        Ok(Reply::new(status, body))
    }

    fn twisted(&self, request: &Request, reply: Reply) -> Result<Reply, Broken> {
        let signature = || -> Option<Vec<u8>> {
            Some(match *locked(&self.twist) {
                Twist::None => return None,
                Twist::HighS => {
                    let (r, s) = parts(&STANDARD.decode(reply.body["Signature"].as_str()?).ok()?)?;
                    der(r, s.max(ORDER - s))
                }
                Twist::OtherKey => {
                    let digest = STANDARD.decode(request.json().ok()?["Message"].as_str()?).ok()?;
                    let signed = Key::random().sign(B256::try_from(digest.as_slice()).ok()?, Twist::None).ok()?;
                    der(signed.r, signed.s)
                }
            })
        };
        let Some(signature) = signature() else { return Ok(reply) };
        let mut body = reply.body;
        body["Signature"] = json!(STANDARD.encode(signature));
        Ok(Reply { body, ..reply })
    }

    fn tell(&self, request: &Request) -> Reply {
        match locked(&self.agent).as_ref() {
            Some((token, keys)) if request.header("authorization") == Some(token) => Reply::ok(json!({
                "AccessKeyId": keys.access_key_id,
                "SecretAccessKey": keys.secret_access_key,
                "Expiration": "2099-01-01T00:00:00Z",
            })),
            _ => Reply::new(401, json!({ "message": "no" })),
        }
    }
}

/// r and s of a signature in DER.
fn parts(der: &[u8]) -> Option<(U256, U256)> {
    let body = der.strip_prefix(&[0x30])?.get(1..)?;
    let integer = |bytes: &[u8]| -> Option<(U256, usize)> {
        let length = usize::from(*bytes.strip_prefix(&[0x02])?.first()?);
        let value = bytes.get(2..2 + length)?;
        // A zero keeps a high first bit from being a sign.
        Some((U256::try_from_be_slice(value.strip_prefix(&[0]).unwrap_or(value))?, 2 + length))
    };
    let (r, length) = integer(body)?;
    let (s, _) = integer(body.get(length..)?)?;
    Some((r, s))
}

/// A signature in DER.
fn der(r: U256, s: U256) -> Vec<u8> {
    let integer = |value: U256| {
        let mut bytes = value.to_be_bytes_trimmed_vec();
        if bytes.first().is_none_or(|first| *first >= 0x80) {
            bytes.insert(0, 0);
        }
        [vec![0x02, u8::try_from(bytes.len()).unwrap_or(u8::MAX)], bytes].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [vec![0x30, u8::try_from(body.len()).unwrap_or(u8::MAX)], body].concat()
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_goes_into_der_and_out_again() {
        for (r, s) in
            [(U256::from(1), U256::from(0x80)), (ORDER - U256::from(1), U256::from(0x7f)), (U256::from(0x1234), ORDER)]
        {
            assert_eq!(parts(&der(r, s)), Some((r, s)));
        }
        assert_eq!(der(U256::from(0x80), U256::from(1)), [0x30, 7, 2, 2, 0, 0x80, 2, 1, 1]);
    }
}
