//! The tables of the sealed log. A batch of leaves gets its places, its tiles and its trees in one commit, by whoever holds the one row of the
//! sealer; constraints make it impossible that a leaf has two places or a place two leaves.
//!
//! Leaves are taken in the order (transaction, sequence), and only of transactions below the oldest running one: of those all have ended, so
//! nothing can appear behind the sealer. A transaction that stays open for long holds the sealing up, nothing else.

use std::collections::{BTreeMap, BTreeSet};

use dalp_audit::{
    Hash, Leaf, Root,
    tiles::{Edge, Tile},
};
use dalp_domain::store::{StoreError, Tables, during};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use time::OffsetDateTime;

use super::held::{Held, give_places, hold, report};

/// The sealed log of every tenant of the cell. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    pub(super) tables: Tables,
}

/// What one round of the sealer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// So many leaves were sealed.
    Sealed(usize),
    /// Another replica seals right now.
    Busy,
}

/// How far the sealing is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Backlog {
    /// Leaves without a place; no more are counted than [`MOST_COUNTED`].
    pub unsealed: u64,
    /// Age of the oldest of them in seconds.
    pub seal_lag_s: f64,
    /// For how long the longest waiting tenant has had leaves under no signed root, in seconds.
    pub root_lag_s: f64,
}

/// A backlog is not counted further than this.
pub const MOST_COUNTED: u32 = 100_000;

/// Up to where all leaves are sealed.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    pub(super) xid: u64,
    pub(super) sequence: i64,
    /// Leaves up to this sequence are sealed whatever their transaction says.
    pub(super) above: i64,
}

/// A tenant's tree, and what a batch adds to it.
pub(super) struct Growth {
    pub(super) edge: Edge,
    first: u64,
    pub(super) sequences: Vec<i64>,
    pub(super) tiles: Vec<Tile>,
}

const LEAVES: &str = "SELECT l.xid::text AS xid, l.sequence, l.tenant, l.actor, l.action, l.subject, l.decision, l.reason, l.payload_hash,
            l.body::text AS body, l.created_at
     FROM engine.audit_leaves l
     WHERE (l.xid, l.sequence) > ($1::text::xid8, $2) AND l.sequence > $3 AND l.xid < $4::text::xid8
       AND NOT EXISTS (SELECT FROM gateway.audit_held h WHERE h.tenant = l.tenant)
     ORDER BY l.xid, l.sequence LIMIT $5";

/// Trees that have grown since their last root, and of how many leaves there is a root that they do not know of.
const GROWN_TREES: &str = "SELECT t.tenant, t.size, t.edge, (SELECT max(r.size) FROM gateway.audit_roots r WHERE r.tenant = t.tenant AND r.size > t.rooted_size) AS contradicted
     FROM gateway.audit_trees t
     WHERE t.size > t.rooted_size AND t.rooted_at <= now() - make_interval(secs => $1)
       AND NOT EXISTS (SELECT FROM gateway.audit_roots r WHERE r.tenant = t.tenant AND r.signature IS NULL AND r.refused IS NULL AND r.size <= t.rooted_size)
       AND NOT (EXISTS (SELECT FROM gateway.audit_held h WHERE h.tenant = t.tenant)
            AND EXISTS (SELECT FROM gateway.audit_roots r WHERE r.tenant = t.tenant AND r.size > t.rooted_size))
     ORDER BY t.rooted_at, t.tenant LIMIT $2 FOR UPDATE OF t SKIP LOCKED";

// === impl Cursor ===

impl Cursor {
    /// Whoever sealed up to a transaction did so below the oldest running one, which only grows; unless this is another database.
    fn is_of_another_database(&self, oldest_running: u64) -> bool {
        self.xid >= oldest_running
    }
}

// === impl Log ===

impl Log {
    /// The log behind these tables of the gateway.
    #[must_use]
    pub fn new(tables: Tables) -> Self {
        Self { tables }
    }

