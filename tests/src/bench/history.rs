//! Throughput beside a long history: the engine's tables filled with finished work, and the same load before and after.

use anyhow::{Context as _, ensure};
use dalp_devstack::report::Figure;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::time::Instant;

use super::open_loop::{OWNER, burst};
use super::room::Room;

/// Measured only when asked for by this name: it takes long to load.
pub(super) const NAME: &str = "throughput.history5m";

const LANES: usize = 10;
/// Transfers before each run, so that no run meets cold caches.
const WARM_UP: usize = 300;
/// Part of the rate with empty tables that must remain.
const GOAL: f64 = 0.8;
/// Tables with rows per finished operation, each row's owner before it, and what differs from row to row, as an expression over
/// the number `n` of the copy and the row `t` that is copied. The first is the key that rows are inserted in the order of.
const TABLES: [(&str, &[(&str, &str)]); 8] = [
    ("operations", &[("operation_id", OPERATION)]),
    ("idempotency", &[("key", "t.key || '-' || n"), ("operation_id", OPERATION)]),
    ("steps", &[("operation_id", OPERATION), ("request_id", "md5('request' || n)::uuid")]),
    (
        "transactions",
        &[
            ("transaction_id", TRANSACTION),
            ("operation_id", OPERATION),
            ("nonce", NONCE),
            ("sender", SENDER),
            ("tx_hash", HASH),
        ],
    ),
    ("nonces", &[("nonce", NONCE), ("transaction_id", TRANSACTION), ("sender", SENDER)]),
    (
        "attempts",
        &[
            ("transaction_id", TRANSACTION),
            ("request_id", "md5('attempt' || n)::uuid"),
            ("nonce", NONCE),
            ("sender", SENDER),
            ("tx_hash", HASH),
        ],
    ),
    ("outbox", &[("operation_id", OPERATION)]),
    ("audit_leaves", &[("subject", "(md5('operation' || n)::uuid)::text")]),
];
const OPERATION: &str = "md5('operation' || n)::uuid";
const TRANSACTION: &str = "md5('transaction' || n)::uuid";
const NONCE: &str = "n";
const HASH: &str = "sha256(int8send(n))";
/// A lane of the past: its nonces must not stand in the way of those that are measured.
const SENDER: &str = "'\\x00000000000000000000000000000000000005a1'::bytea";

/// `throughput.history5m`.
pub(super) async fn figures(finished: i64, transfers: usize) -> anyhow::Result<Vec<Figure>> {
    let mut room = Room::prepare(LANES, "local").await?;
    room.chain.take_over().await?;
    burst(&room, LANES, WARM_UP, "warm-empty").await?;
    let empty = burst(&room, LANES, transfers, "empty").await?;
    // The engine rests while its tables are filled.
    let owner = room.stack.service(OWNER).context("a service of the stack")?;
    tokio::task::block_in_place(|| owner.stop());
    let begun = Instant::now();
    load(&room.pool, finished).await?;
    let loaded_s = begun.elapsed().as_secs();
    let owner = room.stack.service(OWNER).context("a service of the stack")?;
    tokio::task::block_in_place(|| owner.restart())?;
    room.stack.wait_until_serving().await?;
    burst(&room, LANES, WARM_UP, "warm-full").await?;
    let full = burst(&room, LANES, transfers, "full").await?;
    let note = format!(
        "{transfers} transfers beside {finished} finished ones in the engine's tables, loaded in {loaded_s} s; with empty tables \
         {empty:.0} tx/s; goal: 80 % of that"
    );
    Ok(vec![Figure::of(NAME, "tx/s", vec![full], Some(empty * GOAL), &note)])
}

/// Copies the rows of one finished operation, table by table.
async fn load(pool: &PgPool, finished: i64) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await?;
    // Triggers and foreign keys are off for this connection: what is copied kept them.
    let settings = "SET session_replication_role = replica; SET synchronous_commit = off; SET statement_timeout = 0;
                    SET work_mem = '512MB'; SET maintenance_work_mem = '1GB'";
    run(&mut connection, settings).await?;
    let one: Option<uuid::Uuid> = sqlx::query_scalar(
        "SELECT o.operation_id FROM engine.operations o JOIN engine.transactions t USING (tenant, operation_id)
         WHERE o.state = 'COMPLETED' AND o.method LIKE '%Transfer' LIMIT 1",
    )
    .fetch_optional(&mut *connection)
    .await?;
    let one = one.context("a transfer that is completed")?;
    for (table, varying) in TABLES {
        let (remove, restore) = secondary_indexes(&mut connection, table).await?;
        run(&mut connection, &remove).await?;
        let copies = copies(&mut connection, table, varying, one, finished).await?;
        run(&mut connection, &copies).await.with_context(|| format!("filling engine.{table}"))?;
        run(&mut connection, &restore).await?;
    }
    run(&mut connection, "ANALYZE; CHECKPOINT").await?;
    connection.close().await?; // it must not serve anybody else with its settings
    Ok(())
}

async fn run(connection: &mut PgConnection, sql: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await?;
    Ok(())
}

/// Statements that remove what a table has beside its primary key, and that put it back: built at once, an index takes a fraction of
/// the time. What a foreign key rests on stays.
async fn secondary_indexes(connection: &mut PgConnection, table: &str) -> anyhow::Result<(String, String)> {
    let statements: Vec<(String, String)> = sqlx::query_as(
        "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
                format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
         FROM pg_constraint c WHERE conrelid = $1::regclass AND contype = 'u'
          AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = c.conindid)
         UNION ALL
         SELECT format('DROP INDEX %s', i.indexrelid::regclass), pg_get_indexdef(i.indexrelid)
         FROM pg_index i WHERE i.indrelid = $1::regclass AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)",
    )
    .bind(format!("engine.{table}"))
    .fetch_all(connection)
    .await?;
    let (remove, restore): (Vec<String>, Vec<String>) = statements.into_iter().unzip();
    Ok((remove.join("; "), restore.join("; ")))
}

/// The statement that copies the rows of one operation.
async fn copies(
    connection: &mut PgConnection,
    table: &str,
    varying: &[(&str, &str)],
    one: uuid::Uuid,
    finished: i64,
) -> anyhow::Result<String> {
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT column_name::text FROM information_schema.columns
         WHERE table_schema = 'engine' AND table_name = $1 AND is_identity = 'NO' AND is_generated = 'NEVER' ORDER BY ordinal_position",
    )
    .bind(table)
    .fetch_all(connection)
    .await?;
    ensure!(!columns.is_empty(), "there is no table engine.{table}");
    let value = |column: &String| {
        let varies = varying.iter().find(|(name, _)| name == column);
        varies.map_or_else(|| format!("t.{column}"), |(_, expression)| (*expression).to_owned())
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let of_one = match table {
        "nonces" | "attempts" => {
            format!("t.transaction_id IN (SELECT transaction_id FROM engine.transactions WHERE operation_id = '{one}')")
        }
        "audit_leaves" => format!("t.subject = '{one}'"),
        _ => format!("t.operation_id = '{one}'"),
    };
    let order = varying.first().map_or("n", |(_, expression)| expression);
    Ok(format!(
        "INSERT INTO engine.{table} ({}) SELECT {} FROM (SELECT * FROM engine.{table} t WHERE {of_one}) t, \
         generate_series(1::bigint, {finished}) n ORDER BY {order}",
        columns.join(", "),
        values.join(", ")
    ))
}
