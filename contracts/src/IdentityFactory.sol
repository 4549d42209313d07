// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {Identity} from "./Identity.sol";
import {IIdentity, ClaimInput} from "./interfaces/IIdentity.sol";
import {IIdentityFactory} from "./interfaces/IIdentityFactory.sol";
import {IIdentityRegistry} from "./interfaces/IIdentityRegistry.sol";
import {ISystem} from "./interfaces/ISystem.sol";
import {Names, Roles} from "./Roles.sol";

/// @title Creates identities at predictable addresses
/// @notice The clone's address binds the wallet, so nobody can take the address of another wallet's identity; the record
/// here is what the registry's cheap check rests on, and it is never deleted.
contract IdentityFactory is IIdentityFactory {
    ISystem public immutable SYSTEM;
    address public immutable override implementation;

    mapping(address identity => address subject) public override subjectOf;

    constructor(ISystem system) {
        SYSTEM = system;
        implementation = address(new Identity(system));
    }

    /// @inheritdoc IIdentityFactory
    function create(address wallet, bytes32 salt, ClaimInput[] calldata claims) external returns (address identity) {
        if (msg.sender != wallet) _only(Roles.IDENTITY_MANAGER);
        return _create(wallet, wallet, salt, _saltOf(wallet, salt), claims, msg.sender != wallet);
    }

    /// @inheritdoc IIdentityFactory
    function createFor(address subject, address manager) external returns (address identity) {
        if (msg.sender != subject) _only(Roles.IDENTITY_MANAGER | Roles.TOKEN_MANAGER);
        if (subject.code.length == 0) revert IdentityFactoryNotContract(subject);
        return _create(subject, manager, 0, _saltFor(subject, manager), new ClaimInput[](0), true);
    }

    /// @inheritdoc IIdentityFactory
    function createAndRegister(address wallet, bytes32 salt, uint16 country, ClaimInput[] calldata claims)
        external
        returns (address identity)
    {
        _only(Roles.IDENTITY_MANAGER);
        identity = _create(wallet, wallet, salt, _saltOf(wallet, salt), claims, true);
        IIdentityRegistry(SYSTEM.get(Names.IDENTITY_REGISTRY)).registerIdentity(wallet, identity, country);
    }

    /// @inheritdoc IIdentityFactory
    function predict(address wallet, bytes32 salt) external view returns (address) {
        return Clones.predictDeterministicAddress(implementation, _saltOf(wallet, salt));
    }

    /// @inheritdoc IIdentityFactory
    function predictFor(address subject, address manager) external view returns (address) {
        return Clones.predictDeterministicAddress(implementation, _saltFor(subject, manager));
    }

    /// @inheritdoc IIdentityFactory
    function isNative(address identity) external view returns (bool) {
        return subjectOf[identity] != address(0);
    }

    function _create(
        address subject,
        address manager,
        bytes32 salt,
        bytes32 cloneSalt,
        ClaimInput[] memory claims,
        bool pushed
    ) private returns (address identity) {
        if (subject == address(0) || manager == address(0)) {
            revert IdentityFactoryZeroAddress();
        }
        // Asked first: a second deployment to the same address would burn all gas of the transaction.
        identity = Clones.predictDeterministicAddress(implementation, cloneSalt);
        if (subjectOf[identity] != address(0)) revert IdentityFactoryExists(identity);
        Clones.cloneDeterministic(implementation, cloneSalt);
        subjectOf[identity] = subject;
        emit IdentityCreated(identity, subject, manager, salt);
        IIdentity(identity).initialize(manager, claims, pushed);
    }

    function _only(uint256 roleMask) private view {
        if (!SYSTEM.has(msg.sender, roleMask)) revert IdentityFactoryUnauthorized(msg.sender);
    }

    /// @dev The two kinds hash different lengths, so a wallet's identity never shares an address with a contract's.
    function _saltOf(address wallet, bytes32 salt) private pure returns (bytes32) {
        return keccak256(abi.encode(wallet, salt));
    }

    function _saltFor(address subject, address manager) private pure returns (bytes32) {
        return keccak256(abi.encode(subject, manager, "contract"));
    }
}
