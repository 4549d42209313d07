//! The verifier on a real PostgreSQL, by a clock of the test's own: lockouts, drift, and races of replicas.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use dalp_domain::store::Tables;
use dalp_service::Reason;
use dalp_testing::TestPostgres;
use svc_gateway::{
    access::{Store, store::SCHEMA},
    sealing::{SealingConfig, SealingKeyConfig, SealingKeys},
    verification::{
        Code, Factor, VerificationConfig, Verifier, recovery,
        store::{self, Ask, Person},
        totp::Secret,
        verifier::Passed,
    },
};
use time::{Duration, OffsetDateTime};

const ANNA: Person<'static> = Person { tenant: "acme", principal: "anna" };
const BERT: Person<'static> = Person { tenant: "acme", principal: "bert" };
const BEGINNING_S: i64 = 1_800_000_000;
const PIN: &str = "918273";

/// A database with two persons, and a clock.
struct Bench {
    tables: Tables,
    clock: Arc<AtomicI64>,
    config: VerificationConfig,
    keys: Option<Arc<SealingKeys>>,
    _postgres: TestPostgres,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.unwrap();
        let tables = Tables::lazy(SCHEMA, &postgres.url(), 16).unwrap();
        Store::from(tables.clone()).bring_up().await.unwrap();
        for statement in [
            "INSERT INTO gateway.tenants (tenant_id, display_name, cell, managed, created_by) VALUES ('acme', 'Acme', 'main', false, 'test')",
            "INSERT INTO gateway.principals (tenant_id, principal_id, kind, display_name, managed, created_by)
             VALUES ('acme', 'anna', 'person', 'Anna', false, 'test'), ('acme', 'bert', 'person', 'Bert', false, 'test')",
        ] {
            sqlx::query(statement).execute(&tables.pool).await.unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "07".repeat(32)).unwrap();
        let key = SealingKeyConfig { id: "one".to_owned(), key: format!("file:{}", file.display()).parse().unwrap() };
        let keys = SealingKeys::read(&SealingConfig { keys: vec![key] }).unwrap().map(Arc::new);
        let config = VerificationConfig::default();
        Self {
            tables,
            clock: Arc::new(AtomicI64::new(BEGINNING_S)),
            config,
            keys,
            _postgres: postgres,
            _folder: folder,
        }
    }

    /// A replica.
    fn verifier(&self) -> Verifier {
        let clock = Arc::clone(&self.clock);
        let clock = Arc::new(move || OffsetDateTime::from_unix_timestamp(clock.load(Ordering::SeqCst)).unwrap());
        Verifier::with_clock(self.tables.clone(), &self.config, self.keys.clone(), clock).unwrap()
    }

    fn passes(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.clock.load(Ordering::SeqCst)).unwrap()
    }

    async fn pin(&self, verifier: &Verifier, person: Person<'_>, pin: &str) {
        let sealed = verifier.seal_pin(person, pin).await.unwrap();
        let mut connection = self.tables.pool.acquire().await.unwrap();
        assert!(store::put_pin(&mut connection, person, &sealed, self.now(), true).await.unwrap());
    }

    /// An app in use.
    async fn app(&self, verifier: &Verifier, person: Person<'_>) -> Secret {
        let (sealed, _) = verifier.seal_totp(person).unwrap();
        let mut commit = self.tables.begin("test").await.unwrap();
        store::begin_totp(&mut commit, person, &sealed, self.now()).await.unwrap();
        assert!(store::confirm_totp(&mut commit, person, &sealed, 0).await.unwrap());
        commit.commit().await.unwrap();
        verifier.secret(person, &sealed).unwrap()
    }

    async fn codes(&self, person: Person<'_>) -> Vec<String> {
        let codes: Vec<String> = recovery::make().unwrap().iter().map(|code| code.to_string()).collect();
        let digests: Vec<_> =
            codes.iter().map(|code| recovery::digest(person, &recovery::normal(code).unwrap())).collect();
        let mut commit = self.tables.begin("test").await.unwrap();
        store::put_codes(&mut commit, person, &digests, self.now()).await.unwrap();
        assert!(store::confirm_codes(&mut commit, person, digests[3]).await.unwrap());
        commit.commit().await.unwrap();
        codes
    }

    async fn failures(&self, person: Person<'_>) -> u32 {
        store::enrolled(&self.tables.pool, person).await.unwrap().failures
    }
}

