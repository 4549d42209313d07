//! The chain that a null chain continues. It knows contracts, balances and everything below the fork; each question is put to it
//! once.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use alloy::primitives::{Address, B256, U64};
use anyhow::Context as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::RpcError;
use super::locked;

pub(super) struct Behind {
    url: reqwest::Url,
    client: reqwest::Client,
    /// The height that it is read at.
    height: OnceLock<u64>,
    known: Mutex<HashMap<String, Result<Box<RawValue>, RpcError>>>,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<RpcError>,
}

// === impl Behind ===

impl Behind {
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.parse().context("the address of the chain behind is not a URL")?,
            client: reqwest::Client::builder().tcp_nodelay(true).build()?,
            height: OnceLock::new(),
            known: Mutex::default(),
        })
    }

    /// Passes a request on as it is.
    pub(super) async fn pass(&self, body: bytes::Bytes) -> anyhow::Result<bytes::Bytes> {
        let request = self.client.post(self.url.clone()).header("content-type", "application/json").body(body);
        Ok(request.send().await?.bytes().await?)
    }

    /// From now on it is read as it stands. Returns height and hash of its head.
    pub(super) async fn freeze(&self) -> anyhow::Result<(u64, B256)> {
        #[derive(Deserialize)]
        struct Head {
            number: U64,
            hash: B256,
        }
        let head = self.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
        let head = head.map_err(|error| anyhow::anyhow!("the chain behind refuses: {}", error.message))?;
        let Head { number, hash } = serde_json::from_str(head.get())?;
        let height = *self.height.get_or_init(|| number.to());
        Ok((height, hash))
    }

    /// The number of transactions that an account had sent.
    pub(super) async fn nonce(&self, account: Address) -> anyhow::Result<u64> {
        let answer = self.ask("eth_getTransactionCount", json!([account, self.tag()])).await?;
        let answer = answer.map_err(|error| anyhow::anyhow!("the chain behind refuses: {}", error.message))?;
        Ok(serde_json::from_str::<U64>(answer.get())?.to())
    }

    /// A question about the state at the fork. Its last parameter is the block; what was answered once is not asked again.
    pub(super) async fn read(
        &self,
        method: &str,
        subject: Vec<Value>,
    ) -> anyhow::Result<Result<Box<RawValue>, RpcError>> {
        let key = format!("{method}{}", Value::from(subject.clone()));
        if let Some(known) = locked(&self.known).get(&key) {
            return Ok(known.clone());
        }
        let mut parameters = subject;
        parameters.push(self.tag());
        let answer = self.ask(method, parameters.into()).await?;
        locked(&self.known).insert(key, answer.clone());
        Ok(answer)
    }

    pub(super) async fn ask(&self, method: &str, parameters: Value) -> anyhow::Result<Result<Box<RawValue>, RpcError>> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).to_string();
        let response: Response = serde_json::from_slice(&self.pass(body.into()).await?)?;
        Ok(match response.error {
            Some(error) => Err(error),
            None => Ok(response.result.unwrap_or_else(|| RawValue::NULL.to_owned())),
        })
    }

    /// The height that it is read at.
    pub(super) fn tag(&self) -> Value {
        self.height.get().map_or_else(|| json!("latest"), |height| json!(U64::from(*height)))
    }
}
