//! What nobody could keep is refused before anything is started.

use dalp_devstack::client::keyed;
use dalp_proto::distribution::{
    CouponPlan, CreateTreasuryRequest, DividendPayout, ListTreasuriesRequest, ScheduleCouponsRequest, TreasuryTerms,
    prepare_run_request::Payout,
};
use dalp_proto::system::GetSystemRequest;
use dalp_proto::system::system_service_client::SystemServiceClient;
use dalp_tests::airdrops::key;

use crate::support::{World, coupon, refusal};

pub(crate) async fn terms_that_nobody_could_keep_start_nothing(world: &World) {
    let now_s = world.now_s().await;
    let refused = async |terms: TreasuryTerms| {
        let request = CreateTreasuryRequest { sender: world.issuer(), terms: Some(terms) };
        refusal(&world.service().create_treasury(keyed(request, &key())).await.expect_err("refused"))
    };
    // Nothing stands there, so it tells no decimals.
    let nobody = world.load.receiver.text.clone();
    let details = refused(TreasuryTerms { currency: nobody, ..world.terms() }).await;
    assert_eq!((details.reason.as_str(), details.violations[0].0.as_str()), ("CURRENCY_UNSUPPORTED", "terms.currency"));
    // Neither does a contract that is no currency.
    let contract = system_of(world).await;
    let details = refused(TreasuryTerms { currency: contract.clone(), ..world.terms() }).await;
    assert_eq!((details.reason.as_str(), details.violations[0].0.as_str()), ("CURRENCY_UNSUPPORTED", "terms.currency"));
    let past = TreasuryTerms { maturity: now_s - 1, redemption_price: "1000".to_owned(), ..world.terms() };
    let details = refused(past).await;
    assert_eq!((details.reason.as_str(), details.violations[0].0.as_str()), ("INVALID_FIELD", "terms.maturity"));
    let precise = TreasuryTerms {
        maturity: now_s + 1_000_000,
        redemption_price: "0.000000000000000000001".to_owned(),
        ..world.terms()
    };
    assert_eq!(refused(precise).await.violations[0].0, "terms.redemption_price");
    let listed = world.service().list_treasuries(ListTreasuriesRequest::default()).await.expect("a page").into_inner();
    assert!(listed.treasuries.is_empty(), "nothing was started: {listed:?}");

    let maturity = now_s + 1_000_000;
    let terms = TreasuryTerms { maturity, redemption_price: "1000".to_owned(), ..world.terms() };
    let treasury = world.treasuries().create(&terms).await.expect("created");
    let plan = CouponPlan {
        starts_at: now_s + 1_000,
        ends_at: maturity,
        interval_s: 100_000,
        lead_s: 10_000,
        rate: "1".to_owned(),
    };
    let schedule = async |plan: CouponPlan| {
        let request = ScheduleCouponsRequest { sender: world.issuer(), treasury: treasury.clone(), plan: Some(plan) };
        refusal(&world.service().schedule_coupons(keyed(request, &key())).await.expect_err("refused"))
    };
    let details = schedule(plan.clone()).await;
    let told = (details.reason.as_str(), details.metadata["feature"].contains("FUNDS"));
    assert_eq!(told, ("FEATURE_NOT_ATTACHED", true), "{details:?}");
    let late = schedule(CouponPlan { starts_at: now_s - 500_000, ..plan.clone() }).await;
    assert_eq!((late.reason.as_str(), late.violations[0].0.as_str()), ("INVALID_FIELD", "plan.starts_at"));
    let zero = schedule(CouponPlan { rate: "0".to_owned(), ..plan.clone() }).await;
    assert_eq!((zero.reason.as_str(), zero.violations[0].0.as_str()), ("INVALID_FIELD", "plan.rate"));
    let long = schedule(CouponPlan { ends_at: maturity + 1, ..plan }).await;
    assert_eq!((long.reason.as_str(), long.violations[0].0.as_str()), ("INVALID_FIELD", "plan.ends_at"));

    assert_eq!(world.not_prepared(&treasury, coupon(0)).await.reason, "NOT_FOUND", "no coupons are fixed");
    let ahead = Payout::Dividend(DividendPayout {
        record_date: now_s + 100_000,
        total: "10".to_owned(),
        reference: "ahead".to_owned(),
        ..DividendPayout::default()
    });
    assert_eq!(world.not_prepared(&treasury, ahead).await.reason, "RECORD_BLOCK_NOT_FINAL");
    let unknown = Payout::Dividend(DividendPayout {
        record_date: now_s - 1,
        total: "10".to_owned(),
        reference: "unknown".to_owned(),
        ..DividendPayout::default()
    });
    assert_eq!(world.not_prepared(&treasury, unknown).await.reason, "RECORD_BLOCK_NOT_FINAL", "never announced");
    for currency in [world.load.receiver.text.clone(), contract] {
        let (total, reference) = ("10".to_owned(), "barter".to_owned());
        let barter = Payout::Dividend(DividendPayout { currency, record_date: now_s - 1, total, reference });
        assert_eq!(world.not_prepared(&treasury, barter).await.reason, "CURRENCY_UNSUPPORTED");
    }
    let early = Payout::Redemption(Default::default());
    let details = world.not_prepared(&treasury, early).await;
    assert_eq!((details.reason.as_str(), &details.metadata["maturity"]), ("NOT_MATURED", &maturity.to_string()));
    let passed = refusal(&world.announce(&treasury, now_s - 10).await.expect_err("refused"));
    assert_eq!(passed.reason, "INVALID_FIELD");
    let got = world.get(&treasury).await;
    assert_eq!((got.attached.len(), got.plan, got.matured), (0, None, false));
}

/// The tenant's system: a contract, and no currency.
async fn system_of(world: &World) -> String {
    let answer = SystemServiceClient::new(world.client.gateway()).get_system(GetSystemRequest::default()).await;
    answer.expect("a system").into_inner().system.expect("a system").system
}
