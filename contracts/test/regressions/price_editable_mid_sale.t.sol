// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Offering} from "../../src/Offering.sol";
import {OfferingTerms} from "../../src/interfaces/IOffering.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";

/// @notice price_editable_mid_sale: the issuer raised the price between a buyer's signature and its transaction.
contract PriceEditableMidSaleTest is AddonFixture {
    function test_no_storage_write_of_a_running_sale_reaches_its_terms() public {
        OfferingTerms memory terms = _offeringTerms();
        Offering sale = _offering(terms);
        vm.warp(terms.start);
        // The terms are code: overwriting storage, which no function can do, does not change them either.
        for (uint256 slot; slot < 16; ++slot) {
            vm.store(address(sale), bytes32(slot), bytes32(type(uint256).max));
        }
        assertEq(keccak256(abi.encode(sale.terms())), keccak256(abi.encode(terms)), "terms");
        (uint256 tokens,) = sale.quote(address(euro), 200);
        assertEq(tokens, 100, "price");
    }

    function test_the_address_of_a_sale_commits_to_its_terms() public {
        OfferingTerms memory terms = _offeringTerms();
        address first = addons.predictOffering(address(this), "sale", terms);
        terms.currencies[0].price += 1;
        assertTrue(addons.predictOffering(address(this), "sale", terms) != first, "other terms, other sale");
    }
}
