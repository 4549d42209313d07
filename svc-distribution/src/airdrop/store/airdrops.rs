//! Airdrops and their terms.

use super::{amount_of, place_of};
use crate::{
    airdrop::{
        flows::CreateOrder,
        terms::{Kind, Terms},
        tree::Parts,
    },
    store::Store,
};
use alloy::primitives::{Address, B256, U256};
use dalp_domain::store::{StoreError, address_of, during, hash_of, hex_of, signed, unsigned};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

/// An airdrop as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAirdrop {
    /// Its contract.
    pub airdrop: Address,
    /// The operation that creates it.
    pub operation_id: Uuid,
    /// Who created it.
    pub sender: Address,
    /// Its terms.
    pub terms: Terms,
    /// Number of its list.
    pub list_id: i64,
    /// Hash of the list's rows.
    pub digest: B256,
    /// How many recipients it has.
    pub recipients: u64,
    /// Their sum.
    pub total: U256,
    /// How the list is cut.
    pub parts: Parts,
    /// Roots of its trees.
    pub roots: Vec<B256>,
    /// Where it was created, once that was seen.
    pub created_block: Option<u64>,
}

/// Writes an airdrop in the commit that accepts its creation.
pub async fn put_airdrop(
    commit: &mut PgConnection,
    tenant: &str,
    operation_id: Uuid,
    list_id: i64,
    order: &CreateOrder,
) -> Result<(), sqlx::Error> {
    let terms = &order.command.terms;
    sqlx::query(
        "INSERT INTO distribution.airdrops (tenant_id, chain_id, airdrop, operation_id, factory, list_id, sender, asset, kind, leftover_to,
                                            starts_at, ends_at, cliff_s, duration_s, cap, rows_per_root, roots)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::numeric, $16, $17)",
    )
    .bind(tenant)
    .bind(signed(order.chain_id))
    .bind(hex_of(order.airdrop))
    .bind(operation_id)
    .bind(hex_of(order.factory))
    .bind(list_id)
    .bind(hex_of(order.command.sender))
    .bind(hex_of(terms.asset))
    .bind(terms.kind.name())
    .bind(hex_of(terms.leftover_to))
    .bind(signed(terms.starts_at))
    .bind(signed(terms.ends_at))
    .bind(signed(terms.cliff_s))
    .bind(signed(terms.duration_s))
    .bind(terms.cap.to_string())
    .bind(signed(order.rows_per_root))
    .bind(order.roots.iter().map(|root| format!("{root:#x}")).collect::<Vec<_>>())
    .execute(commit)
    .await
    .map(drop)
}

/// An airdrop with its list.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT a.*, a.cap::text AS cap_text, l.digest, l.recipients, l.total::text AS total
             FROM airdrops a JOIN lists l USING (list_id) WHERE ",
            $condition
        )
    };
}

impl Store {
    /// An airdrop of a tenant.
    pub async fn airdrop(
        &self,
        tenant: &str,
        chain_id: u64,
        airdrop: Address,
    ) -> Result<Option<StoredAirdrop>, StoreError> {
        sqlx::query(select!("a.tenant_id = $1 AND a.chain_id = $2 AND a.airdrop = $3"))
            .bind(tenant)
            .bind(signed(chain_id))
            .bind(hex_of(airdrop))
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read airdrop"))?
            .map(|row| parse(&row))
            .transpose()
    }

    /// The airdrop that an operation creates.
    pub async fn airdrop_of_operation(
        &self,
        tenant: &str,
        operation_id: Uuid,
    ) -> Result<Option<StoredAirdrop>, StoreError> {
        sqlx::query(select!("a.tenant_id = $1 AND a.operation_id = $2"))
            .bind(tenant)
            .bind(operation_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read airdrop"))?
            .map(|row| parse(&row))
            .transpose()
    }
}

fn parse(row: &PgRow) -> Result<StoredAirdrop, StoreError> {
    let name: String = row.get("kind");
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    let terms = Terms {
        asset: address_of(row.get("asset"))?,
        kind: kind.ok_or(StoreError::Malformed { what: "kind", value: name })?,
        leftover_to: address_of(row.get("leftover_to"))?,
        starts_at: unsigned(row.get("starts_at")),
        ends_at: unsigned(row.get("ends_at")),
        cliff_s: unsigned(row.get("cliff_s")),
        duration_s: unsigned(row.get("duration_s")),
        cap: amount_of(row.get("cap_text"))?,
    };
    let roots: Vec<String> = row.get("roots");
    Ok(StoredAirdrop {
        airdrop: address_of(row.get("airdrop"))?,
        operation_id: row.get("operation_id"),
        sender: address_of(row.get("sender"))?,
        terms,
        list_id: row.get("list_id"),
        digest: hash_of(row.get("digest"))?,
        recipients: place_of(row.get("recipients")),
        total: amount_of(row.get("total"))?,
        parts: Parts { rows_per_root: unsigned(row.get("rows_per_root")) },
        roots: roots.into_iter().map(hash_of).collect::<Result<_, _>>()?,
        created_block: row.get::<Option<i64>, _>("created_block").map(unsigned),
    })
}
