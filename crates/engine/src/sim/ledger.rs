//! A chain in memory: blocks, branches, a pool that forgets, and nodes that see it from somewhere behind.

use super::rng::Rng;
use crate::signer::UnsignedTransaction;
use alloy::primitives::{Address, B256, Bytes, U256, address, keccak256};
use dalp_chain::{BlockHeader, Fees, Receipt};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

pub(super) const CHAIN: u64 = 31_337;
/// Takes every call.
pub(super) const PAYEE: Address = address!("00000000000000000000000000000000000000fe");
/// Reverts every call.
pub(super) const REVERTER: Address = address!("00000000000000000000000000000000000000fd");
/// Reverts every call in some blocks and none in others.
pub(super) const MOODY: Address = address!("00000000000000000000000000000000000000fc");

const GWEI: u128 = 1_000_000_000;
/// Further ahead than this a pool takes nothing.
const MOST_AHEAD: u64 = 64;

/// Signed bytes and what they say.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) hash: B256,
    pub(super) unsigned: UnsignedTransaction,
    /// Not signed by the vault: somebody else has the key, too.
    pub(super) outside: bool,
}

#[derive(Debug)]
pub(super) struct Block {
    pub(super) number: u64,
    pub(super) hash: B256,
    parent: B256,
    base_fee_wei: u128,
    pub(super) receipts: Vec<Receipt>,
    /// Next nonces behind this block.
    nonces: BTreeMap<Address, u64>,
}

/// What a node sees: the first so many blocks of a branch.
#[derive(Debug, Clone)]
pub(super) struct View {
    branch: Arc<Vec<Arc<Block>>>,
    length: usize,
}

/// How a node answers to a send, before anything of the way there and back is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Accepted,
    AlreadyKnown,
    NonceTooLow,
    NonceTooHigh,
    Underpriced,
    ReplacementUnderpriced,
}

pub(super) struct Ledger {
    depth: u64,
    pub(super) blocks: Vec<Arc<Block>>,
    /// The same, to be looked at.
    branch: Arc<Vec<Arc<Block>>>,
    /// The branch that stood here before the last reorg.
    stale: Option<Arc<Vec<Arc<Block>>>>,
    pool: BTreeMap<(Address, u64), Arc<Sent>>,
    /// Everything that any node ever got, oldest first.
    known: BTreeMap<(Address, u64), Vec<Arc<Sent>>>,
    by_hash: HashMap<B256, Arc<Sent>>,
    salt: u64,
}

/// Bytes of a signed transaction. Whoever signs the same twice gets the same bytes.
pub(super) fn encode(unsigned: &UnsignedTransaction) -> Bytes {
    let (max_fee_wei, priority_fee_wei) = prices(&unsigned.fees);
    let mut bytes = Vec::with_capacity(160 + unsigned.data.len());
    bytes.extend_from_slice(unsigned.sender.as_slice());
    bytes.extend_from_slice(&unsigned.nonce.to_be_bytes());
    bytes.push(u8::from(unsigned.target.is_some()));
    bytes.extend_from_slice(unsigned.target.unwrap_or_default().as_slice());
    bytes.extend_from_slice(&unsigned.value_wei.to_be_bytes::<32>());
    bytes.extend_from_slice(&unsigned.gas_limit.to_be_bytes());
    bytes.extend_from_slice(&max_fee_wei.to_be_bytes());
    bytes.extend_from_slice(&priority_fee_wei.to_be_bytes());
    bytes.extend_from_slice(&unsigned.data);
    bytes.into()
}

fn decode(raw: &[u8]) -> Option<UnsignedTransaction> {
    let number = |range: std::ops::Range<usize>| raw.get(range)?.try_into().ok().map(u64::from_be_bytes);
    let price = |range: std::ops::Range<usize>| raw.get(range)?.try_into().ok().map(u128::from_be_bytes);
    let has_target = *raw.get(28)? == 1;
    Some(UnsignedTransaction {
        chain_id: CHAIN,
        sender: Address::from_slice(raw.get(0..20)?),
        nonce: number(20..28)?,
        target: has_target.then(|| raw.get(29..49).map(Address::from_slice)).flatten(),
        value_wei: U256::from_be_slice(raw.get(49..81)?),
        gas_limit: number(81..89)?,
        fees: Fees::Eip1559 { max_fee_wei: price(89..105)?, priority_fee_wei: price(105..121)? },
        data: Bytes::copy_from_slice(raw.get(121..)?),
    })
}