fn code(factor: Factor, text: &str) -> Code {
    Code::of(factor, text).unwrap()
}

/// Shows something for a write of this number.
async fn shows(verifier: &Verifier, person: Person<'_>, shown: &Code, number: u8) -> Result<Passed, Reason> {
    let key = format!("k{number}");
    let ask = Ask { person, method: "/dalp.asset.v1.AssetService/Mint", key: &key };
    verifier.admit(&ask, &[number; 32], Ok(Some(shown))).await.map_err(|refusal| refusal.reason())
}

const FAILED: Result<Passed, Reason> = Err(Reason::WalletVerificationFailed);
const LOCKED: Result<Passed, Reason> = Err(Reason::WalletVerificationLocked);

#[tokio::test]
async fn lockouts_double_end_with_their_time_and_are_forgotten_by_the_right_one() {
    let bench = Bench::new().await;
    let verifier = bench.verifier();
    bench.pin(&verifier, ANNA, PIN).await;
    bench.pin(&verifier, BERT, PIN).await;
    let (right, wrong) = (code(Factor::Pin, PIN), code(Factor::Pin, "918274"));
    for number in 0..4 {
        assert_eq!(shows(&verifier, ANNA, &wrong, number).await, FAILED, "the first ones lock nothing");
    }
    assert_eq!(shows(&verifier, ANNA, &wrong, 4).await, FAILED);
    for wait_s in [60, 120, 240] {
        assert_eq!(shows(&verifier, ANNA, &right, 5).await, LOCKED, "also the right one");
        bench.passes(wait_s - 1);
        assert_eq!(shows(&verifier, ANNA, &right, 5).await, LOCKED, "a second before its end");
        bench.passes(1);
        assert_eq!(shows(&verifier, ANNA, &wrong, 5).await, FAILED, "it has ended");
    }
    assert_eq!(shows(&verifier, BERT, &right, 5).await, Ok(Passed::Shown(Factor::Pin)), "another person");
    bench.passes(480);
    assert_eq!(bench.failures(ANNA).await, 8, "what was locked out counts for nothing");
    assert_eq!(shows(&verifier, ANNA, &right, 6).await, Ok(Passed::Shown(Factor::Pin)));
    assert_eq!(bench.failures(ANNA).await, 0);
    assert_eq!(shows(&verifier, ANNA, &wrong, 7).await, FAILED);
    assert_eq!(shows(&verifier, ANNA, &right, 7).await, Ok(Passed::Shown(Factor::Pin)));
}

#[tokio::test]
async fn fifty_wrong_ones_lock_for_good() {
    let mut bench = Bench::new().await;
    bench.config.lockout_most_s = 60;
    let verifier = bench.verifier();
    bench.pin(&verifier, ANNA, PIN).await;
    let wrong = code(Factor::Totp, "123456");
    for _ in 0..50 {
        assert_eq!(shows(&verifier, ANNA, &wrong, 1).await, FAILED);
        bench.passes(60);
    }
    bench.passes(1_000_000);
    let right = code(Factor::Pin, PIN);
    assert_eq!(shows(&verifier, ANNA, &right, 1).await, LOCKED);
    // A recovery code is looked at all the same, where its caller says so; nothing else is.
    let codes = bench.codes(ANNA).await;
    assert_eq!(verifier.attempt(ANNA, &right, true).await.unwrap_err().reason(), Reason::WalletVerificationLocked);
    let proven = verifier.attempt(ANNA, &code(Factor::Recovery, &codes[0]), true).await.unwrap();
    let mut commit = bench.tables.begin("test").await.unwrap();
    assert!(proven.spend(&mut commit, ANNA).await.unwrap());
    commit.commit().await.unwrap();
    assert_eq!(shows(&verifier, ANNA, &right, 1).await, Ok(Passed::Shown(Factor::Pin)));
}

