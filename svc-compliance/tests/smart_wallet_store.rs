//! Smart wallets on a real PostgreSQL: a user operation is sent once, a signer counts once, and what is signed never changes.
#![allow(clippy::unwrap_used, missing_docs)]

use alloy::primitives::{Address, B256, Bytes, U256};
use dalp_contracts::deployer::ENTRY_POINT;
use dalp_domain::store::Tables;
use dalp_engine::{Failure, testing::TestPostgres};
use svc_compliance::{
    store::{MIGRATIONS, SCHEMA, Store, Taken},
    wallet::{
        commands::{Approve, CreateWallet, Propose, WalletCall, WalletConfig},
        flows::ProposeOrder,
        operation::{Signed, UserOperation, nonce},
        state::State,
        store::{
            approvals::put_approval,
            operations::{End, StoredUserOperation, put_user_operation, submit},
        },
    },
};
use uuid::Uuid;

const TENANT: &str = "acme";
const WALLET: Address = Address::repeat_byte(0xaa);
const ALICE: Address = Address::repeat_byte(0xa1);
const BOB: Address = Address::repeat_byte(0xb1);
const ID: Uuid = Uuid::from_u128(7);

/// The engine's tables, as far as they are written here.
const ENGINE: &str = "CREATE SCHEMA engine;
    CREATE TABLE engine.outbox (tenant text, topic text, subject text, operation_id uuid, body jsonb);
    CREATE TABLE engine.audit_leaves (tenant text, action text, actor text, subject text, body jsonb, reason text)";

async fn store() -> (TestPostgres, Store) {
    let postgres = TestPostgres::start();
    let tables = Tables::lazy(SCHEMA, &postgres.url(), 5).unwrap();
    tables.migrate(&MIGRATIONS).await.unwrap();
    sqlx::raw_sql(ENGINE).execute(&tables.pool).await.unwrap();
    (postgres, Store::from(tables))
}

fn creation(name: &str, threshold: u64) -> CreateWallet {
    let config = WalletConfig { signers: vec![(ALICE, 1), (BOB, 2)], threshold, guardian: None, recovery_delay_s: 0 };
    CreateWallet { name: name.to_owned(), config, salt: B256::repeat_byte(1) }
}

fn order() -> ProposeOrder {
    let command = Propose {
        sender: BOB,
        wallet: WALLET,
        calls: vec![WalletCall { to: ALICE, value_wei: U256::from(3), data: Bytes::from_static(&[1, 2]) }],
        deadline_s: 1_900_000_000,
        call_gas_limit: None,
        verification_gas_limit: Some(5),
        note: "rent".to_owned(),
    };
    let user_operation = UserOperation {
        chain_id: 1,
        entry_point: ENTRY_POINT,
        wallet: WALLET,
        nonce: nonce(command.deadline_s, ID),
        call_data: command.call_data(),
        call_gas_limit: 10,
        verification_gas_limit: 5,
    };
    ProposeOrder { user_operation, command }
}

async fn propose(store: &Store) -> StoredUserOperation {
    assert!(store.create_wallet(TENANT, "ops", 1, WALLET, &creation("Treasury", 3)).await.unwrap());
    let mut connection = store.pool.acquire().await.unwrap();
    put_user_operation(&mut connection, TENANT, "alice", ID, 9, &order()).await.unwrap();
    stored(store).await
}

async fn stored(store: &Store) -> StoredUserOperation {
    store.user_operation(TENANT, ID).await.unwrap().unwrap()
}

async fn approve(store: &Store, number: u128, principal: &str, signer: Address, outside: bool) -> Option<Taken> {
    let signature = outside.then(|| Bytes::from(vec![1; 65]));
    let command = Approve::new(ID, signer, signature);
    let mut connection = store.pool.acquire().await.unwrap();
    let put =
        put_approval(&mut connection, principal, Uuid::from_u128(number), &command, command.signature.as_ref()).await;
    put.err().map(|error| Taken::of(&error.into()).expect("one of ours"))
}

