//! An operation until it is final, with its progress.

use crate::{channel::Gateway, failure::Failure};
use dalp_proto::operation::{
    Operation, OperationState, TransactionState, WatchOperationRequest,
    operation_service_client::OperationServiceClient,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request, Status};

const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Follows an operation for so long. Interrupted streams are taken up again: nothing is lost by them.
///
/// # Errors
/// When the wait ends first, or the gateway no longer lets the caller ask.
pub(crate) async fn follow(gateway: &Gateway, operation_id: &str, at_most: Duration) -> Result<Operation, Failure> {
    let until = Instant::now() + at_most;
    let shown = Progress::new(operation_id);
    loop {
        match timeout_at(until, watch(gateway, operation_id, &shown)).await {
            Err(_) => {
                shown.bar.finish_and_clear();
                return Err(Failure::StillRunning(format!(
                    "operation {operation_id} is not final yet; follow it with: dalp operation watch-operation --operation-id {operation_id}"
                )));
            }
            Ok(Ok(Some(operation))) if operation.state() == OperationState::AwaitingChecker => {
                shown.bar.finish_and_clear();
                return Err(Failure::StillRunning(held(&operation)));
            }
            Ok(Ok(Some(operation))) => {
                shown.bar.finish_and_clear();
                return Ok(operation);
            }
            Ok(Err(status)) if !passes(&status) => {
                return Err(Failure::Refused { status: Box::new(status), idempotency_key: None });
            }
            Ok(Ok(None) | Err(_)) => sleep(AGAIN_AFTER).await,
        }
    }
}

/// One stream; none: it ended before the operation did.
async fn watch(gateway: &Gateway, operation_id: &str, shown: &Progress) -> Result<Option<Operation>, Status> {
    let mut request = Request::new(WatchOperationRequest { operation_id: operation_id.to_owned() });
    gateway.sign_in(request.metadata_mut());
    let mut client = OperationServiceClient::new(gateway.channel.clone()).max_decoding_message_size(usize::MAX);
    let mut changes = client.watch_operation(request).await?.into_inner();
    while let Some(change) = changes.message().await? {
        let Some(operation) = change.operation else { continue };
        shown.tell(&operation);
        // Another person may take days: nobody sits and waits for that.
        if is_final(operation.state()) || operation.state() == OperationState::AwaitingChecker {
            return Ok(Some(operation));
        }
    }
    Ok(None)
}

/// Whether an interruption passes by itself.
fn passes(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Aborted
    )
}

fn is_final(state: OperationState) -> bool {
    matches!(state, OperationState::Completed | OperationState::Failed | OperationState::Cancelled)
}

/// What to do about an operation that a policy holds.
fn held(operation: &Operation) -> String {
    let (id, check) = (&operation.operation_id, operation.check.clone().unwrap_or_default());
    format!(
        "operation {id} waits for a second person (AWAITING_CHECKER, policies: {}); another person than {} approves it with: dalp operation approve-operation --operation-id {id} --payload-hash {} --reason <why>",
        check.policies.join(", "),
        operation.principal,
        check.payload_hash,
    )
}

/// Says how an operation that was followed ended.
///
/// # Errors
/// When it came to nothing.
pub(crate) fn outcome(operation: &Operation) -> Result<(), Failure> {
    if operation.state() == OperationState::Completed {
        return Ok(());
    }
    let state = operation.state().as_str_name().trim_start_matches("OPERATION_STATE_");
    let why =
        operation.error.as_ref().map(|error| format!(": {}: {}", error.reason, error.message)).unwrap_or_default();
    Err(Failure::CameToNothing(format!("operation {} ended {state}{why}", operation.operation_id)))
}

/// A bar where somebody looks at it; nothing in a script.
struct Progress {
    bar: ProgressBar,
}

// === impl Progress ===

impl Progress {
    fn new(operation_id: &str) -> Self {
        let style = ProgressStyle::with_template("{prefix} {elapsed} [{bar:30}] {pos}/{len} {msg}")
            .expect("the template is well-formed");
        let bar = ProgressBar::new(0).with_style(style).with_prefix(operation_id.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar }
    }

    fn tell(&self, operation: &Operation) {
        let (done, all, now) = standing(operation);
        self.bar.set_length(all);
        self.bar.set_position(done);
        self.bar.set_message(now);
    }
}

/// How many of the transactions so far are final, how many there are, and what the first other one does.
fn standing(operation: &Operation) -> (u64, u64, String) {
    let under_way = operation.transactions.iter().find(|one| !is_over(one.state()));
    let done = operation.transactions.iter().filter(|one| is_over(one.state())).count();
    let now = under_way.map_or_else(String::new, |one| {
        let state = one.state().as_str_name().trim_start_matches("TRANSACTION_STATE_").to_lowercase();
        [one.step.as_str(), &state, &one.sub_status].join(" ").trim_end().to_owned()
    });
    (done as u64, operation.transactions.len() as u64, now)
}

fn is_over(state: TransactionState) -> bool {
    matches!(state, TransactionState::Completed | TransactionState::Failed | TransactionState::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dalp_proto::operation::{OperationError, Transaction};

    fn transaction(step: &str, state: TransactionState, sub_status: &str) -> Transaction {
        Transaction { step: step.into(), state: state.into(), sub_status: sub_status.into(), ..Default::default() }
    }

    #[test]
    fn progress_names_what_it_waits_for() {
        let transactions = vec![
            transaction("create", TransactionState::Completed, ""),
            transaction("mint", TransactionState::Signing, "provider_hold"),
            transaction("unpause", TransactionState::Queued, ""),
        ];
        let operation = Operation { transactions, ..Default::default() };
        assert_eq!(standing(&operation), (1, 3, "mint signing provider_hold".to_owned()));
    }

    #[test]
    fn only_a_completed_operation_is_a_success() {
        let ended = |state: OperationState| {
            let error = Some(OperationError { reason: "DENIED".into(), message: "no".into(), ..Default::default() });
            outcome(&Operation { operation_id: "7".into(), state: state.into(), error, ..Default::default() })
        };
        assert!(ended(OperationState::Completed).is_ok());
        let told = ended(OperationState::Failed).expect_err("failed").to_string();
        assert_eq!(told, "operation 7 ended FAILED: DENIED: no");
        assert!(ended(OperationState::Cancelled).is_err());
    }
}
