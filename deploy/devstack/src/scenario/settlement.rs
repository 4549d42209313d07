//! Delivery against payment: two bonds of alice for deposits of bob, settled by the last approval.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use dalp_proto::asset::MintRequest;
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::identity::IssueClaimRequest;
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::operation::Operation;
use dalp_proto::settlement::settlement_service_client::SettlementServiceClient;
use dalp_proto::settlement::{
    ApproveRequest, CreateSettlementRequest, GetSettlementRequest, PreviewSettlementRequest, SettlementLeg,
    SettlementTerms, preview_settlement_request::Subject,
};

use super::{Outcome, Parties, Steps, Wallet};
use crate::client::{Client, Gateway, keyed};

/// Two bonds at 1,000 francs, in centimes.
const PRICE: &str = "200000";

/// The scenario's view of the settlement.
struct Trade<'a> {
    client: &'a Client,
    parties: &'a Parties,
    token: &'a str,
    cash: &'a str,
}

/// Settles a trade.
pub(super) async fn run(client: &Client, parties: &Parties, token: &str, cash: &str, steps: &mut Steps) {
    let trade = Trade { client, parties, token, cash };
    let settlement = RefCell::new(String::new());
    steps
        .run("preview a trade with bob, whose KYC is revoked", "LEG_NOT_COMPLIANT leg 0 CLAIM_REVOKED", trade.preview())
        .await;
    steps.run("renew bob's KYC and mint him 2000 francs", "completed", trade.make_bob_ready()).await;
    steps
        .run("open the trade: 2 bonds of alice for 2000 francs of bob", "completed", async {
            let created = trade.service().create_settlement(keyed(trade.order(), "trade")).await?.into_inner();
            *settlement.borrow_mut() = created.settlement_id;
            trade.finished(created.operation).await
        })
        .await;
    let settlement = settlement.into_inner();
    steps.run("alice approves: her bonds are held", "completed", trade.approve(&parties.alice_new, &settlement)).await;
    steps.run("bob approves, which settles", "completed", trade.approve(&parties.bob, &settlement)).await;
    steps
        .run("the trade", "Executed", async {
            let asked = GetSettlementRequest { settlement_id: settlement.clone() };
            let answer = trade.service().get_settlement(asked).await?.into_inner();
            let status = answer.status.context("the chain does not have it")?;
            Ok(Outcome::said(format!("{:?}", status.state())))
        })
        .await;
}

// === impl Trade ===

impl Trade<'_> {
    fn service(&self) -> SettlementServiceClient<Gateway> {
        SettlementServiceClient::new(self.client.gateway())
    }

    async fn finished(&self, accepted: Option<Operation>) -> anyhow::Result<Outcome> {
        Ok(Outcome::of(&self.client.finished(accepted).await?))
    }

    fn terms(&self) -> SettlementTerms {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map(|age| age.as_secs()).unwrap_or_default();
        let (alice, bob) = (&self.parties.alice_new, &self.parties.bob);
        let leg = |asset: &str, from: &Wallet, to: &Wallet, amount: &str| SettlementLeg {
            asset: asset.to_owned(),
            from: from.text.clone(),
            to: to.text.clone(),
            amount: amount.to_owned(),
            chain_id: 0,
        };
        SettlementTerms {
            name: "Two bonds".to_owned(),
            cutoff: now_s + 86_400,
            auto_execute: true,
            hash_lock: None,
            legs: vec![leg(self.token, alice, bob, "2"), leg(self.cash, bob, alice, PRICE)],
        }
    }

    fn order(&self) -> CreateSettlementRequest {
        CreateSettlementRequest { sender: self.parties.alice_new.text.clone(), terms: Some(self.terms()) }
    }

    async fn preview(&self) -> anyhow::Result<Outcome> {
        let asked = PreviewSettlementRequest { subject: Some(Subject::Terms(self.terms())) };
        let preview = self.service().preview_settlement(asked).await?.into_inner();
        let barred = preview.refusals.iter().find(|one| one.metadata.contains_key("leg"));
        let barred = barred.context("every leg is compliant")?;
        let told = |key: &str| barred.metadata.get(key).cloned().unwrap_or_default();
        Ok(Outcome::said(format!("{} leg {} {}", barred.reason, told("leg"), told("reason"))))
    }

    async fn make_bob_ready(&self) -> anyhow::Result<Outcome> {
        let claim = IssueClaimRequest {
            issuer: self.parties.verifier.text.clone(),
            subject: self.parties.bob.text.clone(),
            topic: "kyc".to_owned(),
            // The revoked claim stays revoked: this one says something else.
            data: "0x02".to_owned(),
            expires_at: 0,
        };
        let mut identities = IdentityServiceClient::new(self.client.gateway());
        let accepted = identities.issue_claim(keyed(claim, "trade-kyc")).await?.into_inner();
        self.finished(accepted.operation).await?;
        let mint = MintRequest {
            sender: self.parties.issuer.text.clone(),
            asset: self.cash.to_owned(),
            to: self.parties.bob.text.clone(),
            amount: PRICE.to_owned(),
        };
        let mut assets = AssetServiceClient::new(self.client.gateway());
        let accepted = assets.mint(keyed(mint, "trade-mint")).await?.into_inner();
        self.finished(accepted.operation).await
    }

    async fn approve(&self, sender: &Wallet, settlement: &str) -> anyhow::Result<Outcome> {
        let request = ApproveRequest {
            sender: sender.text.clone(),
            settlement_id: settlement.to_owned(),
            keep_allowances: false,
        };
        let key = format!("trade-approve-{}", sender.text);
        let accepted = self.service().approve(keyed(request, &key)).await?.into_inner();
        self.finished(accepted.operation).await
    }
}
