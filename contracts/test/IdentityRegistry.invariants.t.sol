// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IIdentity} from "../src/interfaces/IIdentity.sol";
import {IMergedIdentityRegistry} from "../src/interfaces/IIdentityRegistryPolicy.sol";
import {IdentityFixture} from "./identity/IdentityFixture.sol";
import {TestBase} from "./Vm.sol";

/// @notice Random work of agents and of the policy manager on six wallets and three issuers.
contract RegistryWalk is TestBase {
    IMergedIdentityRegistry private immutable REGISTRY;
    address private immutable AGENT;
    address private immutable POLICY;
    address[] private _wallets;
    address[] private _identities;
    address[] private _issuers;
    uint256[] private _topics;

    mapping(address wallet => bool) public lost;
    mapping(address wallet => address) public identityOf;
    mapping(address wallet => uint16) public countryOf;
    mapping(address issuer => bool) public trusted;

    constructor(
        IMergedIdentityRegistry registry,
        address agent,
        address policy,
        address[] memory wallets,
        address[] memory identities,
        address[] memory issuers,
        uint256[] memory topics
    ) {
        (REGISTRY, AGENT, POLICY) = (registry, agent, policy);
        (_wallets, _identities, _issuers, _topics) = (wallets, identities, issuers, topics);
    }

    function register(uint256 wallet, uint256 identity, uint16 country) external {
        (address w, address i) = (_wallets[wallet % _wallets.length], _identities[identity % _identities.length]);
        vm.prank(AGENT);
        REGISTRY.registerIdentity(w, i, country);
        (identityOf[w], countryOf[w]) = (i, country);
    }

    function remove(uint256 wallet) external {
        address w = _wallets[wallet % _wallets.length];
        vm.prank(AGENT);
        REGISTRY.deleteIdentity(w);
        (identityOf[w], countryOf[w]) = (address(0), 0);
    }

    function move(uint256 wallet, uint16 country) external {
        address w = _wallets[wallet % _wallets.length];
        vm.prank(AGENT);
        REGISTRY.updateCountry(w, country);
        countryOf[w] = country;
    }

    function recover(uint256 from, uint256 to) external {
        (address a, address b) = (_wallets[from % _wallets.length], _wallets[to % _wallets.length]);
        vm.prank(AGENT);
        REGISTRY.recover(a, b);
        if (identityOf[b] == address(0)) (identityOf[b], countryOf[b]) = (identityOf[a], countryOf[a]);
        (identityOf[a], countryOf[a], lost[a]) = (address(0), 0, true);
    }

    function trust(uint256 issuer, uint256 count) external {
        address i = _issuers[issuer % _issuers.length];
        uint256[] memory topics = new uint256[](1 + count % _topics.length);
        for (uint256 t; t < topics.length; ++t) {
            topics[t] = _topics[t];
        }
        vm.prank(POLICY);
        REGISTRY.addTrustedIssuer(i, topics);
        trusted[i] = true;
    }

    function distrust(uint256 issuer) external {
        address i = _issuers[issuer % _issuers.length];
        vm.prank(POLICY);
        REGISTRY.removeTrustedIssuer(i);
        trusted[i] = false;
    }
}

contract IdentityRegistryInvariants is IdentityFixture {
    RegistryWalk private _walk;
    address[] private _wallets;
    address[] private _issuers;

    function setUp() public override {
        super.setUp();
        address[] memory identities = new address[](3);
        for (uint160 i; i < 3; ++i) {
            identities[i] = newIdentity(address(0x900 + i));
            _issuers.push(newIdentity(address(0xA00 + i)));
        }
        for (uint160 i; i < 6; ++i) {
            _wallets.push(address(0x900 + i));
        }
        _walk = new RegistryWalk(
            registry, manager, policyManager, _wallets, identities, _issuers, list(KYC, AML, SANCTIONED)
        );
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_walk);
    }

    function invariant_rows_are_what_agents_wrote_under_both_names() public view {
        for (uint256 i; i < _wallets.length; ++i) {
            address w = _wallets[i];
            assertEq(registry.identity(w), _walk.identityOf(w), "registry");
            assertEq(registry.storedIdentity(w), _walk.identityOf(w), "storage");
            assertEq(registry.investorCountry(w), _walk.countryOf(w), "country");
            assertTrue(registry.contains(w) == (_walk.identityOf(w) != address(0)), "contains");
        }
    }

    function invariant_a_lost_wallet_never_comes_back_and_its_chain_ends() public view {
        for (uint256 i; i < _wallets.length; ++i) {
            address w = _wallets[i];
            address heir = registry.successor(w);
            assertTrue((heir != address(0)) == _walk.lost(w), "a successor exactly for the lost");
            if (heir == address(0)) continue;
            assertTrue(!registry.contains(w), "not registered any more");
            assertEq(registry.successor(heir), address(0), "the end of the chain");
        }
    }

    function invariant_trust_by_issuer_and_by_topic_agree() public view {
        uint256[] memory topics = list(KYC, AML, SANCTIONED);
        for (uint256 i; i < _issuers.length; ++i) {
            assertTrue(registry.isTrustedIssuer(_issuers[i]) == _walk.trusted(_issuers[i]), "trusted");
            for (uint256 t; t < topics.length; ++t) {
                bool listed;
                address[] memory ofTopic = registry.getTrustedIssuersForClaimTopic(topics[t]);
                for (uint256 j; j < ofTopic.length; ++j) {
                    listed = listed || ofTopic[j] == _issuers[i];
                }
                assertTrue(listed == registry.hasClaimTopic(_issuers[i], topics[t]), "both lists");
                assertTrue(!listed || _walk.trusted(_issuers[i]), "nobody untrusted is listed");
            }
        }
    }

    function invariant_nobody_unregistered_is_verified() public view {
        for (uint256 i; i < _wallets.length; ++i) {
            if (!registry.contains(_wallets[i])) assertTrue(!verified(_wallets[i]), "not verified");
        }
    }
}
