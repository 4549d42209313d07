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

/// @dev `IERC735.getClaim` without the uri, which nobody needs here and which an identity may make as long as it likes.
interface IClaimShown {
    function getClaim(bytes32 claimId)
        external
        view
        returns (uint256 topic, uint256 scheme, address issuer, bytes memory signature, bytes memory data);
}

/// @title Whether an identity has the claims a token asks for
/// @notice Two ways to check a claim. An identity of our factory verified it through its issuer when it was added, so the trusted
/// issuer is asked only whether (signer, digest) is live. Any other identity may lie about everything it stores: its claim
/// is read whole and judged by the trusted issuer, never by the issuer it names. Nothing is cached, so revocation, key removal,
/// loss of trust and expiry bite on the next call.
abstract contract ClaimChecks is PolicyReader, IRegistryQuestions {
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
    function admission(address token, address user)
        external
        view
        returns (bytes32 reason, address identityAddress, uint16 country, bool exempt)
    {
        Registration memory holder = _registrations[user];
        (reason, exempt) = _admit(token, user, holder);
        return (reason, holder.identity, holder.country, exempt);
    }

    /// @inheritdoc IRegistryQuestions
    function satisfies(address user, uint256 expression, uint256[] calldata topics) external view returns (bool) {
        if (ClaimExpression.topicCount(expression) != topics.length) return false;
        return _unmet(_registrations[user], expression, topics) == 0;
    }

    /// @inheritdoc IRegistryQuestions
    function hasClaim(address user, uint256 topic) external view returns (bool) {
        return _unmetTopic(_registrations[user], topic) == 0;
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
        (uint256 shownTopic,, address shownIssuer, bytes memory signature, bytes memory data) =
            IClaimShown(identityAddress).getClaim(ClaimData.claimId(issuer, topic));
        if (shownIssuer == address(0)) return IdentityReasons.CLAIM_MISSING;
        (bool canonical,,,) = CanonicalSignature.split(signature);
        if (shownIssuer != issuer || shownTopic != topic || !canonical) return IdentityReasons.CLAIM_MALFORMED;
        if (ClaimData.isExpired(ClaimData.expiryOf(data))) return IdentityReasons.CLAIM_EXPIRED;
        bool valid = IClaimIssuer(issuer).isClaimValid(identityAddress, topic, signature, data);
        return valid ? bytes32(0) : IdentityReasons.CLAIM_REVOKED;
    }

    /* INTERNAL */

    function _reason(address token, address user) internal view returns (bytes32 reason) {
        (reason,) = _admit(token, user, _registrations[user]);
    }

    /// @dev The exemption is asked last: those who have an identity pay nothing for it.
    function _admit(address token, address user, Registration memory holder)
        private
        view
        returns (bytes32 reason, bool exempt)
    {
        (Policy storage policy, uint256 expression) = _inForce(token);
        reason = expression == ClaimExpression.ONE_TOPIC
            ? _unmetTopic(holder, policy.topics[0])
            : _unmet(holder, expression, _topicsOf(policy, expression));
        if (reason != 0 && _exempt[token][user]) return (0, true);
    }

    /// @dev The commonest policy, one required topic, needs none of the bookkeeping of `_unmet`.
    function _unmetTopic(Registration memory holder, uint256 topic) private view returns (bytes32 reason) {
        if (holder.identity == address(0)) return IdentityReasons.NOT_REGISTERED;
        (reason,) = _checkTopic(holder.identity, holder.native, topic);
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
        TrustHead memory head = trust.head;
        if (head.retired) return (IdentityReasons.TOPIC_RETIRED, address(0));
        (reason, issuer) = _checkIssuers(trust, head, identityAddress, native, topic, IdentityReasons.CLAIM_MISSING);
        if (reason == 0) return (reason, issuer);
        trust = _trust[identityAddress][topic];
        (reason, issuer) = _checkIssuers(trust, trust.head, identityAddress, native, topic, reason);
        if (reason == IdentityReasons.CLAIM_MISSING) reason = _whyMissing(identityAddress, topic);
    }

    function _checkIssuers(
        TopicTrust storage trust,
        TrustHead memory head,
        address identityAddress,
        bool native,
        uint256 topic,
        bytes32 worst
    ) private view returns (bytes32, address) {
        IssuerRef memory ref = IssuerRef({issuer: head.issuer, live: head.live});
        for (uint256 i = 0; i < head.count; ++i) {
            if (i != 0) ref = trust.others[i - 1];
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