#[tokio::test]
async fn a_try_is_counted_before_it_is_looked_at() {
    let bench = Bench::new().await;
    let verifier = bench.verifier();
    bench.pin(&verifier, ANNA, PIN).await;
    // Right, and then the process is gone: what was shown is not used up, and the try stands.
    let proven = verifier.attempt(ANNA, &code(Factor::Pin, PIN), false).await.unwrap();
    drop(proven);
    assert_eq!(bench.failures(ANNA).await, 1);
    // A caller who goes away at once: the try is counted and looked at to its end.
    let (verifier_too, right) = (verifier.clone(), code(Factor::Pin, PIN));
    let gone = tokio::spawn(async move { verifier_too.attempt(ANNA, &right, false).await.map(drop) });
    while bench.failures(ANNA).await < 2 {
        tokio::task::yield_now().await;
    }
    gone.abort();
    let _ = gone.await;
    assert_eq!(bench.failures(ANNA).await, 2);
    // What the database does not let count is not looked at.
    let broken = "ALTER TABLE gateway.verification_attempts ADD CONSTRAINT none CHECK (failures < 3)";
    sqlx::query(broken).execute(&bench.tables.pool).await.unwrap();
    assert!(verifier.attempt(ANNA, &code(Factor::Pin, PIN), false).await.is_err(), "not even the right one");
}

#[tokio::test]
async fn a_password_is_taken_once_and_none_before_it() {
    let bench = Bench::new().await;
    let verifier = bench.verifier();
    let secret = bench.app(&verifier, ANNA).await;
    let at = |seconds: i64| code(Factor::Totp, &secret.password_at(bench.now() + Duration::seconds(seconds)));
    let (before, this, next) = (at(-30), at(0), at(30));
    assert_eq!(shows(&verifier, ANNA, &at(-60), 1).await, FAILED, "too old");
    assert_eq!(shows(&verifier, ANNA, &at(60), 1).await, FAILED, "too early");
    assert_eq!(shows(&verifier, ANNA, &this, 1).await, Ok(Passed::Shown(Factor::Totp)));
    assert_eq!(shows(&verifier, ANNA, &this, 2).await, FAILED, "taken");
    assert_eq!(shows(&verifier, ANNA, &before, 2).await, FAILED, "older than the one that was taken");
    assert_eq!(shows(&verifier, ANNA, &next, 2).await, Ok(Passed::Shown(Factor::Totp)));
    assert_eq!(shows(&verifier, ANNA, &this, 1).await, Ok(Passed::Repeat));
    assert_eq!(shows(&verifier, BERT, &next, 2).await, FAILED, "another person has no app");
    let back = "UPDATE gateway.verification_totps SET last_step = last_step - 1";
    assert!(sqlx::query(back).execute(&bench.tables.pool).await.is_err(), "the table itself says so");
}

#[tokio::test]
async fn of_two_replicas_that_are_shown_one_code_one_takes_it() {
    let bench = Bench::new().await;
    let replicas: Vec<Verifier> = (0..4).map(|_| bench.verifier()).collect();
    let secret = bench.app(&replicas[0], ANNA).await;
    let codes = bench.codes(ANNA).await;
    for round in 0..10_u8 {
        let password = code(Factor::Totp, &secret.password_at(bench.now()));
        let paper = code(Factor::Recovery, &codes[usize::from(round)]);
        for (kind, shown) in [password, paper].iter().enumerate() {
            let number = |replica: usize| {
                100 + u8::try_from(replica).unwrap() + 4 * (2 * round + u8::try_from(kind).unwrap()) % 100
            };
            let tries = replicas.iter().enumerate().map(|(index, replica)| shows(replica, ANNA, shown, number(index)));
            let answers = futures::future::join_all(tries).await;
            let taken = answers.iter().filter(|answer| matches!(answer, Ok(Passed::Shown(_)))).count();
            assert_eq!(taken, 1, "{answers:?}");
            assert!(
                answers
                    .iter()
                    .all(|answer| matches!(answer, Ok(Passed::Shown(_))) || *answer == FAILED || *answer == LOCKED)
            );
            // The next round begins without a lockout.
            sqlx::query("UPDATE gateway.verification_attempts SET failures = 0, locked_until = NULL")
                .execute(&bench.tables.pool)
                .await
                .unwrap();
        }
        bench.passes(30);
        sqlx::query("SELECT 1").execute(&bench.tables.pool).await.unwrap();
    }
    let used: i64 =
        sqlx::query_scalar("SELECT count(*) FROM gateway.verification_recovery_codes WHERE used_at IS NOT NULL")
            .fetch_one(&bench.tables.pool)
            .await
            .unwrap();
    assert_eq!(used, 10);
    let again = "UPDATE gateway.verification_recovery_codes SET used_at = NULL";
    assert!(sqlx::query(again).execute(&bench.tables.pool).await.is_err(), "the table itself says so");
}