    /// Seals at most `limit` leaves, in one commit.
    ///
    /// # Errors
    /// When the database is away, or holds what no sealer wrote.
    pub async fn seal(&self, limit: u32) -> Result<Round, StoreError> {
        let mut commit = self.tables.begin("begin sealing").await?;
        // One statement to get the row, and the next one to read: what the holder before has committed is seen.
        let Some(cursor) = take_cursor(&mut commit).await? else { return Ok(Round::Busy) };
        let below = oldest_running(&mut commit).await?;
        let is_restored = cursor.is_of_another_database(below);
        let below = if is_restored { u64::MAX } else { below };
        let rows = sqlx::query(LEAVES)
            .bind(cursor.xid.to_string())
            .bind(cursor.sequence)
            .bind(cursor.above)
            .bind(below.to_string())
            .bind(i64::from(limit))
            .fetch_all(&mut *commit)
            .await
            .map_err(during("read leaves to seal"))?;
        let mut last = cursor;
        if let Some(row) = rows.last() {
            last.xid = transaction(row)?;
            last.sequence = get(row, "sequence")?;
        }
        let is_last = rows.len() < limit as usize;
        if rows.is_empty() && !is_restored {
            return Ok(Round::Sealed(0));
        }
        let held = give_places(&mut commit, &rows.iter().collect::<Vec<_>>()).await?;
        hold(&mut commit, &held).await?;
        if is_restored && is_last {
            tracing::warn!("the database was restored into another one; sealing goes on by its transaction numbers");
            last = begin_anew(&mut commit).await?;
        }
        put_cursor(&mut commit, &last).await?;
        commit.commit().await.map_err(during("commit sealing"))?;
        Ok(Round::Sealed(rows.len()))
    }

