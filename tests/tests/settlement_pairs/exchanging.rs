//! What goes as it should.

use dalp_proto::settlement::{
    GetPairEvidenceResponse, ListPairActionsRequest, ListPairEventsRequest, ListSettlementEventsRequest, Pair,
    PairState, SettlementEventKind, SettlementState,
};

use crate::support::{FIRST, GAP_S, SECOND, World};

fn fields(status: &tonic::Status) -> (String, Vec<String>) {
    let refusal = dalp_service::Refusal::details(status).unwrap_or_else(|| panic!("no refusal of ours: {status:?}"));
    (refusal.reason, refusal.violations.into_iter().map(|(field, _)| field).collect())
}

pub(crate) async fn what_cannot_be_opened_opens_nothing(world: &World) {
    let order = world.order("Wrong").await;
    let refused = async |change: &dyn Fn(&mut dalp_proto::settlement::OpenPairRequest)| {
        let mut order = order.clone();
        change(&mut order);
        fields(&world.try_open(order).await.expect_err("refused"))
    };
    let invalid =
        |names: &[&str]| ("INVALID_FIELD".to_owned(), names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let near = order.reveal.as_ref().expect("a side").cutoff + GAP_S - 1;
    assert_eq!(refused(&|order| order.carry.as_mut().expect("a side").cutoff = near).await, invalid(&["carry.cutoff"]));
    assert_eq!(refused(&|order| order.reveal.as_mut().expect("a side").cutoff = 5).await, invalid(&["reveal.cutoff"]));
    assert_eq!(
        refused(&|order| order.reveal.as_mut().expect("a side").chain_id = 7).await,
        invalid(&["reveal.chain_id"])
    );
    assert_eq!(refused(&|order| order.legs[0].amount = "0".to_owned()).await, invalid(&["legs[0].amount"]));
    assert_eq!(refused(&|order| order.legs[1].chain_id = FIRST).await, invalid(&["legs"]));
    assert_eq!(refused(&|order| order.reveal = None).await.1[0], "reveal");
}

pub(crate) async fn two_assets_are_exchanged_across_chains(world: &World) {
    let before = world.holdings().await;
    let pair = world.open("Exchanged").await;
    assert_eq!((pair.state(), pair.secret_ours), (PairState::Locking, true));
    world.alice_locks(&pair).await;
    assert_eq!(world.pair(&pair.pair_id).await.state(), PairState::Locking, "one lock is not enough");
    world.bob_locks(&pair).await;
    world.exchanged(&pair, before).await;

    let secret = world.shown(SECOND, &pair.reveal).await.expect("shown");
    assert_eq!(world.shown(FIRST, &pair.carry).await, Some(secret), "the same on both chains");
    let evidence = world.evidence(&pair).await;
    let told = format!("{evidence:?}").to_lowercase();
    assert!(!told.contains(&format!("{secret:x}")), "the secret is told by nobody but the chains");
    let shown = evidence.secret.clone().expect("a secret").shown;
    assert_eq!(shown.iter().map(|one| one.chain_id).collect::<Vec<_>>(), [SECOND, FIRST]);
    assert_eq!(
        evidence.verdicts.iter().map(|one| (one.chain_id, one.compliant)).collect::<Vec<_>>(),
        [(SECOND, true), (FIRST, true)]
    );
    for side in [&evidence.reveal, &evidence.carry] {
        let side = side.as_ref().expect("a side");
        assert_eq!(side.state(), SettlementState::Executed);
        assert!(side.final_block > 0 && side.indexed_block > 0);
        let kinds: Vec<_> = side.events.iter().map(|event| event.kind()).collect();
        for kind in [SettlementEventKind::Created, SettlementEventKind::Approved, SettlementEventKind::Revealed] {
            assert!(kinds.contains(&kind), "{kinds:?}");
        }
    }
    let sent: Vec<_> = evidence.actions.iter().map(|one| (one.action.as_str(), one.chain_id)).collect();
    assert_eq!(sent, [("open", 0), ("reveal", SECOND), ("carry", FIRST)]);
    assert!(evidence.actions.iter().all(|one| one.operation.as_ref().is_some_and(|one| !one.transactions.is_empty())));
    let events: Vec<_> = evidence.events.iter().map(|one| one.kind.as_str()).collect();
    let milestones: Vec<_> = events.iter().filter(|kind| !matches!(**kind, "raised" | "cleared")).copied().collect();
    assert_eq!(milestones, ["opened", "revealing", "secret_out", "settled"]);
    pages_hold_what_the_evidence_holds(world, &pair, &evidence).await;
}

async fn pages_hold_what_the_evidence_holds(world: &World, pair: &Pair, evidence: &GetPairEvidenceResponse) {
    let (mut service, pair_id, page_size) = (world.service(), pair.pair_id.clone(), 2);
    let (mut actions, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListPairActionsRequest { pair_id: pair_id.clone(), page_size, page_token };
        let page = service.list_pair_actions(request).await.expect("a page").into_inner();
        actions.extend(page.actions.into_iter().map(|one| (one.action, one.operation.map(|one| one.operation_id))));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let told = evidence.actions.iter().map(|one| (&one.action, one.operation.as_ref().map(|one| &one.operation_id)));
    assert!(actions.iter().map(|(action, id)| (action, id.as_ref())).eq(told), "{actions:?}");
    let (mut events, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListPairEventsRequest { pair_id: pair_id.clone(), page_size, page_token };
        let page = service.list_pair_events(request).await.expect("a page").into_inner();
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(events, evidence.events);
    let side = evidence.reveal.as_ref().expect("a side");
    let (mut events, mut page_token) = (Vec::new(), String::new());
    loop {
        let settlement_id = side.settlement.clone().expect("it").settlement_id;
        let request = ListSettlementEventsRequest { settlement_id, page_size, page_token };
        let page = service.list_settlement_events(request).await.expect("a page").into_inner();
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(events, side.events);
    assert!(!side.earlier_events && !evidence.earlier_events && !evidence.earlier_actions, "it was all");
    let wrong = ListPairActionsRequest { pair_id: pair_id.clone(), page_size: 101, page_token: String::new() };
    let refused = service.list_pair_actions(wrong).await.expect_err("too many");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let wrong = ListPairEventsRequest { pair_id, page_size, page_token: "x".to_owned() };
    assert_eq!(service.list_pair_events(wrong).await.expect_err("no token").code(), tonic::Code::InvalidArgument);
}
