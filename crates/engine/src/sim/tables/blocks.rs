//! Inclusion, finality and reorgs.

use super::{AttemptRow, Done, HandoverRow, Phase, Place, Tables};
use crate::{
    model::{LaneId, RequestId, ServiceName},
    sim::bug::Bug,
    states::TransactionState,
    store::{AttemptKind, FinalAttempt, Finished, Inclusion},
};
use alloy::primitives::B256;
use serde_json::json;
use std::collections::BTreeSet;

impl Tables {
    pub(crate) fn our_hashes(&mut self, service: &ServiceName, hashes: &[B256]) -> Done<Vec<B256>> {
        let newest_only = self.bug == Some(Bug::OnlyTheNewestHashIsWatched);
        let watched = self
            .attempts
            .values()
            .filter(|one| one.service == *service && !(newest_only && one.phase == Phase::Superseded));
        let mut ours: Vec<B256> = watched.filter_map(|one| one.tx_hash).filter(|hash| hashes.contains(hash)).collect();
        let handed = self.handovers.values().filter(|one| one.service == *service).flat_map(|one| &one.hashes);
        ours.extend(handed.filter(|hash| hashes.contains(hash)));
        Ok(ours)
    }

    pub(crate) fn include(&mut self, service: &ServiceName, inclusions: &[Inclusion]) -> Done<BTreeSet<LaneId>> {
        let mut included: Vec<RequestId> = Vec::new();
        for inclusion in inclusions {
            let hash = inclusion.mined.tx_hash;
            let found = self.attempts.iter_mut().find(|(_, one)| one.tx_hash == Some(hash) && one.service == *service);
            let Some((id, row)) = found else { continue };
            let moves = match row.phase {
                Phase::Signed | Phase::Sent | Phase::Superseded | Phase::Sealed => true,
                Phase::Mined => {
                    row.inclusion.as_ref().is_none_or(|old| old.mined.block_hash != inclusion.mined.block_hash)
                }
                Phase::Signing | Phase::Done | Phase::Refused => false,
            };
            if moves {
                row.phase = Phase::Mined;
                row.inclusion = Some(inclusion.clone());
                included.push(*id);
            }
        }
        let mut lanes = BTreeSet::new();
        for id in included.clone() {
            let row = self.attempts[&id].clone();
            lanes.insert(row.lane);
            let goes_on = self.bug == Some(Bug::OvertakenGoesOn);
            for (other, one) in self.attempts.iter_mut().filter(|_| !goes_on) {
                let same = one.lane == row.lane && one.nonce == row.nonce && one.service == *service;
                if same && !included.contains(other) && (one.phase.is_open() || one.phase == Phase::Mined) {
                    one.phase = if one.raw.is_none() { Phase::Refused } else { Phase::Superseded };
                    one.inclusion = None;
                }
            }
            use TransactionState::{Broadcasting, Confirming, DeadLetter, Signing};
            let of = &self.transactions[&row.transaction_id];
            let moves = match of.state {
                _ if row.kind == AttemptKind::Cancel && of.nonce != Some(row.nonce) => false,
                Signing | Broadcasting | Confirming => true,
                DeadLetter => row.kind != AttemptKind::Cancel,
                _ => false,
            };
            let Some(mined) = row.inclusion.map(|inclusion| inclusion.mined).filter(|_| moves) else { continue };
            let transaction = self.become_state(row.transaction_id, Confirming)?;
            transaction.sub_status = "included".into();
            transaction.tx_hash = row.tx_hash;
            transaction.nonce = Some(row.nonce);
            transaction.block_number = Some(mined.block_number);
            transaction.gas_used = Some(mined.gas_used);
            let body = json!({"state": "CONFIRMING", "sub_status": "included", "nonce": row.nonce});
            self.tell("engine.transaction.pending", row.transaction_id, body);
        }
        lanes.extend(self.include_handovers(service, inclusions)?);
        Ok(lanes)
    }

    pub(crate) fn mined_blocks(&mut self, service: &ServiceName, chain_id: u64) -> Done<Vec<(u64, B256)>> {
        let mined = self
            .attempts
            .values()
            .filter(|one| one.service == *service && one.lane.chain_id == chain_id && one.phase == Phase::Mined);
        let handed = self
            .handovers
            .values()
            .filter(|one| one.service == *service && one.lane.chain_id == chain_id && one.place == Place::Mined);
        let blocks: BTreeSet<(u64, B256)> = mined
            .filter_map(|one| one.inclusion.as_ref())
            .chain(handed.filter_map(|one| one.inclusion.as_ref()))
            .map(|inclusion| (inclusion.mined.block_number, inclusion.mined.block_hash))
            .collect();
        Ok(blocks.into_iter().collect())
    }

