//! Sales of a bond under load, as an ordinary client makes them, paid in tokenised deposits.

use alloy::primitives::Address;
use anyhow::{Context as _, ensure};
use dalp_devstack::client::{Client, Gateway, keyed};
use dalp_devstack::scenario::Wallet;
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::asset::{
    AssetClass, AssetRole, AssetTerms, CreateAssetRequest, DepositTerms, GrantRoleRequest, MintRequest, RoleGrant,
    asset_terms,
};
use dalp_proto::compliance::SetIdentityExemptionRequest;
use dalp_proto::compliance::compliance_service_client::ComplianceServiceClient;
use dalp_proto::distribution::offering_service_client::OfferingServiceClient;
use dalp_proto::distribution::{ActivateOfferingRequest, CreateOfferingRequest, OfferingTerms};
use dalp_proto::operation::{Operation, OperationState};
use futures::future::try_join_all;

use crate::airdrops::key;
use crate::load::Load;

/// A currency that sales take.
#[derive(Debug, Clone)]
pub struct Cash {
    /// EIP-55 text, as the wire carries it.
    pub text: String,
    /// The same as an address.
    pub address: Address,
}

/// Makes sales of a bond.
#[derive(Debug, Clone)]
pub struct Offerings<'a> {
    /// As whom.
    pub client: &'a Client,
    /// Of what.
    pub load: &'a Load,
}

// === impl Offerings ===

impl Offerings<'_> {
    /// The service.
    #[must_use]
    pub fn service(&self) -> OfferingServiceClient<Gateway> {
        OfferingServiceClient::new(self.client.gateway())
    }

    /// The bond.
    #[must_use]
    pub fn asset(&self) -> String {
        self.load.token.to_checksum(None)
    }

    fn issuer(&self) -> String {
        self.load.issuer.text.clone()
    }

    fn assets(&self) -> AssetServiceClient<Gateway> {
        AssetServiceClient::new(self.client.gateway())
    }

    /// Issues a tokenised deposit and mints to each wallet.
    ///
    /// # Errors
    /// When any step does not complete.
    pub async fn issue_cash(&self, symbol: &str, decimals: u32, to: &[Wallet], amount: u64) -> anyhow::Result<Cash> {
        let deposit = DepositTerms { currency: symbol.to_owned(), ..DepositTerms::default() };
        let request = CreateAssetRequest {
            issuer: self.issuer(),
            name: format!("Deposits in {symbol}"),
            symbol: format!("{symbol}D"),
            decimals,
            asset_class: AssetClass::Deposit.into(),
            terms: Some(AssetTerms { terms: Some(asset_terms::Terms::Deposit(deposit)) }),
            claim_topics: vec!["kyc".to_owned()],
            roles: [AssetRole::Supply, AssetRole::Governance]
                .map(|role| RoleGrant { role: role.into(), account: self.issuer() })
                .to_vec(),
            unpause: true,
            ..CreateAssetRequest::default()
        };
        let accepted = self.assets().create_asset(keyed(request, &key())).await?.into_inner();
        let result = self.completed(accepted.operation).await?;
        let address: Address = result["asset"].as_str().context("the result names no asset")?.parse()?;
        let cash = Cash { text: address.to_checksum(None), address };
        try_join_all(to.iter().map(|wallet| self.mint(&cash.text, &wallet.text, amount))).await?;
        Ok(cash)
    }

    /// Mints.
    ///
    /// # Errors
    /// When it does not complete.
    pub async fn mint(&self, asset: &str, to: &str, amount: u64) -> anyhow::Result<()> {
        let mint = MintRequest {
            sender: self.issuer(),
            asset: asset.to_owned(),
            to: to.to_owned(),
            amount: amount.to_string(),
        };
        let accepted = self.assets().mint(keyed(mint, &key())).await?.into_inner();
        self.completed(accepted.operation).await.map(drop)
    }

    /// Grants a role on the bond.
    ///
    /// # Errors
    /// When it does not complete.
    pub async fn grant(&self, role: AssetRole, account: &str) -> anyhow::Result<()> {
        let grant = GrantRoleRequest {
            sender: self.issuer(),
            asset: self.asset(),
            role: role.into(),
            account: account.to_owned(),
        };
        let accepted = self.assets().grant_role(keyed(grant, &key())).await?.into_inner();
        self.completed(accepted.operation).await.map(drop)
    }

    /// Lets a sale hold an asset.
    ///
    /// # Errors
    /// When it does not complete.
    pub async fn admit(&self, asset: &str, offering: &str) -> anyhow::Result<()> {
        let exempt = SetIdentityExemptionRequest {
            sender: self.issuer(),
            asset: asset.to_owned(),
            account: offering.to_owned(),
            exempt: true,
        };
        let compliance = || ComplianceServiceClient::new(self.client.gateway());
        let accepted = compliance().set_identity_exemption(keyed(exempt, &key())).await?.into_inner();
        self.completed(accepted.operation).await.map(drop)
    }

    /// Creates a sale. Its address.
    ///
    /// # Errors
    /// As the platform refuses it, or when it does not complete.
    pub async fn create(&self, terms: &OfferingTerms, allow_list: &[String]) -> anyhow::Result<String> {
        let request = CreateOfferingRequest {
            sender: self.issuer(),
            terms: Some(terms.clone()),
            allow_list: allow_list.to_vec(),
        };
        let created = self.service().create_offering(keyed(request, &key())).await?.into_inner();
        let result = self.completed(created.operation).await?;
        ensure!(result["offering"].as_str().is_some_and(|made| made.eq_ignore_ascii_case(&created.offering)));
        Ok(created.offering)
    }

    /// Lets a sale hold its currencies, and the asset with what it sells, or mint it.
    ///
    /// # Errors
    /// When any step does not complete.
    pub async fn make_ready(&self, offering: &str, terms: &OfferingTerms) -> anyhow::Result<()> {
        try_join_all(terms.currencies.iter().map(|one| self.admit(&one.currency, offering))).await?;
        if terms.minted {
            return self.grant(AssetRole::Supply, offering).await;
        }
        self.admit(&terms.asset, offering).await?;
        self.mint(&terms.asset, offering, terms.hard_cap.parse()?).await
    }

    /// Opens a sale for its dates.
    ///
    /// # Errors
    /// When it does not complete.
    pub async fn activate(&self, offering: &str) -> anyhow::Result<()> {
        let request = ActivateOfferingRequest { sender: self.issuer(), offering: offering.to_owned() };
        let accepted = self.service().activate_offering(keyed(request, &key())).await?.into_inner();
        self.completed(accepted.operation).await.map(drop)
    }

    /// Creates a sale, makes it ready and opens it. Its address.
    ///
    /// # Errors
    /// When any step does not complete.
    pub async fn open(&self, terms: &OfferingTerms, allow_list: &[String]) -> anyhow::Result<String> {
        let offering = self.create(terms, allow_list).await?;
        self.make_ready(&offering, terms).await?;
        self.activate(&offering).await?;
        Ok(offering)
    }

    /// The result of an operation that must complete.
    ///
    /// # Errors
    /// When it does not.
    pub async fn completed(&self, accepted: Option<Operation>) -> anyhow::Result<serde_json::Value> {
        let operation = self.client.finished(accepted).await?;
        ensure!(operation.state() == OperationState::Completed, "{} did not complete: {operation:?}", operation.kind);
        serde_json::from_str(&operation.result_json).context("the result is no JSON")
    }
}
