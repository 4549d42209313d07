// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {Distribution} from "../../src/Distribution.sol";
import {DistributionArgs} from "../../src/addons/DistributionArgs.sol";
import {DistributionKind, DistributionTerms, Recipient} from "../../src/interfaces/IDistribution.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";
import {Merkle} from "../addons/Merkle.sol";

/// @notice A plain ERC-20 with roles: what the budgets are stated for, so that they weigh the distribution and not the asset.
contract PlainAsset is ERC20("Plain", "PLAIN") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function has(address, uint256) external pure returns (bool) {
        return true;
    }
}

contract DistributionGasTest is AddonFixture {
    uint256 private constant BATCH = 100;
    uint256 private constant LIST = 1000;

    PlainAsset private _plain;
    Recipient[] private _rows;
    bytes32[] private _tree;

    function setUp() public override {
        super.setUp();
        _plain = new PlainAsset();
        for (uint256 i; i < LIST; ++i) {
            _rows.push(Recipient(i, address(uint160(uint256(keccak256(abi.encode(i))))), 1e18 + i));
        }
        _tree = Merkle.build(_rows);
    }

    function _plainDistribution(DistributionTerms memory terms) private returns (Distribution made) {
        terms.token = address(_plain);
        made = Distribution(Clones.cloneWithImmutableArgs(addons.DISTRIBUTION(), DistributionArgs.encode(terms)));
        _plain.mint(address(made), 2000e18);
    }

    function _batch(Recipient[] memory list) private pure returns (Recipient[] memory rows) {
        rows = new Recipient[](BATCH);
        for (uint256 i; i < BATCH; ++i) {
            rows[i] = list[i];
        }
    }

    /// @dev Not in the budget table: the clone and its terms, announced by the factory.
    function test_gas_init() public {
        addons.createDistribution("gas", _distributionTerms(DistributionKind.CLAIM, _tree[0]));
        assertLe(vm.snapshotGasLastCall("addons", "airdrop_init"), 162_000, "init");
    }

    /// @dev Per new holder in a batch of 100 out of 1,000, the 21,000 of the transaction and the call data included.
    function test_gas_push_per_new_holder() public {
        Distribution d = _plainDistribution(_distributionTerms(DistributionKind.PUSH, _tree[0]));
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(_tree, 0, BATCH);
        d.push(_batch(_rows), proof, flags);
        uint256 used = vm.snapshotGasLastCall("addons", "airdrop_push.batch100.plain");
        assertLe(used / BATCH, 38_000, "push per new holder");
    }

    /// @dev The second claim of a run of 256 rows; the first one of a run pays 17,100 more for the bitmap's word. Each level of a tree costs
    /// some 760 gas, 512 of it call data, so a long list is cut into parts.
    function _claim(uint256 list, uint256 part, string memory name) private returns (uint256) {
        DistributionTerms memory terms = _distributionTerms(DistributionKind.CLAIM, 0);
        terms.roots = new bytes32[]((list + part - 1) / part);
        terms.rowsPerRoot = part < list ? uint64(part) : 0;
        for (uint256 i; i < terms.roots.length; ++i) {
            terms.roots[i] = Merkle.build(_part(i * part, (i + 1) * part < list ? (i + 1) * part : list))[0];
        }
        Distribution d = _plainDistribution(terms);
        bytes32[] memory tree = Merkle.build(_part(0, part));
        for (uint256 i; i < 2; ++i) {
            Recipient memory row = _rows[i];
            vm.prank(row.account);
            d.claim(row.index, row.account, row.amount, Merkle.proof(tree, i));
        }
        return vm.snapshotGasLastCall("addons", name);
    }

    function _part(uint256 first, uint256 end) private view returns (Recipient[] memory rows) {
        rows = new Recipient[](end - first);
        for (uint256 i = first; i < end; ++i) {
            rows[i - first] = _rows[i];
        }
    }

    function test_gas_claim_of_a_new_holder() public {
        assertLe(_claim(16, 16, "airdrop_claim.list16.plain"), 72_000, "claim");
    }

    function test_gas_claim_from_a_long_list() public {
        assertLe(_claim(LIST, 16, "airdrop_claim.list1000.plain"), 72_000, "claim from a list of 1,000");
    }

    /// @dev The same list as one tree: ten levels of proof, and no budget holds for every depth.
    function test_gas_claim_from_a_long_list_in_one_tree() public {
        assertLe(_claim(LIST, LIST, "airdrop_claim.list1000_one_tree.plain"), 76_000, "claim from one tree of 1,000");
    }

    /// @dev With an asset of ours every payment passes identity and rules, so the budget of a plain token (38,000) is out of reach: what
    /// nobody can save costs more, before a single call is made. Per new holder: balance word 22,100; registration 2,100; account of the
    /// identity 2,600; the claim's two words 4,200; its revocation word 2,100; two events 3,512; call data 800; leaf and
    /// tree 600; bit and batch share 500. That is 38,512; the calls between token, registry, identity, issuer and compliance are the rest.
    function test_gas_push_of_our_asset_per_new_holder() public {
        Recipient[] memory rows = new Recipient[](BATCH);
        for (uint256 i; i < BATCH; ++i) {
            rows[i] = Recipient(i, _wallet(i), 1 + i);
        }
        bytes32[] memory tree = Merkle.build(rows);
        Distribution d = _distribution(_distributionTerms(DistributionKind.PUSH, tree[0]), 1e6);
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(tree, 0, BATCH);
        d.push(rows, proof, flags);
        uint256 used = vm.snapshotGasLastCall("addons", "airdrop_push.batch100.asset");
        assertLe(used / BATCH, 57_000, "push of an asset per new holder");
    }
}
