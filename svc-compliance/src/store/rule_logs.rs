//! The indexed log of rules: what their contracts were told and do not list.

use super::{
    Store, StoreError, address_of, during, hex_of,
    holdings::{IndexBatch, Owners},
    signed,
};
use alloy::primitives::{Address, Bytes};
use sqlx::{PgConnection, Row as _};
use std::collections::BTreeSet;

/// A compliance and a rule that it has bound, now or before.
pub type BoundRule = (Address, Address);

/// A compliance seen at its creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedCompliance {
    /// Owner of the factory.
    pub tenant: String,
    /// The compliance.
    pub compliance: Address,
    /// The asset it is made for.
    pub asset: Address,
    /// Block of its creation.
    pub block: u64,
}

/// One thing that a rule was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleLog {
    /// The compliance it was told for.
    pub compliance: Address,
    /// The rule.
    pub module: Address,
    /// Whose place on lists; none: the parameters.
    pub account: Option<Address>,
    /// Where in the chain.
    pub block: u64,
    /// Where in the block.
    pub log_index: u64,
    /// Parameters, none where the rule was unbound; of an account one byte of lists.
    pub body: Bytes,
}

impl Store {
    /// Which of the addresses are compliances of tenants.
    pub async fn indexed_compliances(
        &self,
        chain_id: u64,
        addresses: &BTreeSet<Address>,
    ) -> Result<Owners, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant_id, compliance FROM compliance.indexed_compliances WHERE chain_id = $1 AND compliance = ANY($2)",
        )
        .bind(signed(chain_id))
        .bind(addresses.iter().copied().map(hex_of).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await
        .map_err(during("find compliances"))?;
        rows.into_iter().map(|row| Ok((address_of(row.get("compliance"))?, row.get("tenant_id")))).collect()
    }

    /// Which of the addresses are rules that were bound to which compliance.
    pub async fn indexed_rules(
        &self,
        chain_id: u64,
        compliances: &Owners,
        modules: &BTreeSet<Address>,
    ) -> Result<BTreeSet<BoundRule>, StoreError> {
        let (addresses, tenants): (Vec<String>, Vec<&str>) =
            compliances.iter().map(|(address, tenant)| (hex_of(*address), tenant.as_str())).unzip();
        let rows = sqlx::query(
            "SELECT DISTINCT l.compliance, l.module
             FROM unnest($2::text[], $3::text[]) AS c(compliance, tenant_id)
             JOIN compliance.rule_logs l ON l.tenant_id = c.tenant_id AND l.chain_id = $1 AND l.compliance = c.compliance
             WHERE l.module = ANY($4) AND l.account = ''",
        )
        .bind(signed(chain_id))
        .bind(addresses)
        .bind(tenants)
        .bind(modules.iter().copied().map(hex_of).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await
        .map_err(during("find rules"))?;
        rows.into_iter().map(|row| Ok((address_of(row.get("compliance"))?, address_of(row.get("module"))?))).collect()
    }

    /// The parameters of a rule at a block, in the contract's encoding; none where it was not bound.
    pub async fn rule_params(
        &self,
        tenant: &str,
        chain_id: u64,
        (compliance, module): BoundRule,
        block: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let body: Option<Vec<u8>> = sqlx::query_scalar(
            "SELECT body FROM compliance.rule_logs
             WHERE tenant_id = $1 AND chain_id = $2 AND compliance = $3 AND module = $4 AND account = '' AND block_number <= $5
             ORDER BY block_number DESC, log_index DESC LIMIT 1",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(hex_of(compliance))
        .bind(hex_of(module))
        .bind(signed(block))
        .fetch_optional(&self.pool)
        .await
        .map_err(during("read rule parameters"))?;
        Ok(body.filter(|body| !body.is_empty()).map(Bytes::from))
    }

    /// The accounts that stand on a list of a `ListRule` at a block, by address, behind one, with the bits of their lists.
    pub async fn listed(
        &self,
        tenant: &str,
        chain_id: u64,
        (compliance, module): BoundRule,
        block: u64,
        after: Option<Address>,
        limit: u32,
    ) -> Result<Vec<(Address, u8)>, StoreError> {
        let rows = sqlx::query(
            "WITH forgotten AS (
               SELECT block_number, log_index FROM compliance.rule_logs
               WHERE tenant_id = $1 AND chain_id = $2 AND compliance = $3 AND module = $4 AND account = '' AND body = ''
                 AND block_number <= $5
               ORDER BY block_number DESC, log_index DESC LIMIT 1)
             SELECT account, lists FROM (
               SELECT DISTINCT ON (account) account, get_byte(body, 0) AS lists FROM compliance.rule_logs l
               WHERE tenant_id = $1 AND chain_id = $2 AND compliance = $3 AND module = $4 AND account > $6 AND account <> ''
                 AND block_number <= $5
                 AND NOT EXISTS (SELECT 1 FROM forgotten f WHERE (f.block_number, f.log_index) > (l.block_number, l.log_index))
               ORDER BY account, block_number DESC, log_index DESC) newest
             WHERE lists > 0 ORDER BY account LIMIT $7",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(hex_of(compliance))
        .bind(hex_of(module))
        .bind(signed(block))
        .bind(after.map_or_else(String::new, hex_of))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("list accounts"))?;
        rows.into_iter()
            .map(|row| {
                let lists: i32 = row.get("lists");
                Ok((address_of(row.get("account"))?, u8::try_from(lists).unwrap_or_default()))
            })
            .collect()
    }
}

/// Takes back what stands in blocks above one.
pub(super) const RETRACT: [&str; 2] = [
    "DELETE FROM compliance.rule_logs WHERE chain_id = $1 AND block_number > $2",
    "DELETE FROM compliance.indexed_compliances WHERE chain_id = $1 AND created_block > $2",
];

/// Writes what a batch of blocks says of rules.
pub(super) async fn put(commit: &mut PgConnection, chain: i64, batch: &IndexBatch) -> Result<(), StoreError> {
    for created in &batch.compliances {
        sqlx::query(
            "INSERT INTO compliance.indexed_compliances (tenant_id, chain_id, compliance, asset, created_block)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(&created.tenant)
        .bind(chain)
        .bind(hex_of(created.compliance))
        .bind(hex_of(created.asset))
        .bind(signed(created.block))
        .execute(&mut *commit)
        .await
        .map_err(during("index compliance"))?;
    }
    if batch.rule_logs.is_empty() {
        return Ok(());
    }
    let (mut tenants, mut compliances, mut modules, mut accounts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut numbers, mut indices, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for (tenant, log) in &batch.rule_logs {
        tenants.push(tenant.as_str());
        compliances.push(hex_of(log.compliance));
        modules.push(hex_of(log.module));
        accounts.push(log.account.map(hex_of).unwrap_or_default());
        numbers.push(signed(log.block));
        indices.push(signed(log.log_index));
        bodies.push(log.body.to_vec());
    }
    sqlx::query(
        "INSERT INTO compliance.rule_logs (tenant_id, chain_id, compliance, module, account, block_number, log_index, body)
         SELECT tenant_id, $1, compliance, module, account, block_number, log_index, body
         FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bytea[])
           AS l(tenant_id, compliance, module, account, block_number, log_index, body)",
    )
    .bind(chain)
    .bind(tenants)
    .bind(compliances)
    .bind(modules)
    .bind(accounts)
    .bind(numbers)
    .bind(indices)
    .bind(bodies)
    .execute(commit)
    .await
    .map_err(during("index rules"))?;
    Ok(())
}
