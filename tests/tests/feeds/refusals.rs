//! Every refusal of the requirement, provoked on a real chain through the service: typed, with a page, and nothing changed.

use alloy::primitives::{Address, B256, U256};
use dalp_devstack::client::reason;
use dalp_proto::feeds::{
    CreateFeedRequest, GetFeedRequest, HistoryMode, SubmitSignedUpdateRequest, SubmitUpdateRequest,
};
use dalp_service::Reason;

use crate::support::{PRICE, Wanted, World, fresh, now_s, text};

/// What a client hears.
struct Heard {
    what: &'static str,
    reason: Reason,
    contract_error: &'static str,
}

const fn heard(what: &'static str, reason: Reason, contract_error: &'static str) -> Heard {
    Heard { what, reason, contract_error }
}

pub(crate) async fn everything_a_feed_refuses_is_typed_and_changes_nothing(world: &World) {
    let subject = text(Address::repeat_byte(0x51));
    let wanted = Wanted { topic: PRICE.into(), subject, mode: HistoryMode::Full, positive: true, ..Wanted::default() };
    let feed = world.feed(wanted).await;
    let observed_at = now_s() - 20;
    world.publish(feed, "10", observed_at).await;
    signed_outside(world, feed, observed_at).await;
    signed_here(world, feed, observed_at).await;
    // A feed with a drift allowance takes what the other one refuses.
    let subject = text(Address::repeat_byte(0x52));
    let ahead = Wanted { topic: PRICE.into(), subject, mode: HistoryMode::Full, drift_s: 3_600, ..Wanted::default() };
    let ahead = world.feed(ahead).await;
    assert_eq!(world.publish(ahead, "1", now_s() + 1_000).await, 1);
}

/// Updates that are wrong in what was signed.
async fn signed_outside(world: &World, feed: Address, observed_at: u64) {
    let good = world.unsigned(feed, PRICE, 11, observed_at).await;
    let with = |change: fn(&mut svc_feeds::domain::update::Update)| {
        let mut update = good.clone();
        change(&mut update);
        world.signed(feed, &update)
    };
    let unsigned = |signature: String| SubmitSignedUpdateRequest { signature, ..world.signed(feed, &good) };
    let foreign = alloy::signers::local::PrivateKeySigner::random();
    let foreign = alloy::signers::SignerSync::sign_hash_sync(&foreign, &good.digest(world.chain_id(), feed));
    let foreign = alloy::hex::encode_prefixed(foreign.expect("signed").as_bytes());
    let untrusted = SubmitSignedUpdateRequest { issuer: text(Address::repeat_byte(0x99)), ..world.signed(feed, &good) };
    let refused = [
        (heard("topic", Reason::FeedUpdateMismatch, "TopicMismatch"), with(|update| update.topic_id += U256::ONE)),
        (
            heard("schema", Reason::FeedUpdateMismatch, "SchemaHashMismatch"),
            with(|update| update.schema_hash = B256::repeat_byte(1)),
        ),
        (heard("issuer", Reason::FeedSignatureInvalid, "IssuerNotAuthorized"), untrusted),
        (heard("length", Reason::FeedSignatureInvalid, "InvalidSignature"), unsigned("0x0102".to_owned())),
        (heard("key", Reason::FeedSignatureInvalid, "InvalidSigner"), unsigned(foreign)),
        (heard("nonce ahead", Reason::FeedNonceInvalid, "InvalidNonce"), with(|update| update.nonce += 1)),
        (heard("nonce behind", Reason::FeedNonceInvalid, "InvalidNonce"), with(|update| update.nonce = 0)),
        (heard("deadline", Reason::FeedDeadlineExpired, "DeadlineExpired"), with(|update| update.deadline = U256::ONE)),
    ];
    for (Heard { what, reason, contract_error }, request) in refused {
        let before = world.state(feed).await;
        let accepted = world.submit_signed(request).await;
        assert_eq!(world.refused(accepted).await, (reason.as_str().to_owned(), contract_error.to_owned()), "{what}");
        assert_eq!(world.state(feed).await, before, "{what} changed something");
    }
    let accepted = world.submit_signed(world.signed(feed, &good)).await;
    assert_eq!(world.done(accepted).await["round_id"], "2", "it was right otherwise");
    world.indexed(feed, 2).await;
}

