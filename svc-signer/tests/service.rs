//! The signer as its peers meet it: over mutual TLS, as a stream, and after a SIGKILL in the middle.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

#[allow(dead_code, unreachable_pub)]
#[path = "../../deploy/devstack/src/pki.rs"]
mod pki;
mod support;

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use dalp_proto::signer::{
    CreateKeyRequest, Key, SignOutcome, SignStatus, StatusRequest, WatchStatusRequest,
    key_service_client::KeyServiceClient, signer_service_client::SignerServiceClient,
};
use dalp_service::{
    Caller, client,
    config::{PeerConfig, TlsConfig},
    tls::ClientTls,
};
use dalp_simulators::{
    aws::{Aws, SIGN},
    fault::Fault,
};
use dalp_testing::{Signal, TestPostgres, signal};
use pki::DevPki;
use support::{PIN, RULES, Setting, TestToken, approved_transaction, call, custodian, order, reason, until};
use svc_signer::providers::ProviderKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Request, Status, transport::Channel};

/// The only child process, whichever thread started it.
fn child_of(parent: u32) -> u32 {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let children: Vec<u32> = threads
        .flat_map(|thread| {
            let listed = std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default();
            listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(children.len(), 1, "{children:?}");
    children[0]
}

/// What a signer is told besides.
#[derive(Default)]
struct Parts {
    /// Keys of `[pkcs11]`.
    partition: String,
    /// Keys of `[telemetry]`.
    telemetry: String,
    /// Keys of `[signer]`.
    signer: String,
    /// Further sections.
    sections: String,
    /// Variables of its environment.
    environment: Vec<(&'static str, String)>,
}

/// A signer as a process of its own, with an HSM.
struct Process {
    dir: tempfile::TempDir,
    pki: DevPki,
    token: TestToken,
    child: Option<Child>,
    postgres: Arc<TestPostgres>,
    environment: Vec<(&'static str, String)>,
}

impl Process {
    async fn start() -> Self {
        Self::start_with(TestToken::new(), Parts::default()).await
    }

    async fn start_with(token: TestToken, parts: Parts) -> Self {
        let Parts { partition, telemetry, signer, sections, environment } = parts;
        let dir = tempfile::tempdir().unwrap();
        let services = ["svc-signer", "svc-compliance", "svc-feeds", "svc-gateway"];
        let pki = DevPki::create(&dir.path().join("pki"), &services).unwrap();
        let postgres = Arc::new(TestPostgres::start());
        let secret = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("file:{}", path.display())
        };
        let files = pki.files("svc-signer");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\naddress_file = \"{address}\"\nmetrics_listen = \"127.0.0.1:0\"\n\
             metrics_address_file = \"{metrics}\"\n[server.tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\ntrust_anchors = \"{anchors}\"\ncrl = \"{crl}\"\nreload_ms = 50\n\
             [telemetry]\nlog_format = \"text\"\n{telemetry}\n[database]\nurl = \"{url}\"\n\
             [signer]\nenvironment = \"development\"\nprovider = \"pkcs11\"\nattestation = \"off\"\ndigest_key = \"{digest_key}\"\nretry_ms = 50\n{signer}\n\
             {section}\n{sections}\n{RULES}",
            address = dir.path().join("address").display(),
            certificate = files.certificate.display(),
            key = files.key.display(),
            anchors = files.trust_anchors.display(),
            crl = files.crl.display(),
            url = secret("url", &postgres.url()),
            digest_key = secret("digest-key", &"k".repeat(40)),
            metrics = dir.path().join("metrics-address").display(),
            section = token.section_with(&partition),
        );
        std::fs::write(dir.path().join("signer.toml"), text).unwrap();
        let mut process = Self { dir, pki, token, child: None, postgres, environment };
        process.restart().await;
        process
    }

    fn address_file(&self) -> PathBuf {
        self.dir.path().join("address")
    }

    async fn restart(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(self.address_file()); // absent at the first start
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = Command::new(support::program())
            .arg("--config")
            .arg(self.dir.path().join("signer.toml"))
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
        until(async || self.address_file().exists(), |written| *written).await;
    }

    /// SIGKILL, as a crash.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Everything that it tells Prometheus.
    async fn metrics(&self) -> String {
        let path = self.dir.path().join("metrics-address");
        until(async || path.exists(), |written| *written).await;
        let address = std::fs::read_to_string(path).unwrap();
        let mut stream = tokio::net::TcpStream::connect(address.trim()).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: signer\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    fn channel(&self, name: &str) -> Channel {
        let files = self.pki.files(name);
        let tls = TlsConfig {
            certificate: files.certificate,
            key: files.key,
            trust_anchors: files.trust_anchors,
            crl: Some(files.crl),
            reload_ms: 3_600_000,
        };
        let address = std::fs::read_to_string(self.address_file()).unwrap();
        let spiffe_id = pki::spiffe_id("svc-signer").parse().unwrap();
        client::connect(&PeerConfig { address: address.parse().unwrap(), spiffe_id }, &ClientTls::load(&tls).unwrap())
    }

    fn signer(&self, name: &str) -> SignerServiceClient<Channel> {
        SignerServiceClient::new(self.channel(name))
    }

    async fn key(&self, wallet: &str) -> String {
        self.key_at(wallet, "").await
    }

    async fn key_at(&self, wallet: &str, provider: &str) -> String {
        self.made_at(wallet, provider).await.address
    }

    async fn made_at(&self, wallet: &str, provider: &str) -> Key {
        let caller = Caller { tenant: "bank".parse().unwrap(), principal: "ops".parse().unwrap(), roles: vec![] };
        let made = until(
            async || {
                let mut request = Request::new(CreateKeyRequest {
                    wallet: wallet.to_owned(),
                    provider: provider.to_owned(),
                    owner: String::new(),
                });
                caller.apply(request.metadata_mut());
                request.metadata_mut().insert("idempotency-key", wallet.parse().unwrap());
                KeyServiceClient::new(self.channel("svc-gateway")).create_key(request).await
            },
            |made| made.as_ref().err().is_none_or(|status| status.code() != Code::Unavailable),
        );
        made.await.unwrap().into_inner().key.unwrap()
    }

    async fn sign(&self, request: &dalp_proto::signer::SignRequest) -> Result<SignOutcome, Status> {
        let answer = self.signer("svc-compliance").sign(request.clone()).await?;
        Ok(answer.into_inner().outcome.unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_sign_over_mutual_tls_and_others_do_not() {
    let mut process = Process::start().await;
    let key = process.key("desk").await;
    let request = order(&key, call(0));
    let signed = process.sign(&request).await.unwrap();
    approved_transaction(&signed);
    let status = StatusRequest { request_id: request.request_id.clone() };
    let found = process.signer("svc-compliance").status(status.clone()).await.unwrap().into_inner().outcome.unwrap();
    assert_eq!(found, signed);

    // The gateway administers keys and has roots of the audit log signed, nothing else; svc-feeds may ask, but holds no grant for transactions.
    let refused = process.signer("svc-gateway").sign(request.clone()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "GRANT_MISSING"));
    let refused = process.signer("svc-feeds").sign(order(&key, call(1))).await.unwrap_err();
    assert_eq!(reason(&refused), "GRANT_MISSING");
    let refused = process.signer("svc-feeds").status(status).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_FOUND", "another peer's request is not there");
    let mut create = Request::new(CreateKeyRequest::default());
    create.metadata_mut().insert("dalp-tenant", "bank".parse().unwrap());
    let refused = KeyServiceClient::new(process.channel("svc-compliance")).create_key(create).await.unwrap_err();
    assert_eq!(reason(&refused), "PEER_NOT_ALLOWED", "a domain service makes no keys");

    // A certificate that is revoked meanwhile: the open connection ends and no other one comes about.
    let held = process.signer("svc-compliance");
    held.clone().sign(request.clone()).await.unwrap();
    process.pki.revoke(process.pki.files("svc-compliance").serial).unwrap();
    let broken = until(async || held.clone().sign(request.clone()).await, Result::is_err).await.unwrap_err();
    // Cancelled is the client's own word for a call that its connection ended under.
    assert!(matches!(broken.code(), Code::Unavailable | Code::Unknown | Code::Cancelled), "{broken:?}");
    held.clone().sign(request.clone()).await.expect_err("no other connection comes about");
    let log = process.log();
    assert!(log.contains("no longer holds"), "{log}");
    for secret in [support::PIN, &"k".repeat(40)] {
        assert!(!log.contains(secret), "a secret in the log");
    }
}

/// Keys and PINs are in the memory of both.
#[tokio::test(flavor = "multi_thread")]
async fn neither_the_signer_nor_its_partition_process_leaves_a_core_dump() {
    let process = Process::start().await;
    process.key("desk").await;
    let signer = process.child.as_ref().unwrap().id();
    for pid in [signer, child_of(signer)] {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
    }
}

/// A secret as it may be met: as it is, and in each way that programs write bytes down.
fn disguises(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let listed: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let mut disguises = vec![
        secret.to_owned(),
        secret.chars().rev().collect(),
        hex::encode(bytes),
        hex::encode_upper(bytes),
        listed.join(", "),
        listed.join(","),
        bytes.escape_ascii().to_string(),
    ];
    // Base64 looks otherwise at each of three places in a longer text: what does not depend on its neighbours is looked for.
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for before in 0..3 {
            // From the first group of three that is the secret's own to the last.
            let own = &bytes[(3 - before) % 3..];
            disguises.push(engine.encode(&own[..own.len() / 3 * 3]));
        }
    }
    disguises
}

/// A running signer with planted secrets, and everything that leaves it: log, metrics, answers, its database, its command lines.
#[tokio::test(flavor = "multi_thread")]
async fn no_planted_secret_leaves_a_running_signer() {
    const WRONG_PIN: &str = "planted-wrong-pin-7261";
    const KEY_SECRET: &str = "planted-key-authorization-5521";
    const CLIENT_KEY: &str = "planted-client-key-9902";
    let kek = "5a17".repeat(16);
    let token = TestToken::luna();
    token.device().update(|device| device.key_authorization = KEY_SECRET.to_owned()).unwrap();
    token.secret("template", "{client_certificate} {client_key} {server_ca}");
    let partition = format!(
        "key_authorization = \"{}\"\nntls = {{ directory = \"{}\", template = \"{}\", client_certificate = \"{}\", client_key = \"{}\", server_ca = \"{}\" }}",
        token.secret("key-authorization", KEY_SECRET),
        token.dir.path().join("run").display(),
        token.dir.path().join("template").display(),
        token.secret("certificate", "certificate"),
        token.secret("client-key", CLIENT_KEY),
        token.secret("authority", "authority"),
    );
    let pace = Setting::of(ProviderKind::Dfns).pace();
    let custodians = [custodian(ProviderKind::Dfns, None).await, custodian(ProviderKind::Fireblocks, None).await];
    let sections: String =
        custodians.iter().map(|custodian| custodian.section(token.dir.path(), &pace).unwrap()).collect();
    let aws = Aws::start().await.unwrap();
    let sections = sections + &aws.section(token.dir.path(), pace.call_timeout_ms, "").unwrap();
    let parts = Parts {
        partition,
        telemetry: "log_filter = \"trace\"".to_owned(),
        signer: "allow_mixed = true".to_owned(),
        sections: format!("[local]\nkey_encryption_key = \"{}\"\n{sections}", token.secret("kek", &kek)),
        ..Parts::default()
    };
    let process = Process::start_with(token, parts).await;
    let key = process.key("desk").await;
    let of_aws = process.key_at("kms", "kms").await;
    approved_transaction(&process.sign(&order(&of_aws, call(0))).await.unwrap());
    let quoted = serde_json::json!({"__type": "ValidationException", "message": aws.signer().secret_access_key});
    aws.faults().inject(SIGN, Fault::Answer(400, quoted), 1);
    let of_aws = process.sign(&order(&of_aws, call(1))).await.unwrap();
    assert_eq!(of_aws.error, "PROVIDER_FAILED", "{of_aws:?}");
    for (provider, custodian) in [("local", None), ("dfns", custodians.first()), ("fireblocks", custodians.last())] {
        let key = process.key_at(provider, provider).await;
        approved_transaction(&process.sign(&order(&key, call(0))).await.unwrap());
        if let Some(custodian) = custodian {
            custodian.faults().inject("", Fault::Answer(500, serde_json::json!({"message": "broken"})), 1);
            process.sign(&order(&key, call(1))).await.unwrap();
        }
    }
    let signer = process.child.as_ref().unwrap().id();
    let mut seen = Vec::new();
    for pid in [signer, child_of(signer)] {
        seen.push(String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap()).into_owned());
    }
    // Signed, then everything that makes the partition complain: it is away, asks people, refuses the PIN.
    approved_transaction(&process.sign(&order(&key, call(0))).await.unwrap());
    let device = process.token.device();
    device.lose().unwrap();
    seen.push(format!("{:?}", process.sign(&order(&key, call(1))).await));
    device.bring_back().unwrap();
    device.demand_quorum(1, 1).unwrap();
    seen.push(format!("{:?}", process.sign(&order(&key, call(2))).await));
    device.present(1).unwrap();
    process.token.secret("key-authorization", WRONG_PIN);
    device.bring_back().unwrap();
    seen.push(format!("{:?}", process.sign(&order(&key, call(3))).await));
    std::fs::write(process.token.pin_file(), WRONG_PIN).unwrap();
    device.bring_back().unwrap();
    let last = order(&key, call(4));
    let refused = until(
        async || process.sign(&last).await,
        |answer| answer.as_ref().is_ok_and(|outcome| outcome.error == "PARTITION_PIN_REFUSED"),
    );
    seen.push(format!("{:?}", refused.await));
    seen.push(process.metrics().await);
    assert!(seen.last().unwrap().contains("dalp_signer_partition_starts_total"), "metrics are read");
    let pool = process.postgres.pool().await;
    let tables: Vec<String> = sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'signer'")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert!(tables.len() > 5, "{tables:?}");
    for table in tables {
        let sql = format!("select coalesce(string_agg(t::text, ' '), '') from signer.{table} t");
        seen.push(sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap());
    }
    seen.push(process.log());
    assert!(seen.last().unwrap().contains("partition opened"), "the log is read");

    let url = process.postgres.url();
    let mut secrets = [PIN, WRONG_PIN, KEY_SECRET, CLIENT_KEY, &kek, &"k".repeat(40), &url].map(str::to_owned).to_vec();
    secrets.push(aws.signer().secret_access_key.clone());
    secrets.extend(custodians.iter().flat_map(dalp_simulators::custodian::Custodian::planted_secrets));
    for (place, text) in seen.iter().enumerate() {
        for disguise in secrets.iter().flat_map(|secret| disguises(secret)) {
            assert!(!text.contains(&disguise), "{disguise} in what was seen at {place}: {text}");
        }
    }
    // The search finds what is there.
    for before in ["", "a", "ab"] {
        let told = STANDARD_NO_PAD.encode(format!("{before}{CLIENT_KEY}, and more"));
        assert!(disguises(CLIENT_KEY).iter().any(|disguise| told.contains(disguise)), "{told}");
    }
}

/// Local keys under a key-encryption key that AWS Secrets Manager keeps; a PIN from there as well.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_of_the_cloud_where_its_secret_manager_keeps_what_opens_them() {
    let aws = Aws::start().await.unwrap();
    let kek = "5a18".repeat(16);
    let kept = serde_json::json!({ "kek": kek, "pin": PIN }).to_string();
    aws.store_secret("dalp/svc-signer/keys", &kept).await.unwrap();
    let keys = aws.signer();
    let parts = Parts {
        partition: "pin = \"aws-secret:dalp/svc-signer/keys#pin\"".to_owned(),
        telemetry: "log_filter = \"trace\"".to_owned(),
        signer: "allow_mixed = true".to_owned(),
        sections: "[local]\nkey_encryption_key = \"aws-secret:dalp/svc-signer/keys#kek\"\n".to_owned(),
        environment: vec![
            ("AWS_REGION", aws.region().to_owned()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", aws.endpoint()),
            ("AWS_ACCESS_KEY_ID", keys.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", keys.secret_access_key.clone()),
        ],
    };
    let process = Process::start_with(TestToken::new(), parts).await;
    for (provider, tier) in [("pkcs11", "hsm"), ("local", "cloud_secret_manager")] {
        let key = process.made_at(provider, provider).await;
        assert_eq!((key.provider.as_str(), key.tier.as_str()), (provider, tier));
        approved_transaction(&process.sign(&order(&key.address, call(0))).await.unwrap());
    }
    let check = || {
        let checked = Command::new(support::program())
            .arg("--config")
            .arg(process.dir.path().join("signer.toml"))
            .arg("check-config")
            .envs(process.environment.clone())
            .output()
            .unwrap();
        (checked.status.success(), String::from_utf8_lossy(&checked.stderr).into_owned())
    };
    assert_eq!(check(), (true, String::new()));
    aws.deny(&["secretsmanager:GetSecretValue"]).await.unwrap();
    let (passed, told) = check();
    assert!(!passed && told.contains("local.key_encryption_key") && told.contains("AccessDeniedException"), "{told}");
    for secret in [kek.as_str(), &keys.secret_access_key, PIN] {
        assert!(disguises(secret).iter().all(|disguise| !process.log().contains(disguise) && !told.contains(disguise)));
    }
}

/// Crashed and started again with a wrong PIN, alone and beside others: one try.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_looping_signer_tries_a_wrong_pin_once() {
    let token = TestToken::luna();
    std::fs::write(token.pin_file(), "wrong").unwrap();
    let mut process = Process::start_with(token, Parts::default()).await;
    let failures = |process: &Process| process.log().matches("partition not opened").count();
    for round in 1..=5 {
        let seen = failures(&process);
        if round > 1 {
            process.restart().await;
        }
        until(async || failures(&process), |now| *now > seen).await;
        let device = process.token.device().read().unwrap();
        assert_eq!((device.login_calls, device.bad_pins), (1, 1), "round {round}");
    }
}

/// The ceremony as an operator holds it, and the signer that logs in as one who makes no keys.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_ceremony_is_the_one_that_signs() {
    let process = {
        let partition = "crypto_user = true".to_owned();
        Process::start_with(TestToken::luna(), Parts { partition, ..Parts::default() }).await
    };
    let officer_pin = process.token.secret("officer-pin", PIN);
    let ceremony = || {
        let held = Command::new(support::program())
            .arg("--config")
            .arg(process.dir.path().join("signer.toml"))
            .args(["key-ceremony", "--tenant", "bank", "--wallet", "desk", "--officer-pin", &officer_pin])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&held.stderr).into_owned();
        (held.status.success(), String::from_utf8(held.stdout).unwrap(), told)
    };
    // The signer may be logging in at that moment: the ceremony waits by itself.
    let (done, said, told) = ceremony();
    assert!(done && said.contains("dalp:bank:desk"), "{said} {told}");
    assert!(told.contains("logging in as the crypto officer"), "it says what it does: {told}");
    let (done, again, told) = ceremony();
    assert!(done, "{told}");
    assert_eq!(again, said, "a repeat finds it");
    let key = process.key("desk").await;
    assert!(said.contains(&key), "{key} in {said}");
    approved_transaction(&process.sign(&order(&key, call(0))).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_request_is_streamed_to_its_end() {
    let process = Process::start().await;
    let key = process.key("desk").await;
    let request = order(&key, call(0));
    // The token is away: the request waits.
    std::fs::write(process.token.pin_file(), "wrong").unwrap();
    assert!(signal(child_of(process.child.as_ref().unwrap().id()), Signal::KILL));
    let outcome =
        until(async || process.sign(&request).await.unwrap(), |outcome| outcome.status() != SignStatus::Pending).await;
    assert_eq!(outcome.status(), SignStatus::Blocked, "{outcome:?}");
    let watch = WatchStatusRequest { request_id: request.request_id.clone() };
    let mut changes = process.signer("svc-compliance").watch_status(watch.clone()).await.unwrap().into_inner();
    let mut next = async || tokio::time::timeout(Duration::from_secs(30), changes.message()).await.unwrap().unwrap();
    let first = next().await.unwrap().outcome.unwrap();
    assert_eq!(first.status(), SignStatus::Blocked, "first the present state");
    std::fs::write(process.token.pin_file(), support::PIN).unwrap();
    let mut last = first;
    while last.status() == SignStatus::Blocked {
        last = next().await.unwrap().outcome.unwrap();
    }
    approved_transaction(&last);
    assert!(next().await.is_none(), "the stream ends after the final state");
    let stranger = process.signer("svc-feeds").watch_status(watch.clone()).await.unwrap_err();
    assert_eq!(reason(&stranger), "NOT_FOUND");
    // Of a final request there is one state to tell.
    let mut again = process.signer("svc-compliance").watch_status(watch).await.unwrap().into_inner();
    assert_eq!(again.message().await.unwrap().unwrap().outcome.unwrap(), last);
    assert!(again.message().await.unwrap().is_none());
}

/// An HSM signs each time differently, so that an equal signature is the stored one.
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_killed_in_the_middle_answers_the_same_id_with_the_same_signature() {
    let mut process = Process::start().await;
    let key = process.key("desk").await;
    for round in 0..6u64 {
        let requests: Vec<_> = (0..20).map(|number| order(&key, call(round * 20 + number))).collect();
        let asking: Vec<_> = requests
            .iter()
            .map(|request| {
                let (mut signer, request) = (process.signer("svc-compliance"), request.clone());
                tokio::spawn(async move { signer.sign(request).await })
            })
            .collect();
        // Further into the work in each round.
        tokio::time::sleep(Duration::from_millis(4 * round)).await;
        process.restart().await;
        let mut answered = Vec::new();
        for asked in asking {
            answered.push(asked.await.unwrap().ok().map(|answer| answer.into_inner().outcome.unwrap()));
        }
        for (request, before) in requests.iter().zip(answered) {
            let signed = until(
                async || process.sign(request).await,
                |answer| answer.as_ref().is_ok_and(|outcome| outcome.status() == SignStatus::Approved),
            );
            let signed = signed.await.unwrap();
            approved_transaction(&signed);
            assert_eq!(process.sign(request).await.unwrap(), signed, "the stored one");
            if let Some(before) = before.filter(|outcome| outcome.status() == SignStatus::Approved) {
                assert_eq!(before, signed, "what had left before the kill is what is answered after it");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_process_killed_in_the_middle_of_a_signature_is_replaced() {
    let bench = support::Bench::new(ProviderKind::Pkcs11).await;
    let key = support::create(&bench, "desk").await;
    let pid = bench.hsm.as_ref().unwrap().worker_pid().unwrap();
    let request = order(&key.address, call(0));
    // Stopped, it has the call and does not answer; then it is gone.
    assert!(signal(pid, Signal::STOP));
    let asked = async {
        let (asked, ()) = tokio::join!(support::sign(&bench, &request), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(signal(pid, Signal::KILL));
        });
        asked
    };
    let signed = asked.await.unwrap();
    approved_transaction(&signed);
    assert_eq!(support::sign(&bench, &request).await.unwrap(), signed);
    assert_ne!(bench.hsm.as_ref().unwrap().worker_pid().unwrap(), pid);
}
