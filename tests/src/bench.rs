//! What `make bench` measures. Every comparison runs on the same chain settings in the same run.

mod chain;
mod platform;
mod signer;

use dalp_devstack::report::Figure;

/// Lanes that throughput is measured on.
const LANES: [usize; 2] = [1, 10];

/// Runs every measurement whose figures begin with `only`.
///
/// # Errors
/// When a stack does not start or an accepted request does not end as it must.
pub async fn run(only: &str, transfers: usize) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for lanes in LANES {
        if wanted(only, &["throughput.", "ceiling.", "library.", "rss_mib.", "floor.", "cpu_s_", "sql_statements_"]) {
            figures.extend(platform::throughput(lanes, transfers).await?);
        }
    }
    if wanted(only, &["accept_ms."]) {
        figures.extend(platform::accept_latency().await?);
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
