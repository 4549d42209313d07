// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {Group, IRegistryAdministration, IRegistryErrors} from "../src/interfaces/IIdentityRegistryPolicy.sol";
import {ClaimExpression} from "../src/libraries/ClaimExpression.sol";
import {IdentityReasons} from "../src/libraries/IdentityReasons.sol";
import {IdentityFixture} from "./identity/IdentityFixture.sol";

contract IdentityRegistryTest is IdentityFixture {
    /* REGISTRY AND STORAGE */

    function test_merged_parts() public {
        assertEq(registry.identityStorage(), address(registry), "storage");
        assertEq(registry.issuersRegistry(), address(registry), "issuers");
        assertEq(registry.topicsRegistry(), address(registry), "topics");
        vm.startPrank(admin);
        registry.setIdentityRegistryStorage(address(registry));
        registry.setClaimTopicsRegistry(address(registry));
        registry.setTrustedIssuersRegistry(address(registry));
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryNotMerged.selector, stranger));
        registry.setClaimTopicsRegistry(stranger);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryNotMerged.selector, stranger));
        registry.setTrustedIssuersRegistry(stranger);
        vm.stopPrank();
    }

    function test_gas_of_the_transfer_question() public {
        setPolicy(Group(list(KYC), list()));
        uint256 before = gasleft();
        bool answer = registry.isVerifiedFor(token, holder);
        uint256 used = before - gasleft();
        assertTrue(answer, "verified");
        // Cold accesses included: the test contract touched none of these slots in this (isolated) call.
        assertLe(used, 45_000, "gas");
    }

    /* CLAIMS OF IDENTITIES THAT ARE NOT OURS */

    function test_what_a_foreign_identity_may_do_and_its_holder_is_still_not_verified() public {
        BrokenIdentity broken = new BrokenIdentity();
        vm.prank(manager);
        registry.registerIdentity(stranger, address(broken), 1);
        assertReason(stranger, IdentityReasons.CLAIM_MISSING);
        broken.breakWith(BrokenIdentity.Fault.CLAIMS);
        assertReason(stranger, IdentityReasons.CLAIM_MALFORMED);
        broken.breakWith(BrokenIdentity.Fault.LIST);
        assertReason(stranger, IdentityReasons.CLAIM_MISSING);
    }

    /// @dev When the question itself fails, absence is not shown either.
    function test_a_retired_topic_is_not_safely_absent() public {
        setPolicy(Group(list(KYC), list(SANCTIONED)));
        assertTrue(verified(holder), "before");
        vm.prank(policyManager);
        topics.removeTopicScheme("SANCTIONED");
        assertReason(holder, IdentityReasons.TOPIC_RETIRED);
    }

    function test_an_expression_needs_exactly_its_topics() public view {
        uint256 oneTopic = ClaimExpression.allOf(1);
        assertTrue(registry.satisfies(holder, oneTopic, list(KYC)), "its topic");
        assertTrue(!registry.satisfies(holder, oneTopic, list()), "too few");
        assertTrue(!registry.satisfies(holder, oneTopic, list(KYC, KYC)), "too many");
    }

    function test_interfaces_that_are_not_spoken() public view {
        assertTrue(!IERC165(address(registry)).supportsInterface(0xffffffff), "none");
        assertTrue(IERC165(address(registry)).supportsInterface(type(IRegistryAdministration).interfaceId), "ours");
    }
}

/// @notice An identity that fails where it is asked.
contract BrokenIdentity {
    enum Fault {
        NONE,
        CLAIMS,
        LIST
    }

    Fault private _fault;

    error Broken();

    function breakWith(Fault fault) external {
        _fault = fault;
    }

    function getClaim(bytes32)
        external
        view
        returns (uint256, uint256, address, bytes memory, bytes memory, string memory)
    {
        if (_fault == Fault.CLAIMS) revert Broken();
        return (0, 0, address(0), "", "", "");
    }

    function getClaimIdsByTopic(uint256) external view returns (bytes32[] memory) {
        if (_fault == Fault.LIST) revert Broken();
        return new bytes32[](0);
    }
}
