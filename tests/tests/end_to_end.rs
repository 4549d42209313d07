//! The main job on the whole stack, and what an ordinary client sees when it sends something wrong.

use dalp_devstack::client::{Client, keyed, reason};
use dalp_devstack::scenario::{self, ChainView};
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::asset::{CreateAssetRequest, TransferRequest};
use dalp_proto::operation::ListOperationsRequest;
use dalp_proto::operation::operation_service_client::OperationServiceClient;

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_issues_a_bond_and_transfers_it() {
    let stack = Stack::start(&Options::default()).await.expect("the stack starts");
    let client = stack.client().expect("a client");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let rows = scenario::run(&client, &chain).await;
    let wrong: Vec<_> = rows.iter().filter(|row| !row.ok).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows.len() >= 25, "the scenario has all its steps");
    bad_input_is_refused_and_nothing_is_stored(&client).await;
    the_printed_commands_work(&stack);
}

async fn bad_input_is_refused_and_nothing_is_stored(client: &Client) {
    let before = operations(client).await;
    let address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    let good = TransferRequest {
        sender: address.to_owned(),
        asset: address.to_owned(),
        to: address.to_owned(),
        amount: "1".to_owned(),
    };
    let wrong = [
        ("wrong checksum", TransferRequest { to: address.replace("5aA", "5AA"), ..good.clone() }, "INVALID_FIELD"),
        ("negative amount", TransferRequest { amount: "-1".to_owned(), ..good.clone() }, "INVALID_FIELD"),
        ("over-large amount", TransferRequest { amount: "9".repeat(79), ..good.clone() }, "INVALID_FIELD"),
        ("no amount", TransferRequest { amount: String::new(), ..good.clone() }, "INVALID_FIELD"),
        ("a wallet of nobody", good, "KEY_NOT_FOUND"),
    ];
    for (what, request, expected) in wrong {
        let refused = AssetServiceClient::new(client.gateway()).transfer(keyed(request, &what.replace(' ', "-"))).await;
        let status = refused.expect_err(what);
        assert_eq!(reason(&status), expected, "{what}: {status:?}");
    }
    let unknown = CreateAssetRequest { issuer: address.to_owned(), asset_class: 99, ..CreateAssetRequest::default() };
    let status =
        AssetServiceClient::new(client.gateway()).create_asset(keyed(unknown, "enum")).await.expect_err("enum");
    assert_eq!(reason(&status), "INVALID_FIELD", "{status:?}");
    let large = TransferRequest { amount: "1".repeat(10 << 20), ..TransferRequest::default() };
    let status = AssetServiceClient::new(client.gateway()).transfer(keyed(large, "large")).await.expect_err("large");
    assert_eq!(reason(&status), "MESSAGE_TOO_LARGE", "{status:?}");
    assert_eq!(operations(client).await, before, "a refused request stored something");
}

async fn operations(client: &Client) -> usize {
    let request = ListOperationsRequest { page_size: 500, ..ListOperationsRequest::default() };
    let answer = OperationServiceClient::new(client.gateway()).list_operations(request).await;
    answer.expect("operations are listed").into_inner().operations.len()
}

/// What `make up` prints for `buf curl` works as pasted. `grpcurl` lines come from the same table.
fn the_printed_commands_work(stack: &Stack) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for line in dalp_devstack::commands::buf_curl(stack) {
        let output = std::process::Command::new("sh")
            .args(["-c", &line.command])
            .current_dir(root)
            .output()
            .expect("a shell runs the line");
        assert!(output.status.success(), "{}\n{}", line.command, String::from_utf8_lossy(&output.stderr));
    }
}
