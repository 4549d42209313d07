// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAssetToken} from "../interfaces/IAssetToken.sol";
import {ITokenCompliance} from "../interfaces/ITokenCompliance.sol";
import {IRule, Hooks, Movement} from "../interfaces/IRule.sol";
import {Rule} from "../rules/Rule.sol";

/// @title Management fee
/// @notice A yearly share of the units outstanding, accrued by the second on the supply as it was and minted to a collector on demand.
/// A feature bound to an asset's compliance like a rule: it judges nothing and follows mints and burns. It needs the asset's supply
/// role and uses it for what has accrued, no more. Parameters: `abi.encode(uint16 yearlyBps, address collector)`, at most 1000 bps.
/// What was not collected when the feature is removed is forgone.
contract ManagementFee is Rule {
    uint256 private constant MAX_BPS = 1000;
    uint256 private constant SCALE = 10_000 * 365 days;

    struct Fee {
        address collector;
        uint16 yearlyBps;
        uint40 since;
        // Units times `SCALE`: nothing is lost to rounding between two collections.
        uint256 accrued;
    }

    event FeeCollected(address indexed token, address indexed collector, uint256 amount);

    error NothingAccrued();

    mapping(address compliance => Fee) private _fees;

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "ManagementFee";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.MINT | Hooks.BURN;
    }

    /// @inheritdoc IRule
    function validate(bytes calldata params) external pure {
        (uint16 yearlyBps, address collector) = abi.decode(params, (uint16, address));
        if (yearlyBps == 0 || yearlyBps > MAX_BPS) revert InvalidParams("yearlyBps");
        if (collector == address(0)) revert InvalidParams("collector");
    }

    /// @inheritdoc IRule
    function check(Movement calldata) external pure returns (bytes32) {
        return 0;
    }

    /// @notice Accrues on the supply before a mint or burn. Keyed by the caller, so only an asset's own compliance affects it.
    function moved(address token, address from, address, uint256 amount) external override {
        uint256 supply = IAssetToken(token).totalSupply();
        _accrue(_fees[msg.sender], from == address(0) ? supply - amount : supply + amount);
    }

    /// @notice Mints the whole units that have accrued to the collector, who must be verified for the asset. Anyone. Emits
    /// `FeeCollected`. Reverts `NothingAccrued`, also for what only claims to be the asset, and as `mint` does.
    function collect(IAssetToken token) external returns (uint256 amount) {
        address compliance = address(token.compliance());
        // Else anybody could name a token of their own with a compliance of ours, and the fee would be minted there.
        if (ITokenCompliance(compliance).token() != address(token)) revert NothingAccrued();
        Fee storage fee = _fees[compliance];
        _accrue(fee, token.totalSupply());
        // Whole units only; the rest stays accrued.
        // slither-disable-next-line divide-before-multiply
        amount = fee.accrued / SCALE;
        if (amount == 0) revert NothingAccrued();
        fee.accrued -= amount * SCALE;
        emit FeeCollected(address(token), fee.collector, amount);
        token.mint(fee.collector, amount);
    }

    /// @notice Whole units that `collect` would mint now.
    function accrued(IAssetToken token) external view returns (uint256) {
        Fee storage fee = _fees[address(token.compliance())];
        return (fee.accrued + _growth(fee, token.totalSupply())) / SCALE;
    }

    function paramsOf(address compliance) external view returns (uint16 yearlyBps, address collector) {
        return (_fees[compliance].yearlyBps, _fees[compliance].collector);
    }

    /// @dev What accrued under the former rate stays.
    function _apply(bytes calldata params) internal override {
        Fee storage fee = _fees[msg.sender];
        _accrue(fee, IAssetToken(ITokenCompliance(msg.sender).token()).totalSupply());
        (fee.yearlyBps, fee.collector) = abi.decode(params, (uint16, address));
    }

    function _forget() internal override {
        delete _fees[msg.sender];
    }

    function _accrue(Fee storage fee, uint256 supply) private {
        fee.accrued += _growth(fee, supply);
        // forge-lint: disable-next-line(unsafe-typecast)
        fee.since = uint40(block.timestamp);
    }

    function _growth(Fee storage fee, uint256 supply) private view returns (uint256) {
        return supply * fee.yearlyBps * (block.timestamp - fee.since);
    }
}
