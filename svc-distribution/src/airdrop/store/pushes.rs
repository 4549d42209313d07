//! Pushes and their batches: planned under a lock, handed over under a key, settled when final.

use super::{
    amount_of,
    lists::{StoredRow, row_of},
    place, place_of,
};
use crate::{airdrop::tree::Parts, passes::OpenBatch, store::Store};
use alloy::primitives::{Address, U256};
use dalp_domain::store::{StoreError, address_of, during, hex_of, signed};
use dalp_engine::Failure;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

/// Where a push stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushState {
    /// Batches are handed over.
    Running,
    /// Nothing further is handed over.
    Paused,
    /// A batch was refused as a whole.
    Stopped,
    /// Everybody was tried.
    Done,
}

/// A push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPush {
    /// Whose.
    pub tenant: String,
    /// The airdrop.
    pub airdrop: Address,
    /// Its number.
    pub push: u32,
    /// Who asked for it.
    pub principal: String,
    /// Who sends.
    pub sender: Address,
    /// Where it stands.
    pub state: PushState,
    /// Rows of a batch.
    pub rows_per_batch: u32,
    /// Why it stopped.
    pub failure: Option<Failure>,
}

/// A push to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPush {
    /// Whose.
    pub tenant: String,
    /// The airdrop.
    pub airdrop: Address,
    /// Who asks for it.
    pub principal: String,
    /// Who sends.
    pub sender: Address,
    /// Rows of a batch.
    pub rows_per_batch: u32,
}

/// What an airdrop still has to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpaid {
    /// How many rows.
    pub rows: u64,
    /// Their sum.
    pub amount: U256,
}

// === impl PushState ===

impl PushState {
    const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Stopped, Self::Done];

    const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Done => "done",
        }
    }
}

impl Store {
    /// The latest push of an airdrop.
    pub async fn push(&self, chain_id: u64, airdrop: Address) -> Result<Option<StoredPush>, StoreError> {
        sqlx::query("SELECT * FROM pushes WHERE chain_id = $1 AND airdrop = $2 ORDER BY push DESC LIMIT 1")
            .bind(signed(chain_id))
            .bind(hex_of(airdrop))
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read push"))?
            .map(|row| push_of(&row))
            .transpose()
    }

