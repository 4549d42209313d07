//! One held operation of each service, and everything that does not let it begin.

use dalp_devstack::client::keyed;
use dalp_proto::asset::TransferRequest;
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_proto::distribution::prepare_run_request::Payout;
use dalp_proto::distribution::{
    AnnounceRecordDateRequest, DividendPayout, FundTreasuryRequest, GetRunRequest, RunState, TreasuryTerms,
};
use dalp_proto::feeds::feed_service_client::FeedServiceClient;
use dalp_proto::feeds::{CreateFeedRequest, HistoryMode};
use dalp_proto::identity::RegisterTopicRequest;
use dalp_proto::identity::identity_service_client::IdentityServiceClient;
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use dalp_proto::operation::{CancelOperationRequest, ListOperationsRequest, OperationState};
use dalp_proto::principal::principal_service_client::PrincipalServiceClient;
use dalp_proto::principal::{DisablePrincipalRequest, GrantRoleRequest};
use dalp_proto::settlement::settlement_service_client::SettlementServiceClient;
use dalp_proto::settlement::{ApproveRequest, CreateSettlementRequest, SettlementLeg, SettlementTerms};
use dalp_proto::signer::CreateKeyRequest;
use dalp_proto::signer::key_service_client::KeyServiceClient;
use dalp_tests::airdrops::key;
use dalp_tests::waiting::until;

use crate::outside;
use crate::support::{LARGE, World, hash, is_held, refused};

pub(crate) async fn a_mint_above_the_threshold_is_held(world: &World) {
    let small = world.mint(&world.operator, LARGE - 1).await.expect("accepted");
    assert!(small.check.is_none(), "no policy holds it: {small:?}");
    let small = world.operator.finished(Some(small)).await.expect("final");
    assert_eq!(small.state(), OperationState::Completed, "{small:?}");
    let before = world.minted().await;

    let name = key();
    let held = world.mint_again(&world.operator, LARGE, &name).await.expect("accepted");
    is_held(&held);
    let check = held.check.clone().expect("a check");
    assert_eq!((check.policies.as_slice(), check.checkers), (&["mints".to_owned()][..], 1));
    assert_eq!(check.method, "dalp.asset.v1.AssetService/Mint");
    assert_eq!(
        (check.amounts[0].asset.as_str(), check.amounts[0].amount.as_str()),
        (world.mint_request(0).asset.as_str(), "1000")
    );
    let command: serde_json::Value = serde_json::from_str(&check.command_json).expect("JSON");
    assert_eq!(command["sender"].as_str().map(str::to_lowercase), Some(world.load.issuer.text.to_lowercase()));
    let again = world.mint_again(&world.operator, LARGE, &name).await.expect("a repeat");
    assert_eq!(again, held, "a repeat is the same operation");
    let other = world.mint_again(&world.operator, LARGE + 1, &name).await;
    assert_eq!(refused(other), "IDEMPOTENCY_KEY_REUSED");

    let listed = ListOperationsRequest { state: OperationState::AwaitingChecker.into(), ..Default::default() };
    let listed = OperationServiceClient::new(world.bob.gateway()).list_operations(listed).await.expect("a page");
    assert!(listed.into_inner().operations.iter().any(|one| one.operation_id == held.operation_id));
    assert_eq!(world.minted().await, before, "nothing was minted");

    let result = world.approved(&held).await;
    assert!(result["tx_hash"].is_string(), "{result}");
    assert_eq!(world.minted().await, before + LARGE);
    let decided = world.get(&held.operation_id).await.check.expect("its check stays");
    assert_eq!((decided.decisions[0].principal.as_str(), decided.decisions[0].approved), ("bob", true));
    let repeat = world.approve(&world.bob, &held).await.expect("a repeat changes nothing");
    assert_eq!(repeat.state(), OperationState::Completed);
    let repeat = world.mint_again(&world.operator, LARGE, &name).await.expect("a repeat");
    assert_eq!((repeat.operation_id, repeat.state), (held.operation_id, OperationState::Completed.into()));
    assert_eq!(world.minted().await, before + LARGE, "once");
}

