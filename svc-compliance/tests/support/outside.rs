//! Accounts that act on the chain without the platform: holders with keys of their own, officers of an asset, spenders.

use super::{Stack, TENANT, eventually, text};
use alloy::{
    primitives::{Address, B256, U256, hex},
    sol_types::SolCall,
};
use dalp_chain::{Log, Receipt};
use dalp_contracts::bindings::System;
use dalp_proto::asset::{AssetRole, GrantRoleRequest, TransferRequest};
use serde_json::{Value, json};
use svc_compliance::readers::ChainReader;

impl Stack {
    /// An account of its own with coin for gas; nobody's key is needed.
    pub async fn outsider(&self, byte: u8) -> Address {
        let account = Address::repeat_byte(byte);
        self.node("anvil_impersonateAccount", json!([account])).await;
        self.node("anvil_setBalance", json!([account, U256::from(10_u64.pow(18)) * U256::from(100)])).await;
        account
    }

    /// The node's own doing.
    pub async fn node(&self, method: &'static str, params: Value) -> Value {
        self.upstreams.request(method, params).await.unwrap()
    }

    /// A transaction of an outsider, mined.
    pub async fn send<C: SolCall>(&self, from: Address, to: Address, call: &C) -> Receipt {
        let hash = self.post(from, to, call).await;
        let receipt = eventually("it is mined", async || self.upstreams.receipt(hash).await.unwrap()).await;
        assert!(receipt.succeeded, "{} failed", C::SIGNATURE);
        receipt
    }

    /// A transaction of an outsider, on its way.
    pub async fn post<C: SolCall>(&self, from: Address, to: Address, call: &C) -> B256 {
        if let Some(refusal) = self.refused(from, to, call).await {
            panic!("{} is refused: {refusal}", C::SIGNATURE);
        }
        let data = hex::encode_prefixed(call.abi_encode());
        let transaction = json!([{"from": from, "to": to, "data": data, "gas": "0x1c9c380"}]);
        self.upstreams.request("eth_sendTransaction", transaction).await.unwrap()
    }

    /// Why the chain would refuse a call of an account, if it would.
    pub async fn refused<C: SolCall>(&self, from: Address, to: Address, call: &C) -> Option<dalp_contracts::Refusal> {
        let request = dalp_chain::TransactionRequest::default().from(from).to(to).input(call.abi_encode().into());
        match self.upstreams.call(&request, dalp_chain::BlockId::latest()).await {
            Ok(_) => None,
            Err(dalp_chain::CallError::Revert(data)) => Some(dalp_contracts::decode_revert(&data)),
            Err(error) => panic!("the node does not answer: {error}"),
        }
    }

    pub async fn read<C: SolCall>(&self, target: Address, call: C) -> C::Return {
        ChainReader::new(self.upstreams.clone()).read(target, call).await.unwrap()
    }

    /// A contract of the tenant by its name in the address book.
    pub async fn contract(&self, name: B256) -> Address {
        let system = self.store.system(TENANT, self.upstreams.config().chain_id).await.unwrap().unwrap();
        self.read(system.addresses.unwrap().system, System::getCall { name }).await
    }

    /// The chain's clock goes on, and a block says so.
    pub async fn pass(&self, seconds: u64) {
        self.node("evm_increaseTime", json!([seconds])).await;
        self.node("evm_mine", json!([])).await;
    }

    /// Roles of an asset, from its admin.
    pub async fn grant(&self, asset: Address, account: Address, roles: &[AssetRole]) {
        for role in roles {
            let grant = GrantRoleRequest {
                sender: text(self.wallets[0]),
                asset: text(asset),
                role: (*role).into(),
                account: text(account),
            };
            self.done(self.assets().grant_role(self.fresh(grant)).await.unwrap().into_inner().operation).await;
        }
    }

    /// A transfer through the platform.
    pub async fn transfer(&self, asset: Address, from: Address, to: Address, amount: u64) {
        let transfer =
            TransferRequest { sender: text(from), asset: text(asset), to: text(to), amount: amount.to_string() };
        self.done(self.assets().transfer(self.fresh(transfer)).await.unwrap().into_inner().operation).await;
    }
}

/// The event of a receipt.
pub fn event<E: alloy::sol_types::SolEvent>(receipt: &Receipt) -> E {
    let decode = |log: &Log| E::decode_log(&log.inner).ok().map(|decoded| decoded.data);
    receipt.logs.iter().find_map(decode).unwrap_or_else(|| panic!("no {} in the receipt", E::SIGNATURE))
}
