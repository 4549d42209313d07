// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {Settlement} from "../src/Settlement.sol";
import {HashKind, Leg, SettlementStatus, Terms} from "../src/interfaces/ISettlement.sol";
import {Fixture} from "./Fixture.sol";

/// @notice A foreign currency that can charge a fee on transfer and refuse a receiver.
contract Currency is ERC20 {
    uint256 public feeBps;
    mapping(address account => bool) public refused;

    constructor() ERC20("Foreign currency", "CUR") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setFee(uint256 bps) external {
        feeBps = bps;
    }

    function refuse(address account, bool yes) external {
        refused[account] = yes;
    }

    function _update(address from, address to, uint256 amount) internal override {
        require(!refused[to], "refused");
        uint256 fee = from == address(0) ? 0 : amount * feeBps / 10_000;
        if (fee != 0) super._update(from, address(0), fee);
        super._update(from, to, amount - fee);
    }
}

abstract contract SettlementFixture is Fixture {
    uint256 internal constant DELAY = 20;
    uint40 internal constant CUTOFF = 1_800_010_000;
    uint64 internal constant FAR = 4242;
    bytes32 internal constant SECRET = keccak256("the secret");
    address internal constant NEW_WALLET = address(0xA2);

    Settlement internal settlement;
    Currency internal cash;
    Currency internal coin;

    function setUp() public virtual override {
        super.setUp();
        settlement = new Settlement(registry, factory, DELAY);
        cash = new Currency();
        coin = new Currency();
        cash.mint(alice, 10_000);
        cash.mint(bob, 10_000);
        coin.mint(alice, 10_000);
        coin.mint(bob, 10_000);
    }

    function _terms(Leg[] memory legs) internal pure returns (Terms memory terms) {
        terms.name = "Trade";
        terms.cutoff = CUTOFF;
        terms.legs = legs;
    }

    /// @dev Alice's bond against Bob's cash.
    function _delivery(uint256 units, uint256 price) internal view returns (Terms memory) {
        Leg[] memory legs = new Leg[](2);
        legs[0] = Leg(address(token), alice, bob, units, 0);
        legs[1] = Leg(address(cash), bob, alice, price, 0);
        return _terms(legs);
    }

    /// @dev Alice's bond and Bob's coin here, against something on another chain.
    function _crossChain(HashKind kind) internal view returns (Terms memory terms) {
        Leg[] memory legs = new Leg[](3);
        legs[0] = Leg(address(token), alice, bob, 400, 0);
        legs[1] = Leg(address(cash), bob, alice, 50, 0);
        legs[2] = Leg(address(0xFA4), bob, alice, 7, FAR);
        terms = _terms(legs);
        terms.hashKind = kind;
        terms.hashlock = kind == HashKind.SHA256 ? sha256(abi.encode(SECRET)) : keccak256(abi.encode(SECRET));
    }

    function _approve(Terms memory terms, address sender) internal {
        vm.startPrank(sender);
        for (uint256 i; i < terms.legs.length; ++i) {
            if (terms.legs[i].chainId == 0 && terms.legs[i].from == sender) {
                Currency asset = Currency(terms.legs[i].asset);
                asset.approve(address(settlement), asset.allowance(sender, address(settlement)) + terms.legs[i].amount);
            }
        }
        settlement.approve(terms);
        vm.stopPrank();
    }

    function _locked(Terms memory terms) internal returns (bytes32 id) {
        id = settlement.create(terms);
        _approve(terms, alice);
        _approve(terms, bob);
    }

    function _assertStatus(Terms memory terms, SettlementStatus wanted) internal view {
        assertEq(uint256(settlement.status(terms)), uint256(wanted), "status");
    }
}
