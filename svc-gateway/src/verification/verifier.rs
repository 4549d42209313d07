//! From what was shown to a verdict.

use std::{fmt, sync::Arc, time::Duration};

use dalp_domain::store::Tables;
use dalp_engine::audit_leaf;
use dalp_service::{Reason, Refusal, errors::RefusalResult, stop::Stop};
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    Code, Factor, VerificationConfig,
    lockout::Lockout,
    pin::{Hasher, Record},
    recovery,
    store::{self, Ask, Counted, Enrolled, Person},
    totp::Secret,
};
use crate::{
    metric_definitions as names,
    sealing::{Purpose, Sealed, SealingKeys},
};

/// What tells the time; tests tell their own.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// How often locked persons are counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// Looks at what persons show. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    shared: Arc<Shared>,
}

struct Shared {
    tables: Tables,
    keys: Option<Arc<SealingKeys>>,
    hasher: Hasher,
    lockout: Lockout,
    issuer: String,
    clock: Clock,
    /// Stands for the app of who has none, so that the answer takes as long.
    nobodys: Secret,
}

/// Something shown that was right. It is used up by [`spend`](Self::spend), in the commit of what it was shown for.
#[must_use]
#[derive(Debug)]
pub struct Proven {
    factor: Factor,
    spend: Spend,
    now: OffsetDateTime,
}

#[derive(Debug)]
enum Spend {
    Pin(Sealed),
    Step(Sealed, i64),
    Code([u8; 32]),
}

/// How a write was let on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It repeats one for which something was shown.
    Repeat,
    /// Something right was shown.
    Shown(Factor),
}

