use super::*;
use uuid::Uuid;

#[derive(Serialize, Deserialize)]
struct Order {
    rules: usize,
    unpause: bool,
}

struct Issue;

impl Flow for Issue {
    const KIND: &'static str = "test.issue";
    type Order = Order;
    type Outcome = u64;
    fn run(cx: &mut Cx<'_, Order>) -> Step<u64> {
        let order = cx.order();
        let created = cx.transact("create", || call(1))?;
        cx.all("rules", || (0..order.rules).map(|_| call(2)))?;
        if order.unpause {
            cx.transact("unpause", || call(3))?;
        }
        cx.done(created.block_number)
    }
}

fn call(byte: u8) -> Call {
    Call::new(1, Address::repeat_byte(9), Address::repeat_byte(byte), vec![byte])
}

fn mined(block_number: u64) -> StepOutcome {
    StepOutcome::Mined {
        mined: Mined {
            tx_hash: B256::ZERO,
            block_number,
            block_hash: B256::ZERO,
            gas_used: 1,
            contract_address: None,
            logs: vec![],
        },
    }
}

/// Asks until done, each time with everything ordered so far carried out. Returns the names in order and the verdict.
fn drive(order: &serde_json::Value, outcome: impl Fn(&str) -> StepOutcome) -> (Vec<String>, Verdict) {
    let flows = Flows::new().with::<Issue>();
    let (mut history, mut names) = (History::default(), Vec::new());
    for _ in 0..20 {
        let decision = flows.ask(Issue::KIND, 1, OperationId(Uuid::nil()), order, &history);
        for (name, input) in decision.new_steps {
            let outcome = matches!(input, StepInput::Transaction { .. }).then(|| outcome(&name));
            names.push(name.clone());
            history.steps.insert(name, RecordedStep { input, outcome });
        }
        if decision.verdict != Verdict::Waiting {
            return (names, decision.verdict);
        }
    }
    panic!("never done: {names:?}");
}

#[test]
fn steps_come_in_the_order_of_the_code() {
    let order = serde_json::json!({"rules": 2, "unpause": true});
    let (names, verdict) = drive(&order, |_| mined(7));
    assert_eq!(names, ["create", "rules", "rules[0]", "rules[1]", "unpause"]);
    assert_eq!(verdict, Verdict::Done(7.into()));
}

#[test]
fn an_empty_fan_out_does_not_wait() {
    let (names, verdict) = drive(&serde_json::json!({"rules": 0, "unpause": false}), |_| mined(1));
    assert_eq!(names, ["create", "rules"]);
    assert_eq!(verdict, Verdict::Done(1.into()));
}

#[test]
fn a_refused_step_fails_the_flow_and_names_itself() {
    let (_, verdict) = drive(&serde_json::json!({"rules": 2, "unpause": true}), |name| match name {
        "rules[1]" => StepOutcome::Failed { failure: Failure::new("COMPLIANCE_REFUSED", "no") },
        _ => mined(1),
    });
    assert_eq!(verdict, Verdict::Failed(Failure::new("COMPLIANCE_REFUSED", "no").with("step", "rules[1]")));
}

#[test]
fn asking_again_orders_nothing_twice() {
    let flows = Flows::new().with::<Issue>();
    let order = serde_json::json!({"rules": 1, "unpause": false});
    let first = flows.ask(Issue::KIND, 1, OperationId(Uuid::nil()), &order, &History::default());
    let history = History {
        steps: first.new_steps.into_iter().map(|(name, input)| (name, RecordedStep { input, outcome: None })).collect(),
    };
    let again = flows.ask(Issue::KIND, 1, OperationId(Uuid::nil()), &order, &history);
    assert_eq!(again, Decision { new_steps: vec![], verdict: Verdict::Waiting });
}

#[test]
fn an_unreadable_order_decides_nothing() {
    let decision = Flows::new().with::<Issue>().ask(
        Issue::KIND,
        1,
        OperationId(Uuid::nil()),
        &serde_json::json!({}),
        &History::default(),
    );
    assert!(matches!(decision.verdict, Verdict::Broken(_)));
}

/// Histories as stored by earlier builds; the present code must go on from each without ordering a step twice.
#[test]
fn stored_histories_replay() {
    let stored = r#"{"steps":{"create":{"input":{"type":"transaction","call":{"chain_id":1,"sender":"0x0909090909090909090909090909090909090909",
        "target":"0x0101010101010101010101010101010101010101","value_wei":"0x0","data":"0x01","sensitive_checks":[]}},"outcome":{"type":"mined","mined":{
        "tx_hash":"0x0000000000000000000000000000000000000000000000000000000000000000","block_number":5,
        "block_hash":"0x0000000000000000000000000000000000000000000000000000000000000000","gas_used":1,"contract_address":null,"logs":[]}}}}}"#;
    let history: History = serde_json::from_str(stored).expect("stored history is readable");
    let decision = Flows::new().with::<Issue>().ask(
        Issue::KIND,
        1,
        OperationId(Uuid::nil()),
        &serde_json::json!({"rules": 1, "unpause": false}),
        &history,
    );
    assert_eq!(decision.new_steps.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["rules", "rules[0]"]);
}
