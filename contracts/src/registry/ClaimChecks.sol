// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IClaimIssuer, IClaimLiveness} from "../interfaces/IClaimIssuer.sol";
import {IERC735} from "../interfaces/IERC735.sol";
import {IIdentity} from "../interfaces/IIdentity.sol";
import {IRegistryQuestions} from "../interfaces/IIdentityRegistryPolicy.sol";
import {CanonicalSignature} from "../libraries/CanonicalSignature.sol";
import {ClaimData} from "../libraries/ClaimData.sol";
import {ClaimExpression} from "../libraries/ClaimExpression.sol";
import {IdentityReasons} from "../libraries/IdentityReasons.sol";
import {PolicyReader} from "./PolicyReader.sol";

/// @title Whether an identity has the claims a token asks for
/// @notice Two ways to check a claim. An identity of our factory verified it through its issuer when it was added, so the trusted
/// issuer is asked only whether (signer, digest) is live. Any other identity may lie about everything it stores: its claim
/// is read whole and judged by the trusted issuer, never by the issuer it names. Nothing is cached, so revocation, key removal,
/// loss of trust and expiry bite on the next call.
abstract contract ClaimChecks is PolicyReader, IRegistryQuestions {
    /// @dev `ClaimExpression.allOf(1)`.
    uint256 private constant ONE_TOPIC = 0x111;

    /* QUESTIONS */

    /// @inheritdoc IRegistryQuestions
    function isVerifiedFor(address token, address user) external view returns (bool) {
        return _reason(token, user) == 0;
    }

    /// @inheritdoc IRegistryQuestions
    function explain(address token, address user) external view returns (bytes32) {
        return _reason(token, user);
    }

    /// @inheritdoc IRegistryQuestions
    function satisfies(address user, uint256 expression, uint256[] calldata topics) external view returns (bool) {
        if (ClaimExpression.topicCount(expression) != topics.length) return false;
        return _unmet(_registrations[user], expression, topics) == 0;
    }

    /// @inheritdoc IRegistryQuestions
    function liveClaimIssuer(address identityAddress, uint256 topic) external view returns (address issuer) {
        bytes32 reason;
        (reason, issuer) = _checkTopic(identityAddress, _isNative(identityAddress), topic);
        if (reason != 0) issuer = address(0);
    }

    /// @notice The full check of the claim that `identityAddress` presents for (issuer, topic); zero when it counts. External so that
    /// whatever a foreign identity returns can be caught. The caller decides whether `issuer` is trusted.
    function fullCheck(address identityAddress, address issuer, uint256 topic) external view returns (bytes32) {
        (uint256 shownTopic,, address shownIssuer, bytes memory signature, bytes memory data,) =
            IERC735(identityAddress).getClaim(ClaimData.claimId(issuer, topic));
        if (shownIssuer == address(0)) return IdentityReasons.CLAIM_MISSING;
        (bool canonical,,,) = CanonicalSignature.split(signature);
        if (shownIssuer != issuer || shownTopic != topic || !canonical) return IdentityReasons.CLAIM_MALFORMED;
        if (ClaimData.isExpired(ClaimData.expiryOf(data))) return IdentityReasons.CLAIM_EXPIRED;
        bool valid = IClaimIssuer(issuer).isClaimValid(identityAddress, topic, signature, data);
        return valid ? bytes32(0) : IdentityReasons.CLAIM_REVOKED;
    }

    /* INTERNAL */

    function _isNative(address identityAddress) internal view virtual returns (bool);

    function _reason(address token, address user) internal view returns (bytes32) {
        (uint256 expression, uint256[] memory topics) = _inForce(token);
        return _unmet(_registrations[user], expression, topics);
    }

    /// @return first zero when a group is met, else what the first group lacks
    function _unmet(Registration memory holder, uint256 expression, uint256[] memory topics)
        private
        view
        returns (bytes32 first)
    {
        if (holder.identity == address(0)) return IdentityReasons.NOT_REGISTERED;
        uint256 groups = ClaimExpression.groupCount(expression);
        if (groups == 0) return IdentityReasons.POLICY_EMPTY;
        // The commonest policy, one required topic, needs none of the bookkeeping below.
        if (expression == ONE_TOPIC && topics.length == 1) {
            (first,) = _checkTopic(holder.identity, holder.native, topics[0]);
            return first;
        }
        // Each topic is checked at most once, however many groups name it.
        bytes32[] memory answers = new bytes32[](topics.length);
        uint256 asked;
        for (uint256 g = 0; g < groups; ++g) {
            (uint256 required, uint256 forbidden) = ClaimExpression.group(expression, g);
            bytes32 lack;
            for (uint256 i = 0; i < topics.length && lack == 0; ++i) {
                uint256 bit = 1 << i;
                if ((required | forbidden) & bit == 0) continue;
                if (forbidden & bit != 0 && !holder.native) {
                    lack = IdentityReasons.ABSENCE_UNPROVABLE;
                    continue;
                }
                if (asked & bit == 0) {
                    (answers[i],) = _checkTopic(holder.identity, holder.native, topics[i]);
                    asked |= bit;
                }
                lack = required & bit != 0 ? answers[i] : _attested(answers[i]);
            }
            if (lack == 0) return 0;
            if (g == 0) first = lack;
        }
    }

    /// @dev Why an excluded topic is not safely absent. When the check itself failed, absence is not shown either.
    function _attested(bytes32 answer) private pure returns (bytes32) {
        if (answer == 0) return IdentityReasons.CLAIM_FORBIDDEN;
        if (answer == IdentityReasons.TOPIC_RETIRED || answer == IdentityReasons.CLAIM_MALFORMED) return answer;
        return 0;
    }

    /// @return reason zero when an issuer trusted now vouches for the topic
    function _checkTopic(address identityAddress, bool native, uint256 topic)
        private
        view
        returns (bytes32 reason, address issuer)
    {
        TopicTrust storage trust = _trust[EVERYBODY][topic];
        if (trust.retired) return (IdentityReasons.TOPIC_RETIRED, address(0));
        (reason, issuer) = _checkIssuers(trust, identityAddress, native, topic, IdentityReasons.CLAIM_MISSING);
        if (reason == 0) return (reason, issuer);
        (reason, issuer) = _checkIssuers(_trust[identityAddress][topic], identityAddress, native, topic, reason);
        if (reason == IdentityReasons.CLAIM_MISSING) reason = _whyMissing(identityAddress, topic);
    }

    function _checkIssuers(TopicTrust storage trust, address identityAddress, bool native, uint256 topic, bytes32 worst)
        private
        view
        returns (bytes32, address)
    {
        uint256 count = trust.count;
        for (uint256 i = 0; i < count; ++i) {
            IssuerRef memory ref = _at(trust, i);
            bytes32 reason = _checkClaim(identityAddress, native, ref, topic);
            if (reason == 0) return (0, ref.issuer);
            // A claim that is there and does not count says more than one that is not there.
            if (worst == IdentityReasons.CLAIM_MISSING || reason == IdentityReasons.CLAIM_MALFORMED) worst = reason;
        }
        return (worst, address(0));
    }

    function _checkClaim(address identityAddress, bool native, IssuerRef memory ref, uint256 topic)
        private
        view
        returns (bytes32)
    {
        if (native) {
            (address signer, uint64 expiresAt, bytes32 digest) =
                IIdentity(identityAddress).claimMeta(ClaimData.claimId(ref.issuer, topic));
            if (signer == address(0)) return IdentityReasons.CLAIM_MISSING;
            if (ClaimData.isExpired(expiresAt)) return IdentityReasons.CLAIM_EXPIRED;
            if (ref.live) {
                try IClaimLiveness(ref.issuer).isClaimLive(signer, digest) returns (bool alive) {
                    if (alive) return 0;
                } catch {}
            }
            // Not live, or an issuer that revoked by signature or knows no digests: the full check has the last word.
        }
        try this.fullCheck(identityAddress, ref.issuer, topic) returns (bytes32 reason) {
            return reason;
        } catch {
            return IdentityReasons.CLAIM_MALFORMED;
        }
    }

    /// @dev Only on the way to a refusal, so its cost does not matter.
    function _whyMissing(address identityAddress, uint256 topic) private view returns (bytes32) {
        try this.holdsAnyClaim(identityAddress, topic) returns (bool held) {
            return held ? IdentityReasons.ISSUER_NOT_TRUSTED : IdentityReasons.CLAIM_MISSING;
        } catch {
            return IdentityReasons.CLAIM_MISSING;
        }
    }

    /// @notice True when the identity lists any claim of the topic, whoever issued it. External for the same reason as `fullCheck`.
    function holdsAnyClaim(address identityAddress, uint256 topic) external view returns (bool) {
        return IERC735(identityAddress).getClaimIdsByTopic(topic).length != 0;
    }
}
