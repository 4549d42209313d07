//! Buyers and what came in, as the index knows them.

use super::amount_of;
use crate::{offering::state::Phase, store::Store};
use alloy::primitives::{Address, U256};
use dalp_domain::store::{StoreError, address_of, during, hex_of, signed, unsigned};
use sqlx::Row as _;
use std::collections::BTreeMap;

/// What was done with a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// How far it has come.
    pub phase: Phase,
    /// Whether a pause was not lifted.
    pub paused: bool,
}

/// Sums of a currency of a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Raised {
    /// Base units that buyers paid.
    pub raised: U256,
    /// Base units that were returned.
    pub refunded: U256,
    /// Base units of proceeds that were withdrawn.
    pub withdrawn: U256,
}

/// Sums of a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// Wallets that bought.
    pub buyers: u64,
    /// Base units delivered.
    pub delivered: U256,
    /// By currency.
    pub currencies: BTreeMap<Address, Raised>,
}

/// What a buyer paid in a currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payment {
    /// The currency.
    pub currency: Address,
    /// Base units paid.
    pub paid: U256,
    /// Base units returned.
    pub refunded: U256,
}

/// A buyer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBuyer {
    /// Its wallet.
    pub buyer: Address,
    /// Purchases.
    pub purchases: u32,
    /// Base units bought.
    pub bought: U256,
    /// Base units delivered.
    pub delivered: U256,
    /// By currency.
    pub payments: Vec<Payment>,
}

impl Store {
    /// What was done with a sale.
    pub async fn turns(&self, chain_id: u64, offering: Address) -> Result<Turns, StoreError> {
        let row = sqlx::query(
            "SELECT coalesce(bool_or(kind = 'activated'), false) AS activated,
                    coalesce(bool_or(kind = 'succeeded'), false) AS succeeded,
                    coalesce(bool_or(kind = 'refunding'), false) AS refunding,
                    (array_agg(kind ORDER BY block_number DESC, log_index DESC)
                        FILTER (WHERE kind IN ('paused', 'resumed')))[1] IS NOT DISTINCT FROM 'paused' AS paused
             FROM offering_turns WHERE chain_id = $1 AND offering = $2",
        )
        .bind(signed(chain_id))
        .bind(hex_of(offering))
        .fetch_one(&self.pool)
        .await
        .map_err(during("read turns"))?;
        let phase = if row.get("succeeded") {
            Phase::Succeeded
        } else if row.get("refunding") {
            Phase::Refunding
        } else if row.get("activated") {
            Phase::Active
        } else {
            Phase::Setup
        };
        Ok(Turns { phase, paused: row.get("paused") })
    }

    /// Sums of a sale.
    pub async fn sums(&self, chain_id: u64, offering: Address) -> Result<Sums, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT count(DISTINCT buyer) FROM purchases WHERE chain_id = $1 AND offering = $2) AS buyers,
                    (SELECT coalesce(sum(tokens), 0)::text FROM deliveries WHERE chain_id = $1 AND offering = $2) AS delivered",
        )
        .bind(signed(chain_id))
        .bind(hex_of(offering))
        .fetch_one(&self.pool)
        .await
        .map_err(during("sum sale"))?;
        let rows = sqlx::query(
            "SELECT currency, coalesce(sum(raised), 0)::text AS raised, coalesce(sum(refunded), 0)::text AS refunded,
                    coalesce(sum(withdrawn), 0)::text AS withdrawn
             FROM (SELECT currency, cost AS raised, NULL::numeric AS refunded, NULL::numeric AS withdrawn
                   FROM purchases WHERE chain_id = $1 AND offering = $2
                   UNION ALL
                   SELECT currency, NULL, amount, NULL FROM refunds WHERE chain_id = $1 AND offering = $2
                   UNION ALL
                   SELECT currency, NULL, NULL, amount FROM offering_withdrawals
                   WHERE chain_id = $1 AND offering = $2 AND currency IS NOT NULL) moved
             GROUP BY currency",
        )
        .bind(signed(chain_id))
        .bind(hex_of(offering))
        .fetch_all(&self.pool)
        .await
        .map_err(during("sum currencies"))?;
        let mut currencies = BTreeMap::new();
        for one in rows {
            let raised = Raised {
                raised: amount_of(one.get("raised"))?,
                refunded: amount_of(one.get("refunded"))?,
                withdrawn: amount_of(one.get("withdrawn"))?,
            };
            currencies.insert(address_of(one.get("currency"))?, raised);
        }
        Ok(Sums { buyers: unsigned(row.get("buyers")), delivered: amount_of(row.get("delivered"))?, currencies })
    }

    /// Buyers of a sale behind an address, in order.
    pub async fn buyers(
        &self,
        chain_id: u64,
        offering: Address,
        behind: Option<Address>,
        limit: u32,
    ) -> Result<Vec<StoredBuyer>, StoreError> {
        let rows = sqlx::query(
            "WITH page AS (
                 SELECT buyer, count(*) AS purchases, sum(tokens) AS bought
                 FROM purchases WHERE chain_id = $1 AND offering = $2 AND ($3::text IS NULL OR buyer > $3)
                 GROUP BY buyer ORDER BY buyer LIMIT $4)
             SELECT p.buyer, p.purchases, p.bought::text AS bought,
                    (SELECT coalesce(sum(tokens), 0)::text FROM deliveries d
                     WHERE d.chain_id = $1 AND d.offering = $2 AND d.buyer = p.buyer) AS delivered,
                    m.currencies, m.paid, m.refunded
             FROM page p CROSS JOIN LATERAL (
                 SELECT array_agg(currency ORDER BY currency) AS currencies, array_agg(paid::text ORDER BY currency) AS paid,
                        array_agg(refunded::text ORDER BY currency) AS refunded
                 FROM (SELECT currency, sum(cost) AS paid,
                              coalesce((SELECT r.amount FROM refunds r WHERE r.chain_id = $1 AND r.offering = $2 AND r.buyer = p.buyer
                                        AND r.currency = b.currency), 0) AS refunded
                       FROM purchases b WHERE b.chain_id = $1 AND b.offering = $2 AND b.buyer = p.buyer GROUP BY currency) c) m
             ORDER BY p.buyer",
        )
        .bind(signed(chain_id))
        .bind(hex_of(offering))
        .bind(behind.map(hex_of))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list buyers"))?;
        rows.iter()
            .map(|row| {
                let (currencies, paid, refunded): (Vec<String>, Vec<String>, Vec<String>) =
                    (row.get("currencies"), row.get("paid"), row.get("refunded"));
                let payments = currencies.into_iter().zip(paid).zip(refunded).map(|((currency, paid), refunded)| {
                    Ok(Payment {
                        currency: address_of(currency)?,
                        paid: amount_of(paid)?,
                        refunded: amount_of(refunded)?,
                    })
                });
                Ok(StoredBuyer {
                    buyer: address_of(row.get("buyer"))?,
                    purchases: u32::try_from(row.get::<i64, _>("purchases")).unwrap_or(u32::MAX),
                    bought: amount_of(row.get("bought"))?,
                    delivered: amount_of(row.get("delivered"))?,
                    payments: payments.collect::<Result<_, StoreError>>()?,
                })
            })
            .collect()
    }
}
