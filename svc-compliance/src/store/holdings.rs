//! The indexed log: balances and freezes by block, kept by one replica at a time.

use super::{
    Store, StoreError, address_of, during, hex_of,
    rule_logs::{self, CreatedCompliance, RuleLog},
    signed,
};
use alloy::primitives::{Address, U256};
use dalp_chain::BlockRef;
use dalp_domain::indexing::{drop_blocks, put_blocks};
use sqlx::{PgConnection, Row as _};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// What a holder has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holding {
    /// Base units.
    pub balance: U256,
    /// Of it frozen.
    pub frozen: U256,
    /// Whether the whole address is frozen.
    pub address_frozen: bool,
}

/// Key of a holding: asset and holder.
pub type HoldingKey = (Address, Address);

/// Which tenant a contract belongs to, by its address.
pub type Owners = BTreeMap<Address, String>;

/// An asset seen at its creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedAsset {
    /// Owner of the factory.
    pub tenant: String,
    /// Token.
    pub asset: Address,
    /// What created it.
    pub asset_factory: Address,
    /// Block of its creation.
    pub block: u64,
    /// The operation, which is the salt of its address.
    pub operation_id: Uuid,
}

/// Everything a batch of blocks changes.
#[derive(Debug, Default)]
pub struct IndexBatch {
    /// Everything above this block is withdrawn first; `None` in `Some` withdraws all.
    pub rewind_to: Option<Option<u64>>,
    /// Applied blocks.
    pub blocks: Vec<BlockRef>,
    /// Assets created.
    pub assets: Vec<CreatedAsset>,
    /// Compliances created.
    pub compliances: Vec<CreatedCompliance>,
    /// What rules were told, with the tenant it concerns.
    pub rule_logs: Vec<(String, RuleLog)>,
    /// Owners of the assets of `holdings`.
    pub owners: Owners,
    /// State after each block, by block, asset and holder.
    pub holdings: BTreeMap<(u64, Address, Address), Holding>,
}

impl Store {
    /// Which of the addresses are asset factories of tenants, and which are assets that those created.
    pub async fn indexed_contracts(
        &self,
        chain_id: u64,
        addresses: &BTreeSet<Address>,
    ) -> Result<(Owners, Owners), StoreError> {
        let rows = sqlx::query(
            "SELECT tenant_id, asset_factory AS address, true AS factory FROM compliance.systems
              WHERE chain_id = $1 AND asset_factory = ANY($2)
             UNION ALL SELECT tenant_id, asset, false FROM compliance.indexed_assets WHERE chain_id = $1 AND asset = ANY($2)",
        )
        .bind(signed(chain_id))
        .bind(addresses.iter().copied().map(hex_of).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await
        .map_err(during("find indexed contracts"))?;
        let (mut factories, mut assets) = (Owners::new(), Owners::new());
        for row in rows {
            let owners = if row.get("factory") { &mut factories } else { &mut assets };
            owners.insert(address_of(row.get("address"))?, row.get("tenant_id"));
        }
        Ok((factories, assets))
    }

    /// The newest state of holdings of assets with these owners.
    pub async fn newest_holdings(
        &self,
        chain_id: u64,
        owners: &Owners,
        keys: &[HoldingKey],
    ) -> Result<HashMap<HoldingKey, Holding>, StoreError> {
        let (mut tenants, mut assets, mut holders) = (Vec::new(), Vec::new(), Vec::new());
        for (asset, holder) in keys {
            tenants.push(owner_of(owners, *asset)?);
            assets.push(hex_of(*asset));
            holders.push(hex_of(*holder));
        }
        let rows = sqlx::query(
            "SELECT h.asset, h.holder, h.balance::text AS balance, h.frozen::text AS frozen, h.address_frozen
             FROM unnest($2::text[], $3::text[], $4::text[]) AS k(tenant_id, asset, holder)
             CROSS JOIN LATERAL (SELECT * FROM compliance.holdings
                                 WHERE tenant_id = k.tenant_id AND chain_id = $1 AND asset = k.asset AND holder = k.holder
                                 ORDER BY block_number DESC LIMIT 1) h",
        )
        .bind(signed(chain_id))
        .bind(tenants)
        .bind(assets)
        .bind(holders)
        .fetch_all(&self.pool)
        .await
        .map_err(during("read holdings"))?;
        rows.into_iter()
            .map(|row| Ok(((address_of(row.get("asset"))?, address_of(row.get("holder"))?), holding(&row)?)))
            .collect()
    }

    /// Commits a batch with its cursor, if this replica still holds the lease.
    pub async fn commit_index(&self, chain_id: u64, owner: &str, batch: &IndexBatch) -> Result<(), StoreError> {
        let mut commit = self.begin_index(chain_id, owner).await?;
        let chain = signed(chain_id);
        if let Some(to) = batch.rewind_to {
            retract(&mut commit, chain, to.map_or(-1, signed)).await?;
            drop_blocks(&mut commit, chain_id, to).await?;
        }
        for created in &batch.assets {
            name_asset(&mut commit, chain, created).await?;
        }
        put_holdings(&mut commit, chain, batch).await?;
        rule_logs::put(&mut commit, chain, batch).await?;
        put_blocks(&mut commit, chain_id, &batch.blocks).await?;
        commit.commit().await.map_err(during("commit index"))
    }

    /// Holders of an asset with something at a block, by address, behind one.
    pub async fn holders(
        &self,
        tenant: &str,
        chain_id: u64,
        asset: Address,
        block: u64,
        after: Option<Address>,
        limit: u32,
    ) -> Result<Vec<(Address, Holding)>, StoreError> {
        let rows = sqlx::query(
            "SELECT holder, balance::text AS balance, frozen::text AS frozen, address_frozen FROM (
               SELECT DISTINCT ON (holder) holder, balance, frozen, address_frozen FROM compliance.holdings
               WHERE tenant_id = $1 AND chain_id = $2 AND asset = $3 AND block_number <= $4 AND holder > $5
               ORDER BY holder, block_number DESC) newest
             WHERE balance > 0 ORDER BY holder LIMIT $6",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(hex_of(asset))
        .bind(signed(block))
        .bind(after.map_or_else(String::new, hex_of))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list holders"))?;
        rows.into_iter().map(|row| Ok((address_of(row.get("holder"))?, holding(&row)?))).collect()
    }

    /// The assets in which a holder ever had something.
    pub async fn assets_of_holder(
        &self,
        tenant: &str,
        chain_id: u64,
        holder: Address,
    ) -> Result<Vec<Address>, StoreError> {
        let assets: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT asset FROM compliance.holdings WHERE tenant_id = $1 AND chain_id = $2 AND holder = $3
             ORDER BY asset",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(hex_of(holder))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list assets of holder"))?;
        assets.into_iter().map(address_of).collect()
    }

    /// One holding at a block.
    pub async fn holding(
        &self,
        tenant: &str,
        chain_id: u64,
        asset: Address,
        holder: Address,
        block: u64,
    ) -> Result<Holding, StoreError> {
        let row = sqlx::query(
            "SELECT balance::text AS balance, frozen::text AS frozen, address_frozen FROM compliance.holdings
             WHERE tenant_id = $1 AND chain_id = $2 AND asset = $3 AND holder = $4 AND block_number <= $5
             ORDER BY block_number DESC LIMIT 1",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(hex_of(asset))
        .bind(hex_of(holder))
        .bind(signed(block))
        .fetch_optional(&self.pool)
        .await
        .map_err(during("read holding"))?;
        row.map_or_else(|| Ok(Holding::default()), |row| holding(&row))
    }
}

