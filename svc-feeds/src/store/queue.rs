//! The order of an issuer's updates on a feed.

use super::{Store, StoreError, address_of, during, hex_of, signed, unsigned};
use alloy::primitives::Address;
use sqlx::Row as _;
use uuid::Uuid;

/// An update that is accepted and not known to be final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The tenant.
    pub tenant: String,
    /// The feed.
    pub feed: Address,
    /// Identity of the issuer.
    pub issuer: Address,
    /// Its place; lower ones go first.
    pub place: u64,
    /// The operation that carries it.
    pub operation_id: Uuid,
    /// Which of the operation's updates it is.
    pub item: usize,
}

/// Takes the next place on each feed for the updates of an operation; runs in the commit that accepts it. The heads are locked in one
/// order by everybody, so that two batches stand in the same order on all feeds that they share.
pub(crate) async fn take_places(
    connection: &mut sqlx::PgConnection,
    tenant: &str,
    chain_id: u64,
    issuer: Address,
    operation_id: Uuid,
    feeds: &[Address],
) -> Result<(), sqlx::Error> {
    let items: Vec<i32> = (0..feeds.len()).map(|item| i32::try_from(item).unwrap_or(i32::MAX)).collect();
    sqlx::query(
        "WITH given AS (SELECT * FROM unnest($5::text[], $6::int[]) AS g(feed, item)),
              taken AS (INSERT INTO feeds.queue_heads AS h (tenant_id, chain_id, feed, issuer, next)
                        SELECT $1, $2, feed, $3, 1 FROM given ORDER BY feed
                        ON CONFLICT (tenant_id, chain_id, feed, issuer) DO UPDATE SET next = h.next + 1
                        RETURNING feed, next)
         INSERT INTO feeds.queue (tenant_id, chain_id, feed, issuer, place, operation_id, item)
         SELECT $1, $2, feed, $3, next, $4, item FROM given JOIN taken USING (feed)",
    )
    .bind(tenant)
    .bind(signed(chain_id))
    .bind(hex_of(issuer))
    .bind(operation_id)
    .bind(feeds.iter().copied().map(hex_of).collect::<Vec<_>>())
    .bind(items)
    .execute(connection)
    .await
    .map(drop)
}

impl Store {
    /// Who waits on some feeds, by feed, issuer and place.
    pub async fn waiting(&self, tenant: &str, chain_id: u64, feeds: &[Address]) -> Result<Vec<Waiting>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM feeds.queue WHERE tenant_id = $1 AND chain_id = $2 AND feed = ANY($3) ORDER BY feed, issuer, place",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(feeds.iter().copied().map(hex_of).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await
        .map_err(during("read queue"))?;
        rows.iter().map(parse).collect()
    }

    /// Who waits first on each of some feeds, for each issuer, when some operations are left out.
    pub async fn first_waiting(
        &self,
        tenant: &str,
        chain_id: u64,
        feeds: &[Address],
        without: &[Uuid],
    ) -> Result<Vec<Waiting>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT ON (feed, issuer) * FROM feeds.queue
             WHERE tenant_id = $1 AND chain_id = $2 AND feed = ANY($3) AND operation_id <> ALL($4) ORDER BY feed, issuer, place",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(feeds.iter().copied().map(hex_of).collect::<Vec<_>>())
        .bind(without)
        .fetch_all(&self.pool)
        .await
        .map_err(during("read queue"))?;
        rows.iter().map(parse).collect()
    }

    /// Operations that stand in the queue of a chain, with one of their updates each.
    pub async fn queued_operations(&self, chain_id: u64, limit: u32) -> Result<Vec<Waiting>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT ON (tenant_id, operation_id) * FROM feeds.queue WHERE chain_id = $1
             ORDER BY tenant_id, operation_id, item LIMIT $2",
        )
        .bind(signed(chain_id))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read queue"))?;
        rows.iter().map(parse).collect()
    }
}

/// Takes an operation that is final out of the queue. The feeds that it stood on, with the item of each; none: another replica was
/// faster.
pub(super) async fn leave(
    connection: &mut sqlx::PgConnection,
    tenant: &str,
    operation_id: Uuid,
) -> Result<Vec<(Address, usize)>, StoreError> {
    let rows = sqlx::query("DELETE FROM feeds.queue WHERE tenant_id = $1 AND operation_id = $2 RETURNING feed, item")
        .bind(tenant)
        .bind(operation_id)
        .fetch_all(connection)
        .await
        .map_err(during("leave queue"))?;
    rows.iter().map(|row| Ok((address_of(row.get("feed"))?, item(row)))).collect()
}

fn parse(row: &sqlx::postgres::PgRow) -> Result<Waiting, StoreError> {
    Ok(Waiting {
        tenant: row.get("tenant_id"),
        feed: address_of(row.get("feed"))?,
        issuer: address_of(row.get("issuer"))?,
        place: unsigned(row.get("place")),
        operation_id: row.get("operation_id"),
        item: item(row),
    })
}

fn item(row: &sqlx::postgres::PgRow) -> usize {
    usize::try_from(row.get::<i32, _>("item")).unwrap_or(0)
}
