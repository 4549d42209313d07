//! Events that a custodian sends by itself: signed as the real one signs, delivered as it delivers, and kept for whoever plays tricks with them.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinHandle};

/// Longest delivery.
const WITHIN: Duration = Duration::from_secs(10);

/// An event with its signature, as it goes on the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// Headers beside the media type.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// How letters are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Each at once, and once.
    Once,
    /// Each at once, and a second time.
    Twice,
    /// Not: they are kept until somebody posts them.
    Kept,
}

/// A letter that was delivered, with the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivered {
    /// It.
    pub letter: Letter,
    /// HTTP status; 0: there was no answer.
    pub status: u16,
    /// JSON of the answer.
    pub answer: Value,
}

/// Delivers letters to one address. Dropped: gone.
#[derive(Debug)]
pub struct Postman {
    url: reqwest::Url,
    client: reqwest::Client,
    queue: mpsc::UnboundedSender<Letter>,
    manner: Manner,
    taken: AtomicUsize,
    kept: Mutex<Vec<Letter>>,
    delivered: Arc<Mutex<Vec<Delivered>>>,
    task: JoinHandle<()>,
}

/// What a custodian has told, and whom it tells.
#[derive(Debug, Default)]
pub struct Hooks {
    postman: Mutex<Option<Arc<Postman>>>,
    /// The status last told of each request.
    told: Mutex<HashMap<String, String>>,
}

// === impl Letter ===

impl Letter {
    /// The same with another header of this name, or without it.
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<&str>) -> Self {
        self.headers.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        self.headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        self
    }

    /// Its body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

// === impl Postman ===

impl Postman {
    /// To an address, whose certificate leads to one of the authorities in this file.
    ///
    /// # Errors
    /// When the address or the file is not usable.
    pub fn new(url: &str, authorities: Option<&Path>, manner: Manner) -> anyhow::Result<Self> {
        let url: reqwest::Url = url.parse().context("the address of the webhook")?;
        // A connection each: one on which a body was refused before it was read is closed by the other end, some time.
        let mut builder = reqwest::Client::builder().timeout(WITHIN).pool_max_idle_per_host(0);
        if let Some(path) = authorities {
            let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        let client = builder.build()?;
        let (queue, mut letters) = mpsc::unbounded_channel::<Letter>();
        let delivered: Arc<Mutex<Vec<Delivered>>> = Arc::default();
        let task = tokio::spawn({
            let (url, client, delivered) = (url.clone(), client.clone(), Arc::clone(&delivered));
            async move {
                while let Some(letter) = letters.recv().await {
                    for _ in 0..if manner == Manner::Twice { 2 } else { 1 } {
                        let answer = post(&client, &url, &letter).await;
                        locked(&delivered).push(answer);
                    }
                }
            }
        });
        Ok(Self { url, client, queue, manner, taken: AtomicUsize::new(0), kept: Mutex::default(), delivered, task })
    }

    /// Delivers a letter now, whatever the manner.
    pub async fn post(&self, letter: &Letter) -> Delivered {
        post(&self.client, &self.url, letter).await
    }

    /// What was delivered by itself so far.
    #[must_use]
    pub fn delivered(&self) -> Vec<Delivered> {
        locked(&self.delivered).clone()
    }

    /// Deliveries of what it has taken that have no answer yet.
    #[must_use]
    pub fn on_the_way(&self) -> usize {
        let each = if self.manner == Manner::Twice { 2 } else { 1 };
        (self.taken.load(Ordering::SeqCst) * each).saturating_sub(locked(&self.delivered).len())
    }

    /// What is kept, oldest first.
    #[must_use]
    pub fn kept(&self) -> Vec<Letter> {
        locked(&self.kept).clone()
    }

    fn take(&self, letter: Letter) {
        match self.manner {
            Manner::Kept => locked(&self.kept).push(letter),
            Manner::Once | Manner::Twice => {
                self.taken.fetch_add(1, Ordering::SeqCst);
                // The other end lives as long as this.
                drop(self.queue.send(letter));
            }
        }
    }
}

impl Drop for Postman {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Hooks ===

impl Hooks {
    /// From now on events go there.
    pub fn notify(&self, postman: Arc<Postman>) {
        *locked(&self.postman) = Some(postman);
    }

    /// Whether anybody is told anything.
    #[must_use]
    pub fn is_on(&self) -> bool {
        locked(&self.postman).is_some()
    }

    /// Notes a status; whether it was told before.
    pub fn is_news(&self, id: &str, status: &str) -> bool {
        locked(&self.told).insert(id.to_owned(), status.to_owned()).as_deref() != Some(status)
    }

    /// Sends an event on its way.
    pub fn send(&self, letter: Letter) {
        if let Some(postman) = &*locked(&self.postman) {
            postman.take(letter);
        }
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

async fn post(client: &reqwest::Client, url: &reqwest::Url, letter: &Letter) -> Delivered {
    let mut request = client.post(url.clone()).header("content-type", "application/json").body(letter.body.clone());
    for (name, value) in &letter.headers {
        request = request.header(name, value);
    }
    let (status, answer) = match request.send().await {
        Ok(response) => {
            let status = response.status().as_u16();
            (status, response.json().await.unwrap_or_default())
        }
        Err(_) => (0, Value::Null),
    };
    Delivered { letter: letter.clone(), status, answer }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
