//! Accepting operations, asking flows, cancelling, signature steps.

use super::{Done, LaneRow, LeaseRow, OperationRow, Phase, StepRow, Tables, TransactionRow};
use crate::{
    custody::{BehindApproval, HoldCause, LaneHeld, ProviderHold, is_accepted},
    error::StoreError,
    flow::{Failure, Flows, History, RecordedStep, StepInput, StepOutcome},
    model::{LaneId, OperationId, ServiceName, TenantId},
    sim::bug::Bug,
    states::{OperationState, TransactionState},
    store::{Admitted, Change, Event, NewOperation, PendingSignature, Settled, Woken, lanes_of},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::time::Instant;

/// How much of the room for all belongs to each of so many tenants.
fn share(limit: i64, tenants: usize) -> usize {
    (limit as usize / tenants.max(1)).max(1)
}

impl Tables {
    pub(crate) fn hint(&mut self, _: &ServiceName) -> Done<()> {
        Ok(())
    }

    pub(crate) fn stalled(&mut self, _: &ServiceName, _: Duration) -> Done<(u64, u64)> {
        Ok((0, 0))
    }

    pub(crate) fn admit(&mut self, service: &ServiceName, news: &[NewOperation]) -> Done<Vec<Admitted>> {
        let mut by_tenant: BTreeMap<&TenantId, Vec<&NewOperation>> = BTreeMap::new();
        for new in news {
            by_tenant.entry(&new.tenant).or_default().push(new);
        }
        let mut admitted = BTreeMap::new();
        for (tenant, news) in by_tenant {
            let wanted = news.iter().flat_map(|new| lanes_of(&new.decision)).map(|lane| (tenant.clone(), lane));
            let foreign = self.claim_lanes(service, &wanted.collect());
            let mut good = Vec::new();
            for new in news {
                let touched =
                    lanes_of(&new.decision).into_iter().find(|lane| foreign.contains(&(tenant.clone(), *lane)));
                match touched {
                    Some(lane) => {
                        admitted.insert(new.id, Admitted::ForeignLane(lane));
                    }
                    None => good.push(new),
                }
            }
            self.write(service, &good, &mut admitted)?;
        }
        let missing = || StoreError::corrupt("an operation without an answer");
        news.iter().map(|new| admitted.get(&new.id).cloned().ok_or_else(missing)).collect()
    }

    fn write(
        &mut self,
        service: &ServiceName,
        news: &[&NewOperation],
        admitted: &mut BTreeMap<OperationId, Admitted>,
    ) -> Done<()> {
        let at = OffsetDateTime::UNIX_EPOCH;
        let mut by_key = news.to_vec();
        by_key.sort_by_key(|new| (&new.principal, &new.method, &new.key));
        for new in by_key {
            let key = (new.tenant.clone(), new.principal.clone(), new.method.clone(), new.key.clone());
            let stored = self.idempotency.get(&key).filter(|_| self.bug != Some(Bug::ForgottenIdempotencyKey));
            let outcome = match stored {
                None => match self.behind_approval(new) {
                    Some(held) => Admitted::BehindApproval(held),
                    None => {
                        self.idempotency.insert(key, (new.command_hash, new.id));
                        Admitted::New(at)
                    }
                },
                Some((_, stored)) if *stored == new.id => Admitted::New(at),
                Some((hash, stored)) if *hash == new.command_hash => Admitted::Repeat(*stored),
                Some((hash, _)) => Admitted::OtherPayload(hash.to_vec()),
            };
            admitted.insert(new.id, outcome);
        }
        for new in news {
            let is_new = matches!(admitted.get(&new.id), Some(Admitted::New(_)));
            if !is_new || self.operations.contains_key(&new.id) {
                continue;
            }
            let state = new.state();
            let (result, error) = match &new.decision.verdict {
                crate::flow::Verdict::Done(result) => (Some(result.clone()), None),
                crate::flow::Verdict::Failed(failure) => (None, Some(json!(failure))),
                _ => (None, None),
            };
            let row = OperationRow {
                tenant: new.tenant.clone(),
                service: service.clone(),
                kind: new.kind.to_owned(),
                version: new.version,
                order: new.order.clone(),
                state,
                result,
                error,
                wake: false,
                cancel_requested: false,
                retry_at: self.begin,
            };
            self.operations.insert(new.id, row);
            let change = Change {
                tenant: new.tenant.to_string(),
                id: new.id,
                first_position: 0,
                decision: new.decision.clone(),
                priority: new.priority,
            };
            self.insert_steps(service, &change)?;
            let body = json!({
                "kind": new.kind, "method": new.method, "state": state, "command_hash": alloy::hex::encode(new.command_hash),
            });
            self.leaf("operation.accept", new.id, body.clone());
            let topic = if state.is_final() { "engine.operation.final" } else { "engine.operation.pending" };
            let (subject, tenant) = (new.id.0, new.tenant.to_string());
            self.outbox.push(Event { tenant, topic, subject, operation_id: subject, body });
        }
        Ok(())
    }

    /// The approval that a lane of it refuses it for.
    fn behind_approval(&self, new: &NewOperation) -> Option<LaneHeld> {
        let waits = |lane: &LaneId| {
            self.attempts
                .values()
                .filter(|one| one.lane == *lane && one.phase == Phase::Signing)
                .filter_map(|one| {
                    let held = one.hold?;
                    let since = OffsetDateTime::UNIX_EPOCH;
                    let (provider, cause, transaction_id) = (held.provider, held.cause, one.transaction_id);
                    Some(ProviderHold { provider, cause, since, transaction_id, by_provider: false })
                })
                .collect::<Vec<_>>()
        };
        lanes_of(&new.decision).into_iter().find_map(|lane| {
            let (row, holds) = (self.lanes.get(&lane)?, waits(&lane));
            let causes = holds.iter().map(|hold| hold.cause);
            let accepted = is_accepted(row.behind_approval, new.refusable, new.priority, row.by_provider, causes);
            let hold = holds.into_iter().find(|hold| hold.cause == HoldCause::Approval).filter(|_| !accepted)?;
            Some(LaneHeld { lane, hold })
        })
    }

    fn claim_lanes(
        &mut self,
        service: &ServiceName,
        wanted: &BTreeSet<(TenantId, LaneId)>,
    ) -> BTreeSet<(TenantId, LaneId)> {
        for (tenant, lane) in wanted {
            let fresh = || LaneRow {
                tenant: tenant.clone(),
                next_nonce: None,
                needs_approval: false,
                paused: false,
                by_provider: false,
                behind_approval: BehindApproval::Queue,
                hold_nonce_for: None,
            };
            self.lanes.entry(*lane).or_insert_with(fresh);
            let lease = LeaseRow { holder: None, expires_at: self.begin, resync_asked: 0, resync_done: 0 };
            self.leases.entry((service.clone(), *lane)).or_insert(lease);
        }
        wanted.iter().filter(|(tenant, lane)| self.lanes[lane].tenant != *tenant).cloned().collect()
    }

    fn insert_steps(&mut self, service: &ServiceName, change: &Change) -> Done<()> {
        for (_, name, input) in change.new_steps()? {
            let asks_signer = matches!(input, StepInput::Signature { .. });
            let step = StepRow {
                input: input.clone(),
                outcome: None,
                request_id: asks_signer.then(|| StepInput::request_id(change.id, name)),
                due_at: asks_signer.then_some(self.begin),
                tries: 0,
                service: service.clone(),
            };
            if self.steps.insert((change.id, name.to_owned()), step).is_some() {
                return super::broken(format!("step {name} of {} exists", change.id));
            }
            let StepInput::Transaction { call } = input else { continue };
            self.sequence += 1;
            let row = TransactionRow {
                tenant: TenantId::new(change.tenant.as_str()),
                operation_id: change.id,
                step: name.to_owned(),
                sequence: self.sequence,
                priority: change.priority,
                service: service.clone(),
                lane: call.lane(),
                target: call.target,
                value_wei: call.value,
                data: call.data.clone(),
                checks: call.sensitive_checks.clone(),
                secret: call.secret.clone(),
                state: TransactionState::Queued,
                sub_status: String::new(),
                nonce: None,
                moved_from: None,
                tx_hash: None,
                block_number: None,
                gas_used: None,
                error: None,
                history: Vec::new(),
                tries: 0,
                due_at: self.begin,
                cancel_requested: false,
                bump_requested: false,
            };
            let id = StepInput::transaction_id(change.id, name);
            if self.lanes.get(&row.lane).is_none_or(|lane| lane.tenant != row.tenant) {
                return super::broken(format!("transaction {id} on a lane of another tenant"));
            }
            if self.transactions.insert(id, row).is_some() {
                return super::broken(format!("transaction {id} exists"));
            }
        }
        Ok(())
    }

    pub(crate) fn drive(
        &mut self,
        service: &ServiceName,
        flows: &Flows,
        chains: &BTreeSet<u64>,
        limit: i64,
    ) -> Done<(usize, BTreeSet<LaneId>)> {
        let now = Instant::now();
        let awake: Vec<(&OperationId, &OperationRow)> =
            self.operations.iter().filter(|(_, row)| row.service == *service && row.wake).collect();
        let tenants: BTreeSet<&TenantId> = awake.iter().map(|(_, row)| &row.tenant).collect();
        let share = share(limit, tenants.len());
        let of_tenant = |tenant: &TenantId| {
            let mut due: Vec<_> =
                awake.iter().filter(|(_, row)| row.tenant == *tenant && row.retry_at <= now).copied().collect();
            due.sort_by_key(|(id, row)| (row.retry_at, **id));
            due.truncate(share);
            due
        };
        let woken: Vec<Woken> = tenants
            .into_iter()
            .flat_map(of_tenant)
            .map(|(id, row)| Woken {
                tenant: row.tenant.to_string(),
                id: *id,
                kind: row.kind.clone(),
                version: row.version,
                order: row.order.clone(),
                cancel_requested: row.cancel_requested,
            })
            .collect();
        let mut changes = Vec::with_capacity(woken.len());
        for one in woken {
            let history = self.history(one.id);
            changes.push(one.decide(flows, chains, &history)?);
        }
        let wanted = changes.iter().flat_map(|change| {
            lanes_of(&change.decision).into_iter().map(|lane| (TenantId::new(change.tenant.as_str()), lane))
        });
        let foreign = self.claim_lanes(service, &wanted.collect());
        let count = changes.len();
        let mut lanes = BTreeSet::new();
        for mut change in changes {
            change.refuse_lanes_of_others(&foreign);
            lanes.extend(lanes_of(&change.decision));
            self.insert_steps(service, &change)?;
            let (id, tenant) = (change.id, change.tenant.clone());
            let outcome = change.outcome();
            if let Some(event) = outcome.event(&tenant, id.0) {
                self.outbox.push(event);
            }
            let ended = outcome.state.is_final();
            if let Some(row) = self.operations.get_mut(&id) {
                (row.state, row.result, row.error) = (outcome.state, outcome.result, outcome.error);
                row.wake = outcome.broken.is_some();
                if outcome.broken.is_some() {
                    row.retry_at = now + Duration::from_secs(60);
                }
            }
            if ended {
                self.withdraw(id, "operation_ended")?;
            }
        }
        Ok((count, lanes))
    }

    /// Everything that a flow decides from.
    pub(crate) fn history(&self, id: OperationId) -> History {
        let of = self.steps.range((id, String::new())..).take_while(|((operation, _), _)| *operation == id);
        let recorded = |row: &StepRow| RecordedStep { input: row.input.clone(), outcome: row.outcome.clone() };
        History { steps: of.map(|((_, name), row)| (name.clone(), recorded(row))).collect() }
    }

    /// Withdraws what has no nonce; returns the steps.
    fn withdraw(&mut self, id: OperationId, sub_status: &str) -> Done<Vec<String>> {
        let waiting = |row: &TransactionRow| {
            use TransactionState::{Preparing, Queued, Received};
            row.operation_id == id && matches!(row.state, Received | Queued | Preparing)
        };
        let ids: Vec<_> =
            self.transactions.iter().filter(|(_, row)| waiting(row)).map(|(transaction, _)| *transaction).collect();
        let mut steps = Vec::new();
        for transaction in ids {
            let row = self.become_state(transaction, TransactionState::Cancelled)?;
            row.sub_status = sub_status.to_owned();
            steps.push(row.step.clone());
        }
        Ok(steps)
    }

    /// What [`crate::Reader::cancel`] does.
    pub(crate) fn cancel(&mut self, tenant: &TenantId, id: OperationId, reason: &str) -> Done<bool> {
        let running = |row: &&OperationRow| row.tenant == *tenant && row.state == OperationState::Running;
        if self.operations.get(&id).filter(running).is_none() {
            return Ok(false);
        }
        let withdrawn = self.withdraw(id, "withdrawn")?;
        let mut replacing = Vec::new();
        for (transaction, row) in self.transactions.iter_mut().filter(|(_, row)| row.operation_id == id) {
            if !matches!(row.state, TransactionState::Signing | TransactionState::Broadcasting) {
                continue;
            }
            row.cancel_requested = true;
            row.note("cancel_requested", "");
            replacing.push(row.step.clone());
            for attempt in self.attempts.values_mut().filter(|one| one.transaction_id == *transaction) {
                if attempt.phase.is_open() {
                    attempt.due_at = self.begin;
                }
            }
            for one in self.handovers.values_mut().filter(|one| one.transaction_id == *transaction) {
                if one.place.is_live() {
                    one.due_at = self.begin;
                }
            }
        }
        if withdrawn.is_empty() && replacing.is_empty() {
            return Ok(false);
        }
        let failure = Failure::new("OPERATION_CANCELLED", reason);
        for ((_, name), step) in self.steps.iter_mut().filter(|((operation, _), _)| *operation == id) {
            if step.outcome.is_none() && (withdrawn.contains(name) || step.due_at.is_some()) {
                step.outcome = Some(StepOutcome::Failed { failure: failure.clone() });
                step.due_at = None;
            }
        }
        let of_this = |one: &&super::AttemptRow| self.transactions[&one.transaction_id].operation_id == id;
        let handed = |id_of: crate::model::TransactionId| self.transactions[&id_of].operation_id == id;
        let signed_for = self.attempts.values().any(|one| of_this(&one))
            || self.handovers.values().any(|one| handed(one.transaction_id));
        if let Some(row) = self.operations.get_mut(&id) {
            row.cancel_requested = true;
            row.wake = signed_for;
            if !signed_for {
                row.state = OperationState::Cancelled;
            }
        }
        let body = json!({"reason": reason, "withdrawn": withdrawn, "replacing": replacing});
        self.leaf("operation.cancel", id, body.clone());
        let topic = if signed_for { "engine.operation.pending" } else { "engine.operation.final" };
        self.outbox.push(Event { tenant: tenant.to_string(), topic, subject: id.0, operation_id: id.0, body });
        Ok(true)
    }

    pub(crate) fn claim_signatures(
        &mut self,
        service: &ServiceName,
        limit: i64,
        again_after: Duration,
    ) -> Done<Vec<PendingSignature>> {
        let now = Instant::now();
        let mut due: Vec<_> = self
            .steps
            .iter_mut()
            .filter(|(_, row)| row.service == *service && row.due_at.is_some_and(|at| at <= now))
            .collect();
        due.sort_by_key(|(_, row)| row.due_at);
        let of = |operation: &OperationId| self.operations[operation].tenant.clone();
        let tenants: BTreeSet<TenantId> = due.iter().map(|((operation, _), _)| of(operation)).collect();
        let (share, mut taken) = (share(limit, tenants.len()), BTreeMap::<TenantId, usize>::new());
        let mut pending = Vec::new();
        for ((operation, name), row) in due {
            let taken = taken.entry(of(operation)).or_default();
            *taken += 1;
            if *taken > share {
                continue;
            }
            row.tries += 1;
            row.due_at = Some(now + again_after);
            let (StepInput::Signature { document }, Some(request_id)) = (&row.input, row.request_id) else {
                return Err(StoreError::corrupt("a step to sign without a document"));
            };
            pending.push(PendingSignature {
                tenant: self.operations[operation].tenant.clone(),
                operation_id: operation.0,
                name: name.clone(),
                request_id,
                tries: row.tries,
                document: document.clone(),
            });
        }
        Ok(pending)
    }

    pub(crate) fn settle_signatures(&mut self, _: &ServiceName, settled: &[Settled]) -> Done<()> {
        for Settled { pending, outcome } in settled {
            let id = OperationId(pending.operation_id);
            self.wake(id);
            let step = self.steps.get_mut(&(id, pending.name.clone()));
            if let Some(step) = step.filter(|step| step.outcome.is_none()) {
                step.outcome = Some(outcome.clone());
                step.due_at = None;
            }
        }
        Ok(())
    }
}