async fn sends(store: &Store, submission: u128) -> bool {
    let mut connection = store.pool.acquire().await.unwrap();
    let earlier = stored(store).await.submissions;
    submit(&mut connection, TENANT, ID, WALLET, Uuid::from_u128(submission), earlier).await.is_ok()
}

fn end(state: State) -> End {
    let failure = (state == State::Failed).then(|| Failure::new("SIMULATION_REVERTED", "no"));
    End {
        state,
        failure,
        mined: matches!(state, State::Executed | State::Failed).then_some((B256::repeat_byte(2), 12)),
    }
}

#[tokio::test]
async fn a_wallet_is_noted_once_and_by_one_name() {
    let (_postgres, store) = store().await;
    assert!(store.create_wallet(TENANT, "ops", 1, WALLET, &creation("Treasury", 3)).await.unwrap());
    assert!(!store.create_wallet(TENANT, "ops", 1, WALLET, &creation("Treasury", 3)).await.unwrap(), "again");
    assert!(!store.create_wallet(TENANT, "ops", 1, WALLET, &creation("Other", 3)).await.unwrap(), "other name");
    assert!(!store.create_wallet(TENANT, "ops", 1, BOB, &creation("Treasury", 2)).await.unwrap(), "other wallet");
    assert!(store.create_wallet("rival", "ops", 1, WALLET, &creation("Treasury", 3)).await.unwrap(), "its own list");
    let noted = store.wallet(TENANT, 1, WALLET).await.unwrap().unwrap();
    assert_eq!(
        (noted.name.as_str(), &noted.config, noted.salt),
        ("Treasury", &creation("", 3).config, B256::repeat_byte(1))
    );
    assert_eq!(store.wallets(TENANT, i64::MAX, 5).await.unwrap(), [noted]);
    let leaves: i64 =
        sqlx::query_scalar("SELECT count(*) FROM engine.audit_leaves").fetch_one(&store.pool).await.unwrap();
    assert_eq!(leaves, 2, "one for each wallet that was noted");
}

