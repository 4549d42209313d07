//! What is read of the sealed log: leaves with their hashes, roots, and proofs out of a few tiles.

use std::collections::{BTreeMap, BTreeSet};

use dalp_audit::{
    Decision, Hash, Leaf, Root,
    tiles::{self, Edge, TILE_WIDTH, TileId, Tiles},
    tree::{self, Range},
};
use dalp_domain::store::{StoreError, during};
use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;

use super::{
    Log,
    store::{edge, get, hashes, leaf, malformed, root},
};

/// A leaf at its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its place.
    pub position: u64,
    /// Its hash in the tree.
    pub hash: Hash,
    /// What the row says; `None`: it is gone.
    pub leaf: Option<Leaf>,
}

/// A root with its signature.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedRoot {
    /// The root.
    pub root: Root,
    /// Address of the key.
    pub signer: [u8; 20],
    /// r || s || v.
    pub signature: Vec<u8>,
}

/// Which leaves are wanted; what is `None` narrows nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Of this actor.
    pub actor: Option<String>,
    /// With this action.
    pub action: Option<String>,
    /// On this subject.
    pub subject: Option<String>,
    /// With this decision.
    pub decision: Option<Decision>,
    /// With this reason.
    pub reason: Option<String>,
    /// Written then or later.
    pub from: Option<OffsetDateTime>,
    /// Written before.
    pub until: Option<OffsetDateTime>,
}

/// A part of a list, and where it goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// What was wanted of what was looked at.
    pub entries: Vec<Entry>,
    /// Up to here was looked; `None`: to the end.
    pub next: Option<u64>,
}

/// A proof with the root that it leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// The hashes.
    pub hashes: Vec<Hash>,
    /// Root of the tree.
    pub root: Hash,
}

/// Of a filtered list so many places are looked at for a page: what a call costs is bounded, however little the filter lets through.
const LOOKED_AT: u64 = 10_000;

const ENTRIES: &str = "SELECT e.position, l.sequence, l.tenant, l.actor, l.action, l.subject, l.decision, l.reason, l.payload_hash,
            l.body::text AS body, l.created_at
     FROM gateway.audit_entries e LEFT JOIN engine.audit_leaves l ON l.sequence = e.leaf_sequence AND l.tenant = e.tenant
     WHERE e.tenant = $1 AND e.position >= $2 AND e.position < $3";

macro_rules! filtered {
    ($order:literal) => {
        concat!(
            "SELECT e.position, l.sequence, l.tenant, l.actor, l.action, l.subject, l.decision, l.reason, l.payload_hash,
                    l.body::text AS body, l.created_at
             FROM gateway.audit_entries e JOIN engine.audit_leaves l ON l.sequence = e.leaf_sequence AND l.tenant = e.tenant
             WHERE e.tenant = $1 AND e.position >= $2 AND e.position < $3
               AND ($4::text IS NULL OR l.actor = $4) AND ($5::text IS NULL OR l.action = $5) AND ($6::text IS NULL OR l.subject = $6)
               AND ($7::text IS NULL OR l.decision = $7) AND ($8::text IS NULL OR l.reason = $8)
               AND ($9::timestamptz IS NULL OR l.created_at >= $9) AND ($10::timestamptz IS NULL OR l.created_at < $10)
             ORDER BY e.position ", $order, " LIMIT $11"
        )
    };
}

// === impl Log ===

impl Log {
    /// The edge of a tenant's tree; empty before its first leaf is sealed.
    ///
    /// # Errors
    /// When the database is away, or the tree is damaged.
    pub async fn edge(&self, tenant: &str) -> Result<Edge, StoreError> {
        let row = sqlx::query("SELECT size, edge FROM gateway.audit_trees WHERE tenant = $1")
            .bind(tenant)
            .fetch_optional(&self.tables.pool)
            .await
            .map_err(during("read a tree"))?;
        row.as_ref().map_or_else(|| Ok(Edge::default()), edge)
    }

    /// Proves the leaf at `position` in the tree of `size` leaves. `None`: there is no such leaf, or the log is not that long.
    ///
    /// # Errors
    /// When the database is away, or the tree is damaged.
    pub async fn inclusion(&self, tenant: &str, position: u64, size: u64) -> Result<Option<Proof>, StoreError> {
        let edge = self.edge(tenant).await?;
        match tree::inclusion(position, size).filter(|_| size <= edge.size()) {
            Some(ranges) => self.proof(tenant, &edge, &ranges, size).await.map(Some),
            None => Ok(None),
        }
    }

