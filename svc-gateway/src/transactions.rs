//! The Transaction service, answered from the engine's records. Another tenant's transaction does not exist here.

use dalp_engine::{
    Operator, TransactionId, TransactionState,
    operator::{ControlError, TransactionCursor, TransactionFilter, TransactionRecord},
};
use dalp_proto::{
    operation,
    transaction::{
        BumpTransactionRequest, BumpTransactionResponse, CancelOutcome, CancelTransactionRequest,
        CancelTransactionResponse, GetTransactionRequest, GetTransactionResponse, ListTransactionsRequest,
        ListTransactionsResponse, transaction_service_server::TransactionService,
    },
};
use dalp_service::{Caller, Reason, Refusal, caller::ANY_WALLET, errors::RefusalResult, fields};
use tonic::{Request, Response, Status};

use crate::requests::{caller, foreign_page_token, invalid, page_size, reason, store_refusal, tenant};

/// Reads and controls single transactions.
#[derive(Clone, Debug)]
pub struct Transactions {
    operator: Operator,
}

// === impl Transactions ===

impl Transactions {
    /// Answers from `operator`.
    #[must_use]
    pub fn new(operator: Operator) -> Self {
        Self { operator }
    }

    /// A transaction that the caller may act on: it acts on the wallet of who asked for it.
    async fn own(&self, caller: &Caller, tenant: &dalp_engine::TenantId, id: TransactionId) -> RefusalResult<()> {
        let found = self.operator.transaction(tenant, id).await.map_err(store_refusal)?.ok_or_else(|| absent(id))?;
        if found.principal == caller.principal.as_str() || caller.has_role(ANY_WALLET) {
            return Ok(());
        }
        let message = "the transaction is of another principal's operation, and this acts on its wallet";
        Err(Refusal::new(Reason::WalletNotOwned, message).meta("transaction_id", id))
    }
}

#[tonic::async_trait]
impl TransactionService for Transactions {
    async fn get_transaction(
        &self,
        request: Request<GetTransactionRequest>,
    ) -> Result<Response<GetTransactionResponse>, Status> {
        let tenant = tenant(&request)?;
        let id = transaction_id(&request.get_ref().transaction_id)?;
        let found: Option<TransactionRecord> = self.operator.transaction(&tenant, id).await.map_err(store_refusal)?;
        Ok(Response::new(GetTransactionResponse { transaction: Some(found.ok_or_else(|| absent(id))?.into()) }))
    }

    async fn list_transactions(
        &self,
        request: Request<ListTransactionsRequest>,
    ) -> Result<Response<ListTransactionsResponse>, Status> {
        let tenant = tenant(&request)?;
        let List { filter, after, page_size } = List::try_from(request.into_inner())?;
        let page = self.operator.list_transactions(&tenant, &filter, after, page_size).await.map_err(store_refusal)?;
        Ok(Response::new(ListTransactionsResponse {
            transactions: page.transactions.into_iter().map(Into::into).collect(),
            next_page_token: page.next.map(|cursor| cursor.to_string()).unwrap_or_default(),
        }))
    }

    async fn cancel_transaction(
        &self,
        request: Request<CancelTransactionRequest>,
    ) -> Result<Response<CancelTransactionResponse>, Status> {
        let (tenant, caller) = caller(&request)?;
        let id = transaction_id(&request.get_ref().transaction_id)?;
        let reason = reason(&request.get_ref().reason)?;
        self.own(&caller, &tenant, id).await?;
        let (record, outcome) = self
            .operator
            .cancel_transaction(&tenant, id, caller.principal.as_str(), &reason)
            .await
            .map_err(|error| refusal(error, id, Reason::TransactionNotCancellable))?;
        let outcome = CancelOutcome::from(outcome).into();
        Ok(Response::new(CancelTransactionResponse { transaction: Some(record.into()), outcome }))
    }

