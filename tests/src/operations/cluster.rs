//! A PostgreSQL cluster as `deploy/postgresql` describes it, of three Patroni members with one etcd behind one HAProxy, all on loopback.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use alloy::primitives::hex;
use anyhow::{Context as _, bail, ensure};
use dalp_devstack::pki::DevPki;
use dalp_devstack::ports::free_ports;
use dalp_devstack::stack::Databases;
use dalp_testing::{Signal, as_postgres, binary, give_to_postgres, is_running, signal};
use serde::Deserialize;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _};

use super::CannotHere;

const ETCD: &str = include_str!("../../../deploy/postgresql/etcd.yml");
const PATRONI: &str = include_str!("../../../deploy/postgresql/patroni.yml");
const PROXY: &str = include_str!("../../../deploy/postgresql/haproxy.cfg");

const HOST: &str = "127.0.0.1";
const CLUSTER: &str = "dalp";
const MEMBERS: [&str; 3] = ["a", "b", "c"];
/// How long a cluster may take to be made, to find a primary, or to be whole again.
const WITHIN: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(200);
const ASKED_WITHIN: Duration = Duration::from_secs(2);
/// A switchover is answered when it is over.
const SWITCHED_WITHIN: Duration = Duration::from_secs(60);
/// How long a server may take to end when the drill is over.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A running cluster. Dropped: ended and removed.
pub(super) struct Cluster {
    members: Vec<Member>,
    _proxy: Process,
    _etcd: Process,
    client: reqwest::Client,
    /// Where whichever member is the primary is reached.
    proxy_port: u16,
    superuser_password: String,
    rest_password: String,
    folder: tempfile::TempDir,
}

/// A Patroni with its server.
struct Member {
    name: &'static str,
    rest_port: u16,
    folder: PathBuf,
    patroni: Option<Process>,
}

/// A program in the foreground. Dropped: killed.
struct Process(Child);

/// What Patroni tells of a member.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Seen {
    name: String,
    role: String,
    state: String,
    timeline: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct AllSeen {
    members: Vec<Seen>,
}

/// Programs that Debian's packages bring.
struct Programs {
    etcd: PathBuf,
    patroni: PathBuf,
    haproxy: PathBuf,
}

// === impl Cluster ===

