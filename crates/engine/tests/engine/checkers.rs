//! What policies hold for a second person: nothing of it begins too early, twice or never.

use crate::support::{Bench, PAYEE, PayOrder, TENANT};
use alloy::primitives::{Address, U256};
use dalp_engine::{
    Accepted, Amounts, Engine, OperationId, OperationState, OperationView, Reader, ServiceName, TenantId,
    checker::{self, CheckError, Decision, Next, Policy},
};
use std::{collections::BTreeMap, time::Duration};

fn tenant() -> TenantId {
    TENANT.into()
}

fn by_kind(checkers: u32) -> Policy {
    Policy {
        policy_id: "payments".into(),
        kinds: vec!["test.pay".into()],
        except_kinds: vec![],
        asset: None,
        threshold: None,
        checkers,
        time_limit_s: 3_600,
        unowned_makers: false,
    }
}

async fn set(bench: &Bench, policy: &Policy) {
    let mut commit = bench.pool.begin().await.expect("begins");
    checker::put_policy(&mut commit, &tenant(), policy, "admin").await.expect("stored");
    commit.commit().await.expect("committed");
}

/// Accepted under a policy, and held.
async fn held(bench: &Bench, engine: &Engine, key: &str) -> Accepted {
    let accepted = bench.pay_asking(engine, 0, key, PayOrder::times(1)).await.expect("accepted");
    assert_eq!(accepted.operation.state, OperationState::AwaitingChecker, "{accepted:?}");
    accepted
}

fn by(person: &str, view: &OperationView, approved: bool) -> Decision {
    Decision {
        principal: person.into(),
        person: person.into(),
        hands: [].into(),
        makers: [view.principal.clone()].into(),
        makers_hands: [].into(),
        approved,
        reason: "looked at".into(),
        payload_hash: view.check.as_ref().expect("a check").payload_hash,
    }
}

async fn decide(pool: &sqlx::PgPool, id: OperationId, decision: &Decision) -> Result<Next, CheckError> {
    let mut commit = pool.begin().await.expect("begins");
    let decided = checker::decide(&mut commit, &tenant(), id, decision).await?;
    commit.commit().await.expect("committed");
    Ok(decided.next)
}

async fn count(bench: &Bench, what: &str, id: OperationId) -> i64 {
    number(bench, format!("SELECT count(*) FROM engine.{what} WHERE operation_id = '{id}'")).await
}

async fn number(bench: &Bench, query: String) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&bench.pool).await.expect("readable")
}

