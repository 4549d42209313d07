//! Pool, blocks and nonces. Pure: told the time, and what came.

use std::collections::{BTreeMap, HashMap};

use alloy::consensus::{Header as ConsensusHeader, ReceiptEnvelope, Transaction as _, TxEnvelope};
use alloy::eips::eip2718::Decodable2718 as _;
use alloy::primitives::{Address, B256, Bytes, Log as EventLog, TxKind, U256};
use alloy::rpc::types::{Block, BlockTransactions, Header, Log, Transaction, TransactionReceipt};
use alloy::sol;
use alloy::sol_types::{SolCall as _, SolEvent as _};

/// What every transaction uses, if its limit allows.
const GAS_USED: u64 = 90_000;
const LEAST_GAS: u64 = 21_000;
pub(super) const BLOCK_GAS_LIMIT: u64 = 1_000_000_000;
pub(super) const BASE_FEE_WEI: u64 = 1_000_000_000;
/// A replacement pays at least this much more, as nodes ask.
const BUMP_PERCENT: u128 = 10;

sol! {
    event Transfer(address indexed from, address indexed to, uint256 value);
    function transfer(address to, uint256 amount) external returns (bool);
}

/// Why a node does not take a transaction, in its words.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("failed to decode signed transaction")]
    Undecodable,
    #[error("invalid chain id for signer: have {found} want {wanted}")]
    WrongChain { found: u64, wanted: u64 },
    #[error("already known")]
    AlreadyKnown,
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow { next: u64, nonce: u64 },
    #[error("replacement transaction underpriced")]
    Underpriced,
    #[error("max fee per gas less than block base fee")]
    BelowBaseFee,
    #[error("intrinsic gas too low")]
    TooLittleGas,
    #[error("exceeds block gas limit")]
    TooMuchGas,
}

/// A transaction whose signature was checked.
pub(super) struct Signed {
    pub(super) hash: B256,
    pub(super) sender: Address,
    envelope: TxEnvelope,
}

/// A transaction in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    /// Its hash.
    pub hash: B256,
    /// Who signed it.
    pub sender: Address,
    /// The sender's counter.
    pub nonce: u64,
    /// Who was called.
    pub target: Option<Address>,
    /// With what.
    pub data: Bytes,
    /// In which block.
    pub block: u64,
}

pub(super) struct Book {
    chain_id: u64,
    /// Height and hash of the block that the first own one stands on.
    below: (u64, B256),
    blocks: Vec<Mined>,
    numbers: HashMap<B256, u64>,
    accounts: HashMap<Address, Account>,
    transactions: HashMap<B256, Known>,
}

struct Mined {
    header: Header,
    transactions: Vec<B256>,
}

struct Account {
    next: u64,
    /// (block, next nonce after it): where it stood at first, and where it changed.
    history: Vec<(u64, u64)>,
    pool: BTreeMap<u64, B256>,
}

struct Known {
    signed: Signed,
    place: Option<Place>,
}

/// Where in the chain a transaction stands.
#[derive(Clone, Copy)]
struct Place {
    block: u64,
    index: u64,
    /// Events of the block before its own.
    logs_before: u64,
    gas_before: u64,
}

// === impl Signed ===

impl Signed {
    /// Decodes raw bytes and recovers their signer.
    pub(super) fn decode(raw: &[u8]) -> Result<Self, Refusal> {
        let mut rest = raw;
        let envelope = TxEnvelope::decode_2718(&mut rest).map_err(|_| Refusal::Undecodable)?;
        let sender = envelope
            .signature()
            .recover_address_from_prehash(&envelope.signature_hash())
            .map_err(|_| Refusal::Undecodable)?;
        Ok(Self { hash: *envelope.tx_hash(), sender, envelope })
    }

    fn event(&self) -> Option<EventLog> {
        let call = transferCall::abi_decode(self.envelope.input()).ok()?;
        let event = Transfer { from: self.sender, to: call.to, value: call.amount };
        Some(EventLog { address: self.envelope.to()?, data: event.encode_log_data() })
    }

    fn gas_used(&self) -> u64 {
        self.envelope.gas_limit().min(GAS_USED)
    }
}

// === impl Account ===

impl Account {
    fn at(next: u64) -> Self {
        Self { next, history: vec![(0, next)], pool: BTreeMap::new() }
    }
}

// === impl Book ===

impl Book {
    /// Continues above a block of another chain; with height 0, block 0 is this chain's own.
    pub(super) fn new(chain_id: u64, height: u64, hash: B256) -> Self {
        let mut book = Self {
            chain_id,
            below: (height, hash),
            blocks: Vec::new(),
            numbers: HashMap::new(),
            accounts: HashMap::new(),
            transactions: HashMap::new(),
        };
        if hash.is_zero() {
            book.append(header(0, B256::ZERO), Vec::new());
        }
        book
    }

    pub(super) fn head(&self) -> u64 {
        self.blocks.last().map_or(self.below.0, |block| block.header.inner.number)
    }