fn of_pin(Person { tenant, principal }: Person<'_>) -> Purpose<'_> {
    Purpose::Pin { tenant, principal }
}

fn of_totp(Person { tenant, principal }: Person<'_>) -> Purpose<'_> {
    Purpose::Totp { tenant, principal }
}

// === impl Verifier ===

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Verifier").field("keys", &self.shared.keys).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Over the gateway's tables, by connections of its own: a count is committed while its caller may hold another one.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn new(tables: Tables, config: &VerificationConfig, keys: Option<Arc<SealingKeys>>) -> Result<Self, String> {
        Self::with_clock(tables, config, keys, Arc::new(OffsetDateTime::now_utc))
    }

    /// As [`new`](Self::new), by this clock.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn with_clock(
        tables: Tables,
        config: &VerificationConfig,
        keys: Option<Arc<SealingKeys>>,
        clock: Clock,
    ) -> Result<Self, String> {
        let nobodys = Secret::make().map_err(|error| error.to_string())?;
        let shared = Shared {
            tables,
            keys,
            hasher: Hasher::new(config.hashes_at_once),
            lockout: Lockout::new(config),
            issuer: config.issuer.clone(),
            clock,
            nobodys: Secret::new(&nobodys).map_err(|error| error.to_string())?,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The time by which all is judged.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        (self.shared.clock)()
    }

    /// The rule of lockouts.
    #[must_use]
    pub fn lockout(&self) -> &Lockout {
        &self.shared.lockout
    }

    /// The sealing keys.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when the gateway has none: then nobody can have a factor.
    pub fn keys(&self) -> RefusalResult<&SealingKeys> {
        self.shared.keys.as_deref().ok_or_else(|| {
            Refusal::new(
                Reason::FailedPrecondition,
                "this gateway keeps no factors: its configuration has no [[sealing.keys]]",
            )
        })
    }

    /// What a person has.
    pub async fn enrolled(&self, person: Person<'_>) -> RefusalResult<Enrolled> {
        Ok(store::enrolled(&self.shared.tables.pool, person).await?)
    }

    /// Lets a write on, or says why not. A repeat needs nothing and uses nothing up; `payload_hash` is that of the message.
    pub async fn admit(
        &self,
        ask: &Ask<'_>,
        payload_hash: &[u8; 32],
        code: RefusalResult<Option<&Code>>,
    ) -> RefusalResult<Passed> {
        if store::is_verified(&self.shared.tables.pool, ask, payload_hash).await? {
            told("none", "repeat");
            return Ok(Passed::Repeat);
        }
        let code = self.required(ask.person, code).await?;
        let proven = self.attempt(ask.person, code, false).await?;
        let factor = proven.factor;
        let mut commit = self.shared.tables.begin("begin verification").await?;
        if !proven.spend(&mut commit, ask.person).await? {
            drop(commit);
            // Two of the same write at once: the first has used the code up, and the second is its repeat.
            if store::is_verified(&self.shared.tables.pool, ask, payload_hash).await? {
                store::not_counted(&self.shared.tables, ask.person, &self.shared.lockout).await?;
                told("none", "repeat");
                return Ok(Passed::Repeat);
            }
            return Err(self.used_before(ask.person, factor).await);
        }
        store::put_verified(&mut commit, ask, payload_hash, factor, proven.now).await?;
        passed_leaf(&mut commit, ask, factor).await?;
        commit.commit().await.map_err(dalp_domain::store::during("commit verification"))?;
        told(factor.as_str(), "passed");
        Ok(Passed::Shown(factor))
    }

    /// As [`admit`](Self::admit), of a write that has no key and so no repeats.
    pub async fn admit_once(
        &self,
        person: Person<'_>,
        method: &str,
        code: RefusalResult<Option<&Code>>,
    ) -> RefusalResult<Passed> {
        let code = self.required(person, code).await?;
        let proven = self.attempt(person, code, false).await?;
        let factor = proven.factor;
        let mut commit = self.shared.tables.begin("begin verification").await?;
        if !proven.spend(&mut commit, person).await? {
            drop(commit);
            return Err(self.used_before(person, factor).await);
        }
        passed_leaf(&mut commit, &Ask { person, method, key: "" }, factor).await?;
        commit.commit().await.map_err(dalp_domain::store::during("commit verification"))?;
        told(factor.as_str(), "passed");
        Ok(Passed::Shown(factor))
    }

    /// Whether something was shown under the key of a streamed write, whose message is not known before its end.
    pub(super) async fn is_key_verified(&self, ask: &Ask<'_>) -> RefusalResult<bool> {
        Ok(store::is_key_verified(&self.shared.tables.pool, ask).await?)
    }

    /// Whether something was shown for this message.
    pub(super) async fn is_verified(&self, ask: &Ask<'_>, payload_hash: &[u8; 32]) -> RefusalResult<bool> {
        Ok(store::is_verified(&self.shared.tables.pool, ask, payload_hash).await?)
    }

    /// Notes for which message of a streamed write something was shown.
    pub(super) async fn note(&self, ask: &Ask<'_>, payload_hash: &[u8; 32], factor: Factor) -> RefusalResult<()> {
        let mut connection =
            self.shared.tables.pool.acquire().await.map_err(dalp_domain::store::during("write verification"))?;
        Ok(store::put_verified(&mut connection, ask, payload_hash, factor, self.now()).await?)
    }

    /// What was shown, or that something must be.
    pub async fn required<'c>(
        &self,
        person: Person<'_>,
        code: RefusalResult<Option<&'c Code>>,
    ) -> RefusalResult<&'c Code> {
        match code {
            Ok(Some(code)) => Ok(code),
            Err(refusal) => Err(refusal),
            Ok(None) => {
                let factors = self.enrolled(person).await?.factors();
                told("none", if factors.is_empty() { "not_enrolled" } else { "missing" });
                Err(missing(&factors))
            }
        }
    }

    /// Looks at something shown. It is counted as wrong first, in a commit of its own: a crash, or a caller who goes away, gives no free try. `even_locked` is for
    /// a recovery code alone, which nobody guesses.
    pub async fn attempt(&self, person: Person<'_>, code: &Code, even_locked: bool) -> RefusalResult<Proven> {
        let this = self.clone();
        let (tenant, principal) = (person.tenant.to_owned(), person.principal.to_owned());
        let code = code.clone();
        // Goes on when its caller has gone, so that what was counted is also looked at.
        let looking = tokio::spawn(async move {
            let person = Person { tenant: &tenant, principal: &principal };
            this.look(person, &code, even_locked && code.factor() == Factor::Recovery).await
        });
        looking.await.map_err(Refusal::internal)?
    }

    async fn look(&self, person: Person<'_>, code: &Code, even_locked: bool) -> RefusalResult<Proven> {
        let factor = code.factor();
        let place = match factor {
            Factor::Pin => Some(self.shared.hasher.place().await?),
            Factor::Totp | Factor::Recovery => None,
        };
        let now = self.now();
        let counted = store::count(&self.shared.tables, person, &self.shared.lockout, now, even_locked).await?;
        let Counted::As { failures, locks_until } = counted else {
            told(factor.as_str(), "locked");
            return Err(locked(counted, now));
        };
        let spend = match (factor, place) {
            (Factor::Pin, Some(place)) => {
                let stored = store::pin(&self.shared.tables.pool, person).await?;
                let record = match &stored {
                    Some(sealed) => {
                        let opened = self.keys()?.open(of_pin(person), sealed);
                        Some(opened.map_err(Refusal::internal)?)
                    }
                    None => None,
                };
                let record = record.as_ref().map(|record| record.as_slice());
                let right = self.shared.hasher.matches(place, record, code.expose()).await?;
                stored.filter(|_| right).map(Spend::Pin)
            }
            (Factor::Totp, _) => {
                let stored = store::totp(&self.shared.tables.pool, person, true).await?;
                let opened = stored.as_ref().map(|stored| self.secret(person, &stored.sealed)).transpose()?;
                let step = opened.as_ref().unwrap_or(&self.shared.nobodys).step_of(code.expose(), now);
                stored.zip(step).map(|(stored, step)| Spend::Step(stored.sealed, step))
            }
            // Whether it is one is for the statement to say that uses it up.
            (Factor::Recovery, _) => Some(Spend::Code(recovery::digest(person, code.expose()))),
            (Factor::Pin, None) => None,
        };
        match spend {
            Some(spend) => Ok(Proven { factor, spend, now }),
            None => Err(self.wrong(person, factor, failures, locks_until).await),
        }
    }

    /// The refusal of something that was not right, which by then counts.
    async fn wrong(
        &self,
        person: Person<'_>,
        factor: Factor,
        failures: u32,
        locks_until: Option<OffsetDateTime>,
    ) -> Refusal {
        told(factor.as_str(), "failed");
        let lockout = &self.shared.lockout;
        if locks_until.is_some() || failures >= lockout.most() {
            metrics::counter!(names::GATEWAY_VERIFICATION_LOCKOUTS_TOTAL).increment(1);
            let until = locks_until.filter(|_| failures < lockout.most()).map(rfc3339);
            let body = json!({"failures": failures, "until": until, "factor": factor.as_str()});
            let leaf = async {
                let mut connection = self.shared.tables.pool.acquire().await?;
                let (tenant, principal) = (person.tenant, person.principal);
                audit_leaf(&mut connection, tenant, "verification.lock", principal, principal, body).await
            };
            if let Err(error) = leaf.await {
                tracing::error!(error = &error as &dyn std::error::Error, "a lockout is not in the audit");
            }
        }
        let refusal = not_right(factor);
        match locks_until {
            Some(until) => refusal.meta("locked_until", rfc3339(until)),
            None => refusal,
        }
    }

    /// The refusal of something that has been used up, or was none; it was counted when it was looked at.
    pub async fn used_before(&self, person: Person<'_>, factor: Factor) -> Refusal {
        match self.enrolled(person).await {
            Ok(now) => {
                let locks_until = now.locked_until.filter(|until| *until > self.now());
                self.wrong(person, factor, now.failures, locks_until).await
            }
            Err(refusal) => refusal,
        }
    }

    /// What to keep of a new PIN.
    pub async fn seal_pin(&self, person: Person<'_>, pin: &str) -> RefusalResult<Sealed> {
        let keys = self.keys()?;
        let place = self.shared.hasher.place().await?;
        let record: Record = self.shared.hasher.record(place, pin).await?;
        keys.seal(of_pin(person), record.as_bytes()).map_err(Refusal::internal)
    }

    /// A new secret for an app: what to keep, and what the app reads.
    pub fn seal_totp(&self, person: Person<'_>) -> RefusalResult<(Sealed, secrecy::zeroize::Zeroizing<String>)> {
        let keys = self.keys()?;
        let bytes = Secret::make().map_err(Refusal::internal)?;
        let uri = Secret::new(&bytes).map_err(Refusal::internal)?.uri(&self.shared.issuer, person);
        Ok((keys.seal(of_totp(person), &bytes).map_err(Refusal::internal)?, uri))
    }

    /// The secret of an app.
    pub fn secret(&self, person: Person<'_>, sealed: &Sealed) -> RefusalResult<Secret> {
        let bytes = self.keys()?.open(of_totp(person), sealed).map_err(Refusal::internal)?;
        Secret::new(&bytes).map_err(Refusal::internal)
    }

    /// Tells how many persons are locked, until the end.
    pub async fn watch(self, stop: Stop) {
        loop {
            match store::locked(&self.shared.tables, self.now(), self.shared.lockout.most()).await {
                Ok(locked) => metrics::gauge!(names::GATEWAY_VERIFICATION_LOCKED).set(locked as f64),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "locked persons are not counted");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(COUNT_EVERY) => {}
                () = stop.requested() => return,
            }
        }
    }
}