/// As if the time to decide were over.
async fn let_time_pass(pool: &sqlx::PgPool) {
    for statement in [
        "ALTER TABLE engine.checks DISABLE TRIGGER checks_insert_only",
        "UPDATE engine.checks SET held_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'",
        "ALTER TABLE engine.checks ENABLE TRIGGER checks_insert_only",
    ] {
        sqlx::query(statement).execute(pool).await.expect("the clock moves");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_begins_when_another_person_approves_it() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    set(&bench, &by_kind(1)).await;
    let accepted = held(&bench, &engine, "one").await;
    let (view, id) = (&accepted.operation, accepted.operation.operation_id);
    for what in ["steps", "transactions"] {
        assert_eq!(count(&bench, what, id).await, 0, "nothing is ordered: {what}");
    }
    for what in ["operations", "idempotency", "outbox", "checks"] {
        assert_eq!(count(&bench, what, id).await, 1, "one commit: {what}");
    }
    let leaves = format!(
        "SELECT count(*) FROM engine.audit_leaves WHERE subject = '{id}' AND body->>'state' = 'AWAITING_CHECKER'"
    );
    assert_eq!(number(&bench, leaves).await, 1);
    let check = view.check.clone().expect("a check");
    assert_eq!((check.policies.as_slice(), check.checkers), (&["payments".to_owned()][..], 1));
    assert_eq!(check.question.amounts, Amounts::of(PAYEE, U256::from(1)));
    assert_eq!(check.command["times"], 1, "who decides reads what is asked for");

    let again = bench.pay_asking(&engine, 0, "one", PayOrder::times(1)).await.expect("a repeat");
    assert!(again.replayed && again.operation == *view, "{again:?}");

    let own = decide(&bench.pool, id, &by("maker", view, true)).await.expect_err("his own");
    assert!(matches!(own, CheckError::Maker), "{own}");
    let mut unseen = by("checker", view, true);
    unseen.payload_hash.0[0] ^= 1;
    let unseen = decide(&bench.pool, id, &unseen).await.expect_err("something else");
    assert!(matches!(unseen, CheckError::OtherPayload), "{unseen}");
    assert_eq!(bench.signer.requests(), 0);
    assert_eq!(count(&bench, "check_decisions", id).await, 0, "what does not count is not noted");

    assert_eq!(decide(&bench.pool, id, &by("checker", view, true)).await.expect("counts"), Next::Begins);
    let done = bench.wait(&engine, id).await;
    assert_eq!(done.state, OperationState::Completed, "{done:?}");
    let decisions = done.check.expect("its check stays").decisions;
    assert_eq!((decisions.len(), decisions[0].person.as_str(), decisions[0].approved), (1, "checker", true));
    assert_eq!(decide(&bench.pool, id, &by("checker", view, true)).await.expect("a repeat"), Next::Nothing);
    let late = decide(&bench.pool, id, &by("other", view, true)).await.expect_err("it waits for nobody");
    assert!(matches!(late, CheckError::NotHeld(OperationState::Completed)), "{late}");
    let repeat = bench.pay_asking(&engine, 0, "one", PayOrder::times(1)).await.expect("a repeat");
    assert_eq!((repeat.replayed, repeat.operation.state), (true, OperationState::Completed));
    bench.assert_lane_is_whole(0, 1).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_persons_as_the_strictest_policy_takes() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    set(&bench, &by_kind(1)).await;
    set(&bench, &Policy { policy_id: "two".into(), kinds: vec![], checkers: 2, time_limit_s: 60, ..by_kind(1) }).await;
    let accepted = held(&bench, &engine, "one").await;
    let (view, id) = (&accepted.operation, accepted.operation.operation_id);
    let check = view.check.clone().expect("a check");
    assert_eq!((check.policies.len(), check.checkers), (2, 2));
    assert!(check.expires_at - view.created_at <= time::Duration::seconds(60), "the shortest time counts");
    assert_eq!(decide(&bench.pool, id, &by("ann", view, true)).await.expect("counts"), Next::Waits(1));
    assert_eq!(decide(&bench.pool, id, &by("ann", view, true)).await.expect("a repeat"), Next::Nothing);
    assert_eq!(count(&bench, "steps", id).await, 0, "one is not enough");
    assert_eq!(decide(&bench.pool, id, &by("bob", view, true)).await.expect("counts"), Next::Begins);
    assert_eq!(bench.wait(&engine, id).await.state, OperationState::Completed);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_withdrawn_or_too_late_never_begins() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    set(&bench, &by_kind(1)).await;
    let refused = held(&bench, &engine, "refused").await.operation;
    assert_eq!(
        decide(&bench.pool, refused.operation_id, &by("checker", &refused, false)).await.expect("counts"),
        Next::Ends
    );
    let withdrawn = held(&bench, &engine, "withdrawn").await.operation;
    let after =
        engine.reader().cancel(&tenant(), withdrawn.operation_id, "maker", "a mistake").await.expect("withdrawn");
    assert_eq!(after.state, OperationState::Cancelled);
    let late = held(&bench, &engine, "late").await.operation;
    let_time_pass(&bench.pool).await;
    // The engine's own look may be faster than this one.
    let told = decide(&bench.pool, late.operation_id, &by("checker", &late, true)).await.expect_err("too late");
    assert!(matches!(told, CheckError::Expired | CheckError::NotHeld(OperationState::Failed)), "{told}");
    for (view, reason) in [(&refused, "APPROVAL_DENIED"), (&late, "APPROVAL_EXPIRED")] {
        let ended = bench.wait(&engine, view.operation_id).await;
        let error = ended.error.as_ref().map(|error| error.reason.as_str());
        assert_eq!((ended.state, error), (OperationState::Failed, Some(reason)), "{ended:?}");
        let finals = format!(
            "SELECT count(*) FROM engine.outbox WHERE topic = 'engine.operation.final' AND operation_id = '{}'",
            view.operation_id
        );
        assert_eq!(number(&bench, finals).await, 1, "told once");
    }
    assert_eq!(bench.signer.requests(), 0);
    bench.assert_lane_is_whole(0, 0).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_holds_what_the_rule_says() {
    let bench = Bench::start().await;
    let (engine, pool) = bench.engine_on_new_database("rules").await;
    let policy = |number: u64| Policy {
        policy_id: format!("p{number}"),
        kinds: [vec![], vec!["test.pay".into()], vec!["test.faulty".into()]][(number % 3) as usize].clone(),
        except_kinds: if number % 5 == 4 { vec!["test.pay".into()] } else { vec![] },
        asset: [None, Some(PAYEE), Some(Address::repeat_byte(9))][(number / 3 % 3) as usize],
        threshold: [None, Some(U256::ZERO), Some(U256::from(2)), Some(U256::MAX)][(number / 9 % 4) as usize],
        ..by_kind(1)
    };
    let mut both = [0, 0];
    for number in 0..60 {
        let policy = policy(number);
        let mut commit = pool.begin().await.expect("begins");
        checker::put_policy(&mut commit, &tenant(), &policy, "admin").await.expect("stored");
        commit.commit().await.expect("committed");
        for times in [1, 2] {
            let key = format!("{number}-{times}");
            let accepted = bench.pay_asking(&engine, 1, &key, PayOrder::times(times)).await.expect("accepted");
            let wanted = policy.holds("test.pay", &Amounts::of(PAYEE, U256::from(times)));
            assert_eq!(accepted.operation.state == OperationState::AwaitingChecker, wanted, "{policy:?} {times}");
            both[usize::from(wanted)] += 1;
        }
        let by_itself = bench.pay(&engine, 2, &format!("own-{number}"), PayOrder::times(1)).await.expect("accepted");
        assert_ne!(by_itself.operation.state, OperationState::AwaitingChecker, "what was accepted before goes on");
        let mut commit = pool.begin().await.expect("begins");
        assert!(checker::remove_policy(&mut commit, &tenant(), &policy.policy_id, "admin").await.expect("removed"));
        commit.commit().await.expect("committed");
    }
    assert!(both[0] > 10 && both[1] > 10, "both happened: {both:?}");
    engine.stop().await;
    pool.close().await;
}

/// Approved, refused, withdrawn and ended by time all at once: one of them counts, and what was not approved is not paid.
#[tokio::test(flavor = "multi_thread")]
async fn of_all_that_happens_at_once_one_counts() {
    const ALL: usize = 24;
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    set(&bench, &by_kind(1)).await;
    let mut views = Vec::new();
    for number in 0..ALL {
        views.push(held(&bench, &engine, &format!("key {number}")).await.operation);
    }
    let (pool, reader, service) =
        (bench.pool_of_a_service(), Reader::new(bench.pool_of_a_service()), ServiceName::new("svc-test"));
    let at_once = views.iter().enumerate().map(|(number, view)| {
        let (pool, reader, tenant) = (pool.clone(), reader.clone(), tenant());
        async move {
            let id = view.operation_id;
            let (approval, refusal) = (by("ann", view, true), by("bob", view, false));
            let (approve, refuse) = (decide(&pool, id, &approval), decide(&pool, id, &refusal));
            let withdraw = reader.cancel(&tenant, id, "maker", "race");
            let answers = match number % 3 {
                0 => tokio::join!(approve, refuse, withdraw),
                1 => {
                    let (refuse, withdraw, approve) = tokio::join!(refuse, withdraw, approve);
                    (approve, refuse, withdraw)
                }
                _ => {
                    let (withdraw, approve, refuse) = tokio::join!(withdraw, approve, refuse);
                    (approve, refuse, withdraw)
                }
            };
            (id, matches!(answers.0, Ok(Next::Begins)), matches!(answers.1, Ok(Next::Ends)), answers.2.is_ok())
        }
    });
    let racing = futures::future::join_all(at_once);
    let ending = async {
        let_time_pass(&bench.pool).await;
        checker::expire(&pool, &service).await.expect("looked through")
    };
    let (told, _) = tokio::join!(racing, ending);
    let mut approved = 0;
    for (id, began, refused, withdrawn) in told {
        let ended = bench.wait(&engine, id).await;
        let reason = ended.error.as_ref().map(|error| error.reason.as_str());
        match (began, refused) {
            (true, true) => panic!("approved and refused: {ended:?}"),
            // What has begun may still be withdrawn, as any other operation.
            (true, false) => assert!(
                matches!(ended.state, OperationState::Completed | OperationState::Cancelled | OperationState::Failed),
                "{ended:?}"
            ),
            (false, true) => {
                assert_eq!((ended.state, reason, withdrawn), (OperationState::Failed, Some("APPROVAL_DENIED"), false))
            }
            (false, false) if withdrawn => assert_eq!(ended.state, OperationState::Cancelled),
            (false, false) => assert_eq!((ended.state, reason), (OperationState::Failed, Some("APPROVAL_EXPIRED"))),
        }
        let steps = count(&bench, "steps", id).await;
        assert!(began || steps == 0, "nothing of it began: {ended:?}");
        approved += u64::from(ended.state == OperationState::Completed);
    }
    assert_eq!(bench.payments_on_chain().await, approved, "who was approved was paid, once");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_outlives_the_engine_that_should_have_heard_of_it() {
    let bench = Bench::start().await;
    let mut engine = bench.engine("a").await;
    set(&bench, &by_kind(1)).await;
    for round in 0..6 {
        let view = held(&bench, &engine, &format!("round {round}")).await.operation;
        match round % 3 {
            // Before, at the same time, after.
            0 => {
                engine.kill().await;
                decide(&bench.pool, view.operation_id, &by("checker", &view, true)).await.expect("counts");
            }
            1 => {
                let approval = by("checker", &view, true);
                let (next, ()) = tokio::join!(decide(&bench.pool, view.operation_id, &approval), engine.kill());
                assert_eq!(next.expect("counts"), Next::Begins);
            }
            _ => {
                decide(&bench.pool, view.operation_id, &by("checker", &view, true)).await.expect("counts");
                engine.kill().await;
            }
        }
        engine = bench.engine("a").await;
        assert_eq!(bench.wait(&engine, view.operation_id).await.state, OperationState::Completed);
        bench.assert_lane_is_whole(0, round + 1).await;
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_refuse_what_nobody_should_ask_for() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let free = bench.pay(&engine, 1, "free", PayOrder::times(1)).await.expect("accepted").operation.operation_id;
    bench.wait(&engine, free).await;
    set(&bench, &by_kind(1)).await;
    let id = held(&bench, &engine, "held").await.operation.operation_id;
    let statements: BTreeMap<&str, String> = [
        ("begins unapproved", format!("UPDATE engine.operations SET state = 'RUNNING', wake = true WHERE operation_id = '{id}'")),
        ("is asked all the same", format!("UPDATE engine.operations SET wake = true WHERE operation_id = '{id}'")),
        ("orders a step", format!("INSERT INTO engine.steps (tenant, operation_id, name, position, input, service) VALUES ('{TENANT}', '{id}', 'x', 0, '{{}}', 's')")),
        ("is held later", format!("UPDATE engine.operations SET state = 'AWAITING_CHECKER' WHERE operation_id = '{free}'")),
        ("is approved by its maker", format!("INSERT INTO engine.check_decisions SELECT tenant, operation_id, 'maker', 'maker', '{{maker}}', true, 'x', payload_hash FROM engine.checks WHERE operation_id = '{id}'")),
        ("is approved unseen", format!("INSERT INTO engine.check_decisions SELECT tenant, operation_id, 'c', 'c', '{{maker}}', true, 'x', sha256('x') FROM engine.checks WHERE operation_id = '{id}'")),
        ("takes fewer", format!("UPDATE engine.checks SET checkers = 1 WHERE operation_id = '{id}'")),
        ("is forgotten", format!("DELETE FROM engine.checks WHERE operation_id = '{id}'")),
    ]
    .into();
    for (what, statement) in statements {
        let answer = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&bench.pool).await;
        assert!(answer.is_err(), "{what}");
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_names_only_kinds_that_there_are() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let mut connection = bench.pool.acquire().await.expect("a connection");
    let unknown = |kind: &str| Policy { kinds: vec!["test.pay".into(), kind.to_owned()], ..by_kind(1) };
    for (kind, wanted) in [("test.faulty", None), ("policy.change", None), ("test.pya", Some("test.pya".to_owned()))] {
        assert_eq!(checker::unknown_kind(&mut connection, &unknown(kind)).await.expect("readable"), wanted);
    }
    tokio::time::timeout(Duration::from_secs(10), engine.stop()).await.expect("stops");
}
