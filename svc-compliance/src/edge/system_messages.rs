//! Messages of the system service to commands.

use crate::domain::{Violations, system::Bootstrap};
use dalp_proto::system as proto;

impl TryFrom<&proto::BootstrapRequest> for Bootstrap {
    type Error = Violations;

    fn try_from(request: &proto::BootstrapRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let admin = violations.address("admin", &request.admin);
        violations.into_result(Self { admin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_is_an_address() {
        let violations = Bootstrap::try_from(&proto::BootstrapRequest { admin: "0x12".into() }).unwrap_err();
        assert_eq!(violations.0[0].field, "admin");
    }
}
