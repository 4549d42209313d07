//! Calls handed over to providers that broadcast by themselves.

use super::{Done, Tables};
use crate::{
    custody::Held,
    model::{LaneId, RequestId, ServiceName, TransactionId},
    sim::bug::Bug,
    states::TransactionState,
    store::{Attempt, Handover, HandoverEnding, Heard, Inclusion, PARKED_AGAIN, Refusal, Standing},
};
use alloy::primitives::B256;
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

const DUE_AT_ONCE: usize = 200;

/// Every state of a handover, as the column holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    At(Standing),
    Mined,
    Done,
    Dropped,
    Refused,
}

#[derive(Debug, Clone)]
pub(crate) struct HandoverRow {
    pub(crate) transaction_id: TransactionId,
    pub(crate) number: u32,
    pub(crate) service: ServiceName,
    pub(crate) lane: LaneId,
    pub(crate) place: Place,
    pub(crate) held: bool,
    pub(crate) hold: Option<Held>,
    pub(crate) provider_id: String,
    pub(crate) tx_hash: Option<B256>,
    /// In the order in which they were told.
    pub(crate) hashes: Vec<B256>,
    pub(crate) chain_nonce: Option<u64>,
    pub(crate) inclusion: Option<Inclusion>,
    pub(crate) tries: u32,
    pub(crate) due_at: Instant,
    pub(crate) created_at: Instant,
}

// === impl Place ===

impl Place {
    /// Somebody has to look at it.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::At(_))
    }
}

// === impl Tables ===

impl Tables {
    pub(in crate::sim) fn handover_view(&self, id: RequestId) -> Option<Handover> {
        let row = self.handovers.get(&id)?;
        let Place::At(standing) = row.place else { return None };
        let mut hashes = row.hashes.clone();
        hashes.sort_by_key(|hash| Some(*hash) == row.tx_hash);
        Some(Handover {
            transaction: self.queued_view(row.transaction_id),
            request_id: id,
            standing,
            provider_id: row.provider_id.clone(),
            hashes,
            chain_nonce: row.chain_nonce,
            tries: row.tries,
            age: row.created_at.elapsed(),
        })
    }

    pub(super) fn live_handovers(&self, service: &ServiceName, lane: LaneId) -> Vec<(&RequestId, &HandoverRow)> {
        let live = |row: &HandoverRow| row.lane == lane && row.service == *service && row.place.is_live();
        self.handovers.iter().filter(|(_, row)| live(row)).collect()
    }

    pub(super) fn due_handovers(&self, service: &ServiceName, lane: LaneId) -> Vec<Handover> {
        let now = Instant::now();
        let mut due = self.live_handovers(service, lane);
        due.retain(|(_, row)| row.due_at <= now);
        due.sort_by_key(|(id, row)| (row.due_at, row.created_at, **id));
        due.truncate(DUE_AT_ONCE);
        due.sort_by_key(|(_, row)| {
            let transaction = &self.transactions[&row.transaction_id];
            (transaction.priority, transaction.sequence)
        });
        due.iter().filter_map(|(id, _)| self.handover_view(**id)).collect()
    }

    /// The checks of a handover's row, and its triggers, asked after each change of one.
    fn fits(&self, id: RequestId) -> Done<()> {
        let Some(row) = self.handovers.get(&id) else { return Ok(()) };
        let was_sent = matches!(row.place, Place::At(Standing::Sent) | Place::Mined | Place::Done | Place::Dropped);
        if was_sent && row.tx_hash.is_none() {
            return super::broken(format!("handover {id} was sent without a hash"));
        }
        if row.place == Place::Refused && !row.hashes.is_empty() {
            return super::broken(format!("handover {id} is refused, and was sent"));
        }
        let open = |one: &&HandoverRow| {
            one.transaction_id == row.transaction_id && !matches!(one.place, Place::Refused | Place::Dropped)
        };
        if self.handovers.values().filter(open).count() > 1 {
            return super::broken(format!("transaction {} is handed over twice", row.transaction_id));
        }
        Ok(())
    }

