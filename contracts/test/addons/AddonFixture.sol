// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AddonFactory} from "../../src/AddonFactory.sol";
import {Distribution} from "../../src/Distribution.sol";
import {Offering} from "../../src/Offering.sol";
import {OfferingTerms, PaymentCurrency, Purchase} from "../../src/interfaces/IOffering.sol";
import {DistributionKind, DistributionTerms, Recipient} from "../../src/interfaces/IDistribution.sol";
import {Servicing} from "../../src/Servicing.sol";
import {CouponPlan, IServicing, ServicingTerms} from "../../src/interfaces/IServicing.sol";
import {IAddon} from "../../src/interfaces/IAddon.sol";
import {AssetRoles} from "../../src/Roles.sol";
import {Fixture} from "../Fixture.sol";
import {Currency} from "./Currencies.sol";
import {Merkle} from "./Merkle.sol";

/// @notice The tenant of `Fixture` with the factory of airdrops, sales and treasuries.
abstract contract AddonFixture is Fixture {
    uint64 internal constant NOW = 1_800_000_000;
    uint64 internal constant DAY = 1 days;

    AddonFactory internal addons;
    address internal vault = address(0x7A);
    address internal treasury = address(0x7B);
    Currency internal euro;
    Currency internal dollar;

    function setUp() public virtual override {
        super.setUp();
        address distribution = _deploy(type(Distribution).creationCode, "");
        address offering = _deploy(type(Offering).creationCode, "");
        address servicing = _deploy(type(Servicing).creationCode, "");
        bytes memory args = abi.encode(system, distribution, offering, servicing);
        addons = AddonFactory(_deploy(type(AddonFactory).creationCode, args));
        (euro, dollar) = (new Currency(), new Currency());
        _investor(vault, DE);
    }

    /// @dev Makes a contract a holder: an identity of its own, registered, with a live KYC claim.
    function _holder(address account) internal {
        address identity = identities.createFor(account, address(this));
        registry.registerIdentity(account, identity, DE);
        _claim(identity, kyc);
    }

    /// @dev A wallet that is verified and has a key of its own per seed.
    function _wallet(uint256 seed) internal returns (address wallet) {
        wallet = address(uint160(0xE0000 + seed));
        _investor(wallet, DE);
    }

    function _row(uint256 index, address account, uint256 amount) internal pure returns (Recipient memory) {
        return Recipient(index, account, amount);
    }

    function _distributionTerms(DistributionKind kind, bytes32 root)
        internal
        view
        returns (DistributionTerms memory terms)
    {
        terms.token = address(token);
        terms.leftoverTo = vault;
        terms.kind = kind;
        terms.roots = new bytes32[](1);
        terms.roots[0] = root;
        terms.start = NOW;
        terms.end = NOW + 30 * DAY;
        if (kind == DistributionKind.VESTING) (terms.cliff, terms.duration) = (10 * DAY, 100 * DAY);
    }

    /// @dev A distribution of `rows` that holds `funds` tokens.
    function _distribution(DistributionTerms memory terms, uint256 funds) internal returns (Distribution made) {
        made = Distribution(addons.createDistribution("airdrop", terms));
        _holder(address(made));
        token.mint(address(made), funds);
    }

    /// @dev 2 euro or 3 dollar for one token, 1,000 tokens from tomorrow for ten days, each investor 10 to 600.
    function _offeringTerms() internal view returns (OfferingTerms memory terms) {
        terms.token = address(token);
        terms.proceedsTo = treasury;
        terms.unsoldTo = vault;
        terms.start = NOW + DAY;
        terms.end = NOW + 11 * DAY;
        terms.hardCap = 1000;
        terms.minimum = 10;
        terms.maximum = 600;
        terms.currencies = new PaymentCurrency[](2);
        terms.currencies[0] = PaymentCurrency(address(euro), 2e18);
        terms.currencies[1] = PaymentCurrency(address(dollar), 3e18);
    }

    /// @dev An activated sale that holds its hard cap or may mint it.
    function _offering(OfferingTerms memory terms) internal returns (Offering made) {
        made = Offering(addons.createOffering("sale", terms));
        if (terms.minted) {
            token.grant(address(made), AssetRoles.SUPPLY);
        } else {
            _holder(address(made));
            token.mint(address(made), terms.hardCap);
        }
        made.activate();
    }

    function _purchase(Currency currency, uint256 payment) internal pure returns (Purchase memory purchase) {
        (purchase.currency, purchase.payment) = (address(currency), payment);
    }

    /// @dev Gives the buyer the money and buys for it.
    function _buy(Offering sale, address buyer, Currency currency, uint256 payment) internal {
        currency.mint(buyer, payment);
        vm.prank(buyer);
        currency.approve(address(sale), payment);
        vm.prank(buyer);
        sale.buy(_purchase(currency, payment));
    }

    /// @dev Matures in 1,000 days at 100 euro a token.
    function _servicingTerms() internal view returns (ServicingTerms memory terms) {
        terms.token = address(token);
        terms.sweepTo = vault;
        terms.currency = address(euro);
        terms.maturity = NOW + 1000 * DAY;
        terms.redemptionPrice = 100e18;
    }

    function _servicing(ServicingTerms memory terms) internal returns (IServicing made) {
        made = IServicing(addons.createServicing("servicing", terms));
        _attach(made);
    }

    /// @dev Gives a servicing its roles and its place among the rules.
    function _attach(IServicing made) internal {
        token.grant(address(made), AssetRoles.SUPPLY | AssetRoles.FUNDS);
        compliance.addModule(address(made), "");
    }

    /// @dev Three quarters of 90 days and a short period of 30, from tomorrow; 5 euro a token and quarter.
    function _plan() internal pure returns (CouponPlan memory plan) {
        plan.start = uint48(NOW + DAY);
        plan.end = uint48(NOW + 301 * DAY);
        plan.interval = uint32(90 * DAY);
        plan.rate = 5e18;
    }

    function _ids(uint256 id) internal pure returns (uint256[] memory one) {
        one = new uint256[](1);
        one[0] = id;
    }

    function _expectMissingRole(address caller, uint256 role) internal {
        vm.expectRevert(abi.encodeWithSelector(IAddon.MissingRole.selector, caller, role));
    }

    function _expectInvalidTerms(bytes32 field) internal {
        vm.expectRevert(abi.encodeWithSelector(IAddon.InvalidTerms.selector, field));
    }
}
