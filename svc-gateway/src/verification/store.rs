//! The tables of factors and of what was shown for which write. Each race is decided by one conditional statement here.

use dalp_domain::store::{StoreError, Tables, during, parsed};
use sqlx::{PgConnection, PgExecutor, Row as _, postgres::PgRow};
use time::OffsetDateTime;

use super::{Factor, lockout::Lockout, policy::Mode};
use crate::sealing::Sealed;

mod writes;

pub use writes::{is_key_verified, is_verified, put_verified};

/// A person of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person<'p> {
    /// The tenant.
    pub tenant: &'p str,
    /// The principal.
    pub principal: &'p str,
}

/// A write for which something is shown.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who.
    pub person: Person<'a>,
    /// Path of the RPC.
    pub method: &'a str,
    /// Its idempotency key.
    pub key: &'a str,
}

/// What became of a try that was to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It counts as wrong until it is said to be right.
    As {
        /// Wrong ones in a row, with this.
        failures: u32,
        /// Until when nothing is taken should it stay so.
        locks_until: Option<OffsetDateTime>,
    },
    /// Nothing is taken.
    Locked {
        /// Until then; `None`: for good.
        until: Option<OffsetDateTime>,
    },
}

/// What a person has, without any secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enrolled {
    /// A PIN.
    pub pin: bool,
    /// An authenticator app.
    pub totp: bool,
    /// An app that was begun and not confirmed.
    pub totp_unconfirmed: bool,
    /// Recovery codes that were not used.
    pub codes_left: u32,
    /// Codes that were made and not confirmed.
    pub codes_unconfirmed: bool,
    /// Wrong ones in a row.
    pub failures: u32,
    /// Until when nothing is taken.
    pub locked_until: Option<OffsetDateTime>,
}

/// The secret of an app, as stored.
#[derive(Clone, Debug)]
pub struct StoredTotp {
    /// Sealed.
    pub sealed: Sealed,
    /// When it was made.
    pub made_at: OffsetDateTime,
}

/// The policy of a tenant, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPolicy {
    /// Which writes.
    pub mode: Mode,
    /// RPCs.
    pub methods: Vec<String>,
    /// Patterns of permissions.
    pub permissions: Vec<String>,
    /// Since when.
    pub set_at: OffsetDateTime,
    /// By whom.
    pub set_by: String,
}

// === impl Enrolled ===

impl Enrolled {
    /// What can be shown.
    #[must_use]
    pub fn factors(&self) -> Vec<Factor> {
        let has = [(self.pin, Factor::Pin), (self.totp, Factor::Totp), (self.codes_left > 0, Factor::Recovery)];
        has.into_iter().filter_map(|(has, factor)| has.then_some(factor)).collect()
    }
}