    /// Whether a block is of this chain's own.
    pub(super) fn is_own(&self, number: u64) -> bool {
        self.position(number).is_some()
    }

    pub(super) fn number_of(&self, hash: B256) -> Option<u64> {
        self.numbers.get(&hash).copied()
    }

    pub(super) fn knows_account(&self, account: Address) -> bool {
        self.accounts.contains_key(&account)
    }

    /// What the chain behind says of an account that this one has not seen.
    pub(super) fn introduce(&mut self, account: Address, nonce: u64) {
        self.accounts.entry(account).or_insert_with(|| Account::at(nonce));
    }

    /// Takes a transaction into the pool.
    pub(super) fn submit(&mut self, signed: Signed) -> Result<B256, Refusal> {
        let (envelope, hash) = (&signed.envelope, signed.hash);
        if let Some(found) = envelope.chain_id().filter(|found| *found != self.chain_id) {
            return Err(Refusal::WrongChain { found, wanted: self.chain_id });
        }
        if self.transactions.contains_key(&hash) {
            return Err(Refusal::AlreadyKnown);
        }
        if envelope.gas_limit() < LEAST_GAS {
            return Err(Refusal::TooLittleGas);
        }
        if envelope.gas_limit() > BLOCK_GAS_LIMIT {
            return Err(Refusal::TooMuchGas);
        }
        if envelope.max_fee_per_gas() < u128::from(BASE_FEE_WEI) {
            return Err(Refusal::BelowBaseFee);
        }
        let account = self.accounts.entry(signed.sender).or_insert_with(|| Account::at(0));
        let nonce = envelope.nonce();
        if nonce < account.next {
            return Err(Refusal::NonceTooLow { next: account.next, nonce });
        }
        if let Some(before) = account.pool.get(&nonce) {
            let outbid = self.transactions.get(before).is_none_or(|known| outbids(envelope, &known.signed.envelope));
            if !outbid {
                return Err(Refusal::Underpriced);
            }
            self.transactions.remove(before);
        }
        account.pool.insert(nonce, hash);
        self.transactions.insert(hash, Known { signed, place: None });
        Ok(hash)
    }

    /// Makes a block of everything that can be executed.
    pub(super) fn mine(&mut self, now_s: u64) {
        let number = self.head() + 1;
        let mut hashes = Vec::new();
        let mut senders: Vec<&mut Account> =
            self.accounts.values_mut().filter(|account| account.pool.contains_key(&account.next)).collect();
        senders.sort_by_key(|account| account.pool.get(&account.next).copied()); // one order for one pool
        for account in senders {
            while let Some(hash) = account.pool.remove(&account.next) {
                account.next += 1;
                hashes.push(hash);
            }
            account.history.push((number, account.next));
        }
        let (mut gas_before, mut logs_before) = (0, 0);
        for (index, hash) in (0..).zip(&hashes) {
            if let Some(known) = self.transactions.get_mut(hash) {
                known.place = Some(Place { block: number, index, logs_before, gas_before });
                gas_before += known.signed.gas_used();
                logs_before += u64::from(known.signed.event().is_some());
            }
        }
        let (parent, parent_s) =
            self.blocks.last().map_or((self.below.1, 0), |block| (block.header.hash, block.header.inner.timestamp));
        let timestamp = now_s.max(parent_s + 1);
        let next = ConsensusHeader { timestamp, gas_used: gas_before, ..header(number, parent) };
        self.append(next, hashes);
    }

    fn append(&mut self, header: ConsensusHeader, transactions: Vec<B256>) {
        let header = Header::new(header);
        self.numbers.insert(header.hash, header.inner.number);
        self.blocks.push(Mined { header, transactions });
    }

    fn position(&self, number: u64) -> Option<usize> {
        let first = self.blocks.first()?.header.inner.number;
        usize::try_from(number.checked_sub(first)?).ok().filter(|position| *position < self.blocks.len())
    }

    fn mined(&self, number: u64) -> Option<&Mined> {
        self.position(number).map(|position| &self.blocks[position])
    }

    /// A block as a node tells of it, with whole transactions or their hashes.
    pub(super) fn block(&self, number: u64, whole: bool) -> Option<Block> {
        let mined = self.mined(number)?;
        let transactions = if whole {
            BlockTransactions::Full(mined.transactions.iter().filter_map(|hash| self.transaction(*hash)).collect())
        } else {
            BlockTransactions::Hashes(mined.transactions.clone())
        };
        Some(Block { header: mined.header.clone(), uncles: Vec::new(), transactions, withdrawals: None })
    }

    pub(super) fn transaction(&self, hash: B256) -> Option<Transaction> {
        let known = self.transactions.get(&hash)?;
        let header = known.place.and_then(|place| self.mined(place.block)).map(|mined| &mined.header);
        Some(Transaction {
            inner: alloy::consensus::transaction::Recovered::new_unchecked(
                known.signed.envelope.clone(),
                known.signed.sender,
            ),
            block_hash: header.map(|header| header.hash),
            block_number: header.map(|header| header.inner.number),
            transaction_index: known.place.map(|place| place.index),
            effective_gas_price: Some(known.signed.envelope.effective_gas_price(Some(BASE_FEE_WEI))),
            block_timestamp: header.map(|header| header.inner.timestamp),
        })
    }

