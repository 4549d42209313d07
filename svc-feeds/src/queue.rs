//! The order of an issuer's updates on a feed.
//!
//! A feed takes an issuer's nonces one after the other, so of several accepted updates only the first may be signed: the next one's
//! nonce is known when that one is in a block, or will never be. A place in the queue is taken in the commit that accepts an update;
//! [`InTurn`](crate::in_turn::InTurn) has a document signed when its turn has come and its nonce is the next one, and [`call_up`] tells the engine when the
//! turn of one that it held back has come.

use crate::{
    domain::update::Place,
    flows::{ATTEMPTS, nonce_refused, sign_step, submits},
    readers::feeds::last_nonces,
    store::{Store, StoreError, queue::Waiting},
};
use alloy::primitives::Address;
use dalp_domain::{ChainReader, ReadError};
use dalp_engine::{Engine, Failure, OperationId, OperationView, Reader, RequestId, TenantId, TransactionState};
use dalp_service::stop::Stop;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// How long it is believed that an operation is over. A reorg may open it again; whoever is called up by mistake finds that its nonce is
/// not the next one.
const OVER_FOR: Duration = Duration::from_secs(1);
/// How long it is believed that one is not. The documents of a batch ask together, and most for the same one.
const UNDER_WAY_FOR: Duration = Duration::from_millis(50);
/// A document that nobody has asked for so long is forgotten: another replica has it signed.
const HELD_FOR: Duration = Duration::from_secs(10);

/// Updates that were held back because their turn has not come, and when they were last asked for. Clones are the same.
#[derive(Clone, Default)]
pub struct Held(Arc<Mutex<HashMap<RequestId, (Waiting, Instant)>>>);

/// Reads the queue. Cheap to clone; clones share what they have found.
#[derive(Clone)]
pub struct Queue {
    store: Store,
    chain: ChainReader,
    operations: Reader,
    /// Whether operations are over, and when that was read.
    known: Arc<Mutex<HashMap<Uuid, (bool, Instant)>>>,
    held: Held,
}

/// Why the queue could not be read. The work waits.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The database did not answer.
    #[error("the queue cannot be read")]
    Store(#[from] StoreError),
    /// The database did not answer about an operation.
    #[error("an operation of the queue cannot be read")]
    Operations(#[from] dalp_engine::StoreError),
    /// The chain did not answer.
    #[error("the issuer's nonce cannot be read")]
    Chain(#[from] ReadError),
}

/// An update whose turn is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    /// Whose it is.
    pub(crate) tenant: String,
    /// The request that signs it.
    pub(crate) request: RequestId,
    /// Where it wants to stand.
    pub(crate) place: Place,
}

/// Where an update stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It may be signed.
    Now,
    /// Others are before it.
    Later,
    /// It may not be signed as it is.
    Refused(Failure),
}

/// Where an update stands in its queue.
enum Standing {
    /// In none any more.
    Left,
    /// Behind others.
    Behind,
    /// Before all others of this issuer.
    First(Address),
}

// === impl Queue ===

impl Queue {
    /// The queue of these tables on this chain.
    #[must_use]
    pub fn new(store: Store, chain: ChainReader, held: Held) -> Self {
        let operations = Reader::new(store.pool());
        Self { store, chain, operations, known: Arc::default(), held }
    }

    /// How many updates of an issuer are accepted and not in a block yet, for each of some feeds.
    pub async fn ahead(
        &self,
        tenant: &str,
        issuer: Address,
        feeds: &[Address],
    ) -> Result<HashMap<Address, u64>, QueueError> {
        let mut ahead = HashMap::new();
        for one in self.store.waiting(tenant, self.chain.chain_id(), feeds).await? {
            if one.issuer == issuer && !self.is_over(&one, UNDER_WAY_FOR).await? {
                *ahead.entry(one.feed).or_default() += 1;
            }
        }
        Ok(ahead)
    }

