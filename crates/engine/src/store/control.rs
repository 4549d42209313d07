//! Lanes as an operator sees them, and what an operator asks of them. Each action stands in the audit in the commit that makes it.

use super::{
    Reads, accept::begin, attempt::fees, holds::hold, lanes::lane, leaf, signed, transactions::notify, unsigned,
};
use crate::{
    error::StoreError,
    model::{ActionView, LaneId, ServiceName, TenantId, TransactionId},
    operator::{
        LaneFilter, LaneFront, LanePage, LanePolicy, LaneView, LeaseView, PauseView, PolicySetView, WaitingTransaction,
    },
};
use serde_json::json;
use sqlx::{PgConnection, Row, postgres::PgRow, types::Json};
use std::time::Duration;
use time::OffsetDateTime;

/// Transactions in flight, and of the queue, that an explanation looks at.
const FRONT: i64 = 20;

const LANES: &str = "
SELECT l.chain_id, l.sender, l.next_nonce, l.needs_approval, l.by_provider, l.paused_at, l.paused_by, l.pause_reason, l.behind_approval, l.hold_nonce_for_s, l.policy_at, l.policy_by, l.policy_reason, w.queued, w.queued_at, f.in_flight + h.in_flight AS in_flight, least(f.in_flight_at, h.in_flight_at) AS in_flight_at,
       c.confirming + m.confirming AS confirming, o.hold, o.held_by, o.held_since, o.held_transaction_id, o.held_by_provider
FROM engine.lanes l
CROSS JOIN LATERAL (
    SELECT count(*) AS queued, min(t.created_at) AS queued_at FROM engine.transactions t
    WHERE t.chain_id = l.chain_id AND t.sender = l.sender AND t.state IN ('QUEUED', 'PREPARING')) w
CROSS JOIN LATERAL (
    SELECT count(DISTINCT a.nonce) AS in_flight, min(t.created_at) AS in_flight_at FROM engine.attempts a
    JOIN engine.transactions t ON t.tenant = a.tenant AND t.transaction_id = a.transaction_id
    WHERE a.chain_id = l.chain_id AND a.sender = l.sender AND a.state IN ('SIGNING', 'SIGNED', 'SENT')) f
CROSS JOIN LATERAL (
    SELECT count(*) AS confirming FROM engine.attempts a WHERE a.chain_id = l.chain_id AND a.sender = l.sender AND a.state = 'MINED') c
CROSS JOIN LATERAL (
    SELECT count(*) AS in_flight, min(t.created_at) AS in_flight_at FROM engine.handovers d
    JOIN engine.transactions t ON t.tenant = d.tenant AND t.transaction_id = d.transaction_id
    WHERE d.chain_id = l.chain_id AND d.sender = l.sender AND d.state IN ('SIGNING', 'HANDED', 'SENT')) h
CROSS JOIN LATERAL (
    SELECT count(*) AS confirming FROM engine.handovers d WHERE d.chain_id = l.chain_id AND d.sender = l.sender AND d.state = 'MINED') m
LEFT JOIN LATERAL (
    SELECT a.hold, a.held_by, a.held_since, a.transaction_id AS held_transaction_id, false AS held_by_provider FROM engine.attempts a
    WHERE a.chain_id = l.chain_id AND a.sender = l.sender AND a.state = 'SIGNING' AND a.hold IS NOT NULL
    UNION ALL
    SELECT d.hold, d.held_by, d.held_since, d.transaction_id, true FROM engine.handovers d
    WHERE d.chain_id = l.chain_id AND d.sender = l.sender AND d.state = 'HANDED' AND d.hold IS NOT NULL
    ORDER BY held_since, held_transaction_id LIMIT 1) o ON true
WHERE l.tenant = $1 AND ($2::bigint IS NULL OR (l.chain_id, l.sender) > ($2, $3)) AND ($4::bigint IS NULL OR l.chain_id = $4)
  AND ($5::bytea IS NULL OR l.sender = $5) AND (NOT $6 OR w.queued > 0 OR f.in_flight + h.in_flight > 0)
ORDER BY l.chain_id, l.sender LIMIT $7";

impl Reads {
    /// A page of a tenant's lanes.
    pub(crate) async fn lanes(
        &self,
        tenant: &TenantId,
        filter: &LaneFilter,
        after: Option<LaneId>,
        page_size: u32,
    ) -> Result<LanePage, StoreError> {
        let mut lanes = self.lane_views(tenant, filter, after, i64::from(page_size) + 1).await?;
        let more = lanes.len() > page_size as usize;
        lanes.truncate(page_size as usize);
        let next = lanes.last().filter(|_| more).map(|view| view.lane);
        Ok(LanePage { lanes, next })
    }

