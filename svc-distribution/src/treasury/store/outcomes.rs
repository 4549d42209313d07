//! What became of the entitlements of a run, counted and one by one.

use super::{amount_of, payable_of, place, place_of, runs::StoredRun};
use crate::{airdrop::store::outcomes::PayingTransaction, store::Store};
use alloy::primitives::{Address, B256, Keccak256, U256};
use dalp_domain::store::{StoreError, address_of, during, hash_of, hex_of, signed, unsigned};
use sqlx::{Row as _, postgres::PgRow};

/// Entitlements whose outcomes are hashed together.
const AT_ONCE: u32 = 10_000;

/// What became of an entitlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Not paid, not tried.
    Open,
    /// Paid.
    Paid,
    /// Not paid at the last try.
    Skipped,
}

/// An entitlement and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntitlement {
    /// Its place on the list.
    pub place: u32,
    /// Who.
    pub holder: Address,
    /// Base units of the asset.
    pub units: U256,
    /// Base units of the currency due.
    pub amount: u128,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was skipped.
    pub reason: String,
    /// Base units of the currency received.
    pub paid_amount: U256,
    /// Who received them.
    pub paid_to: Option<Address>,
    /// Where its last event stands.
    pub last: Option<(u64, B256)>,
}

/// Counts and sums of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Holders in batches that were handed over in this pass.
    pub sent: u32,
    /// Paid.
    pub paid: u32,
    /// Not paid at the last try.
    pub skipped: u32,
    /// Neither.
    pub open: u32,
    /// Base units of the currency paid.
    pub paid_amount: U256,
    /// Base units of the currency still due.
    pub unpaid_amount: U256,
    /// Base units that redeeming in parts rounded off, beside the rounding of the list; less than none where entitlements that ended in
    /// one wallet were redeemed together.
    pub split_rounding: i128,
    /// Holders who received something else than the list says.
    pub deviating: u32,
}

// === impl Outcome ===

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Paid, Self::Skipped];

    /// The name under which it is selected and hashed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paid => "paid",
            Self::Skipped => "skipped",
        }
    }
}

/// Entitlements of a run, from a place on, with what became of them. What was redeemed in the wallet that tokens were recovered to counts for
/// whoever held them. Parameters: chain, treasury, run, place.
macro_rules! outcomes {
    () => {
        "SELECT e.place, e.holder, e.units, e.amount, told.paid_amount, told.payments, coalesce(m.members, 1) AS members,
                last.paid_to, last.block_number, last.tx_hash,
                CASE WHEN r.kind = 'redemption' THEN div(greatest(e.units - told.units, 0) * r.numerator, r.denominator)
                     WHEN told.payments > 0 THEN 0 ELSE e.amount END AS unpaid_amount,
                CASE WHEN r.kind = 'redemption' AND told.units >= e.units THEN 'paid'
                     WHEN r.kind <> 'redemption' AND told.payments > 0 THEN 'paid'
                     WHEN last.kind IS NULL AND NOT (r.kind = 'redemption' AND r.state = 'done') THEN 'open'
                     ELSE 'skipped' END AS outcome,
                CASE WHEN r.kind = 'redemption' AND last.kind IS DISTINCT FROM 'skipped' THEN 'NOT_FREE' ELSE last.reason END AS reason
         FROM entitlements e JOIN treasury_runs r USING (chain_id, treasury, run)
         LEFT JOIN recovered_entitlements($1, $2, $3) m ON m.place = e.place AND r.state <> 'discarded'
         LEFT JOIN LATERAL (
             SELECT sum(p.amount) AS amount, sum(p.units) AS units, count(*) AS payments FROM treasury_payments p
             WHERE p.chain_id = e.chain_id AND p.treasury = e.treasury AND p.holder = e.holder AND p.kind = 'paid'
               AND r.state <> 'discarded' AND CASE WHEN r.kind = 'redemption' THEN p.payout_id IS NULL AND p.block_number > r.record_block
                        ELSE p.payout_id = r.payout_id END) own ON true
         CROSS JOIN LATERAL (
             SELECT coalesce(m.amount, own.amount, 0) AS paid_amount, coalesce(m.units, own.units, 0) AS units,
                    coalesce(m.payments, own.payments, 0) AS payments) told
         LEFT JOIN LATERAL (
             SELECT p.kind, p.reason, p.paid_to, p.block_number, p.tx_hash FROM treasury_payments p
             WHERE p.chain_id = e.chain_id AND p.treasury = e.treasury AND p.holder = ANY (ARRAY[e.holder, m.wallet])
               AND r.state <> 'discarded' AND CASE WHEN r.kind = 'redemption' THEN p.payout_id IS NULL AND p.block_number > r.record_block
                        ELSE p.payout_id = r.payout_id END
             ORDER BY p.block_number DESC, p.log_index DESC LIMIT 1) last ON true
         WHERE e.chain_id = $1 AND e.treasury = $2 AND e.run = $3 AND e.place >= $4"
    };
}