    /// Whether it was ever taken and not replaced.
    pub(super) fn knows_transaction(&self, hash: B256) -> bool {
        self.transactions.contains_key(&hash)
    }

    pub(super) fn receipt(&self, hash: B256) -> Option<TransactionReceipt> {
        let known = self.transactions.get(&hash)?;
        let place = known.place?;
        let mined = self.mined(place.block)?;
        let Signed { envelope, sender, .. } = &known.signed;
        let gas_used = known.signed.gas_used();
        let receipt = alloy::consensus::Receipt {
            status: true.into(),
            cumulative_gas_used: place.gas_before + gas_used,
            logs: self.log(hash).into_iter().collect::<Vec<Log>>(),
        };
        Some(TransactionReceipt {
            inner: ReceiptEnvelope::from_typed(envelope.tx_type(), receipt.with_bloom()),
            transaction_hash: hash,
            transaction_index: Some(place.index),
            block_hash: Some(mined.header.hash),
            block_number: Some(place.block),
            gas_used,
            effective_gas_price: envelope.effective_gas_price(Some(BASE_FEE_WEI)),
            blob_gas_used: None,
            blob_gas_price: None,
            from: *sender,
            to: envelope.to(),
            contract_address: (envelope.kind() == TxKind::Create).then(|| sender.create(envelope.nonce())),
        })
    }

    pub(super) fn block_receipts(&self, number: u64) -> Option<Vec<TransactionReceipt>> {
        Some(self.mined(number)?.transactions.iter().filter_map(|hash| self.receipt(*hash)).collect())
    }

    /// Events of own blocks in a range.
    pub(super) fn logs(&self, from: u64, to: u64) -> impl Iterator<Item = Log> {
        let blocks = self.blocks.iter().filter(move |mined| (from..=to).contains(&mined.header.inner.number));
        blocks.flat_map(|mined| &mined.transactions).filter_map(|hash| self.log(*hash))
    }

    fn log(&self, hash: B256) -> Option<Log> {
        let known = self.transactions.get(&hash)?;
        let place = known.place?;
        let header = &self.mined(place.block)?.header;
        Some(Log {
            inner: known.signed.event()?,
            block_hash: Some(header.hash),
            block_number: Some(place.block),
            block_timestamp: Some(header.inner.timestamp),
            transaction_hash: Some(hash),
            transaction_index: Some(place.index),
            log_index: Some(place.logs_before),
            removed: false,
        })
    }

    /// The next nonce by the blocks alone.
    pub(super) fn nonce(&self, account: Address) -> Option<u64> {
        self.accounts.get(&account).map(|account| account.next)
    }

    /// The next nonce after a block.
    pub(super) fn nonce_at(&self, account: Address, number: u64) -> Option<u64> {
        let history = &self.accounts.get(&account)?.history;
        let after = history.partition_point(|(block, _)| *block <= number);
        history.get(after.saturating_sub(1)).map(|(_, next)| *next)
    }

    /// The next nonce with everything in the pool that stands behind no gap.
    pub(super) fn pending_nonce(&self, account: Address) -> Option<u64> {
        let account = self.accounts.get(&account)?;
        let mut next = account.next;
        while account.pool.contains_key(&next) {
            next += 1;
        }
        Some(next)
    }

    pub(super) fn waiting(&self) -> usize {
        self.accounts.values().map(|account| account.pool.len()).sum()
    }

    pub(super) fn included(&self) -> Vec<Included> {
        let hashes = self.blocks.iter().flat_map(|mined| mined.transactions.iter().map(move |hash| (mined, *hash)));
        let included = hashes.filter_map(|(mined, hash)| {
            let signed = &self.transactions.get(&hash)?.signed;
            Some(Included {
                hash,
                sender: signed.sender,
                nonce: signed.envelope.nonce(),
                target: signed.envelope.to(),
                data: signed.envelope.input().clone(),
                block: mined.header.inner.number,
            })
        });
        included.collect()
    }
}

fn header(number: u64, parent_hash: B256) -> ConsensusHeader {
    ConsensusHeader {
        number,
        parent_hash,
        gas_limit: BLOCK_GAS_LIMIT,
        base_fee_per_gas: Some(BASE_FEE_WEI),
        difficulty: U256::ZERO,
        ..ConsensusHeader::default()
    }
}

fn outbids(new: &TxEnvelope, old: &TxEnvelope) -> bool {
    let enough = |new: u128, old: u128| new >= old + old * BUMP_PERCENT / 100 && new > old;
    let tip = |envelope: &TxEnvelope| envelope.max_priority_fee_per_gas().unwrap_or_else(|| envelope.max_fee_per_gas());
    enough(new.max_fee_per_gas(), old.max_fee_per_gas()) && enough(tip(new), tip(old))
}
