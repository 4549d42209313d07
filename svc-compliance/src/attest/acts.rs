//! What a call does, read from its bytes alone. Pure. What is not read here is judged by its simulation and by whom it is sent to.

use alloy::{
    primitives::{Address, Bytes, U256},
    sol_types::SolCall as _,
};
use dalp_contracts::bindings::{
    AssetToken, AssetTokenGovernance, IdentityControl, Settlement, System, TokenCompliance,
};

#[allow(missing_docs, unreachable_pub)] // its members are the functions of the comment
mod others {
    alloy::sol! {
    /// Functions that move, or let others move, and that our own contracts do not have.
    interface IOthers {
        function increaseAllowance(address spender, uint256 amount) external returns (bool);
        function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;
        function multicall(bytes[] calldata data) external returns (bytes[] memory results);
    }
    }
}
use others::IOthers;

/// One movement of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Who loses; `None`: newly made.
    pub from: Option<Address>,
    /// Who gains.
    pub to: Address,
    /// Base units.
    pub amount: U256,
}

/// What somebody gives away once a settlement is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promised {
    /// The token.
    pub asset: Address,
    /// How it moves then.
    pub moved: Moved,
}

/// What a call does beside being a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Nothing is sent but value.
    Pays,
    /// Token movements.
    Moves(Vec<Moved>),
    /// Lets somebody take tokens.
    Lets {
        /// Who may.
        spender: Address,
        /// How much, in base units.
        amount: U256,
    },
    /// Locks what moves later, by whoever settles: nobody is asked about the receivers again.
    Promises(Vec<Promised>),
    /// Makes the target call somebody else.
    Executes {
        /// Whom.
        target: Address,
        /// With what of the target's own.
        value_wei: U256,
        /// How.
        data: Bytes,
    },
    /// Makes the target rely on these contracts from now on.
    Trusts(Vec<Address>),
    /// Wraps what the attestor would have to see.
    Hides(&'static str),
    /// A statement about the target; nothing is called.
    States,
    /// Anything else.
    Other,
}

/// Reads a call of `sender`.
#[must_use]
pub fn act_of(sender: Address, data: &[u8]) -> Act {
    let Some(selector) = data.first_chunk::<4>().copied() else { return Act::Pays };
    read(sender, selector, data).unwrap_or(Act::Other)
}

