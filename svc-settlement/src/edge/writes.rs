//! Everything that changes a settlement: command, right, what the contract would say, acceptance.

use super::{Write, answers, messages, pairs, preview::locks_of, settlement_of};
use crate::{
    app::{App, AppHandle},
    commands::{Act, Approve, Cancel, CreateSettlement, Reveal, Secret},
    flows::{ActFlow, ApproveFlow, ApproveOrder, CreateFlow, CreateOrder, Grant, On},
    metric_definitions as metric, readers,
    state::{Book, LegState, Progress, State},
    store::{
        claims::{Allowance, put_claims},
        settlements::{StoredSettlement, put_settlement},
    },
    terms::{Deed, Terms},
};
use alloy::{
    primitives::{Address, B256, U256, keccak256},
    sol_types::SolError,
};
use dalp_contracts::{
    bindings::Settlement::{NotLocked, SecretMismatch, SettlementUnknown, WrongStatus, approveCall, createCall},
    decode_revert,
};
use dalp_domain::{Admitted, ChainReader, Head, ReadError};
use dalp_engine::AcceptHook;
use dalp_proto::settlement as proto;
use dalp_service::{Reason, Refusal};
use tonic::Request;
use uuid::Uuid;

/// A creation that was accepted.
pub(super) struct Created {
    pub(super) admitted: Admitted,
    /// The identifier it will have.
    pub(super) settlement_id: String,
}

/// Counts a refusal.
fn counted<T>(answer: Result<T, Refusal>) -> Result<T, Refusal> {
    answer.inspect_err(|refusal| metric::refused(refusal.reason().as_str()))
}

/// Accepts a creation.
pub(super) async fn create(
    app: &AppHandle,
    request: Request<proto::CreateSettlementRequest>,
) -> Result<Created, Refusal> {
    let write = Write::begin(app, "dalp.settlement.v1.SettlementService/CreateSettlement", &request).await?;
    let command = counted(messages::creation(request.get_ref(), write.app.chain.chain_id()))?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let order = counted(resolve(app, &tenant, &command).await)?;
        Ok((order.clone(), Some(settlement_row(&tenant, order))))
    };
    let admitted = write.accept::<CreateFlow, _>(&command, order).await?;
    let stored = app.store.settlement_of_operation(&tenant, admitted.operation.operation_id.0).await?;
    let stored = stored.ok_or_else(|| Refusal::internal("an accepted creation without its settlement"))?;
    Ok(Created { admitted, settlement_id: answers::id(stored.settlement_id) })
}

/// Which settlement it would be: what the contract refuses is refused here, before anything is accepted.
async fn resolve(app: &App, tenant: &str, command: &CreateSettlement) -> Result<CreateOrder, Refusal> {
    let contract = app.contracts(tenant, app.chain.chain_id()).await?.settlement;
    let (salt, settlement_id) =
        opening(&app.chain, contract, command.sender, &command.terms, app.chain.latest().await?).await?;
    Ok(CreateOrder { chain_id: app.chain.chain_id(), contract, salt, settlement_id, command: command.clone() })
}

/// The salt and identifier with which terms would be opened; what stands against it is the refusal. A preview asks the same.
pub(super) async fn opening(
    chain: &ChainReader,
    contract: Address,
    sender: Address,
    terms: &Terms,
    at: Head,
) -> Result<(B256, B256), Refusal> {
    if terms.cutoff <= at.timestamp_s {
        return Err(Refusal::new(Reason::InvalidField, "the settlement would be over before it began")
            .field("terms.cutoff", format!("must be later than the latest block, which is of {}", at.timestamp_s)));
    }
    let absent = readers::without_code(chain, terms).await?;
    let absent = absent.into_iter().map(|place| (place, "asset", "is no contract on this chain"));
    let to_itself = terms.local().filter(|(_, leg)| leg.to == contract);
    let to_itself = to_itself.map(|(place, _)| (place, "to", "must not be the settlement contract"));
    if let Some(refusal) = messages::unusable(absent.chain(to_itself)) {
        return Err(refusal);
    }
    let salt = keccak256(Uuid::new_v4().as_bytes());
    let deed = Deed { salt, terms: terms.clone() };
    let call = createCall { terms: deed.on_chain() };
    let settlement_id = readers::dry(chain, sender, contract, call, at.id()).await?;
    Ok((salt, settlement_id))
}

/// Writes the settlement in the commit that accepts its creation.
fn settlement_row(tenant: &str, order: CreateOrder) -> AcceptHook {
    let tenant = tenant.to_owned();
    Box::new(move |connection, id| Box::pin(async move { put_settlement(connection, &tenant, id.0, &order).await }))
}

