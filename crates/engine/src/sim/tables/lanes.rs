//! Lanes: leases, how they stand, binding, comparing with the chain.

use super::{AttemptRow, Done, LeaseRow, Phase, Tables};
use crate::{
    error::StoreError,
    model::{LaneId, RequestId, ServiceName, TransactionId},
    sim::bug::Bug,
    states::TransactionState,
    store::{
        Adoption, Attempt, AttemptKind, BindOrder, Forgotten, LaneLook, Numbers, QueueLook, QueuedTransaction,
        Standing, owners,
    },
};
use alloy::primitives::B256;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

const DUE_AT_ONCE: usize = 500;

/// Where each lane stood: what a number is taken from.
pub(in crate::sim) type Snapshot = BTreeMap<LaneId, Option<u64>>;

fn waits(state: TransactionState) -> bool {
    matches!(state, TransactionState::Queued | TransactionState::Preparing)
}

impl Tables {
    fn is_live(row: &AttemptRow, service: &ServiceName, lane: LaneId) -> bool {
        row.lane == lane && row.service == *service && (row.phase.is_open() || row.release_pending)
    }

    pub(crate) fn lease_lanes(
        &mut self,
        service: &ServiceName,
        instance: &str,
        lease: Duration,
        more: i64,
    ) -> Done<Vec<LaneId>> {
        let now = Instant::now();
        let (mut leased, mut taken) = (Vec::new(), 0);
        let leases = self.leases.iter_mut().filter(|((of, _), _)| of == service);
        for ((_, lane), row) in leases {
            let ours = row.holder.as_deref() == Some(instance);
            let free = row.expires_at < now || row.holder.is_none();
            let queued =
                self.transactions.values().any(|one| one.lane == *lane && one.service == *service && waits(one.state));
            let work = queued || self.attempts.values().any(|one| Self::is_live(one, service, *lane));
            let handed = |one: &super::HandoverRow| one.lane == *lane && one.service == *service && one.place.is_live();
            let work = work || self.handovers.values().any(handed);
            let work = work || row.resync_asked > row.resync_done;
            if work && (ours || (free && taken < more)) {
                taken += i64::from(!ours);
                row.holder = Some(instance.to_owned());
                row.expires_at = now + lease;
                leased.push(*lane);
            }
        }
        Ok(leased)
    }

    pub(crate) fn look_at_lanes(
        &mut self,
        service: &ServiceName,
        instance: &str,
        lanes: &[LaneId],
    ) -> Done<Vec<LaneLook>> {
        let now = Instant::now();
        let look = |lane: &LaneId| {
            let Some(row) = self.lanes.get(lane) else { return LaneLook::default() };
            let live: Vec<(&RequestId, &AttemptRow)> =
                self.attempts.iter().filter(|(_, one)| Self::is_live(one, service, *lane)).collect();
            let mut due: Vec<_> = live.iter().filter(|(_, one)| one.due_at <= now).collect();
            due.sort_by_key(|(_, one)| (one.nonce, one.number));
            let signing = |one: &AttemptRow| one.phase == Phase::Signing;
            let handing = |one: &super::HandoverRow| one.place == super::Place::At(Standing::Signing);
            let lease = self.leases.get(&(service.clone(), *lane));
            let elsewhere = |row: &LeaseRow| {
                row.holder.as_deref().is_some_and(|holder| holder != instance) && row.expires_at >= now
            };
            LaneLook {
                tenant: Some(row.tenant.clone()),
                next_nonce: row.next_nonce,
                needs_approval: row.needs_approval,
                open: live.iter().filter(|(_, one)| one.phase.is_open()).count(),
                lowest_open: live.iter().filter(|(_, one)| one.phase.is_open()).map(|(_, one)| one.nonce).min(),
                signing: live.iter().filter(|(_, one)| signing(one)).count(),
                filling: live.iter().any(|(_, one)| one.kind == AttemptKind::Cancel && signing(one)),
                holes: row.next_nonce.is_some_and(|next| !self.released_below(*lane, next).is_empty()),
                paused: row.paused,
                move_after: row.hold_nonce_for.filter(|_| self.anything_waits(*lane)),
                resync_asked: lease.filter(|row| row.resync_asked > row.resync_done).map(|row| row.resync_asked),
                leased_elsewhere: lease.is_some_and(elsewhere),
                due: due.into_iter().take(DUE_AT_ONCE).map(|(id, _)| self.attempt_view(**id)).collect(),
                by_provider: row.by_provider,
                handing: self.live_handovers(service, *lane).iter().filter(|(_, one)| handing(one)).count(),
                handovers: self.due_handovers(service, *lane),
            }
        };
        let mut looks: Vec<LaneLook> = lanes.iter().map(look).collect();
        if self.bug == Some(Bug::NewRequestIdOnRetry) {
            for attempt in looks.iter_mut().flat_map(|look| &mut look.due).filter(|one| one.tries > 0) {
                attempt.request_id = RequestId::of_attempt(attempt.transaction.id, 1_000 + attempt.tries);
            }
        }
        Ok(looks)
    }

