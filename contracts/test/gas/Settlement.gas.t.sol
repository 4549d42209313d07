// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {Leg, Terms} from "../../src/interfaces/ISettlement.sol";
import {SettlementFixture} from "../SettlementFixture.sol";

contract PlainCurrency is ERC20 {
    constructor() ERC20("Plain", "PLN") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @notice Budgets of the design for two plain legs, and what two legs with one of our assets cost.
contract SettlementGasTest is SettlementFixture {
    PlainCurrency private _left;
    PlainCurrency private _right;

    function setUp() public override {
        super.setUp();
        (_left, _right) = (new PlainCurrency(), new PlainCurrency());
        for (uint256 i; i < 2; ++i) {
            address who = i == 0 ? alice : bob;
            _left.mint(who, 10_000);
            _right.mint(who, 10_000);
        }
    }

    function _plain() private view returns (Terms memory) {
        Leg[] memory legs = new Leg[](2);
        legs[0] = Leg(address(_left), alice, bob, 100, 0);
        legs[1] = Leg(address(_right), bob, alice, 5000, 0);
        return _terms(legs);
    }

    function _run(Terms memory terms, string memory kind, uint256[3] memory budgets) private {
        settlement.create(terms);
        assertLe(vm.snapshotGasLastCall("settlement", string.concat("create.", kind)), budgets[0], "create");
        _approve(terms, alice);
        vm.startPrank(bob);
        PlainCurrency(terms.legs[1].asset).approve(address(settlement), 5000);
        settlement.approve(terms);
        uint256 approved = vm.snapshotGasLastCall("settlement", string.concat("approve.", kind));
        assertLe(approved, budgets[1], "approve");
        vm.stopPrank();
        settlement.execute(terms);
        assertLe(vm.snapshotGasLastCall("settlement", string.concat("execute.", kind)), budgets[2], "execute");
    }

    function test_gas_two_plain_legs() public {
        _run(_plain(), "plain", [uint256(115_000), 80_000, 75_000]);
    }

    /// @dev Not in the budget table: the asset's leg is a transfer with every check it has.
    function test_gas_delivery_against_payment() public {
        Terms memory terms = _delivery(100, 5000);
        terms.legs[1].asset = address(_right);
        _run(terms, "delivery", [uint256(115_000), 80_000, 140_000]);
    }

    function test_gas_hold() public {
        Terms memory terms = _delivery(100, 5000);
        settlement.create(terms);
        vm.startPrank(alice);
        token.approve(address(settlement), 100);
        settlement.approve(terms);
        assertLe(vm.snapshotGasLastCall("settlement", "approve.hold"), 140_000, "hold");
        vm.stopPrank();
    }
}
