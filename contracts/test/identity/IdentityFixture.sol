// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {IdentityFactory} from "../../src/IdentityFactory.sol";
import {IdentityRegistry} from "../../src/IdentityRegistry.sol";
import {Roles, Names} from "../../src/Roles.sol";
import {System} from "../../src/System.sol";
import {TopicSchemeRegistry} from "../../src/TopicSchemeRegistry.sol";
import {ClaimInput, IIdentity} from "../../src/interfaces/IIdentity.sol";
import {Group, IMergedIdentityRegistry} from "../../src/interfaces/IIdentityRegistryPolicy.sol";
import {ClaimData} from "../../src/libraries/ClaimData.sol";
import {TestBase} from "../Vm.sol";

/// @notice An identity whose code is not ours: it stores whatever its owner says and answers accordingly.
contract ForeignIdentity {
    struct Shown {
        uint256 topic;
        uint256 scheme;
        address issuer;
        bytes signature;
        bytes data;
    }

    mapping(bytes32 claimId => Shown) private _shown;
    mapping(bytes32 key => bool) private _management;

    function show(bytes32 claimId, uint256 topic, address issuer, bytes memory signature, bytes memory data) external {
        _shown[claimId] = Shown(topic, 1, issuer, signature, data);
    }

    function giveManagement(address account) external {
        _management[keccak256(abi.encode(account))] = true;
    }

    function keyHasPurpose(bytes32 key, uint256 purpose) external view returns (bool) {
        return purpose == 1 && _management[key];
    }

    function getClaim(bytes32 claimId)
        external
        view
        returns (uint256, uint256, address, bytes memory, bytes memory, string memory)
    {
        Shown memory s = _shown[claimId];
        return (s.topic, s.scheme, s.issuer, s.signature, s.data, "");
    }

    function getClaimIdsByTopic(uint256) external pure returns (bytes32[] memory) {
        return new bytes32[](1);
    }

    // A liar about what only our own identities are believed.
    function claimMeta(bytes32) external pure returns (address, uint64, bytes32) {
        return (address(1), 0, bytes32(uint256(1)));
    }

    function isClaimValid(address, uint256, bytes memory, bytes memory) external pure returns (bool) {
        return true;
    }

    function isClaimLive(address, bytes32) external pure returns (bool) {
        return true;
    }
}

