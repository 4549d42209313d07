//! Commands on a tenant's system.

use alloy::primitives::Address;
use serde::{Deserialize, Serialize};

/// Deploy the tenant's system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Deploys and becomes the administrator.
    pub admin: Address,
}
