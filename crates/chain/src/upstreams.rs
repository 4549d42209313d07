//! A handle on several nodes of one chain.

use crate::{
    config::ChainConfig,
    error::{ChainError, ConnectError, TransportError, Unavailable},
    health::{self, Health},
    metric_definitions as metric,
    node_error::NodeErrorKind,
    rpc::{self, Call, RpcResult},
};
use futures::future::join_all;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

/// Calls per HTTP request. geth, Besu and Nethermind take about 1,000 by default; smaller batches keep answers small.
pub(crate) const CALLS_PER_REQUEST: usize = 250;

/// Several nodes of one chain. Cheap to clone; all clones share connections and health.
///
/// - A *definite* answer (nonce too low, reverted, insufficient funds, ...) is returned at once and never held against the node.
/// - Lost connections, timeouts, 5xx and 429 make the next node answer.
/// - A node that serves another chain is out of use until it serves ours.
#[derive(Clone)]
pub struct Upstreams {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: ChainConfig,
    client: reqwest::Client,
    pub(crate) upstreams: Vec<Upstream>,
    prober: Mutex<Option<tokio::task::AbortHandle>>,
}

pub(crate) struct Upstream {
    pub(crate) name: String,
    url: reqwest::Url,
    health: Mutex<Health>,
}

/// How one upstream is doing, for health checks and operators.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamStatus {
    /// Name in the configuration.
    pub name: String,
    /// Highest block seen there.
    pub head: u64,
    /// Failures since the last answer.
    pub consecutive_errors: u32,
    /// Moving average.
    pub latency_ms: f64,
    /// Chain id that it serves instead of ours: out of use.
    pub wrong_chain: Option<u64>,
    /// Its chain id has been checked since the last lost connection.
    pub verified: bool,
}

// === impl UpstreamStatus ===

impl UpstreamStatus {
    /// Whether it answered last and serves our chain.
    pub fn is_in_use(&self) -> bool {
        self.verified && self.wrong_chain.is_none() && self.consecutive_errors == 0
    }
}

// === impl Upstreams ===