    /// Makes a root of every tree that has grown since its last one, unless one still waits for its signature; of each tenant at most one
    /// in `every`. A tenant whose tree is older than its roots is held. Returns how many.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn make_roots(&self, every: std::time::Duration, limit: u32) -> Result<usize, StoreError> {
        let mut commit = self.tables.begin("begin roots").await?;
        let rows = sqlx::query(GROWN_TREES)
            .bind(every.as_secs_f64())
            .bind(i64::from(limit))
            .fetch_all(&mut *commit)
            .await
            .map_err(during("find trees that have grown"))?;
        let (mut tenants, mut sizes, mut roots, mut held) = (Vec::new(), Vec::new(), Vec::new(), Held::new());
        for row in &rows {
            let tenant = get::<String>(row, "tenant")?;
            if let Some(size) = get::<Option<i64>>(row, "contradicted")? {
                held.insert(tenant, format!("there is a root of {size} leaves, and the tree does not know of it"));
                continue;
            }
            let edge = match edge(row) {
                Ok(edge) => edge,
                Err(error) => {
                    report(&tenant, "a damaged tree gets no root", &error);
                    continue;
                }
            };
            tenants.push(tenant);
            sizes.push(edge.size().cast_signed());
            roots.push(edge.root().to_vec());
        }
        // One that somebody has made meanwhile is in nobody's way: its tree is looked at again.
        let made = sqlx::query(
            "WITH made AS (
                INSERT INTO gateway.audit_roots (tenant, size, root, sealed_at)
                SELECT g.tenant, g.size, g.root, now() FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS g(tenant, size, root)
                ON CONFLICT DO NOTHING RETURNING tenant, size)
             UPDATE gateway.audit_trees t SET rooted_size = made.size, rooted_at = now() FROM made WHERE made.tenant = t.tenant",
        )
        .bind(&tenants)
        .bind(sizes)
        .bind(roots)
        .execute(&mut *commit)
        .await
        .map_err(during("write roots"))?;
        hold(&mut commit, &held).await?;
        commit.commit().await.map_err(during("commit roots"))?;
        Ok(usize::try_from(made.rows_affected()).unwrap_or(usize::MAX))
    }

    /// Roots that wait for their signature, the oldest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn roots_to_sign(&self, limit: u32) -> Result<Vec<Root>, StoreError> {
        self.roots_to_sign_without(&[], limit).await
    }

    /// Roots that wait for their signature, but for those of some tenants, the oldest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn roots_to_sign_without(&self, tenants: &[String], limit: u32) -> Result<Vec<Root>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant, size, root, sealed_at FROM gateway.audit_roots WHERE signature IS NULL AND refused IS NULL AND tenant <> ALL ($2)
             ORDER BY sealed_at LIMIT $1",
        )
        .bind(i64::from(limit))
        .bind(tenants)
        .fetch_all(&self.tables.pool)
        .await
        .map_err(during("find roots to sign"))?;
        let read = |row: &PgRow| match root(row) {
            Ok(root) => Some(Ok(root)),
            Err(error @ StoreError::Malformed { .. }) => {
                report(
                    &get::<String>(row, "tenant").unwrap_or_default(),
                    "a root that cannot be read is not signed",
                    &error,
                );
                None
            }
            Err(error) => Some(Err(error)),
        };
        rows.iter().filter_map(read).collect()
    }

    /// Writes a signature down. Another replica may have been faster.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn signed(&self, root: &Root, signer: [u8; 20], signature: &[u8]) -> Result<(), StoreError> {
        sqlx::query(
            "WITH signed AS (
                UPDATE gateway.audit_roots SET signer = $3, signature = $4
                WHERE tenant = $1 AND size = $2 AND signature IS NULL AND refused IS NULL RETURNING tenant, size)
             UPDATE gateway.audit_trees t
             SET signed_size = signed.size, unsigned_since = CASE WHEN t.size = signed.size THEN NULL ELSE t.rooted_at END
             FROM signed WHERE signed.tenant = t.tenant",
        )
        .bind(&root.tenant)
        .bind(root.size.cast_signed())
        .bind(signer.as_slice())
        .bind(signature)
        .execute(&self.tables.pool)
        .await
        .map(drop)
        .map_err(during("write a root's signature"))
    }

    /// Writes down that a root is never signed; the next one of its tenant is.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn refused(&self, root: &Root, why: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE gateway.audit_roots SET refused = $3 WHERE tenant = $1 AND size = $2 AND signature IS NULL AND refused IS NULL",
        )
        .bind(&root.tenant)
        .bind(root.size.cast_signed())
        .bind(why)
        .execute(&self.tables.pool)
        .await
        .map(drop)
        .map_err(during("write a root's refusal"))
    }

    /// How far the sealing is behind.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn backlog(&self) -> Result<Backlog, StoreError> {
        let row = sqlx::query(
            "SELECT w.unsealed, coalesce(extract(epoch FROM now() - least(w.oldest, (SELECT min(h.held_at) FROM gateway.audit_held h))), 0)::float8 AS seal_lag_s,
                    coalesce((SELECT extract(epoch FROM now() - min(t.unsigned_since)) FROM gateway.audit_trees t), 0)::float8 AS root_lag_s
             FROM (SELECT count(*) AS unsealed, min(u.created_at) AS oldest FROM (
                SELECT l.created_at FROM gateway.audit_sealer s JOIN engine.audit_leaves l
                    ON (l.xid, l.sequence) > (s.after_xid, s.after_sequence) AND l.sequence > s.above_sequence
                ORDER BY l.xid, l.sequence LIMIT $1) u) w",
        )
        .bind(i64::from(MOST_COUNTED))
        .fetch_one(&self.tables.pool)
        .await
        .map_err(during("count unsealed leaves"))?;
        Ok(Backlog {
            unsealed: get::<i64>(&row, "unsealed")?.unsigned_abs(),
            seal_lag_s: get(&row, "seal_lag_s")?,
            root_lag_s: get(&row, "root_lag_s")?,
        })
    }
}

pub(super) async fn take_cursor(commit: &mut PgConnection) -> Result<Option<Cursor>, StoreError> {
    let row = sqlx::query(
        "SELECT after_xid::text AS xid, after_sequence, above_sequence FROM gateway.audit_sealer FOR UPDATE SKIP LOCKED",
    )
    .fetch_optional(commit)
    .await
    .map_err(during("take the sealer's row"))?;
    let cursor = |row: PgRow| {
        Ok(Cursor {
            xid: transaction(&row)?,
            sequence: get(&row, "after_sequence")?,
            above: get(&row, "above_sequence")?,
        })
    };
    row.map(cursor).transpose()
}

