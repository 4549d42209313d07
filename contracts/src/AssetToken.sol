// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

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
import {IERC734} from "./interfaces/IERC734.sol";
import {IIdentityRegistry} from "./interfaces/IIdentityRegistry.sol";
import {IIdentityRegistryPolicy} from "./interfaces/IIdentityRegistryPolicy.sol";
import {ITokenCompliance} from "./interfaces/ITokenCompliance.sol";
import {ComplianceRefused, ReasonCodes} from "./Refusals.sol";
import {AssetRoles} from "./Roles.sol";

/// @title Asset token
/// @notice ERC-3643 permissioned token with split powers. The owner (ERC-173) appoints and dismisses and can do nothing else;
/// governance changes references, terms and code (code after a delay); supply mints and burns; custodian freezes, forces
/// transfers and recovers; emergency pauses. An ERC-3643 agent is an account with supply, custodian and emergency together.
///
/// Order of checks, the same in `preview` and in enforcement: token state, recipient's identity, rules; first veto wins.
///
/// Threat model: rules and registry are called before and after balances change and are chosen by governance; holders and
/// recipients are never called. The total supply fits in 120 bits, so a holder packs into one word and sums cannot
/// overflow. OpenZeppelin's ERC-20 is kept for everything but where balances lie (`_update`, `balanceOf`, `totalSupply`).
contract AssetToken is IAssetToken, IAgentRole, IERC173, IERC165, ERC20PermitUpgradeable, UUPSUpgradeable {
    /// Time between announcing an upgrade and applying it.
    uint256 public constant UPGRADE_DELAY = 2 days;

    uint256 private constant AGENT_ROLES = AssetRoles.SUPPLY | AssetRoles.CUSTODIAN | AssetRoles.EMERGENCY;
    uint256 private constant MAX_SUPPLY = type(uint120).max;
    /// `IERC3643` without the functions of ERC-20.
    bytes4 private constant ERC3643_ID = 0xb97d944c;

    /// All of a holder in one slot: a transfer then reads and writes one word per side, freezes included.
    struct Account {
        uint120 balance;
        uint120 frozenTokens;
        bool frozen;
    }

    /* STORAGE: only append; the parents keep theirs in ERC-7201 namespaces. */

    address private _registry;
    bool private _paused;
    uint8 private _decimals;
    address private _compliance;
    address private _owner;
    address private _onchainID;
    string private _name;
    string private _symbol;
    mapping(address holder => Account) private _accounts;
    uint256 private _supply;
    mapping(address account => uint256 mask) private _roles;
    bytes32 private _upgradeHash;
    uint256 private _upgradeNotBefore;

    /// @dev Locks the implementation; only proxies are used.
    constructor() {
        _disableInitializers();
    }

    modifier onlyOwner() {
        if (msg.sender != _owner) revert NotOwner(msg.sender);
        _;
    }

    modifier onlyRole(uint256 role) {
        _requireRole(role);
        _;
    }

    /// @inheritdoc IAssetToken
    function initialize(TokenInit calldata init) external initializer {
        if (init.decimals > 18) revert InvalidDecimals(init.decimals);
        if (init.owner == address(0)) revert InvalidAddress(init.owner);
        _checkName(init.name);
        _checkSymbol(init.symbol);
        // The parents' initializers would only store a name that `name()` overrides.
        _name = init.name;
        _symbol = init.symbol;
        _decimals = init.decimals;
        _onchainID = init.onchainID;
        _paused = true;
        _emitInformation();
        _setRegistry(init.identityRegistry);
        _bindCompliance(init.compliance);
        _owner = init.owner;
        emit OwnershipTransferred(address(0), init.owner);
        _each(init.grantees, init.roles, _grant);
        if (init.unpause) _unpause();
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
        reason = stateReason(from, to, amount);
        if (reason != 0) return (address(this), reason);
        // A burn asks nobody else.
        if (to == address(0)) return (address(0), 0);
        module = _registry;
        reason = IIdentityRegistryPolicy(module).explain(address(this), to);
        if (reason == 0) (module, reason) = ITokenCompliance(_compliance).check(module, from, to, amount);
    }

    /// @inheritdoc IAssetToken
    function stateReason(address from, address to, uint256 amount) public view returns (bytes32) {
        if (from == address(0)) {
            if (to == address(0)) return ReasonCodes.RECIPIENT_INVALID;
            if (_accounts[to].frozen) return ReasonCodes.RECIPIENT_FROZEN;
            return amount > MAX_SUPPLY - _supply ? ReasonCodes.SUPPLY_TOO_LARGE : ReasonCodes.OK;
        }
        Account memory sender = _accounts[from];
        if (to != address(0)) {
            if (_paused) return ReasonCodes.TOKEN_PAUSED;
            if (sender.frozen) return ReasonCodes.SENDER_FROZEN;
            if (_accounts[to].frozen) return ReasonCodes.RECIPIENT_FROZEN;
            if (sender.balance >= amount && sender.balance - sender.frozenTokens < amount) {
                return ReasonCodes.FREE_BALANCE_TOO_LOW;
            }
        }
        return sender.balance < amount ? ReasonCodes.BALANCE_TOO_LOW : ReasonCodes.OK;
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

    /* CUSTODIAN */

    /// @inheritdoc IERC3643
    function forcedTransfer(address from, address to, uint256 amount)
        external
        onlyRole(AssetRoles.CUSTODIAN)
        returns (bool)
    {
        _force(from, to, amount);
        return true;
    }

    /// @inheritdoc IERC3643
    function batchForcedTransfer(address[] calldata fromList, address[] calldata toList, uint256[] calldata amounts)
        external
        onlyRole(AssetRoles.CUSTODIAN)
    {
        if (fromList.length != toList.length || toList.length != amounts.length) revert LengthMismatch();
        for (uint256 i; i < fromList.length; ++i) {
            _force(fromList[i], toList[i], amounts[i]);
        }
    }

    /// @inheritdoc IERC3643
    function setAddressFrozen(address account, bool freeze) external onlyRole(AssetRoles.CUSTODIAN) {
        _setFrozen(account, freeze);
    }

    /// @inheritdoc IERC3643
    function batchSetAddressFrozen(address[] calldata accounts, bool[] calldata freeze)
        external
        onlyRole(AssetRoles.CUSTODIAN)
    {
        _sameLength(accounts.length, freeze.length);
        for (uint256 i; i < accounts.length; ++i) {
            _setFrozen(accounts[i], freeze[i]);
        }
    }

    /// @inheritdoc IERC3643
    function freezePartialTokens(address account, uint256 amount) external onlyRole(AssetRoles.CUSTODIAN) {
        _freezeTokens(account, amount);
    }

    /// @inheritdoc IERC3643
    function batchFreezePartialTokens(address[] calldata accounts, uint256[] calldata amounts)
        external
        onlyRole(AssetRoles.CUSTODIAN)
    {
        _each(accounts, amounts, _freezeTokens);
    }

    /// @inheritdoc IERC3643
    function unfreezePartialTokens(address account, uint256 amount) external onlyRole(AssetRoles.CUSTODIAN) {
        _unfreezeTokens(account, amount);
    }

    /// @inheritdoc IERC3643
    function batchUnfreezePartialTokens(address[] calldata accounts, uint256[] calldata amounts)
        external
        onlyRole(AssetRoles.CUSTODIAN)
    {
        _each(accounts, amounts, _unfreezeTokens);
    }

    /// @notice Moves everything of a lost wallet to the investor's new one. Custodian only. The new wallet must be registered
    /// with `investorOnchainID` and either be the registry's recorded successor of the lost wallet, or hold a MANAGEMENT
    /// key of the very identity the lost wallet is registered with. Freezes add up; the new wallet never loses one.
    /// Emits `RecoverySuccess`. Reverts `RecoveryRefused`, `NothingToRecover`.
    function recoveryAddress(address lostWallet, address newWallet, address investorOnchainID)
        external
        onlyRole(AssetRoles.CUSTODIAN)
        returns (bool)
    {
        if (lostWallet == newWallet || !_mayRecover(lostWallet, newWallet, investorOnchainID)) {
            revert RecoveryRefused(lostWallet, newWallet, investorOnchainID);
        }
        Account memory lost = _accounts[lostWallet];
        uint256 amount = lost.balance;
        if (amount == 0 && !lost.frozen) revert NothingToRecover(lostWallet);

        _transfer(lostWallet, newWallet, amount);
        if (lost.frozenTokens != 0) {
            _unfreezeTokens(lostWallet, lost.frozenTokens);
            _freezeTokens(newWallet, lost.frozenTokens);
        }
        if (lost.frozen && !_accounts[newWallet].frozen) _setFrozen(newWallet, true);
        emit RecoverySuccess(lostWallet, newWallet, investorOnchainID);
        ICompliance(_compliance).transferred(lostWallet, newWallet, amount);
        return true;
    }

    /// @inheritdoc IERC3643
    function isFrozen(address account) external view returns (bool) {
        return _accounts[account].frozen;
    }

    /// @inheritdoc IERC3643
    function getFrozenTokens(address account) external view returns (uint256) {
        return _accounts[account].frozenTokens;
    }

    /* EMERGENCY */

    /// @inheritdoc IERC3643
    function pause() external onlyRole(AssetRoles.EMERGENCY) {
        if (_paused) revert AlreadyPaused();
        _paused = true;
        emit Paused(msg.sender);
    }

    /// @inheritdoc IERC3643
    function unpause() external onlyRole(AssetRoles.EMERGENCY) {
        if (!_paused) revert NotPaused();
        _unpause();
    }

    function _unpause() private {
        _paused = false;
        emit Unpaused(msg.sender);
    }

    /// @inheritdoc IERC3643
    function paused() external view returns (bool) {
        return _paused;
    }

    /* GOVERNANCE */

    /// @inheritdoc IERC3643
    function setName(string calldata name_) external onlyRole(AssetRoles.GOVERNANCE) {
        _checkName(name_);
        _name = name_;
        _emitInformation();
    }

    /// @inheritdoc IERC3643
    function setSymbol(string calldata symbol_) external onlyRole(AssetRoles.GOVERNANCE) {
        _checkSymbol(symbol_);
        _symbol = symbol_;
        _emitInformation();
    }

    /// @inheritdoc IERC3643
    function setOnchainID(address onchainID_) external onlyRole(AssetRoles.GOVERNANCE) {
        _onchainID = onchainID_;
        _emitInformation();
    }

    /// @inheritdoc IERC3643
    function setIdentityRegistry(address registry) external onlyRole(AssetRoles.GOVERNANCE) {
        _setRegistry(registry);
    }

    /// @inheritdoc IERC3643
    function setCompliance(address compliance_) external onlyRole(AssetRoles.GOVERNANCE) {
        ICompliance(_compliance).unbindToken(address(this));
        _bindCompliance(compliance_);
    }

    /// @inheritdoc IAssetToken
    function scheduleUpgrade(address implementation, bytes memory data) external onlyRole(AssetRoles.GOVERNANCE) {
        if (implementation.code.length == 0) revert InvalidAddress(implementation);
        uint256 notBefore = block.timestamp + UPGRADE_DELAY;
        _upgradeHash = _upgradeId(implementation, data);
        _upgradeNotBefore = notBefore;
        emit UpgradeScheduled(implementation, data, notBefore);
    }

    /// @inheritdoc IAssetToken
    function cancelUpgrade() external onlyRole(AssetRoles.GOVERNANCE) {
        if (_upgradeHash == 0) revert UpgradeNotScheduled(address(0));
        _upgradeHash = 0;
        emit UpgradeCancelled();
    }

    /// @notice Applies the announced upgrade, with exactly the announced call. Governance only.
    /// Reverts `UpgradeNotScheduled`, `UpgradeTooEarly`.
    function upgradeToAndCall(address implementation, bytes memory data) public payable override {
        if (_upgradeHash != _upgradeId(implementation, data)) revert UpgradeNotScheduled(implementation);
        if (block.timestamp < _upgradeNotBefore) revert UpgradeTooEarly(_upgradeNotBefore);
        _upgradeHash = 0;
        super.upgradeToAndCall(implementation, data);
    }

    function _upgradeId(address implementation, bytes memory data) private pure returns (bytes32) {
        return keccak256(abi.encode(implementation, data));
    }

    function _authorizeUpgrade(address) internal view override {
        _requireRole(AssetRoles.GOVERNANCE);
    }

    /* ROLES */

    /// @inheritdoc IERC173
    function owner() external view returns (address) {
        return _owner;
    }

    /// @notice ERC-173: zero renounces for ever. Owner only. Emits `OwnershipTransferred`.
    function transferOwnership(address newOwner) external onlyOwner {
        emit OwnershipTransferred(_owner, newOwner);
        _owner = newOwner;
    }

    /// @inheritdoc IAssetToken
    function grant(address account, uint256 roleMask) external onlyOwner {
        _grant(account, roleMask);
    }

    /// @inheritdoc IAssetToken
    function revoke(address account, uint256 roleMask) external onlyOwner {
        _setRoles(account, roleMask, false);
    }

    /// @notice Gives an agent's roles (supply, custodian, emergency). Owner only. Emits `AgentAdded`, `RolesGranted`.
    function addAgent(address agent) external onlyOwner {
        _grant(agent, AGENT_ROLES);
    }

    /// @notice Takes an agent's roles. Owner only. Emits `AgentRemoved`, `RolesRevoked`.
    function removeAgent(address agent) external onlyOwner {
        _setRoles(agent, AGENT_ROLES, false);
    }

    /// @inheritdoc IAgentRole
    function isAgent(address account) external view returns (bool) {
        return _isAgent(_roles[account]);
    }

    /// @inheritdoc IAssetRoles
    function has(address account, uint256 roleMask) public view returns (bool) {
        return _roles[account] & roleMask != 0;
    }

    /// @inheritdoc IAssetToken
    function rolesOf(address account) external view returns (uint256) {
        return _roles[account];
    }

    /* REFERENCES */

    /// @inheritdoc IERC3643
    function onchainID() external view returns (address) {
        return _onchainID;
    }

    /// @inheritdoc IERC3643
    function version() public pure returns (string memory) {
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
            || id == type(IAgentRole).interfaceId || id == type(IERC173).interfaceId;
    }

    /* INTERNAL: movements */

    /// @dev The one place that changes balances. Amounts are bounded by a balance or, for mints, by the supply cap that
    /// `stateReason` enforces, so the casts below keep their value.
    function _update(address from, address to, uint256 amount) internal override {
        if (from == address(0)) {
            _supply += amount;
        } else {
            uint256 balance = _accounts[from].balance;
            if (balance < amount) revert ERC20InsufficientBalance(from, balance, amount);
            // forge-lint: disable-next-line(unsafe-typecast)
            _accounts[from].balance = uint120(balance - amount);
        }
        if (to == address(0)) {
            _supply -= amount;
        } else {
            // forge-lint: disable-next-line(unsafe-typecast)
            _accounts[to].balance += uint120(amount);
        }
        emit Transfer(from, to, amount);
    }

    function _each(address[] calldata accounts, uint256[] calldata amounts, function(address, uint256) internal action)
        private
    {
        _sameLength(accounts.length, amounts.length);
        for (uint256 i; i < accounts.length; ++i) {
            action(accounts[i], amounts[i]);
        }
    }

    function _moveOwn(address to, uint256 amount) private {
        _move(msg.sender, to, amount);
    }

    function _move(address from, address to, uint256 amount) private {
        _requireAllowed(from, to, amount);
        _transfer(from, to, amount);
        ICompliance(_compliance).transferred(from, to, amount);
    }

    function _issue(address to, uint256 amount) private {
        _requireAllowed(address(0), to, amount);
        _mint(to, amount);
        ICompliance(_compliance).created(to, amount);
    }

    function _destroy(address account, uint256 amount) private {
        _freeUp(account, amount);
        _burn(account, amount);
        ICompliance(_compliance).destroyed(account, amount);
    }

    function _force(address from, address to, uint256 amount) private {
        if (to == address(0)) revert ComplianceRefused(address(this), ReasonCodes.RECIPIENT_INVALID);
        _requireVerified(to);
        if (from == to) {
            // Nothing moves, so nothing may be unfrozen or counted either.
            _requireBalance(from, amount);
            return;
        }
        _freeUp(from, amount);
        _transfer(from, to, amount);
        ICompliance(_compliance).transferred(from, to, amount);
    }

    /// @dev Uses free balance first; unfreezes only what is missing.
    function _freeUp(address account, uint256 amount) private {
        uint256 free = _requireBalance(account, amount) - _accounts[account].frozenTokens;
        if (amount > free) _unfreezeTokens(account, amount - free);
    }

    function _requireBalance(address account, uint256 amount) private view returns (uint256 balance) {
        balance = balanceOf(account);
        if (balance < amount) revert ComplianceRefused(address(this), ReasonCodes.BALANCE_TOO_LOW);
    }

    /// @dev Enforcement is `preview`, so the two cannot disagree.
    function _requireAllowed(address from, address to, uint256 amount) private view {
        // `preview` reads a zero recipient as a burn, which no caller of this function means.
        if (to == address(0)) revert ComplianceRefused(address(this), ReasonCodes.RECIPIENT_INVALID);
        (address module, bytes32 reason) = preview(from, to, amount);
        if (reason != 0) revert ComplianceRefused(module, reason);
    }

    function _requireVerified(address to) private view {
        bytes32 reason = IIdentityRegistryPolicy(_registry).explain(address(this), to);
        if (reason != 0) revert ComplianceRefused(_registry, reason);
    }

    function _mayRecover(address lostWallet, address newWallet, address onchainID_) private view returns (bool) {
        if (onchainID_ == address(0) || IIdentityRegistry(_registry).identity(newWallet) != onchainID_) return false;
        if (IIdentityRegistryPolicy(_registry).successor(lostWallet) == newWallet) return true;
        return IIdentityRegistry(_registry).identity(lostWallet) == onchainID_
            && IERC734(onchainID_).keyHasPurpose(keccak256(abi.encode(newWallet)), 1);
    }

    /* INTERNAL: freezes, roles, texts */

    function _setFrozen(address account, bool freeze) private {
        _accounts[account].frozen = freeze;
        emit AddressFrozen(account, freeze, msg.sender);
    }

    function _freezeTokens(address account, uint256 amount) private {
        Account storage a = _accounts[account];
        uint256 free = a.balance - a.frozenTokens;
        if (amount > free) revert FreeBalanceExceeded(account, free, amount);
        // Bounded by the balance, which the supply cap keeps within 120 bits.
        // forge-lint: disable-next-line(unsafe-typecast)
        a.frozenTokens += uint120(amount);
        emit TokensFrozen(account, amount);
    }

    function _unfreezeTokens(address account, uint256 amount) private {
        Account storage a = _accounts[account];
        if (amount > a.frozenTokens) revert FrozenAmountExceeded(account, a.frozenTokens, amount);
        // forge-lint: disable-next-line(unsafe-typecast)
        a.frozenTokens -= uint120(amount);
        emit TokensUnfrozen(account, amount);
    }

    function _requireRole(uint256 role) private view {
        if (_roles[msg.sender] & role == 0) revert MissingRole(msg.sender, role);
    }

    function _grant(address account, uint256 mask) private {
        if (account == address(0)) revert InvalidAddress(account);
        _setRoles(account, mask, true);
    }

    function _setRoles(address account, uint256 mask, bool give) private {
        if (mask == 0 || mask > AssetRoles.ALL) revert InvalidRoles(mask);
        uint256 old = _roles[account];
        uint256 now_ = give ? old | mask : old & ~mask;
        _roles[account] = now_;
        if (give) emit RolesGranted(account, mask);
        else emit RolesRevoked(account, mask);
        if (_isAgent(old) == _isAgent(now_)) return;
        if (give) emit AgentAdded(account);
        else emit AgentRemoved(account);
    }

    function _isAgent(uint256 mask) private pure returns (bool) {
        return mask & AGENT_ROLES == AGENT_ROLES;
    }

    function _setRegistry(address registry) private {
        if (registry.code.length == 0) revert InvalidAddress(registry);
        _registry = registry;
        emit IdentityRegistryAdded(registry);
    }

    function _bindCompliance(address compliance_) private {
        _compliance = compliance_;
        emit ComplianceAdded(compliance_);
        ICompliance(compliance_).bindToken(address(this));
    }

    function _emitInformation() private {
        emit UpdatedTokenInformation(_name, _symbol, _decimals, version(), _onchainID);
    }

    function _sameLength(uint256 left, uint256 right) private pure {
        if (left != right) revert LengthMismatch();
    }

    function _checkName(string calldata text) private pure {
        if (bytes(text).length == 0 || bytes(text).length > 50) revert InvalidName();
    }

    function _checkSymbol(string calldata text) private pure {
        bytes calldata chars = bytes(text);
        if (chars.length == 0 || chars.length > 24) revert InvalidSymbol();
        for (uint256 i; i < chars.length; ++i) {
            bytes1 c = chars[i];
            if (!(c >= "A" && c <= "Z") && !(c >= "0" && c <= "9")) revert InvalidSymbol();
        }
    }

    /// @dev The permit domain follows the token's name.
    function _EIP712Name() internal view override returns (string memory) {
        return _name;
    }

    function _EIP712Version() internal pure override returns (string memory) {
        return "1";
    }
}
