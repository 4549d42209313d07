// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../src/AssetToken.sol";
import {Distribution} from "../src/Distribution.sol";
import {DistributionKind, Grant, Recipient} from "../src/interfaces/IDistribution.sol";
import {AssetRoles} from "../src/Roles.sol";
import {TestBase} from "./Vm.sol";
import {AddonFixture} from "./addons/AddonFixture.sol";
import {Merkle} from "./addons/Merkle.sol";

/// @notice Random pushes, claims, releases and withdrawals over three distributions of one list, while time passes and recipients
/// are frozen and thawed. Counts what each row was paid by looking at the recipient, not at the contract.
contract DistributionWalk is TestBase {
    AssetToken private immutable TOKEN;
    Distribution public immutable PUSH;
    Distribution public immutable CLAIM;
    Distribution public immutable VESTING;
    Recipient[] private _rows;
    bytes32[] private _tree;
    uint256 private _now = 1_800_000_000;

    /// What a distribution paid for a row.
    mapping(Distribution => mapping(uint256 index => uint256)) public paid;
    mapping(Distribution => uint256) public withdrawn;

    constructor(AssetToken token, Distribution[3] memory all, Recipient[] memory rows) {
        TOKEN = token;
        (PUSH, CLAIM, VESTING) = (all[0], all[1], all[2]);
        for (uint256 i; i < rows.length; ++i) {
            _rows.push(rows[i]);
        }
        _tree = Merkle.build(rows);
    }

    function push(uint256 first, uint256 count) external {
        first %= _rows.length;
        count = 1 + count % (_rows.length - first);
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(_tree, first, count);
        Recipient[] memory part = new Recipient[](count);
        uint256[] memory before = new uint256[](count);
        for (uint256 i; i < count; ++i) {
            part[i] = _rows[first + i];
            before[i] = TOKEN.balanceOf(part[i].account);
        }
        PUSH.push(part, proof, flags);
        for (uint256 i; i < count; ++i) {
            paid[PUSH][part[i].index] += TOKEN.balanceOf(part[i].account) - before[i];
        }
    }

    function claim(uint256 i, bool vesting) external {
        Recipient memory row = _rows[i % _rows.length];
        bytes32[] memory proof = Merkle.proof(_tree, i % _rows.length);
        uint256 before = TOKEN.balanceOf(row.account);
        Distribution d = vesting ? VESTING : CLAIM;
        vm.prank(row.account);
        d.claim(row.index, row.account, row.amount, proof);
        paid[d][row.index] += TOKEN.balanceOf(row.account) - before;
    }

    function release(uint256 i, uint256 times) external {
        Recipient memory row = _rows[i % _rows.length];
        uint256[] memory indices = new uint256[](1 + times % 3);
        for (uint256 j; j < indices.length; ++j) {
            indices[j] = row.index;
        }
        if (VESTING.releasable(row.index) == 0) return;
        uint256 before = TOKEN.balanceOf(row.account);
        VESTING.release(indices);
        paid[VESTING][row.index] += TOKEN.balanceOf(row.account) - before;
    }

    function withdraw(uint256 which) external {
        Distribution d = which % 3 == 0 ? PUSH : which % 3 == 1 ? CLAIM : VESTING;
        withdrawn[d] += d.withdraw(address(TOKEN));
    }

    function freeze(uint256 i, bool on) external {
        TOKEN.setAddressFrozen(_rows[i % _rows.length].account, on);
    }

    function pass(uint256 seconds_) external {
        _now += seconds_ % 5 days;
        vm.warp(_now);
    }
}

/// forge-config: ci.invariant.runs = 96
contract DistributionInvariants is AddonFixture {
    uint256 private constant FUNDS = 2100;

    Recipient[] private _rows;
    DistributionWalk private _walk;

    function setUp() public override {
        super.setUp();
        for (uint256 i; i < 6; ++i) {
            _rows.push(Recipient(i, _wallet(i), 100 * (i + 1)));
        }
        bytes32 root = Merkle.build(_rows)[0];
        Distribution[3] memory all;
        for (uint256 i; i < 3; ++i) {
            DistributionKind kind = DistributionKind(i);
            all[i] = _distribution(_distributionTerms(kind, root), FUNDS);
        }
        _walk = new DistributionWalk(token, all, _rows);
        token.grant(address(_walk), AssetRoles.ALL);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_walk);
    }

    /// @dev One campaign for all: building proofs makes each walk slow.
    function invariant_rows_are_paid_once_and_every_token_is_accounted_for() public view {
        Distribution[3] memory all = [_walk.PUSH(), _walk.CLAIM(), _walk.VESTING()];
        for (uint256 i; i < 3; ++i) {
            _conserved(all[i]);
            _bounded(all[i]);
        }
        _covered(all[2]);
    }

    function _conserved(Distribution d) private view {
        uint256 sum = token.balanceOf(address(d)) + _walk.withdrawn(d);
        for (uint256 i; i < _rows.length; ++i) {
            sum += _walk.paid(d, i);
        }
        assertEq(sum, FUNDS, "conserved");
    }

    function _bounded(Distribution d) private view {
        for (uint256 i; i < _rows.length; ++i) {
            assertLe(_walk.paid(d, i), _rows[i].amount, "at most its amount");
            if (!d.isPaid(i)) assertEq(_walk.paid(d, i), 0, "paid means marked");
        }
    }

    function _covered(Distribution d) private view {
        uint256 sum;
        for (uint256 i; i < _rows.length; ++i) {
            Grant memory grant = d.grantOf(i);
            sum += grant.amount - grant.released;
            assertEq(grant.released, _walk.paid(d, i), "released = received");
        }
        assertEq(d.owed(), sum, "owed = sum of grants");
        assertLe(sum, token.balanceOf(address(d)), "covered");
    }
}
