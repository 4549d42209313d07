//! Which peer may ask for which kind of payload. Deny by default; the list is configuration, never data.

use alloy::primitives::Address;
use serde::Deserialize;

use super::payload::{Destination, Payload, PayloadKind, Selector};

/// One right of one peer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// SPIFFE id of the peer, as in its certificate.
    pub peer: String,
    /// Payload kinds it may have signed.
    pub kinds: Vec<PayloadKind>,
    /// Keys it may use; empty means every key.
    #[serde(default)]
    pub signers: Vec<Address>,
    /// Contracts a payload may act on; empty means every contract and creation.
    #[serde(default)]
    pub contracts: Vec<Address>,
    /// Functions a transaction may call; empty means every function.
    #[serde(default)]
    pub selectors: Vec<Selector>,
}

/// All grants.
#[derive(Debug, Clone, Default)]
pub struct Grants(Vec<Grant>);

// === impl Grants ===

impl Grants {
    /// Takes the configured list.
    #[must_use]
    pub fn new(grants: Vec<Grant>) -> Self {
        Self(grants)
    }

    /// Whether any grant covers the request.
    #[must_use]
    pub fn allow(&self, peer: &str, signer: Address, payload: &Payload) -> bool {
        self.0.iter().any(|grant| grant.covers(peer, signer, payload))
    }

    /// Whether the peer may make secrets of settlements and have them shown.
    #[must_use]
    pub fn may_reveal(&self, peer: &str) -> bool {
        self.0.iter().any(|grant| grant.peer == peer && grant.kinds.contains(&PayloadKind::SettlementReveal))
    }

    /// Whether the peer may have audit logs' keys made, and their roots signed.
    #[must_use]
    pub fn may_sign_roots(&self, peer: &str) -> bool {
        self.0.iter().any(|grant| grant.peer == peer && grant.kinds.contains(&PayloadKind::AuditRoot))
    }

    /// Whether the peer may have transactions of this key signed at all, which it needs to read the key's lanes.
    #[must_use]
    pub fn may_read_lanes(&self, peer: &str, signer: Address) -> bool {
        self.0.iter().any(|grant| grant.is_for(peer, signer, PayloadKind::EvmTransaction))
    }
}

// === impl Grant ===

impl Grant {
    fn covers(&self, peer: &str, signer: Address, payload: &Payload) -> bool {
        let contract = match payload.destination() {
            _ if self.contracts.is_empty() => true,
            Destination::Contract(contract) => self.contracts.contains(&contract),
            Destination::Create | Destination::Unnamed => false,
        };
        let function = self.selectors.is_empty()
            || payload.kind() != PayloadKind::EvmTransaction
            || payload.selector().is_some_and(|selector| self.selectors.contains(&selector));
        self.is_for(peer, signer, payload.kind()) && contract && function
    }

    fn is_for(&self, peer: &str, signer: Address, kind: PayloadKind) -> bool {
        self.peer == peer && self.kinds.contains(&kind) && (self.signers.is_empty() || self.signers.contains(&signer))
    }
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::TxEip1559,
        primitives::{Bytes, TxKind},
    };

    use super::*;
    use crate::core::payload::UnsignedTransaction;

    fn grant() -> Grant {
        Grant {
            peer: "spiffe://dalp/svc-compliance".to_owned(),
            kinds: vec![PayloadKind::EvmTransaction],
            signers: vec![],
            contracts: vec![Address::repeat_byte(1)],
            selectors: vec![Selector([1, 2, 3, 4])],
        }
    }

    fn call(to: TxKind, data: &'static [u8]) -> Payload {
        Payload::Transaction(UnsignedTransaction::Eip1559(TxEip1559 {
            chain_id: 1,
            to,
            input: Bytes::from_static(data),
            ..Default::default()
        }))
    }

    #[test]
    fn every_part_of_a_grant_narrows_it() {
        let grants = Grants::new(vec![grant()]);
        let peer = "spiffe://dalp/svc-compliance";
        let key = Address::repeat_byte(9);
        let good = call(TxKind::Call(Address::repeat_byte(1)), &[1, 2, 3, 4, 5]);
        assert!(grants.allow(peer, key, &good));
        assert!(!grants.allow("spiffe://dalp/svc-feeds", key, &good), "peer");
        assert!(!grants.allow(peer, key, &call(TxKind::Call(Address::repeat_byte(2)), &[1, 2, 3, 4])), "contract");
        assert!(!grants.allow(peer, key, &call(TxKind::Call(Address::repeat_byte(1)), &[9, 2, 3, 4])), "function");
        assert!(!grants.allow(peer, key, &call(TxKind::Call(Address::repeat_byte(1)), &[1, 2, 3])), "no function");
        assert!(!grants.allow(peer, key, &call(TxKind::Create, &[1, 2, 3, 4])), "creation");
        let narrowed = Grants::new(vec![Grant { signers: vec![Address::repeat_byte(8)], ..grant() }]);
        assert!(!narrowed.allow(peer, key, &good), "key");
        assert!(narrowed.may_read_lanes(peer, Address::repeat_byte(8)));
        assert!(!narrowed.may_read_lanes(peer, key), "the lanes of a key are as far away as the key");
        let documents = Grants::new(vec![Grant { kinds: vec![PayloadKind::Eip712], ..grant() }]);
        assert!(!documents.may_read_lanes(peer, key), "who has only documents signed has no lanes");
    }
}
