//! Seals in the background: leaves get their places, trees their roots, roots their signatures. Every replica runs it; the row of the sealer lets
//! one of them seal at a time, and what is signed twice is the same signature.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use dalp_audit::Root;
use dalp_domain::store::StoreError;
use dalp_service::stop::Stop;
use tokio::{task::JoinSet, time::Instant};

use super::{
    Log,
    signing::{Answer, RootSigner},
    store::Round,
};
use crate::{config::AuditConfig, metric_definitions as names};

/// Roots made, or signed, in one round.
const ROOTS: u32 = 500;
/// Roots that are asked for at once.
const ASKED_AT_ONCE: usize = 32;
/// A root that is not signed is asked for again after this, then after twice as long,
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// and after this at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often tenants are looked at again whose leaves cannot be sealed.
const MENDED_EVERY: Duration = Duration::from_secs(5);
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
    let (mut counted_at, mut mended_at) = (None, Instant::now());
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
        if mended_at.elapsed() >= MENDED_EVERY {
            mended_at = Instant::now();
            if let Err(error) = log.mend(config.seal_batch).await {
                report("tenants whose leaves are held are not looked at", &error);
            }
        }
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

/// What is asked of the signer. Each tenant's root is asked for by itself: one that the signer holds back, or does not answer about, is asked
/// about more and more rarely, and nobody else's waits for it.
struct Signing {
    log: Log,
    signer: Arc<RootSigner>,
    asking: JoinSet<(String, bool)>,
    /// Tenants that are asked about now.
    under_way: HashSet<String>,
    /// Tenants whose root was not signed: how often, and when it is asked for again.
    put_off: HashMap<String, (u32, Instant)>,
}

async fn sign_roots(log: Log, signer: Option<Arc<RootSigner>>, config: AuditConfig, stop: Stop) {
    let every = Duration::from_millis(config.root_every_ms);
    // A root of a tenant is made so often; looked is more often, for tenants take turns.
    let looks = (every / 4).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let mut signing = signer.map(|signer| Signing::new(log.clone(), signer));
    while !stop.is_requested() {
        tokio::select! {
            made = round(&log, signing.as_mut(), every) => {
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

async fn round(log: &Log, signing: Option<&mut Signing>, every: Duration) -> Result<(), StoreError> {
    log.make_roots(every, ROOTS).await?;
    match signing {
        Some(signing) => signing.round().await,
        None => Ok(()),
    }
}

// === impl Signing ===

impl Signing {
    fn new(log: Log, signer: Arc<RootSigner>) -> Self {
        let (under_way, put_off) = (HashSet::new(), HashMap::new());
        Self { log, signer, asking: JoinSet::new(), under_way, put_off }
    }

    /// Takes in what was answered, and asks for the roots that wait and are not put off.
    async fn round(&mut self) -> Result<(), StoreError> {
        while let Some(answered) = self.asking.try_join_next() {
            match answered {
                Ok((tenant, decided)) => self.answered(tenant, decided),
                // A panic was logged by the runtime; whose it was is found by who is not asked about any more.
                Err(_) => self.under_way.retain(|_| false),
            }
        }
        let now = Instant::now();
        let waits = |(tenant, (_, until)): (&String, &(u32, Instant))| (*until > now).then(|| tenant.clone());
        let without: Vec<String> =
            self.under_way.iter().cloned().chain(self.put_off.iter().filter_map(waits)).collect();
        for root in self.log.roots_to_sign_without(&without, ROOTS).await? {
            if self.asking.len() >= ASKED_AT_ONCE {
                break;
            }
            self.under_way.insert(root.tenant.clone());
            let (log, signer) = (self.log.clone(), Arc::clone(&self.signer));
            self.asking.spawn(async move {
                let answer = signer.sign(&log, &root).await;
                let decided = !matches!(answer, Answer::Later(_));
                if let Err(error) = kept(&log, &root, answer).await {
                    report("a root's signature is not kept", &error);
                }
                (root.tenant, decided)
            });
        }
        Ok(())
    }

    fn answered(&mut self, tenant: String, decided: bool) {
        self.under_way.remove(&tenant);
        if decided {
            self.put_off.remove(&tenant);
            return;
        }
        let tries = self.put_off.get(&tenant).map_or(0, |(tries, _)| *tries).saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE);
        self.put_off.insert(tenant, (tries, Instant::now() + pause));
    }
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
