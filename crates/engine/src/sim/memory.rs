//! The store of a schedule: the tables in memory, behind a connection that fails.

use super::{
    bug::Bug,
    tables::{Phase, Place, Tables},
    world::{World, locked, no_database},
};
use crate::{error::StoreError, model::ServiceName, states::TransactionState};
use std::sync::Arc;

/// The store as one replica of a service uses it. Its statements are listed beside the trait.
#[derive(Clone)]
pub(crate) struct Memory {
    pub(super) world: Arc<World>,
    pub(super) service: ServiceName,
    pub(super) replica: usize,
}

// === impl Memory ===

impl Memory {
    /// One commit, with a line before it and one behind.
    pub(crate) async fn commit<R>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Tables, &ServiceName) -> Result<R, StoreError> + Send,
    ) -> Result<R, StoreError> {
        if matches!(what, "hint" | "stalled") {
            return work(&mut locked(&self.world.tables), &self.service); // nothing hangs on them
        }
        let snapshot = {
            let tables = locked(&self.world.tables);
            (tables.bug() == Some(Bug::NumberedFromAStaleSnapshot)).then(|| tables.snapshot())
        };
        self.world.line(self.replica, what).await;
        if self.world.fault("commit lost", |plan| plan.commit_lost) {
            self.world.note(|| format!("{}: {what}: nothing committed", self.replica));
            return Err(no_database());
        }
        let result = self.carry_out(what, snapshot, work);
        self.world.line(self.replica, what).await;
        if result.is_ok() && self.world.fault("commit unsure", |plan| plan.commit_unsure) {
            self.world.note(|| format!("{}: {what}: committed, and the answer is lost", self.replica));
            return Err(no_database());
        }
        result
    }

    fn carry_out<R>(
        &self,
        what: &'static str,
        snapshot: Option<super::tables::Snapshot>,
        work: impl FnOnce(&mut Tables, &ServiceName) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let mut tables = locked(&self.world.tables);
        let earlier = self.world.is_tracing().then(|| tables.summary());
        if let Some(snapshot) = snapshot {
            tables.number_from(snapshot);
        }
        let result = work(&mut tables, &self.service);
        match &result {
            Ok(_) if what == "finish" => self.is_final(&mut tables),
            Ok(_) => {}
            Err(error) => self.world.violated(format!("{what}: {error}")), // it ends the schedule, so nothing is rolled back
        }
        if let Some(earlier) = earlier {
            let now = tables.summary();
            let changed: Vec<&String> = now.iter().filter(|line| !earlier.contains(line)).collect();
            if !changed.is_empty() {
                self.world.note(|| format!("{}: {what}: {changed:#?}", self.replica));
            }
        }
        result
    }

    /// Included is not final: asked of the chain at the moment at which it is told.
    fn is_final(&self, tables: &mut Tables) {
        let ledger = locked(&self.world.ledger);
        let attempts = tables.attempts.values().filter(|one| one.phase == Phase::Done);
        let attempts = attempts.map(|one| (one.transaction_id, one.lane, Some(one.nonce), &one.inclusion));
        let handovers = tables.handovers.values().filter(|one| one.place == Place::Done);
        let handovers = handovers.map(|one| (one.transaction_id, one.lane, one.chain_nonce, &one.inclusion));
        for (id, lane, nonce, inclusion) in attempts.chain(handovers) {
            let Some(inclusion) = inclusion else { continue };
            let mined = &inclusion.mined;
            if !ledger.is_final(mined.block_number, mined.block_hash) {
                let state = tables.transactions[&id].state;
                let told = matches!(state, TransactionState::Completed | TransactionState::Failed);
                if told || state == TransactionState::Cancelled {
                    self.world.violated(format!(
                        "{state} is told of block {} before it is final: nonce {nonce:?} of {lane}",
                        mined.block_number
                    ));
                }
            }
        }
    }
}
