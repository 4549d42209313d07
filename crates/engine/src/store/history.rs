//! Finished work, moved out of the way of live work.

use super::{Store, accept::begin};
use crate::error::StoreError;
use sqlx::{Postgres, Transaction};
use std::time::Duration;
use uuid::Uuid;

/// Most operations that are looked at, and moved, in one commit.
const AT_ONCE: i64 = 200;

/// Ids of this time and later are told apart by month; before it there was no platform.
const FIRST_MONTH: &str = "2020-01-01T00:00:00Z";

/// Everything that an operation leaves behind, its children before it: what a table's rows are in history, and which of them are those of the operations
/// `$2` of the tenant `$1`.
const TABLES: [(&str, &str, &str); 8] = [
    ("check_decisions", "r.*", "FROM engine.check_decisions r WHERE r.tenant = $1 AND r.operation_id = ANY($2)"),
    ("checks", "r.*", "FROM engine.checks r WHERE r.tenant = $1 AND r.operation_id = ANY($2)"),
    (
        "handover_hashes",
        "t.operation_id, r.*",
        "FROM engine.transactions t JOIN engine.handovers h ON h.tenant = t.tenant AND h.transaction_id = t.transaction_id
         JOIN engine.handover_hashes r ON r.request_id = h.request_id WHERE t.tenant = $1 AND t.operation_id = ANY($2)",
    ),
    (
        "handovers",
        "t.operation_id, r.*",
        "FROM engine.transactions t JOIN engine.handovers r ON r.tenant = t.tenant AND r.transaction_id = t.transaction_id
         WHERE t.tenant = $1 AND t.operation_id = ANY($2)",
    ),
    (
        "attempts",
        "t.operation_id, r.*",
        "FROM engine.transactions t JOIN engine.attempts r ON r.tenant = t.tenant AND r.transaction_id = t.transaction_id
         WHERE t.tenant = $1 AND t.operation_id = ANY($2)",
    ),
    ("transactions", "r.*", "FROM engine.transactions r WHERE r.tenant = $1 AND r.operation_id = ANY($2)"),
    ("steps", "r.*", "FROM engine.steps r WHERE r.tenant = $1 AND r.operation_id = ANY($2)"),
    ("operations", "r.*", "FROM engine.operations r WHERE r.tenant = $1 AND r.operation_id = ANY($2)"),
];

/// Which of the operations `$2` of the tenant `$1` have ended for good, and that so long ago: nothing of them is asked, signed, sent or watched any more.
/// A transaction that has no nonce any more may have left signed bytes at one: they are watched until something of that nonce is final. Whoever
/// works on one of them at this moment is not waited for.
const ENDED: &str = "
SELECT o.operation_id FROM engine.operations o
WHERE o.tenant = $1 AND o.operation_id = ANY($2) AND o.state IN ('COMPLETED', 'FAILED', 'CANCELLED')
  AND NOT o.wake AND o.quarantined_at IS NULL AND o.updated_at <= now() - make_interval(secs => $3)
  AND NOT EXISTS (SELECT FROM engine.steps s WHERE s.tenant = o.tenant AND s.operation_id = o.operation_id AND s.due_at IS NOT NULL)
  AND NOT EXISTS (
      SELECT FROM engine.transactions t WHERE t.tenant = o.tenant AND t.operation_id = o.operation_id
         AND (t.state NOT IN ('COMPLETED', 'FAILED', 'CANCELLED') OR t.updated_at > now() - make_interval(secs => $3)))
  AND NOT EXISTS (
      SELECT FROM engine.transactions t JOIN engine.attempts a ON a.tenant = t.tenant AND a.transaction_id = t.transaction_id
      WHERE t.tenant = o.tenant AND t.operation_id = o.operation_id
        AND (a.release_pending OR a.state NOT IN ('DONE', 'REFUSED') AND (a.state NOT IN ('SUPERSEDED', 'SEALED') OR NOT EXISTS (
             SELECT FROM engine.attempts d WHERE d.chain_id = a.chain_id AND d.sender = a.sender AND d.nonce = a.nonce AND d.state = 'DONE'))))
  AND NOT EXISTS (
      SELECT FROM engine.transactions t JOIN engine.handovers h ON h.tenant = t.tenant AND h.transaction_id = t.transaction_id
      WHERE t.tenant = o.tenant AND t.operation_id = o.operation_id AND h.state NOT IN ('DONE', 'REFUSED', 'DROPPED'))
ORDER BY o.operation_id FOR UPDATE OF o SKIP LOCKED";

/// How far a walk through the operations of a tenant has come.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    tenant: String,
    after: Uuid,
    moved: usize,
}

// === impl Walk ===

impl Walk {
    /// How many operations it has moved.
    pub(crate) fn moved(&self) -> usize {
        self.moved
    }
}

impl Store {
    /// A walk for each tenant that has operations.
    pub(crate) async fn walks(&self) -> Result<Vec<Walk>, StoreError> {
        let tenants: Vec<String> = sqlx::query_scalar(
            "WITH RECURSIVE tenants AS (
                 (SELECT tenant FROM engine.operations ORDER BY tenant LIMIT 1)
                 UNION ALL
                 SELECT (SELECT o.tenant FROM engine.operations o WHERE o.tenant > t.tenant ORDER BY o.tenant LIMIT 1) FROM tenants t WHERE t.tenant IS NOT NULL
             ) SELECT tenant FROM tenants WHERE tenant IS NOT NULL",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(tenants.into_iter().map(|tenant| Walk { tenant, after: Uuid::nil(), moved: 0 }).collect())
    }

