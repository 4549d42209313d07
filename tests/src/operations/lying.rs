//! A node that lies when told to: it stands before a real one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use alloy::primitives::{Bytes, U64, keccak256};
use anyhow::Context as _;
use async_trait::async_trait;
use dalp_simulators::http::{Broken, Reply, Request, Running, Service};
use serde_json::{Value, json};

use super::run::locked;

/// Nonces that it invents above the true one.
const INVENTED: u64 = 3;

/// What it says that is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// Nothing: it passes on what the node behind it says.
    Nothing,
    /// It takes transactions with thanks and gives them to nobody.
    Swallows,
    /// For it the chain ends at this block, with everything that came later unknown.
    StandsStill(u64),
    /// Every account has sent more than it has.
    Nonces,
    /// It is a node of another chain.
    OtherChain,
    /// It ends every connection without an answer.
    Down,
}

/// A running one. Dropped: gone.
pub(super) struct LyingNode {
    server: Running,
    node: Arc<Node>,
}

struct Node {
    lie: Mutex<Lie>,
    /// How often it has lied.
    lies: AtomicU64,
    behind: String,
    client: reqwest::Client,
}

// === impl LyingNode ===

impl LyingNode {
    /// Starts before the node at this address, honest at first.
    pub(super) async fn before(behind: &str) -> anyhow::Result<Self> {
        let (lie, lies, behind) = (Mutex::new(Lie::Nothing), AtomicU64::new(0), behind.to_owned());
        let client = reqwest::Client::builder().tcp_nodelay(true).build()?;
        let node = Arc::new(Node { lie, lies, behind, client });
        let server = Running::start(0, node.clone()).await.context("a port for the lying node")?;
        Ok(Self { server, node })
    }

    /// Its JSON-RPC address.
    pub(super) fn url(&self) -> String {
        self.server.origin()
    }

    /// From now on it lies so.
    pub(super) fn tell(&self, lie: Lie) {
        *locked(&self.node.lie) = lie;
    }

    /// How often it has lied, or ended a connection without an answer.
    pub(super) fn lies(&self) -> u64 {
        self.node.lies.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Service for Node {
    async fn answer(&self, request: Request) -> Result<Reply, Broken> {
        let lie = *locked(&self.lie);
        if lie == Lie::Down {
            self.lies.fetch_add(1, Ordering::Relaxed);
            return Err(Broken);
        }
        let asked = request.json().map_err(|_| Broken)?;
        let calls = match &asked {
            Value::Array(calls) => calls.clone(),
            call => vec![call.clone()],
        };
        let passed: Vec<Value> =
            calls.iter().filter(|call| own_answer(lie, call).is_none()).map(|call| asks(lie, call)).collect();
        let mut truth = if passed.is_empty() { Vec::new() } else { self.pass(&passed).await? };
        let mut answers = Vec::new();
        for call in &calls {
            let own = own_answer(lie, call).map(|result| json!({"jsonrpc": "2.0", "id": call["id"], "result": result}));
            let (answer, lied) = match own {
                Some(answer) => (answer, true),
                None => {
                    let at = truth.iter().position(|answer| answer["id"] == call["id"]).ok_or(Broken)?;
                    let truth = truth.swap_remove(at);
                    let answer = twisted(lie, call, truth.clone());
                    let lied = asks(lie, call) != *call || answer != truth;
                    (answer, lied)
                }
            };
            self.lies.fetch_add(lied.into(), Ordering::Relaxed);
            answers.push(answer);
        }
        Ok(Reply::ok(if asked.is_array() { Value::Array(answers) } else { answers.pop().ok_or(Broken)? }))
    }
}

impl Node {
    async fn pass(&self, calls: &[Value]) -> Result<Vec<Value>, Broken> {
        let answer = self.client.post(&self.behind).json(calls).send().await.map_err(|_| Broken)?;
        answer.json().await.map_err(|_| Broken)
    }
}

fn method(call: &Value) -> &str {
    call["method"].as_str().unwrap_or_default()
}

/// What it says without asking anybody.
fn own_answer(lie: Lie, call: &Value) -> Option<Value> {
    match (lie, method(call)) {
        (Lie::Swallows, "eth_sendRawTransaction") => {
            let bytes: Bytes = call["params"][0].as_str()?.parse().ok()?;
            Some(json!(keccak256(bytes)))
        }
        (Lie::OtherChain, "eth_chainId") => Some(json!("0x1")),
        (Lie::StandsStill(height), "eth_blockNumber") => Some(json!(U64::from(height))),
        _ => None,
    }
}

/// What it asks the node behind it in place of what it was asked.
fn asks(lie: Lie, call: &Value) -> Value {
    let mut call = call.clone();
    if let Lie::StandsStill(height) = lie {
        for parameter in call["params"].as_array_mut().into_iter().flatten() {
            if matches!(parameter.as_str(), Some("latest" | "pending" | "safe" | "finalized")) {
                *parameter = json!(U64::from(height));
            }
        }
    }
    call
}

/// What it makes of the truth.
fn twisted(lie: Lie, call: &Value, mut answer: Value) -> Value {
    let height =
        |value: &Value| value.as_str().and_then(|text| text.parse::<U64>().ok()).map(|number| number.to::<u64>());
    match lie {
        Lie::Nonces if method(call) == "eth_getTransactionCount" => {
            if let Some(nonce) = height(&answer["result"]) {
                answer["result"] = json!(U64::from(nonce + INVENTED));
            }
        }
        Lie::StandsStill(ends) => {
            let of_block = answer["result"].get("blockNumber").or(answer["result"].get("number"));
            if of_block.and_then(height).is_some_and(|number| number > ends) {
                answer["result"] = Value::Null;
            }
        }
        _ => {}
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_of_itself() {
        let send = json!({"id": 1, "method": "eth_sendRawTransaction", "params": ["0x02"]});
        let hash = own_answer(Lie::Swallows, &send).expect("it thanks");
        assert_eq!(hash, json!(keccak256([2])));
        assert_eq!(own_answer(Lie::Nothing, &send), None);
        let chain = json!({"id": 1, "method": "eth_chainId", "params": []});
        assert_eq!(own_answer(Lie::OtherChain, &chain), Some(json!("0x1")));
    }

    #[test]
    fn where_it_stands_still_nothing_came_later() {
        let lie = Lie::StandsStill(16);
        let count = json!({"id": 1, "method": "eth_getTransactionCount", "params": ["0xaa", "pending"]});
        assert_eq!(asks(lie, &count)["params"][1], "0x10");
        let receipt = |block: &str| json!({"id": 1, "result": {"blockNumber": block}});
        assert_eq!(twisted(lie, &count, receipt("0x11"))["result"], Value::Null);
        assert_eq!(twisted(lie, &count, receipt("0x10")), receipt("0x10"));
    }

    #[test]
    fn it_invents_nonces() {
        let count = json!({"id": 1, "method": "eth_getTransactionCount", "params": ["0xaa", "latest"]});
        let told = twisted(Lie::Nonces, &count, json!({"id": 1, "result": "0x5"}));
        assert_eq!(told["result"], "0x8");
    }
}
