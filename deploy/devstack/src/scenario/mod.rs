//! The main job as a scenario: a bank issues a bond and transfers it, through the gateway as an ordinary client.

mod airdrop;
mod bond;
mod chain;
mod feeds;
mod offering;
mod pair;
mod parties;
mod settlement;
mod steps;
mod treasury;
mod upkeep;

pub use chain::ChainView;
pub use parties::{Parties, Wallet};
pub use steps::{Outcome, Steps};

pub(crate) use steps::say;

use crate::client::Client;
use crate::report::StepRow;

/// Runs the whole scenario and returns its rows; its last part is an exchange with the second chain. A row that differs from what was expected has `ok == false`.
pub async fn run(client: &Client, chain: &ChainView, second: &ChainView) -> Vec<StepRow> {
    let mut steps = Steps::default();
    match parties::create(client, chain, &mut steps).await {
        Ok(parties) => {
            let cash = bond::run(client, chain, &parties, &mut steps).await;
            pair::run(client, [chain, second], &parties, &cash, &mut steps).await;
        }
        Err(error) => {
            steps.run("set-up", "completed", async { Err(error) }).await;
        }
    }
    steps.into_rows()
}
