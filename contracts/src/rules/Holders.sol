// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRegistryQuestions} from "../interfaces/IIdentityRegistryPolicy.sol";

/// @title Who a wallet stands for
/// @notice Rules that count or measure people do it by holder: the wallet's identity; for a wallet lost to recovery the identity
/// of its successor; for an unregistered wallet (a contract of the platform) the wallet itself.
library Holders {
    /// @return holder never zero for a wallet that is not zero
    /// @return country of the registration, zero when there is none
    function behind(address registry, address wallet) internal view returns (address holder, uint16 country) {
        (holder, country) = IRegistryQuestions(registry).registration(wallet);
        if (holder != address(0)) return (holder, country);
        address successor = IRegistryQuestions(registry).successor(wallet);
        if (successor != address(0)) (holder, country) = IRegistryQuestions(registry).registration(successor);
        if (holder == address(0)) holder = wallet;
    }
}