fn prices(fees: &Fees) -> (u128, u128) {
    match *fees {
        Fees::Eip1559 { max_fee_wei, priority_fee_wei } => (max_fee_wei, priority_fee_wei),
        Fees::Legacy { gas_price_wei } => (gas_price_wei, gas_price_wei),
    }
}

/// Whether a call reverts in a block.
pub(super) fn reverts(target: Option<Address>, block_number: u64) -> bool {
    target == Some(REVERTER) || (target == Some(MOODY) && (block_number / 5) % 3 == 1)
}

/// Gas that a call needs.
pub(super) fn gas_needed(target: Option<Address>, data_length: usize) -> u64 {
    21_000 + 16 * data_length as u64 + if target == Some(MOODY) { 5_000 } else { 0 }
}

// === impl Ledger ===

impl Ledger {
    pub(super) fn new(depth: u64) -> Self {
        let mut ledger = Self {
            depth,
            blocks: Vec::new(),
            branch: Arc::default(),
            stale: None,
            pool: BTreeMap::new(),
            known: BTreeMap::new(),
            by_hash: HashMap::new(),
            salt: 0,
        };
        for _ in 0..=depth + 2 {
            ledger.append(&[], 10 * GWEI);
        }
        ledger.branch = Arc::new(ledger.blocks.clone());
        ledger
    }

    fn append(&mut self, transactions: &[Arc<Sent>], base_fee_wei: u128) {
        self.salt += 1;
        let number = self.blocks.len() as u64;
        let mut hash = B256::ZERO;
        hash.0[..8].copy_from_slice(&self.salt.to_be_bytes());
        hash.0[24..].copy_from_slice(&number.to_be_bytes());
        let (parent, mut nonces) = self.blocks.last().map(|last| (last.hash, last.nonces.clone())).unwrap_or_default();
        let mut receipts = Vec::with_capacity(transactions.len());
        for (index, sent) in transactions.iter().enumerate() {
            let unsigned = &sent.unsigned;
            nonces.insert(unsigned.sender, unsigned.nonce + 1);
            let needed = gas_needed(unsigned.target, unsigned.data.len());
            receipts.push(Receipt {
                transaction_hash: sent.hash,
                transaction_index: index as u64,
                block_hash: hash,
                block_number: number,
                from: unsigned.sender,
                to: unsigned.target,
                contract_address: None,
                succeeded: !reverts(unsigned.target, number) && needed <= unsigned.gas_limit,
                gas_used: needed.min(unsigned.gas_limit),
                effective_gas_price_wei: Some(base_fee_wei),
                logs: Vec::new(),
                revert_reason: None,
            });
        }
        self.blocks.push(Arc::new(Block { number, hash, parent, base_fee_wei, receipts, nonces }));
    }

    pub(super) fn depth(&self) -> u64 {
        self.depth
    }

    /// The next nonce behind what the pool holds.
    pub(super) fn behind_pool(&self, sender: Address, from: u64) -> u64 {
        (from..).find(|nonce| !self.pool.contains_key(&(sender, *nonce))).unwrap_or(from)
    }

    pub(super) fn head(&self) -> &Block {
        self.blocks.last().expect("a chain has a first block")
    }

    pub(super) fn next_nonce(&self, sender: Address) -> u64 {
        self.head().next_nonce(sender)
    }

    pub(super) fn pool_is_empty(&self) -> bool {
        let waits = |((sender, nonce), _): (&(Address, u64), &Arc<Sent>)| *nonce >= self.next_nonce(*sender);
        !self.pool.iter().any(waits)
    }

    /// Whether a block can never disappear any more.
    pub(super) fn is_final(&self, number: u64, hash: B256) -> bool {
        let stands = self.blocks.get(number as usize).is_some_and(|block| block.hash == hash);
        stands && number + self.depth <= self.head().number
    }