/// @notice A tenant with one trusted issuer for the topics KYC and AML, one verified investor and KYC as the claim topic.
abstract contract IdentityFixture is TestBase {
    uint256 internal constant ISSUER_KEY = 0xA11CE;
    uint256 internal constant HOLDER_KEY = 0xB0B;
    uint256 internal constant KYC = uint256(keccak256("KYC"));
    uint256 internal constant AML = uint256(keccak256("AML"));
    uint256 internal constant SANCTIONED = uint256(keccak256("SANCTIONED"));
    uint256 internal constant CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    uint64 internal constant NOW = 1_800_000_000;

    address internal admin = address(0xAD);
    address internal manager = address(0x1D);
    address internal policyManager = address(0xC1);
    address internal stranger = address(0xBAD);
    address internal token = address(0x70);
    address internal holder;
    address internal issuerWallet;

    System internal system;
    IdentityFactory internal factory;
    IMergedIdentityRegistry internal registry;
    TopicSchemeRegistry internal topics;
    IIdentity internal issuer;
    IIdentity internal id;

    function setUp() public virtual {
        vm.warp(NOW);
        holder = vm.addr(HOLDER_KEY);
        issuerWallet = vm.addr(ISSUER_KEY);
        system = new System(admin, address(this));
        factory = new IdentityFactory(system);
        registry = IMergedIdentityRegistry(address(new IdentityRegistry(system)));
        topics = new TopicSchemeRegistry(system);
        system.set(Names.IDENTITY_FACTORY, address(factory));
        system.set(Names.IDENTITY_REGISTRY, address(registry));
        system.set(Names.TOPIC_SCHEMES, address(topics));
        system.grant(manager, Roles.IDENTITY_MANAGER);
        system.grant(policyManager, Roles.CLAIM_POLICY_MANAGER);

        vm.startPrank(policyManager);
        topics.registerTopicScheme("KYC", "(uint64 date)");
        topics.registerTopicScheme("AML", "(uint64 date)");
        topics.registerTopicScheme("SANCTIONED", "(uint64 date)");
        vm.stopPrank();

        issuer = IIdentity(newIdentity(issuerWallet));
        vm.startPrank(policyManager);
        registry.addTrustedIssuer(address(issuer), list(KYC, AML, SANCTIONED));
        registry.addClaimTopic(KYC);
        vm.stopPrank();

        id = IIdentity(newIdentity(holder));
        vm.prank(manager);
        registry.registerIdentity(holder, address(id), 756);
        addKyc();
    }

    /* HELPERS */

    function newIdentity(address wallet) internal returns (address) {
        vm.prank(manager);
        return factory.create(wallet, 0, new ClaimInput[](0));
    }

    function addKyc() internal {
        push(id, KYC, "kyc");
    }

    /// @dev As the holder adds a claim it received.
    function addOwn(IIdentity to, address from, uint256 topic, bytes memory data) internal returns (bytes32) {
        bytes memory signature = sign(ISSUER_KEY, address(to), topic, data);
        vm.prank(from);
        return to.addClaim(topic, 1, address(issuer), signature, data, "");
    }

    /// @dev As the issuer pushes it.
    function push(IIdentity to, uint256 topic, bytes memory data) internal returns (bytes32) {
        return addOwn(to, issuerWallet, topic, data);
    }

    function sign(uint256 key, address identity, uint256 topic, bytes memory data)
        internal
        pure
        returns (bytes memory)
    {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(
            key, MessageHashUtils.toEthSignedMessageHash(ClaimData.digestOf(identity, topic, data))
        );
        return abi.encodePacked(r, s, v);
    }

    /// @dev The other signature that the curve allows for the same key and digest.
    function malleate(bytes memory signature) internal pure returns (bytes memory) {
        (bytes32 r, bytes32 s) = abi.decode(signature, (bytes32, bytes32));
        uint8 v = uint8(signature[64]);
        return abi.encodePacked(r, bytes32(CURVE_ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
    }

    function keyOf(address account) internal pure returns (bytes32) {
        return keccak256(abi.encode(account));
    }

    function claimIdOf(uint256 topic) internal view returns (bytes32) {
        return ClaimData.claimId(address(issuer), topic);
    }

    function verified(address wallet) internal view returns (bool) {
        bool answer = registry.isVerifiedFor(token, wallet);
        require(answer == (registry.explain(token, wallet) == 0), "explain and isVerifiedFor disagree");
        return answer;
    }

    function assertReason(address wallet, bytes32 reason) internal view {
        assertTrue(!verified(wallet), "must not be verified");
        assertEq(registry.explain(token, wallet), reason, "reason");
    }

    function list() internal pure returns (uint256[] memory) {
        return new uint256[](0);
    }

    function list(uint256 a) internal pure returns (uint256[] memory l) {
        l = new uint256[](1);
        l[0] = a;
    }

    function list(uint256 a, uint256 b) internal pure returns (uint256[] memory l) {
        l = new uint256[](2);
        (l[0], l[1]) = (a, b);
    }

    function list(uint256 a, uint256 b, uint256 c) internal pure returns (uint256[] memory l) {
        l = new uint256[](3);
        (l[0], l[1], l[2]) = (a, b, c);
    }

    function setPolicy(Group memory a) internal {
        Group[] memory groups = new Group[](1);
        groups[0] = a;
        vm.prank(policyManager);
        registry.setPolicy(token, groups);
    }

    function setPolicy(Group memory a, Group memory b) internal {
        Group[] memory groups = new Group[](2);
        (groups[0], groups[1]) = (a, b);
        vm.prank(policyManager);
        registry.setPolicy(token, groups);
    }
}
