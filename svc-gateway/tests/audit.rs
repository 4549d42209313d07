//! The audit log on a real PostgreSQL: places, trees and proofs whatever happens meanwhile, and what a superuser's hand does to it.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use alloy::signers::{SignerSync as _, local::PrivateKeySigner};
use dalp_audit::{
    Hash,
    export::Line,
    root::AuditKey,
    tree::{CompactRange, verify_consistency, verify_inclusion},
    verify::{Finding, Verifier},
};
use dalp_domain::store::Tables;
use dalp_proto::{
    asset::{MintRequest, asset_service_client::AssetServiceClient},
    audit::{
        AuditDecision, AuditFilter, ExportLeavesRequest, ExportLeavesResponse, GetConsistencyProofRequest,
        GetInclusionProofRequest, GetRootRequest, ListLeavesRequest, ListRootsRequest,
        audit_service_client::AuditServiceClient, export_leaves_response,
    },
    feeds::{SubmitUpdateRequest, feed_service_client::FeedServiceClient},
};
use dalp_service::Refusal;
use dalp_testing::TestPostgres;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::json;
use sqlx::PgPool;
use support::{World, until, world_with};
use svc_gateway::{
    access::store::{MIGRATIONS, SCHEMA},
    audit::{Log, store::Round},
};
use tonic::{Request, Status, transport::Channel};

/// The tables alone.
struct Bench {
    postgres: Arc<TestPostgres>,
    pool: PgPool,
    log: Log,
}

impl Bench {
    async fn new() -> Self {
        let postgres = Arc::new(tokio::task::spawn_blocking(TestPostgres::start).await.unwrap());
        let pool = dalp_engine::pool(&postgres.url(), "svc-gateway", SCHEMA.name, 20).unwrap();
        dalp_engine::migrate(&pool).await.unwrap();
        let tables = Tables::over(SCHEMA, pool.clone());
        tables.migrate(&MIGRATIONS).await.unwrap();
        Self { postgres, pool, log: Log::new(tables) }
    }

    async fn write(&self, tenant: &str, count: usize) {
        let mut connection = self.pool.acquire().await.unwrap();
        for number in 0..count {
            leaf(&mut connection, tenant, number).await;
        }
    }

    /// Seals until nothing is left.
    async fn seal_all(&self, batch: u32) {
        while self.log.seal(batch).await.unwrap() != Round::Sealed(0) {}
    }

    /// The tree of a tenant is the tree of its leaves in their places, without a gap.
    async fn whole(&self, tenant: &str) -> u64 {
        let edge = self.log.edge(tenant).await.unwrap();
        let entries = self.log.entries(tenant, 0, u64::MAX >> 1).await.unwrap();
        assert_eq!(entries.len() as u64, edge.size());
        let mut tree = CompactRange::default();
        for (place, entry) in entries.iter().enumerate() {
            let said = entry.leaf.as_ref().unwrap_or_else(|| panic!("nothing stands at {place} of {tenant}"));
            assert_eq!((entry.position, entry.hash), (place as u64, said.hash()));
            tree.append(entry.hash);
        }
        assert_eq!(tree.root(), edge.root());
        edge.size()
    }
}

async fn leaf(connection: &mut sqlx::PgConnection, tenant: &str, number: usize) {
    let body = json!({"number": number, "reason": "so"});
    dalp_engine::audit_leaf(connection, tenant, "test.write", "ops", &format!("thing-{number}"), body).await.unwrap();
}

