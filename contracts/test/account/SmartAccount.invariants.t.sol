// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {AccountCall, ISmartAccount, SignerSet} from "../../src/interfaces/ISmartAccount.sol";
import {AccountFixture} from "./AccountFixture.sol";

/// @notice Operations by any signers, owners that replace themselves, recoveries that run, lapse or are cancelled. The walk keeps who may
/// act, by itself, and compares.
contract AccountWalk is AccountFixture {
    address public constant PAYEE = address(0xFEE);
    uint256 private constant POOL = 6;

    uint256 public start;
    uint256 public spent;
    bool public weakActed;
    bool public strongRefused;
    bool public guardianWasEarly;

    /// Weight by key number of the pool; zero is no signer.
    uint64[POOL] private _weights;
    uint64 private _threshold;
    SignerSet private _announced;
    uint256 private _readyAt;
    bool private _pending;
    uint256 private _now;

    function setUp() public override {
        super.setUp();
        (_weights[0], _weights[1], _weights[2], _threshold) = (1, 1, 2, 2);
        _now = block.timestamp;
        start = 1000 ether;
        vm.deal(address(this), start);
        (bool paid,) = address(account).call{value: start}("");
        assertTrue(paid, "funded");
    }

    function _key(uint256 number) private pure returns (uint256) {
        return 0xA1 + number;
    }

    /// @dev Signs with the keys of the bit mask, mostly with those who are signers now, and sends.
    function _try(bytes memory callData, uint256 mask) private returns (bool ran) {
        if ((mask >> POOL) % 4 != 0) mask = _signers();
        uint256 count;
        uint256 weight;
        bool known = mask % (1 << POOL) != 0;
        for (uint256 i; i < POOL; ++i) {
            if ((mask >> i) & 1 == 0) continue;
            ++count;
            weight += _weights[i];
            known = known && _weights[i] != 0;
        }
        uint256[] memory who = new uint256[](count);
        for (uint256 i = POOL; i > 0; --i) {
            if ((mask >> (i - 1)) & 1 == 1) who[--count] = _key(i - 1);
        }
        PackedUserOperation memory operation = _operation(address(account), 0, callData);
        operation.signature = _by(_hash(operation), who);
        PackedUserOperation[] memory operations = new PackedUserOperation[](1);
        operations[0] = operation;
        vm.prank(sender, sender);
        try entryPoint.handleOps(operations, payable(sender)) {
            ran = true;
        } catch {}
        if (ran && (!known || weight < _threshold)) weakActed = true;
        if (!ran && known && weight >= _threshold) strongRefused = true;
    }

    function _signers() private view returns (uint256 mask) {
        for (uint256 i; i < POOL; ++i) {
            if (_weights[i] != 0) mask |= 1 << i;
        }
    }

    function pay(uint256 mask, uint256 amount) external {
        amount %= 2 ether;
        AccountCall[] memory calls = new AccountCall[](1);
        calls[0] = AccountCall(PAYEE, amount, "");
        uint256 before = PAYEE.balance;
        _try(abi.encodeCall(ISmartAccount.execute, (calls)), mask);
        spent += PAYEE.balance - before;
    }

    /// @dev One or two keys of the pool, a threshold that they reach.
    function _pick(uint256 seed) private pure returns (SignerSet memory set, uint64[POOL] memory weights) {
        uint256 first = seed % POOL;
        uint256 second = (seed >> 8) % POOL;
        uint256 count = first == second ? 1 : 2;
        set.signers = new bytes[](count);
        set.weights = new uint64[](count);
        uint64 total;
        for (uint256 i; i < count; ++i) {
            uint256 number = i == 0 ? first : second;
            uint64 weight = uint64(1 + (seed >> (16 + 8 * i)) % 3);
            (set.signers[i], set.weights[i], weights[number]) = (_signer(_key(number)), weight, weight);
            total += weight;
        }
        set.threshold = uint64(1 + (seed >> 40) % total);
    }

    function replaceOwners(uint256 mask, uint256 seed) external {
        (SignerSet memory set, uint64[POOL] memory weights) = _pick(seed);
        if (_try(abi.encodeCall(ISmartAccount.setOwners, (set)), mask)) {
            (_weights, _threshold) = (weights, set.threshold);
        }
    }

    function announce(uint256 seed) external {
        (SignerSet memory set,) = _pick(seed);
        vm.prank(guardian);
        account.startRecovery(set);
        (_announced, _readyAt, _pending) = (set, _now + DELAY, true);
    }

    function cancel(uint256 mask) external {
        if (_try(abi.encodeCall(ISmartAccount.cancelRecovery, ()), mask)) {
            (,, uint256 readyAt) = account.recovery();
            if (readyAt == 0) _pending = false;
        }
    }

    function finish() external {
        account.finishRecovery(_announced);
        if (!_pending || _now < _readyAt) guardianWasEarly = true;
        _pending = false;
        delete _weights;
        for (uint256 i; i < _announced.signers.length; ++i) {
            for (uint256 n; n < POOL; ++n) {
                if (keccak256(_announced.signers[i]) == keccak256(_signer(_key(n)))) {
                    _weights[n] = _announced.weights[i];
                }
            }
        }
        _threshold = _announced.threshold;
    }

    function wait_(uint256 seconds_) external {
        _now += seconds_ % 1 days;
        vm.warp(_now);
    }

    function weightOf(uint256 number) external view returns (uint64) {
        return _weights[number];
    }

    function threshold() external view returns (uint64) {
        return _threshold;
    }

    function isSigner(uint256 number) external view returns (bool) {
        return account.isSigner(_signer(_key(number)));
    }

    function present() external view returns (uint256 balance, uint64 reach, uint64 needed) {
        return (address(account).balance, account.totalWeight(), account.threshold());
    }
}

/// forge-config: ci.invariant.runs = 96
contract SmartAccountInvariants is AccountFixture {
    AccountWalk private _walk;

    function setUp() public override {
        _walk = new AccountWalk();
        _walk.setUp();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_walk);
    }

    function excludeSelectors() public view returns (FuzzSelector[] memory excluded) {
        excluded = new FuzzSelector[](1);
        excluded[0].addr = address(_walk);
        excluded[0].selectors = new bytes4[](1);
        excluded[0].selectors[0] = AccountWalk.setUp.selector;
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    /// @dev One walk for all of it: signatures make it slow.
    function invariant_the_signers_appointed_last_and_nobody_else_decide() public view {
        (uint256 balance, uint64 reach, uint64 needed) = _walk.present();
        assertEq(balance + _walk.spent(), _walk.start(), "money leaves by the signers' word only");
        assertTrue(!_walk.weakActed(), "too little weight acted");
        assertTrue(!_walk.strongRefused(), "enough weight was refused");
        assertTrue(!_walk.guardianWasEarly(), "a recovery was early, or had been withdrawn");
        assertTrue(needed != 0 && needed <= reach, "the threshold can be reached");
        assertEq(needed, _walk.threshold(), "threshold");
        for (uint256 i; i < 6; ++i) {
            assertTrue(_walk.isSigner(i) == (_walk.weightOf(i) != 0), "signer");
        }
    }
}
