//! A provider that numbers, prices and broadcasts by itself: it hesitates, refuses, stops what its policy dislikes, sends again at a higher price under another hash, and
//! takes longer than anybody would like.

use super::{
    ledger::Ledger,
    rng::Rng,
    signer::Decision,
    world::{Plan, World, locked},
};
use crate::{
    custody::KeyProvider,
    flow::Failure,
    model::RequestId,
    signer::{ProviderCall, ProviderStage, ProviderWord, SignError, SignOutcome, UnsignedTransaction},
};
use alloy::primitives::B256;
use dalp_chain::Fees;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Above what any block asks for.
const PRICE_WEI: u128 = 1_000_000_000_000;

#[derive(Debug, Clone)]
struct Ordered {
    call: ProviderCall,
    decision: Decision,
    decided_at: Instant,
    blocked: bool,
    /// Given up when asked to, while it is undecided.
    gives_up: bool,
    withdrawn: bool,
    /// The signer never answers about it, while faults last.
    deaf: bool,
    nonce: Option<u64>,
    /// Hashes under which it was sent.
    versions: Vec<B256>,
    price_wei: u128,
    /// The hash that it tells now, and whether it says that it failed.
    told: Option<(B256, bool)>,
}

/// What the provider has: it survives the engines.
#[derive(Default)]
pub(super) struct Custody {
    orders: BTreeMap<RequestId, Ordered>,
}

// === impl Custody ===

impl Custody {
    /// Takes an order. `Err`: another content under a known id.
    pub(super) fn take(&mut self, world: &World, id: RequestId, call: &ProviderCall) -> Result<(), SignError> {
        if let Some(known) = self.orders.get(&id) {
            if known.call == *call {
                return Ok(());
            }
            world.violated(format!("request {id} with another content"));
            return Err(SignError::Refused(Failure::new("REQUEST_ID_REUSED", "")));
        }
        let now = Instant::now();
        let order = world.draw(|rng, plan| {
            let late = now + Duration::from_millis(rng.between(200, 15_000));
            let held = rng.per_mille(plan.hold);
            Ordered {
                call: call.clone(),
                decision: if rng.per_mille(plan.deny) {
                    rng.pick(&[Decision::Denied, Decision::Expired])
                } else {
                    Decision::Approved
                },
                decided_at: if held { late } else { now },
                blocked: held && rng.per_mille(300),
                gives_up: rng.per_mille(500),
                withdrawn: false,
                deaf: rng.per_mille(plan.sign_deaf),
                nonce: None,
                versions: Vec::new(),
                price_wei: PRICE_WEI,
                told: None,
            }
        });
        if order.decided_at > now {
            world.saw("held by a provider");
        }
        world.note(|| format!("provider: {id} taken: {:?} after {:?}", order.decision, order.decided_at - now));
        self.orders.insert(id, order);
        Ok(())
    }

    pub(super) fn is_deaf(&self, id: RequestId) -> bool {
        self.orders.get(&id).is_some_and(|one| one.deaf)
    }

    pub(super) fn outcome(&self, id: RequestId) -> Result<SignOutcome, SignError> {
        let Some(one) = self.orders.get(&id) else { return Err(SignError::NotFound) };
        let word = |stage| {
            Ok(SignOutcome::ByProvider(ProviderWord {
                provider: Some(KeyProvider::Fireblocks),
                provider_id: format!("tx-{id}"),
                stage,
                detail: "simulated".to_owned(),
            }))
        };
        match (one.decision, one.told) {
            _ if one.withdrawn => Ok(SignOutcome::Denied(Failure::new("WITHDRAWN", "simulated"))),
            (_, Some((hash, false))) => word(ProviderStage::Sent(hash)),
            (_, Some((hash, true))) => word(ProviderStage::Failed(hash)),
            _ if one.decided_at > Instant::now() => {
                word(if one.blocked { ProviderStage::Blocked } else { ProviderStage::Held })
            }
            (Decision::Approved, None) => word(ProviderStage::Working),
            (Decision::Denied, None) => Ok(SignOutcome::Denied(Failure::new("APPROVAL_DENIED", "simulated"))),
            (Decision::Expired, None) => Ok(SignOutcome::Expired(Failure::new("APPROVAL_EXPIRED", "simulated"))),
        }
    }

    pub(super) fn withdraw(&mut self, world: &World, id: RequestId) -> Result<SignOutcome, SignError> {
        if let Some(one) = self.orders.get_mut(&id) {
            let open = one.decided_at > Instant::now() && one.versions.is_empty();
            if open && one.gives_up {
                one.withdrawn = true;
                world.saw("given up by a provider");
            }
        }
        self.outcome(id)
    }

    /// What the provider does on its own, before each block: sends what was approved, sends again what a pool has lost, makes some dearer, and looks at what blocks have.
    pub(super) fn work(&mut self, ledger: &mut Ledger, rng: &mut Rng, plan: &Plan) -> Vec<&'static str> {
        let mut seen = Vec::new();
        for one in self.orders.values_mut() {
            let approved = one.decision == Decision::Approved && one.decided_at <= Instant::now() && !one.withdrawn;
            if !approved {
                continue;
            }
            let sender = one.call.sender;
            let next = ledger.next_nonce(sender);
            let Some(nonce) = one.nonce else {
                // Sent once the provider comes to it.
                if !rng.per_mille(300) {
                    one.nonce = Some(ledger.behind_pool(sender, next));
                    one.send(ledger);
                    seen.push("sent by a provider");
                }
                continue;
            };
            let mined = one.versions.iter().find_map(|hash| Some((*hash, ledger.receipt_of(*hash)?)));
            match mined {
                Some((hash, succeeded)) => one.told = Some((hash, !succeeded)),
                None if nonce < next => {
                    one.told = one.versions.last().map(|hash| (*hash, true));
                    seen.push("lost by a provider");
                }
                None => {
                    let last = one.versions.last().copied();
                    one.told = last.map(|hash| (hash, false));
                    if rng.per_mille(plan.earlier / 2) {
                        one.price_wei += one.price_wei / 3;
                        one.send(ledger);
                        seen.push("sent again by a provider");
                    } else if !ledger.is_taken(sender, nonce) {
                        one.send(ledger);
                    }
                }
            }
        }
        seen
    }
}

// === impl Ordered ===

impl Ordered {
    fn send(&mut self, ledger: &mut Ledger) {
        let Some(nonce) = self.nonce else { return };
        let ProviderCall { chain_id, sender, target, value_wei, data, .. } = self.call.clone();
        let fees = Fees::Eip1559 { max_fee_wei: self.price_wei, priority_fee_wei: 1 };
        let unsigned =
            UnsignedTransaction { chain_id, sender, nonce, target, value_wei, data, gas_limit: 1_000_000, fees };
        let hash = ledger.send_for(unsigned);
        if !self.versions.contains(&hash) {
            self.versions.push(hash);
        }
        self.told = Some((hash, false));
    }
}

/// Lets the provider work.
pub(super) fn work(world: &World) {
    let mut custody = locked(&world.custody);
    let mut ledger = locked(&world.ledger);
    let seen = world.draw(|rng, plan| custody.work(&mut ledger, rng, plan));
    drop((custody, ledger));
    seen.into_iter().for_each(|what| world.saw(what));
}