    pub(super) fn transaction(&self, hash: B256) -> Option<&Arc<Sent>> {
        self.by_hash.get(&hash)
    }

    /// What a node sees that is some blocks behind, or on a branch that has disappeared.
    pub(super) fn view(&self, behind: usize, stale: bool) -> View {
        let branch = self.stale.as_ref().filter(|_| stale).unwrap_or(&self.branch).clone();
        View { length: branch.len().saturating_sub(behind).max(1), branch }
    }

    /// Takes bytes into the pool, if a node would.
    pub(super) fn take(&mut self, raw: &Bytes) -> Option<Taken> {
        let unsigned = decode(raw)?;
        let hash = keccak256(raw);
        let key = (unsigned.sender, unsigned.nonce);
        let next = self.next_nonce(unsigned.sender);
        if unsigned.nonce < next {
            return Some(Taken::NonceTooLow);
        }
        if unsigned.nonce > next + MOST_AHEAD {
            return Some(Taken::NonceTooHigh);
        }
        let (max_fee_wei, _) = prices(&unsigned.fees);
        if max_fee_wei < self.head().base_fee_wei {
            return Some(Taken::Underpriced);
        }
        if let Some(held) = self.pool.get(&key) {
            if held.hash == hash {
                return Some(Taken::AlreadyKnown);
            }
            let (held_wei, _) = prices(&held.unsigned.fees);
            if held.outside || max_fee_wei * 10 < held_wei * 11 {
                return Some(Taken::ReplacementUnderpriced);
            }
        }
        self.enter(Arc::new(Sent { hash, unsigned, outside: false }));
        Some(Taken::Accepted)
    }

    /// Remembers bytes that a node got and did not keep: somebody may still have them.
    pub(super) fn remember(&mut self, raw: &Bytes) {
        if let Some(unsigned) = decode(raw) {
            let sent = Arc::new(Sent { hash: keccak256(raw), unsigned, outside: false });
            self.learn(&sent);
        }
    }

    fn learn(&mut self, sent: &Arc<Sent>) {
        if self.by_hash.insert(sent.hash, sent.clone()).is_none() {
            self.known.entry((sent.unsigned.sender, sent.unsigned.nonce)).or_default().push(sent.clone());
        }
    }

    fn enter(&mut self, sent: Arc<Sent>) {
        self.learn(&sent);
        self.pool.insert((sent.unsigned.sender, sent.unsigned.nonce), sent);
    }

    /// Takes what a provider sends, whatever a pool holds for its nonce, unless that is somebody else's.
    pub(super) fn send_for(&mut self, unsigned: UnsignedTransaction) -> B256 {
        let hash = keccak256(encode(&unsigned));
        let sent = Arc::new(Sent { hash, unsigned, outside: false });
        let held = self.pool.get(&(sent.unsigned.sender, sent.unsigned.nonce));
        if held.is_some_and(|held| held.outside) {
            self.learn(&sent);
        } else {
            self.enter(sent);
        }
        hash
    }

    /// Whether the pool holds anything for a nonce.
    pub(super) fn is_taken(&self, sender: Address, nonce: u64) -> bool {
        self.pool.contains_key(&(sender, nonce))
    }

    /// Whether a block of the chain that stands has it, and whether it succeeded there.
    pub(super) fn receipt_of(&self, hash: B256) -> Option<bool> {
        let mut receipts = self.blocks.iter().rev().flat_map(|block| &block.receipts);
        receipts.find(|receipt| receipt.transaction_hash == hash).map(|receipt| receipt.succeeded)
    }

    /// Somebody else uses the key, with a nonce that the chain would take next.
    pub(super) fn send_outside(&mut self, sender: Address) {
        let nonce = self.next_nonce(sender);
        self.salt += 1;
        let unsigned = UnsignedTransaction {
            chain_id: CHAIN,
            sender,
            nonce,
            target: Some(PAYEE),
            value_wei: U256::from(7),
            data: format!("outside {}", self.salt).into_bytes().into(),
            gas_limit: 100_000,
            fees: Fees::Eip1559 { max_fee_wei: 10_000 * GWEI, priority_fee_wei: GWEI },
        };
        let hash = keccak256(encode(&unsigned));
        self.enter(Arc::new(Sent { hash, unsigned, outside: true }));
    }

