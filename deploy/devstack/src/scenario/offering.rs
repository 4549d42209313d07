//! A sale of the bond for tokenised deposits, bought up, decided, delivered and paid out.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::asset::{
    AssetClass, AssetRole, AssetTerms, CreateAssetRequest, DepositTerms, GrantRoleRequest, MintRequest, RoleGrant,
    asset_terms,
};
use dalp_proto::compliance::SetIdentityExemptionRequest;
use dalp_proto::compliance::compliance_service_client::ComplianceServiceClient;
use dalp_proto::distribution::offering_service_client::OfferingServiceClient;
use dalp_proto::distribution::{
    ActivateOfferingRequest, BuyRequest, ClaimTokensRequest, CreateOfferingRequest, FinalizeOfferingRequest,
    OfferingCurrency, OfferingTerms, QuotePurchaseRequest, WithdrawProceedsRequest,
};
use dalp_proto::identity::IssueClaimRequest;
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::operation::Operation;

use super::{Outcome, Parties, Steps};
use crate::client::{Client, Gateway, keyed};

/// Ten bonds at 1,000 francs, in centimes.
const PRICE_OF_ALL: &str = "1000000";

/// The scenario's view of the sale.
struct Sale<'a> {
    client: &'a Client,
    parties: &'a Parties,
    token: &'a str,
}

/// Sells ten bonds. The deposits that they are paid in.
pub(super) async fn run(client: &Client, parties: &Parties, token: &str, steps: &mut Steps) -> String {
    let sale = Sale { client, parties, token };
    let (cash, offering) = (RefCell::new(String::new()), RefCell::new(String::new()));
    steps
        .run("issue deposits in francs and mint 10000 to alice", "completed", async {
            *cash.borrow_mut() = sale.issue_cash().await?;
            let cash = cash.borrow().clone();
            sale.mint(&cash).await
        })
        .await;
    let cash = cash.into_inner();
    steps
        .run("create a sale of 10 bonds at 1000 francs", "completed", async {
            let created = sale.offerings().create_offering(keyed(sale.terms(&cash), "sale")).await?.into_inner();
            *offering.borrow_mut() = created.offering;
            sale.finished(created.operation).await
        })
        .await;
    let offering = offering.into_inner();
    steps.run("let the sale mint, take deposits, and open it", "completed", sale.open(&cash, &offering)).await;
    steps
        .run("quote to carol, whose country is barred", "10 bonds, BUYER_NOT_ELIGIBLE COUNTRY_BLOCKED", async {
            sale.quote_to_carol(&cash, &offering).await
        })
        .await;
    steps.run("alice buys all 10", "completed", sale.buy(&cash, &offering)).await;
    steps
        .run("finalize the sale: sold out", "completed", async {
            let request = FinalizeOfferingRequest { sender: parties.issuer.text.clone(), offering: offering.clone() };
            let accepted = sale.offerings().finalize_offering(keyed(request, "sale-finalize")).await?.into_inner();
            sale.finished(accepted.operation).await
        })
        .await;
    steps
        .run("alice claims her bonds", "completed", async {
            let request = ClaimTokensRequest {
                sender: parties.alice_new.text.clone(),
                offering: offering.clone(),
                buyer: String::new(),
            };
            let accepted = sale.offerings().claim_tokens(keyed(request, "sale-claim")).await?.into_inner();
            sale.finished(accepted.operation).await
        })
        .await;
    steps
        .run("withdraw the proceeds", "completed", async {
            sale.grant(AssetRole::Funds, &parties.issuer.text).await?;
            // The deposits ask every holder for KYC, the issuer too.
            sale.verify_issuer().await?;
            let request = WithdrawProceedsRequest {
                sender: parties.issuer.text.clone(),
                offering: offering.clone(),
                currency: cash.clone(),
            };
            let accepted = sale.offerings().withdraw_proceeds(keyed(request, "sale-proceeds")).await?.into_inner();
            sale.finished(accepted.operation).await
        })
        .await;
    cash
}

// === impl Sale ===