    pub(crate) fn broadcasts(&mut self, service: &ServiceName, lane: LaneId, by_provider: bool) -> Done<()> {
        let begin = self.begin;
        if let Some(row) = self.lanes.get_mut(&lane)
            && row.by_provider != by_provider
        {
            row.by_provider = by_provider;
            self.leaf("lane.broadcasts", lane, json!({"by_provider": by_provider}));
        }
        for one in self.attempts.values_mut() {
            if one.lane == lane && one.service == *service && one.phase.is_open() {
                one.due_at = begin;
            }
        }
        for one in self.handovers.values_mut() {
            if one.lane == lane && one.service == *service && one.place.is_live() {
                one.due_at = begin;
            }
        }
        Ok(())
    }

    pub(crate) fn hand_over(
        &mut self,
        service: &ServiceName,
        lane: LaneId,
        ids: &[TransactionId],
    ) -> Done<Vec<Handover>> {
        if !self.lanes.get(&lane).is_some_and(|row| row.by_provider && !row.paused) {
            return Ok(Vec::new());
        }
        let mut written = Vec::new();
        for id in ids {
            let waits = |state| matches!(state, TransactionState::Queued | TransactionState::Preparing);
            if !self.transactions.get(id).is_some_and(|row| waits(row.state)) {
                continue;
            }
            if self.transactions[id].nonce.is_some() {
                return super::broken(format!("transaction {id} has a nonce and is not handed over"));
            }
            let number = self.last_number(*id) + 1;
            let request_id = RequestId::of_attempt(*id, number);
            let row = HandoverRow {
                transaction_id: *id,
                number,
                service: service.clone(),
                lane,
                place: Place::At(Standing::Signing),
                held: false,
                hold: None,
                provider_id: String::new(),
                tx_hash: None,
                hashes: Vec::new(),
                chain_nonce: None,
                inclusion: None,
                tries: 0,
                due_at: self.begin,
                created_at: Instant::now(),
            };
            self.handovers.insert(request_id, row);
            self.fits(request_id)?;
            let row = self.become_state(*id, TransactionState::Signing)?;
            row.sub_status = String::new();
            row.tries = 0;
            written.push(request_id);
        }
        written.sort_by_key(|id| {
            let transaction = &self.transactions[&self.handovers[id].transaction_id];
            (transaction.priority, transaction.sequence)
        });
        Ok(written.into_iter().filter_map(|id| self.handover_view(id)).collect())
    }

    /// A defect: what the provider says is believed.
    fn failed_at_its_word(&mut self, of: &Handover) -> Done<()> {
        if let Some(row) = self.handovers.get_mut(&of.request_id).filter(|row| row.tx_hash.is_some()) {
            row.place = Place::Dropped;
        }
        let refusal = Refusal {
            tenant: of.transaction.tenant.clone(),
            operation_id: of.transaction.operation_id,
            transaction_id: of.transaction.id,
            state: TransactionState::Failed,
            sub_status: "dropped",
            failure: crate::flow::Failure::new("PROVIDER_FAILED", "simulated"),
        };
        self.settle(vec![(refusal, None)], &[TransactionState::Signing, TransactionState::Broadcasting])
    }

