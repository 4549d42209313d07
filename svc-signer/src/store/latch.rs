//! The memory of HSM logins, shared by replicas.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row as _;

use super::{Store, StoreError};
use crate::providers::{
    ProviderError,
    pkcs11::{Attempt, Ended, PinLatch},
};

/// So many logins with unknown outcome are borne before the partition counts as blocked. Luna locks at ten.
const UNDECIDED_MAX: i32 = 3;

#[async_trait]
impl PinLatch for Store {
    async fn begin(&self, partition: &str, pin_digest: [u8; 32], longest: Duration) -> Result<Attempt, ProviderError> {
        Ok(self.begin_login(partition, pin_digest, longest).await?)
    }

    async fn end(&self, partition: &str, pin_digest: [u8; 32], ended: Ended) -> Result<(), ProviderError> {
        let (state, undecided) = match ended {
            Ended::Cleared => ("clear", false),
            Ended::BadPin => ("bad", false),
            Ended::Unknown => ("trying", true),
        };
        // An undecided login is dated back, so that the next one need not wait for it to be abandoned.
        sqlx::query(
            "update signer.pin_latch set state = $3, undecided = case when $4 then undecided else 0 end,
                updated_at = case when $4 then 'epoch' else now() end
             where partition = $1 and pin_digest = $2",
        )
        .bind(partition)
        .bind(pin_digest.as_slice())
        .bind(state)
        .bind(undecided)
        .execute(&self.pool)
        .await
        .map_err(StoreError::from)?;
        Ok(())
    }
}

// === impl Store ===

impl Store {
    async fn begin_login(
        &self,
        partition: &str,
        pin_digest: [u8; 32],
        longest: Duration,
    ) -> Result<Attempt, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "insert into signer.pin_latch (partition, pin_digest, state) values ($1, $2, 'clear') on conflict (partition, pin_digest) do nothing",
        )
        .bind(partition)
        .bind(pin_digest.as_slice())
        .execute(&mut *tx)
        .await?;
        // Every PIN of the partition: logins take turns whatever PIN they use, and each PIN has its own memory.
        let rows = sqlx::query(
            "select pin_digest = $2 as same, state, undecided, extract(epoch from now() - updated_at)::float8 as age_s
             from signer.pin_latch where partition = $1 order by pin_digest for update",
        )
        .bind(partition)
        .bind(pin_digest.as_slice())
        .fetch_all(&mut *tx)
        .await?;
        let mut tried = 0;
        for row in &rows {
            let (same, state, undecided, age_s): (bool, String, i32, f64) =
                (row.try_get("same")?, row.try_get("state")?, row.try_get("undecided")?, row.try_get("age_s")?);
            match (same, state.as_str()) {
                (true, "bad") => return Ok(Attempt::Blocked),
                (_, "trying") if age_s <= longest.as_secs_f64() => return Ok(Attempt::Busy),
                (true, "trying") if undecided + 1 >= UNDECIDED_MAX => return Ok(Attempt::Blocked),
                (true, "trying") => tried = undecided + 1,
                _ => {}
            }
        }
        sqlx::query(
            "update signer.pin_latch set state = 'trying', undecided = $3, updated_at = now() where partition = $1 and pin_digest = $2",
        )
        .bind(partition)
        .bind(pin_digest.as_slice())
        .bind(tried)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Attempt::Go)
    }
}
