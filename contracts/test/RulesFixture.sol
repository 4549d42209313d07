// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IIdentity} from "../src/interfaces/IIdentity.sol";
import {IRule} from "../src/interfaces/IRule.sol";
import {RuleConfig} from "../src/interfaces/ITokenCompliance.sol";
import {ApprovalRule} from "../src/rules/ApprovalRule.sol";
import {CollateralRule} from "../src/rules/CollateralRule.sol";
import {CountryLimit, HolderLimitRule} from "../src/rules/HolderLimitRule.sol";
import {HoldingPeriodRule} from "../src/rules/HoldingPeriodRule.sol";
import {IssuanceLimit, IssuanceRule} from "../src/rules/IssuanceRule.sol";
import {ListEntry, ListRule} from "../src/rules/ListRule.sol";
import {TransferLimitRule, VolumeLimit} from "../src/rules/TransferLimitRule.sol";
import {Fixture} from "./Fixture.sol";

/// @notice The tenant with every rule singleton and a few more people.
abstract contract RulesFixture is Fixture {
    ListRule internal listRule;
    HolderLimitRule internal holderLimitRule;
    IssuanceRule internal issuanceRule;
    HoldingPeriodRule internal holdingPeriodRule;
    ApprovalRule internal approvalRule;
    TransferLimitRule internal transferLimitRule;
    CollateralRule internal collateralRule;

    /// A second wallet of alice.
    address internal alice2 = address(0xA2);
    address internal dave = address(0xDA);

    function setUp() public virtual override {
        super.setUp();
        listRule = new ListRule();
        holderLimitRule = new HolderLimitRule();
        issuanceRule = new IssuanceRule();
        holdingPeriodRule = new HoldingPeriodRule();
        approvalRule = new ApprovalRule();
        transferLimitRule = new TransferLimitRule();
        collateralRule = new CollateralRule();
        _secondWallet(alice, alice2);
        _investor(carol, US);
        _investor(dave, FR);
    }

    /// @dev Registers another wallet of an investor and gives it a MANAGEMENT key, so that it may also take over.
    function _secondWallet(address first, address second) internal {
        address identity = registry.identity(first);
        registry.registerIdentity(second, identity, registry.investorCountry(first));
        vm.prank(first);
        IIdentity(identity).addKey(keccak256(abi.encode(second)), 1, 1);
    }

    /// @dev The whole recovery: registration, then balance.
    function _recover(address lost, address next) internal {
        address identity = registry.identity(lost);
        registry.recover(lost, next);
        token.recoveryAddress(lost, next, identity);
    }

    function _send(address from, address to, uint256 amount) internal {
        vm.prank(from);
        token.transfer(to, amount);
    }

    function _refused(address from, address to, uint256 amount, IRule rule, bytes32 reason) internal {
        _expectPreviewed(from, to, amount, address(rule), reason);
        if (from == address(0)) {
            token.mint(to, amount);
        } else {
            vm.prank(from);
            token.transfer(to, amount);
        }
    }

    function _expectInvalid(bytes32 field) internal {
        vm.expectRevert(abi.encodeWithSelector(IRule.InvalidParams.selector, field));
    }

    /// @dev Both ways of asking give the same answer.
    function _invalid(IRule rule, bytes memory params, bytes32 field) internal {
        _expectInvalid(field);
        compliance.addModule(address(rule), params);
        if (field == "encoding") return;
        _expectInvalid(field);
        rule.validate(params);
    }

    /// @dev A token without holders whose only rule is this one, in place of the fixture's.
    function _fresh(IRule rule, bytes memory params) internal {
        RuleConfig[] memory rules = new RuleConfig[](1);
        rules[0] = RuleConfig(address(rule), params);
        (token, compliance) = _asset("FRESH", rules);
    }

    /* PARAMETERS */

    function _listParams(uint8 allowSides, uint8 blockSides) internal pure returns (bytes memory) {
        return abi.encode(allowSides, blockSides, new ListEntry[](0));
    }

    function _entry(address account, uint8 lists) internal pure returns (ListEntry[] memory entries) {
        entries = new ListEntry[](1);
        entries[0] = ListEntry(account, lists);
    }

    function _holders(uint32 max) internal pure returns (bytes memory) {
        return abi.encode(max, new CountryLimit[](0));
    }

    function _holders(uint32 max, uint16 country, uint32 ofCountry) internal pure returns (bytes memory) {
        CountryLimit[] memory countries = new CountryLimit[](1);
        countries[0] = CountryLimit(country, ofCountry);
        return abi.encode(max, countries);
    }

    function _noVolume() internal pure returns (VolumeLimit memory none) {}

    function _fixedVolume(uint32 length, uint48 start, uint128 max) internal pure returns (VolumeLimit memory) {
        return VolumeLimit({kind: 1, lengthSeconds: length, start: start, max: max});
    }

    function _rollingVolume(uint32 length, uint128 max) internal pure returns (VolumeLimit memory) {
        return VolumeLimit({kind: 2, lengthSeconds: length, start: 0, max: max});
    }

    function _issuance(IssuanceLimit memory limit) internal pure returns (bytes memory) {
        IssuanceLimit[] memory limits = new IssuanceLimit[](1);
        limits[0] = limit;
        return abi.encode(limits);
    }

    function _liveCap(uint128 max) internal pure returns (IssuanceLimit memory limit) {
        (limit.kind, limit.max) = (4, max);
    }

    function _lifetime(uint128 max) internal pure returns (IssuanceLimit memory limit) {
        (limit.kind, limit.max) = (3, max);
    }

    function _issuedWithin(uint8 kind, uint32 length, uint48 start, uint128 max)
        internal
        pure
        returns (IssuanceLimit memory limit)
    {
        (limit.kind, limit.max, limit.lengthSeconds, limit.start) = (kind, max, length, start);
    }
}
