// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../src/AssetToken.sol";
import {IMergedIdentityRegistry} from "../src/interfaces/IIdentityRegistryPolicy.sol";
import {Fixture} from "./Fixture.sol";
import {TestBase} from "./Vm.sol";

/// @notice Random movements among a fixed set of holders; calls that the token refuses are part of the walk.
contract TokenWalk is TestBase {
    AssetToken private immutable TOKEN;
    address[] private _holders;

    constructor(AssetToken token, address[] memory holders) {
        TOKEN = token;
        _holders = holders;
    }

    function _pick(uint256 seed) private view returns (address) {
        return _holders[seed % _holders.length];
    }

    function transfer(uint256 from, uint256 to, uint256 amount) external {
        vm.prank(_pick(from));
        TOKEN.transfer(_pick(to), amount % 2000);
    }

    function mint(uint256 to, uint256 amount) external {
        TOKEN.mint(_pick(to), amount % 1000);
    }

    function burn(uint256 from, uint256 amount) external {
        TOKEN.burn(_pick(from), amount % 1000);
    }

    function force(uint256 from, uint256 to, uint256 amount) external {
        TOKEN.forcedTransfer(_pick(from), _pick(to), amount % 2000);
    }

    function freeze(uint256 who, uint256 amount) external {
        TOKEN.freezePartialTokens(_pick(who), amount % 1000);
    }

    function unfreeze(uint256 who, uint256 amount) external {
        TOKEN.unfreezePartialTokens(_pick(who), amount % 1000);
    }

    function freezeAccount(uint256 who, bool on) external {
        TOKEN.setAddressFrozen(_pick(who), on);
    }

    function recover(uint256 lost, uint256 next) external {
        address to = _pick(next);
        TOKEN.recoveryAddress(_pick(lost), to, address(TOKEN.identityRegistry().identity(to)));
    }
}

contract AssetTokenInvariants is Fixture {
    address[] private _holders;
    TokenWalk private _walk;

    function setUp() public override {
        super.setUp();
        _investor(carol, DE);
        // A second wallet of alice that may take over: the recovery path is part of the walk.
        registry.registerIdentity(address(0xA2), registry.identity(alice), DE);
        IKeys keys = IKeys(registry.identity(alice));
        vm.prank(alice);
        keys.addKey(keccak256(abi.encode(address(0xA2))), 1, 1);
        _holders = [alice, bob, carol, address(0xA2)];
        _walk = new TokenWalk(token, _holders);
        token.addAgent(address(_walk));
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_walk);
    }

    function invariant_supply_is_the_sum_of_balances() public view {
        uint256 sum;
        for (uint256 i; i < _holders.length; ++i) {
            sum += token.balanceOf(_holders[i]);
        }
        assertEq(sum, token.totalSupply(), "supply = sum of balances");
    }

    function invariant_frozen_never_exceeds_the_balance() public view {
        for (uint256 i; i < _holders.length; ++i) {
            assertLe(token.getFrozenTokens(_holders[i]), token.balanceOf(_holders[i]), "frozen <= balance");
        }
    }
}

interface IKeys {
    function addKey(bytes32 key, uint256 purpose, uint256 keyType) external returns (bool);
}
