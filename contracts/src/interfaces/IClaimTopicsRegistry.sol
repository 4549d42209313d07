// SPDX-License-Identifier: CC0-1.0
pragma solidity 0.8.37;

/// @notice ERC-3643 claim topics registry (interface id 0x10928b13).
interface IClaimTopicsRegistry {
    event ClaimTopicAdded(uint256 indexed claimTopic);
    event ClaimTopicRemoved(uint256 indexed claimTopic);

    function addClaimTopic(uint256 _claimTopic) external;
    function removeClaimTopic(uint256 _claimTopic) external;
    function getClaimTopics() external view returns (uint256[] memory);
}
