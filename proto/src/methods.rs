//! The method options of every RPC as a typed table, read once from the descriptor set.

use std::collections::BTreeMap;

use prost_reflect::{DescriptorPool, DynamicMessage, Value};

use crate::generated::dalp::options::v1 as options;

pub use options::{Exposure, IdempotencyClass, RateClass};

/// What the contracts say about one RPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Path on the wire, for instance `/dalp.asset.v1.AssetService/Transfer`.
    pub path: String,
    /// Full service name, for instance `dalp.asset.v1.AssetService`.
    pub service: String,
    /// Permission a caller needs, `<area>:<verb>`; empty when the contract forgot it (the shape tests refuse that).
    pub permission: String,
    /// What a repeat means.
    pub idempotency: IdempotencyClass,
    /// Which token bucket the call draws on.
    pub rate: RateClass,
    /// Whether the gateway routes it.
    pub exposure: Exposure,
    /// Whether a request may have several messages.
    pub client_streaming: bool,
    /// Whether it sets up the tenant's system: the option says what follows from that.
    pub setup: bool,
}

/// All RPCs of `dalp.*` by path.
#[derive(Debug, Clone)]
pub struct Methods {
    by_path: BTreeMap<String, Method>,
}

// === impl Methods ===

impl Methods {
    /// Reads the table from the embedded descriptor set.
    ///
    /// # Panics
    /// Never in a build that passed its tests: the set is compiled into the binary.
    #[must_use]
    pub fn load() -> Self {
        let pool = crate::descriptors();
        let by_path = pool
            .services()
            .filter(|service| service.full_name().starts_with("dalp."))
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| {
                let service = method.parent_service().full_name().to_owned();
                let path = format!("/{service}/{}", method.name());
                let set = method.options();
                let described = Method {
                    permission: text(&pool, &set, "permission"),
                    idempotency: IdempotencyClass::try_from(number(&pool, &set, "idempotency")).unwrap_or_default(),
                    rate: RateClass::try_from(number(&pool, &set, "rate")).unwrap_or_default(),
                    exposure: Exposure::try_from(number(&pool, &set, "exposure")).unwrap_or_default(),
                    client_streaming: method.is_client_streaming(),
                    setup: matches!(value(&pool, &set, "setup"), Some(Value::Bool(true))),
                    path: path.clone(),
                    service,
                };
                (path, described)
            })
            .collect();
        Self { by_path }
    }

    /// The RPC of a request path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Method> {
        self.by_path.get(path)
    }

    /// All RPCs, by path.
    pub fn iter(&self) -> impl Iterator<Item = &Method> {
        self.by_path.values()
    }
}

fn value(pool: &DescriptorPool, set: &DynamicMessage, name: &str) -> Option<Value> {
    let extension = pool.get_extension_by_name(&format!("dalp.options.v1.{name}"))?;
    set.has_extension(&extension).then(|| set.get_extension(&extension).into_owned())
}

fn text(pool: &DescriptorPool, set: &DynamicMessage, name: &str) -> String {
    match value(pool, set, name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

fn number(pool: &DescriptorPool, set: &DynamicMessage, name: &str) -> i32 {
    match value(pool, set, name) {
        Some(Value::EnumNumber(number)) => number,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_says_permission_repeat_and_rate() {
        let methods = Methods::load();
        assert!(methods.iter().count() > 40, "the descriptor set holds the contracts");
        for method in methods.iter() {
            assert!(method.permission.contains(':'), "{} has no permission", method.path);
            assert_ne!(method.idempotency, IdempotencyClass::Unspecified, "{} has no idempotency class", method.path);
            assert_ne!(method.rate, RateClass::Unspecified, "{} has no rate class", method.path);
        }
    }

    #[test]
    fn every_stream_draws_on_the_bucket_of_streams_and_takes_a_place_among_them() {
        let methods = Methods::load();
        let pool = DescriptorPool::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
        let all: Vec<_> = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
        let streams = all.iter().filter(|method| method.is_server_streaming() || method.is_client_streaming());
        let mut seen = 0;
        for stream in streams {
            let path = format!("/{}/{}", stream.parent_service().full_name(), stream.name());
            assert_eq!(methods.get(&path).unwrap().rate, RateClass::Stream, "{path}");
            seen += 1;
        }
        assert!(seen > 5, "the streams are read");
        assert_eq!(methods.get("/dalp.feeds.v1.FeedService/WatchFeeds").unwrap().rate, RateClass::Stream);
    }

    #[test]
    fn set_up_calls_are_read() {
        let methods = Methods::load();
        assert!(methods.get("/dalp.system.v1.SystemService/Bootstrap").unwrap().setup);
        assert!(!methods.get("/dalp.asset.v1.AssetService/Transfer").unwrap().setup);
    }

    #[test]
    fn signing_is_not_routed() {
        let methods = Methods::load();
        let exposed: Vec<_> = methods
            .iter()
            .filter(|method| method.service == "dalp.signer.v1.SignerService" && method.exposure != Exposure::Mesh)
            .collect();
        assert!(exposed.is_empty(), "{exposed:?}");
    }
}
