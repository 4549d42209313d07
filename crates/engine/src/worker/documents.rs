//! Documents that flows have signed: claimed, asked for at the signer, and what it answered settled.

use super::{Shared, report};
use crate::{
    error::StoreError,
    flow::{Failure, StepOutcome},
    model::RequestId,
    signer::{SignError, SignOutcome, SignPayload, SignRequest},
    store::{self, PendingSignature, Settled},
};
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Most that one claim takes, and one commit settles.
const SIGNATURES_AT_ONCE: usize = 32;
/// Most that are asked for at the signer at a time. More than a claim takes: those that it keeps waiting do not hold up the rest.
const ASKED_AT_ONCE: usize = 8 * SIGNATURES_AT_ONCE;

/// Asks for documents as they come up, and settles the answers as they come in, until stopped.
pub(super) async fn sign(shared: Arc<Shared>, stop: CancellationToken) {
    let again_after = shared.config.slow_poll.max(Duration::from_secs(1));
    let mut answers = FuturesUnordered::new();
    // One that is asked for longer than its due time comes up again meanwhile.
    let mut asked: HashSet<RequestId> = HashSet::new();
    let mut look_at = Instant::now() + shared.config.slow_poll;
    loop {
        let room = ASKED_AT_ONCE - answers.len();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(first) = answers.next(), if !answers.is_empty() => {
                let mut settled = Vec::new();
                let mut next = Some(first);
                while let Some((request_id, answer)) = next {
                    asked.remove(&request_id);
                    settled.extend(answer);
                    let full = settled.len() == SIGNATURES_AT_ONCE;
                    next = if full { None } else { answers.next().now_or_never().flatten() };
                }
                settle(&shared, &settled).await;
            }
            () = come_up(&shared, look_at), if room > 0 => {
                look_at = Instant::now() + shared.config.slow_poll;
                let most = room.min(SIGNATURES_AT_ONCE);
                let claimed = claim(&shared, most, again_after).await;
                if claimed.len() == most {
                    shared.signatures.notify_one();
                }
                for one in claimed {
                    if asked.insert(one.request_id) {
                        answers.push(ask(&shared, one));
                    }
                }
            }
        }
    }
}

/// A document may wait: somebody says so, or it is time for the slow poll behind the hints.
async fn come_up(shared: &Shared, look_at: Instant) {
    tokio::select! {
        biased;
        () = shared.signatures.notified() => {}
        () = tokio::time::sleep_until(look_at) => {}
    }
}

async fn claim(shared: &Shared, most: usize, again_after: Duration) -> Vec<PendingSignature> {
    let claimed = store::retry("claim signatures", || shared.store.claim_signatures(most as i64, again_after)).await;
    claimed.unwrap_or_else(|error| {
        report("claim signatures", &error);
        Vec::new()
    })
}

/// Asks for a signature. Nothing to settle: it comes up again by its due time.
async fn ask(shared: &Shared, pending: PendingSignature) -> (RequestId, Option<Settled>) {
    let request_id = pending.request_id;
    let request = SignRequest {
        request_id,
        tenant: pending.tenant.clone(),
        payload: SignPayload::Document(pending.document.clone()),
        replaces: None,
    };
    // One document that is never answered must not keep its place for ever.
    let answer = tokio::time::timeout(shared.config.sign_timeout, shared.signer.sign(request)).await;
    let outcome = match answer.unwrap_or_else(|_| Err(SignError::Unavailable("no answer in time".into()))) {
        Ok(SignOutcome::Signed(signature)) => StepOutcome::Signed { signature },
        Ok(SignOutcome::Denied(failure) | SignOutcome::Expired(failure)) | Err(SignError::Refused(failure)) => {
            StepOutcome::Failed { failure }
        }
        Ok(SignOutcome::SignedTransaction { .. } | SignOutcome::ByProvider(_)) => StepOutcome::Failed {
            failure: Failure::new("SIGNER_PROTOCOL", "the signer answered a document with a transaction"),
        },
        Ok(SignOutcome::Pending { .. } | SignOutcome::Blocked { .. }) => return (request_id, None),
        Err(error) => {
            tracing::warn!(%request_id, tries = pending.tries, %error, "document not signed, will ask again");
            return (request_id, None);
        }
    };
    (request_id, Some(Settled { pending, outcome }))
}

/// Writes answers down in one commit; when it fails for a reason of its work, each alone, so that nobody waits by the fault of a neighbour.
async fn settle(shared: &Shared, settled: &[Settled]) {
    if settled.is_empty() {
        return;
    }
    let in_one = write(shared, settled).await;
    if let Err(error) = in_one {
        report("settle signatures", &error);
        if settled.len() > 1 {
            for one in settled.chunks(1) {
                if let Err(error) = write(shared, one).await {
                    report("settle a signature", &error);
                }
            }
        }
    }
    shared.woken();
}

async fn write(shared: &Shared, settled: &[Settled]) -> Result<(), StoreError> {
    store::retry("settle signatures", || shared.store.settle_signatures(settled)).await
}
