//! What the log says of rules. A rule serves every asset of the chain and anybody may tell it something in a compliance's name only
//! as that compliance; still any contract can emit an event that looks the same. So only what comes from a rule is kept that a compliance of ours says it bound.

use crate::store::{
    Store, StoreError,
    holdings::Owners,
    rule_logs::{BoundRule, CreatedCompliance, RuleLog},
};
use alloy::{
    primitives::{Address, B256, Bytes},
    sol_types::SolEvent,
};
use dalp_chain::Log;
use dalp_contracts::bindings::{AssetFactory, CountryRule, ListRule, TokenCompliance};
use std::collections::BTreeSet;

/// The events of this module.
pub(super) const TOPICS: [B256; 5] = [
    AssetFactory::ComplianceCreated::SIGNATURE_HASH,
    TokenCompliance::ModuleAdded::SIGNATURE_HASH,
    TokenCompliance::ModuleRemoved::SIGNATURE_HASH,
    // Every rule says it alike.
    CountryRule::ParamsSet::SIGNATURE_HASH,
    ListRule::Listed::SIGNATURE_HASH,
];

/// Whom a batch of blocks may believe.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Compliances of tenants.
    compliances: Owners,
    /// Rules that they have bound.
    rules: BTreeSet<BoundRule>,
}

// === impl Known ===

impl Known {
    /// What is known of everybody whom these logs are from or about.
    pub(super) async fn of_logs<'l>(
        store: &Store,
        chain_id: u64,
        logs: impl Iterator<Item = &'l Log> + Clone,
    ) -> Result<Self, StoreError> {
        let ours = logs.filter(|log| log.topic0().is_some_and(|topic| TOPICS.contains(topic)));
        let emitters: BTreeSet<Address> = ours.clone().map(Log::address).collect();
        if emitters.is_empty() {
            return Ok(Self::default());
        }
        let named = ours.filter_map(|log| log.topics().get(1)).map(|topic| Address::from_word(*topic));
        let addresses = named.chain(emitters.iter().copied()).collect();
        let compliances = store.indexed_compliances(chain_id, &addresses).await?;
        let rules = store.indexed_rules(chain_id, &compliances, &emitters).await?;
        Ok(Self { compliances, rules })
    }

    /// Believes a compliance from now on.
    pub(super) fn created(&mut self, created: &CreatedCompliance) {
        self.compliances.insert(created.compliance, created.tenant.clone());
    }

    /// What a block says of rules, in its order, with the tenants it concerns.
    pub(super) fn read(&mut self, block: u64, logs: &[Log]) -> Vec<(String, RuleLog)> {
        let mut ordered: Vec<&Log> = logs.iter().collect();
        ordered.sort_by_key(|log| log.log_index);
        ordered.into_iter().filter_map(|log| self.believed(block, log)).collect()
    }

    fn believed(&mut self, block: u64, log: &Log) -> Option<(String, RuleLog)> {
        let (emitter, topic) = (log.address(), *log.topic0()?);
        let told = |compliance, module, account, body| RuleLog {
            compliance,
            module,
            account,
            block,
            log_index: log.log_index.unwrap_or_default(),
            body,
        };
        let read = if topic == TokenCompliance::ModuleAdded::SIGNATURE_HASH {
            let added = TokenCompliance::ModuleAdded::decode_log(&log.inner).ok()?.data;
            if self.compliances.contains_key(&emitter) {
                self.rules.insert((emitter, added.module));
            }
            told(emitter, added.module, None, added.params)
        } else if topic == TokenCompliance::ModuleRemoved::SIGNATURE_HASH {
            let removed = TokenCompliance::ModuleRemoved::decode_log(&log.inner).ok()?.data;
            told(emitter, removed.module, None, Bytes::new())
        } else if topic == CountryRule::ParamsSet::SIGNATURE_HASH {
            let set = CountryRule::ParamsSet::decode_log(&log.inner).ok()?.data;
            told(set.compliance, emitter, None, set.params)
        } else if topic == ListRule::Listed::SIGNATURE_HASH {
            let listed = ListRule::Listed::decode_log(&log.inner).ok()?.data;
            told(listed.compliance, emitter, Some(listed.account), vec![listed.lists].into())
        } else {
            return None;
        };
        let tenant = self.compliances.get(&read.compliance)?.clone();
        self.rules.contains(&(read.compliance, read.module)).then_some((tenant, read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::Log as PrimitiveLog;

    const COMPLIANCE: Address = Address::repeat_byte(1);
    const RULE: Address = Address::repeat_byte(2);
    const STRANGER: Address = Address::repeat_byte(3);

    fn log<E: SolEvent>(address: Address, index: u64, event: &E) -> Log {
        let inner = PrimitiveLog { address, data: event.encode_log_data() };
        Log { inner, log_index: Some(index), ..Default::default() }
    }

    fn known() -> Known {
        Known { compliances: Owners::from([(COMPLIANCE, "acme".to_owned())]), ..Default::default() }
    }

    #[test]
    fn rules_are_believed_once_the_compliance_has_bound_them() {
        let listed = ListRule::Listed { compliance: COMPLIANCE, account: STRANGER, lists: 2 };
        let added = TokenCompliance::ModuleAdded { module: RULE, hooks: 1, params: Bytes::from_static(&[7]) };
        let mut known = known();
        assert!(known.read(1, &[log(RULE, 0, &listed)]).is_empty(), "not bound yet");
        assert!(known.read(1, &[log(STRANGER, 0, &added), log(RULE, 1, &listed)]).is_empty(), "bound by a stranger");
        // The node may hand the logs of a block in any order.
        let read = known.read(2, &[log(RULE, 9, &listed), log(COMPLIANCE, 4, &added)]);
        let bodies: Vec<_> = read.iter().map(|(_, log)| (log.log_index, log.account, log.body.to_vec())).collect();
        assert_eq!(bodies, [(4, None, vec![7]), (9, Some(STRANGER), vec![2])]);
        assert!(known.read(3, &[log(STRANGER, 0, &listed)]).is_empty(), "another contract says the same");
        let removed = TokenCompliance::ModuleRemoved { module: RULE };
        assert!(known.read(4, &[log(COMPLIANCE, 0, &removed)])[0].1.body.is_empty());
    }
}
