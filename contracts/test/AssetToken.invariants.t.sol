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

    mapping(uint256 id => mapping(address holder => uint256)) public held;
    mapping(uint256 date => mapping(address holder => uint256)) public balanceThen;
    mapping(uint256 date => uint256) public supplyThen;
    uint256[] public dates;
    uint256 public nextDate = 1_800_000_100;

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

    function hold(uint256 who, uint256 id, uint256 amount) external {
        address holder = _pick(who);
        amount %= 1000;
        vm.prank(holder);
        TOKEN.approve(address(this), amount);
        TOKEN.hold(bytes32(id % 3), holder, amount);
        held[id % 3][holder] += amount;
    }

    function executeHold(uint256 who, uint256 id, uint256 to, uint256 amount) external {
        address holder = _pick(who);
        TOKEN.executeHold(bytes32(id % 3), holder, _pick(to), amount %= 600);
        held[id % 3][holder] -= amount;
    }

    function releaseHold(uint256 who, uint256 id, uint256 amount) external {
        address holder = _pick(who);
        TOKEN.releaseHold(bytes32(id % 3), holder, amount %= 600);
        held[id % 3][holder] -= amount;
    }

    function breakHold(uint256 who, uint256 id, uint256 amount) external {
        address holder = _pick(who);
        TOKEN.breakHold(address(this), bytes32(id % 3), holder, amount %= 600, "walk");
        held[id % 3][holder] -= amount;
    }

    /// @dev Every date is one that was announced; what stood at it is copied before time moves past it.
    function wait_(uint256 seconds_) external {
        uint256 time = block.timestamp + 1 + seconds_ % 200;
        if (time > nextDate) {
            for (uint256 i; i < _holders.length; ++i) {
                balanceThen[nextDate][_holders[i]] = TOKEN.balanceOf(_holders[i]);
            }
            supplyThen[nextDate] = TOKEN.totalSupply();
            dates.push(nextDate);
            time = nextDate + 1;
            nextDate += 100;
        }
        vm.warp(time);
    }

    function dateCount() external view returns (uint256) {
        return dates.length;
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
        token.addRecordDates(1_800_000_100, 100, 1_000_000);
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

    function invariant_frozen_and_held_never_exceed_the_balance() public view {
        for (uint256 i; i < _holders.length; ++i) {
            assertLe(
                token.getFrozenTokens(_holders[i]) + token.heldOf(_holders[i]),
                token.balanceOf(_holders[i]),
                "frozen + held <= balance"
            );
        }
    }

    function invariant_holds_are_what_was_placed_less_what_was_taken() public view {
        uint256 named;
        uint256 onAccounts;
        for (uint256 i; i < _holders.length; ++i) {
            for (uint256 id; id < 3; ++id) {
                uint256 held = token.heldBy(address(_walk), bytes32(id), _holders[i]);
                assertEq(held, _walk.held(id, _holders[i]), "each hold");
                named += held;
            }
            onAccounts += token.heldOf(_holders[i]);
        }
        assertEq(named, onAccounts, "holds = held on accounts, recoveries or not");
    }

    function invariant_history_equals_a_full_copy() public view {
        for (uint256 d; d < _walk.dateCount(); ++d) {
            uint256 date = _walk.dates(d);
            for (uint256 i; i < _holders.length; ++i) {
                assertEq(token.balanceAt(_holders[i], date), _walk.balanceThen(date, _holders[i]), "balance then");
            }
            assertEq(token.supplyAt(date), _walk.supplyThen(date), "supply then");
        }
    }
}

interface IKeys {
    function addKey(bytes32 key, uint256 purpose, uint256 keyType) external returns (bool);
}
