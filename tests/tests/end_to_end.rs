//! The main job on the whole stack, and what ordinary and hostile clients see when something is wrong.

#[path = "end_to_end/command_line.rs"]
mod command_line;
#[path = "end_to_end/doctor.rs"]
mod doctor;
#[path = "end_to_end/operations.rs"]
mod operations;
#[path = "end_to_end/operator.rs"]
mod operator;
#[path = "end_to_end/outages.rs"]
mod outages;
#[path = "end_to_end/refusals.rs"]
mod refusals;
#[path = "end_to_end/support.rs"]
mod support;

use dalp_devstack::scenario::{self, ChainView};
use dalp_devstack::stack::{Options, Stack};
use dalp_tests::load::Load;
use dalp_tests::wire::Wire;

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_issues_a_bond_and_transfers_it() {
    let options = Options { second_chain: true, ..Options::default() };
    let stack = Stack::start(&options).await.expect("the stack starts");
    let client = stack.client().expect("a client");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let second = ChainView::new(stack.second_chain_url().expect("a second chain")).expect("a chain");
    let rows = scenario::run(&client, &chain, &second).await;
    let wrong: Vec<_> = rows.iter().filter(|row| !row.ok).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows.len() >= 77, "the scenario has all its steps");
    refusals::bad_fields(&client).await;
    the_printed_commands_work(&stack);
    each_service_checks_a_configuration(&stack);
}

/// One stack, because a stack costs more than all that is asked of it here.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_nothing_behind_and_what_fails_recovers() {
    let (options, keys) = support::principals();
    let mut stack = Stack::start(&options).await.expect("the stack starts");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let client = stack.client().expect("a client");
    let load = Load::prepare(&client, &chain, 1, "local").await.expect("a bond");
    operations::read_and_wait(&stack, &client, &load, &keys).await;
    operations::repeat_and_conflict(&client, &load).await;
    operations::cancel(&stack, &client, &load, &keys).await;
    command_line::speaks(&stack, &load, &keys).await;
    refusals::credentials(&stack, &client, &load, &keys).await;
    refusals::certificates(&mut stack, &client, &load).await;
    outages::blank_token_label(&stack);
    outages::wrong_pin(&mut stack).await;
    outages::database_down_at_start(&mut stack).await;
    outages::chain_down_at_start(&mut stack).await;
    let last = load.transfer(0, "after-all-that").await.expect("the platform works again");
    assert!(client.finished(Some(last)).await.is_ok());
}

/// A stack of its own, because its chain stops making blocks.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_why_work_waits_and_acts() {
    let (options, keys) = support::principals();
    let stack = Stack::start(&options).await.expect("the stack starts");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let client = stack.client().expect("a client");
    let load = Load::prepare(&client, &chain, 1, "local").await.expect("a bond");
    let desk = operator::Desk::new(&stack, &client, &load, &keys);
    desk.rights().await;
    desk.pause_and_resume().await;
    desk.resync().await;
    desk.bump_and_cancel(&chain).await;
    desk.audit().await;
}

/// A stack of its own, because its node goes away.
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_is_wrong_and_changes_nothing() {
    let (options, keys) = support::principals();
    let node = dalp_chain::testing::Anvil::start(&options.chain_arguments);
    let wire = Wire::start(&node.url).await;
    let options = Options { chain_url: Some(wire.url.clone()), ..options };
    let mut stack = Stack::start(&options).await.expect("the stack starts");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let client = stack.client().expect("a client");
    let load = Load::prepare(&client, &chain, 1, "local").await.expect("a bond");
    doctor::well(&stack, &client, &load, &keys).await;
    doctor::without_its_node(&stack, &wire, &keys).await;
    doctor::without_its_signer(&mut stack, &keys).await;
}

/// Each service tells everything that is wrong with a configuration at once, without starting with it.
fn each_service_checks_a_configuration(stack: &Stack) {
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = folder.path().join("wrong.toml");
    std::fs::write(&wrong, "[server]\nlisten = \"nowhere\"\nno_such_key = 1\n").expect("it is written");
    assert!(stack.services().count() >= 7, "every service and the attestor");
    for service in stack.services() {
        let said = service.check_config(service.config()).expect("it runs");
        assert!(said.status.success(), "{}: {}", service.name(), String::from_utf8_lossy(&said.stderr));
        let said = service.check_config(&wrong).expect("it runs");
        let problems = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success(), "{}", service.name());
        for part in ["server.listen", "server.no_such_key", "server.tls"] {
            assert!(problems.contains(part), "{}: {part} in {problems}", service.name());
        }
    }
}

/// What `make up` prints for `buf curl`, without the schema at hand, and for `dalp` works as pasted. The lines for `grpcurl` come from the same table.
fn the_printed_commands_work(stack: &Stack) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let printed = dalp_devstack::commands::text(stack);
    let starting = |tool: &str| -> Vec<&str> { printed.lines().filter(|line| line.starts_with(tool)).collect() };
    let (buf, own) = (starting("contracts/tools/buf curl"), starting("DALP_API_KEY="));
    assert!(buf.len() >= 5, "{printed}");
    assert_eq!((buf.len(), buf.len()), (own.len(), starting("grpcurl ").len()));
    // The key that the first tool creates is there when the second one comes.
    let own = own.into_iter().filter(|line| !line.contains(" create-key "));
    for line in buf.into_iter().chain(own) {
        let output = std::process::Command::new("sh")
            .args(["-c", line])
            .current_dir(root)
            .output()
            .expect("a shell runs the line");
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty(), "{line} answers");
    }
    let of_runbooks = [
        "set -eu".to_owned(),
        starting("call() ").join("\n"),
        starting("ENGINE_URL=").join("\n"),
        "call operator.v1.OperatorService/Doctor '{}'".to_owned(),
        "echo \"$ENGINE_URL $SIGNER_URL\" | grep -q 'postgres.* postgres'".to_owned(),
        starting("curl -s ").join("\n").replace("ADDRESS", "0x00000000000000000000000000000000000000fe"),
    ];
    let output = std::process::Command::new("sh")
        .args(["-c", &of_runbooks.join("\n")])
        .env("NO_PROXY", "*")
        .current_dir(root)
        .output()
        .expect("a shell runs them");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("\"result\":null"), "{of_runbooks:#?}\n{output:?}");
}
