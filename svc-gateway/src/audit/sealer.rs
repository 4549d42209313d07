//! Seals in the background: leaves get their places, trees their roots, roots their signatures. Every replica runs it; the row of the sealer lets
//! one of them seal at a time, and what is signed twice is the same signature.

use std::{sync::Arc, time::Duration};

use dalp_audit::Root;
use dalp_domain::store::StoreError;
use dalp_service::stop::Stop;
use futures::StreamExt as _;
use tokio::time::Instant;

use super::{
    Log,
    signing::{Answer, RootSigner},
    store::Round,
};
use crate::{config::AuditConfig, metric_definitions as names};

/// Roots made, or signed, in one round.
const ROOTS: u32 = 500;
/// Roots that are asked for at once.
const SIGNED_AT_ONCE: usize = 8;
/// How often the backlog is counted.
const COUNTED_EVERY: Duration = Duration::from_secs(2);

/// Seals until stopped. Without a signer roots are made and wait.
pub async fn run(log: Log, signer: Option<RootSigner>, config: AuditConfig, stop: Stop) {
    let signer = signer.map(Arc::new);
    let signing = tokio::spawn(sign_roots(log.clone(), signer, config, stop.clone()));
    seal(&log, config, &stop).await;
    let _ = signing.await; // a panic in it was logged by the runtime
}

async fn seal(log: &Log, config: AuditConfig, stop: &Stop) {
    let mut counted_at = None;
    while !stop.is_requested() {
        let begun = Instant::now();
        let more = match log.seal(config.seal_batch).await {
            Ok(Round::Sealed(count)) => {
                metrics::counter!(names::AUDIT_SEALED_TOTAL).increment(count as u64);
                if count > 0 {
                    metrics::histogram!(names::AUDIT_SEAL_SECONDS).record(begun.elapsed().as_secs_f64());
                }
                count == config.seal_batch as usize
            }
            Ok(Round::Busy) => false,
            Err(error) => {
                report("leaves are not sealed", &error);
                false
            }
        };
        if counted_at.is_none_or(|at: Instant| at.elapsed() >= COUNTED_EVERY) {
            counted_at = Some(Instant::now());
            count_backlog(log).await;
        }
        if !more {
            pause(Duration::from_millis(config.seal_every_ms), stop).await;
        }
    }
}

async fn count_backlog(log: &Log) {
    match log.backlog().await {
        Ok(backlog) => {
            metrics::gauge!(names::AUDIT_UNSEALED_LEAVES).set(backlog.unsealed as f64);
            metrics::gauge!(names::AUDIT_SEAL_LAG_SECONDS).set(backlog.seal_lag_s);
            metrics::gauge!(names::AUDIT_ROOT_LAG_SECONDS).set(backlog.root_lag_s);
        }
        Err(error) => report("unsealed leaves are not counted", &error),
    }
}

async fn sign_roots(log: Log, signer: Option<Arc<RootSigner>>, config: AuditConfig, stop: Stop) {
    let every = Duration::from_millis(config.root_every_ms);
    // A root of a tenant is made so often; looked is more often, for tenants take turns.
    let looks = (every / 4).clamp(Duration::from_millis(50), Duration::from_secs(1));
    while !stop.is_requested() {
        tokio::select! {
            made = round(&log, signer.as_ref(), every) => {
                if let Err(error) = made {
                    report("roots are not made or kept", &error);
                }
            }
            // A signer that hangs holds nobody's end up: what it signs all the same, it answers to whoever asks next.
            () = stop.requested() => return,
        }
        pause(looks, &stop).await;
    }
}

async fn round(log: &Log, signer: Option<&Arc<RootSigner>>, every: Duration) -> Result<(), StoreError> {
    log.make_roots(every, ROOTS).await?;
    let Some(signer) = signer else { return Ok(()) };
    let waiting = log.roots_to_sign(ROOTS).await?;
    futures::stream::iter(waiting)
        .for_each_concurrent(SIGNED_AT_ONCE, |root| async move {
            let answer = signer.sign(&root).await;
            if let Err(error) = kept(log, &root, answer).await {
                report("a root's signature is not kept", &error);
            }
        })
        .await;
    Ok(())
}

async fn kept(log: &Log, root: &Root, answer: Answer) -> Result<(), StoreError> {
    let (tenant, size) = (&root.tenant, root.size);
    match answer {
        Answer::Signed { signer, signature } => {
            log.signed(root, signer, &signature).await?;
            metrics::counter!(names::AUDIT_ROOTS_TOTAL, "outcome" => "signed").increment(1);
        }
        Answer::Later(why) => tracing::warn!(%tenant, size, why, "the root of an audit log is not signed yet"),
        Answer::Refused(why) => {
            log.refused(root, &why).await?;
            tracing::error!(%tenant, size, why, "the signer refuses the root of an audit log");
            metrics::counter!(names::AUDIT_ROOTS_TOTAL, "outcome" => "refused").increment(1);
        }
    }
    Ok(())
}

async fn pause(at_most: Duration, stop: &Stop) {
    tokio::select! {
        () = tokio::time::sleep(at_most) => {}
        () = stop.requested() => {}
    }
}

fn report(what: &'static str, error: &StoreError) {
    tracing::warn!(what, error = error as &dyn std::error::Error, "the audit log's sealer will try again");
}
