// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ManagementFee} from "../../src/features/ManagementFee.sol";
import {IAssetToken} from "../../src/interfaces/IAssetToken.sol";
import {IRule} from "../../src/interfaces/IRule.sol";
import {AssetRoles} from "../../src/Roles.sol";
import {ReasonCodes} from "../../src/Refusals.sol";
import {Fixture} from "../Fixture.sol";

/// @notice Says that it is an asset under a compliance that is not its own.
contract FalseAsset {
    address public immutable compliance;
    uint256 public totalSupply;

    constructor(address compliance_, uint256 supply) {
        (compliance, totalSupply) = (compliance_, supply);
    }

    function mint(address, uint256 amount) external {
        totalSupply += amount;
    }
}

contract ManagementFeeTest is Fixture {
    uint256 private constant T0 = 1_800_000_000;

    ManagementFee private yearly;

    function setUp() public override {
        super.setUp();
        _investor(carol, DE);
        yearly = new ManagementFee();
        token.grant(address(yearly), AssetRoles.SUPPLY);
    }

    function test_the_yearly_fee_accrues_on_the_supply_as_it_was() public {
        compliance.addModule(address(yearly), abi.encode(uint16(200), carol));
        token.mint(alice, 98_000);
        vm.warp(T0 + 182.5 days);
        token.burn(alice, 50_000);
        vm.warp(T0 + 365 days);
        // 2 % of 100,000 for half a year, then of 50,000.
        assertEq(yearly.accrued(token), 1500, "accrued");
        vm.prank(stranger);
        assertEq(yearly.collect(token), 1500, "collected");
        assertEq(token.balanceOf(carol), 1500, "minted to the collector");
        vm.expectRevert(ManagementFee.NothingAccrued.selector);
        yearly.collect(token);
        compliance.setModuleParams(address(yearly), abi.encode(uint16(100), bob));
        (uint16 bps, address collector) = yearly.paramsOf(address(compliance));
        assertEq(bps, 100, "rate");
        assertEq(collector, bob, "collector");
        compliance.removeModule(address(yearly));
        vm.expectRevert(ManagementFee.NothingAccrued.selector);
        yearly.collect(token);
    }

    function testFuzz_collecting_often_mints_no_more(uint256 seed) public {
        compliance.addModule(address(yearly), abi.encode(uint16(137), carol));
        token.mint(alice, 1_000_000);
        uint256 supply = token.totalSupply();
        uint256 time = T0;
        for (uint256 i; i < 12; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            time += 1 hours + seed % 30 days;
            vm.warp(time);
            (bool done,) = address(yearly).call(abi.encodeCall(yearly.collect, (token)));
            done;
        }
        uint256 minted = token.balanceOf(carol);
        assertLe(supply * 137 * (time - T0) / 10_000 / 365 days, minted + 1, "no less than simple interest");
        // The fee itself counts as supply from its minting on.
        assertLe(minted, (supply + minted) * 137 * (time - T0) / 10_000 / 365 days, "no more");
    }

    function test_nobody_collects_the_fee_for_another_token() public {
        compliance.addModule(address(yearly), abi.encode(uint16(200), carol));
        token.mint(alice, 98_000);
        vm.warp(T0 + 365 days);
        IAssetToken[2] memory impostors = [
            IAssetToken(address(new FalseAsset(address(compliance), 0))),
            IAssetToken(address(new FalseAsset(address(compliance), 1e30)))
        ];
        for (uint256 i; i < 2; ++i) {
            vm.expectRevert(ManagementFee.NothingAccrued.selector);
            yearly.collect(impostors[i]);
        }
        assertEq(yearly.collect(token), 2000, "the whole year's fee is still there");
    }

    function test_a_caller_follows_movements_for_itself_only() public {
        compliance.addModule(address(yearly), abi.encode(uint16(200), carol));
        token.mint(alice, 98_000);
        vm.warp(T0 + 365 days);
        yearly.moved(address(token), address(0), alice, 1);
        assertEq(yearly.accrued(token), 2000, "untouched");
    }

    function test_the_rate_and_the_collector_have_limits() public {
        bytes[3] memory bad =
            [abi.encode(uint16(0), carol), abi.encode(uint16(1001), carol), abi.encode(uint16(1), address(0))];
        bytes32[3] memory fields = [bytes32("yearlyBps"), "yearlyBps", "collector"];
        for (uint256 i; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IRule.InvalidParams.selector, fields[i]));
            compliance.addModule(address(yearly), bad[i]);
        }
    }

    function test_it_names_itself_and_judges_nothing() public view {
        assertEq(yearly.name(), "ManagementFee", "name");
        assertEq(yearly.check(_movement(alice, stranger, 1)), ReasonCodes.OK, "judges nothing");
    }

    function test_size_stays_in_budget() public view {
        assertLe(address(yearly).code.length, 12_288, "ManagementFee");
    }
}