impl Store {
    /// Counts and sums of a run.
    pub async fn run_counts(&self, chain_id: u64, run: &StoredRun) -> Result<Counts, StoreError> {
        let row = sqlx::query(concat!(
            "SELECT count(*) FILTER (WHERE outcome = 'paid') AS paid, count(*) FILTER (WHERE outcome = 'skipped') AS skipped,
                    count(*) FILTER (WHERE outcome = 'open') AS open, coalesce(sum(paid_amount), 0)::text AS paid_amount,
                    coalesce(sum(unpaid_amount), 0)::text AS unpaid_amount,
                    coalesce(sum(split) FILTER (WHERE split BETWEEN 1 - members AND CASE WHEN redeemed THEN payments ELSE 0 END), 0)::text AS split_rounding,
                    count(*) FILTER (WHERE split NOT BETWEEN 1 - members AND CASE WHEN redeemed THEN payments ELSE 0 END) AS deviating,
                    (SELECT coalesce(sum(cardinality(places)), 0)::bigint FROM treasury_batches
                     WHERE chain_id = $1 AND treasury = $2 AND run = $3 AND pass = $5 AND operation_id IS NOT NULL) AS sent
             FROM (SELECT o.*, amount - paid_amount - unpaid_amount AS split, $6::boolean AS redeemed FROM (",
            outcomes!(),
            ") o) s"
        ))
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(0_i32)
        .bind(place(run.pass))
        .bind(run.payout.kind() == "redemption")
        .fetch_one(&self.pool)
        .await
        .map_err(during("count outcomes"))?;
        let count = |name: &str| u32::try_from(row.get::<i64, _>(name)).unwrap_or(u32::MAX);
        Ok(Counts {
            sent: count("sent"),
            paid: count("paid"),
            skipped: count("skipped"),
            open: count("open"),
            paid_amount: amount_of(row.get("paid_amount"))?,
            unpaid_amount: amount_of(row.get("unpaid_amount"))?,
            split_rounding: signed_of(row.get("split_rounding"))?,
            deviating: count("deviating"),
        })
    }

    /// Entitlements of a run from a place on, in order; all of them, or those of one outcome.
    pub async fn entitlements(
        &self,
        chain_id: u64,
        run: &StoredRun,
        from: u32,
        only: Option<Outcome>,
        limit: u32,
    ) -> Result<Vec<StoredEntitlement>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT o.*, units::text AS units_text, amount::text AS amount_text, paid_amount::text AS paid_amount_text FROM (",
            outcomes!(),
            " ORDER BY e.place) o WHERE $5::text IS NULL OR outcome = $5 ORDER BY place LIMIT $6"
        ))
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
        .bind(place(from))
        .bind(only.map(Outcome::name))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read entitlements"))?;
        rows.iter().map(entitlement_of).collect()
    }

    /// Hash over (place, holder, units, amount, outcome) of all entitlements in order.
    pub async fn entitlements_digest(&self, chain_id: u64, run: &StoredRun) -> Result<B256, StoreError> {
        let (mut hasher, mut from) = (Keccak256::new(), 0);
        loop {
            let page = self.entitlements(chain_id, run, from, None, AT_ONCE).await?;
            for one in &page {
                hasher.update(one.place.to_be_bytes());
                hasher.update(one.holder);
                hasher.update(one.units.to_be_bytes::<32>());
                hasher.update(one.amount.to_be_bytes());
                hasher.update(one.outcome.name());
            }
            match page.last() {
                Some(last) => from = last.place + 1,
                None => return Ok(hasher.finalize()),
            }
        }
    }

    /// Transactions that told of holders of a run, in the order of blocks.
    pub async fn run_transactions(
        &self,
        chain_id: u64,
        run: &StoredRun,
        limit: u32,
    ) -> Result<Vec<PayingTransaction>, StoreError> {
        let rows = sqlx::query(
            "SELECT p.tx_hash, p.block_number, count(*) FILTER (WHERE p.kind = 'paid') AS paid,
                    count(*) FILTER (WHERE p.kind = 'skipped') AS skipped,
                    coalesce(sum(p.amount) FILTER (WHERE p.kind = 'paid'), 0)::text AS amount
             FROM treasury_payments p JOIN treasury_runs r USING (chain_id, treasury)
             WHERE p.chain_id = $1 AND p.treasury = $2 AND r.run = $3
               AND r.state <> 'discarded' AND CASE WHEN r.kind = 'redemption' THEN p.payout_id IS NULL AND p.block_number > r.record_block
                        ELSE p.payout_id = r.payout_id END
             GROUP BY p.block_number, p.tx_hash ORDER BY p.block_number, min(p.log_index) LIMIT $4",
        )
        .bind(signed(chain_id))
        .bind(hex_of(run.treasury))
        .bind(place(run.run))
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
}

fn signed_of(text: String) -> Result<i128, StoreError> {
    text.parse().map_err(|_| StoreError::Malformed { what: "rounding", value: text })
}

fn entitlement_of(row: &PgRow) -> Result<StoredEntitlement, StoreError> {
    let name: String = row.get("outcome");
    let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.name() == name);
    let outcome = outcome.ok_or(StoreError::Malformed { what: "outcome", value: name })?;
    let last = match row.get::<Option<i64>, _>("block_number") {
        Some(block) => Some((unsigned(block), hash_of(row.get("tx_hash"))?)),
        None => None,
    };
    let reason: Option<String> = row.get("reason");
    Ok(StoredEntitlement {
        place: place_of(row.get("place")),
        holder: address_of(row.get("holder"))?,
        units: amount_of(row.get("units_text"))?,
        amount: payable_of(row.get("amount_text"))?,
        outcome,
        reason: reason.filter(|_| outcome == Outcome::Skipped).unwrap_or_default(),
        paid_amount: amount_of(row.get("paid_amount_text"))?,
        paid_to: row.get::<Option<String>, _>("paid_to").map(address_of).transpose()?,
        last,
    })
}