/// Takes back what stands in blocks above one.
async fn retract(commit: &mut PgConnection, chain: i64, above: i64) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM compliance.holdings WHERE chain_id = $1 AND block_number > $2",
        "DELETE FROM compliance.indexed_assets WHERE chain_id = $1 AND created_block > $2",
        "UPDATE compliance.assets SET asset = NULL, created_block = NULL WHERE chain_id = $1 AND created_block > $2",
    ]
    .into_iter()
    .chain(rule_logs::RETRACT)
    {
        sqlx::query(statement).bind(chain).bind(above).execute(&mut *commit).await.map_err(during("retract blocks"))?;
    }
    Ok(())
}

/// Follows an asset from its creation on, and gives the order that created it its address.
async fn name_asset(commit: &mut PgConnection, chain: i64, created: &CreatedAsset) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO compliance.indexed_assets (tenant_id, chain_id, asset, asset_factory, created_block)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(&created.tenant)
    .bind(chain)
    .bind(hex_of(created.asset))
    .bind(hex_of(created.asset_factory))
    .bind(signed(created.block))
    .execute(&mut *commit)
    .await
    .map_err(during("index asset"))?;
    sqlx::query(
        "UPDATE compliance.assets SET asset = $4, created_block = $5
         WHERE tenant_id = $1 AND chain_id = $2 AND operation_id = $3",
    )
    .bind(&created.tenant)
    .bind(chain)
    .bind(created.operation_id)
    .bind(hex_of(created.asset))
    .bind(signed(created.block))
    .execute(commit)
    .await
    .map_err(during("name asset"))?;
    Ok(())
}

async fn put_holdings(commit: &mut PgConnection, chain: i64, batch: &IndexBatch) -> Result<(), StoreError> {
    if batch.holdings.is_empty() {
        return Ok(());
    }
    let (mut tenants, mut assets, mut holders, mut numbers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut balances, mut frozen, mut address_frozen) = (Vec::new(), Vec::new(), Vec::new());
    for ((block, asset, holder), holding) in &batch.holdings {
        tenants.push(owner_of(&batch.owners, *asset)?);
        assets.push(hex_of(*asset));
        holders.push(hex_of(*holder));
        numbers.push(signed(*block));
        balances.push(holding.balance.to_string());
        frozen.push(holding.frozen.to_string());
        address_frozen.push(holding.address_frozen);
    }
    sqlx::query(
        "INSERT INTO compliance.holdings (tenant_id, chain_id, asset, holder, block_number, balance, frozen, address_frozen)
         SELECT tenant_id, $1, asset, holder, block_number, balance::numeric, frozen::numeric, address_frozen
         FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::boolean[])
           AS h(tenant_id, asset, holder, block_number, balance, frozen, address_frozen)",
    )
    .bind(chain)
    .bind(tenants)
    .bind(assets)
    .bind(holders)
    .bind(numbers)
    .bind(balances)
    .bind(frozen)
    .bind(address_frozen)
    .execute(commit)
    .await
    .map_err(during("index holdings"))?;
    Ok(())
}

fn owner_of(owners: &Owners, asset: Address) -> Result<String, StoreError> {
    owners
        .get(&asset)
        .cloned()
        .ok_or_else(|| StoreError::Malformed { what: "asset without an owner", value: hex_of(asset) })
}

fn holding(row: &sqlx::postgres::PgRow) -> Result<Holding, StoreError> {
    let amount = |column: &str| -> Result<U256, StoreError> {
        let text: String = row.get(column);
        text.parse().map_err(|_| StoreError::Malformed { what: "amount", value: text })
    };
    Ok(Holding { balance: amount("balance")?, frozen: amount("frozen")?, address_frozen: row.get("address_frozen") })
}
