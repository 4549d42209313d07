//! Events of custodians: they wake, once, and decide nothing. Each case runs against each custodian.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::sync::Arc;

use dalp_proto::signer::{
    DeliverProviderEventRequest, Key, ProviderEventHeader, ProviderEventOutcome, SignRequest, SignStatus,
    signer_service_server::SignerService as _,
};
use dalp_simulators::{
    fault::Fault,
    hooks::{Letter, Manner, Postman},
};
use serde_json::{Value, json};
use sqlx::Row as _;
use support::{Bench, Holders, Setting, call, create, custodians::cases, from_peer, order, reason, sign, until};
use svc_signer::{edge::signer::SignerEdge, providers::ProviderKind, store::requests::Status};
use tonic::Status as Answer;

const GATEWAY: &str = "spiffe://dalp.dev/svc-gateway";
/// Nothing is looked at by itself while a test lasts.
const RARELY: (u64, u64) = (3_600_000, 3_600_000);

/// A signer that takes events, and a key.
async fn bench(kind: ProviderKind) -> (Bench, Key) {
    let holders = Holders::of(kind).await;
    let secrets = tempfile::tempdir().unwrap().keep();
    let webhook = holders.custodian.as_ref().unwrap().webhook_section(&secrets).unwrap();
    let extra = format!("{}\n{webhook}", support::RULES);
    let setting = Setting { settle_ms: 1_200, looks_ms: RARELY, extra, ..Setting::of(kind) };
    let bench = Bench::over(setting, Arc::new(dalp_testing::TestPostgres::start()), holders).await;
    std::fs::remove_dir_all(secrets).unwrap();
    let key = create(&bench, "desk").await;
    (bench, key)
}

/// A request that waits for people.
async fn held(bench: &Bench, key: &Key, nonce: u64) -> SignRequest {
    bench.custodian().ask_people().await;
    let request = order(&key.address, call(nonce));
    let stands = until(async || sign(bench, &request).await.unwrap(), |outcome| outcome.error.is_empty()).await;
    assert_eq!(stands.status(), SignStatus::Pending, "{stands:?}");
    request
}

async fn deliver_to(edge: &SignerEdge, provider: &str, letter: &Letter) -> Result<ProviderEventOutcome, Answer> {
    let header = |(name, value): &(String, String)| ProviderEventHeader {
        name: name.clone(),
        value: value.clone().into_bytes(),
    };
    let request = DeliverProviderEventRequest {
        provider: provider.to_owned(),
        headers: letter.headers.iter().map(header).collect(),
        body: letter.body.clone(),
    };
    Ok(edge.deliver_provider_event(from_peer(request, GATEWAY)).await?.into_inner().outcome())
}

async fn deliver(bench: &Bench, letter: &Letter) -> Result<ProviderEventOutcome, Answer> {
    deliver_to(&bench.edge, bench.config.signer.provider.as_str(), letter).await
}

fn external_id(request: &SignRequest) -> String {
    format!("dalp-{}", request.request_id)
}

async fn status(bench: &Bench, request: &SignRequest) -> Status {
    bench.store.request(request.request_id.parse().unwrap()).await.unwrap().unwrap().status
}

/// Everything of a request that an event could change.
async fn seen(bench: &Bench) -> Vec<Value> {
    let rows = sqlx::query(
        "select jsonb_build_array(request.status, request.detail, request.error, request.updated_at, attempt.due_at, attempt.looks, attempt.heard_at,
            attempt.claims, attempt.said)::text as row
         from signer.requests request join signer.custody_attempts attempt using (request_id)
         union all select jsonb_build_array(provider, event_id)::text from signer.provider_events",
    );
    let rows = rows.fetch_all(&bench.postgres.pool().await).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row.get("row")).unwrap()).collect()
}

cases! {
    an_event_wakes_what_nobody_would_look_at_for_an_hour,
    what_is_not_signed_or_not_of_now_changes_nothing,
    an_event_is_acted_on_once,
    what_an_event_says_decides_nothing,
    events_of_others_and_of_unknown_kinds_are_taken_and_left_alone,
    whoever_asks_right_now_keeps_the_turn,
    old_events_are_forgotten,
    many_deliveries_of_one_event_wake_once,
    without_a_section_no_events_are_taken,
}

async fn an_event_wakes_what_nobody_would_look_at_for_an_hour(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    let request = held(&bench, &key, 0).await;
    let postman = Arc::new(Postman::new("http://127.0.0.1:9/", None, Manner::Kept).unwrap());
    bench.custodian().notify(Arc::clone(&postman));
    bench.custodian().approve().await;
    assert_eq!(sign(&bench, &request).await.unwrap().status(), SignStatus::Pending, "polling would not find it");
    let told = postman.kept();
    assert!(told.len() >= 2, "{told:?}");
    // Late and out of order: the last one first, and whatever comes after it finds nothing that waits.
    for (at, letter) in told.iter().rev().enumerate() {
        let outcome = deliver(&bench, letter).await.unwrap();
        if at == 0 {
            assert_eq!(outcome, ProviderEventOutcome::Woken);
            until(async || status(&bench, &request).await, |status| *status == Status::Approved).await;
        } else {
            assert_eq!(outcome, ProviderEventOutcome::Ignored);
        }
    }
    assert_eq!(bench.custodian().external_ids().await, [external_id(&request)], "asked for once");
}

