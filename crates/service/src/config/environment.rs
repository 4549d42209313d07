//! The seam between configuration and the process environment.

use std::collections::BTreeMap;

/// Where environment variables come from: the process, or a map in tests.
pub trait Environment: Send + Sync {
    /// The value of one variable; `None` when unset or not UTF-8.
    fn var(&self, name: &str) -> Option<String>;

    /// Every variable whose name begins with `prefix`, sorted by name.
    fn with_prefix(&self, prefix: &str) -> Vec<(String, String)>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

/// A fixed environment, for tests.
#[derive(Clone, Debug, Default)]
pub struct MapEnvironment {
    variables: BTreeMap<String, String>,
}

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        let mut found: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(prefix))
            .collect();
        found.sort();
        found
    }
}

impl MapEnvironment {
    /// An environment with exactly these variables.
    pub fn new<K: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { variables: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

impl Environment for MapEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        self.variables
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}
