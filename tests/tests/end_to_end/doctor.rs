//! The doctor on a stack that is well, on one whose node is away, and on one without its signer.

use dalp_devstack::client::{Client, reason};
use dalp_devstack::stack::{ATTESTOR, SERVICES, Stack};
use dalp_proto::operator::operator_service_client::OperatorServiceClient;
use dalp_proto::operator::{DoctorRequest, DoctorResponse, Finding, Verdict};
use dalp_tests::load::Load;
use dalp_tests::wire::Wire;

use crate::support::{Keys, stored, until, with_key};

async fn examine(client: &Client) -> DoctorResponse {
    OperatorServiceClient::new(client.gateway()).doctor(DoctorRequest {}).await.expect("it answers").into_inner()
}

async fn examined(stack: &Stack, keys: &Keys) -> DoctorResponse {
    examine(&with_key(stack, &keys.keeper)).await
}

fn finding<'f>(told: &'f DoctorResponse, service: &str, subject: &str) -> Option<&'f Finding> {
    told.findings.iter().find(|one| one.service == service && one.subject == subject)
}

pub(crate) async fn well(stack: &Stack, client: &Client, load: &Load, keys: &Keys) {
    let transfer = load.transfer(0, "doctor").await.expect("accepted");
    client.finished(Some(transfer)).await.expect("it ends");
    let before = stored(client).await;
    let is_well = |told: &DoctorResponse| told.verdict() == Verdict::Ok;
    let told = until("everything is well", async || examined(stack, keys).await, is_well).await;
    assert!(told.findings.iter().all(|one| one.verdict() == Verdict::Ok), "{told:#?}");
    for service in SERVICES.into_iter().filter(|name| !matches!(*name, "svc-gateway" | ATTESTOR)) {
        assert!(finding(&told, service, "certificate").is_some(), "{service}: {told:#?}");
        assert!(finding(&told, service, "health").is_some(), "{service}: {told:#?}");
    }
    for (service, subject) in [
        ("svc-gateway", "database"),
        ("svc-gateway", "database migrations"),
        ("svc-gateway", "clock of the database"),
        ("svc-gateway", "certificate of the listener"),
        ("svc-gateway", "certificate towards the services"),
        ("svc-gateway", "lanes"),
        ("svc-gateway", "keys"),
        ("svc-compliance", "database"),
        ("svc-compliance", "signer"),
        ("svc-compliance", "clock"),
        ("svc-compliance", "chain 31337 node anvil"),
        ("svc-compliance", "chain 31337 latest block"),
    ] {
        assert!(finding(&told, service, subject).is_some(), "{service} {subject}: {told:#?}");
    }
    assert_eq!(stored(client).await, before, "it changes nothing");
    let colleague = with_key(stack, &keys.colleague);
    let refused = OperatorServiceClient::new(colleague.gateway()).doctor(DoctorRequest {}).await;
    assert_eq!(reason(&refused.expect_err("orders, and is no operator")), "PERMISSION_DENIED");
}

pub(crate) async fn without_its_node(stack: &Stack, wire: &Wire, keys: &Keys) {
    const NODE: &str = "chain 31337 node anvil";
    wire.cut();
    let fails = |told: &DoctorResponse| {
        finding(told, "svc-compliance", NODE).is_some_and(|one| one.verdict() == Verdict::Failing)
    };
    let told = until("the node is missed", async || examined(stack, keys).await, fails).await;
    let missed = finding(&told, "svc-compliance", NODE).expect("a finding");
    assert!(missed.detail.contains("does not answer") && !missed.remedy.is_empty(), "{missed:?}");
    assert_eq!((told.verdict(), told.findings[0].verdict()), (Verdict::Failing, Verdict::Failing), "worst first");
    let database = finding(&told, "svc-compliance", "database").expect("a finding");
    assert_eq!(database.verdict(), Verdict::Ok, "the rest is told as it is");
    wire.mend();
    let well = |told: &DoctorResponse| told.verdict() == Verdict::Ok;
    until("everything is well again", async || examined(stack, keys).await, well).await;
}

pub(crate) async fn without_its_signer(stack: &mut Stack, keys: &Keys) {
    stack.service("svc-signer").expect("a service").kill();
    let told = examined(stack, keys).await;
    for (service, subject) in [("svc-signer", "connection"), ("svc-compliance", "signer"), ("svc-gateway", "keys")] {
        let verdict = finding(&told, service, subject).map(Finding::verdict);
        assert_eq!(verdict, Some(Verdict::Failing), "{service} {subject}: {told:#?}");
    }
    stack.service("svc-signer").expect("a service").restart().expect("it starts");
    let well = |told: &DoctorResponse| told.verdict() == Verdict::Ok;
    until("everything is well again", async || examined(stack, keys).await, well).await;
}
