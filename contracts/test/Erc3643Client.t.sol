// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ClaimInput} from "../src/interfaces/IIdentity.sol";
import {Fixture} from "./Fixture.sol";
import {Vm} from "./Vm.sol";

/* The interfaces as a client finds them in the texts of ERC-3643, ERC-734, ERC-735, ERC-173 and ERC-20. None is imported from src. */

interface StandardToken {
    function totalSupply() external view returns (uint256);
    function balanceOf(address account) external view returns (uint256);
    function transfer(address to, uint256 amount) external returns (bool);
    function transferFrom(address from, address to, uint256 amount) external returns (bool);
    function approve(address spender, uint256 amount) external returns (bool);
    function allowance(address owner, address spender) external view returns (uint256);
    function name() external view returns (string memory);
    function symbol() external view returns (string memory);
    function decimals() external view returns (uint8);
    function onchainID() external view returns (address);
    function version() external view returns (string memory);
    function identityRegistry() external view returns (address);
    function compliance() external view returns (address);
    function paused() external view returns (bool);
    function isFrozen(address _userAddress) external view returns (bool);
    function getFrozenTokens(address _userAddress) external view returns (uint256);
    function setName(string calldata _name) external;
    function setSymbol(string calldata _symbol) external;
    function setOnchainID(address _onchainID) external;
    function pause() external;
    function unpause() external;
    function setAddressFrozen(address _userAddress, bool _freeze) external;
    function freezePartialTokens(address _userAddress, uint256 _amount) external;
    function unfreezePartialTokens(address _userAddress, uint256 _amount) external;
    function setIdentityRegistry(address _identityRegistry) external;
    function setCompliance(address _compliance) external;
    function forcedTransfer(address _from, address _to, uint256 _amount) external returns (bool);
    function mint(address _to, uint256 _amount) external;
    function burn(address _userAddress, uint256 _amount) external;
    function recoveryAddress(address _lostWallet, address _newWallet, address _investorOnchainID)
        external
        returns (bool);
    function batchTransfer(address[] calldata _toList, uint256[] calldata _amounts) external;
    function batchForcedTransfer(address[] calldata _fromList, address[] calldata _toList, uint256[] calldata _amounts)
        external;
    function batchMint(address[] calldata _toList, uint256[] calldata _amounts) external;
    function batchBurn(address[] calldata _userAddresses, uint256[] calldata _amounts) external;
    function batchSetAddressFrozen(address[] calldata _userAddresses, bool[] calldata _freeze) external;
    function batchFreezePartialTokens(address[] calldata _userAddresses, uint256[] calldata _amounts) external;
    function batchUnfreezePartialTokens(address[] calldata _userAddresses, uint256[] calldata _amounts) external;
}

interface StandardOwnedByAgents {
    function addAgent(address _agent) external;
    function removeAgent(address _agent) external;
    function isAgent(address _agent) external view returns (bool);
    function owner() external view returns (address);
    function transferOwnership(address _newOwner) external;
}

interface StandardRegistry {
    function identityStorage() external view returns (address);
    function issuersRegistry() external view returns (address);
    function topicsRegistry() external view returns (address);
    function setIdentityRegistryStorage(address _identityRegistryStorage) external;
    function setClaimTopicsRegistry(address _claimTopicsRegistry) external;
    function setTrustedIssuersRegistry(address _trustedIssuersRegistry) external;
    function registerIdentity(address _userAddress, address _identity, uint16 _country) external;
    function deleteIdentity(address _userAddress) external;
    function updateCountry(address _userAddress, uint16 _country) external;
    function updateIdentity(address _userAddress, address _identity) external;
    function batchRegisterIdentity(
        address[] calldata _userAddresses,
        address[] calldata _identities,
        uint16[] calldata _countries
    ) external;
    function contains(address _userAddress) external view returns (bool);
    function isVerified(address _userAddress) external view returns (bool);
    function identity(address _userAddress) external view returns (address);
    function investorCountry(address _userAddress) external view returns (uint16);
}