    pub(crate) fn retract(&mut self, service: &ServiceName, chain_id: u64, blocks: &[B256]) -> Done<usize> {
        if self.bug == Some(Bug::NoRetraction) {
            return Ok(0);
        }
        let begin = self.begin;
        let mut gone = Vec::new();
        for row in self.attempts.values_mut() {
            let here = row.service == *service && row.lane.chain_id == chain_id && row.phase == Phase::Mined;
            let block = row.inclusion.as_ref().map(|inclusion| inclusion.mined.block_hash);
            if here && block.is_some_and(|block| blocks.contains(&block)) {
                row.phase = Phase::Sent;
                row.due_at = begin;
                row.inclusion = None;
                gone.push((row.transaction_id, (row.kind == AttemptKind::Cancel).then_some(row.nonce)));
            }
        }
        gone.extend(self.retract_handovers(service, chain_id, blocks).into_iter().map(|id| (id, None)));
        for (id, cancels) in &gone {
            let of = &self.transactions[id];
            let elsewhere = cancels.is_some() && of.nonce != *cancels;
            if of.state != TransactionState::Confirming || elsewhere {
                continue;
            }
            let row = self.become_state(*id, TransactionState::Broadcasting)?;
            row.sub_status = "reorged".into();
            row.block_number = None;
            row.gas_used = None;
            row.note("reorged", "");
            let body = json!({"state": TransactionState::Broadcasting, "sub_status": "reorged"});
            self.tell("engine.transaction.retracted", *id, body);
        }
        Ok(gone.len())
    }

    pub(crate) fn final_attempts(
        &mut self,
        service: &ServiceName,
        chain_id: u64,
        blocks: &[B256],
        limit: i64,
    ) -> Done<Vec<FinalAttempt>> {
        let stands = |inclusion: &&Inclusion| blocks.contains(&inclusion.mined.block_hash);
        let mined = self
            .attempts
            .iter()
            .filter(|(_, one)| one.service == *service && one.lane.chain_id == chain_id && one.phase == Phase::Mined);
        let attempts = mined.filter_map(|(id, one)| {
            let transaction = &self.transactions[&one.transaction_id];
            Some(FinalAttempt {
                request_id: id.0,
                tenant: transaction.tenant.to_string(),
                operation_id: transaction.operation_id.0,
                transaction_id: one.transaction_id,
                is_cancel: one.kind == AttemptKind::Cancel,
                settles: one.kind != AttemptKind::Cancel || transaction.nonce == Some(one.nonce),
                inclusion: one.inclusion.as_ref().filter(stands)?.clone(),
                sender: transaction.lane.sender,
                target: transaction.target,
                value_wei: transaction.value_wei,
                data: transaction.data.clone(),
            })
        });
        let handed = self
            .handovers
            .iter()
            .filter(|(_, one)| one.service == *service && one.lane.chain_id == chain_id && one.place == Place::Mined);
        let handed = handed.filter_map(|(id, one)| {
            let transaction = &self.transactions[&one.transaction_id];
            Some(FinalAttempt {
                request_id: id.0,
                tenant: transaction.tenant.to_string(),
                operation_id: transaction.operation_id.0,
                transaction_id: one.transaction_id,
                is_cancel: false,
                settles: true,
                inclusion: one.inclusion.as_ref().filter(stands)?.clone(),
                sender: transaction.lane.sender,
                target: transaction.target,
                value_wei: transaction.value_wei,
                data: transaction.data.clone(),
            })
        });
        Ok(attempts.chain(handed).take(limit as usize).collect())
    }

    pub(crate) fn finish(&mut self, _: &ServiceName, finished: Vec<Finished>) -> Done<()> {
        let mut settled = Vec::new();
        for one in finished {
            let block = one.attempt.inclusion.mined.block_hash;
            let stands = |row: &&mut AttemptRow| {
                row.phase == Phase::Mined && row.inclusion.as_ref().is_some_and(|known| known.mined.block_hash == block)
            };
            let id = RequestId(one.attempt.request_id);
            if let Some(row) = self.attempts.get_mut(&id).filter(stands) {
                row.phase = Phase::Done;
            } else {
                let stands = |row: &&mut HandoverRow| {
                    row.place == Place::Mined
                        && row.inclusion.as_ref().is_some_and(|known| known.mined.block_hash == block)
                };
                let Some(row) = self.handovers.get_mut(&id).filter(stands) else { continue };
                row.place = Place::Done;
            }
            if one.attempt.settles {
                settled.push(one.settled());
            }
        }
        self.settle(settled, &[TransactionState::Confirming])
    }
}
