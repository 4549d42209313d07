//! Lists of recipients.

use super::{amount_of, place, place_of};
use crate::{
    airdrop::list::{Recipient, Recipients},
    store::Store,
};
use alloy::primitives::Address;
use dalp_domain::store::{StoreError, address_of, during, hex_of};
use dalp_service::stop::Stop;
use sqlx::{Row as _, postgres::PgRow};
use std::time::Duration;

/// Rows of one statement.
const AT_ONCE: usize = 10_000;
/// How often lists that nothing was made of are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);

/// A row of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRow {
    /// Its index in the tree.
    pub place: u64,
    /// Who gets how much.
    pub recipient: Recipient,
}

/// Forgets lists that nothing was made of, until stopped.
pub async fn forget(store: Store, stop: Stop) {
    while !stop.is_requested() {
        if let Err(error) = store.forget_lists().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "lists could not be forgotten, will try again");
        }
        tokio::select! {
            () = stop.requested() => {}
            () = tokio::time::sleep(FORGET_EVERY) => {}
        }
    }
}

impl Store {
    /// Stores a list, unless the tenant has it already. Its number.
    pub async fn put_list(&self, tenant: &str, list: &Recipients) -> Result<i64, StoreError> {
        let digest = format!("{:#x}", list.digest());
        let mut commit = self.begin("store list").await?;
        // One that is there already counts as new to whoever forgets lists.
        let row = sqlx::query(
            "INSERT INTO lists (tenant_id, digest, recipients, total) VALUES ($1, $2, $3, $4::numeric)
             ON CONFLICT (tenant_id, digest) DO UPDATE SET stored_at = now() RETURNING list_id, xmax = 0 AS fresh",
        )
        .bind(tenant)
        .bind(&digest)
        .bind(place(list.rows.len() as u64))
        .bind(list.total.to_string())
        .fetch_one(&mut *commit)
        .await
        .map_err(during("store list"))?;
        let list_id: i64 = row.get("list_id");
        if !row.get::<bool, _>("fresh") {
            commit.commit().await.map_err(during("store list"))?;
            return Ok(list_id);
        }
        for (part, rows) in list.rows.chunks(AT_ONCE).enumerate() {
            sqlx::query(
                "INSERT INTO recipients (list_id, place, account, amount)
                 SELECT $1, $2 + n::int - 1, account, amount::numeric
                 FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS r(account, amount, n)",
            )
            .bind(list_id)
            .bind(place((part * AT_ONCE) as u64))
            .bind(rows.iter().map(|row| hex_of(row.account)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.amount.to_string()).collect::<Vec<_>>())
            .execute(&mut *commit)
            .await
            .map_err(during("store recipients"))?;
        }
        commit.commit().await.map_err(during("store list"))?;
        Ok(list_id)
    }

    /// Rows of a list that stand together.
    pub async fn rows(&self, list_id: i64, first: u64, count: u64) -> Result<Vec<StoredRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT place, account, amount::text AS amount FROM recipients
             WHERE list_id = $1 AND place >= $2 AND place < $3 ORDER BY place",
        )
        .bind(list_id)
        .bind(place(first))
        .bind(place(first.saturating_add(count)))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read recipients"))?;
        rows.iter().map(row_of).collect()
    }

    /// The rows of accounts; those without one are left out.
    pub async fn rows_of(&self, list_id: i64, accounts: &[Address]) -> Result<Vec<StoredRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT place, account, amount::text AS amount FROM recipients
             WHERE list_id = $1 AND account = ANY($2) ORDER BY place",
        )
        .bind(list_id)
        .bind(accounts.iter().copied().map(hex_of).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await
        .map_err(during("find recipients"))?;
        rows.iter().map(row_of).collect()
    }

    /// Forgets lists that no airdrop was made of for a day. How many.
    pub async fn forget_lists(&self) -> Result<u64, StoreError> {
        sqlx::query(
            "DELETE FROM lists l WHERE stored_at < now() - interval '1 day'
             AND NOT EXISTS (SELECT 1 FROM airdrops a WHERE a.list_id = l.list_id)",
        )
        .execute(&self.pool)
        .await
        .map(|done| done.rows_affected())
        .map_err(during("forget lists"))
    }
}

pub(super) fn row_of(row: &PgRow) -> Result<StoredRow, StoreError> {
    let amount = amount_of(row.get("amount"))?;
    let recipient = Recipient { account: address_of(row.get("account"))?, amount: amount.saturating_to() };
    Ok(StoredRow { place: place_of(row.get("place")), recipient })
}
