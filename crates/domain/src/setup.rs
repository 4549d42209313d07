//! Calls that set up a tenant's system, and what they say while an approval is pending.

use crate::write::Admitted;
use dalp_engine::custody::{KeyProvider, OperationHold};
use dalp_proto::Methods;
use dalp_service::{
    Reason, Refusal,
    caller::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED},
};
use std::{collections::BTreeSet, sync::LazyLock};

/// Full names of the RPCs that the contracts mark so.
static CALLS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let methods = Methods::load();
    methods.iter().filter(|method| method.setup).map(|method| method.path.trim_start_matches('/').to_owned()).collect()
});

/// Whether an RPC sets up the tenant's system, by its full name.
#[must_use]
pub fn is_setup(method: &str) -> bool {
    CALLS.contains(method)
}

/// What a set-up call is answered with instead of its operation. That is accepted, and goes on once the approval is there.
pub(crate) fn approval_pending(admitted: &Admitted, waits: &OperationHold) -> Refusal {
    let provider = waits.hold.provider.map_or("unknown", KeyProvider::as_str);
    let message = match waits.waiting == waits.hold.transaction_id {
        true => format!("accepted, and waits for an approval at {provider}: repeat it with the same idempotency key"),
        false => format!(
            "accepted, and waits behind a nonce that an approval at {provider} holds: repeat it with the same idempotency key"
        ),
    };
    Refusal::new(Reason::CustodyApprovalPending, message)
        .meta("operation_id", admitted.operation.operation_id)
        .meta("transaction_id", waits.waiting)
        .meta("held_transaction_id", waits.hold.transaction_id)
        .meta("held_since", waits.hold.since_rfc3339())
        .meta("provider", provider)
        .header(IDEMPOTENCY_KEY, &admitted.key)
        .header(IDEMPOTENCY_REPLAYED, admitted.replayed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_up_calls_are_known_by_the_names_that_services_use() {
        assert!(is_setup("dalp.system.v1.SystemService/Bootstrap"));
        assert!(!is_setup("/dalp.system.v1.SystemService/Bootstrap"));
        assert!(!is_setup("dalp.system.v1.SystemService/GrantRole"));
    }
}
