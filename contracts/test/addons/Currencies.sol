// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @notice A payment currency anybody can mint.
contract Currency is ERC20("Currency", "CUR") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @notice A currency that keeps a hundredth of every transfer.
contract FeeCurrency is Currency {
    function _update(address from, address to, uint256 amount) internal override {
        if (from == address(0) || to == address(0)) return super._update(from, to, amount);
        super._update(from, to, amount - amount / 100);
        super._update(from, address(0xFEE), amount / 100);
    }
}

/// @notice A currency that refuses to pay one account, as stablecoins with a block list do.
contract BlockingCurrency is Currency {
    error Blocked(address account);

    address public blocked;

    function setBlocked(address account) external {
        blocked = account;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (to == blocked && to != address(0)) revert Blocked(to);
        super._update(from, to, amount);
    }
}

/// @notice A currency that uses up all gas it is given when it moves.
contract GreedyCurrency is Currency {
    function _update(address from, address to, uint256 amount) internal override {
        if (from != address(0)) {
            assembly ("memory-safe") {
                invalid()
            }
        }
        super._update(from, to, amount);
    }
}

/// @notice A currency that calls back into whoever it is told to while it moves.
contract CallingCurrency is Currency {
    address private _target;
    bytes private _data;

    function callOnMove(address target, bytes calldata data) external {
        (_target, _data) = (target, data);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (_target == address(0)) return;
        (bool ok, bytes memory answer) = _target.call(_data);
        if (!ok) _bubble(answer);
    }

    function _bubble(bytes memory answer) private pure {
        assembly ("memory-safe") {
            revert(add(answer, 32), mload(answer))
        }
    }
}
