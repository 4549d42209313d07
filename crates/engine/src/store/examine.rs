//! What the database says of itself.

use super::{MIGRATIONS, Reads};
use crate::{doctor::DatabaseReport, error::StoreError};
use sqlx::Row;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use time::OffsetDateTime;

impl Reads {
    /// Answer, clock and migrations, or why there is no answer. For people, so every error is a text.
    pub(crate) async fn examine(&self, patience: Duration) -> Result<DatabaseReport, String> {
        match tokio::time::timeout(patience, self.report()).await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(StoreError::Database(error))) => Err(error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {patience:?}")),
        }
    }

    async fn report(&self) -> Result<DatabaseReport, StoreError> {
        let (started, before) = (Instant::now(), OffsetDateTime::now_utc());
        let row =
            sqlx::query("SELECT clock_timestamp() AS now, to_regclass('engine._migrations') IS NOT NULL AS migrated")
                .fetch_one(&self.pool)
                .await?;
        let answered_in = started.elapsed();
        let mut applied: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
        if row.try_get("migrated")? {
            let rows: Vec<(i64, Vec<u8>)> =
                sqlx::query_as("SELECT version, checksum FROM engine._migrations WHERE success")
                    .fetch_all(&self.pool)
                    .await?;
            applied.extend(rows);
        }
        let (mut missing, mut changed) = (Vec::new(), Vec::new());
        for migration in MIGRATIONS.iter() {
            match applied.remove(&migration.version) {
                None => missing.push(migration.version),
                Some(checksum) if checksum != migration.checksum.as_ref() => changed.push(migration.version),
                Some(_) => {}
            }
        }
        Ok(DatabaseReport {
            answered_in,
            now: row.try_get("now")?,
            // The database looked at its clock somewhere between question and answer.
            our_now: before + answered_in / 2,
            missing,
            unknown: applied.into_keys().collect(),
            changed,
        })
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{store::migrate, testing::TestPostgres};

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn migrations_are_compared_with_those_of_this_build() {
        let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.expect("postgres");
        let pool = postgres.pool().await;
        let reads = Reads { pool: pool.clone() };
        let empty = reads.examine(PATIENCE).await.expect("it answers");
        let all: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        assert_eq!((empty.missing, empty.unknown), (all.clone(), vec![]));
        migrate(&pool).await.expect("migrates");
        let good = reads.examine(PATIENCE).await.expect("it answers");
        assert_eq!((good.missing, good.unknown, good.changed), (vec![], vec![], vec![]));
        assert!((good.now - good.our_now).unsigned_abs() < Duration::from_secs(2), "the same host");
        for statement in [
            "UPDATE engine._migrations SET version = 9999 WHERE version = 3",
            "UPDATE engine._migrations SET checksum = 'other' WHERE version = 2",
        ] {
            sqlx::query(statement).execute(&pool).await.expect("changed");
        }
        let odd = reads.examine(PATIENCE).await.expect("it answers");
        assert_eq!((odd.missing, odd.unknown, odd.changed), (vec![3], vec![9999], vec![2]));
        pool.close().await;
        reads.examine(PATIENCE).await.expect_err("nobody is there");
    }
}
