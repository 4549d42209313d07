// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {ERC20Upgradeable} from "@openzeppelin/contracts-upgradeable/token/ERC20/ERC20Upgradeable.sol";
import {
    ERC20PermitUpgradeable
} from "@openzeppelin/contracts-upgradeable/token/ERC20/extensions/ERC20PermitUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";
import {IAgentRole} from "./interfaces/IAgentRole.sol";
import {IAssetRoles, IAssetToken, TokenInit} from "./interfaces/IAssetToken.sol";
import {ICompliance} from "./interfaces/ICompliance.sol";
import {IERC173} from "./interfaces/IERC173.sol";
import {IERC3643} from "./interfaces/IERC3643.sol";
import {IHolds} from "./interfaces/IHolds.sol";
import {IIdentityRegistry} from "./interfaces/IIdentityRegistry.sol";
import {IIdentityRegistryPolicy} from "./interfaces/IIdentityRegistryPolicy.sol";
import {IRecordDates} from "./interfaces/IRecordDates.sol";
import {Movement} from "./interfaces/IRule.sol";
import {ITokenCompliance} from "./interfaces/ITokenCompliance.sol";
import {ComplianceRefused, ReasonCodes} from "./Refusals.sol";
import {AssetRoles} from "./Roles.sol";
import {AssetTokenDelegation} from "./token/AssetTokenDelegation.sol";

