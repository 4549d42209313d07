// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Initializable} from "@openzeppelin/contracts-upgradeable/proxy/utils/Initializable.sol";
import {IAgentRole} from "../interfaces/IAgentRole.sol";
import {IAssetToken, TokenInit} from "../interfaces/IAssetToken.sol";
import {ICompliance} from "../interfaces/ICompliance.sol";
import {IERC173} from "../interfaces/IERC173.sol";
import {IERC3643} from "../interfaces/IERC3643.sol";
import {AssetRoles} from "../Roles.sol";
import {RecordDates} from "./RecordDates.sol";

/// @title The token's governance: set-up, appointments, pause, references, upgrades, record dates
/// @notice Runs in the token's storage: `AssetToken` declares each of these functions and delegates it here. Called directly it could only
/// write its own storage, which nobody reads. What each function does, who may call it and what it reverts stands in the interfaces.
contract AssetTokenGovernance is RecordDates, Initializable {
    uint256 internal constant AGENT_ROLES = AssetRoles.SUPPLY | AssetRoles.CUSTODIAN | AssetRoles.EMERGENCY;
    uint256 private constant UPGRADE_DELAY = 2 days;

    constructor() {
        _disableInitializers();
    }

    modifier onlyOwner() {
        if (msg.sender != _owner) revert IAssetToken.NotOwner(msg.sender);
        _;
    }

    modifier onlyRole(uint256 role) {
        _requireRole(role);
        _;
    }

    /// @dev All of `IAssetToken.initialize` but the first mint.
    function initialize(TokenInit calldata init) external initializer {
        if (init.decimals > 18) revert IAssetToken.InvalidDecimals(init.decimals);
        if (init.owner == address(0)) revert IAssetToken.InvalidAddress(init.owner);
        _checkName(init.name);
        _checkSymbol(init.symbol);
        // The parents' initializers would only store a name that `name()` overrides.
        _name = init.name;
        _symbol = init.symbol;
        _decimals = init.decimals;
        _onchainID = init.onchainID;
        _nextRecordDate = type(uint48).max;
        _paused = !init.unpause;
        if (init.unpause) emit IERC3643.Unpaused(msg.sender);
        _emitInformation();
        _setRegistry(init.identityRegistry);
        _owner = init.owner;
        emit IERC173.OwnershipTransferred(address(0), init.owner);
        if (init.grantees.length != init.roles.length) revert IAssetToken.LengthMismatch();
        for (uint256 i; i < init.grantees.length; ++i) {
            _setRoles(init.grantees[i], init.roles[i], true);
        }
        _bindCompliance(init.compliance);
    }

    /* OWNER */

    function transferOwnership(address newOwner) external onlyOwner {
        emit IERC173.OwnershipTransferred(_owner, newOwner);
        _owner = newOwner;
    }

    function grant(address account, uint256 roleMask) external onlyOwner {
        _setRoles(account, roleMask, true);
    }

    function revoke(address account, uint256 roleMask) external onlyOwner {
        _setRoles(account, roleMask, false);
    }

    function addAgent(address agent) external onlyOwner {
        _setRoles(agent, AGENT_ROLES, true);
    }

    function removeAgent(address agent) external onlyOwner {
        _setRoles(agent, AGENT_ROLES, false);
    }

    /* EMERGENCY */

    function pause() external onlyRole(AssetRoles.EMERGENCY) {
        if (_paused) revert IAssetToken.AlreadyPaused();
        _paused = true;
        emit IERC3643.Paused(msg.sender);
    }

    function unpause() external onlyRole(AssetRoles.EMERGENCY) {
        if (!_paused) revert IAssetToken.NotPaused();
        _paused = false;
        emit IERC3643.Unpaused(msg.sender);
    }

    /* GOVERNANCE */

    function setName(string calldata name_) external onlyRole(AssetRoles.GOVERNANCE) {
        _checkName(name_);
        _name = name_;
        _emitInformation();
    }

    function setSymbol(string calldata symbol_) external onlyRole(AssetRoles.GOVERNANCE) {
        _checkSymbol(symbol_);
        _symbol = symbol_;
        _emitInformation();
    }

    function setOnchainID(address onchainID_) external onlyRole(AssetRoles.GOVERNANCE) {
        _onchainID = onchainID_;
        _emitInformation();
    }

    function setIdentityRegistry(address registry) external onlyRole(AssetRoles.GOVERNANCE) {
        _setRegistry(registry);
    }

    function setCompliance(address compliance_) external onlyRole(AssetRoles.GOVERNANCE) {
        address former = _compliance;
        _bindCompliance(compliance_);
        ICompliance(former).unbindToken(address(this));
    }

    function scheduleUpgrade(address implementation, bytes calldata data) external onlyRole(AssetRoles.GOVERNANCE) {
        if (implementation.code.length == 0) revert IAssetToken.InvalidAddress(implementation);
        uint256 notBefore = block.timestamp + UPGRADE_DELAY;
        _upgradeHash = keccak256(abi.encode(implementation, data));
        _upgradeNotBefore = notBefore;
        emit IAssetToken.UpgradeScheduled(implementation, data, notBefore);
    }

    function cancelUpgrade() external onlyRole(AssetRoles.GOVERNANCE) {
        if (_upgradeHash == 0) revert IAssetToken.UpgradeNotScheduled(address(0));
        _upgradeHash = 0;
        emit IAssetToken.UpgradeCancelled();
    }

    /* INTERNAL */

    function _setRoles(address account, uint256 mask, bool give) private {
        if (give && account == address(0)) revert IAssetToken.InvalidAddress(account);
        if (mask == 0 || mask > AssetRoles.ALL) revert IAssetToken.InvalidRoles(mask);
        uint256 old = _roles[account];
        uint256 now_ = give ? old | mask : old & ~mask;
        _roles[account] = now_;
        if (give) emit IAssetToken.RolesGranted(account, mask);
        else emit IAssetToken.RolesRevoked(account, mask);
        if (_isAgent(old) == _isAgent(now_)) return;
        if (give) emit IAgentRole.AgentAdded(account);
        else emit IAgentRole.AgentRemoved(account);
    }

    function _isAgent(uint256 mask) private pure returns (bool) {
        return mask & AGENT_ROLES == AGENT_ROLES;
    }

    function _setRegistry(address registry) private {
        if (registry.code.length == 0) revert IAssetToken.InvalidAddress(registry);
        _registry = registry;
        emit IERC3643.IdentityRegistryAdded(registry);
    }

    function _bindCompliance(address compliance_) private {
        _compliance = compliance_;
        emit IERC3643.ComplianceAdded(compliance_);
        ICompliance(compliance_).bindToken(address(this));
    }

    function _emitInformation() private {
        emit IERC3643.UpdatedTokenInformation(_name, _symbol, _decimals, IERC3643(address(this)).version(), _onchainID);
    }

    function _checkName(string calldata text) private pure {
        if (bytes(text).length == 0 || bytes(text).length > 50) revert IAssetToken.InvalidName();
    }

    function _checkSymbol(string calldata text) private pure {
        bytes calldata chars = bytes(text);
        if (chars.length == 0 || chars.length > 24) revert IAssetToken.InvalidSymbol();
        for (uint256 i; i < chars.length; ++i) {
            bytes1 c = chars[i];
            if (!(c >= "A" && c <= "Z") && !(c >= "0" && c <= "9")) revert IAssetToken.InvalidSymbol();
        }
    }
}
