//! The programs of an earlier version are upgraded under load, and rolled back to.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use dalp_devstack::configuration::replica_name;
use dalp_devstack::stack::{ATTESTOR, Build, Options, SERVICES};
use sqlx::{AssertSqlSafe, PgPool};

use super::{CannotHere, Measures, Outcome, Run, Site};

/// Numbers of the replicas.
const OLD: usize = 1;
const NEW: usize = 2;

/// Where one version's end is waited for, the load goes on for so much of the time that other things are away.
const SHARE: u32 = 4;

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let programs = old_programs(measures.old_programs.as_deref())?;
    let old = Build { programs: Some(programs.to_owned()), comes_later: false };
    let new = Build { programs: None, comes_later: true };
    let mut site = Site::open(&Options { replicas: vec![old, new], ..Options::default() }, "local").await?;
    let before = migrations(&site).await?;
    let mut run = Run::begin(&site, "upgraded", measures).await?;

    // Who is called comes first, as the runbook has it; and goes last when it is gone back.
    let upwards: Vec<&str> = SERVICES.to_vec();
    let downwards: Vec<&str> = SERVICES.into_iter().rev().collect();
    come(&mut run, &mut site, &upwards, NEW, "the new come up").await?;
    run.remark(told(&before, &migrations(&site).await?));
    together(&mut run, measures, "old and new side by side").await?;
    go(&mut run, &mut site, measures, &upwards, OLD, "the old").await?;

    come(&mut run, &mut site, &downwards, OLD, "the old come back").await?;
    together(&mut run, measures, "side by side again").await?;
    go(&mut run, &mut site, measures, &downwards, NEW, "the new").await?;
    run.finish(&site).await
}

/// The replicas of one version come up beside those of the other, one after the other.
async fn come(run: &mut Run, site: &mut Site, services: &[&str], number: usize, what: &str) -> anyhow::Result<()> {
    let from = Instant::now();
    for service in services {
        let replica = replica_name(service, number);
        site.restart(&replica)?;
        site.ready(&replica).await?;
    }
    run.over(what, from, Instant::now()).await
}

async fn together(run: &mut Run, measures: &Measures, what: &str) -> anyhow::Result<()> {
    let from = Instant::now();
    tokio::time::sleep(measures.away).await;
    run.over(what, from, Instant::now()).await
}

/// The replicas of one version are asked to end, one after the other.
async fn go(
    run: &mut Run,
    site: &mut Site,
    measures: &Measures,
    services: &[&str],
    number: usize,
    which: &str,
) -> anyhow::Result<()> {
    for service in services {
        run.steady().await;
        let from = Instant::now();
        site.stop(&replica_name(service, number))?;
        let back = run.throughput_back(from, measures.away / SHARE).await?;
        run.over_with(&format!("{which} {service} ends"), from, back).await?;
    }
    Ok(())
}

/// The folder with the programs of an earlier version, if all of them are there.
fn old_programs(folder: Option<&Path>) -> anyhow::Result<&Path> {
    let folder = folder.ok_or_else(|| {
        CannotHere("there are no programs of an earlier version (`make drill-upgrade`, `--old-binaries`)".to_owned())
    })?;
    let programs = SERVICES.into_iter().filter(|service| *service != ATTESTOR); // a role of another one's program
    for program in programs.map(|service| folder.join(service)) {
        if !program.is_file() {
            return Err(CannotHere(format!("the earlier version lacks {}", program.display())).into());
        }
    }
    Ok(folder)
}

/// The last migration of each schema that has any.
type Migrations = BTreeMap<String, i64>;

async fn migrations(site: &Site) -> anyhow::Result<Migrations> {
    let signer = PgPool::connect(&site.stack.settings().signer_database_url).await.context("the signer's database")?;
    let mut all = Migrations::new();
    for pool in [&site.pool, &signer] {
        let tables = "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.columns WHERE table_name LIKE '%migrations' AND column_name = 'checksum'";
        for table in sqlx::query_scalar::<_, String>(tables).fetch_all(pool).await? {
            let last = AssertSqlSafe(format!("SELECT max(version) FROM {table}")); // quoted by the database
            if let Some(last) = sqlx::query_scalar(last).fetch_one(pool).await? {
                all.insert(table, last);
            }
        }
    }
    signer.close().await;
    Ok(all)
}

/// What the new version has done to the schemas.
fn told(before: &Migrations, after: &Migrations) -> String {
    let brought = after.iter().filter_map(|(table, last)| match before.get(table) {
        Some(first) if first == last => None,
        Some(first) => Some(format!("{table} from {first} to {last}")),
        None => Some(format!("{table}, new, to {last}")),
    });
    let brought: Vec<String> = brought.collect();
    if brought.is_empty() {
        let last: Vec<String> = after.iter().map(|(table, last)| format!("{table} {last}")).collect();
        return format!("the new version has brought no migration ({})", last.join(", "));
    }
    format!("migrations that the new version has brought: {}", brought.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(rows: &[(&str, i64)]) -> Migrations {
        rows.iter().map(|(table, last)| ((*table).to_owned(), *last)).collect()
    }

    #[test]
    fn what_is_new_in_the_schemas_is_told() {
        let before = stand(&[("engine.migrations", 60), ("feeds.migrations", 3)]);
        let after = stand(&[("engine.migrations", 61), ("feeds.migrations", 3), ("new.migrations", 1)]);
        assert_eq!(
            told(&before, &after),
            "migrations that the new version has brought: engine.migrations from 60 to 61; new.migrations, new, to 1"
        );
        assert_eq!(
            told(&before, &before),
            "the new version has brought no migration (engine.migrations 60, feeds.migrations 3)"
        );
    }

    #[test]
    fn without_programs_of_an_earlier_version_it_is_skipped_and_says_why() {
        let why = |error: anyhow::Error| error.downcast::<CannotHere>().expect("a reason").0;
        assert!(why(old_programs(None).expect_err("none")).contains("--old-binaries"));
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("svc-signer"), "").expect("written");
        let lacking = why(old_programs(Some(folder.path())).expect_err("some are lacking"));
        assert!(lacking.contains("svc-compliance"), "{lacking}");
        for service in SERVICES {
            std::fs::write(folder.path().join(service), "").expect("written");
        }
        assert_eq!(old_programs(Some(folder.path())).expect("all"), folder.path());
    }
}
