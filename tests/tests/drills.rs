//! svc-distribution is killed at every stage of a push and of a coupon; afterwards each is paid exactly once. `make drill` does the same with
//! 10,000 recipients.

use dalp_tests::drill::{Ground, Outcome, coupon, push};
use dalp_tests::wallets::wallets;

/// Enough for every stage to come, in batches that are small.
const RECIPIENTS: usize = 300;

fn each_once(outcome: &Outcome) {
    assert_eq!((outcome.paid, outcome.duplicated, outcome.lost), (RECIPIENTS, 0, 0), "{outcome:?}");
    assert_eq!(outcome.difference, 0, "{outcome:?}");
    assert!(outcome.deviations.is_empty(), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_stage_each_is_paid_exactly_once() {
    let settings =
        "\n[airdrop]\nbatch_gas = 700000\nbatches_at_once = 2\n\n[treasury]\nbatch_gas = 900000\nbatches_at_once = 2\n";
    let mut ground = Ground::start(settings).await.expect("the stack starts");
    let recipients = wallets("drill", RECIPIENTS);
    ground.verify(&recipients).await.expect("verified");
    each_once(&push(&mut ground, "push", &recipients).await.expect("pushed"));
    let holders: Vec<_> = recipients.into_iter().zip(1..).collect();
    each_once(&coupon(&mut ground, "coupon", &holders).await.expect("paid"));
}
