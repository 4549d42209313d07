//! What the platform is compared with: the same ERC-3643 transfers on the same chain, without a platform.

use std::time::{Duration, Instant};

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718 as _;
use alloy::network::{EthereumWallet, TransactionBuilder as _, TxSignerSync as _};
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::providers::fillers::CachedNonceManager;
use alloy::providers::{Provider, ProviderBuilder, RootProvider};
use alloy::rpc::types::TransactionRequest;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use alloy::sol_types::SolCall as _;
use anyhow::ensure;
use dalp_devstack::report::Figure;
use dalp_devstack::scenario::{ChainView, Wallet};
use futures::future::try_join_all;
use futures::{StreamExt as _, stream};

use super::platform::rate;
use crate::load::Load;

sol! {
    #[derive(Debug)]
    function transfer(address to, uint256 amount) external returns (bool);
}

/// Enough for any transfer of the load's token.
const GAS_LIMIT: u64 = 300_000;
const MAX_FEE_WEI: u128 = 100_000_000_000;
const PRIORITY_FEE_WEI: u128 = 1_000_000_000;
/// Requests under way at once, as many as the platform's clients have.
const IN_FLIGHT: usize = 64;
/// Raw transactions of one JSON-RPC batch.
const BATCH: usize = 100;
const MINED_WITHIN: Duration = Duration::from_secs(300);

/// Verified holders whose keys stand outside the platform.
pub(super) struct Comparison {
    url: String,
    chain_id: u64,
    node: RootProvider,
    keys: Vec<PrivateKeySigner>,
    token: Address,
    receiver: Address,
}

// === impl Comparison ===

impl Comparison {
    /// Makes as many keys as lanes, funds them and has them verified and minted to.
    pub(super) async fn prepare(url: &str, chain_id: u64, load: &Load, lanes: usize) -> anyhow::Result<Self> {
        let view = ChainView::new(url)?;
        let keys: Vec<_> = (0..lanes).map(|_| PrivateKeySigner::random()).collect();
        let mut wallets = Vec::new();
        for key in &keys {
            view.fund(key.address(), U256::from(10u64).pow(U256::from(21u64))).await?;
            wallets.push(Wallet { text: key.address().to_checksum(None), address: key.address() });
        }
        load.admit(&wallets).await?;
        Ok(Self {
            url: url.to_owned(),
            chain_id,
            node: ProviderBuilder::default().connect_http(url.parse()?),
            keys,
            token: load.token,
            receiver: load.receiver.address,
        })
    }

    /// Signs everything first, then pushes the bytes in batches; nothing but the chain is measured.
    pub(super) async fn ceiling(&self, transfers: usize) -> anyhow::Result<f64> {
        let mut next = Vec::new();
        for key in &self.keys {
            next.push(self.node.get_transaction_count(key.address()).await?);
        }
        let mut raw = Vec::with_capacity(transfers);
        for number in 0..transfers {
            let lane = number % self.keys.len();
            raw.push(self.signed(lane, next[lane])?);
            next[lane] += 1;
        }
        self.until_mined(transfers, async {
            for chunk in raw.chunks(BATCH) {
                let mut batch = alloy::rpc::client::BatchRequest::new(self.node.client());
                let mut waiting = Vec::new();
                for bytes in chunk {
                    waiting.push(batch.add_call::<_, alloy::primitives::B256>("eth_sendRawTransaction", &(bytes,))?);
                }
                batch.send().await?;
                for answer in waiting {
                    answer.await?;
                }
            }
            Ok(())
        })
        .await
    }

