//! A child process of the stack: started with a log file, awaited by a condition, ended with the stack.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long a process may take to say where it listens.
const START_WITHIN: Duration = Duration::from_secs(180);
/// How long a process may take to end by itself before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One running service.
#[derive(Debug)]
pub struct Service {
    name: String,
    binary: PathBuf,
    config: PathBuf,
    /// Arguments beside the configuration.
    arguments: Vec<String>,
    /// Variables beside those of this process.
    environment: Vec<(String, String)>,
    log: PathBuf,
    address_file: PathBuf,
    /// Where its further listeners write theirs.
    further_files: Vec<PathBuf>,
    child: Option<Child>,
}

// === impl Service ===

impl Service {
    /// Starts `binary --config config` with further arguments and variables, and waits until it has written its address and those of its further listeners,
    /// which stand in `further_files`.
    ///
    /// # Errors
    /// When it cannot be started or ends before it listens; the error carries the end of its log.
    pub fn start(
        name: &str,
        binary: PathBuf,
        arguments: &[&str],
        environment: Vec<(String, String)>,
        folder: &Path,
        further_files: Vec<PathBuf>,
    ) -> anyhow::Result<Self> {
        let mut service = Self {
            name: name.to_owned(),
            binary,
            config: folder.join(format!("{name}.toml")),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment,
            log: folder.join(format!("{name}.log")),
            address_file: folder.join(format!("{name}.address")),
            further_files,
            child: None,
        };
        service.spawn()?;
        Ok(service)
    }

    /// Its name, for instance `svc-signer`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its log stands.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where it listens, `host:port`.
    ///
    /// # Errors
    /// When it has not said so.
    pub fn address(&self) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(&self.address_file)
            .with_context(|| format!("{} has not written its address", self.name))?;
        Ok(text.trim().to_owned())
    }

    /// What it says of a configuration, without starting with it.
    ///
    /// # Errors
    /// When its program cannot be started.
    pub fn check_config(&self, config: &Path) -> std::io::Result<Output> {
        self.command(config).arg("check-config").output()
    }

    /// The file it was started with.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    fn command(&self, config: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(config).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn announcements(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.address_file).chain(&self.further_files)
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        for file in self.announcements() {
            let _ = std::fs::remove_file(file); // absent at the first start
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child =
            self.command(&self.config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().with_context(
                || format!("cannot start {}: build it with `cargo build --workspace --bins`", self.binary.display()),
            )?;
        self.child = Some(child);
        let begun = Instant::now();
        while !self.announcements().all(|file| file.exists()) {
            if let Some(status) = self.exited()? {
                bail!("{} ended at its start ({status}); its log ends with:\n{}", self.name, self.log_end());
            }
            if begun.elapsed() > START_WITHIN {
                bail!("{} does not listen after {START_WITHIN:?}; its log ends with:\n{}", self.name, self.log_end());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Starts it again after it ended or was killed. It listens where its configuration says.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        self.spawn()
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // already ended is fine
            let _ = child.wait();
        }
    }

    /// Asks it to end and waits; kills it when it takes too long.
    pub fn stop(&mut self) {
        let Some(pid) = self.pid() else { return };
        dalp_testing::signal(pid, dalp_testing::Signal::TERM); // already ended is fine
        let begun = Instant::now();
        while begun.elapsed() < STOP_WITHIN {
            if !matches!(self.exited(), Ok(None)) {
                self.child = None;
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.kill();
    }

    fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.as_mut().map(Child::try_wait).transpose()?.flatten())
    }

    fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}