/// Accepts an approval.
pub(super) async fn approve(app: &AppHandle, request: Request<proto::ApproveRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.settlement.v1.SettlementService/Approve", &request).await?;
    let command = counted(Approve::try_from(request.get_ref()))?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    // What is under way is read before an approval is accepted and counted with it: of one wallet, one after the other.
    let turn = app.turn(command.sender);
    let _turn = turn.lock().await;
    let order = async {
        let order = counted(approval(app, &tenant, &command).await)?;
        let (of, needs) = (allowance(&order.on), needs(&order));
        let hook: AcceptHook = Box::new(move |connection, id| {
            Box::pin(async move { put_claims(connection, &tenant, of, id.0, &needs).await })
        });
        Ok((order, Some(hook)))
    };
    write.accept::<ApproveFlow, _>(&command, order).await
}

fn allowance(on: &On<Approve>) -> Allowance {
    Allowance { chain_id: on.chain_id, contract: on.contract, sender: on.command.sender }
}

/// What an approval takes of allowances.
fn needs(order: &ApproveOrder) -> Vec<(Address, U256)> {
    order.locks.iter().map(|grant| (grant.lock.asset, grant.lock.amount)).collect()
}

/// The approval with the allowances that it needs. What the contract finds before it asks for those, and too
/// little free, is found before they are given; what an asset has against the hold is found after, and the allowances stand.
async fn approval(app: &App, tenant: &str, command: &Approve) -> Result<ApproveOrder, Refusal> {
    let stored = settlement_of(app, tenant, command.settlement_id).await?;
    pairs::require_other_lock(app, tenant, &stored).await?;
    let contracts = app.contracts_of(stored.chain_id, stored.contract).await?;
    let chain = app.on(stored.chain_id)?;
    let at = chain.latest().await?.id();
    let call = approveCall { terms: stored.deed.on_chain() };
    match readers::dry(chain, command.sender, stored.contract, call, at).await {
        Ok(_) => {}
        Err(ReadError::Reverted(data))
            if !command.keep_allowances && decode_revert(&data).contract_error == "AllowanceInsufficient" => {}
        Err(error) => return Err(error.into()),
    }
    let locks = locks_of(chain, contracts, &stored.deed.terms, command.sender, at).await?;
    let on = on(&stored, command.clone());
    let claimed = app.store.claimed(tenant, allowance(&on)).await?;
    let locks = locks.into_iter().map(|found| {
        let others = claimed.get(&found.lock.asset).copied().unwrap_or_default();
        Grant {
            missing: !command.keep_allowances && found.allowance < found.lock.amount.saturating_add(others),
            stale: false,
            others,
            lock: found.lock,
        }
    });
    Ok(ApproveOrder { locks: locks.collect(), on })
}

fn on<C>(stored: &StoredSettlement, command: C) -> On<C> {
    On { chain_id: stored.chain_id, contract: stored.contract, deed: stored.deed.clone(), command }
}

/// Accepts a call that the contract has nothing against.
pub(super) async fn act<A, M>(app: &AppHandle, method: &'static str, request: Request<M>) -> Result<Admitted, Refusal>
where
    A: Act + for<'m> TryFrom<&'m M, Error = Refusal>,
{
    let write = Write::begin(app, method, &request).await?;
    let command = counted(A::try_from(request.get_ref()))?;
    write.require_wallet(command.sender()).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let order = counted(checked(app, &tenant, &command).await)?;
        Ok((order, None))
    };
    write.accept::<ActFlow<A>, _>(&command, order).await
}

async fn checked<A: Act>(app: &App, tenant: &str, command: &A) -> Result<On<A>, Refusal> {
    let stored = settlement_of(app, tenant, command.settlement_id()).await?;
    let chain = app.on(stored.chain_id)?;
    let at = chain.latest().await?.id();
    readers::dry(chain, command.sender(), stored.contract, command.call(&stored.deed), at).await?;
    Ok(on(&stored, command.clone()))
}

/// Accepts a cancellation, which an armed settlement takes as a vote only.
pub(super) async fn cancel(app: &AppHandle, request: Request<proto::CancelRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.settlement.v1.SettlementService/Cancel", &request).await?;
    let command = counted(Cancel::try_from(request.get_ref()))?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let order = counted(cancellation(app, &tenant, &command).await)?;
        Ok((order, None))
    };
    write.accept::<ActFlow<Cancel>, _>(&command, order).await
}

async fn cancellation(app: &App, tenant: &str, command: &Cancel) -> Result<On<Cancel>, Refusal> {
    let order = checked(app, tenant, command).await?;
    let chain = app.on(order.chain_id)?;
    let at = chain.latest().await?.id();
    let (deed, terms) = (&order.deed, &order.deed.terms);
    let progress = readers::progress(chain, order.contract, deed, command.settlement_id, at).await?;
    match progress.filter(|progress| progress.is_armed(terms)) {
        None => Ok(order),
        Some(progress) => {
            let text = "the settlement is armed: it is cancelled when every local party votes for it";
            Err(Refusal::new(Reason::CancelNotAllowed, text).meta("status", progress.state.name()).meta("armed", true))
        }
    }
}

