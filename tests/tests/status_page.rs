//! The status page in a real browser: an approval that a custodian waits for shows by itself, on a desk and on a phone, for everybody.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use alloy::primitives::{Address, U256};
use dalp_devstack::client::{Client, keyed};
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::operator::ListLanesRequest;
use dalp_proto::operator::operator_service_client::OperatorServiceClient;
use dalp_proto::signer::CreateKeyRequest;
use dalp_proto::signer::key_service_client::KeyServiceClient;
use dalp_proto::system::BootstrapRequest;
use dalp_proto::system::system_service_client::SystemServiceClient;
use dalp_simulators::custodian::{Custodian, Kind, Pace};
use dalp_tests::waiting::until;
use prost_types::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const PACE: Pace = Pace { call_timeout_ms: 5_000, settle_ms: 300, looks_ms: (50, 200), broadcast: false };
/// The programs under which Chromium is known.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// What the page promises.
const SHOWN_WITHIN_MS: i64 = 2_000;
/// Approvals that are waited for: a busy machine may be late with one.
const HOLDS: usize = 3;

/// Somebody who looks, with a browser.
struct Looker {
    _child: Child,
    say: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

// === impl Looker ===

impl Looker {
    /// Opens the page and signs in; what axe found at the form.
    async fn opens(stack: &Stack, folder: &Path) -> (Self, Value) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("status-page");
        assert!(script.join("node_modules").is_dir(), "what drives the browser is not installed: make tools");
        let mut child = Command::new("node")
            .arg(script.join("look.mjs"))
            .env("STATUS_URL", stack.status_page().expect("a page"))
            .env("STATUS_KEY", &stack.settings().api_key)
            .env("STATUS_CERTIFICATE", stack.folder().join("pki/svc-gateway.pem"))
            .env("STATUS_FOLDER", folder)
            .env("CHROMIUM", browser())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node runs");
        let say = child.stdin.take().expect("its input");
        let answers = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut looker = Self { _child: child, say, answers };
        let first = looker.answer().await;
        (looker, first)
    }

    async fn does(&mut self, command: &str) -> Value {
        self.say.write_all(format!("{command}\n").as_bytes()).await.expect("it listens");
        self.answer().await
    }

    async fn answer(&mut self) -> Value {
        let line =
            self.answers.next_line().await.expect("readable").expect("the browser's script ended: see its errors");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(answer["complaints"], json!([]), "the browser complains");
        answer
    }
}

fn browser() -> PathBuf {
    let folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let mut all = BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    all.find(|program| program.is_file()).expect("Chromium is not installed: make tools")
}

/// Since when a lane is held at its provider.
async fn held_since(client: &Client) -> Option<Timestamp> {
    let request = ListLanesRequest { busy_only: true, ..ListLanesRequest::default() };
    let lanes = OperatorServiceClient::new(client.gateway()).list_lanes(request).await.ok()?.into_inner().lanes;
    lanes.into_iter().find_map(|lane| lane.provider_hold)?.since
}

/// A funded wallet whose key is at the custodian.
async fn wallet(client: &Client, chain: &ChainView) -> String {
    let request = CreateKeyRequest { wallet: "admin".to_owned(), provider: "dfns".to_owned(), owner: String::new() };
    let created = KeyServiceClient::new(client.gateway()).create_key(keyed(request, "admin")).await.expect("a key");
    let text = created.into_inner().key.expect("a key").address;
    let address: Address = text.parse().expect("an address");
    chain.fund(address, U256::from(10_u64).pow(U256::from(21_u64))).await.expect("funded");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_approval_shows_on_the_page_by_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/status-page");
    std::fs::create_dir_all(&folder).expect("a folder for pictures");
    let secrets = tempfile::tempdir().expect("a folder");
    let dfns = Custodian::start(Kind::Dfns, None).await.expect("a custodian");
    let options = Options { signer: dfns.section(secrets.path(), &PACE).expect("a section"), ..Options::default() };
    let stack = Stack::start(&options).await.expect("the stack starts");
    let client = stack.client().expect("a client");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let admin = wallet(&client, &chain).await;
    dfns.ask_people().await;
    let (mut looker, form) = Looker::opens(&stack, &folder).await;
    assert_eq!(form["found"], json!([]), "the form is for everybody");

    // A system is set up by a key at the custodian, whose people are asked for each part of it.
    let request = keyed(BootstrapRequest { admin, chain_id: 0 }, "a-system");
    // Whether it is answered before its approvers are asked or told that they are, it waits for them.
    let _ = SystemServiceClient::new(client.gateway()).bootstrap(request).await;
    let (mut last, mut late) = (None, Vec::new());
    for number in 0..HOLDS {
        let next = |since: &Option<Timestamp>| since.is_some() && *since != last;
        let since = until("an approval is waited for", async || held_since(&client).await, next).await.expect("a time");
        let seen = looker.does(&format!("held {}", since.seconds)).await;
        let since_ms = since.seconds * 1_000 + i64::from(since.nanos) / 1_000_000;
        late.push(seen["seen"].as_i64().expect("a time") - since_ms);
        if number == 0 {
            let looked = looker.does(&format!("look {}", folder.display())).await;
            assert_eq!(looked["found"], json!([]), "the page is for everybody");
            let shown = looked["shown"].as_str().expect("text");
            // What stands in a system that is not there yet cannot be read; all else is.
            let count = |what: &str| shown.matches(what).count();
            assert_eq!(count("Not available"), count("Not available: SYSTEM_NOT_BOOTSTRAPPED"), "{shown}");
            for part in ["CUSTODY_APPROVAL_PENDING at dfns", "third_party_custody", "svc-signer: health"] {
                assert!(shown.contains(part), "{part}: {shown}");
            }
        }
        last = Some(since);
        dfns.approve().await;
    }
    let report = json!({"shown_after_ms": late, "promised_ms": SHOWN_WITHIN_MS});
    std::fs::write(folder.join("report.json"), report.to_string()).expect("a report");
    assert!(late.iter().any(|ms| *ms <= SHOWN_WITHIN_MS), "{report}");
    assert_eq!(looker.does("leave").await["path"], "/login");
}
