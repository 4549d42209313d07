//! The audit log through the gateway: listed, proven, exported; what a superuser's hand does to it, and calls that leave their leaves by themselves.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use dalp_audit::{
    Hash,
    export::Line,
    root::AuditKey,
    tree::{verify_consistency, verify_inclusion},
    verify::{Finding, Verifier},
};
use dalp_proto::{
    asset::{MintRequest, asset_service_client::AssetServiceClient},
    audit::{
        AuditDecision, AuditFilter, ExportLeavesRequest, GetConsistencyProofRequest, GetInclusionProofRequest,
        GetRootRequest, ListLeavesRequest, ListRootsRequest, export_leaves_response,
    },
    feeds::{SetStalenessRequest, SubmitUpdateRequest, feed_service_client::FeedServiceClient},
};
use support::{
    ledger::{Desk, json_of, number, reason, with},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_listed_proven_and_exported_to_its_tenant_alone() {
    let mut desk = Desk::new().await;
    desk.write("acme", 70).await;
    desk.write("other", 5).await;
    let size = desk.signed("acme", 70).await;
    desk.signed("other", 5).await;

    // Pages, upwards and downwards, are the whole log.
    for newest_first in [false, true] {
        let (mut token, mut places) = (String::new(), Vec::new());
        loop {
            let request = ListLeavesRequest { page_size: 30, page_token: token, newest_first, ..Default::default() };
            let page = desk.client.clone().list_leaves(desk.asked(request)).await.unwrap().into_inner();
            assert!(page.leaves.iter().all(|leaf| leaf.tenant == "acme"));
            places.extend(page.leaves.iter().map(|leaf| leaf.position));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        if newest_first {
            places.reverse();
        }
        assert_eq!(places, (0..places.len() as u64).collect::<Vec<_>>());
        assert!(places.len() as u64 >= size);
    }
    let filter = AuditFilter { action: "test.write".into(), subject: "thing-7".into(), ..AuditFilter::default() };
    let request = ListLeavesRequest { filter: Some(filter), ..Default::default() };
    let found = desk.client.clone().list_leaves(desk.asked(request)).await.unwrap().into_inner().leaves;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].reason.as_str(), found[0].decision()), ("so", AuditDecision::Allowed));

    let hash = |text: &str| -> Hash { hex::decode(&text[2..]).unwrap().try_into().unwrap() };
    let request = GetInclusionProofRequest { position: found[0].position, size: 0 };
    let proven =
        desk.client.get_inclusion_proof(with(desk.world.keys.operator.expose(), request)).await.unwrap().into_inner();
    let proof: Vec<Hash> = proven.proof.iter().map(|one| hash(one)).collect();
    let root = hash(&proven.root_hash);
    assert!(verify_inclusion(&hash(&found[0].leaf_hash), found[0].position, proven.size, &proof, &root));
    assert_eq!(proven.root.unwrap().root_hash, proven.root_hash);

    let request = GetConsistencyProofRequest { first_size: 33, second_size: proven.size };
    let compared =
        desk.client.get_consistency_proof(with(desk.world.keys.operator.expose(), request)).await.unwrap().into_inner();
    let proof: Vec<Hash> = compared.proof.iter().map(|one| hash(one)).collect();
    assert!(verify_consistency(33, proven.size, &hash(&compared.first_root_hash), &root, &proof));

    let told = desk
        .client
        .get_root(with(desk.world.keys.operator.expose(), GetRootRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let by: AuditKey = told.public_key.parse().unwrap();
    assert_eq!(by, AuditKey(desk.key.address()));
    let roots = desk
        .client
        .list_roots(with(desk.world.keys.operator.expose(), ListRootsRequest::default()))
        .await
        .unwrap()
        .into_inner()
        .roots;
    assert_eq!(roots[0].root_hash, told.root.unwrap().root_hash);

    assert_eq!(desk.findings().await, []);

    // The other tenant has a log of its own, and no way into this one.
    let foreign = desk.world.keys.foreign.expose();
    let page = desk.client.list_leaves(with(foreign, ListLeavesRequest::default())).await.unwrap().into_inner();
    assert!(page.leaves.iter().all(|leaf| leaf.tenant == "other"));
    let far = GetInclusionProofRequest { position: 60, size: 70 };
    assert_eq!(reason(&desk.client.get_inclusion_proof(with(foreign, far)).await.unwrap_err()), "NOT_FOUND");
    let poor = with(desk.world.keys.poor.expose(), ListLeavesRequest::default());
    assert_eq!(reason(&desk.client.list_leaves(poor).await.unwrap_err()), "PERMISSION_DENIED");
    let wrong = ListLeavesRequest { page_token: "u1".into(), newest_first: true, ..Default::default() };
    let wrong = with(desk.world.keys.operator.expose(), wrong);
    assert_eq!(reason(&desk.client.list_leaves(wrong).await.unwrap_err()), "PAGE_TOKEN_INVALID");
    let mut part = desk
        .client
        .export_leaves(with(desk.world.keys.operator.expose(), ExportLeavesRequest { first_position: 41, size: 0 }))
        .await
        .unwrap()
        .into_inner();
    let mut verifier = Verifier::new(vec![by], &[]);
    let mut first = None;
    while let Some(line) = part.message().await.unwrap() {
        if let Some(export_leaves_response::Line::Leaf(leaf)) = &line.line {
            first.get_or_insert(leaf.position);
        }
        verifier.line(Line::parse(&json_of(&line)).unwrap());
    }
    assert_eq!(first, Some(41));
    assert_eq!(verifier.finish().findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_superuser_does_to_a_row_is_found() {
    let desk = Desk::new().await;
    desk.write("acme", 40).await;
    desk.signed("acme", 40).await;
    assert_eq!(desk.findings().await, []);
    desk.by_hand("UPDATE engine.audit_leaves SET body = body || '{\"number\": 999}' WHERE subject = 'thing-11'").await;
    let place = number(
        &desk.pool,
        "SELECT e.position FROM gateway.audit_entries e JOIN engine.audit_leaves l ON l.sequence = e.leaf_sequence WHERE l.subject = 'thing-11'",
    )
    .await;
    let found = desk.findings().await;
    assert!(matches!(found[..], [Finding::Tampered { position, .. }] if position.cast_signed() == place), "{found:?}");
    desk.by_hand("UPDATE engine.audit_leaves SET body = body || '{\"number\": 11}' WHERE subject = 'thing-11'").await;
    assert_eq!(desk.findings().await, [], "as it was");

    desk.by_hand("UPDATE gateway.audit_entries e SET leaf_sequence = -o.leaf_sequence FROM gateway.audit_entries o WHERE e.tenant = 'acme' AND o.tenant = 'acme' AND (e.position, o.position) IN ((20, 25), (25, 20))").await;
    desk.by_hand("UPDATE gateway.audit_entries SET leaf_sequence = -leaf_sequence WHERE leaf_sequence < 0").await;
    assert_eq!(
        desk.findings().await,
        [Finding::Reordered { position: 20, sealed_at: 25 }, Finding::Reordered { position: 25, sealed_at: 20 }]
    );
    desk.by_hand("UPDATE gateway.audit_entries e SET leaf_sequence = -o.leaf_sequence FROM gateway.audit_entries o WHERE e.tenant = 'acme' AND o.tenant = 'acme' AND (e.position, o.position) IN ((20, 25), (25, 20))").await;
    desk.by_hand("UPDATE gateway.audit_entries SET leaf_sequence = -leaf_sequence WHERE leaf_sequence < 0").await;
    assert_eq!(desk.findings().await, []);

    desk.by_hand("DELETE FROM engine.audit_leaves WHERE sequence = (SELECT leaf_sequence FROM gateway.audit_entries WHERE tenant = 'acme' AND position = 33)").await;
    assert_eq!(desk.findings().await, [Finding::Dropped { position: 33 }]);

    // Together with its hash: the first leaf stands in a full tile.
    desk.by_hand("UPDATE gateway.audit_tiles SET hashes = sha256('forged') || substring(hashes FROM 33) WHERE tenant = 'acme' AND level = 0 AND number = 0").await;
    assert!(desk.findings().await.iter().any(|finding| matches!(finding, Finding::RootMismatch { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_calls_stand_in_the_log_of_their_tenant_and_a_flood_is_counted() {
    let desk = Desk::new().await;
    let channel = desk.world.pki.channel(desk.world.gateway.addr, None);
    let mut assets = AssetServiceClient::new(channel.clone());
    let mut feeds = FeedServiceClient::new(channel);
    let keys = &desk.world.keys;
    let nobody = svc_gateway::api_key::ApiKey::generate().unwrap();
    // Refused by the gateway, by the service behind it, and to nobody in particular.
    let refused = assets.mint(with(keys.poor.expose(), MintRequest::default())).await.unwrap_err();
    assert_eq!(reason(&refused), "PERMISSION_DENIED");
    let submit = SubmitUpdateRequest { feed: "refuse".into(), ..SubmitUpdateRequest::default() };
    let refused = feeds.submit_update(with(keys.operator.expose(), submit.clone())).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_FIELD");
    feeds.submit_update(with(nobody.expose(), submit.clone())).await.unwrap_err();
    let accepted = SubmitUpdateRequest { feed: "fine".into(), ..SubmitUpdateRequest::default() };
    feeds.submit_update(with(keys.operator.expose(), accepted)).await.unwrap();

    let leaves = "SELECT actor, subject, reason, payload_hash, tenant FROM engine.audit_leaves WHERE action = 'call.refused' ORDER BY actor";
    type Row = (String, String, String, Option<Vec<u8>>, String);
    let mut rows: Vec<Row> = Vec::new();
    until(async || {
        rows = sqlx::query_as(leaves).fetch_all(&desk.pool).await.unwrap();
        rows.len() >= 2
    })
    .await;
    use sha2::Digest as _;
    let message = prost::Message::encode_to_vec(&submit);
    let framed = [&[0], u32::try_from(message.len()).unwrap().to_be_bytes().as_slice(), &message].concat();
    let told: Vec<_> =
        rows.iter().map(|row| (row.0.as_str(), row.1.as_str(), row.2.as_str(), row.4.as_str())).collect();
    assert_eq!(
        told,
        [
            ("ops", "/dalp.feeds.v1.FeedService/SubmitUpdate", "INVALID_FIELD", "acme"),
            ("poor", "/dalp.asset.v1.AssetService/Mint", "PERMISSION_DENIED", "acme"),
        ]
    );
    assert_eq!(rows[0].3.as_deref(), Some(sha2::Sha256::digest(&framed).as_slice()), "what was asked");
    assert_eq!(rows[1].3, None, "nobody read it");

    // Beyond the bound nothing more is written one by one.
    for _ in 0..60 {
        assets.mint(with(keys.poor.expose(), MintRequest::default())).await.unwrap_err();
    }
    until(async || {
        number(&desk.pool, "SELECT count(*) FROM engine.audit_leaves WHERE action = 'call.refused'").await >= 20
    })
    .await;
    desk.world.stop.request();
    until(async || {
        number(&desk.pool, "SELECT count(*) FROM engine.audit_leaves WHERE action = 'calls.refused'").await == 1
    })
    .await;
    let single = number(&desk.pool, "SELECT count(*) FROM engine.audit_leaves WHERE action = 'call.refused'").await;
    let counted = number(&desk.pool, "SELECT (body->'counted'->>'PERMISSION_DENIED')::bigint FROM engine.audit_leaves WHERE action = 'calls.refused'").await;
    assert_eq!(single + counted, 62, "none is lost");
    assert!(single < 40, "{single}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_caller_went_away_has_its_leaf() {
    let desk = Desk::new().await;
    let mut feeds = FeedServiceClient::new(desk.world.pki.channel(desk.world.gateway.addr, None));
    let asked = with(desk.world.keys.operator.expose(), SetStalenessRequest { feed: "wait".into(), stale_after_s: 60 });
    let calling = tokio::spawn(async move { feeds.set_staleness(asked).await });
    let upstream = &desk.world.upstream;
    until(async || !upstream.seen.lock().unwrap().is_empty()).await;
    calling.abort();
    assert!(calling.await.unwrap_err().is_cancelled());
    let leaves = "SELECT count(*) FROM engine.audit_leaves WHERE action = 'call.allowed' AND actor = 'ops' AND subject = '/dalp.feeds.v1.FeedService/SetStaleness'";
    assert_eq!(number(&desk.pool, leaves).await, 0, "it is not carried out yet");
    upstream.gate.add_permits(1);
    until(async || number(&desk.pool, leaves).await == 1).await;
}