/// Accepts a secret.
pub(super) async fn reveal(app: &AppHandle, request: Request<proto::RevealRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.settlement.v1.SettlementService/Reveal", &request).await?;
    let command = counted(Reveal::try_from(request.get_ref()))?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let order = counted(revelation(app, &tenant, &command).await)?;
        Ok((order, None))
    };
    write.accept::<ActFlow<Reveal>, _>(&command, order).await
}

/// The secret leaves this process only when the contract is known to take it: whoever reads a node's requests could use it elsewhere.
async fn revelation(app: &App, tenant: &str, command: &Reveal) -> Result<On<Reveal>, Refusal> {
    let stored = settlement_of(app, tenant, command.settlement_id).await?;
    opens(&stored.deed.terms, command.secret)?;
    let chain = app.on(stored.chain_id)?;
    let at = chain.latest().await?.id();
    let progress = readers::progress(chain, stored.contract, &stored.deed, stored.settlement_id, at).await?;
    let events = app.store.events(stored.chain_id, stored.contract, stored.settlement_id).await?;
    let book = Book::of(events.iter().map(|event| &event.told));
    takes_secret(&stored, progress, &book)?;
    checked(app, tenant, command).await
}

/// What the contract refuses with.
fn contract_refuses(error: impl SolError) -> Refusal {
    ReadError::Reverted(error.abi_encode()).into()
}

fn opens(terms: &Terms, secret: Secret) -> Result<(), Refusal> {
    match terms.hash_lock {
        Some(lock) if lock.opens(secret.0) => Ok(()),
        _ => Err(contract_refuses(SecretMismatch {})),
    }
}

/// Whether every local leg is locked and nothing is broken, in the contract's own order.
fn takes_secret(stored: &StoredSettlement, progress: Option<Progress>, book: &Book) -> Result<(), Refusal> {
    let Some(progress) = progress else {
        return Err(contract_refuses(SettlementUnknown { id: stored.settlement_id }));
    };
    match progress.stored {
        State::Approved if progress.state == State::Breached => {
            let terms = &stored.deed.terms;
            let is_broken = |place: &usize| progress.leg(terms, *place, &book.broken) == LegState::Breached;
            let refusal = Refusal::new(Reason::LegBreached, "a custodian broke the hold of a leg");
            // The index may be behind the block.
            Err(match (0..terms.legs.len()).find(is_broken) {
                Some(place) => refusal.meta("leg", place),
                None => refusal,
            })
        }
        State::Approved => Ok(()),
        State::Active => Err(contract_refuses(NotLocked {})),
        other => Err(contract_refuses(WrongStatus { status: other.number() })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        state::{EventKind, Told},
        terms::{
            HashKind, HashLock,
            tests::{ALICE, BOND, cross_chain, delivery},
        },
    };

    fn answer(stored: State, state: State, book: &Book) -> String {
        let deed = Deed { salt: B256::ZERO, terms: cross_chain() };
        let row = StoredSettlement {
            number: 1,
            chain_id: 1,
            contract: Address::ZERO,
            settlement_id: deed.id(),
            operation_id: None,
            creator: ALICE,
            deed,
            created_block: Some(1),
            state,
        };
        let progress = Progress { state, stored, approvals: 3, delivered: 0, votes: 0, reclaim_from: None };
        match takes_secret(&row, Some(progress), book) {
            Ok(()) => "taken".to_owned(),
            Err(refusal) => refusal.reason().as_str().to_owned(),
        }
    }

    #[test]
    fn a_wrong_secret_is_found_here() {
        let secret = B256::repeat_byte(7);
        let mut terms = cross_chain();
        terms.hash_lock = Some(HashLock { kind: HashKind::Keccak256, hash: keccak256(secret) });
        assert!(opens(&terms, Secret(secret)).is_ok());
        let wrong = opens(&terms, Secret(B256::ZERO)).unwrap_err();
        assert_eq!(wrong.reason().as_str(), "SECRET_MISMATCH");
        assert!(opens(&delivery(), Secret(secret)).is_err(), "nothing to open");
    }

    #[test]
    fn a_secret_is_kept_until_the_contract_takes_it() {
        let book = Book::of([]);
        assert_eq!(answer(State::Approved, State::Approved, &book), "taken");
        assert_eq!(answer(State::Approved, State::Expired, &book), "taken", "while nothing was reclaimed");
        assert_eq!(answer(State::Active, State::Active, &book), "NOT_APPROVED");
        for over in [State::Cancelled, State::Executed, State::Expired, State::Committed] {
            assert_eq!(answer(over, over, &book), "FAILED_PRECONDITION", "{over:?}");
        }
        assert_eq!(answer(State::Approved, State::Breached, &book), "LEG_BREACHED");
        let broken = Told {
            kind: EventKind::HoldBroken,
            party: Some(ALICE),
            asset: Some(BOND),
            leg: None,
            reason: String::new(),
            reclaim_from: None,
        };
        assert_eq!(answer(State::Approved, State::Breached, &Book::of([&broken])), "LEG_BREACHED");
    }
}
