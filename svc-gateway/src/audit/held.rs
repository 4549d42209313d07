//! What is wrong with one tenant's log holds up nobody else's: its leaves get no places until somebody has mended it, and then get them in their order.

use std::collections::BTreeMap;

use dalp_domain::store::{StoreError, during};
use sqlx::{PgConnection, PgExecutor, postgres::PgRow};

use super::store::{Growth, Log, get, leaf, take_cursor, trees, write};

/// The first leaves of a tenant that the sealer went past without giving them places. It may walk through the whole log of the tenant, so it is asked before the
/// sealer's row is taken; the cursor only goes on, so what it finds stays the first.
const PASSED: &str = "SELECT l.sequence FROM engine.audit_leaves l CROSS JOIN gateway.audit_sealer s
     WHERE l.tenant = $1 AND ((l.xid, l.sequence) <= (s.after_xid, s.after_sequence) OR l.sequence <= s.above_sequence)
       AND NOT EXISTS (SELECT FROM gateway.audit_entries e WHERE e.leaf_sequence = l.sequence)
     ORDER BY l.xid, l.sequence LIMIT $2";

/// Those of them that have no places yet.
const HELD_LEAVES: &str = "SELECT l.xid::text AS xid, l.sequence, l.tenant, l.actor, l.action, l.subject, l.decision, l.reason, l.payload_hash,
            l.body::text AS body, l.created_at
     FROM engine.audit_leaves l
     WHERE l.sequence = ANY($1) AND NOT EXISTS (SELECT FROM gateway.audit_entries e WHERE e.leaf_sequence = l.sequence)
     ORDER BY l.xid, l.sequence";

/// What batches add, and the tenants that are held from then on, with why.
type Grown = (BTreeMap<String, Growth>, BTreeMap<String, String>);

impl Log {
    /// Looks at the tenants again whose leaves are held, and seals at most `limit` of each that can be sealed by now.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn mend(&self, limit: u32) -> Result<(), StoreError> {
        let held: Vec<String> = sqlx::query_scalar("SELECT tenant FROM gateway.audit_held ORDER BY tenant")
            .fetch_all(&self.tables.pool)
            .await
            .map_err(during("look for held audit logs"))?;
        for tenant in held {
            // One that cannot be looked at holds up none of those after it.
            if let Err(error) = self.mend_one(&tenant, limit).await {
                report(&tenant, "its held leaves cannot be looked at", &error);
            }
        }
        Ok(())
    }

    async fn mend_one(&self, tenant: &str, limit: u32) -> Result<(), StoreError> {
        let passed = passed(&self.tables.pool, tenant, i64::from(limit)).await?;
        let mut commit = self.tables.begin("begin mending").await?;
        if take_cursor(&mut commit).await?.is_none() {
            return Ok(());
        }
        let rows =
            sqlx::query(HELD_LEAVES).bind(&passed).fetch_all(&mut *commit).await.map_err(during("read held leaves"))?;
        let (growths, held) = grown(&mut commit, &rows).await?;
        write(&mut commit, &growths).await?;
        hold(&mut commit, &held).await?;
        // All behind the cursor are sealed: what is before it is the sealer's again.
        let may_be_all = held.is_empty() && passed.len() < limit as usize;
        if may_be_all && self::passed(&mut *commit, tenant, 1).await?.is_empty() {
            sqlx::query("DELETE FROM gateway.audit_held WHERE tenant = $1")
                .bind(tenant)
                .execute(&mut *commit)
                .await
                .map_err(during("release an audit log"))?;
            tracing::warn!(tenant, "the audit log of the tenant is sealed again");
        }
        commit.commit().await.map_err(during("commit mending"))
    }
}

async fn passed(database: impl PgExecutor<'_>, tenant: &str, limit: i64) -> Result<Vec<i64>, StoreError> {
    let found = sqlx::query_scalar(PASSED).bind(tenant).bind(limit).fetch_all(database).await;
    found.map_err(during("look for held leaves"))
}

/// What rows add to the trees of their tenants, and the tenants that are held from now on, with why.
pub(super) async fn grown(commit: &mut PgConnection, rows: &[PgRow]) -> Result<Grown, StoreError> {
    let tenants = rows.iter().map(|row| get::<String>(row, "tenant")).collect::<Result<Vec<_>, _>>()?;
    let (mut growths, mut held) = trees(commit, tenants.iter().cloned().collect()).await?;
    for (row, tenant) in rows.iter().zip(&tenants) {
        // Behind the one that cannot be read nothing of its tenant is sealed: each leaf has its place by those before it.
        let Some(growth) = growths.get_mut(tenant).filter(|_| !held.contains_key(tenant)) else { continue };
        match leaf(row) {
            Ok(leaf) => {
                growth.sequences.push(leaf.sequence.cast_signed());
                growth.edge.append(leaf.hash(), &mut growth.tiles);
            }
            Err(error @ StoreError::Malformed { .. }) => {
                let why = format!("leaf {}: {error}", get::<i64>(row, "sequence")?);
                held.insert(tenant.clone(), why);
            }
            Err(error) => return Err(error),
        }
    }
    growths.retain(|_, growth| !growth.sequences.is_empty());
    Ok((growths, held))
}

/// Notes that the leaves of tenants are not sealed until somebody has mended what is wrong.
pub(super) async fn hold(commit: &mut PgConnection, held: &BTreeMap<String, String>) -> Result<(), StoreError> {
    for (tenant, why) in held {
        tracing::error!(%tenant, why, "the audit log of the tenant is held: its leaves are not sealed");
        sqlx::query(
            "INSERT INTO gateway.audit_held AS h (tenant, why) VALUES ($1, $2) ON CONFLICT (tenant) DO UPDATE SET why = excluded.why",
        )
        .bind(tenant)
        .bind(why)
        .execute(&mut *commit)
        .await
        .map_err(during("hold an audit log"))?;
    }
    Ok(())
}

pub(super) fn report(tenant: &str, what: &'static str, error: &StoreError) {
    tracing::error!(tenant, what, error = error as &dyn std::error::Error, "the audit log of the tenant is damaged");
}
