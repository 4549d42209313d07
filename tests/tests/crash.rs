//! Every service is killed with SIGKILL again and again under load. Each accepted request ends in exactly one mined transaction.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use alloy::primitives::U256;
use dalp_devstack::client::Client;
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, SERVICES, Stack};
use dalp_proto::operation::{Operation, OperationState};
use dalp_tests::load::Load;
use dalp_tests::waiting::repeated;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const KILLS: usize = 54;
const LANES: usize = 4;
/// How long a request is repeated until it is answered.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn backlog_jams_after_kill() {
    let seed = rand::random();
    println!("seed {seed}"); // printed by the runner when the test fails
    let mut random = StdRng::seed_from_u64(seed);
    let mut stack = Stack::start(&Options::default()).await.expect("the stack starts");
    let client = stack.client().expect("a client");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let load = Load::prepare(&client, &chain, LANES, "local").await.expect("a bond under load");
    let mut nonces = HashMap::new();
    for holder in &load.holders {
        nonces.insert(holder.address, chain.nonce(holder.address).await.expect("a nonce"));
    }

    let stop = Arc::new(AtomicBool::new(false));
    let accepted_so_far = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..LANES)
        .map(|lane| tokio::spawn(keep_sending(load.clone(), lane, stop.clone(), accepted_so_far.clone())))
        .collect();
    for kill in 0..KILLS {
        // Some work between kills, so that they fall on a backlog; the extra delay moves the point of the kill.
        let target = accepted_so_far.load(Ordering::SeqCst) + random.random_range(1..20);
        let waited = tokio::time::timeout(Duration::from_secs(180), async {
            while accepted_so_far.load(Ordering::SeqCst) < target {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect("requests are accepted again after a kill");
        tokio::time::sleep(Duration::from_millis(random.random_range(0..50))).await;
        let name = SERVICES[kill % SERVICES.len()];
        stack.service(name).expect("a service of the stack").restart().expect("it starts again");
    }
    stop.store(true, Ordering::SeqCst);
    let mut accepted = Vec::new();
    for sender in senders {
        accepted.extend(sender.await.expect("the sender does not panic"));
    }
    check(&client, &chain, &load, &accepted, &nonces).await;
}

/// Sends with a key per request and repeats under the same key until an answer comes.
async fn keep_sending(
    load: Load,
    lane: usize,
    stop: Arc<AtomicBool>,
    accepted_so_far: Arc<AtomicUsize>,
) -> Vec<Operation> {
    let mut accepted = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let key = format!("crash-{lane}-{}", accepted.len());
        let sent = repeated(PATIENCE, || load.transfer(lane, &key)).await;
        let operation = sent.expect("a good request was refused");
        accepted.push(operation);
        accepted_so_far.fetch_add(1, Ordering::SeqCst);
    }
    accepted
}

async fn check(
    client: &Client,
    chain: &ChainView,
    load: &Load,
    accepted: &[Operation],
    nonces: &HashMap<alloy::primitives::Address, u64>,
) {
    let mut hashes = HashSet::new();
    for operation in accepted {
        let last = client.finished(Some(operation.clone())).await.expect("stuck: an accepted operation is not final");
        assert_eq!(last.state(), OperationState::Completed, "lost: {last:?}");
        let hash = last.transactions.last().expect("a transaction").tx_hash.clone();
        assert!(hashes.insert(hash), "two operations share a transaction: {last:?}");
    }
    let received = load.received(chain).await.expect("a balance");
    assert_eq!(received, U256::from(accepted.len()), "lost or duplicated");
    let mut mined = 0;
    for (holder, before) in nonces {
        mined += chain.nonce(*holder).await.expect("a nonce") - before;
    }
    assert_eq!(mined, u64::try_from(accepted.len()).expect("fits"), "gapped or duplicated");
}
