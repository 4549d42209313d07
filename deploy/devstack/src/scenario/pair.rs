//! Payment against payment across two chains: tokenised francs of alice on the first chain for a currency of bob on the second.

use std::cell::RefCell;
use std::time::Duration;

use alloy::primitives::{Address, Bytes, U256, hex};
use alloy::sol_types::SolCall as _;
use anyhow::{Context as _, bail};
use dalp_proto::operation::Operation;
use dalp_proto::settlement::settlement_service_client::SettlementServiceClient;
use dalp_proto::settlement::{
    ApproveRequest, GetPairEvidenceRequest, GetPairRequest, HashKind, OpenPairRequest, Pair, PairSide, PairState,
    SettlementLeg,
};
use dalp_proto::system::BootstrapRequest;
use dalp_proto::system::system_service_client::SystemServiceClient;

use super::{ChainView, Outcome, Parties, Steps, Wallet};
use crate::client::{Client, Gateway, keyed};
use crate::stack::SECOND_CHAIN_ID;

/// 500 francs, in centimes, and as many base units of the currency.
const FRANCS: &str = "50000";
const COINS: u64 = 50_000;
/// How far the cutoffs lie from now, and apart, in seconds: more than svc-settlement asks for.
const LENGTH_S: u64 = 86_400;
/// How long the exchange may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Creation code of OpenZeppelin's ERC-20 that anybody may mint, as the end-to-end tests use it.
const CURRENCY: &str = include_str!("../../../../tests/tests/settlement/plain_currency.hex");

alloy::sol! {
    function mint(address to, uint256 amount) external;
}

/// The scenario's view of the exchange.
struct Exchange<'a> {
    client: &'a Client,
    chains: [&'a ChainView; 2],
    parties: &'a Parties,
    cash: &'a str,
}

/// Exchanges across two chains.
pub(super) async fn run(client: &Client, chains: [&ChainView; 2], parties: &Parties, cash: &str, steps: &mut Steps) {
    let exchange = Exchange { client, chains, parties, cash };
    let (coin, pair) = (RefCell::new(Address::ZERO), RefCell::new(Pair::default()));
    steps
        .run("bootstrap a system on the second chain", "completed", async {
            for wallet in [&parties.issuer, &parties.alice_new, &parties.bob] {
                exchange.chains[1].fund(wallet.address, U256::from(10).pow(U256::from(20))).await?;
            }
            let request = BootstrapRequest { admin: parties.issuer.text.clone(), chain_id: SECOND_CHAIN_ID };
            let mut systems = SystemServiceClient::new(client.gateway());
            let accepted = systems.bootstrap(keyed(request, "pair-bootstrap")).await?.into_inner();
            exchange.finished(accepted.operation).await
        })
        .await;
    steps
        .run("a currency on the second chain, of which bob has 50000", "50000", async {
            let code: Bytes = hex::decode(CURRENCY.trim())?.into();
            let made = chains[1].send_as_node(None, code).await?.context("a creation has an address")?;
            let mint = mintCall { to: parties.bob.address, amount: U256::from(COINS) };
            chains[1].send_as_node(Some(made), mint.abi_encode().into()).await?;
            *coin.borrow_mut() = made;
            Ok(Outcome::said(chains[1].balance(made, parties.bob.address).await?.to_string()))
        })
        .await;
    steps
        .run("open the exchange: the signer keeps the secret", "completed", async {
            let made = *coin.borrow();
            let order = exchange.order(made).await?;
            let opened = exchange.service().open_pair(keyed(order, "pair-open")).await?.into_inner();
            *pair.borrow_mut() = opened.pair.context("an exchange")?;
            exchange.finished(opened.operation).await
        })
        .await;
    let pair = pair.into_inner();
    let side = |side: &Option<dalp_proto::settlement::PairSettlement>| {
        side.as_ref().map(|side| side.settlement_id.clone()).unwrap_or_default()
    };
    let (here, there) = (side(&pair.carry), side(&pair.reveal));
    steps
        .run("alice locks her francs on the first chain", "completed", exchange.approve(&parties.alice_new, &here))
        .await;
    steps.run("bob locks his currency on the second chain", "completed", exchange.approve(&parties.bob, &there)).await;
    steps.run("the secret is shown, carried, and both have moved", "Settled", exchange.settled(&pair)).await;
    steps
        .run("alice has the currency on the second chain", "50000", async {
            let balance = chains[1].balance(coin.into_inner(), parties.alice_new.address).await?;
            Ok(Outcome::said(balance.to_string()))
        })
        .await;
}

