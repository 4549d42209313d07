//! What `make bench` measures. Every comparison runs on the same chain settings in the same run.

mod chain;
mod clients;
mod cpu;
mod engine_alone;
mod history;
mod kill;
mod null;
mod open_loop;
mod platform;
mod room;
mod signer;

use dalp_devstack::report::Figure;

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

/// Runs every measurement in scope.
///
/// # Errors
/// When a stack does not start or an accepted request does not end as it must.
pub async fn run(scope: &Scope) -> anyhow::Result<Vec<Figure>> {
    let (only, transfers) = (scope.only.as_str(), scope.transfers);
    let mut figures = Vec::new();
    // A library is compared at both chains: the end of its figure's name says at which.
    let at = |chain: &str, groups: &[&str]| {
        wanted(only, groups) || (wanted(only, &["library."]) && (!only.contains(".null") || chain == "null"))
    };
    let anvil = ["throughput.anvil", "ceiling.anvil", "rss_mib.", "floor.", "cpu_s_", "sql_statements_"];
    for lanes in LANES.into_iter().filter(|lanes| !only.contains(".lanes") || only.ends_with(&format!(".lanes{lanes}")))
    {
        if at("anvil", &anvil) {
            figures.extend(platform::throughput(lanes, transfers).await?);
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
    if at("null", &null) {
        figures.extend(null::local(only, transfers).await?);
    }
    if wanted(only, &["throughput.null.softhsm", "highest_rate.null.softhsm"]) {
        figures.extend(null::softhsm(transfers).await?);
    }
    if wanted(only, &["engine."]) {
        figures.extend(engine_alone::figures(transfers).await?);
    }
    if wanted(only, &["kill9."]) {
        figures.extend(kill::figures().await?);
    }
    if only.starts_with(history::NAME) {
        figures.extend(history::figures(scope.history, transfers).await?);
    }
    if wanted(only, &["sign_rpc.", "provider_raw."]) {
        figures.extend(signer::rates().await?);
    }
    figures.retain(|figure| figure.name.starts_with(only));
    Ok(figures)
}

fn wanted(only: &str, groups: &[&str]) -> bool {
    only.is_empty() || groups.iter().any(|group| only.starts_with(group) || group.starts_with(only))
}