#[tokio::test]
async fn the_same_write_at_once_passes_once_by_the_code_and_else_as_its_repeat() {
    let bench = Bench::new().await;
    let replicas: Vec<Verifier> = (0..4).map(|_| bench.verifier()).collect();
    let secret = bench.app(&replicas[0], ANNA).await;
    let shown = code(Factor::Totp, &secret.password_at(bench.now()));
    let tries = replicas.iter().map(|replica| shows(replica, ANNA, &shown, 1));
    let answers = futures::future::join_all(tries).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ok(Passed::Shown(_)))).count(), 1, "{answers:?}");
    let leaves: i64 = sqlx::query_scalar("SELECT count(*) FROM engine.audit_leaves WHERE action = 'verification.pass'")
        .fetch_one(&bench.tables.pool)
        .await
        .unwrap();
    assert_eq!(leaves, 1);
    assert_eq!(bench.failures(ANNA).await, 0, "a repeat is nobody's failure");
}

#[tokio::test]
async fn many_wrong_ones_at_once_count_each_and_lock() {
    let bench = Bench::new().await;
    let replicas: Vec<Verifier> = (0..3).map(|_| bench.verifier()).collect();
    bench.app(&replicas[0], ANNA).await;
    let tries = (0..60_u8).map(|number| {
        let replica = &replicas[usize::from(number) % 3];
        async move { shows(replica, ANNA, &code(Factor::Recovery, "AAAA-AAAA-AAAA-AAAA"), number).await }
    });
    let answers = futures::future::join_all(tries).await;
    let looked_at = answers.iter().filter(|answer| **answer == FAILED).count();
    assert_eq!(looked_at, 5, "four are free, the fifth locks, and no more is looked at");
    assert_eq!(bench.failures(ANNA).await, 5);
    assert_eq!(answers.iter().filter(|answer| **answer == LOCKED).count(), 55);
}

/// The answer to a PIN of somebody without one is no faster: the work is the same.
#[tokio::test]
async fn who_has_no_pin_is_answered_alike_after_the_same_work() {
    let bench = Bench::new().await;
    let verifier = bench.verifier();
    bench.pin(&verifier, ANNA, PIN).await;
    let secret = bench.app(&verifier, BERT).await;
    drop(secret);
    let wrong = code(Factor::Pin, "918274");
    let ask = |person| Ask { person, method: "/m", key: "k" };
    let refused = async |person| verifier.admit(&ask(person), &[1; 32], Ok(Some(&wrong))).await.unwrap_err();
    let (of_anna, of_bert) = (refused(ANNA).await, refused(BERT).await);
    assert_eq!((of_anna.reason(), of_anna.message()), (of_bert.reason(), of_bert.message()));
    assert_eq!(of_anna.metadata(), of_bert.metadata());
    let took = async |person| {
        let begun = std::time::Instant::now();
        refused(person).await;
        let took = begun.elapsed();
        sqlx::query("UPDATE gateway.verification_attempts SET failures = 0, locked_until = NULL")
            .execute(&bench.tables.pool)
            .await
            .unwrap();
        took
    };
    // In turn, so that what else the machine does falls on both; the shortest of each is the hashing.
    let (mut anna, mut bert) = (std::time::Duration::MAX, std::time::Duration::MAX);
    for _ in 0..8 {
        anna = anna.min(took(ANNA).await);
        bert = bert.min(took(BERT).await);
    }
    assert!(bert * 3 > anna, "without a PIN {bert:?}, with one {anna:?}");
}
