//! Lists: what is wrong with them is told line by line, and a repeat finds what came of the first.

use dalp_proto::distribution::{AirdropKind, GetProofRequest};
use dalp_tests::airdrops::{Wanted, key};

use crate::support::{World, now_s, refusal, rows, wallets};

pub(crate) async fn a_bad_list_is_refused_with_its_lines_and_starts_nothing(world: &World) {
    let everyone = wallets("bad-list", 3);
    world.load.verify(&everyone[..2]).await.expect("verified");
    let [one, two, stranger] = [0, 1, 2].map(|number: usize| everyone[number].text.clone());
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

    // Cut off: no end, or an end that tells of more than arrived.
    for announced in [None, Some(2)] {
        let refused = world.airdrops().upload(&wanted(format!("{one},1\n"), announced), &key()).await;
        let details = refusal(&refused.expect_err("refused"));
        assert_eq!(
            (details.reason.as_str(), details.metadata["problem"].as_str()),
            ("RECIPIENT_LIST_INVALID", "CUT_OFF")
        );
    }

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
