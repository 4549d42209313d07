//! An accepted request at a custodian, which decides later: handed over once, followed, and given up only with the custodian's word for it.
//!
//! What a custodian broadcasts by itself is asked for by one holder of the claim at a time, also when it is given up: else one could be about to hand over what
//! another has just declared dead.

use std::time::{Duration, Instant};

use alloy::primitives::B256;
use time::OffsetDateTime;

use super::{Signer, attest::Cover, drive::outcome};
use crate::{
    core::{digest::assemble, payload::Payload},
    errors::SignerError,
    metric_definitions as names,
    providers::{
        KeyHandle, ProviderError, Signing,
        custody::{Custody, Known, Order, Report, State},
    },
    store::{
        custody::{Claim, Seen},
        keys::KeyRecord,
        outcomes::Outcome,
        requests::{NOT_ASKED, Status, StoredRequest},
    },
};

/// First pause while a new request is followed.
const SETTLE_FIRST: Duration = Duration::from_millis(100);
/// What a custodian works on for longer than this is a hold to the caller: nobody here can hasten it.
const WORKED_ON: time::Duration = time::Duration::seconds(60);
/// The error beside a request that was given up because its caller asked for it.
pub(super) const WITHDRAWN: &str = "WITHDRAWN";
/// What only an operator's further attempt can change is looked at so rarely.
const STOPPED_PAUSE: Duration = Duration::from_secs(3600);

/// A request with what is needed to ask about it.
#[derive(Clone, Copy)]
struct Case<'a> {
    custody: &'a dyn Custody,
    key: &'a KeyRecord,
    request: &'a StoredRequest,
    payload: &'a Payload,
    claim: &'a Claim,
    /// Past our own deadline.
    late: bool,
    /// Pause until the next look of the one who follows a new request.
    soon: Option<Duration>,
}

/// What a look comes to.
struct Look {
    /// `None`: the request stays as it stands.
    outcome: Option<Outcome>,
    /// Another look, soon, may find more.
    moving: bool,
}

/// What came of ending a request.
pub(super) enum Ended {
    /// It is over, as it stands.
    Done(Box<StoredRequest>),
    /// The custodian may still carry it out.
    Kept,
    /// Someone else asks about it right now.
    Busy,
}

/// What becomes of a request whose attempt stands as reported.
enum Verdict {
    /// So, and the attempt is looked at again after the pause.
    Stands { outcome: Outcome, pause: Duration, stopped: bool, moving: bool },
    /// The attempt is over without a signature; another one may succeed.
    Another(String),
}

// === impl Signer ===

