// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {IAgentRole} from "../interfaces/IAgentRole.sol";
import {IAssetToken} from "../interfaces/IAssetToken.sol";
import {IERC173} from "../interfaces/IERC173.sol";
import {IERC3643} from "../interfaces/IERC3643.sol";
import {IHolds} from "../interfaces/IHolds.sol";
import {IRecordDates} from "../interfaces/IRecordDates.sol";
import {AssetTokenCustody} from "./AssetTokenCustody.sol";
import {AssetTokenGovernance} from "./AssetTokenGovernance.sol";
import {AssetTokenState} from "./AssetTokenState.sol";
import {RecordDates} from "./RecordDates.sol";

/// @title The administrative functions of a token, as the token declares them
/// @notice Declared, so that the token shows its whole interface and the compiler knows it; done in `AssetTokenGovernance` and `AssetTokenCustody`.
abstract contract AssetTokenDelegation is IAssetToken, IAgentRole, IERC173, AssetTokenState {
    /// Code of the administration; see `AssetTokenState` for why it stands apart.
    address public immutable GOVERNANCE;
    address public immutable CUSTODY;

    constructor() {
        GOVERNANCE = address(new AssetTokenGovernance());
        CUSTODY = address(new AssetTokenCustody(GOVERNANCE));
    }

    /// @notice ERC-173: zero renounces for ever. Owner only. Emits `OwnershipTransferred`.
    function transferOwnership(address) external {
        _governance();
    }

    /// @inheritdoc IAssetToken
    function grant(address, uint256) external {
        _governance();
    }

    /// @inheritdoc IAssetToken
    function revoke(address, uint256) external {
        _governance();
    }

    /// @notice Gives an agent's roles (supply, custodian, emergency). Owner only. Emits `AgentAdded`, `RolesGranted`.
    function addAgent(address) external {
        _governance();
    }

    /// @notice Takes an agent's roles. Owner only. Emits `AgentRemoved`, `RolesRevoked`.
    function removeAgent(address) external {
        _governance();
    }

    /// @inheritdoc IERC3643
    function forcedTransfer(address, address, uint256) external returns (bool) {
        _custody();
        return true;
    }

    /// @inheritdoc IAssetToken
    function forcedTransferFor(address, address, uint256, bytes32) external returns (bool) {
        _custody();
        return true;
    }

    /// @inheritdoc IERC3643
    function batchForcedTransfer(address[] calldata, address[] calldata, uint256[] calldata) external {
        _custody();
    }

    /// @inheritdoc IHolds
    function breakHold(address, bytes32, address, uint256, bytes32) external {
        _custody();
    }

    /// @inheritdoc IAssetToken
    function collectFee(address, address, uint256) external {
        _custody();
    }

    /// @notice Moves everything of a lost wallet to the investor's new one. Custodian only. The new wallet must be registered
    /// with `investorOnchainID` and either be the registry's recorded successor of the lost wallet, or hold a MANAGEMENT
    /// key of the very identity the lost wallet is registered with; it must not itself have been recovered from. Freezes and holds add up;
    /// the new wallet never loses one. Emits `Transfer`, `RecoverySuccess`, and what follows of freezes and holds. Reverts
    /// `RecoveryRefused`, `NothingToRecover`.
    function recoveryAddress(address, address, address) external returns (bool) {
        _custody();
        return true;
    }

    /// @inheritdoc IERC3643
    function setAddressFrozen(address, bool) external {
        _custody();
    }

    /// @inheritdoc IERC3643
    function batchSetAddressFrozen(address[] calldata, bool[] calldata) external {
        _custody();
    }

    /// @inheritdoc IERC3643
    function freezePartialTokens(address, uint256) external {
        _custody();
    }

    /// @inheritdoc IERC3643
    function batchFreezePartialTokens(address[] calldata, uint256[] calldata) external {
        _custody();
    }

    /// @inheritdoc IERC3643
    function unfreezePartialTokens(address, uint256) external {
        _custody();
    }

    /// @inheritdoc IERC3643
    function batchUnfreezePartialTokens(address[] calldata, uint256[] calldata) external {
        _custody();
    }

    /// @inheritdoc IERC3643
    function pause() external {
        _governance();
    }

    /// @inheritdoc IERC3643
    function unpause() external {
        _governance();
    }

    /// @inheritdoc IERC3643
    function setName(string calldata) external {
        _governance();
    }

    /// @inheritdoc IERC3643
    function setSymbol(string calldata) external {
        _governance();
    }

    /// @inheritdoc IERC3643
    function setOnchainID(address) external {
        _governance();
    }

    /// @inheritdoc IERC3643
    function setIdentityRegistry(address) external {
        _governance();
    }

    /// @inheritdoc IERC3643
    function setCompliance(address) external {
        _governance();
    }

    /// @inheritdoc IAssetToken
    function scheduleUpgrade(address, bytes calldata) external {
        _governance();
    }

    /// @inheritdoc IAssetToken
    function cancelUpgrade() external {
        _governance();
    }

    /// @inheritdoc IRecordDates
    function addRecordDate(uint48) external {
        _governance();
    }

    /// @inheritdoc IRecordDates
    function addRecordDates(uint48, uint32, uint32) external {
        _governance();
    }

    function _governance() internal {
        Address.functionDelegateCall(GOVERNANCE, msg.data);
    }

    function _custody() private {
        Address.functionDelegateCall(CUSTODY, msg.data);
    }

    /// @dev Once per record date, so its code stands with the rest of the administration.
    function _passRecordDates() internal override {
        Address.functionDelegateCall(GOVERNANCE, abi.encodeCall(RecordDates.passRecordDates, ()));
    }
}
