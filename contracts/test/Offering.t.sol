// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Offering} from "../src/Offering.sol";
import {IAddonFactory} from "../src/interfaces/IAddonFactory.sol";
import {Allocation, IOffering, OfferingStatus, OfferingTerms, Purchase} from "../src/interfaces/IOffering.sol";
import {IdentityReasons} from "../src/libraries/IdentityReasons.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {AssetRoles} from "../src/Roles.sol";
import {AddonFixture} from "./addons/AddonFixture.sol";
import {BlockingCurrency, CallingCurrency, Currency, FeeCurrency} from "./addons/Currencies.sol";
import {Merkle} from "./addons/Merkle.sol";

contract OfferingTest is AddonFixture {
    bytes32 private constant TERMS = keccak256("terms of the sale");

    function setUp() public override {
        super.setUp();
        _investor(carol, DE);
    }

    function _open(OfferingTerms memory terms) private returns (Offering sale) {
        sale = _offering(terms);
        vm.warp(terms.start);
    }

    function _softCapped() private view returns (OfferingTerms memory terms) {
        terms = _offeringTerms();
        terms.softCap = 500;
    }

    function _locked() private view returns (OfferingTerms memory terms) {
        terms = _softCapped();
        (terms.lockup.start, terms.lockup.cliff, terms.lockup.duration) = (terms.end, 10 * DAY, 100 * DAY);
    }

    function _presold() private view returns (OfferingTerms memory terms) {
        terms = _offeringTerms();
        bytes32[] memory leaves = new bytes32[](2);
        (leaves[0], leaves[1]) = (Merkle.leaf(alice), Merkle.leaf(carol));
        (terms.presale.end, terms.presale.discountBps) = (terms.start + 2 * DAY, 1000);
        terms.presale.allowList = Merkle.build(leaves)[0];
    }

    function _fund(Offering sale, address buyer, Currency currency, uint256 amount) private {
        currency.mint(buyer, amount);
        vm.prank(buyer);
        currency.approve(address(sale), amount);
    }

    function _is(Offering sale, OfferingStatus expected, string memory what) private view {
        assertEq(uint256(sale.status()), uint256(expected), what);
    }

    function _end(Offering sale) private {
        vm.warp(NOW + 11 * DAY);
        sale.finalize();
    }

    /* LIFE */

    function test_status_follows_from_time() public {
        OfferingTerms memory terms = _presold();
        Offering sale = Offering(addons.createOffering("sale", terms));
        _is(sale, OfferingStatus.SETUP, "created");
        _holder(address(sale));
        token.mint(address(sale), 1000);
        sale.activate();
        _is(sale, OfferingStatus.SETUP, "activated");
        vm.warp(terms.start);
        _is(sale, OfferingStatus.PRESALE, "started");
        vm.warp(terms.presale.end);
        _is(sale, OfferingStatus.PUBLIC_SALE, "public");
        sale.pause(true);
        _is(sale, OfferingStatus.PAUSED, "paused");
        sale.pause(false);
        _is(sale, OfferingStatus.PUBLIC_SALE, "unpaused");
        vm.warp(terms.end);
        _is(sale, OfferingStatus.ENDED, "ended");
        sale.finalize();
        _is(sale, OfferingStatus.CLOSED, "nothing was sold, nobody is owed");
    }

    function test_activation_needs_the_hard_cap() public {
        Offering sale = Offering(addons.createOffering("sale", _offeringTerms()));
        _holder(address(sale));
        token.mint(address(sale), 999);
        vm.expectRevert(abi.encodeWithSelector(IOffering.HardCapUncovered.selector, 1000, 999));
        sale.activate();
        token.mint(address(sale), 1);
        _expectMissingRole(alice, AssetRoles.SALE);
        vm.prank(alice);
        sale.activate();
        sale.activate();
        vm.expectRevert(abi.encodeWithSelector(IOffering.SaleNotActive.selector, OfferingStatus.SETUP));
        sale.activate();
    }

    function test_activation_of_a_minting_sale_needs_the_role() public {
        OfferingTerms memory terms = _offeringTerms();
        terms.minted = true;
        Offering sale = Offering(addons.createOffering("sale", terms));
        vm.expectRevert(abi.encodeWithSelector(IOffering.HardCapUncovered.selector, 1000, 0));
        sale.activate();
        vm.warp(terms.end);
        vm.expectRevert(abi.encodeWithSelector(IOffering.SaleEnded.selector, terms.end));
        sale.activate();
    }

    /* BUYING */

    function test_plain_sale_exchanges_in_one_transaction() public {
        Offering sale = _open(_offeringTerms());
        _buy(sale, alice, euro, 201);
        assertEq(token.balanceOf(alice), 1100, "delivered");
        assertEq(euro.balanceOf(alice), 1, "only whole tokens are paid");
        assertEq(euro.balanceOf(address(sale)), 200, "money");
        assertEq(sale.collected(address(euro)), 200, "collected");
        assertEq(sale.paidBy(alice, address(euro)), 200, "paid");
        assertEq(sale.boughtBy(address(registry.identity(alice))), 100, "by identity");
        (uint256 total, uint256 owed) = sale.sold();
        assertEq(total, 100, "sold");
        assertEq(owed, 0, "delivered");
        assertEq(sale.claimable(alice), 0, "nothing to claim");
    }

    function test_minting_sale_delivers_new_tokens() public {
        OfferingTerms memory terms = _offeringTerms();
        terms.minted = true;
        Offering sale = _open(terms);
        uint256 supply = token.totalSupply();
        _buy(sale, alice, dollar, 300);
        assertEq(token.balanceOf(alice), 1100, "delivered");
        assertEq(token.totalSupply(), supply + 100, "minted");
        _end(sale);
        assertEq(sale.withdrawUnsold(), 0, "it never held any");
    }

    function testFuzz_cost_never_exceeds_the_payment_nor_undercuts_the_price(uint256 price, uint256 payment) public {
        price = bound(price, 1, 1e30);
        payment = bound(payment, 0, 1e30);
        OfferingTerms memory terms = _offeringTerms();
        terms.currencies[0].price = price;
        Offering sale = Offering(addons.createOffering("fuzz", terms));
        (uint256 tokens, uint256 cost) = sale.quote(address(euro), payment);
        assertLe(cost, payment, "cost <= payment");
        assertLe(tokens * price, cost * 1e18, "the price is paid");
        assertTrue((tokens + 1) * price > payment * 1e18, "one token more would cost more");
    }

    function test_presale_is_for_the_list_at_a_discount() public {
        OfferingTerms memory terms = _presold();
        Offering sale = _open(terms);
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = Merkle.leaf(carol);
        Purchase memory purchase = _purchase(euro, 180);
        purchase.proof = proof;
        _fund(sale, alice, euro, 380);
        vm.prank(alice);
        (uint256 tokens, uint256 cost) = sale.buy(purchase);
        assertEq(tokens, 100, "a tenth less");
        assertEq(cost, 180, "cost");
        _fund(sale, bob, euro, 180);
        vm.expectRevert(
            abi.encodeWithSelector(IOffering.BuyerNotEligible.selector, address(sale), bytes32("NOT_ON_ALLOW_LIST"))
        );
        vm.prank(bob);
        sale.buy(purchase);
        vm.warp(terms.presale.end);
        purchase.minimumTokens = 100;
        vm.expectRevert(abi.encodeWithSelector(IOffering.TooFewTokens.selector, 100, 90));
        vm.prank(alice);
        sale.buy(purchase);
        _buy(sale, bob, euro, 200);
    }

    function test_terms_are_acknowledged_by_their_hash() public {
        OfferingTerms memory terms = _offeringTerms();
        terms.termsHash = TERMS;
        Offering sale = _open(terms);
        _fund(sale, alice, euro, 200);
        Purchase memory purchase = _purchase(euro, 200);
        vm.expectRevert(abi.encodeWithSelector(IOffering.TermsNotAcknowledged.selector, TERMS));
        vm.prank(alice);
        sale.buy(purchase);
        purchase.termsHash = TERMS;
        vm.expectEmit(true, true, true, true, address(sale));
        emit IOffering.Purchased(alice, address(euro), 100, 200, TERMS);
        vm.prank(alice);
        sale.buy(purchase);
    }

    function test_limits_per_investor_and_hard_cap() public {
        Offering sale = _open(_offeringTerms());
        _fund(sale, alice, euro, 10_000);
        vm.startPrank(alice);
        vm.expectRevert(abi.encodeWithSelector(IOffering.PurchaseBelowMinimum.selector, 10, 9));
        sale.buy(_purchase(euro, 18));
        vm.expectRevert(abi.encodeWithSelector(IOffering.AllocationExceeded.selector, 600, 601));
        sale.buy(_purchase(euro, 1202));
        sale.buy(_purchase(euro, 1200));
        vm.expectRevert(abi.encodeWithSelector(IOffering.AllocationExceeded.selector, 600, 601));
        sale.buy(_purchase(euro, 2));
        vm.expectRevert(abi.encodeWithSelector(IOffering.PurchaseBelowMinimum.selector, 10, 600));
        sale.buy(_purchase(euro, 1));
        vm.stopPrank();
        _fund(sale, bob, euro, 10_000);
        vm.startPrank(bob);
        vm.expectRevert(abi.encodeWithSelector(IOffering.HardCapExceeded.selector, 400, 401));
        sale.buy(_purchase(euro, 802));
        sale.buy(_purchase(euro, 800));
        vm.expectRevert(abi.encodeWithSelector(IOffering.HardCapExceeded.selector, 0, 1));
        sale.buy(_purchase(euro, 20));
        vm.stopPrank();
        _is(sale, OfferingStatus.ENDED, "sold out");
        sale.finalize();
        _is(sale, OfferingStatus.SUCCEEDED, "before its end");
    }

    function test_a_top_up_may_be_below_the_minimum() public {
        Offering sale = _open(_offeringTerms());
        _buy(sale, alice, euro, 20);
        _buy(sale, alice, dollar, 3);
        assertEq(token.balanceOf(alice), 1011, "eleven");
    }

    function test_buying_outside_the_dates_is_refused() public {
        OfferingTerms memory terms = _offeringTerms();
        Offering sale = _offering(terms);
        _fund(sale, alice, euro, 100);
        vm.startPrank(alice);
        vm.expectRevert(abi.encodeWithSelector(IOffering.SaleNotStarted.selector, terms.start));
        sale.buy(_purchase(euro, 100));
        vm.warp(terms.end);
        vm.expectRevert(abi.encodeWithSelector(IOffering.SaleEnded.selector, terms.end));
        sale.buy(_purchase(euro, 100));
        vm.stopPrank();
    }

    function test_buying_needs_an_active_sale() public {
        OfferingTerms memory terms = _offeringTerms();
        Offering idle = Offering(addons.createOffering("idle", terms));
        Offering sale = _open(terms);
        vm.expectRevert(abi.encodeWithSelector(IOffering.SaleNotActive.selector, OfferingStatus.SETUP));
        idle.buy(_purchase(euro, 100));
        token.grant(carol, AssetRoles.EMERGENCY);
        vm.prank(carol);
        sale.pause(true);
        vm.expectRevert(abi.encodeWithSelector(IOffering.SaleNotActive.selector, OfferingStatus.PAUSED));
        sale.buy(_purchase(euro, 100));
        _expectMissingRole(carol, AssetRoles.SALE);
        vm.prank(carol);
        sale.pause(false);
        vm.expectRevert(abi.encodeWithSelector(IOffering.SaleNotActive.selector, OfferingStatus.PAUSED));
        sale.pause(true);
        _expectMissingRole(alice, AssetRoles.SALE | AssetRoles.EMERGENCY);
        vm.prank(alice);
        sale.pause(true);
        vm.expectRevert(abi.encodeWithSelector(IOffering.SaleNotActive.selector, OfferingStatus.SETUP));
        idle.pause(true);
        vm.expectRevert(abi.encodeWithSelector(IOffering.SaleNotActive.selector, OfferingStatus.SETUP));
        idle.finalize();
    }

    function test_currency_must_be_listed_and_deliver_in_full() public {
        FeeCurrency fee = new FeeCurrency();
        OfferingTerms memory terms = _offeringTerms();
        terms.currencies[1].currency = address(fee);
        Offering sale = _open(terms);
        vm.expectRevert(abi.encodeWithSelector(IOffering.CurrencyUnsupported.selector, address(dollar)));
        vm.prank(alice);
        sale.buy(_purchase(dollar, 300));
        _fund(sale, alice, fee, 300);
        vm.expectRevert(abi.encodeWithSelector(IOffering.CurrencyTakesFees.selector, address(fee)));
        vm.prank(alice);
        sale.buy(_purchase(fee, 300));
    }

    function test_a_currency_cannot_come_back() public {
        CallingCurrency calling = new CallingCurrency();
        OfferingTerms memory terms = _softCapped();
        terms.currencies[1].currency = address(calling);
        Offering sale = _open(terms);
        _fund(sale, alice, calling, 600);
        calling.callOnMove(address(sale), abi.encodeCall(IOffering.buy, (_purchase(euro, 100))));
        vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        vm.prank(alice);
        sale.buy(_purchase(calling, 300));
    }

    /* ELIGIBILITY */

    function test_the_asset_judges_the_buyer() public {
        Offering sale = _open(_softCapped());
        _refused(sale, stranger, address(registry), IdentityReasons.NOT_REGISTERED);
        _revokeClaim(address(registry.identity(bob)), kyc);
        _refused(sale, bob, address(registry), IdentityReasons.CLAIM_REVOKED);
        token.setAddressFrozen(alice, true);
        _refused(sale, alice, address(token), ReasonCodes.RECIPIENT_FROZEN);
        compliance.addModule(address(countryRule), _countryParams(false, DE));
        _refused(sale, carol, address(countryRule), ReasonCodes.COUNTRY_BLOCKED);
        token.pause();
        _refused(sale, carol, address(token), ReasonCodes.TOKEN_PAUSED);
    }

    function _refused(Offering sale, address buyer, address module, bytes32 reason) private {
        vm.expectRevert(abi.encodeWithSelector(IOffering.BuyerNotEligible.selector, module, reason));
        vm.prank(buyer);
        sale.buy(_purchase(euro, 100));
    }

    /* SUCCESS */

    function test_success_delivers_by_lockup_and_pays_the_issuer() public {
        Offering sale = _open(_locked());
        _buy(sale, alice, euro, 1000);
        _buy(sale, bob, dollar, 300);
        assertEq(token.balanceOf(alice), 1000, "locked");
        vm.expectRevert(abi.encodeWithSelector(IOffering.OutcomeOpen.selector, OfferingStatus.PUBLIC_SALE));
        sale.claim(alice);
        _end(sale);
        assertEq(sale.claimable(alice), 0, "before the cliff");
        vm.expectRevert(abi.encodeWithSelector(IOffering.NothingDue.selector, alice));
        sale.claim(alice);
        vm.warp(NOW + 21 * DAY);
        assertEq(sale.claimable(alice), 50, "a tenth");
        vm.prank(stranger);
        sale.claim(alice);
        assertEq(token.balanceOf(alice), 1050, "sent by anybody, paid to the buyer");
        assertEq(sale.withdrawProceeds(address(euro)), 1000, "euro");
        assertEq(sale.withdrawProceeds(address(dollar)), 300, "dollar");
        assertEq(euro.balanceOf(treasury), 1000, "to the address of the terms");
        vm.warp(NOW + 500 * DAY);
        sale.claim(alice);
        sale.claim(bob);
        assertEq(token.balanceOf(alice), 1500, "all");
        assertEq(token.balanceOf(bob), 1100, "all");
        _is(sale, OfferingStatus.CLOSED, "closed");
        Allocation memory allocation = sale.allocationOf(alice);
        assertEq(allocation.bought, allocation.released, "released");
    }

    function test_claim_pays_the_successor() public {
        Offering sale = _open(_softCapped());
        _buy(sale, bob, euro, 1000);
        _end(sale);
        registry.recover(bob, address(0xB1));
        sale.claim(bob);
        assertEq(token.balanceOf(address(0xB1)), 500, "successor");
    }

    function test_success_and_refund_exclude_each_other() public {
        Offering sale = _open(_softCapped());
        _buy(sale, alice, euro, 1000);
        vm.expectRevert(abi.encodeWithSelector(IOffering.RefundNotOpen.selector, OfferingStatus.PUBLIC_SALE));
        sale.refund(alice, address(euro));
        vm.expectRevert(abi.encodeWithSelector(IOffering.SaleNotEnded.selector, NOW + 11 * DAY));
        sale.finalize();
        _end(sale);
        vm.expectRevert(abi.encodeWithSelector(IOffering.RefundNotOpen.selector, OfferingStatus.SUCCEEDED));
        sale.refund(alice, address(euro));
        vm.expectRevert(abi.encodeWithSelector(IOffering.SaleNotActive.selector, OfferingStatus.SUCCEEDED));
        sale.finalize();
    }

    /* REFUND */

    function test_a_missed_soft_cap_returns_every_currency() public {
        Offering sale = _open(_locked());
        _buy(sale, alice, euro, 200);
        _buy(sale, alice, dollar, 300);
        _end(sale);
        _is(sale, OfferingStatus.REFUNDING, "refunding");
        vm.expectRevert(abi.encodeWithSelector(IOffering.SoftCapNotMet.selector, 500, 200));
        sale.claim(alice);
        vm.expectRevert(abi.encodeWithSelector(IOffering.SoftCapNotMet.selector, 500, 200));
        sale.withdrawProceeds(address(euro));
        sale.refund(alice, address(euro));
        vm.prank(alice);
        sale.refund(alice, address(dollar));
        assertEq(euro.balanceOf(alice), 200, "euro");
        assertEq(dollar.balanceOf(alice), 300, "dollar");
        vm.expectRevert(abi.encodeWithSelector(IOffering.NothingDue.selector, alice));
        sale.refund(alice, address(euro));
        assertEq(sale.withdrawUnsold(), 1000, "all tokens are unsold");
        _is(sale, OfferingStatus.CLOSED, "closed");
    }

    function test_refund_of_one_currency_does_not_wait_for_another() public {
        BlockingCurrency blocking = new BlockingCurrency();
        OfferingTerms memory terms = _softCapped();
        terms.currencies[1].currency = address(blocking);
        Offering sale = _open(terms);
        _buy(sale, alice, euro, 200);
        _buy(sale, alice, blocking, 300);
        _end(sale);
        blocking.setBlocked(alice);
        vm.expectRevert(abi.encodeWithSelector(BlockingCurrency.Blocked.selector, alice));
        sale.refund(alice, address(blocking));
        sale.refund(alice, address(euro));
        assertEq(euro.balanceOf(alice), 200, "euro");
        assertEq(sale.paidBy(alice, address(blocking)), 300, "still owed");
    }

    function test_refund_pays_the_successor() public {
        Offering sale = _open(_softCapped());
        _buy(sale, bob, euro, 200);
        _end(sale);
        registry.recover(bob, address(0xB1));
        sale.refund(bob, address(euro));
        assertEq(euro.balanceOf(address(0xB1)), 200, "successor");
    }

    function test_refunding_sale_gives_up_only_what_exceeds_the_refunds() public {
        Offering sale = _open(_softCapped());
        _buy(sale, alice, euro, 200);
        euro.mint(address(sale), 7);
        _end(sale);
        assertEq(sale.withdrawProceeds(address(euro)), 7, "surplus");
        sale.refund(alice, address(euro));
        assertEq(euro.balanceOf(alice), 200, "refund");
    }

    /* WITHDRAWALS */

    function test_withdrawals_are_for_their_roles_and_moments() public {
        Offering sale = _open(_softCapped());
        _buy(sale, alice, euro, 1000);
        vm.expectRevert(abi.encodeWithSelector(IOffering.OutcomeOpen.selector, OfferingStatus.PUBLIC_SALE));
        sale.withdrawProceeds(address(euro));
        vm.expectRevert(abi.encodeWithSelector(IOffering.OutcomeOpen.selector, OfferingStatus.PUBLIC_SALE));
        sale.withdrawUnsold();
        _expectMissingRole(bob, AssetRoles.FUNDS);
        vm.prank(bob);
        sale.withdrawProceeds(address(euro));
        _expectMissingRole(bob, AssetRoles.SALE);
        vm.prank(bob);
        sale.withdrawUnsold();
    }

    function test_unsold_leaves_before_activation() public {
        Offering sale = Offering(addons.createOffering("sale", _offeringTerms()));
        _holder(address(sale));
        token.mint(address(sale), 1000);
        assertEq(sale.withdrawUnsold(), 1000, "never activated");
        assertEq(token.balanceOf(vault), 1000, "vault");
    }

    /* CREATION */

    function test_creation_is_at_the_predicted_address() public {
        OfferingTerms memory terms = _presold();
        address expected = addons.predictOffering(address(this), "one", terms);
        assertEq(addons.createOffering("one", terms), expected, "predicted");
        assertEq(Offering(expected).asset(), address(token), "asset");
        assertEq(Offering(expected).terms().currencies.length, 2, "terms");
        vm.expectRevert(abi.encodeWithSelector(IAddonFactory.AddonExists.selector, expected));
        addons.createOffering("one", terms);
    }

    function test_terms_must_make_sense() public {
        OfferingTerms memory t = _offeringTerms();
        t.proceedsTo = address(0);
        _refuse(t, "proceedsTo");
        t = _offeringTerms();
        t.unsoldTo = address(0);
        _refuse(t, "unsoldTo");
        t = _offeringTerms();
        t.end = t.start;
        _refuse(t, "end");
        (t.start, t.end) = (NOW - 9, NOW);
        _refuse(t, "end");
        t = _offeringTerms();
        t.hardCap = 0;
        _refuse(t, "hardCap");
        t.hardCap = 1 << 120;
        _refuse(t, "hardCap");
        t = _offeringTerms();
        t.softCap = 1001;
        _refuse(t, "softCap");
        t = _offeringTerms();
        t.minimum = 0;
        _refuse(t, "minimum");
        t.minimum = 601;
        _refuse(t, "maximum");
        t = _offeringTerms();
        t.maximum = 1001;
        _refuse(t, "maximum");
    }

    function test_presale_and_lockup_must_make_sense() public {
        OfferingTerms memory t = _presold();
        t.presale.end = t.start;
        _refuse(t, "presale");
        t.presale.end = t.end + 1;
        _refuse(t, "presale");
        t = _presold();
        t.presale.discountBps = 10_000;
        _refuse(t, "presale");
        t = _presold();
        t.presale.allowList = 0;
        _refuse(t, "presale");
        t = _offeringTerms();
        t.presale.discountBps = 1;
        _refuse(t, "presale");
        t = _offeringTerms();
        t.presale.allowList = TERMS;
        _refuse(t, "presale");
        t = _locked();
        t.lockup.start = t.end - 1;
        _refuse(t, "lockup");
        t = _locked();
        t.lockup.cliff = t.lockup.duration + 1;
        _refuse(t, "lockup");
        t.lockup.duration = 0;
        _refuse(t, "lockup");
        t = _offeringTerms();
        t.lockup.cliff = 1;
        _refuse(t, "lockup");
    }

    function test_currencies_must_make_sense() public {
        OfferingTerms memory t = _offeringTerms();
        t.currencies[1].currency = t.currencies[0].currency;
        _refuse(t, "currency");
        t.currencies[1].currency = address(token);
        _refuse(t, "currency");
        t.currencies[1].currency = alice;
        _refuse(t, "currency");
        t = _offeringTerms();
        t.currencies[1].price = 0;
        _refuse(t, "price");
        delete t.currencies;
        _refuse(t, "currencies");
    }

    function _refuse(OfferingTerms memory terms, bytes32 field) private {
        _expectInvalidTerms(field);
        addons.createOffering("bad", terms);
    }
}
