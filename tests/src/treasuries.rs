//! Treasuries of a bond under load, as an ordinary client runs them.

use anyhow::ensure;
use dalp_devstack::client::{Client, Gateway, keyed};
use dalp_proto::asset::AssetRole;
use dalp_proto::distribution::treasury_service_client::TreasuryServiceClient;
use dalp_proto::distribution::{
    AttachTreasuryRequest, CreateTreasuryRequest, FundTreasuryRequest, PrepareRunRequest, PrepareRunResponse, Run,
    StartRunRequest, TreasuryTerms, prepare_run_request::Payout,
};
use tonic::{Request, Status};

use crate::airdrops::key;
use crate::load::Load;
use crate::offerings::Offerings;

/// Runs treasuries of a bond.
#[derive(Debug, Clone)]
pub struct Treasuries<'a> {
    /// As whom.
    pub client: &'a Client,
    /// Of what.
    pub load: &'a Load,
}

// === impl Treasuries ===

impl Treasuries<'_> {
    /// The service.
    #[must_use]
    pub fn service(&self) -> TreasuryServiceClient<Gateway> {
        TreasuryServiceClient::new(self.client.gateway())
    }

    fn issuer(&self) -> String {
        self.load.issuer.text.clone()
    }

    fn offerings(&self) -> Offerings<'_> {
        Offerings { client: self.client, load: self.load }
    }

    /// Creates a treasury. Its address.
    ///
    /// # Errors
    /// As the platform refuses it, or when it does not complete.
    pub async fn create(&self, terms: &TreasuryTerms) -> anyhow::Result<String> {
        let request = CreateTreasuryRequest { sender: self.issuer(), terms: Some(terms.clone()) };
        let created = self.service().create_treasury(keyed(request, &key())).await?.into_inner();
        let result = self.offerings().completed(created.operation).await?;
        ensure!(result["treasury"].as_str().is_some_and(|made| made.eq_ignore_ascii_case(&created.treasury)));
        Ok(created.treasury)
    }

    /// Lets a treasury announce record dates and hold its currency; with a maturity also redeem and stop transfers.
    ///
    /// # Errors
    /// When any step does not complete.
    pub async fn make_ready(&self, treasury: &str, terms: &TreasuryTerms) -> anyhow::Result<()> {
        self.offerings().grant(AssetRole::Funds, treasury).await?;
        self.offerings().admit(&terms.currency, treasury).await?;
        if terms.maturity != 0 {
            self.offerings().grant(AssetRole::Supply, treasury).await?;
            let attach = AttachTreasuryRequest { sender: self.issuer(), treasury: treasury.to_owned() };
            let accepted = self.service().attach_treasury(keyed(attach, &key())).await?.into_inner();
            self.offerings().completed(accepted.operation).await?;
        }
        Ok(())
    }

    /// Pays into a treasury out of the issuer's wallet, in the currency of its terms.
    ///
    /// # Errors
    /// When it does not complete.
    pub async fn fund(&self, treasury: &str, amount: u64) -> anyhow::Result<()> {
        let request = FundTreasuryRequest {
            sender: self.issuer(),
            treasury: treasury.to_owned(),
            currency: String::new(),
            amount: amount.to_string(),
        };
        let accepted = self.service().fund_treasury(keyed(request, &key())).await?.into_inner();
        self.offerings().completed(accepted.operation).await.map(drop)
    }

    /// Prepares a run.
    ///
    /// # Errors
    /// As the platform refuses it.
    pub async fn prepare(&self, treasury: &str, payout: Payout) -> Result<PrepareRunResponse, Status> {
        let request = PrepareRunRequest { treasury: treasury.to_owned(), payout: Some(payout) };
        Ok(self.service().prepare_run(Request::new(request)).await?.into_inner())
    }

    /// Approves the list of a run and pays it.
    ///
    /// # Errors
    /// As the platform refuses it.
    pub async fn start(&self, run: &Run) -> Result<Run, Status> {
        let request = StartRunRequest {
            sender: self.issuer(),
            treasury: run.treasury.clone(),
            run: run.run,
            root: run.root.clone(),
        };
        let answer = self.service().start_run(Request::new(request)).await?.into_inner();
        answer.run.ok_or_else(|| Status::internal("the answer carries no run"))
    }
}