    /// alloy's recommended fillers with a cached nonce manager, all lanes at once.
    pub(super) async fn alloy(&self, transfers: usize) -> anyhow::Result<f64> {
        let mut providers = Vec::new();
        for key in &self.keys {
            let provider = ProviderBuilder::new()
                .disable_recommended_fillers()
                .with_gas_estimation()
                .with_nonce_management(CachedNonceManager::default())
                .fetch_chain_id()
                .wallet(EthereumWallet::from(key.clone()))
                .connect_http(self.url.parse()?);
            providers.push(provider);
        }
        self.until_mined(transfers, async {
            let mut sent = stream::iter(0..transfers)
                .map(|number| {
                    let provider = &providers[number % providers.len()];
                    let request = TransactionRequest::default().with_to(self.token).with_input(self.call());
                    async move { provider.send_transaction(request).await }
                })
                .buffer_unordered(IN_FLIGHT);
            while let Some(answer) = sent.next().await {
                drop(answer?);
            }
            Ok(())
        })
        .await
    }

    /// One transfer after the other, each awaited.
    pub(super) async fn floor(&self, transfers: usize) -> anyhow::Result<f64> {
        let provider = ProviderBuilder::new().wallet(self.keys[0].clone()).connect_http(self.url.parse()?);
        self.until_mined(transfers, async {
            for _ in 0..transfers {
                let request = TransactionRequest::default().with_to(self.token).with_input(self.call());
                provider.send_transaction(request).await?.get_receipt().await?;
            }
            Ok(())
        })
        .await
    }

    fn call(&self) -> Bytes {
        transferCall { to: self.receiver, amount: U256::from(1) }.abi_encode().into()
    }

    fn signed(&self, lane: usize, nonce: u64) -> anyhow::Result<Bytes> {
        let mut transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit: GAS_LIMIT,
            max_fee_per_gas: MAX_FEE_WEI,
            max_priority_fee_per_gas: PRIORITY_FEE_WEI,
            to: TxKind::Call(self.token),
            value: U256::ZERO,
            access_list: Default::default(),
            input: self.call(),
        };
        let signature = self.keys[lane].sign_transaction_sync(&mut transaction)?;
        Ok(TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into())
    }

    /// Runs `send` and waits until that many transactions of the lanes are in blocks. Returns transfers a second, from the first
    /// byte sent to the last block.
    pub(super) async fn until_mined(
        &self,
        transfers: usize,
        send: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<f64> {
        let wanted = self.mined().await? + transfers as u64;
        let begun = Instant::now();
        send.await?;
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        loop {
            looks.tick().await;
            if self.mined().await? >= wanted {
                return Ok(rate(transfers, begun.elapsed()));
            }
            ensure!(begun.elapsed() < MINED_WITHIN, "transfers are not mined after {MINED_WITHIN:?}");
        }
    }

    /// Transactions of all lanes that are in blocks.
    async fn mined(&self) -> anyhow::Result<u64> {
        let counts = self.keys.iter().map(|key| async { self.node.get_transaction_count(key.address()).await });
        Ok(try_join_all(counts).await?.into_iter().sum())
    }

    /// What a client in another language needs to make the same calls.
    pub(super) fn as_order(&self, transfers: usize) -> serde_json::Value {
        let keys: Vec<String> = self.keys.iter().map(|key| key.to_bytes().to_string()).collect();
        serde_json::json!({
            "url": self.url, "chainId": self.chain_id, "keys": keys, "token": self.token.to_checksum(None),
            "receiver": self.receiver.to_checksum(None), "transfers": transfers, "inFlight": IN_FLIGHT,
        })
    }

    pub(super) fn lanes(&self) -> usize {
        self.keys.len()
    }
}

pub(super) fn ceiling_figure(chain: &str, lanes: usize, rate: f64) -> Figure {
    let name = format!("ceiling.{chain}.lanes{lanes}");
    Figure::of(&name, "tx/s", vec![rate], None, "the same calls pre-signed and pushed raw")
}

pub(super) fn alloy_figure(chain: &str, lanes: usize, rate: f64) -> Figure {
    let name = format!("library.alloy.{chain}.lanes{lanes}");
    let note = "alloy's fillers with a cached nonce manager; keeps nothing, checks nothing";
    Figure::of(&name, "tx/s", vec![rate], None, note)
}