    fn released_below(&self, lane: LaneId, next: u64) -> Vec<u64> {
        self.nonces
            .range((lane, 0)..(lane, next))
            .filter(|(_, row)| row.released)
            .map(|((_, nonce), _)| *nonce)
            .collect()
    }

    pub(crate) fn queued(&mut self, service: &ServiceName, looks: &[QueueLook]) -> Done<Vec<Vec<QueuedTransaction>>> {
        let now = Instant::now();
        let queue = |look: &QueueLook| {
            let mut waiting: Vec<_> = self
                .transactions
                .iter()
                .filter(|(_, row)| {
                    row.lane == look.lane && row.service == *service && waits(row.state) && row.due_at <= now
                })
                .collect();
            waiting.sort_by_key(|(_, row)| (row.priority, row.sequence));
            waiting.into_iter().take(look.at_most).map(|(id, _)| self.queued_view(*id)).collect()
        };
        Ok(looks.iter().map(queue).collect())
    }

    pub(crate) fn hashes_of(&mut self, _: &ServiceName, lane: LaneId, nonces: &[u64]) -> Done<Vec<(u64, B256)>> {
        let of = self.attempts.values().filter(|one| one.lane == lane && nonces.contains(&one.nonce));
        Ok(of.filter_map(|one| Some((one.nonce, one.tx_hash?))).collect())
    }

    pub(crate) fn known_requests(&mut self, _: &ServiceName, lane: LaneId, from_nonce: u64) -> Done<Vec<RequestId>> {
        let of = self.attempts.iter().filter(|(_, one)| one.lane == lane && one.nonce >= from_nonce);
        Ok(of.map(|(id, _)| *id).collect())
    }

    pub(crate) fn forgotten(
        &mut self,
        service: &ServiceName,
        lane: LaneId,
        requests: &[RequestId],
    ) -> Done<Vec<Forgotten>> {
        let live = |id: TransactionId| {
            self.attempts.values().any(|one| one.transaction_id == id && Self::is_live(one, service, lane))
        };
        let under_way = |state| matches!(state, TransactionState::Signing | TransactionState::Broadcasting);
        let mut of: Vec<_> = self
            .transactions
            .iter()
            .filter(|(id, row)| {
                let queued = row.lane == lane && row.service == *service && waits(row.state);
                queued || (under_way(row.state) && live(**id))
            })
            .collect();
        of.sort_by_key(|(_, row)| row.sequence);
        let transactions: Vec<QueuedTransaction> = of.into_iter().map(|(id, _)| self.queued_view(*id)).collect();
        Ok(owners(&transactions, requests))
    }

    pub(crate) fn adopt(&mut self, service: &ServiceName, lane: LaneId, adoptions: &[Adoption]) -> Done<()> {
        let Some(mut next) = self.lanes.get(&lane).map(|row| row.next_nonce.unwrap_or(0)) else {
            return Err(StoreError::Database(sqlx::Error::RowNotFound));
        };
        let mut latest: BTreeMap<TransactionId, &Adoption> = BTreeMap::new();
        for adoption in adoptions {
            let Forgotten { transaction, request_id, number } = &adoption.forgotten;
            let owner = self.nonces.get(&(lane, adoption.nonce));
            if owner.is_some_and(|row| !row.released && row.transaction_id != transaction.id) {
                continue;
            }
            let row = super::NonceRow { transaction_id: transaction.id, released: false };
            self.nonces.insert((lane, adoption.nonce), row);
            let row = AttemptRow {
                transaction_id: transaction.id,
                number: *number,
                service: service.clone(),
                lane,
                nonce: adoption.nonce,
                kind: adoption.kind,
                replaces: None,
                gas_limit: adoption.gas_limit,
                fees: adoption.fees,
                phase: Phase::Sent,
                held: false,
                hold: None,
                release_pending: false,
                raw: Some(adoption.raw.clone()),
                tx_hash: Some(adoption.tx_hash),
                inclusion: None,
                tries: 0,
                due_at: self.begin,
                created_at: Instant::now(),
            };
            if !self.attempts.contains_key(request_id) {
                self.insert_attempt(*request_id, row)?;
            }
            next = next.max(adoption.nonce + 1);
            latest.insert(transaction.id, adoption);
            let body = json!({"nonce": adoption.nonce, "request_id": request_id, "tx_hash": adoption.tx_hash});
            self.leaf("transaction.adopted", transaction.id, body);
        }
        for (id, adoption) in latest {
            if self.transactions.get(&id).is_some_and(|row| waits(row.state)) {
                self.become_state(id, TransactionState::Signing)?;
            }
            let under_way = [TransactionState::Signing, TransactionState::Broadcasting];
            if self.transactions.get(&id).is_some_and(|row| under_way.contains(&row.state)) {
                let row = self.become_state(id, TransactionState::Broadcasting)?;
                row.sub_status = "adopted".into();
                row.nonce = Some(adoption.nonce);
                row.tx_hash = Some(adoption.tx_hash);
                let body = json!({"state": "BROADCASTING", "sub_status": "adopted", "nonce": adoption.nonce});
                self.tell("engine.transaction.pending", id, body);
            }
        }
        if let Some(row) = self.lanes.get_mut(&lane) {
            row.next_nonce = Some(next);
        }
        Ok(())
    }

