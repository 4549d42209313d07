//! Treasuries and their terms.

use super::amount_of;
use crate::{
    store::Store,
    treasury::{
        flows::CreateOrder,
        terms::{Maturity, Terms, Units},
    },
};
use alloy::primitives::{Address, U256};
use dalp_domain::store::{StoreError, address_of, during, hex_of, parsed, signed, unsigned};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

/// A treasury as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTreasury {
    /// Its number: later ones are higher.
    pub number: i64,
    /// Its contract.
    pub treasury: Address,
    /// The operation that creates it.
    pub operation_id: Uuid,
    /// Who created it.
    pub sender: Address,
    /// Its terms.
    pub terms: Terms,
    /// What their numbers come to.
    pub units: Units,
    /// Where it was created, once that was seen.
    pub created_block: Option<u64>,
}

/// Writes a treasury in the commit that accepts its creation.
pub async fn put_treasury(
    commit: &mut PgConnection,
    tenant: &str,
    operation_id: Uuid,
    order: &CreateOrder,
) -> Result<(), sqlx::Error> {
    let (terms, units) = (&order.command.terms, &order.units);
    sqlx::query(
        "INSERT INTO distribution.treasuries (tenant_id, chain_id, treasury, operation_id, factory, sender, asset, asset_decimals, currency,
                                              currency_decimals, sweep_to, matures_at, redemption_price, redemption_ratio)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14::numeric)",
    )
    .bind(tenant)
    .bind(signed(order.chain_id))
    .bind(hex_of(order.treasury))
    .bind(operation_id)
    .bind(hex_of(order.factory))
    .bind(hex_of(order.command.sender))
    .bind(hex_of(terms.asset))
    .bind(i16::from(units.asset_decimals))
    .bind(hex_of(terms.currency))
    .bind(i16::from(units.currency_decimals))
    .bind(hex_of(terms.sweep_to))
    .bind(terms.maturity.map(|maturity| signed(maturity.at)))
    .bind(terms.maturity.map(|maturity| maturity.redemption_price.to_string()))
    .bind(terms.maturity.map(|_| units.redemption_ratio.to_string()))
    .execute(commit)
    .await
    .map(drop)
}

/// Treasuries that meet a condition.
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT t.*, t.redemption_ratio::text AS ratio_text FROM treasuries t WHERE ", $rest)
    };
}

impl Store {
    /// A treasury of a tenant.
    pub async fn treasury(
        &self,
        tenant: &str,
        chain_id: u64,
        treasury: Address,
    ) -> Result<Option<StoredTreasury>, StoreError> {
        sqlx::query(select!("t.tenant_id = $1 AND t.chain_id = $2 AND t.treasury = $3"))
            .bind(tenant)
            .bind(signed(chain_id))
            .bind(hex_of(treasury))
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read treasury"))?
            .map(|row| parse(&row))
            .transpose()
    }

    /// The treasury that an operation creates.
    pub async fn treasury_of_operation(
        &self,
        tenant: &str,
        operation_id: Uuid,
    ) -> Result<Option<StoredTreasury>, StoreError> {
        sqlx::query(select!("t.tenant_id = $1 AND t.operation_id = $2"))
            .bind(tenant)
            .bind(operation_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read treasury"))?
            .map(|row| parse(&row))
            .transpose()
    }

    /// Treasuries of a tenant below a number, newest first; all of them, or those of an asset.
    pub async fn treasuries(
        &self,
        tenant: &str,
        chain_id: u64,
        asset: Option<Address>,
        below: i64,
        limit: u32,
    ) -> Result<Vec<StoredTreasury>, StoreError> {
        let rows = sqlx::query(select!(
            "t.tenant_id = $1 AND t.chain_id = $2 AND t.number < $3 AND ($4::text IS NULL OR t.asset = $4)
             ORDER BY t.number DESC LIMIT $5"
        ))
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(below)
        .bind(asset.map(hex_of))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list treasuries"))?;
        rows.iter().map(parse).collect()
    }
}

fn parse(row: &PgRow) -> Result<StoredTreasury, StoreError> {
    let maturity = match row.get::<Option<i64>, _>("matures_at") {
        None => None,
        Some(at) => {
            let redemption_price = parsed("price", row.get("redemption_price"))?;
            Some(Maturity { at: unsigned(at), redemption_price })
        }
    };
    let ratio: Option<String> = row.get("ratio_text");
    Ok(StoredTreasury {
        number: row.get("number"),
        treasury: address_of(row.get("treasury"))?,
        operation_id: row.get("operation_id"),
        sender: address_of(row.get("sender"))?,
        terms: Terms {
            asset: address_of(row.get("asset"))?,
            currency: address_of(row.get("currency"))?,
            sweep_to: address_of(row.get("sweep_to"))?,
            maturity,
        },
        units: Units {
            asset_decimals: small(row.get("asset_decimals")),
            currency_decimals: small(row.get("currency_decimals")),
            redemption_ratio: ratio.map_or(Ok(U256::ZERO), amount_of)?,
        },
        created_block: row.get::<Option<i64>, _>("created_block").map(unsigned),
    })
}

/// Decimals are kept as smallint.
fn small(number: i16) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
