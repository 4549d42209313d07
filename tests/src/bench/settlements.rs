//! Settlements: a hundred at once through approve and execute, and previews.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use dalp_devstack::client::{Client, Gateway, keyed};
use dalp_devstack::report::Figure;
use dalp_devstack::scenario::{ChainView, Wallet};
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::operation::{Operation, OperationState};
use dalp_proto::settlement::settlement_service_client::SettlementServiceClient;
use dalp_proto::settlement::{
    ApproveRequest, CreateSettlementRequest, ExecuteRequest, GetSettlementRequest, PreviewSettlementRequest,
    SettlementLeg, SettlementState, SettlementTerms, preview_settlement_request::Subject,
};
use futures::future::try_join_all;

use crate::airdrops::key;
use crate::load::Load;
use crate::offerings::{Cash, Offerings};

/// Settlements at once, between so many wallets on each side.
const SETTLEMENTS: usize = 100;
const SIDES: usize = 10;
/// Base units that each wallet starts with.
const CASH: u64 = 1_000_000_000;
/// Previews that are timed, after some that are not.
const PREVIEWS: usize = 500;
const WARM_UP: usize = 50;

struct Bench {
    client: Client,
    load: Load,
    cash: Cash,
}

/// On a running stack, through the gateway.
pub(super) async fn figures() -> anyhow::Result<Vec<Figure>> {
    let stack = Stack::start(&Options { log_filter: "warn".to_owned(), ..Options::default() }).await?;
    let client = stack.client()?;
    let load = Load::prepare(&client, &ChainView::new(stack.chain_url())?, 2 * SIDES, "local").await?;
    let cash = Offerings { client: &client, load: &load }.issue_cash("EUR", 2, &load.holders, CASH).await?;
    let bench = Bench { client, load, cash };
    let ids = try_join_all((0..SETTLEMENTS).map(|number| bench.create(number))).await?;
    let preview_ms = bench.previews(&ids[0]).await?;
    let begun = Instant::now();
    try_join_all(ids.iter().enumerate().map(|(number, id)| bench.settle(number, id))).await?;
    let took_s = begun.elapsed().as_secs_f64();
    for id in &ids {
        let asked = GetSettlementRequest { settlement_id: id.clone() };
        let status = bench.service().get_settlement(asked).await?.into_inner().status.context("it stands")?;
        ensure!(status.state() == SettlementState::Executed, "{id} is {:?}", status.state());
    }
    let note = "100 deliveries against payment between 20 wallets: first approval asked for to last execution final; blocks of a second";
    let previews = "500 previews of one settlement, one after the other, through the gateway";
    Ok(vec![
        Figure::of("settlement.100_s", "s", vec![took_s], Some(60.0), note),
        Figure::of("settlement.preview_ms.p99", "ms", vec![preview_ms], Some(50.0), previews),
    ])
}

// === impl Bench ===

impl Bench {
    fn service(&self) -> SettlementServiceClient<Gateway> {
        SettlementServiceClient::new(self.client.gateway())
    }

    /// Who sells and who buys: every pair of a side each.
    fn parties(&self, number: usize) -> [&Wallet; 2] {
        [&self.load.holders[number % SIDES], &self.load.holders[SIDES + number / SIDES]]
    }

    async fn done(&self, operation: Option<Operation>) -> anyhow::Result<()> {
        let operation = self.client.finished(operation).await?;
        ensure!(operation.state() == OperationState::Completed, "{:?}", operation.error);
        Ok(())
    }

    async fn create(&self, number: usize) -> anyhow::Result<String> {
        let [seller, buyer] = self.parties(number);
        let leg = |asset: String, from: &Wallet, to: &Wallet, amount: u64| SettlementLeg {
            asset,
            from: from.text.clone(),
            to: to.text.clone(),
            amount: amount.to_string(),
            chain_id: 0,
        };
        let terms = SettlementTerms {
            name: format!("Trade {number}"),
            cutoff: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 86_400,
            legs: vec![
                leg(self.load.token.to_checksum(None), seller, buyer, 3),
                leg(self.cash.text.clone(), buyer, seller, 700),
            ],
            ..SettlementTerms::default()
        };
        let request = CreateSettlementRequest { sender: seller.text.clone(), terms: Some(terms) };
        let created = self.service().create_settlement(keyed(request, &key())).await?.into_inner();
        self.done(created.operation).await?;
        Ok(created.settlement_id)
    }

    /// Both approve at once, then it is executed.
    async fn settle(&self, number: usize, id: &str) -> anyhow::Result<()> {
        let [seller, buyer] = self.parties(number);
        let approve = async |party: &Wallet| {
            let request =
                ApproveRequest { sender: party.text.clone(), settlement_id: id.to_owned(), keep_allowances: false };
            let accepted = self.service().approve(keyed(request, &key())).await?.into_inner();
            self.done(accepted.operation).await
        };
        tokio::try_join!(approve(seller), approve(buyer))?;
        let request = ExecuteRequest { sender: buyer.text.clone(), settlement_id: id.to_owned() };
        let accepted = self.service().execute(keyed(request, &key())).await?.into_inner();
        self.done(accepted.operation).await
    }

    /// The 99th percentile of the milliseconds of a preview.
    async fn previews(&self, id: &str) -> anyhow::Result<f64> {
        let asked = PreviewSettlementRequest { subject: Some(Subject::SettlementId(id.to_owned())) };
        let mut took: Vec<Duration> = Vec::with_capacity(PREVIEWS);
        for number in 0..WARM_UP + PREVIEWS {
            let begun = Instant::now();
            self.service().preview_settlement(asked.clone()).await?;
            if number >= WARM_UP {
                took.push(begun.elapsed());
            }
        }
        took.sort_unstable();
        let p99 = took.get(PREVIEWS * 99 / 100).context("previews were timed")?;
        Ok(p99.as_secs_f64() * 1_000.0)
    }
}
