//! What the index keeps of treasuries.

use crate::{index::Place, metric_definitions as metric, store::Store};
use alloy::primitives::{Address, U256};
use dalp_domain::store::{StoreError, address_of, during, hex_of, signed};
use sqlx::{PgConnection, Row as _};
use std::collections::{BTreeMap, BTreeSet};

/// What a contract told of a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Where it was told.
    pub at: Place,
    /// By whom.
    pub treasury: Address,
    /// Number of the payout in the contract; absent: a redemption.
    pub payout_id: Option<u64>,
    /// Whose.
    pub holder: Address,
    /// What became of it.
    pub told: Told,
}

/// What became of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It was made.
    Paid {
        /// To whom.
        to: Address,
        /// Base units of the currency.
        amount: U256,
        /// Of a redemption: base units of the asset that were burned.
        units: Option<U256>,
    },
    /// It was not.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// Tokens of an asset that went from a lost wallet to a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Where it was told.
    pub at: Place,
    /// Which asset.
    pub asset: Address,
    /// From which wallet.
    pub lost_wallet: Address,
    /// To which.
    pub new_wallet: Address,
}

/// What a batch of blocks tells of treasuries.
#[derive(Debug, Default)]
pub struct TreasuryEvents {
    /// Treasuries that were created, with their block.
    pub created: Vec<(Address, u64)>,
    /// Payments.
    pub payments: Vec<Payment>,
    /// Recoveries of the assets of treasuries.
    pub recoveries: Vec<Recovery>,
}

// === impl Told ===

impl Told {
    /// The name under which it is stored.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Paid { .. } => "paid",
            Self::Skipped { .. } => "skipped",
        }
    }
}

impl Store {
    /// Those of some addresses that are treasuries of ours, with the factory that makes them.
    pub async fn known_treasuries(
        &self,
        chain_id: u64,
        addresses: &BTreeSet<Address>,
    ) -> Result<BTreeMap<Address, Address>, StoreError> {
        let rows = sqlx::query("SELECT treasury, factory FROM treasuries WHERE chain_id = $1 AND treasury = ANY($2)")
            .bind(signed(chain_id))
            .bind(addresses.iter().copied().map(hex_of).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await
            .map_err(during("find treasuries"))?;
        rows.iter().map(|row| Ok((address_of(row.get("treasury"))?, address_of(row.get("factory"))?))).collect()
    }
}

impl Store {
    /// Those of some addresses that are assets of treasuries of ours.
    pub async fn serviced_assets(
        &self,
        chain_id: u64,
        addresses: &BTreeSet<Address>,
    ) -> Result<BTreeSet<Address>, StoreError> {
        let assets: Vec<String> =
            sqlx::query_scalar("SELECT DISTINCT asset FROM treasuries WHERE chain_id = $1 AND asset = ANY($2)")
                .bind(signed(chain_id))
                .bind(addresses.iter().copied().map(hex_of).collect::<Vec<_>>())
                .fetch_all(&self.pool)
                .await
                .map_err(during("find assets"))?;
        assets.into_iter().map(address_of).collect()
    }
}

// === impl TreasuryEvents ===

impl TreasuryEvents {
    /// What takes back everything above a block: the chain and the block are its parameters.
    pub(crate) const RETRACT: &[&str] = &[
        "DELETE FROM treasury_payments WHERE chain_id = $1 AND block_number > $2",
        "DELETE FROM asset_recoveries WHERE chain_id = $1 AND block_number > $2",
        "UPDATE treasuries SET created_block = NULL WHERE chain_id = $1 AND created_block > $2",
    ];

    /// Writes all of it in a commit of the index.
    pub(crate) async fn put(&self, commit: &mut PgConnection, chain_id: u64) -> Result<(), StoreError> {
        for (treasury, block) in &self.created {
            sqlx::query("UPDATE treasuries SET created_block = $3 WHERE chain_id = $1 AND treasury = $2")
                .bind(signed(chain_id))
                .bind(hex_of(*treasury))
                .bind(signed(*block))
                .execute(&mut *commit)
                .await
                .map_err(during("index treasury"))?;
        }
        put_recoveries(commit, chain_id, &self.recoveries).await?;
        put_payments(commit, chain_id, &self.payments).await
    }
}

async fn put_recoveries(commit: &mut PgConnection, chain_id: u64, recoveries: &[Recovery]) -> Result<(), StoreError> {
    for one in recoveries {
        sqlx::query(
            "INSERT INTO asset_recoveries (chain_id, block_number, log_index, asset, lost_wallet, new_wallet, tx_hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(signed(chain_id))
        .bind(signed(one.at.block))
        .bind(signed(one.at.log_index))
        .bind(hex_of(one.asset))
        .bind(hex_of(one.lost_wallet))
        .bind(hex_of(one.new_wallet))
        .bind(one.at.tx_hash.to_string())
        .execute(&mut *commit)
        .await
        .map_err(during("index recovery"))?;
    }
    Ok(())
}

async fn put_payments(commit: &mut PgConnection, chain_id: u64, payments: &[Payment]) -> Result<(), StoreError> {
    if payments.is_empty() {
        return Ok(());
    }
    let paid = |one: &Payment| match &one.told {
        Told::Paid { to, amount, units } => (Some(hex_of(*to)), *amount, units.map(|units| units.to_string())),
        Told::Skipped { .. } => (None, U256::ZERO, None),
    };
    let reason = |one: &Payment| match &one.told {
        Told::Skipped { reason } => reason.clone(),
        Told::Paid { .. } => String::new(),
    };
    sqlx::query(
        "INSERT INTO treasury_payments (chain_id, block_number, log_index, tx_hash, treasury, payout_id, holder, kind, paid_to, units, amount,
                                        reason)
         SELECT $1, block_number, log_index, tx_hash, treasury, payout_id, holder, kind, paid_to, units::numeric, amount::numeric, reason
         FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[],
                     $11::text[], $12::text[])
           AS p(block_number, log_index, tx_hash, treasury, payout_id, holder, kind, paid_to, units, amount, reason)
         ON CONFLICT DO NOTHING",
    )
    .bind(signed(chain_id))
    .bind(payments.iter().map(|one| signed(one.at.block)).collect::<Vec<_>>())
    .bind(payments.iter().map(|one| signed(one.at.log_index)).collect::<Vec<_>>())
    .bind(payments.iter().map(|one| one.at.tx_hash.to_string()).collect::<Vec<_>>())
    .bind(payments.iter().map(|one| hex_of(one.treasury)).collect::<Vec<_>>())
    .bind(payments.iter().map(|one| one.payout_id.map(signed)).collect::<Vec<_>>())
    .bind(payments.iter().map(|one| hex_of(one.holder)).collect::<Vec<_>>())
    .bind(payments.iter().map(|one| one.told.name()).collect::<Vec<_>>())
    .bind(payments.iter().map(|one| paid(one).0).collect::<Vec<_>>())
    .bind(payments.iter().map(|one| paid(one).2).collect::<Vec<_>>())
    .bind(payments.iter().map(|one| paid(one).1.to_string()).collect::<Vec<_>>())
    .bind(payments.iter().map(reason).collect::<Vec<_>>())
    .execute(commit)
    .await
    .map(|written| metric::events_ignored("treasury_payments", payments.len(), written.rows_affected()))
    .map_err(during("index payments"))
}
