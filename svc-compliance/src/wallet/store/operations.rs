//! User operations, from their proposal to their end.

use super::{Store, StoreError, during, read, tell};
use crate::wallet::{commands::Propose, flows::ProposeOrder, operation::UserOperation, state::State};
use alloy::primitives::{Address, B256};
use dalp_domain::store::{address_of, hash_of, hex_of, signed, unsigned};
use dalp_engine::Failure;
use serde_json::json;
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

/// A user operation as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredUserOperation {
    /// Later ones are higher.
    pub number: i64,
    /// It.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: String,
    /// The principal that proposed it.
    pub proposed_by: String,
    /// What was asked for.
    pub command: Propose,
    /// What is signed.
    pub user_operation: UserOperation,
    /// The hash of that.
    pub hash: B256,
    /// Nothing of it is older.
    pub from_block: u64,
    /// Where it stands.
    pub state: State,
    /// Why it failed, or is not sent.
    pub failure: Option<Failure>,
    /// The operation that sends it, or was to send it last.
    pub submission_id: Option<Uuid>,
    /// How many were to send it.
    pub submissions: u32,
    /// Not to be sent again before then.
    pub send_after: Option<OffsetDateTime>,
    /// The transaction that carried it out, with its block.
    pub mined: Option<(B256, u64)>,
    /// When it was proposed.
    pub proposed_at: OffsetDateTime,
    /// When it ended.
    pub ended_at: Option<OffsetDateTime>,
}

/// How a user operation ends.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// Where it stands then.
    pub state: State,
    /// Why.
    pub failure: Option<Failure>,
    /// In which transaction, with its block.
    pub mined: Option<(B256, u64)>,
}

