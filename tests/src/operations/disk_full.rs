//! The disk of the databases is full: a small file system of its own, filled up.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dalp_devstack::stack::Options;
use dalp_testing::TestPostgres;

use super::{CannotHere, Measures, Outcome, Run, Site};

/// Enough for both databases with the write-ahead log of the whole drill.
const SIZE: &str = "size=1500m,mode=0755";
/// What becomes free meanwhile is taken, too.
const FILLED_EVERY: Duration = Duration::from_millis(200);

/// A file system in memory. Dropped: gone.
struct Disk {
    folder: tempfile::TempDir,
}

// === impl Disk ===

impl Disk {
    fn mount() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("dalp-disk").tempdir()?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self { folder }),
            Ok(output) => Err(CannotHere(format!(
                "a file system is not mounted: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ))
            .into()),
            Err(error) => Err(CannotHere(format!("a file system is not mounted: {error}")).into()),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes every byte that is free.
    fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.ballast())?;
        // The last bytes one by one would take for ever: down to a page it is full for every database.
        for size in [1 << 20, 1 << 12] {
            let piece = vec![0; size];
            loop {
                match file.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("the ballast"),
                }
            }
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status(); // it is busy or gone: nothing more can be done
    }
}

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let disk = Disk::mount()?; // outlives the stack, whose database stands on it
    let options = Options { database_folder: Some(disk.path().to_owned()), ..Options::default() };
    let mut site = Site::open(&options, "local").await?;
    let mut run = Run::begin(&site, "disk_full", measures).await?;
    let from = Instant::now();
    disk.fill()?;
    ensure!(!has_room(&site).await, "the database has room for a table though its disk is full");
    while from.elapsed() < measures.away {
        disk.fill()?;
        // The files that it keeps for its log would last for a while.
        let _ = sqlx::query("SELECT pg_switch_wal()").execute(&site.pool).await; // it is away by the time that they are used up
        tokio::time::sleep(FILLED_EVERY).await;
    }
    std::fs::remove_file(disk.ballast())?;
    let until = Instant::now();
    if tokio::task::block_in_place(|| site.stack.database_mut().is_some_and(TestPostgres::start_if_ended)) {
        run.remark("the server had ended by itself and was started again".to_owned());
    }
    run.over("no room for data and log", from, until).await?;
    run.finish(&site).await
}

/// Whether the database of the domain services has room for the smallest of tables.
async fn has_room(site: &Site) -> bool {
    sqlx::query("CREATE TABLE public.of_the_drill AS SELECT 1 AS number").execute(&site.pool).await.is_ok()
}
