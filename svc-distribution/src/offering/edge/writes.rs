//! Everything that changes a sale but purchases: command, right, acceptance.

use super::{Write, answers, messages::Asked, offering_of};
use crate::{
    app::{App, AppHandle},
    offering::{
        flows::{
            ActivateFlow, ClaimFlow, CreateOfferingFlow, CreateOrder, FinalizeFlow, On, RefundFlow, RefundOrder,
            SetPausedFlow, WithdrawProceedsFlow, WithdrawUnsoldFlow,
        },
        readers,
        state::{Phase, State},
        store::offerings::{StoredOffering, put_offering},
        terms::{ClaimTokens, CreateOffering, Handle, Refund, SetPaused, WithdrawProceeds},
    },
};
use alloy::primitives::{Address, keccak256};
use dalp_domain::Admitted;
use dalp_engine::{AcceptHook, Flow};
use dalp_proto::distribution as proto;
use dalp_service::{Reason, Refusal};
use serde::{Serialize, de::DeserializeOwned};
use tonic::Request;
use uuid::Uuid;

/// A creation that was accepted.
pub(super) struct Created {
    pub(super) admitted: Admitted,
    /// Address at which the sale will stand.
    pub(super) offering: String,
}

/// A command over one sale.
trait Command: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    fn sender(&self) -> Address;
    fn offering(&self) -> Address;
}

macro_rules! commands {
    ($($command:ident),+) => {$(
        impl Command for $command {
            fn sender(&self) -> Address {
                self.sender
            }

            fn offering(&self) -> Address {
                self.offering
            }
        }
    )+};
}

commands!(Handle, SetPaused, ClaimTokens, WithdrawProceeds);

/// Accepts a creation.
pub(super) async fn create(
    app: &AppHandle,
    request: Request<proto::CreateOfferingRequest>,
) -> Result<Created, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.OfferingService/CreateOffering", &request).await?;
    creation(write, Asked::try_from(request.get_ref())?).await
}

/// Accepts the creation of a sale that takes another's place.
pub(super) async fn configure(
    app: &AppHandle,
    request: Request<proto::ConfigureOfferingRequest>,
) -> Result<Created, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.OfferingService/ConfigureOffering", &request).await?;
    creation(write, Asked::try_from(request.get_ref())?).await
}

async fn creation(write: Write<'_>, Asked { command, allow_list }: Asked) -> Result<Created, Refusal> {
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        if let Some(replaced) = command.replaces {
            let stored = offering_of(app, &tenant, replaced).await?;
            require_replaceable(app, &stored, &command).await?;
        }
        let order = resolve(app, &tenant, &command).await?;
        Ok((order.clone(), Some(offering_row(&tenant, order, allow_list))))
    };
    let admitted = write.accept::<CreateOfferingFlow, _>(&command, order).await?;
    let stored = app.store.offering_of_operation(&tenant, admitted.operation.operation_id.0).await?;
    let stored = stored.ok_or_else(|| Refusal::internal("an accepted creation without its sale"))?;
    Ok(Created { admitted, offering: answers::text(stored.offering) })
}

/// Refuses other terms for a sale that has them for good.
async fn require_replaceable(app: &App, stored: &StoredOffering, command: &CreateOffering) -> Result<(), Refusal> {
    require_in_place(stored)?;
    if stored.terms.asset != command.terms.asset {
        return Err(Refusal::new(Reason::FailedPrecondition, "the sale sells another asset"));
    }
    if readers::is_activated(&app.chain, stored.offering, command.sender).await? {
        return Err(Refusal::new(Reason::SaleNotActive, "the sale is activated: its terms are final"));
    }
    Ok(())
}

fn require_in_place(stored: &StoredOffering) -> Result<(), Refusal> {
    match stored.replaced_by {
        None => Ok(()),
        Some(by) => Err(Refusal::new(Reason::FailedPrecondition, "another sale has taken the place of this one")
            .meta("replaced_by", answers::text(by))),
    }
}

/// Prices, and where the factory would put the sale: what it refuses is refused here, before anything is accepted.
async fn resolve(app: &App, tenant: &str, command: &CreateOffering) -> Result<CreateOrder, Refusal> {
    let factory = app.factory(tenant).await?;
    let now_s = app.chain.latest().await?.timestamp_s;
    if command.terms.ends_at <= now_s {
        return Err(Refusal::new(Reason::InvalidField, "the sale would be over before it began")
            .field("terms.ends_at", format!("must be later than the latest block, which is of {now_s}")));
    }
    let rates = readers::rates(&app.chain, &command.terms).await?;
    let salt = keccak256(Uuid::new_v4().as_bytes());
    let offering = readers::dry_create(&app.chain, factory, (command.sender, salt), &command.terms, &rates).await?;
    Ok(CreateOrder { chain_id: app.chain.chain_id(), factory, offering, salt, rates, command: command.clone() })
}

/// Writes the sale in the commit that accepts its creation.
fn offering_row(tenant: &str, order: CreateOrder, allow_list: Vec<Address>) -> AcceptHook {
    let tenant = tenant.to_owned();
    Box::new(move |connection, id| {
        Box::pin(async move { put_offering(connection, &tenant, id.0, &order, &allow_list).await })
    })
}