    pub(crate) fn heard(&mut self, service: &ServiceName, of: &Handover, heard: &Heard) -> Done<()> {
        if self.bug == Some(Bug::HandedOverAgain) && heard.standing == Standing::Signing && of.tries > 0 {
            return self.requeue_handover(service, of, heard.pause);
        }
        if self.bug == Some(Bug::FailedAtTheProvidersWord) && heard.sub_status == "provider_failed" {
            return self.failed_at_its_word(of);
        }
        let stands = |row: &&mut HandoverRow| row.place == Place::At(of.standing);
        let Some(row) = self.handovers.get_mut(&of.request_id).filter(stands) else { return Ok(()) };
        row.place = Place::At(heard.standing);
        if !heard.provider_id.is_empty() {
            row.provider_id.clone_from(&heard.provider_id);
        }
        row.tx_hash = heard.tx_hash.or(row.tx_hash);
        row.hashes.extend(heard.tx_hash.filter(|hash| !row.hashes.contains(hash)));
        row.chain_nonce = heard.chain_nonce.or(row.chain_nonce);
        row.held |= heard.hold.is_some();
        row.hold = if heard.is_answer { heard.hold } else { row.hold };
        row.tries = if heard.is_answer { 0 } else { row.tries + 1 };
        row.due_at = Instant::now() + heard.pause;
        let id = row.transaction_id;
        self.fits(of.request_id)?;
        let before = self.transactions[&id].clone();
        if !matches!(before.state, TransactionState::Signing | TransactionState::Broadcasting) {
            return Ok(());
        }
        let state = if heard.standing == Standing::Signing { before.state } else { TransactionState::Broadcasting };
        let row = self.become_state(id, state)?;
        if heard.is_answer || !heard.sub_status.is_empty() {
            row.sub_status = heard.sub_status.to_owned();
        }
        row.tx_hash = heard.tx_hash.or(row.tx_hash);
        row.note(heard.action(), &heard.detail);
        let changed = (before.state, &before.sub_status, before.tx_hash) != (row.state, &row.sub_status, row.tx_hash);
        if changed && state == TransactionState::Broadcasting {
            let body = json!({"state": "BROADCASTING", "sub_status": row.sub_status, "nonce": null});
            self.tell("engine.transaction.pending", id, body);
        }
        Ok(())
    }

    pub(crate) fn end_handover(
        &mut self,
        _: &ServiceName,
        of: &Handover,
        ending: HandoverEnding,
        refusal: Refusal,
    ) -> Done<()> {
        let stands = |row: &&mut HandoverRow| row.place == Place::At(of.standing);
        let Some(row) = self.handovers.get_mut(&of.request_id).filter(stands) else { return Ok(()) };
        row.place = match ending {
            HandoverEnding::Refused => Place::Refused,
            HandoverEnding::Dropped => Place::Dropped,
            HandoverEnding::Parked => Place::At(Standing::Parked),
        };
        row.due_at = Instant::now() + PARKED_AGAIN;
        let id = row.transaction_id;
        self.fits(of.request_id)?;
        self.settle(vec![(refusal, None)], &[TransactionState::Signing, TransactionState::Broadcasting])?;
        let body = json!({"request_id": of.request_id, "handover": ending.as_str()});
        self.leaf("transaction.refused", id, body);
        Ok(())
    }

    pub(crate) fn requeue_handover(&mut self, _: &ServiceName, of: &Handover, pause: Duration) -> Done<()> {
        let stands = |row: &&mut HandoverRow| row.place == Place::At(Standing::Signing);
        let Some(row) = self.handovers.get_mut(&of.request_id).filter(stands) else { return Ok(()) };
        row.place = Place::Refused;
        self.fits(of.request_id)?;
        self.requeue(of.transaction.id, pause)
    }

    pub(crate) fn requeue_attempt(
        &mut self,
        _: &ServiceName,
        lane: LaneId,
        attempt: &Attempt,
        pause: Duration,
    ) -> Done<()> {
        let signing = |row: &&mut super::AttemptRow| row.phase == super::Phase::Signing;
        let Some(row) = self.attempts.get_mut(&attempt.request_id).filter(signing) else { return Ok(()) };
        row.phase = super::Phase::Refused;
        self.requeue(attempt.transaction.id, pause)?;
        self.release_nonce(lane, attempt.nonce)?;
        if let Some(row) = self.lanes.get_mut(&lane)
            && row.next_nonce == Some(attempt.nonce + 1)
        {
            row.next_nonce = Some(attempt.nonce);
        }
        Ok(())
    }

