//! Redemption at maturity by itself: opened once, on the decision of whoever made the schedule, before its list is prepared and paid.

use super::{
    flows::MatureFlow,
    readers,
    start::standing,
    store::{
        due::{NotStarted, StoredDue},
        treasuries::StoredTreasury,
    },
    terms::Handle,
};
use crate::{app::App, offering::flows::On, passes::ended};
use alloy::sol_types::SolCall as _;
use dalp_contracts::bindings::ServicingLifecycle::matureCall;
use dalp_domain::refusals::not_accepted;
use dalp_engine::{Admission, Failure, Question, TenantId};
use dalp_service::{Reason, Refusal};
use uuid::Uuid;

/// The RPC that the opening is accepted under.
pub const METHOD: &str = "dalp.distribution.v1.TreasuryService/AutomateRedemption";

/// How far a redemption is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redemption {
    /// It is open, and nobody has begun to pay it.
    Open,
    /// An operation opens it.
    Opening(Uuid),
    /// This run pays it, or has.
    Begun(u32),
}

/// Opens a redemption that is due, unless it is open. Repeating it finds the operation: it stands under a key that is another only once the
/// one before is known to have failed.
pub async fn redemption(app: &App, due: &StoredDue, treasury: &StoredTreasury) -> Result<Redemption, NotStarted> {
    let yet = |refusal: Refusal| NotStarted::Yet(Failure::new(refusal.reason().as_str(), refusal.to_string()));
    let begun = app.store.begun_redemption(app.chain.chain_id(), treasury.treasury).await;
    if let Some(run) = begun.map_err(|error| yet(error.into()))? {
        return Ok(Redemption::Begun(run));
    }
    if let Some(id) = due.open_operation {
        match ended(&app.engine, &due.tenant, id).await {
            Ok(None) => return Ok(Redemption::Opening(id)),
            // Somebody else may have opened it meanwhile.
            Ok(Some(Err(failure))) if !is_open(app, treasury).await.map_err(yet)? => {
                return Err(NotStarted::NotOpened(failure));
            }
            Ok(Some(_)) => {}
            Err(error) => {
                let text = "the operation that opens the redemption cannot be read";
                return Err(yet(Refusal::new(Reason::DatabaseUnavailable, text).source(error)));
            }
        }
    }
    match is_open(app, treasury).await.map_err(yet)? {
        true => Ok(Redemption::Open),
        false => open(app, due).await.map(Redemption::Opening).map_err(yet),
    }
}

async fn is_open(app: &App, treasury: &StoredTreasury) -> Result<bool, Refusal> {
    Ok(standing(app, treasury).await?.matured)
}

/// Has the redemption opened, as `Mature` does; what the contract refuses is the refusal.
async fn open(app: &App, due: &StoredDue) -> Result<Uuid, Refusal> {
    let command = Handle { sender: due.decision.sender, treasury: due.treasury };
    readers::try_as(&app.chain, command.sender, command.treasury, matureCall {}.abi_encode().into()).await?;
    // By the sender too: a new decision may come before this operation was noted.
    let key = format!("mature-{:#x}-{}-{}-{:#x}", due.treasury, due.schedule, due.openings_failed, command.sender);
    let order = On { chain_id: app.chain.chain_id(), command };
    let mut admission =
        Admission::<MatureFlow>::new(TenantId::new(&due.tenant), &due.decision.principal, METHOD, key, order);
    // As when a person asks for it: a policy that holds `Mature` holds what the calendar opens.
    admission.question = Some(Question::default());
    Ok(app.engine.accept(admission).await.map_err(not_accepted)?.operation.operation_id.0)
}
