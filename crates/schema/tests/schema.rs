//! Programs of two versions on one schema.
#![allow(missing_docs, clippy::unwrap_used)]

use dalp_schema::{SchemaError, bring_up};
use dalp_testing::TestPostgres;
use sqlx::{
    PgPool, SqlSafeStr as _,
    migrate::{Migrate, Migration, MigrationType, Migrator},
};

const TABLE: &str = "_sqlx_migrations";

/// A program that knows these migrations.
fn program(known: &[(i64, &'static str, &'static str)]) -> Migrator {
    let one = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(known.iter().map(one).collect())
}

const FIRST: (i64, &str, &str) = (1, "payments", "CREATE TABLE payments (id bigint PRIMARY KEY)");
const SECOND: (i64, &str, &str) = (2, "notes", "ALTER TABLE payments ADD COLUMN note text NOT NULL DEFAULT ''");
const BREAKING: (i64, &str, &str) =
    (3, "ids are texts breaks older programs", "ALTER TABLE payments ALTER COLUMN id TYPE text");

async fn columns(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'payments' ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn an_older_program_starts_again_on_a_newer_schema() {
    let postgres = TestPostgres::start();
    let pool = postgres.pool().await;
    let (older, newer) = (program(&[FIRST]), program(&[FIRST, SECOND]));
    bring_up(&pool, "public", TABLE, &older).await.unwrap();
    assert_eq!(columns(&pool).await, ["id"]);
    bring_up(&pool, "public", TABLE, &newer).await.unwrap();
    assert_eq!(columns(&pool).await, ["id", "note"]);
    bring_up(&pool, "public", TABLE, &older).await.unwrap();
    bring_up(&pool, "public", TABLE, &newer).await.unwrap();
    assert_eq!(columns(&pool).await, ["id", "note"], "nobody takes anything back");
}

#[tokio::test]
async fn it_refuses_what_it_cannot_work_on() {
    let postgres = TestPostgres::start();
    let pool = postgres.pool().await;
    bring_up(&pool, "public", TABLE, &program(&[FIRST, SECOND, BREAKING])).await.unwrap();
    let refused = bring_up(&pool, "public", TABLE, &program(&[FIRST, SECOND])).await.unwrap_err();
    assert!(matches!(refused, SchemaError::TooNew { version: 3, .. }), "{refused:?}");
    assert!(refused.to_string().contains("ids are texts"), "it is told by name: {refused}");
    // What came before it is no more a way around it than what came after.
    let refused = bring_up(&pool, "public", TABLE, &program(&[FIRST])).await.unwrap_err();
    assert!(matches!(refused, SchemaError::TooNew { version: 3, .. }), "{refused:?}");
}

#[tokio::test]
async fn it_refuses_what_another_program_made() {
    let postgres = TestPostgres::start();
    let pool = postgres.pool().await;
    bring_up(&pool, "public", TABLE, &program(&[FIRST, SECOND])).await.unwrap();
    let fourth = (4, "else", "CREATE TABLE others (id bigint)");
    let refused = bring_up(&pool, "public", TABLE, &program(&[FIRST, fourth])).await.unwrap_err();
    assert!(matches!(refused, SchemaError::Foreign { version: 2, .. }), "{refused:?}");
    let there: Option<String> =
        sqlx::query_scalar("SELECT to_regclass('others')::text").fetch_one(&pool).await.unwrap();
    assert_eq!(there, None, "and has added nothing to it");
    let changed = (1, "payments", "CREATE TABLE payments (id uuid PRIMARY KEY)");
    let refused = bring_up(&pool, "public", TABLE, &program(&[changed, SECOND])).await.unwrap_err();
    assert!(matches!(refused, SchemaError::Migrate(_)), "{refused:?}");
}

#[tokio::test]
async fn a_schema_is_made_where_it_is_missing_and_found_where_nobody_may_make_one() {
    let postgres = TestPostgres::start();
    let pool = postgres.pool().await;
    let books = program(&[(1, "books", "CREATE TABLE books.books (id bigint)")]);
    bring_up(&pool, "books", TABLE, &books).await.unwrap();
    sqlx::raw_sql(
        "CREATE ROLE clerk LOGIN; GRANT ALL ON SCHEMA books TO clerk; GRANT ALL ON ALL TABLES IN SCHEMA books TO clerk",
    )
    .execute(&pool)
    .await
    .unwrap();
    let clerk = PgPool::connect_with(postgres.options().username("clerk")).await.unwrap();
    bring_up(&clerk, "books", TABLE, &books).await.unwrap();
    let refused = bring_up(&clerk, "others", TABLE, &program(&[])).await.unwrap_err();
    assert!(matches!(refused, SchemaError::Migrate(_)), "{refused:?}");
}

#[tokio::test]
async fn a_migration_that_fails_holds_nobody_up() {
    let postgres = TestPostgres::start();
    let pool = postgres.pool().await;
    let broken = program(&[(1, "payments", "CREATE TABLE payments (id nothing_of_the_kind)")]);
    for _ in 0..3 {
        let refused = bring_up(&pool, "public", TABLE, &broken).await.unwrap_err();
        assert!(matches!(refused, SchemaError::Migrate(_)), "{refused:?}");
    }
    // The server ends a session a moment after its client has gone.
    let held = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory'";
    while sqlx::query_scalar::<_, bool>(held).fetch_one(&pool).await.unwrap() {
        tokio::task::yield_now().await;
    }
    bring_up(&pool, "public", TABLE, &program(&[FIRST])).await.unwrap();
}

#[tokio::test]
async fn what_comes_while_it_waits_for_its_turn_is_refused_too() {
    let postgres = TestPostgres::start();
    let pool = postgres.pool().await;
    bring_up(&pool, "public", TABLE, &program(&[FIRST, SECOND])).await.unwrap();
    // A newer program is at work, as the lock tells that the two have in common.
    let mut newer = pool.acquire().await.unwrap().detach();
    Migrate::lock(&mut newer).await.unwrap();
    let older = tokio::spawn({
        let pool = pool.clone();
        async move { bring_up(&pool, "public", TABLE, &program(&[FIRST, SECOND])).await }
    });
    let waits = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&pool).await.unwrap() {
        tokio::task::yield_now().await;
    }
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (3, $1, true, '', 0)")
        .bind(BREAKING.1)
        .execute(&pool)
        .await
        .unwrap();
    Migrate::unlock(&mut newer).await.unwrap();
    let refused = older.await.unwrap().unwrap_err();
    assert!(matches!(refused, SchemaError::TooNew { version: 3, .. }), "{refused:?}");
}

#[tokio::test]
async fn many_programs_of_two_versions_start_at_once() {
    let postgres = TestPostgres::start();
    let pool = postgres.pool().await;
    let starts = (0..8).map(|number| {
        let (pool, known) = (pool.clone(), if number % 2 == 0 { program(&[FIRST]) } else { program(&[FIRST, SECOND]) });
        tokio::spawn(async move { bring_up(&pool, "public", TABLE, &known).await })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap().unwrap();
    }
    assert_eq!(columns(&pool).await, ["id", "note"]);
}
