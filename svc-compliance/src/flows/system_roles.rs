//! Roles of a tenant's system.

use super::{Moves, call, single_transaction};
use crate::domain::system::ChangeSystemRole;
use alloy::primitives::Address;
use dalp_contracts::bindings::System;
use serde::{Deserialize, Serialize};

/// A change of an account's system roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemRoleOrder {
    /// Where.
    pub chain_id: u64,
    /// The tenant's `System`.
    pub system: Address,
    /// What was asked for.
    pub command: ChangeSystemRole,
}

impl Moves for SystemRoleOrder {}

single_transaction! {
    /// `system.grant_role`.
    GrantSystemRoleFlow = "system.grant_role", SystemRoleOrder, "grant", |order| {
        let ChangeSystemRole { sender, account, role } = &order.command;
        call(order.chain_id, *sender, order.system, &System::grantCall { account: *account, roleMask: role.mask() })
    };
    /// `system.revoke_role`.
    RevokeSystemRoleFlow = "system.revoke_role", SystemRoleOrder, "revoke", |order| {
        let ChangeSystemRole { sender, account, role } = &order.command;
        call(order.chain_id, *sender, order.system, &System::revokeCall { account: *account, roleMask: role.mask() })
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::system::SystemRole, flows::replay::play};
    use alloy::sol_types::SolCall as _;
    use dalp_engine::flow::Verdict;

    #[test]
    fn the_system_is_told_the_bit_of_the_role() {
        let command = ChangeSystemRole {
            sender: Address::repeat_byte(1),
            account: Address::repeat_byte(2),
            role: SystemRole::TokenManager,
        };
        let order = SystemRoleOrder { chain_id: 1, system: Address::repeat_byte(3), command };
        let played = play::<GrantSystemRoleFlow>(&order, |_| Ok(vec![]));
        assert!(matches!(played.verdict, Verdict::Done(_)));
        let sent = System::grantCall::abi_decode(&played.calls[0].1.data).expect("grant");
        assert_eq!((played.calls[0].1.target, sent.account), (Some(order.system), order.command.account));
        assert_eq!(sent.roleMask, dalp_contracts::roles::system::TOKEN_MANAGER);
        let played = play::<RevokeSystemRoleFlow>(&order, |_| Ok(vec![]));
        assert!(System::revokeCall::abi_decode(&played.calls[0].1.data).is_ok());
    }
}
