//! Lanes: who works on them, what there is to do, how they compare with the chain.

use super::{
    Handover, Store,
    accept::begin,
    address,
    attempt::{ATTEMPT, Attempt, QueuedTransaction, TRANSACTION, attempt, transaction},
    control::seconds,
    hash, leaf, signed, unsigned,
};
use crate::{
    error::StoreError,
    model::{LaneId, RequestId, ServiceName, TenantId},
};
use alloy::primitives::B256;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};
use std::{collections::HashMap, time::Duration};
use uuid::Uuid;

/// Attempts of a lane that are looked at together.
const DUE_AT_ONCE: i64 = 500;

/// How a lane stands, and which of its attempts are due.
#[derive(Debug, Clone, Default)]
pub(crate) struct LaneLook {
    pub(crate) tenant: Option<TenantId>,
    pub(crate) next_nonce: Option<u64>,
    pub(crate) needs_approval: bool,
    /// Bound and not yet included, due or not.
    pub(crate) open: usize,
    /// The lowest nonce of those.
    pub(crate) lowest_open: Option<u64>,
    /// Of those, with the signer.
    pub(crate) signing: usize,
    /// A hole that is being filled: nothing may be bound behind it.
    pub(crate) filling: bool,
    /// Nonces below the next one that were given back.
    pub(crate) holes: bool,
    /// An operator has paused it: nothing is bound.
    pub(crate) paused: bool,
    /// After so long a held reservation goes behind others; absent: the lane does not want it, or nothing waits.
    pub(crate) move_after: Option<Duration>,
    /// The last comparison that was asked for and is not done.
    pub(crate) resync_asked: Option<u64>,
    /// Another replica of the service has it now.
    pub(crate) leased_elsewhere: bool,
    pub(crate) due: Vec<Attempt>,
    /// The sender's provider broadcasts by itself: what is queued is handed over, without a nonce.
    pub(crate) by_provider: bool,
    /// Handed over, and not taken by the signer yet, due or not.
    pub(crate) handing: usize,
    /// Handovers that are due.
    pub(crate) handovers: Vec<Handover>,
}

/// A lane whose queue is asked for, and how many of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLook {
    pub(crate) lane: LaneId,
    pub(crate) at_most: usize,
}

/// Chains and senders of lanes, as columns.
pub(super) fn columns(lanes: impl Iterator<Item = LaneId>) -> Result<(Vec<i64>, Vec<Vec<u8>>), StoreError> {
    let (mut chains, mut senders) = (Vec::new(), Vec::new());
    for lane in lanes {
        chains.push(signed(lane.chain_id)?);
        senders.push(lane.sender.to_vec());
    }
    Ok((chains, senders))
}

/// Makes the attempts of a lane that are under way due at once.
pub(super) const HASTEN_ATTEMPTS: &str = "UPDATE engine.attempts SET due_at = '-infinity' WHERE chain_id = $1 AND sender = $2 AND service = $3 AND state IN ('SIGNING', 'SIGNED', 'SENT')";

/// Makes what is under way on a lane due at once: `statement` says what of it.
pub(super) async fn look_again(
    commit: &mut PgConnection,
    service: &ServiceName,
    lane: LaneId,
    statement: &'static str,
) -> Result<(), StoreError> {
    sqlx::query(statement)
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(service.as_str())
        .execute(commit)
        .await?;
    Ok(())
}

pub(super) fn lane(row: &PgRow) -> Result<LaneId, StoreError> {
    Ok(LaneId { chain_id: unsigned(row.try_get("chain_id")?)?, sender: address(row.try_get("sender")?)? })
}

