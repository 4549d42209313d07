//! Feeds: many updated in every block, one issuer's updates of one feed in a row, and the read that every consumer makes.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, U256};
use anyhow::{Context as _, ensure};
use dalp_devstack::client::{Client, keyed};
use dalp_devstack::configuration::TENANT;
use dalp_devstack::report::Figure;
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::feeds::feed_service_client::FeedServiceClient;
use dalp_proto::feeds::{
    BatchValue, CreateFeedRequest, GetLatestRequest, HistoryMode, SubmitBatchRequest, SubmitUpdateRequest,
};
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::identity::{AddTrustedIssuerRequest, RegisterTopicRequest, RemoveTrustedIssuerRequest};
use dalp_proto::operation::{Operation, OperationState};
use dalp_service::Caller;
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::platform::{IN_FLIGHT, count, rate};
use crate::load::Load;
use crate::waiting::until;

/// Reads at this many stored rounds, which takes minutes to prepare: measured only when feeds are asked for by name.
pub(super) const AT_MANY_ROUNDS: &str = "feeds.read_ms.p99.rounds10m";
const MANY_ROUNDS_SUFFIX: &str = ".rounds10m";
const MANY_ROUNDS: i64 = 10_000_000;
const FEEDS: usize = 200;
/// Batches of all feeds, one after the other final, then as many accepted together.
const BATCHES: usize = 10;
/// Updates of one feed that are accepted together.
const UPDATES: usize = 20;
/// Reads as fast as they are answered.
const READS: usize = 20_000;
/// Reads that come at a steady rate, and for how long.
const READS_PER_SECOND: usize = 5_000;
/// Reads through the gateway, and of the service itself, that are compared.
const PROXIED_PER_SECOND: usize = 2_000;
const READS_LAST: Duration = Duration::from_secs(10);
const STEADY_RUNS: usize = 3;
/// What the tests of the contracts allow a whole transaction of one update, and an update of a batch.
const STEADY_GAS: f64 = 70_000.0;
const BATCH_GAS: f64 = 45_000.0;

/// Feeds on a running stack.
struct Feeds {
    client: Client,
    database: PgConnection,
    issuer: String,
    feeds: Vec<String>,
}

/// Everything measured of feeds.
pub(super) async fn figures(many_rounds: bool) -> anyhow::Result<Vec<Figure>> {
    let mut stack = Stack::start(&Options { log_filter: "warn".to_owned(), ..Options::default() }).await?;
    let load = Load::prepare(&stack.client()?, &ChainView::new(stack.chain_url())?, 0, "local").await?;
    let database = PgConnection::connect(&stack.settings().database_url).await?;
    let mut feeds = Feeds::prepare(stack.client()?, database, &load.issuer.text).await?;
    let mut figures = feeds.writes().await?;
    feeds.indexed().await;

    // As the gateway calls it, so that what the gateway costs is seen.
    let identity = stack.pki().files("svc-gateway");
    let service = stack.channel_to("svc-feeds", Some(&identity))?;
    figures.extend(feeds.reads(&service, "").await?);
    if many_rounds {
        let filled_s = feeds.fill().await?;
        let mut at_many = feeds.reads(&service, MANY_ROUNDS_SUFFIX).await?;
        for figure in &mut at_many {
            figure.note = format!("{}; {MANY_ROUNDS} rounds of {FEEDS} feeds, stored in {filled_s:.0} s", figure.note);
        }
        figures.extend(at_many);
    }
    Ok(figures)
}

/// What the gateway adds to a read that comes at a steady rate: `gateway.adds_ms.p50` and `gateway.adds_ms.p99`. Services that take no part in it are stopped, for what
/// they do in the background would be measured too.
pub(super) async fn gateway_adds() -> anyhow::Result<Vec<Figure>> {
    let mut stack = Stack::start(&Options { log_filter: "warn".to_owned(), ..Options::default() }).await?;
    let load = Load::prepare(&stack.client()?, &ChainView::new(stack.chain_url())?, 0, "local").await?;
    let database = PgConnection::connect(&stack.settings().database_url).await?;
    let feeds = Feeds::prepare(stack.client()?, database, &load.issuer.text).await?;
    let accepted = feeds.batch("first").await?;
    feeds.all_accepted(accepted).await?;
    feeds.indexed().await;
    for service in stack.services_mut() {
        if !matches!(service.name(), "svc-gateway" | "svc-feeds") {
            service.stop();
        }
    }
    let identity = stack.pki().files("svc-gateway");
    feeds.added(&stack.channel_to("svc-feeds", Some(&identity))?).await
}

/// From when a read was due to its answer, in milliseconds.
struct TookMs {
    p50: f64,
    p99: f64,
}

