//! Feeds: many updated at once, and the read that every consumer makes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, U256};
use anyhow::{Context as _, ensure};
use dalp_devstack::client::{Client, keyed};
use dalp_devstack::report::Figure;
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::feeds::feed_service_client::FeedServiceClient;
use dalp_proto::feeds::{BatchValue, CreateFeedRequest, GetLatestRequest, HistoryMode, SubmitBatchRequest};
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::identity::{AddTrustedIssuerRequest, RegisterTopicRequest};
use dalp_proto::operation::{Operation, OperationState};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::{Connection as _, PgConnection};

use super::platform::{IN_FLIGHT, rate};
use crate::load::Load;

/// Reads at this many stored rounds, which takes minutes to prepare: measured only when asked for by name.
pub(super) const AT_MANY_ROUNDS: &str = "feeds.read_ms.p99.rounds10m";
const MANY_ROUNDS: i64 = 10_000_000;
const FEEDS: usize = 200;
const BATCHES: u64 = 5;
const READS: usize = 20_000;

/// Feeds on a running stack.
struct Feeds {
    client: Client,
    issuer: String,
    feeds: Vec<String>,
}

/// Batches of 200, and reads of the latest value.
pub(super) async fn figures(many_rounds: bool) -> anyhow::Result<Vec<Figure>> {
    let stack = Stack::start(&Options { log_filter: "warn".to_owned(), ..Options::default() }).await?;
    let load = Load::prepare(&stack.client()?, &ChainView::new(stack.chain_url())?, 0, "local").await?;
    let feeds = Feeds::prepare(stack.client()?, &load.issuer.text).await?;
    let mut took_ms = Vec::new();
    for batch in 0..BATCHES {
        took_ms.push(feeds.batch(batch).await?);
    }
    let note =
        "one call for 200 feeds, from the request to its last transaction final; blocks of a second, two transactions";
    let mut figures = vec![Figure::of("feeds.batch200_ms", "ms", took_ms, None, note)];
    let (reads_s, p99_ms) = feeds.reads().await?;
    let note = format!("GetLatest through the gateway, {IN_FLIGHT} under way");
    figures.push(Figure::of("feeds.read_s", "1/s", vec![reads_s], Some(5_000.0), &note));
    figures.push(Figure::of("feeds.read_ms.p99", "ms", vec![p99_ms], Some(10.0), &note));
    if many_rounds {
        fill(&stack.settings().database_url, &feeds.feeds[0]).await?;
        let (_, p99_ms) = feeds.reads().await?;
        let note = format!("the same at {MANY_ROUNDS} rounds of one of the feeds");
        figures.push(Figure::of(AT_MANY_ROUNDS, "ms", vec![p99_ms], Some(10.0), &note));
    }
    Ok(figures)
}

// === impl Feeds ===

impl Feeds {
    async fn prepare(client: Client, issuer: &str) -> anyhow::Result<Self> {
        let identities = || IdentityServiceClient::new(client.gateway());
        let topic = RegisterTopicRequest {
            sender: issuer.to_owned(),
            name: "price".to_owned(),
            signature: "(int256 value)".to_owned(),
        };
        done(&client, identities().register_topic(keyed(topic, "topic")).await?.into_inner().operation).await?;
        let trust = AddTrustedIssuerRequest {
            sender: issuer.to_owned(),
            issuer: issuer.to_owned(),
            topics: vec!["price".to_owned()],
        };
        done(&client, identities().add_trusted_issuer(keyed(trust, "trust")).await?.into_inner().operation).await?;
        let created = (1..=FEEDS).map(|number| {
            let subject = Address::from_word(U256::from(number).into()).to_checksum(None);
            let request = CreateFeedRequest {
                sender: issuer.to_owned(),
                subject,
                topic_name: "price".to_owned(),
                description: "bench".to_owned(),
                history_mode: HistoryMode::LatestOnly.into(),
                ..CreateFeedRequest::default()
            };
            let client = &client;
            async move {
                let accepted = FeedServiceClient::new(client.gateway())
                    .create_feed(keyed(request, &format!("feed-{number}")))
                    .await?
                    .into_inner();
                let result = done(client, accepted.operation).await?;
                anyhow::Ok(result["feed"].as_str().context("the result names no feed")?.to_owned())
            }
        });
        let created: Vec<_> = created.collect();
        let feeds: Vec<String> = stream::iter(created).buffer_unordered(IN_FLIGHT).try_collect().await?;
        Ok(Self { client, issuer: issuer.to_owned(), feeds })
    }

