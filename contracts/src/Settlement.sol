// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IAssetFactory} from "./interfaces/IAssetFactory.sol";
import {IHolds} from "./interfaces/IHolds.sol";
import {IIdentityRegistryPolicy} from "./interfaces/IIdentityRegistryPolicy.sol";
import {HashKind, ISettlement, Leg, SettlementStatus, Terms} from "./interfaces/ISettlement.sol";
import {Legs} from "./libraries/Legs.sol";
import {ComplianceRefused} from "./Refusals.sol";

/// @title Settlement
/// @notice See `ISettlement`. One slot per settlement: the terms live in calldata and in the event of their creation.
///
/// Threat model: nobody is trusted, neither creator nor parties nor foreign currencies, which may fail, lie or call back. A party can
/// lose only what it approved, and only for what the terms give it. What the settlements of one foreign currency hold together lies on
/// one account here; a currency that takes balances away by itself can make it short, and hurts only those who chose that currency.
///
/// Whatever changes an existing settlement holds the reentrancy lock, so results of calls may be written after them.
contract Settlement is ISettlement, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint256 private constant MAX_LEGS = 32;

    struct State {
        SettlementStatus status;
        uint32 approvals;
        uint32 delivered;
        uint32 own;
        uint64 votes;
        uint48 reclaimFrom;
    }

    IIdentityRegistryPolicy public immutable REGISTRY;
    IAssetFactory public immutable ASSETS;
    /// Blocks between `startReclaim` and the first `reclaim`.
    uint256 public immutable RECLAIM_DELAY;

    mapping(bytes32 id => State) private _states;

    /// @dev Another registry or asset factory means another settlement contract; asking the address book each time would cost
    /// more than every check below.
    constructor(IIdentityRegistryPolicy registry, IAssetFactory assets, uint256 reclaimDelay) {
        REGISTRY = registry;
        ASSETS = assets;
        RECLAIM_DELAY = reclaimDelay;
    }

    /* AGREEING */

    /// @inheritdoc ISettlement
    function create(Terms memory terms) external returns (bytes32 id) {
        id = idOf(terms);
        if (_states[id].status != SettlementStatus.UNKNOWN) revert SettlementExists(id);
        _require(terms.cutoff > block.timestamp, "cutoff");
        uint32 own = _checkLegs(terms);
        _save(id, State(SettlementStatus.ACTIVE, 0, 0, own, 0, 0));
        emit SettlementCreated(id, msg.sender, terms);
    }

    /// @inheritdoc ISettlement
    // Guarded like every function that changes a state that exists, and saved before the assets are asked.
    // slither-disable-next-line reentrancy-no-eth
    function approve(Terms memory terms) external nonReentrant {
        (bytes32 id, State memory state) = _loadCalled();
        uint32 bit = _senderBit(terms.legs, msg.sender);
        if (state.approvals & bit != 0) revert AlreadyApproved(msg.sender);
        _requireStatus(state, SettlementStatus.ACTIVE);
        _requireBefore(terms.cutoff);

        state.approvals |= bit;
        bool locked = state.approvals == Legs.senders(terms.legs);
        if (locked) state.status = SettlementStatus.APPROVED;
        _save(id, state);
        emit SettlementApproved(id, msg.sender);
        _lock(id, state, terms.legs);
        if (!locked) return;
        emit SettlementLocked(id);
        if (terms.autoExecute && terms.hashKind == HashKind.NONE) _execute(id, state, terms.legs);
    }

    /// @inheritdoc ISettlement
    function revoke(Terms memory terms) external nonReentrant {
        (bytes32 id, State memory state) = _loadCalled();
        uint32 bit = _approvedBit(state, terms, msg.sender);
        if (!_canBackOut(state, terms)) revert WrongStatus(state.status);

        state.approvals &= ~bit;
        state.status = SettlementStatus.ACTIVE;
        _save(id, state);
        emit ApprovalRevoked(id, msg.sender);
        _unlock(id, state, terms.legs, msg.sender);
    }

    /// @inheritdoc ISettlement
    function voteCancel(Terms memory terms) external {
        _vote(terms, true);
    }

    /// @inheritdoc ISettlement
    function withdrawVote(Terms memory terms) external {
        _vote(terms, false);
    }

    /* SETTLING */

    /// @inheritdoc ISettlement
    function execute(Terms memory terms) external nonReentrant {
        (bytes32 id, State memory state) = _loadCalled();
        if (terms.hashKind != HashKind.NONE) revert SecretRequired();
        _requireLocked(state);
        _requireBefore(terms.cutoff);
        _execute(id, state, terms.legs);
    }

    /// @inheritdoc ISettlement
    // Guarded like every function that changes a state that exists, and saved before the assets are asked.
    // slither-disable-next-line reentrancy-no-eth
    function reveal(Terms memory terms, bytes32 secret) external nonReentrant {
        (bytes32 id, State memory state) = _load(terms);
        _requireLocked(state);
        bytes memory preimage = abi.encode(secret);
        bytes32 hash = terms.hashKind == HashKind.SHA256 ? sha256(preimage) : keccak256(preimage);
        if (hash != terms.hashlock) revert SecretMismatch();
        uint256 broken = _brokenLeg(id, state, terms.legs);
        if (broken != Legs.NONE) revert LegBreached(broken);

        state.status = SettlementStatus.COMMITTED;
        _save(id, state);
        emit SecretRevealed(id, secret);
        for (uint256 i; i < terms.legs.length; ++i) {
            if (terms.legs[i].chainId != 0) continue;
            (bool moved, bytes memory cause) = _tryMove(id, state, terms.legs, i);
            if (moved) {
                state.delivered |= uint32(1 << i);
                emit LegDelivered(id, i);
            } else {
                emit LegDeliverable(id, i, cause);
            }
        }
        _conclude(id, state, terms.legs);
    }

    /// @inheritdoc ISettlement
    // Guarded like every function that changes a state that exists, and saved before the assets are asked.
    // slither-disable-next-line reentrancy-no-eth
    function deliver(Terms memory terms, uint256 leg) external nonReentrant {
        (bytes32 id, State memory state) = _load(terms);
        if (!_isCommitted(state)) revert WrongStatus(state.status);
        uint32 bit = uint32(1 << leg);
        if (Legs.locals(terms.legs) & bit == 0) revert LegNotLocal(leg);
        if (state.delivered & bit != 0) revert AlreadyDelivered(leg);
        state.delivered |= bit;
        _save(id, state);
        _move(id, state, terms.legs, leg);
        emit LegDelivered(id, leg);
        _conclude(id, state, terms.legs);
    }

    /* GETTING BACK */

    /// @inheritdoc ISettlement
    function startReclaim(Terms memory terms) external nonReentrant {
        (bytes32 id, State memory state) = _loadCalled();
        if (!_isPending(state)) revert WrongStatus(state.status);
        _requireAfter(terms.cutoff);
        if (state.reclaimFrom != 0) revert ReclaimAlreadyStarted(state.reclaimFrom);
        uint256 fromBlock = block.number + RECLAIM_DELAY;
        // forge-lint: disable-next-line(unsafe-typecast)
        state.reclaimFrom = uint48(fromBlock);
        _save(id, state);
        emit ReclaimStarted(id, fromBlock);
    }

    /// @inheritdoc ISettlement
    function reclaim(Terms memory terms, address sender) external nonReentrant {
        (bytes32 id, State memory state) = _load(terms);
        uint32 bit = _approvedBit(state, terms, sender);
        if (_isPending(state)) {
            state.status = _released(id, state, terms);
        } else if (state.status < SettlementStatus.CANCELLED) {
            revert WrongStatus(state.status);
        }
        state.approvals &= ~bit;
        if (state.approvals == 0 && state.status == SettlementStatus.EXPIRED) {
            state.status = SettlementStatus.WITHDRAWN;
        }
        _save(id, state);
        emit AmountsReclaimed(id, sender);
        _unlock(id, state, terms.legs, sender);
    }

    /* QUESTIONS */

    /// @inheritdoc ISettlement
    function status(Terms memory terms) external view returns (SettlementStatus) {
        (bytes32 id, State memory state) = _load(terms);
        bool pending = _isPending(state);
        if ((pending || _isCommitted(state)) && _brokenLeg(id, state, terms.legs) != Legs.NONE) {
            return SettlementStatus.BREACHED;
        }
        return pending && block.timestamp >= terms.cutoff ? SettlementStatus.EXPIRED : state.status;
    }

    /// @inheritdoc ISettlement
    function progress(bytes32 id)
        external
        view
        returns (SettlementStatus stored, uint32 approvals, uint32 delivered, uint64 votes, uint256 reclaimFrom)
    {
        State memory state = _states[id];
        return (state.status, state.approvals, state.delivered, state.votes, state.reclaimFrom);
    }

    /// @inheritdoc ISettlement
    function idOf(Terms memory terms) public pure returns (bytes32) {
        return keccak256(abi.encode(terms));
    }

    /* INTERNAL: rules of the states */

    function _load(Terms memory terms) private view returns (bytes32 id, State memory state) {
        id = idOf(terms);
        state = _stateOf(id);
    }

    /// @dev For functions whose only argument is the terms: the call data is their encoding. A caller who encodes them in another
    /// way than the usual one meets `SettlementUnknown`.
    function _loadCalled() private view returns (bytes32 id, State memory state) {
        id = keccak256(msg.data[4:]);
        state = _stateOf(id);
    }

    function _stateOf(bytes32 id) private view returns (State memory state) {
        state = _states[id];
        if (state.status == SettlementStatus.UNKNOWN) revert SettlementUnknown(id);
    }

    function _save(bytes32 id, State memory state) private {
        _states[id] = state;
    }

    /// @dev Of a settlement that exists.
    function _isPending(State memory state) private pure returns (bool) {
        return state.status <= SettlementStatus.APPROVED;
    }

    function _isCommitted(State memory state) private pure returns (bool) {
        return state.status == SettlementStatus.COMMITTED || state.status == SettlementStatus.PARTLY_DELIVERED;
    }

    function _requireStatus(State memory state, SettlementStatus wanted) private pure {
        if (state.status != wanted) revert WrongStatus(state.status);
    }

    function _requireLocked(State memory state) private pure {
        if (state.status == SettlementStatus.ACTIVE) revert NotLocked();
        _requireStatus(state, SettlementStatus.APPROVED);
    }

    /// @dev Once armed, the other chain relies on the local locks: from then on nobody backs out alone.
    function _canBackOut(State memory state, Terms memory terms) private pure returns (bool) {
        return state.status == SettlementStatus.ACTIVE
            || (state.status == SettlementStatus.APPROVED && terms.hashKind == HashKind.NONE);
    }

    function _senderBit(Leg[] memory legs, address sender) private pure returns (uint32 bit) {
        bit = Legs.senderBit(legs, sender);
        if (bit == 0) revert NotALocalSender(sender);
    }

    function _approvedBit(State memory state, Terms memory terms, address sender) private pure returns (uint32 bit) {
        bit = _senderBit(terms.legs, sender);
        if (state.approvals & bit == 0) revert NotApproved(sender);
    }

    function _requireBefore(uint256 cutoff) private view {
        if (block.timestamp >= cutoff) revert CutoffPassed(cutoff);
    }

    function _requireAfter(uint256 cutoff) private view {
        if (block.timestamp < cutoff) revert CutoffNotReached(cutoff);
    }

    /// @dev Casts the caller's vote to cancel, or takes it back.
    function _vote(Terms memory terms, bool cast) private nonReentrant {
        (bytes32 id, State memory state) = _loadCalled();
        uint64 bit = Legs.partyBit(terms.legs, msg.sender);
        if (bit == 0) revert NotALocalParty(msg.sender);
        if (!_isPending(state)) revert CancelNotAllowed(state.status);
        if ((state.votes & bit != 0) == cast) {
            if (cast) revert AlreadyVoted(msg.sender);
            revert NotVoted(msg.sender);
        }
        state.votes ^= bit;
        if (!cast) {
            emit CancelVoteWithdrawn(id, msg.sender);
        } else {
            emit CancelVoted(id, msg.sender);
            if (_canBackOut(state, terms) || state.votes == Legs.parties(terms.legs)) {
                state.status = SettlementStatus.CANCELLED;
                emit SettlementCancelled(id);
            }
        }
        _save(id, state);
    }

    /// @dev What a pending settlement becomes when its amounts go back: expired, or breached.
    function _released(bytes32 id, State memory state, Terms memory terms) private returns (SettlementStatus) {
        if (_brokenLeg(id, state, terms.legs) != Legs.NONE) {
            emit SettlementBreached(id);
            return SettlementStatus.BREACHED;
        }
        _requireAfter(terms.cutoff);
        if (state.reclaimFrom == 0) revert ReclaimNotStarted();
        if (block.number < state.reclaimFrom) revert ReclaimTooEarly(state.reclaimFrom);
        return SettlementStatus.EXPIRED;
    }

    /// @dev First leg whose lock a custodian broke, wholly or in part.
    function _brokenLeg(bytes32 id, State memory state, Leg[] memory legs) private view returns (uint256) {
        for (uint256 i; i < legs.length; ++i) {
            if (state.own & (1 << i) == 0) continue;
            if (state.approvals & Legs.senderBit(legs, legs[i].from) == 0) continue;
            uint256 due = Legs.sum(legs, legs[i].from, legs[i].asset, true, false, state.delivered);
            if (IHolds(legs[i].asset).heldBy(address(this), id, legs[i].from) < due) return i;
        }
        return Legs.NONE;
    }

    function _checkLegs(Terms memory terms) private view returns (uint32 own) {
        Leg[] memory legs = terms.legs;
        _require(legs.length <= MAX_LEGS, "legs");
        uint256 external_;
        for (uint256 i; i < legs.length; ++i) {
            Leg memory leg = legs[i];
            bool sound = leg.amount != 0 && leg.from != address(0) && leg.to != address(0) && leg.from != leg.to;
            if (leg.chainId != 0) {
                _require(leg.chainId != block.chainid, "chainId");
                ++external_;
            } else {
                sound =
                    sound && leg.asset.code.length != 0 && leg.to != address(this) && leg.amount <= type(uint128).max;
            }
            _require(sound, "leg");
            if (leg.chainId == 0 && _isOwn(leg.asset)) own |= uint32(1 << i);
        }
        _require(external_ != legs.length, "legs");
        bool locked = terms.hashKind != HashKind.NONE;
        _require(locked == (external_ != 0) && locked == (terms.hashlock != 0), "hashlock");
    }

    function _require(bool sound, bytes32 field) private pure {
        if (!sound) revert InvalidTerms(field);
    }

    function _isOwn(address asset) private view returns (bool) {
        return ASSETS.isAsset(asset);
    }

    /* INTERNAL: locks and movements */

    /// @dev Locks everything the caller sends, one lock per asset.
    function _lock(bytes32 id, State memory state, Leg[] memory legs) private {
        for (uint256 i; i < legs.length; ++i) {
            if (legs[i].chainId != 0 || legs[i].from != msg.sender || !Legs.isFirst(legs, i, true)) continue;
            address asset = legs[i].asset;
            bool own = state.own & (1 << i) != 0;
            uint256 amount = Legs.sum(legs, msg.sender, asset, true, !own, 0);
            if (amount == 0) continue;
            uint256 allowance = IERC20(asset).allowance(msg.sender, address(this));
            if (allowance < amount) revert AllowanceInsufficient(asset, amount, allowance);
            if (own) {
                IHolds(asset).hold(id, msg.sender, amount);
            } else {
                uint256 before = IERC20(asset).balanceOf(address(this));
                IERC20(asset).safeTransferFrom(msg.sender, address(this), amount);
                uint256 received = IERC20(asset).balanceOf(address(this)) - before;
                if (received != amount) revert CurrencyNotExact(asset, amount, received);
            }
        }
    }

    /// @dev Undoes `_lock`. Of a broken hold only what is left goes free; the rest was freed already.
    function _unlock(bytes32 id, State memory state, Leg[] memory legs, address sender) private {
        for (uint256 i; i < legs.length; ++i) {
            if (legs[i].chainId != 0 || legs[i].from != sender || !Legs.isFirst(legs, i, true)) continue;
            address asset = legs[i].asset;
            if (state.own & (1 << i) != 0) {
                IHolds(asset).releaseHold(id, sender, IHolds(asset).heldBy(address(this), id, sender));
            } else {
                uint256 amount = Legs.sum(legs, sender, asset, true, true, 0);
                if (amount != 0) IERC20(asset).safeTransfer(_present(sender), amount);
            }
        }
    }

    function _execute(bytes32 id, State memory state, Leg[] memory legs) private {
        state.status = SettlementStatus.EXECUTED;
        state.delivered = Legs.locals(legs);
        _save(id, state);
        for (uint256 i; i < legs.length; ++i) {
            _move(id, state, legs, i);
        }
        emit SettlementExecuted(id);
    }

    function _move(bytes32 id, State memory state, Leg[] memory legs, uint256 index) private {
        (bool moved, bytes memory cause) = _tryMove(id, state, legs, index);
        if (!moved) _rethrow(index, cause);
    }

    /// @dev One leg. A foreign currency is netted: the first leg towards a receiver carries all of it.
    function _tryMove(bytes32 id, State memory state, Leg[] memory legs, uint256 index)
        private
        returns (bool moved, bytes memory cause)
    {
        Leg memory leg = legs[index];
        address receiver = _present(leg.to);
        if (state.own & (1 << index) != 0) {
            try IHolds(leg.asset).executeHold(id, leg.from, receiver, leg.amount) {
                moved = true;
            } catch (bytes memory reason) {
                cause = reason;
            }
        } else {
            uint256 amount = Legs.isFirst(legs, index, false) ? Legs.sum(legs, leg.to, leg.asset, false, true, 0) : 0;
            moved = amount == 0 || IERC20(leg.asset).trySafeTransfer(receiver, amount);
        }
    }

    function _conclude(bytes32 id, State memory state, Leg[] memory legs) private {
        if (state.delivered == Legs.locals(legs)) {
            state.status = SettlementStatus.EXECUTED;
            emit SettlementExecuted(id);
        } else if (state.delivered != 0) {
            state.status = SettlementStatus.PARTLY_DELIVERED;
        }
        _save(id, state);
    }

    /// @dev The wallet that the registry recorded as successor, else the wallet itself.
    function _present(address wallet) private view returns (address) {
        address successor = REGISTRY.successor(wallet);
        return successor == address(0) ? wallet : successor;
    }

    /// @dev A refusal of ours keeps who refused and why, and gains the leg.
    function _rethrow(uint256 leg, bytes memory cause) private pure {
        if (cause.length == 68 && bytes4(cause) == ComplianceRefused.selector) {
            (address module, bytes32 reason) = Legs.refusal(cause);
            revert LegNotCompliant(leg, module, reason);
        }
        revert LegFailed(leg, cause);
    }
}
