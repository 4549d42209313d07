// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC165Checker} from "@openzeppelin/contracts/utils/introspection/ERC165Checker.sol";
import {IClaimLiveness} from "../interfaces/IClaimIssuer.sol";
import {IRegistryAdministration} from "../interfaces/IIdentityRegistryPolicy.sol";
import {ITopicSchemeRegistry} from "../interfaces/ITopicSchemeRegistry.sol";
import {ITrustedIssuersRegistry} from "../interfaces/ITrustedIssuersRegistry.sol";
import {Names} from "../Roles.sol";
import {RegistryAccess} from "./RegistryAccess.sol";

/// @title Whom the tenant believes, per topic and optionally per subject
/// @notice Subject zero stands for everybody (the ERC-3643 list). Lists are bounded: 50 issuers per subject, 15 topics each.
abstract contract TrustedIssuers is RegistryAccess, ITrustedIssuersRegistry, IRegistryAdministration {
    uint256 internal constant MAX_ISSUERS = 50;
    uint256 internal constant MAX_ISSUER_TOPICS = 15;

    /* ERC-3643 */

    /// @notice Trusts an issuer for topics. Caller: CLAIM_POLICY_MANAGER. Emits `TrustedIssuerAdded`. Reverts when it is trusted already, on
    /// no, unknown, repeated or more than 15 topics, and on the 51st issuer.
    function addTrustedIssuer(address issuer, uint256[] calldata topics) external {
        _onlyPolicyManager();
        _add(EVERYBODY, issuer, topics);
        emit TrustedIssuerAdded(issuer, topics);
    }

    /// @notice Ends the trust: the issuer's claims stop counting at once. Caller: CLAIM_POLICY_MANAGER. Emits `TrustedIssuerRemoved`.
    function removeTrustedIssuer(address issuer) external {
        _onlyPolicyManager();
        _remove(EVERYBODY, issuer);
        emit TrustedIssuerRemoved(issuer);
    }

    /// @notice Replaces the topics of a trusted issuer. Caller: CLAIM_POLICY_MANAGER. Emits `ClaimTopicsUpdated`.
    function updateIssuerClaimTopics(address issuer, uint256[] calldata topics) external {
        _onlyPolicyManager();
        uint256[] memory before = _issuerTopics[EVERYBODY][issuer];
        if (before.length == 0) revert RegistryIssuerUnknown(issuer);
        for (uint256 i = 0; i < before.length; ++i) {
            _distrust(_trust[EVERYBODY][before[i]], issuer);
        }
        _trustFor(EVERYBODY, issuer, topics);
        emit ClaimTopicsUpdated(issuer, topics);
    }

    function getTrustedIssuers() external view returns (address[] memory) {
        return _issuers[EVERYBODY];
    }

    function isTrustedIssuer(address issuer) external view returns (bool) {
        return _issuerTopics[EVERYBODY][issuer].length != 0;
    }

    function getTrustedIssuerClaimTopics(address issuer) external view returns (uint256[] memory topics) {
        topics = _issuerTopics[EVERYBODY][issuer];
        if (topics.length == 0) revert RegistryIssuerUnknown(issuer);
    }

    function getTrustedIssuersForClaimTopic(uint256 topic) external view returns (address[] memory issuers) {
        TopicTrust storage trust = _trust[EVERYBODY][topic];
        issuers = new address[](trust.head.count);
        for (uint256 i = 0; i < issuers.length; ++i) {
            issuers[i] = _at(trust, i).issuer;
        }
    }

    function hasClaimTopic(address issuer, uint256 topic) external view returns (bool) {
        return _isIn(_trust[EVERYBODY][topic], issuer);
    }

    /* PER SUBJECT */

    /// @inheritdoc IRegistryAdministration
    function addTrustedIssuerFor(address subject, address issuer, uint256[] calldata topics) external {
        _onlyPolicyManager();
        if (subject == EVERYBODY) revert RegistryZeroAddress();
        _add(subject, issuer, topics);
        emit TrustedIssuerAddedFor(subject, issuer, topics);
    }

    /// @inheritdoc IRegistryAdministration
    function removeTrustedIssuerFor(address subject, address issuer) external {
        _onlyPolicyManager();
        if (subject == EVERYBODY) revert RegistryZeroAddress();
        _remove(subject, issuer);
        emit TrustedIssuerRemovedFor(subject, issuer);
    }

    /// @inheritdoc IRegistryAdministration
    function isTrustedFor(address issuer, uint256 topic, address subject) external view returns (bool) {
        TopicTrust storage trust = _trust[EVERYBODY][topic];
        return !trust.head.retired && (_isIn(trust, issuer) || _isIn(_trust[subject][topic], issuer));
    }

    /// @inheritdoc IRegistryAdministration
    function setTopicRetired(uint256 topic, bool retired) external {
        if (msg.sender != SYSTEM.get(Names.TOPIC_SCHEMES)) revert RegistryUnauthorized(msg.sender);
        TrustHead storage head = _trust[EVERYBODY][topic].head;
        if (head.retired == retired) return;
        head.retired = retired;
        emit TopicRetired(topic, retired);
    }

    /* INTERNAL */

    function _requireTopic(uint256 topic) internal view {
        address schemes = SYSTEM.get(Names.TOPIC_SCHEMES);
        if (schemes == address(0) || !ITopicSchemeRegistry(schemes).exists(topic)) revert RegistryTopicUnknown(topic);
    }

    function _add(address subject, address issuer, uint256[] calldata topics) private {
        if (issuer == address(0)) revert RegistryZeroAddress();
        if (_issuerTopics[subject][issuer].length != 0) revert RegistryIssuerKnown(issuer);
        address[] storage issuers = _issuers[subject];
        if (issuers.length == MAX_ISSUERS) revert RegistryTooManyIssuers();
        issuers.push(issuer);
        _trustFor(subject, issuer, topics);
    }

    function _trustFor(address subject, address issuer, uint256[] calldata topics) private {
        if (topics.length == 0) revert RegistryNoTopics();
        if (topics.length > MAX_ISSUER_TOPICS) revert RegistryTooManyTopics();
        IssuerRef memory ref = IssuerRef({
            issuer: issuer, live: ERC165Checker.supportsInterface(issuer, type(IClaimLiveness).interfaceId)
        });
        for (uint256 i = 0; i < topics.length; ++i) {
            _requireTopic(topics[i]);
            TopicTrust storage trust = _trust[subject][topics[i]];
            if (_isIn(trust, issuer)) revert RegistryTopicDuplicate(topics[i]);
            TrustHead storage head = trust.head;
            if (head.count == 0) (head.issuer, head.live) = (issuer, ref.live);
            else trust.others.push(ref);
            ++head.count;
        }
        _issuerTopics[subject][issuer] = topics;
    }

    function _remove(address subject, address issuer) private {
        uint256[] memory topics = _issuerTopics[subject][issuer];
        if (topics.length == 0) revert RegistryIssuerUnknown(issuer);
        for (uint256 i = 0; i < topics.length; ++i) {
            _distrust(_trust[subject][topics[i]], issuer);
        }
        delete _issuerTopics[subject][issuer];
        address[] storage issuers = _issuers[subject];
        uint256 last = issuers.length - 1;
        for (uint256 i = 0; i < last; ++i) {
            if (issuers[i] == issuer) {
                issuers[i] = issuers[last];
                break;
            }
        }
        issuers.pop();
    }

    /// @dev The last issuer takes the freed place; order carries no meaning.
    function _distrust(TopicTrust storage trust, address issuer) private {
        uint256 last = trust.head.count - 1;
        uint256 index = 0;
        while (_at(trust, index).issuer != issuer) ++index;
        if (index == 0) {
            IssuerRef memory next = last == 0 ? IssuerRef(address(0), false) : trust.others[last - 1];
            (trust.head.issuer, trust.head.live) = (next.issuer, next.live);
        } else if (index != last) {
            trust.others[index - 1] = trust.others[last - 1];
        }
        if (last != 0) trust.others.pop();
        trust.head.count = uint8(last);
    }

    function _isIn(TopicTrust storage trust, address issuer) internal view returns (bool) {
        uint256 count = trust.head.count;
        for (uint256 i = 0; i < count; ++i) {
            if (_at(trust, i).issuer == issuer) return true;
        }
        return false;
    }
}
