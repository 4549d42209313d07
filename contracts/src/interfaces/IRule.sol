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

    /// `check` before a mint only: transfers need not pay for a rule that has nothing to say about them.
    uint8 internal constant CHECK_MINT = 16;

    /// Every movement, before and after.
    uint8 internal constant ALL = CHECK | TRANSFER | MINT | BURN;
    uint8 internal constant KNOWN = ALL | CHECK_MINT;
}

/// @notice A movement to be judged, and what the registry says of its recipient: asked once, so that no rule has to ask again.
struct Movement {
    address token;
    /// The token's identity registry.
    address registry;
    /// Zero for a mint.
    address from;
    address to;
    uint256 amount;
    /// Identity of the recipient; zero when it is not registered.
    address identity;
    /// Country of the recipient; zero when there is none.
    uint16 country;
    /// The recipient is a contract that is admitted without an identity (`IRegistryQuestions.setExempt`). It has no country and no
    /// claims to ask for; what a rule asks of the sender, or of the movement, it asks all the same.
    bool exempt;
}

/// @notice A compliance rule: one contract serves many tokens, its parameters and state are keyed by the calling compliance.
interface IRule is IERC165 {
    /// @notice The parameters of `compliance` were replaced.
    event ParamsSet(address indexed compliance, bytes params);

    /// @notice The parameters make no sense for this rule. `field` names the first wrong one, or is `encoding` when the bytes
    /// do not decode at all.
    error InvalidParams(bytes32 field);
    /// @notice `compliance` has no parameters at this rule.
    error NotConfigured(address compliance);

    /// @notice Stable name of the kind of rule, for instance `CountryRule`.
    function name() external view returns (string memory);

    /// @notice The `Hooks` this rule needs.
    function hooks() external view returns (uint8);

    /// @notice Reverts unless `setParams` would take these parameters now: lets anyone ask before an asset is created.
    /// Reverts `InvalidParams`, or an error of the rule's own.
    function validate(bytes calldata params) external view;

    /// @notice Replaces the parameters of the calling compliance. Emits `ParamsSet`; reverts like `validate`.
    function setParams(bytes calldata params) external;

    /// @notice Forgets the parameters and all bookkeeping of the calling compliance (the rule is being removed). Emits `ParamsSet`.
    function clearParams() external;

    /// @notice Judges a movement for the calling compliance; zero means agreed.
    function check(Movement calldata movement) external view returns (bytes32 reason);

    /// @notice Tells the rule that a movement took place; `from` zero is a mint, `to` zero a burn.
    function moved(address token, address from, address to, uint256 amount) external;
}
