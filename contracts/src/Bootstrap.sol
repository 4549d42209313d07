// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISystem} from "./interfaces/ISystem.sol";
import {Roles} from "./Roles.sol";

/// @notice One entry of the address book.
struct NamedAddress {
    bytes32 name;
    address account;
}

/// @notice System roles of one account.
struct SystemGrant {
    address account;
    uint256 roles;
}

/// @title Bootstrap
/// @notice The last step of setting up a tenant: fills the address book, hands out the roles and gives up its own, in one
/// transaction. It is the configurator the `System` was created with; its address is known before either exists.
/// Threat model: only the operator fixed at creation may run it, and after the run it can do nothing.
contract Bootstrap {
    address public immutable OPERATOR;

    event Bootstrapped(address indexed system);

    error NotOperator(address caller);
    error NotAContract(bytes32 name, address account);

    constructor(address operator) {
        OPERATOR = operator;
    }

    /// @notice Configures `system`. Operator only, once: it reverts after this contract has given up its role.
    /// Emits `Bootstrapped`. Reverts `NotAContract` when a named address holds no code.
    function run(ISystem system, NamedAddress[] calldata book, SystemGrant[] calldata grants) external {
        if (msg.sender != OPERATOR) revert NotOperator(msg.sender);
        for (uint256 i; i < book.length; ++i) {
            if (book[i].account.code.length == 0) revert NotAContract(book[i].name, book[i].account);
            system.set(book[i].name, book[i].account);
        }
        for (uint256 i; i < grants.length; ++i) {
            system.grant(grants[i].account, grants[i].roles);
        }
        system.renounce(Roles.PLATFORM_ADMIN);
        emit Bootstrapped(address(system));
    }
}
