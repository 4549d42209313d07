//! Stands before a simulator and writes down what is sent to it, so that two clients can be compared on the wire.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;

use crate::http::{Broken, Reply, Request, Running, Service};

/// What hop-by-hop headers say is about a connection.
const OF_THE_CONNECTION: [&str; 4] = ["host", "content-length", "connection", "transfer-encoding"];

/// A recorder. Dropped: gone.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    server: Running,
}

#[derive(Debug)]
struct Shared {
    behind: String,
    client: reqwest::Client,
    seen: Mutex<Vec<Request>>,
}

// === impl Recorder ===

impl Recorder {
    /// Before the service at this origin, `http://127.0.0.1:<port>`.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn before(origin: &str) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            behind: origin.trim_end_matches('/').to_owned(),
            client: reqwest::Client::builder().build()?,
            seen: Mutex::default(),
        });
        let server = Running::start(0, Arc::clone(&shared) as Arc<dyn Service>).await?;
        Ok(Self { shared, server })
    }

    /// Where clients find it.
    #[must_use]
    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// What was sent since it was asked last, oldest first.
    #[must_use]
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Service for Shared {
    async fn answer(&self, request: Request) -> Result<Reply, Broken> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let url = format!("{}{}", self.behind, request.target);
        let mut sent = self.client.request(request.method, url).body(request.body);
        for (name, value) in &request.headers {
            if !OF_THE_CONNECTION.contains(&name.as_str()) {
                sent = sent.header(name, value);
            }
        }
        let answer = sent.send().await.map_err(|_| Broken)?;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.map_err(|_| Broken)?;
        Ok(Reply::new(status, body))
    }
}