    /// A pool forgets one of ours. Returns whether there was any.
    pub(super) fn forget_one(&mut self, rng: &mut Rng) -> bool {
        let ours: Vec<_> = self.pool.iter().filter(|(_, sent)| !sent.outside).map(|(key, _)| *key).collect();
        if ours.is_empty() {
            return false;
        }
        self.pool.remove(&rng.pick(&ours));
        true
    }

    /// A further block: of what the pool holds, in order, some is left out, and for some an earlier version is taken.
    pub(super) fn mine(&mut self, rng: &mut Rng, left_out: u64, earlier: u64) {
        let base_fee_wei = self.head().base_fee_wei;
        let base_fee_wei = (base_fee_wei * u128::from(rng.between(800, 1_220)) / 1_000).clamp(5 * GWEI, 60 * GWEI);
        let senders: Vec<Address> = self.pool.keys().map(|(sender, _)| *sender).collect();
        let mut chosen: Vec<Arc<Sent>> = Vec::new();
        let mut last = None;
        for sender in senders {
            if last == Some(sender) {
                continue;
            }
            last = Some(sender);
            let mut nonce = self.next_nonce(sender);
            while let Some(held) = self.pool.get(&(sender, nonce)) {
                let mut sent = held.clone();
                let versions = self.known.get(&(sender, nonce)).map(Vec::as_slice).unwrap_or_default();
                if rng.per_mille(earlier) && !versions.is_empty() {
                    sent = versions[rng.below(versions.len() as u64) as usize].clone();
                }
                if prices(&sent.unsigned.fees).0 < base_fee_wei || rng.per_mille(left_out) {
                    break;
                }
                chosen.push(sent);
                nonce += 1;
            }
        }
        self.append(&chosen, base_fee_wei);
        self.pool.retain(|(sender, nonce), _| {
            let next = self.blocks.last().map_or(0, |block| block.next_nonce(*sender));
            *nonce >= next
        });
        self.branch = Arc::new(self.blocks.clone());
    }

    /// Another branch takes the place of the last blocks. What stood in them goes back to the pool or is forgotten, but
    /// somebody else's transaction only makes way for one of ours. Returns how many blocks disappeared.
    pub(super) fn reorg(&mut self, rng: &mut Rng, earlier: u64) -> usize {
        if self.depth == 0 {
            return 0;
        }
        let gone = rng.between(1, self.depth) as usize;
        self.stale = Some(self.branch.clone());
        let removed = self.blocks.split_off(self.blocks.len() - gone);
        for receipt in removed.iter().flat_map(|block| &block.receipts) {
            let sent = self.by_hash[&receipt.transaction_hash].clone();
            let key = (sent.unsigned.sender, sent.unsigned.nonce);
            let ours = self.known[&key].iter().rfind(|one| !one.outside).cloned();
            match ours {
                _ if rng.per_mille(700) => self.pool.insert(key, sent),
                Some(ours) if sent.outside => self.pool.insert(key, ours),
                None => self.pool.insert(key, sent),
                Some(_) => self.pool.remove(&key),
            };
        }
        for _ in 0..=gone {
            self.mine(rng, 300, earlier);
        }
        gone
    }
}

// === impl View ===

impl std::ops::Deref for View {
    type Target = [Arc<Block>];
    fn deref(&self) -> &Self::Target {
        &self.branch[..self.length]
    }
}

// === impl Block ===

impl Block {
    pub(super) fn next_nonce(&self, sender: Address) -> u64 {
        self.nonces.get(&sender).copied().unwrap_or(0)
    }

    pub(super) fn base_fee_wei(&self) -> u128 {
        self.base_fee_wei
    }

    pub(super) fn header(&self) -> BlockHeader {
        BlockHeader {
            number: self.number,
            hash: self.hash,
            parent_hash: self.parent,
            timestamp_s: self.number,
            base_fee_wei: Some(self.base_fee_wei),
            gas_limit: 30_000_000,
            transactions: self.receipts.iter().map(|receipt| receipt.transaction_hash).collect(),
        }
    }
}
