//! What `make bench` measures. Every comparison runs on the same chain settings in the same run.

mod access;
mod airdrops;
mod audit;
mod chain;
mod clients;
mod cpu;
mod custody;
mod engine_alone;
mod feeds;
mod history;
mod null;
mod open_loop;
mod platform;
mod room;
mod settlements;
mod signer;
mod soak;
mod treasuries;
mod trouble;

use dalp_devstack::report::Figure;

pub use soak::{Soak, Soaked, soak};

/// Lanes that throughput is measured on at anvil.
const LANES: [usize; 2] = [1, 10];

/// What is measured, and how much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Scope {
    /// Only figures whose name begins so, for instance `throughput.anvil.local.lanes10`.
    #[arg(long, default_value = "")]
    pub only: String,
    /// Transfers of one throughput run.
    #[arg(long, default_value_t = 2_000)]
    pub transfers: usize,
    /// Finished transactions in the tables for `throughput.history5m`, which is measured only when asked for by name.
    #[arg(long, default_value_t = 5_000_000)]
    pub history: i64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Measured {
    /// In the order they were taken.
    pub figures: Vec<Figure>,
    /// Parts that broke, and how; the others were measured all the same.
    pub broken: Vec<String>,
}

/// Runs every measurement in scope.
pub async fn run(scope: &Scope) -> Measured {
    let (only, transfers) = (scope.only.as_str(), scope.transfers);
    let mut measured = Measured::default();
    // A library is compared at both chains: its figure's name says at which.
    let at =
        |groups: &[&str], other: &str| wanted(only, groups) || (wanted(only, &["library."]) && !only.contains(other));
    let anvil = ["throughput.anvil", "ceiling.anvil", "rss_mib.", "floor.", "cpu_s_", "sql_statements_"];
    for lanes in LANES.into_iter().filter(|lanes| !only.contains(".lanes") || only.ends_with(&format!(".lanes{lanes}")))
    {
        if at(&anvil, ".null") {
            measured.take("anvil", platform::throughput(lanes, transfers).await);
        }
    }
    let null = [
        "throughput.null.local",
        "highest_rate.null.local",
        "ceiling.null",
        "accept_ms.",
        "first_broadcast_ms.",
        "final_ms.",
    ];
    if at(&null, ".anvil") {
        measured.take("null chain", null::local(only, transfers).await);
    }
    if wanted(only, &["throughput.null.softhsm", "highest_rate.null.softhsm"]) {
        measured.take("null chain with SoftHSM", null::softhsm(transfers).await);
    }
    if wanted(only, &["engine."]) {
        measured.take("the engine alone", engine_alone::figures(transfers).await);
    }
    if wanted(only, &["kill9."]) {
        measured.take("kills", trouble::figures().await);
    }
    if wanted(only, &["faults."]) {
        measured.take("a bad node", trouble::at_a_bad_node().await);
    }
    if only.starts_with(history::NAME) {
        measured.take("history", history::figures(scope.history, transfers).await);
    }
    if wanted(only, &["feeds."]) {
        measured.take("feeds", feeds::figures(!only.is_empty() && feeds::AT_MANY_ROUNDS.starts_with(only)).await);
    }
    if wanted(only, &["airdrop."]) {
        measured.take("airdrops", airdrops::figures().await);
    }
    if wanted(only, &["treasury."]) {
        measured.take("treasuries", treasuries::figures().await);
    }
    if wanted(only, &["gateway.auth"]) {
        measured.take("who may call", access::figures().await);
    }
    if wanted(only, &["gateway.adds"]) {
        measured.take("what the gateway adds", feeds::gateway_adds().await);
    }
    if wanted(only, &["audit."]) {
        measured.take("the audit log", audit::figures().await);
    }
    if wanted(only, &["settlement."]) {
        measured.take("settlements", settlements::figures().await);
    }
    if wanted(only, &["sign_rpc.", "provider_raw."]) {
        measured.take("signer", signer::rates().await);
    }
    measured.figures.retain(|figure| figure.name.starts_with(only));
    measured
}

// === impl Measured ===

impl Measured {
    fn take(&mut self, part: &str, figures: anyhow::Result<Vec<Figure>>) {
        match figures {
            Ok(figures) => self.figures.extend(figures),
            Err(error) => self.broken.push(format!("{part}: {error:#}")),
        }
    }
}

fn wanted(only: &str, groups: &[&str]) -> bool {
    only.is_empty() || groups.iter().any(|group| only.starts_with(group) || group.starts_with(only))
}
