//! What one tenant's flood must not do to another. Every round is one statement of a worker, so the bounds are counts, not times.

use super::{BindOrder, Binding, KnownLanes, QueueLook, Store, migrate};
use crate::{
    flow::{Call, Cx, Flow, Flows, Priority, Step},
    model::{LaneId, ServiceName},
    testing::TestPostgres,
};
use alloy::primitives::Address;
use dalp_chain::Fees;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

const CHAIN: u64 = 7;
const AT_ONCE: i64 = 128;

#[derive(Serialize, Deserialize)]
struct Order {
    sender: Address,
}

struct Once;

impl Flow for Once {
    const KIND: &'static str = "test.once";
    type Order = Order;
    type Outcome = ();
    fn run(cx: &mut Cx<'_, Order>) -> Step<()> {
        let sender = cx.order().sender;
        cx.transact("call", || Call::new(CHAIN, sender, Address::ZERO, vec![]))?;
        cx.done(())
    }
}

async fn store(postgres: &TestPostgres) -> Store {
    let pool = postgres.pool().await;
    migrate(&pool).await.expect("migrates");
    Store { pool, service: ServiceName::new("svc-test"), known_lanes: Arc::new(KnownLanes::default()) }
}

/// Operations whose flow is to be asked.
async fn woken(store: &Store, tenant: &str, sender: Address, count: i64) {
    sqlx::query(
        "INSERT INTO engine.operations (tenant, operation_id, service, principal, method, kind, version, order_json, state, wake)
         SELECT $1, gen_random_uuid(), 'svc-test', 'p', 'm', $2, 1, $3, 'RUNNING', true FROM generate_series(1, $4)",
    )
    .bind(tenant)
    .bind(Once::KIND)
    .bind(serde_json::json!({ "sender": sender }))
    .bind(count)
    .execute(&store.pool)
    .await
    .expect("stored");
}

async fn count(store: &Store, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(&store.pool).await.expect("readable")
}

/// Asked for first, by the tenant whose name comes first, a thousand times as much: the other is bound after one round all the same.
#[tokio::test]
async fn a_flood_of_one_tenant_does_not_delay_another() {
    let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.expect("postgres");
    let store = store(&postgres).await;
    let (flood, other) = (Address::repeat_byte(1), Address::repeat_byte(2));
    woken(&store, "a-flood", flood, 3_000).await;
    woken(&store, "z-other", other, 3).await;
    let flows = Flows::new().with::<Once>();
    let (asked, lanes) = store.drive(&flows, &[CHAIN].into(), AT_ONCE).await.expect("driven");
    assert_eq!(asked as i64, AT_ONCE / 2 + 3, "half of the room each, and what is asked for of it");
    let lane = LaneId { chain_id: CHAIN, sender: other };
    assert!(lanes.contains(&lane));
    store.reconcile_lane(lane, 0).await.expect("compared");
    let queued = store.queued(&[QueueLook { lane, at_most: 100 }]).await.expect("readable").remove(0);
    assert_eq!(queued.len(), 3);
    let fees = Fees::Legacy { gas_price_wei: 1 };
    let bindings = queued.into_iter().map(|transaction| Binding { transaction, gas_limit: 21_000, fees }).collect();
    let bound = store.bind(&[BindOrder { lane, holes: false, bindings }]).await.expect("bound").remove(0);
    assert_eq!(bound.iter().map(|attempt| attempt.nonce).collect::<Vec<_>>(), [0, 1, 2]);
    // Alone, a tenant has all the room.
    let (asked, _) = store.drive(&flows, &[CHAIN].into(), AT_ONCE).await.expect("driven");
    assert_eq!(asked as i64, AT_ONCE);
    store.pool.close().await;
}

#[tokio::test]
async fn a_flood_of_documents_does_not_delay_those_of_another() {
    let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.expect("postgres");
    let store = store(&postgres).await;
    woken(&store, "a-flood", Address::ZERO, 500).await;
    woken(&store, "z-other", Address::ZERO, 2).await;
    sqlx::query(
        "INSERT INTO engine.steps (tenant, operation_id, name, position, input, request_id, due_at, service)
         SELECT tenant, operation_id, 'sign', 0, $1, gen_random_uuid(), CASE WHEN tenant = 'a-flood' THEN '-infinity' ELSE now() END, 'svc-test' FROM engine.operations",
    )
    .bind(serde_json::json!({"type": "signature", "document": {"kind": "eip712", "signer": Address::ZERO, "document": {}}}))
    .execute(&store.pool)
    .await
    .expect("stored");
    let again_after = Duration::from_secs(60);
    let claimed = store.claim_signatures(32, again_after).await.expect("claimed");
    let of = |tenant: &str| claimed.iter().filter(|one| one.tenant.as_str() == tenant).count();
    assert_eq!((of("a-flood"), of("z-other")), (16, 2), "due for ever, and due just now");
    store.pool.close().await;
}

#[tokio::test]
async fn within_a_lane_the_urgent_goes_first_and_the_bulk_last() {
    let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.expect("postgres");
    let store = store(&postgres).await;
    let sender = Address::repeat_byte(3);
    let lane = LaneId { chain_id: CHAIN, sender };
    let mut expected = Vec::new();
    for (priority, place) in [(Priority::Bulk, 3), (Priority::Normal, 1), (Priority::Normal, 2), (Priority::Urgent, 0)]
    {
        woken(&store, "bank", sender, 1).await;
        let flows = Flows::new().with::<Once>().with_priority(priority, &[Once::KIND]);
        store.drive(&flows, &[CHAIN].into(), AT_ONCE).await.expect("driven");
        let id: uuid::Uuid =
            sqlx::query_scalar("SELECT transaction_id FROM engine.transactions ORDER BY sequence DESC LIMIT 1")
                .fetch_one(&store.pool)
                .await
                .expect("readable");
        expected.push((place, id));
    }
    expected.sort_unstable();
    let queued = store.queued(&[QueueLook { lane, at_most: 10 }]).await.expect("readable").remove(0);
    assert_eq!(
        queued.iter().map(|one| one.id.0).collect::<Vec<_>>(),
        expected.iter().map(|(_, id)| *id).collect::<Vec<_>>()
    );
    assert_eq!(count(&store, "SELECT count(*) FROM engine.transactions WHERE priority = 0").await, 2);
    store.pool.close().await;
}