async fn number(pool: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_commits_late_gets_a_later_place_and_none_is_left_out() {
    let bench = Bench::new().await;
    let mut late = bench.pool.begin().await.unwrap();
    leaf(&mut late, "acme", 1).await;
    bench.write("acme", 3).await;
    // What is behind the open transaction waits, though it is committed: it could be overtaken.
    bench.seal_all(10).await;
    assert_eq!(bench.log.edge("acme").await.unwrap().size(), 0);
    assert_eq!(bench.log.backlog().await.unwrap().unsealed, 3);
    let mut rolled_back = bench.pool.begin().await.unwrap();
    leaf(&mut rolled_back, "acme", 9).await;
    rolled_back.rollback().await.unwrap();
    late.commit().await.unwrap();
    bench.write("other", 2).await;
    bench.seal_all(2).await;
    assert_eq!(bench.whole("acme").await, 4);
    assert_eq!(bench.whole("other").await, 2);
    let backlog = bench.log.backlog().await.unwrap();
    assert_eq!((backlog.unsealed, backlog.seal_lag_s), (0, 0.0));
    assert!(backlog.root_lag_s >= 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_and_several_sealers_make_one_log() {
    let bench = Arc::new(Bench::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..6 {
        let bench = Arc::clone(&bench);
        tasks.spawn(async move {
            for round in 0..30 {
                let mut commit = bench.pool.begin().await.unwrap();
                for number in 0..5 {
                    leaf(&mut commit, ["acme", "other", "third"][(writer + round) % 3], number).await;
                }
                match round % 7 {
                    6 => commit.rollback().await.unwrap(),
                    _ => commit.commit().await.unwrap(),
                }
            }
        });
    }
    let stop = dalp_service::stop::Stop::new();
    let mut sealers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (bench, stop) = (Arc::clone(&bench), stop.clone());
        sealers.spawn(async move {
            while !stop.is_requested() {
                bench.log.seal(17).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    stop.request();
    while let Some(done) = sealers.join_next().await {
        done.unwrap();
    }
    bench.seal_all(1_000).await;
    let mut sealed = 0;
    for tenant in ["acme", "other", "third"] {
        sealed += bench.whole(tenant).await;
    }
    assert_eq!(sealed.cast_signed(), number(&bench.pool, "SELECT count(*) FROM engine.audit_leaves").await);
    assert_eq!(sealed, 6 * 5 * 26);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealer_that_dies_in_the_middle_leaves_nothing_half_done() {
    let bench = Bench::new().await;
    bench.write("acme", 40).await;
    // Its statement after the places waits for this lock: there it is killed.
    let mut lock = bench.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE gateway.audit_tiles IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let log = bench.log.clone();
    let sealing = tokio::spawn(async move { log.seal(100).await });
    let waiting = "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO gateway.audit_tiles%'";
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut pid = 0;
    while pid == 0 {
        assert!(Instant::now() < deadline, "it comes to the lock");
        pid = number(&bench.pool, waiting).await;
    }
    sqlx::query("SELECT pg_terminate_backend($1)")
        .bind(i32::try_from(pid).unwrap())
        .execute(&bench.pool)
        .await
        .unwrap();
    sealing.await.unwrap().unwrap_err();
    lock.rollback().await.unwrap();
    for table in ["SELECT count(*) FROM gateway.audit_entries", "SELECT count(*) FROM gateway.audit_trees"] {
        assert_eq!(number(&bench.pool, table).await, 0);
    }
    bench.seal_all(7).await;
    assert_eq!(bench.whole("acme").await, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn sealing_goes_on_in_a_database_whose_transaction_numbers_began_anew() {
    let bench = Bench::new().await;
    bench.write("acme", 5).await;
    bench.seal_all(100).await;
    bench.write("acme", 3).await;
    // As a dump restored elsewhere: rows keep their numbers, which this server has not reached.
    for statement in [
        "SET session_replication_role = replica",
        "UPDATE engine.audit_leaves SET xid = (xid::text::numeric + 1000000000)::text::xid8",
        "UPDATE gateway.audit_sealer SET after_xid = (after_xid::text::numeric + 1000000000)::text::xid8",
    ] {
        // On one connection: the setting is its own.
        let mut connection = bench.pool.acquire().await.unwrap();
        sqlx::query("SET session_replication_role = replica").execute(&mut *connection).await.unwrap();
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
        sqlx::query("SET session_replication_role = origin").execute(&mut *connection).await.unwrap();
    }
    bench.write("acme", 4).await;
    for _ in 0..6 {
        bench.log.seal(2).await.unwrap();
    }
    bench.write("acme", 2).await;
    bench.seal_all(2).await;
    assert_eq!(bench.whole("acme").await, 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_refuse_what_must_never_be() {
    let bench = Bench::new().await;
    bench.write("acme", 40).await;
    bench.seal_all(100).await;
    bench.log.make_roots(Duration::ZERO, 10).await.unwrap();
    let root = bench.log.roots_to_sign(10).await.unwrap().pop().unwrap();
    bench.log.signed(&root, [1; 20], &[7; 65]).await.unwrap();
    for forbidden in [
        "UPDATE gateway.audit_entries SET position = position + 100",
        "DELETE FROM gateway.audit_entries",
        "INSERT INTO gateway.audit_entries VALUES ('acme', 3, 999)",
        "INSERT INTO gateway.audit_entries SELECT 'other', 0, min(leaf_sequence) FROM gateway.audit_entries",
        "UPDATE gateway.audit_tiles SET hashes = hashes",
        "DELETE FROM gateway.audit_tiles",
        "UPDATE gateway.audit_trees SET size = 1",
        "DELETE FROM gateway.audit_trees",
        "UPDATE gateway.audit_roots SET root = sha256('x')",
        "UPDATE gateway.audit_roots SET signature = NULL, signer = NULL",
        "DELETE FROM gateway.audit_roots",
        "UPDATE engine.audit_leaves SET actor = 'nobody'",
        "DELETE FROM engine.audit_leaves",
        "TRUNCATE engine.audit_leaves",
    ] {
        sqlx::query(forbidden).execute(&bench.pool).await.expect_err(forbidden);
    }
    // Of a tenant one root at a time waits for its signature, whoever makes roots.
    bench.write("acme", 1).await;
    bench.seal_all(100).await;
    assert_eq!(bench.log.make_roots(Duration::ZERO, 10).await.unwrap(), 1);
    bench.write("acme", 1).await;
    bench.seal_all(100).await;
    assert_eq!(bench.log.make_roots(Duration::ZERO, 10).await.unwrap(), 0);
    let waits = bench.log.roots_to_sign(10).await.unwrap();
    assert_eq!(waits.iter().map(|root| root.size).collect::<Vec<_>>(), [41]);
    bench.log.refused(&waits[0], "REQUEST_ID_REUSED").await.unwrap();
    assert_eq!(bench.log.make_roots(Duration::ZERO, 10).await.unwrap(), 1, "the next one of another size");
    assert_eq!(bench.log.make_roots(Duration::from_secs(60), 10).await.unwrap(), 0);
    assert!(bench.postgres.pid() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_proof_of_a_log_with_full_tiles_holds() {
    let bench = Bench::new().await;
    let mut connection = bench.pool.acquire().await.unwrap();
    sqlx::query(
        "INSERT INTO engine.audit_leaves (tenant, action, actor, subject, body) SELECT 'acme', 'a', 'b', n::text, '{}' FROM generate_series(1, 2500) n",
    )
    .execute(&mut *connection)
    .await
    .unwrap();
    bench.seal_all(333).await;
    let size = bench.whole("acme").await;
    assert_eq!(size, 2500);
    let roots: BTreeMap<u64, Hash> = {
        let mut tree = CompactRange::default();
        let entries = bench.log.entries("acme", 0, size).await.unwrap();
        entries
            .iter()
            .map(|entry| {
                tree.append(entry.hash);
                (tree.size(), tree.root())
            })
            .collect()
    };
    let entries = bench.log.entries("acme", 0, size).await.unwrap();
    for (position, at) in
        [(0, 1), (0, 2500), (1023, 1024), (1024, 1025), (31, 32), (32, 33), (2499, 2500), (1777, 2048)]
    {
        let proof = bench.log.inclusion("acme", position, at).await.unwrap().unwrap();
        assert_eq!(proof.root, roots[&at]);
        let leaf = &entries[usize::try_from(position).unwrap()].hash;
        assert!(verify_inclusion(leaf, position, at, &proof.hashes, &proof.root), "{position} of {at}");
    }
    for (first, second) in [(1, 2500), (1024, 2048), (1000, 1025), (2499, 2500), (2500, 2500), (33, 64)] {
        let (first_root, proof) = bench.log.consistency("acme", first, second).await.unwrap().unwrap();
        assert_eq!((first_root, proof.root), (roots[&first], roots[&second]));
        assert!(verify_consistency(first, second, &first_root, &proof.root, &proof.hashes), "{first} to {second}");
    }
    assert_eq!(bench.log.inclusion("acme", 2500, 2500).await.unwrap(), None);
    assert_eq!(bench.log.inclusion("acme", 0, 2501).await.unwrap(), None);
    assert_eq!(bench.log.inclusion("nobody", 0, 1).await.unwrap(), None);
    assert_eq!(bench.log.consistency("acme", 1, 2501).await.unwrap(), None);
}

// === through the gateway ===

const QUICK: &str = "[audit]\nseal_every_ms = 20\nroot_every_ms = 50\nrefusals_per_second = 1\nrefusals_burst = 20\n";

/// A gateway whose signer is played by the test.
struct Desk {
    world: World,
    client: AuditServiceClient<Channel>,
    key: PrivateKeySigner,
    log: Log,
    pool: PgPool,
}

impl Desk {
    async fn new() -> Self {
        let world = world_with("", QUICK).await;
        let client = AuditServiceClient::new(world.pki.channel(world.gateway.addr, None));
        let url = world.postgres.as_ref().unwrap().url();
        let pool = dalp_engine::pool(&url, "test", SCHEMA.name, 5).unwrap();
        let log = Log::new(Tables::over(SCHEMA, pool.clone()));
        Self { world, client, key: PrivateKeySigner::random(), log, pool }
    }

    fn asked<T>(&self, message: T) -> Request<T> {
        with(self.world.keys.operator.expose(), message)
    }

    async fn write(&self, tenant: &str, count: usize) {
        let mut connection = self.pool.acquire().await.unwrap();
        for number in 0..count {
            leaf(&mut connection, tenant, number).await;
        }
    }

    /// Signs as the signer would, until a root covers at least so many leaves.
    async fn signed(&self, tenant: &str, at_least: u64) -> u64 {
        let mut size = 0;
        until(async || {
            for root in self.log.roots_to_sign(100).await.unwrap() {
                let signature = self.key.sign_hash_sync(&root.digest()).unwrap().as_bytes();
                self.log.signed(&root, self.key.address().into_array(), &signature).await.unwrap();
            }
            size = self.log.latest_root(tenant, u64::MAX).await.unwrap().map_or(0, |root| root.root.size);
            size >= at_least
        })
        .await;
        size
    }

    async fn export(&self) -> Vec<Line> {
        let mut client = self.client.clone();
        let mut stream = client.export_leaves(self.asked(ExportLeavesRequest::default())).await.unwrap().into_inner();
        let mut lines = Vec::new();
        while let Some(line) = stream.message().await.unwrap() {
            lines.push(Line::parse(&json_of(&line)).unwrap());
        }
        lines
    }

    async fn findings(&self) -> Vec<Finding> {
        let mut verifier = Verifier::new(vec![AuditKey(self.key.address())], &[]);
        self.export().await.into_iter().for_each(|line| verifier.line(line));
        verifier.finish().findings
    }

    /// A superuser's hand, past every trigger.
    async fn by_hand(&self, statement: &'static str) {
        let mut connection = self.pool.acquire().await.unwrap();
        sqlx::query("SET session_replication_role = replica").execute(&mut *connection).await.unwrap();
        let done = sqlx::query(statement).execute(&mut *connection).await.unwrap();
        assert!(done.rows_affected() > 0, "{statement}");
        sqlx::query("SET session_replication_role = origin").execute(&mut *connection).await.unwrap();
    }
}

/// A line as the command line writes it.
fn json_of(line: &ExportLeavesResponse) -> String {
    static LINE: LazyLock<MessageDescriptor> =
        LazyLock::new(|| dalp_proto::descriptors().get_message_by_name("dalp.audit.v1.ExportLeavesResponse").unwrap());
    let message = DynamicMessage::decode(LINE.clone(), prost::Message::encode_to_vec(line).as_slice()).unwrap();
    serde_json::to_string(&message).unwrap()
}

fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

fn reason(status: &Status) -> String {
    Refusal::details(status).map(|details| details.reason).unwrap_or_else(|| format!("{status:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_listed_proven_and_exported_to_its_tenant_alone() {
    let mut desk = Desk::new().await;
    desk.write("acme", 70).await;
    desk.write("other", 5).await;
    let size = desk.signed("acme", 70).await;
    desk.signed("other", 5).await;

    // Pages, upwards and downwards, are the whole log.
    for newest_first in [false, true] {
        let (mut token, mut places) = (String::new(), Vec::new());
        loop {
            let request = ListLeavesRequest { page_size: 30, page_token: token, newest_first, ..Default::default() };
            let page = desk.client.clone().list_leaves(desk.asked(request)).await.unwrap().into_inner();
            assert!(page.leaves.iter().all(|leaf| leaf.tenant == "acme"));
            places.extend(page.leaves.iter().map(|leaf| leaf.position));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        if newest_first {
            places.reverse();
        }
        assert_eq!(places, (0..places.len() as u64).collect::<Vec<_>>());
        assert!(places.len() as u64 >= size);
    }
    let filter = AuditFilter { action: "test.write".into(), subject: "thing-7".into(), ..AuditFilter::default() };
    let request = ListLeavesRequest { filter: Some(filter), ..Default::default() };
    let found = desk.client.clone().list_leaves(desk.asked(request)).await.unwrap().into_inner().leaves;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].reason.as_str(), found[0].decision()), ("so", AuditDecision::Allowed));

    let hash = |text: &str| -> Hash { hex::decode(&text[2..]).unwrap().try_into().unwrap() };
    let request = GetInclusionProofRequest { position: found[0].position, size: 0 };
    let proven =
        desk.client.get_inclusion_proof(with(desk.world.keys.operator.expose(), request)).await.unwrap().into_inner();
    let proof: Vec<Hash> = proven.proof.iter().map(|one| hash(one)).collect();
    let root = hash(&proven.root_hash);
    assert!(verify_inclusion(&hash(&found[0].leaf_hash), found[0].position, proven.size, &proof, &root));
    assert_eq!(proven.root.unwrap().root_hash, proven.root_hash);

    let request = GetConsistencyProofRequest { first_size: 33, second_size: proven.size };
    let compared =
        desk.client.get_consistency_proof(with(desk.world.keys.operator.expose(), request)).await.unwrap().into_inner();
    let proof: Vec<Hash> = compared.proof.iter().map(|one| hash(one)).collect();
    assert!(verify_consistency(33, proven.size, &hash(&compared.first_root_hash), &root, &proof));

    let told = desk
        .client
        .get_root(with(desk.world.keys.operator.expose(), GetRootRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let by: AuditKey = told.public_key.parse().unwrap();
    assert_eq!(by, AuditKey(desk.key.address()));
    let roots = desk
        .client
        .list_roots(with(desk.world.keys.operator.expose(), ListRootsRequest::default()))
        .await
        .unwrap()
        .into_inner()
        .roots;
    assert_eq!(roots[0].root_hash, told.root.unwrap().root_hash);

    assert_eq!(desk.findings().await, []);

    // The other tenant has a log of its own, and no way into this one.
    let foreign = desk.world.keys.foreign.expose();
    let page = desk.client.list_leaves(with(foreign, ListLeavesRequest::default())).await.unwrap().into_inner();
    assert!(page.leaves.iter().all(|leaf| leaf.tenant == "other"));
    let far = GetInclusionProofRequest { position: 60, size: 70 };
    assert_eq!(reason(&desk.client.get_inclusion_proof(with(foreign, far)).await.unwrap_err()), "NOT_FOUND");
    let poor = with(desk.world.keys.poor.expose(), ListLeavesRequest::default());
    assert_eq!(reason(&desk.client.list_leaves(poor).await.unwrap_err()), "PERMISSION_DENIED");
    let wrong = ListLeavesRequest { page_token: "u1".into(), newest_first: true, ..Default::default() };
    let wrong = with(desk.world.keys.operator.expose(), wrong);
    assert_eq!(reason(&desk.client.list_leaves(wrong).await.unwrap_err()), "PAGE_TOKEN_INVALID");
    let mut part = desk
        .client
        .export_leaves(with(desk.world.keys.operator.expose(), ExportLeavesRequest { first_position: 41, size: 0 }))
        .await
        .unwrap()
        .into_inner();
    let mut verifier = Verifier::new(vec![by], &[]);
    let mut first = None;
    while let Some(line) = part.message().await.unwrap() {
        if let Some(export_leaves_response::Line::Leaf(leaf)) = &line.line {
            first.get_or_insert(leaf.position);
        }
        verifier.line(Line::parse(&json_of(&line)).unwrap());
    }
    assert_eq!(first, Some(41));
    assert_eq!(verifier.finish().findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_superuser_does_to_a_row_is_found() {
    let desk = Desk::new().await;
    desk.write("acme", 40).await;
    desk.signed("acme", 40).await;
    assert_eq!(desk.findings().await, []);
    desk.by_hand("UPDATE engine.audit_leaves SET body = body || '{\"number\": 999}' WHERE subject = 'thing-11'").await;
    let place = number(
        &desk.pool,
        "SELECT e.position FROM gateway.audit_entries e JOIN engine.audit_leaves l ON l.sequence = e.leaf_sequence WHERE l.subject = 'thing-11'",
    )
    .await;
    let found = desk.findings().await;
    assert!(matches!(found[..], [Finding::Tampered { position, .. }] if position.cast_signed() == place), "{found:?}");
    desk.by_hand("UPDATE engine.audit_leaves SET body = body || '{\"number\": 11}' WHERE subject = 'thing-11'").await;
    assert_eq!(desk.findings().await, [], "as it was");

    desk.by_hand("UPDATE gateway.audit_entries e SET leaf_sequence = -o.leaf_sequence FROM gateway.audit_entries o WHERE e.tenant = 'acme' AND o.tenant = 'acme' AND (e.position, o.position) IN ((20, 25), (25, 20))").await;
    desk.by_hand("UPDATE gateway.audit_entries SET leaf_sequence = -leaf_sequence WHERE leaf_sequence < 0").await;
    assert_eq!(
        desk.findings().await,
        [Finding::Reordered { position: 20, sealed_at: 25 }, Finding::Reordered { position: 25, sealed_at: 20 }]
    );
    desk.by_hand("UPDATE gateway.audit_entries e SET leaf_sequence = -o.leaf_sequence FROM gateway.audit_entries o WHERE e.tenant = 'acme' AND o.tenant = 'acme' AND (e.position, o.position) IN ((20, 25), (25, 20))").await;
    desk.by_hand("UPDATE gateway.audit_entries SET leaf_sequence = -leaf_sequence WHERE leaf_sequence < 0").await;
    assert_eq!(desk.findings().await, []);

    desk.by_hand("DELETE FROM engine.audit_leaves WHERE sequence = (SELECT leaf_sequence FROM gateway.audit_entries WHERE tenant = 'acme' AND position = 33)").await;
    assert_eq!(desk.findings().await, [Finding::Dropped { position: 33 }]);

    // Together with its hash: the first leaf stands in a full tile.
    desk.by_hand("UPDATE gateway.audit_tiles SET hashes = sha256('forged') || substring(hashes FROM 33) WHERE tenant = 'acme' AND level = 0 AND number = 0").await;
    assert!(desk.findings().await.iter().any(|finding| matches!(finding, Finding::RootMismatch { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_calls_stand_in_the_log_of_their_tenant_and_a_flood_is_counted() {
    let desk = Desk::new().await;
    let channel = desk.world.pki.channel(desk.world.gateway.addr, None);
    let mut assets = AssetServiceClient::new(channel.clone());
    let mut feeds = FeedServiceClient::new(channel);
    let keys = &desk.world.keys;
    let nobody = svc_gateway::api_key::ApiKey::generate().unwrap();
    // Refused by the gateway, by the service behind it, and to nobody in particular.
    let refused = assets.mint(with(keys.poor.expose(), MintRequest::default())).await.unwrap_err();
    assert_eq!(reason(&refused), "PERMISSION_DENIED");
    let submit = SubmitUpdateRequest { feed: "refuse".into(), ..SubmitUpdateRequest::default() };
    let refused = feeds.submit_update(with(keys.operator.expose(), submit.clone())).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_FIELD");
    feeds.submit_update(with(nobody.expose(), submit.clone())).await.unwrap_err();
    let accepted = SubmitUpdateRequest { feed: "fine".into(), ..SubmitUpdateRequest::default() };
    feeds.submit_update(with(keys.operator.expose(), accepted)).await.unwrap();

    let leaves = "SELECT actor, subject, reason, payload_hash, tenant FROM engine.audit_leaves WHERE action = 'call.refused' ORDER BY actor";
    type Row = (String, String, String, Option<Vec<u8>>, String);
    let mut rows: Vec<Row> = Vec::new();
    until(async || {
        rows = sqlx::query_as(leaves).fetch_all(&desk.pool).await.unwrap();
        rows.len() >= 2
    })
    .await;
    use sha2::Digest as _;
    let message = prost::Message::encode_to_vec(&submit);
    let framed = [&[0], u32::try_from(message.len()).unwrap().to_be_bytes().as_slice(), &message].concat();
    let told: Vec<_> =
        rows.iter().map(|row| (row.0.as_str(), row.1.as_str(), row.2.as_str(), row.4.as_str())).collect();
    assert_eq!(
        told,
        [
            ("ops", "/dalp.feeds.v1.FeedService/SubmitUpdate", "INVALID_FIELD", "acme"),
            ("poor", "/dalp.asset.v1.AssetService/Mint", "PERMISSION_DENIED", "acme"),
        ]
    );
    assert_eq!(rows[0].3.as_deref(), Some(sha2::Sha256::digest(&framed).as_slice()), "what was asked");
    assert_eq!(rows[1].3, None, "nobody read it");

    // Beyond the bound nothing more is written one by one.
    for _ in 0..60 {
        assets.mint(with(keys.poor.expose(), MintRequest::default())).await.unwrap_err();
    }
    until(async || {
        number(&desk.pool, "SELECT count(*) FROM engine.audit_leaves WHERE action = 'call.refused'").await >= 20
    })
    .await;
    desk.world.stop.request();
    until(async || {
        number(&desk.pool, "SELECT count(*) FROM engine.audit_leaves WHERE action = 'calls.refused'").await == 1
    })
    .await;
    let single = number(&desk.pool, "SELECT count(*) FROM engine.audit_leaves WHERE action = 'call.refused'").await;
    let counted = number(&desk.pool, "SELECT (body->'counted'->>'PERMISSION_DENIED')::bigint FROM engine.audit_leaves WHERE action = 'calls.refused'").await;
    assert_eq!(single + counted, 62, "none is lost");
    assert!(single < 40, "{single}");
}
