//! A custody provider that numbers, prices and broadcasts by itself, as svc-signer tells of one.

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718 as _,
    network::TxSignerSync as _,
    primitives::{Address, B256, Bytes, TxKind, keccak256},
    signers::local::PrivateKeySigner,
};
use dalp_chain::{BlockNumberOrTag, Upstreams};
use dalp_engine::{
    Failure, RequestId,
    custody::KeyProvider,
    signer::{ProviderCall, ProviderStage, ProviderWord, SignError, SignOutcome},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Mutex,
};

const GWEI: u128 = 1_000_000_000;

/// How an order stands.
#[derive(Debug, Clone, PartialEq)]
enum Standing {
    Held,
    Blocked,
    Approved,
    Denied,
    Expired,
    Withdrawn,
}

#[derive(Debug, Clone)]
struct Order {
    call: ProviderCall,
    standing: Standing,
    nonce: Option<u64>,
    price_wei: u128,
    /// Hashes that it tells, the last one first told last.
    told: Vec<B256>,
    failed: bool,
}

#[derive(Default)]
struct State {
    senders: HashSet<Address>,
    orders: BTreeMap<RequestId, Order>,
    next: BTreeMap<Address, u64>,
    /// New orders wait for people.
    asks_people: bool,
    /// Every third order waits for people.
    asks_for_some: bool,
    /// Orders are taken and never answered.
    is_deaf: bool,
    /// So many answers are lost after the order was taken.
    loses: u32,
    never_gives_up: bool,
}

/// The provider. Its keys are those of the signer.
pub struct Provider {
    keys: HashMap<Address, PrivateKeySigner>,
    chain: Upstreams,
    state: Mutex<State>,
    /// One after the other: a nonce is given and used by one at a time.
    sending: tokio::sync::Mutex<()>,
}

