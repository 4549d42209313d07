// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {IERC734} from "./interfaces/IERC734.sol";
import {IERC735} from "./interfaces/IERC735.sol";
import {IClaimIssuer, IClaimLiveness} from "./interfaces/IClaimIssuer.sol";
import {ClaimInput, IIdentityClaims} from "./interfaces/IIdentity.sol";
import {IIdentityFactory} from "./interfaces/IIdentityFactory.sol";
import {IIdentityRegistryPolicy} from "./interfaces/IIdentityRegistryPolicy.sol";
import {ISystem} from "./interfaces/ISystem.sol";
import {CanonicalSignature} from "./libraries/CanonicalSignature.sol";
import {ClaimData} from "./libraries/ClaimData.sol";
import {IdentityControl} from "./identity/IdentityControl.sol";
import {IdentityState} from "./identity/IdentityState.sol";
import {Names} from "./Roles.sol";

/// @title On-chain identity: keys, claims and claim issuer in one clone
/// @notice Threat model. The holder may be hostile: nothing the holder can do makes an identity of our factory report a claim that
/// its issuer did not sign, or hide a live claim that the issuer pushed. The issuer is judged by the registry, not here. The
/// tenant's registry may move keys after a recovery; that power is the tenant's and every use emits `KeysRecovered`.
contract Identity is IdentityState, IERC735, IClaimIssuer, IClaimLiveness, IIdentityClaims, IERC165 {
    /// Only ECDSA over the eth-signed digest.
    uint256 public constant SCHEME_ECDSA = 1;
    uint256 public constant MAX_CLAIMS_PER_TOPIC = 50;

    struct Claim {
        // Read on every transfer: one slot, and the digest in the next.
        address signer;
        uint64 expiresAt;
        bool pushed;
        uint8 v;
        uint8 position;
        bytes32 digest;
        address issuer;
        uint256 topic;
        bytes32 r;
        bytes32 s;
        bytes data;
        string uri;
    }

    IIdentityFactory public immutable FACTORY;
    /// Code of keys and execution; see `IdentityState` for why it stands apart.
    address public immutable CONTROL;

    mapping(bytes32 claimId => Claim) private _claims;
    mapping(uint256 topic => bytes32[] claimIds) private _claimIdsByTopic;
    mapping(bytes32 digest => bool) private _revokedDigests;
    mapping(bytes32 signatureHash => bool) private _revokedSignatures;
    mapping(bytes32 subjectTopic => bool) private _barred;

    /// @dev The deployer of the implementation is the factory whose clones delegate to it.
    constructor(ISystem system) IdentityState(system) {
        FACTORY = IIdentityFactory(msg.sender);
        CONTROL = address(new IdentityControl(system));
    }

    receive() external payable {}

    /// @notice Everything in `IIdentity` that is not declared here.
    fallback(bytes calldata input) external payable returns (bytes memory) {
        return Address.functionDelegateCall(CONTROL, input);
    }

    /// @inheritdoc IIdentityClaims
    function initialize(address wallet, ClaimInput[] memory claims, bool pushed) external {
        if (msg.sender != address(FACTORY)) revert IdentityUnauthorized(msg.sender);
        if (_hasKeys()) revert IdentityAlreadyInitialized();
        if (wallet == address(0)) revert IdentityZeroAddress();
        _addFirstKey(wallet);
        for (uint256 i = 0; i < claims.length; ++i) {
            ClaimInput memory claim = claims[i];
            _storeClaim(claim.topic, claim.issuer, claim.signature, claim.data, claim.uri, pushed);
        }
    }

    function keyHasPurpose(bytes32 key, uint256 purpose) external view returns (bool) {
        return _keyHasPurpose(key, purpose);
    }

    /* CLAIMS (ERC-735) */

    /// @notice Adds or replaces the claim of (issuer, topic) after checking it through the issuer. Callers: see `IIdentity`.
    /// Emits `ClaimAdded` or `ClaimChanged`. Reverts when the caller may not, the signature is not canonical, the claim is expired or
    /// invalid, or it would replace a live pushed claim from the holder's side.
    function addClaim(
        uint256 topic,
        uint256 scheme,
        address issuer,
        bytes memory signature,
        bytes memory data,
        string memory uri
    ) external returns (bytes32) {
        if (scheme != SCHEME_ECDSA) revert IdentitySchemeUnsupported(scheme);
        bool pushed = false;
        if (msg.sender != address(this) && !_hasPurpose(keyOf(msg.sender), CLAIM)) {
            if (!_isIssuerSide(issuer)) revert IdentityUnauthorized(msg.sender);
            // Without this, anybody could deploy an issuer and litter identities with claims.
            address registry = SYSTEM.get(Names.IDENTITY_REGISTRY);
            if (registry == address(0) || !IIdentityRegistryPolicy(registry).isTrustedFor(issuer, topic, address(this)))
            {
                revert IdentityIssuerNotTrusted(issuer, topic);
            }
            pushed = true;
        }
        return _storeClaim(topic, issuer, signature, data, uri, pushed);
    }

    /// @notice Removes a claim. Caller: the issuer's side; or a MANAGEMENT or CLAIM key or the identity itself, unless the claim was
    /// pushed and is live. Emits `ClaimRemoved`.
    function removeClaim(bytes32 claimId) external returns (bool) {
        Claim storage claim = _claims[claimId];
        address issuer = claim.issuer;
        if (issuer == address(0)) revert IdentityClaimUnknown(claimId);
        if (!_isIssuerSide(issuer)) {
            bytes32 key = keyOf(msg.sender);
            if (msg.sender != address(this) && !_hasPurpose(key, MANAGEMENT) && !_hasPurpose(key, CLAIM)) {
                revert IdentityUnauthorized(msg.sender);
            }
            if (claim.pushed && _isStillValid(claim)) revert IdentityClaimPushed(claimId);
        }
        uint256 topic = claim.topic;
        bytes memory data = claim.data;
        string memory uri = claim.uri;
        emit ClaimRemoved(claimId, topic, SCHEME_ECDSA, issuer, _signatureOf(claim), data, uri);
        bytes32[] storage ids = _claimIdsByTopic[topic];
        uint8 position = claim.position;
        bytes32 last = ids[ids.length - 1];
        ids[position] = last;
        _claims[last].position = position;
        ids.pop();
        delete _claims[claimId];
        return true;
    }

    function getClaim(bytes32 claimId)
        external
        view
        returns (
            uint256 topic,
            uint256 scheme,
            address issuer,
            bytes memory signature,
            bytes memory data,
            string memory uri
        )
    {
        Claim storage claim = _claims[claimId];
        issuer = claim.issuer;
        if (issuer == address(0)) return (0, 0, address(0), "", "", "");
        return (claim.topic, SCHEME_ECDSA, issuer, _signatureOf(claim), claim.data, claim.uri);
    }

    function getClaimIdsByTopic(uint256 topic) external view returns (bytes32[] memory) {
        return _claimIdsByTopic[topic];
    }

    /// @inheritdoc IIdentityClaims
    function claimMeta(bytes32 claimId) external view returns (address signer, uint64 expiresAt, bytes32 digest) {
        Claim storage claim = _claims[claimId];
        return (claim.signer, claim.expiresAt, claim.digest);
    }

    /* CLAIM ISSUER */

    /// @notice Revokes the claim that `identity` holds under `claimId`. Caller: MANAGEMENT or CLAIM key or the issuer itself. For an
    /// identity that is not ours the whole (identity, topic) is barred as well, because such an identity may show a decoy here and the
    /// real claim to the registry; `barSubject` readmits it. Reverts when the claim shown is not one of this issuer.
    function revokeClaim(bytes32 claimId, address identity) external returns (bool) {
        _onlyIssuerKeys();
        (uint256 topic,, address issuer, bytes memory signature, bytes memory data,) =
            IERC735(identity).getClaim(claimId);
        // The id binds the topic to this issuer, so the topic is true even when the rest is a decoy.
        if (issuer != address(this) || ClaimData.claimId(address(this), topic) != claimId) {
            revert IdentityClaimMismatch(claimId);
        }
        bytes32 digest = ClaimData.digestOf(identity, topic, data);
        _revokedDigests[digest] = true;
        _revokedSignatures[keccak256(signature)] = true;
        emit ClaimRevoked(signature);
        emit ClaimDigestRevoked(digest);
        if (!FACTORY.isNative(identity)) _bar(identity, topic, true);
        return true;
    }

    /// @inheritdoc IClaimLiveness
    function revokeClaim(bytes32 digest) external {
        _onlyIssuerKeys();
        _revokedDigests[digest] = true;
        emit ClaimDigestRevoked(digest);
    }

    /// @notice See `IClaimIssuer`. Caller: MANAGEMENT or CLAIM key or the issuer itself. Emits `ClaimRevoked`. From then on the
    /// issuer's claims take the full check, which is dearer by some 30k gas: prefer `revokeClaim(digest)`.
    function revokeClaimBySignature(bytes memory signature) external {
        _onlyIssuerKeys();
        (bool canonical,,,) = CanonicalSignature.split(signature);
        if (!canonical) revert IdentitySignatureNotCanonical();
        _revokedSignatures[keccak256(signature)] = true;
        _markSignatureRevocations();
        emit ClaimRevoked(signature);
    }

    /// @inheritdoc IClaimLiveness
    function barSubject(address identity, uint256 topic, bool barred) external {
        _onlyIssuerKeys();
        _bar(identity, topic, barred);
    }

    /// @inheritdoc IClaimIssuer
    function isClaimRevoked(bytes memory signature) external view returns (bool) {
        return _revokedSignatures[keccak256(signature)];
    }

    /// @inheritdoc IClaimLiveness
    function isDigestRevoked(bytes32 digest) external view returns (bool) {
        return _revokedDigests[digest];
    }

    /// @inheritdoc IClaimLiveness
    function isClaimLive(address signer, bytes32 digest) external view returns (bool) {
        return _isUnmarkedClaimKey(keyOf(signer)) && !_revokedDigests[digest];
    }

    /// @notice True when `signature` is a canonical signature of a present CLAIM key over (identity, topic, data), nothing of it
    /// is revoked or barred, and the expiry in `data` lies ahead.
    function isClaimValid(address identity, uint256 topic, bytes memory signature, bytes memory data)
        external
        view
        returns (bool)
    {
        bytes32 digest = ClaimData.digestOf(identity, topic, data);
        address signer = CanonicalSignature.recover(MessageHashUtils.toEthSignedMessageHash(digest), signature);
        return signer != address(0) && _hasPurpose(keyOf(signer), CLAIM) && !_revokedDigests[digest]
            && !_revokedSignatures[keccak256(signature)] && !_barred[keccak256(abi.encode(identity, topic))]
            && !ClaimData.isExpired(ClaimData.expiryOf(data));
    }

    /// @inheritdoc IClaimIssuer
    function getRecoveredAddress(bytes memory signature, bytes32 dataHash) external pure returns (address) {
        return CanonicalSignature.recover(dataHash, signature);
    }

    /* ERC-165 */

    function supportsInterface(bytes4 id) external pure returns (bool) {
        return id == type(IERC165).interfaceId || id == type(IERC734).interfaceId || id == type(IERC735).interfaceId
            || id == type(IClaimIssuer).interfaceId || id == type(IClaimLiveness).interfaceId;
    }

    /* INTERNAL */

    function _storeClaim(
        uint256 topic,
        address issuer,
        bytes memory signature,
        bytes memory data,
        string memory uri,
        bool pushed
    ) private returns (bytes32 claimId) {
        claimId = ClaimData.claimId(issuer, topic);
        Claim storage claim = _claims[claimId];
        bool replaces = claim.issuer != address(0);
        if (replaces && !pushed && claim.pushed && _isStillValid(claim)) revert IdentityClaimPushed(claimId);

        _writeVerified(claim, topic, issuer, signature, data);
        claim.pushed = pushed;
        claim.data = data;
        claim.uri = uri;
        if (replaces) {
            emit ClaimChanged(claimId, topic, SCHEME_ECDSA, issuer, signature, data, uri);
        } else {
            bytes32[] storage ids = _claimIdsByTopic[topic];
            if (ids.length == MAX_CLAIMS_PER_TOPIC) revert IdentityTooManyClaims(topic);
            claim.position = uint8(ids.length);
            ids.push(claimId);
            emit ClaimAdded(claimId, topic, SCHEME_ECDSA, issuer, signature, data, uri);
        }
    }

    /// @dev The signer is recovered here and not asked of the issuer: the registry later asks about exactly this key.
    function _writeVerified(
        Claim storage claim,
        uint256 topic,
        address issuer,
        bytes memory signature,
        bytes memory data
    ) private {
        uint64 expiresAt = ClaimData.expiryOf(data);
        if (ClaimData.isExpired(expiresAt)) revert IdentityClaimExpired(expiresAt);
        (bool canonical, bytes32 r, bytes32 s, uint8 v) = CanonicalSignature.split(signature);
        if (!canonical) revert IdentitySignatureNotCanonical();
        bytes32 digest = ClaimData.digestOf(address(this), topic, data);
        address signer = ecrecover(MessageHashUtils.toEthSignedMessageHash(digest), v, r, s);
        if (
            signer == address(0) || issuer.code.length == 0
                || !IClaimIssuer(issuer).isClaimValid(address(this), topic, signature, data)
        ) revert IdentityClaimInvalid(issuer, topic);
        claim.signer = signer;
        claim.expiresAt = expiresAt;
        claim.v = v;
        claim.digest = digest;
        claim.issuer = issuer;
        claim.topic = topic;
        claim.r = r;
        claim.s = s;
    }

    function _signatureOf(Claim storage claim) private view returns (bytes memory) {
        return abi.encodePacked(claim.r, claim.s, claim.v);
    }

    /// @dev An issuer that fails to answer cannot keep a claim on the identity for ever.
    function _isStillValid(Claim storage claim) private view returns (bool) {
        bytes memory data = claim.data;
        try IClaimIssuer(claim.issuer).isClaimValid(address(this), claim.topic, _signatureOf(claim), data) returns (
            bool valid
        ) {
            return valid;
        } catch {
            return false;
        }
    }

    function _isIssuerSide(address issuer) private view returns (bool) {
        if (msg.sender == issuer) return true;
        if (issuer == address(this) || issuer.code.length == 0) return false;
        try IERC734(issuer).keyHasPurpose(keyOf(msg.sender), CLAIM) returns (bool held) {
            return held;
        } catch {
            return false;
        }
    }

    function _bar(address identity, uint256 topic, bool barred) private {
        _barred[keccak256(abi.encode(identity, topic))] = barred;
        emit ClaimSubjectBarred(identity, topic, barred);
    }

    function _onlyIssuerKeys() private view {
        if (msg.sender == address(this)) return;
        bytes32 key = keyOf(msg.sender);
        if (!_hasPurpose(key, CLAIM) && !_hasPurpose(key, MANAGEMENT)) revert IdentityUnauthorized(msg.sender);
    }
}