/// Counts a try as wrong before it is looked at, in a commit of its own. `even_locked`: of something that nobody guesses.
pub async fn count(
    tables: &Tables,
    person: Person<'_>,
    lockout: &Lockout,
    now: OffsetDateTime,
    even_locked: bool,
) -> Result<Counted, StoreError> {
    let most = i32::try_from(lockout.most()).unwrap_or(i32::MAX);
    let row = sqlx::query(
        "INSERT INTO gateway.verification_attempts AS a (tenant_id, principal_id, failures, locked_until)
         VALUES ($1, $2, 1, CASE WHEN ($4::bigint[])[1] > 0 THEN $3 + make_interval(secs => ($4::bigint[])[1]) END)
         ON CONFLICT (tenant_id, principal_id) DO UPDATE SET failures = a.failures + 1,
             locked_until = CASE WHEN ($4::bigint[])[a.failures + 1] > 0 THEN greatest(a.locked_until, $3 + make_interval(secs => ($4::bigint[])[a.failures + 1]))
                                 ELSE a.locked_until END
         WHERE $6 OR ((a.locked_until IS NULL OR a.locked_until <= $3) AND a.failures < $5)
         RETURNING failures, locked_until",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .bind(now)
    .bind(lockout.table_s())
    .bind(most)
    .bind(even_locked)
    .fetch_optional(&tables.pool)
    .await
    .map_err(during("count verification"))?;
    if let Some(row) = row {
        let failures: i32 = row.get("failures");
        let locks_until: Option<OffsetDateTime> = row.get("locked_until");
        let locks_until = locks_until.filter(|until| *until > now);
        return Ok(Counted::As { failures: u32::try_from(failures).unwrap_or(u32::MAX), locks_until });
    }
    let enrolled = enrolled(&tables.pool, person).await?;
    let until = enrolled.locked_until.filter(|_| enrolled.failures < lockout.most());
    Ok(Counted::Locked { until })
}

/// A try that was counted turned out to repeat one that was right.
pub async fn not_counted(tables: &Tables, person: Person<'_>, lockout: &Lockout) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE gateway.verification_attempts SET failures = failures - 1,
             locked_until = CASE WHEN failures > 1 AND ($3::bigint[])[failures - 1] > 0 THEN locked_until END
         WHERE tenant_id = $1 AND principal_id = $2 AND failures > 0",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .bind(lockout.table_s())
    .execute(&tables.pool)
    .await
    .map(drop)
    .map_err(during("take back verification"))
}

/// It was right: nothing counts any more.
pub async fn right(commit: &mut PgConnection, person: Person<'_>) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE gateway.verification_attempts SET failures = 0, locked_until = NULL WHERE tenant_id = $1 AND principal_id = $2",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("end count of verifications"))
}

/// What a person has.
pub async fn enrolled(database: impl PgExecutor<'_>, person: Person<'_>) -> Result<Enrolled, StoreError> {
    let row = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM gateway.verification_pins p WHERE p.tenant_id = $1 AND p.principal_id = $2) AS pin,
                EXISTS (SELECT 1 FROM gateway.verification_totps t WHERE t.tenant_id = $1 AND t.principal_id = $2 AND t.active) AS totp,
                EXISTS (SELECT 1 FROM gateway.verification_totps t WHERE t.tenant_id = $1 AND t.principal_id = $2 AND NOT t.active) AS totp_unconfirmed,
                (SELECT count(*) FROM gateway.verification_recovery_codes c
                 WHERE c.tenant_id = $1 AND c.principal_id = $2 AND c.confirmed AND c.used_at IS NULL) AS codes_left,
                EXISTS (SELECT 1 FROM gateway.verification_recovery_codes c WHERE c.tenant_id = $1 AND c.principal_id = $2 AND NOT c.confirmed) AS codes_unconfirmed,
                coalesce(a.failures, 0) AS failures, a.locked_until
         FROM (SELECT 1) one LEFT JOIN gateway.verification_attempts a ON a.tenant_id = $1 AND a.principal_id = $2",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .fetch_one(database)
    .await
    .map_err(during("read factors"))?;
    let (codes_left, failures): (i64, i32) = (row.get("codes_left"), row.get("failures"));
    Ok(Enrolled {
        pin: row.get("pin"),
        totp: row.get("totp"),
        totp_unconfirmed: row.get("totp_unconfirmed"),
        codes_left: u32::try_from(codes_left).unwrap_or(u32::MAX),
        codes_unconfirmed: row.get("codes_unconfirmed"),
        failures: u32::try_from(failures).unwrap_or(u32::MAX),
        locked_until: row.get("locked_until"),
    })
}

/// The PIN's record, sealed.
pub async fn pin(database: impl PgExecutor<'_>, person: Person<'_>) -> Result<Option<Sealed>, StoreError> {
    let row =
        sqlx::query("SELECT key_id, sealed FROM gateway.verification_pins WHERE tenant_id = $1 AND principal_id = $2")
            .bind(person.tenant)
            .bind(person.principal)
            .fetch_optional(database)
            .await;
    Ok(row.map_err(during("read PIN"))?.as_ref().map(sealed))
}