#[tokio::test]
async fn a_user_operation_reads_back_and_is_its_tenants() {
    let (_postgres, store) = store().await;
    let one = propose(&store).await;
    assert_eq!((&one.command, &one.user_operation), (&order().command, &order().user_operation));
    assert_eq!((one.hash, one.state, one.from_block), (order().user_operation.hash(), State::Pending, 9));
    assert_eq!(store.user_operation("rival", ID).await.unwrap(), None);
    let listed = |wallet, state| store.user_operations(TENANT, wallet, state, i64::MAX, 5);
    assert_eq!(listed(Some(WALLET), Some(State::Pending)).await.unwrap().len(), 1);
    assert!(listed(Some(BOB), None).await.unwrap().is_empty());
    assert!(listed(None, Some(State::Executed)).await.unwrap().is_empty());
    assert_eq!(store.user_operations_going_on(0, 5).await.unwrap(), std::slice::from_ref(&one));
    assert!(store.user_operations_going_on(one.number, 5).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_signer_counts_once_and_a_principal_by_one_key() {
    let (_postgres, store) = store().await;
    propose(&store).await;
    assert_eq!(approve(&store, 1, "alice", ALICE, false).await, None);
    assert_eq!(approve(&store, 2, "carol", ALICE, true).await, Some(Taken::Approval), "the signer, again");
    assert_eq!(approve(&store, 3, "alice", BOB, false).await, Some(Taken::Approval), "the principal, with another key");
    assert_eq!(approve(&store, 4, "alice", BOB, true).await, None, "who delivers a signature does not sign");
    let given = store.approvals(&[ID]).await.unwrap();
    assert_eq!(
        given.iter().map(|one| (one.signer, one.platform_key)).collect::<Vec<_>>(),
        [(ALICE, true), (BOB, false)]
    );

    // One that failed leaves room for another, one that was signed stays as it is.
    let failed = Failure::new("ATTESTATION_REFUSED", "no");
    store.settle_approval(Uuid::from_u128(1), Err(&failed)).await.unwrap();
    let signature = |byte| Bytes::from(vec![byte; 65]);
    assert_eq!(store.approvals(&[ID]).await.unwrap()[0].signed(), None, "brought, and not settled");
    assert!(store.settle_approval(Uuid::from_u128(4), Ok(&signature(2))).await.is_err(), "another than was brought");
    store.settle_approval(Uuid::from_u128(4), Ok(&signature(1))).await.unwrap();
    store.settle_approval(Uuid::from_u128(4), Ok(&signature(2))).await.unwrap();
    let signed = Signed { signer: BOB, signature: signature(1) };
    assert_eq!(store.approvals(&[ID]).await.unwrap()[0].signed(), Some(signed));
    assert_eq!(approve(&store, 5, "alice", ALICE, false).await, None);
    let forged =
        sqlx::query("UPDATE compliance.user_operation_approvals SET signature = '0x00' WHERE operation_id = $1");
    assert!(forged.bind(Uuid::from_u128(4)).execute(&store.pool).await.is_err());
}

#[tokio::test]
async fn it_is_sent_once_and_not_after_it_was_cancelled() {
    let (_postgres, store) = store().await;
    let one = propose(&store).await;
    assert!(sends(&store, 21).await);
    assert!(!sends(&store, 22).await, "once");
    assert!(!store.cancel_user_operation(&one, "alice", "late").await.unwrap(), "what was sent is not called back");
    assert_eq!(approve(&store, 1, "alice", ALICE, false).await, Some(Taken::UserOperation));
    assert!(!store.end_user_operation(&one, &end(State::Expired)).await.unwrap(), "decided where it stood before");
    let sent = stored(&store).await;
    assert_eq!((sent.state, sent.submission_id), (State::Submitted, Some(Uuid::from_u128(21))));
    assert!(store.end_user_operation(&sent, &end(State::Executed)).await.unwrap());
    let done = stored(&store).await;
    assert_eq!((done.state, done.mined), (State::Executed, Some((B256::repeat_byte(2), 12))));
    assert!(done.ended_at.is_some());
    let told: Vec<(String, String)> =
        sqlx::query_as("SELECT topic, body->>'state' FROM engine.outbox").fetch_all(&store.pool).await.unwrap();
    let states: Vec<_> =
        told.iter().map(|(topic, state)| (topic.rsplit('.').next().unwrap(), state.as_str())).collect();
    assert_eq!(states, [("pending", "PENDING"), ("pending", "SUBMITTED"), ("final", "EXECUTED")]);
}

#[tokio::test]
async fn what_was_not_taken_waits_and_is_sent_anew() {
    let (_postgres, store) = store().await;
    propose(&store).await;
    assert!(sends(&store, 21).await);
    let sent = stored(&store).await;
    let refused = Failure::new("ATTESTATION_REFUSED", "no");
    assert!(store.take_back_user_operation(&sent, &refused).await.unwrap());
    assert!(!store.take_back_user_operation(&sent, &refused).await.unwrap(), "once");
    let back = stored(&store).await;
    assert_eq!((back.state, back.failure.clone(), back.submissions), (State::Pending, Some(refused), 1));
    assert!(back.send_after.is_some() && back.ended_at.is_none() && back.submission_id == Some(Uuid::from_u128(21)));
    // Its signatures may be in other hands: that it is given up would promise too much.
    assert!(!store.cancel_user_operation(&back, "alice", "late").await.unwrap());
    let forged =
        sqlx::query("UPDATE compliance.user_operations SET state = 'FAILED', failure = '{}', ended_at = now()");
    assert!(forged.execute(&store.pool).await.is_err(), "not without a block");
    assert!(!sends(&store, 21).await, "another operation sends it");
    let mut connection = store.pool.acquire().await.unwrap();
    let stale = submit(&mut connection, TENANT, ID, WALLET, Uuid::from_u128(23), 0).await;
    assert!(stale.is_err(), "decided before the earlier one failed");
    drop(connection);
    assert!(sends(&store, 22).await);
    let again = stored(&store).await;
    assert_eq!((again.state, again.submissions, again.failure.clone()), (State::Submitted, 2, None));
    assert!(store.end_user_operation(&again, &end(State::Executed)).await.unwrap());
    assert_eq!(store.open_user_operations(TENANT, WALLET).await.unwrap(), (0, 0));
}

#[tokio::test]
async fn what_is_cancelled_is_neither_approved_nor_sent() {
    let (_postgres, store) = store().await;
    let one = propose(&store).await;
    assert!(store.cancel_user_operation(&one, "alice", "another plan").await.unwrap());
    assert!(!store.cancel_user_operation(&one, "alice", "another plan").await.unwrap());
    assert!(!sends(&store, 21).await);
    assert_eq!(approve(&store, 1, "alice", ALICE, false).await, Some(Taken::UserOperation));
    let leaf: (String, String) =
        sqlx::query_as("SELECT action, reason FROM engine.audit_leaves WHERE action = 'wallet.cancel'")
            .fetch_one(&store.pool)
            .await
            .unwrap();
    assert_eq!(leaf, ("wallet.cancel".to_owned(), "another plan".to_owned()));
}

#[tokio::test]
async fn the_tables_refuse_what_no_code_of_ours_does() {
    let (_postgres, store) = store().await;
    let one = propose(&store).await;
    let refused = async |statement: &'static str| sqlx::query(statement).execute(&store.pool).await.is_err();
    assert!(refused("UPDATE compliance.user_operations SET hash = 'x'").await, "what is signed");
    assert!(refused("UPDATE compliance.user_operations SET state = 'SUBMITTED'").await, "without an operation");
    assert!(refused("UPDATE compliance.user_operations SET state = 'EXECUTED', ended_at = now()").await, "in no block");
    assert!(refused("UPDATE compliance.user_operations SET state = 'FAILED', ended_at = now()").await, "for no reason");
    assert!(refused("UPDATE compliance.user_operations SET state = 'EXPIRED'").await, "without an end");
    assert!(refused("UPDATE compliance.user_operations SET from_block = 10").await, "where it began");
    assert!(refused("UPDATE compliance.user_operations SET proposed_by = 'mallory'").await, "who proposed it");
    assert!(refused("UPDATE compliance.user_operations SET command = '{}'").await, "what was asked for");
    assert!(refused("DELETE FROM compliance.user_operations").await, "a record");
    assert!(refused("DELETE FROM compliance.smart_wallets").await, "a record");
    assert_eq!(store.open_user_operations(TENANT, WALLET).await.unwrap(), (1, 1));
    assert_eq!(store.open_user_operations(TENANT, BOB).await.unwrap(), (0, 1));
    assert!(store.end_user_operation(&one, &end(State::Failed)).await.unwrap());
    assert!(
        refused("UPDATE compliance.user_operations SET failure = '{\"reason\": \"X\"}'").await,
        "the reason of an end"
    );
    assert!(refused("UPDATE compliance.user_operations SET state = 'PENDING', ended_at = NULL").await, "back");
    assert!(refused("UPDATE compliance.user_operations SET state = 'EXPIRED'").await, "another end");
}

#[tokio::test]
async fn an_obstacle_is_noted_while_it_waits() {
    let (_postgres, store) = store().await;
    propose(&store).await;
    let obstacle = Failure::new("SIMULATION_REVERTED", "the entry point refuses: AA24 signature error");
    store.put_obstacle(ID, Some(&obstacle)).await.unwrap();
    assert_eq!(stored(&store).await.failure, Some(obstacle.clone()));
    assert!(sends(&store, 21).await);
    assert_eq!(stored(&store).await.failure, None);
    store.put_obstacle(ID, Some(&obstacle)).await.unwrap();
    assert_eq!(stored(&store).await.failure, None, "no more once it is on its way");
}
