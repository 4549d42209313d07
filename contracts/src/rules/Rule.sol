// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC165, IERC165} from "@openzeppelin/contracts/utils/introspection/ERC165.sol";
import {IRule} from "../interfaces/IRule.sol";

/// @notice What every rule shares: its ERC-165 answer, and no bookkeeping unless the rule declares and overrides it.
abstract contract Rule is IRule, ERC165 {
    /// @inheritdoc IRule
    function moved(address, address, address, uint256) external virtual {}

    function supportsInterface(bytes4 interfaceId) public view override(ERC165, IERC165) returns (bool) {
        return interfaceId == type(IRule).interfaceId || super.supportsInterface(interfaceId);
    }
}
