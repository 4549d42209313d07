//! A regulated transfer by a key in a Luna partition that waits for its people: granted, granted after everything restarted, and not granted in time.
//! The partition is SoftHSM behind the module of `tests/simulators/quorum-module`; all else is the platform as it runs.

use alloy::primitives::U256;
use dalp_devstack::client::Client;
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack, quorum_module};
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{GetOperationRequest, Operation, OperationState};
use dalp_quorum_module::device::{Device, FOLDER_VARIABLE, WRAPPED_VARIABLE};
use dalp_tests::load::Load;
use dalp_tests::waiting::until;

/// How long a request waits for people, in seconds.
const WINDOW_S: u32 = 3_600;

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_waits_for_the_people_of_its_partition() {
    let mut stack = Stack::start(&Options::default()).await.expect("the stack starts");
    let client = stack.client().expect("a client");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let load = Load::prepare(&client, &chain, 1, "pkcs11").await.expect("a bond whose holder's key is in the HSM");
    let device = Device::open(&stack.folder().join("device")).expect("a device");
    put_behind_luna(&mut stack).await;

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

/// The signer finds the same token behind another module.
async fn put_behind_luna(stack: &mut Stack) {
    let path = stack.folder().join("svc-signer.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let softhsm = stack.settings().pkcs11_module.clone();
    let module = quorum_module().expect("cargo builds the module with the tests");
    let text = text.replace(
        &format!("module = \"{}\"", softhsm.display()),
        &format!("module = \"{}\"\nquorum_retry_s = {WINDOW_S}", module.display()),
    );
    let text = text.replace(
        "environment = { SOFTHSM2_CONF",
        &format!(
            "environment = {{ {FOLDER_VARIABLE} = \"{}\", {WRAPPED_VARIABLE} = \"{}\", SOFTHSM2_CONF",
            stack.folder().join("device").display(),
            softhsm.display()
        ),
    );
    assert!(text.contains(FOLDER_VARIABLE) && text.contains("quorum_retry_s"), "{text}");
    std::fs::write(path, text).expect("written");
    stack.service("svc-signer").expect("the signer").restart().expect("it starts");
    stack.wait_until_serving().await.expect("the partition opens");
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
