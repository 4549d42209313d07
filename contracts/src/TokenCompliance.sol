// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC165} from "@openzeppelin/contracts/utils/introspection/ERC165.sol";
import {ERC165Checker} from "@openzeppelin/contracts/utils/introspection/ERC165Checker.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ICompliance} from "./interfaces/ICompliance.sol";
import {IAssetRoles, IAssetToken} from "./interfaces/IAssetToken.sol";
import {IIdentityRegistryPolicy} from "./interfaces/IIdentityRegistryPolicy.sol";
import {IRule, Hooks, Movement} from "./interfaces/IRule.sol";
import {ITokenCompliance, RuleConfig} from "./interfaces/ITokenCompliance.sol";
import {Verdict} from "./Refusals.sol";
import {AssetRoles} from "./Roles.sol";

/// @title Compliance of one token
/// @notice A clone per token that holds an ordered list of rules. Rules are singletons that keep parameters per compliance.
/// Threat model: the asset's governance chooses the rules and is trusted not to bind a hostile one; anybody else can only
/// read. A rule that refuses its own removal is removed all the same.
contract TokenCompliance is ITokenCompliance, ERC165 {
    uint256 private constant MAX_MODULES = 25;
    /// `ICompliance` as ERC-3643 prints it without `isTokenBound`; both ids are in use.
    bytes4 private constant COMPLIANCE_ID_SHORT = 0xa87a1289;

    // One slot: who is served and how many rules, so that a token without rules costs a single read.
    address private _token;
    bool private _bound;
    uint8 private _count;

    /// address | hooks << 160
    uint256[MAX_MODULES] private _modules;

    /// @dev Locks the implementation; only clones are used.
    constructor() {
        _token = address(this);
    }

    modifier onlyGovernance() {
        if (!IAssetRoles(_token).has(msg.sender, AssetRoles.GOVERNANCE)) revert NotGovernance(msg.sender);
        _;
    }

    modifier onlyBoundToken() {
        if (msg.sender != _token || !_bound) revert NotToken(msg.sender);
        _;
    }

    /// @inheritdoc ITokenCompliance
    function initialize(address token_, RuleConfig[] calldata rules) external {
        if (_token != address(0)) revert AlreadyBound(_token);
        _token = token_;
        for (uint256 i; i < rules.length; ++i) {
            _add(rules[i].module, rules[i].params);
        }
    }

    /* BINDING */

    /// @inheritdoc ICompliance
    function bindToken(address token_) external {
        if (msg.sender != _token || token_ != _token) revert NotToken(msg.sender);
        if (_bound) revert AlreadyBound(token_);
        _bound = true;
        emit TokenBound(token_);
    }

    /// @inheritdoc ICompliance
    function unbindToken(address token_) external onlyBoundToken {
        if (token_ != _token) revert NotToken(token_);
        _bound = false;
        emit TokenUnbound(token_);
    }

    /// @inheritdoc ICompliance
    function isTokenBound(address token_) external view returns (bool) {
        return _bound && token_ == _token;
    }

    /// @inheritdoc ICompliance
    function getTokenBound() external view returns (address) {
        return _bound ? _token : address(0);
    }

    /// @inheritdoc ITokenCompliance
    function token() external view returns (address) {
        return _token;
    }

    /* RULES */

    /// @inheritdoc ITokenCompliance
    function addModule(address module, bytes calldata params) external onlyGovernance {
        _add(module, params);
    }

    /// @inheritdoc ITokenCompliance
    function removeModule(address module) external onlyGovernance {
        uint256 index = _indexOf(module);
        uint256 last = _count - 1;
        // Order is meaning (the first veto is the one reported), so the rest moves up.
        for (uint256 i = index; i < last; ++i) {
            _modules[i] = _modules[i + 1];
        }
        _modules[last] = 0;
        _count = uint8(last);
        emit ModuleRemoved(module);
        try IRule(module).clearParams() {} catch {}
    }

    /// @inheritdoc ITokenCompliance
    function setModuleParams(address module, bytes calldata params) external onlyGovernance {
        _indexOf(module);
        IRule(module).setParams(params);
    }

    /// @inheritdoc ITokenCompliance
    function callModule(address module, bytes calldata data) external onlyGovernance returns (bytes memory) {
        _indexOf(module);
        // A rule's bookkeeping follows the token's movements only, and its parameters go when it is removed.
        bytes4 selector = bytes4(data);
        if (selector == IRule.moved.selector || selector == IRule.clearParams.selector) revert InvalidCall();
        return Address.functionCall(module, data);
    }

    /// @inheritdoc ITokenCompliance
    function getModules() external view returns (address[] memory modules) {
        uint256 count = _count;
        modules = new address[](count);
        for (uint256 i; i < count; ++i) {
            modules[i] = address(uint160(_modules[i]));
        }
    }

    /// @inheritdoc ITokenCompliance
    function isModuleBound(address module) external view returns (bool) {
        return moduleHooks(module) != 0;
    }

    /// @inheritdoc ITokenCompliance
    function moduleHooks(address module) public view returns (uint8) {
        uint256 count = _count;
        for (uint256 i; i < count; ++i) {
            if (address(uint160(_modules[i])) == module) return uint8(_modules[i] >> 160);
        }
        return 0;
    }

    /* JUDGING */

    /// @inheritdoc ICompliance
    function canTransfer(address from, address to, uint256 amount) external view returns (bool) {
        (, Movement memory movement) = _movement(_token, from, to, amount);
        (, bytes32 reason) = _ask(abi.encodeCall(IRule.check, (movement)), from == address(0));
        return reason == 0;
    }

    /// @inheritdoc ITokenCompliance
    function check(Movement calldata movement) external view returns (address module, bytes32 reason) {
        if (_count == 0) return (address(0), 0);
        // The rules are asked the same question under the same selector, so it goes on to them as it came.
        return _ask(msg.data, movement.from == address(0));
    }

    /// @inheritdoc ITokenCompliance
    function explain(address from, address to, uint256 amount) external view returns (Verdict[] memory verdicts) {
        address served = _token;
        Verdict memory own = Verdict(served, IAssetToken(served).stateReason(from, to, amount));
        if (to == address(0)) {
            verdicts = new Verdict[](1);
            verdicts[0] = own;
            return verdicts;
        }
        address[] memory judges = _judges();
        verdicts = new Verdict[](2 + judges.length);
        (bytes32 reason, Movement memory movement) = _movement(served, from, to, amount);
        verdicts[0] = own;
        verdicts[1] = Verdict(movement.registry, reason);
        for (uint256 i; i < judges.length; ++i) {
            verdicts[2 + i] = Verdict(judges[i], IRule(judges[i]).check(movement));
        }
    }

    /* FOLLOWING */

    /// @inheritdoc ICompliance
    function transferred(address from, address to, uint256 amount) external onlyBoundToken {
        _notify(Hooks.TRANSFER, from, to, amount);
    }

    /// @inheritdoc ICompliance
    function created(address to, uint256 amount) external onlyBoundToken {
        _notify(Hooks.MINT, address(0), to, amount);
    }

    /// @inheritdoc ICompliance
    function destroyed(address from, uint256 amount) external onlyBoundToken {
        _notify(Hooks.BURN, from, address(0), amount);
    }

    /// @inheritdoc ERC165
    function supportsInterface(bytes4 interfaceId) public view override returns (bool) {
        return interfaceId == type(ICompliance).interfaceId || interfaceId == COMPLIANCE_ID_SHORT
            || interfaceId == type(ITokenCompliance).interfaceId || super.supportsInterface(interfaceId);
    }

    /* INTERNAL */

    function _add(address module, bytes calldata params) private {
        if (!ERC165Checker.supportsInterface(module, type(IRule).interfaceId)) revert NotARule(module);
        if (moduleHooks(module) != 0) revert ModuleAlreadyBound(module);
        uint256 count = _count;
        if (count == MAX_MODULES) revert TooManyModules();
        uint8 hooks = IRule(module).hooks();
        if (hooks == 0 || hooks > Hooks.KNOWN) revert NotARule(module);
        _modules[count] = uint160(module) | uint256(hooks) << 160;
        _count = uint8(count + 1);
        emit ModuleAdded(module, hooks, params);
        IRule(module).setParams(params);
    }

    /// @param question a call of `IRule.check`, the same for all
    function _ask(bytes memory question, bool isMint) private view returns (address module, bytes32 reason) {
        uint256 count = _count;
        uint8 hooks = isMint ? Hooks.CHECK | Hooks.CHECK_MINT : Hooks.CHECK;
        for (uint256 i; i < count; ++i) {
            uint256 entry = _modules[i];
            if (_wants(entry, hooks)) {
                module = address(uint160(entry));
                reason = abi.decode(Address.functionStaticCall(module, question), (bytes32));
                if (reason != 0) return (module, reason);
            }
        }
        return (address(0), 0);
    }

    /// @return reason what the registry says of the recipient
    /// @return movement the same that the token would hand over
    function _movement(address served, address from, address to, uint256 amount)
        private
        view
        returns (bytes32 reason, Movement memory movement)
    {
        address registry = address(IAssetToken(served).identityRegistry());
        (movement.token, movement.registry) = (served, registry);
        (movement.from, movement.to, movement.amount) = (from, to, amount);
        (reason, movement.identity, movement.country, movement.exempt) =
            IIdentityRegistryPolicy(registry).admission(served, to);
    }

    function _notify(uint8 hook, address from, address to, uint256 amount) private {
        uint256 count = _count;
        address served = _token;
        for (uint256 i; i < count; ++i) {
            uint256 entry = _modules[i];
            if (_wants(entry, hook)) IRule(address(uint160(entry))).moved(served, from, to, amount);
        }
    }

    /// @dev The rules that judge movements, in order.
    function _judges() private view returns (address[] memory judges) {
        uint256 count = _count;
        judges = new address[](count);
        uint256 found;
        for (uint256 i; i < count; ++i) {
            uint256 entry = _modules[i];
            if (_wants(entry, Hooks.CHECK | Hooks.CHECK_MINT)) judges[found++] = address(uint160(entry));
        }
        if (found == count) return judges;
        address[] memory fewer = new address[](found);
        for (uint256 i; i < found; ++i) {
            fewer[i] = judges[i];
        }
        return fewer;
    }

    function _wants(uint256 entry, uint8 anyOf) private pure returns (bool) {
        return uint8(entry >> 160) & anyOf != 0;
    }

    function _indexOf(address module) private view returns (uint256) {
        uint256 count = _count;
        for (uint256 i; i < count; ++i) {
            if (address(uint160(_modules[i])) == module) return i;
        }
        revert ModuleNotBound(module);
    }
}