    /// Milliseconds until a batch of all feeds is final.
    async fn batch(&self, number: u64) -> anyhow::Result<f64> {
        let observed_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() - 60;
        let values =
            self.feeds.iter().map(|feed| BatchValue { feed: feed.clone(), value: "15000".to_owned(), observed_at });
        let request = SubmitBatchRequest {
            sender: self.issuer.clone(),
            values: values.collect(),
            ..SubmitBatchRequest::default()
        };
        let begun = Instant::now();
        let accepted = FeedServiceClient::new(self.client.gateway())
            .submit_batch(keyed(request, &format!("batch-{number}")))
            .await?
            .into_inner();
        let result = done(&self.client, accepted.operation).await?;
        ensure!(result["accepted"] == FEEDS, "not all were accepted: {result}");
        Ok(begun.elapsed().as_secs_f64() * 1_000.0)
    }

    /// Reads a second, and the 99th percentile of their milliseconds.
    async fn reads(&self) -> anyhow::Result<(f64, f64)> {
        self.indexed().await?;
        let begun = Instant::now();
        let reads = stream::iter(0..READS).map(|number| {
            let (feed, mut service) =
                (self.feeds[number % FEEDS].clone(), FeedServiceClient::new(self.client.gateway()));
            async move {
                let begun = Instant::now();
                service.get_latest(GetLatestRequest { feed, max_age_s: 0 }).await?;
                anyhow::Ok(begun.elapsed().as_secs_f64() * 1_000.0)
            }
        });
        let mut took_ms: Vec<f64> = reads.buffer_unordered(IN_FLIGHT).try_collect().await?;
        let elapsed = begun.elapsed();
        took_ms.sort_by(f64::total_cmp);
        Ok((rate(READS, elapsed), took_ms[took_ms.len() * 99 / 100]))
    }

    /// Waits until the index has a round of every feed.
    async fn indexed(&self) -> anyhow::Result<()> {
        let mut service = FeedServiceClient::new(self.client.gateway());
        for feed in &self.feeds {
            let begun = Instant::now();
            while service.get_latest(GetLatestRequest { feed: feed.clone(), max_age_s: 0 }).await.is_err() {
                ensure!(begun.elapsed() < Duration::from_secs(60), "{feed} has no round in the index");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

/// Stores many rounds of a feed below its latest one.
async fn fill(database_url: &str, feed: &str) -> anyhow::Result<()> {
    let mut database = PgConnection::connect(database_url).await?;
    sqlx::query(
        "INSERT INTO feeds.rounds (tenant_id, chain_id, feed, round_id, value, observed_at, issuer, signer, nonce, deadline, signature,
                                   block_number, tx_hash)
         SELECT r.tenant_id, r.chain_id, r.feed, -n, r.value, r.observed_at, r.issuer, r.signer, -n, r.deadline, r.signature,
                r.block_number, r.tx_hash
         FROM feeds.rounds r, generate_series(1, $2) n WHERE r.feed = lower($1) AND r.round_id = 1",
    )
    .bind(feed)
    .bind(MANY_ROUNDS)
    .execute(&mut database)
    .await?;
    sqlx::query("ANALYZE feeds.rounds").execute(&mut database).await?;
    Ok(())
}

async fn done(client: &Client, accepted: Option<Operation>) -> anyhow::Result<serde_json::Value> {
    let operation = client.finished(accepted).await?;
    ensure!(operation.state() == OperationState::Completed, "{} did not complete: {operation:?}", operation.kind);
    Ok(serde_json::from_str(&operation.result_json)?)
}
