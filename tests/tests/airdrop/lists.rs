//! Lists: what is wrong with them is told line by line, and a repeat finds what came of the first.

use dalp_devstack::client::keyed;
use dalp_proto::distribution::{
    AirdropHeader, AirdropKind, AirdropTerms, CreateAirdropRequest, GetProofRequest, ListFormat, ListHeader,
    create_airdrop_request::Part,
};
use dalp_tests::airdrops::{Wanted, key};
use futures::{StreamExt as _, stream};
use sqlx::{Connection as _, PgConnection};

use crate::support::{World, now_s, refusal, rows, wallets};

/// Lists, airdrops and operations that are stored.
async fn stored(world: &World) -> (i64, i64, i64) {
    let mut database = PgConnection::connect(&world.stack.settings().database_url).await.expect("the database");
    let counted = "SELECT (SELECT count(*) FROM distribution.lists), (SELECT count(*) FROM distribution.airdrops),
                          (SELECT count(*) FROM engine.operations)";
    sqlx::query_as(counted).fetch_one(&mut database).await.expect("counts")
}

pub(crate) async fn a_bad_list_is_refused_with_its_lines_and_starts_nothing(world: &World) {
    let everyone = wallets("bad-list", 3);
    world.load.verify(&everyone[..2]).await.expect("verified");
    let [one, two, stranger] = [0, 1, 2].map(|number: usize| everyone[number].text.clone());
    let before = stored(world).await;
    let wanted = |list: String, announced| Wanted {
        list,
        announced,
        ..Wanted::of(AirdropKind::Push, &rows(&everyone[..1]), now_s())
    };
    let swapped = "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    let bad = format!("account,amount\n{one},1\n{one},2\n{two},0\n{two},1.5\n{swapped},1\nnobody,1\n");
    let refused = world.airdrops().upload(&wanted(bad.clone(), Some(6)), &key()).await.expect_err("refused");
    let details = refusal(&refused);
    assert_eq!(
        (details.reason.as_str(), details.metadata["problem"].as_str()),
        ("RECIPIENT_LIST_INVALID", "BAD_LINES")
    );
    let told: Vec<_> = details.violations.iter().map(|(line, what)| (line.as_str(), what.split(':').next())).collect();
    let expected = [
        ("line 3", Some("DUPLICATE")),
        ("line 4", Some("ZERO_AMOUNT")),
        ("line 5", Some("TOO_PRECISE")),
        ("line 6", Some("CHECKSUM")),
        ("line 7", Some("ADDRESS")),
    ];
    assert_eq!(told, expected);

    // Cut off: no end, also in the middle of a line, or an end that tells of more than arrived.
    for (list, announced, line) in [
        (format!("{one},1\n"), None, "line 1"),
        (format!("{one},1\n{}", &two[..20]), None, "line 2"),
        (format!("{one},1\n\n{two},1\n"), Some(3), "line 3"),
        (String::new(), Some(3), "line 1"),
    ] {
        let refused = world.airdrops().upload(&wanted(list, announced), &key()).await;
        told_as(&refused.expect_err("refused"), "CUT_OFF", line);
    }
    assert_eq!(stored(world).await, before, "nothing was started");

    // An account that the asset would not take, unless the caller leaves that to the chain.
    let unverified = wanted(format!("{one},1\n{stranger},2\n"), Some(2));
    let refused = world.airdrops().upload(&unverified, &key()).await.expect_err("refused");
    let details = refusal(&refused);
    assert_eq!(details.violations[0].0, "line 2");
    assert!(details.violations[0].1.starts_with("NOT_VERIFIED"), "{details:?}");
    let taken = world.airdrops().upload(&Wanted { leave_out: true, ..unverified }, &key()).await.expect("taken");
    assert_eq!((taken.recipients, taken.left_out, taken.bad_lines[0].line), (1, 1, 2));
    world.airdrops().completed(taken.operation).await.expect("created");
}

/// A refusal of a list as a whole names the line.
fn told_as(status: &tonic::Status, problem: &str, line: &str) {
    let details = refusal(status);
    let told = (details.reason.as_str(), details.metadata["problem"].as_str(), details.violations[0].0.as_str());
    assert_eq!(told, ("RECIPIENT_LIST_INVALID", problem, line), "{details:?}");
}

