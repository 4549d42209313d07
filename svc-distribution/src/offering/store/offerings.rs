//! Sales and their terms.

use super::amount_of;
use crate::{
    offering::{
        flows::CreateOrder,
        price::Price,
        terms::{Currency, Lockup, Presale, Rate, Rates, Terms},
    },
    store::Store,
};
use alloy::primitives::{Address, B256};
use dalp_domain::store::{StoreError, address_of, during, hash_of, hex_of, parsed, signed, unsigned};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

/// The name of the constraint that lets a sale be replaced once.
const REPLACED_CONSTRAINT: &str = "offerings_replaces";

/// A sale as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOffering {
    /// Its number: later ones are higher.
    pub number: i64,
    /// Its contract.
    pub offering: Address,
    /// The operation that creates it.
    pub operation_id: Uuid,
    /// Who created it.
    pub sender: Address,
    /// Its terms.
    pub terms: Terms,
    /// What the prices come to.
    pub rates: Rates,
    /// Accounts on its allow-list.
    pub allow_listed: u32,
    /// The sale that has taken its place.
    pub replaced_by: Option<Address>,
    /// Where it was created, once that was seen.
    pub created_block: Option<u64>,
}

/// Whether a commit of the engine was refused because another sale has taken the place already.
#[must_use]
pub fn is_replaced(error: &dalp_engine::StoreError) -> bool {
    let dalp_engine::StoreError::Database(sqlx::Error::Database(error)) = error else { return false };
    error.constraint() == Some(REPLACED_CONSTRAINT)
}

/// Writes a sale in the commit that accepts its creation.
pub async fn put_offering(
    commit: &mut PgConnection,
    tenant: &str,
    operation_id: Uuid,
    order: &CreateOrder,
    allow_list: &[Address],
) -> Result<(), sqlx::Error> {
    let terms = &order.command.terms;
    let (presale, lockup) = (terms.presale.as_ref(), terms.lockup.as_ref());
    sqlx::query(
        "INSERT INTO distribution.offerings (tenant_id, chain_id, offering, operation_id, factory, sender, replaces, asset, asset_decimals,
                                             minted, proceeds_to, unsold_to, starts_at, ends_at, hard_cap, soft_cap, minimum, maximum,
                                             terms_hash, presale_ends_at, discount_bps, allow_list, lockup_starts_at, lockup_cliff_s,
                                             lockup_duration_s)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::numeric, $16::numeric, $17::numeric, $18::numeric, $19,
                 $20, $21, $22, $23, $24, $25)",
    )
    .bind(tenant)
    .bind(signed(order.chain_id))
    .bind(hex_of(order.offering))
    .bind(operation_id)
    .bind(hex_of(order.factory))
    .bind(hex_of(order.command.sender))
    .bind(order.command.replaces.map(hex_of))
    .bind(hex_of(terms.asset))
    .bind(i16::from(order.rates.asset_decimals))
    .bind(terms.minted)
    .bind(hex_of(terms.proceeds_to))
    .bind(hex_of(terms.unsold_to))
    .bind(signed(terms.starts_at))
    .bind(signed(terms.ends_at))
    .bind(terms.hard_cap.to_string())
    .bind(terms.soft_cap.to_string())
    .bind(terms.minimum.to_string())
    .bind(terms.maximum.to_string())
    .bind(format!("{:#x}", terms.terms_hash))
    .bind(presale.map(|presale| signed(presale.ends_at)))
    .bind(presale.map(|presale| i32::from(presale.discount_bps)))
    .bind(presale.map(|presale| format!("{:#x}", presale.allow_list)))
    .bind(lockup.map(|lockup| signed(lockup.starts_at)))
    .bind(lockup.map(|lockup| signed(lockup.cliff_s)))
    .bind(lockup.map(|lockup| signed(lockup.duration_s)))
    .execute(&mut *commit)
    .await?;
    for (place, (asked, rate)) in terms.currencies.iter().zip(&order.rates.currencies).enumerate() {
        sqlx::query(
            "INSERT INTO distribution.offering_currencies (chain_id, offering, place, currency, decimals, price, ratio)
             VALUES ($1, $2, $3, $4, $5, $6, $7::numeric)",
        )
        .bind(signed(order.chain_id))
        .bind(hex_of(order.offering))
        .bind(i16::try_from(place).unwrap_or(i16::MAX))
        .bind(hex_of(rate.currency))
        .bind(i16::from(rate.decimals))
        .bind(asked.price.to_string())
        .bind(rate.ratio.to_string())
        .execute(&mut *commit)
        .await?;
    }
    sqlx::query(
        "INSERT INTO distribution.allow_listed (chain_id, offering, place, account)
         SELECT $1, $2, place - 1, account FROM unnest($3::text[]) WITH ORDINALITY AS a(account, place)",
    )
    .bind(signed(order.chain_id))
    .bind(hex_of(order.offering))
    .bind(allow_list.iter().copied().map(hex_of).collect::<Vec<_>>())
    .execute(commit)
    .await
    .map(drop)
}

