//! What another tenant sees of a treasury: nothing. And runs, page by page.

use dalp_proto::distribution::treasury_service_client::TreasuryServiceClient;
use dalp_proto::distribution::{
    AutomateCouponsRequest, AutomateRedemptionRequest, DiscardRunRequest, ExportFormat, ExportRunRequest,
    GetRunEvidenceRequest, GetRunRequest, GetTreasuryRequest, ListDuePaymentsRequest, ListEntitlementsRequest,
    ListRunsRequest, ListTreasuriesRequest, PauseRunRequest, PrepareRunRequest, StartRunRequest, StopScheduleRequest,
};

use crate::coupons::Bond;
use crate::support::{World, coupon, refusal};

pub(crate) async fn another_tenant_sees_nothing_of_a_treasury(world: &World, bond: &Bond) {
    let (treasury, run) = (bond.treasury.clone(), 1);
    let mut foreign = TreasuryServiceClient::new(world.foreign.gateway());
    let listed = foreign.list_treasuries(ListTreasuriesRequest::default()).await.expect("a page").into_inner();
    assert!(listed.treasuries.is_empty(), "{listed:?}");
    let own = world.service().get_run(GetRunRequest { treasury: treasury.clone(), run }).await.expect("known");
    let root = own.into_inner().run.expect("a run").root;
    let sender = world.issuer();
    macro_rules! not_found {
        ($($call:ident($request:expr);)+) => {$(
            let status = foreign.$call($request).await.expect_err(stringify!($call));
            assert_eq!(refusal(&status).reason, "NOT_FOUND", stringify!($call));
        )+};
    }
    not_found! {
        get_treasury(GetTreasuryRequest { treasury: treasury.clone() });
        list_runs(ListRunsRequest { treasury: treasury.clone(), ..ListRunsRequest::default() });
        get_run(GetRunRequest { treasury: treasury.clone(), run });
        list_entitlements(ListEntitlementsRequest { treasury: treasury.clone(), run, ..ListEntitlementsRequest::default() });
        get_run_evidence(GetRunEvidenceRequest { treasury: treasury.clone(), run });
        export_run(ExportRunRequest { treasury: treasury.clone(), run, format: ExportFormat::Csv.into() });
        list_due_payments(ListDuePaymentsRequest { treasury: treasury.clone(), ..Default::default() });
        stop_schedule(StopScheduleRequest { treasury: treasury.clone(), schedule: 1 });
        automate_coupons(AutomateCouponsRequest { sender: sender.clone(), treasury: treasury.clone(), alert_s: 0 });
        automate_redemption(AutomateRedemptionRequest { sender: sender.clone(), treasury: treasury.clone(), alert_s: 0 });
        prepare_run(PrepareRunRequest { treasury: treasury.clone(), payout: Some(coupon(0)) });
        start_run(StartRunRequest { sender: sender.clone(), treasury: treasury.clone(), run, root: root.clone() });
        pause_run(PauseRunRequest { treasury: treasury.clone(), run });
        discard_run(DiscardRunRequest { treasury: treasury.clone(), run, reason: "theirs".to_owned() });
    }
}

pub(crate) async fn runs_come_in_pages_newest_first(world: &World, bond: &Bond) {
    let page = async |page_token: String| {
        let asked = ListRunsRequest { treasury: bond.treasury.clone(), page_size: 3, page_token };
        world.service().list_runs(asked).await.map(tonic::Response::into_inner)
    };
    let first = page(String::new()).await.expect("a page");
    let second = page(first.next_page_token.clone()).await.expect("a page");
    let numbers = |runs: &[dalp_proto::distribution::Run]| runs.iter().map(|run| run.run).collect::<Vec<_>>();
    assert_eq!((numbers(&first.runs), numbers(&second.runs)), (vec![4, 3, 2], vec![1]));
    assert!(second.next_page_token.is_empty());
    assert_eq!(refusal(&page("x".to_owned()).await.expect_err("no token")).reason, "PAGE_TOKEN_INVALID");
}
