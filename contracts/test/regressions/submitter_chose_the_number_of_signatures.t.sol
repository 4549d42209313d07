// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {ISmartAccount} from "../../src/interfaces/ISmartAccount.sol";
import {AccountFixture} from "../account/AccountFixture.sol";

/// @notice submitter_chose_the_number_of_signatures: seen in a public vault: how many signatures were needed came with the request, so a single signer was enough. Here the
/// threshold stands in storage and nothing in an operation or its signature lowers it.
contract SubmitterChoseTheNumberOfSignatures is AccountFixture {
    function _attack(bytes memory signature) private {
        PackedUserOperation memory operation = _operation(address(account), 0, _set(1));
        operation.signature = signature;
        _refused(operation, "AA24 signature error");
        assertEq(target.number(), 0, "ran");
    }

    function _digest() private view returns (bytes32) {
        return _hash(_operation(address(account), 0, _set(1)));
    }

    function test_no_signature_is_not_enough() public {
        _attack("");
        _attack(abi.encode(new bytes[](0), new bytes[](0)));
    }

    function test_one_light_signature_is_not_enough() public {
        _attack(_by(_digest(), keys[0]));
    }

    function test_the_same_signer_twice_is_not_enough() public {
        _attack(_by(_digest(), keys[0], keys[0]));
    }

    function test_a_signer_and_a_stranger_are_not_enough() public {
        _attack(_by(_digest(), keys[0], 0xBAD));
    }

    function test_one_signature_under_two_names_is_not_enough() public {
        bytes[] memory signers = new bytes[](2);
        bytes[] memory signatures = new bytes[](2);
        (signers[0], signers[1]) = (_signer(keys[0]), _signer(keys[1]));
        (signatures[0], signatures[1]) = (_ecdsa(keys[0], _digest()), _ecdsa(keys[0], _digest()));
        _attack(abi.encode(signers, signatures));
        _attack(abi.encode(signers, new bytes[](0)));
    }

    function test_a_threshold_in_the_signature_is_ignored() public {
        bytes32 digest = _digest();
        bytes[] memory signers = new bytes[](1);
        bytes[] memory signatures = new bytes[](1);
        (signers[0], signatures[0]) = (_signer(keys[0]), _ecdsa(keys[0], digest));
        _attack(abi.encode(signers, signatures, uint256(1)));
    }

    function test_a_removed_signer_does_not_count() public {
        _run(abi.encodeCall(ISmartAccount.setOwners, (_owners(keys[2], 2, 2))));
        _attack(_by(_digest(), keys[0], keys[1]));
    }

    function test_signatures_for_another_operation_do_not_count() public {
        _attack(_by(_hash(_operation(address(account), 0, _set(2))), keys[0], keys[1]));
    }
}
