//! What the index keeps of sales.

use crate::{index::Place, metric_definitions as metric, store::Store};
use alloy::primitives::{Address, U256};
use dalp_domain::store::{StoreError, address_of, during, hex_of, signed};
use sqlx::{PgConnection, Row as _};
use std::collections::{BTreeMap, BTreeSet};

/// What was done with a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnKind {
    /// It was opened for its dates.
    Activated,
    /// Buying stopped.
    Paused,
    /// Buying goes on.
    Resumed,
    /// Decided: success.
    Succeeded,
    /// Decided: refunds.
    Refunding,
}

/// Something that was done with a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Where it was told.
    pub at: Place,
    /// By which sale.
    pub offering: Address,
    /// What.
    pub kind: TurnKind,
}

/// A purchase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurchaseEvent {
    /// Where it was told.
    pub at: Place,
    /// By which sale.
    pub offering: Address,
    /// Who bought.
    pub buyer: Address,
    /// Paid in it.
    pub currency: Address,
    /// Base units of the asset.
    pub tokens: U256,
    /// Base units of the currency.
    pub cost: U256,
}

/// Tokens that were delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Where it was told.
    pub at: Place,
    /// By which sale.
    pub offering: Address,
    /// Whose they were.
    pub buyer: Address,
    /// Who has got them.
    pub paid_to: Address,
    /// Base units.
    pub tokens: U256,
}

/// A payment that was returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundEvent {
    /// Where it was told.
    pub at: Place,
    /// By which sale.
    pub offering: Address,
    /// Who had paid.
    pub buyer: Address,
    /// In which currency.
    pub currency: Address,
    /// Who has got it.
    pub paid_to: Address,
    /// Base units.
    pub amount: U256,
}

/// Proceeds or unsold tokens that left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proceeds {
    /// Where it was told.
    pub at: Place,
    /// By which sale.
    pub offering: Address,
    /// In which currency; `None`: unsold tokens.
    pub currency: Option<Address>,
    /// Who has got it.
    pub paid_to: Address,
    /// Base units.
    pub amount: U256,
}

/// What a batch of blocks tells of sales.
#[derive(Debug, Default)]
pub struct OfferingEvents {
    /// Sales that were created, with their block.
    pub created: Vec<(Address, u64)>,
    /// What was done with them.
    pub turns: Vec<Turn>,
    /// Purchases.
    pub purchases: Vec<PurchaseEvent>,
    /// Deliveries.
    pub deliveries: Vec<Delivery>,
    /// Refunds.
    pub refunds: Vec<RefundEvent>,
    /// Withdrawals.
    pub proceeds: Vec<Proceeds>,
}

// === impl TurnKind ===

impl TurnKind {
    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activated => "activated",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Succeeded => "succeeded",
            Self::Refunding => "refunding",
        }
    }
}

impl Store {
    /// Those of some addresses that are sales of ours, with the factory that makes them.
    pub async fn known_offerings(
        &self,
        chain_id: u64,
        addresses: &BTreeSet<Address>,
    ) -> Result<BTreeMap<Address, Address>, StoreError> {
        let rows = sqlx::query("SELECT offering, factory FROM offerings WHERE chain_id = $1 AND offering = ANY($2)")
            .bind(signed(chain_id))
            .bind(addresses.iter().copied().map(hex_of).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await
            .map_err(during("find sales"))?;
        rows.iter().map(|row| Ok((address_of(row.get("offering"))?, address_of(row.get("factory"))?))).collect()
    }
}

// === impl OfferingEvents ===

impl OfferingEvents {
    /// What takes back everything above a block: the chain and the block are its parameters.
    pub(crate) const RETRACT: &[&str] = &[
        "DELETE FROM offering_turns WHERE chain_id = $1 AND block_number > $2",
        "DELETE FROM purchases WHERE chain_id = $1 AND block_number > $2",
        "DELETE FROM deliveries WHERE chain_id = $1 AND block_number > $2",
        "DELETE FROM refunds WHERE chain_id = $1 AND block_number > $2",
        "DELETE FROM offering_withdrawals WHERE chain_id = $1 AND block_number > $2",
        "UPDATE offerings SET created_block = NULL WHERE chain_id = $1 AND created_block > $2",
    ];

