//! The node-error table against what each client says. The cases of anvil are recorded from a running one; those of the
//! others are from their sources and documentation.

use alloy::primitives::Bytes;
use dalp_chain::{NodeErrorKind, SendOutcome, node_error};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    code: i64,
    message: String,
    #[serde(default)]
    data: Option<serde_json::Value>,
    kind: NodeErrorKind,
    #[serde(default)]
    revert: Option<Bytes>,
}

fn check(client: &str, text: &str) {
    let cases: Vec<Case> = serde_json::from_str(text).expect("a fixture parses");
    assert!(cases.len() > 10, "{client}: the fixture is not empty");
    for case in cases {
        let error = node_error::classify(case.code, &case.message, case.data.as_ref());
        assert_eq!(error.kind, case.kind, "{client}: {} {}", case.code, case.message);
        assert_eq!(error.data, case.revert, "{client}: {} {}", case.code, case.message);
    }
}

#[test]
fn anvil() {
    check("anvil", include_str!("fixtures/node_errors/anvil.json"));
}

#[test]
fn geth() {
    check("geth", include_str!("fixtures/node_errors/geth.json"));
}

#[test]
fn besu() {
    check("besu", include_str!("fixtures/node_errors/besu.json"));
}

#[test]
fn nethermind() {
    check("nethermind", include_str!("fixtures/node_errors/nethermind.json"));
}

#[test]
fn erigon() {
    check("erigon", include_str!("fixtures/node_errors/erigon.json"));
}

#[test]
fn phrases_are_lower_case_and_none_hides_a_later_one() {
    for (index, (phrase, kind)) in node_error::TABLE.iter().enumerate() {
        assert_eq!(*phrase, phrase.to_ascii_lowercase());
        for (earlier, earlier_kind) in &node_error::TABLE[..index] {
            assert!(
                !phrase.contains(earlier) || kind == earlier_kind,
                "{phrase:?} is never reached: {earlier:?} stands above it"
            );
        }
    }
}

#[test]
fn insufficient_funds_is_opaque() {
    let error = node_error::classify(
        -32000,
        "insufficient funds for gas * price + value: balance 5, tx cost 7, overshot 2",
        None,
    );
    let outcome = SendOutcome::from(Err(error));
    assert_eq!(
        outcome,
        SendOutcome::InsufficientFunds {
            needed_wei: Some("7".parse().expect("a number")),
            available_wei: Some("5".parse().expect("a number"))
        }
    );
}