// === impl Exchange ===

impl Exchange<'_> {
    fn service(&self) -> SettlementServiceClient<Gateway> {
        SettlementServiceClient::new(self.client.gateway())
    }

    async fn finished(&self, accepted: Option<Operation>) -> anyhow::Result<Outcome> {
        Ok(Outcome::of(&self.client.finished(accepted).await?))
    }

    async fn order(&self, coin: Address) -> anyhow::Result<OpenPairRequest> {
        let (alice, bob) = (&self.parties.alice_new, &self.parties.bob);
        let leg = |asset: String, from: &Wallet, to: &Wallet, amount: String, chain_id| SettlementLeg {
            asset,
            from: from.text.clone(),
            to: to.text.clone(),
            amount,
            chain_id,
        };
        let first = self.client_chain().await?;
        let now_s = self.chains[0].time_s().await?.max(self.chains[1].time_s().await?);
        let side = |chain_id, cutoff| Some(PairSide { chain_id, cutoff, opened_by_counterparty: false });
        Ok(OpenPairRequest {
            sender: self.parties.issuer.text.clone(),
            name: "Francs for coins".to_owned(),
            legs: vec![
                leg(self.cash.to_owned(), alice, bob, FRANCS.to_owned(), first),
                leg(coin.to_checksum(None), bob, alice, COINS.to_string(), SECOND_CHAIN_ID),
            ],
            reveal: side(SECOND_CHAIN_ID, now_s + LENGTH_S),
            carry: side(first, now_s + 2 * LENGTH_S),
            hash_kind: HashKind::Keccak256.into(),
            hash: String::new(),
        })
    }

    /// The id of the chain on which the system's assets are.
    async fn client_chain(&self) -> anyhow::Result<u64> {
        let asked = dalp_proto::system::GetSystemRequest {};
        let answer = SystemServiceClient::new(self.client.gateway()).get_system(asked).await?.into_inner();
        Ok(answer.system.context("a system")?.chain_id)
    }

    async fn approve(&self, sender: &Wallet, settlement: &str) -> anyhow::Result<Outcome> {
        let request = ApproveRequest {
            sender: sender.text.clone(),
            settlement_id: settlement.to_owned(),
            keep_allowances: false,
        };
        let key = format!("pair-approve-{}", sender.text);
        let accepted = self.service().approve(keyed(request, &key)).await?.into_inner();
        self.finished(accepted.operation).await
    }

    /// What the platform sent by itself to show the secret and to carry it, by the exchange's evidence.
    async fn moved(&self, pair: &Pair) -> anyhow::Result<Outcome> {
        let asked = GetPairEvidenceRequest { pair_id: pair.pair_id.clone() };
        let actions = self.service().get_pair_evidence(asked).await?.into_inner().actions;
        let sent = actions.into_iter().filter(|action| action.action != "open").filter_map(|action| action.operation);
        let sent: Vec<_> = sent.flat_map(|operation| operation.transactions).collect();
        Ok(Outcome {
            tx_hash: sent.last().map(|transaction| transaction.tx_hash.clone()),
            gas_used: Some(sent.iter().filter_map(|transaction| transaction.gas_used).sum()),
            ..Outcome::said("Settled")
        })
    }

    async fn settled(&self, pair: &Pair) -> anyhow::Result<Outcome> {
        let mut looks = tokio::time::interval(Duration::from_millis(200));
        let begun = tokio::time::Instant::now();
        loop {
            looks.tick().await;
            let asked = GetPairRequest { pair_id: pair.pair_id.clone() };
            let now = self.service().get_pair(asked).await?.into_inner().pair.context("an exchange")?;
            if now.state() == PairState::Settled {
                return self.moved(pair).await;
            }
            if begun.elapsed() > PATIENCE {
                bail!("it is {:?} after {PATIENCE:?}", now.state());
            }
        }
    }
}