pub(crate) async fn a_list_that_is_too_long_or_breaks_off_starts_nothing(world: &World) {
    let before = stored(world).await;
    let list: String = (1..=1_000_001).map(|number| format!("0x{number:040x},1\n")).collect();
    let rows = rows(&wallets("long", 1));
    let wanted = Wanted { list, announced: Some(1_000_001), ..Wanted::of(AirdropKind::Claim, &rows, now_s()) };
    let refused = world.airdrops().upload(&wanted, &key()).await.expect_err("one too many");
    told_as(&refused, "TOO_MANY", "line 1000001");

    // The client is gone in the middle of its list. Nothing stands under its key: the same list is taken whole.
    let list = ListHeader {
        asset: world.load.token.to_checksum(None),
        format: ListFormat::Csv.into(),
        accept_unverified: true,
    };
    let header = AirdropHeader {
        terms: Some(AirdropTerms { sender: world.load.issuer.text.clone(), ..wanted.terms.clone() }),
        list: Some(list),
        leave_out_bad_lines: false,
    };
    let message = |part| CreateAirdropRequest { part: Some(part) };
    let first = format!("{},1\n", rows[0].0);
    let sent = vec![message(Part::Header(header)), message(Part::List(first.clone().into_bytes()))];
    let (all_sent, gone) = tokio::sync::oneshot::channel();
    let mut all_sent = Some(all_sent);
    let rest = stream::poll_fn(move |_| {
        let _ = all_sent.take().map(|all_sent| all_sent.send(()));
        std::task::Poll::Pending
    });
    let (mut service, key) = (world.airdrops().service(), key());
    tokio::select! {
        answer = service.create_airdrop(keyed(stream::iter(sent).chain(rest), &key)) => panic!("not the whole list: {answer:?}"),
        told = gone => told.expect("sent"),
    }
    assert_eq!(stored(world).await, before, "nothing was started");
    let whole = Wanted { list: first, announced: Some(1), accept_unverified: true, ..wanted };
    let taken = world.airdrops().upload(&whole, &key).await.expect("taken");
    world.airdrops().completed(taken.operation).await.expect("created");
    assert_eq!(stored(world).await, (before.0 + 1, before.1 + 1, before.2 + 1), "once");
}

pub(crate) async fn a_repeated_list_finds_its_airdrop(world: &World) {
    let everyone = wallets("repeated", 40);
    let rows = rows(&everyone);
    let wanted = Wanted { accept_unverified: true, ..Wanted::of(AirdropKind::Claim, &rows, now_s()) };
    let key = key();
    let first = world.airdrops().upload(&wanted, &key).await.expect("accepted");
    // The same rows, written otherwise.
    let again = Wanted { list: wanted.list.replace(',', " , ").replace('\n', "\r\n\n"), ..wanted.clone() };
    let second = world.airdrops().upload(&again, &key).await.expect("repeated");
    let id = |operation: Option<dalp_proto::operation::Operation>| operation.expect("an operation").operation_id;
    assert_eq!((&first.airdrop, id(first.operation.clone())), (&second.airdrop, id(second.operation)));
    let other = Wanted { list: wanted.list.replacen(",1\n", ",7\n", 1), ..wanted };
    let refused = world.airdrops().upload(&other, &key).await.expect_err("another list");
    assert_eq!(refusal(&refused).reason, "IDEMPOTENCY_KEY_REUSED");

    world.airdrops().completed(first.operation).await.expect("created");
    let stored = world.get(&first.airdrop).await.expect("known").airdrop.expect("an airdrop");
    assert_eq!((stored.rows_per_root, stored.roots.len(), stored.total.as_str()), (16, 3, "820"));
    let asked = GetProofRequest { airdrop: first.airdrop, account: everyone[35].text.clone() };
    let proof = world.airdrops().service().get_proof(asked).await.expect("a proof").into_inner();
    assert_eq!((proof.index, proof.amount.as_str(), &proof.root), (35, "36", &stored.roots[2]));
}