async fn put_cursor(commit: &mut PgConnection, cursor: &Cursor) -> Result<(), StoreError> {
    sqlx::query("UPDATE gateway.audit_sealer SET after_xid = $1::text::xid8, after_sequence = $2, above_sequence = $3")
        .bind(cursor.xid.to_string())
        .bind(cursor.sequence)
        .bind(cursor.above)
        .execute(commit)
        .await
        .map(drop)
        .map_err(during("move the sealer's row"))
}

async fn oldest_running(commit: &mut PgConnection) -> Result<u64, StoreError> {
    let text: String = sqlx::query_scalar("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
        .fetch_one(commit)
        .await
        .map_err(during("look at running transactions"))?;
    dalp_domain::store::parsed("transaction number", text)
}

/// Whether the sealer still goes by the transaction numbers of the database that this one was restored from.
pub(super) async fn is_restored(commit: &mut PgConnection, cursor: &Cursor) -> Result<bool, StoreError> {
    Ok(cursor.is_of_another_database(oldest_running(commit).await?))
}

/// After a restore into another database: all that was restored is sealed by now, or held, and what is written from now on has small transaction
/// numbers and greater sequences. A leaf whose transaction has not begun here was restored: it is held, and counts as passed, however great its sequence.
async fn begin_anew(commit: &mut PgConnection) -> Result<Cursor, StoreError> {
    let above: i64 = sqlx::query_scalar(
        "SELECT greatest(sealed.last, (
            SELECT max(l.sequence) FROM engine.audit_leaves l WHERE l.sequence > sealed.last AND l.xid >= pg_snapshot_xmax(pg_current_snapshot())))
         FROM (SELECT coalesce(max(leaf_sequence), 0) AS last FROM gateway.audit_entries) sealed",
    )
    .fetch_one(commit)
    .await
    .map_err(during("look for the last restored leaf"))?;
    Ok(Cursor { xid: 0, sequence: 0, above })
}

