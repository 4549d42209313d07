//! Which peer may call which method.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    errors::{Reason, Refusal},
    peer::PeerIdentity,
};

const HEALTH: &str = "/grpc.health.v1.Health/";
const REFLECTION: [&str; 2] = ["/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/"];

/// Method path prefixes and the services that may call them. The longest prefix that fits decides; without one the call is
/// denied. Health and reflection are open to every authenticated peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPolicy {
    rules: BTreeMap<String, Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// These services of our trust domain.
    Services(BTreeSet<String>),
    /// Also without a certificate: the service behind decides by itself.
    Anyone,
}

impl PeerPolicy {
    /// Nobody may call anything (but health and reflection).
    #[must_use]
    pub fn deny_all() -> Self {
        Self::default()
    }

    /// Everyone may call everything, with or without a certificate: the gateway, which authenticates by itself.
    #[must_use]
    pub fn public() -> Self {
        Self::deny_all().allow_anyone("/")
    }

    /// Lets services of our trust domain call the methods under `prefix`, for example `/dalp.signer.v1.Signer/`.
    #[must_use]
    pub fn allow<N: Into<String>>(mut self, prefix: impl Into<String>, services: impl IntoIterator<Item = N>) -> Self {
        let services = services.into_iter().map(Into::into);
        match self.rules.entry(prefix.into()).or_insert_with(|| Rule::Services(BTreeSet::new())) {
            Rule::Services(allowed) => allowed.extend(services),
            Rule::Anyone => {}
        }
        self
    }

    /// Lets everyone call the methods under `prefix`, also without a certificate.
    #[must_use]
    pub fn allow_anyone(mut self, prefix: impl Into<String>) -> Self {
        self.rules.insert(prefix.into(), Rule::Anyone);
        self
    }

    /// Replaces rules by those of the configuration.
    pub(crate) fn overridden_by(mut self, configured: &BTreeMap<String, Vec<String>>) -> Self {
        for (prefix, services) in configured {
            self.rules.insert(prefix.clone(), Rule::Services(services.iter().cloned().collect()));
        }
        self
    }

    /// Decides about a call.
    pub fn check(&self, path: &str, peer: Option<&PeerIdentity>) -> Result<(), Refusal> {
        let rule = self
            .rules
            .iter()
            .filter(|(prefix, _)| path.starts_with(prefix.as_str()))
            .max_by_key(|(prefix, _)| prefix.len())
            .map(|(_, rule)| rule);
        let allowed = match (rule, peer) {
            (Some(Rule::Anyone), _) => true,
            (_, None) => false,
            (Some(Rule::Services(services)), Some(peer)) => services.iter().any(|name| peer.is_service(name)),
            (None, Some(_)) => path.starts_with(HEALTH) || REFLECTION.iter().any(|prefix| path.starts_with(prefix)),
        };
        if allowed {
            return Ok(());
        }
        let name = peer.map_or_else(|| "without a certificate".to_owned(), ToString::to_string);
        Err(Refusal::new(Reason::PeerNotAllowed, "this peer may not call this method")
            .meta("peer", name)
            .meta("method", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerIdentity {
        PeerIdentity::trusted(format!("spiffe://dalp.dev/{name}").parse().unwrap())
    }

    #[test]
    fn what_is_not_listed_is_denied() {
        let policy = PeerPolicy::deny_all().allow("/dalp.signer.v1.Signer/", ["svc-compliance", "svc-feeds"]);
        assert!(policy.check("/dalp.signer.v1.Signer/Sign", Some(&peer("svc-feeds"))).is_ok());
        for (path, who) in [
            ("/dalp.signer.v1.Signer/Sign", Some(peer("svc-gateway"))),
            ("/dalp.signer.v1.Signer/Sign", None),
            ("/dalp.signer.v1.Key/CreateKey", Some(peer("svc-feeds"))),
            ("/dalp.signer.v1.SignerX/Sign", Some(peer("svc-feeds"))),
        ] {
            assert_eq!(policy.check(path, who.as_ref()).unwrap_err().reason(), Reason::PeerNotAllowed, "{path}");
        }
    }

    #[test]
    fn the_longest_prefix_decides() {
        let policy = PeerPolicy::deny_all().allow("/a.B/", ["svc-one", "svc-two"]).allow("/a.B/Secret", ["svc-one"]);
        assert!(policy.check("/a.B/Open", Some(&peer("svc-two"))).is_ok());
        assert!(policy.check("/a.B/Secret", Some(&peer("svc-two"))).is_err());
        assert!(policy.check("/a.B/Secret", Some(&peer("svc-one"))).is_ok());
    }

    #[test]
    fn health_is_open_to_peers_only_unless_all_is_public() {
        let path = "/grpc.health.v1.Health/Check";
        assert!(PeerPolicy::deny_all().check(path, Some(&peer("svc-x"))).is_ok());
        assert!(PeerPolicy::deny_all().check(path, None).is_err());
        assert!(PeerPolicy::public().check(path, None).is_ok());
    }

    #[test]
    fn a_name_of_another_trust_domain_means_nothing() {
        let policy = PeerPolicy::deny_all().allow("/a.B/", ["svc-one"]);
        let mut stranger = peer("svc-one");
        assert!(policy.check("/a.B/C", Some(&stranger)).is_ok());
        stranger = PeerIdentity::for_test_foreign("spiffe://elsewhere.org/svc-one");
        assert!(policy.check("/a.B/C", Some(&stranger)).is_err());
    }

    #[test]
    fn configuration_replaces_a_rule() {
        let configured = BTreeMap::from([("/a.B/".to_owned(), vec!["svc-two".to_owned()])]);
        let policy = PeerPolicy::deny_all().allow("/a.B/", ["svc-one"]).overridden_by(&configured);
        assert!(policy.check("/a.B/C", Some(&peer("svc-one"))).is_err());
        assert!(policy.check("/a.B/C", Some(&peer("svc-two"))).is_ok());
    }
}