/// `None`: the bytes after the selector are not that function's; the simulation tells what becomes of them.
fn read(sender: Address, selector: [u8; 4], data: &[u8]) -> Option<Act> {
    let own = |to, amount| Act::Moves(vec![Moved { from: Some(sender), to, amount }]);
    let many = |from: Option<Address>, to: Vec<Address>, amounts: Vec<U256>| {
        Act::Moves(to.into_iter().zip(amounts).map(|(to, amount)| Moved { from, to, amount }).collect())
    };
    Some(match selector {
        AssetToken::transferCall::SELECTOR => {
            let call = AssetToken::transferCall::abi_decode(data).ok()?;
            own(call.to, call.amount)
        }
        AssetToken::transferFromCall::SELECTOR => {
            let call = AssetToken::transferFromCall::abi_decode(data).ok()?;
            Act::Moves(vec![Moved { from: Some(call.from), to: call.to, amount: call.amount }])
        }
        AssetToken::batchTransferCall::SELECTOR => {
            let call = AssetToken::batchTransferCall::abi_decode(data).ok()?;
            many(Some(sender), call.toList, call.amounts)
        }
        AssetToken::mintCall::SELECTOR => {
            let call = AssetToken::mintCall::abi_decode(data).ok()?;
            Act::Moves(vec![Moved { from: None, to: call.to, amount: call.amount }])
        }
        AssetToken::batchMintCall::SELECTOR => {
            let call = AssetToken::batchMintCall::abi_decode(data).ok()?;
            many(None, call.toList, call.amounts)
        }
        AssetToken::approveCall::SELECTOR => {
            let call = AssetToken::approveCall::abi_decode(data).ok()?;
            Act::Lets { spender: call.spender, amount: call.value }
        }
        Settlement::approveCall::SELECTOR => {
            let legs = Settlement::approveCall::abi_decode(data).ok()?.terms.legs;
            let own = legs.into_iter().filter(|leg| leg.chainId == 0 && leg.from == sender);
            let promised = own.map(|leg| Promised {
                asset: leg.asset,
                moved: Moved { from: Some(leg.from), to: leg.to, amount: leg.amount },
            });
            Act::Promises(promised.collect())
        }
        IOthers::increaseAllowanceCall::SELECTOR => {
            let call = IOthers::increaseAllowanceCall::abi_decode(data).ok()?;
            Act::Lets { spender: call.spender, amount: call.amount }
        }
        IOthers::permitCall::SELECTOR => {
            let call = IOthers::permitCall::abi_decode(data).ok()?;
            Act::Lets { spender: call.spender, amount: call.value }
        }
        // Lets go what was asked for before, which the bytes do not show.
        IdentityControl::approveCall::SELECTOR => Act::Hides("the approval of an execution"),
        IOthers::multicallCall::SELECTOR => Act::Hides("multicall"),
        IdentityControl::executeCall::SELECTOR => {
            let call = IdentityControl::executeCall::abi_decode(data).ok()?;
            Act::Executes { target: call.to, value_wei: call.value, data: call.data }
        }
        System::setCall::SELECTOR => Act::Trusts(vec![System::setCall::abi_decode(data).ok()?.account]),
        System::setManyCall::SELECTOR => Act::Trusts(System::setManyCall::abi_decode(data).ok()?.accounts),
        TokenCompliance::addModuleCall::SELECTOR => {
            Act::Trusts(vec![TokenCompliance::addModuleCall::abi_decode(data).ok()?.module])
        }
        AssetTokenGovernance::setComplianceCall::SELECTOR => {
            Act::Trusts(vec![AssetTokenGovernance::setComplianceCall::abi_decode(data).ok()?.compliance_])
        }
        AssetTokenGovernance::setIdentityRegistryCall::SELECTOR => {
            Act::Trusts(vec![AssetTokenGovernance::setIdentityRegistryCall::abi_decode(data).ok()?.registry])
        }
        AssetTokenGovernance::scheduleUpgradeCall::SELECTOR => {
            Act::Trusts(vec![AssetTokenGovernance::scheduleUpgradeCall::abi_decode(data).ok()?.implementation])
        }
        AssetToken::upgradeToAndCallCall::SELECTOR => {
            Act::Trusts(vec![AssetToken::upgradeToAndCallCall::abi_decode(data).ok()?.implementation])
        }
        other => return super::operations::hides(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: Address = Address::repeat_byte(1);
    const OTHER: Address = Address::repeat_byte(2);

    #[test]
    fn what_moves_names_both_sides() {
        let amount = U256::from(5);
        let from_sender = Act::Moves(vec![Moved { from: Some(SENDER), to: OTHER, amount }]);
        assert_eq!(act_of(SENDER, &AssetToken::transferCall { to: OTHER, amount }.abi_encode()), from_sender);
        let batch = AssetToken::batchTransferCall { toList: vec![OTHER], amounts: vec![amount] };
        assert_eq!(act_of(SENDER, &batch.abi_encode()), from_sender);
        let made = Act::Moves(vec![Moved { from: None, to: OTHER, amount }]);
        assert_eq!(act_of(SENDER, &AssetToken::mintCall { to: OTHER, amount }.abi_encode()), made);
    }

    #[test]
    fn an_approval_of_a_settlement_promises_what_its_sender_gives_on_this_chain() {
        let asset = Address::repeat_byte(3);
        let leg = |from, to, chain_id| Settlement::Leg { asset, from, to, amount: U256::from(5), chainId: chain_id };
        let terms = Settlement::Terms {
            salt: alloy::primitives::B256::ZERO,
            name: String::new(),
            cutoff: alloy::primitives::aliases::U40::from(9),
            autoExecute: true,
            hashKind: 0,
            hashlock: alloy::primitives::B256::ZERO,
            legs: vec![leg(SENDER, OTHER, 0), leg(OTHER, SENDER, 0), leg(SENDER, OTHER, 7)],
        };
        let moved = Moved { from: Some(SENDER), to: OTHER, amount: U256::from(5) };
        let call = Settlement::approveCall { terms }.abi_encode();
        assert_eq!(act_of(SENDER, &call), Act::Promises(vec![Promised { asset, moved }]));
        assert_eq!(act_of(Address::repeat_byte(9), &call), Act::Promises(vec![]), "who gives nothing");
    }

    #[test]
    fn what_lets_others_move_names_them() {
        let value = U256::from(5);
        assert_eq!(
            act_of(SENDER, &AssetToken::approveCall { spender: OTHER, value }.abi_encode()),
            Act::Lets { spender: OTHER, amount: value }
        );
        let trust = System::setCall { name: dalp_contracts::roles::names::ADDON_FACTORY, account: OTHER };
        assert_eq!(act_of(SENDER, &trust.abi_encode()), Act::Trusts(vec![OTHER]));
        let wrapped = IOthers::multicallCall { data: vec![] }.abi_encode();
        assert_eq!(act_of(SENDER, &wrapped), Act::Hides("multicall"));
        let let_go = IdentityControl::approveCall { executionId: U256::from(1), approved: true }.abi_encode();
        assert!(matches!(act_of(SENDER, &let_go), Act::Hides(_)));
    }

    #[test]
    fn bytes_that_are_no_arguments_are_no_movement() {
        let mut cut = AssetToken::transferCall { to: OTHER, amount: U256::from(5) }.abi_encode();
        cut.truncate(40);
        assert_eq!(act_of(SENDER, &cut), Act::Other);
        assert_eq!(act_of(SENDER, &[]), Act::Pays);
        assert_eq!(act_of(SENDER, &[1, 2, 3]), Act::Pays, "no function has fewer than four bytes");
    }
}