    /// Looks at the next operations of a walk, whatever service they are of, and moves those that ended so long ago. False: there are no more.
    pub(crate) async fn move_finished(&self, walk: &mut Walk, kept_for: Duration) -> Result<bool, StoreError> {
        let looked: Vec<Uuid> = sqlx::query_scalar(
            "SELECT operation_id FROM engine.operations
             WHERE tenant = $1 AND operation_id > greatest($2, engine.first_id($3::timestamptz))
               AND operation_id < engine.first_id(now() - make_interval(secs => $4))
             ORDER BY operation_id LIMIT $5",
        )
        .bind(&walk.tenant)
        .bind(walk.after)
        .bind(FIRST_MONTH)
        .bind(kept_for.as_secs_f64())
        .bind(AT_ONCE)
        .fetch_all(&self.pool)
        .await?;
        let Some(last) = looked.last() else { return Ok(false) };
        // In a commit of its own: it waits for readers of history, and they for it.
        sqlx::query("SELECT engine.open_history($1)").bind(&looked).execute(&self.pool).await?;
        let mut commit = begin(&self.pool).await?;
        let ended: Vec<Uuid> = sqlx::query_scalar(ENDED)
            .bind(&walk.tenant)
            .bind(&looked)
            .bind(kept_for.as_secs_f64())
            .fetch_all(&mut *commit)
            .await?;
        if !ended.is_empty() {
            carry(&mut commit, &walk.tenant, &ended).await?;
            commit.commit().await?;
        }
        walk.after = *last;
        walk.moved += ended.len();
        Ok(true)
    }
}

/// Copies, then removes: a row leaves only if history has it.
async fn carry(commit: &mut Transaction<'_, Postgres>, tenant: &str, ended: &[Uuid]) -> Result<(), StoreError> {
    for (table, row, of_operations) in TABLES {
        run(commit, format!("INSERT INTO engine.history_{table} SELECT {row} {of_operations}"), tenant, ended).await?;
    }
    for (table, _, of_operations) in TABLES {
        let remove = format!("DELETE FROM engine.{table} WHERE ctid = ANY (ARRAY(SELECT r.ctid {of_operations}))");
        run(commit, remove, tenant, ended).await?;
    }
    Ok(())
}

async fn run(
    commit: &mut Transaction<'_, Postgres>,
    statement: String,
    tenant: &str,
    ended: &[Uuid],
) -> Result<(), StoreError> {
    sqlx::query(sqlx::AssertSqlSafe(statement)).bind(tenant).bind(ended).execute(&mut **commit).await?;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{store::migrate, testing::TestPostgres};

    /// Rows are copied as they stand, so the columns of both have to be the same in the same order.
    #[tokio::test]
    async fn history_has_the_columns_of_live_work() {
        let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.expect("postgres");
        let pool = postgres.pool().await;
        migrate(&pool).await.expect("migrates");
        let columns = async |table: String| -> Vec<(String, String)> {
            sqlx::query_as(
                "SELECT column_name::text, udt_name::text FROM information_schema.columns
                 WHERE table_schema = 'engine' AND table_name = $1 ORDER BY ordinal_position",
            )
            .bind(table)
            .fetch_all(&pool)
            .await
            .expect("readable")
        };
        for (table, row, _) in TABLES {
            let live = columns(table.to_owned()).await;
            assert!(!live.is_empty(), "{table}");
            let added: &[(String, String)] = match row {
                "r.*" => &[],
                _ => &[("operation_id".to_owned(), "uuid".to_owned())],
            };
            assert_eq!(columns(format!("history_{table}")).await, [added, &live].concat(), "{table}");
            assert_eq!(columns(format!("all_{table}")).await, live, "{table}");
        }
        pool.close().await;
    }

    #[tokio::test]
    async fn months_are_those_of_utc_and_meet_without_a_gap() {
        let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.expect("postgres");
        let pool = postgres.pool().await;
        migrate(&pool).await.expect("migrates");
        let mut connection = pool.acquire().await.expect("a connection");
        sqlx::query("SET timezone = 'Pacific/Auckland'").execute(&mut *connection).await.expect("set");
        let months: Vec<String> = sqlx::query_scalar(
            "WITH moments AS (SELECT unnest(ARRAY['2026-01-31T23:59:59.999Z', '2026-02-01T00:00:00Z', '2026-12-31T23:59:59.999Z']::timestamptz[]) AS at)
             SELECT to_char(engine.accepted_month(engine.first_id(at)), 'YYYY-MM') FROM moments",
        )
        .fetch_all(&mut *connection)
        .await
        .expect("readable");
        assert_eq!(months, ["2026-01", "2026-02", "2026-12"]);
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT engine.first_id(m AT TIME ZONE 'UTC') FROM generate_series('2026-01-01'::timestamp, '2026-03-01', '1 month') AS g(m)",
        )
        .fetch_all(&mut *connection)
        .await
        .expect("readable");
        for _ in 0..2 {
            sqlx::query("SELECT engine.open_history($1)").bind(&ids).execute(&mut *connection).await.expect("opened");
        }
        let bounds: Vec<String> = sqlx::query_scalar(
            "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'engine.history_operations'::regclass ORDER BY c.relname",
        )
        .fetch_all(&mut *connection)
        .await
        .expect("readable");
        let next: Uuid = sqlx::query_scalar("SELECT engine.first_id('2026-04-01T00:00:00Z')")
            .fetch_one(&mut *connection)
            .await
            .expect("readable");
        let ends = ids.iter().copied().chain([next]).collect::<Vec<_>>();
        let wanted: Vec<String> =
            ends.windows(2).map(|pair| format!("FOR VALUES FROM ('{}') TO ('{}')", pair[0], pair[1])).collect();
        assert_eq!(bounds, wanted);
        drop(connection);
        pool.close().await;
    }
}