// === impl Proven ===

impl Proven {
    /// What was shown.
    #[must_use]
    pub fn factor(&self) -> Factor {
        self.factor
    }

    /// Uses it up, and ends the count of wrong ones; `false` when it was used up before, or is none by now.
    pub async fn spend(&self, commit: &mut PgConnection, person: Person<'_>) -> RefusalResult<bool> {
        let spent = match &self.spend {
            Spend::Pin(seen) => store::is_still_pin(commit, person, seen).await?,
            Spend::Step(seen, step) => store::use_step(commit, person, seen, *step).await?,
            Spend::Code(digest) => store::use_code(commit, person, *digest, self.now).await?,
        };
        if spent {
            store::right(commit, person).await?;
        }
        Ok(spent)
    }
}

/// What stands in the audit of something right: what was shown, for which call; never a code.
async fn passed_leaf(commit: &mut PgConnection, ask: &Ask<'_>, factor: Factor) -> RefusalResult<()> {
    let body = json!({"factor": factor.as_str(), "idempotency_key": ask.key});
    let Person { tenant, principal } = ask.person;
    let leaf = audit_leaf(commit, tenant, "verification.pass", principal, ask.method, body).await;
    Ok(leaf.map_err(dalp_domain::store::during("write audit leaf"))?)
}

