//! The libraries that users of other languages would pick instead, each in a small client of its own under
//! `tests/bench-clients`: nonces counted locally, everything else left to the library, many sends under way.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use dalp_devstack::report::Figure;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::chain::Comparison;

/// Transfers of one run of one client: the slowest needs some ten seconds for them.
const TRANSFERS: usize = 1_000;
const ANSWERS_WITHIN: Duration = Duration::from_secs(180);

/// Name of the library, the program that runs its client, and the client.
const CLIENTS: [(&str, &str, &str); 3] = [
    ("viem", "node", "viem.mjs"),
    ("ethers", "node", "ethers.mjs"),
    ("web3py", "../../.tools/bench-py/bin/python", "web3_client.py"),
];

/// `library.<viem|ethers|web3py>.<chain>.lanes<n>`.
pub(super) async fn figures(chain: &str, calls: &Comparison) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (library, program, script) in CLIENTS {
        let name = format!("library.{library}.{chain}.lanes{}", calls.lanes());
        figures.push(match Client::start(program, script, calls).await {
            Ok(mut client) => {
                let rate = calls.until_mined(TRANSFERS, client.send()).await.with_context(|| name.clone())?;
                let note = format!("{}; keeps nothing, checks nothing", client.version);
                Figure::of(&name, "tx/s", vec![rate], None, &note)
            }
            Err(error) => Figure::missing(&name, "tx/s", None, &format!("its client does not start: {error:#}")),
        });
    }
    Ok(figures)
}

/// A client that has read its order and waits for the word.
struct Client {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// As the client names its library.
    version: String,
}

// === impl Client ===

impl Client {
    async fn start(program: &str, script: &str, calls: &Comparison) -> anyhow::Result<Self> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/bench-clients"));
        let local = folder.join(program);
        let program = if local.exists() { local } else { PathBuf::from(program) };
        let mut process = Command::new(&program)
            .arg(folder.join(script))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} is not installed: run `make bench`", program.display()))?;
        let lines = BufReader::new(process.stdout.take().context("stdout is piped")?).lines();
        let mut client = Self { process, lines, version: String::new() };
        client.say(&calls.as_order(TRANSFERS).to_string()).await?;
        client.version = client.hear("ready ").await?;
        Ok(client)
    }

    /// Has everything sent.
    async fn send(&mut self) -> anyhow::Result<()> {
        self.say("go").await?;
        self.hear("sent").await?;
        let ended = self.process.wait().await?;
        ensure!(ended.success(), "the client ended with {ended}");
        Ok(())
    }

    async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self.process.stdin.as_mut().context("stdin is piped")?;
        stdin.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(stdin.flush().await?)
    }

    /// What follows the word in the client's next line.
    async fn hear(&mut self, word: &str) -> anyhow::Result<String> {
        let line = tokio::time::timeout(ANSWERS_WITHIN, self.lines.next_line()).await.context("it says nothing")??;
        match line.as_deref().and_then(|line| line.strip_prefix(word)) {
            Some(rest) => Ok(rest.to_owned()),
            None => bail!("it said {line:?} instead of {word:?}"),
        }
    }
}