/// A sale with its currencies.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT o.*, o.hard_cap::text AS hard_cap_text, o.soft_cap::text AS soft_cap_text, o.minimum::text AS minimum_text,
                    o.maximum::text AS maximum_text, c.currencies, c.decimals, c.prices, c.ratios,
                    (SELECT count(*) FROM allow_listed a WHERE a.chain_id = o.chain_id AND a.offering = o.offering) AS allow_listed,
                    (SELECT r.offering FROM offerings r
                     WHERE r.tenant_id = o.tenant_id AND r.chain_id = o.chain_id AND r.replaces = o.offering) AS replaced_by
             FROM offerings o CROSS JOIN LATERAL (
                 SELECT array_agg(currency ORDER BY place) AS currencies, array_agg(decimals ORDER BY place) AS decimals,
                        array_agg(price ORDER BY place) AS prices, array_agg(ratio::text ORDER BY place) AS ratios
                 FROM offering_currencies WHERE chain_id = o.chain_id AND offering = o.offering) c WHERE ",
            $rest
        )
    };
}

impl Store {
    /// A sale of a tenant.
    pub async fn offering(
        &self,
        tenant: &str,
        chain_id: u64,
        offering: Address,
    ) -> Result<Option<StoredOffering>, StoreError> {
        sqlx::query(select!("o.tenant_id = $1 AND o.chain_id = $2 AND o.offering = $3"))
            .bind(tenant)
            .bind(signed(chain_id))
            .bind(hex_of(offering))
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read sale"))?
            .map(|row| parse(&row))
            .transpose()
    }

    /// The sale that an operation creates.
    pub async fn offering_of_operation(
        &self,
        tenant: &str,
        operation_id: Uuid,
    ) -> Result<Option<StoredOffering>, StoreError> {
        sqlx::query(select!("o.tenant_id = $1 AND o.operation_id = $2"))
            .bind(tenant)
            .bind(operation_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read sale"))?
            .map(|row| parse(&row))
            .transpose()
    }

    /// Sales of a tenant below a number, newest first; all of them, or those of an asset.
    pub async fn offerings(
        &self,
        tenant: &str,
        chain_id: u64,
        asset: Option<Address>,
        below: i64,
        limit: u32,
    ) -> Result<Vec<StoredOffering>, StoreError> {
        let rows = sqlx::query(select!(
            "o.tenant_id = $1 AND o.chain_id = $2 AND o.number < $3 AND ($4::text IS NULL OR o.asset = $4)
             ORDER BY o.number DESC LIMIT $5"
        ))
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(below)
        .bind(asset.map(hex_of))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list sales"))?;
        rows.iter().map(parse).collect()
    }

    /// The allow-list of a sale, in its order.
    pub async fn allow_list(&self, chain_id: u64, offering: Address) -> Result<Vec<Address>, StoreError> {
        let accounts: Vec<String> =
            sqlx::query_scalar("SELECT account FROM allow_listed WHERE chain_id = $1 AND offering = $2 ORDER BY place")
                .bind(signed(chain_id))
                .bind(hex_of(offering))
                .fetch_all(&self.pool)
                .await
                .map_err(during("read allow-list"))?;
        accounts.into_iter().map(address_of).collect()
    }

    /// Whether an account is on the allow-list of a sale.
    pub async fn is_allow_listed(
        &self,
        chain_id: u64,
        offering: Address,
        account: Address,
    ) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM allow_listed WHERE chain_id = $1 AND offering = $2 AND account = $3)",
        )
        .bind(signed(chain_id))
        .bind(hex_of(offering))
        .bind(hex_of(account))
        .fetch_one(&self.pool)
        .await
        .map_err(during("look into allow-list"))
    }
}

