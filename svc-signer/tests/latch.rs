//! What a login may cost: ten wrong ones lock a Luna partition, so none is repeated that might be counted.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::sync::Arc;

use dalp_proto::signer::{SignStatus, signer_service_server::SignerService as _};
use dalp_service::stop::Stop;
use support::{Bench, PEER, TestToken, call, create, from_peer, order, program};
use svc_signer::{
    config::pkcs11::Pkcs11Config,
    edge::signer::SignerEdge,
    providers::{Provider as _, ProviderKind, Providers, pkcs11::Pkcs11Provider},
    signing::Signer,
};
use zeroize::Zeroizing;

const QUORUM: u64 = 0x8000_002E;
const UNLISTED: u64 = 0x8000_7777;

/// A partition whose every login ends with the return code that it is told.
struct Partition {
    token: TestToken,
}

impl Partition {
    fn new() -> Self {
        Self { token: TestToken::luna() }
    }

    /// As a signer with this PIN is told of it. Each PIN has its own memory.
    fn config(&self, pin: &str) -> Pkcs11Config {
        let extra = format!("pin = \"{}\"", self.token.secret(&format!("pin-{pin}"), pin));
        let section: toml::Table = self.token.section_with(&extra).parse().unwrap();
        section["pkcs11"].clone().try_into().unwrap()
    }

    /// From now on a login ends so.
    fn answer(&self, code: u64) {
        self.token.device().update(|device| device.login_code = code).unwrap();
    }

    fn login_calls(&self) -> u32 {
        self.token.device().read().unwrap().login_calls
    }
}

/// A replica that has just started: it remembers nothing but what the database holds.
fn replica(bench: &Bench, config: &Pkcs11Config) -> Pkcs11Provider {
    let latch = Arc::new(bench.store.clone());
    Pkcs11Provider::new(config.clone(), program(), Zeroizing::new(vec![7; 40]), latch)
}

/// Named regression: retried logins locked the HSM user out, here with the codes of Luna.
#[tokio::test(flavor = "multi_thread")]
async fn bad_pin_loop_locks_the_partition_whatever_code_says_so() {
    let bench = Bench::new(ProviderKind::Local).await;
    let partition = Partition::new();
    for (code, most, last) in [
        (0xA0, 1, "refuses the PIN"),        // PIN_INCORRECT
        (0xA2, 1, "refuses the PIN"),        // PIN_LEN_RANGE
        (0x8000_0067, 1, "refuses the PIN"), // CHALLENGE_INCORRECT
        (0x8000_0098, 1, "refuses the PIN"), // AUTH_DATA_INCORRECT
        (0x8000_009C, 1, "refuses the PIN"), // AUTH_DATA_INCORRECT_AND_LIMIT_REACHED
        (0x00A0_0000, 1, "refuses the PIN"), // UM_PIN_INCORRECT, as the vendor's own library numbers it
        (0x8000_0007, 3, "blocked"),         // USER_LOCKED_OUT
        (0x05, 3, "blocked"),                // GENERAL_ERROR
        (0x0101_0001, 20, "be reached"),     // SM_NOT_LOGGED_IN: the device restarted
        (UNLISTED, 3, "blocked"),
        (QUORUM, 20, "waits for a person"),
    ] {
        let config = partition.config(&format!("{code:#x}"));
        partition.answer(code);
        let before = partition.login_calls();
        let mut detail = String::new();
        for _ in 0..20 {
            let status = replica(&bench, &config).status().await;
            assert!(!status.ready);
            detail = status.detail;
        }
        assert_eq!(partition.login_calls() - before, most, "{code:#x}: {detail}");
        assert!(detail.contains(last), "{code:#x}: {detail}");
    }
}

/// What asks a person and what nobody knows may take turns; what nobody knows is still tried three times and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_not_counted_does_not_absolve_those_that_may_be() {
    let bench = Bench::new(ProviderKind::Local).await;
    let partition = Partition::new();
    let config = partition.config("turns");
    let mut unlisted = 0;
    for round in 0..20 {
        let code = if round % 2 == 0 { UNLISTED } else { QUORUM };
        partition.answer(code);
        let before = partition.login_calls();
        replica(&bench, &config).status().await;
        unlisted += u32::from(code == UNLISTED) * (partition.login_calls() - before);
    }
    assert_eq!(unlisted, 3);

    // An operator who keeps the PIN lets it be tried again, and that is on record.
    let logins = partition.login_calls();
    assert_eq!(bench.store.clear_latch(&config.partition()).await.unwrap(), 1);
    partition.answer(UNLISTED);
    replica(&bench, &config).status().await;
    assert_eq!(partition.login_calls(), logins + 1);
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
        let partition = Partition::new();
        partition.answer(code);
        let config = partition.config(&format!("{code:#x}"));
        let hsm = Arc::new(replica(&bench, &config));
        let providers = Providers::new(ProviderKind::Pkcs11, false, vec![hsm]);
        let signer = Arc::new(Signer::new(&bench.config, bench.store.clone(), providers));
        let edge = SignerEdge::new(signer, Stop::new());
        let answer = edge.sign(from_peer(order(&key.address, call(nonce)), PEER)).await.unwrap().into_inner();
        let outcome = answer.outcome.unwrap();
        assert_eq!((outcome.status(), outcome.error.as_str()), (SignStatus::Pending, error), "{outcome:?}");
        assert!(outcome.detail.contains(&format!("{code:#010x}")), "{outcome:?}");
    }
}
