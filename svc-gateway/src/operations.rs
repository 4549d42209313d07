//! The Operation service, answered from the engine's records. Another tenant's operation does not exist here.

use std::{collections::BTreeSet, pin::Pin, time::Duration};

use dalp_engine::{CancelError, OperationFilter, OperationId, OperationState, OperationView, Reader, TenantId};
use dalp_proto::operation::{
    self as wire, ApproveOperationRequest, ApproveOperationResponse, CancelOperationRequest, CancelOperationResponse,
    GetOperationRequest, GetOperationResponse, ListOperationsRequest, ListOperationsResponse, RejectOperationRequest,
    RejectOperationResponse, WaitOperationRequest, WaitOperationResponse, WatchOperationRequest,
    WatchOperationResponse, operation_service_server::OperationService,
};
use dalp_service::{
    Caller, Reason, Refusal,
    caller::{ANY_WALLET, hands},
    errors::RefusalResult,
    fields,
    stop::Stop,
};
use futures::{Stream, StreamExt as _, future, stream};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    checkers::{Checkers, Saying},
    requests::{foreign_page_token, invalid, page_size, reason, store_refusal, tenant},
};

const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const MAX_WAIT: Duration = Duration::from_secs(60);
const MAX_REASON_CHARACTERS: usize = 500;

/// Reads and controls operations.
#[derive(Clone, Debug)]
pub struct Operations {
    reader: Reader,
    checkers: Checkers,
    stop: Stop,
}

// === impl Operations ===

impl Operations {
    /// Answers from `reader`; decisions about held operations are those of `checkers`; waits and streams end when `stop` is requested.
    #[must_use]
    pub fn new(reader: Reader, checkers: Checkers, stop: Stop) -> Self {
        Self { reader, checkers, stop }
    }
}

#[tonic::async_trait]
impl OperationService for Operations {
    type WatchOperationStream = Pin<Box<dyn Stream<Item = Result<WatchOperationResponse, Status>> + Send>>;

    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<GetOperationResponse>, Status> {
        let tenant = tenant(&request)?;
        let id = operation_id(&request.get_ref().operation_id)?;
        let found = self.reader.get_operation(&tenant, id).await.map_err(store_refusal)?;
        Ok(Response::new(GetOperationResponse { operation: Some(found.ok_or_else(|| absent(id))?.into()) }))
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let tenant = tenant(&request)?;
        let list = List::try_from(request.into_inner())?;
        let page = self
            .reader
            .list_operations(&tenant, &list.filter, list.after, list.page_size)
            .await
            .map_err(store_refusal)?;
        Ok(Response::new(ListOperationsResponse {
            operations: page.operations.into_iter().map(in_a_list).collect(),
            next_page_token: page.next.map(|id| id.0.simple().to_string()).unwrap_or_default(),
        }))
    }

    async fn wait_operation(
        &self,
        request: Request<WaitOperationRequest>,
    ) -> Result<Response<WaitOperationResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let id = operation_id(&request.operation_id)?;
        let timeout = wait_timeout(request.timeout)?;
        let found = tokio::select! {
            found = self.reader.wait(&tenant, id, timeout) => found.map_err(store_refusal)?,
            // The client asks again and another replica answers; the operation does not depend on this one.
            () = self.stop.requested() => return Err(stopping().into()),
        };
        Ok(Response::new(WaitOperationResponse { operation: Some(found.ok_or_else(|| absent(id))?.into()) }))
    }

    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let tenant = tenant(&request)?;
        let id = operation_id(&request.get_ref().operation_id)?;
        // A stream that begins with nothing would look like an operation that ended.
        if self.reader.get_operation(&tenant, id).await.map_err(store_refusal)?.is_none() {
            return Err(absent(id).into());
        }
        let stop = self.stop.clone();
        let changes = self.reader.watch(tenant, id).map(|view| match view {
            Ok(view) => Ok(WatchOperationResponse { operation: Some(view.into()) }),
            Err(error) => Err(store_refusal(error).into()),
        });
        let stopped = stream::once(async move {
            stop.requested().await;
            Err(stopping().into())
        });
        // Whichever comes first ends the stream: the operation's final state, or our own stop.
        let both = stream::select(changes.map(Some).chain(stream::once(future::ready(None))), stopped.map(Some));
        let ends = both.take_while(|item| future::ready(item.is_some())).filter_map(future::ready).scan(
            false,
            |ended, item| {
                let deliver = !*ended;
                *ended = item.is_err();
                future::ready(deliver.then_some(item))
            },
        );
        Ok(Response::new(Box::pin(ends)))
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<CancelOperationResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let tenant = TenantId::new(caller.tenant.as_str());
        let request = request.into_inner();
        let id = operation_id(&request.operation_id)?;
        let reason = fields::bounded_string("reason", &request.reason, 0, MAX_REASON_CHARACTERS).map_err(invalid)?;
        let found = self.reader.get_operation(&tenant, id).await.map_err(store_refusal)?.ok_or_else(|| absent(id))?;
        if found.principal != caller.principal.as_str() && !caller.has_role(ANY_WALLET) {
            // A cancel may spend gas of the wallet that sent.
            let message = "the operation is another principal's, and cancelling it acts on its wallet";
            return Err(Refusal::new(Reason::WalletNotOwned, message).meta("operation_id", id).into());
        }
        let cancelled = self.reader.cancel(&tenant, id, caller.principal.as_str(), &reason).await;
        let view = cancelled.map_err(|error| match error {
            CancelError::NotFound => absent(id),
            CancelError::NotCancellable => {
                Refusal::new(Reason::OperationNotCancellable, "nothing of the operation can be withdrawn any more")
                    .meta("operation_id", id)
            }
            CancelError::Store(error) => store_refusal(error),
        })?;
        Ok(Response::new(CancelOperationResponse { operation: Some(view.into()) }))
    }

    async fn approve_operation(
        &self,
        request: Request<ApproveOperationRequest>,
    ) -> Result<Response<ApproveOperationResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let ApproveOperationRequest { operation_id, payload_hash, reason } = request.get_ref();
        let saying = saying(true, operation_id, payload_hash, reason, hands(request.metadata()))?;
        let view = self.checkers.decide(&caller, &saying).await?;
        Ok(Response::new(ApproveOperationResponse { operation: Some(view.into()) }))
    }

    async fn reject_operation(
        &self,
        request: Request<RejectOperationRequest>,
    ) -> Result<Response<RejectOperationResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let RejectOperationRequest { operation_id, payload_hash, reason } = request.get_ref();
        let saying = saying(false, operation_id, payload_hash, reason, hands(request.metadata()))?;
        let view = self.checkers.decide(&caller, &saying).await?;
        Ok(Response::new(RejectOperationResponse { operation: Some(view.into()) }))
    }
}