pub(crate) async fn who_may_not_approve(world: &World) {
    let held = world.mint(&world.ann_desk, LARGE).await.expect("accepted");
    is_held(&held);
    assert_eq!(held.check.as_ref().expect("a check").wallet_owners, ["operator"], "it sends from another's wallet");
    assert_eq!(refused(world.approve(&world.ann_desk, &held).await), "MAKER_IS_CHECKER", "the maker itself");
    assert_eq!(refused(world.approve(&world.ann, &held).await), "MAKER_IS_CHECKER", "the person behind the maker");
    assert_eq!(refused(world.approve(&world.operator, &held).await), "CHECKER_NOT_A_PERSON", "nobody answers for it");
    let unseen = format!("0x{}", "7".repeat(64));
    assert_eq!(refused(world.approve_hash(&world.bob, &held, &unseen).await), "CHECK_PAYLOAD_DIFFERS");
    assert_eq!(refused(world.approve_hash(&world.bob, &held, "0x12").await), "INVALID_FIELD");
    is_held(&world.get(&held.operation_id).await);
    let by_ann = world.mint(&world.ann, LARGE).await.expect("accepted");
    assert_eq!(refused(world.approve(&world.ann_desk, &by_ann).await), "MAKER_IS_CHECKER", "her own machine");
    world.approved(&by_ann).await;
    world.approved(&held).await;
    let free = world.mint(&world.operator, 1).await.expect("accepted");
    let free = world.operator.finished(Some(free)).await.expect("final");
    assert_eq!(refused(world.approve_hash(&world.bob, &free, &unseen).await), "NOT_FOUND", "no policy held it");
}

/// Who owns the wallet holds its roles on chain: he is no second person, whoever asks.
pub(crate) async fn the_owner_of_the_wallet_approves_nothing(world: &World) {
    let wallet = CreateKeyRequest { wallet: "ann".into(), provider: "local".into(), owner: String::new() };
    let created = KeyServiceClient::new(world.ann.gateway()).create_key(keyed(wallet, &key())).await.expect("created");
    let transfer = TransferRequest {
        sender: created.into_inner().key.expect("a key").address,
        asset: world.euro.text.clone(),
        to: world.load.receiver.text.clone(),
        amount: "5000".into(),
    };
    let answer = AssetServiceClient::new(world.operator.gateway()).transfer(keyed(transfer, &key())).await;
    let held = answer.expect("accepted").into_inner().operation.expect("an operation");
    is_held(&held);
    assert_eq!(held.check.as_ref().expect("a check").wallet_owners, ["ann"]);
    assert_eq!(refused(world.approve(&world.ann, &held).await), "MAKER_IS_CHECKER");
    assert_eq!(refused(world.approve(&world.ann_desk, &held).await), "MAKER_IS_CHECKER");
    assert_eq!(world.reject(&world.bob, &held).await.expect("refused").state(), OperationState::Failed);
}

/// Its service is killed while it is held, and is dead when it is approved.
pub(crate) async fn an_approval_outlives_the_service_that_should_have_heard_of_it(world: &mut World) {
    let before = world.minted().await;
    let held = world.mint(&world.operator, LARGE).await.expect("accepted");
    let service = world.stack.service("svc-compliance").expect("a service");
    tokio::task::block_in_place(|| service.kill());
    let begun = world.approve(&world.bob, &held).await.expect("approved without its service");
    assert_eq!((begun.state(), begun.transactions.len()), (OperationState::Running, 0), "{begun:?}");
    let service = world.stack.service("svc-compliance").expect("a service");
    tokio::task::block_in_place(|| service.restart()).expect("it starts");
    world.stack.wait_until_serving().await.expect("healthy");
    let done = world.operator.finished(Some(begun)).await.expect("final");
    assert_eq!((done.state(), done.transactions.len()), (OperationState::Completed, 1), "{done:?}");
    assert_eq!(world.minted().await, before + LARGE, "once");
}

pub(crate) async fn refused_and_withdrawn(world: &World) {
    let before = world.minted().await;
    let held = world.mint(&world.operator, LARGE).await.expect("accepted");
    let ended = world.reject(&world.bob, &held).await.expect("refused");
    let error = ended.error.clone().expect("an error");
    assert_eq!(
        (ended.state(), error.reason.as_str(), error.message.as_str()),
        (OperationState::Failed, "APPROVAL_DENIED", "not this one")
    );
    assert_eq!(refused(world.approve(&world.ann, &held).await), "CHECK_DECIDED");
    let held = world.mint(&world.operator, LARGE).await.expect("accepted");
    let request = CancelOperationRequest { operation_id: held.operation_id.clone(), reason: "a mistake".into() };
    let cancelled = OperationServiceClient::new(world.operator.gateway()).cancel_operation(request).await;
    let cancelled = cancelled.expect("withdrawn").into_inner().operation.expect("an operation");
    assert_eq!(cancelled.state(), OperationState::Cancelled);
    assert_eq!(refused(world.approve(&world.bob, &held).await), "CHECK_DECIDED");
    assert_eq!(world.minted().await, before, "nothing was minted");
}

