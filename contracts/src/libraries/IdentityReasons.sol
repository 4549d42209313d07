// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Why a wallet does not meet a claim policy. Zero means it does.
library IdentityReasons {
    /// The wallet is not in the registry.
    bytes32 internal constant NOT_REGISTERED = "NOT_REGISTERED";
    /// Neither the token nor the registry names a claim topic: nobody is admitted.
    bytes32 internal constant POLICY_EMPTY = "POLICY_EMPTY";
    /// The topic was removed from the topic schemes.
    bytes32 internal constant TOPIC_RETIRED = "TOPIC_RETIRED";
    /// No claim of the topic on the identity.
    bytes32 internal constant CLAIM_MISSING = "CLAIM_MISSING";
    /// There is a claim of the topic, but its issuer is not trusted for it now.
    bytes32 internal constant ISSUER_NOT_TRUSTED = "ISSUER_NOT_TRUSTED";
    /// The signed expiry has been reached.
    bytes32 internal constant CLAIM_EXPIRED = "CLAIM_EXPIRED";
    /// Revoked, or its signing key was removed from the issuer.
    bytes32 internal constant CLAIM_REVOKED = "CLAIM_REVOKED";
    /// What the identity presents under the claim id is not a well-formed, canonically signed claim.
    bytes32 internal constant CLAIM_MALFORMED = "CLAIM_MALFORMED";
    /// A topic that the policy excludes is attested.
    bytes32 internal constant CLAIM_FORBIDDEN = "CLAIM_FORBIDDEN";
    /// The policy excludes a topic, and an identity that is not ours could simply hide the claim.
    bytes32 internal constant ABSENCE_UNPROVABLE = "ABSENCE_UNPROVABLE";
}