/// @title Asset token
/// @notice ERC-3643 permissioned token with split powers. The owner (ERC-173) appoints and dismisses and can do nothing else;
/// governance changes references, terms and code (code after a delay); supply mints and burns; custodian freezes, forces
/// transfers and recovers; emergency pauses. An ERC-3643 agent is an account with supply, custodian and emergency together.
///
/// Order of checks, the same in `preview` and in enforcement: token state, recipient's identity, rules; first veto wins.
///
/// Threat model: rules and registry are called before and after balances change and are chosen by governance; holders,
/// recipients and those who hold tokens for them are never called. The total supply fits in 112 bits, so a holder packs into one word and
/// sums cannot overflow. OpenZeppelin's ERC-20 is kept for everything but where balances lie (`_update`, `balanceOf`, `totalSupply`).
contract AssetToken is AssetTokenDelegation, IERC165, ERC20PermitUpgradeable, UUPSUpgradeable {
    using Checkpoints for Checkpoints.Trace208;

    /// `IERC3643` without the functions of ERC-20.
    bytes4 private constant ERC3643_ID = 0xb97d944c;
    uint256 private constant AGENT_ROLES = AssetRoles.SUPPLY | AssetRoles.CUSTODIAN | AssetRoles.EMERGENCY;

    /// @dev Locks the implementation; only proxies are used.
    constructor() {
        _disableInitializers();
    }

    modifier onlyRole(uint256 role) {
        _requireRole(role);
        _;
    }

    /// @inheritdoc IAssetToken
    function initialize(TokenInit calldata init) external {
        _governance();
        _each(init.mintTo, init.mintAmounts, _issue);
    }

    /* ERC-20 */

    /// @inheritdoc IERC20
    function transfer(address to, uint256 amount) public override(ERC20Upgradeable, IERC20) returns (bool) {
        _move(msg.sender, to, amount);
        return true;
    }

    /// @inheritdoc IERC20
    function transferFrom(address from, address to, uint256 amount)
        public
        override(ERC20Upgradeable, IERC20)
        returns (bool)
    {
        _spendAllowance(from, msg.sender, amount);
        _move(from, to, amount);
        return true;
    }

    /// @inheritdoc IERC3643
    function batchTransfer(address[] calldata toList, uint256[] calldata amounts) external {
        _each(toList, amounts, _moveOwn);
    }

    function name() public view override returns (string memory) {
        return _name;
    }

    function symbol() public view override returns (string memory) {
        return _symbol;
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    /// @inheritdoc IERC20
    function balanceOf(address account) public view override(ERC20Upgradeable, IERC20) returns (uint256) {
        return _accounts[account].balance;
    }

    /// @inheritdoc IERC20
    function totalSupply() public view override(ERC20Upgradeable, IERC20) returns (uint256) {
        return _supply;
    }

    /* PRE-CHECK */

    /// @inheritdoc IAssetToken
    function preview(address from, address to, uint256 amount) public view returns (address module, bytes32 reason) {
        return _preview(from, to, amount, 0);
    }

    /// @inheritdoc IAssetToken
    function stateReason(address from, address to, uint256 amount) external view returns (bytes32) {
        return _stateReason(from, to, amount, 0);
    }

    /// @inheritdoc IHolds
    function previewHold(address holder, address to, uint256 amount)
        external
        view
        returns (address module, bytes32 reason)
    {
        // A zero recipient would be read as a burn.
        if (to == address(0)) return (address(this), ReasonCodes.RECIPIENT_INVALID);
        return _preview(_currentWallet(holder), to, amount, amount);
    }

    /* SUPPLY */

    /// @inheritdoc IERC3643
    function mint(address to, uint256 amount) external onlyRole(AssetRoles.SUPPLY) {
        _issue(to, amount);
    }

    /// @inheritdoc IERC3643
    function batchMint(address[] calldata toList, uint256[] calldata amounts) external onlyRole(AssetRoles.SUPPLY) {
        _each(toList, amounts, _issue);
    }

    /// @inheritdoc IERC3643
    function burn(address account, uint256 amount) external onlyRole(AssetRoles.SUPPLY) {
        _destroy(account, amount);
    }

    /// @inheritdoc IERC3643
    function batchBurn(address[] calldata accounts, uint256[] calldata amounts) external onlyRole(AssetRoles.SUPPLY) {
        _each(accounts, amounts, _destroy);
    }

    /* HOLDS */

    /// @inheritdoc IHolds
    function hold(bytes32 id, address holder, uint256 amount) external {
        _spendAllowance(holder, msg.sender, amount);
        if (_recoveredTo[holder] != address(0)) _refuse(ReasonCodes.WALLET_RECOVERED);
        Account storage account = _accounts[holder];
        bytes32 reason = _senderReason(account, amount, 0);
        if (reason == 0 && account.balance < amount) reason = ReasonCodes.BALANCE_TOO_LOW;
        if (reason != 0) _refuse(reason);
        // Bounded by the balance.
        // forge-lint: disable-next-line(unsafe-typecast)
        account.locked += uint112(amount);
        _held[holder] += amount;
        _holds[_holdKey(msg.sender, id, holder)] += amount;
        emit HoldPlaced(msg.sender, id, holder, amount);
    }

    /// @inheritdoc IHolds
    function executeHold(bytes32 id, address holder, address to, uint256 amount) external {
        address account = _takeFromHold(msg.sender, id, holder, amount);
        emit HoldExecuted(msg.sender, id, holder, to, amount);
        _move(account, to, amount);
    }

    /// @inheritdoc IHolds
    function releaseHold(bytes32 id, address holder, uint256 amount) external {
        _takeFromHold(msg.sender, id, holder, amount);
        emit HoldReleased(msg.sender, id, holder, amount);
    }

    /// @inheritdoc IHolds
    function heldBy(address spender, bytes32 id, address holder) external view returns (uint256) {
        return _holds[_holdKey(spender, id, holder)];
    }

    /// @inheritdoc IHolds
    function heldOf(address account) external view returns (uint256) {
        return _held[account];
    }

    /// @inheritdoc IAssetToken
    function currentWallet(address wallet) external view returns (address) {
        return _currentWallet(wallet);
    }

    /* RECORD DATES */

    /// @inheritdoc IRecordDates
    function isRecordDate(uint256 date) public view returns (bool) {
        if (_isSingleDate[date]) return true;
        for (uint256 i; i < _series.length; ++i) {
            uint256 entry = _series[i];
            // forge-lint: disable-start(unsafe-typecast)
            uint256 first = uint48(entry);
            if (date >= first && date <= uint48(entry >> 48) && (date - first) % uint32(entry >> 96) == 0) return true;
            // forge-lint: disable-end(unsafe-typecast)
        }
        return false;
    }

    /// @inheritdoc IRecordDates
    function balanceAt(address account, uint256 date) external view returns (uint256) {
        return _at(_history[account], date, _accounts[account].balance);
    }

    /// @inheritdoc IRecordDates
    function supplyAt(uint256 date) external view returns (uint256) {
        return _at(_supplyHistory, date, _supply);
    }

    /// @dev The first value kept at or after the date is the one that stood at it; without one nothing has moved since.
    function _at(Checkpoints.Trace208 storage history, uint256 date, uint256 present) private view returns (uint256) {
        if (!isRecordDate(date)) revert RecordDateUnknown(date);
        if (date >= block.timestamp) revert RecordDateNotPassed(date);
        (bool kept, uint48 latest,) = history.latestCheckpoint();
        // A record date fits in 48 bits.
        // forge-lint: disable-next-line(unsafe-typecast)
        return kept && latest >= date ? history.lowerLookup(uint48(date)) : present;
    }

    /* STATE */

    /// @inheritdoc IERC3643
    function isFrozen(address account) external view returns (bool) {
        return _accounts[account].frozen;
    }

    /// @inheritdoc IERC3643
    function getFrozenTokens(address account) external view returns (uint256) {
        return _accounts[account].locked - _held[account];
    }

    /// @inheritdoc IERC3643
    function paused() external view returns (bool) {
        return _paused;
    }

    /// @inheritdoc IAssetToken
    function isForced() external view returns (bool) {
        return _forced;
    }

    /// @inheritdoc IERC173
    function owner() external view returns (address) {
        return _owner;
    }

    /// @inheritdoc IAgentRole
    function isAgent(address account) external view returns (bool) {
        return _roles[account] & AGENT_ROLES == AGENT_ROLES;
    }

    /// @inheritdoc IAssetRoles
    function has(address account, uint256 roleMask) external view returns (bool) {
        return _roles[account] & roleMask != 0;
    }

    /// @inheritdoc IAssetToken
    function rolesOf(address account) external view returns (uint256) {
        return _roles[account];
    }

    /// @inheritdoc IERC3643
    function onchainID() external view returns (address) {
        return _onchainID;
    }

    /// @inheritdoc IERC3643
    function version() external pure returns (string memory) {
        return "1.0.0";
    }

    /// @inheritdoc IERC3643
    function identityRegistry() external view returns (IIdentityRegistry) {
        return IIdentityRegistry(_registry);
    }

    /// @inheritdoc IERC3643
    function compliance() external view returns (ICompliance) {
        return ICompliance(_compliance);
    }

    /// @inheritdoc IERC165
    function supportsInterface(bytes4 id) external pure returns (bool) {
        return id == type(IERC165).interfaceId || id == type(IERC20).interfaceId
            || id == type(IERC20Metadata).interfaceId || id == type(IERC20Permit).interfaceId || id == ERC3643_ID
            || id == type(IAgentRole).interfaceId || id == type(IERC173).interfaceId || id == type(IHolds).interfaceId
            || id == type(IRecordDates).interfaceId;
    }

    /* UPGRADE */

    /// @notice Applies the announced upgrade, with exactly the announced call. Governance only.
    /// Reverts `UpgradeNotScheduled`, `UpgradeTooEarly`.
    function upgradeToAndCall(address implementation, bytes memory data) public payable override {
        if (_upgradeHash != keccak256(abi.encode(implementation, data))) revert UpgradeNotScheduled(implementation);
        if (block.timestamp < _upgradeNotBefore) revert UpgradeTooEarly(_upgradeNotBefore);
        _upgradeHash = 0;
        super.upgradeToAndCall(implementation, data);
    }

    function _authorizeUpgrade(address) internal view override {
        _requireRole(AssetRoles.GOVERNANCE);
    }

    /* INTERNAL */

    /// @dev For OpenZeppelin's ERC-20, which then does not know where balances lie.
    function _update(address from, address to, uint256 amount) internal override {
        _changeBalances(from, to, amount);
    }

    function _each(address[] calldata accounts, uint256[] calldata amounts, function(address, uint256) internal action)
        private
    {
        if (accounts.length != amounts.length) revert LengthMismatch();
        for (uint256 i; i < accounts.length; ++i) {
            action(accounts[i], amounts[i]);
        }
    }

    function _moveOwn(address to, uint256 amount) private {
        _move(msg.sender, to, amount);
    }

    function _move(address from, address to, uint256 amount) private {
        _requireAllowed(from, to, amount);
        _changeBalances(from, to, amount);
        ICompliance(_compliance).transferred(from, to, amount);
    }

    function _issue(address to, uint256 amount) private {
        _requireAllowed(address(0), to, amount);
        _changeBalances(address(0), to, amount);
        ICompliance(_compliance).created(to, amount);
    }

    function _destroy(address account, uint256 amount) private {
        _freeUp(account, amount);
        _changeBalances(account, address(0), amount);
        ICompliance(_compliance).destroyed(account, amount);
    }

    /// @dev Enforcement is `preview`, so the two cannot disagree.
    function _requireAllowed(address from, address to, uint256 amount) private view {
        // `preview` reads a zero recipient as a burn, which no caller of this function means.
        if (to == address(0)) _refuse(ReasonCodes.RECIPIENT_INVALID);
        (address module, bytes32 reason) = _preview(from, to, amount, 0);
        if (reason != 0) revert ComplianceRefused(module, reason);
    }

    function _refuse(bytes32 reason) private view {
        revert ComplianceRefused(address(this), reason);
    }

    /// @param unlocked locked tokens that the movement brings along
    function _preview(address from, address to, uint256 amount, uint256 unlocked)
        private
        view
        returns (address module, bytes32 reason)
    {
        reason = _stateReason(from, to, amount, unlocked);
        if (reason != 0) return (address(this), reason);
        // A burn asks nobody else.
        if (to == address(0)) return (address(0), 0);
        module = _registry;
        (bytes32 refusal, address identity, uint16 country, bool exempt) =
            IIdentityRegistryPolicy(module).admission(address(this), to);
        if (refusal != 0) return (module, refusal);
        return ITokenCompliance(_compliance)
            .check(Movement(address(this), module, from, to, amount, identity, country, exempt));
    }

    function _stateReason(address from, address to, uint256 amount, uint256 unlocked) private view returns (bytes32) {
        if (from == address(0)) {
            if (to == address(0)) return ReasonCodes.RECIPIENT_INVALID;
            if (_accounts[to].frozen) return ReasonCodes.RECIPIENT_FROZEN;
            return amount > MAX_SUPPLY - _supply ? ReasonCodes.SUPPLY_TOO_LARGE : ReasonCodes.OK;
        }
        Account memory sender = _accounts[from];
        if (to != address(0)) {
            bytes32 reason = _senderReason(sender, amount, unlocked);
            if (reason == ReasonCodes.TOKEN_PAUSED || reason == ReasonCodes.SENDER_FROZEN) return reason;
            if (_accounts[to].frozen) return ReasonCodes.RECIPIENT_FROZEN;
            if (reason != 0) return reason;
        } else if (sender.balance >= amount && sender.balance - _held[from] < amount) {
            return ReasonCodes.BALANCE_HELD;
        }
        return sender.balance < amount ? ReasonCodes.BALANCE_TOO_LOW : ReasonCodes.OK;
    }

    /// @dev What keeps the sender's tokens where they are, besides there being too few.
    function _senderReason(Account memory sender, uint256 amount, uint256 unlocked) private view returns (bytes32) {
        if (_paused) return ReasonCodes.TOKEN_PAUSED;
        if (sender.frozen) return ReasonCodes.SENDER_FROZEN;
        if (sender.balance >= amount && sender.balance - sender.locked + unlocked < amount) {
            return ReasonCodes.FREE_BALANCE_TOO_LOW;
        }
        return 0;
    }

    /// @dev The permit domain follows the token's name.
    function _EIP712Name() internal view override returns (string memory) {
        return _name;
    }

    function _EIP712Version() internal pure override returns (string memory) {
        return "1";
    }
}
