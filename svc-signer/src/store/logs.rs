//! The roots of each audit log that were taken to be signed, and the last of them. The database writes the former with the latter.

use alloy::primitives::B256;
use dalp_audit::{Hash, tree};
use sqlx::{Row as _, postgres::PgRow};

use super::{Store, StoreError};
use crate::core::payload::AuditRoot;

/// What a caller shows for that a root continues the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Continuation {
    /// Of how many leaves that one was; 0: there was none.
    pub last_size: u64,
    /// The proof.
    pub proof: Vec<Hash>,
}

/// Whether a root follows the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// It is the first, the last one again, or a continuation that is proven.
    Yes,
    /// The log was longer.
    Shorter(Last),
    /// Of this size the log had another root.
    Other(Last),
    /// The proof does not hold.
    Not(Last),
    /// The proof is from another root on than the last one.
    Unproven(Last),
}

/// Whether a root was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It may be signed.
    Yes,
    /// Not yet: it is of a longer log than the last one, or there is none. Whoever shows that it continues that one has it taken.
    NotYet,
    /// Nor will it be: its log has gone on without it.
    Never(Last),
}

/// The last root of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// Of how many leaves.
    pub size: u64,
    /// It.
    pub root: B256,
}

// === impl Last ===

impl Last {
    fn is_followed_by(self, root: &AuditRoot, shown: &Continuation) -> Follows {
        if root.size < self.size {
            return Follows::Shorter(self);
        }
        if root.size == self.size {
            return if root.root == self.root { Follows::Yes } else { Follows::Other(self) };
        }
        if shown.last_size != self.size {
            return Follows::Unproven(self);
        }
        match tree::verify_consistency(self.size, root.size, &self.root.0, &root.root.0, &shown.proof) {
            true => Follows::Yes,
            false => Follows::Not(self),
        }
    }
}

// === impl Store ===

impl Store {
    /// Takes a root for the last one of its log, if it follows the one before.
    pub async fn follow(&self, root: &AuditRoot, shown: &Continuation) -> Result<Follows, StoreError> {
        let work = async {
            let mut tx = self.pool.begin().await?;
            // Of two that come at once the second one is held against the first.
            let begun = sqlx::query(
                "insert into signer.audit_logs (tenant, size, root) values ($1, $2, $3) on conflict do nothing",
            )
            .bind(&root.tenant)
            .bind(root.size.cast_signed())
            .bind(root.root.as_slice())
            .execute(&mut *tx)
            .await?;
            if begun.rows_affected() == 1 {
                tx.commit().await?;
                return Ok(Follows::Yes);
            }
            let row = sqlx::query("select size, root from signer.audit_logs where tenant = $1 for update")
                .bind(&root.tenant)
                .fetch_optional(&mut *tx)
                .await?
                .ok_or(StoreError::Damaged("an audit log just seen"))?;
            let last = last(&row)?;
            let follows = last.is_followed_by(root, shown);
            if follows == Follows::Yes && root.size > last.size {
                sqlx::query("update signer.audit_logs set size = $2, root = $3, taken_at = now() where tenant = $1")
                    .bind(&root.tenant)
                    .bind(root.size.cast_signed())
                    .bind(root.root.as_slice())
                    .execute(&mut *tx)
                    .await?;
                tx.commit().await?;
            }
            Ok(follows)
        };
        self.patience.within(work).await
    }
}

impl Store {
    /// Whether a root was taken to be signed.
    pub async fn taken(&self, root: &AuditRoot) -> Result<Taken, StoreError> {
        let work = async {
            let row = sqlx::query(
                "select log.size, log.root, exists (
                    select from signer.audit_roots taken where taken.tenant = log.tenant and taken.size = $2 and taken.root = $3) as taken
                 from signer.audit_logs log where log.tenant = $1",
            )
            .bind(&root.tenant)
            .bind(root.size.cast_signed())
            .bind(root.root.as_slice())
            .fetch_optional(&self.pool)
            .await?;
            let Some(row) = row else { return Ok(Taken::NotYet) };
            let last = last(&row)?;
            Ok(match row.try_get("taken")? {
                true => Taken::Yes,
                false if root.size > last.size => Taken::NotYet,
                false => Taken::Never(last),
            })
        };
        self.patience.within(work).await
    }
}

fn last(row: &PgRow) -> Result<Last, StoreError> {
    let root = B256::try_from(row.try_get::<&[u8], _>("root")?);
    Ok(Last {
        size: row.try_get::<i64, _>("size")?.unsigned_abs(),
        root: root.map_err(|_| StoreError::Damaged("the root of an audit log"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(leaves: &[u64], start: usize, end: usize) -> Hash {
        if end - start == 1 {
            return tree::leaf_hash(&leaves[start].to_be_bytes());
        }
        let middle = start + (end - start).next_power_of_two() / 2;
        tree::node_hash(&hash_of(leaves, start, middle), &hash_of(leaves, middle, end))
    }

    fn root(leaves: &[u64]) -> AuditRoot {
        let root = B256::from(hash_of(leaves, 0, leaves.len()));
        AuditRoot { tenant: "bank".into(), size: leaves.len() as u64, root, sealed_at_us: 1 }
    }

    fn shown(first: usize, leaves: &[u64]) -> Continuation {
        let ranges = tree::consistency(first as u64, leaves.len() as u64).unwrap();
        let hash = |range: &tree::Range| hash_of(leaves, range.start as usize, range.end as usize);
        Continuation { last_size: first as u64, proof: ranges.iter().map(hash).collect() }
    }

    #[test]
    fn a_log_grows_and_nothing_else() {
        let honest: Vec<u64> = (0..40).collect();
        let mut rewritten = honest.clone();
        rewritten[3] = 77;
        for first in 1..32 {
            let before = root(&honest[..first]);
            let last = Last { size: before.size, root: before.root };
            let follows = |root: &AuditRoot, shown: &Continuation| last.is_followed_by(root, shown);
            assert_eq!(follows(&before, &Continuation::default()), Follows::Yes, "the same again");
            for size in first + 1..=40 {
                assert_eq!(follows(&root(&honest[..size]), &shown(first, &honest[..size])), Follows::Yes);
                let fork = root(&rewritten[..size]);
                if first > 3 {
                    assert_eq!(follows(&fork, &shown(first, &rewritten[..size])), Follows::Not(last), "{first} {size}");
                }
                assert_eq!(follows(&fork, &Continuation::default()), Follows::Unproven(last));
                assert_eq!(
                    follows(&root(&honest[..size]), &Continuation { last_size: before.size, proof: vec![] }),
                    Follows::Not(last)
                );
            }
            if first > 3 {
                assert_eq!(follows(&root(&rewritten[..first]), &Continuation::default()), Follows::Other(last));
            }
            if first > 1 {
                assert_eq!(follows(&root(&honest[..first - 1]), &Continuation::default()), Follows::Shorter(last));
            }
        }
    }
}
