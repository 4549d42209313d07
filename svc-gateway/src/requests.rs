//! What the gateway's own services read of every request, and how they refuse.

use dalp_engine::{LaneId, StoreError, TenantId};
use dalp_service::{Caller, Reason, Refusal, errors::RefusalResult, fields};
use tonic::Request;

const DEFAULT_PAGE: u32 = 50;
const MAX_PAGE: u32 = 500;
const MAX_REASON_CHARACTERS: usize = 500;

pub(crate) fn tenant<T>(request: &Request<T>) -> RefusalResult<TenantId> {
    Ok(caller(request)?.0)
}

/// Tenant and caller. Written by our own edge a moment ago, in this process.
pub(crate) fn caller<T>(request: &Request<T>) -> RefusalResult<(TenantId, Caller)> {
    let caller = Caller::from_metadata(request.metadata())?;
    Ok((TenantId::new(caller.tenant.as_str()), caller))
}

/// Why an operator acts: an audit without it explains nothing.
pub(crate) fn reason(text: &str) -> RefusalResult<String> {
    fields::bounded_string("reason", text, 1, MAX_REASON_CHARACTERS).map_err(invalid)
}

pub(crate) fn lane(chain_id: u64, sender: &str) -> RefusalResult<LaneId> {
    let chain_id = fields::in_range("chain_id", chain_id, 1, i64::MAX as u64).map_err(invalid)?;
    Ok(LaneId { chain_id, sender: fields::address("sender", sender).map_err(invalid)? })
}

pub(crate) fn page_size(asked: u32) -> RefusalResult<u32> {
    match asked {
        0 => Ok(DEFAULT_PAGE),
        size => fields::in_range("page_size", size, 1, MAX_PAGE).map_err(invalid),
    }
}

pub(crate) fn foreign_page_token() -> Refusal {
    Refusal::new(Reason::PageTokenInvalid, "the page token does not belong to this list")
}

pub(crate) fn invalid(violation: fields::Violation) -> Refusal {
    Refusal::new(Reason::InvalidField, violation.to_string()).field(violation.path, violation.description)
}

pub(crate) fn store_refusal(error: StoreError) -> Refusal {
    match error.is_retryable() {
        true => Refusal::new(Reason::DatabaseUnavailable, "the database cannot be reached").source(error),
        false => Refusal::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_must_be_given() {
        assert_eq!(reason("").unwrap_err().violations()[0].0, "reason");
        assert_eq!(reason("  ").unwrap_err().violations()[0].0, "reason");
        assert!(reason(&"x".repeat(501)).is_err());
        assert_eq!(reason("planned maintenance").unwrap(), "planned maintenance");
    }

    #[test]
    fn a_lane_is_a_chain_and_a_sender() {
        let sender = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        assert_eq!(lane(1, sender).unwrap().sender.to_checksum(None), sender);
        assert_eq!(lane(0, sender).unwrap_err().violations()[0].0, "chain_id");
        assert_eq!(lane(u64::MAX, sender).unwrap_err().violations()[0].0, "chain_id");
        assert_eq!(lane(1, "0x5a").unwrap_err().violations()[0].0, "sender");
    }
}