    /// Pushes that run.
    pub async fn running_pushes(&self, chain_id: u64) -> Result<Vec<StoredPush>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM pushes WHERE chain_id = $1 AND state = 'running' ORDER BY tenant_id, airdrop, push",
        )
        .bind(signed(chain_id))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read pushes"))?;
        rows.iter().map(push_of).collect()
    }

    /// Begins a push, unless another one was begun meanwhile.
    pub async fn begin_push(&self, chain_id: u64, new: &NewPush) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO pushes (tenant_id, chain_id, airdrop, push, principal, sender, state, rows_per_batch)
             SELECT $1, $2, $3, coalesce(max(push), 0) + 1, $4, $5, 'running', $6 FROM pushes WHERE chain_id = $2 AND airdrop = $3
             ON CONFLICT DO NOTHING",
        )
        .bind(&new.tenant)
        .bind(signed(chain_id))
        .bind(hex_of(new.airdrop))
        .bind(&new.principal)
        .bind(hex_of(new.sender))
        .bind(place(new.rows_per_batch.into()))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("begin push"))
    }

    /// Lets the paused push of an airdrop go on, if there is one.
    pub async fn resume_push(&self, chain_id: u64, airdrop: Address) -> Result<(), StoreError> {
        sqlx::query("UPDATE pushes SET state = 'running' WHERE chain_id = $1 AND airdrop = $2 AND state = 'paused'")
            .bind(signed(chain_id))
            .bind(hex_of(airdrop))
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(during("resume push"))
    }

    /// Pauses the push of an airdrop, if one runs.
    pub async fn pause_push(&self, chain_id: u64, airdrop: Address) -> Result<(), StoreError> {
        sqlx::query("UPDATE pushes SET state = 'paused' WHERE chain_id = $1 AND airdrop = $2 AND state = 'running'")
            .bind(signed(chain_id))
            .bind(hex_of(airdrop))
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(during("pause push"))
    }

    /// Ends a push that runs.
    pub async fn end_push(
        &self,
        chain_id: u64,
        push: &StoredPush,
        failure: Option<&Failure>,
    ) -> Result<(), StoreError> {
        let state = if failure.is_some() { PushState::Stopped } else { PushState::Done };
        sqlx::query(
            "UPDATE pushes SET state = $4, failure = $5 WHERE chain_id = $1 AND airdrop = $2 AND push = $3 AND state = 'running'",
        )
        .bind(signed(chain_id))
        .bind(hex_of(push.airdrop))
        .bind(place(push.push.into()))
        .bind(state.name())
        .bind(failure.map(|failure| serde_json::json!(failure)))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("end push"))
    }

    /// Rows that are not paid, as far as the chain was indexed.
    pub async fn unpaid(&self, chain_id: u64, airdrop: Address, list_id: i64) -> Result<Unpaid, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS rows, coalesce(sum(amount), 0)::text AS amount FROM recipients r
             WHERE list_id = $1 AND NOT EXISTS (SELECT 1 FROM payouts p WHERE p.chain_id = $2 AND p.airdrop = $3
               AND p.place = r.place AND p.kind IN ('paid', 'started'))",
        )
        .bind(list_id)
        .bind(signed(chain_id))
        .bind(hex_of(airdrop))
        .fetch_one(&self.pool)
        .await
        .map_err(during("count unpaid rows"))?;
        Ok(Unpaid {
            rows: u64::try_from(row.get::<i64, _>("rows")).unwrap_or(0),
            amount: amount_of(row.get("amount"))?,
        })
    }

    /// The next rows of one tree that are not paid, from a place on.
    pub async fn unpaid_rows(
        &self,
        chain_id: u64,
        airdrop: Address,
        (list_id, parts): (i64, Parts),
        from: u64,
        limit: u32,
    ) -> Result<Vec<StoredRow>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(during("read unpaid rows"))?;
        unpaid_rows(&mut connection, chain_id, airdrop, (list_id, parts), from, limit).await
    }

    /// Plans the next batch of a push that runs. `None`: everybody stands in a batch, or it does not run any more.
    pub async fn plan_batch(
        &self,
        chain_id: u64,
        push: &StoredPush,
        (list_id, parts): (i64, Parts),
    ) -> Result<Option<OpenBatch>, StoreError> {
        let mut commit = self.begin("plan batch").await?;
        let head = sqlx::query(
            "SELECT next_place, next_batch FROM pushes
             WHERE chain_id = $1 AND airdrop = $2 AND push = $3 AND state = 'running' FOR NO KEY UPDATE",
        )
        .bind(signed(chain_id))
        .bind(hex_of(push.airdrop))
        .bind(place(push.push.into()))
        .fetch_optional(&mut *commit)
        .await
        .map_err(during("lock push"))?;
        let Some(head) = head else { return Ok(None) };
        let (from, batch): (i32, i32) = (head.get("next_place"), head.get("next_batch"));
        let rows =
            unpaid_rows(&mut commit, chain_id, push.airdrop, (list_id, parts), place_of(from), push.rows_per_batch)
                .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let places: Vec<u64> = rows.iter().map(|row| row.place).collect();
        sqlx::query("INSERT INTO batches (chain_id, airdrop, push, batch, places) VALUES ($1, $2, $3, $4, $5)")
            .bind(signed(chain_id))
            .bind(hex_of(push.airdrop))
            .bind(place(push.push.into()))
            .bind(batch)
            .bind(places.iter().copied().map(place).collect::<Vec<_>>())
            .execute(&mut *commit)
            .await
            .map_err(during("plan batch"))?;
        sqlx::query(
            "UPDATE pushes SET next_place = $4, next_batch = $5 WHERE chain_id = $1 AND airdrop = $2 AND push = $3",
        )
        .bind(signed(chain_id))
        .bind(hex_of(push.airdrop))
        .bind(place(push.push.into()))
        .bind(place(last.place + 1))
        .bind(batch + 1)
        .execute(&mut *commit)
        .await
        .map_err(during("plan batch"))?;
        commit.commit().await.map_err(during("plan batch"))?;
        Ok(Some(OpenBatch { batch: u32::try_from(batch).unwrap_or(0), places, operation_id: None }))
    }

    /// Batches of a push that are not settled, in order.
    pub async fn open_batches(&self, chain_id: u64, push: &StoredPush) -> Result<Vec<OpenBatch>, StoreError> {
        let rows = sqlx::query(
            "SELECT batch, places, operation_id FROM batches
             WHERE chain_id = $1 AND airdrop = $2 AND push = $3 AND NOT settled ORDER BY batch",
        )
        .bind(signed(chain_id))
        .bind(hex_of(push.airdrop))
        .bind(place(push.push.into()))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read batches"))?;
        Ok(rows
            .iter()
            .map(|row| OpenBatch {
                batch: u32::try_from(row.get::<i32, _>("batch")).unwrap_or(0),
                places: row.get::<Vec<i32>, _>("places").into_iter().map(place_of).collect(),
                operation_id: row.get("operation_id"),
            })
            .collect())
    }

    /// Notes the operation of a batch.
    pub async fn note_batch(
        &self,
        chain_id: u64,
        push: &StoredPush,
        batch: u32,
        operation_id: Uuid,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE batches SET operation_id = $5 WHERE chain_id = $1 AND airdrop = $2 AND push = $3 AND batch = $4",
        )
        .bind(signed(chain_id))
        .bind(hex_of(push.airdrop))
        .bind(place(push.push.into()))
        .bind(place(batch.into()))
        .bind(operation_id)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("note batch"))
    }

    /// Notes that the operation of a batch is final.
    pub async fn settle_batch(&self, chain_id: u64, push: &StoredPush, batch: u32) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE batches SET settled = true WHERE chain_id = $1 AND airdrop = $2 AND push = $3 AND batch = $4",
        )
        .bind(signed(chain_id))
        .bind(hex_of(push.airdrop))
        .bind(place(push.push.into()))
        .bind(place(batch.into()))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("settle batch"))
    }
}

