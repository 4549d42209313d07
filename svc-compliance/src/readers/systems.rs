//! Who may do what in a tenant's system.

use super::ChainReader;
use crate::{domain::system::SystemRole, store::systems::SystemAddresses};
use alloy::primitives::{Address, U256};
use dalp_contracts::bindings::System;
use dalp_service::{Reason, Refusal};

/// How a missing system role is obtained; stands in the metadata of every refusal for one.
pub const GRANTED_BY: &str = "SystemService.GrantRole, from the system's administrator or a platform_admin";

/// What an account may do in a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its roles.
    pub roles: Vec<SystemRole>,
    /// Whether it is the administrator.
    pub administrator: bool,
}

/// The roles of an account now.
pub async fn standing(chain: &ChainReader, system: &SystemAddresses, account: Address) -> Result<Standing, Refusal> {
    let block = chain.latest().await?.id();
    let (mask, admin): (U256, Address) = futures::try_join!(
        chain.read_at(system.system, System::rolesOfCall { account }, block),
        chain.read_at(system.system, System::adminCall {}, block),
    )?;
    let roles = SystemRole::ALL.into_iter().filter(|role| !(mask & role.mask()).is_zero()).collect();
    Ok(Standing { roles, administrator: admin == account })
}

/// Refuses a sender without a system role, and says how it is granted.
pub async fn require_role(
    chain: &ChainReader,
    system: &SystemAddresses,
    sender: Address,
    role: SystemRole,
) -> Result<(), Refusal> {
    match chain.read(system.system, System::hasCall { account: sender, roleMask: role.mask() }).await? {
        true => Ok(()),
        false => Err(missing(sender, role)),
    }
}

/// Refuses a sender who may not change who holds a role: the platform admin role is the administrator's alone.
pub async fn require_administration(
    chain: &ChainReader,
    system: &SystemAddresses,
    sender: Address,
    role: SystemRole,
) -> Result<(), Refusal> {
    let standing = standing(chain, system, sender).await?;
    let platform_admin = standing.roles.contains(&SystemRole::PlatformAdmin) && role != SystemRole::PlatformAdmin;
    match standing.administrator || platform_admin {
        true => Ok(()),
        false if role == SystemRole::PlatformAdmin => {
            Err(Refusal::new(Reason::RoleMissing, "only the system's administrator changes who is platform_admin")
                .meta("role", "administrator")
                .meta("account", sender.to_checksum(None)))
        }
        false => Err(missing(sender, SystemRole::PlatformAdmin)),
    }
}

/// The refusal of an account without a system role, with how it is granted.
pub(super) fn missing(account: Address, role: SystemRole) -> Refusal {
    Refusal::new(Reason::RoleMissing, format!("the sender lacks the system role {}", role.name()))
        .meta("role", role.name())
        .meta("account", account.to_checksum(None))
        .meta("granted_by", GRANTED_BY)
}
