//! Settlements and their terms.

use super::Store;
use crate::{
    flows::CreateOrder,
    state::State,
    terms::{Deed, HashKind, HashLock, Leg, Terms},
};
use alloy::primitives::{Address, B256};
use dalp_domain::store::{StoreError, address_of, during, hash_of, hex_of, parsed, signed, unsigned};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

/// A settlement as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSettlement {
    /// Its number: later ones are higher.
    pub number: i64,
    /// The chain on which it stands.
    pub chain_id: u64,
    /// The contract.
    pub contract: Address,
    /// Its identifier.
    pub settlement_id: B256,
    /// The operation that opens it, if it is ours.
    pub operation_id: Option<Uuid>,
    /// Who opened it.
    pub creator: Address,
    /// Its terms.
    pub deed: Deed,
    /// Where it was opened, once that was seen.
    pub created_block: Option<u64>,
    /// What its events come to, but for what follows from time.
    pub state: State,
}

/// Which settlements are listed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// With a leg of this account.
    pub party: Option<Address>,
    /// In this state, at a time in unix seconds.
    pub state: Option<(State, u64)>,
}

/// A settlement to write, and what is known of its origin.
pub(crate) struct NewSettlement<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) chain_id: u64,
    pub(crate) contract: Address,
    pub(crate) settlement_id: B256,
    pub(crate) creator: Address,
    pub(crate) deed: &'a Deed,
    pub(crate) operation_id: Option<Uuid>,
    pub(crate) created_block: Option<u64>,
}

/// Identifiers as they are stored.
pub(crate) fn text_of(id: B256) -> String {
    format!("{id:#x}")
}

/// Writes a settlement in the commit that accepts its creation.
pub async fn put_settlement(
    commit: &mut PgConnection,
    tenant: &str,
    operation_id: Uuid,
    order: &CreateOrder,
) -> Result<(), sqlx::Error> {
    let deed = Deed { salt: order.salt, terms: order.command.terms.clone() };
    let new = NewSettlement {
        tenant,
        chain_id: order.chain_id,
        contract: order.contract,
        settlement_id: order.settlement_id,
        creator: order.command.sender,
        deed: &deed,
        operation_id: Some(operation_id),
        created_block: None,
    };
    new.put(commit).await
}

/// A read of settlements with their legs, beside what it is about.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT s.number, s.chain_id, s.contract, s.settlement_id, s.operation_id, s.creator, s.salt, s.name, s.cutoff, s.auto_execute, s.hash_kind,
                    s.hash, s.created_block, s.state, l.assets, l.senders, l.receivers, l.amounts, l.chains
             FROM settlement.settlements s CROSS JOIN LATERAL (
                 SELECT array_agg(asset ORDER BY place) AS assets, array_agg(sender ORDER BY place) AS senders,
                        array_agg(receiver ORDER BY place) AS receivers, array_agg(amount::text ORDER BY place) AS amounts,
                        array_agg(on_chain::text ORDER BY place) AS chains
                 FROM settlement.legs
                 WHERE chain_id = s.chain_id AND contract = s.contract AND settlement_id = s.settlement_id) l WHERE ",
            $rest
        )
    };
}

// === impl NewSettlement ===

