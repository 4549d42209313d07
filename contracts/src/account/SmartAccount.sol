// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Account as ERC4337Account} from "@openzeppelin/contracts/account/Account.sol";
import {ERC4337Utils} from "@openzeppelin/contracts/account/utils/ERC4337Utils.sol";
import {IEntryPoint, PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {
    MultiSignerERC7913WeightedUpgradeable
} from "@openzeppelin/contracts-upgradeable/utils/cryptography/signers/MultiSignerERC7913WeightedUpgradeable.sol";
import {AccountCall, AccountConfig, ISmartAccount, SignerSet} from "../interfaces/ISmartAccount.sol";

/// @title Smart account
/// @notice An ERC-4337 account on OpenZeppelin's account contracts. It acts only when present signers of enough weight signed the very
/// operation; the threshold stands in storage, so whoever submits decides nothing. The upper 48 bits of an operation's nonce are the second
/// until which the approval counts (zero: no end), so a deadline holds on chain and not only in the service that
/// collects the approvals.
/// Threat model: signers below the threshold can do nothing together. The guardian alone can do nothing at once: it announces new
/// signers, and the present ones have the whole delay to cancel.
contract SmartAccount is ISmartAccount, ERC4337Account, MultiSignerERC7913WeightedUpgradeable, EIP712, IERC1271 {
    /// @dev Bounds what a recovery walks through.
    uint256 private constant MAX_SIGNERS = 32;
    uint256 private constant MIN_DELAY = 1 days;
    uint256 private constant MAX_DELAY = 365 days;
    /// @dev How long a ready recovery can be finished; a forgotten one must not linger.
    uint256 private constant WINDOW = 30 days;
    /// @dev Precompiles and what chains reserve beside them: the identity precompile answers any ERC-1271 question with yes.
    uint160 private constant LAST_RESERVED = 0xffff;

    bytes32 private constant MESSAGE_TYPEHASH = keccak256("AccountMessage(bytes32 hash)");

    IEntryPoint private immutable _ENTRY_POINT;

    address private _guardian;
    uint32 private _recoveryDelay;
    uint64 private _readyAt;
    bytes32 private _announced;

    constructor(IEntryPoint entryPoint_) EIP712("SmartAccount", "1") {
        _ENTRY_POINT = entryPoint_;
        _disableInitializers();
    }

    /// @inheritdoc ISmartAccount
    function initialize(AccountConfig calldata config) external initializer {
        _setOwners(config.owners);
        _setGuardian(config.guardian, config.recoveryDelay);
    }

    /// @inheritdoc ISmartAccount
    function execute(AccountCall[] calldata calls) external payable onlyEntryPointOrSelf {
        for (uint256 i; i < calls.length; ++i) {
            (bool done, bytes memory answer) = calls[i].to.call{value: calls[i].value}(calls[i].data);
            Address.verifyCallResult(done, answer);
        }
    }

    /// @inheritdoc ISmartAccount
    function setOwners(SignerSet calldata owners) external onlyEntryPointOrSelf {
        _setOwners(owners);
    }

    /* RECOVERY */

    /// @inheritdoc ISmartAccount
    function setGuardian(address guardian, uint32 recoveryDelay) external onlyEntryPointOrSelf {
        if (_isPending()) _cancelRecovery();
        _setGuardian(guardian, recoveryDelay);
    }

    /// @inheritdoc ISmartAccount
    function startRecovery(SignerSet calldata owners) external {
        if (msg.sender != _guardian) revert NotGuardian(msg.sender);
        if (_isPending()) revert RecoveryPending(_readyAt);
        // Cannot overflow: the delay has 32 bits.
        uint64 readyAt = uint64(block.timestamp) + _recoveryDelay;
        _readyAt = readyAt;
        _announced = keccak256(abi.encode(owners));
        emit RecoveryStarted(owners, readyAt);
    }

    /// @inheritdoc ISmartAccount
    function cancelRecovery() external {
        if (msg.sender != _guardian) _checkEntryPointOrSelf();
        if (!_isPending()) revert RecoveryNotPending();
        _cancelRecovery();
    }

    /// @inheritdoc ISmartAccount
    function finishRecovery(SignerSet calldata owners) external {
        if (!_isPending()) revert RecoveryNotPending();
        if (block.timestamp < _readyAt) revert RecoveryTooEarly(_readyAt);
        if (keccak256(abi.encode(owners)) != _announced) revert RecoveryMismatch();
        delete _readyAt;
        delete _announced;
        _setOwners(owners);
        emit RecoveryFinished();
    }

    /// @inheritdoc ISmartAccount
    function recovery() external view returns (address guardian, uint32 recoveryDelay, uint256 readyAt) {
        return (_guardian, _recoveryDelay, _isPending() ? _readyAt : 0);
    }

    /// @notice ERC-1271 over the EIP-712 document `AccountMessage(bytes32 hash)` of this account: the same keys may sign for other accounts, and
    /// no signature passes from one to the other.
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        bytes32 document = _hashTypedDataV4(keccak256(abi.encode(MESSAGE_TYPEHASH, hash)));
        return _rawSignatureValidation(document, signature) ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }

    /// @notice The entry point whose operations this account accepts.
    function entryPoint() public view override returns (IEntryPoint) {
        return _ENTRY_POINT;
    }

    /* INTERNAL */

    /// @dev Wrong signatures are reported, never reverted, as ERC-4337 asks.
    function _validateUserOp(PackedUserOperation calldata userOp, bytes32 userOpHash, bytes calldata signature)
        internal
        view
        override
        returns (uint256)
    {
        bool valid = _rawSignatureValidation(_signableUserOpHash(userOp, userOpHash), signature);
        // casting is safe because 256 bits less 208 are 48
        // forge-lint: disable-next-line(unsafe-typecast)
        return ERC4337Utils.packValidationData(valid, 0, uint48(userOp.nonce >> 208));
    }

    /// @dev Adds before it removes and lowers the threshold before the weights, because the threshold must be reachable at each step.
    function _setOwners(SignerSet calldata owners) private {
        bytes[] memory before = getSigners(0, type(uint64).max);
        for (uint256 i; i < owners.signers.length; ++i) {
            bytes memory signer = owners.signers[i];
            if (isSigner(signer)) continue;
            _checkSigner(signer);
            _addSigners(_single(signer));
        }
        bool lower = owners.threshold < threshold();
        if (lower) _setThreshold(owners.threshold);
        _setSignerWeights(owners.signers, owners.weights);
        if (!lower) _setThreshold(owners.threshold);
        for (uint256 i; i < before.length; ++i) {
            if (!_contains(owners.signers, before[i])) _removeSigners(_single(before[i]));
        }
        uint256 count = getSignerCount();
        if (count > MAX_SIGNERS) revert SignersTooMany(count);
    }

    function _checkSigner(bytes memory signer) private view {
        // Shorter ones are refused by OpenZeppelin's part.
        if (signer.length < 20) return;
        address account = address(bytes20(signer));
        bool sound = signer.length == 20
            ? uint160(account) > LAST_RESERVED && account != address(this)
            : account.code.length != 0;
        if (!sound) revert SignerInvalid(signer);
    }

    function _setGuardian(address guardian, uint32 recoveryDelay) private {
        bool sound = guardian == address(0)
            ? recoveryDelay == 0
            : recoveryDelay >= MIN_DELAY && recoveryDelay <= MAX_DELAY && guardian != address(this);
        if (!sound) revert GuardianInvalid(guardian, recoveryDelay);
        _guardian = guardian;
        _recoveryDelay = recoveryDelay;
        emit GuardianSet(guardian, recoveryDelay);
    }

    function _cancelRecovery() private {
        delete _readyAt;
        delete _announced;
        emit RecoveryCancelled(msg.sender);
    }

    function _isPending() private view returns (bool) {
        return _readyAt != 0 && block.timestamp <= _readyAt + WINDOW;
    }

    function _single(bytes memory signer) private pure returns (bytes[] memory list) {
        list = new bytes[](1);
        list[0] = signer;
    }

    function _contains(bytes[] calldata list, bytes memory signer) private pure returns (bool) {
        for (uint256 i; i < list.length; ++i) {
            if (keccak256(list[i]) == keccak256(signer)) return true;
        }
        return false;
    }
}
