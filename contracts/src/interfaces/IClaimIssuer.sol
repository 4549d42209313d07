// SPDX-License-Identifier: CC0-1.0
pragma solidity 0.8.37;

/// @notice Claim issuer as ERC-3643 uses it (the five functions of interface id 0xc9dda83c).
/// Identities are passed as `address`: the selector is that of the `IIdentity` form.
interface IClaimIssuer {
    event ClaimRevoked(bytes indexed signature);

    /// @notice Revokes the claim that `_identity` holds under `_claimId`.
    function revokeClaim(bytes32 _claimId, address _identity) external returns (bool);
    /// @notice Revokes every claim that carries exactly this canonical signature.
    function revokeClaimBySignature(bytes calldata signature) external;
    /// @notice True when `_sig` was revoked by signature or by claim id. A revocation by digest alone cannot be
    /// answered from signature bytes: `isClaimValid` and `isClaimLive` are the authority.
    function isClaimRevoked(bytes calldata _sig) external view returns (bool);
    function isClaimValid(address _identity, uint256 claimTopic, bytes calldata sig, bytes calldata data)
        external
        view
        returns (bool);
    /// @notice Signer of `dataHash` (already eth-signed), zero unless `sig` is canonical.
    function getRecoveredAddress(bytes calldata sig, bytes32 dataHash) external view returns (address);
}

/// @notice Our cheap liveness question to an issuer: two storage reads instead of a signature check.
interface IClaimLiveness {
    event ClaimDigestRevoked(bytes32 indexed digest);
    event ClaimSubjectBarred(address indexed identity, uint256 indexed topic, bool barred);

    /// @notice Revokes the claim whose `keccak256(abi.encode(identity, topic, data))` is `digest`, whatever its signature.
    /// Caller: MANAGEMENT or CLAIM key, or the issuer itself. Emits `ClaimDigestRevoked`. Idempotent.
    function revokeClaim(bytes32 digest) external;

    /// @notice Bars (or readmits) every claim of this issuer about (identity, topic) that takes the full check, whatever
    /// copy the identity presents. Caller as above. Emits `ClaimSubjectBarred`.
    function barSubject(address identity, uint256 topic, bool barred) external;

    /// @notice True when `signer` holds the CLAIM purpose now and `digest` is not revoked. False also when this issuer
    /// has revoked by signature while `signer` was a key: then only the full check can tell.
    function isClaimLive(address signer, bytes32 digest) external view returns (bool);

    function isDigestRevoked(bytes32 digest) external view returns (bool);
}