fn parse(row: &PgRow) -> Result<StoredOffering, StoreError> {
    let currencies = addresses(row.get("currencies"))?;
    let prices: Vec<String> = row.get("prices");
    let prices: Vec<Price> = prices.into_iter().map(|text| parsed("price", text)).collect::<Result<_, _>>()?;
    let asked = currencies.iter().zip(&prices).map(|(currency, price)| Currency { currency: *currency, price: *price });
    let (decimals, ratios): (Vec<i16>, Vec<String>) = (row.get("decimals"), row.get("ratios"));
    let rates = currencies.iter().zip(&decimals).zip(ratios).map(|((currency, decimals), ratio)| {
        Ok(Rate { currency: *currency, decimals: small(*decimals), ratio: amount_of(ratio)? })
    });
    let presale = match row.get::<Option<i64>, _>("presale_ends_at") {
        None => None,
        Some(ends_at) => Some(Presale {
            ends_at: unsigned(ends_at),
            discount_bps: u16::try_from(row.get::<i32, _>("discount_bps")).unwrap_or(0),
            allow_list: hash_of(row.get("allow_list"))?,
        }),
    };
    let lockup = row.get::<Option<i64>, _>("lockup_starts_at").map(|starts_at| Lockup {
        starts_at: unsigned(starts_at),
        cliff_s: unsigned(row.get("lockup_cliff_s")),
        duration_s: unsigned(row.get("lockup_duration_s")),
    });
    let terms_hash: B256 = hash_of(row.get("terms_hash"))?;
    let terms = Terms {
        asset: address_of(row.get("asset"))?,
        minted: row.get("minted"),
        proceeds_to: address_of(row.get("proceeds_to"))?,
        unsold_to: address_of(row.get("unsold_to"))?,
        starts_at: unsigned(row.get("starts_at")),
        ends_at: unsigned(row.get("ends_at")),
        hard_cap: amount_of(row.get("hard_cap_text"))?,
        soft_cap: amount_of(row.get("soft_cap_text"))?,
        minimum: amount_of(row.get("minimum_text"))?,
        maximum: amount_of(row.get("maximum_text"))?,
        terms_hash,
        presale,
        lockup,
        currencies: asked.collect(),
    };
    Ok(StoredOffering {
        number: row.get("number"),
        offering: address_of(row.get("offering"))?,
        operation_id: row.get("operation_id"),
        sender: address_of(row.get("sender"))?,
        rates: Rates {
            asset_decimals: small(row.get("asset_decimals")),
            currencies: rates.collect::<Result<_, StoreError>>()?,
        },
        terms,
        allow_listed: u32::try_from(row.get::<i64, _>("allow_listed")).unwrap_or(u32::MAX),
        replaced_by: row.get::<Option<String>, _>("replaced_by").map(address_of).transpose()?,
        created_block: row.get::<Option<i64>, _>("created_block").map(unsigned),
    })
}

fn addresses(texts: Vec<String>) -> Result<Vec<Address>, StoreError> {
    texts.into_iter().map(address_of).collect()
}

/// Decimals are kept as smallint.
fn small(number: i16) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