    pub(crate) fn reconcile_lane(&mut self, service: &ServiceName, lane: LaneId, least: u64) -> Done<()> {
        let Some(row) = self.lanes.get_mut(&lane) else {
            return Err(StoreError::Database(sqlx::Error::RowNotFound));
        };
        let stored = row.next_nonce;
        if stored.is_none_or(|stored| stored < least) {
            row.next_nonce = Some(least);
            if let Some(stored) = stored {
                let body = json!({"stored_next_nonce": stored, "chain_next_nonce": least});
                self.leaf("lane.resync", lane, body);
            }
        }
        for one in self.attempts.values_mut() {
            if one.lane == lane && one.service == *service && one.phase.is_open() {
                one.due_at = self.begin;
            }
        }
        Ok(())
    }

    /// Where the lanes stand now.
    pub(in crate::sim) fn snapshot(&self) -> Snapshot {
        self.lanes.iter().map(|(lane, row)| (*lane, row.next_nonce)).collect()
    }

    pub(crate) fn bind(&mut self, service: &ServiceName, orders: &[BindOrder]) -> Done<Vec<Vec<Attempt>>> {
        let snapshot = self.stale.take().unwrap_or_else(|| self.snapshot());
        self.bind_from(service, orders, &snapshot)
    }

    /// Binds with numbers of a snapshot: of this moment, unless a defect is put back.
    fn bind_from(
        &mut self,
        service: &ServiceName,
        orders: &[BindOrder],
        snapshot: &Snapshot,
    ) -> Done<Vec<Vec<Attempt>>> {
        let with_holes: BTreeSet<LaneId> = orders.iter().filter(|order| order.holes).map(|order| order.lane).collect();
        let mut numbers: BTreeMap<LaneId, Numbers> = BTreeMap::new();
        for order in orders {
            let paused = self.lanes.get(&order.lane).is_some_and(|row| row.paused);
            if let Some(Some(next)) = snapshot.get(&order.lane).filter(|_| !paused) {
                let holes =
                    if with_holes.contains(&order.lane) { self.released_below(order.lane, *next) } else { Vec::new() };
                let holes: Vec<i64> = holes.into_iter().map(|nonce| nonce as i64).collect();
                numbers.insert(order.lane, Numbers { next: *next as i64, holes: holes.into_iter() });
            }
        }
        let now = Instant::now();
        let mut bound = Vec::with_capacity(orders.len());
        for order in orders {
            let mut attempts = Vec::new();
            for binding in &order.bindings {
                let id = binding.transaction.id;
                let queued = self.transactions.get(&id).is_some_and(|row| waits(row.state));
                let Some(numbers) = numbers.get_mut(&order.lane).filter(|_| queued) else { continue };
                let nonce = numbers.take() as u64;
                let taken = self.nonces.get(&(order.lane, nonce)).is_some_and(|row| !row.released);
                if taken {
                    return Err(StoreError::corrupt("a nonce that a lane would give belongs to another transaction"));
                }
                self.nonces.insert((order.lane, nonce), super::NonceRow { transaction_id: id, released: false });
                let number = self.last_number(id) + 1;
                let request_id = RequestId::of_attempt(id, number);
                let row = AttemptRow {
                    transaction_id: id,
                    number,
                    service: service.clone(),
                    lane: order.lane,
                    nonce,
                    kind: AttemptKind::Call,
                    replaces: None,
                    gas_limit: binding.gas_limit,
                    fees: binding.fees,
                    phase: Phase::Signing,
                    held: false,
                    hold: None,
                    release_pending: false,
                    raw: None,
                    tx_hash: None,
                    inclusion: None,
                    tries: 0,
                    due_at: self.begin,
                    created_at: now,
                };
                self.insert_attempt(request_id, row)?;
                let row = self.become_state(id, TransactionState::Signing)?;
                row.sub_status = String::new();
                row.nonce = Some(nonce);
                row.tries = 0;
                if let Some(from) = row.moved_from.take() {
                    let body = json!({"from_nonce": from, "to_nonce": nonce, "request_id": request_id});
                    self.leaf("transaction.moved", id, body);
                }
                attempts.push(binding.attempt(nonce, request_id));
            }
            bound.push(attempts);
        }
        for (lane, numbers) in numbers {
            if let Some(row) = self.lanes.get_mut(&lane) {
                row.next_nonce = Some(numbers.next as u64);
            }
        }
        Ok(bound)
    }

    /// Whether a transaction of any service waits for a nonce of the lane.
    fn anything_waits(&self, lane: LaneId) -> bool {
        let now = Instant::now();
        self.transactions.values().any(|row| row.lane == lane && waits(row.state) && row.due_at <= now)
    }

    pub(super) fn last_number(&self, id: crate::model::TransactionId) -> u32 {
        let attempts = self.attempts.values().filter(|one| one.transaction_id == id).map(|one| one.number);
        let handovers = self.handovers.values().filter(|one| one.transaction_id == id).map(|one| one.number);
        attempts.chain(handovers).max().unwrap_or(0)
    }
}
