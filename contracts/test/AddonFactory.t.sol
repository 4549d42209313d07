// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../src/AssetToken.sol";
import {Offering} from "../src/Offering.sol";
import {DistributionKind, DistributionTerms} from "../src/interfaces/IDistribution.sol";
import {IAddon} from "../src/interfaces/IAddon.sol";
import {IAddonFactory} from "../src/interfaces/IAddonFactory.sol";
import {OfferingTerms} from "../src/interfaces/IOffering.sol";
import {ServicingTerms} from "../src/interfaces/IServicing.sol";
import {RuleConfig} from "../src/interfaces/ITokenCompliance.sol";
import {AssetRoles} from "../src/Roles.sol";
import {AddonFixture} from "./addons/AddonFixture.sol";

/// @notice What the three kinds have in common; their terms are tested with each of them.
contract AddonFactoryTest is AddonFixture {
    function _create(uint256 kind, bytes32 salt) private returns (address) {
        if (kind == 0) return addons.createDistribution(salt, _distributionTerms(DistributionKind.CLAIM, "root"));
        if (kind == 1) return addons.createOffering(salt, _offeringTerms());
        return addons.createServicing(salt, _servicingTerms());
    }

    function _predict(uint256 kind, address creator, bytes32 salt) private view returns (address) {
        if (kind == 0) {
            return addons.predictDistribution(creator, salt, _distributionTerms(DistributionKind.CLAIM, "root"));
        }
        if (kind == 1) return addons.predictOffering(creator, salt, _offeringTerms());
        return addons.predictServicing(creator, salt, _servicingTerms());
    }

    function test_each_kind_is_where_its_creator_salt_and_terms_say() public {
        for (uint256 kind; kind < 3; ++kind) {
            address planned = _predict(kind, address(this), "one");
            assertEq(_create(kind, "one"), planned, "planned");
            assertEq(IAddon(planned).asset(), address(token), "asset");
            assertTrue(_create(kind, "two") != planned, "another salt");
            assertTrue(_predict(kind, carol, "one") != planned, "another creator");
            vm.expectRevert(abi.encodeWithSelector(IAddonFactory.AddonExists.selector, planned));
            this.create(kind, "one");
        }
    }

    /// @dev So that `vm.expectRevert` meets the factory's call and not the reading of terms.
    function create(uint256 kind, bytes32 salt) external {
        _create(kind, salt);
    }

    function test_each_kind_is_the_asset_role_holders() public {
        uint256[3] memory roles = [AssetRoles.SALE, AssetRoles.SALE, AssetRoles.GOVERNANCE];
        for (uint256 kind; kind < 3; ++kind) {
            token.revoke(address(this), roles[kind]);
            vm.expectRevert(abi.encodeWithSelector(IAddon.MissingRole.selector, address(this), roles[kind]));
            this.create(kind, "one");
            token.grant(address(this), roles[kind]);
            this.create(kind, "one");
        }
    }

    function test_only_assets_of_ours_have_addons() public {
        DistributionTerms memory distribution = _distributionTerms(DistributionKind.CLAIM, "root");
        OfferingTerms memory offering = _offeringTerms();
        ServicingTerms memory servicing = _servicingTerms();
        address none = address(system);
        (distribution.token, offering.token, servicing.token) = (none, none, none);
        vm.expectRevert(abi.encodeWithSelector(IAddonFactory.NotAnAsset.selector, none));
        addons.createDistribution("one", distribution);
        vm.expectRevert(abi.encodeWithSelector(IAddonFactory.NotAnAsset.selector, none));
        addons.createOffering("one", offering);
        vm.expectRevert(abi.encodeWithSelector(IAddonFactory.NotAnAsset.selector, none));
        addons.createServicing("one", servicing);
    }

    function test_a_role_in_one_asset_is_none_in_another() public {
        (AssetToken other,) = _asset("OTHER", new RuleConfig[](0));
        token.grant(carol, AssetRoles.SALE);
        OfferingTerms memory terms = _offeringTerms();
        terms.token = address(other);
        vm.expectRevert(abi.encodeWithSelector(IAddon.MissingRole.selector, carol, AssetRoles.SALE));
        vm.prank(carol);
        addons.createOffering("one", terms);
    }

    function test_what_it_made_is_announced_with_its_terms() public {
        OfferingTerms memory terms = _offeringTerms();
        address planned = addons.predictOffering(address(this), "one", terms);
        vm.expectEmit(true, true, true, true, address(addons));
        emit IAddonFactory.OfferingCreated(planned, address(token), address(this), "one", terms);
        addons.createOffering("one", terms);
        assertEq(keccak256(abi.encode(Offering(planned).terms())), keccak256(abi.encode(terms)), "and holds them");
    }

    function test_size_stays_in_budget() public view {
        assertLe(address(addons).code.length, 12_288, "AddonFactory");
    }
}
