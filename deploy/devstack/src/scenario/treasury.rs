//! A coupon of the bond: a quarter passes, the list is approved, and everybody on it is paid.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::asset::{AssetRole, GrantRoleRequest, MintRequest};
use dalp_proto::compliance::SetIdentityExemptionRequest;
use dalp_proto::compliance::compliance_service_client::ComplianceServiceClient;
use dalp_proto::distribution::treasury_service_client::TreasuryServiceClient;
use dalp_proto::distribution::{
    CouponPayout, CouponPlan, CreateTreasuryRequest, EntitlementOutcome, GetRunEvidenceRequest,
    ListEntitlementsRequest, PrepareRunRequest, Run, RunState, ScheduleCouponsRequest, StartRunRequest, TreasuryTerms,
    prepare_run_request::Payout,
};
use dalp_proto::operation::Operation;

use super::{ChainView, Outcome, Parties, Steps};
use crate::client::{Client, Gateway, keyed, reason};

/// Ninety days.
const QUARTER_S: u32 = 90 * 86_400;
/// What comes of it.
const PAID: &str = "a contract PAYMENT_REFUSED, difference 0";
/// How long a coupon may take, and the index behind it.
const PATIENCE: Duration = Duration::from_secs(180);

/// The scenario's view of the treasury.
struct Coupon<'a> {
    client: &'a Client,
    chain: &'a ChainView,
    parties: &'a Parties,
    token: &'a str,
    cash: &'a str,
}

/// Pays a coupon of 12.5 for each bond. It moves the chain's clock.
pub(super) async fn run(
    client: &Client,
    chain: &ChainView,
    parties: &Parties,
    (token, cash): (&str, &str),
    steps: &mut Steps,
) {
    let coupon = Coupon { client, chain, parties, token, cash };
    let (treasury, run) = (RefCell::new(String::new()), RefCell::new(Run::default()));
    steps
        .run("create the bond's treasury and make it ready", "completed", async {
            let made = coupon.create().await?;
            *treasury.borrow_mut() = made.clone();
            coupon.make_ready(&made).await
        })
        .await;
    let treasury = treasury.into_inner();
    steps.run("schedule a coupon of 12.5 francs a quarter", "completed", coupon.schedule(&treasury)).await;
    steps
        .run("prepare the coupon when the quarter has passed", "prepared", async {
            let prepared = coupon.prepare(&treasury).await?;
            let state = prepared.progress.as_ref().map(|progress| progress.state());
            *run.borrow_mut() = prepared;
            Ok(Outcome::said(if state == Some(RunState::Prepared) { "prepared" } else { "not prepared" }))
        })
        .await;
    let run = run.into_inner();
    steps
        .run("start it while the treasury is empty", "refused TREASURY_UNDERFUNDED", async {
            Ok(match coupon.start(&run).await {
                Ok(()) => Outcome::said("accepted"),
                Err(status) => Outcome::said(format!("refused {}", reason(&status))),
            })
        })
        .await;
    steps
        .run("fund it and pay; the airdrop has bonds left, and no right to deposits", PAID, async {
            coupon.fund(&treasury, &run.total).await?;
            coupon.start(&run).await?;
            coupon.reconciled(&run).await
        })
        .await;
}

// === impl Coupon ===

