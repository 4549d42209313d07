//! Exchanges across two chains.

use super::{
    Store,
    settlements::{NewSettlement, text_of},
};
use crate::{
    flows::{OpenPairOrder, SideOrder},
    pairs::{Phase, Role, agreement::OpenPair},
    terms::{Deed, HashLock},
};
use alloy::primitives::{Address, B256};
use dalp_domain::store::{StoreError, address_of, during, hash_of, hex_of, signed, unsigned};
use dalp_engine::Failure;
use serde_json::{Value, json};
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

/// One settlement of an exchange as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSide {
    /// Its chain.
    pub chain_id: u64,
    /// The contract.
    pub contract: Address,
    /// Ours: what tells it apart.
    pub salt: Option<B256>,
    /// Its identifier, once known.
    pub settlement_id: Option<B256>,
    /// Nothing of it is older.
    pub from_block: u64,
}

/// An exchange as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPair {
    /// Later ones are higher.
    pub number: i64,
    /// It.
    pub pair_id: Uuid,
    /// Whose it is.
    pub tenant: String,
    /// What was asked for.
    pub command: OpenPair,
    /// The hash of the secret.
    pub hash: B256,
    /// Under which the signer keeps the secret, if it is ours.
    pub secret_id: Option<Uuid>,
    /// Where it stands.
    pub phase: Phase,
    /// Whether it was decided, ever, to show our secret.
    pub exposed: bool,
    /// Whether the secret was seen on a chain, ever.
    pub seen: bool,
    /// In the order of [`Role::BOTH`].
    pub sides: [StoredSide; 2],
    /// What the decision to show our secret rests on.
    pub verdicts: Option<Value>,
}

/// Something that was sent for an exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAction {
    /// Later ones are higher.
    pub number: i64,
    /// Its name, with what it is about.
    pub name: String,
    /// From 1.
    pub attempt: u32,
    /// Its chain; 0: both.
    pub chain_id: u64,
    /// The operation.
    pub operation_id: Uuid,
    /// Whether the operation has ended.
    pub settled: bool,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// How long ago it was accepted.
    pub age_s: f64,
}

/// Writes an exchange and its settlements in the commit that accepts its opening.
pub async fn put_pair(
    commit: &mut PgConnection,
    tenant: &str,
    id: Uuid,
    order: &OpenPairOrder,
) -> Result<(), sqlx::Error> {
    let OpenPairOrder { command, hash, secret_id, sides } = order;
    sqlx::query(
        "INSERT INTO settlement.pairs (pair_id, tenant_id, command, hash_kind, hash, secret_id) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id)
    .bind(tenant)
    .bind(Json(command))
    .bind(command.hash_kind.name())
    .bind(text_of(*hash))
    .bind(secret_id)
    .execute(&mut *commit)
    .await?;
    for role in Role::BOTH {
        let SideOrder { chain_id, contract, salt, settlement_id, from_block } = &sides[role.place()];
        sqlx::query(
            "INSERT INTO settlement.pair_sides (pair_id, role, chain_id, contract, salt, settlement_id, from_block)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(id)
        .bind(role.name())
        .bind(signed(*chain_id))
        .bind(hex_of(*contract))
        .bind(salt.map(text_of))
        .bind(settlement_id.map(text_of))
        .bind(signed(*from_block))
        .execute(&mut *commit)
        .await?;
        let Some((salt, settlement_id)) = salt.zip(*settlement_id) else { continue };
        let deed = Deed { salt, terms: command.terms(role, *hash) };
        let new = NewSettlement {
            tenant,
            chain_id: *chain_id,
            contract: *contract,
            settlement_id,
            creator: command.sender,
            deed: &deed,
            operation_id: Some(id),
            created_block: None,
        };
        new.put(&mut *commit).await?;
    }
    put_action(&mut *commit, id, "open", 1, 0, id).await?;
    let detail = json!({ "hash": text_of(*hash), "secret_id": secret_id });
    put_event(commit, tenant, id, "opened", &detail).await
}

/// Writes that something was sent, in the commit that accepts it.
pub async fn put_action(
    commit: &mut PgConnection,
    pair_id: Uuid,
    name: &str,
    attempt: u32,
    chain_id: u64,
    operation_id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO settlement.pair_actions (pair_id, name, attempt, chain_id, operation_id) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(pair_id)
    .bind(name)
    .bind(i32::try_from(attempt).unwrap_or(i32::MAX))
    .bind(signed(chain_id))
    .bind(operation_id)
    .execute(commit)
    .await
    .map(drop)
}

/// Decides to show our secret, in the commit that accepts showing it: whoever gave the exchange up meanwhile was faster, and it is not shown.
pub async fn expose(commit: &mut PgConnection, pair: &StoredPair, verdicts: &Value) -> Result<(), sqlx::Error> {
    let decided = sqlx::query(
        "UPDATE settlement.pairs SET phase = 'REVEALING', exposed = true, verdicts = $2
         WHERE pair_id = $1 AND phase IN ('LOCKING', 'REVEALING') AND secret_id IS NOT NULL",
    )
    .bind(pair.pair_id)
    .bind(verdicts)
    .execute(&mut *commit)
    .await?;
    match decided.rows_affected() {
        1 => put_event(commit, &pair.tenant, pair.pair_id, "revealing", &json!({})).await,
        _ => Err(sqlx::Error::RowNotFound),
    }
}

pub(super) async fn put_event(
    commit: &mut PgConnection,
    tenant: &str,
    pair_id: Uuid,
    kind: &str,
    detail: &Value,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO settlement.pair_events (pair_id, kind, detail) VALUES ($1, $2, $3)")
        .bind(pair_id)
        .bind(kind)
        .bind(detail)
        .execute(&mut *commit)
        .await?;
    sqlx::query(
        "INSERT INTO engine.outbox (tenant, topic, subject, operation_id, body) VALUES ($1, 'settlement.pair.' || $2, $3, $4, $5)",
    )
    .bind(tenant)
    .bind(kind)
    .bind(pair_id.to_string())
    .bind(pair_id)
    .bind(detail)
    .execute(commit)
    .await
    .map(drop)
}

/// A read of what was sent for exchanges, beside what it is about.
macro_rules! action_columns {
    ($rest:literal) => {
        concat!(
            "SELECT number, name, attempt, chain_id, operation_id, settled, failure, extract(epoch FROM now() - at)::float8 AS age_s ",
            $rest
        )
    };
}

/// A read of exchanges with their settlements, beside what it is about.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT p.number, p.pair_id, p.tenant_id, p.command, p.hash, p.secret_id, p.phase, p.exposed, p.seen, p.verdicts,
                    r.chain_id AS r_chain, r.contract AS r_contract, r.salt AS r_salt, r.settlement_id AS r_id, r.from_block AS r_from,
                    c.chain_id AS c_chain, c.contract AS c_contract, c.salt AS c_salt, c.settlement_id AS c_id, c.from_block AS c_from
             FROM settlement.pairs p JOIN settlement.pair_sides r ON r.pair_id = p.pair_id AND r.role = 'reveal'
             JOIN settlement.pair_sides c ON c.pair_id = p.pair_id AND c.role = 'carry' WHERE ",
            $rest
        )
    };
}

