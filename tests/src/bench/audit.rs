//! How fast audit leaves are sealed, and what a proof costs in a log of ten million leaves.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dalp_audit::{
    tiles::{Edge, Tile},
    tree::{leaf_hash, verify_consistency, verify_inclusion},
};
use dalp_devstack::report::Figure;
use dalp_domain::store::Tables;
use dalp_testing::TestPostgres;
use rand::Rng as _;
use sqlx::PgPool;
use svc_gateway::access::{Store, store::SCHEMA};
use svc_gateway::audit::{Log, store::Round};
use svc_gateway::config::AuditConfig;

/// Leaves that wait when a run of sealing begins, of so many tenants in turn.
const WAITING: i64 = 100_000;
const TENANTS: i64 = 20;
const RUNS: usize = 3;
/// Leaves a second.
const SEALED_GOAL: f64 = 5_000.0;
/// Leaves of the log that proofs are of.
const LEAVES: u64 = 10_000_000;
const PROOFS: usize = 2_000;
/// In milliseconds.
const PROOF_GOAL: f64 = 10.0;
/// Tiles written at once.
const TILES: usize = 2_000;

/// `audit.seal_leaves_per_s`, `audit.proof_ms.p99`, `audit.consistency_ms.p99`.
pub(super) async fn figures() -> anyhow::Result<Vec<Figure>> {
    let postgres = tokio::task::spawn_blocking(TestPostgres::start_durable).await?;
    let pool = dalp_engine::pool(&postgres.url(), "svc-gateway", SCHEMA.name, 10)?;
    let tables = Tables::over(SCHEMA, pool.clone());
    Store::from(tables.clone()).bring_up().await?;
    let log = Log::new(tables);
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        rates.push(sealed_per_s(&pool, &log).await?);
    }
    let note = format!(
        "{WAITING} leaves of {TENANTS} tenants that wait, sealed by one replica into a durable PostgreSQL beside it"
    );
    let mut figures = vec![Figure::of("audit.seal_leaves_per_s", "1/s", rates, Some(SEALED_GOAL), &note)];
    let begun = Instant::now();
    let tenant = "large";
    grow(&pool, tenant).await?;
    let built_s = begun.elapsed().as_secs();
    let (mut inclusion_ms, mut consistency_ms) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        inclusion_ms.push(inclusions(&log, tenant).await?);
        consistency_ms.push(consistencies(&log, tenant).await?);
    }
    let note = format!(
        "{PROOFS} leaves at random of a log of {LEAVES}, one after the other, root included; the tree was built of hashed leaves in {built_s} s"
    );
    figures.push(Figure::of("audit.proof_ms.p99", "ms", inclusion_ms, Some(PROOF_GOAL), &note));
    figures.push(Figure::of("audit.consistency_ms.p99", "ms", consistency_ms, Some(PROOF_GOAL), &note));
    Ok(figures)
}

async fn sealed_per_s(pool: &PgPool, log: &Log) -> anyhow::Result<f64> {
    sqlx::query(
        "INSERT INTO engine.audit_leaves (tenant, action, actor, subject, body, payload_hash)
         SELECT 'tenant-' || n % $2, 'operation.accept', 'operator', gen_random_uuid()::text,
                jsonb_build_object('kind', 'asset.transfer', 'method', '/dalp.asset.v1.AssetService/Transfer', 'state', 'RUNNING',
                                   'command_hash', encode(sha256(int8send(n)), 'hex')), sha256(int8send(n))
         FROM generate_series(1, $1) n",
    )
    .bind(WAITING)
    .bind(TENANTS)
    .execute(pool)
    .await?;
    let begun = Instant::now();
    let mut sealed = 0;
    loop {
        match log.seal(AuditConfig::default().seal_batch).await? {
            Round::Sealed(0) => break,
            Round::Sealed(count) => sealed += count,
            Round::Busy => anyhow::bail!("somebody else seals"),
        }
    }
    ensure!(sealed as i64 == WAITING, "{sealed} of {WAITING} leaves were sealed");
    Ok(sealed as f64 / begun.elapsed().as_secs_f64())
}

/// A log of [`LEAVES`] leaves that say nothing: their hashes, as the sealer would have kept them.
async fn grow(pool: &PgPool, tenant: &str) -> anyhow::Result<()> {
    let (mut edge, mut filled) = (Edge::default(), Vec::new());
    for number in 0..LEAVES {
        edge.append(leaf_hash(&number.to_be_bytes()), &mut filled);
        if filled.len() >= TILES {
            write(pool, tenant, &filled).await?;
            filled.clear();
        }
    }
    write(pool, tenant, &filled).await?;
    let levels: Vec<Vec<u8>> = edge.levels().iter().map(|level| level.concat()).collect();
    sqlx::query("INSERT INTO gateway.audit_trees (tenant, size, edge) VALUES ($1, $2, $3)")
        .bind(tenant)
        .bind(edge.size().cast_signed())
        .bind(levels)
        .execute(pool)
        .await?;
    for statement in ["VACUUM ANALYZE gateway.audit_tiles", "CHECKPOINT"] {
        sqlx::query(statement).execute(pool).await?;
    }
    Ok(())
}

async fn write(pool: &PgPool, tenant: &str, tiles: &[Tile]) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO gateway.audit_tiles (tenant, level, number, hashes)
         SELECT $1, g.* FROM unnest($2::smallint[], $3::bigint[], $4::bytea[]) AS g",
    )
    .bind(tenant)
    .bind(tiles.iter().map(|tile| i16::try_from(tile.id.level).unwrap_or(i16::MAX)).collect::<Vec<_>>())
    .bind(tiles.iter().map(|tile| tile.id.number.cast_signed()).collect::<Vec<_>>())
    .bind(tiles.iter().map(|tile| tile.hashes.concat()).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}

async fn inclusions(log: &Log, tenant: &str) -> anyhow::Result<f64> {
    let mut took = Vec::with_capacity(PROOFS);
    for _ in 0..PROOFS {
        let position = rand::rng().random_range(0..LEAVES);
        let begun = Instant::now();
        let proof = log.inclusion(tenant, position, LEAVES).await?.context("the log is that long")?;
        took.push(begun.elapsed());
        let leaf = leaf_hash(&position.to_be_bytes());
        ensure!(
            verify_inclusion(&leaf, position, LEAVES, &proof.hashes, &proof.root),
            "the proof of {position} does not hold"
        );
    }
    p99_ms(took)
}

async fn consistencies(log: &Log, tenant: &str) -> anyhow::Result<f64> {
    let mut took = Vec::with_capacity(PROOFS);
    for _ in 0..PROOFS {
        let first = rand::rng().random_range(1..=LEAVES);
        let begun = Instant::now();
        let (earlier, proof) = log.consistency(tenant, first, LEAVES).await?.context("the log is that long")?;
        took.push(begun.elapsed());
        ensure!(
            verify_consistency(first, LEAVES, &earlier, &proof.root, &proof.hashes),
            "the proof of {first} does not hold"
        );
    }
    p99_ms(took)
}

fn p99_ms(mut took: Vec<Duration>) -> anyhow::Result<f64> {
    took.sort();
    let at = took.get(took.len() * 99 / 100).context("nothing was asked")?;
    Ok(at.as_secs_f64() * 1_000.0)
}
