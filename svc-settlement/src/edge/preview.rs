//! What stands against a settlement, or against terms that were not created.

use super::{answers, id, messages, settlement_of, writes};
use crate::{
    app::App,
    metric_definitions as metric,
    preview::{Findings, LegFinding, LockFinding, refusals},
    readers::{self, Contracts},
    state::{Book, LegState, Progress, State},
    store::settlements::StoredSettlement,
    terms::{Leg, Lock, Terms},
};
use alloy::primitives::Address;
use dalp_chain::BlockId;
use dalp_contracts::{bindings::Settlement::executeCall, decode_revert};
use dalp_domain::{ChainReader, ReadError, chain::bounded, refusals::failure_of};
use dalp_engine::Failure;
use dalp_proto::settlement::{self as proto, preview_settlement_request::Subject};
use dalp_service::{Reason, Refusal, fields::Violations};
use std::collections::BTreeSet;

/// What is asked about.
struct Case {
    terms: Terms,
    stored: Option<StoredSettlement>,
    contracts: Contracts,
    progress: Option<Progress>,
    broken: BTreeSet<(Address, Address)>,
    at: BlockId,
}

/// Tells everything against settling.
pub(super) async fn preview(
    app: &App,
    tenant: &str,
    request: &proto::PreviewSettlementRequest,
) -> Result<proto::PreviewSettlementResponse, Refusal> {
    let (terms, stored) = subject(app, tenant, request.subject.as_ref()).await?;
    let contracts = match &stored {
        Some(stored) => app.contracts_of(stored.chain_id, stored.contract).await?,
        None => app.contracts(tenant, app.chain.chain_id()).await?,
    };
    let chain_id = stored.as_ref().map_or(app.chain.chain_id(), |stored| stored.chain_id);
    let chain = app.on(chain_id)?;
    let head = chain.latest().await?;
    let at = head.id();
    let (mut progress, mut broken) = (None, BTreeSet::new());
    if let Some(StoredSettlement { contract, settlement_id, deed, .. }) = &stored {
        progress = readers::progress(chain, *contract, deed, *settlement_id, at).await?;
        let events = app.store.events(chain_id, *contract, *settlement_id).await?;
        broken = Book::of(events.iter().map(|event| &event.told)).broken;
    }
    let case = Case { terms, stored, contracts, progress, broken, at };
    let own = readers::own_assets(chain, contracts.assets, &case.terms, at).await?;
    let findings = Findings {
        state: case.progress.map(|progress| progress.state),
        armed: case.progress.is_some_and(|progress| progress.is_armed(&case.terms)),
        committed: case.progress.is_some_and(|progress| progress.stored.is_committed()),
        now_s: head.timestamp_s,
        legs: case.legs(chain, &own).await?,
        locks: case.locks(chain, &own).await?,
        execution: case.execution(chain).await?,
    };
    let mut against = refusals(&case.terms, &findings);
    if case.stored.is_none() {
        let opened = writes::opening(chain, contracts.settlement, Address::ZERO, &case.terms, head).await;
        against.extend(opened.err().map(finding).transpose()?);
    }
    if let Some(first) = against.first() {
        metric::preview_against(&first.reason);
    }
    let missing = case.terms.senders().into_iter().filter(|sender| !case.has_approved(*sender));
    Ok(proto::PreviewSettlementResponse {
        state: findings.state.map_or(proto::SettlementState::Unspecified, answers::state).into(),
        legs: findings.legs.iter().enumerate().map(answers::leg).collect(),
        locks: findings.locks.iter().map(answers::lock).collect(),
        missing_approvals: missing.map(answers::text).collect(),
        settles: against.is_empty(),
        refusals: against.into_iter().map(answers::refusal).collect(),
        block_number: head.number,
        block_time: head.timestamp_s,
    })
}

/// What CreateSettlement would refuse terms with, as a reason against them; an answer that tells nothing of the terms stays a refusal.
fn finding(refusal: Refusal) -> Result<Failure, Refusal> {
    if refusal.reason() != Reason::InvalidField {
        return Err(refusal);
    }
    let failure = Failure::new(refusal.reason().as_str(), "the terms cannot be opened");
    Ok(refusal.violations().iter().fold(failure, |failure, (path, why)| failure.with(path, why)))
}

async fn subject(
    app: &App,
    tenant: &str,
    subject: Option<&Subject>,
) -> Result<(Terms, Option<StoredSettlement>), Refusal> {
    let mut bad = Violations::new();
    let terms = match subject {
        Some(Subject::SettlementId(text)) => {
            let stored = settlement_of(app, tenant, id(text)?).await?;
            return Ok((stored.deed.terms.clone(), Some(stored)));
        }
        Some(Subject::Terms(terms)) => messages::terms(&mut bad, Some(terms), app.chain.chain_id()),
        None => messages::terms(&mut bad, None, app.chain.chain_id()),
    };
    bad.finish()?;
    Ok((terms, None))
}