/// The trees of tenants, locked, and those that are damaged, with why.
pub(super) async fn trees(
    commit: &mut PgConnection,
    tenants: BTreeSet<String>,
) -> Result<(BTreeMap<String, Growth>, BTreeMap<String, String>), StoreError> {
    let growth = |edge: Edge| Growth { first: edge.size(), edge, sequences: Vec::new(), tiles: Vec::new() };
    let mut damaged = BTreeMap::new();
    let mut trees: BTreeMap<String, Growth> =
        tenants.into_iter().map(|tenant| (tenant, growth(Edge::default()))).collect();
    let rows = sqlx::query(
        "SELECT tenant, size, edge FROM gateway.audit_trees WHERE tenant = ANY($1) ORDER BY tenant FOR UPDATE",
    )
    .bind(trees.keys().cloned().collect::<Vec<_>>())
    .fetch_all(commit)
    .await
    .map_err(during("read trees"))?;
    for row in &rows {
        let tenant: String = get(row, "tenant")?;
        match edge(row) {
            Ok(edge) => drop(trees.insert(tenant, growth(edge))),
            Err(error @ StoreError::Malformed { .. }) => {
                trees.remove(&tenant);
                damaged.insert(tenant, error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    Ok((trees, damaged))
}

pub(super) async fn write(commit: &mut PgConnection, growths: &BTreeMap<String, Growth>) -> Result<(), StoreError> {
    let (mut tenants, mut positions, mut sequences) = (Vec::new(), Vec::new(), Vec::new());
    let (mut tile_tenants, mut levels, mut numbers, mut hashes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (tenant, growth) in growths {
        for (position, sequence) in (growth.first..).zip(&growth.sequences) {
            tenants.push(tenant.as_str());
            positions.push(position.cast_signed());
            sequences.push(*sequence);
        }
        for tile in &growth.tiles {
            tile_tenants.push(tenant.as_str());
            levels.push(i16::try_from(tile.id.level).unwrap_or(i16::MAX));
            numbers.push(tile.id.number.cast_signed());
            hashes.push(tile.hashes.concat());
        }
    }
    sqlx::query(
        "INSERT INTO gateway.audit_entries (tenant, position, leaf_sequence) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])",
    )
    .bind(tenants)
    .bind(positions)
    .bind(sequences)
    .execute(&mut *commit)
    .await
    .map_err(during("write places"))?;
    sqlx::query(
        "INSERT INTO gateway.audit_tiles (tenant, level, number, hashes)
         SELECT * FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::bytea[])",
    )
    .bind(tile_tenants)
    .bind(levels)
    .bind(numbers)
    .bind(hashes)
    .execute(&mut *commit)
    .await
    .map_err(during("write tiles"))?;
    // An array of arrays must be rectangular, and edges are not: one statement a tree.
    for (tenant, growth) in growths {
        let edge: Vec<Vec<u8>> = growth.edge.levels().iter().map(|level| level.concat()).collect();
        sqlx::query(
            "INSERT INTO gateway.audit_trees AS t (tenant, size, edge) VALUES ($1, $2, $3)
             ON CONFLICT (tenant) DO UPDATE SET size = excluded.size, edge = excluded.edge, unsigned_since = coalesce(t.unsigned_since, now())",
        )
        .bind(tenant)
        .bind(growth.edge.size().cast_signed())
        .bind(edge)
        .execute(&mut *commit)
        .await
        .map_err(during("write a tree"))?;
    }
    Ok(())
}

pub(super) fn get<'r, T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>>(
    row: &'r PgRow,
    column: &str,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(during("read the audit log"))
}

fn transaction(row: &PgRow) -> Result<u64, StoreError> {
    dalp_domain::store::parsed("transaction number", get(row, "xid")?)
}

pub(super) fn hash(bytes: &[u8]) -> Result<Hash, StoreError> {
    bytes.try_into().map_err(|_| malformed("hash", bytes.len()))
}

pub(super) fn hashes(bytes: &[u8]) -> Result<Vec<Hash>, StoreError> {
    bytes.chunks(32).map(hash).collect()
}

pub(super) fn malformed(what: &'static str, value: impl ToString) -> StoreError {
    StoreError::Malformed { what, value: value.to_string() }
}

/// A leaf, out of the columns of `engine.audit_leaves`.
pub(super) fn leaf(row: &PgRow) -> Result<Leaf, StoreError> {
    let recorded_at: OffsetDateTime = get(row, "created_at")?;
    let decision: String = get(row, "decision")?;
    let payload_hash: Option<Vec<u8>> = get(row, "payload_hash")?;
    Ok(Leaf {
        sequence: get::<i64>(row, "sequence")?.unsigned_abs(),
        recorded_at_us: microseconds(recorded_at)?,
        tenant: get(row, "tenant")?,
        actor: get(row, "actor")?,
        action: get(row, "action")?,
        subject: get(row, "subject")?,
        decision: decision.parse().map_err(|()| malformed("decision", &decision))?,
        reason: get(row, "reason")?,
        payload_hash: payload_hash.as_deref().map(hash).transpose()?,
        body: get(row, "body")?,
    })
}

pub(super) fn microseconds(at: OffsetDateTime) -> Result<i64, StoreError> {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).map_err(|_| malformed("time", at))
}

/// The edge of a tree, held against its size.
pub(super) fn edge(row: &PgRow) -> Result<Edge, StoreError> {
    let size = get::<i64>(row, "size")?.unsigned_abs();
    let levels: Vec<Vec<u8>> = get(row, "edge")?;
    let levels = levels.iter().map(|level| hashes(level)).collect::<Result<Vec<_>, _>>()?;
    Edge::from_levels(size, levels).ok_or_else(|| malformed("edge of a tree", size))
}

pub(super) fn root(row: &PgRow) -> Result<Root, StoreError> {
    let sealed_at: OffsetDateTime = get(row, "sealed_at")?;
    Ok(Root {
        tenant: get(row, "tenant")?,
        size: get::<i64>(row, "size")?.unsigned_abs(),
        root: hash(&get::<Vec<u8>>(row, "root")?)?,
        sealed_at_us: u64::try_from(microseconds(sealed_at)?).map_err(|_| malformed("time", sealed_at))?,
    })
}
