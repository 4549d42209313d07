//! From a request to an accepted operation: caller, idempotency key, right over the sending wallet, acceptance in one commit.

use crate::{
    handle::AppHandle,
    refusals::not_accepted,
    rights::Rights,
    setup::{approval_pending, is_setup},
};
use alloy::primitives::Address;
use dalp_engine::{
    AcceptHook, Admission, AdmitError, Engine, Flow, OperationView, Question, StoreError, TenantId,
    custody::{self, Reply},
};
use dalp_service::{
    Caller, Refusal,
    caller::{self, ANY_WALLET, IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED},
};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::{Mutex, PoisonError};
use tonic::{Request, Response};

/// What a write needs of its service.
pub trait Desk: Sync {
    /// Durable operations.
    fn engine(&self) -> &Engine;
    /// Wallet rights.
    fn rights(&self) -> &Rights;
    /// The refusal that stands for one of the service's own constraints; `None` when the commit failed for another reason.
    fn taken(&self, error: &StoreError) -> Option<Refusal>;
}

/// What a write knows before its message is read.
pub struct Write<'a, A> {
    /// The service.
    pub app: &'a A,
    /// On whose behalf.
    pub caller: Caller,
    /// The idempotency key in force.
    pub key: String,
    /// Full name of the RPC.
    pub method: &'static str,
    /// The stored order of the operation that the key already stands for.
    pub repeated: Option<serde_json::Value>,
    /// What maker-checker policies are asked about it, beside what its flow says it moves.
    question: Mutex<Question>,
}

/// An operation that was accepted, now or earlier under the same key.
pub struct Admitted {
    /// It.
    pub operation: OperationView,
    /// The key in force.
    pub key: String,
    /// Whether an earlier request was accepted under the key.
    pub replayed: bool,
}

// === impl Write ===

impl<'a, A: Desk> Write<'a, A> {
    /// Reads caller and key of a request, and what the key stands for already.
    pub async fn begin<T>(app: &'a AppHandle<A>, method: &'static str, request: &Request<T>) -> Result<Self, Refusal> {
        let caller = Caller::from_request(request)?;
        let key = match caller::idempotency_key(request.metadata().as_ref())? {
            Some(key) => key,
            None => uuid::Uuid::new_v4().to_string(),
        };
        let hands = Some(caller::hands(request.metadata()));
        let question = Mutex::new(Question { hands, ..Question::default() });
        let mut write = Self { app: app.get()?, caller, key, method, repeated: None, question };
        write.repeated = write.stored_order().await?;
        Ok(write)
    }

    /// The tenant of the caller.
    pub fn tenant(&self) -> &str {
        self.caller.tenant.as_str()
    }

    /// Refuses a sender that the caller may not use. A repeat was let in when it came first: rights that changed since must
    /// not hide the operation that runs.
    pub async fn require_wallet(&self, sender: Address) -> Result<(), Refusal> {
        if self.repeated.is_some() {
            return Ok(());
        }
        let owner = self.app.rights().require_wallet(&self.caller, sender).await?;
        if owner != self.caller.principal.as_str() {
            let mut question = self.question.lock().unwrap_or_else(PoisonError::into_inner);
            question.roles.insert(ANY_WALLET.to_owned());
            question.owners.insert(owner);
        }
        Ok(())
    }

    /// Accepts the flow's order in one commit. `order` makes it from the command and what the chain says, with every
    /// precondition; a repeat takes what was resolved then, so that it finds its operation whatever has changed since.
    pub async fn accept<F, C>(
        &self,
        command: &C,
        order: impl Future<Output = Result<(F::Order, Option<AcceptHook>), Refusal>>,
    ) -> Result<Admitted, Refusal>
    where
        F: Flow,
        F::Order: DeserializeOwned,
        C: Serialize,
    {
        let admitted = self.accepted::<F, C>(command, order).await?;
        self.answer(admitted.operation, admitted.replayed).await
    }

    /// What is answered of an operation that stands for this call: the operation, or of a set-up call that an approval is pending.
    pub async fn answer(&self, operation: OperationView, replayed: bool) -> Result<Admitted, Refusal> {
        let (is_setup, tenant) = (is_setup(self.method), TenantId::new(self.tenant()));
        let holds = match is_setup && !operation.state.is_final() {
            true => {
                let holds = self.app.engine().reader().holds_of(&tenant, operation.operation_id).await;
                // It is accepted, whether that can be read now or not: its own state tells the caller no less.
                holds.unwrap_or_else(|error| {
                    tracing::warn!(%error, operation_id = %operation.operation_id, "cannot tell whether a set-up call is held");
                    Vec::new()
                })
            }
            false => Vec::new(),
        };
        let admitted = Admitted { operation, key: self.key.clone(), replayed };
        match custody::reply(is_setup, &holds) {
            Reply::Operation => Ok(admitted),
            Reply::ApprovalPending(waits) => Err(approval_pending(&admitted, waits)),
        }
    }

    async fn accepted<F, C>(
        &self,
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
        let reader = self.app.engine().reader();
        reader.order_of_key(&tenant, principal, self.method, &self.key).await.map_err(not_accepted)
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
        admission.refusable = true;
        admission.question = Some(self.question.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let accepted = self.app.engine().accept(admission).await.map_err(|error| self.refused(error))?;
        Ok(Admitted { operation: accepted.operation, key: self.key.clone(), replayed: accepted.replayed })
    }

    fn refused(&self, error: AdmitError) -> Refusal {
        let taken = match &error {
            AdmitError::Database(error) => self.app.taken(error),
            // Nothing is stored: a key that the gateway made would be lost with it.
            AdmitError::BehindApproval(_) => {
                return not_accepted(error).header(IDEMPOTENCY_KEY, &self.key).header(IDEMPOTENCY_REPLAYED, false);
            }
            _ => None,
        };
        taken.unwrap_or_else(|| not_accepted(error))
    }
}

// === impl Admitted ===

impl Admitted {
    /// The response that carries the operation, with the key in force in its metadata.
    pub fn respond<R>(self, answer: impl FnOnce(Option<dalp_proto::operation::Operation>) -> R) -> Response<R> {
        let mut response = Response::new(answer(Some(self.operation.into())));
        caller::set_idempotency(&mut response, &self.key, self.replayed);
        response
    }
}