impl Store {
    /// Renews the leases of lanes that have work of this service or shall be compared, and takes those of so many more that nobody
    /// holds.
    pub(crate) async fn lease_lanes(
        &self,
        instance: &str,
        lease: Duration,
        more: i64,
    ) -> Result<Vec<LaneId>, StoreError> {
        let rows = sqlx::query(
            "WITH busy AS (
                 SELECT c.chain_id, c.sender, c.holder IS NOT DISTINCT FROM $2 AS ours FROM engine.lane_leases c
                 WHERE c.service = $1 AND (c.holder = $2 OR c.expires_at < now())
                   AND (c.resync_asked > c.resync_done
                     OR EXISTS (SELECT FROM engine.transactions t WHERE t.chain_id = c.chain_id AND t.sender = c.sender AND t.service = $1
                                AND t.state IN ('QUEUED', 'PREPARING'))
                     OR EXISTS (SELECT FROM engine.attempts a WHERE a.chain_id = c.chain_id AND a.sender = c.sender AND a.service = $1
                                AND (a.state IN ('SIGNING', 'SIGNED', 'SENT') OR a.release_pending))
                     OR EXISTS (SELECT FROM engine.handovers h WHERE h.chain_id = c.chain_id AND h.sender = c.sender AND h.service = $1
                                AND h.state IN ('SIGNING', 'HANDED', 'SENT', 'PARKED')))
                 ORDER BY c.chain_id, c.sender FOR NO KEY UPDATE SKIP LOCKED
             ), chosen AS (
                 SELECT chain_id, sender FROM busy WHERE ours UNION ALL (SELECT chain_id, sender FROM busy WHERE NOT ours LIMIT $4)
             )
             UPDATE engine.lane_leases l SET holder = $2, expires_at = now() + make_interval(secs => $3) FROM chosen c
             WHERE l.service = $1 AND l.chain_id = c.chain_id AND l.sender = c.sender RETURNING l.chain_id, l.sender",
        )
        .bind(self.service.as_str())
        .bind(instance)
        .bind(lease.as_secs_f64())
        .bind(more)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(lane).collect()
    }

    /// Lets go of every lane, so that another replica need not wait for the leases to run out.
    pub(crate) async fn give_lanes_back(&self, instance: &str) -> Result<(), StoreError> {
        let statement =
            "UPDATE engine.lane_leases SET holder = NULL, expires_at = '-infinity' WHERE service = $1 AND holder = $2";
        sqlx::query(statement).bind(self.service.as_str()).bind(instance).execute(&self.pool).await?;
        Ok(())
    }

    /// How lanes stand, in their order, with the attempts that are due.
    pub(crate) async fn look_at_lanes(&self, instance: &str, lanes: &[LaneId]) -> Result<Vec<LaneLook>, StoreError> {
        let (chains, senders) = columns(lanes.iter().copied())?;
        let rows = sqlx::query(
            "SELECT l.chain_id, l.sender, l.tenant, l.next_nonce, l.needs_approval, l.paused_at IS NOT NULL AS paused, x.open, x.lowest_open, x.signing, x.filling, x.due, l.by_provider, CASE WHEN z.waits THEN l.hold_nonce_for_s END AS move_after_s, y.handing, y.handovers_due,
                    CASE WHEN e.resync_asked > e.resync_done THEN e.resync_asked END AS resync_asked,
                    EXISTS (SELECT FROM engine.nonces h WHERE h.chain_id = l.chain_id AND h.sender = l.sender AND h.released AND h.nonce < l.next_nonce) AS holes,
                    coalesce(e.holder <> $4 AND e.expires_at >= now(), false) AS leased_elsewhere
             FROM unnest($2::bigint[], $3::bytea[]) AS n(c, s) JOIN engine.lanes l ON l.chain_id = n.c AND l.sender = n.s
             LEFT JOIN engine.lane_leases e ON e.service = $1 AND e.chain_id = l.chain_id AND e.sender = l.sender
             CROSS JOIN LATERAL (
                 SELECT count(*) FILTER (WHERE a.state IN ('SIGNING', 'SIGNED', 'SENT')) AS open, count(*) FILTER (WHERE a.state = 'SIGNING') AS signing,
                        min(a.nonce) FILTER (WHERE a.state IN ('SIGNING', 'SIGNED', 'SENT')) AS lowest_open,
                        coalesce(bool_or(a.kind = 'CANCEL' AND a.state = 'SIGNING'), false) AS filling, count(*) FILTER (WHERE a.due_at <= now()) AS due
                 FROM engine.attempts a WHERE a.chain_id = n.c AND a.sender = n.s AND a.service = $1
                   AND (a.state IN ('SIGNING', 'SIGNED', 'SENT') OR a.release_pending)) x
             CROSS JOIN LATERAL (
                 SELECT count(*) FILTER (WHERE h.state = 'SIGNING') AS handing, count(*) FILTER (WHERE h.due_at <= now()) AS handovers_due
                 FROM engine.handovers h WHERE h.chain_id = n.c AND h.sender = n.s AND h.service = $1 AND h.state IN ('SIGNING', 'HANDED', 'SENT', 'PARKED')) y
             CROSS JOIN LATERAL (
                 SELECT l.hold_nonce_for_s IS NOT NULL AND EXISTS (
                     SELECT FROM engine.transactions t WHERE t.chain_id = n.c AND t.sender = n.s AND t.state IN ('QUEUED', 'PREPARING') AND t.due_at <= now()) AS waits) z",
        )
        .bind(self.service.as_str())
        .bind(&chains)
        .bind(&senders)
        .bind(instance)
        .fetch_all(&self.pool)
        .await?;
        let mut looks: HashMap<LaneId, LaneLook> = HashMap::new();
        let (mut busy, mut handing) = (Vec::new(), Vec::new());
        for row in &rows {
            let id = lane(row)?;
            if row.try_get::<i64, _>("due")? > 0 {
                busy.push(id);
            }
            if row.try_get::<i64, _>("handovers_due")? > 0 {
                handing.push(id);
            }
            let look = LaneLook {
                tenant: Some(TenantId::new(row.try_get::<String, _>("tenant")?)),
                next_nonce: row.try_get::<Option<i64>, _>("next_nonce")?.map(unsigned).transpose()?,
                needs_approval: row.try_get("needs_approval")?,
                open: unsigned(row.try_get("open")?)? as usize,
                lowest_open: row.try_get::<Option<i64>, _>("lowest_open")?.map(unsigned).transpose()?,
                signing: unsigned(row.try_get("signing")?)? as usize,
                filling: row.try_get("filling")?,
                holes: row.try_get("holes")?,
                paused: row.try_get("paused")?,
                move_after: seconds(row, "move_after_s")?,
                resync_asked: row.try_get::<Option<i64>, _>("resync_asked")?.map(unsigned).transpose()?,
                leased_elsewhere: row.try_get("leased_elsewhere")?,
                due: Vec::new(),
                by_provider: row.try_get("by_provider")?,
                handing: unsigned(row.try_get("handing")?)? as usize,
                handovers: Vec::new(),
            };
            looks.insert(id, look);
        }
        if !busy.is_empty() {
            for (id, due) in self.due_attempts(&busy).await? {
                looks.entry(id).or_default().due.push(due);
            }
        }
        if !handing.is_empty() {
            for (id, due) in self.due_handovers(&handing).await? {
                looks.entry(id).or_default().handovers.push(due);
            }
        }
        Ok(lanes.iter().map(|id| looks.get(id).cloned().unwrap_or_default()).collect())
    }

    async fn due_attempts(&self, lanes: &[LaneId]) -> Result<Vec<(LaneId, Attempt)>, StoreError> {
        let due = format!(
            "SELECT n.c AS chain_id, n.s AS sender, {TRANSACTION}, {ATTEMPT} FROM unnest($2::bigint[], $3::bytea[]) AS n(c, s)
             CROSS JOIN LATERAL (
                 SELECT * FROM engine.attempts a WHERE a.chain_id = n.c AND a.sender = n.s AND a.service = $1
                   AND (a.state IN ('SIGNING', 'SIGNED', 'SENT') OR a.release_pending) AND a.due_at <= now() ORDER BY a.nonce, a.attempt LIMIT $4) a
             JOIN engine.transactions t ON t.tenant = a.tenant AND t.transaction_id = a.transaction_id ORDER BY a.nonce, a.attempt"
        );
        self.due(due, lanes, DUE_AT_ONCE, attempt).await
    }

    /// What of lanes is due, each with its lane: `query` says what, of each lane so many at most.
    pub(super) async fn due<T>(
        &self,
        query: String,
        lanes: &[LaneId],
        at_most: i64,
        read: impl Fn(&PgRow) -> Result<T, StoreError>,
    ) -> Result<Vec<(LaneId, T)>, StoreError> {
        let (chains, senders) = columns(lanes.iter().copied())?;
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(self.service.as_str())
            .bind(&chains)
            .bind(&senders)
            .bind(at_most)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok((lane(row)?, read(row)?))).collect()
    }

    /// What waits in the queues of lanes, in their order: the urgent first, then as it came.
    pub(crate) async fn queued(&self, looks: &[QueueLook]) -> Result<Vec<Vec<QueuedTransaction>>, StoreError> {
        let (chains, senders) = columns(looks.iter().map(|look| look.lane))?;
        let limits: Vec<i64> = looks.iter().map(|look| look.at_most as i64).collect();
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT n.place, {TRANSACTION} FROM unnest($2::bigint[], $3::bytea[], $4::bigint[]) WITH ORDINALITY AS n(c, s, at_most, place)
             CROSS JOIN LATERAL (
                 SELECT * FROM engine.transactions t WHERE t.chain_id = n.c AND t.sender = n.s AND t.service = $1 AND t.state IN ('QUEUED', 'PREPARING')
                   AND t.due_at <= now() ORDER BY t.priority, t.sequence LIMIT n.at_most) t ORDER BY n.place, t.priority, t.sequence"
        )))
        .bind(self.service.as_str())
        .bind(&chains)
        .bind(&senders)
        .bind(&limits)
        .fetch_all(&self.pool)
        .await?;
        let mut queues = vec![Vec::new(); looks.len()];
        for row in &rows {
            let place = usize::try_from(row.try_get::<i64, _>("place")? - 1).map_err(StoreError::corrupt)?;
            let queue = queues.get_mut(place).ok_or_else(|| StoreError::corrupt("a queue that was not asked for"))?;
            queue.push(transaction(row)?);
        }
        Ok(queues)
    }

    /// Every hash ever signed for the nonces, by nonce.
    pub(crate) async fn hashes_of(&self, lane: LaneId, nonces: &[u64]) -> Result<Vec<(u64, B256)>, StoreError> {
        let nonces: Vec<i64> = nonces.iter().map(|nonce| signed(*nonce)).collect::<Result<_, _>>()?;
        let rows = sqlx::query(
            "SELECT nonce, tx_hash FROM engine.attempts WHERE chain_id = $1 AND sender = $2 AND nonce = ANY($3) AND tx_hash IS NOT NULL",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(nonces)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok((unsigned(row.try_get(0)?)?, hash(row.try_get(1)?)?))).collect()
    }

    /// Requests of the lane that this database knows, from a nonce on.
    pub(crate) async fn known_requests(&self, lane: LaneId, from_nonce: u64) -> Result<Vec<RequestId>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT request_id FROM engine.attempts WHERE chain_id = $1 AND sender = $2 AND nonce >= $3",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(signed(from_nonce)?)
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(RequestId).collect())
    }

    /// The lane was compared, as it was asked for so often.
    pub(crate) async fn resynced(&self, lane: LaneId, asked: u64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE engine.lane_leases SET resync_done = greatest(resync_done, $4) WHERE service = $1 AND chain_id = $2 AND sender = $3",
        )
        .bind(self.service.as_str())
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(signed(asked)?)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Compares a lane with the chain before it sends: its next nonce is never below what the chain has seen, and everything
    /// sent is looked at again at once.
    pub(crate) async fn reconcile_lane(&self, lane: LaneId, least_next_nonce: u64) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        let row = sqlx::query(
            "SELECT tenant, next_nonce FROM engine.lanes WHERE chain_id = $1 AND sender = $2 FOR NO KEY UPDATE",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .fetch_one(&mut *commit)
        .await?;
        let stored: Option<i64> = row.try_get("next_nonce")?;
        let least = signed(least_next_nonce)?;
        if stored.is_none_or(|stored| stored < least) {
            sqlx::query("UPDATE engine.lanes SET next_nonce = $3 WHERE chain_id = $1 AND sender = $2")
                .bind(signed(lane.chain_id)?)
                .bind(lane.sender.as_slice())
                .bind(least)
                .execute(&mut *commit)
                .await?;
            if let Some(stored) = stored {
                crate::metric_definitions::used_outside();
                let body = json!({"stored_next_nonce": stored, "chain_next_nonce": least});
                let (tenant, subject) = (row.try_get("tenant")?, lane.to_string());
                leaf(&mut commit, tenant, "lane.resync", self.service.as_str(), &subject, body).await?;
            }
        }
        look_again(&mut commit, &self.service, lane, HASTEN_ATTEMPTS).await?;
        commit.commit().await?;
        Ok(())
    }
}