async fn what_is_not_signed_or_not_of_now_changes_nothing(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    let request = held(&bench, &key, 0).await;
    bench.custodian().approve().await;
    bench.custodian().settle().await;
    let before = seen(&bench).await;
    let custodian = bench.custodian();
    let event = custodian.signed_event(&external_id(&request));
    let good = custodian.signed(&event);
    let header = custodian.signature_header();
    let mut changed = good.clone();
    changed.body.push(b' ');
    let mut twice = good.clone();
    twice.headers.extend(good.headers.clone());
    let oldest = if kind == ProviderKind::Dfns { -310 } else { -86_410 };
    let (unverified, stale) = ("PROVIDER_EVENT_UNVERIFIED", "PROVIDER_EVENT_STALE");
    for (what, letter, wanted) in [
        ("by another key", custodian.forged(&event), unverified),
        ("another body", changed, unverified),
        ("two signatures", twice, unverified),
        ("no signature", good.clone().with(header, None), unverified),
        ("an empty signature", good.clone().with(header, Some("")), unverified),
        ("no signature at all", good.clone().with(header, Some("sha256=00")), unverified),
        ("too old", custodian.signed(&custodian.moved(&event, oldest)), stale),
        ("from the future", custodian.signed(&custodian.moved(&event, 310)), stale),
    ] {
        let refused = deliver(&bench, &letter).await.unwrap_err();
        assert_eq!(reason(&refused), wanted, "{what}");
        assert_eq!(seen(&bench).await, before, "{what}");
    }
    let elsewhere = if kind == ProviderKind::Dfns { "fireblocks" } else { "dfns" };
    let refused = deliver_to(&bench.edge, elsewhere, &good).await.unwrap_err();
    assert_eq!(reason(&refused), "PROVIDER_NOT_ACTIVE");
    let refused = deliver_to(&bench.edge, "nobody", &good).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_FIELD");
    assert_eq!(seen(&bench).await, before);
}

async fn an_event_is_acted_on_once(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    let request = held(&bench, &key, 0).await;
    let letter = bench.custodian().signed(&bench.custodian().signed_event(&external_id(&request)));
    let (first, ..) = asked(&bench).await;
    assert_eq!(deliver(&bench, &letter).await.unwrap(), ProviderEventOutcome::Woken);
    // The look that it woke has found what there was: the request waits for people.
    until(async || asked(&bench).await, |asked| *asked == (first + 1, true, false)).await;
    let before = seen(&bench).await;
    for _ in 0..3 {
        assert_eq!(deliver(&bench, &letter).await.unwrap(), ProviderEventOutcome::Repeated);
    }
    assert_eq!(seen(&bench).await, before, "not looked at again");
    // The same thing told anew is another event.
    let anew = bench.custodian().signed(&bench.custodian().signed_event(&external_id(&request)));
    assert_eq!(deliver(&bench, &anew).await.unwrap(), ProviderEventOutcome::Woken);
    until(async || asked(&bench).await, |asked| *asked == (first + 2, true, false)).await;
}

/// How often the one request was asked about, whether an event has named it, and whether somebody asks right now.
async fn asked(bench: &Bench) -> (i32, bool, bool) {
    let row = sqlx::query(
        "select claims, heard_at is not null as heard, asked_until is not null as asking from signer.custody_attempts",
    );
    let row = row.fetch_one(&bench.postgres.pool().await).await.unwrap();
    (row.get("claims"), row.get("heard"), row.get("asking"))
}

async fn what_an_event_says_decides_nothing(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    let request = held(&bench, &key, 0).await;
    // Signed by the custodian, and not true: it says that the request is signed, or gone.
    let custodian = bench.custodian();
    let mut event = custodian.signed_event(&external_id(&request));
    for said in ["Signed", "Rejected", "Failed", "COMPLETED", "CANCELLED", "BLOCKED", "Nonsense"] {
        event["id"] = json!(format!("event-{said}"));
        for request in ["signatureRequest"] {
            if event["data"][request].is_object() {
                event["data"][request]["status"] = json!(said);
            }
        }
        event["data"]["status"] = json!(said);
        assert_eq!(deliver(&bench, &custodian.signed(&event)).await.unwrap(), ProviderEventOutcome::Woken, "{said}");
        until(async || asked(&bench).await, |(_, _, asking)| !asking).await;
        assert_eq!(status(&bench, &request).await, Status::Pending, "{said}");
    }
    custodian.deny().await;
    event["id"] = json!("event-that-says-signed-once-more");
    deliver(&bench, &custodian.signed(&event)).await.unwrap();
    until(async || status(&bench, &request).await, |status| *status == Status::Denied).await;
}