    /// Where some updates stand, in the order in which they are asked for. What cannot be read fails only for those who depend on it.
    pub(crate) async fn turns(&self, asked: &[Asking]) -> Vec<Result<Turn, Arc<QueueError>>> {
        let mut feeds: BTreeMap<(&str, u64), BTreeSet<Address>> = BTreeMap::new();
        for one in asked {
            feeds.entry((&one.tenant, one.place.chain_id)).or_default().insert(one.place.feed);
        }
        let mut waiting = BTreeMap::new();
        for ((tenant, chain_id), feeds) in feeds {
            let feeds: Vec<Address> = feeds.into_iter().collect();
            let read = self.store.waiting(tenant, chain_id, &feeds).await;
            waiting.insert((tenant, chain_id), read.map_err(|error| Arc::new(QueueError::from(error))));
        }
        let mut turns = Vec::with_capacity(asked.len());
        let mut first = Vec::new();
        for (index, one) in asked.iter().enumerate() {
            let turn = match waiting.get(&(one.tenant.as_str(), one.place.chain_id)) {
                Some(Err(error)) => Err(error.clone()),
                Some(Ok(waiting)) => self.standing(one, waiting).await.map_err(Arc::new),
                None => Ok(Standing::Left),
            };
            turns.push(match turn {
                Ok(Standing::First(issuer)) => {
                    first.push((index, (one.place.feed, issuer)));
                    Ok(Turn::Now)
                }
                Ok(Standing::Left) => Ok(Turn::Now),
                Ok(Standing::Behind) => Ok(Turn::Later),
                Err(error) => Err(error),
            });
        }
        let (first, pairs): (Vec<usize>, Vec<(Address, Address)>) = first.into_iter().unzip();
        match last_nonces(&self.chain, &pairs).await {
            Ok(last) => {
                for (index, last) in first.into_iter().zip(last) {
                    let given = asked[index].place.nonce;
                    turns[index] = last.map(|last| turn_of(last, given)).map_err(|error| Arc::new(error.into()));
                }
            }
            Err(error) => {
                let error = Arc::new(QueueError::from(error));
                first.into_iter().for_each(|index| turns[index] = Err(error.clone()));
            }
        }
        turns
    }

    /// Where an update stands among those that wait on its feeds.
    async fn standing(&self, one: &Asking, waiting: &[Waiting]) -> Result<Standing, QueueError> {
        let queue: Vec<&Waiting> = waiting.iter().filter(|waiting| waiting.feed == one.place.feed).collect();
        // One that has left the queue is of an operation that is final: nothing it does matters any more.
        let Some(own) = queue.iter().copied().find(|waiting| asks(waiting, one.request)) else {
            return Ok(Standing::Left);
        };
        // Before the look at the others: whatever happens to them from here on calls it up.
        self.held().insert(one.request, (own.clone(), Instant::now()));
        if !self.is_first(own, &queue).await? {
            return Ok(Standing::Behind);
        }
        self.held().remove(&one.request);
        Ok(Standing::First(own.issuer))
    }

