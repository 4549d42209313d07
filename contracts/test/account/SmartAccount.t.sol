// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Account as ERC4337Account} from "@openzeppelin/contracts/account/Account.sol";
import {PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {
    MultiSignerERC7913Upgradeable as MultiSigner
} from "@openzeppelin/contracts-upgradeable/utils/cryptography/signers/MultiSignerERC7913Upgradeable.sol";
import {
    MultiSignerERC7913WeightedUpgradeable as WeightedSigner
} from "@openzeppelin/contracts-upgradeable/utils/cryptography/signers/MultiSignerERC7913WeightedUpgradeable.sol";
import {SmartAccount} from "../../src/account/SmartAccount.sol";
import {AccountCall, AccountConfig, ISmartAccount, SignerSet} from "../../src/interfaces/ISmartAccount.sol";
import {AccountFixture, Target} from "./AccountFixture.sol";

contract SmartAccountTest is AccountFixture {
    /* OPERATIONS */

    function test_enough_weight_acts_through_the_canonical_entry_point() public {
        _run(_set(42));
        assertEq(target.number(), 42, "number");
        assertEq(target.caller(), address(account), "caller");
        assertEq(address(account.entryPoint()), address(entryPoint), "entry point");
    }

    function test_one_heavy_signer_is_enough() public {
        PackedUserOperation memory operation = _operation(address(account), 0, _set(7));
        operation.signature = _by(_hash(operation), keys[2]);
        _send(operation);
        assertEq(target.number(), 7, "number");
    }

    function testFuzz_an_operation_runs_exactly_when_the_weight_suffices(uint256 subset, uint256 threshold) public {
        subset = bound(subset, 0, 7);
        SignerSet memory owners = _config().owners;
        // forge-lint: disable-next-line(unsafe-typecast)
        owners.threshold = uint64(bound(threshold, 1, 4));
        _run(abi.encodeCall(ISmartAccount.setOwners, (owners)));

        uint256 count = (subset & 1) + ((subset >> 1) & 1) + (subset >> 2);
        uint256[] memory who = new uint256[](count);
        uint256 weight;
        for (uint256 i; i < 3; ++i) {
            if ((subset >> i) & 1 == 0) continue;
            who[--count] = keys[i];
            weight += owners.weights[i];
        }
        PackedUserOperation memory operation = _operation(address(account), 0, _set(9));
        operation.signature = _by(_hash(operation), who);
        if (weight >= owners.threshold) {
            _send(operation);
            assertEq(target.number(), 9, "must run");
        } else {
            _refused(operation, "AA24 signature error");
        }
    }

    function test_an_approval_ends_with_its_deadline() public {
        uint192 until = uint192(block.timestamp + 100) << 144;
        PackedUserOperation memory operation = _operation(address(account), until, _set(1));
        operation.signature = _by(_hash(operation), keys[0], keys[1]);
        vm.warp(1_800_000_101);
        _refused(operation, "AA22 expired or not due");
        vm.warp(1_800_000_100);
        _send(operation);
        assertEq(target.number(), 1, "in time");
    }

    function test_the_deadline_is_part_of_what_is_signed() public {
        PackedUserOperation memory operation =
            _operation(address(account), uint192(block.timestamp + 100) << 144, _set(1));
        operation.signature = _by(_hash(operation), keys[0], keys[1]);
        operation.nonce = entryPoint.getNonce(address(account), uint192(block.timestamp + 200) << 144);
        _refused(operation, "AA24 signature error");
    }

    function test_an_operation_runs_once() public {
        PackedUserOperation memory operation = _operation(address(account), 0, _set(1));
        operation.signature = _by(_hash(operation), keys[0], keys[1]);
        _send(operation);
        _refused(operation, "AA25 invalid account nonce");
    }

    function test_the_account_pays_for_its_operation_when_it_offers_to() public {
        vm.deal(address(account), 1 ether);
        PackedUserOperation memory operation = _operation(address(account), 0, _set(1));
        operation.gasFees = bytes32((uint256(1 gwei) << 128) | 1 gwei);
        operation.signature = _by(_hash(operation), keys[0], keys[1]);
        uint256 before = sender.balance;
        _send(operation);
        assertTrue(sender.balance > before, "paid");
    }

    function test_an_account_is_made_by_its_first_operation() public {
        AccountConfig memory config = _config();
        address next = factory.predict(config, bytes32(uint256(1)));
        PackedUserOperation memory operation = _operation(next, 0, _set(5));
        operation.initCode =
            abi.encodePacked(address(factory), abi.encodeCall(factory.createAccount, (config, bytes32(uint256(1)))));
        operation.signature = _by(_hash(operation), keys[0], keys[1]);
        _send(operation);
        assertEq(target.caller(), next, "caller");
    }

    /* CALLS */

    function test_a_batch_is_all_or_nothing_and_shows_the_callees_error() public {
        AccountCall[] memory calls = new AccountCall[](2);
        calls[0] = AccountCall(address(target), 0, abi.encodeCall(Target.set, (1)));
        calls[1] = AccountCall(address(target), 0, abi.encodeCall(Target.set, (101)));
        vm.prank(address(entryPoint));
        vm.expectRevert(abi.encodeWithSelector(Target.TooLarge.selector, 101));
        account.execute(calls);
        assertEq(target.number(), 0, "nothing stays");
    }

    function test_value_goes_where_it_is_sent() public {
        vm.deal(address(account), 3);
        AccountCall[] memory calls = new AccountCall[](2);
        calls[0] = AccountCall(address(target), 1, abi.encodeCall(Target.set, (1)));
        calls[1] = AccountCall(address(0xE0A), 2, "");
        vm.prank(address(entryPoint));
        account.execute(calls);
        assertEq(address(0xE0A).balance, 2, "plain account");
        assertEq(address(target).balance, 1, "contract");
    }

    function test_only_the_entry_point_and_the_account_itself() public {
        bytes memory why = abi.encodeWithSelector(ERC4337Account.AccountUnauthorized.selector, guardian);
        vm.startPrank(guardian);
        vm.expectRevert(why);
        account.execute(new AccountCall[](0));
        vm.expectRevert(why);
        account.setOwners(_owners(keys[0], 1, 1));
        vm.expectRevert(why);
        account.setGuardian(address(0), 0);
        PackedUserOperation memory operation = _operation(address(account), 0, _set(1));
        vm.expectRevert(why);
        account.validateUserOp(operation, 0, 0);
        vm.stopPrank();
    }

    /* OWNERS */

    function test_signers_replace_themselves_as_a_whole() public {
        SignerSet memory owners = _config().owners;
        owners.signers[0] = _signer(0xB1);
        owners.weights[1] = 3;
        owners.threshold = 3;
        _run(abi.encodeCall(ISmartAccount.setOwners, (owners)));
        assertTrue(!account.isSigner(_signer(keys[0])), "removed");
        assertTrue(account.isSigner(_signer(0xB1)), "added");
        assertEq(account.signerWeight(_signer(keys[1])), 3, "weight");
        assertEq(account.threshold(), 3, "threshold");
        assertEq(account.totalWeight(), 6, "total");
        assertEq(account.getSignerCount(), 3, "count");
    }

    /// @dev The threshold must be reachable at each step on the way, also when all weights fall under the one of before.
    function test_weights_and_threshold_may_fall_together() public {
        _run(abi.encodeCall(ISmartAccount.setOwners, (_owners(keys[0], 9, 9))));
        SignerSet memory owners = _owners(keys[0], 1, 1);
        vm.prank(guardian);
        account.startRecovery(owners);
        vm.warp(1_800_000_000 + DELAY);
        account.finishRecovery(owners);
        assertEq(account.threshold(), 1, "by a recovery");
        vm.startPrank(address(entryPoint));
        account.setOwners(_owners(keys[0], 9, 9));
        account.setOwners(_owners(keys[0], 4, 3));
        vm.stopPrank();
        assertEq(account.threshold(), 3, "by the signers");
        assertEq(account.totalWeight(), 4, "weight");
    }

    function test_a_self_call_inside_a_batch_may_change_owners() public {
        _run(_calls(address(account), abi.encodeCall(ISmartAccount.setOwners, (_owners(0xB1, 1, 1)))));
        assertEq(account.getSignerCount(), 1, "count");
    }

    function test_signer_sets_that_are_refused() public {
        SignerSet memory owners = _owners(keys[0], 1, 2);
        _refusedOwners(
            owners, abi.encodeWithSelector(MultiSigner.MultiSignerERC7913UnreachableThreshold.selector, 1, 2)
        );
        owners.threshold = 0;
        _refusedOwners(owners, abi.encodeWithSelector(MultiSigner.MultiSignerERC7913ZeroThreshold.selector));
        owners = _owners(keys[0], 0, 1);
        _refusedOwners(
            owners,
            abi.encodeWithSelector(
                WeightedSigner.MultiSignerERC7913WeightedInvalidWeight.selector, owners.signers[0], 0
            )
        );
        owners.weights = new uint64[](2);
        _refusedOwners(
            owners, abi.encodeWithSelector(WeightedSigner.MultiSignerERC7913WeightedMismatchedLength.selector)
        );
        owners = _owners(keys[0], 1, 1);
        owners.signers[0] = hex"1234";
        _refusedOwners(owners, abi.encodeWithSelector(MultiSigner.MultiSignerERC7913InvalidSigner.selector, hex"1234"));
        bytes[4] memory unsound = [
            abi.encodePacked(address(0)),
            abi.encodePacked(address(4)),
            abi.encodePacked(address(account)),
            abi.encodePacked(vm.addr(0xB1), bytes32(uint256(1)))
        ];
        for (uint256 i; i < unsound.length; ++i) {
            owners.signers[0] = unsound[i];
            _refusedOwners(owners, abi.encodeWithSelector(ISmartAccount.SignerInvalid.selector, unsound[i]));
        }
    }

    function test_there_are_at_most_32_signers() public {
        SignerSet memory owners;
        owners.signers = new bytes[](33);
        owners.weights = new uint64[](33);
        for (uint256 i; i < 33; ++i) {
            owners.signers[i] = _signer(0x1000 + i);
            owners.weights[i] = 1;
        }
        owners.threshold = 1;
        _refusedOwners(owners, abi.encodeWithSelector(ISmartAccount.SignersTooMany.selector, 33));
    }

    /* RECOVERY */

    function test_the_guardian_replaces_lost_signers_after_the_delay() public {
        SignerSet memory owners = _owners(0xB1, 1, 1);
        vm.prank(guardian);
        vm.expectEmit(true, true, true, true, address(account));
        emit ISmartAccount.RecoveryStarted(owners, 1_800_000_000 + DELAY);
        account.startRecovery(owners);
        (, uint32 delay, uint256 readyAt) = account.recovery();
        assertEq(delay, DELAY, "delay");
        assertEq(readyAt, 1_800_000_000 + DELAY, "ready");
        vm.warp(1_800_000_000 + DELAY - 1);
        vm.expectRevert(abi.encodeWithSelector(ISmartAccount.RecoveryTooEarly.selector, readyAt));
        account.finishRecovery(owners);
        vm.warp(1_800_000_000 + DELAY);
        vm.expectRevert(ISmartAccount.RecoveryMismatch.selector);
        account.finishRecovery(_owners(0xB2, 1, 1));
        account.finishRecovery(owners);
        assertEq(account.getSignerCount(), 1, "count");
        assertTrue(account.isSigner(_signer(0xB1)), "new signer");
        (,, readyAt) = account.recovery();
        assertEq(readyAt, 0, "done");
        vm.expectRevert(ISmartAccount.RecoveryNotPending.selector);
        account.finishRecovery(owners);

        PackedUserOperation memory operation = _operation(address(account), 0, _set(3));
        operation.signature = _by(_hash(operation), keys[0], keys[1]);
        _refused(operation, "AA24 signature error");
        operation.signature = _by(_hash(operation), 0xB1);
        _send(operation);
    }

    function test_present_signers_cancel_a_recovery_they_did_not_ask_for() public {
        SignerSet memory owners = _owners(0xB1, 1, 1);
        vm.prank(guardian);
        account.startRecovery(owners);
        _run(abi.encodeCall(ISmartAccount.cancelRecovery, ()));
        vm.warp(1_800_000_000 + DELAY);
        vm.expectRevert(ISmartAccount.RecoveryNotPending.selector);
        account.finishRecovery(owners);
    }

    function test_the_guardian_corrects_itself() public {
        vm.startPrank(guardian);
        vm.expectRevert(ISmartAccount.RecoveryNotPending.selector);
        account.cancelRecovery();
        account.startRecovery(_owners(0xB1, 1, 1));
        vm.expectRevert(abi.encodeWithSelector(ISmartAccount.RecoveryPending.selector, 1_800_000_000 + DELAY));
        account.startRecovery(_owners(0xB2, 1, 1));
        account.cancelRecovery();
        account.startRecovery(_owners(0xB2, 1, 1));
        vm.stopPrank();
    }

    function test_a_forgotten_recovery_lapses() public {
        SignerSet memory owners = _owners(0xB1, 1, 1);
        vm.prank(guardian);
        account.startRecovery(owners);
        vm.warp(1_800_000_000 + DELAY + 30 days + 1);
        vm.expectRevert(ISmartAccount.RecoveryNotPending.selector);
        account.finishRecovery(owners);
        vm.prank(guardian);
        account.startRecovery(owners);
    }

    function test_a_new_guardian_ends_what_the_old_one_started() public {
        vm.prank(guardian);
        account.startRecovery(_owners(0xB1, 1, 1));
        _run(abi.encodeCall(ISmartAccount.setGuardian, (address(0xB0B), 3 days)));
        (address now_, uint32 delay, uint256 readyAt) = account.recovery();
        assertEq(now_, address(0xB0B), "guardian");
        assertEq(delay, 3 days, "delay");
        assertEq(readyAt, 0, "ended");
        vm.prank(guardian);
        vm.expectRevert(abi.encodeWithSelector(ISmartAccount.NotGuardian.selector, guardian));
        account.startRecovery(_owners(0xB1, 1, 1));
    }

    function test_strangers_neither_start_nor_cancel() public {
        vm.startPrank(sender);
        vm.expectRevert(abi.encodeWithSelector(ISmartAccount.NotGuardian.selector, sender));
        account.startRecovery(_owners(0xB1, 1, 1));
        vm.expectRevert(abi.encodeWithSelector(ERC4337Account.AccountUnauthorized.selector, sender));
        account.cancelRecovery();
        vm.stopPrank();
    }

    function test_guardians_that_are_refused() public {
        _refusedGuardian(guardian, 1 days - 1);
        _refusedGuardian(guardian, 365 days + 1);
        _refusedGuardian(address(account), 2 days);
        _refusedGuardian(address(0), 1);
        vm.prank(address(entryPoint));
        account.setGuardian(address(0), 0);
        vm.prank(guardian);
        vm.expectRevert(abi.encodeWithSelector(ISmartAccount.NotGuardian.selector, guardian));
        account.startRecovery(_owners(0xB1, 1, 1));
    }

    /* ERC-1271 */

    function test_the_account_signs_for_others_and_for_itself_alone() public {
        bytes32 hash = keccak256("a settlement");
        bytes memory signature = _by(_message(address(account), hash), keys[0], keys[1]);
        assertEq(bytes32(account.isValidSignature(hash, signature)), bytes32(bytes4(0x1626ba7e)), "valid");
        SmartAccount twin = SmartAccount(payable(factory.createAccount(_config(), bytes32(uint256(1)))));
        assertEq(bytes32(twin.isValidSignature(hash, signature)), bytes32(bytes4(0xffffffff)), "twin");
        signature = _by(_message(address(account), hash), keys[0]);
        assertEq(bytes32(account.isValidSignature(hash, signature)), bytes32(bytes4(0xffffffff)), "weight");
        assertEq(bytes32(account.isValidSignature(hash, "")), bytes32(bytes4(0xffffffff)), "empty");
    }

    function test_an_account_may_be_a_signer_of_another() public {
        SignerSet memory owners = _owners(keys[0], 1, 1);
        owners.signers[0] = abi.encodePacked(address(account));
        AccountConfig memory config = AccountConfig(owners, address(0), 0);
        address parent = factory.createAccount(config, 0);
        PackedUserOperation memory operation = _operation(parent, 0, _set(8));
        bytes[] memory signatures = new bytes[](1);
        signatures[0] = _by(_message(address(account), _hash(operation)), keys[0], keys[1]);
        operation.signature = abi.encode(owners.signers, signatures);
        _send(operation);
        assertEq(target.caller(), parent, "caller");
    }

    /* FACTORY */

    function test_nobody_initializes_again_nor_the_implementation() public {
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        account.initialize(_config());
        SmartAccount implementation = SmartAccount(payable(factory.IMPLEMENTATION()));
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        implementation.initialize(_config());
    }

    /* HELPERS */

    function _message(address of_, bytes32 hash) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("SmartAccount"),
                keccak256("1"),
                block.chainid,
                of_
            )
        );
        bytes32 document = keccak256(abi.encode(keccak256("AccountMessage(bytes32 hash)"), hash));
        return keccak256(abi.encodePacked(hex"1901", domain, document));
    }

    function _refusedOwners(SignerSet memory owners, bytes memory why) private {
        vm.prank(address(entryPoint));
        vm.expectRevert(why);
        account.setOwners(owners);
    }

    function _refusedGuardian(address who, uint32 delay) private {
        vm.prank(address(entryPoint));
        vm.expectRevert(abi.encodeWithSelector(ISmartAccount.GuardianInvalid.selector, who, delay));
        account.setGuardian(who, delay);
    }
}