async fn events_of_others_and_of_unknown_kinds_are_taken_and_left_alone(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    let request = held(&bench, &key, 0).await;
    let before = seen(&bench).await;
    let custodian = bench.custodian();
    let event = custodian.signed_event(&external_id(&request));
    for letter in [
        custodian.signed(&custodian.invented(&event)),
        custodian.signed(&custodian.signed_event("somebody-else-s")),
        custodian.signed(&custodian.signed_event(&format!("{}-1", external_id(&request)))),
        custodian.signed(&custodian.signed_event("' or true --")),
    ] {
        for _ in 0..2 {
            assert_eq!(deliver(&bench, &letter).await.unwrap(), ProviderEventOutcome::Ignored, "{letter:?}");
        }
    }
    if kind == ProviderKind::Dfns {
        for odd in [json!([]), json!({}), json!({"id": 7, "kind": null})] {
            assert_eq!(deliver(&bench, &custodian.signed(&odd)).await.unwrap(), ProviderEventOutcome::Ignored);
        }
    }
    assert_eq!(seen(&bench).await, before);
}

async fn whoever_asks_right_now_keeps_the_turn(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    let request = held(&bench, &key, 0).await;
    let custodian = bench.custodian();
    let looks = if kind == ProviderKind::Dfns { "GET /keys/" } else { "GET /v1/transactions" };
    custodian.faults().inject(looks, Fault::Hang, 1);
    let (first, ..) = asked(&bench).await;
    let event = async || custodian.signed(&custodian.signed_event(&external_id(&request)));
    assert_eq!(deliver(&bench, &event().await).await.unwrap(), ProviderEventOutcome::Woken);
    custodian.faults().hanging(1).await;
    // The look that hangs was asked for too early to see this.
    assert_eq!(deliver(&bench, &event().await).await.unwrap(), ProviderEventOutcome::Woken);
    assert_eq!(asked(&bench).await, (first + 1, true, true), "nobody else asks meanwhile");
    custodian.faults().release();
    until(async || asked(&bench).await, |(claims, _, asking)| *claims > first && !asking).await;
    let due: bool = sqlx::query_scalar("select due_at <= now() from signer.custody_attempts")
        .fetch_one(&bench.postgres.pool().await)
        .await
        .unwrap();
    // The look that the second event ordered may come only now.
    assert!(due || asked(&bench).await.0 > first + 1, "and it is looked at once more");
    custodian.approve().await;
    custodian.settle().await;
    until(async || sign(&bench, &request).await.unwrap().status(), |status| *status == SignStatus::Approved).await;
}

async fn old_events_are_forgotten(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    let request = held(&bench, &key, 0).await;
    sqlx::query(
        "insert into signer.provider_events (provider, event_id, kind, kept_until) values ('dfns', 'old', 'k', now() - interval '1 second'),
            ('dfns', 'young', 'k', now() + interval '1 minute')",
    )
    .execute(&bench.postgres.pool().await)
    .await
    .unwrap();
    let letter = bench.custodian().signed(&bench.custodian().signed_event(&external_id(&request)));
    assert_eq!(deliver(&bench, &letter).await.unwrap(), ProviderEventOutcome::Woken);
    let left: Vec<String> =
        sqlx::query_scalar("select event_id from signer.provider_events order by event_id = 'young'")
            .fetch_all(&bench.postgres.pool().await)
            .await
            .unwrap();
    assert_eq!((left.len(), left[1].as_str()), (2, "young"), "{left:?}");
}

async fn many_deliveries_of_one_event_wake_once(kind: ProviderKind) {
    let (bench, key) = bench(kind).await;
    let request = held(&bench, &key, 0).await;
    let letter = bench.custodian().signed(&bench.custodian().signed_event(&external_id(&request)));
    let outcomes = futures::future::join_all((0..12).map(|_| deliver(&bench, &letter))).await;
    let woken = outcomes.iter().filter(|outcome| matches!(outcome, Ok(ProviderEventOutcome::Woken))).count();
    let repeated = outcomes.iter().filter(|outcome| matches!(outcome, Ok(ProviderEventOutcome::Repeated))).count();
    assert_eq!((woken, repeated), (1, 11), "{outcomes:?}");
}

async fn without_a_section_no_events_are_taken(kind: ProviderKind) {
    let bench = Bench::new(kind).await;
    let letter = bench.custodian().signed(&bench.custodian().signed_event("dalp-1"));
    let refused = deliver(&bench, &letter).await.unwrap_err();
    assert_eq!(reason(&refused), "PROVIDER_NOT_ACTIVE");
    assert!(refused.message().contains(&format!("[{kind}.webhook]")), "{refused:?}");
}
