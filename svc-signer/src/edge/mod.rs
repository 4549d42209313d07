//! Where protobuf ends: messages become orders, records become messages.

pub mod convert;
pub mod key;
pub mod signer;

use dalp_service::{PeerIdentity, Reason, Refusal};

/// The SPIFFE id of the peer that made a request.
pub(crate) fn peer_of<T>(request: &tonic::Request<T>) -> Result<String, Refusal> {
    request
        .extensions()
        .get::<PeerIdentity>()
        .map(|peer| peer.spiffe.to_string())
        .ok_or_else(|| Refusal::new(Reason::UnauthenticatedMissing, "the peer showed no certificate"))
}
