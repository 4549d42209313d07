//! What became of the recipients of an airdrop, counted and one by one.

use super::{
    airdrops::StoredAirdrop,
    amount_of,
    lists::{StoredRow, row_of},
    place,
};
use crate::store::Store;
use alloy::primitives::{Address, B256, Keccak256, U256};
use dalp_domain::store::{StoreError, during, hash_of, hex_of, signed, unsigned};
use sqlx::Row as _;

/// Rows whose outcomes are hashed together.
const AT_ONCE: u32 = 10_000;

/// What became of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Not paid, not tried.
    Open,
    /// Paid.
    Paid,
    /// Refused by the token at the last try.
    Skipped,
    /// Its vesting started.
    Vesting,
}

/// A recipient and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOutcome {
    /// The row.
    pub row: StoredRow,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was skipped.
    pub reason: String,
    /// Where its last event stands.
    pub last: Option<(u64, B256)>,
    /// What of a vesting was released.
    pub released: U256,
}

/// Counts of an airdrop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Rows of batches handed over in the latest push.
    pub sent: u64,
    /// Paid, or vesting.
    pub paid: u64,
    /// Refused at the last try.
    pub skipped: u64,
    /// Base units of rows that are paid, or whose vesting started.
    pub paid_amount: U256,
    /// Base units that were released of vestings.
    pub released_amount: U256,
}

/// A transaction that paid rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayingTransaction {
    /// Its hash.
    pub tx_hash: B256,
    /// Its block.
    pub block: u64,
    /// Rows that it paid.
    pub paid: u64,
    /// Rows that it skipped.
    pub skipped: u64,
    /// Base units that it paid.
    pub amount: U256,
}

// === impl Outcome ===

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Paid, Self::Skipped, Self::Vesting];

    /// The name under which it is selected and hashed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paid => "paid",
            Self::Skipped => "skipped",
            Self::Vesting => "vesting",
        }
    }
}