impl Store {
    /// Exchanges that go on, oldest first, behind a number.
    pub async fn pairs_going_on(&self, above: i64, limit: u32) -> Result<Vec<StoredPair>, StoreError> {
        let rows = sqlx::query(select!(
            "p.phase NOT IN ('SETTLED', 'RETURNED', 'SPLIT') AND p.number > $1 ORDER BY p.number LIMIT $2"
        ))
        .bind(above)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read exchanges"))?;
        rows.iter().map(parse).collect()
    }

    /// An exchange of a tenant.
    pub async fn pair(&self, tenant: &str, pair_id: Uuid) -> Result<Option<StoredPair>, StoreError> {
        let row = sqlx::query(select!("p.tenant_id = $1 AND p.pair_id = $2"))
            .bind(tenant)
            .bind(pair_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read exchange"))?;
        row.map(|row| parse(&row)).transpose()
    }

    /// The exchange of a tenant that has a settlement.
    pub async fn pair_of_settlement(&self, tenant: &str, id: B256) -> Result<Option<StoredPair>, StoreError> {
        let row = sqlx::query(select!("p.tenant_id = $1 AND $2 IN (r.settlement_id, c.settlement_id)"))
            .bind(tenant)
            .bind(text_of(id))
            .fetch_optional(&self.pool)
            .await
            .map_err(during("find exchange"))?;
        row.map(|row| parse(&row)).transpose()
    }

    /// Whether a tenant has an exchange of this hash.
    pub async fn has_pair(&self, tenant: &str, lock: HashLock) -> Result<bool, StoreError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pairs WHERE tenant_id = $1 AND hash_kind = $2 AND hash = $3)")
            .bind(tenant)
            .bind(lock.kind.name())
            .bind(text_of(lock.hash))
            .fetch_one(&self.pool)
            .await
            .map_err(during("find exchange"))
    }

    /// Exchanges of a tenant below a number, newest first.
    pub async fn pairs(
        &self,
        tenant: &str,
        phase: Option<Phase>,
        below: i64,
        limit: u32,
    ) -> Result<Vec<StoredPair>, StoreError> {
        let rows = sqlx::query(select!(
            "p.tenant_id = $1 AND p.number < $2 AND ($3::text IS NULL OR p.phase = $3) ORDER BY p.number DESC LIMIT $4"
        ))
        .bind(tenant)
        .bind(below)
        .bind(phase.map(Phase::name))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list exchanges"))?;
        rows.iter().map(parse).collect()
    }

    /// Notes which settlement is the counterparty's. The first that matched stays.
    pub async fn put_mirror(&self, pair: &StoredPair, role: Role, id: B256) -> Result<(), StoreError> {
        let mut commit = self.begin("note mirror").await?;
        let put = sqlx::query(
            "UPDATE pair_sides SET settlement_id = $3 WHERE pair_id = $1 AND role = $2 AND settlement_id IS NULL",
        )
        .bind(pair.pair_id)
        .bind(role.name())
        .bind(text_of(id))
        .execute(&mut *commit)
        .await
        .map_err(during("note mirror"))?;
        if put.rows_affected() == 1 {
            let detail = json!({ "chain_id": pair.sides[role.place()].chain_id, "settlement_id": text_of(id) });
            put_event(&mut commit, &pair.tenant, pair.pair_id, "mirror_found", &detail)
                .await
                .map_err(during("note mirror"))?;
        }
        commit.commit().await.map_err(during("note mirror"))
    }

    /// Moves an exchange on, if it still stands where the decision was made.
    pub async fn put_phase(&self, pair: &StoredPair, to: Phase, detail: &Value) -> Result<bool, StoreError> {
        let mut commit = self.begin("move exchange on").await?;
        let moved = sqlx::query("UPDATE pairs SET phase = $3, seen = seen OR $4 WHERE pair_id = $1 AND phase = $2")
            .bind(pair.pair_id)
            .bind(pair.phase.name())
            .bind(to.name())
            .bind(to == Phase::Carrying)
            .execute(&mut *commit)
            .await
            .map_err(during("move exchange on"))?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        let kind = match to {
            Phase::Carrying => "secret_out".to_owned(),
            other => other.name().to_lowercase(),
        };
        put_event(&mut commit, &pair.tenant, pair.pair_id, &kind, detail).await.map_err(during("move exchange on"))?;
        commit.commit().await.map_err(during("move exchange on"))?;
        Ok(true)
    }

    /// Everything that was sent for an exchange, in order.
    pub async fn pair_actions(&self, pair_id: Uuid) -> Result<Vec<StoredAction>, StoreError> {
        self.pair_actions_after(pair_id, 0, i64::MAX).await
    }

    /// At most so many things that were sent for an exchange after a number, in order.
    pub async fn pair_actions_after(
        &self,
        pair_id: Uuid,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StoredAction>, StoreError> {
        let rows = sqlx::query(action_columns!(
            "FROM pair_actions WHERE pair_id = $1 AND number > $2 ORDER BY number LIMIT $3"
        ))
        .bind(pair_id)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(during("read actions"))?;
        Ok(rows.iter().map(action).collect())
    }

    /// At most so many things that were sent for an exchange last, in order.
    pub async fn last_pair_actions(&self, pair_id: Uuid, limit: i64) -> Result<Vec<StoredAction>, StoreError> {
        let rows = sqlx::query(action_columns!("FROM pair_actions WHERE pair_id = $1 ORDER BY number DESC LIMIT $2"))
            .bind(pair_id)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(during("read actions"))?;
        Ok(rows.iter().rev().map(action).collect())
    }

    /// Notes that an operation has ended, and why it failed.
    pub async fn settle_action(
        &self,
        pair_id: Uuid,
        action: &StoredAction,
        failure: Option<&Failure>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE pair_actions SET settled = true, failure = $4 WHERE pair_id = $1 AND name = $2 AND attempt = $3",
        )
        .bind(pair_id)
        .bind(&action.name)
        .bind(i32::try_from(action.attempt).unwrap_or(i32::MAX))
        .bind(failure.map(Json))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("settle action"))
    }
}