/// What the maker may is asked again when it would begin.
pub(crate) async fn a_maker_who_lost_his_right(world: &World) {
    let principals = || PrincipalServiceClient::new(world.ann.gateway());
    let temp = crate::policies::principal(world, "temp").await;
    let grant = GrantRoleRequest { principal_id: "temp".into(), role: "operator".into(), asset: String::new() };
    principals().grant_role(keyed(grant, &key())).await.expect("granted");
    let held = world.mint(&temp, LARGE).await.expect("accepted");
    is_held(&held);
    let disable = DisablePrincipalRequest { principal_id: "temp".into(), reason: "left".into() };
    principals().disable_principal(keyed(disable, &key())).await.expect("disabled");
    assert_eq!(refused(world.approve(&world.bob, &held).await), "MAKER_RIGHT_LOST");
    is_held(&world.get(&held.operation_id).await);
    let ended = world.reject(&world.bob, &held).await.expect("it can be refused");
    assert_eq!(ended.state(), OperationState::Failed);
}

pub(crate) async fn settlements(world: &World) {
    let [alice, bob] = [&world.load.holders[0], &world.load.holders[1]];
    let leg = |asset: &str, from: &str, to: &str, amount: &str| SettlementLeg {
        asset: asset.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        amount: amount.to_owned(),
        chain_id: 0,
    };
    let legs = vec![
        leg(&world.load.token.to_checksum(None), &alice.text, &bob.text, "100"),
        leg(&world.euro.text, &bob.text, &alice.text, "100"),
    ];
    let terms = SettlementTerms { name: "held".into(), cutoff: 4_000_000_000, legs, ..Default::default() };
    let service = || SettlementServiceClient::new(world.operator.gateway());
    let create = CreateSettlementRequest { sender: world.load.issuer.text.clone(), terms: Some(terms.clone()) };
    let created = service().create_settlement(keyed(create, &key())).await.expect("accepted").into_inner();
    let made = world.operator.finished(created.operation).await.expect("final");
    assert_eq!(made.state(), OperationState::Completed, "small: {made:?}");
    let approve = ApproveRequest {
        sender: alice.text.clone(),
        settlement_id: created.settlement_id.clone(),
        keep_allowances: false,
    };
    let held = service().approve(keyed(approve, &key())).await.expect("accepted").into_inner().operation;
    let held = held.expect("an operation");
    is_held(&held);
    assert_eq!(held.check.as_ref().expect("a check").amounts[0].amount, "100", "what is locked");
    let result = world.approved(&held).await;
    assert_eq!(result["locked"], false, "one of two: {result}");
    // One whose creation itself is held has its identifier at once, and can be found.
    let mut large = terms;
    large.legs[1].amount = "5000".into();
    let create = CreateSettlementRequest { sender: world.load.issuer.text.clone(), terms: Some(large) };
    let created = service().create_settlement(keyed(create, &key())).await.expect("accepted").into_inner();
    let held = created.operation.expect("an operation");
    is_held(&held);
    assert_eq!(world.approved(&held).await["settlement_id"], created.settlement_id.as_str());
}

pub(crate) async fn feeds(world: &World) {
    let issuer = world.load.issuer.text.clone();
    let topic =
        RegisterTopicRequest { sender: issuer.clone(), name: "price".into(), signature: "(int256 value)".into() };
    let topic = IdentityServiceClient::new(world.operator.gateway()).register_topic(keyed(topic, &key())).await;
    let topic = world.operator.finished(topic.expect("accepted").into_inner().operation).await.expect("final");
    assert_eq!(topic.state(), OperationState::Completed, "{topic:?}");
    let request = CreateFeedRequest {
        sender: issuer,
        subject: world.euro.text.clone(),
        topic_name: "price".into(),
        decimals: 8,
        description: "EUR/CHF".into(),
        history_mode: HistoryMode::LatestOnly.into(),
        ..Default::default()
    };
    let answer = FeedServiceClient::new(world.operator.gateway()).create_feed(keyed(request, &key())).await;
    let held = answer.expect("accepted").into_inner().operation.expect("an operation");
    is_held(&held);
    world.approved(&held).await;
}

