//! The signer's own database: keys, requests, watermarks, the PIN latch and the audit. No sqlx type passes beyond this module.

pub mod admit;
pub mod attestations;
pub mod batch;
pub mod custody;
pub mod events;
pub mod evidence;
pub mod keys;
pub mod latch;
pub mod logs;
pub mod outcomes;
pub mod patience;
pub mod requests;
pub mod secrets;

use std::{str::FromStr as _, sync::Arc, time::Duration};

use secrecy::ExposeSecret as _;
use sqlx::{PgPool, postgres::PgConnectOptions};

use self::patience::Patience;
use crate::{config::SignerConfig, core::payload::PayloadKind, providers::ProviderError};

/// Anything that goes wrong below.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be reached, or gave up under us; the same call may be repeated.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The database refused a statement.
    #[error("a statement failed")]
    Statement(#[source] Arc<sqlx::Error>),
    /// The schema is not up to date yet, as just after a start; the same call may be repeated.
    #[error("the database's schema is being brought up to date")]
    NotMigrated,
    /// The schema cannot be brought up to date.
    #[error("the schema cannot be migrated")]
    Migration(#[source] Arc<dalp_schema::SchemaError>),
    /// A row does not hold what the code wrote.
    #[error("a stored row is damaged: {0}")]
    Damaged(&'static str),
    /// The writer met a defect of ours with the items of this write; what it has stored is found by request id.
    #[error("writing panicked")]
    Panicked,
    /// The writer ended; the process is stopping.
    #[error("the store is closing")]
    Closed,
}

/// The store.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    /// Connections that do not wait for the disk. Used for admissions only: the outcome that follows is committed in full, and its commit
    /// carries every earlier one to disk with it; an admission lost with the server lost nothing that had left the signer.
    relaxed: PgPool,
    options: PgConnectOptions,
    patience: Patience,
}

/// What an audit leaf says.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// What was decided about: `sign`, `key`, `latch`, `custody`, `attestation`.
    pub subject: &'static str,
    /// Tenant.
    pub tenant: String,
    /// Peer or principal that asked.
    pub peer: String,
    /// Key.
    pub signer: Option<[u8; 20]>,
    /// Request.
    pub request_id: Option<uuid::Uuid>,
    /// The decision.
    pub decision: &'static str,
    /// Rule or reason.
    pub reason: String,
}

/// Longest update of the schema. It may have to look at every row, so the limit of a statement is none for it.
const MIGRATE_WITHIN: Duration = Duration::from_secs(15 * 60);

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

// === impl Store ===

impl Store {
    /// Prepares the pools; connects when first used, so that the signer starts before its database. Until [`Store::migrate`] has succeeded everything
    /// is refused with [`StoreError::NotMigrated`].
    pub fn new(config: &SignerConfig) -> Result<Self, StoreError> {
        let url = config.database.url.resolve().map_err(|_| StoreError::Damaged("database.url cannot be resolved"))?;
        let patience = Patience::new(Duration::from_millis(config.signer.database_timeout_ms));
        let options = PgConnectOptions::from_str(url.expose_secret())
            .map_err(StoreError::from)?
            .application_name("svc-signer")
            // Fixed, because a role called like the schema would see another one once the schema exists.
            .options([("search_path", "signer")])
            .options(patience.settings());
        Ok(Self {
            relaxed: patience.pool(options.clone().options([("synchronous_commit", "off")]), 4),
            pool: patience.pool(options.clone(), config.database.max_connections),
            options,
            patience,
        })
    }

    /// As [`Store::new`], over the schema as it stands: for the commands of operators, which change none.
    pub fn as_it_stands(config: &SignerConfig) -> Result<Self, StoreError> {
        let store = Self::new(config)?;
        store.patience.schema_is_current();
        Ok(store)
    }

    /// Brings the schema up to date.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        // Connections of its own: no other one goes without the limit.
        let pool = self.patience.pool(self.options.clone().options([("statement_timeout", 0)]), 1);
        let migrating = async {
            let brought = dalp_schema::bring_up(&pool, "signer", "_sqlx_migrations", &MIGRATIONS).await;
            brought.map_err(|error| match error {
                dalp_schema::SchemaError::Database(error) => StoreError::from(error),
                error => StoreError::Migration(Arc::new(error)),
            })
        };
        tokio::time::timeout(MIGRATE_WITHIN, migrating).await.unwrap_or_else(|_| Err(patience::silent().into()))?;
        self.patience.schema_is_current();
        Ok(())
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let asked = async {
            sqlx::query("select 1").execute(&self.pool).await?;
            Ok(())
        };
        self.patience.within(asked).await
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.relaxed.close().await;
        self.pool.close().await;
    }

    /// Writes audit leaves for decisions that changed nothing else; an answer for each.
    pub async fn write_leaves(&self, leaves: &[Leaf]) -> Result<Vec<()>, StoreError> {
        self.patience.within(write_leaves(&self.pool, leaves)).await?;
        Ok(vec![(); leaves.len()])
    }
}

async fn write_leaves<'c>(executor: impl sqlx::PgExecutor<'c>, leaves: &[Leaf]) -> Result<(), StoreError> {
    if leaves.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into signer.audit_leaves (subject, tenant, peer, signer, request_id, decision, reason, leaf)
         select * from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::uuid[], $6::text[], $7::text[], $8::bytea[])",
    )
    .bind(leaves.iter().map(|leaf| leaf.subject).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| leaf.tenant.as_str()).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| leaf.peer.as_str()).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| leaf.signer.map(|signer| signer.to_vec())).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| leaf.request_id).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| leaf.decision).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| leaf.reason.as_str()).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| leaf.digest().to_vec()).collect::<Vec<_>>())
    .execute(executor)
    .await?;
    Ok(())
}

// === impl Leaf ===

impl Leaf {
    fn digest(&self) -> [u8; 32] {
        use sha2::{Digest as _, Sha256};
        let mut hash = Sha256::new();
        hash.update(b"dalp.signer.leaf.v1\0");
        let signer = self.signer.map(hex::encode).unwrap_or_default();
        let request_id = self.request_id.map(|id| id.to_string()).unwrap_or_default();
        for part in [self.subject, &self.tenant, &self.peer, &signer, &request_id, self.decision, &self.reason] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().into()
    }
}

// === impl StoreError ===

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let transient = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Tls(_) => true,
            sqlx::Error::Database(database) => database.code().is_some_and(|code| {
                // 57014 and 25P03 are the server's end of our limit; 25006 is a standby's, while a failover is under way.
                matches!(code.as_ref(), "57014" | "25P03" | "25006")
                    || code == "40001"
                    || code == "40P01"
                    || code.starts_with("57P0")
                    || code.starts_with("08")
                    || code.starts_with("53")
            }),
            _ => false,
        };
        let error = Arc::new(error);
        if transient { Self::Unavailable(error) } else { Self::Statement(error) }
    }
}

impl From<StoreError> for ProviderError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(format!("the signer's database: {error}"))
    }
}

fn kind_from(name: &str) -> Result<PayloadKind, StoreError> {
    [PayloadKind::EvmTransaction, PayloadKind::Eip712, PayloadKind::Claim, PayloadKind::AuditRoot]
        .into_iter()
        .find(|kind| kind.as_str() == name)
        .ok_or(StoreError::Damaged("payload kind"))
}