    /// Whether everything of its issuer that stands before it on its feed is over.
    async fn is_first(&self, own: &Waiting, queue: &[&Waiting]) -> Result<bool, QueueError> {
        for before in queue.iter().filter(|one| one.issuer == own.issuer && one.place < own.place) {
            if !self.is_over(before, UNDER_WAY_FOR).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The operations of documents that are held back here and have become the first of their feed.
    async fn called_up(&self) -> Result<BTreeSet<(String, Uuid)>, QueueError> {
        let mut feeds: BTreeMap<String, HashSet<Address>> = BTreeMap::new();
        let mut documents = HashSet::new();
        {
            let mut held = self.held();
            held.retain(|_, (_, asked)| asked.elapsed() < HELD_FOR);
            for (one, _) in held.values() {
                feeds.entry(one.tenant.clone()).or_default().insert(one.feed);
                documents.insert((one.operation_id, one.feed));
            }
        }
        let mut called = BTreeSet::new();
        for (tenant, feeds) in feeds {
            let feeds: Vec<Address> = feeds.into_iter().collect();
            let (mut over, mut under_way) = (Vec::new(), HashSet::new());
            loop {
                let first = self.store.first_waiting(&tenant, self.chain.chain_id(), &feeds, &over).await?;
                let before = over.len();
                for one in &first {
                    if !over.contains(&one.operation_id) && !under_way.contains(&one.operation_id) {
                        match self.is_over(one, Duration::ZERO).await? {
                            true => over.push(one.operation_id),
                            false => {
                                under_way.insert(one.operation_id);
                            }
                        }
                    }
                }
                if over.len() == before {
                    let held = first.into_iter().filter(|one| documents.contains(&(one.operation_id, one.feed)));
                    called.extend(held.map(|one| (tenant.clone(), one.operation_id)));
                    break;
                }
            }
        }
        Ok(called)
    }

    /// Whether whoever comes behind need not wait for it: its transactions are in blocks, or never will be. Once over, it is believed to
    /// stay so for a while, and under way for as long as is said.
    async fn is_over(&self, one: &Waiting, under_way_for: Duration) -> Result<bool, QueueError> {
        if let Some((over, read)) = self.known().get(&one.operation_id)
            && read.elapsed() < if *over { OVER_FOR } else { under_way_for }
        {
            return Ok(*over);
        }
        let operation =
            self.operations.get_operation(&TenantId::new(&one.tenant), OperationId(one.operation_id)).await?;
        let over = operation.is_none_or(|operation| is_over(&operation));
        let mut known = self.known();
        known.retain(|_, (_, read)| read.elapsed() < OVER_FOR);
        known.insert(one.operation_id, (over, Instant::now()));
        Ok(over)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Uuid, (bool, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<RequestId, (Waiting, Instant)>> {
        self.held.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the engine ask for documents as soon as their turn has come, until stopped.
pub async fn call_up(queue: Queue, engine: Engine, stop: Stop) {
    let mut changes = engine.reader().changes();
    while !stop.is_requested() {
        if !queue.held().is_empty() {
            match queue.called_up().await {
                Ok(first) => {
                    for (tenant, id) in first {
                        if let Err(error) = engine.ask_signer_again(&TenantId::new(tenant), OperationId(id)).await {
                            tracing::warn!(operation_id = %id, %error, "an update whose turn has come is signed a moment later");
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "the queue cannot be read, updates are signed a moment later"),
            }
        }
        tokio::select! {
            () = stop.requested() => {}
            () = changes.changed() => {}
        }
    }
}

/// An operation's submissions are in blocks, or it is final. Those that came to nothing do not count: another attempt follows.
fn is_over(operation: &OperationView) -> bool {
    use TransactionState::{Cancelled, Completed, Confirming, DeadLetter, Failed};
    let mut live = operation
        .transactions
        .iter()
        .filter(|one| submits(&one.step) && !matches!(one.state, Failed | Cancelled | DeadLetter))
        .peekable();
    operation.state.is_final() || live.peek().is_some() && live.all(|one| matches!(one.state, Confirming | Completed))
}

/// Whether an update with this nonce may follow the last accepted one. A feed that is not of our factory may say anything.
fn turn_of(last: u64, given: u64) -> Turn {
    match last.checked_add(1) {
        Some(next) if next == given => Turn::Now,
        next => Turn::Refused(nonce_refused(next.unwrap_or(u64::MAX), given)),
    }
}

/// Whether a request is for the update of a place.
fn asks(one: &Waiting, request: RequestId) -> bool {
    let operation = OperationId(one.operation_id);
    (0..ATTEMPTS).any(|attempt| RequestId::of_step(operation, &sign_step(one.item, attempt)) == request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_follows_the_last_one() {
        assert_eq!(turn_of(0, 1), Turn::Now);
        assert_eq!(turn_of(7, 8), Turn::Now);
        assert_eq!(turn_of(u64::MAX - 1, u64::MAX), Turn::Now);
        for (last, given) in [(7, 7), (7, 9), (0, 0), (u64::MAX, u64::MAX), (u64::MAX, 0)] {
            assert!(matches!(turn_of(last, given), Turn::Refused(_)), "{given} after {last}");
        }
    }
}
