// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC734} from "./IERC734.sol";
import {IERC735} from "./IERC735.sol";
import {IClaimIssuer, IClaimLiveness} from "./IClaimIssuer.sol";

/// @notice One claim handed to an identity at its creation.
struct ClaimInput {
    uint256 topic;
    address issuer;
    bytes signature;
    bytes data;
    string uri;
}

/// @notice Errors and events both parts of an identity share.
interface IIdentityErrors {
    error IdentityUnauthorized(address caller);
    error IdentityAlreadyInitialized();
    error IdentityZeroAddress();
    error IdentityUnknownPurpose(uint256 purpose);
    error IdentityKeyTypeMismatch(bytes32 key);
    error IdentityKeyExists(bytes32 key, uint256 purpose);
    error IdentityKeyUnknown(bytes32 key, uint256 purpose);
    error IdentityTooManyKeys();
    error IdentityLastManagementKey();
    error IdentityExecutionUnknown(uint256 executionId);
    error IdentityExecutionWithoutKey(address caller);
    /// @dev Carries the target's own error: passing raw bytes on would take assembly.
    error IdentityExecutionFailed(uint256 executionId, bytes reason);
    error IdentityClaimUnknown(bytes32 claimId);
    error IdentityClaimInvalid(address issuer, uint256 topic);
    error IdentityClaimExpired(uint64 expiresAt);
    error IdentityClaimPushed(bytes32 claimId);
    error IdentityIssuerNotTrusted(address issuer, uint256 topic);
    error IdentityTooManyClaims(uint256 topic);
    error IdentitySchemeUnsupported(uint256 scheme);
    error IdentitySignatureNotCanonical();
    error IdentityClaimMismatch(bytes32 claimId);

    /// @notice The keys changed hands by order of the tenant's registry.
    event KeysRecovered(bytes32 indexed lostKey, bytes32 indexed newKey, bool reset);
}

/// @title Creation, and the registry's cheap question
interface IIdentityClaims is IIdentityErrors {
    /// @notice Called once by the factory; `claims` are added in the same transaction, with `pushed` as if by their issuers.
    function initialize(address wallet, ClaimInput[] calldata claims, bool pushed) external;

    /// @notice What the registry's fast path needs: signer (zero when there is no such claim), expiry in unix seconds
    /// (zero: never) and digest.
    function claimMeta(bytes32 claimId) external view returns (address signer, uint64 expiresAt, bytes32 digest);
}

/// @title Kept requests and recovery of keys
interface IIdentityControl is IIdentityErrors {
    /// @notice The request kept for `approve`; all zero when executed, rejected or unknown.
    function pendingExecution(uint256 executionId) external view returns (address to, uint256 value, bytes memory data);

    /// @notice Moves every purpose of `lostWallet`'s key to `newWallet`'s. Caller: the tenant's identity registry.
    /// Emits `KeysRecovered`. A no-op when the lost wallet holds no key.
    function recoverKey(address lostWallet, address newWallet) external;

    /// @notice Removes every MANAGEMENT and ACTION purpose and gives all three purposes to `wallet`; other keys keep CLAIM,
    /// so claims issued by this identity stay live. Caller: the tenant's identity registry. Emits `KeysRecovered`.
    function resetKeys(address wallet) external;
}

/// @title On-chain identity of a participant, an issuer or an asset
/// @notice ERC-734 keys, ERC-735 claims and claim issuer in one clone.
///
/// Keys. Purposes are exact: MANAGEMENT does not imply ACTION or CLAIM; the first key of an identity gets all three.
/// A key is bound to an account by `keccak256(abi.encode(account))`. At most 32 keys, and the last MANAGEMENT key stays.
///
/// Claims. A claim is verified through its issuer when it is added, and signer, expiry and digest are kept for the
/// registry's cheap check. Expiry travels inside the signed data (see `ClaimData`). Who may add: a CLAIM key of
/// this identity, the identity itself, the factory at creation, or, for an issuer that the tenant's registry trusts, the
/// issuer contract or one of its CLAIM keys ("pushed"; so are claims an identity manager gives at creation). While it is live, a pushed claim can be replaced or removed by the issuer's side only:
/// a holder cannot hide a negative claim or put an older copy back.
interface IIdentity is IERC734, IERC735, IClaimIssuer, IClaimLiveness, IIdentityClaims, IIdentityControl {}
