//! For the tests of every crate: a real anvil, and nodes that answer what a test tells them.

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

/// Chain id of an anvil without arguments.
pub const ANVIL_CHAIN_ID: u64 = 31_337;

/// Private key of anvil's first account (public knowledge, of no worth).
pub const ANVIL_KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// A running anvil on a free port. Dropped: killed.
pub struct Anvil {
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    /// Free port that the system chose.
    pub port: u16,
    child: Child,
}

// === impl Anvil ===

impl Anvil {
    /// Starts anvil with further arguments, and waits until it listens.
    ///
    /// Panics if there is no binary: `DALP_ANVIL`, or the one that `npm ci` puts under `contracts/node_modules`.
    pub fn start<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        let binary = Self::binary();
        let mut child = Command::new(&binary)
            .args(["--port", "0"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("anvil does not start from {}: {error}", binary.display()));
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut said = String::new();
        let port = loop {
            let mut line = String::new();
            assert!(
                stdout.read_line(&mut line).expect("anvil's output is text") > 0,
                "anvil ended before it listened: {said}"
            );
            if let Some(address) = line.trim().strip_prefix("Listening on ") {
                break address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("anvil names its port");
            }
            said.push_str(&line);
        };
        // A full pipe would stop anvil, so what it says is thrown away until it ends.
        std::thread::spawn(move || std::io::copy(&mut stdout.by_ref(), &mut std::io::sink()));
        Self { url: format!("http://127.0.0.1:{port}"), port, child }
    }

    /// Its process id, to halt it and let it go on.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the binary is.
    pub fn binary() -> PathBuf {
        match std::env::var_os("DALP_ANVIL") {
            Some(path) => path.into(),
            None => PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../../contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"),
        }
    }

    /// A configuration with this node as its only upstream, final at once, polled every 50 ms.
    pub fn config(&self) -> crate::ChainConfig {
        config(ANVIL_CHAIN_ID, [("anvil", self.url.as_str())])
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.child.kill(); // already ended is fine
        let _ = self.child.wait();
    }
}

/// A configuration for tests: final at once, fast polls, short timeout.
pub fn config<'a>(chain_id: u64, upstreams: impl IntoIterator<Item = (&'a str, &'a str)>) -> crate::ChainConfig {
    crate::ChainConfig {
        chain_id,
        upstreams: upstreams
            .into_iter()
            .map(|(name, url)| crate::UpstreamConfig { name: name.into(), url: url.into() })
            .collect(),
        finality: crate::Finality::Depth(0),
        fees: crate::FeePolicy::default(),
        block_time_hint_ms: 100,
        request_timeout_ms: 5_000,
    }
}

/// What a scripted node does with a call.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answers.
    Result(Value),
    /// Refuses.
    Error(i64, &'static str),
    /// Answers the whole request with an HTTP status and no body.
    Status(u16),
    /// Closes the connection without an answer.
    Close,
    /// Never answers.
    Hang,
}

/// A node that answers what a function tells it, over real HTTP. Dropped: stops.
pub struct ScriptedNode {
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

type Script = dyn Fn(&str, &Value) -> Reply + Send + Sync;

// === impl ScriptedNode ===

impl ScriptedNode {
    /// Listens on a free port. The script gets method and parameters of each call.
    pub async fn start(script: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with_batch_limit(usize::MAX, script).await
    }

    /// Like [`ScriptedNode::start`], and refuses longer batches as a whole.
    pub async fn start_with_batch_limit(
        batch_limit: usize,
        script: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (requests, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (request_count, connection_count, script) =
            (requests.clone(), connections.clone(), Arc::new(script) as Arc<Script>);
        let server = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new(); // aborted with the server
            while let Ok((socket, _)) = listener.accept().await {
                connection_count.fetch_add(1, Ordering::SeqCst);
                open.spawn(serve(socket, script.clone(), request_count.clone(), batch_limit));
            }
        });
        Self { url, requests, connections, server }
    }

    /// HTTP requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// TCP connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for ScriptedNode {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    socket: tokio::net::TcpStream,
    script: Arc<Script>,
    requests: Arc<AtomicUsize>,
    batch_limit: usize,
) -> Option<()> {
    let mut socket = tokio::io::BufReader::new(socket);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if socket.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await.ok()?;
        requests.fetch_add(1, Ordering::SeqCst);
        let request: Value = serde_json::from_slice(&body).ok()?;
        let calls = request.as_array().cloned().unwrap_or_else(|| vec![request.clone()]);
        let mut answers = Vec::new();
        let mut status = 200;
        for call in &calls {
            match script(call["method"].as_str().unwrap_or_default(), &call["params"]) {
                Reply::Result(result) => answers.push(json!({"jsonrpc": "2.0", "id": call["id"], "result": result})),
                Reply::Error(code, message) => answers
                    .push(json!({"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": message}})),
                Reply::Status(other) => status = other,
                Reply::Close => return None,
                Reply::Hang => std::future::pending().await,
            }
        }
        let body = match (status, request.is_array()) {
            (200, true) if calls.len() > batch_limit => {
                json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "batch too large"}})
                    .to_string()
            }
            (200, true) => Value::from(answers).to_string(),
            (200, false) => answers.pop().unwrap_or_default().to_string(),
            _ => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        socket.get_mut().write_all((head + &body).as_bytes()).await.ok()?;
    }
}