async fn unpaid_rows(
    connection: &mut PgConnection,
    chain_id: u64,
    airdrop: Address,
    (list_id, parts): (i64, Parts),
    from: u64,
    limit: u32,
) -> Result<Vec<StoredRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT place, account, amount::text AS amount FROM recipients r
         WHERE list_id = $1 AND place >= $2 AND NOT EXISTS (SELECT 1 FROM payouts p WHERE p.chain_id = $3 AND p.airdrop = $4
           AND p.place = r.place AND p.kind IN ('paid', 'started'))
         ORDER BY place LIMIT $5",
    )
    .bind(list_id)
    .bind(place(from))
    .bind(signed(chain_id))
    .bind(hex_of(airdrop))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await
    .map_err(during("read unpaid rows"))?;
    let mut rows: Vec<StoredRow> = rows.iter().map(row_of).collect::<Result<_, _>>()?;
    // A proof is of one tree.
    if let Some(first) = rows.first().map(|row| parts.of_row(row.place)) {
        rows.retain(|row| parts.of_row(row.place) == first);
    }
    Ok(rows)
}

fn push_of(row: &PgRow) -> Result<StoredPush, StoreError> {
    let name: String = row.get("state");
    let state = PushState::ALL.into_iter().find(|state| state.name() == name);
    let number = |name: &str| u32::try_from(row.get::<i32, _>(name)).unwrap_or(0);
    Ok(StoredPush {
        tenant: row.get("tenant_id"),
        airdrop: address_of(row.get("airdrop"))?,
        push: number("push"),
        principal: row.get("principal"),
        sender: address_of(row.get("sender"))?,
        state: state.ok_or(StoreError::Malformed { what: "push state", value: name })?,
        rows_per_batch: number("rows_per_batch"),
        failure: row
            .get::<Option<serde_json::Value>, _>("failure")
            .and_then(|failure| serde_json::from_value(failure).ok()),
    })
}
