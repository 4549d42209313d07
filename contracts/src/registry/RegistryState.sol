// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRegistryErrors} from "../interfaces/IIdentityRegistryPolicy.sol";
import {IIdentityFactory} from "../interfaces/IIdentityFactory.sol";
import {ISystem} from "../interfaces/ISystem.sol";
import {Names, Roles} from "../Roles.sol";

/// @title State and access rules that both parts of the registry share
/// @notice The registry is one contract to the outside and three in code, because one would exceed our size limit:
/// `IdentityRegistry` holds what transfers ask, and delegates what writes registrations to its `RegistryRecords` and every other call to
/// its `RegistryAdministration`. All inherit this contract and declare no state of their own, so they see the same storage.
abstract contract RegistryState is IRegistryErrors {
    struct IssuerRef {
        address issuer;
        // The issuer answers `isClaimLive` (asked once, when trust is given).
        bool live;
    }

    /// @dev One slot: one read settles the common case of one issuer per topic.
    struct TrustHead {
        address issuer;
        bool live;
        uint8 count;
        bool retired;
    }

    struct TopicTrust {
        TrustHead head;
        // All but the first.
        IssuerRef[] others;
    }

    struct Registration {
        address identity;
        uint16 country;
        // What the factory's record said at registration; it never changes for an identity.
        bool native;
    }

    struct Policy {
        uint256 expression;
        // Not an array: reading its length would cost a slot that the expression already holds.
        mapping(uint256 index => uint256 topic) topics;
    }

    event AgentAdded(address indexed _agent);
    event AgentRemoved(address indexed _agent);

    /// @dev Subject of the trust that holds for everybody.
    address internal constant EVERYBODY = address(0);
    /// @dev The ERC-3643 claim topics are the policy of token zero.
    address internal constant DEFAULT = address(0);

    ISystem public immutable SYSTEM;

    mapping(address agent => bool) internal _agents;
    mapping(address wallet => Registration) internal _registrations;
    mapping(address lostWallet => address newWallet) internal _successors;
    mapping(address token => Policy) internal _policies;
    mapping(address subject => mapping(uint256 topic => TopicTrust)) internal _trust;
    mapping(address subject => mapping(address issuer => uint256[] topics)) internal _issuerTopics;
    mapping(address subject => address[] issuers) internal _issuers;
    address[] internal _boundRegistries;
    mapping(address token => mapping(address account => bool)) internal _exempt;

    constructor(ISystem system) {
        SYSTEM = system;
    }

    function _isAgent(address account) internal view returns (bool) {
        return _agents[account] || _isRoleAgent(account);
    }

    function _isRoleAgent(address account) internal view returns (bool) {
        return SYSTEM.has(account, Roles.IDENTITY_MANAGER) || account == SYSTEM.get(Names.IDENTITY_FACTORY);
    }

    function _isNative(address identityAddress) internal view returns (bool) {
        address factory = SYSTEM.get(Names.IDENTITY_FACTORY);
        return factory != address(0) && IIdentityFactory(factory).isNative(identityAddress);
    }

    function _at(TopicTrust storage trust, uint256 index) internal view returns (IssuerRef memory) {
        if (index == 0) return IssuerRef({issuer: trust.head.issuer, live: trust.head.live});
        return trust.others[index - 1];
    }
}