impl NewSettlement<'_> {
    /// Writes it, or where it was opened when it is known already. Only the first opening counts, whatever a contract says.
    pub(crate) async fn put(&self, commit: &mut PgConnection) -> Result<(), sqlx::Error> {
        let Terms { name, cutoff, auto_execute, hash_lock, legs } = &self.deed.terms;
        sqlx::query(
            "INSERT INTO settlement.settlements (chain_id, contract, settlement_id, tenant_id, operation_id, creator, salt, name, cutoff,
                                                 auto_execute, hash_kind, hash, created_block)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
             ON CONFLICT (chain_id, contract, settlement_id)
             DO UPDATE SET created_block = coalesce(settlements.created_block, excluded.created_block),
                           creator = CASE WHEN settlements.created_block IS NULL THEN excluded.creator ELSE settlements.creator END",
        )
        .bind(signed(self.chain_id))
        .bind(hex_of(self.contract))
        .bind(text_of(self.settlement_id))
        .bind(self.tenant)
        .bind(self.operation_id)
        .bind(hex_of(self.creator))
        .bind(text_of(self.deed.salt))
        .bind(name)
        .bind(signed(*cutoff))
        .bind(auto_execute)
        .bind(hash_lock.map(|lock| lock.kind.name()))
        .bind(hash_lock.map(|lock| text_of(lock.hash)))
        .bind(self.created_block.map(signed))
        .execute(&mut *commit)
        .await?;
        let places: Vec<i16> = (0..).take(legs.len()).collect();
        let column = |of: fn(&Leg) -> String| legs.iter().map(of).collect::<Vec<_>>();
        sqlx::query(
            "INSERT INTO settlement.legs (chain_id, contract, settlement_id, place, asset, sender, receiver, amount, on_chain)
             SELECT $1, $2, $3, place, asset, sender, receiver, amount::numeric, on_chain::numeric
             FROM unnest($4::smallint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
                  AS l(place, asset, sender, receiver, amount, on_chain)
             ON CONFLICT DO NOTHING",
        )
        .bind(signed(self.chain_id))
        .bind(hex_of(self.contract))
        .bind(text_of(self.settlement_id))
        .bind(places)
        .bind(column(|leg| hex_of(leg.asset)))
        .bind(column(|leg| hex_of(leg.from)))
        .bind(column(|leg| hex_of(leg.to)))
        .bind(column(|leg| leg.amount.to_string()))
        .bind(column(|leg| leg.chain_id.to_string()))
        .execute(commit)
        .await
        .map(drop)
    }
}

impl Store {
    /// A settlement of a tenant, on whatever chain it stands. Should somebody repeat its terms at another contract of the tenant, it is the one that was ordered
    /// here, or else the first.
    pub async fn settlement(&self, tenant: &str, settlement_id: B256) -> Result<Option<StoredSettlement>, StoreError> {
        sqlx::query(select!(
            "s.tenant_id = $1 AND s.settlement_id = $2
             ORDER BY s.operation_id IS NULL, s.number LIMIT 1"
        ))
        .bind(tenant)
        .bind(text_of(settlement_id))
        .fetch_optional(&self.pool)
        .await
        .map_err(during("read settlement"))?
        .map(|row| parse(&row))
        .transpose()
    }