/// Reads a feed's latest value.
type Read = Arc<dyn Fn(String) -> BoxFuture<'static, Result<(), Status>> + Send + Sync>;

/// Reads through the gateway, as every client does.
fn through_gateway(client: &Client) -> Read {
    let service = FeedServiceClient::new(client.gateway());
    Arc::new(move |feed| {
        let mut service = service.clone();
        Box::pin(async move { service.get_latest(GetLatestRequest { feed, max_age_s: 0 }).await.map(drop) })
    })
}

/// Reads from the service itself, as the gateway does.
fn from_service(channel: &Channel) -> anyhow::Result<Read> {
    let caller = Caller { tenant: TENANT.parse()?, principal: "operator".parse()?, roles: Vec::new() };
    let service = FeedServiceClient::new(channel.clone());
    Ok(Arc::new(move |feed| {
        let mut service = service.clone();
        let mut request = Request::new(GetLatestRequest { feed, max_age_s: 0 });
        caller.apply(request.metadata_mut());
        Box::pin(async move { service.get_latest(request).await.map(drop) })
    }))
}

// === impl Feeds ===

impl Feeds {
    async fn prepare(client: Client, database: PgConnection, issuer: &str) -> anyhow::Result<Self> {
        let identities = || IdentityServiceClient::new(client.gateway());
        let topic = RegisterTopicRequest {
            sender: issuer.to_owned(),
            name: "price".to_owned(),
            signature: "(int256 value)".to_owned(),
        };
        done(&client, identities().register_topic(keyed(topic, "topic")).await?.into_inner().operation).await?;
        // The load trusts it for its holders' claims already; topics are given all at once.
        let distrust = RemoveTrustedIssuerRequest { sender: issuer.to_owned(), issuer: issuer.to_owned() };
        let accepted = identities().remove_trusted_issuer(keyed(distrust, "distrust")).await?.into_inner();
        done(&client, accepted.operation).await?;
        let trust = AddTrustedIssuerRequest {
            sender: issuer.to_owned(),
            issuer: issuer.to_owned(),
            topics: ["kyc", "price"].map(str::to_owned).to_vec(),
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
        Ok(Self { client, database, issuer: issuer.to_owned(), feeds })
    }

    /// Batches of all feeds and updates of one.
    async fn writes(&mut self) -> anyhow::Result<Vec<Figure>> {
        let mut took_ms = Vec::new();
        for number in 0..BATCHES {
            let begun = Instant::now();
            let accepted = self.batch(&format!("alone-{number}")).await?;
            self.all_accepted(accepted).await?;
            took_ms.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        let note = format!(
            "one call for {FEEDS} feeds, from the request to its last transaction final; blocks of a second, two transactions"
        );
        let mut figures = vec![Figure::of("feeds.batch200_ms", "ms", took_ms, None, &note)];

        let mut accepted = Vec::new();
        for number in 0..BATCHES {
            accepted.push(self.batch(&format!("together-{number}")).await?);
        }
        for operation in accepted {
            self.all_accepted(operation).await?;
        }
        self.rounds_indexed(2 * BATCHES).await;
        let note = format!(
            "{BATCHES} batches of {FEEDS} feeds accepted together: blocks from one batch to the next; 1: every feed in every block"
        );
        let blocks = self.blocks_a_round(BATCHES).await?;
        figures.push(Figure::of("feeds.batch200_blocks", "blocks", blocks, Some(1.0), &note));

        let mut accepted = Vec::new();
        for number in 0..UPDATES {
            accepted.push(self.update(number).await?);
        }
        for operation in accepted {
            done(&self.client, operation).await?;
        }
        self.rounds_indexed(2 * BATCHES + UPDATES).await;
        let note =
            format!("{UPDATES} updates of one issuer on one feed accepted together: blocks from one round to the next");
        let blocks = self.blocks_a_round(UPDATES).await?;
        figures.push(Figure::of("feeds.round_blocks", "blocks", blocks, Some(1.0), &note));

        // The first update of each feed pays for its storage.
        for (name, kind, updates, budget) in [
            ("feeds.steady_gas", "feed.submit", 1.0, STEADY_GAS),
            ("feeds.batch200_gas", "feed.submit_batch", count(FEEDS), BATCH_GAS),
        ] {
            let gas: Vec<f64> = sqlx::query_scalar(
                "SELECT sum(t.gas_used)::float8 FROM engine.operations o JOIN engine.transactions t USING (tenant, operation_id)
                 WHERE o.kind = $1 AND o.state = 'COMPLETED' GROUP BY o.operation_id ORDER BY o.operation_id OFFSET 1",
            )
            .bind(kind)
            .fetch_all(&mut self.database)
            .await?;
            let each = gas.into_iter().map(|gas| gas / updates).collect();
            figures.push(Figure::of(
                name,
                "gas",
                each,
                Some(budget),
                "of an update on a feed that has one, as whole transactions",
            ));
        }
        Ok(figures)
    }

    /// Has a batch of all feeds accepted.
    async fn batch(&self, key: &str) -> anyhow::Result<Option<Operation>> {
        let observed_at = observed_at()?;
        let values =
            self.feeds.iter().map(|feed| BatchValue { feed: feed.clone(), value: "15000".to_owned(), observed_at });
        let request = SubmitBatchRequest {
            sender: self.issuer.clone(),
            values: values.collect(),
            ..SubmitBatchRequest::default()
        };
        let answer = FeedServiceClient::new(self.client.gateway()).submit_batch(keyed(request, key)).await?;
        Ok(answer.into_inner().operation)
    }

    /// Has an update of the first feed accepted.
    async fn update(&self, number: usize) -> anyhow::Result<Option<Operation>> {
        let request = SubmitUpdateRequest {
            feed: self.feeds[0].clone(),
            value: "15000".to_owned(),
            observed_at: observed_at()?,
            sender: self.issuer.clone(),
            ..SubmitUpdateRequest::default()
        };
        let key = format!("update-{number}");
        let answer = FeedServiceClient::new(self.client.gateway()).submit_update(keyed(request, &key)).await?;
        Ok(answer.into_inner().operation)
    }

    /// Waits until a batch is final, with a round of every feed.
    async fn all_accepted(&self, operation: Option<Operation>) -> anyhow::Result<()> {
        let result = done(&self.client, operation).await?;
        ensure!(result["accepted"] == FEEDS, "not all were accepted: {result}");
        Ok(())
    }

    /// Blocks from one of the latest rounds of the first feed to the next.
    async fn blocks_a_round(&mut self, rounds: usize) -> anyhow::Result<Vec<f64>> {
        let mut blocks: Vec<i64> = sqlx::query_scalar(
            "SELECT block_number FROM feeds.rounds WHERE feed = lower($1) ORDER BY round_id DESC LIMIT $2",
        )
        .bind(&self.feeds[0])
        .bind(i64::try_from(rounds)?)
        .fetch_all(&mut self.database)
        .await?;
        blocks.reverse();
        #[allow(clippy::cast_precision_loss)] // a few blocks
        Ok(blocks.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect())
    }

    /// Reads as fast as they are answered, then at a steady rate; of the service itself and through the gateway.
    async fn reads(&self, service: &Channel, suffix: &str) -> anyhow::Result<Vec<Figure>> {
        let mut figures = Vec::new();
        let ways = [
            (".service", "GetLatest of svc-feeds itself", from_service(service)?),
            ("", "GetLatest through the gateway", through_gateway(&self.client)),
        ];
        for (way, what, read) in ways {
            let (reads_s, name) = (self.read_fast(&read).await?, format!("feeds.read_s{way}{suffix}"));
            let note = format!("{what}, {IN_FLIGHT} under way");
            figures.push(Figure::of(&name, "1/s", vec![reads_s], Some(count(READS_PER_SECOND)), &note));
            let (mut p99_ms, name) = (Vec::new(), format!("feeds.read_ms.p99{way}{suffix}"));
            for _ in 0..STEADY_RUNS {
                p99_ms.push(self.read_steadily(&read, READS_PER_SECOND).await?.p99);
            }
            let lasting_s = READS_LAST.as_secs();
            let note = format!("{what}, {READS_PER_SECOND} a second for {lasting_s} s, from when each was due");
            figures.push(Figure::of(&name, "ms", p99_ms, Some(10.0), &note));
        }
        Ok(figures)
    }

    /// The same reads of the service itself and through the gateway in turn, and by how much the latter takes longer.
    async fn added(&self, service: &Channel) -> anyhow::Result<Vec<Figure>> {
        let (direct, through) = (from_service(service)?, through_gateway(&self.client));
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for _ in 0..STEADY_RUNS {
            let itself = self.read_steadily(&direct, PROXIED_PER_SECOND).await?;
            let proxied = self.read_steadily(&through, PROXIED_PER_SECOND).await?;
            p50.push((itself.p50, proxied.p50));
            p99.push((itself.p99, proxied.p99));
        }
        let figure = |name: &str, goal: f64, runs: Vec<(f64, f64)>| {
            let shown: Vec<String> =
                runs.iter().map(|(itself, proxied)| format!("{proxied:.2} - {itself:.2}")).collect();
            let note = format!(
                "GetLatest at {PROXIED_PER_SECOND} a second for {} s, through the gateway less of svc-feeds itself, client, both services and the database on the same cores: {}",
                READS_LAST.as_secs(),
                shown.join(", ")
            );
            let added = runs.into_iter().map(|(itself, proxied)| proxied - itself).collect();
            Figure::of(name, "ms", added, Some(goal), &note)
        };
        Ok(vec![figure("gateway.adds_ms.p50", 1.0, p50), figure("gateway.adds_ms.p99", 5.0, p99)])
    }

    /// Reads as fast as they are answered: how many a second.
    async fn read_fast(&self, read: &Read) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let reads = stream::iter(0..READS).map(|number| read(self.feeds[number % FEEDS].clone()));
        reads.buffer_unordered(IN_FLIGHT).try_for_each(|()| async { Ok(()) }).await?;
        Ok(rate(READS, begun.elapsed()))
    }

    /// Reads at a steady rate, whatever becomes of the earlier ones. A thread of its own keeps the time: the runtime's timers know whole milliseconds only, and would
    /// have the reads come in bunches.
    async fn read_steadily(&self, read: &Read, per_second: usize) -> anyhow::Result<TookMs> {
        let reads = per_second * usize::try_from(READS_LAST.as_secs())?;
        let (due, mut dues) = mpsc::unbounded_channel();
        let begun = Instant::now();
        std::thread::spawn(move || {
            for number in 0..reads {
                let at = begun + READS_LAST.mul_f64(count(number) / count(reads));
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                if due.send((number, at)).is_err() {
                    return;
                }
            }
        });
        let mut readers = JoinSet::new();
        while let Some((number, at)) = dues.recv().await {
            let asked = read(self.feeds[number % FEEDS].clone());
            readers.spawn(async move {
                asked.await?;
                anyhow::Ok(at.elapsed().as_secs_f64() * 1_000.0)
            });
        }
        let mut took_ms = Vec::with_capacity(reads);
        while let Some(took) = readers.join_next().await {
            took_ms.push(took??);
        }
        took_ms.sort_by(f64::total_cmp);
        Ok(TookMs { p50: took_ms[took_ms.len() / 2], p99: took_ms[took_ms.len() * 99 / 100] })
    }

    /// Waits until the index has a round of every feed.
    async fn indexed(&self) {
        let service = || FeedServiceClient::new(self.client.gateway());
        for feed in &self.feeds {
            let asked = || GetLatestRequest { feed: feed.clone(), max_age_s: 0 };
            until("the feed has a round", async || service().get_latest(asked()).await.is_ok(), |there| *there).await;
        }
    }

    /// Waits until the index has so many rounds of the first feed.
    async fn rounds_indexed(&self, rounds: usize) {
        let latest = async || {
            let asked = GetLatestRequest { feed: self.feeds[0].clone(), max_age_s: 0 };
            let latest = FeedServiceClient::new(self.client.gateway()).get_latest(asked).await;
            latest.map(|latest| latest.into_inner().round_id).unwrap_or_default()
        };
        until("the rounds are indexed", latest, |id| *id == rounds.to_string()).await;
    }

    /// Stores many rounds behind the latest one of every feed, which nobody publishes to any more. Seconds that it took.
    async fn fill(&mut self) -> anyhow::Result<f64> {
        let begun = Instant::now();
        sqlx::query(
            "INSERT INTO feeds.rounds (tenant_id, chain_id, feed, round_id, value, observed_at, issuer, signer, nonce, deadline,
                                       signature, block_number, tx_hash)
             SELECT r.tenant_id, r.chain_id, r.feed, r.round_id + n, r.value, r.observed_at, r.issuer, r.signer, r.nonce + n, r.deadline,
                    r.signature, r.block_number, r.tx_hash
             FROM feeds.feeds f
             CROSS JOIN LATERAL (SELECT * FROM feeds.rounds r WHERE r.tenant_id = f.tenant_id AND r.chain_id = f.chain_id
                                   AND r.feed = f.feed ORDER BY r.round_id DESC LIMIT 1) r
             CROSS JOIN generate_series(1::bigint, $1) n",
        )
        .bind(MANY_ROUNDS / i64::try_from(FEEDS)?)
        .execute(&mut self.database)
        .await?;
        sqlx::query("ANALYZE feeds.rounds").execute(&mut self.database).await?;
        sqlx::query("CHECKPOINT").execute(&mut self.database).await?;
        let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM feeds.rounds").fetch_one(&mut self.database).await?;
        ensure!(stored >= MANY_ROUNDS, "only {stored} rounds are stored");
        Ok(begun.elapsed().as_secs_f64())
    }
}

/// A moment that no block is before.
fn observed_at() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() - 60)
}

async fn done(client: &Client, accepted: Option<Operation>) -> anyhow::Result<serde_json::Value> {
    let operation = client.finished(accepted).await?;
    ensure!(operation.state() == OperationState::Completed, "{} did not complete: {operation:?}", operation.kind);
    Ok(serde_json::from_str(&operation.result_json)?)
}