fn action(row: &PgRow) -> StoredAction {
    StoredAction {
        number: row.get("number"),
        name: row.get("name"),
        attempt: row.get::<i32, _>("attempt").unsigned_abs(),
        chain_id: unsigned(row.get("chain_id")),
        operation_id: row.get("operation_id"),
        settled: row.get("settled"),
        failure: row.get::<Option<Json<Failure>>, _>("failure").map(|failure| failure.0),
        age_s: row.get("age_s"),
    }
}

fn parse(row: &PgRow) -> Result<StoredPair, StoreError> {
    let side = |chain: &str, contract: &str, salt: &str, id: &str, from: &str| {
        Ok::<_, StoreError>(StoredSide {
            chain_id: unsigned(row.get(chain)),
            contract: address_of(row.get(contract))?,
            salt: row.get::<Option<String>, _>(salt).map(hash_of).transpose()?,
            settlement_id: row.get::<Option<String>, _>(id).map(hash_of).transpose()?,
            from_block: unsigned(row.get(from)),
        })
    };
    let phase: String = row.get("phase");
    Ok(StoredPair {
        number: row.get("number"),
        pair_id: row.get("pair_id"),
        tenant: row.get("tenant_id"),
        command: row.get::<Json<OpenPair>, _>("command").0,
        hash: hash_of(row.get("hash"))?,
        secret_id: row.get("secret_id"),
        phase: Phase::of_name(&phase).ok_or(StoreError::Malformed { what: "phase", value: phase })?,
        exposed: row.get("exposed"),
        seen: row.get("seen"),
        sides: [
            side("r_chain", "r_contract", "r_salt", "r_id", "r_from")?,
            side("c_chain", "c_contract", "c_salt", "c_id", "c_from")?,
        ],
        verdicts: row.get("verdicts"),
    })
}
