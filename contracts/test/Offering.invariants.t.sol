// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../src/AssetToken.sol";
import {Offering} from "../src/Offering.sol";
import {Allocation, OfferingStatus, OfferingTerms, Purchase} from "../src/interfaces/IOffering.sol";
import {AssetRoles} from "../src/Roles.sol";
import {TestBase} from "./Vm.sol";
import {AddonFixture} from "./addons/AddonFixture.sol";
import {Currency} from "./addons/Currencies.sol";

/// @notice Random buying, pausing, finalizing, claiming, refunding and withdrawing by everybody while time passes. Keeps its own
/// books of what the buyers paid and received.
contract OfferingWalk is TestBase {
    AssetToken private immutable TOKEN;
    Offering private immutable SALE;
    Currency[2] private _currencies;
    address[] private _buyers;
    uint256 private _now = 1_800_000_000 + 1 days;

    mapping(address buyer => mapping(Currency => uint256)) public spent;
    mapping(address buyer => mapping(Currency => uint256)) public returned;
    mapping(Currency => uint256) public proceeds;
    uint256 public unsold;

    constructor(AssetToken token, Offering sale, Currency[2] memory currencies, address[] memory buyers) {
        (TOKEN, SALE, _currencies, _buyers) = (token, sale, currencies, buyers);
    }

    function _buyer(uint256 seed) private view returns (address) {
        return _buyers[seed % _buyers.length];
    }

    function buy(uint256 who, uint256 which, uint256 payment) external {
        address buyer = _buyer(who);
        Currency currency = _currencies[which % 2];
        payment %= 700;
        currency.mint(buyer, payment);
        vm.prank(buyer);
        currency.approve(address(SALE), payment);
        Purchase memory purchase;
        (purchase.currency, purchase.payment) = (address(currency), payment);
        vm.prank(buyer);
        (, uint256 cost) = SALE.buy(purchase);
        spent[buyer][currency] += cost;
    }

    function claim(uint256 who) external {
        SALE.claim(_buyer(who));
    }

    function refund(uint256 who, uint256 which) external {
        Currency currency = _currencies[which % 2];
        returned[_buyer(who)][currency] += SALE.refund(_buyer(who), address(currency));
    }

    function withdrawProceeds(uint256 which) external {
        Currency currency = _currencies[which % 2];
        proceeds[currency] += SALE.withdrawProceeds(address(currency));
    }

    function withdrawUnsold() external {
        unsold += SALE.withdrawUnsold();
    }

    function finalize() external {
        SALE.finalize();
    }

    function pause(bool on) external {
        SALE.pause(on);
    }

    function pass(uint256 seconds_) external {
        _now += seconds_ % 2 days;
        vm.warp(_now);
    }
}

/// forge-config: ci.invariant.runs = 96
contract OfferingInvariants is AddonFixture {
    Offering private _sale;
    OfferingWalk private _walk;
    address[] private _buyers;

    function setUp() public override {
        super.setUp();
        for (uint256 i; i < 4; ++i) {
            _buyers.push(_wallet(i));
        }
        OfferingTerms memory terms = _offeringTerms();
        terms.softCap = 500;
        terms.maximum = 400;
        (terms.lockup.start, terms.lockup.cliff, terms.lockup.duration) = (terms.end, DAY, 10 * DAY);
        _sale = _offering(terms);
        _walk = new OfferingWalk(token, _sale, [euro, dollar], _buyers);
        token.grant(address(_walk), AssetRoles.ALL);
        vm.warp(terms.start);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_walk);
    }

    function invariant_sold_tokens_are_there_and_money_has_one_way() public view {
        (uint256 total, uint256 owed) = _sale.sold();
        (uint256 bought, uint256 received) = _books();
        assertEq(total, bought, "sold = sum of allocations");
        assertLe(total, 1000, "within the hard cap");
        assertLe(owed, token.balanceOf(address(_sale)), "sold tokens are there");
        assertEq(token.balanceOf(address(_sale)) + received + _walk.unsold(), 1000, "tokens are conserved");
        _money(euro);
        _money(dollar);
        OfferingStatus status = _sale.status();
        if (received != 0) {
            assertTrue(status == OfferingStatus.SUCCEEDED || status == OfferingStatus.CLOSED, "success");
        }
    }

    function _books() private view returns (uint256 bought, uint256 received) {
        for (uint256 i; i < _buyers.length; ++i) {
            Allocation memory allocation = _sale.allocationOf(_buyers[i]);
            bought += allocation.bought;
            assertEq(token.balanceOf(_buyers[i]), allocation.released, "received = released");
            assertLe(allocation.released, allocation.bought, "at most what was bought");
            assertLe(allocation.bought, 400, "within the investor's limit");
            received += allocation.released;
        }
    }

    function _money(Currency currency) private view {
        uint256 spent;
        uint256 returned;
        for (uint256 i; i < _buyers.length; ++i) {
            spent += _walk.spent(_buyers[i], currency);
            returned += _walk.returned(_buyers[i], currency);
            assertLe(_walk.returned(_buyers[i], currency), _walk.spent(_buyers[i], currency), "own money only");
        }
        uint256 proceeds = _walk.proceeds(currency);
        assertEq(currency.balanceOf(address(_sale)) + returned + proceeds, spent, "money is conserved");
        assertEq(currency.balanceOf(address(_sale)), _sale.collected(address(currency)), "booked");
        assertTrue(proceeds == 0 || returned == 0, "proceeds or refunds");
    }
}
