//! What a custodian does with a chain when it broadcasts by itself: it numbers, prices, signs and sends.

use alloy::{
    consensus::{SignableTransaction as _, Transaction as _, TxEip1559, TxEnvelope},
    eips::Encodable2718 as _,
    network::TransactionBuilder as _,
    primitives::{Address, B256, Bytes, Signature, TxKind, U256},
    providers::{Provider as _, RootProvider},
    rpc::types::TransactionRequest,
};
use anyhow::Context as _;

use crate::keys::{Key, Twist};

/// A node.
#[derive(Debug, Clone)]
pub struct Chain {
    node: RootProvider,
}

/// A transaction as the custodian was asked for it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Target; `None` creates a contract.
    pub to: Option<Address>,
    /// Value in wei.
    pub value_wei: U256,
    /// Calldata.
    pub data: Bytes,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mined {
    /// Not in a block yet.
    Waiting,
    /// Succeeded.
    Succeeded,
    /// Reverted.
    Reverted,
}

// === impl Chain ===

impl Chain {
    /// The node at `url`.
    ///
    /// # Errors
    /// When `url` is none.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self { node: RootProvider::new_http(url.parse().context("the node's address")?) })
    }

    /// Numbers, prices, signs and sends.
    ///
    /// # Errors
    /// When the node refuses, for instance because the call would revert.
    pub async fn send(&self, key: &Key, wanted: &Wanted) -> anyhow::Result<B256> {
        let from = key.address();
        let request = TransactionRequest {
            to: Some(wanted.to.map_or(TxKind::Create, TxKind::Call)),
            ..TransactionRequest::default().with_from(from).with_value(wanted.value_wei).with_input(wanted.data.clone())
        };
        let gas_limit = self.node.estimate_gas(request).await?;
        let nonce = self.node.get_transaction_count(from).pending().await?;
        let gas_price = self.node.get_gas_price().await?;
        self.sign_and_send(key, wanted, nonce, gas_limit, (gas_price * 2, gas_price.min(1_000_000_000))).await
    }

    /// Sends what is not in a block yet once more, with its nonce and at a higher price.
    ///
    /// # Errors
    /// When the node does not know it, or refuses.
    pub async fn send_again(&self, key: &Key, wanted: &Wanted, hash: B256) -> anyhow::Result<B256> {
        let sent = self.node.get_transaction_by_hash(hash).await?.context("the node does not know it")?;
        let dearer = |wei: u128| wei * 3 / 2 + 1;
        let prices = (dearer(sent.max_fee_per_gas()), dearer(sent.max_priority_fee_per_gas().unwrap_or_default()));
        self.sign_and_send(key, wanted, sent.nonce(), sent.gas_limit(), prices).await
    }

    async fn sign_and_send(
        &self,
        key: &Key,
        wanted: &Wanted,
        nonce: u64,
        gas_limit: u64,
        (max_fee_per_gas, max_priority_fee_per_gas): (u128, u128),
    ) -> anyhow::Result<B256> {
        let tx = TxEip1559 {
            chain_id: self.node.get_chain_id().await?,
            nonce,
            gas_limit,
            max_fee_per_gas,
            max_priority_fee_per_gas,
            to: wanted.to.map_or(TxKind::Create, TxKind::Call),
            value: wanted.value_wei,
            access_list: Default::default(),
            input: wanted.data.clone(),
        };
        let signed = key.sign(tx.signature_hash(), Twist::None)?;
        let envelope = TxEnvelope::from(tx.into_signed(Signature::new(signed.r, signed.s, signed.odd)));
        let sent = self.node.send_raw_transaction(&envelope.encoded_2718()).await?;
        Ok(*sent.tx_hash())
    }

    /// How a transaction stands.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn mined(&self, hash: B256) -> anyhow::Result<Mined> {
        Ok(match self.node.get_transaction_receipt(hash).await? {
            None => Mined::Waiting,
            Some(receipt) if receipt.status() => Mined::Succeeded,
            Some(_) => Mined::Reverted,
        })
    }
}
