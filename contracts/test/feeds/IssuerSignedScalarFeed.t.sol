// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {IssuerSignedScalarFeed} from "../../src/feeds/IssuerSignedScalarFeed.sol";
import {AggregatorV3Interface} from "../../src/interfaces/IAggregatorV3.sol";
import {IERC734} from "../../src/interfaces/IERC734.sol";
import {
    FeedTerms,
    FeedUpdate,
    HistoryMode,
    IIssuerSignedScalarFeed
} from "../../src/interfaces/IIssuerSignedScalarFeed.sol";
import {FeedConfig} from "../../src/interfaces/IIssuerSignedScalarFeedFactory.sol";
import {FeedFixture} from "./FeedFixture.sol";

contract IssuerSignedScalarFeedTest is FeedFixture {
    IssuerSignedScalarFeed private feed;

    function setUp() public override {
        super.setUp();
        feed = _feed(address(token), HistoryMode.FULL, 0);
        _submit(feed, 15000);
    }

    /* SHAPE */

    function test_terms_are_those_of_the_configuration() public view {
        FeedTerms memory terms = feed.terms();
        assertEq(terms.subject, address(token), "subject");
        assertEq(terms.topicId, price, "topic");
        assertEq(terms.schemaHash, SCHEMA, "schema");
        assertEq(terms.driftAllowance, 60, "drift");
        assertEq(feed.decimals(), 2, "decimals");
        assertEq(feed.description(), "price of the bond", "description");
        assertEq(feed.version(), 1, "version");
        assertEq(feed.subject(), address(token), "subject");
        assertEq(feed.topicId(), price, "topic");
    }

    function test_interface_ids() public view {
        assertEq(type(AggregatorV3Interface).interfaceId, bytes4(0x73851258), "AggregatorV3");
        assertTrue(feed.supportsInterface(0x73851258), "aggregator");
        assertTrue(feed.supportsInterface(type(IERC165).interfaceId), "165");
        assertTrue(feed.supportsInterface(type(IIssuerSignedScalarFeed).interfaceId), "feed");
        assertTrue(!feed.supportsInterface(0xffffffff), "none");
    }

    /// @dev The document rebuilt by hand from EIP-712.
    function test_the_digest_is_the_eip712_document() public view {
        FeedUpdate memory update = _update(feed, -7);
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("IssuerSignedScalarFeed"),
                keccak256("1"),
                block.chainid,
                address(feed)
            )
        );
        bytes32 document = keccak256(
            abi.encode(
                keccak256(
                    "FeedUpdate(uint256 topicId,bytes32 schemaHash,int256 value,uint256 observedAt,uint256 nonce,uint256 deadline)"
                ),
                update
            )
        );
        assertEq(feed.digestOf(update), keccak256(abi.encodePacked(hex"1901", domain, document)), "digest");
    }

    /// @dev The same document at the same place as in `rust/eip712.rs`: both sides must come to this digest.
    function test_the_digest_equals_the_one_of_the_rust_side() public {
        address place = address(0xFEED);
        vm.etch(place, feeds.IMPLEMENTATION().code);
        vm.chainId(31337);
        FeedUpdate memory update = FeedUpdate(
            uint256(keccak256("price")), keccak256("(int256 value)"), -15000, 1_800_000_000, 1, 1_800_000_600
        );
        assertEq(
            IssuerSignedScalarFeed(place).digestOf(update),
            0x2db30418114ff173189f1399ba0f5db950706a8ecb3e24d7e37921c0a8e01c80,
            "digest"
        );
    }

    /* ACCEPTED */

    function test_an_accepted_update_is_the_latest_round() public {
        vm.warp(1_800_000_100);
        assertEq(_submit(feed, 15100), 2, "round");
        _assertLatest(feed, 2, 15100, 1_800_000_100);
        assertEq(feed.issuerNonce(address(issuer)), 2, "nonce");
    }

    function test_the_event_carries_all_that_an_auditor_needs() public {
        FeedUpdate memory update = _update(feed, 1);
        bytes memory signature = _signed(feed, update);
        vm.expectEmit(true, true, true, true, address(feed));
        emit IIssuerSignedScalarFeed.FeedUpdated(
            address(issuer), 2, 1, update.observedAt, update.nonce, update.deadline, signature
        );
        feed.submit(address(issuer), update, signature);
    }

    function test_anyone_may_send_what_the_issuer_signed() public {
        FeedUpdate memory update = _update(feed, 1);
        bytes memory signature = _signed(feed, update);
        vm.prank(stranger);
        feed.submit(address(issuer), update, signature);
        _assertLatest(feed, 2, 1, update.observedAt);
    }

    function testFuzz_every_value_reads_back_exactly(int256 value) public {
        _submit(feed, value);
        _assertLatest(feed, 2, value, block.timestamp);
        _assertRound(feed, 2, value, block.timestamp);
    }

    function testFuzz_wide_values_of_different_rounds_stay_apart(int256 first, int256 second, int256 third) public {
        IssuerSignedScalarFeed ring = _feed(address(0), HistoryMode.BOUNDED, 2);
        _submit(ring, first);
        _submit(ring, second);
        _submit(ring, third);
        _assertRound(ring, 2, second, block.timestamp);
        _assertRound(ring, 3, third, block.timestamp);
        _assertLatest(ring, 3, third, block.timestamp);
    }

    function test_zero_and_negative_values_pass_where_allowed() public {
        _submit(feed, 0);
        _submit(feed, -15000);
        _submit(feed, type(int256).min);
        _assertLatest(feed, 4, type(int256).min, block.timestamp);
    }

    function test_equal_observation_times_are_not_a_step_back() public {
        _submit(feed, 1);
        _submit(feed, 2);
        _assertLatest(feed, 3, 2, block.timestamp);
    }

    function test_issuers_count_their_own_nonces() public {
        uint256 otherKey = 0xB0B0;
        address other = _issuerOf(otherKey);
        FeedUpdate memory update = _update(feed, 9);
        update.nonce = 1;
        feed.submit(other, update, _signedBy(otherKey, feed, update));
        assertEq(feed.issuerNonce(other), 1, "other");
        assertEq(feed.issuerNonce(address(issuer)), 1, "first");
    }

    function test_trust_for_the_subject_alone_is_enough() public {
        uint256 otherKey = 0xB0B1;
        address other = identities.create(vm.addr(otherKey), 0, _noClaims());
        uint256[] memory only = new uint256[](1);
        only[0] = price;
        registry.addTrustedIssuerFor(address(token), other, only);
        FeedUpdate memory update = _update(feed, 9);
        update.nonce = 1;
        feed.submit(other, update, _signedBy(otherKey, feed, update));

        IssuerSignedScalarFeed elsewhere = _feed(address(0x1234), HistoryMode.FULL, 0);
        bytes memory signature = _signedBy(otherKey, elsewhere, update);
        vm.expectRevert(abi.encodeWithSelector(IIssuerSignedScalarFeed.IssuerNotAuthorized.selector, other));
        elsewhere.submit(other, update, signature);
    }

    /* REFUSED: each leaves answer, round and nonce alone */

    function test_topic_mismatch() public {
        FeedUpdate memory update = _update(feed, 1);
        update.topicId = kyc;
        _refused(
            feed,
            update,
            _signed(feed, update),
            abi.encodeWithSelector(IIssuerSignedScalarFeed.TopicMismatch.selector, price, kyc)
        );
    }

    function test_schema_hash_mismatch() public {
        FeedUpdate memory update = _update(feed, 1);
        update.schemaHash = keccak256("(uint256 value)");
        _refused(
            feed,
            update,
            _signed(feed, update),
            abi.encodeWithSelector(
                IIssuerSignedScalarFeed.SchemaHashMismatch.selector, SCHEMA, keccak256("(uint256 value)")
            )
        );
    }

    function test_issuer_not_authorized_bites_at_once() public {
        FeedUpdate memory update = _update(feed, 1);
        bytes memory signature = _signed(feed, update);
        registry.removeTrustedIssuer(address(issuer));
        _refused(feed, update, signature, _notAuthorized());
    }

    function test_a_removed_topic_ends_authorisation() public {
        FeedUpdate memory update = _update(feed, 1);
        bytes memory signature = _signed(feed, update);
        topics.removeTopicScheme("price");
        _refused(feed, update, signature, _notAuthorized());
    }

    function test_signatures_that_are_not_canonical() public {
        FeedUpdate memory update = _update(feed, 1);
        bytes memory good = _signed(feed, update);
        (bytes32 r, bytes32 s) = abi.decode(good, (bytes32, bytes32));
        uint8 v = uint8(good[64]);
        bytes memory why = abi.encodeWithSelector(IIssuerSignedScalarFeed.InvalidSignature.selector);
        // the other half of the curve, v as 0/1, the 64-byte form, too long, empty
        _refused(feed, update, abi.encodePacked(r, bytes32(CURVE_ORDER - uint256(s)), v == 27 ? 28 : 27), why);
        _refused(feed, update, abi.encodePacked(r, s, v - 27), why);
        _refused(feed, update, abi.encodePacked(r, s), why);
        _refused(feed, update, abi.encodePacked(good, uint8(0)), why);
        _refused(feed, update, "", why);
        _refused(feed, update, abi.encodePacked(bytes32(0), s, v), why);
    }

    function test_signer_without_the_claim_purpose() public {
        FeedUpdate memory update = _update(feed, 1);
        bytes memory signature = _signedBy(0xBAD, feed, update);
        _refused(feed, update, signature, _invalidSigner(vm.addr(0xBAD)));
    }

    function test_a_management_key_is_not_a_claim_key() public {
        bytes32 key = keccak256(abi.encode(vm.addr(0xBEEF)));
        vm.prank(vm.addr(ISSUER_KEY));
        IERC734(address(issuer)).addKey(key, 1, 1);
        FeedUpdate memory update = _update(feed, 1);
        _refused(feed, update, _signedBy(0xBEEF, feed, update), _invalidSigner(vm.addr(0xBEEF)));
    }

    function test_a_removed_claim_key_stops_signing_at_once() public {
        FeedUpdate memory update = _update(feed, 1);
        bytes memory signature = _signed(feed, update);
        vm.prank(vm.addr(ISSUER_KEY));
        IERC734(address(issuer)).removeKey(keccak256(abi.encode(vm.addr(ISSUER_KEY))), 3);
        _refused(feed, update, signature, _invalidSigner(vm.addr(ISSUER_KEY)));
    }

    function test_issuers_that_cannot_answer_have_no_keys() public {
        FeedUpdate memory update = _update(feed, 1);
        update.nonce = 1;
        bytes memory signature = _signed(feed, update);
        address[2] memory mute = [address(0x1234), address(directory)];
        for (uint256 i; i < mute.length; ++i) {
            uint256[] memory only = new uint256[](1);
            only[0] = price;
            registry.addTrustedIssuer(mute[i], only);
            vm.expectRevert(_invalidSigner(vm.addr(ISSUER_KEY)));
            feed.submit(mute[i], update, signature);
        }
    }

    function test_a_signature_for_another_feed_does_not_count() public {
        IssuerSignedScalarFeed other = _feed(address(0), HistoryMode.FULL, 0);
        FeedUpdate memory update = _update(feed, 1);
        bytes memory signature = _signed(other, update);
        Snapshot memory before = _snapshot(feed);
        (bool ok,) = address(feed).call(abi.encodeCall(feed.submit, (address(issuer), update, signature)));
        assertTrue(!ok, "must be refused");
        assertEq(_snapshot(feed).nonce, before.nonce, "nonce");
    }

    function testFuzz_only_the_next_nonce(uint256 nonce) public {
        vm.assume(nonce != 2);
        FeedUpdate memory update = _update(feed, 1);
        update.nonce = nonce;
        _refused(
            feed,
            update,
            _signed(feed, update),
            abi.encodeWithSelector(IIssuerSignedScalarFeed.InvalidNonce.selector, 2, nonce)
        );
    }

    function test_the_same_update_does_not_count_twice() public {
        FeedUpdate memory update = _update(feed, 1);
        bytes memory signature = _signed(feed, update);
        feed.submit(address(issuer), update, signature);
        _refused(feed, update, signature, abi.encodeWithSelector(IIssuerSignedScalarFeed.InvalidNonce.selector, 3, 2));
    }

    function test_deadline_counts_up_to_its_second() public {
        FeedUpdate memory update = _update(feed, 1);
        update.deadline = block.timestamp - 1;
        _refused(
            feed,
            update,
            _signed(feed, update),
            abi.encodeWithSelector(IIssuerSignedScalarFeed.DeadlineExpired.selector, update.deadline)
        );
        update.deadline = block.timestamp;
        feed.submit(address(issuer), update, _signed(feed, update));
    }

    function testFuzz_positive_feeds_refuse_the_rest(int256 value) public {
        FeedConfig memory config = _feedConfig(address(0), HistoryMode.FULL, 0);
        config.requirePositive = true;
        IssuerSignedScalarFeed positive = IssuerSignedScalarFeed(feeds.create(config));
        _submit(positive, 1);
        FeedUpdate memory update = _update(positive, value);
        if (value > 0) {
            positive.submit(address(issuer), update, _signed(positive, update));
        } else {
            _refused(
                positive,
                update,
                _signed(positive, update),
                abi.encodeWithSelector(IIssuerSignedScalarFeed.ValueNotPositive.selector, value)
            );
        }
    }

    function test_observation_times() public {
        uint256 last = block.timestamp;
        vm.warp(1_800_001_000);
        FeedUpdate memory update = _update(feed, 1);
        update.observedAt = 0;
        _refused(
            feed,
            update,
            _signed(feed, update),
            abi.encodeWithSelector(IIssuerSignedScalarFeed.InvalidObservedAt.selector)
        );
        update.observedAt = last - 1;
        _refused(
            feed,
            update,
            _signed(feed, update),
            abi.encodeWithSelector(IIssuerSignedScalarFeed.StaleObservation.selector, last, last - 1)
        );
        update.observedAt = 1_800_001_061;
        _refused(
            feed,
            update,
            _signed(feed, update),
            abi.encodeWithSelector(
                IIssuerSignedScalarFeed.ObservedAtTooFarInFuture.selector, 1_800_001_060, 1_800_001_061
            )
        );
        update.observedAt = type(uint256).max;
        _refused(
            feed,
            update,
            _signed(feed, update),
            abi.encodeWithSelector(
                IIssuerSignedScalarFeed.ObservedAtTooFarInFuture.selector, 1_800_001_060, type(uint256).max
            )
        );
        update.observedAt = 1_800_001_060;
        feed.submit(address(issuer), update, _signed(feed, update));
        _assertLatest(feed, 2, 1, 1_800_001_060);
    }

    function test_without_drift_allowance_the_block_is_the_limit() public {
        FeedConfig memory config = _feedConfig(address(0), HistoryMode.FULL, 0);
        config.driftAllowance = 0;
        IssuerSignedScalarFeed strict = IssuerSignedScalarFeed(feeds.create(config));
        _submit(strict, 1);
        FeedUpdate memory update = _update(strict, 1);
        update.observedAt = block.timestamp + 1;
        _refused(
            strict,
            update,
            _signed(strict, update),
            abi.encodeWithSelector(
                IIssuerSignedScalarFeed.ObservedAtTooFarInFuture.selector, block.timestamp, block.timestamp + 1
            )
        );
    }

    /// @dev An update with every fault at once is refused for the first of the requirement's list; curing faults one by one walks the list.
    function test_checks_run_in_the_order_of_the_requirement() public {
        FeedConfig memory config = _feedConfig(address(0), HistoryMode.FULL, 0);
        config.requirePositive = true;
        IssuerSignedScalarFeed f = IssuerSignedScalarFeed(feeds.create(config));
        _submit(f, 1);
        registry.removeTrustedIssuer(address(issuer));
        FeedUpdate memory u = FeedUpdate(kyc, bytes32(0), 0, 0, 7, 1);
        bytes4[10] memory order = [
            IIssuerSignedScalarFeed.TopicMismatch.selector,
            IIssuerSignedScalarFeed.SchemaHashMismatch.selector,
            IIssuerSignedScalarFeed.IssuerNotAuthorized.selector,
            IIssuerSignedScalarFeed.InvalidSignature.selector,
            IIssuerSignedScalarFeed.InvalidSigner.selector,
            IIssuerSignedScalarFeed.InvalidNonce.selector,
            IIssuerSignedScalarFeed.DeadlineExpired.selector,
            IIssuerSignedScalarFeed.ValueNotPositive.selector,
            IIssuerSignedScalarFeed.InvalidObservedAt.selector,
            IIssuerSignedScalarFeed.StaleObservation.selector
        ];
        for (uint256 fault; fault < order.length; ++fault) {
            if (fault == 1) u.topicId = price;
            if (fault == 2) u.schemaHash = SCHEMA;
            if (fault == 3) registry.addTrustedIssuer(address(issuer), _only(price));
            if (fault == 6) u.nonce = 2;
            if (fault == 7) u.deadline = 0;
            if (fault == 8) u.value = 1;
            if (fault == 9) u.observedAt = 1;
            bytes memory signature = fault <= 3 ? bytes("") : _signedBy(fault == 4 ? 0xBAD : ISSUER_KEY, f, u);
            (bool ok, bytes memory why) = address(f).call(abi.encodeCall(f.submit, (address(issuer), u, signature)));
            assertTrue(!ok, "must be refused");
            assertEq(bytes4(why), order[fault], "order");
        }
    }

    /* HISTORY */

    function test_latest_only_keeps_no_rounds() public {
        IssuerSignedScalarFeed latest = _feed(address(0), HistoryMode.LATEST_ONLY, 0);
        _submit(latest, 1);
        _submit(latest, 2);
        _assertLatest(latest, 2, 2, block.timestamp);
        for (uint80 id; id < 4; ++id) {
            vm.expectRevert(IIssuerSignedScalarFeed.HistoryNotSupported.selector);
            latest.getRoundData(id);
        }
    }

    function test_bounded_history_evicts_the_oldest() public {
        IssuerSignedScalarFeed ring = _feed(address(0), HistoryMode.BOUNDED, 3);
        for (int256 i = 1; i <= 5; ++i) {
            _submit(ring, i * 10);
        }
        _assertRound(ring, 3, 30, block.timestamp);
        _assertRound(ring, 4, 40, block.timestamp);
        _assertRound(ring, 5, 50, block.timestamp);
        uint80[4] memory gone = [uint80(0), 1, 2, 6];
        for (uint256 i; i < gone.length; ++i) {
            _expectNoRound(ring, gone[i]);
        }
    }

    function test_full_history_keeps_every_round() public {
        for (int256 i = 2; i <= 6; ++i) {
            _submit(feed, i);
        }
        _assertRound(feed, 1, 15000, block.timestamp);
        _assertRound(feed, 6, 6, block.timestamp);
        _expectNoRound(feed, 0);
        _expectNoRound(feed, 7);
        _expectNoRound(feed, type(uint80).max);
    }

    function test_a_feed_without_rounds_says_so() public {
        IssuerSignedScalarFeed empty = _feed(address(0), HistoryMode.FULL, 0);
        vm.expectRevert(abi.encodeWithSelector(IIssuerSignedScalarFeed.RoundNotFound.selector, 0));
        empty.latestRoundData();
        vm.expectRevert(abi.encodeWithSelector(IIssuerSignedScalarFeed.RoundNotFound.selector, 0));
        empty.age();
        assertTrue(empty.isStale(type(uint256).max), "nothing is stale");
    }

    /* STALENESS */

    function test_staleness() public {
        assertEq(feed.age(), 0, "fresh");
        vm.warp(1_800_000_100);
        assertEq(feed.age(), 100, "age");
        assertTrue(!feed.isStale(100), "not older than");
        assertTrue(feed.isStale(99), "older than");
        FeedUpdate memory update = _update(feed, 1);
        update.observedAt = block.timestamp + 50;
        feed.submit(address(issuer), update, _signed(feed, update));
        assertEq(feed.age(), 0, "ahead of the block");
        assertTrue(!feed.isStale(0), "ahead of the block");
    }

    /* HELPERS */

    function _issuerOf(uint256 key) private returns (address other) {
        other = identities.create(vm.addr(key), 0, _noClaims());
        registry.addTrustedIssuer(other, _only(price));
    }

    function _only(uint256 topic) private pure returns (uint256[] memory list) {
        list = new uint256[](1);
        list[0] = topic;
    }

    function _expectNoRound(IssuerSignedScalarFeed f, uint80 id) private {
        vm.expectRevert(abi.encodeWithSelector(IIssuerSignedScalarFeed.RoundNotFound.selector, id));
        f.getRoundData(id);
    }

    function _notAuthorized() private view returns (bytes memory) {
        return abi.encodeWithSelector(IIssuerSignedScalarFeed.IssuerNotAuthorized.selector, address(issuer));
    }

    function _invalidSigner(address signer) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IIssuerSignedScalarFeed.InvalidSigner.selector, signer);
    }
}
