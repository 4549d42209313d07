// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";

/// @notice When a rule is called: a bit mask that the rule itself declares, so nobody can bind it half.
library Hooks {
    /// `check` before a transfer or mint.
    uint8 internal constant CHECK = 1;
    /// `moved` after a transfer (forced ones and recoveries too).
    uint8 internal constant TRANSFER = 2;
    /// `moved` after a mint, with `from` zero.
    uint8 internal constant MINT = 4;
    /// `moved` after a burn, with `to` zero.
    uint8 internal constant BURN = 8;

    uint8 internal constant ALL = 15;
}

/// @notice A compliance rule: one contract serves many tokens, its parameters and state are keyed by the calling compliance.
interface IRule is IERC165 {
    /// @notice The parameters of `compliance` were replaced.
    event ParamsSet(address indexed compliance, bytes params);

    /// @notice The parameters do not decode or make no sense for this rule.
    error InvalidParams();

    /// @notice Stable name of the kind of rule, for instance `CountryRule`.
    function name() external view returns (string memory);

    /// @notice The `Hooks` this rule needs.
    function hooks() external view returns (uint8);

    /// @notice Replaces the parameters of the calling compliance. Emits `ParamsSet`; reverts `InvalidParams`.
    function setParams(bytes calldata params) external;

    /// @notice Forgets the parameters of the calling compliance (the rule is being removed).
    function clearParams() external;

    /// @notice Judges a movement for the calling compliance; zero means agreed. `from` zero is a mint. `registry` is the token's
    /// identity registry, handed over so that no rule has to ask for it.
    function check(address token, address registry, address from, address to, uint256 amount)
        external
        view
        returns (bytes32 reason);

    /// @notice Tells the rule that a movement took place; `from` zero is a mint, `to` zero a burn.
    function moved(address token, address from, address to, uint256 amount) external;
}
