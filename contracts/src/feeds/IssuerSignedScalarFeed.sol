// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {Bytes} from "@openzeppelin/contracts/utils/Bytes.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {AggregatorV3Interface} from "../interfaces/IAggregatorV3.sol";
import {IERC734} from "../interfaces/IERC734.sol";
import {IRegistryAdministration} from "../interfaces/IIdentityRegistryPolicy.sol";
import {FeedTerms, FeedUpdate, HistoryMode, IIssuerSignedScalarFeed} from "../interfaces/IIssuerSignedScalarFeed.sol";

/// @title Issuer-signed scalar feed
/// @notice An immutable clone: its terms are part of its code. Nothing about the issuer is remembered besides its nonce, so loss
/// of trust, a retired topic and a removed key bite on the next update. A tenant that moves to another registry replaces its feeds.
/// Threat model: whoever sends an update is nobody; only the issuer's signature counts, bound to this feed and chain by the EIP-712
/// domain and to one place in the issuer's sequence by the nonce. A trusted issuer is trusted with the value: there is no
/// bound on a jump. Contract signers (ERC-1271) are not accepted; they come as a feed kind of their own.
contract IssuerSignedScalarFeed is IIssuerSignedScalarFeed, EIP712, IERC165 {
    /// @dev A struct, so that the slot is computed once per update.
    struct Sequence {
        uint256 nonce;
    }

    bytes32 private constant UPDATE_TYPEHASH = keccak256(
        "FeedUpdate(uint256 topicId,bytes32 schemaHash,int256 value,uint256 observedAt,uint256 nonce,uint256 deadline)"
    );
    uint256 private constant CLAIM = 3;
    uint256 private constant WIDE = 1 << 160;
    /// @dev Length of the encoded terms in the clone's code; the description follows.
    uint256 private constant TERMS_LENGTH = 9 * 32;

    /// @dev A round is one word (see `_pack`): a struct of four fields would be read and written four times.
    uint256 private _latest;
    mapping(uint256 place => uint256 round) private _history;
    mapping(uint256 place => int256) private _wideValues;
    mapping(address issuer => Sequence) private _sequences;

    constructor() EIP712("IssuerSignedScalarFeed", "1") {}

    /* WRITE */

    /// @inheritdoc IIssuerSignedScalarFeed
    function submit(address issuer, FeedUpdate calldata update, bytes calldata signature)
        external
        returns (uint80 roundId)
    {
        FeedTerms memory pinned = terms();
        _checkOrigin(pinned, issuer, update, signature);
        uint256 latest = _latest;
        Sequence storage sequence = _sequences[issuer];
        _checkContent(pinned, sequence.nonce, update, _observedAt(latest));

        sequence.nonce = update.nonce;
        roundId = _id(latest) + 1;
        // casting is safe because a value that does not survive it is stored wide
        // forge-lint: disable-next-line(unsafe-typecast)
        bool wide = int160(update.value) != update.value;
        if (wide) _wideValues[_placeOf(pinned, roundId)] = update.value;
        latest = _pack(update.value, wide, roundId, update.observedAt);
        _latest = latest;
        if (pinned.historyMode != HistoryMode.LATEST_ONLY) _history[_placeOf(pinned, roundId)] = latest;
        emit FeedUpdated(issuer, roundId, update.value, update.observedAt, update.nonce, update.deadline, signature);
    }

    /* AGGREGATOR */

    /// @inheritdoc AggregatorV3Interface
    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        uint256 latest = _latest;
        if (latest == 0) revert RoundNotFound(0);
        return _answer(latest, _placeOf(terms(), _id(latest)));
    }

    /// @inheritdoc AggregatorV3Interface
    function getRoundData(uint80 roundId) external view returns (uint80, int256, uint256, uint256, uint80) {
        FeedTerms memory pinned = terms();
        if (pinned.historyMode == HistoryMode.LATEST_ONLY) revert HistoryNotSupported();
        uint256 place = _placeOf(pinned, roundId);
        uint256 round = _history[place];
        if (roundId == 0 || _id(round) != roundId) revert RoundNotFound(roundId);
        return _answer(round, place);
    }

    /// @inheritdoc AggregatorV3Interface
    function decimals() external view returns (uint8) {
        return terms().decimals;
    }

    /// @inheritdoc AggregatorV3Interface
    function description() external view returns (string memory) {
        return string(Bytes.slice(Clones.fetchCloneArgs(address(this)), TERMS_LENGTH));
    }

    /// @inheritdoc AggregatorV3Interface
    function version() external pure returns (uint256) {
        return 1;
    }

    /* READ */

    /// @inheritdoc IIssuerSignedScalarFeed
    function terms() public view returns (FeedTerms memory) {
        return abi.decode(Clones.fetchCloneArgs(address(this)), (FeedTerms));
    }

    /// @inheritdoc IIssuerSignedScalarFeed
    function subject() external view returns (address) {
        return terms().subject;
    }

    /// @inheritdoc IIssuerSignedScalarFeed
    function topicId() external view returns (uint256) {
        return terms().topicId;
    }

    /// @inheritdoc IIssuerSignedScalarFeed
    function issuerNonce(address issuer) external view returns (uint256) {
        return _sequences[issuer].nonce;
    }

    /// @inheritdoc IIssuerSignedScalarFeed
    function digestOf(FeedUpdate calldata update) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(UPDATE_TYPEHASH, update)));
    }

    /// @inheritdoc IIssuerSignedScalarFeed
    function age() public view returns (uint256) {
        uint256 latest = _latest;
        if (latest == 0) revert RoundNotFound(0);
        uint256 observedAt = _observedAt(latest);
        return block.timestamp > observedAt ? block.timestamp - observedAt : 0;
    }

    /// @inheritdoc IIssuerSignedScalarFeed
    function isStale(uint256 maxAge) external view returns (bool) {
        return _latest == 0 || age() > maxAge;
    }

    function supportsInterface(bytes4 id) external pure returns (bool) {
        return id == type(IERC165).interfaceId || id == type(AggregatorV3Interface).interfaceId
            || id == type(IIssuerSignedScalarFeed).interfaceId;
    }

    /* INTERNAL */

    /// @dev Is this update meant for this feed, and did a trusted issuer sign it?
    function _checkOrigin(FeedTerms memory pinned, address issuer, FeedUpdate calldata update, bytes calldata signature)
        private
        view
    {
        if (update.topicId != pinned.topicId) revert TopicMismatch(pinned.topicId, update.topicId);
        if (update.schemaHash != pinned.schemaHash) revert SchemaHashMismatch(pinned.schemaHash, update.schemaHash);
        if (!IRegistryAdministration(pinned.registry).isTrustedFor(issuer, pinned.topicId, pinned.subject)) {
            revert IssuerNotAuthorized(issuer);
        }
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(digestOf(update), signature);
        if (fault != ECDSA.RecoverError.NoError) revert InvalidSignature();
        if (!_isClaimKey(issuer, signer)) revert InvalidSigner(signer);
    }

    /// @dev Is it the issuer's next update, in time and sane?
    function _checkContent(
        FeedTerms memory pinned,
        uint256 lastNonce,
        FeedUpdate calldata update,
        uint256 latestObservedAt
    ) private view {
        uint256 nonce = lastNonce + 1;
        if (update.nonce != nonce) revert InvalidNonce(nonce, update.nonce);
        if (update.deadline != 0 && block.timestamp > update.deadline) revert DeadlineExpired(update.deadline);
        if (pinned.requirePositive && update.value <= 0) revert ValueNotPositive(update.value);
        uint256 observedAt = update.observedAt;
        if (observedAt == 0) revert InvalidObservedAt();
        if (observedAt < latestObservedAt) revert StaleObservation(latestObservedAt, observedAt);
        uint256 latestAllowed = block.timestamp + pinned.driftAllowance;
        if (observedAt > latestAllowed) revert ObservedAtTooFarInFuture(latestAllowed, observedAt);
    }

    /// @dev A trusted issuer without code, or one that fails to answer, has no CLAIM keys.
    function _isClaimKey(address issuer, address signer) private view returns (bool) {
        bytes memory question = abi.encodeCall(IERC734.keyHasPurpose, (keccak256(abi.encode(signer)), CLAIM));
        (bool answered, bytes memory answer) = issuer.staticcall(question);
        return answered && answer.length >= 32 && abi.decode(answer, (uint256)) == 1;
    }

    /// @dev Where a round's history and wide value stand: a ring in BOUNDED mode.
    function _placeOf(FeedTerms memory pinned, uint256 roundId) private pure returns (uint256) {
        if (pinned.historyMode == HistoryMode.FULL) return roundId;
        return pinned.historyMode == HistoryMode.BOUNDED ? roundId % pinned.historySize : 0;
    }

    function _answer(uint256 round, uint256 place) private view returns (uint80, int256, uint256, uint256, uint80) {
        // casting is safe because the upper bits are other fields
        // forge-lint: disable-next-line(unsafe-typecast)
        int256 value = round & WIDE == 0 ? int256(int160(uint160(round))) : _wideValues[place];
        return (_id(round), value, _observedAt(round), _observedAt(round), _id(round));
    }

    /// @dev Bits 0-159 the value, as prices fit there; 160 says that it does not and stands in `_wideValues`; 168-215 the id; 216-255 the
    /// time, at most `driftAllowance` (32 bits) ahead of a block.
    function _pack(int256 value, bool wide, uint256 roundId, uint256 observedAt) private pure returns (uint256) {
        // casting is safe because of the line above and because a wide value is not read from here
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint160(uint256(value)) | (wide ? WIDE : 0) | (roundId << 168) | (observedAt << 216);
    }

    function _id(uint256 round) private pure returns (uint80) {
        return uint48(round >> 168);
    }

    function _observedAt(uint256 round) private pure returns (uint256) {
        return round >> 216;
    }
}
