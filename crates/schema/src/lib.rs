//! What every service wants of its database: a primary, and a schema of its own version or one that it can work on.
//!
//! A schema is brought up to date by the first program of a new version, while programs of the version before still work on it; and one of those that
//! is started again, or rolled back to, finds a schema that is newer than it knows.
//!
//! Migrations therefore add and do not take away: what the version before reads and writes is there and means the same. The one that cannot has a name
//! that ends with `breaks_older_programs` (`0061_drop_the_old_column_breaks_older_programs.sql`), and a program that does not know it refuses the schema.
#![cfg_attr(test, allow(clippy::unwrap_used))] // a test that fails may panic
#![forbid(unsafe_code)]

use std::io;

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
};

/// What the name of a migration ends with whose schema older programs cannot work on, as it stands in the table of applied migrations.
pub const BREAKS: &str = "breaks older programs";

/// Why a schema is not brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The database does not answer, or refuses.
    #[error("the applied migrations cannot be read")]
    Database(#[from] sqlx::Error),
    /// A migration fails, or is not the one that was applied.
    #[error("the schema cannot be migrated")]
    Migrate(#[from] MigrateError),
    /// A newer program has changed what this one relies on.
    #[error(
        "the schema is of a newer version that this program cannot work on (migration {version}: {description}): start that version, or a later one"
    )]
    TooNew {
        /// The first migration that says so.
        version: i64,
        /// Its name.
        description: String,
    },
    /// The schema was made by a program with another history.
    #[error(
        "the schema has a migration {version} ({description}) that this program lacks, though it knows later ones: it is another program's"
    )]
    Foreign {
        /// The first that is not known.
        version: i64,
        /// Its name.
        description: String,
    },
}

/// Refuses a connection to a standby, to which an address leads for moments while a failover is under way: kept, it would refuse what is written through it for as
/// long as it lives. A primary becomes a standby only by ending, and its connections end with it, so this is asked once, of a new connection.
///
/// # Errors
/// [`sqlx::Error::Io`] of a standby, so that it is tried again like a server that is away; any other where the server does not answer.
pub async fn to_a_primary(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    match sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(connection).await? {
        true => Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::NotConnected, "the database server is a standby"))),
        false => Ok(()),
    }
}

/// A migration as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Applied {
    version: i64,
    description: String,
}

/// Creates a schema if it is missing, and applies the migrations that it lacks. One that has more is taken as it is, unless one of those breaks older
/// programs. `table` of it is where applied migrations stand. Connections are expected to look into the schema first (`search_path`).
///
/// # Errors
/// When the schema is not one that this program can work on, or the database does not answer.
pub async fn bring_up(
    pool: &PgPool,
    schema: &'static str,
    table: &'static str,
    known: &Migrator,
) -> Result<(), SchemaError> {
    // Nobody else's: a migration that fails leaves its lock with the connection, and only the end of that ends it.
    let mut connection = pool.acquire().await?.detach();
    let brought = on(&mut connection, schema, table, known).await;
    drop(connection.close().await);
    brought
}

async fn on(
    connection: &mut PgConnection,
    schema: &'static str,
    table: &'static str,
    known: &Migrator,
) -> Result<(), SchemaError> {
    let qualified = format!("{schema}.{table}");
    let unknown = unknown(applied(connection, &qualified).await?, known);
    acceptable(&unknown, known)?;
    if !unknown.is_empty() {
        tracing::warn!(
            schema,
            unknown = unknown.len(),
            "the schema is newer than this program, which works on it as a rollout or a rollback wants"
        );
    }
    let mut tolerant = Migrator::with_migrations(known.iter().cloned().collect());
    tolerant.dangerous_set_table_name(qualified.clone());
    // A role that may not create schemas finds it prepared.
    if !is_there(connection, schema).await? {
        tolerant.create_schema(schema);
    }
    tolerant.set_ignore_missing(true);
    tolerant.run_direct(None, connection, false).await?;
    // A newer program may have had the lock before us.
    acceptable(&self::unknown(applied(connection, &qualified).await?, known), known)
}

async fn is_there(connection: &mut PgConnection, schema: &str) -> Result<bool, sqlx::Error> {
    let found = sqlx::query("SELECT FROM pg_namespace WHERE nspname = $1").bind(schema);
    Ok(found.fetch_optional(connection).await?.is_some())
}

async fn applied(connection: &mut PgConnection, table: &str) -> Result<Vec<Applied>, sqlx::Error> {
    let is_there: bool =
        sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(table).fetch_one(&mut *connection).await?;
    if !is_there {
        return Ok(Vec::new());
    }
    // The names are constants of the program.
    let rows = AssertSqlSafe(format!("SELECT version, description FROM {table} ORDER BY version"));
    let rows: Vec<(i64, String)> = sqlx::query_as(rows).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(version, description)| Applied { version, description }).collect())
}

fn unknown(applied: Vec<Applied>, known: &Migrator) -> Vec<Applied> {
    applied.into_iter().filter(|one| !known.version_exists(one.version)).collect()
}

fn acceptable(unknown: &[Applied], known: &Migrator) -> Result<(), SchemaError> {
    let newest = known.iter().map(|one| one.version).max().unwrap_or_default();
    for one in unknown {
        let Applied { version, description } = one.clone();
        if version < newest {
            return Err(SchemaError::Foreign { version, description });
        }
        if description.ends_with(BREAKS) {
            return Err(SchemaError::TooNew { version, description });
        }
    }
    Ok(())
}
