//! A regulated transfer by a key in a Luna partition that waits for its people: granted, granted after everything restarted, and not granted in time.
//! The partition is SoftHSM behind the module of `tests/simulators/quorum-module`; all else is the platform as it runs.

use alloy::primitives::U256;
use dalp_devstack::client::Client;
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{GetOperationRequest, Operation, OperationState};
use dalp_quorum_module::device::Device;
use dalp_tests::load::Load;
use dalp_tests::luna::put_behind_luna;
use dalp_tests::waiting::until;

/// How long a request waits for people, in seconds.
const WINDOW_S: u32 = 3_600;

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_waits_for_the_people_of_its_partition() {
    let mut stack = Stack::start(&Options::default()).await.expect("the stack starts");
    let client = stack.client().expect("a client");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let load = Load::prepare(&client, &chain, 1, "pkcs11").await.expect("a bond whose holder's key is in the HSM");
    let folder = stack.folder().join("device");
    let device = Device::open(&folder).expect("a device");
    put_behind_luna(&mut stack, &folder, WINDOW_S).await.expect("the partition opens");

    // Two of three people, while the transfer waits.
    device.demand_quorum(2, 3).expect("a quorum");
    let granted = load.transfer(0, "granted").await.expect("accepted");
    held(&client, &granted).await;
    assert!(!device.present(1).expect("a share"));
    held(&client, &granted).await;
    assert!(device.present(3).expect("a share"));
    completed(&client, granted).await;

    // Both ends of the hold are killed meanwhile.
    device.deactivate().expect("deactivated");
    let restarted = load.transfer(0, "restarted").await.expect("accepted");
    held(&client, &restarted).await;
    for service in ["svc-signer", "svc-compliance"] {
        stack.service(service).expect("a service").restart().expect("it starts");
    }
    held(&client, &restarted).await;
    for number in [1, 2] {
        device.present(number).expect("a share");
    }
    completed(&client, restarted).await;

    // Nobody comes in time; what comes after them is not held up by the nonce.
    device.deactivate().expect("deactivated");
    let late = load.transfer(0, "late").await.expect("accepted");
    held(&client, &late).await;
    window_passes(&stack).await;
    let failed = until(
        "people did not come",
        async || look(&client, &late).await,
        |operation| operation.state() == OperationState::Failed,
    );
    assert_eq!(failed.await.error.expect("a reason").reason, "APPROVAL_EXPIRED");
    for number in [2, 3] {
        device.present(number).expect("a share");
    }
    let after = load.transfer(0, "after").await.expect("accepted");
    completed(&client, after).await;
    assert_eq!(load.received(&chain).await.expect("a balance"), U256::from(3), "three of four, each once");
}

/// Whoever waits for people has waited for longer than the window.
async fn window_passes(stack: &Stack) {
    use sqlx::Connection as _;
    let database = &stack.settings().signer_database_url;
    let mut database = sqlx::PgConnection::connect(database).await.expect("connects");
    let aged = sqlx::query(
        "UPDATE signer.requests SET held_since = held_since - interval '2 hours' WHERE status = 'PENDING' AND error = ''",
    );
    assert!(aged.execute(&mut database).await.expect("aged").rows_affected() > 0);
}

async fn look(client: &Client, operation: &Operation) -> Operation {
    let request = GetOperationRequest { operation_id: operation.operation_id.clone() };
    let answer = OperationServiceClient::new(client.gateway()).get_operation(request).await;
    answer.ok().and_then(|answer| answer.into_inner().operation).unwrap_or_default()
}

/// Waits until the provider holds its transaction.
async fn held(client: &Client, operation: &Operation) {
    let holds = |operation: &Operation| operation.transactions.iter().any(|one| one.sub_status == "provider_hold");
    until("the partition's people are waited for", async || look(client, operation).await, holds).await;
}

async fn completed(client: &Client, operation: Operation) {
    let last = client.finished(Some(operation)).await.expect("it ends");
    assert_eq!(last.state(), OperationState::Completed, "{last:?}");
}
