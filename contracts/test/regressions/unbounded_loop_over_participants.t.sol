// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Offering} from "../../src/Offering.sol";
import {IServicing} from "../../src/interfaces/IServicing.sol";
import {OfferingTerms} from "../../src/interfaces/IOffering.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";

/// @notice unbounded_loop_over_participants: what one act costs must not grow with how many others take part.
contract UnboundedLoopOverParticipantsTest is AddonFixture {
    uint256 private constant CROWD = 60;
    /// One cold read per participant would cost 126,000.
    uint256 private constant NOISE = 5000;

    function _gas() private view returns (uint256) {
        return vm.lastCallGas().gasTotalUsed;
    }

    function test_a_purchase_costs_the_same_after_many_buyers() public {
        OfferingTerms memory terms = _offeringTerms();
        Offering sale = _offering(terms);
        vm.warp(terms.start);
        address[] memory buyers = new address[](CROWD);
        for (uint256 i; i < CROWD; ++i) {
            buyers[i] = _wallet(i);
        }
        _buy(sale, alice, euro, 20);
        _buy(sale, buyers[0], euro, 20);
        uint256 second = _gas();
        for (uint256 i = 1; i < CROWD; ++i) {
            _buy(sale, buyers[i], euro, 20);
        }
        assertLe(_gas(), second + NOISE, "the sixtieth buyer");
    }

    function test_a_payout_and_the_opening_of_it_cost_the_same_with_many_holders() public {
        uint256[2] memory opened;
        uint256[2] memory paid;
        for (uint256 round; round < 2; ++round) {
            if (round == 1) {
                for (uint256 i; i < CROWD; ++i) {
                    token.mint(_wallet(i), 10);
                }
            }
            (opened[round], paid[round]) = _payOut(round);
        }
        assertLe(opened[1], opened[0] + NOISE, "opening");
        assertLe(paid[1], paid[0] + NOISE, "paying one");
    }

    function _payOut(uint256 round) private returns (uint256 opened, uint256 paid) {
        IServicing s = IServicing(addons.createServicing(bytes32(round), _servicingTerms()));
        if (round == 1) compliance.removeModule(compliance.getModules()[0]);
        _attach(s);
        uint48 date = uint48(NOW + 10 * (round + 1));
        token.addRecordDate(date);
        vm.warp(date + 1);
        euro.mint(address(s), 10_000);
        uint256 id = s.distribute(address(euro), date, 10_000);
        opened = _gas();
        // Warm in both rounds: alice has been paid before and nothing of hers moves.
        euro.mint(alice, 1);
        s.claim(alice, _ids(id));
        paid = _gas();
    }
}