    /// The settlement that an operation opens.
    pub async fn settlement_of_operation(
        &self,
        tenant: &str,
        operation_id: Uuid,
    ) -> Result<Option<StoredSettlement>, StoreError> {
        sqlx::query(select!("s.tenant_id = $1 AND s.operation_id = $2 ORDER BY s.number LIMIT 1"))
            .bind(tenant)
            .bind(operation_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read settlement"))?
            .map(|row| parse(&row))
            .transpose()
    }

    /// Settlements of a tenant below a number, newest first.
    pub async fn settlements(
        &self,
        tenant: &str,
        chain_id: u64,
        wanted: Wanted,
        below: i64,
        limit: u32,
    ) -> Result<Vec<StoredSettlement>, StoreError> {
        let (states, due) = match wanted.state {
            None => (None, None),
            // What is pending expires at its cutoff; what began to go back was stored as expired.
            Some((State::Expired, now_s)) => (Some(vec!["EXPIRED", "ACTIVE", "APPROVED"]), Some((true, now_s))),
            Some((state, now_s)) => (Some(vec![state.name()]), state.is_pending().then_some((false, now_s))),
        };
        let rows = sqlx::query(select!(
            "s.tenant_id = $1 AND s.chain_id = $2 AND s.number < $3
             AND ($4::text[] IS NULL OR (s.created_block IS NOT NULL AND s.state = ANY($4)))
             AND ($5::boolean IS NULL OR s.state = 'EXPIRED' OR (s.cutoff <= $6) = $5)
             AND ($7::text IS NULL OR EXISTS (
                 SELECT 1 FROM settlement.legs p WHERE p.chain_id = s.chain_id AND p.contract = s.contract
                 AND p.settlement_id = s.settlement_id AND $7 IN (p.sender, p.receiver)))
             ORDER BY s.number DESC LIMIT $8"
        ))
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(below)
        .bind(states)
        .bind(due.map(|(expired, _)| expired))
        .bind(due.map(|(_, now_s)| signed(now_s)))
        .bind(wanted.party.map(hex_of))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list settlements"))?;
        rows.iter().map(parse).collect()
    }

    /// Those at a contract that are locked by a hash, oldest first.
    pub async fn settlements_of_hash(
        &self,
        chain_id: u64,
        contract: Address,
        lock: HashLock,
    ) -> Result<Vec<StoredSettlement>, StoreError> {
        let rows = sqlx::query(select!(
            "s.chain_id = $1 AND s.contract = $2 AND s.hash_kind = $3 AND s.hash = $4 AND s.created_block IS NOT NULL
             ORDER BY s.number LIMIT 16"
        ))
        .bind(signed(chain_id))
        .bind(hex_of(contract))
        .bind(lock.kind.name())
        .bind(text_of(lock.hash))
        .fetch_all(&self.pool)
        .await
        .map_err(during("find settlements"))?;
        rows.iter().map(parse).collect()
    }

    /// Those of some contracts and identifiers that are known on a chain, whoever's they are.
    pub async fn known_settlements(
        &self,
        chain_id: u64,
        ids: &[(Address, B256)],
    ) -> Result<Vec<StoredSettlement>, StoreError> {
        let (contracts, ids): (Vec<String>, Vec<String>) =
            ids.iter().map(|(contract, id)| (hex_of(*contract), text_of(*id))).unzip();
        let rows = sqlx::query(select!(
            "s.chain_id = $1
             AND (s.contract, s.settlement_id) IN (SELECT * FROM unnest($2::text[], $3::text[]))"
        ))
        .bind(signed(chain_id))
        .bind(contracts)
        .bind(ids)
        .fetch_all(&self.pool)
        .await
        .map_err(during("find settlements"))?;
        rows.iter().map(parse).collect()
    }
}

fn parse(row: &PgRow) -> Result<StoredSettlement, StoreError> {
    let (assets, senders, receivers): (Vec<String>, Vec<String>, Vec<String>) =
        (row.get("assets"), row.get("senders"), row.get("receivers"));
    let (amounts, chains): (Vec<String>, Vec<String>) = (row.get("amounts"), row.get("chains"));
    let movements = assets.into_iter().zip(senders.into_iter().zip(receivers)).zip(amounts.into_iter().zip(chains));
    let legs = movements.map(|((asset, (from, to)), (amount, chain_id))| {
        Ok(Leg {
            asset: address_of(asset)?,
            from: address_of(from)?,
            to: address_of(to)?,
            amount: parsed("amount", amount)?,
            chain_id: parsed("chain id", chain_id)?,
        })
    });
    let hash_lock = match row.get::<Option<String>, _>("hash_kind") {
        None => None,
        Some(name) => {
            let kind = HashKind::of_name(&name).ok_or(StoreError::Malformed { what: "hash kind", value: name })?;
            Some(HashLock { kind, hash: hash_of(row.get("hash"))? })
        }
    };
    let terms = Terms {
        name: row.get("name"),
        cutoff: unsigned(row.get("cutoff")),
        auto_execute: row.get("auto_execute"),
        hash_lock,
        legs: legs.collect::<Result<_, StoreError>>()?,
    };
    let state: String = row.get("state");
    Ok(StoredSettlement {
        number: row.get("number"),
        chain_id: unsigned(row.get("chain_id")),
        contract: address_of(row.get("contract"))?,
        settlement_id: hash_of(row.get("settlement_id"))?,
        operation_id: row.get("operation_id"),
        creator: address_of(row.get("creator"))?,
        deed: Deed { salt: hash_of(row.get("salt"))?, terms },
        created_block: row.get::<Option<i64>, _>("created_block").map(unsigned),
        state: State::of_name(&state).ok_or(StoreError::Malformed { what: "state", value: state })?,
    })
}
