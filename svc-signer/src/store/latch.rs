//! The memory of HSM logins, shared by replicas.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row as _;

use super::{Leaf, Store, StoreError, write_leaves};
use crate::providers::{
    ProviderError,
    pkcs11::{Attempt, Ended, PinLatch},
};

/// So many logins of one PIN with unknown outcome are borne before the partition counts as blocked. Luna locks at ten.
const UNDECIDED_MAX: i32 = 3;

#[async_trait]
impl PinLatch for Store {
    async fn bars(&self, partition: &str, pin_digest: [u8; 32]) -> Result<Option<Attempt>, ProviderError> {
        let asked =
            sqlx::query("select state, undecided from signer.pin_latch where partition = $1 and pin_digest = $2")
                .bind(partition)
                .bind(pin_digest.as_slice())
                .fetch_optional(&self.pool);
        let bars = self.patience.within(async {
            let Some(row) = asked.await? else { return Ok(None) };
            let (state, undecided): (String, i32) = (row.try_get("state")?, row.try_get("undecided")?);
            Ok(match state.as_str() {
                "bad" => Some(Attempt::Refused),
                "clear" if undecided >= UNDECIDED_MAX => Some(Attempt::Unclear),
                _ => None,
            })
        });
        Ok(bars.await?)
    }

    async fn begin(&self, partition: &str, pin_digest: [u8; 32], longest: Duration) -> Result<Attempt, ProviderError> {
        Ok(self.begin_login(partition, pin_digest, longest).await?)
    }

    async fn asking(&self, partition: &str, pin_digest: [u8; 32]) -> Result<(), ProviderError> {
        let noted = sqlx::query(
            "update signer.pin_latch set asking = true, undecided = greatest(undecided - 1, 0)
             where partition = $1 and pin_digest = $2 and state = 'trying' and not asking",
        )
        .bind(partition)
        .bind(pin_digest.as_slice())
        .execute(&self.pool);
        self.patience.within(async { Ok(noted.await?) }).await?;
        Ok(())
    }

    async fn end(&self, partition: &str, pin_digest: [u8; 32], ended: Ended) -> Result<(), ProviderError> {
        // The login was counted when it began, unless that was taken back since; what is certain about it is written now.
        let (state, logins) = match ended {
            Ended::Opened => ("clear", None),
            Ended::NotCounted => ("clear", Some(0)),
            Ended::BadPin => ("bad", Some(1)),
            Ended::Unknown => ("clear", Some(1)),
        };
        let written = sqlx::query(
            "update signer.pin_latch set state = $3, asking = false, updated_at = now(),
                undecided = case when $4::int is null then 0 else greatest(undecided - (not asking)::int + $4, 0) end
             where partition = $1 and pin_digest = $2",
        )
        .bind(partition)
        .bind(pin_digest.as_slice())
        .bind(state)
        .bind(logins)
        .execute(&self.pool);
        self.patience.within(async { Ok(written.await?) }).await?;
        Ok(())
    }
}

// === impl Store ===

impl Store {
    /// Forgets the logins of a partition and the authorisations of its keys, so that they are tried again; answers how many that are. For an operator who has mended the
    /// cause and keeps the PIN.
    pub async fn clear_latch(&self, partition: &str) -> Result<u64, StoreError> {
        let work = async {
            let mut tx = self.pool.begin().await?;
            // Of its keys, too, where they have authorisations of their own.
            let forgotten =
                sqlx::query("delete from signer.pin_latch where partition = $1 or starts_with(partition, $1 || '/')")
                    .bind(partition)
                    .execute(&mut *tx)
                    .await?;
            let leaf = Leaf {
                subject: "latch",
                tenant: String::new(),
                peer: "operator".to_owned(),
                signer: None,
                request_id: None,
                decision: "cleared",
                reason: partition.to_owned(),
            };
            write_leaves(&mut *tx, &[leaf]).await?;
            tx.commit().await?;
            Ok(forgotten.rows_affected())
        };
        self.patience.within(work).await
    }

    async fn begin_login(
        &self,
        partition: &str,
        pin_digest: [u8; 32],
        longest: Duration,
    ) -> Result<Attempt, StoreError> {
        let work = async {
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
            let mut unclear = false;
            for row in &rows {
                let (same, state, undecided, age_s): (bool, String, i32, f64) =
                    (row.try_get("same")?, row.try_get("state")?, row.try_get("undecided")?, row.try_get("age_s")?);
                match (same, state.as_str()) {
                    (true, "bad") => return Ok(Attempt::Refused),
                    (_, "trying") if age_s <= longest.as_secs_f64() => return Ok(Attempt::Busy),
                    (true, _) if undecided >= UNDECIDED_MAX => return Ok(Attempt::Unclear),
                    (true, _) => unclear = undecided > 0,
                    _ => {}
                }
            }
            // Counted before it is made: whatever crashes, it is not forgotten.
            sqlx::query(
                "update signer.pin_latch set state = 'trying', asking = false, undecided = undecided + 1, updated_at = now()
                 where partition = $1 and pin_digest = $2",
            )
            .bind(partition)
            .bind(pin_digest.as_slice())
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(Attempt::Go { unclear })
        };
        self.patience.within(work).await
    }
}