/// Writes a user operation in the commit that accepts its proposal.
pub async fn put_user_operation(
    commit: &mut PgConnection,
    tenant: &str,
    principal: &str,
    id: Uuid,
    from_block: u64,
    order: &ProposeOrder,
) -> Result<(), sqlx::Error> {
    let ProposeOrder { user_operation, command } = order;
    let wallet = hex_of(command.wallet);
    sqlx::query(
        "INSERT INTO compliance.user_operations
             (user_operation_id, tenant_id, chain_id, wallet, proposed_by, command, user_operation, hash, from_block)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(id)
    .bind(tenant)
    .bind(signed(user_operation.chain_id))
    .bind(&wallet)
    .bind(principal)
    .bind(Json(command))
    .bind(Json(user_operation))
    .bind(user_operation.hash().to_string())
    .bind(signed(from_block))
    .execute(&mut *commit)
    .await?;
    tell(commit, tenant, id, &command.wallet.to_checksum(None), State::Pending.name(), None).await
}

/// Decides to send a user operation, after so many earlier ones that failed, in the commit that accepts sending it: whoever cancelled or sent it meanwhile was
/// faster, and it is not sent.
pub async fn submit(
    commit: &mut PgConnection,
    tenant: &str,
    id: Uuid,
    wallet: Address,
    submission_id: Uuid,
    earlier: u32,
) -> Result<(), sqlx::Error> {
    let decided = sqlx::query(
        "UPDATE compliance.user_operations SET state = 'SUBMITTED', submission_id = $2, submissions = submissions + 1, send_after = NULL, failure = NULL
         WHERE user_operation_id = $1 AND state = 'PENDING' AND submissions = $3",
    )
    .bind(id)
    .bind(submission_id)
    .bind(i64::from(earlier))
    .execute(&mut *commit)
    .await?;
    match decided.rows_affected() {
        1 => tell(commit, tenant, id, &wallet.to_checksum(None), State::Submitted.name(), None).await,
        _ => Err(sqlx::Error::RowNotFound),
    }
}

/// Whether [`submit`] refused a commit: the user operation is pending no more.
#[must_use]
pub fn is_overtaken(error: &dalp_engine::StoreError) -> bool {
    matches!(error, dalp_engine::StoreError::Database(sqlx::Error::RowNotFound))
}

impl Store {
    /// A user operation of a tenant.
    pub async fn user_operation(&self, tenant: &str, id: Uuid) -> Result<Option<StoredUserOperation>, StoreError> {
        sqlx::query("SELECT * FROM compliance.user_operations WHERE tenant_id = $1 AND user_operation_id = $2")
            .bind(tenant)
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read user operation"))?
            .map(|row| parse(&row))
            .transpose()
    }

    /// User operations of a tenant below a number, newest first.
    pub async fn user_operations(
        &self,
        tenant: &str,
        wallet: Option<Address>,
        state: Option<State>,
        below: i64,
        limit: u32,
    ) -> Result<Vec<StoredUserOperation>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM compliance.user_operations WHERE tenant_id = $1 AND number < $2
                AND ($3::text IS NULL OR wallet = $3) AND ($4::text IS NULL OR state = $4)
             ORDER BY number DESC LIMIT $5",
        )
        .bind(tenant)
        .bind(below)
        .bind(wallet.map(hex_of))
        .bind(state.map(State::name))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list user operations"))?;
        rows.iter().map(parse).collect()
    }

    /// User operations of every tenant that go on, oldest first, behind a number.
    pub async fn user_operations_going_on(
        &self,
        above: i64,
        limit: u32,
    ) -> Result<Vec<StoredUserOperation>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM compliance.user_operations WHERE state IN ('PENDING', 'SUBMITTED') AND number > $1
             ORDER BY number LIMIT $2",
        )
        .bind(above)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read user operations"))?;
        rows.iter().map(parse).collect()
    }

    /// Ends a user operation, if it still stands where the decision was made.
    pub async fn end_user_operation(&self, of: &StoredUserOperation, end: &End) -> Result<bool, StoreError> {
        let failed = || during("end user operation");
        let mut commit = self.begin("end user operation").await?;
        let ended = sqlx::query(
            "UPDATE compliance.user_operations
             SET state = $3, failure = $4, tx_hash = $5, block_number = $6, ended_at = now()
             WHERE user_operation_id = $1 AND state = $2",
        )
        .bind(of.id)
        .bind(of.state.name())
        .bind(end.state.name())
        .bind(end.failure.as_ref().map(Json))
        .bind(end.mined.map(|(tx_hash, _)| tx_hash.to_string()))
        .bind(end.mined.map(|(_, block)| signed(block)))
        .execute(&mut *commit)
        .await
        .map_err(failed())?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        let wallet = of.command.wallet.to_checksum(None);
        tell(&mut commit, &of.tenant, of.id, &wallet, end.state.name(), end.failure.as_ref()).await.map_err(failed())?;
        commit.commit().await.map_err(failed())?;
        Ok(true)
    }

    /// Takes a user operation back whose submission failed before the entry point took it: it waits, and is sent anew after a while that grows.
    pub async fn take_back_user_operation(
        &self,
        of: &StoredUserOperation,
        failure: &Failure,
    ) -> Result<bool, StoreError> {
        let failed = || during("take back user operation");
        let mut commit = self.begin("take back user operation").await?;
        let taken = sqlx::query(
            "UPDATE compliance.user_operations
             SET state = 'PENDING', failure = $3,
                 send_after = now() + least(interval '1 hour', interval '5 seconds' * power(2, least(submissions, 12)))
             WHERE user_operation_id = $1 AND state = 'SUBMITTED' AND submission_id = $2",
        )
        .bind(of.id)
        .bind(of.submission_id)
        .bind(Json(failure))
        .execute(&mut *commit)
        .await
        .map_err(failed())?;
        if taken.rows_affected() == 0 {
            return Ok(false);
        }
        let wallet = of.command.wallet.to_checksum(None);
        tell(&mut commit, &of.tenant, of.id, &wallet, State::Pending.name(), Some(failure)).await.map_err(failed())?;
        commit.commit().await.map_err(failed())?;
        Ok(true)
    }

    /// How many user operations go on: of a tenant's wallet, and of the tenant.
    pub async fn open_user_operations(&self, tenant: &str, wallet: Address) -> Result<(u64, u64), StoreError> {
        let (of_wallet, of_tenant): (i64, i64) = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE wallet = $2), count(*) FROM compliance.user_operations
             WHERE tenant_id = $1 AND state IN ('PENDING', 'SUBMITTED')",
        )
        .bind(tenant)
        .bind(hex_of(wallet))
        .fetch_one(&self.pool)
        .await
        .map_err(during("count user operations"))?;
        Ok((unsigned(of_wallet), unsigned(of_tenant)))
    }

    /// Gives a user operation up, if it was never sent.
    pub async fn cancel_user_operation(
        &self,
        of: &StoredUserOperation,
        principal: &str,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let failed = || during("cancel user operation");
        let mut commit = self.begin("cancel user operation").await?;
        let cancelled = sqlx::query(
            "UPDATE compliance.user_operations SET state = 'CANCELLED', failure = NULL, ended_at = now()
             WHERE user_operation_id = $1 AND state = 'PENDING' AND submissions = 0",
        )
        .bind(of.id)
        .execute(&mut *commit)
        .await
        .map_err(failed())?;
        if cancelled.rows_affected() == 0 {
            return Ok(false);
        }
        let (wallet, subject) = (of.command.wallet.to_checksum(None), of.id.to_string());
        let body = json!({"wallet": wallet, "hash": of.hash, "reason": reason});
        dalp_engine::audit_leaf(&mut commit, &of.tenant, "wallet.cancel", principal, &subject, body)
            .await
            .map_err(failed())?;
        tell(&mut commit, &of.tenant, of.id, &wallet, State::Cancelled.name(), None).await.map_err(failed())?;
        commit.commit().await.map_err(failed())?;
        Ok(true)
    }

    /// Notes why a user operation is not sent though its approvals suffice, or that nothing is against it any more.
    pub async fn put_obstacle(&self, id: Uuid, obstacle: Option<&Failure>) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE compliance.user_operations SET failure = $2
             WHERE user_operation_id = $1 AND state = 'PENDING' AND failure IS DISTINCT FROM $2",
        )
        .bind(id)
        .bind(obstacle.map(Json))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("note obstacle"))
    }
}