impl Provider {
    pub fn new(keys: &[PrivateKeySigner], chain: Upstreams) -> Self {
        let keys = keys.iter().map(|key| (key.address(), key.clone())).collect();
        Self { keys, chain, state: Mutex::default(), sending: tokio::sync::Mutex::default() }
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("not poisoned"))
    }

    pub fn broadcasts_for(&self, sender: Address) -> bool {
        self.state(|state| state.senders.contains(&sender))
    }

    /// From now on it broadcasts for a sender, or no longer.
    pub fn broadcast_for(&self, sender: Address, on: bool) {
        self.state(|state| if on { state.senders.insert(sender) } else { state.senders.remove(&sender) });
    }

    pub fn ask_people(&self, on: bool) {
        self.state(|state| state.asks_people = on);
    }

    pub fn ask_people_for_every_third(&self) {
        self.state(|state| state.asks_for_some = true);
    }

    pub fn be_deaf(&self, on: bool) {
        self.state(|state| state.is_deaf = on);
    }

    pub fn lose_answers(&self, count: u32) {
        self.state(|state| state.loses = count);
    }

    pub fn never_give_up(&self) {
        self.state(|state| state.never_gives_up = true);
    }

    fn decide(&self, standing: &Standing) {
        self.state(|state| {
            let waiting =
                state.orders.values_mut().filter(|one| matches!(one.standing, Standing::Held | Standing::Blocked));
            waiting.for_each(|one| one.standing = standing.clone());
        });
    }

    pub fn approve(&self) {
        self.decide(&Standing::Approved);
    }
    pub fn deny(&self) {
        self.decide(&Standing::Denied);
    }
    pub fn expire(&self) {
        self.decide(&Standing::Expired);
    }
    pub fn block(&self) {
        self.decide(&Standing::Blocked);
    }

    /// It says of everything that it has sent that it failed.
    pub fn say_failed(&self) {
        self.state(|state| {
            state.orders.values_mut().filter(|one| one.nonce.is_some()).for_each(|one| one.failed = true)
        });
    }

    /// It tells another hash of everything that it has sent, under which nothing was.
    pub fn tell_another_hash(&self) {
        self.state(|state| {
            for one in state.orders.values_mut().filter(|one| one.nonce.is_some()) {
                let another = keccak256(one.told.last().copied().unwrap_or_default());
                one.told.push(another);
            }
        });
    }

    pub fn knows(&self, id: RequestId) -> bool {
        self.state(|state| state.orders.contains_key(&id))
    }

    pub fn orders(&self) -> usize {
        self.state(|state| state.orders.len())
    }

    /// Everything that it has sent is sent again at a higher price.
    pub async fn speed_up(&self) {
        let sent: Vec<RequestId> = self.state(|state| {
            let sent = state.orders.iter_mut().filter(|(_, one)| one.nonce.is_some());
            sent.map(|(id, one)| {
                one.price_wei *= 2;
                *id
            })
            .collect()
        });
        for id in sent {
            self.send(id, false).await;
        }
    }

    /// Takes an order once, and answers as svc-signer does.
    pub async fn hand_over(&self, id: RequestId, call: &ProviderCall) -> Result<SignOutcome, SignError> {
        let (deaf, lost) = self.state(|state| {
            let asks = state.asks_people || (state.asks_for_some && state.orders.len() % 3 == 2);
            let standing = if asks { Standing::Held } else { Standing::Approved };
            let order = Order {
                call: call.clone(),
                standing,
                nonce: None,
                price_wei: 10 * GWEI,
                told: Vec::new(),
                failed: false,
            };
            let known = state.orders.entry(id).or_insert(order);
            assert_eq!(known.call, *call, "another content under a known id");
            let lost = state.loses > 0;
            state.loses = state.loses.saturating_sub(1);
            (state.is_deaf, lost)
        });
        if deaf {
            std::future::pending::<()>().await;
        }
        self.carry_out(id).await;
        if lost {
            return Err(SignError::Unavailable("the answer is lost".to_owned()));
        }
        self.outcome(id)
    }

    pub fn withdraw(&self, id: RequestId) -> Result<SignOutcome, SignError> {
        self.state(|state| {
            let gives_up = !state.never_gives_up;
            if let Some(one) = state.orders.get_mut(&id).filter(|one| gives_up && one.standing == Standing::Held) {
                one.standing = Standing::Withdrawn;
            }
        });
        self.outcome(id)
    }

    async fn carry_out(&self, id: RequestId) {
        // Whoever asks may go away in between: what has its nonce and was not sent is sent by the next who asks.
        let unsent = |one: &&Order| one.standing == Standing::Approved && one.told.is_empty();
        if self.state(|state| state.orders.get(&id).filter(unsent).is_none()) {
            return;
        }
        let _one_at_a_time = self.sending.lock().await;
        let Some((sender, nonce)) =
            self.state(|state| state.orders.get(&id).filter(unsent).map(|one| (one.call.sender, one.nonce)))
        else {
            return;
        };
        if nonce.is_some() {
            return self.send(id, true).await;
        }
        let on_chain = self.chain.nonce(sender, BlockNumberOrTag::Pending).await.expect("a nonce");
        self.state(|state| {
            let next = state.next.entry(sender).or_default();
            let nonce = on_chain.max(*next);
            *next = nonce + 1;
            if let Some(one) = state.orders.get_mut(&id) {
                one.nonce = Some(nonce);
            }
        });
        self.send(id, false).await;
    }

    /// `again`: it may have arrived before, and be in a block by now.
    async fn send(&self, id: RequestId, again: bool) {
        let order = self.state(|state| state.orders[&id].clone());
        let ProviderCall { chain_id, sender, target, value_wei, data, .. } = order.call;
        let mut transaction = TxEip1559 {
            chain_id,
            nonce: order.nonce.expect("it was numbered"),
            gas_limit: 100_000,
            max_fee_per_gas: order.price_wei,
            max_priority_fee_per_gas: order.price_wei,
            to: target.map_or(TxKind::Create, TxKind::Call),
            value: value_wei,
            input: data,
            access_list: Default::default(),
        };
        let signature = self.keys[&sender].sign_transaction_sync(&mut transaction).expect("signs");
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        let outcome = self.chain.send_raw(Bytes::from(envelope.encoded_2718())).await;
        assert!(again || outcome.is_in_a_pool(), "{outcome:?}");
        self.state(|state| {
            if let Some(one) = state.orders.get_mut(&id) {
                one.told.push(*envelope.tx_hash());
            }
        });
    }

    fn outcome(&self, id: RequestId) -> Result<SignOutcome, SignError> {
        let Some(one) = self.state(|state| state.orders.get(&id).cloned()) else { return Err(SignError::NotFound) };
        let stage = match (&one.standing, one.told.last()) {
            (Standing::Held, _) => ProviderStage::Held,
            (Standing::Blocked, _) => ProviderStage::Blocked,
            (Standing::Approved, None) => ProviderStage::Working,
            (Standing::Approved, Some(hash)) if one.failed => ProviderStage::Failed(*hash),
            (Standing::Approved, Some(hash)) => ProviderStage::Sent(*hash),
            (Standing::Denied, _) => return Ok(SignOutcome::Denied(Failure::new("APPROVAL_DENIED", "no"))),
            (Standing::Expired, _) => return Ok(SignOutcome::Expired(Failure::new("APPROVAL_EXPIRED", "late"))),
            (Standing::Withdrawn, _) => return Ok(SignOutcome::Denied(Failure::new("WITHDRAWN", "asked to"))),
        };
        let (provider_id, detail) = (format!("tx-{id}"), "two of three have approved".to_owned());
        let provider = Some(KeyProvider::Fireblocks);
        Ok(SignOutcome::ByProvider(ProviderWord { provider, provider_id, stage, detail }))
    }
}