impl Signer {
    /// Hands a request over if it was not yet, looks at how it stands, and follows it for a short while: most are signed at once.
    pub(super) async fn follow(
        &self,
        custody: &dyn Custody,
        key: &KeyRecord,
        mut request: StoredRequest,
        payload: &Payload,
    ) -> Result<StoredRequest, SignerError> {
        let pace = custody.pace();
        let until = Instant::now() + pace.settle;
        let mut pause = SETTLE_FIRST;
        // One that is asked about again later has had its time; two who ask at once wait alike.
        let age = OffsetDateTime::now_utc() - request.created_at;
        let fresh = request.error == NOT_ASKED && (request.detail.is_empty() || age < pace.settle);
        loop {
            let may_wait = fresh && Instant::now() + pause < until;
            let Some(claim) = self.store.claim(request.request_id, key.provider, pace.longest_call).await? else {
                // Someone else asks right now, or it is not due.
                request = self.store.request(request.request_id).await?.unwrap_or(request);
                if request.status.is_final() || !may_wait {
                    return Ok(request);
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
                continue;
            };
            let soon = may_wait.then_some(pause);
            let late = OffsetDateTime::now_utc() - request.created_at > self.request_deadline;
            let look = self.look(Case { custody, key, request: &request, payload, claim: &claim, late, soon }).await?;
            if let Some(outcome) = look.outcome {
                request = self.conclude_if_changed(request, outcome).await?;
            }
            if request.status.is_final() || !look.moving || soon.is_none() {
                return Ok(request);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn look(&self, case: Case<'_>) -> Result<Look, SignerError> {
        let Case { custody, key, request, claim, late, .. } = case;
        let provider = key.provider.as_str();
        // What it has of the request already is followed, whatever the attestor says by now: it may be on the chain.
        let mut answered = case.there().await;
        if matches!(answered, Ok(None)) && !late {
            if let Cover::Lacks(outcome) = self.cover(request.clone(), case.payload).await? {
                return self.lacks_cover(&case, None, outcome).await;
            }
            let order = order(key, request, case.payload, &claim.external_id);
            answered = timed(provider, custody.submit(&order)).await.map(Some);
        }
        // What was true when it was handed over may not be true after a hold.
        if let Ok(Some(report)) = &answered
            && matches!(report.state, State::Signed(_))
            && let Cover::Lacks(outcome) = self.cover(request.clone(), case.payload).await?
        {
            return self.lacks_cover(&case, report.id.as_deref(), outcome).await;
        }
        match answered {
            Ok(None) => {
                let outcome =
                    outcome(request, Status::Expired, "the provider has no such request".to_owned(), "POLL_TIMEOUT");
                Ok(Look { outcome: Some(outcome), moving: false })
            }
            Ok(Some(report)) => match case.verdict(&report) {
                Verdict::Stands { outcome, pause, stopped, moving } => {
                    let same = claim.said == report.said && claim.provider_id.is_some();
                    let looks = if same { claim.looks.saturating_add(1) } else { 0 };
                    let seen = Seen { provider_id: report.id.as_deref(), said: &report.said, stopped, looks, pause };
                    self.store.seen(claim, &seen).await?;
                    Ok(Look { outcome: Some(outcome), moving })
                }
                Verdict::Another(said) => {
                    let pause = custody.pace().pause(u32::from(claim.attempt), rand::random());
                    self.store.next_attempt(claim, report.id.as_deref(), &said, pause).await?;
                    tracing::warn!(request_id = %request.request_id, attempt = claim.attempt + 1, said, "a further attempt at the custodian");
                    let outcome = outcome(request, Status::Pending, said, "PROVIDER_FAILED");
                    Ok(Look { outcome: Some(outcome), moving: false })
                }
            },
            Err(error) => {
                tracing::warn!(request_id = %request.request_id, signer = %key.address, late, %error, "custodian not asked");
                let looks = claim.looks.saturating_add(1);
                let pause = custody.pace().pause(looks, rand::random());
                let seen = Seen { provider_id: None, said: &claim.said, stopped: false, looks, pause };
                self.store.seen(claim, &seen).await?;
                // What was handed over stays as it stood: the custodian has it, whether it answers now or not.
                let stays = claim.provider_id.is_some() && matches!(error, ProviderError::Unavailable(_));
                let (status, detail, typed) = error.waiting();
                Ok(Look { outcome: (!stays).then(|| outcome(request, status, detail, typed)), moving: false })
            }
        }
    }

    /// The attestor does not let a request go on: it waits, or is refused once the custodian has given up what it may have of it.
    async fn lacks_cover(&self, case: &Case<'_>, id: Option<&str>, outcome: Outcome) -> Result<Look, SignerError> {
        let Case { custody, key, request, claim, .. } = *case;
        let looks = claim.looks.saturating_add(1);
        let pause = custody.pace().pause(looks, rand::random());
        let order = order(key, request, case.payload, &claim.external_id);
        let given_up = outcome.status != Status::Denied
            || !claim.maybe_sent
            || given_up(custody, &order, claim.provider_id.as_deref()).await;
        let seen = Seen { provider_id: id, said: &claim.said, stopped: false, looks, pause };
        if !given_up {
            self.store.seen(claim, &seen).await?;
            return Ok(Look { outcome: None, moving: false });
        }
        // Concluded before the claim is given back.
        if outcome.status == Status::Denied {
            self.conclude(outcome.clone()).await?;
        }
        self.store.seen(claim, &seen).await?;
        Ok(Look { outcome: Some(outcome), moving: false })
    }

    /// Asks the custodian to give up what we no longer want. `false`: it may still be carried out.
    pub(super) async fn withdraw(&self, custody: &dyn Custody, key: &KeyRecord, request: &StoredRequest) -> bool {
        let Ok(payload) = request.payload() else { return true };
        let (external_id, id) = match self.store.open_attempt(request.request_id).await {
            Ok(Some(attempt)) => attempt,
            Ok(None) => return true,
            Err(_) => return false,
        };
        given_up(custody, &order(key, request, &payload, &external_id), id.as_deref()).await
    }

    /// Ends a request for good once the custodian has given it up.
    pub(super) async fn end(
        &self,
        custody: &dyn Custody,
        key: &KeyRecord,
        request: &StoredRequest,
        outcome: Outcome,
    ) -> Result<Ended, SignerError> {
        let ended = |stands| Ended::Done(Box::new(stands));
        let Ok(payload) = request.payload() else { return self.conclude(outcome).await.map(ended) };
        if !payload.is_by_provider() {
            // A signature that stays with us moves nothing.
            return match self.withdraw(custody, key, request).await {
                true => self.conclude(outcome).await.map(ended),
                false => Ok(Ended::Kept),
            };
        }
        let longest = custody.pace().longest_call;
        let Some(claim) = self.store.claim_at_once(request.request_id, key.provider, longest).await? else {
            return Ok(Ended::Busy);
        };
        let order = order(key, request, &payload, &claim.external_id);
        if outcome.error == WITHDRAWN {
            self.store.ask_withdrawal(&claim).await?;
        }
        let given_up = !claim.maybe_sent || given_up(custody, &order, claim.provider_id.as_deref()).await;
        let ended = if given_up { ended(self.conclude(outcome).await?) } else { Ended::Kept };
        // Looked at again at once: giving up may have changed how it stands.
        let seen = Seen { provider_id: None, said: &claim.said, stopped: false, looks: 0, pause: Duration::ZERO };
        self.store.seen(&claim, &seen).await?;
        Ok(ended)
    }

    /// Looks at what its custodian has sent to the chain, if that is due: it may have been sent again at another price, under another hash.
    pub(super) async fn followed(&self, request: StoredRequest) -> Result<StoredRequest, SignerError> {
        if request.status != Status::Approved || request.stage.is_empty() {
            return Ok(request);
        }
        let key = self.key(&request.tenant, request.signer).await?;
        let provider = self.providers.select(key.provider).map(|provider| provider.signing());
        let (Some(Signing::Custody(custody)), Ok(payload)) = (provider, request.payload()) else { return Ok(request) };
        let pace = custody.pace();
        let Some(claim) = self.store.claim(request.request_id, key.provider, pace.longest_call).await? else {
            return Ok(request);
        };
        let order = order(&key, &request, &payload, &claim.external_id);
        let asked = match &claim.provider_id {
            Some(id) => timed(key.provider.as_str(), custody.look(&order, id)).await.map(Some),
            None => timed(key.provider.as_str(), custody.find(&order)).await,
        };
        let report = match asked {
            Ok(Some(report)) => report,
            Ok(None) | Err(_) => {
                let looks = claim.looks.saturating_add(1);
                let pause = pace.pause(looks, rand::random());
                let seen = Seen { provider_id: None, said: &claim.said, stopped: false, looks, pause };
                self.store.seen(&claim, &seen).await?;
                return Ok(request);
            }
        };
        let told = request.tx_hash.as_deref().and_then(|hash| B256::try_from(hash).ok());
        let (stage, hash) = match report.state {
            State::Broadcast(hash) => ("BROADCAST", hash.or(told)),
            State::Confirmed(hash) => ("CONFIRMED", hash.or(told)),
            State::Ended(hash) => ("FAILED", Some(hash)),
            State::Denied | State::Expired | State::Blocked | State::Failed { .. } => ("FAILED", told),
            State::Processing | State::Awaiting | State::Signed(_) => ("BROADCAST", told),
        };
        let same = claim.said == report.said && hash == told;
        let looks = if same { claim.looks.saturating_add(1) } else { 0 };
        let pause = pace.pause(if stage == "BROADCAST" { looks } else { u32::MAX }, rand::random());
        let seen = Seen { provider_id: report.id.as_deref(), said: &report.said, stopped: false, looks, pause };
        let request = match hash.filter(|_| stage != request.stage || hash != told) {
            Some(hash) => self.store.progress(&request, stage, hash.0, &report.said).await?,
            None => request,
        };
        self.store.seen(&claim, &seen).await?;
        Ok(request)
    }

    /// Asks the custodian to give up a transaction that it would broadcast by itself, or ends one that no provider has anything of; answers how the request stands then.
    pub async fn withdraw_request(&self, peer: &str, request_id: uuid::Uuid) -> Result<StoredRequest, SignerError> {
        let found = self.store.request(request_id).await?.filter(|found| found.peer == peer);
        let request = found.ok_or(SignerError::RequestNotFound)?;
        if !request.payload().is_ok_and(|payload| payload.is_by_provider()) {
            return self.withdraw_unkept(request).await;
        }
        if request.status.is_final() {
            return self.followed(request).await;
        }
        let key = self.key(&request.tenant, request.signer).await?;
        let Some(Signing::Custody(custody)) = self.providers.select(key.provider).map(|provider| provider.signing())
        else {
            return Ok(request);
        };
        let outcome = outcome(&request, Status::Denied, "withdrawn".to_owned(), WITHDRAWN);
        let until = Instant::now() + custody.pace().longest_call;
        loop {
            match self.end(custody, &key, &request, outcome.clone()).await? {
                Ended::Done(ended) => return Ok(*ended),
                Ended::Kept => return Ok(self.store.request(request_id).await?.unwrap_or(request)),
                // Someone asks the custodian about it right now.
                Ended::Busy if Instant::now() < until => tokio::time::sleep(SETTLE_FIRST).await,
                Ended::Busy => {
                    return Err(
                        ProviderError::Unavailable("its answer about the request is waited for".to_owned()).into()
                    );
                }
            }
            let now = self.store.request(request_id).await?.unwrap_or_else(|| request.clone());
            if now.status.is_final() {
                return self.followed(now).await;
            }
        }
    }
}

/// Whether the custodian has nothing of an order, or gives it up, for good.
async fn given_up(custody: &dyn Custody, order: &Order<'_>, id: Option<&str>) -> bool {
    // A signature that stays with us moves nothing.
    let moves = order.payload.is_by_provider();
    let over = |report: &Report| {
        matches!(report.state, State::Denied | State::Expired | State::Blocked | State::Failed { .. })
    };
    let id = match id {
        Some(id) => id.to_owned(),
        // It may be there all the same: the answer that named it was lost.
        None => match custody.find(order).await {
            Ok(Some(Report { id: Some(id), .. })) => id,
            Ok(_) => return true,
            Err(_) => return !moves,
        },
    };
    let until = Instant::now() + custody.pace().settle;
    let mut report = custody.cancel(order, &id).await;
    // It may take a while to give it up.
    while moves && matches!(&report, Ok(Report { state: State::Processing, .. })) && Instant::now() < until {
        tokio::time::sleep(SETTLE_FIRST).await;
        report = custody.look(order, &id).await;
    }
    match report {
        Ok(report) => !moves || over(&report),
        Err(error) => {
            tracing::warn!(external_id = order.external_id, %error, "not given up by the custodian");
            !moves
        }
    }
}

/// Measures what is asked of a provider.
async fn timed<T>(provider: &'static str, asked: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let answer = asked.await;
    metrics::histogram!(names::PROVIDER_SECONDS, "provider" => provider).record(started.elapsed().as_secs_f64());
    answer
}

fn order<'a>(key: &'a KeyRecord, request: &StoredRequest, payload: &'a Payload, external_id: &'a str) -> Order<'a> {
    Order {
        key: KeyHandle { name: &key.name, material: &key.material },
        address: key.address,
        payload,
        digest: B256::from(request.digest),
        external_id,
    }
}

// === impl Case ===

impl Case<'_> {
    /// What the custodian has of the request. `None`: nothing, so that there is nothing to give up either.
    async fn there(&self) -> Result<Option<Report>, ProviderError> {
        let order = order(self.key, self.request, self.payload, &self.claim.external_id);
        let (custody, provider) = (self.custody, self.key.provider.as_str());
        match (self.claim.known(), self.late) {
            (Known::Nothing, _) => Ok(None),
            // An orphan is taken back before anything new is made.
            (Known::MaybeSent, late) => match timed(provider, custody.find(&order)).await? {
                Some(Report { id: Some(id), .. }) if late => {
                    timed(provider, custody.cancel(&order, &id)).await.map(Some)
                }
                found => Ok(found),
            },
            (Known::Id(id), false) => timed(provider, custody.look(&order, id)).await.map(Some),
            // Our own time-out ends nothing there: the custodian is asked to give the request up, and its answer counts.
            (Known::Id(id), true) => timed(provider, custody.cancel(&order, id)).await.map(Some),
        }
    }

    fn verdict(&self, report: &Report) -> Verdict {
        let Self { request, late, .. } = *self;
        let said = || report.said.clone();
        let ends = |status, error| Verdict::Stands {
            outcome: outcome(request, status, said(), error),
            pause: STOPPED_PAUSE,
            stopped: false,
            moving: false,
        };
        match &report.state {
            State::Signed(raw) => match raw.normalise(B256::from(request.digest), &self.key.public_key) {
                Ok(signature) => {
                    if self.payload.is_by_provider() {
                        return self.failed(format!("{}: signed, and not sent", report.said), false);
                    }
                    let transaction = match self.payload {
                        Payload::Transaction(tx) => assemble(tx, signature),
                        Payload::Document(_) | Payload::Claim(_) | Payload::AuditRoot(_) => None,
                    };
                    self.approved(Outcome {
                        signature: Some(signature.as_bytes().to_vec()),
                        tx_hash: transaction.as_ref().map(|signed| signed.hash.to_vec()),
                        signed_tx: transaction.map(|signed| signed.raw.to_vec()),
                        ..outcome(request, Status::Approved, String::new(), "")
                    })
                }
                // For this id it will never give another one.
                Err(error) => {
                    tracing::error!(request_id = %request.request_id, signer = %self.key.address, %error, "custodian's signature refused");
                    self.failed(format!("{}: {error}", report.said), true)
                }
            },
            State::Broadcast(Some(hash)) | State::Confirmed(Some(hash)) | State::Ended(hash) => {
                let (stage, looks) = match report.state {
                    State::Confirmed(_) => ("CONFIRMED", u32::MAX),
                    State::Ended(_) => ("FAILED", u32::MAX),
                    _ => ("BROADCAST", 0),
                };
                let tx_hash = Some(hash.to_vec());
                let outcome = Outcome { tx_hash, stage, ..outcome(request, Status::Approved, said(), "") };
                let pause = self.custody.pace().pause(looks, rand::random());
                Verdict::Stands { outcome, pause, stopped: false, moving: false }
            }
            State::Blocked if late => ends(Status::Expired, "PROVIDER_BLOCKED"),
            State::Denied | State::Blocked | State::Failed { .. } if late => ends(Status::Expired, "POLL_TIMEOUT"),
            State::Denied if self.claim.withdrawal_asked => ends(Status::Denied, WITHDRAWN),
            State::Denied => ends(Status::Denied, ""),
            State::Expired => ends(Status::Expired, "PROVIDER_EXPIRED"),
            State::Blocked => Verdict::Stands {
                outcome: outcome(request, Status::Blocked, said(), ""),
                pause: STOPPED_PAUSE,
                stopped: true,
                moving: false,
            },
            State::Failed { again } => self.failed(said(), *again),
            State::Processing | State::Awaiting | State::Broadcast(None) | State::Confirmed(None) => {
                let worked_on = OffsetDateTime::now_utc() - request.created_at;
                let held = report.state != State::Processing || worked_on > WORKED_ON;
                Verdict::Stands {
                    outcome: outcome(request, Status::Pending, said(), if held { "" } else { NOT_ASKED }),
                    pause: self.soon.unwrap_or_else(|| {
                        self.custody.pace().waiting(self.claim.looks, self.claim.heard, rand::random())
                    }),
                    stopped: false,
                    moving: true,
                }
            }
        }
    }

    fn approved(&self, outcome: Outcome) -> Verdict {
        Verdict::Stands { outcome, pause: STOPPED_PAUSE, stopped: false, moving: false }
    }

    /// A fault of the provider is worth another attempt, under another id, while there are some left.
    fn failed(&self, said: String, again: bool) -> Verdict {
        if again && self.claim.attempt + 1 < self.custody.pace().attempts {
            return Verdict::Another(said);
        }
        Verdict::Stands {
            outcome: outcome(self.request, Status::Denied, said, "PROVIDER_FAILED"),
            pause: STOPPED_PAUSE,
            stopped: false,
            moving: false,
        }
    }
}