    async fn bump_transaction(
        &self,
        request: Request<BumpTransactionRequest>,
    ) -> Result<Response<BumpTransactionResponse>, Status> {
        let (tenant, caller) = caller(&request)?;
        let id = transaction_id(&request.get_ref().transaction_id)?;
        let reason = reason(&request.get_ref().reason)?;
        self.own(&caller, &tenant, id).await?;
        let record = self
            .operator
            .bump_transaction(&tenant, id, caller.principal.as_str(), &reason)
            .await
            .map_err(|error| refusal(error, id, Reason::TransactionNotBumpable))?;
        Ok(Response::new(BumpTransactionResponse { transaction: Some(record.into()) }))
    }
}

/// What a list asks for.
#[derive(Debug)]
struct List {
    filter: TransactionFilter,
    after: Option<TransactionCursor>,
    page_size: u32,
}

impl TryFrom<ListTransactionsRequest> for List {
    type Error = Refusal;

    fn try_from(request: ListTransactionsRequest) -> Result<Self, Refusal> {
        let page_size = page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| foreign_page_token())?),
        };
        let state = match request.state {
            0 => None,
            state => Some(state_of(fields::enum_value("state", state).map_err(invalid)?)?),
        };
        let chain_id = match request.chain_id {
            0 => None,
            id => Some(fields::in_range("chain_id", id, 1, i64::MAX as u64).map_err(invalid)?),
        };
        let sender = match request.sender.as_str() {
            "" => None,
            text => Some(fields::address("sender", text).map_err(invalid)?),
        };
        Ok(Self { filter: TransactionFilter { state, chain_id, sender }, after, page_size })
    }
}

fn state_of(wire: operation::TransactionState) -> RefusalResult<TransactionState> {
    let name = wire.as_str_name().trim_start_matches("TRANSACTION_STATE_");
    name.parse().map_err(|error: String| invalid(fields::violation("state", error)))
}

fn transaction_id(text: &str) -> RefusalResult<TransactionId> {
    text.parse().map_err(|_| invalid(fields::violation("transaction_id", "not a transaction id: expected a UUID")))
}

fn absent(id: TransactionId) -> Refusal {
    Refusal::new(Reason::NotFound, "there is no such transaction").meta("transaction_id", id)
}

fn refusal(error: ControlError, id: TransactionId, not_possible: Reason) -> Refusal {
    match error {
        ControlError::NotFound => absent(id),
        ControlError::NotPossible => {
            Refusal::new(not_possible, "the transaction does not stand where this is possible")
                .meta("transaction_id", id)
        }
        ControlError::ByProvider { provider_id } => {
            let message = "the sender's custody provider broadcasts it; speed it up or replace it there";
            Refusal::new(Reason::BroadcastByProvider, message)
                .meta("transaction_id", id)
                .meta("provider_request_id", provider_id)
        }
        ControlError::Store(error) => store_refusal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_or_refused_by_field() {
        let sender = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        let request = ListTransactionsRequest {
            state: 6,
            chain_id: 1,
            sender: sender.into(),
            ..ListTransactionsRequest::default()
        };
        let list = List::try_from(request).unwrap();
        assert_eq!(list.filter.state, Some(TransactionState::Broadcasting));
        assert_eq!((list.filter.chain_id, list.page_size), (Some(1), 50));
        let refused = |request: ListTransactionsRequest| List::try_from(request).unwrap_err();
        let request = |state, sender: &str| ListTransactionsRequest {
            state,
            sender: sender.to_owned(),
            ..ListTransactionsRequest::default()
        };
        assert_eq!(refused(request(99, "")).violations()[0].0, "state");
        assert_eq!(refused(request(0, "0x12")).violations()[0].0, "sender");
        let token = ListTransactionsRequest { page_token: "x".into(), ..ListTransactionsRequest::default() };
        assert_eq!(refused(token).reason(), Reason::PageTokenInvalid);
    }

    #[test]
    fn every_state_can_be_asked_for() {
        for state in TransactionState::ALL {
            assert_eq!(state_of(operation::TransactionState::from(*state)).unwrap(), *state);
        }
    }

    #[test]
    fn a_page_goes_on_where_the_last_one_ended() {
        let cursor: TransactionCursor = "0190a0b0c0d07000800000000000000a.3".parse().unwrap();
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
}
