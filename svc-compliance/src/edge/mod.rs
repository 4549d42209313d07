//! The gRPC edge: message to command, object-level right, acceptance. No proto type passes beyond this module.

mod asset;
mod asset_messages;
mod catalogue;
mod command;
mod compliance;
mod compliance_messages;
mod expressions;
mod features;
mod holder;
mod identity;
mod identity_messages;
mod recovery;
mod rule_messages;
mod rules;
mod simulation;
mod system;
mod system_messages;
mod templates;
mod terms_messages;

use crate::{
    app::{App, AppHandle, engine_store},
    domain::{ViolationKind, Violations},
    store::Taken,
};
use alloy::primitives::Address;
use dalp_engine::{AcceptHook, Admission, AdmitError, Flow, OperationView, TenantId};
use dalp_proto::{
    asset::asset_service_server::AssetServiceServer, compliance::compliance_service_server::ComplianceServiceServer,
    holder::holder_service_server::HolderServiceServer, identity::identity_service_server::IdentityServiceServer,
    system::system_service_server::SystemServiceServer,
};
use dalp_service::{Caller, Reason, Refusal, caller, server::Routes};
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Request, Response};

/// The most entries of a page.
const MAX_PAGE: u32 = 500;
/// The entries of a page when the caller does not say.
const DEFAULT_PAGE: u32 = 50;

/// Every service of this process.
pub(crate) fn routes(app: &AppHandle) -> Routes {
    Routes::new(SystemServiceServer::new(system::SystemEdge::new(app.clone())))
        .add_service(IdentityServiceServer::new(identity::IdentityEdge::new(app.clone())))
        .add_service(AssetServiceServer::new(asset::AssetEdge::new(app.clone())))
        .add_service(ComplianceServiceServer::new(compliance::ComplianceEdge::new(app.clone())))
        .add_service(HolderServiceServer::new(holder::HolderEdge::new(app.clone())))
}

/// What a write knows before its message is read.
struct Write<'a> {
    app: &'a App,
    caller: Caller,
    key: String,
    method: &'static str,
    /// The stored order of the operation that the key already stands for.
    repeated: Option<serde_json::Value>,
}

/// An operation that was accepted, now or earlier under the same key.
struct Admitted {
    operation: OperationView,
    key: String,
    replayed: bool,
}

impl<'a> Write<'a> {
    async fn begin<T>(app: &'a AppHandle, method: &'static str, request: &Request<T>) -> Result<Self, Refusal> {
        let caller = Caller::from_request(request)?;
        let key = match caller::idempotency_key(request.metadata().as_ref())? {
            Some(key) => key,
            None => uuid::Uuid::new_v4().to_string(),
        };
        let mut write = Self { app: app.get()?, caller, key, method, repeated: None };
        write.repeated = write.stored_order().await?;
        Ok(write)
    }

    fn tenant(&self) -> &str {
        self.caller.tenant.as_str()
    }

    /// Refuses a sender that the caller may not use. A repeat was let in when it came first: rights that changed since must
    /// not hide the operation that runs.
    async fn require_wallet(&self, sender: Address) -> Result<(), Refusal> {
        if self.repeated.is_some() {
            return Ok(());
        }
        self.app.rights.require_wallet(&self.caller, sender).await
    }

    /// Accepts the flow's order in one commit. `order` makes it from the command and what the chain says, with every
    /// precondition; a repeat takes what was resolved then, so that it finds its operation whatever has changed since.
    async fn accept<F, C>(
        self,
        command: &C,
        order: impl Future<Output = Result<(F::Order, Option<AcceptHook>), Refusal>>,
    ) -> Result<Admitted, Refusal>
    where
        F: Flow,
        F::Order: DeserializeOwned,
        C: Serialize,
    {
        if let Some(stored) = self.repeated.clone() {
            return self.repeat::<F, C>(command, stored).await;
        }
        let first = match order.await {
            Ok((order, hook)) => self.admit::<F>(order, hook).await,
            Err(refusal) => Err(refusal),
        };
        match first {
            Ok(admitted) => Ok(admitted),
            // Two requests with one key at once: the one that was slower repeats the other, and what refused it is the
            // other's doing.
            Err(refusal) => match self.stored_order().await? {
                Some(stored) => self.repeat::<F, C>(command, stored).await,
                None => Err(refusal),
            },
        }
    }

    /// The order that the key stands for already.
    async fn stored_order(&self) -> Result<Option<serde_json::Value>, Refusal> {
        let (tenant, principal) = (TenantId::new(self.tenant()), self.caller.principal.as_str());
        self.app.engine.reader().order_of_key(&tenant, principal, self.method, &self.key).await.map_err(engine_store)
    }