    /// Proves that the tree of `first` leaves is the beginning of that of `second` leaves; with the first root. `None`: the log is not that
    /// long.
    ///
    /// # Errors
    /// When the database is away, or the tree is damaged.
    pub async fn consistency(
        &self,
        tenant: &str,
        first: u64,
        second: u64,
    ) -> Result<Option<(Hash, Proof)>, StoreError> {
        let edge = self.edge(tenant).await?;
        let Some(ranges) = tree::consistency(first, second).filter(|_| second <= edge.size()) else { return Ok(None) };
        let earlier = Range { start: 0, end: first };
        let first_root = self.tiles(tenant, &edge, &[earlier]).await?.hash(&earlier).map_err(damaged)?;
        Ok(Some((first_root, self.proof(tenant, &edge, &ranges, second).await?)))
    }

    /// Hashes of the complete subtrees over the first `size` leaves. `None`: the log is not that long.
    ///
    /// # Errors
    /// When the database is away, or the tree is damaged.
    pub async fn edge_at(&self, tenant: &str, size: u64) -> Result<Option<Vec<Hash>>, StoreError> {
        let edge = self.edge(tenant).await?;
        if size > edge.size() {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(Vec::new()));
        }
        let whole = Range { start: 0, end: size };
        self.tiles(tenant, &edge, &[whole]).await?.subtrees(&whole).map(Some).map_err(damaged)
    }

    async fn proof(&self, tenant: &str, edge: &Edge, ranges: &[Range], size: u64) -> Result<Proof, StoreError> {
        let whole = Range { start: 0, end: size };
        let all: Vec<Range> = ranges.iter().copied().chain([whole]).collect();
        let tiles = self.tiles(tenant, edge, &all).await?;
        let hashes = ranges.iter().map(|range| tiles.hash(range)).collect::<Result<_, _>>().map_err(damaged)?;
        Ok(Proof { hashes, root: tiles.hash(&whole).map_err(damaged)? })
    }

    /// The tiles that ranges need, in one statement. What the edge of a moment ago does not hold stood in full tiles then.
    async fn tiles(&self, tenant: &str, edge: &Edge, ranges: &[Range]) -> Result<Tiles, StoreError> {
        self.read_tiles(tenant, edge, tiles::needed(ranges)).await
    }

    async fn read_tiles(&self, tenant: &str, edge: &Edge, wanted: BTreeSet<TileId>) -> Result<Tiles, StoreError> {
        let mut tiles = Tiles::default();
        let others = tiles.take_edge(edge, wanted);
        if others.is_empty() {
            return Ok(tiles);
        }
        let rows = sqlx::query(
            "SELECT t.level, t.number, t.hashes FROM unnest($2::smallint[], $3::bigint[]) AS g(level, number)
             JOIN gateway.audit_tiles t ON t.tenant = $1 AND t.level = g.level AND t.number = g.number",
        )
        .bind(tenant)
        .bind(others.iter().map(|id| i16::try_from(id.level).unwrap_or(i16::MAX)).collect::<Vec<_>>())
        .bind(others.iter().map(|id| id.number.cast_signed()).collect::<Vec<_>>())
        .fetch_all(&self.tables.pool)
        .await
        .map_err(during("read tiles"))?;
        for row in &rows {
            let level = u32::from(get::<i16>(row, "level")?.unsigned_abs());
            let id = TileId { level, number: get::<i64>(row, "number")?.unsigned_abs() };
            tiles.insert(id, hashes(&get::<Vec<u8>>(row, "hashes")?)?);
        }
        Ok(tiles)
    }

    /// The leaves from `first` to before `end`, also those that are gone. Of places that lost their entry nothing is answered.
    ///
    /// # Errors
    /// When the database is away, or the tree is damaged.
    pub async fn entries(&self, tenant: &str, first: u64, end: u64) -> Result<Vec<Entry>, StoreError> {
        let edge = self.edge(tenant).await?;
        let rows = sqlx::query(ENTRIES)
            .bind(tenant)
            .bind(first.cast_signed())
            .bind(end.cast_signed())
            .fetch_all(&self.tables.pool)
            .await
            .map_err(during("read leaves"))?;
        let mut said = BTreeMap::new();
        for row in &rows {
            said.insert(position(row)?, read_leaf(row)?);
        }
        let places: Vec<u64> = (first..end.min(edge.size())).collect();
        let hashes = self.leaf_hashes(tenant, &edge, &places).await?;
        let entry = |(position, hash)| Entry { position, hash, leaf: said.remove(&position).flatten() };
        Ok(places.into_iter().zip(hashes).map(entry).collect())
    }

    /// A part of the list from `from` on, upwards or downwards.
    ///
    /// # Errors
    /// When the database is away, or the tree is damaged.
    pub async fn list(
        &self,
        tenant: &str,
        filter: &Filter,
        newest_first: bool,
        from: Option<u64>,
        limit: u32,
    ) -> Result<Page, StoreError> {
        let edge = self.edge(tenant).await?;
        let (statement, start, end) = match newest_first {
            false => {
                let start = from.unwrap_or(0);
                (filtered!("ASC"), start, edge.size().min(start.saturating_add(LOOKED_AT)))
            }
            true => {
                let end = from.unwrap_or(edge.size()).min(edge.size());
                (filtered!("DESC"), end.saturating_sub(LOOKED_AT), end)
            }
        };
        let rows = sqlx::query(statement)
            .bind(tenant)
            .bind(start.cast_signed())
            .bind(end.cast_signed())
            .bind(&filter.actor)
            .bind(&filter.action)
            .bind(&filter.subject)
            .bind(filter.decision.map(Decision::as_str))
            .bind(&filter.reason)
            .bind(filter.from)
            .bind(filter.until)
            .bind(i64::from(limit))
            .fetch_all(&self.tables.pool)
            .await
            .map_err(during("list leaves"))?;
        let places = rows.iter().map(position).collect::<Result<Vec<_>, _>>()?;
        let hashes = self.leaf_hashes(tenant, &edge, &places).await?;
        let mut entries = Vec::with_capacity(rows.len());
        for ((row, &position), hash) in rows.iter().zip(&places).zip(hashes) {
            entries.push(Entry { position, hash, leaf: read_leaf(row)? });
        }
        // A full page goes on behind its last leaf, another one behind what was looked at.
        let last = places.last().filter(|_| places.len() == limit as usize);
        let next = match newest_first {
            false => Some(last.map_or(end, |last| last + 1)).filter(|next| *next < edge.size()),
            true => Some(last.copied().unwrap_or(start)).filter(|next| *next > 0),
        };
        Ok(Page { entries, next })
    }

    async fn leaf_hashes(&self, tenant: &str, edge: &Edge, places: &[u64]) -> Result<Vec<Hash>, StoreError> {
        let wanted = places.iter().map(|place| TileId { level: 0, number: place / TILE_WIDTH as u64 }).collect();
        let tiles = self.read_tiles(tenant, edge, wanted).await?;
        let one = |place: &u64| tiles.hash(&Range { start: *place, end: place + 1 }).map_err(damaged);
        places.iter().map(one).collect()
    }

    /// The latest signed root that covers at most `at_most` leaves.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn latest_root(&self, tenant: &str, at_most: u64) -> Result<Option<SignedRoot>, StoreError> {
        Ok(self.roots(tenant, at_most.saturating_add(1), 1).await?.pop())
    }

    /// The signed root of a size.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn root(&self, tenant: &str, size: u64) -> Result<Option<SignedRoot>, StoreError> {
        Ok(self.latest_root(tenant, size).await?.filter(|root| root.root.size == size))
    }

    /// Signed roots that cover fewer than `below` leaves, the latest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn roots(&self, tenant: &str, below: u64, limit: u32) -> Result<Vec<SignedRoot>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant, size, root, sealed_at, signer, signature FROM gateway.audit_roots
             WHERE tenant = $1 AND size < $2 AND signature IS NOT NULL ORDER BY size DESC LIMIT $3",
        )
        .bind(tenant)
        .bind(i64::try_from(below).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(&self.tables.pool)
        .await
        .map_err(during("read roots"))?;
        rows.iter().map(signed_root).collect()
    }

    /// Signed roots over more than `above` leaves and at most `to`, the earliest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn roots_between(&self, tenant: &str, above: u64, to: u64) -> Result<Vec<SignedRoot>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant, size, root, sealed_at, signer, signature FROM gateway.audit_roots
             WHERE tenant = $1 AND size > $2 AND size <= $3 AND signature IS NOT NULL ORDER BY size",
        )
        .bind(tenant)
        .bind(above.cast_signed())
        .bind(to.cast_signed())
        .fetch_all(&self.tables.pool)
        .await
        .map_err(during("read roots"))?;
        rows.iter().map(signed_root).collect()
    }
}

fn position(row: &PgRow) -> Result<u64, StoreError> {
    Ok(get::<i64>(row, "position")?.unsigned_abs())
}

fn read_leaf(row: &PgRow) -> Result<Option<Leaf>, StoreError> {
    match get::<Option<i64>>(row, "sequence")? {
        Some(_) => leaf(row).map(Some),
        None => Ok(None),
    }
}

fn signed_root(row: &PgRow) -> Result<SignedRoot, StoreError> {
    let signer: Vec<u8> = row.try_get("signer").map_err(during("read roots"))?;
    Ok(SignedRoot {
        root: root(row)?,
        signer: signer.as_slice().try_into().map_err(|_| malformed("address", signer.len()))?,
        signature: get(row, "signature")?,
    })
}

fn damaged(missing: tiles::MissingTile) -> StoreError {
    malformed("tile", missing)
}
