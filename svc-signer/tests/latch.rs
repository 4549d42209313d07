//! What a login may cost: ten wrong ones lock a Luna partition, so none is repeated that might be counted.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use dalp_proto::signer::{SignStatus, signer_service_server::SignerService as _};
use dalp_service::stop::Stop;
use support::{Bench, PEER, call, create, from_peer, order};
use svc_signer::{
    config::pkcs11::Pkcs11Config,
    edge::signer::SignerEdge,
    providers::{Provider as _, ProviderKind, Providers, pkcs11::Pkcs11Provider},
    signing::Signer,
};
use zeroize::Zeroizing;

const QUORUM: u64 = 0x8000_002E;
const UNLISTED: u64 = 0x8000_7777;

/// A partition whose every login ends with the return code that it is told. No module here answers with the vendor's codes, so its
/// worker is a script that speaks the worker's protocol; the provider, its latch and the database are the real ones.
struct Partition {
    folder: tempfile::TempDir,
}

impl Partition {
    fn new(name: &str) -> (Self, Pkcs11Config) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let script =
            format!("#!/bin/sh\necho login >> {}\n/bin/cat {} >&0\n/bin/cat > /dev/null\n", at("logins"), at("reply"));
        std::fs::write(at("worker"), script).unwrap();
        std::fs::set_permissions(at("worker"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(at("pin"), "4711\n").unwrap();
        let section = format!(
            "module = \"/bin/sh\"\ntoken_label = \"{name}\"\npin = \"file:{}\"\nlogin_deadline_ms = 5000\n",
            at("pin")
        );
        (Self { folder }, toml::from_str(&section).unwrap())
    }

    fn worker(&self) -> PathBuf {
        self.folder.path().join("worker")
    }

    /// From now on a login ends so. As `providers/pkcs11/wire.rs` frames it: the answer to the first call, a failure of the login.
    fn answer(&self, code: u64) {
        let detail = format!("C_Login returned {code:#010x}");
        let mut frame = Vec::new();
        frame.extend_from_slice(&1u64.to_le_bytes());
        frame.push(4);
        frame.extend_from_slice(&code.to_le_bytes());
        frame.push(1);
        frame.extend_from_slice(&u32::try_from(detail.len()).unwrap().to_le_bytes());
        frame.extend_from_slice(detail.as_bytes());
        let mut framed = u32::try_from(frame.len()).unwrap().to_le_bytes().to_vec();
        framed.extend(frame);
        std::fs::write(self.folder.path().join("reply"), framed).unwrap();
    }

    fn logins(&self) -> usize {
        std::fs::read_to_string(self.folder.path().join("logins")).unwrap_or_default().lines().count()
    }
}

/// A replica that has just started: it remembers nothing but what the database holds.
fn replica(bench: &Bench, config: &Pkcs11Config, worker: &Path) -> Pkcs11Provider {
    let latch = Arc::new(bench.store.clone());
    Pkcs11Provider::new(config.clone(), worker.to_owned(), Zeroizing::new(vec![7; 40]), latch)
}

/// Named regression: retried logins locked the HSM user out, here with the codes of Luna.
#[tokio::test(flavor = "multi_thread")]
async fn bad_pin_loop_locks_the_partition_whatever_code_says_so() {
    let bench = Bench::new(ProviderKind::Local).await;
    for (code, most, last) in [
        (0xA0, 1, "blocked"),            // PIN_INCORRECT
        (0xA2, 1, "blocked"),            // PIN_LEN_RANGE
        (0x8000_0067, 1, "blocked"),     // CHALLENGE_INCORRECT
        (0x8000_0098, 1, "blocked"),     // AUTH_DATA_INCORRECT
        (0x8000_009C, 1, "blocked"),     // AUTH_DATA_INCORRECT_AND_LIMIT_REACHED
        (0x00A0_0000, 1, "blocked"),     // UM_PIN_INCORRECT, as the vendor's own library numbers it
        (0x8000_0007, 3, "blocked"),     // USER_LOCKED_OUT
        (0x05, 3, "blocked"),            // GENERAL_ERROR
        (0x0101_0001, 20, "be reached"), // SM_NOT_LOGGED_IN: the device restarted
        (UNLISTED, 3, "blocked"),
        (QUORUM, 20, "waits for a person"),
    ] {
        let (partition, config) = Partition::new(&format!("{code:#x}"));
        partition.answer(code);
        let mut detail = String::new();
        for _ in 0..20 {
            let status = replica(&bench, &config, &partition.worker()).status().await;
            assert!(!status.ready);
            detail = status.detail;
        }
        assert_eq!(partition.logins(), most, "{code:#x}: {detail}");
        assert!(detail.contains(last), "{code:#x}: {detail}");
    }
}

/// What asks a person and what nobody knows may take turns; what nobody knows is still tried three times and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_not_counted_does_not_absolve_those_that_may_be() {
    let bench = Bench::new(ProviderKind::Local).await;
    let (partition, config) = Partition::new("turns");
    let mut unlisted = 0;
    for round in 0..20 {
        let code = if round % 2 == 0 { UNLISTED } else { QUORUM };
        partition.answer(code);
        let before = partition.logins();
        replica(&bench, &config, &partition.worker()).status().await;
        unlisted += usize::from(code == UNLISTED) * (partition.logins() - before);
    }
    assert_eq!(unlisted, 3);

    // An operator who keeps the PIN lets it be tried again, and that is on record.
    let logins = partition.logins();
    assert_eq!(bench.store.clear_latch(&config.partition()).await.unwrap(), 1);
    partition.answer(UNLISTED);
    replica(&bench, &config, &partition.worker()).status().await;
    assert_eq!(partition.logins(), logins + 1);
    let leaves =
        "select count(*) from signer.audit_leaves where subject = 'latch' and decision = 'cleared' and reason = $1";
    let leaves = sqlx::query_scalar::<_, i64>(leaves).bind(config.partition());
    assert_eq!(leaves.fetch_one(&bench.postgres.pool().await).await.unwrap(), 1);
}

/// What waits for a person is told apart from a provider that is away: only the first is an approval hold to the caller.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_asks_for_people_is_a_hold_and_one_that_is_away_is_none() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    for (nonce, code, error) in [(0, QUORUM, ""), (1, 0x30, "PROVIDER_UNAVAILABLE"), (2, 0x05, "PROVIDER_UNAVAILABLE")]
    {
        let (partition, config) = Partition::new(&format!("{code:#x}"));
        partition.answer(code);
        let hsm = Arc::new(replica(&bench, &config, &partition.worker()));
        let providers = Providers::new(ProviderKind::Pkcs11, false, vec![hsm]);
        let signer = Arc::new(Signer::new(&bench.config, bench.store.clone(), providers));
        let edge = SignerEdge::new(signer, Stop::new());
        let answer = edge.sign(from_peer(order(&key.address, call(nonce)), PEER)).await.unwrap().into_inner();
        let outcome = answer.outcome.unwrap();
        assert_eq!((outcome.status(), outcome.error.as_str()), (SignStatus::Pending, error), "{outcome:?}");
        assert!(outcome.detail.contains(&format!("{code:#010x}")), "{outcome:?}");
    }
}
