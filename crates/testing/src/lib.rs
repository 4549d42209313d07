//! What tests of several crates share: a private PostgreSQL, in a temporary directory, gone when dropped, and signals to
//! processes.
//!
//! A crate of its own, so that svc-signer can use it without the engine, and no production code links it.
#![forbid(unsafe_code)]

pub use rustix::process::Signal;
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Sends a signal; whether there is such a process. Not the program `kill`: a minimal system has none.
pub fn signal(pid: u32, signal: Signal) -> bool {
    process(pid).is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
}

/// Whether a process is there.
pub fn is_running(pid: u32) -> bool {
    process(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// Never 0: that would mean the whole process group.
fn process(pid: u32) -> Option<rustix::process::Pid> {
    i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)
}

/// Everything else is as in production.
const DURABLE: [&str; 1] = ["shared_preload_libraries=pg_stat_statements"];

/// Keeps the log, so that any point in time can be had again. Commands run in the data directory.
const ARCHIVING: [&str; 2] = [
    "archive_mode=on",
    "archive_command=test ! -f ../archive/%f && cp %p ../archive/%f.part && mv ../archive/%f.part ../archive/%f",
];

/// How long a server may take to archive what it has, or to be restored.
const RESTORED_WITHIN: Duration = Duration::from_secs(120);

/// A running server of its own.
pub struct TestPostgres {
    directory: tempfile::TempDir,
    settings: Vec<String>,
    server: Child,
}

impl TestPostgres {
    /// Starts a server that listens on a Unix socket only. Fast, not durable: it never syncs. Panics when PostgreSQL is not
    /// installed: a test cannot do without.
    pub fn start() -> Self {
        Self::start_with(&std::env::temp_dir(), &["fsync=off", "synchronous_commit=off", "full_page_writes=off"])
    }

    /// Starts a server that commits as one in production does, and counts its statements in `pg_stat_statements`.
    pub fn start_durable() -> Self {
        Self::start_durable_in(&std::env::temp_dir())
    }

    /// As [`TestPostgres::start_durable`], with everything it keeps below this folder.
    pub fn start_durable_in(folder: &Path) -> Self {
        Self::start_with(folder, &DURABLE)
    }

    /// As [`TestPostgres::start_durable`], and it can be restored to a point in time.
    pub fn start_archiving() -> Self {
        let settings: Vec<&str> = DURABLE.into_iter().chain(ARCHIVING).collect();
        let server = Self::start_with(&std::env::temp_dir(), &settings);
        let archive = server.directory.path().join("archive");
        std::fs::create_dir(&archive).expect("the server's directory is writable"); // until then it tries again
        give_to_postgres(&archive);
        server
    }

    /// Takes a base backup, in place of an earlier one.
    pub fn back_up(&self) {
        let backup = self.directory.path().join("backup");
        let _ = std::fs::remove_dir_all(&backup); // absent at first
        let made = as_postgres(&binary("pg_basebackup"))
            .args(["--checkpoint=fast", "--wal-method=none", "--no-password", "--username=postgres", "--host"])
            .arg(self.directory.path())
            .arg("--pgdata")
            .arg(&backup)
            .stderr(Stdio::null())
            .status()
            .expect("pg_basebackup is installed");
        assert!(made.success(), "a base backup is made");
    }

    /// Gives this moment a name that [`TestPostgres::restore`] takes.
    pub async fn mark(&self, name: &str) {
        let pool = self.pool().await;
        sqlx::query("SELECT pg_create_restore_point($1)")
            .bind(name)
            .execute(&pool)
            .await
            .expect("a server that archives");
        pool.close().await;
    }

    /// Throws away what the server has, and restores it from backup and archive to a moment that was named since.
    pub async fn restore(&mut self, name: &str) {
        let pool = self.pool().await;
        let switched = "SELECT pg_walfile_name(pg_switch_wal())";
        let last: String = sqlx::query_scalar(switched).fetch_one(&pool).await.expect("the server answers");
        pool.close().await;
        let (data, archive) = (self.directory.path().join("data"), self.directory.path().join("archive"));
        until("the log is archived", async || archive.join(&last).exists()).await;
        self.stop();
        std::fs::remove_dir_all(&data).expect("the data directory is ours");
        std::fs::rename(self.directory.path().join("backup"), &data).expect("there is a base backup");
        std::fs::write(data.join("recovery.signal"), "").expect("the data directory is writable");
        give_to_postgres(&data);
        let target = format!("recovery_target_name={name}");
        let recovery = ["restore_command=cp ../archive/%f %p", target.as_str(), "recovery_target_action=promote"];
        let settings: Vec<String> = self.settings.iter().cloned().chain(recovery.map(str::to_owned)).collect();
        self.server = launch(self.directory.path(), &settings);
        self.wait_until_answering();
        let pool = self.pool().await;
        let restoring = "SELECT pg_is_in_recovery()";
        until("the point is reached", async || {
            matches!(sqlx::query_scalar(restoring).fetch_one(&pool).await, Ok(false))
        })
        .await;
        pool.close().await;
    }

    fn start_with(folder: &Path, settings: &[&str]) -> Self {
        let mut making = tempfile::Builder::new();
        let directory = making.prefix("dalp-pg").tempdir_in(folder).expect("temporary directory can be made");
        copy(&template(), &directory.path().join("data"));
        give_to_postgres(directory.path());
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let server = launch(directory.path(), &settings);
        let started = Self { directory, settings, server };
        started.wait_until_answering();
        started
    }

    /// Starts the server again if it ended by itself, as a supervisor does. Whether it had.
    pub fn start_if_ended(&mut self) -> bool {
        let ended = matches!(self.server.try_wait(), Ok(Some(_)));
        if ended {
            self.server = launch(self.directory.path(), &self.settings);
            self.wait_until_answering();
        }
        ended
    }

    /// Ends the server and starts it as a standby of nobody: it answers what is read and takes nothing, as one that was the primary before a failover.
    pub fn restart_as_standby(&mut self) {
        self.stop();
        let signal = self.directory.path().join("data/standby.signal");
        std::fs::write(&signal, "").expect("the data directory is writable");
        give_to_postgres(&signal);
        self.server = launch(self.directory.path(), &self.settings);
        self.wait_until_answering();
    }

    /// Makes a standby the primary.
    pub async fn promote(&self) {
        let pool = self.pool().await;
        let promoted: bool =
            sqlx::query_scalar("SELECT pg_promote()").fetch_one(&pool).await.expect("a standby answers");
        assert!(promoted, "a standby becomes the primary");
    }

    fn wait_until_answering(&self) {
        let socket = self.directory.path().join(".s.PGSQL.5432");
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() || !self.answers() {
            assert!(Instant::now() < deadline, "postgres starts within 30 s");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How to connect.
    pub fn options(&self) -> sqlx::postgres::PgConnectOptions {
        sqlx::postgres::PgConnectOptions::new().socket(self.directory.path()).username("postgres").database("postgres")
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("postgres://postgres@localhost/postgres?host={}", self.directory.path().display())
    }

    /// Creates a further database and returns its URL.
    pub async fn create_database(&self, name: &str) -> String {
        let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(statement).execute(&self.pool().await).await.expect("a database can be made");
        format!("postgres://postgres@localhost/{name}?host={}", self.directory.path().display())
    }

    /// A pool.
    pub async fn pool(&self) -> sqlx::PgPool {
        sqlx::postgres::PgPoolOptions::new()
            .max_connections(30)
            .connect_with(self.options())
            .await
            .expect("the server answers")
    }

    /// The server's own process, the parent of all its others.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Statements that a durable server has carried out so far, of all its databases.
    pub async fn statements(&self) -> i64 {
        let pool = self.pool().await;
        sqlx::query("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            .execute(&pool)
            .await
            .expect("contributed modules");
        let count: i64 = sqlx::query_scalar("SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements")
            .fetch_one(&pool)
            .await
            .expect("a durable server counts");
        pool.close().await;
        count
    }

    fn stop(&mut self) {
        // The postmaster takes its children with it when it is told to stop; killed, it would leave them.
        let pids = std::fs::read_to_string(self.directory.path().join("data/postmaster.pid")).unwrap_or_default();
        let told = pids.lines().next().and_then(|pid| pid.parse().ok()).is_some_and(|pid| signal(pid, Signal::QUIT));
        if !told {
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
    }

    fn answers(&self) -> bool {
        let asked = Command::new(binary("pg_isready")).arg("-q").arg("-h").arg(self.directory.path()).status();
        asked.is_ok_and(|status| status.success())
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < RESTORED_WITHIN, "{what} within {RESTORED_WITHIN:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn launch(directory: &Path, settings: &[String]) -> Child {
    as_postgres(&binary("postgres"))
        .arg("-D")
        .arg(directory.join("data"))
        .arg("-k")
        .arg(directory)
        .args(["-h", "", "-c", "max_connections=200", "-c", "shared_buffers=128MB", "-c", "log_min_messages=fatal"])
        // A drill finds the statement that a service stands before by its text, which a server shows to a kilobyte unless told.
        .args(["-c", "track_activity_query_size=16kB"])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("postgres is installed")
}

/// A cluster that `initdb` made once for all tests of this build: copying it takes a fiftieth of the time.
fn template() -> PathBuf {
    let initdb = binary("initdb");
    let version = Command::new(&initdb).arg("--version").output().expect("initdb is installed").stdout;
    let version: String = String::from_utf8_lossy(&version).chars().filter(char::is_ascii_alphanumeric).collect();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testing");
    let template = kept.join(version);
    if template.exists() {
        return template;
    }
    let making = tempfile::Builder::new().prefix("dalp-initdb").tempdir().expect("temporary directory can be made");
    give_to_postgres(making.path());
    let made = as_postgres(&initdb)
        .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"])
        .arg(making.path().join("data"))
        .stdout(Stdio::null())
        .status()
        .expect("initdb runs");
    assert!(made.success(), "initdb succeeds");
    std::fs::create_dir_all(&kept).expect("the build directory is writable");
    let whole = tempfile::Builder::new().prefix("making").tempdir_in(&kept).expect("temporary directory can be made");
    copy(&making.path().join("data"), &whole.path().join("data"));
    // Appears at once and whole; whoever comes second finds it there and lets its own go.
    let moved = std::fs::rename(whole.path().join("data"), &template);
    assert!(moved.is_ok() || template.exists(), "the template can be kept: {moved:?}");
    template
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success(), "{} can be copied", from.display());
}

/// Makes a folder, with everything in it, or a file that of the user whom PostgreSQL runs as: it refuses to run as root.
pub fn give_to_postgres(directory: &Path) {
    if is_root() {
        let given = Command::new("chown").args(["-R", "postgres"]).arg(directory).status().expect("chown runs");
        assert!(given.success(), "user postgres exists");
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// One of PostgreSQL's programs.
pub fn binary(name: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

/// A program, to be run as the user whom PostgreSQL runs as.
pub fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command.current_dir("/");
    command
}