/// Accepts a command over a sale of the tenant.
async fn on<F, C, M>(
    app: &AppHandle,
    method: &'static str,
    request: &Request<M>,
    check: impl FnOnce(&StoredOffering) -> Result<(), Refusal>,
) -> Result<Admitted, Refusal>
where
    F: Flow<Order = On<C>>,
    C: Command + for<'m> TryFrom<&'m M, Error = Refusal>,
{
    let write = Write::begin(app, method, request).await?;
    let command = C::try_from(request.get_ref())?;
    write.require_wallet(command.sender()).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        check(&offering_of(app, &tenant, command.offering()).await?)?;
        Ok((On { chain_id: app.chain.chain_id(), command: command.clone() }, None))
    };
    write.accept::<F, _>(&command, order).await
}

/// What a sale is asked before most commands: the contract judges.
fn any(_: &StoredOffering) -> Result<(), Refusal> {
    Ok(())
}

/// Accepts an activation.
pub(super) async fn activate(
    app: &AppHandle,
    request: Request<proto::ActivateOfferingRequest>,
) -> Result<Admitted, Refusal> {
    let method = "dalp.distribution.v1.OfferingService/ActivateOffering";
    on::<ActivateFlow, Handle, _>(app, method, &request, require_in_place).await
}

/// Accepts a pause.
pub(super) async fn pause(app: &AppHandle, request: Request<proto::PauseOfferingRequest>) -> Result<Admitted, Refusal> {
    let method = "dalp.distribution.v1.OfferingService/PauseOffering";
    on::<SetPausedFlow, SetPaused, _>(app, method, &request, any).await
}

/// Accepts the end of a pause.
pub(super) async fn resume(
    app: &AppHandle,
    request: Request<proto::ResumeOfferingRequest>,
) -> Result<Admitted, Refusal> {
    let method = "dalp.distribution.v1.OfferingService/ResumeOffering";
    on::<SetPausedFlow, SetPaused, _>(app, method, &request, any).await
}

/// Accepts a decision.
pub(super) async fn finalize(
    app: &AppHandle,
    request: Request<proto::FinalizeOfferingRequest>,
) -> Result<Admitted, Refusal> {
    let method = "dalp.distribution.v1.OfferingService/FinalizeOffering";
    on::<FinalizeFlow, Handle, _>(app, method, &request, any).await
}

/// Accepts a claim.
pub(super) async fn claim(app: &AppHandle, request: Request<proto::ClaimTokensRequest>) -> Result<Admitted, Refusal> {
    let method = "dalp.distribution.v1.OfferingService/ClaimTokens";
    on::<ClaimFlow, ClaimTokens, _>(app, method, &request, any).await
}

/// Accepts a withdrawal of proceeds.
pub(super) async fn withdraw_proceeds(
    app: &AppHandle,
    request: Request<proto::WithdrawProceedsRequest>,
) -> Result<Admitted, Refusal> {
    let method = "dalp.distribution.v1.OfferingService/WithdrawProceeds";
    on::<WithdrawProceedsFlow, WithdrawProceeds, _>(app, method, &request, any).await
}

/// Accepts a withdrawal of unsold tokens.
pub(super) async fn withdraw_unsold(
    app: &AppHandle,
    request: Request<proto::WithdrawUnsoldRequest>,
) -> Result<Admitted, Refusal> {
    let method = "dalp.distribution.v1.OfferingService/WithdrawUnsold";
    on::<WithdrawUnsoldFlow, Handle, _>(app, method, &request, any).await
}

/// Accepts refunds.
pub(super) async fn refund(app: &AppHandle, request: Request<proto::RefundRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.OfferingService/Refund", &request).await?;
    let command = Refund::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let stored = offering_of(app, &tenant, command.offering).await?;
        let currencies = refundable(app, &stored, &command).await?;
        Ok((RefundOrder { chain_id: app.chain.chain_id(), currencies, command: command.clone() }, None))
    };
    write.accept::<RefundFlow, _>(&command, order).await
}

/// The currencies in which a buyer has something to get back, of those that are asked for.
async fn refundable(app: &App, stored: &StoredOffering, command: &Refund) -> Result<Vec<Address>, Refusal> {
    let closed =
        |state: State| Refusal::new(Reason::RefundNotOpen, "the sale gives no refunds").meta("status", state.name());
    let Some(sale) = readers::on_chain(&app.chain, &stored.terms, stored.offering).await? else {
        return Err(closed(State::Setup));
    };
    let phase = app.store.turns(app.chain.chain_id(), stored.offering).await?.phase;
    // Once the last one has got his money the sale is closed, whichever way it ended.
    if !(sale.state == State::Refunding || (sale.state == State::Closed && phase == Phase::Refunding)) {
        return Err(closed(sale.state));
    }
    let asked = match command.currency {
        None => stored.rates.currencies.iter().map(|rate| rate.currency).collect(),
        Some(currency) if stored.rates.of(currency).is_some() => vec![currency],
        Some(currency) => {
            return Err(Refusal::new(Reason::CurrencyUnsupported, "the sale does not take the currency")
                .meta("currency", answers::text(currency)));
        }
    };
    let mut due = Vec::new();
    for currency in asked {
        let pair = (command.buyer, currency);
        if !readers::paid(&app.chain, stored.offering, pair, sale.at.id()).await?.is_zero() {
            due.push(currency);
        }
    }
    match due.is_empty() {
        false => Ok(due),
        true => Err(Refusal::new(Reason::NothingDue, "the buyer has nothing to get back")
            .meta("account", answers::text(command.buyer))),
    }
}