    fn requeue(&mut self, id: TransactionId, pause: Duration) -> Done<()> {
        if self.transactions.get(&id).is_some_and(|row| row.state == TransactionState::Signing) {
            let row = self.become_state(id, TransactionState::Queued)?;
            row.sub_status = "mode_changed".to_owned();
            (row.nonce, row.tx_hash) = (None, None);
            row.due_at = Instant::now() + pause;
            row.note("mode_changed", "");
        }
        Ok(())
    }

    pub(crate) fn not_withdrawn(&mut self, _: &ServiceName, of: &Handover, why: &str) -> Done<()> {
        if let Some(row) = self.transactions.get_mut(&of.transaction.id).filter(|row| row.cancel_requested) {
            row.cancel_requested = false;
            row.note("withdraw", why);
        }
        Ok(())
    }

    /// Records inclusions of handovers, under any hash that was told. Returns the lanes that moved.
    pub(super) fn include_handovers(
        &mut self,
        service: &ServiceName,
        inclusions: &[Inclusion],
    ) -> Done<BTreeSet<LaneId>> {
        let mut lanes = BTreeSet::new();
        for inclusion in inclusions {
            let mined = &inclusion.mined;
            let of = |row: &HandoverRow| row.service == *service && row.hashes.contains(&mined.tx_hash);
            let Some((id, row)) = self.handovers.iter_mut().find(|(_, row)| of(row)) else { continue };
            let moves = match row.place {
                Place::At(_) => true,
                Place::Mined => row
                    .inclusion
                    .as_ref()
                    .is_none_or(|old| (old.mined.block_hash, old.mined.tx_hash) != (mined.block_hash, mined.tx_hash)),
                Place::Done | Place::Dropped | Place::Refused => false,
            };
            if !moves {
                continue;
            }
            row.place = Place::Mined;
            row.tx_hash = Some(mined.tx_hash);
            row.inclusion = Some(inclusion.clone());
            lanes.insert(row.lane);
            let (id, transaction_id) = (*id, row.transaction_id);
            self.fits(id)?;
            use TransactionState::{Broadcasting, Confirming, DeadLetter, Signing};
            if !matches!(self.transactions[&transaction_id].state, Signing | Broadcasting | Confirming | DeadLetter) {
                continue;
            }
            let transaction = self.become_state(transaction_id, Confirming)?;
            transaction.sub_status = "included".into();
            transaction.tx_hash = Some(mined.tx_hash);
            transaction.block_number = Some(mined.block_number);
            transaction.gas_used = Some(mined.gas_used);
            let body = json!({"state": "CONFIRMING", "sub_status": "included", "nonce": null});
            self.tell("engine.transaction.pending", transaction_id, body);
        }
        Ok(lanes)
    }

    /// Takes back handovers whose blocks disappeared; which transactions those are of.
    pub(super) fn retract_handovers(
        &mut self,
        service: &ServiceName,
        chain_id: u64,
        blocks: &[B256],
    ) -> Vec<TransactionId> {
        let mut gone = Vec::new();
        for row in self.handovers.values_mut() {
            let here = row.service == *service && row.lane.chain_id == chain_id && row.place == Place::Mined;
            let block = row.inclusion.as_ref().map(|inclusion| inclusion.mined.block_hash);
            if here && block.is_some_and(|block| blocks.contains(&block)) {
                row.place = Place::At(Standing::Sent);
                row.inclusion = None;
                row.tries = 0;
                row.due_at = self.begin;
                gone.push(row.transaction_id);
            }
        }
        gone
    }

    /// Nothing of what was handed over can be included any more.
    pub(super) fn handovers_are_over(&self, id: TransactionId) -> bool {
        let mut of = self.handovers.values().filter(|row| row.transaction_id == id);
        of.all(|row| matches!(row.place, Place::Refused | Place::Dropped))
    }
}
