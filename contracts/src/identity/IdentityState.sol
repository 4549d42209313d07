// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISystem} from "../interfaces/ISystem.sol";
import {KeyRing} from "./KeyRing.sol";

/// @title State that both parts of an identity share
/// @notice An identity is one contract to the outside and two in code, because one would exceed our size limit: `Identity` holds the
/// claims and what transfers ask, and delegates every other call to its `IdentityControl`. Both inherit this contract; `Identity` declares its
/// claims after it and `IdentityControl` declares nothing, so they see the same storage.
abstract contract IdentityState is KeyRing {
    struct Execution {
        address to;
        uint256 value;
        bytes data;
    }

    ISystem public immutable SYSTEM;

    uint256 internal _executionCount;
    mapping(uint256 executionId => Execution) internal _pending;

    constructor(ISystem system) {
        SYSTEM = system;
    }
}