pub(super) fn told(factor: &'static str, outcome: &'static str) {
    metrics::counter!(names::GATEWAY_VERIFICATIONS_TOTAL, "factor" => factor, "outcome" => outcome).increment(1);
}

fn missing(factors: &[Factor]) -> Refusal {
    if factors.is_empty() {
        return Refusal::new(
            Reason::WalletVerificationNotEnrolled,
            "this write needs a wallet verification, and the caller has no PIN, authenticator app or recovery codes yet",
        );
    }
    let names: Vec<&str> = factors.iter().map(|factor| factor.as_str()).collect();
    Refusal::new(
        Reason::WalletVerificationRequired,
        "this write needs a wallet verification in the metadata x-wallet-verification",
    )
    .meta("factors", names.join(","))
}

/// One text for all that is wrong with it: another person's, an old one, a used one, or one of a factor that there is not.
fn not_right(factor: Factor) -> Refusal {
    Refusal::new(Reason::WalletVerificationFailed, "what was shown to verify the wallet was not taken")
        .meta("factor", factor)
}

fn locked(counted: Counted, now: OffsetDateTime) -> Refusal {
    let until = match counted {
        Counted::Locked { until } => until,
        Counted::As { .. } => None,
    };
    match until {
        Some(until) => {
            let wait = Duration::try_from(until - now).unwrap_or_default().max(Duration::from_secs(1));
            Refusal::new(Reason::WalletVerificationLocked, "too many wrong verifications: nothing is taken for a while")
                .meta("locked_until", rfc3339(until))
                .retry_after(wait)
        }
        None => Refusal::new(
            Reason::WalletVerificationLocked,
            "too many wrong verifications: nothing is taken until a recovery code changes the PIN, or an administrator resets it",
        ),
    }
}

fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}