    /// The engine compares what is asked for now with what was asked for then.
    async fn repeat<F, C>(&self, command: &C, mut stored: serde_json::Value) -> Result<Admitted, Refusal>
    where
        F: Flow,
        F::Order: DeserializeOwned,
        C: Serialize,
    {
        if let Some(order) = stored.as_object_mut() {
            order.insert("command".into(), serde_json::to_value(command).map_err(Refusal::internal)?);
        }
        self.admit::<F>(serde_json::from_value(stored).map_err(Refusal::internal)?, None).await
    }

    async fn admit<F: Flow>(&self, order: F::Order, hook: Option<AcceptHook>) -> Result<Admitted, Refusal> {
        let (tenant, principal) = (TenantId::new(self.tenant()), self.caller.principal.as_str());
        let mut admission = Admission::<F>::new(tenant, principal, self.method, self.key.clone(), order);
        admission.hook = hook;
        let accepted = self.app.engine.accept(admission).await.map_err(admit_refusal)?;
        Ok(Admitted { operation: accepted.operation, key: self.key.clone(), replayed: accepted.replayed })
    }
}

impl Admitted {
    fn respond<R>(self, answer: impl FnOnce(Option<dalp_proto::operation::Operation>) -> R) -> Response<R> {
        let mut response = Response::new(answer(Some(self.operation.into())));
        caller::set_idempotency(&mut response, &self.key, self.replayed);
        response
    }
}

fn admit_refusal(error: AdmitError) -> Refusal {
    match error {
        AdmitError::KeyReused { stored_hash, given_hash } => {
            Refusal::new(Reason::IdempotencyKeyReused, "the idempotency key stands for another payload")
                .meta("stored_hash", stored_hash)
                .meta("given_hash", given_hash)
        }
        AdmitError::LaneOfOtherTenant(_) => {
            Refusal::new(Reason::WalletNotOwned, "the sender belongs to another tenant")
        }
        AdmitError::Database(error) => match Taken::of(&error) {
            Some(Taken::Symbol) => Refusal::new(Reason::SymbolTaken, "another asset of the tenant has this symbol"),
            Some(Taken::System) => Refusal::new(
                Reason::Conflict,
                "another bootstrap of the tenant was faster; repeat to get its operation",
            ),
            None => engine_store(error),
        },
        error => Refusal::internal(error),
    }
}

impl From<Violations> for Refusal {
    fn from(violations: Violations) -> Self {
        let reason = match violations.kind() {
            ViolationKind::Field => Reason::InvalidField,
            ViolationKind::ModuleParameters => Reason::ModuleParametersInvalid,
            ViolationKind::Template => Reason::TemplateUnknown,
        };
        let message = match violations.0.as_slice() {
            [one] => format!("{}: {}", one.field, one.description),
            many => format!("{} fields are not valid", many.len()),
        };
        violations
            .0
            .into_iter()
            .fold(Self::new(reason, message), |refusal, one| refusal.field(one.field, one.description))
    }
}

/// A page size within bounds.
fn page_size(asked: u32) -> Result<u32, Refusal> {
    match asked {
        0 => Ok(DEFAULT_PAGE),
        1..=MAX_PAGE => Ok(asked),
        _ => Err(Refusal::new(Reason::InvalidField, "page_size is out of range")
            .field("page_size", format!("must be at most {MAX_PAGE}"))),
    }
}

/// The block that a question is about; 0 is the newest indexed one.
async fn block_of(app: &App, asked: u64) -> Result<u64, Refusal> {
    let head = app.store.indexed_head(app.chain.chain_id()).await?;
    match (asked, head) {
        (0, Some(head)) => Ok(head),
        (asked, Some(head)) if asked <= head => Ok(asked),
        (_, head) => Err(Refusal::new(Reason::BlockNotIndexed, "the block is not indexed yet")
            .meta("indexed_block", head.unwrap_or_default())),
    }
}

/// The block and the place of a page in a list by address. The token carries the block, so that all pages of a list hold for the
/// same one.
async fn page_at(app: &App, block_number: u64, token: &str) -> Result<(u64, Option<Address>), Refusal> {
    if token.is_empty() {
        return Ok((block_of(app, block_number).await?, None));
    }
    let (block, after) = token.split_once('-').ok_or_else(bad_page_token)?;
    let block = block.parse().map_err(|_| bad_page_token())?;
    Ok((block_of(app, block).await?, Some(after.parse().map_err(|_| bad_page_token())?)))
}

/// The token of the page behind an address.
fn page_token(block: u64, last: Address) -> String {
    format!("{block}-{last:#x}")
}

fn bad_page_token() -> Refusal {
    Refusal::new(Reason::PageTokenInvalid, "the page token is not one of ours")
        .field("page_token", "give back next_page_token of the page before")
}

/// An address field of a read.
fn read_address(field: &str, text: &str) -> Result<Address, Refusal> {
    let mut violations = Violations::new();
    let address = violations.address(field, text);
    Ok(violations.into_result(address)?)
}