fn saying(approved: bool, id: &str, payload_hash: &str, why: &str, hands: BTreeSet<String>) -> RefusalResult<Saying> {
    let hash = payload_hash.parse().map_err(|_| {
        invalid(fields::violation("payload_hash", "expected 0x and 64 hex digits: that of the operation's check"))
    })?;
    Ok(Saying { id: operation_id(id)?, approved, reason: reason(why)?, payload_hash: hash, hands })
}

/// An operation among others: what is asked for is read where it is decided about.
fn in_a_list(view: OperationView) -> wire::Operation {
    let mut operation = wire::Operation::from(view);
    if let Some(check) = &mut operation.check {
        check.command_json.clear();
    }
    operation
}

/// What a list asks for.
#[derive(Debug)]
struct List {
    filter: OperationFilter,
    after: Option<OperationId>,
    page_size: u32,
}

impl TryFrom<ListOperationsRequest> for List {
    type Error = Refusal;

    fn try_from(request: ListOperationsRequest) -> Result<Self, Refusal> {
        let page_size = page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => match Uuid::parse_str(token) {
                Ok(id) => Some(OperationId(id)),
                Err(_) => return Err(foreign_page_token()),
            },
        };
        let state = match request.state {
            0 => None,
            state => Some(match fields::enum_value::<wire::OperationState>("state", state).map_err(invalid)? {
                wire::OperationState::Completed => OperationState::Completed,
                wire::OperationState::Failed => OperationState::Failed,
                wire::OperationState::Cancelled => OperationState::Cancelled,
                wire::OperationState::AwaitingChecker => OperationState::AwaitingChecker,
                wire::OperationState::Running | wire::OperationState::Unspecified => OperationState::Running,
            }),
        };
        let kind = fields::bounded_string("kind", &request.kind, 0, 100).map_err(invalid)?;
        Ok(Self { filter: OperationFilter { state, kind: (!kind.is_empty()).then_some(kind) }, after, page_size })
    }
}

fn operation_id(text: &str) -> RefusalResult<OperationId> {
    text.parse().map_err(|_| invalid(fields::violation("operation_id", "not an operation id: expected a UUID")))
}

fn wait_timeout(timeout: Option<prost_types::Duration>) -> RefusalResult<Duration> {
    let Some(timeout) = timeout else { return Ok(DEFAULT_WAIT) };
    match Duration::try_from(timeout) {
        Ok(timeout) if timeout <= MAX_WAIT => Ok(timeout),
        _ => Err(invalid(fields::violation("timeout", "expected 0 to 60 seconds"))),
    }
}

fn absent(id: OperationId) -> Refusal {
    Refusal::new(Reason::NotFound, "there is no such operation").meta("operation_id", id)
}

fn stopping() -> Refusal {
    Refusal::new(Reason::Stopping, "this replica is stopping; ask again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_or_refused_by_field() {
        let list =
            List::try_from(ListOperationsRequest { state: 2, kind: "asset.transfer".into(), ..Default::default() })
                .unwrap();
        assert_eq!((list.page_size, list.filter.state), (50, Some(OperationState::Completed)));
        assert_eq!(list.filter.kind.as_deref(), Some("asset.transfer"));
        let refused = |request: ListOperationsRequest| List::try_from(request).unwrap_err();
        assert_eq!(
            refused(ListOperationsRequest { page_size: 501, ..Default::default() }).violations()[0].0,
            "page_size"
        );
        assert_eq!(refused(ListOperationsRequest { state: 99, ..Default::default() }).violations()[0].0, "state");
        let token = ListOperationsRequest { page_token: "x".into(), ..Default::default() };
        assert_eq!(refused(token).reason(), Reason::PageTokenInvalid);
    }

    #[test]
    fn waits_are_bounded() {
        assert_eq!(wait_timeout(None).unwrap(), DEFAULT_WAIT);
        let of = |seconds| wait_timeout(Some(prost_types::Duration { seconds, nanos: 0 }));
        assert_eq!(of(60).unwrap(), MAX_WAIT);
        assert!(of(61).is_err() && of(-1).is_err());
    }
}
