//! How fast signatures of custodians and of AWS KMS come back: the Sign RPC against simulators that approve at once, and against moto. What is measured is our own
//! way there and back, and the stand-ins' own pace, not that of the services.

use std::path::Path;

use anyhow::bail;
use dalp_devstack::report::Figure;
use dalp_proto::signer::signer_service_client::SignerServiceClient;
use dalp_simulators::aws::Aws;
use dalp_simulators::dfns::{self, DfnsSimulator, Policy};
use dalp_simulators::fault::Fault;
use dalp_simulators::fireblocks::{self, FireblocksSimulator};
use tokio::task::JoinSet;

use super::cpu::family_cpu_s;
use super::signer::{self, Latencies, SignerRoom};

/// Runs of each figure.
const RUNS: usize = 3;
/// Signatures of one run: each is several calls over HTTP.
const SIGNATURES: usize = 200;
/// As many as a provider's own bulkhead lets through at once.
const IN_FLIGHT: usize = 16;

/// Requests at the custodian that does not answer: more than its bulkhead and its queue take.
const STUCK: usize = 200;
/// Part of its rate that the HSM must keep meanwhile.
const KEPT: f64 = 0.95;

/// `sign_rpc.dfns`, `sign_rpc.fireblocks`, `sign_rpc.kms` and `sign_rpc.softhsm.beside_a_hanging_dfns`.
pub(super) async fn rates() -> anyhow::Result<Vec<Figure>> {
    let dfns = DfnsSimulator::start(dfns::Options::default()).await?;
    dfns.set_policy(Policy::NoAction).await;
    let options = fireblocks::Options { raw_enabled: true, ..Default::default() };
    let fireblocks = FireblocksSimulator::start(options).await?;
    fireblocks.set_rules(vec![fireblocks::Rule::all(fireblocks::Action::Allow)]).await;
    let secrets = tempfile::tempdir()?;
    let aws = Aws::start().await?;
    let kms = aws.section(secrets.path(), 10_000, "")?;
    let mut room = SignerRoom::start_with(false, &(sections(secrets.path(), &dfns, &fireblocks)? + &kms)).await?;
    let mut figures = vec![beside_one_that_hangs(&mut room, &dfns).await?];
    for (provider, stand_in) in [
        ("dfns", "a simulator on this machine that approves at once"),
        ("fireblocks", "a simulator on this machine that approves at once"),
        ("kms", "moto on this machine, which is Python and verifies each request's signature"),
    ] {
        let key = room.create_key(provider, &format!("bench-{provider}")).await?;
        let (mut rates, mut took, mut cpu_s) = (Vec::new(), Latencies::default(), 0.0);
        for run in 0..RUNS {
            let before = family_cpu_s(room.pid());
            let signed = room.sign_all(&key, run, SIGNATURES, IN_FLIGHT).await?;
            cpu_s += family_cpu_s(room.pid()) - before;
            rates.push(signed.rate);
            took.0.extend(signed.took.0);
        }
        #[allow(clippy::cast_precision_loss)] // counts of a bench are far below 2^52
        let cpu_us = cpu_s / (RUNS * SIGNATURES) as f64 * 1e6;
        let note = format!(
            "{IN_FLIGHT} in flight over mutual TLS, each stored and asked of {stand_in}; {took}; CPU per signature: {cpu_us:.0} us signer"
        );
        figures.push(Figure::of(&format!("sign_rpc.{provider}"), "1/s", rates, None, &note));
    }
    Ok(figures)
}

/// How fast the HSM's signatures come while a custodian takes requests and answers none.
async fn beside_one_that_hangs(room: &mut SignerRoom, dfns: &DfnsSimulator) -> anyhow::Result<Figure> {
    let hsm = room.create_key("pkcs11", "beside-hsm").await?;
    let stuck = room.create_key("dfns", "beside-dfns").await?;
    let (mut alone, mut beside, mut took) = (Vec::new(), Vec::new(), Latencies::default());
    for run in 0..RUNS {
        alone.push(room.sign_all(&hsm, 2 * run, signer::SIGNATURES, signer::IN_FLIGHT).await?.rate);
        dfns.faults().inject("", Fault::Hang, usize::MAX);
        let mut waiting = JoinSet::new();
        for number in 0..STUCK {
            let mut service = SignerServiceClient::new(room.channel());
            let request = signer::order(&stuck, u64::try_from(run * STUCK + number)?);
            waiting.spawn(async move { service.sign(request).await });
        }
        dfns.faults().hanging(1).await;
        let signed = room.sign_all(&hsm, 2 * run + 1, signer::SIGNATURES, signer::IN_FLIGHT).await?;
        beside.push(signed.rate);
        took.0.extend(signed.took.0);
        if waiting.try_join_next().is_some_and(|ended| matches!(ended, Ok(Ok(_)))) {
            bail!("a request at the hanging custodian was answered");
        }
        waiting.shutdown().await;
        dfns.faults().release();
    }
    let alone = signer::median(alone);
    let note = format!(
        "as sign_rpc.softhsm ({took}), while {STUCK} requests stand at a simulator of DFNS that takes them and does not answer; {alone:.0} in turn without them; \
         goal: {:.0} % of that",
        KEPT * 100.0
    );
    Ok(Figure::of("sign_rpc.softhsm.beside_a_hanging_dfns", "1/s", beside, Some(alone * KEPT), &note))
}

fn sections(folder: &Path, dfns: &DfnsSimulator, fireblocks: &FireblocksSimulator) -> anyhow::Result<String> {
    let secret = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).map(|()| format!("file:{}", path.display()))
    };
    let polling = "polling = { settle_ms = 20000, first_ms = 10, longest_ms = 50 }";
    Ok(format!(
        r#"
[dfns]
base_url = "{}"
organization_id = "{}"
auth_token = "{}"
credential_id = "{}"
credential_key = "{}"
{polling}
[fireblocks]
base_url = "{}"
api_key = "{}"
secret_key = "{}"
asset = "ETH_TEST5"
{polling}
"#,
        dfns.base_url(),
        dfns.organisation(),
        secret("dfns-token", dfns.token())?,
        dfns.credential_id(),
        secret("dfns-credential.pem", dfns.credential_pem())?,
        fireblocks.base_url(),
        secret("fireblocks-api-key", fireblocks.api_key())?,
        secret("fireblocks-rsa.pem", fireblocks.secret_pem())?,
    ))
}