/// Keeps a PIN; `false` when there is one and `replace` is not given.
pub async fn put_pin(
    commit: &mut PgConnection,
    person: Person<'_>,
    pin: &Sealed,
    now: OffsetDateTime,
    replace: bool,
) -> Result<bool, StoreError> {
    let put = sqlx::query(
        "INSERT INTO gateway.verification_pins AS p (tenant_id, principal_id, key_id, sealed, set_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant_id, principal_id) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, set_at = excluded.set_at WHERE $6",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .bind(&pin.key_id)
    .bind(&pin.bytes)
    .bind(now)
    .bind(replace)
    .execute(commit)
    .await;
    Ok(put.map_err(during("write PIN"))?.rows_affected() == 1)
}

/// Whether the PIN is still the one that was looked at; held until the commit.
pub async fn is_still_pin(commit: &mut PgConnection, person: Person<'_>, seen: &Sealed) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 AS one FROM gateway.verification_pins WHERE tenant_id = $1 AND principal_id = $2 AND sealed = $3 FOR SHARE",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .bind(&seen.bytes)
    .fetch_optional(commit)
    .await;
    Ok(row.map_err(during("read PIN"))?.is_some())
}

/// The secret of the app: the active one, or the one that waits for its confirmation.
pub async fn totp(
    database: impl PgExecutor<'_>,
    person: Person<'_>,
    active: bool,
) -> Result<Option<StoredTotp>, StoreError> {
    let row = sqlx::query(
        "SELECT key_id, sealed, made_at FROM gateway.verification_totps WHERE tenant_id = $1 AND principal_id = $2 AND active = $3",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .bind(active)
    .fetch_optional(database)
    .await;
    let row = row.map_err(during("read one-time secret"))?;
    Ok(row.map(|row| StoredTotp { sealed: sealed(&row), made_at: row.get("made_at") }))
}

/// Keeps a secret that waits for its confirmation, in place of the one that did before.
pub async fn begin_totp(
    commit: &mut PgConnection,
    person: Person<'_>,
    secret: &Sealed,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO gateway.verification_totps AS t (tenant_id, principal_id, active, key_id, sealed, made_at) VALUES ($1, $2, false, $3, $4, $5)
         ON CONFLICT (tenant_id, principal_id, active) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, last_step = 0, made_at = excluded.made_at",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .bind(&secret.key_id)
    .bind(&secret.bytes)
    .bind(now)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("begin one-time secret"))
}

/// Takes the waiting secret into use, with the step of the password that confirmed it used up; `false` when another is waiting by now.
pub async fn confirm_totp(
    commit: &mut PgConnection,
    person: Person<'_>,
    seen: &Sealed,
    step: i64,
) -> Result<bool, StoreError> {
    let delete = "DELETE FROM gateway.verification_totps WHERE tenant_id = $1 AND principal_id = $2 AND active
                  AND EXISTS (SELECT 1 FROM gateway.verification_totps w WHERE w.tenant_id = $1 AND w.principal_id = $2 AND NOT w.active AND w.sealed = $3)";
    let take = "UPDATE gateway.verification_totps SET active = true, last_step = $4 WHERE tenant_id = $1 AND principal_id = $2 AND NOT active AND sealed = $3";
    sqlx::query(delete)
        .bind(person.tenant)
        .bind(person.principal)
        .bind(&seen.bytes)
        .execute(&mut *commit)
        .await
        .map_err(during("replace one-time secret"))?;
    let taken =
        sqlx::query(take).bind(person.tenant).bind(person.principal).bind(&seen.bytes).bind(step).execute(commit).await;
    Ok(taken.map_err(during("confirm one-time secret"))?.rows_affected() == 1)
}

/// Uses a password up: one of this step or of a later one was not taken yet. Whoever comes second, on whichever replica, gets `false`.
pub async fn use_step(
    commit: &mut PgConnection,
    person: Person<'_>,
    seen: &Sealed,
    step: i64,
) -> Result<bool, StoreError> {
    let used = sqlx::query(
        "UPDATE gateway.verification_totps SET last_step = $4
         WHERE tenant_id = $1 AND principal_id = $2 AND active AND sealed = $3 AND last_step < $4",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .bind(&seen.bytes)
    .bind(step)
    .execute(commit)
    .await;
    Ok(used.map_err(during("use one-time password"))?.rows_affected() == 1)
}

/// Keeps codes that wait for their confirmation, in place of those that did before.
pub async fn put_codes(
    commit: &mut PgConnection,
    person: Person<'_>,
    digests: &[[u8; 32]],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM gateway.verification_recovery_codes WHERE tenant_id = $1 AND principal_id = $2 AND NOT confirmed",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .execute(&mut *commit)
    .await
    .map_err(during("replace recovery codes"))?;
    sqlx::query(
        "INSERT INTO gateway.verification_recovery_codes (tenant_id, principal_id, digest, confirmed, made_at)
         SELECT $1, $2, d, false, $4 FROM unnest($3::bytea[]) AS d",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .bind(digests.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>())
    .bind(now)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("write recovery codes"))
}

/// Whether codes wait for their confirmation.
pub async fn confirm_codes(
    commit: &mut PgConnection,
    person: Person<'_>,
    digest: [u8; 32],
) -> Result<bool, StoreError> {
    // Taken first: a set that replaces this one at the same time waits for us, or we see that it is gone.
    let waiting = sqlx::query_scalar::<_, Vec<u8>>(
        "SELECT digest FROM gateway.verification_recovery_codes WHERE tenant_id = $1 AND principal_id = $2 AND NOT confirmed ORDER BY digest FOR UPDATE",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .fetch_all(&mut *commit)
    .await
    .map_err(during("read recovery codes"))?;
    if !waiting.iter().any(|one| one == &digest) {
        return Ok(false);
    }
    for statement in [
        "DELETE FROM gateway.verification_recovery_codes WHERE tenant_id = $1 AND principal_id = $2 AND confirmed",
        "UPDATE gateway.verification_recovery_codes SET confirmed = true WHERE tenant_id = $1 AND principal_id = $2 AND NOT confirmed",
    ] {
        let done = sqlx::query(statement).bind(person.tenant).bind(person.principal).execute(&mut *commit).await;
        done.map_err(during("confirm recovery codes"))?;
    }
    Ok(true)
}

/// Uses a recovery code up; whoever comes second gets `false`.
pub async fn use_code(
    commit: &mut PgConnection,
    person: Person<'_>,
    digest: [u8; 32],
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let used = sqlx::query(
        "UPDATE gateway.verification_recovery_codes SET used_at = $4
         WHERE tenant_id = $1 AND principal_id = $2 AND digest = $3 AND confirmed AND used_at IS NULL",
    )
    .bind(person.tenant)
    .bind(person.principal)
    .bind(digest.as_slice())
    .bind(now)
    .execute(commit)
    .await;
    Ok(used.map_err(during("use recovery code"))?.rows_affected() == 1)
}

/// Takes a factor away, with what waits of it; `false` when there was none.
pub async fn remove(commit: &mut PgConnection, person: Person<'_>, factor: Factor) -> Result<bool, StoreError> {
    let statement = match factor {
        Factor::Pin => "DELETE FROM gateway.verification_pins WHERE tenant_id = $1 AND principal_id = $2",
        Factor::Totp => "DELETE FROM gateway.verification_totps WHERE tenant_id = $1 AND principal_id = $2",
        Factor::Recovery => {
            "DELETE FROM gateway.verification_recovery_codes WHERE tenant_id = $1 AND principal_id = $2"
        }
    };
    let removed = sqlx::query(statement).bind(person.tenant).bind(person.principal).execute(commit).await;
    Ok(removed.map_err(during("remove factor"))?.rows_affected() > 0)
}

/// The policy of a tenant; `None`: never set, which is off.
pub async fn policy(database: impl PgExecutor<'_>, tenant: &str) -> Result<Option<StoredPolicy>, StoreError> {
    let row = sqlx::query(
        "SELECT mode, methods, permissions, set_at, set_by FROM gateway.verification_policies WHERE tenant_id = $1",
    )
    .bind(tenant)
    .fetch_optional(database)
    .await;
    let Some(row) = row.map_err(during("read policy of verifications"))? else { return Ok(None) };
    Ok(Some(StoredPolicy {
        mode: parsed("mode", row.get("mode"))?,
        methods: row.get("methods"),
        permissions: row.get("permissions"),
        set_at: row.get("set_at"),
        set_by: row.get("set_by"),
    }))
}

/// Sets the policy of a tenant.
pub async fn put_policy(commit: &mut PgConnection, tenant: &str, policy: &StoredPolicy) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO gateway.verification_policies AS p (tenant_id, mode, methods, permissions, set_at, set_by) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant_id) DO UPDATE SET mode = excluded.mode, methods = excluded.methods, permissions = excluded.permissions, set_at = excluded.set_at,
             set_by = excluded.set_by",
    )
    .bind(tenant)
    .bind(policy.mode.as_str())
    .bind(&policy.methods)
    .bind(&policy.permissions)
    .bind(policy.set_at)
    .bind(&policy.set_by)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("set policy of verifications"))
}

/// How many persons are locked now.
pub async fn locked(tables: &Tables, now: OffsetDateTime, most: u32) -> Result<i64, StoreError> {
    let locked = "SELECT count(*) FROM gateway.verification_attempts WHERE failures > 0 AND (locked_until > $1 OR failures >= $2)";
    sqlx::query_scalar(locked)
        .bind(now)
        .bind(i32::try_from(most).unwrap_or(i32::MAX))
        .fetch_one(&tables.pool)
        .await
        .map_err(during("count locked persons"))
}

fn sealed(row: &PgRow) -> Sealed {
    Sealed { key_id: row.get("key_id"), bytes: row.get("sealed") }
}