impl Coupon<'_> {
    fn treasuries(&self) -> TreasuryServiceClient<Gateway> {
        TreasuryServiceClient::new(self.client.gateway())
    }

    fn issuer(&self) -> String {
        self.parties.issuer.text.clone()
    }

    async fn finished(&self, accepted: Option<Operation>) -> anyhow::Result<Outcome> {
        Ok(Outcome::of(&self.client.finished(accepted).await?))
    }

    async fn create(&self) -> anyhow::Result<String> {
        let terms =
            TreasuryTerms { asset: self.token.to_owned(), currency: self.cash.to_owned(), ..TreasuryTerms::default() };
        let request = CreateTreasuryRequest { sender: self.issuer(), terms: Some(terms) };
        let created = self.treasuries().create_treasury(keyed(request, "treasury")).await?.into_inner();
        self.client.finished(created.operation).await?;
        Ok(created.treasury)
    }

    async fn make_ready(&self, treasury: &str) -> anyhow::Result<Outcome> {
        let grant = GrantRoleRequest {
            sender: self.issuer(),
            asset: self.token.to_owned(),
            role: AssetRole::Funds.into(),
            account: treasury.to_owned(),
        };
        let mut assets = AssetServiceClient::new(self.client.gateway());
        let accepted = assets.grant_role(keyed(grant, "treasury-funds")).await?.into_inner();
        self.client.finished(accepted.operation).await?;
        let exempt = SetIdentityExemptionRequest {
            sender: self.issuer(),
            asset: self.cash.to_owned(),
            account: treasury.to_owned(),
            exempt: true,
        };
        let mut compliance = ComplianceServiceClient::new(self.client.gateway());
        let accepted = compliance.set_identity_exemption(keyed(exempt, "treasury-exempt")).await?.into_inner();
        self.finished(accepted.operation).await
    }

    async fn schedule(&self, treasury: &str) -> anyhow::Result<Outcome> {
        let now_s = self.chain.time_s().await?;
        let plan = CouponPlan {
            starts_at: now_s,
            ends_at: now_s + u64::from(QUARTER_S),
            interval_s: QUARTER_S,
            lead_s: 86_400,
            rate: "12.5".to_owned(),
        };
        let request = ScheduleCouponsRequest { sender: self.issuer(), treasury: treasury.to_owned(), plan: Some(plan) };
        let accepted = self.treasuries().schedule_coupons(keyed(request, "treasury-coupons")).await?.into_inner();
        self.finished(accepted.operation).await
    }

    async fn prepare(&self, treasury: &str) -> anyhow::Result<Run> {
        self.chain.pass(u64::from(QUARTER_S) + 1).await?;
        let payout = Some(Payout::Coupon(CouponPayout { period: 0 }));
        let request = PrepareRunRequest { treasury: treasury.to_owned(), payout };
        let prepared = self.treasuries().prepare_run(request).await?.into_inner();
        prepared.run.context("the answer carries no run")
    }

    async fn start(&self, run: &Run) -> Result<(), tonic::Status> {
        let request = StartRunRequest {
            sender: self.issuer(),
            treasury: run.treasury.clone(),
            run: run.run,
            root: run.root.clone(),
        };
        self.treasuries().start_run(request).await.map(drop)
    }

    async fn fund(&self, treasury: &str, amount: &str) -> anyhow::Result<Outcome> {
        let mint = MintRequest {
            sender: self.issuer(),
            asset: self.cash.to_owned(),
            to: treasury.to_owned(),
            amount: amount.to_owned(),
        };
        let mut assets = AssetServiceClient::new(self.client.gateway());
        let accepted = assets.mint(keyed(mint, "treasury-mint")).await?.into_inner();
        self.finished(accepted.operation).await
    }

    /// What came of everybody, once everybody was tried and the index has seen it.
    async fn reconciled(&self, run: &Run) -> anyhow::Result<Outcome> {
        let begun = Instant::now();
        loop {
            let asked = GetRunEvidenceRequest { treasury: run.treasury.clone(), run: run.run };
            let record = self.treasuries().get_run_evidence(asked).await?.into_inner();
            let progress = record.run.and_then(|run| run.progress).context("the answer carries no progress")?;
            let sums = record.reconciliation.context("the answer carries no sums")?;
            if progress.state() == RunState::Done && progress.open == 0 {
                let skipped = self.skipped(run).await?;
                return Ok(Outcome::said(format!("{skipped}, difference {}", sums.difference)));
            }
            ensure!(begun.elapsed() < PATIENCE, "not everybody was tried: {progress:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Who could not be paid, and why.
    async fn skipped(&self, run: &Run) -> anyhow::Result<String> {
        let asked = ListEntitlementsRequest {
            treasury: run.treasury.clone(),
            run: run.run,
            outcome: EntitlementOutcome::Skipped.into(),
            ..ListEntitlementsRequest::default()
        };
        let skipped = self.treasuries().list_entitlements(asked).await?.into_inner().entitlements;
        let name = |holder: &str| match () {
            () if holder == self.parties.alice_new.text => "alice",
            () if holder == self.parties.bob.text => "bob",
            () => "a contract",
        };
        let told = skipped.iter().map(|one| format!("{} {}", name(&one.holder), one.reason));
        let mut told: Vec<String> = told.collect();
        told.sort();
        Ok(told.join(", "))
    }
}