fn parse(row: &PgRow) -> Result<StoredUserOperation, StoreError> {
    let state: String = row.get("state");
    let tx_hash: Option<String> = row.get("tx_hash");
    let block: Option<i64> = row.get("block_number");
    let command: Propose = read("proposal", row.get("command"))?;
    // The column is what constraints and lists read; the command says the same.
    let wallet = address_of(row.get("wallet"))?;
    if wallet != command.wallet {
        return Err(StoreError::Malformed { what: "wallet of a user operation", value: wallet.to_string() });
    }
    Ok(StoredUserOperation {
        number: row.get("number"),
        id: row.get("user_operation_id"),
        tenant: row.get("tenant_id"),
        proposed_by: row.get("proposed_by"),
        command,
        user_operation: read("user operation", row.get("user_operation"))?,
        hash: hash_of(row.get("hash"))?,
        from_block: unsigned(row.get("from_block")),
        state: State::of_name(&state).ok_or(StoreError::Malformed { what: "state", value: state })?,
        failure: row.get::<Option<Json<Failure>>, _>("failure").map(|failure| failure.0),
        submission_id: row.get("submission_id"),
        submissions: u32::try_from(row.get::<i32, _>("submissions")).unwrap_or_default(),
        send_after: row.get("send_after"),
        mined: tx_hash.map(hash_of).transpose()?.zip(block.map(unsigned)),
        proposed_at: row.get("proposed_at"),
        ended_at: row.get("ended_at"),
    })
}