// === impl Case ===

impl Case {
    fn has_approved(&self, sender: Address) -> bool {
        self.progress.is_some_and(|progress| progress.has_approved(&self.terms, sender))
    }

    /// Whether legs may still move.
    fn is_open(&self) -> bool {
        let over = [State::Executed, State::Cancelled, State::Withdrawn];
        self.progress.is_none_or(|progress| !over.contains(&progress.state))
    }

    async fn legs(&self, chain: &ChainReader, own: &BTreeSet<Address>) -> Result<Vec<LegFinding>, Refusal> {
        bounded(self.terms.legs.iter().enumerate().map(|(place, leg)| self.leg(chain, own, place, leg))).await
    }

    async fn leg(
        &self,
        chain: &ChainReader,
        own: &BTreeSet<Address>,
        place: usize,
        leg: &Leg,
    ) -> Result<LegFinding, Refusal> {
        let open = if leg.is_local() { LegState::Open } else { LegState::External };
        let state = self.progress.map_or(open, |progress| progress.leg(&self.terms, place, &self.broken));
        let own = leg.is_local() && own.contains(&leg.asset);
        let mut found = LegFinding { state, own, receiver: None, veto: None };
        if leg.is_local() {
            let receiver = readers::receiver(chain, self.contracts.registry, leg.to, self.at).await?;
            found.receiver = Some(receiver);
            if own && state != LegState::Delivered && self.is_open() {
                found.veto = readers::veto(chain, leg, receiver, self.at).await?;
            }
        }
        Ok(found)
    }

    async fn locks(&self, chain: &ChainReader, own: &BTreeSet<Address>) -> Result<Vec<LockFinding>, Refusal> {
        let locks = self.terms.locks(own);
        bounded(locks.into_iter().map(async |lock: Lock| {
            let purse = readers::purse(chain, self.contracts.settlement, &lock, self.at).await?;
            let locked = self.has_approved(lock.sender);
            Ok(LockFinding { available: purse.available, allowance: purse.allowance, locked, lock })
        }))
        .await
    }

    /// What the contract refuses an execution with, once everybody has approved.
    async fn execution(&self, chain: &ChainReader) -> Result<Option<Failure>, Refusal> {
        let ready = self.progress.is_some_and(|progress| progress.state == State::Approved);
        let Some(stored) = self.stored.as_ref().filter(|_| ready && !self.terms.is_cross_chain()) else {
            return Ok(None);
        };
        let call = executeCall { terms: stored.deed.on_chain() };
        match readers::dry(chain, stored.creator, stored.contract, call, self.at).await {
            Ok(_) => Ok(None),
            Err(ReadError::Reverted(data)) => Ok(Some(failure_of(&decode_revert(&data)))),
            Err(error) => Err(error.into()),
        }
    }
}

/// What a sender has to lock and has not allowed yet, for an approval that the contract has nothing else against.
pub(super) async fn locks_of(
    chain: &ChainReader,
    contracts: Contracts,
    terms: &Terms,
    sender: Address,
    at: BlockId,
) -> Result<Vec<LockFinding>, Refusal> {
    let own = readers::own_assets(chain, contracts.assets, terms, at).await?;
    let locks = terms.locks(&own).into_iter().filter(|lock| lock.sender == sender);
    let found = bounded(locks.map(async |lock: Lock| {
        let purse = readers::purse(chain, contracts.settlement, &lock, at).await?;
        Ok(LockFinding { available: purse.available, allowance: purse.allowance, locked: false, lock })
    }))
    .await?;
    match found.iter().find(|found| found.available < found.lock.amount) {
        None => Ok(found),
        Some(short) => Err(Refusal::new(Reason::InsufficientFunds, "the sender has less free than it has to lock")
            .meta("account", answers::text(sender))
            .meta("asset", answers::text(short.lock.asset))
            .meta("needed", short.lock.amount)
            .meta("available", short.available)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_creation_refuses_stands_against_the_terms() {
        let refusal = messages::unusable([(1, "asset", "is no contract on this chain")]).unwrap();
        let told = finding(refusal).unwrap();
        assert_eq!((told.reason.as_str(), told.metadata.len()), ("INVALID_FIELD", 1));
        assert_eq!(told.metadata["terms.legs[1].asset"], "is no contract on this chain");
        assert!(finding(Refusal::new(Reason::ChainUnavailable, "no node answers")).is_err(), "nothing is known then");
    }
}