    /// One lane of a tenant.
    pub(crate) async fn lane(&self, tenant: &TenantId, lane: LaneId) -> Result<Option<LaneView>, StoreError> {
        let filter = LaneFilter { chain_id: Some(lane.chain_id), sender: Some(lane.sender), busy_only: false };
        Ok(self.lane_views(tenant, &filter, None, 1).await?.pop())
    }

    async fn lane_views(
        &self,
        tenant: &TenantId,
        filter: &LaneFilter,
        after: Option<LaneId>,
        limit: i64,
    ) -> Result<Vec<LaneView>, StoreError> {
        // Both as of one moment: a lane that is said to be compared shows what the comparison found.
        let mut snapshot = begin(&self.pool).await?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *snapshot).await?;
        let rows = sqlx::query(LANES)
            .bind(tenant.as_str())
            .bind(after.map(|lane| signed(lane.chain_id)).transpose()?)
            .bind(after.map(|lane| lane.sender.to_vec()))
            .bind(filter.chain_id.map(signed).transpose()?)
            .bind(filter.sender.map(|sender| sender.to_vec()))
            .bind(filter.busy_only)
            .bind(limit)
            .fetch_all(&mut *snapshot)
            .await?;
        let mut views = rows.iter().map(lane_view).collect::<Result<Vec<_>, _>>()?;
        let (chains, senders) = super::lanes::columns(views.iter().map(|view| view.lane))?;
        let leases = sqlx::query(
            "SELECT e.chain_id, e.sender, e.service, e.holder, CASE WHEN isfinite(e.expires_at) THEN e.expires_at END AS expires_at,
                    e.holder IS NOT NULL AND e.expires_at >= now() AS live, e.resync_asked > e.resync_done AS resync_pending
             FROM unnest($1::bigint[], $2::bytea[]) AS n(c, s) JOIN engine.lane_leases e ON e.chain_id = n.c AND e.sender = n.s ORDER BY e.service",
        )
        .bind(chains)
        .bind(senders)
        .fetch_all(&mut *snapshot)
        .await?;
        snapshot.commit().await?;
        for row in &leases {
            let of = lane(row)?;
            let Some(view) = views.iter_mut().find(|view| view.lane == of) else { continue };
            view.resync_pending |= row.try_get::<bool, _>("resync_pending")?;
            view.leases.push(LeaseView {
                service: ServiceName::new(row.try_get::<String, _>("service")?),
                holder: row.try_get("holder")?,
                expires_at: row.try_get("expires_at")?,
                live: row.try_get("live")?,
            });
        }
        Ok(views)
    }

    /// What stands at the front of a lane: the lowest nonces in flight, the nonces that nobody uses, the next of the queue.
    pub(crate) async fn lane_front(&self, lane: LaneId) -> Result<LaneFront, StoreError> {
        let in_flight = sqlx::query(
            "SELECT t.transaction_id, t.state, t.sub_status, a.nonce, t.created_at, t.history->-1 AS last, t.value_wei::text AS value_wei,
                    a.gas_limit, a.fees, a.created_at AS attempt_at, a.state = 'SENT' AS sent,
                    CASE WHEN a.state = 'SIGNING' THEN a.hold END AS hold, a.held_by, a.held_since, a.transaction_id AS held_transaction_id, false AS held_by_provider
             FROM engine.attempts a JOIN engine.transactions t ON t.tenant = a.tenant AND t.transaction_id = a.transaction_id
             WHERE a.chain_id = $1 AND a.sender = $2 AND a.state IN ('SIGNING', 'SIGNED', 'SENT')
             UNION ALL
             SELECT t.transaction_id, t.state, t.sub_status, NULL, t.created_at, t.history->-1, t.value_wei::text, NULL, NULL, d.created_at, d.state = 'SENT',
                    CASE WHEN d.state = 'HANDED' THEN d.hold END, d.held_by, d.held_since, d.transaction_id, true
             FROM engine.handovers d JOIN engine.transactions t ON t.tenant = d.tenant AND t.transaction_id = d.transaction_id
             WHERE d.chain_id = $1 AND d.sender = $2 AND d.state IN ('SIGNING', 'HANDED', 'SENT') ORDER BY nonce, attempt_at LIMIT $3",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(FRONT)
        .fetch_all(&self.pool)
        .await?;
        let queue = sqlx::query(
            "SELECT t.transaction_id, t.state, t.sub_status, t.nonce, t.created_at, t.history->-1 AS last, t.value_wei::text AS value_wei,
                    NULL::bigint AS gas_limit, NULL::jsonb AS fees, NULL::timestamptz AS attempt_at, false AS sent,
                    NULL AS hold
             FROM engine.transactions t WHERE t.chain_id = $1 AND t.sender = $2 AND t.state IN ('QUEUED', 'PREPARING') ORDER BY t.priority, t.sequence LIMIT $3",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(FRONT)
        .fetch_all(&self.pool)
        .await?;
        let holes: Vec<i64> = sqlx::query_scalar(
            "SELECT h.nonce FROM engine.nonces h JOIN engine.lanes l ON l.chain_id = h.chain_id AND l.sender = h.sender
             WHERE h.chain_id = $1 AND h.sender = $2 AND h.released AND h.nonce < l.next_nonce ORDER BY h.nonce LIMIT $3",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(FRONT)
        .fetch_all(&self.pool)
        .await?;
        Ok(LaneFront {
            in_flight: in_flight.iter().map(waiting).collect::<Result<_, _>>()?,
            queue: queue.iter().map(waiting).collect::<Result<_, _>>()?,
            holes: holes.into_iter().map(unsigned).collect::<Result<_, _>>()?,
        })
    }

    /// From this commit on the lane gives no nonce. `false`: the tenant has no such lane.
    pub(crate) async fn pause_lane(
        &self,
        tenant: &TenantId,
        lane: LaneId,
        actor: &str,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let mut commit = begin(&self.pool).await?;
        let paused = sqlx::query(
            "UPDATE engine.lanes SET paused_at = now(), paused_by = $4, pause_reason = $5 WHERE tenant = $1 AND chain_id = $2 AND sender = $3",
        )
        .bind(tenant.as_str())
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(actor)
        .bind(reason)
        .execute(&mut *commit)
        .await?;
        if paused.rows_affected() == 0 {
            return Ok(false);
        }
        audit(&mut commit, tenant, "lane.pause", actor, lane, reason).await?;
        commit.commit().await?;
        notify(&self.pool).await?;
        Ok(true)
    }

    /// The lane gives nonces again. `false`: the tenant has no such lane.
    pub(crate) async fn resume_lane(
        &self,
        tenant: &TenantId,
        lane: LaneId,
        actor: &str,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let mut commit = begin(&self.pool).await?;
        let resumed = sqlx::query(
            "UPDATE engine.lanes SET paused_at = NULL, paused_by = NULL, pause_reason = NULL WHERE tenant = $1 AND chain_id = $2 AND sender = $3",
        )
        .bind(tenant.as_str())
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .execute(&mut *commit)
        .await?;
        if resumed.rows_affected() == 0 {
            return Ok(false);
        }
        audit(&mut commit, tenant, "lane.resume", actor, lane, reason).await?;
        commit.commit().await?;
        notify(&self.pool).await?;
        Ok(true)
    }

    /// Sets what the lane does with those who stand behind an approval. `false`: the tenant has no such lane.
    pub(crate) async fn set_lane_policy(
        &self,
        tenant: &TenantId,
        lane: LaneId,
        policy: LanePolicy,
        actor: &str,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let LanePolicy { behind_approval, hold_nonce_for } = policy;
        let hold_nonce_for_s = hold_nonce_for.map(|after| i32::try_from(after.as_secs())).transpose();
        let mut commit = begin(&self.pool).await?;
        let set = sqlx::query(
            "UPDATE engine.lanes SET behind_approval = $4, policy_at = now(), policy_by = $5, policy_reason = $6, hold_nonce_for_s = $7
             WHERE tenant = $1 AND chain_id = $2 AND sender = $3",
        )
        .bind(tenant.as_str())
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(behind_approval.as_str())
        .bind(actor)
        .bind(reason)
        .bind(hold_nonce_for_s.map_err(StoreError::corrupt)?)
        .execute(&mut *commit)
        .await?;
        if set.rows_affected() == 0 {
            return Ok(false);
        }
        let body = policy.leaf(reason);
        leaf(&mut commit, tenant.as_str(), "lane.set_policy", actor, &lane.to_string(), body).await?;
        commit.commit().await?;
        Ok(true)
    }

    /// Asks every service that works on the lane to compare it again. `false`: the tenant has no such lane.
    pub(crate) async fn ask_resync(
        &self,
        tenant: &TenantId,
        lane: LaneId,
        actor: &str,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let mut commit = begin(&self.pool).await?;
        let asked = sqlx::query(
            "UPDATE engine.lane_leases e SET resync_asked = resync_asked + 1 FROM engine.lanes l
             WHERE l.tenant = $1 AND l.chain_id = $2 AND l.sender = $3 AND e.chain_id = l.chain_id AND e.sender = l.sender",
        )
        .bind(tenant.as_str())
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .execute(&mut *commit)
        .await?;
        if asked.rows_affected() == 0 {
            return Ok(false);
        }
        audit(&mut commit, tenant, "lane.ask_resync", actor, lane, reason).await?;
        commit.commit().await?;
        notify(&self.pool).await?;
        Ok(true)
    }
}

async fn audit(
    commit: &mut PgConnection,
    tenant: &TenantId,
    action: &str,
    actor: &str,
    lane: LaneId,
    reason: &str,
) -> Result<(), StoreError> {
    leaf(commit, tenant.as_str(), action, actor, &lane.to_string(), json!({"reason": reason})).await
}

fn lane_view(row: &PgRow) -> Result<LaneView, StoreError> {
    let pause = match row.try_get("paused_at")? {
        Some(at) => Some(PauseView { by: row.try_get("paused_by")?, reason: row.try_get("pause_reason")?, at }),
        None => None,
    };
    let policy_set = match row.try_get("policy_at")? {
        Some(at) => Some(PolicySetView { by: row.try_get("policy_by")?, reason: row.try_get("policy_reason")?, at }),
        None => None,
    };
    let behind_approval = row.try_get::<&str, _>("behind_approval")?.parse().map_err(StoreError::Corrupt)?;
    let queued_at: Option<OffsetDateTime> = row.try_get("queued_at")?;
    let in_flight_at: Option<OffsetDateTime> = row.try_get("in_flight_at")?;
    Ok(LaneView {
        lane: lane(row)?,
        next_nonce: row.try_get::<Option<i64>, _>("next_nonce")?.map(unsigned).transpose()?,
        queued: unsigned(row.try_get("queued")?)?,
        in_flight: unsigned(row.try_get("in_flight")?)?,
        confirming: unsigned(row.try_get("confirming")?)?,
        oldest_at: [queued_at, in_flight_at].into_iter().flatten().min(),
        needs_approval: row.try_get("needs_approval")?,
        by_provider: row.try_get("by_provider")?,
        provider_hold: hold(row)?,
        pause,
        policy: LanePolicy { behind_approval, hold_nonce_for: seconds(row, "hold_nonce_for_s")? },
        policy_set,
        resync_pending: false,
        leases: Vec::new(),
    })
}

/// A time in whole seconds, if there is one.
pub(super) fn seconds(row: &PgRow, column: &str) -> Result<Option<Duration>, StoreError> {
    let seconds = row.try_get::<Option<i32>, _>(column)?;
    Ok(seconds.map(|seconds| Duration::from_secs(u64::from(seconds.unsigned_abs()))))
}

fn waiting(row: &PgRow) -> Result<WaitingTransaction, StoreError> {
    let price = row.try_get::<Option<serde_json::Value>, _>("fees")?.as_ref().map(fees).transpose()?;
    Ok(WaitingTransaction {
        transaction_id: TransactionId(row.try_get("transaction_id")?),
        state: row.try_get::<&str, _>("state")?.parse().map_err(StoreError::Corrupt)?,
        sub_status: row.try_get("sub_status")?,
        nonce: row.try_get::<Option<i64>, _>("nonce")?.map(unsigned).transpose()?,
        created_at: row.try_get("created_at")?,
        last: row.try_get::<Option<Json<ActionView>>, _>("last")?.map(|Json(action)| action),
        value_wei: row.try_get::<&str, _>("value_wei")?.parse().map_err(StoreError::corrupt)?,
        gas_limit: row.try_get::<Option<i64>, _>("gas_limit")?.map(unsigned).transpose()?,
        fees: price,
        attempt_at: row.try_get("attempt_at")?,
        sent: row.try_get("sent")?,
        provider_hold: hold(row)?,
    })
}
