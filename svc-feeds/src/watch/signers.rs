//! What endangers whoever signed last on a feed: its right is gone, or an operation that takes it is under way.

use crate::{
    readers::{feeds::trusts, systems::signs_for},
    store::{
        Store,
        alerts::{Danger, LastSigner},
        events::EventKind,
    },
};
use alloy::primitives::Address;
use dalp_domain::{ChainReader, ReadError, chain::bounded};
use dalp_engine::{OrderView, Reader, ServiceName};
use uuid::Uuid;

use super::WatchError;

/// Whose operations change keys and trust.
const ADMINISTRATOR: &str = "svc-compliance";
/// Its operations that take a right away.
const WITHDRAWALS: [&str; 2] = ["identity.remove_key", "issuer.remove"];
/// Operations that are looked at together.
const AT_ONCE: u32 = 1_000;

/// How many feeds are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Endangered {
    /// Their last signer has lost its right.
    pub(super) lost: usize,
    /// Their last signer is about to.
    pub(super) losing: usize,
}

/// A right that an operation under way takes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Withdrawal {
    tenant: String,
    operation_id: Uuid,
    chain_id: u64,
    of: Right,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// The CLAIM purpose of a key on an identity.
    Claim { identity: Address, key: Address },
    /// A registry's trust in an issuer.
    Trust { registry: Address, issuer: Address },
}

/// Judges everybody who signed last on a feed that speaks for a pair, and tells what has changed.
pub(super) async fn judge(store: &Store, chain: &ChainReader, operations: &Reader) -> Result<Endangered, WatchError> {
    let chain_id = chain.chain_id();
    let signers = store.last_signers(chain_id).await?;
    let judged = bounded(signers.iter().map(|last| async { Ok(lost(chain, last).await?) }));
    let judged = judged.await.map_err(WatchError::Chain)?;
    let ordered = operations.orders_under_way(&ServiceName::new(ADMINISTRATOR), &WITHDRAWALS, AT_ONCE).await?;
    let ordered: Vec<Withdrawal> = ordered.iter().filter_map(Withdrawal::of).collect();
    let mut endangered = Endangered::default();
    for (last, gone) in signers.iter().zip(judged) {
        let danger = match gone {
            Some(why) => Some(Danger { kind: EventKind::SignerLost, why, operation_id: None }),
            None => ordered.iter().find(|one| one.concerns(chain_id, last)).map(Withdrawal::danger),
        };
        match danger.as_ref().map(|danger| danger.kind) {
            None => {}
            Some(EventKind::SignerLosing) => endangered.losing += 1,
            Some(_) => endangered.lost += 1,
        }
        store.judge_signer(chain_id, last, danger.as_ref()).await?;
    }
    Ok(endangered)
}

/// Why the feed would refuse the next update of its last signer.
async fn lost(chain: &ChainReader, last: &LastSigner) -> Result<Option<&'static str>, ReadError> {
    if !trusts(chain, last.registry, last.issuer, last.pair).await? {
        return Ok(Some("the issuer is not trusted for the topic any more"));
    }
    let signs = signs_for(chain, last.issuer, last.signer).await?;
    Ok((!signs).then_some("the key has no CLAIM purpose on the issuer's identity any more"))
}

// === impl Withdrawal ===

impl Withdrawal {
    /// Of an order that takes a right away.
    fn of(order: &OrderView) -> Option<Self> {
        let address = |path: &str| order.order.pointer(path)?.as_str()?.parse::<Address>().ok();
        let of = match order.kind.as_str() {
            "identity.remove_key" if order.order.pointer("/command/purpose")? == "claim" => {
                Right::Claim { identity: address("/identity")?, key: address("/command/key")? }
            }
            "issuer.remove" => Right::Trust { registry: address("/registry")?, issuer: address("/issuer_identity")? },
            _ => return None,
        };
        Some(Self {
            tenant: order.tenant.as_str().to_owned(),
            operation_id: order.operation_id.0,
            chain_id: order.order.pointer("/chain_id")?.as_u64()?,
            of,
        })
    }

    fn concerns(&self, chain_id: u64, last: &LastSigner) -> bool {
        let right = match self.of {
            Right::Claim { identity, key } => (identity, key) == (last.issuer, last.signer),
            Right::Trust { registry, issuer } => (registry, issuer) == (last.registry, last.issuer),
        };
        right && self.chain_id == chain_id && self.tenant == last.tenant
    }

    fn danger(&self) -> Danger {
        let why = match self.of {
            Right::Claim { .. } => "an operation takes the CLAIM purpose from the key",
            Right::Trust { .. } => "an operation takes the registry's trust from the issuer",
        };
        Danger { kind: EventKind::SignerLosing, why, operation_id: Some(self.operation_id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::feed::Pair;
    use alloy::primitives::U256;
    use dalp_engine::{OperationId, TenantId};
    use serde_json::Value;

    /// An order as svc-compliance has stored it; its kinds are released, so it stays readable.
    fn order(history: &str) -> OrderView {
        let history: Value = serde_json::from_str(history).unwrap();
        OrderView {
            tenant: TenantId::new("acme"),
            operation_id: OperationId(Uuid::from_u128(1)),
            kind: history["kind"].as_str().unwrap().to_owned(),
            order: history["order"].clone(),
        }
    }

    fn address(value: &Value) -> Address {
        value.as_str().unwrap().parse().unwrap()
    }

    #[test]
    fn an_order_concerns_whom_it_takes_a_right_from() {
        let key = order(include_str!("../../../svc-compliance/tests/histories/identity.remove_key.json"));
        let trust = order(include_str!("../../../svc-compliance/tests/histories/issuer.remove.json"));
        let of_key = LastSigner {
            tenant: "acme".into(),
            feed: Address::ZERO,
            pair: Pair { subject: Address::ZERO, topic_id: U256::ZERO },
            registry: Address::repeat_byte(9),
            issuer: address(&key.order["identity"]),
            signer: address(&key.order["command"]["key"]),
        };
        let of_issuer = LastSigner {
            registry: address(&trust.order["registry"]),
            issuer: address(&trust.order["issuer_identity"]),
            ..of_key.clone()
        };
        let chain_id = key.order["chain_id"].as_u64().unwrap();
        let (key, trust) = (Withdrawal::of(&key).unwrap(), Withdrawal::of(&trust).unwrap());
        assert!(key.concerns(chain_id, &of_key) && !key.concerns(chain_id, &of_issuer));
        assert!(trust.concerns(chain_id, &of_issuer) && !trust.concerns(chain_id, &of_key));
        assert!(!key.concerns(chain_id + 1, &of_key), "on another chain");
        assert!(!key.concerns(chain_id, &LastSigner { tenant: "rival".into(), ..of_key }), "of another tenant");
        assert_eq!(key.danger().operation_id, Some(Uuid::from_u128(1)));
    }

    #[test]
    fn other_orders_take_nothing() {
        let key = order(include_str!("../../../svc-compliance/tests/histories/identity.remove_key.json"));
        let mut management = key.clone();
        management.order["command"]["purpose"] = "management".into();
        let mut added = key;
        added.kind = "identity.add_key".into();
        assert_eq!([Withdrawal::of(&management), Withdrawal::of(&added)], [None, None]);
    }
}
