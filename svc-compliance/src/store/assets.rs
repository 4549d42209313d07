//! Assets ordered through us.

use super::{Store, StoreError, address_of, during, hex_of, signed, unsigned};
use crate::domain::{
    asset::{AssetClass, CreateAsset},
    template::TemplateName,
    terms::Terms,
};
use alloy::primitives::Address;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

/// An asset as it was ordered, with its address once its creation was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAsset {
    /// Position for pages newest first.
    pub seq: u64,
    /// The operation that creates it; also the salt of its address.
    pub operation_id: Uuid,
    /// Token, once created.
    pub asset: Option<Address>,
    /// Name.
    pub name: String,
    /// Symbol.
    pub symbol: String,
    /// Decimals.
    pub decimals: u8,
    /// Template.
    pub class: AssetClass,
    /// ISIN.
    pub isin: Option<String>,
    /// The template it was ordered with; none of old orders.
    pub template: Option<String>,
    /// Its terms; none of old orders.
    pub terms: Option<Terms>,
}

/// The name of the constraint that keeps a symbol unique in a tenant.
pub(crate) const SYMBOL_CONSTRAINT: &str = "assets_symbol";

/// Inserts the order of an asset; runs in the commit that accepts the operation. `replaces` is an order that held the symbol and
/// came to nothing. When another order was faster the constraint refuses.
pub(crate) async fn insert(
    connection: &mut sqlx::PgConnection,
    tenant: &str,
    chain_id: u64,
    operation_id: Uuid,
    command: &CreateAsset,
    template: &TemplateName,
    replaces: Option<Uuid>,
) -> Result<(), sqlx::Error> {
    let terms = command.terms.as_ref().map(serde_json::to_value).transpose();
    let terms = terms.map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    sqlx::query("DELETE FROM compliance.assets WHERE tenant_id = $1 AND operation_id = $2 AND asset IS NULL")
        .bind(tenant)
        .bind(replaces)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO compliance.assets (tenant_id, chain_id, operation_id, symbol, name, decimals, asset_class, isin, template, terms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(tenant)
    .bind(signed(chain_id))
    .bind(operation_id)
    .bind(&command.symbol)
    .bind(&command.name)
    .bind(i16::from(command.decimals))
    .bind(command.class.name())
    .bind(command.isin.as_ref().map(|isin| isin.as_str().to_owned()))
    .bind(template.as_str())
    .bind(terms)
    .execute(connection)
    .await
    .map(drop)
}

impl Store {
    /// One asset by its token.
    pub async fn asset(&self, tenant: &str, chain_id: u64, asset: Address) -> Result<Option<StoredAsset>, StoreError> {
        sqlx::query("SELECT * FROM compliance.assets WHERE tenant_id = $1 AND chain_id = $2 AND asset = $3")
            .bind(tenant)
            .bind(signed(chain_id))
            .bind(hex_of(asset))
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read asset"))?
            .map(parse)
            .transpose()
    }

    /// The order that holds a symbol.
    pub async fn asset_by_symbol(
        &self,
        tenant: &str,
        chain_id: u64,
        symbol: &str,
    ) -> Result<Option<StoredAsset>, StoreError> {
        sqlx::query("SELECT * FROM compliance.assets WHERE tenant_id = $1 AND chain_id = $2 AND symbol = $3")
            .bind(tenant)
            .bind(signed(chain_id))
            .bind(symbol)
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read asset by symbol"))?
            .map(parse)
            .transpose()
    }

    /// Created assets below a position, newest first.
    pub async fn assets(
        &self,
        tenant: &str,
        chain_id: u64,
        below: Option<u64>,
        limit: u32,
    ) -> Result<Vec<StoredAsset>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM compliance.assets WHERE tenant_id = $1 AND chain_id = $2 AND asset IS NOT NULL AND seq < $3
             ORDER BY seq DESC LIMIT $4",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(below.map_or(i64::MAX, signed))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list assets"))?;
        rows.into_iter().map(parse).collect()
    }
}

fn parse(row: PgRow) -> Result<StoredAsset, StoreError> {
    let class: String = row.get("asset_class");
    let asset: Option<String> = row.get("asset");
    let terms: Option<serde_json::Value> = row.get("terms");
    let parse_terms = |value: serde_json::Value| {
        serde_json::from_value(value.clone())
            .map_err(|_| StoreError::Malformed { what: "terms", value: value.to_string() })
    };
    Ok(StoredAsset {
        seq: unsigned(row.get("seq")),
        operation_id: row.get("operation_id"),
        asset: asset.map(address_of).transpose()?,
        name: row.get("name"),
        symbol: row.get("symbol"),
        decimals: u8::try_from(row.get::<i16, _>("decimals")).unwrap_or(u8::MAX),
        class: AssetClass::of_name(&class).ok_or(StoreError::Malformed { what: "asset class", value: class })?,
        isin: row.get("isin"),
        template: row.get("template"),
        terms: terms.map(parse_terms).transpose()?,
    })
}