impl Sale<'_> {
    fn offerings(&self) -> OfferingServiceClient<Gateway> {
        OfferingServiceClient::new(self.client.gateway())
    }

    fn assets(&self) -> AssetServiceClient<Gateway> {
        AssetServiceClient::new(self.client.gateway())
    }

    fn issuer(&self) -> String {
        self.parties.issuer.text.clone()
    }

    async fn finished(&self, accepted: Option<Operation>) -> anyhow::Result<Outcome> {
        Ok(Outcome::of(&self.client.finished(accepted).await?))
    }

    async fn issue_cash(&self) -> anyhow::Result<String> {
        let deposit = DepositTerms { currency: "CHF".to_owned(), ..DepositTerms::default() };
        let request = CreateAssetRequest {
            issuer: self.issuer(),
            name: "Example Bank deposits".to_owned(),
            symbol: "EXBCHF".to_owned(),
            decimals: 2,
            asset_class: AssetClass::Deposit.into(),
            terms: Some(AssetTerms { terms: Some(asset_terms::Terms::Deposit(deposit)) }),
            claim_topics: vec!["kyc".to_owned()],
            roles: [AssetRole::Supply, AssetRole::Governance]
                .map(|role| RoleGrant { role: role.into(), account: self.issuer() })
                .to_vec(),
            unpause: true,
            ..CreateAssetRequest::default()
        };
        let accepted = self.assets().create_asset(keyed(request, "sale-cash")).await?.into_inner();
        let operation = self.client.finished(accepted.operation).await?;
        let result: serde_json::Value = serde_json::from_str(&operation.result_json)?;
        Ok(result["asset"].as_str().context("the result names no asset")?.to_owned())
    }

    async fn mint(&self, cash: &str) -> anyhow::Result<Outcome> {
        let request = MintRequest {
            sender: self.issuer(),
            asset: cash.to_owned(),
            to: self.parties.alice_new.text.clone(),
            amount: PRICE_OF_ALL.to_owned(),
        };
        let accepted = self.assets().mint(keyed(request, "sale-mint")).await?.into_inner();
        self.finished(accepted.operation).await
    }

    /// Succeeds with half of it sold.
    fn terms(&self, cash: &str) -> CreateOfferingRequest {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map(|age| age.as_secs()).unwrap_or_default();
        let currency = OfferingCurrency { currency: cash.to_owned(), price: "1000".to_owned() };
        let terms = OfferingTerms {
            asset: self.token.to_owned(),
            minted: true,
            starts_at: now_s - 60,
            ends_at: now_s + 86_400,
            hard_cap: "10".to_owned(),
            soft_cap: "5".to_owned(),
            currencies: vec![currency],
            ..OfferingTerms::default()
        };
        CreateOfferingRequest { sender: self.issuer(), terms: Some(terms), allow_list: Vec::new() }
    }

    async fn grant(&self, role: AssetRole, account: &str) -> anyhow::Result<Outcome> {
        let request = GrantRoleRequest {
            sender: self.issuer(),
            asset: self.token.to_owned(),
            role: role.into(),
            account: account.to_owned(),
        };
        let key = format!("sale-grant-{account}");
        let accepted = self.assets().grant_role(keyed(request, &key)).await?.into_inner();
        self.finished(accepted.operation).await
    }

    async fn verify_issuer(&self) -> anyhow::Result<Outcome> {
        let request = IssueClaimRequest {
            issuer: self.parties.verifier.text.clone(),
            subject: self.issuer(),
            topic: "kyc".to_owned(),
            data: "0x".to_owned(),
            expires_at: 0,
        };
        let mut identities = IdentityServiceClient::new(self.client.gateway());
        let accepted = identities.issue_claim(keyed(request, "sale-kyc")).await?.into_inner();
        self.finished(accepted.operation).await
    }

    async fn open(&self, cash: &str, offering: &str) -> anyhow::Result<Outcome> {
        self.grant(AssetRole::Supply, offering).await?;
        let exempt = SetIdentityExemptionRequest {
            sender: self.issuer(),
            asset: cash.to_owned(),
            account: offering.to_owned(),
            exempt: true,
        };
        let compliance = || ComplianceServiceClient::new(self.client.gateway());
        let accepted = compliance().set_identity_exemption(keyed(exempt, "sale-exempt")).await?.into_inner();
        self.finished(accepted.operation).await?;
        let request = ActivateOfferingRequest { sender: self.issuer(), offering: offering.to_owned() };
        let accepted = self.offerings().activate_offering(keyed(request, "sale-activate")).await?.into_inner();
        self.finished(accepted.operation).await
    }

    async fn quote_to_carol(&self, cash: &str, offering: &str) -> anyhow::Result<Outcome> {
        let request = QuotePurchaseRequest {
            offering: offering.to_owned(),
            buyer: self.parties.carol.text.clone(),
            currency: cash.to_owned(),
            payment_amount: PRICE_OF_ALL.to_owned(),
            terms_hash: String::new(),
        };
        let quote = self.offerings().quote_purchase(request).await?.into_inner();
        let first = quote.refusals.first().context("nothing is against it")?;
        let why = first.metadata.get("reason").map(String::as_str).unwrap_or_default();
        Ok(Outcome::said(format!("{} bonds, {} {why}", quote.tokens, first.reason)))
    }

    async fn buy(&self, cash: &str, offering: &str) -> anyhow::Result<Outcome> {
        let request = BuyRequest {
            sender: self.parties.alice_new.text.clone(),
            offering: offering.to_owned(),
            payment_amount: PRICE_OF_ALL.to_owned(),
            currency: cash.to_owned(),
            ..BuyRequest::default()
        };
        let accepted = self.offerings().buy(keyed(request, "sale-buy")).await?.into_inner();
        self.finished(accepted.operation).await
    }
}
