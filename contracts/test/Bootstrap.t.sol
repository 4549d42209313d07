// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bootstrap, NamedAddress, SystemGrant} from "../src/Bootstrap.sol";
import {System} from "../src/System.sol";
import {ISystem} from "../src/interfaces/ISystem.sol";
import {Names, Roles} from "../src/Roles.sol";
import {TestBase} from "./Vm.sol";

contract BootstrapTest is TestBase {
    address private constant ADMIN = address(0xAD);
    address private constant MANAGER = address(0x1D);

    Bootstrap private _bootstrap;
    System private _system;

    function setUp() public {
        _bootstrap = new Bootstrap(address(this));
        _system = new System(ADMIN, address(_bootstrap));
    }

    function _book(address account) private pure returns (NamedAddress[] memory book) {
        book = new NamedAddress[](1);
        book[0] = NamedAddress(Names.ASSET_FACTORY, account);
    }

    function _grants() private pure returns (SystemGrant[] memory grants) {
        grants = new SystemGrant[](1);
        grants[0] = SystemGrant(MANAGER, Roles.TOKEN_MANAGER);
    }

    function test_it_fills_the_book_hands_out_the_roles_and_gives_up_its_own() public {
        vm.expectEmit(true, false, false, true, address(_bootstrap));
        emit Bootstrap.Bootstrapped(address(_system));
        _bootstrap.run(ISystem(address(_system)), _book(address(this)), _grants());
        assertEq(_system.get(Names.ASSET_FACTORY), address(this), "book");
        assertEq(_system.rolesOf(MANAGER), Roles.TOKEN_MANAGER, "roles");
        assertEq(_system.rolesOf(address(_bootstrap)), 0, "nothing left");
        vm.expectRevert(
            abi.encodeWithSelector(ISystem.SystemUnauthorized.selector, address(_bootstrap), Roles.PLATFORM_ADMIN)
        );
        _bootstrap.run(ISystem(address(_system)), _book(address(this)), _grants());
    }

    function test_only_the_operator_runs_it() public {
        vm.prank(ADMIN);
        vm.expectRevert(abi.encodeWithSelector(Bootstrap.NotOperator.selector, ADMIN));
        _bootstrap.run(ISystem(address(_system)), _book(address(this)), _grants());
    }

    function test_a_name_without_a_contract_undoes_all() public {
        vm.expectRevert(abi.encodeWithSelector(Bootstrap.NotAContract.selector, Names.ASSET_FACTORY, MANAGER));
        _bootstrap.run(ISystem(address(_system)), _book(MANAGER), _grants());
        assertEq(_system.rolesOf(MANAGER), 0, "no roles either");
        assertEq(_system.rolesOf(address(_bootstrap)), Roles.PLATFORM_ADMIN, "and it can be run again");
        _bootstrap.run(ISystem(address(_system)), _book(address(this)), _grants());
    }
}