    /// Writes all of it in a commit of the index.
    pub(crate) async fn put(&self, commit: &mut PgConnection, chain_id: u64) -> Result<(), StoreError> {
        for (offering, block) in &self.created {
            sqlx::query("UPDATE offerings SET created_block = $3 WHERE chain_id = $1 AND offering = $2")
                .bind(signed(chain_id))
                .bind(hex_of(*offering))
                .bind(signed(*block))
                .execute(&mut *commit)
                .await
                .map_err(during("index sale"))?;
        }
        put_turns(commit, chain_id, &self.turns).await?;
        put_purchases(commit, chain_id, &self.purchases).await?;
        put_deliveries(commit, chain_id, &self.deliveries).await?;
        put_refunds(commit, chain_id, &self.refunds).await?;
        put_withdrawals(commit, chain_id, &self.proceeds).await
    }
}

/// The columns of a table of events, each as an array.
struct Columns<'a, E> {
    events: &'a [E],
    place: fn(&E) -> Place,
}

// === impl Columns ===

impl<E> Columns<'_, E> {
    fn blocks(&self) -> Vec<i64> {
        self.events.iter().map(|event| signed((self.place)(event).block)).collect()
    }

    fn log_indices(&self) -> Vec<i64> {
        self.events.iter().map(|event| signed((self.place)(event).log_index)).collect()
    }

    fn hashes(&self) -> Vec<String> {
        self.events.iter().map(|event| format!("{:#x}", (self.place)(event).tx_hash)).collect()
    }

    fn text(&self, of: impl Fn(&E) -> String) -> Vec<String> {
        self.events.iter().map(of).collect()
    }
}

async fn put_turns(commit: &mut PgConnection, chain_id: u64, turns: &[Turn]) -> Result<(), StoreError> {
    if turns.is_empty() {
        return Ok(());
    }
    let columns = Columns { events: turns, place: |turn| turn.at };
    sqlx::query(
        "INSERT INTO offering_turns (chain_id, block_number, log_index, tx_hash, offering, kind)
         SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[])
         ON CONFLICT DO NOTHING",
    )
    .bind(signed(chain_id))
    .bind(columns.blocks())
    .bind(columns.log_indices())
    .bind(columns.hashes())
    .bind(columns.text(|turn| hex_of(turn.offering)))
    .bind(columns.text(|turn| turn.kind.name().to_owned()))
    .execute(commit)
    .await
    .map(|written| metric::events_ignored("offering_turns", turns.len(), written.rows_affected()))
    .map_err(during("index turns"))
}

async fn put_purchases(
    commit: &mut PgConnection,
    chain_id: u64,
    purchases: &[PurchaseEvent],
) -> Result<(), StoreError> {
    if purchases.is_empty() {
        return Ok(());
    }
    let columns = Columns { events: purchases, place: |purchase| purchase.at };
    sqlx::query(
        "INSERT INTO purchases (chain_id, block_number, log_index, tx_hash, offering, buyer, currency, tokens, cost)
         SELECT $1, block_number, log_index, tx_hash, offering, buyer, currency, tokens::numeric, cost::numeric
         FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
           AS p(block_number, log_index, tx_hash, offering, buyer, currency, tokens, cost)
         WHERE tokens::numeric > 0 AND tokens::numeric < 10::numeric ^ 37 AND cost::numeric > 0 ON CONFLICT DO NOTHING",
    )
    .bind(signed(chain_id))
    .bind(columns.blocks())
    .bind(columns.log_indices())
    .bind(columns.hashes())
    .bind(columns.text(|purchase| hex_of(purchase.offering)))
    .bind(columns.text(|purchase| hex_of(purchase.buyer)))
    .bind(columns.text(|purchase| hex_of(purchase.currency)))
    .bind(columns.text(|purchase| purchase.tokens.to_string()))
    .bind(columns.text(|purchase| purchase.cost.to_string()))
    .execute(commit)
    .await
    .map(|written| metric::events_ignored("purchases", purchases.len(), written.rows_affected()))
    .map_err(during("index purchases"))
}

