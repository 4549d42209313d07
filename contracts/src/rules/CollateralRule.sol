// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {AggregatorV3Interface} from "../interfaces/IAggregatorV3.sol";
import {IAssetToken} from "../interfaces/IAssetToken.sol";
import {IClaimIssuer} from "../interfaces/IClaimIssuer.sol";
import {IERC735} from "../interfaces/IERC735.sol";
import {IRegistryQuestions} from "../interfaces/IIdentityRegistryPolicy.sol";
import {IRule, Hooks, Movement} from "../interfaces/IRule.sol";
import {ClaimData} from "../libraries/ClaimData.sol";
import {ReasonCodes} from "../Refusals.sol";
import {FiatValue} from "./FiatValue.sol";
import {Rule} from "./Rule.sol";

/// @title Collateral rule
/// @notice Lets a token be minted only as far as a claim on the token's own identity attests collateral: supply after the mint x
/// ratio <= attested amount. Parameters: `abi.encode(uint256 topic, uint32 ratioBps, address feed, uint32 maxAgeSeconds)`; 10,000 is one to
/// one, 15,000 asks 150 %. The claim's payload begins with `abi.encode(uint256 amount)`: without a feed (zeros) in the token's smallest
/// units; with one, the feed says what a whole token is worth, the amount is in that currency with 18 decimals, and the supply after
/// the mint is valued at the price of now, rounded up. The registry says which issuer is trusted
/// and alive, and that issuer judges the very data read here, so an identity cannot show the rule another amount than it showed
/// the registry. Collateral that shrinks or expires stops further mints; it never touches holders.
contract CollateralRule is Rule {
    uint256 private constant BPS = 10_000;
    /// More collateral than any supply times any ratio can need; keeps the product below from overflowing.
    uint256 private constant PLENTY = type(uint192).max;

    struct Config {
        uint256 topic;
        uint32 ratioBps;
        address feed;
        uint32 maxAgeSeconds;
    }

    mapping(address compliance => Config) private _configs;

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "CollateralRule";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.CHECK_MINT;
    }

    /// @inheritdoc IRule
    function validate(bytes calldata params) external view {
        Config memory config = abi.decode(params, (Config));
        if (config.topic == 0) revert InvalidParams("topic");
        if (config.ratioBps == 0) revert InvalidParams("ratio");
        if ((config.feed == address(0)) != (config.maxAgeSeconds == 0)) revert InvalidParams("maxAge");
        if (config.feed != address(0) && !FiatValue.isFeed(config.feed)) revert InvalidParams("feed");
    }

    /// @inheritdoc IRule
    function check(Movement calldata movement) external view returns (bytes32) {
        if (movement.from != address(0)) return ReasonCodes.OK;
        Config memory config = _configs[msg.sender];
        if (config.ratioBps == 0) return ReasonCodes.RULE_NOT_CONFIGURED;
        (bytes32 reason, uint256 collateral) =
            _collateral(movement.registry, IAssetToken(movement.token).onchainID(), config.topic);
        if (reason != 0) return reason;
        uint256 backed;
        (reason, backed) = _backed(config, movement);
        if (reason != 0) return reason;
        bool enough = backed <= PLENTY && backed * config.ratioBps <= collateral * BPS;
        return enough ? ReasonCodes.OK : ReasonCodes.COLLATERAL_TOO_LOW;
    }

    /// @notice The parameters of a compliance; zeros when it is not configured.
    function paramsOf(address compliance)
        external
        view
        returns (uint256 topic, uint32 ratioBps, address feed, uint32 maxAgeSeconds)
    {
        Config memory config = _configs[compliance];
        return (config.topic, config.ratioBps, config.feed, config.maxAgeSeconds);
    }

    function _apply(bytes calldata params) internal override {
        _configs[msg.sender] = abi.decode(params, (Config));
    }

    function _forget() internal override {
        delete _configs[msg.sender];
    }

    /// @dev The supply after the mint, in the unit of the attested amount.
    function _backed(Config memory config, Movement calldata movement)
        private
        view
        returns (bytes32 reason, uint256 amount)
    {
        IERC20Metadata token = IERC20Metadata(movement.token);
        amount = token.totalSupply() + movement.amount;
        if (config.feed == address(0)) return (0, amount);
        FiatValue.Fault fault;
        (fault, amount) =
            FiatValue.valueOf(AggregatorV3Interface(config.feed), config.maxAgeSeconds, amount, token.decimals());
        if (fault == FiatValue.Fault.UNAVAILABLE) reason = ReasonCodes.COLLATERAL_PRICE_UNAVAILABLE;
        else if (fault == FiatValue.Fault.STALE) reason = ReasonCodes.COLLATERAL_PRICE_STALE;
    }

    function _collateral(address registry, address identity, uint256 topic)
        private
        view
        returns (bytes32 reason, uint256 amount)
    {
        if (identity == address(0)) return (ReasonCodes.COLLATERAL_MISSING, 0);
        address issuer = IRegistryQuestions(registry).liveClaimIssuer(identity, topic);
        if (issuer == address(0)) return (ReasonCodes.COLLATERAL_MISSING, 0);
        (,,, bytes memory signature, bytes memory data,) = IERC735(identity).getClaim(ClaimData.claimId(issuer, topic));
        if (
            ClaimData.isExpired(ClaimData.expiryOf(data))
                || !IClaimIssuer(issuer).isClaimValid(identity, topic, signature, data)
        ) return (ReasonCodes.COLLATERAL_MISSING, 0);
        bytes memory payload = ClaimData.payloadOf(data);
        if (payload.length < 32) return (ReasonCodes.COLLATERAL_MALFORMED, 0);
        amount = uint256(bytes32(payload));
        if (amount > PLENTY) amount = PLENTY;
    }
}
