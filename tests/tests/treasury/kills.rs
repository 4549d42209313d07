//! A coupon whose service is killed while it pays.

use std::time::Duration;

use dalp_devstack::client::keyed;
use dalp_proto::distribution::{CouponPlan, Run, RunState, ScheduleCouponsRequest};
use dalp_tests::airdrops::key;
use dalp_tests::waiting::until;

use crate::support::{World, coupon, wallets};

/// The service is killed again and again while it pays; the extra delay moves the point of the kill.
pub(crate) async fn killed_at_every_stage(world: &mut World) {
    let terms = world.terms();
    let treasury = world.treasuries().create(&terms).await.expect("created");
    world.treasuries().make_ready(&treasury, &terms).await.expect("ready");
    let everyone = wallets("killed", 120);
    world.load.admit(&everyone).await.expect("admitted");
    let now_s = world.now_s().await;
    let plan = CouponPlan {
        starts_at: now_s,
        ends_at: now_s + 100_000,
        interval_s: 100_000,
        lead_s: 0,
        rate: "0.001".to_owned(),
    };
    let ends_at = plan.ends_at;
    let request = ScheduleCouponsRequest { sender: world.issuer(), treasury: treasury.clone(), plan: Some(plan) };
    let accepted = world.service().schedule_coupons(keyed(request, &key())).await.expect("accepted");
    world.completed(accepted.into_inner().operation).await;
    world.pass(ends_at).await;
    let run = world.prepared(&treasury, coupon(0)).await;
    assert_eq!(run.holders, 123);
    world.treasuries().fund(&treasury, run.total.parse().expect("a number")).await.expect("funded");
    world.treasuries().start(&run).await.expect("begins");
    for kill in 0..10 {
        tokio::time::sleep(Duration::from_millis(97 * kill)).await;
        world.stack.service("svc-distribution").expect("a service").restart().expect("it starts again");
        world.stack.wait_until_serving().await.expect("it serves again");
    }
    let done = |run: &Run| run.progress.as_ref().is_some_and(|progress| progress.state() == RunState::Done);
    let paid = until("the run is done", async || world.run(&run).await, done).await;
    assert_eq!(paid.progress.expect("progress").paid, 123);
    for wallet in everyone.iter().chain(&world.load.holders) {
        assert_eq!(world.euros(wallet.address).await, 100_000_000, "{}", wallet.text);
    }
    let evidence = world.evidence(&run).await;
    assert_eq!(evidence.transactions.iter().map(|one| one.paid).sum::<u32>(), 123, "each once");
    assert_eq!(evidence.reconciliation.expect("sums").difference, "0");
}
