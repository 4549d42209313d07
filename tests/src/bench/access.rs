//! What it takes to know who calls, with few API keys stored and with a million.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use dalp_devstack::report::Figure;
use dalp_domain::store::Tables;
use dalp_proto::Methods;
use dalp_testing::TestPostgres;
use hyper::header::HeaderValue;
use rand::Rng as _;
use sqlx::types::time::OffsetDateTime;
use svc_gateway::access::{Directory, Store, store::SCHEMA};
use svc_gateway::config::AccessConfig;
use svc_gateway::oidc::Issuers;
use svc_gateway::permissions::Granting;
use svc_gateway::principals::Authenticator;

/// Keys stored, and how the figure calls them.
const STORED: [(u32, &str); 2] = [(1_000, "1k_keys"), (1_000_000, "1m_keys")];
/// Keys that are asked for, one after the other; few come twice, so nearly each is read from the database.
const ASKED: usize = 5_000;
const RUNS: usize = 3;
/// With a million keys, in milliseconds.
const GOAL_MS: f64 = 5.0;
/// As the bench makes them: prefix and whole key of number `i`.
const INSERT: &str = "INSERT INTO gateway.api_keys (prefix, tenant_id, principal_id, digest, scope, managed, created_by)
    SELECT p, 'bench', 'bench', sha256(convert_to('dalp_' || p || '_' || repeat(p, 6), 'UTF8')), 'read-write', false, 'bench'
    FROM generate_series($1::bigint, $2::bigint) AS i, LATERAL (SELECT lpad(to_hex(i), 10, '0') AS p) AS named";

/// `gateway.auth_ms.p99.*`: from the text of an API key to its principal, the database asked nearly every time.
pub(super) async fn figures() -> anyhow::Result<Vec<Figure>> {
    let postgres = tokio::task::spawn_blocking(TestPostgres::start_durable).await?;
    let pool = dalp_engine::pool(&postgres.url(), "svc-gateway", SCHEMA.name, 10)?;
    let store = Store::from(Tables::over(SCHEMA, pool.clone()));
    store.bring_up().await?;
    for statement in [
        "INSERT INTO gateway.tenants (tenant_id, display_name, cell, managed, created_by) VALUES ('bench', 'bench', 'main', false, 'bench')",
        "INSERT INTO gateway.roles (role, permissions, managed) VALUES ('operator', '{*}', true)",
        "INSERT INTO gateway.principals (tenant_id, principal_id, kind, display_name, managed, created_by) VALUES ('bench', 'bench', 'service', 'bench', false, 'bench')",
        "INSERT INTO gateway.grants (tenant_id, principal_id, role, area, managed, granted_by) VALUES ('bench', 'bench', 'operator', 'system', false, 'bench')",
    ] {
        sqlx::query(statement).execute(&pool).await?;
    }
    let mut figures = Vec::new();
    let mut stored = 0;
    for (keys, name) in STORED {
        sqlx::query(INSERT).bind(i64::from(stored)).bind(i64::from(keys) - 1).execute(&pool).await?;
        stored = keys;
        let mut p99_ms = Vec::new();
        for _ in 0..RUNS {
            p99_ms.push(asked(&store, keys).await?);
        }
        let note =
            format!("{ASKED} of {keys} API keys, one after the other, each read from PostgreSQL unless it came before");
        let goal = (keys == 1_000_000).then_some(GOAL_MS);
        figures.push(Figure::of(&format!("gateway.auth_ms.p99.{name}"), "ms", p99_ms, goal, &note));
    }
    Ok(figures)
}

/// The 99th of a hundred, in milliseconds, with an empty cache at the beginning.
async fn asked(store: &Store, keys: u32) -> anyhow::Result<f64> {
    let directory = Directory::new(store.clone(), Granting::new(&Methods::load()), AccessConfig::default());
    directory.ready();
    let authenticator = Authenticator::new(Arc::new(directory), Issuers::default(), "main".to_owned());
    let mut took_ms = Vec::with_capacity(ASKED);
    for _ in 0..ASKED {
        let prefix = format!("{:010x}", rand::rng().random_range(0..keys));
        let shown = HeaderValue::from_str(&format!("Bearer dalp_{prefix}_{}", prefix.repeat(6)))?;
        let begun = Instant::now();
        let found = authenticator.authenticate(None, Some(&shown), OffsetDateTime::now_utc()).await;
        took_ms.push(begun.elapsed().as_secs_f64() * 1_000.0);
        let found = found.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        ensure!(found.principal.granted.allows("feed:read"), "the principal is not who it should be");
    }
    took_ms.sort_by(f64::total_cmp);
    took_ms.get(ASKED * 99 / 100).copied().context("nothing was asked")
}
