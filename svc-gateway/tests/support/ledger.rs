//! The audit log's tables alone, and a gateway whose signer is played by the test.

use std::sync::{Arc, LazyLock};

use alloy::signers::{SignerSync as _, local::PrivateKeySigner};
use dalp_audit::{
    export::Line,
    root::AuditKey,
    tree::CompactRange,
    verify::{Finding, Verifier},
};
use dalp_domain::store::Tables;
use dalp_proto::audit::{ExportLeavesRequest, ExportLeavesResponse, audit_service_client::AuditServiceClient};
use dalp_service::Refusal;
use dalp_testing::TestPostgres;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::json;
use sqlx::PgPool;
use svc_gateway::{
    access::store::{MIGRATIONS, SCHEMA},
    audit::{Log, store::Round},
};
use tonic::{Request, Status, transport::Channel};

use super::{World, until, world_with};

/// The tables alone.
pub struct Bench {
    pub postgres: Arc<TestPostgres>,
    pub pool: PgPool,
    pub log: Log,
}

impl Bench {
    pub async fn new() -> Self {
        let postgres = Arc::new(tokio::task::spawn_blocking(TestPostgres::start).await.unwrap());
        let pool = dalp_engine::pool(&postgres.url(), "svc-gateway", SCHEMA.name, 20).unwrap();
        dalp_engine::migrate(&pool).await.unwrap();
        let tables = Tables::over(SCHEMA, pool.clone());
        tables.migrate(&MIGRATIONS).await.unwrap();
        Self { postgres, pool, log: Log::new(tables) }
    }

    pub async fn write(&self, tenant: &str, count: usize) {
        let mut connection = self.pool.acquire().await.unwrap();
        for number in 0..count {
            leaf(&mut connection, tenant, number).await;
        }
    }

    /// A superuser's hand, past every trigger.
    pub async fn by_hand(&self, statement: &'static str) {
        let mut connection = self.pool.acquire().await.unwrap();
        sqlx::query("SET session_replication_role = replica").execute(&mut *connection).await.unwrap();
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
        sqlx::query("SET session_replication_role = origin").execute(&mut *connection).await.unwrap();
    }

    /// Seals until nothing is left.
    pub async fn seal_all(&self, batch: u32) {
        while self.log.seal(batch).await.unwrap() != Round::Sealed(0) {}
    }

    /// The tree of a tenant is the tree of its leaves in their places, without a gap.
    pub async fn whole(&self, tenant: &str) -> u64 {
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

pub async fn leaf(connection: &mut sqlx::PgConnection, tenant: &str, number: usize) {
    let body = json!({"number": number, "reason": "so"});
    dalp_engine::audit_leaf(connection, tenant, "test.write", "ops", &format!("thing-{number}"), body).await.unwrap();
}

pub async fn number(pool: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

pub const QUICK: &str =
    "[audit]\nseal_every_ms = 20\nroot_every_ms = 50\nrefusals_per_second = 1\nrefusals_burst = 20\n";

/// A gateway whose signer is played by the test.
pub struct Desk {
    pub world: World,
    pub client: AuditServiceClient<Channel>,
    pub key: PrivateKeySigner,
    pub log: Log,
    pub pool: PgPool,
}

impl Desk {
    pub async fn new() -> Self {
        let world = world_with("", QUICK).await;
        let client = AuditServiceClient::new(world.pki.channel(world.gateway.addr, None));
        let url = world.postgres.as_ref().unwrap().url();
        let pool = dalp_engine::pool(&url, "test", SCHEMA.name, 5).unwrap();
        let log = Log::new(Tables::over(SCHEMA, pool.clone()));
        Self { world, client, key: PrivateKeySigner::random(), log, pool }
    }

    pub fn asked<T>(&self, message: T) -> Request<T> {
        with(self.world.keys.operator.expose(), message)
    }

    pub async fn write(&self, tenant: &str, count: usize) {
        let mut connection = self.pool.acquire().await.unwrap();
        for number in 0..count {
            leaf(&mut connection, tenant, number).await;
        }
    }

    /// Signs as the signer would, until a root covers at least so many leaves.
    pub async fn signed(&self, tenant: &str, at_least: u64) -> u64 {
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

    pub async fn export(&self) -> Vec<Line> {
        let mut client = self.client.clone();
        let mut stream = client.export_leaves(self.asked(ExportLeavesRequest::default())).await.unwrap().into_inner();
        let mut lines = Vec::new();
        while let Some(line) = stream.message().await.unwrap() {
            lines.push(Line::parse(&json_of(&line)).unwrap());
        }
        lines
    }

    pub async fn findings(&self) -> Vec<Finding> {
        let mut verifier = Verifier::new(vec![AuditKey(self.key.address())], &[]);
        self.export().await.into_iter().for_each(|line| verifier.line(line));
        verifier.finish().findings
    }

    /// A superuser's hand, past every trigger.
    pub async fn by_hand(&self, statement: &'static str) {
        let mut connection = self.pool.acquire().await.unwrap();
        sqlx::query("SET session_replication_role = replica").execute(&mut *connection).await.unwrap();
        let done = sqlx::query(statement).execute(&mut *connection).await.unwrap();
        assert!(done.rows_affected() > 0, "{statement}");
        sqlx::query("SET session_replication_role = origin").execute(&mut *connection).await.unwrap();
    }
}

/// A line as the command line writes it.
pub fn json_of(line: &ExportLeavesResponse) -> String {
    static LINE: LazyLock<MessageDescriptor> =
        LazyLock::new(|| dalp_proto::descriptors().get_message_by_name("dalp.audit.v1.ExportLeavesResponse").unwrap());
    let message = DynamicMessage::decode(LINE.clone(), prost::Message::encode_to_vec(line).as_slice()).unwrap();
    serde_json::to_string(&message).unwrap()
}

pub fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

pub fn reason(status: &Status) -> String {
    Refusal::details(status).map(|details| details.reason).unwrap_or_else(|| format!("{status:?}"))
}
