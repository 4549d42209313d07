//! What is wrong with one tenant's log holds up nobody else's: its leaves get no places until somebody has mended it, and then get them in their order.

use std::collections::{BTreeMap, HashSet};

use dalp_domain::store::{StoreError, during};
use sqlx::{
    Connection as _, PgConnection, PgExecutor,
    postgres::{PgDatabaseError, PgRow},
};

use super::store::{Growth, Log, get, is_restored, leaf, take_cursor, trees, write};

/// The first leaves of a tenant that the sealer went past without giving them places, in the order in which they get them, and below which sequence they are of
/// before a restore. Of those only the sequence tells the order: transaction numbers have begun anew. It may walk through the whole log of the tenant, so it is
/// asked before the sealer's row is taken.
const PASSED: &str = "SELECT l.sequence, s.above_sequence FROM engine.audit_leaves l CROSS JOIN gateway.audit_sealer s
     WHERE l.tenant = $1 AND ((l.xid, l.sequence) <= (s.after_xid, s.after_sequence) OR l.sequence <= s.above_sequence)
       AND NOT EXISTS (SELECT FROM gateway.audit_entries e WHERE e.leaf_sequence = l.sequence AND e.tenant = l.tenant)
     ORDER BY l.sequence > s.above_sequence, CASE WHEN l.sequence > s.above_sequence THEN l.xid END, l.sequence LIMIT $2";

/// Those of them that have no places yet.
const HELD_LEAVES: &str = "SELECT l.xid::text AS xid, l.sequence, l.tenant, l.actor, l.action, l.subject, l.decision, l.reason, l.payload_hash,
            l.body::text AS body, l.created_at
     FROM unnest($1::bigint[]) WITH ORDINALITY AS p(sequence, place) JOIN engine.audit_leaves l ON l.sequence = p.sequence
     WHERE NOT EXISTS (SELECT FROM gateway.audit_entries e WHERE e.leaf_sequence = l.sequence AND e.tenant = l.tenant)
     ORDER BY p.place";

/// A tenant is sealed again when nothing of it waits behind the sealer, and no root of it contradicts its tree.
const RELEASE: &str = "DELETE FROM gateway.audit_held h WHERE h.tenant = $1 AND NOT EXISTS (
        SELECT FROM gateway.audit_trees t JOIN gateway.audit_roots r ON r.tenant = t.tenant AND r.size > t.rooted_size WHERE t.tenant = h.tenant)";

/// Tenants that are held from now on, with why.
pub(super) type Held = BTreeMap<String, String>;

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
        let Some(cursor) = take_cursor(&mut commit).await? else { return Ok(()) };
        // What is passed is not known while the sealer still goes by another database's numbers, or has ceased to meanwhile.
        let is_of_before = passed.first().is_some_and(|(_, above)| *above != cursor.above);
        if is_of_before || is_restored(&mut commit, &cursor).await? {
            return Ok(());
        }
        let sequences: Vec<i64> = passed.iter().map(|(sequence, _)| *sequence).collect();
        let rows = sqlx::query(HELD_LEAVES)
            .bind(&sequences)
            .fetch_all(&mut *commit)
            .await
            .map_err(during("read held leaves"))?;
        let held = give_places(&mut commit, &rows.iter().collect::<Vec<_>>()).await?;
        hold(&mut commit, &held).await?;
        // All behind the cursor are sealed: what is before it is the sealer's again.
        let may_be_all = held.is_empty() && passed.len() < limit as usize;
        if may_be_all && self::passed(&mut *commit, tenant, 1).await?.is_empty() {
            let released = sqlx::query(RELEASE).bind(tenant).execute(&mut *commit).await;
            if released.map_err(during("release an audit log"))?.rows_affected() > 0 {
                tracing::warn!(tenant, "the audit log of the tenant is sealed again");
            }
        }
        commit.commit().await.map_err(during("commit mending"))
    }
}

async fn passed(database: impl PgExecutor<'_>, tenant: &str, limit: i64) -> Result<Vec<(i64, i64)>, StoreError> {
    let found = sqlx::query_as(PASSED).bind(tenant).bind(limit).fetch_all(database).await;
    found.map_err(during("look for held leaves"))
}

/// Gives leaves their places. What is in the way of one tenant's holds up that tenant alone: it is answered, with why.
pub(super) async fn give_places(commit: &mut PgConnection, rows: &[&PgRow]) -> Result<Held, StoreError> {
    let (growths, mut held) = grown(commit, rows).await?;
    let Some(conflict) = conflict(commit, &growths).await? else { return Ok(held) };
    tracing::warn!(conflict, "a batch of leaves is not sealed as one; each tenant's part goes by itself");
    let placed = placed(commit, rows).await?;
    for tenant in growths.keys() {
        let mut own = Vec::new();
        for &row in rows {
            if get::<String>(row, "tenant")? == *tenant && !placed.contains(&get::<i64>(row, "sequence")?) {
                own.push(row);
            }
        }
        let (growths, damaged) = grown(commit, &own).await?;
        held.extend(damaged);
        if let Some(why) = self::conflict(commit, &growths).await? {
            held.insert(tenant.clone(), why);
        }
    }
    Ok(held)
}

/// Writes growths, or none of them. `Some`: what stands in their way.
async fn conflict(commit: &mut PgConnection, growths: &BTreeMap<String, Growth>) -> Result<Option<String>, StoreError> {
    let mut attempt = commit.begin().await.map_err(during("begin writing places"))?;
    match write(&mut attempt, growths).await {
        Ok(()) => attempt.commit().await.map(|()| None).map_err(during("keep places")),
        Err(error) => {
            let why = said_by_rows(&error).ok_or(error)?;
            attempt.rollback().await.map(|()| Some(why)).map_err(during("take places back"))
        }
    }
}

/// What the database says of rows that it does not take beside those it has. `None`: it failed for something else.
pub(super) fn said_by_rows(error: &StoreError) -> Option<String> {
    let StoreError::Database { action, source: dalp_engine::StoreError::Database(sqlx::Error::Database(said)) } = error
    else {
        return None;
    };
    let is_of_rows = said.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"));
    let detail = said.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::detail).unwrap_or_default();
    is_of_rows.then(|| format!("{action}: {said} {detail}"))
}

/// Which of the leaves have a place in their tenant's log already.
async fn placed(commit: &mut PgConnection, rows: &[&PgRow]) -> Result<HashSet<i64>, StoreError> {
    let sequences = rows.iter().map(|row| get(row, "sequence")).collect::<Result<Vec<i64>, _>>()?;
    let found: Vec<i64> = sqlx::query_scalar(
        "SELECT e.leaf_sequence FROM gateway.audit_entries e JOIN engine.audit_leaves l ON l.sequence = e.leaf_sequence AND l.tenant = e.tenant
         WHERE e.leaf_sequence = ANY($1)",
    )
    .bind(sequences)
    .fetch_all(commit)
    .await
    .map_err(during("look for leaves that have places"))?;
    Ok(found.into_iter().collect())
}

/// What rows add to the trees of their tenants, and the tenants that are held from now on, with why.
async fn grown(commit: &mut PgConnection, rows: &[&PgRow]) -> Result<(BTreeMap<String, Growth>, Held), StoreError> {
    let tenants = rows.iter().map(|&row| get::<String>(row, "tenant")).collect::<Result<Vec<_>, _>>()?;
    let (mut growths, mut held) = trees(commit, tenants.iter().cloned().collect()).await?;
    for (&row, tenant) in rows.iter().zip(&tenants) {
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
pub(super) async fn hold(commit: &mut PgConnection, held: &Held) -> Result<(), StoreError> {
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