impl Cluster {
    /// Makes a cluster, and waits until it has a primary and two standbys, one of them synchronous.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let programs = Programs::find()?;
        let folder = tempfile::Builder::new().prefix("dalp-cluster-").tempdir()?;
        let mut pki = DevPki::create(&folder.path().join("pki"), &[])?;
        let files = pki.issue("postgresql")?;
        let authority = fs::read(&files.trust_anchors)?;
        let ports = free_ports(3 + 2 * MEMBERS.len())?;
        let [client_port, peer_port, proxy_port, ref ports @ ..] = ports[..] else { bail!("as many as asked for") };
        let [superuser_password, rest_password, replicator_password]: [String; 3] = std::array::from_fn(|_| secret());
        let archive = folder.path().join("archive");
        fs::create_dir(&archive)?;
        let of_all = [
            ("CLUSTER", CLUSTER.to_owned()),
            ("HOST", HOST.to_owned()),
            ("ETCD", format!("{HOST}:{client_port}")),
            ("NETWORK", format!("{HOST}/32")),
            ("PROGRAMS", binary("postgres").parent().unwrap_or(Path::new("/usr/bin")).display().to_string()),
            ("ARCHIVE_COMMAND", format!("cp -n %p {}/%f", archive.display())),
            ("SUPERUSER_PASSWORD", superuser_password.clone()),
            ("REPLICATOR_PASSWORD", replicator_password),
            ("REST_PASSWORD", rest_password.clone()),
            ("PROXY", format!("{HOST}:{proxy_port}")),
            ("CA", files.trust_anchors.display().to_string()),
            ("CLIENT_PORT", client_port.to_string()),
            ("PEER_PORT", peer_port.to_string()),
            ("MEMBERS", format!("etcd=https://{HOST}:{peer_port}")),
        ];
        let mut of_proxy = of_all.to_vec();
        let mut members = Vec::new();
        for ((name, ports), names) in MEMBERS.into_iter().zip(ports.chunks(2)).zip(PROXY_NAMES) {
            let [port, rest_port] = *ports else { bail!("two ports each") };
            let own = prepare(folder.path(), name, &files, &of_all)?;
            let further = [("PORT", port.to_string()), ("REST_PORT", rest_port.to_string())];
            write(&own.folder.join("patroni.yml"), PATRONI, &[&own.names[..], &further].concat())?;
            let values = [name.to_owned(), format!("{HOST}:{port}"), rest_port.to_string()];
            of_proxy.extend(names.into_iter().zip(values));
            members.push(Member { name, rest_port, folder: own.folder, patroni: None });
        }
        let etcd = prepare(folder.path(), "etcd", &files, &of_all)?.in_file("etcd.yml", ETCD)?;
        let proxy = folder.path().join("haproxy.cfg");
        write(&proxy, PROXY, &of_proxy)?;
        give_to_postgres(folder.path());
        let authority = reqwest::Certificate::from_pem(&authority)?;
        let client = reqwest::Client::builder().tls_certs_only([authority]).timeout(ASKED_WITHIN).build()?;
        let etcd = Process::start(&programs.etcd, &["--config-file".as_ref(), &etcd], folder.path(), "etcd")?;
        let proxy =
            Process::start(&programs.haproxy, &["-db".as_ref(), "-f".as_ref(), &proxy], folder.path(), "proxy")?;
        let mut cluster =
            Self { members, _proxy: proxy, _etcd: etcd, client, proxy_port, superuser_password, rest_password, folder };
        cluster.bring_back(&MEMBERS)?;
        cluster.wait_until_whole().await?;
        Ok(cluster)
    }

    /// Makes the platform's databases, each with an owner of its own.
    pub(super) async fn create_databases(&self) -> anyhow::Result<Databases> {
        let authority = self.folder.path().join("pki/ca.pem");
        let options = PgConnectOptions::new()
            .host(HOST)
            .port(self.proxy_port)
            .username("postgres")
            .password(&self.superuser_password)
            .database("postgres")
            .ssl_mode(PgSslMode::VerifyFull)
            .ssl_root_cert(&authority);
        let mut connection = PgConnection::connect_with(&options).await.context("the cluster's primary")?;
        let mut addresses = Vec::new();
        for name in ["dalp", "signer"] {
            let password = secret();
            for statement in [
                format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'"),
                format!("CREATE DATABASE {name} OWNER {name}"),
            ] {
                sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
            }
            let port = self.proxy_port;
            addresses.push(format!(
                "postgres://{name}:{password}@{HOST}:{port}/{name}?sslmode=verify-full&sslrootcert={}",
                authority.display()
            ));
        }
        connection.close().await?;
        let [engine, signer] = addresses.try_into().map_err(|_| anyhow::anyhow!("two databases"))?;
        Ok(Databases { engine, signer })
    }

    /// Kills the primary's Patroni and its server, as a host that loses power does; returns which it was.
    pub(super) async fn kill_primary(&mut self) -> anyhow::Result<&'static str> {
        let primary = self.wait_for_primary().await?;
        self.kill(|name| name == primary)?;
        Ok(primary)
    }

    /// Kills all others.
    pub(super) async fn kill_standbys(&mut self) -> anyhow::Result<Vec<&'static str>> {
        let primary = self.wait_for_primary().await?;
        self.kill(|name| name != primary)
    }

    fn kill(&mut self, which: impl Fn(&str) -> bool) -> anyhow::Result<Vec<&'static str>> {
        let chosen = self.members.iter_mut().filter(|member| which(member.name));
        let killed: Vec<_> = chosen.map(|member| member.kill().map(|()| member.name)).collect::<Result<_, _>>()?;
        ensure!(!killed.is_empty(), "there is such a member");
        Ok(killed)
    }

    /// Starts members that were killed.
    pub(super) fn bring_back(&mut self, names: &[&str]) -> anyhow::Result<()> {
        let programs = Programs::find()?;
        let mut chosen = self.members.iter_mut().filter(|member| names.contains(&member.name));
        chosen.try_for_each(|member| member.start(&programs.patroni))
    }

    /// Waits until a member says that it is the primary.
    pub(super) async fn wait_for_primary(&self) -> anyhow::Result<&'static str> {
        self.wait("a primary", async || {
            for member in &self.members {
                let answer = self.client.get(member.address("primary")).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return Ok(member.name);
                }
            }
            Err("none says so".to_owned())
        })
        .await
    }

    /// Waits until all members follow one primary, and one of them synchronously.
    pub(super) async fn wait_until_whole(&self) -> anyhow::Result<()> {
        self.wait("a whole cluster", async || {
            let seen = self.seen().await.map_err(|error| format!("{error:#}"))?;
            if is_whole(&seen) { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await
    }

    /// Has the primary hand over to the synchronous standby, and waits until it has.
    pub(super) async fn switch_over(&self) -> anyhow::Result<()> {
        let primary = self.wait_for_primary().await?;
        let seen = self.seen().await?;
        let standby = seen.iter().find(|member| member.role == "sync_standby").context("a synchronous standby")?;
        let member = self.members.iter().find(|member| member.name == primary).context("a member")?;
        let answer = self
            .client
            .post(member.address("switchover"))
            .basic_auth("patroni", Some(&self.rest_password))
            .timeout(SWITCHED_WITHIN)
            .json(&json!({ "leader": primary, "candidate": standby.name }))
            .send()
            .await?;
        let status = answer.status();
        ensure!(status.is_success(), "the switchover is refused: {status} {}", answer.text().await?);
        let now = self.wait_for_primary().await?;
        ensure!(now == standby.name, "{now} is the primary, not {}", standby.name);
        Ok(())
    }

    /// What the members say of all.
    async fn seen(&self) -> anyhow::Result<Vec<Seen>> {
        let primary = self.wait_for_primary().await?;
        let member = self.members.iter().find(|member| member.name == primary).context("a member")?;
        let all: AllSeen = self.client.get(member.address("cluster")).send().await?.json().await?;
        Ok(all.members)
    }

    async fn wait<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> anyhow::Result<T> {
        let begun = Instant::now();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            match look().await {
                Ok(found) => return Ok(found),
                Err(seen) if begun.elapsed() > WITHIN => {
                    let logs: Vec<String> = self.members.iter().map(Member::log_end).collect();
                    bail!("{what}: not after {WITHIN:?}; {seen}\n{}", logs.join("\n"));
                }
                Err(_) => {}
            }
        }
    }
}

// === impl Member ===

impl Member {
    fn start(&mut self, patroni: &Path) -> anyhow::Result<()> {
        let configuration = self.folder.join("patroni.yml");
        self.patroni = Some(Process::start(patroni, &[&configuration], &self.folder, "patroni")?);
        Ok(())
    }

    /// With its server, whose other processes end when they see that their parent is gone.
    fn kill(&mut self) -> anyhow::Result<()> {
        let server = self.server().with_context(|| format!("{} has a server", self.name))?;
        self.patroni = None;
        ensure!(signal(server, Signal::KILL), "the server of {} runs", self.name);
        Ok(())
    }

    /// The server's own process.
    fn server(&self) -> Option<u32> {
        let text = fs::read_to_string(self.folder.join("data/postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    fn address(&self, path: &str) -> String {
        format!("https://{HOST}:{}/{path}", self.rest_port)
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(self.folder.join("patroni.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("{}: {}", self.name, lines[lines.len().saturating_sub(8)..].join("\n"))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.patroni.take().is_none() {
            return; // its server was killed with it
        }
        let Some(server) = self.server() else { return };
        signal(server, Signal::QUIT);
        let begun = Instant::now();
        while is_running(server) && begun.elapsed() < ENDS_WITHIN {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

// === impl Process ===

impl Process {
    /// Starts a program as the user whom PostgreSQL runs as, for Patroni and PostgreSQL refuse another, with its log in the folder.
    fn start(program: &Path, arguments: &[&Path], folder: &Path, name: &str) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(folder.join(format!("{name}.log")))?;
        let mut command = as_postgres(program);
        command.args(arguments).current_dir("/");
        // libpq and Python look for certificates and settings at home, and libpq in variables.
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("PG")) {
            command.env_remove(variable);
        }
        command.env("HOME", folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn().with_context(|| format!("cannot start {}", program.display()))?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill(); // already ended is fine
        let _ = self.0.wait();
    }
}

// === impl Programs ===

impl Programs {
    fn find() -> anyhow::Result<Self> {
        Ok(Self {
            etcd: find("etcd", "etcd-server")?,
            patroni: find("patroni", "patroni")?,
            haproxy: find("haproxy", "haproxy")?,
        })
    }
}

/// Where a program stands that a package of Debian brings.
fn find(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(|folder| Path::new(folder).join(program));
    let found = places.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| CannotHere(format!("{program} is not installed (Debian: {package})")).into())
}

/// The names in the proxy's configuration that tell of each member: its name, its server's address, the port of its Patroni.
const PROXY_NAMES: [[&str; 3]; 3] = [
    ["MEMBER_1", "ADDRESS_1", "REST_PORT_1"],
    ["MEMBER_2", "ADDRESS_2", "REST_PORT_2"],
    ["MEMBER_3", "ADDRESS_3", "REST_PORT_3"],
];

/// A folder of a process with its certificates, and the names that its configuration is filled with.
struct Own {
    folder: PathBuf,
    names: Vec<(&'static str, String)>,
}

// === impl Own ===

impl Own {
    fn in_file(&self, file: &str, template: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(file);
        write(&path, template, &self.names)?;
        Ok(path)
    }
}

fn prepare(
    all: &Path,
    name: &str,
    files: &dalp_devstack::pki::LeafFiles,
    of_all: &[(&'static str, String)],
) -> anyhow::Result<Own> {
    let folder = all.join(name);
    let secrets = folder.join("secrets");
    fs::create_dir_all(&secrets)?;
    for (from, to) in [(&files.trust_anchors, "ca.pem"), (&files.certificate, "server.pem"), (&files.key, "server.key")]
    {
        fs::copy(from, secrets.join(to))?;
    }
    let own = [
        ("MEMBER", name.to_owned()),
        ("DATA", folder.join("data").display().to_string()),
        ("SECRETS", secrets.display().to_string()),
        ("SOCKETS", folder.display().to_string()),
    ];
    Ok(Own { folder, names: [of_all, &own[..]].concat() })
}

fn write(path: &Path, template: &str, names: &[(&str, String)]) -> anyhow::Result<()> {
    let text = fill(template, names).with_context(|| format!("{}", path.display()))?;
    fs::write(path, text).with_context(|| format!("{}", path.display()))
}

/// A template with its `${NAMES}` replaced, as envsubst does; a name that is not known is an error.
fn fill(template: &str, names: &[(&str, String)]) -> anyhow::Result<String> {
    let mut parts = template.split("${");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').context("a name without its end")?;
        let (_, value) =
            names.iter().find(|(known, _)| *known == name).with_context(|| format!("no value of {name}"))?;
        text.push_str(value);
        text.push_str(rest);
    }
    Ok(text)
}

/// Whether there is a primary, a synchronous standby and another one, all on the same timeline.
fn is_whole(seen: &[Seen]) -> bool {
    let runs = |member: &Seen| matches!(member.state.as_str(), "running" | "streaming");
    let one_line = seen.iter().all(|member| member.timeline.is_some() && member.timeline == seen[0].timeline);
    let mut roles: Vec<&str> = seen.iter().map(|member| member.role.as_str()).collect();
    roles.sort_unstable();
    roles == ["leader", "replica", "sync_standby"] && one_line && seen.iter().all(runs)
}

fn secret() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, String)> {
        names.into_iter().map(|name| (name, format!("<{name}>"))).collect()
    }

    #[test]
    fn a_template_is_filled_or_refused() {
        let known = names(["A", "B"]);
        assert_eq!(fill("x ${A}${B} $A ${A}/y\n", &known).unwrap(), "x <A><B> $A <A>/y\n");
        assert!(fill("${C}", &known).unwrap_err().to_string().contains('C'));
        assert!(fill("${A", &known).is_err());
    }

    #[test]
    fn what_is_shipped_is_synchronous_and_strict_and_ends_connections_to_a_former_primary() {
        for setting in ["synchronous_mode: true\n", "synchronous_mode_strict: true\n", "archive_mode: \"on\"\n"] {
            assert!(PATRONI.contains(setting), "{setting}");
        }
        assert!(PROXY.contains("OPTIONS /primary") && PROXY.contains("on-marked-down shutdown-sessions"));
        assert!(!PATRONI.contains("- host ") && !PATRONI.contains("trust"), "no connection without TLS and password");
    }

    #[test]
    fn a_cluster_is_whole_with_all_members_on_the_primarys_timeline() {
        let seen = |roles: [&str; 3], states: [&str; 3], lines: [u64; 3]| -> Vec<Seen> {
            let members = MEMBERS.into_iter().zip(roles).zip(states).zip(lines);
            let member = |(((name, role), state), line): (((&str, &str), &str), u64)| Seen {
                name: name.to_owned(),
                role: role.to_owned(),
                state: state.to_owned(),
                timeline: Some(line),
            };
            members.map(member).collect()
        };
        let (roles, running) = (["replica", "leader", "sync_standby"], ["running"; 3]);
        assert!(is_whole(&seen(roles, running, [2; 3])));
        assert!(is_whole(&seen(roles, ["streaming", "running", "streaming"], [2; 3])));
        assert!(!is_whole(&seen(roles, running, [1, 2, 2])), "one has not followed yet");
        assert!(!is_whole(&seen(roles, ["running", "running", "starting"], [2; 3])));
        assert!(!is_whole(&seen(["replica", "leader", "replica"], running, [2; 3])), "none is synchronous");
        assert!(!is_whole(&seen(roles, running, [2; 3])[..2]));
        assert!(!is_whole(&[]));
    }
}
