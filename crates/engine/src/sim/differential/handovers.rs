//! Calls handed over to providers that broadcast by themselves, on both.

use super::{LONG, Twins, both, rows::told};
use crate::{
    custody::{Held, HoldCause, KeyProvider},
    flow::Mined,
    model::{LaneId, RequestId},
    sim::tables::Place,
    states::TransactionState,
    store::{Handover, HandoverEnding, Heard, Inclusion, QueueLook, QueuedTransaction, Standing},
};
use alloy::primitives::{B256, keccak256};
use std::{collections::BTreeSet, time::Duration};

pub(super) fn of_any_age(one: &Handover) -> Handover {
    Handover { age: Duration::ZERO, ..one.clone() }
}

impl Twins {
    /// Mostly as it stands now, sometimes as it stood once.
    fn any_handover(&mut self) -> Option<Handover> {
        let old = self.any(|twins| &twins.handovers)?;
        let now = self.tables.handover_view(old.request_id);
        Some(if self.rng.per_mille(700) { now.unwrap_or(old) } else { old })
    }

    /// Mostly none.
    pub(super) fn any_hold(&mut self) -> Option<Held> {
        let provider = self.rng.pick(&[None, Some(KeyProvider::Dfns), Some(KeyProvider::Fireblocks)]);
        let cause = self.rng.pick(&[HoldCause::Approval, HoldCause::Approval, HoldCause::Blocked]);
        self.rng.per_mille(300).then_some(Held { provider, cause })
    }

    /// One of the hashes that a provider may tell of it.
    fn told_hash(&mut self, id: RequestId) -> B256 {
        let version = self.rng.below(3);
        keccak256(format!("{id} {version}"))
    }

    pub(super) async fn handover(&mut self) {
        let lane = self.rng.pick(&self.lanes.clone());
        match self.rng.below(9) {
            0 => {
                let by_provider = self.rng.per_mille(700);
                both!(self, broadcasts(lane, by_provider), |done: &()| *done);
            }
            1..=3 => self.hand_over(lane).await,
            _ => self.hear().await,
        }
    }

    async fn hand_over(&mut self, lane: LaneId) {
        let looks = [QueueLook { lane, at_most: 3 }];
        let queues = both!(self, queued(&looks), |queues: &Vec<Vec<QueuedTransaction>>| queues.clone());
        let mut ids: Vec<_> = queues.unwrap_or_default().concat().iter().map(|one| one.id).collect();
        if let Some(old) = self.any(|twins| &twins.queued).filter(|_| self.rng.per_mille(200)) {
            let of_lane = self.tables.transactions.get(&old.id).is_some_and(|row| row.lane == lane);
            ids.extend(Some(old.id).filter(|id| of_lane && !ids.contains(id)));
        }
        let view = |written: &Vec<Handover>| written.iter().map(of_any_age).collect::<Vec<_>>();
        if let Some(written) = both!(self, hand_over(lane, &ids), view) {
            self.handovers.extend(written);
        }
    }

    async fn hear(&mut self) {
        let Some(one) = self.any_handover() else { return };
        let (id, pause) = (one.request_id, self.pause());
        let nothing = |done: &()| *done;
        match self.rng.below(14) {
            0..=4 => {
                let standing = self.rng.pick(&[Standing::Handed, Standing::Sent, Standing::Sent, one.standing]);
                let tx_hash = if standing == Standing::Sent { Some(self.told_hash(id)) } else { None };
                let is_answer = self.rng.per_mille(700);
                let heard = Heard {
                    standing,
                    provider_id: if self.rng.per_mille(600) { format!("tx-{id}") } else { String::new() },
                    tx_hash,
                    chain_nonce: tx_hash.filter(|_| self.rng.per_mille(500)).map(|_| 7),
                    hold: self.any_hold(),
                    sub_status: self.rng.pick(&["", "provider_policy", "sent_by_provider"]),
                    detail: "by the test".to_owned(),
                    is_answer,
                    pause,
                };
                both!(self, heard(&one, &heard), nothing);
            }
            5..=6 => {
                use HandoverEnding::{Dropped, Parked, Refused};
                let usual = if one.hashes.is_empty() { Refused } else { Dropped };
                let ending = self.rng.pick(&[usual, usual, usual, Refused, Dropped, Parked]);
                let state = if self.rng.per_mille(200) { TransactionState::Cancelled } else { ending.state() };
                let refusal = self.refusal(&one.transaction, state);
                both!(self, end_handover(&one, ending, refusal.clone()), nothing);
            }
            7 => {
                both!(self, requeue_handover(&one, pause), nothing);
            }
            8 => {
                both!(self, not_withdrawn(&one, "it is sent"), nothing);
            }
            9 => {
                let Some(attempt) = self.any_attempt() else { return };
                let lane = self.tables.attempts[&attempt.request_id].lane;
                both!(self, requeue_attempt(lane, &attempt, LONG), nothing);
            }
            _ => self.include_one(&one).await,
        }
    }

    async fn include_one(&mut self, one: &Handover) {
        let known = self.tables.handovers.get(&one.request_id).and_then(|row| row.hashes.last().copied());
        let any = self.told_hash(one.request_id);
        let tx_hash = known.filter(|_| self.rng.per_mille(800)).unwrap_or(any);
        let number = self.rng.between(10, 14);
        let mut block_hash = B256::repeat_byte(self.rng.below(2) as u8);
        block_hash.0[..8].copy_from_slice(&number.to_be_bytes());
        block_hash.0[8..16].copy_from_slice(&self.seed.to_be_bytes());
        self.blocks.push((number, block_hash));
        let mined =
            Mined { tx_hash, block_number: number, block_hash, gas_used: 30_000, contract_address: None, logs: vec![] };
        let inclusions = [Inclusion { mined, succeeded: self.rng.per_mille(700), revert_data: None }];
        both!(self, include(&inclusions), |lanes: &BTreeSet<LaneId>| lanes.clone());
        let hashes = [tx_hash];
        both!(self, our_hashes(&hashes), |ours: &Vec<B256>| ours.clone());
        if self.rng.per_mille(500) {
            self.finish().await;
        }
    }

    pub(super) fn handover_rows(&self) -> Vec<String> {
        let line = |(id, row): (&RequestId, &crate::sim::tables::HandoverRow)| {
            let place = match row.place {
                Place::At(standing) => standing.as_str(),
                Place::Mined => "MINED",
                Place::Done => "DONE",
                Place::Dropped => "DROPPED",
                Place::Refused => "REFUSED",
            };
            let mut hashes: Vec<String> = row.hashes.iter().map(alloy::hex::encode).collect();
            hashes.sort();
            serde_json::json!([
                id,
                row.transaction_id,
                row.number,
                place,
                row.held,
                told(row.hold),
                row.provider_id,
                row.tx_hash.map(alloy::hex::encode),
                hashes,
                row.chain_nonce,
                row.inclusion.as_ref().map(|inclusion| inclusion.mined.block_number),
                row.tries
            ])
            .to_string()
        };
        self.tables.handovers.iter().map(line).collect()
    }
}
