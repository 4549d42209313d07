//! Keys that sealed what stands in the database, and that the configuration has no more: taken out too early, or never put in at this replica. What they sealed
//! fails one by one, when somebody needs it; said at the start and to the doctor, it is known before.

use std::sync::Arc;

use dalp_domain::store::{StoreError, Tables, during};
use dalp_engine::doctor::Finding;

use super::SealingConfig;

const SUBJECT: &str = "sealing keys";
const REMEDY: &str = "put the key into [[sealing.keys]] of every replica, behind the others; if it is lost, reset the factors and rotate the secrets it sealed";

/// What each key sealed that is needed still, but for keys that are there.
const MISSING: &str = "SELECT key_id, count(*) FILTER (WHERE what = 'pin'), count(*) FILTER (WHERE what = 'totp'), count(*) FILTER (WHERE what = 'webhook')
     FROM (SELECT key_id, 'pin' AS what FROM gateway.verification_pins UNION ALL SELECT key_id, 'totp' FROM gateway.verification_totps
        UNION ALL SELECT key_id, 'webhook' FROM gateway.webhook_secrets WHERE ends_at IS NULL OR ends_at > now()) sealed
     WHERE key_id <> ALL ($1) GROUP BY key_id ORDER BY key_id";

/// Holds what is sealed against the keys of the configuration. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SealedRows {
    tables: Tables,
    configured: Arc<[String]>,
}

/// A key that is not configured, and what it sealed.
#[derive(Debug)]
struct Missing {
    key_id: String,
    pins: i64,
    totps: i64,
    webhooks: i64,
}

// === impl SealedRows ===

impl SealedRows {
    pub(crate) fn new(tables: Tables, config: &SealingConfig) -> Self {
        Self { tables, configured: config.keys.iter().map(|key| key.id.clone()).collect() }
    }

    async fn missing(&self) -> Result<Vec<Missing>, StoreError> {
        let found = sqlx::query_as(MISSING).bind(self.configured.as_ref()).fetch_all(&self.tables.pool).await;
        let missing = |(key_id, pins, totps, webhooks)| Missing { key_id, pins, totps, webhooks };
        Ok(found.map_err(during("look for what is sealed"))?.into_iter().map(missing).collect())
    }

    /// Says in the log which keys are missing. The gateway serves all the same: what other keys sealed opens.
    pub(crate) async fn report(&self) {
        match self.missing().await {
            Ok(missing) => missing.iter().for_each(|missing| {
                tracing::error!(
                    key_id = missing.key_id,
                    sealed = missing.sealed(),
                    remedy = REMEDY,
                    "a sealing key is missing in the configuration"
                );
            }),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "sealing keys are not held against the database"
                );
            }
        }
    }

    /// The same for the doctor; none where the database is a finding of its own.
    pub(crate) async fn examine(&self) -> Vec<Finding> {
        let Ok(missing) = self.missing().await else { return Vec::new() };
        if missing.is_empty() {
            let detail = format!("what is sealed opens with the {} that are configured", self.configured.len());
            return vec![Finding::ok(SUBJECT, detail)];
        }
        let finding = |missing: &Missing| {
            let detail = format!("{} is not configured, and sealed {}", missing.key_id, missing.sealed());
            Finding::failing(format!("sealing key {}", missing.key_id), detail, REMEDY)
        };
        missing.iter().map(finding).collect()
    }
}

// === impl Missing ===

impl Missing {
    fn sealed(&self) -> String {
        let Self { pins, totps, webhooks, .. } = self;
        format!("{pins} PINs, {totps} authenticator apps, {webhooks} secrets of webhooks")
    }
}
