// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {AssetToken} from "../src/AssetToken.sol";
import {AssetConfig, IAssetFactory, InitialMint} from "../src/interfaces/IAssetFactory.sol";
import {IAssetToken, TokenInit} from "../src/interfaces/IAssetToken.sol";
import {RuleConfig} from "../src/interfaces/ITokenCompliance.sol";
import {AssetRoles, Roles} from "../src/Roles.sol";
import {Fixture} from "./Fixture.sol";

contract AssetFactoryTest is Fixture {
    function test_create_applies_everything_at_the_predicted_address() public {
        RuleConfig[] memory rules = new RuleConfig[](1);
        rules[0] = RuleConfig(address(countryRule), _countryParams(true, DE));
        AssetConfig memory config = _config("NEW", rules);
        config.mints = new InitialMint[](1);
        config.mints[0] = InitialMint(bob, 77);
        (address token_, address compliance_) = factory.predict(address(this), config.salt);
        AssetToken created = AssetToken(factory.create(config));
        assertEq(address(created), token_, "token");
        assertEq(address(created.compliance()), compliance_, "compliance");
        assertEq(created.balanceOf(bob), 77, "mint");
        assertTrue(!created.paused(), "unpaused");
        assertEq(created.owner(), address(this), "owner");
        assertEq(created.rolesOf(address(this)), AssetRoles.ALL, "roles");
        assertEq(created.rolesOf(address(factory)), 0, "the factory keeps nothing");
        assertTrue(identities.isNative(created.onchainID()), "own identity");
        assertTrue(factory.isAsset(token_), "recorded");
        assertEq(factory.tokenBySymbol("NEW"), token_, "symbol");
    }

    function test_born_paused_unless_asked() public {
        AssetConfig memory config = _config("NEW", new RuleConfig[](0));
        config.unpause = false;
        assertTrue(AssetToken(factory.create(config)).paused(), "born paused");
    }

    function test_initial_mint_to_an_unverified_holder_undoes_all() public {
        AssetConfig memory config = _config("NEW", new RuleConfig[](0));
        config.mints = new InitialMint[](1);
        config.mints[0] = InitialMint(stranger, 1);
        vm.expectRevert();
        factory.create(config);
        assertEq(factory.tokenBySymbol("NEW"), address(0), "nothing left");
    }

    function test_symbol_and_salt_are_used_once() public {
        AssetConfig memory config = _config("NEW", new RuleConfig[](0));
        address first = factory.create(config);
        vm.expectRevert(abi.encodeWithSelector(IAssetFactory.SymbolTaken.selector, "NEW", first));
        factory.create(config);
        config.symbol = "OTHER";
        vm.expectRevert(abi.encodeWithSelector(IAssetFactory.SaltUsed.selector, address(this), config.salt));
        factory.create(config);
    }

    function test_same_salt_of_two_creators_does_not_collide() public {
        AssetConfig memory config = _config("NEW", new RuleConfig[](0));
        address first = factory.create(config);
        system.grant(carol, Roles.TOKEN_MANAGER);
        config.symbol = "OTHER";
        vm.prank(carol);
        assertTrue(factory.create(config) != first, "two tokens");
    }

    function test_only_token_managers_create() public {
        AssetConfig memory config = _config("NEW", new RuleConfig[](0));
        vm.expectRevert(abi.encodeWithSelector(IAssetFactory.MissingSystemRole.selector, alice, Roles.TOKEN_MANAGER));
        vm.prank(alice);
        factory.create(config);
    }

    function test_bad_terms_are_refused() public {
        AssetConfig memory config = _config("NEW", new RuleConfig[](0));
        config.decimals = 19;
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.InvalidDecimals.selector, 19));
        factory.create(config);
        config.decimals = 18;
        config.owner = address(0);
        vm.expectRevert();
        factory.create(config);
    }

    function test_created_token_and_implementation_cannot_be_initialized_again() public {
        TokenInit memory init;
        AssetToken implementation = AssetToken(factory.TOKEN_IMPLEMENTATION());
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        implementation.initialize(init);
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        token.initialize(init);
    }

    function test_compliance_is_only_made_for_our_assets() public {
        vm.expectRevert(abi.encodeWithSelector(IAssetFactory.NotAnAsset.selector, alice));
        factory.createCompliance(alice, 0);
    }

    function test_size_stays_in_budget() public view {
        assertLe(address(factory).code.length, 12_288, "AssetFactory");
    }
}
