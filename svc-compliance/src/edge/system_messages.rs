//! Messages of the system service to commands, and roles back.

use crate::domain::{
    Violations,
    system::{Bootstrap, ChangeSystemRole, SystemRole},
};
use dalp_proto::system as proto;

impl TryFrom<&proto::BootstrapRequest> for Bootstrap {
    type Error = Violations;

    fn try_from(request: &proto::BootstrapRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let admin = violations.address("admin", &request.admin);
        violations.into_result(Self { admin, chain_id: request.chain_id })
    }
}

impl TryFrom<&proto::GrantRoleRequest> for ChangeSystemRole {
    type Error = Violations;

    fn try_from(request: &proto::GrantRoleRequest) -> Result<Self, Violations> {
        change_role(&request.sender, &request.account, request.role)
    }
}

impl TryFrom<&proto::RevokeRoleRequest> for ChangeSystemRole {
    type Error = Violations;

    fn try_from(request: &proto::RevokeRoleRequest) -> Result<Self, Violations> {
        change_role(&request.sender, &request.account, request.role)
    }
}

/// A role as the wire names it.
pub(super) fn role_of(role: SystemRole) -> proto::SystemRole {
    match role {
        SystemRole::PlatformAdmin => proto::SystemRole::PlatformAdmin,
        SystemRole::IdentityManager => proto::SystemRole::IdentityManager,
        SystemRole::TokenManager => proto::SystemRole::TokenManager,
        SystemRole::ComplianceManager => proto::SystemRole::ComplianceManager,
        SystemRole::ClaimPolicyManager => proto::SystemRole::ClaimPolicyManager,
        SystemRole::FeedsManager => proto::SystemRole::FeedsManager,
    }
}

fn change_role(sender: &str, account: &str, role: i32) -> Result<ChangeSystemRole, Violations> {
    let mut violations = Violations::new();
    let named = SystemRole::ALL.into_iter().find(|known| i32::from(role_of(*known)) == role);
    let command = ChangeSystemRole {
        sender: violations.address("sender", sender),
        account: violations.address("account", account),
        role: named.unwrap_or_else(|| {
            let names = "PLATFORM_ADMIN, IDENTITY_MANAGER, TOKEN_MANAGER, COMPLIANCE_MANAGER, CLAIM_POLICY_MANAGER, FEEDS_MANAGER";
            violations.push("role", format!("unknown value {role}: one of SYSTEM_ROLE_{names}"));
            SystemRole::FeedsManager
        }),
    };
    violations.into_result(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALLET: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";

    #[test]
    fn the_admin_is_an_address() {
        let violations =
            Bootstrap::try_from(&proto::BootstrapRequest { admin: "0x12".into(), chain_id: 0 }).unwrap_err();
        assert_eq!(violations.0[0].field, "admin");
    }

    #[test]
    fn roles_are_known() {
        for role in SystemRole::ALL {
            let request =
                proto::GrantRoleRequest { sender: WALLET.into(), account: WALLET.into(), role: role_of(role).into() };
            assert_eq!(ChangeSystemRole::try_from(&request).map(|command| command.role), Ok(role));
            assert_eq!(SystemRole::of_mask(role.mask()), Some(role));
        }
        for role in [0, 7, -1] {
            let request = proto::RevokeRoleRequest { sender: WALLET.into(), account: String::new(), role };
            let fields: Vec<_> = ChangeSystemRole::try_from(&request).unwrap_err().0;
            assert_eq!(fields.iter().map(|one| one.field.as_str()).collect::<Vec<_>>(), ["account", "role"]);
        }
    }
}