/// Money into a treasury, and a run that StartRun asks for: held before any of it is reserved.
pub(crate) async fn payouts(world: &World) {
    let (treasuries, issuer) = (world.treasuries(), world.load.issuer.text.clone());
    let terms = TreasuryTerms {
        asset: world.load.token.to_checksum(None),
        currency: world.euro.text.clone(),
        ..TreasuryTerms::default()
    };
    let treasury = treasuries.create(&terms).await.expect("a treasury");
    treasuries.make_ready(&treasury, &terms).await.expect("ready");
    let fund = FundTreasuryRequest {
        sender: issuer.clone(),
        treasury: treasury.clone(),
        currency: String::new(),
        amount: "1000000".into(),
    };
    let held = treasuries.service().fund_treasury(keyed(fund, &key())).await.expect("accepted").into_inner();
    let held = held.operation.expect("an operation");
    is_held(&held);
    world.approved(&held).await;

    let record_date = world.chain.time_s().await.expect("a time") + 60;
    let announce = AnnounceRecordDateRequest { sender: issuer, treasury: treasury.clone(), record_date };
    let announced = treasuries.service().announce_record_date(keyed(announce, &key())).await.expect("accepted");
    let announced = world.operator.finished(announced.into_inner().operation).await.expect("final");
    assert_eq!(announced.state(), OperationState::Completed, "{announced:?}");
    world.chain.pass(61).await.expect("time passes");
    let (total, reference) = ("100000".to_owned(), "held".to_owned());
    let dividend = DividendPayout { record_date, total, reference, ..DividendPayout::default() };
    let prepared = async || treasuries.prepare(&treasury, Payout::Dividend(dividend.clone())).await;
    let prepared = until("the record date has passed", prepared, Result::is_ok).await;
    let run = prepared.expect("prepared").run.expect("a run");
    treasuries.start(&run).await.expect("begins");
    let held = async || {
        let listed = ListOperationsRequest {
            state: OperationState::AwaitingChecker.into(),
            kind: "treasury.open".into(),
            ..Default::default()
        };
        let page = OperationServiceClient::new(world.bob.gateway()).list_operations(listed).await.expect("a page");
        page.into_inner().operations.into_iter().next()
    };
    let held = until("the reservation is held", held, Option::is_some).await.expect("an operation");
    is_held(&held);
    let check = held.check.clone().expect("a check");
    assert_eq!(check.method, "dalp.distribution.v1.TreasuryService/StartRun");
    assert_eq!((check.amounts[0].asset.as_str(), held.principal.as_str()), (world.euro.text.as_str(), "operator"));
    assert!(!hash(&held).is_empty());
    world.approved(&held).await;
    let progress = async || {
        let asked = GetRunRequest { treasury: treasury.clone(), run: run.run };
        let run = treasuries.service().get_run(asked).await.expect("it is known").into_inner().run.expect("a run");
        run.progress.expect("progress").state()
    };
    until("everybody is paid", progress, |state| *state == RunState::Done).await;
}

pub(crate) async fn an_http_client_is_told_at_once(world: &World) {
    let request = serde_json::json!({
        "sender": world.load.issuer.text, "to": world.load.receiver.text, "amount": LARGE.to_string(),
    });
    let path = format!("/v1/assets/{}:mint", world.load.token.to_checksum(None));
    let (status, head, body) = tokio::task::block_in_place(|| outside::post(world, &path, &request));
    assert_eq!(
        (status, &body["operation"]["state"]),
        (202, &"OPERATION_STATE_AWAITING_CHECKER".into()),
        "{head} {body}"
    );
    let id = body["operation"]["operationId"].as_str().expect("an id").to_owned();
    assert!(head.contains(&format!("location: /v1/operations/{id}")), "{head}");
    assert!(!head.contains("preference-applied"), "nobody waits for another person: {head}");
    let held = world.get(&id).await;
    let ended = world.reject(&world.ann, &held).await.expect("refused");
    assert_eq!(ended.state(), OperationState::Failed);
}

pub(crate) async fn the_command_line_shows_what_is_held(world: &World) {
    let held = world.mint(&world.operator, LARGE).await.expect("accepted");
    let run = |arguments: &[&str]| tokio::task::block_in_place(|| outside::dalp(world, arguments));
    let listed = run(&["operation", "list-operations", "--state", "AWAITING_CHECKER"]);
    assert!(listed.contains(&held.operation_id), "{listed}");
    let (id, seen) = (held.operation_id.as_str(), hash(&held));
    let approve = ["operation", "approve-operation", "--operation-id", id, "--payload-hash", &seen, "--reason", "fine"];
    let approved = run(&approve);
    assert!(approved.contains(id), "{approved}");
    let done = world.operator.finished(Some(world.get(id).await)).await.expect("final");
    assert_eq!(done.state(), OperationState::Completed, "{done:?}");
}