interface StandardStorage {
    function storedIdentity(address _userAddress) external view returns (address);
    function storedInvestorCountry(address _userAddress) external view returns (uint16);
    function bindIdentityRegistry(address _identityRegistry) external;
    function unbindIdentityRegistry(address _identityRegistry) external;
    function linkedIdentityRegistries() external view returns (address[] memory);
}

interface StandardIssuers {
    function addTrustedIssuer(address _trustedIssuer, uint256[] calldata _claimTopics) external;
    function removeTrustedIssuer(address _trustedIssuer) external;
    function updateIssuerClaimTopics(address _trustedIssuer, uint256[] calldata _claimTopics) external;
    function getTrustedIssuers() external view returns (address[] memory);
    function isTrustedIssuer(address _issuer) external view returns (bool);
    function getTrustedIssuerClaimTopics(address _trustedIssuer) external view returns (uint256[] memory);
    function getTrustedIssuersForClaimTopic(uint256 claimTopic) external view returns (address[] memory);
    function hasClaimTopic(address _issuer, uint256 _claimTopic) external view returns (bool);
}

interface StandardTopics {
    function addClaimTopic(uint256 _claimTopic) external;
    function removeClaimTopic(uint256 _claimTopic) external;
    function getClaimTopics() external view returns (uint256[] memory);
}

interface StandardCompliance {
    function isTokenBound(address _token) external view returns (bool);
    function getTokenBound() external view returns (address);
    function canTransfer(address _from, address _to, uint256 _amount) external view returns (bool);
}

interface StandardIdentity {
    function addKey(bytes32 _key, uint256 _purpose, uint256 _keyType) external returns (bool success);
    function removeKey(bytes32 _key, uint256 _purpose) external returns (bool success);
    function execute(address _to, uint256 _value, bytes calldata _data) external payable returns (uint256 executionId);
    function approve(uint256 _id, bool _approve) external returns (bool success);
    function getKey(bytes32 _key) external view returns (uint256[] memory purposes, uint256 keyType, bytes32 key);
    function getKeyPurposes(bytes32 _key) external view returns (uint256[] memory purposes);
    function getKeysByPurpose(uint256 _purpose) external view returns (bytes32[] memory keys);
    function keyHasPurpose(bytes32 _key, uint256 _purpose) external view returns (bool exists);
    function addClaim(
        uint256 _topic,
        uint256 _scheme,
        address issuer,
        bytes calldata _signature,
        bytes calldata _data,
        string calldata _uri
    ) external returns (bytes32 claimRequestId);
    function removeClaim(bytes32 _claimId) external returns (bool success);
    function getClaim(bytes32 _claimId)
        external
        view
        returns (uint256, uint256, address, bytes memory, bytes memory, string memory);
    function getClaimIdsByTopic(uint256 _topic) external view returns (bytes32[] memory claimIds);
    function revokeClaim(bytes32 _claimId, address _identity) external returns (bool);
    function isClaimRevoked(bytes calldata _sig) external view returns (bool);
    function isClaimValid(address _identity, uint256 claimTopic, bytes calldata sig, bytes calldata data)
        external
        view
        returns (bool);
}