impl Store {
    /// Counts of an airdrop.
    pub async fn counts(&self, chain_id: u64, airdrop: Address) -> Result<Counts, StoreError> {
        let row = sqlx::query(
            "WITH rows AS (
                 SELECT place, bool_or(kind <> 'skipped') AS paid, max(amount) FILTER (WHERE kind <> 'skipped') AS amount
                 FROM payouts WHERE chain_id = $1 AND airdrop = $2 AND kind <> 'released' GROUP BY place)
             SELECT count(*) FILTER (WHERE paid) AS paid, count(*) FILTER (WHERE NOT paid) AS skipped,
                    coalesce(sum(amount), 0)::text AS paid_amount,
                    (SELECT coalesce(sum(amount), 0)::text FROM payouts
                     WHERE chain_id = $1 AND airdrop = $2 AND kind = 'released') AS released_amount,
                    (SELECT coalesce(sum(cardinality(places)), 0)::bigint FROM batches b
                     WHERE b.chain_id = $1 AND b.airdrop = $2 AND b.operation_id IS NOT NULL
                       AND b.push = (SELECT max(push) FROM pushes WHERE chain_id = $1 AND airdrop = $2)) AS sent
             FROM rows",
        )
        .bind(signed(chain_id))
        .bind(hex_of(airdrop))
        .fetch_one(&self.pool)
        .await
        .map_err(during("count outcomes"))?;
        Ok(Counts {
            sent: unsigned(row.get("sent")),
            paid: unsigned(row.get("paid")),
            skipped: unsigned(row.get("skipped")),
            paid_amount: amount_of(row.get("paid_amount"))?,
            released_amount: amount_of(row.get("released_amount"))?,
        })
    }

    /// Recipients from a place on, in order; all of them, or those of one outcome.
    pub async fn outcomes(
        &self,
        chain_id: u64,
        airdrop: &StoredAirdrop,
        from: u64,
        only: Option<Outcome>,
        limit: u32,
    ) -> Result<Vec<StoredOutcome>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM (
                 SELECT r.place, r.account, r.amount::text AS amount, last.kind, last.reason, last.block_number, last.tx_hash,
                        coalesce(told.released, 0)::text AS released,
                        CASE WHEN told.started THEN 'vesting' WHEN told.paid THEN 'paid' WHEN last.kind IS NULL THEN 'open'
                             ELSE 'skipped' END AS outcome
                 FROM recipients r
                 LEFT JOIN LATERAL (SELECT kind, reason, block_number, tx_hash FROM payouts p
                     WHERE p.chain_id = $1 AND p.airdrop = $2 AND p.place = r.place
                     ORDER BY block_number DESC, log_index DESC LIMIT 1) last ON true
                 LEFT JOIN LATERAL (SELECT bool_or(kind = 'started') AS started, bool_or(kind = 'paid') AS paid,
                         sum(p.amount) FILTER (WHERE kind = 'released') AS released FROM payouts p
                     WHERE p.chain_id = $1 AND p.airdrop = $2 AND p.place = r.place) told ON true
                 WHERE r.list_id = $3 AND r.place >= $4 ORDER BY r.place) o
             WHERE $5::text IS NULL OR outcome = $5 ORDER BY place LIMIT $6",
        )
        .bind(signed(chain_id))
        .bind(hex_of(airdrop.airdrop))
        .bind(airdrop.list_id)
        .bind(place(from))
        .bind(only.map(Outcome::name))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read outcomes"))?;
        rows.iter()
            .map(|row| {
                let name: String = row.get("outcome");
                let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.name() == name);
                let last = match row.get::<Option<i64>, _>("block_number") {
                    Some(block) => Some((unsigned(block), hash_of(row.get("tx_hash"))?)),
                    None => None,
                };
                let outcome = outcome.ok_or(StoreError::Malformed { what: "outcome", value: name })?;
                let reason: Option<String> = row.get("reason");
                Ok(StoredOutcome {
                    row: row_of(row)?,
                    outcome,
                    reason: reason.filter(|_| outcome == Outcome::Skipped).unwrap_or_default(),
                    last,
                    released: amount_of(row.get("released"))?,
                })
            })
            .collect()
    }

    /// Hash over (place, account, amount, outcome) of all rows in order.
    pub async fn outcomes_digest(&self, chain_id: u64, airdrop: &StoredAirdrop) -> Result<B256, StoreError> {
        let (mut hasher, mut from) = (Keccak256::new(), 0);
        loop {
            let page = self.outcomes(chain_id, airdrop, from, None, AT_ONCE).await?;
            for one in &page {
                hasher.update(one.row.place.to_be_bytes());
                hasher.update(one.row.recipient.account);
                hasher.update(one.row.recipient.amount.to_be_bytes());
                hasher.update(one.outcome.name());
            }
            match page.last() {
                Some(last) => from = last.row.place + 1,
                None => return Ok(hasher.finalize()),
            }
        }
    }

    /// Transactions that told of rows, in the order of blocks.
    pub async fn paying_transactions(
        &self,
        chain_id: u64,
        airdrop: Address,
        limit: u32,
    ) -> Result<Vec<PayingTransaction>, StoreError> {
        let rows = sqlx::query(
            "SELECT tx_hash, block_number, count(*) FILTER (WHERE kind IN ('paid', 'started')) AS paid,
                    count(*) FILTER (WHERE kind = 'skipped') AS skipped,
                    coalesce(sum(amount) FILTER (WHERE kind IN ('paid', 'released')), 0)::text AS amount
             FROM payouts WHERE chain_id = $1 AND airdrop = $2
             GROUP BY block_number, tx_hash ORDER BY block_number, min(log_index) LIMIT $3",
        )
        .bind(signed(chain_id))
        .bind(hex_of(airdrop))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read transactions"))?;
        rows.iter()
            .map(|row| {
                Ok(PayingTransaction {
                    tx_hash: hash_of(row.get("tx_hash"))?,
                    block: unsigned(row.get("block_number")),
                    paid: unsigned(row.get("paid")),
                    skipped: unsigned(row.get("skipped")),
                    amount: amount_of(row.get("amount"))?,
                })
            })
            .collect()
    }

    /// Base units of a currency that were withdrawn.
    pub async fn withdrawn(&self, chain_id: u64, airdrop: Address, currency: Address) -> Result<U256, StoreError> {
        let text: String = sqlx::query_scalar(
            "SELECT coalesce(sum(amount), 0)::text FROM withdrawals WHERE chain_id = $1 AND airdrop = $2 AND currency = $3",
        )
        .bind(signed(chain_id))
        .bind(hex_of(airdrop))
        .bind(hex_of(currency))
        .fetch_one(&self.pool)
        .await
        .map_err(during("sum withdrawals"))?;
        amount_of(text)
    }
}
