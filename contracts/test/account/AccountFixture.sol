// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC4337Utils, IEntryPointExtra} from "@openzeppelin/contracts/account/utils/ERC4337Utils.sol";
import {IEntryPoint, PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {SmartAccount} from "../../src/account/SmartAccount.sol";
import {SmartAccountFactory} from "../../src/account/SmartAccountFactory.sol";
import {AccountCall, AccountConfig, ISmartAccount, SignerSet} from "../../src/interfaces/ISmartAccount.sol";
import {TestBase} from "../Vm.sol";

/// @notice What an account is told to do.
contract Target {
    uint256 public number;
    address public caller;

    error TooLarge(uint256 number);

    function set(uint256 to) external payable {
        if (to > 100) revert TooLarge(to);
        (number, caller) = (to, msg.sender);
    }
}

/// @notice The canonical entry point v0.8, from the bytecode its authors publish, at the address it has on every chain, and an
/// account with three signers of weights 1, 1 and 2 of which 2 must sign.
abstract contract AccountFixture is TestBase {
    /// The deterministic deployer of that address, and the salt the entry point was deployed with.
    address private constant DEPLOYER = 0x4e59b44847b379578588920cA78FbF26c0B4956C;
    bytes private constant DEPLOYER_CODE =
        hex"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3";
    bytes32 private constant SALT = 0x0a59dbff790c23c976a548690c27297883cc66b4c67024f9117b0238995e35e9;

    uint32 internal constant DELAY = 2 days;

    IEntryPoint internal entryPoint = ERC4337Utils.ENTRYPOINT_V08;
    SmartAccountFactory internal factory;
    SmartAccount internal account;
    Target internal target;
    uint256[3] internal keys = [uint256(0xA1), 0xA2, 0xA3];
    address internal guardian = address(0x6A4D1A4);
    address internal sender = address(0x5E4DE4);

    error FailedOp(uint256 opIndex, string reason);

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        vm.etch(DEPLOYER, DEPLOYER_CODE);
        bytes memory code = vm.getCode("node_modules/@account-abstraction/contracts/artifacts/EntryPoint.json");
        (bool deployed,) = DEPLOYER.call(bytes.concat(SALT, code));
        assertTrue(deployed && address(entryPoint).code.length != 0, "not the canonical entry point");
        factory = new SmartAccountFactory(address(new SmartAccount(entryPoint)));
        account = SmartAccount(payable(factory.createAccount(_config(), 0)));
        target = new Target();
    }

    /* ACCOUNTS */

    function _config() internal view returns (AccountConfig memory config) {
        config.owners.signers = new bytes[](3);
        config.owners.weights = new uint64[](3);
        for (uint256 i; i < 3; ++i) {
            config.owners.signers[i] = _signer(keys[i]);
            config.owners.weights[i] = i == 2 ? 2 : 1;
        }
        config.owners.threshold = 2;
        config.guardian = guardian;
        config.recoveryDelay = DELAY;
    }

    function _owners(uint256 key, uint64 weight, uint64 threshold) internal pure returns (SignerSet memory set) {
        set.signers = new bytes[](1);
        set.signers[0] = _signer(key);
        set.weights = new uint64[](1);
        set.weights[0] = weight;
        set.threshold = threshold;
    }

    function _signer(uint256 key) internal pure returns (bytes memory) {
        return abi.encodePacked(vm.addr(key));
    }

    /* OPERATIONS */

    function _calls(address to, bytes memory data) internal pure returns (bytes memory) {
        AccountCall[] memory calls = new AccountCall[](1);
        calls[0] = AccountCall(to, 0, data);
        return abi.encodeCall(ISmartAccount.execute, (calls));
    }

    function _set(uint256 number) internal view returns (bytes memory) {
        return _calls(address(target), abi.encodeCall(Target.set, (number)));
    }

    function _operation(address from, uint192 nonceKey, bytes memory callData)
        internal
        view
        returns (PackedUserOperation memory operation)
    {
        operation.sender = from;
        operation.nonce = entryPoint.getNonce(from, nonceKey);
        operation.callData = callData;
        operation.accountGasLimits = bytes32((uint256(2_000_000) << 128) | 2_000_000);
    }

    function _hash(PackedUserOperation memory operation) internal view returns (bytes32) {
        return IEntryPointExtra(address(entryPoint)).getUserOpHash(operation);
    }

    function _by(bytes32 hash, uint256 first) internal pure returns (bytes memory) {
        uint256[] memory who = new uint256[](1);
        who[0] = first;
        return _by(hash, who);
    }

    function _by(bytes32 hash, uint256 first, uint256 second) internal pure returns (bytes memory) {
        uint256[] memory who = new uint256[](2);
        (who[0], who[1]) = (first, second);
        return _by(hash, who);
    }

    function _by(bytes32 hash, uint256[] memory who) internal pure returns (bytes memory) {
        bytes[] memory signers = new bytes[](who.length);
        bytes[] memory signatures = new bytes[](who.length);
        for (uint256 i; i < who.length; ++i) {
            signers[i] = _signer(who[i]);
            signatures[i] = _ecdsa(who[i], hash);
        }
        return abi.encode(signers, signatures);
    }

    function _ecdsa(uint256 key, bytes32 hash) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, hash);
        return abi.encodePacked(r, s, v);
    }

    /// @dev The entry point obeys only accounts without code that start the transaction.
    function _send(PackedUserOperation memory operation) internal {
        PackedUserOperation[] memory operations = new PackedUserOperation[](1);
        operations[0] = operation;
        vm.prank(sender, sender);
        entryPoint.handleOps(operations, payable(sender));
    }

    function _refused(PackedUserOperation memory operation, string memory why) internal {
        vm.expectRevert(abi.encodeWithSelector(FailedOp.selector, 0, why));
        _send(operation);
    }

    /// @dev Signed by the first two keys and sent.
    function _run(bytes memory callData) internal {
        PackedUserOperation memory operation = _operation(address(account), 0, callData);
        operation.signature = _by(_hash(operation), keys[0], keys[1]);
        _send(operation);
    }
}
