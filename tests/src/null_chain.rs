//! A chain that does as little as a chain can: it takes raw transactions, puts them into blocks, and remembers when each came.
//!
//! What is measured against it is the sender, not the chain. It executes nothing: every transaction succeeds, and a call of
//! ERC-20 `transfer` leaves the event that a token would. Its pool has a node's manners: it refuses used nonces and underpriced
//! replacements, and keeps what stands behind a gap until the gap is filled.
//!
//! - [`book`]: pool, blocks and nonces, without clock or network.
//! - [`answer`]: what it says to each method.
//! - [`behind`]: the chain that it continues, if any: that one knows contracts and balances.
//! - [`fault`]: what it does wrong when asked to.
//! - [`server`]: JSON-RPC over HTTP.

mod answer;
mod behind;
mod book;
mod fault;
mod server;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use alloy::primitives::{Address, B256};
use tokio::task::JoinHandle;

use self::behind::Behind;
use self::book::Book;
use self::fault::Faults;

pub use self::book::Included;
pub use self::fault::Fault;

/// How a null chain is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Time between blocks.
    pub block_time: Duration,
    /// How far the `finalized` tag stays behind the head, in blocks.
    pub finalized_behind: u64,
}

/// A running null chain. Dropped: gone.
pub struct NullChain {
    shared: Arc<Shared>,
    url: String,
    server: JoinHandle<()>,
    miner: JoinHandle<()>,
}

/// What the connections share.
struct Shared {
    options: Options,
    /// `None`: everything is still passed to the chain behind.
    book: tokio::sync::RwLock<Option<Mutex<Book>>>,
    behind: Option<Behind>,
    faults: Mutex<Faults>,
    calls: Mutex<BTreeMap<String, u64>>,
    arrivals: Mutex<HashMap<B256, SystemTime>>,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { chain_id: 31_337, block_time: Duration::from_secs(1), finalized_behind: 0 }
    }
}

// === impl NullChain ===

impl NullChain {
    /// A chain of its own, from block 0: everybody is rich, and every call answers `true`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let book = Book::new(options.chain_id, 0, B256::ZERO);
        Self::serve(options, Some(Mutex::new(book)), None).await
    }

    /// Passes everything to the chain at `url` until [`NullChain::take_over`].
    ///
    /// # Errors
    /// When no port is free.
    pub async fn in_front_of(url: &str, options: Options) -> anyhow::Result<Self> {
        Self::serve(options, None, Some(Behind::new(url)?)).await
    }

    async fn serve(options: Options, book: Option<Mutex<Book>>, behind: Option<Behind>) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            options,
            book: tokio::sync::RwLock::new(book),
            behind,
            faults: Mutex::default(),
            calls: Mutex::default(),
            arrivals: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(server::accept(listener, shared.clone()));
        let miner = tokio::spawn(mine(shared.clone()));
        Ok(Self { shared, url, server, miner })
    }

    /// From here on the chain behind is only read, as it stands now; new blocks are this chain's own.
    ///
    /// # Errors
    /// When the chain behind does not answer.
    pub async fn take_over(&self) -> anyhow::Result<()> {
        let mut book = self.shared.book.write().await; // waits until nothing is passed on any more
        if let (None, Some(behind)) = (&*book, &self.shared.behind) {
            let (height, hash) = behind.freeze().await?;
            *book = Some(Mutex::new(Book::new(self.shared.options.chain_id, height, hash)));
        }
        Ok(())
    }

    /// Its JSON-RPC address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Does something wrong with the next `times` calls of a method.
    pub fn inject(&self, method: &str, fault: Fault, times: usize) {
        locked(&self.shared.faults).add(method, fault, times);
    }

    /// When the bytes of a transaction came first.
    #[must_use]
    pub fn arrival(&self, hash: B256) -> Option<SystemTime> {
        locked(&self.shared.arrivals).get(&hash).copied()
    }

    /// How often each method was called.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<String, u64> {
        locked(&self.shared.calls).clone()
    }

    /// Every transaction in a block of this chain's own, in order.
    pub async fn included(&self) -> Vec<Included> {
        self.shared.book.read().await.as_ref().map(|book| locked(book).included()).unwrap_or_default()
    }

    /// Transactions in the pool, those behind a gap too.
    pub async fn waiting(&self) -> usize {
        self.shared.book.read().await.as_ref().map(|book| locked(book).waiting()).unwrap_or_default()
    }

    /// The nonce that a sender has to use next, by the blocks alone.
    pub async fn nonce(&self, sender: Address) -> u64 {
        self.shared.book.read().await.as_ref().and_then(|book| locked(book).nonce(sender)).unwrap_or_default()
    }
}

impl Drop for NullChain {
    fn drop(&mut self) {
        self.server.abort();
        self.miner.abort();
    }
}

async fn mine(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(shared.options.block_time);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(book) = shared.book.read().await.as_ref() {
            locked(book).mine(unix_s());
        }
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
