// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IIdentity} from "../src/interfaces/IIdentity.sol";
import {ClaimData} from "../src/libraries/ClaimData.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {IdentityFixture} from "./identity/IdentityFixture.sol";
import {TestBase} from "./Vm.sol";

/// @notice Random key and claim work by the holder, by strangers and by the issuer; what is refused is part of the walk.
contract IdentityWalk is TestBase {
    uint256 private constant ISSUER_KEY = 0xA11CE;

    IIdentity private immutable ID;
    IIdentity private immutable ISSUER;
    address private immutable HOLDER;
    uint256 private immutable TOPIC;

    /// What must be true of the claim, by the events that the walk saw succeed.
    bool public present;
    bool public pushed;
    bytes public data;
    uint64 public expiresAt;
    mapping(bytes32 digest => bool) public revoked;
    uint256 private _count;

    constructor(IIdentity id, IIdentity issuer, address holder, uint256 topic) {
        (ID, ISSUER, HOLDER, TOPIC) = (id, issuer, holder, topic);
    }

    function addKey(uint256 who, uint256 key, uint256 purpose) external {
        vm.prank(_sender(who));
        ID.addKey(_key(key), purpose % 5, 1);
    }

    function removeKey(uint256 who, uint256 key, uint256 purpose) external {
        vm.prank(_sender(who));
        ID.removeKey(_key(key), purpose % 5);
    }

    function pushClaim(uint256 seconds_) external {
        (bytes memory fresh, uint64 until) = _data(seconds_);
        bytes memory signature = _sign(fresh);
        vm.prank(vm.addr(ISSUER_KEY));
        ID.addClaim(TOPIC, 1, address(ISSUER), signature, fresh, "");
        (present, pushed, data, expiresAt) = (true, true, fresh, until);
    }

    function addClaim(uint256 seconds_) external {
        (bytes memory fresh, uint64 until) = _data(seconds_);
        bytes memory signature = _sign(fresh);
        vm.prank(HOLDER);
        ID.addClaim(TOPIC, 1, address(ISSUER), signature, fresh, "");
        (present, pushed, data, expiresAt) = (true, false, fresh, until);
    }

    function removeClaim(uint256 who) external {
        bool live = isLive();
        address sender = _sender(who);
        vm.prank(sender);
        ID.removeClaim(ClaimData.claimId(address(ISSUER), TOPIC));
        assertTrue(!pushed || !live, "the holder's side hides no live claim that the issuer pushed");
        present = false;
    }

    function revoke() external {
        bytes32 digest = ClaimData.digestOf(address(ID), TOPIC, data);
        vm.prank(vm.addr(ISSUER_KEY));
        ISSUER.revokeClaim(digest);
        revoked[digest] = true;
    }

    function wait_(uint256 seconds_) external {
        vm.warp(block.timestamp + seconds_ % 3 days);
    }

    function isLive() public view returns (bool) {
        return present && !revoked[ClaimData.digestOf(address(ID), TOPIC, data)]
            && (expiresAt == 0 || block.timestamp < expiresAt);
    }

    function _data(uint256 seconds_) private returns (bytes memory, uint64 until) {
        until = seconds_ % 4 == 0 ? 0 : uint64(block.timestamp + 1 + seconds_ % 10 days);
        return (ClaimData.encode(until, abi.encode(++_count)), until);
    }

    function _sign(bytes memory fresh) private view returns (bytes memory) {
        bytes32 digest = ClaimData.digestOf(address(ID), TOPIC, fresh);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(ISSUER_KEY, MessageHashUtils.toEthSignedMessageHash(digest));
        return abi.encodePacked(r, s, v);
    }

    function _sender(uint256 who) private view returns (address) {
        return who % 3 == 0 ? address(uint160(0x500 + who % 4)) : HOLDER;
    }

    function _key(uint256 key) private view returns (bytes32) {
        return keccak256(abi.encode(key % 4 == 0 ? HOLDER : address(uint160(0x500 + key % 4))));
    }
}

contract IdentityInvariants is IdentityFixture {
    IdentityWalk private _walk;

    function setUp() public override {
        super.setUp();
        _walk = new IdentityWalk(id, issuer, holder, KYC);
        _walk.pushClaim(0);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_walk);
    }

    function invariant_somebody_always_controls_the_identity() public view {
        assertTrue(id.getKeysByPurpose(1).length != 0, "a MANAGEMENT key is left");
    }

    function invariant_every_listed_key_has_its_purpose() public view {
        for (uint256 purpose = 1; purpose <= 4; ++purpose) {
            bytes32[] memory keys = id.getKeysByPurpose(purpose);
            for (uint256 i; i < keys.length; ++i) {
                assertTrue(id.keyHasPurpose(keys[i], purpose), "listed and held");
            }
        }
    }

    function invariant_a_holder_is_verified_exactly_while_the_claim_lives() public view {
        assertTrue(verified(holder) == _walk.isLive(), "registry and claim agree");
    }
}
