//! What the index keeps of airdrops.

use super::place;
use crate::{index::Place, metric_definitions as metric, store::Store};
use alloy::primitives::{Address, U256};
use dalp_domain::store::{StoreError, address_of, during, hex_of, signed};
use sqlx::{PgConnection, Row as _};
use std::collections::{BTreeMap, BTreeSet};

/// What a contract told of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayoutKind {
    /// Pushed or claimed.
    Paid,
    /// Its vesting started.
    Started,
    /// Something of its vesting was paid.
    Released,
    /// The token refused it.
    Skipped,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    /// Where it was told.
    pub at: Place,
    /// By whom.
    pub airdrop: Address,
    /// Index of the row.
    pub row: u64,
    /// What.
    pub kind: PayoutKind,
    /// Base units.
    pub amount: U256,
    /// Why it was skipped.
    pub reason: String,
}

/// Leftovers that left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// Where it was told.
    pub at: Place,
    /// By whom.
    pub airdrop: Address,
    /// Which currency.
    pub currency: Address,
    /// Base units.
    pub amount: U256,
}

/// What a batch of blocks tells of airdrops.
#[derive(Debug, Default)]
pub struct AirdropEvents {
    /// Airdrops that were created, with their block.
    pub created: Vec<(Address, u64)>,
    /// Rows.
    pub payouts: Vec<Payout>,
    /// Leftovers.
    pub withdrawals: Vec<Withdrawal>,
}

// === impl PayoutKind ===

impl PayoutKind {
    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Started => "started",
            Self::Released => "released",
            Self::Skipped => "skipped",
        }
    }
}

impl Store {
    /// Those of some addresses that are airdrops of ours, with the factory that makes them.
    pub async fn known_airdrops(
        &self,
        chain_id: u64,
        addresses: &BTreeSet<Address>,
    ) -> Result<BTreeMap<Address, Address>, StoreError> {
        let rows = sqlx::query("SELECT airdrop, factory FROM airdrops WHERE chain_id = $1 AND airdrop = ANY($2)")
            .bind(signed(chain_id))
            .bind(addresses.iter().copied().map(hex_of).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await
            .map_err(during("find airdrops"))?;
        rows.iter().map(|row| Ok((address_of(row.get("airdrop"))?, address_of(row.get("factory"))?))).collect()
    }
}

// === impl AirdropEvents ===

impl AirdropEvents {
    /// What takes back everything above a block: the chain and the block are its parameters.
    pub(crate) const RETRACT: &[&str] = &[
        "DELETE FROM payouts WHERE chain_id = $1 AND block_number > $2",
        "DELETE FROM withdrawals WHERE chain_id = $1 AND block_number > $2",
        "UPDATE airdrops SET created_block = NULL WHERE chain_id = $1 AND created_block > $2",
    ];

    /// Writes all of it in a commit of the index.
    pub(crate) async fn put(&self, commit: &mut PgConnection, chain_id: u64) -> Result<(), StoreError> {
        for (airdrop, block) in &self.created {
            sqlx::query("UPDATE airdrops SET created_block = $3 WHERE chain_id = $1 AND airdrop = $2")
                .bind(signed(chain_id))
                .bind(hex_of(*airdrop))
                .bind(signed(*block))
                .execute(&mut *commit)
                .await
                .map_err(during("index airdrop"))?;
        }
        put_payouts(commit, chain_id, &self.payouts).await?;
        put_withdrawals(commit, chain_id, &self.withdrawals).await
    }
}

async fn put_payouts(commit: &mut PgConnection, chain_id: u64, payouts: &[Payout]) -> Result<(), StoreError> {
    if payouts.is_empty() {
        return Ok(());
    }
    let text = |of: fn(&Payout) -> String| payouts.iter().map(of).collect::<Vec<_>>();
    sqlx::query(
        "INSERT INTO payouts (chain_id, block_number, log_index, airdrop, place, kind, amount, reason, tx_hash)
         SELECT $1, block_number, log_index, airdrop, place, kind, amount::numeric, reason, tx_hash
         FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::int[], $6::text[], $7::text[], $8::text[], $9::text[])
           AS p(block_number, log_index, airdrop, place, kind, amount, reason, tx_hash)
         WHERE amount::numeric < 10::numeric ^ 39 ON CONFLICT DO NOTHING",
    )
    .bind(signed(chain_id))
    .bind(payouts.iter().map(|one| signed(one.at.block)).collect::<Vec<_>>())
    .bind(payouts.iter().map(|one| signed(one.at.log_index)).collect::<Vec<_>>())
    .bind(text(|one| hex_of(one.airdrop)))
    .bind(payouts.iter().map(|one| place(one.row)).collect::<Vec<_>>())
    .bind(text(|one| one.kind.name().to_owned()))
    .bind(text(|one| one.amount.to_string()))
    .bind(text(|one| one.reason.replace('\0', "")))
    .bind(text(|one| format!("{:#x}", one.at.tx_hash)))
    .execute(commit)
    .await
    .map(|written| metric::events_ignored("payouts", payouts.len(), written.rows_affected()))
    .map_err(during("index payouts"))
}

async fn put_withdrawals(
    commit: &mut PgConnection,
    chain_id: u64,
    withdrawals: &[Withdrawal],
) -> Result<(), StoreError> {
    for one in withdrawals {
        sqlx::query(
            "INSERT INTO withdrawals (chain_id, block_number, log_index, airdrop, currency, amount, tx_hash)
             VALUES ($1, $2, $3, $4, $5, $6::numeric, $7) ON CONFLICT DO NOTHING",
        )
        .bind(signed(chain_id))
        .bind(signed(one.at.block))
        .bind(signed(one.at.log_index))
        .bind(hex_of(one.airdrop))
        .bind(hex_of(one.currency))
        .bind(one.amount.to_string())
        .bind(format!("{:#x}", one.at.tx_hash))
        .execute(&mut *commit)
        .await
        .map_err(during("index withdrawal"))?;
    }
    Ok(())
}
