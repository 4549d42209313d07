//! What is read of policies.

use super::*;

fn policy() -> wire::Policy {
    wire::Policy {
        policy_id: "large".into(),
        kinds: vec!["asset.mint".into()],
        threshold: "1000".into(),
        ..Default::default()
    }
}

#[test]
fn a_policy_is_read_with_what_it_leaves_out() {
    let read = read_policy(Some(&policy())).unwrap();
    assert_eq!((read.checkers, read.time_limit_s, read.asset), (1, 259_200, None));
    assert_eq!(read.threshold.unwrap().to_string(), "1000");
    assert_eq!(read.kinds, ["asset.mint"]);
}

#[test]
fn what_is_wrong_is_named_by_its_field() {
    type Change = fn(&mut wire::Policy);
    let cases: [(&str, Change); 9] = [
        ("policy.policy_id", |policy| policy.policy_id = "-x".into()),
        ("policy.policy_id", |policy| policy.policy_id = "x".repeat(64)),
        ("policy.kinds", |policy| policy.kinds = vec![String::new()]),
        ("policy.except_kinds", |policy| policy.except_kinds = vec!["x".into(); 201]),
        ("policy.asset", |policy| policy.asset = "0x12".into()),
        ("policy.threshold", |policy| policy.threshold = "-1".into()),
        ("policy.threshold", |policy| policy.threshold = "9".repeat(78)),
        ("policy.checkers", |policy| policy.checkers = 11),
        ("policy.time_limit_s", |policy| policy.time_limit_s = 59),
    ];
    for (path, change) in cases {
        let mut asked = policy();
        change(&mut asked);
        assert_eq!(read_policy(Some(&asked)).unwrap_err().violations()[0].0, path, "{asked:?}");
    }
    assert_eq!(read_policy(None).unwrap_err().violations()[0].0, "policy");
    for text in ["0x10", "1_000", "0b1", " 1"] {
        let asked = wire::Policy { threshold: text.into(), ..policy() };
        assert!(read_policy(Some(&asked)).is_err(), "{text}");
    }
}

#[test]
fn a_threshold_over_a_kind_that_tells_no_amount_is_refused() {
    let over = |kinds: &[&str]| {
        let kinds = kinds.iter().map(|&kind| kind.to_owned()).collect();
        read_policy(Some(&wire::Policy { kinds, ..policy() }))
    };
    for kinds in [&["asset.pause"][..], &["asset.mint", "settlement.open_pair"], &["policy.change"]] {
        assert_eq!(over(kinds).unwrap_err().violations()[0].0, "policy.threshold", "{kinds:?}");
    }
    over(&["asset.mint", "treasury.fund"]).unwrap();
    // Every kind that tells one.
    over(&[]).unwrap();
    // Without a threshold it holds by the kind.
    let by_kind = wire::Policy { kinds: vec!["asset.pause".into()], threshold: String::new(), ..policy() };
    read_policy(Some(&by_kind)).unwrap();
}