/// Updates that the service signs as they are asked for.
async fn signed_here(world: &World, feed: Address, observed_at: u64) {
    let update = |value: &str, observed_at: u64| world.update(feed, value, observed_at);
    let refused = [
        (heard("zero", Reason::FeedValueNotPositive, "ValueNotPositive"), update("0", observed_at)),
        (heard("negative", Reason::FeedValueNotPositive, "ValueNotPositive"), update("-1", observed_at)),
        (heard("no time", Reason::FeedObservationInvalid, "InvalidObservedAt"), update("1", 0)),
        (heard("old", Reason::FeedObservationInvalid, "StaleObservation"), update("1", observed_at - 1)),
        (heard("future", Reason::FeedObservationInvalid, "ObservedAtTooFarInFuture"), update("1", now_s() + 1_000)),
        (
            heard("late", Reason::FeedDeadlineExpired, "DeadlineExpired"),
            SubmitUpdateRequest { deadline: observed_at, ..update("1", observed_at) },
        ),
        (
            heard("untrusted issuer", Reason::FeedSignatureInvalid, "IssuerNotAuthorized"),
            SubmitUpdateRequest { issuer: world.other.text.clone(), ..update("1", observed_at) },
        ),
        (
            heard("key of another", Reason::FeedSignatureInvalid, "InvalidSigner"),
            SubmitUpdateRequest { signer: world.other.text.clone(), ..update("1", observed_at) },
        ),
    ];
    for (Heard { what, reason, contract_error }, request) in refused {
        let before = world.state(feed).await;
        let accepted = world.submit(request).await;
        assert_eq!(world.refused(accepted).await, (reason.as_str().to_owned(), contract_error.to_owned()), "{what}");
        assert_eq!(world.state(feed).await, before, "{what} changed something");
    }
    assert_eq!(world.publish(feed, "12", observed_at).await, 3, "nothing was used up");
}

pub(crate) async fn what_is_refused_before_it_is_accepted(world: &World) {
    let good = world.creation(&Wanted {
        topic: PRICE.into(),
        subject: text(Address::repeat_byte(0x61)),
        mode: HistoryMode::Full,
        ..Wanted::default()
    });
    let other_id = format!("{:#066x}", dalp_contracts::encode::topic_id("nav"));
    let taken = world.creation(&Wanted { topic: PRICE.into(), mode: HistoryMode::Full, ..Wanted::default() });
    for (request, expected) in [
        (CreateFeedRequest { topic_name: "unheard-of".to_owned(), ..good.clone() }, "TOPIC_UNKNOWN"),
        (CreateFeedRequest { topic_name: "kyc".to_owned(), ..good.clone() }, "FEED_SCHEMA_NOT_SCALAR"),
        (CreateFeedRequest { topic_id: other_id, ..good.clone() }, "INVALID_FIELD"),
        (CreateFeedRequest { decimals: 19, ..good.clone() }, "INVALID_FIELD"),
        (CreateFeedRequest { sender: world.other.text.clone(), ..good.clone() }, "ROLE_MISSING"),
        (CreateFeedRequest { replace: true, ..good.clone() }, "NOT_FOUND"),
        (taken, "ALREADY_EXISTS"),
    ] {
        let status = world.feeds().create_feed(fresh(request.clone())).await.expect_err(expected);
        assert_eq!(reason(&status), expected, "{request:?}: {status:?}");
    }
    let nowhere = Address::repeat_byte(0x77);
    let status = world.feeds().get_feed(GetFeedRequest { feed: text(nowhere) }).await.expect_err("no such feed");
    assert_eq!(reason(&status), "NOT_FOUND");
    let update = world.update(nowhere, "1", 1);
    let stranger = text(Address::repeat_byte(0x78));
    for (request, expected) in [
        (update.clone(), "NOT_FOUND"),
        (SubmitUpdateRequest { value: "1.5".to_owned(), ..update.clone() }, "INVALID_FIELD"),
        (SubmitUpdateRequest { signer: stranger.clone(), ..update.clone() }, "KEY_NOT_FOUND"),
        (SubmitUpdateRequest { issuer: stranger, signer: world.issuer.text.clone(), ..update }, "IDENTITY_NOT_FOUND"),
    ] {
        let status = world.feeds().submit_update(fresh(request)).await.expect_err(expected);
        assert_eq!(reason(&status), expected, "{status:?}");
    }
}