impl Upstreams {
    /// Checks every upstream's chain id, and starts following their heads.
    ///
    /// Unreachable upstreams are not an error: a service starts, and its writes wait, until one of them comes back. It is an
    /// error if all those that answer serve another chain.
    pub async fn connect(config: ChainConfig) -> Result<Self, ConnectError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(ConnectError::Config(problems));
        }
        let client = rpc::shared_client(config.request_timeout()).map_err(ConnectError::Client)?;
        let mut upstreams = Vec::with_capacity(config.upstreams.len());
        for upstream in &config.upstreams {
            let url = upstream
                .url
                .parse()
                .map_err(|error| ConnectError::Config(vec![format!("upstream {}: {error}", upstream.name)]))?;
            upstreams.push(Upstream { name: upstream.name.clone(), url, health: Mutex::default() });
        }
        let inner = Arc::new(Inner { config, client, upstreams, prober: Mutex::new(None) });
        inner.probe_all().await;
        let found: Vec<_> = inner
            .upstreams
            .iter()
            .filter_map(|upstream| Some((upstream.name.clone(), upstream.health().wrong_chain?)))
            .collect();
        if found.len() == inner.upstreams.len() {
            return Err(ConnectError::WrongChain { expected: inner.config.chain_id, found });
        }
        let prober = tokio::spawn(probe_forever(Arc::downgrade(&inner), inner.config.poll_interval()));
        *inner.prober.lock().unwrap_or_else(PoisonError::into_inner) = Some(prober.abort_handle());
        Ok(Self { inner })
    }

    /// What the pool was made from.
    pub fn config(&self) -> &ChainConfig {
        &self.inner.config
    }

    /// How the upstreams are doing.
    pub fn status(&self) -> Vec<UpstreamStatus> {
        let status = |upstream: &Upstream| {
            let health = upstream.health().clone();
            UpstreamStatus {
                name: upstream.name.clone(),
                head: health.head,
                consecutive_errors: health.consecutive_errors,
                latency_ms: health.latency_ms,
                wrong_chain: health.wrong_chain,
                verified: health.verified,
            }
        };
        self.inner.upstreams.iter().map(status).collect()
    }

    /// Checks chain ids and heads now, instead of at the next tick.
    pub async fn probe(&self) {
        self.inner.probe_all().await;
    }

    /// Many calls in few HTTP requests, answered in order. One upstream answers all calls of a request, so they see one node.
    pub async fn batch(&self, calls: Vec<(&'static str, Value)>) -> Result<Vec<RpcResult>, Unavailable> {
        let mut answers = Vec::with_capacity(calls.len());
        for chunk in calls.chunks(CALLS_PER_REQUEST) {
            answers.extend(self.inner.ask_best::<_, Unavailable>(chunk, Ok, |_| false).await?);
        }
        Ok(answers)
    }

    /// What each upstream answers to these calls, all asked at once: those that answered last, for one that is down would keep all waiting. In
    /// the order of the configuration, without those that do not answer now.
    pub(crate) async fn ask_each(&self, calls: &[Call]) -> Vec<Vec<RpcResult>> {
        let answering = |upstream: &&Upstream| {
            let health = upstream.health();
            health.wrong_chain.is_none() && health.consecutive_errors == 0
        };
        let asked = self.inner.upstreams.iter().filter(answering).map(|upstream| self.inner.ask(upstream, calls));
        join_all(asked).await.into_iter().filter_map(Result::ok).collect()
    }

    /// One call.
    pub async fn request<T: serde::de::DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, ChainError> {
        let read = |answers: Vec<RpcResult>| {
            let missing = || ChainError::Malformed { method: method.into(), reason: "no answer".into() };
            decode(method, answers.into_iter().next().ok_or_else(missing)?)
        };
        let is_malformed = |error: &ChainError| matches!(error, ChainError::Malformed { .. });
        self.inner.ask_best(&[(method, params)], read, is_malformed).await
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

/// Decodes one answer into its final type.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(method: &str, answer: RpcResult) -> Result<T, ChainError> {
    serde_json::from_str(answer?.get())
        .map_err(|error| ChainError::Malformed { method: method.into(), reason: error.to_string() })
}

async fn probe_forever(pool: Weak<Inner>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await; // the first one is immediate, and connect has just probed
    loop {
        ticks.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        pool.probe_all().await;
    }
}

// === impl Inner ===

impl Inner {
    async fn probe_all(&self) {
        join_all(self.upstreams.iter().map(|upstream| self.probe(upstream))).await;
    }

    async fn probe(&self, upstream: &Upstream) {
        if upstream.health().must_pause_until(Instant::now()).is_some() {
            return;
        }
        let calls = [("eth_chainId", json!([])), ("eth_blockNumber", json!([]))];
        let Ok(answers) = self.post(upstream, &calls).await else { return };
        let mut answers = answers.into_iter();
        let mut next = |method| {
            answers
                .next()
                .and_then(|answer| decode::<alloy::primitives::U64>(method, answer).ok())
                .map(|value| value.to::<u64>())
        };
        if let Some(chain_id) = next("eth_chainId") {
            self.judge_chain(upstream, chain_id);
        }
        if let Some(head) = next("eth_blockNumber") {
            self.saw_head(upstream, head);
        }
    }

    fn judge_chain(&self, upstream: &Upstream, found: u64) {
        let expected = self.config.chain_id;
        let wrong_chain = (found != expected).then_some(found);
        let before = {
            let mut health = upstream.health();
            health.verified = wrong_chain.is_none();
            std::mem::replace(&mut health.wrong_chain, wrong_chain)
        };
        if before != wrong_chain {
            match wrong_chain {
                Some(found) => tracing::error!(
                    chain_id = expected,
                    upstream = upstream.name,
                    found,
                    "upstream serves another chain, it is out of use"
                ),
                None => tracing::info!(
                    chain_id = expected,
                    upstream = upstream.name,
                    "upstream serves the right chain again"
                ),
            }
        }
        metric::upstream_quarantined(expected, &upstream.name, wrong_chain.is_some());
    }

    pub(crate) fn saw_head(&self, upstream: &Upstream, head: u64) {
        upstream.health().head = head;
        metric::upstream_head(self.config.chain_id, &upstream.name, head);
    }

    /// Asks one upstream; checks its chain id first if that is due.
    pub(crate) async fn ask(&self, upstream: &Upstream, calls: &[Call]) -> Result<Vec<RpcResult>, TransportError> {
        if !upstream.health().verified {
            let answers = self.post(upstream, &[("eth_chainId", json!([]))]).await?;
            let answer = answers.into_iter().next().ok_or_else(|| TransportError::Malformed("no chain id".into()))?;
            let found: alloy::primitives::U64 =
                decode("eth_chainId", answer).map_err(|error| TransportError::Malformed(error.to_string()))?;
            self.judge_chain(upstream, found.to());
            if found.to::<u64>() != self.config.chain_id {
                return Err(TransportError::WrongChain { expected: self.config.chain_id, found: found.to() });
            }
        }
        // Halve what a node finds too long, down to single calls.
        let mut answers = Vec::with_capacity(calls.len());
        let mut length = calls.len().max(1);
        let mut rest = calls;
        while !rest.is_empty() {
            let part = &rest[..length.min(rest.len())];
            let part_answers = self.post(upstream, part).await?;
            if rpc::batch_is_too_long(&part_answers) {
                length = part.len().div_ceil(2);
                continue;
            }
            answers.extend(part_answers);
            rest = &rest[part.len()..];
        }
        Ok(answers)
    }

    /// One POST, with its outcome booked on the upstream's health.
    async fn post(&self, upstream: &Upstream, calls: &[Call]) -> Result<Vec<RpcResult>, TransportError> {
        let started = Instant::now();
        let result = rpc::post(&self.client, &upstream.url, calls).await;
        let latency = started.elapsed();
        let limited = |answers: &Vec<RpcResult>| {
            answers.iter().any(|answer| answer.as_ref().is_err_and(|error| error.kind == NodeErrorKind::RateLimited))
        };
        let outcome = {
            let mut health = upstream.health();
            let (now, jitter) = (Instant::now(), rand::random::<f64>());
            match &result {
                Ok(answers) if limited(answers) => {
                    health.was_rate_limited(now, None, jitter);
                    "rate_limited"
                }
                Ok(answers) => {
                    health.succeeded(latency);
                    if answers.iter().any(Result::is_err) { "refused" } else { "ok" }
                }
                Err(TransportError::RateLimited { retry_after }) => {
                    health.was_rate_limited(now, *retry_after, jitter);
                    "rate_limited"
                }
                Err(_) => {
                    health.failed(now, jitter);
                    "failed"
                }
            }
        };
        metric::upstream_request(self.config.chain_id, &upstream.name, outcome, latency);
        if let Err(error) = &result {
            let method = calls.first().map_or("", |(method, _)| method);
            tracing::warn!(chain_id = self.config.chain_id, upstream = upstream.name, method, %error, "upstream did not answer");
        }
        result
    }

    /// Usable upstreams, best first.
    pub(crate) fn ordered(&self) -> Vec<&Upstream> {
        let healths: Vec<Health> = self.upstreams.iter().map(|upstream| upstream.health().clone()).collect();
        health::order(&healths, Instant::now()).into_iter().map(|index| &self.upstreams[index]).collect()
    }

    /// Asks upstreams, best first, until one gives definite answers that `read` can make sense of.
    async fn ask_best<T, E: From<Unavailable>>(
        &self,
        calls: &[Call],
        read: impl Fn(Vec<RpcResult>) -> Result<T, E>,
        is_malformed: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let deadline = Instant::now() + self.config.request_timeout();
        let (mut tried, mut last) = (0, String::from("every upstream serves another chain"));
        // The least vague answer so far: if no node can answer definitely, the caller still learns what they say.
        let mut vague: Option<(usize, Vec<RpcResult>)> = None;
        let mut malformed: Option<E> = None;
        loop {
            let mut pause_until: Option<Instant> = None;
            for upstream in self.ordered() {
                if let Some(until) = upstream.health().must_pause_until(Instant::now()) {
                    last = format!("{}: {}", upstream.name, TransportError::RateLimited { retry_after: None });
                    pause_until = Some(pause_until.map_or(until, |other| other.min(until)));
                    continue;
                }
                tried += 1;
                match self.ask(upstream, calls).await {
                    Ok(answers) => {
                        let undecided = answers
                            .iter()
                            .filter(|answer| answer.as_ref().is_err_and(|error| error.kind.is_about_the_node()))
                            .count();
                        if undecided == 0 {
                            match read(answers) {
                                Err(error) if is_malformed(&error) => {
                                    upstream.health().failed(Instant::now(), rand::random());
                                    malformed = Some(error);
                                    continue;
                                }
                                definite => return definite,
                            }
                        }
                        if let Some(until) = upstream.health().must_pause_until(Instant::now()) {
                            last = format!("{}: {}", upstream.name, TransportError::RateLimited { retry_after: None });
                            pause_until = Some(pause_until.map_or(until, |other| other.min(until)));
                        } else if vague.as_ref().is_none_or(|(least, _)| undecided < *least) {
                            vague = Some((undecided, answers));
                        }
                    }
                    Err(error) => {
                        if let Some(until) = upstream.health().must_pause_until(Instant::now()) {
                            pause_until = Some(pause_until.map_or(until, |other| other.min(until)));
                        }
                        last = format!("{}: {error}", upstream.name);
                    }
                }
            }
            if let Some((_, answers)) = vague {
                return read(answers);
            }
            if let Some(error) = malformed {
                return Err(error);
            }
            match pause_until {
                Some(until) if until < deadline => tokio::time::sleep_until(until.into()).await,
                _ => {
                    let method = calls.first().map_or("", |(method, _)| method).to_string();
                    return Err(Unavailable { chain_id: self.config.chain_id, method, tried, last }.into());
                }
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(prober) = self.prober.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            prober.abort();
        }
    }
}

// === impl Upstream ===

impl Upstream {
    /// Never held across an await.
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