/// @notice A client that knows the standards and the address of a token, and nothing of ours: it finds everything else from there. Only
/// the tenant, the identities and a second compliance come from our factories, because no standard says how those are made.
contract Erc3643ClientTest is Fixture {
    address private constant AGENT = address(0xA6E);
    uint256 private constant HOLDER_KEY = 0x401DE4;
    address private constant NEW_WALLET = address(0x4E3);

    StandardToken private asset;
    StandardRegistry private people;
    StandardIssuers private issuers;
    StandardTopics private claimTopics;
    StandardStorage private rows;
    StandardIdentity private investor;
    StandardIdentity private claimIssuer;
    address private wallet;
    address private secondCompliance;
    Vm.Log[] private _logs;

    function setUp() public override {
        super.setUp();
        wallet = vm.addr(HOLDER_KEY);
        investor = StandardIdentity(identities.create(wallet, 0, new ClaimInput[](0)));
        claimIssuer = StandardIdentity(address(issuer));
        secondCompliance = factory.createCompliance(address(token), "second");
        registry.clearPolicy(address(token));

        asset = StandardToken(address(token));
        people = StandardRegistry(asset.identityRegistry());
        issuers = StandardIssuers(people.issuersRegistry());
        claimTopics = StandardTopics(people.topicsRegistry());
        rows = StandardStorage(people.identityStorage());
        vm.recordLogs();
        StandardOwnedByAgents(address(asset)).addAgent(AGENT);
        StandardOwnedByAgents(address(people)).addAgent(AGENT);
        claimTopics.addClaimTopic(kyc);
    }

    /* STEPS */

    function _topics(uint256 topic) private pure returns (uint256[] memory all) {
        all = new uint256[](1);
        all[0] = topic;
    }

    function _signature(uint256 topic, bytes memory data) private view returns (bytes memory) {
        bytes32 digest = keccak256(abi.encode(address(investor), topic, data));
        bytes32 signed = keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", digest));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(ISSUER_KEY, signed);
        return abi.encodePacked(r, s, v);
    }

    function _addClaim(uint256 topic, bytes memory data) private returns (bytes32) {
        bytes memory signature = _signature(topic, data);
        vm.prank(wallet);
        return investor.addClaim(topic, 1, address(claimIssuer), signature, data, "https://issuer.example/1");
    }

    function _registerAndVerify() private {
        vm.prank(AGENT);
        people.registerIdentity(wallet, address(investor), DE);
        assertTrue(people.contains(wallet) && !people.isVerified(wallet), "registered, not verified");
        _addClaim(kyc, "passport");
        assertTrue(people.isVerified(wallet), "verified by its claim");
    }

    function _mintTo(address to, uint256 amount) private {
        vm.prank(AGENT);
        asset.mint(to, amount);
    }

    /* TESTS */

    function test_it_registers_verifies_mints_and_transfers() public {
        vm.expectRevert();
        _mintTo(wallet, 100);
        _registerAndVerify();
        _mintTo(wallet, 100);
        assertTrue(
            StandardCompliance(asset.compliance()).canTransfer(wallet, alice, 10), "the pre-check of the standard"
        );
        vm.prank(wallet);
        asset.transfer(alice, 10);
        vm.prank(wallet);
        asset.approve(bob, 5);
        vm.prank(bob);
        asset.transferFrom(wallet, bob, 5);
        assertEq(asset.balanceOf(wallet), 85, "balance");
        assertEq(asset.allowance(wallet, bob), 0, "allowance");
        vm.prank(wallet);
        vm.expectRevert();
        asset.transfer(stranger, 1);
        vm.prank(AGENT);
        asset.burn(wallet, 5);
        assertEq(asset.totalSupply(), 2095, "supply");
        _logged(address(asset), "Transfer(address,address,uint256)", 3);
        _logged(address(asset), "Approval(address,address,uint256)", 3);
        _logged(address(people), "IdentityRegistered(address,address)", 3);
        _logged(address(rows), "IdentityStored(address,address)", 3);
        _logged(address(people), "ClaimTopicAdded(uint256)", 2);
        _logged(address(people), "AgentAdded(address)", 2);
        _logged(address(asset), "AgentAdded(address)", 2);
        _logged(address(investor), "ClaimAdded(bytes32,uint256,uint256,address,bytes,bytes,string)", 4);
    }

    function test_it_freezes_pauses_and_forces() public {
        vm.startPrank(AGENT);
        asset.freezePartialTokens(alice, 900);
        assertEq(asset.getFrozenTokens(alice), 900, "frozen");
        vm.stopPrank();
        vm.prank(alice);
        vm.expectRevert();
        asset.transfer(bob, 101);
        vm.startPrank(AGENT);
        asset.unfreezePartialTokens(alice, 100);
        asset.setAddressFrozen(bob, true);
        assertTrue(asset.isFrozen(bob), "frozen account");
        asset.setAddressFrozen(bob, false);
        asset.pause();
        assertTrue(asset.paused(), "paused");
        vm.stopPrank();
        vm.prank(alice);
        vm.expectRevert();
        asset.transfer(bob, 1);
        vm.startPrank(AGENT);
        asset.forcedTransfer(alice, bob, 300);
        asset.unpause();
        vm.stopPrank();
        assertEq(asset.balanceOf(bob), 1300, "forced while paused");
        assertEq(asset.getFrozenTokens(alice), 700, "unfroze what it needed");
        _logged(address(asset), "TokensFrozen(address,uint256)", 2);
        _logged(address(asset), "TokensUnfrozen(address,uint256)", 2);
        _logged(address(asset), "AddressFrozen(address,bool,address)", 4);
        _logged(address(asset), "Paused(address)", 1);
        _logged(address(asset), "Unpaused(address)", 1);
    }

    function test_it_recovers_a_lost_wallet() public {
        _registerAndVerify();
        _mintTo(wallet, 100);
        vm.prank(AGENT);
        asset.freezePartialTokens(wallet, 40);
        // The investor named the new wallet as a key while it still could; the agent registers it.
        vm.prank(wallet);
        investor.addKey(keccak256(abi.encode(NEW_WALLET)), 1, 1);
        vm.startPrank(AGENT);
        vm.expectRevert();
        asset.recoveryAddress(wallet, stranger, address(investor));
        people.registerIdentity(NEW_WALLET, address(investor), people.investorCountry(wallet));
        asset.recoveryAddress(wallet, NEW_WALLET, address(investor));
        people.deleteIdentity(wallet);
        vm.stopPrank();
        assertEq(asset.balanceOf(NEW_WALLET), 100, "balance");
        assertEq(asset.getFrozenTokens(NEW_WALLET), 40, "the freeze too");
        assertTrue(people.isVerified(NEW_WALLET) && !people.isVerified(wallet), "and the verification");
        _logged(address(asset), "RecoverySuccess(address,address,address)", 4);
        _logged(address(people), "IdentityRemoved(address,address)", 3);
        _logged(address(rows), "IdentityUnstored(address,address)", 3);
        _logged(address(investor), "KeyAdded(bytes32,uint256,uint256)", 4);
    }

    function test_it_works_in_batches() public {
        _registerAndVerify();
        address[] memory to = new address[](2);
        uint256[] memory amounts = new uint256[](2);
        (to[0], to[1], amounts[0], amounts[1]) = (wallet, alice, 10, 20);
        address[] memory from = new address[](2);
        (from[0], from[1]) = (bob, bob);
        bool[] memory yes = new bool[](2);
        (yes[0], yes[1]) = (true, true);
        vm.startPrank(AGENT);
        asset.batchMint(to, amounts);
        asset.batchForcedTransfer(from, to, amounts);
        asset.batchFreezePartialTokens(to, amounts);
        asset.batchUnfreezePartialTokens(to, amounts);
        asset.batchSetAddressFrozen(to, yes);
        asset.batchSetAddressFrozen(to, new bool[](2));
        asset.batchBurn(to, amounts);
        vm.stopPrank();
        vm.prank(bob);
        asset.batchTransfer(to, amounts);
        assertEq(asset.balanceOf(wallet), 20, "10 and 10 and 10 less 10");
        assertEq(asset.balanceOf(bob), 940, "30 taken, 30 sent");
        address[] memory wallets = new address[](1);
        address[] memory ids = new address[](1);
        uint16[] memory countries = new uint16[](1);
        (wallets[0], ids[0], countries[0]) = (NEW_WALLET, address(investor), FR);
        vm.prank(AGENT);
        people.batchRegisterIdentity(wallets, ids, countries);
        assertTrue(people.isVerified(NEW_WALLET), "a second wallet of the same investor");
    }

    function test_it_keeps_the_registries() public {
        _registerAndVerify();
        vm.startPrank(AGENT);
        people.updateCountry(wallet, FR);
        people.updateIdentity(wallet, people.identity(alice));
        vm.stopPrank();
        assertEq(uint256(people.investorCountry(wallet)), FR, "country");
        assertEq(uint256(rows.storedInvestorCountry(wallet)), FR, "as stored");
        assertEq(rows.storedIdentity(wallet), people.identity(alice), "identity");
        people.setIdentityRegistryStorage(address(rows));
        people.setClaimTopicsRegistry(address(claimTopics));
        people.setTrustedIssuersRegistry(address(issuers));
        rows.bindIdentityRegistry(stranger);
        assertEq(rows.linkedIdentityRegistries().length, 2, "itself and the other");
        rows.unbindIdentityRegistry(stranger);
        issuers.addTrustedIssuer(address(investor), _topics(accredited));
        assertTrue(issuers.isTrustedIssuer(address(investor)), "trusted");
        assertTrue(issuers.hasClaimTopic(address(investor), accredited), "for it");
        issuers.updateIssuerClaimTopics(address(investor), _topics(sanctioned));
        assertEq(issuers.getTrustedIssuerClaimTopics(address(investor))[0], sanctioned, "for another");
        assertEq(issuers.getTrustedIssuersForClaimTopic(sanctioned).length, 2, "two now");
        issuers.removeTrustedIssuer(address(investor));
        assertEq(issuers.getTrustedIssuers().length, 1, "one is left");
        claimTopics.addClaimTopic(accredited);
        assertEq(claimTopics.getClaimTopics().length, 2, "two topics");
        assertTrue(!people.isVerified(wallet), "one of which alice lacks");
        claimTopics.removeClaimTopic(accredited);
        address registryAddress = address(people);
        _logged(registryAddress, "CountryUpdated(address,uint16)", 3);
        _logged(registryAddress, "CountryModified(address,uint16)", 3);
        _logged(registryAddress, "IdentityUpdated(address,address)", 3);
        _logged(registryAddress, "IdentityModified(address,address)", 3);
        _logged(registryAddress, "IdentityStorageSet(address)", 2);
        _logged(registryAddress, "ClaimTopicsRegistrySet(address)", 2);
        _logged(registryAddress, "TrustedIssuersRegistrySet(address)", 2);
        _logged(registryAddress, "IdentityRegistryBound(address)", 2);
        _logged(registryAddress, "IdentityRegistryUnbound(address)", 2);
        _logged(registryAddress, "TrustedIssuerAdded(address,uint256[])", 2);
        _logged(registryAddress, "ClaimTopicsUpdated(address,uint256[])", 2);
        _logged(registryAddress, "TrustedIssuerRemoved(address)", 2);
        _logged(registryAddress, "ClaimTopicRemoved(uint256)", 2);
    }

    function test_it_administers_the_token() public {
        StandardOwnedByAgents owned = StandardOwnedByAgents(address(asset));
        asset.setName("A bond");
        asset.setSymbol("ABOND");
        asset.setOnchainID(address(investor));
        asset.setIdentityRegistry(address(people));
        address former = asset.compliance();
        asset.setCompliance(secondCompliance);
        assertTrue(StandardCompliance(secondCompliance).isTokenBound(address(asset)), "bound");
        assertEq(StandardCompliance(former).getTokenBound(), address(0), "released");
        assertTrue(owned.isAgent(AGENT), "agent");
        owned.removeAgent(AGENT);
        assertTrue(!owned.isAgent(AGENT), "dismissed");
        assertEq(owned.owner(), address(this), "owner");
        owned.transferOwnership(carol);
        assertEq(asset.name(), "A bond", "name");
        assertEq(asset.symbol(), "ABOND", "symbol");
        assertEq(uint256(asset.decimals()), 2, "decimals");
        assertEq(asset.onchainID(), address(investor), "identity");
        assertTrue(bytes(asset.version()).length != 0, "version");
        _logged(address(asset), "UpdatedTokenInformation(string,string,uint8,string,address)", 4);
        _logged(address(asset), "IdentityRegistryAdded(address)", 2);
        _logged(address(asset), "ComplianceAdded(address)", 2);
        _logged(address(asset), "AgentRemoved(address)", 2);
        _logged(address(asset), "OwnershipTransferred(address,address)", 3);
        _logged(secondCompliance, "TokenBound(address)", 1);
        _logged(former, "TokenUnbound(address)", 1);
    }

    function test_it_keeps_keys_and_claims() public {
        bytes32 id = _addClaim(kyc, "passport");
        assertEq(id, keccak256(abi.encode(address(claimIssuer), kyc)), "claim id");
        assertEq(investor.getClaimIdsByTopic(kyc)[0], id, "listed");
        bytes memory shown = _signature(kyc, "passport");
        assertTrue(claimIssuer.isClaimValid(address(investor), kyc, shown, "passport"), "valid");
        vm.prank(vm.addr(ISSUER_KEY));
        claimIssuer.revokeClaim(id, address(investor));
        assertTrue(claimIssuer.isClaimRevoked(shown), "revoked");
        assertTrue(!claimIssuer.isClaimValid(address(investor), kyc, shown, "passport"), "not valid");
        _addClaim(kyc, "a new passport");
        vm.startPrank(wallet);
        investor.removeClaim(id);
        investor.addKey(keccak256(abi.encode(bob)), 2, 1);
        assertEq(investor.getKeyPurposes(keccak256(abi.encode(bob)))[0], 2, "ACTION");
        vm.stopPrank();
        bytes memory call = abi.encodeCall(StandardIdentity.removeKey, (keccak256(abi.encode(bob)), 2));
        vm.prank(bob);
        uint256 request = investor.execute(address(investor), 0, call);
        vm.prank(wallet);
        investor.approve(request, true);
        assertTrue(!investor.keyHasPurpose(keccak256(abi.encode(bob)), 2), "approved and executed");
        assertEq(investor.getKeysByPurpose(1).length, 1, "one manager");
        (, uint256 keyType, bytes32 key) = investor.getKey(keccak256(abi.encode(wallet)));
        assertEq(keyType, 1, "ECDSA");
        assertEq(key, keccak256(abi.encode(wallet)), "key");
        address at = address(investor);
        _logged(at, "ClaimChanged(bytes32,uint256,uint256,address,bytes,bytes,string)", 4);
        _logged(at, "ClaimRemoved(bytes32,uint256,uint256,address,bytes,bytes,string)", 4);
        _logged(at, "KeyRemoved(bytes32,uint256,uint256)", 4);
        _logged(at, "ExecutionRequested(uint256,address,uint256,bytes)", 4);
        _logged(at, "Executed(uint256,address,uint256,bytes)", 4);
        _logged(at, "Approved(uint256,bool)", 2);
        _logged(address(claimIssuer), "ClaimRevoked(bytes)", 2);
    }

    /* WHAT WAS LOGGED */

    /// @dev The event as the standard spells it, with as many topics as it has indexed arguments and one. `UpdatedTokenInformation` and
    /// `RecoverySuccess` stand in the text without `indexed` and in every deployment with it; indexers decode the latter.
    function _logged(address emitter, string memory signature, uint256 topicCount) private {
        // Reading the log empties it.
        Vm.Log[] memory fresh = vm.getRecordedLogs();
        for (uint256 i; i < fresh.length; ++i) {
            _logs.push(fresh[i]);
        }
        for (uint256 i; i < _logs.length; ++i) {
            if (_logs[i].emitter == emitter && _logs[i].topics[0] == keccak256(bytes(signature))) {
                assertEq(_logs[i].topics.length, topicCount, signature);
                return;
            }
        }
        assertTrue(false, signature);
    }
}