async fn put_deliveries(commit: &mut PgConnection, chain_id: u64, deliveries: &[Delivery]) -> Result<(), StoreError> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let columns = Columns { events: deliveries, place: |delivery| delivery.at };
    sqlx::query(
        "INSERT INTO deliveries (chain_id, block_number, log_index, tx_hash, offering, buyer, paid_to, tokens)
         SELECT $1, block_number, log_index, tx_hash, offering, buyer, paid_to, tokens::numeric
         FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
           AS d(block_number, log_index, tx_hash, offering, buyer, paid_to, tokens)
         WHERE tokens::numeric < 10::numeric ^ 37 ON CONFLICT DO NOTHING",
    )
    .bind(signed(chain_id))
    .bind(columns.blocks())
    .bind(columns.log_indices())
    .bind(columns.hashes())
    .bind(columns.text(|delivery| hex_of(delivery.offering)))
    .bind(columns.text(|delivery| hex_of(delivery.buyer)))
    .bind(columns.text(|delivery| hex_of(delivery.paid_to)))
    .bind(columns.text(|delivery| delivery.tokens.to_string()))
    .execute(commit)
    .await
    .map(|written| metric::events_ignored("deliveries", deliveries.len(), written.rows_affected()))
    .map_err(during("index deliveries"))
}

async fn put_refunds(commit: &mut PgConnection, chain_id: u64, refunds: &[RefundEvent]) -> Result<(), StoreError> {
    if refunds.is_empty() {
        return Ok(());
    }
    let columns = Columns { events: refunds, place: |refund| refund.at };
    sqlx::query(
        "INSERT INTO refunds (chain_id, block_number, log_index, tx_hash, offering, buyer, currency, paid_to, amount)
         SELECT $1, block_number, log_index, tx_hash, offering, buyer, currency, paid_to, amount::numeric
         FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
           AS r(block_number, log_index, tx_hash, offering, buyer, currency, paid_to, amount)
         WHERE amount::numeric > 0 ON CONFLICT DO NOTHING",
    )
    .bind(signed(chain_id))
    .bind(columns.blocks())
    .bind(columns.log_indices())
    .bind(columns.hashes())
    .bind(columns.text(|refund| hex_of(refund.offering)))
    .bind(columns.text(|refund| hex_of(refund.buyer)))
    .bind(columns.text(|refund| hex_of(refund.currency)))
    .bind(columns.text(|refund| hex_of(refund.paid_to)))
    .bind(columns.text(|refund| refund.amount.to_string()))
    .execute(commit)
    .await
    .map(|written| metric::events_ignored("refunds", refunds.len(), written.rows_affected()))
    .map_err(during("index refunds"))
}

async fn put_withdrawals(commit: &mut PgConnection, chain_id: u64, proceeds: &[Proceeds]) -> Result<(), StoreError> {
    if proceeds.is_empty() {
        return Ok(());
    }
    let columns = Columns { events: proceeds, place: |one| one.at };
    sqlx::query(
        "INSERT INTO offering_withdrawals (chain_id, block_number, log_index, tx_hash, offering, currency, paid_to, amount)
         SELECT $1, block_number, log_index, tx_hash, offering, currency, paid_to, amount::numeric
         FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
           AS w(block_number, log_index, tx_hash, offering, currency, paid_to, amount)
         ON CONFLICT DO NOTHING",
    )
    .bind(signed(chain_id))
    .bind(columns.blocks())
    .bind(columns.log_indices())
    .bind(columns.hashes())
    .bind(columns.text(|one| hex_of(one.offering)))
    .bind(proceeds.iter().map(|one| one.currency.map(hex_of)).collect::<Vec<Option<String>>>())
    .bind(columns.text(|one| hex_of(one.paid_to)))
    .bind(columns.text(|one| one.amount.to_string()))
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("index withdrawals"))
}
