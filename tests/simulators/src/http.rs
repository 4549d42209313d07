//! A small HTTP server: requests with their raw bytes, for those are what a client's credentials cover.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path, still encoded.
    pub path: String,
    /// Path and query as on the wire.
    pub target: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Value,
}

/// Ends a connection without an answer.
#[derive(Debug)]
pub struct Broken;

/// What answers.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// What is to go wrong with a request before it is looked at. It ends with the connection.
    async fn before(&self, _: &Request) -> Result<Option<Reply>, Broken> {
        Ok(None)
    }

    /// Answers a request, or breaks its connection. It goes to its end, whatever becomes of the connection.
    async fn answer(&self, request: Request) -> Result<Reply, Broken>;
}

/// A running server. Dropped: gone.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    task: JoinHandle<()>,
}

// === impl Request ===

impl Request {
    /// The decoded parts of the path.
    #[must_use]
    pub fn segments(&self) -> Vec<String> {
        self.path.split('/').filter(|part| !part.is_empty()).map(decoded).collect()
    }

    /// A query value, decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key) == name).then(|| decoded(value))
        })
    }

    /// A header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; `Null` without one.
    pub fn json(&self) -> Result<Value, String> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).map_err(|error| error.to_string())
    }
}

// === impl Reply ===

impl Reply {
    /// 200 with a body.
    #[must_use]
    pub fn ok(body: Value) -> Self {
        Self::new(200, body)
    }

    /// Any status.
    #[must_use]
    pub fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// With a further header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

// === impl Running ===

impl Running {
    /// Serves on a port of this machine; 0 takes a free one.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(port: u16, service: Arc<dyn Service>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(listener, service)) })
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, service: Arc<dyn Service>) {
    let mut open = JoinSet::new(); // ended with this task
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        while open.try_join_next().is_some() {}
        open.spawn(converse(socket, Arc::clone(&service)));
    }
}

async fn converse(socket: TcpStream, service: Arc<dyn Service>) {
    let _ = socket.set_nodelay(true); // slower without, not wrong
    let respond = service_fn(|request: hyper::Request<Incoming>| {
        let service = Arc::clone(&service);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(|_| Gone)?.to_bytes();
            let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
            let request =
                Request { method: head.method, path: head.uri.path().to_owned(), target, headers: head.headers, body };
            let early = service.before(&request).await.map_err(|Broken| Gone)?;
            let reply = match early {
                Some(reply) => reply,
                // In a task of its own: who goes away leaves nothing half done, as no custodian forgets an order with the connection.
                None => {
                    let answered = tokio::spawn(async move { service.answer(request).await });
                    answered.await.map_err(|_| Gone)?.map_err(|Broken| Gone)?
                }
            };
            let mut response = Response::builder().status(reply.status).header("content-type", "application/json");
            for (name, value) in reply.headers {
                response = response.header(name, value);
            }
            response.body(Full::new(Bytes::from(reply.body.to_string()))).map_err(|_| Gone)
        }
    });
    // A client that goes away, or a connection that is broken on purpose.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), respond).await;
}

/// What hyper is told so that it breaks the connection.
#[derive(Debug)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the connection breaks before the answer")
    }
}

impl std::error::Error for Gone {}

/// Percent- and plus-decoding; what is no escape stays.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        match (bytes[at], escape) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
