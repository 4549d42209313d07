//! Reads, merges and checks a configuration, and reports all its problems at once.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Environment;

/// A section that can say what is wrong with itself.
pub trait Validate {
    /// Pushes every problem, with a message that says what to do about it.
    fn validate(&self, problems: &mut Problems);
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key, for example `server.listen`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Collects problems under the section being checked.
#[derive(Debug, Default)]
pub struct Problems {
    prefix: Vec<String>,
    found: Vec<Problem>,
}

/// Everything that is wrong with a configuration. Its `Display` lists one problem a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblems {
    /// At least one problem.
    pub problems: Vec<Problem>,
}

/// Loads a configuration: the TOML file if given, then `PREFIX__SECTION__KEY` variables over it, then [`Validate`].
///
/// An override takes the type the file has at that key; without one it is read as a TOML value (number, boolean, array,
/// quoted string) and else as plain text.
pub fn load<T: DeserializeOwned + Validate>(
    path: Option<&Path>,
    environment: &dyn Environment,
    prefix: &str,
) -> Result<T, ConfigProblems> {
    let mut problems = Problems::default();
    let mut table = match path.map(read).transpose() {
        Ok(table) => table.unwrap_or_default(),
        Err(problem) => return Err(ConfigProblems { problems: vec![problem] }),
    };
    let origins = apply_overrides(&mut table, environment, prefix, &mut problems);
    let (config, guessed) = deserialize_reporting_all::<T>(table, &origins, &mut problems);
    if let Some(config) = &config {
        let mut own = Problems::default();
        config.validate(&mut own);
        // A key that was missing or mistyped holds a stand-in by now; what validation says about it is noise.
        problems.found.extend(own.found.into_iter().filter(|problem| {
            !guessed.iter().any(|key| problem.key == *key || problem.key.starts_with(&format!("{key}.")))
        }));
    }
    match config {
        Some(config) if problems.found.is_empty() => Ok(config),
        _ => Err(ConfigProblems { problems: problems.found }),
    }
}

fn read(path: &Path) -> Result<Table, Problem> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Problem { key: String::new(), message: format!("cannot read {}: {error}", path.display()) })?;
    text.parse::<Table>().map_err(|error| Problem {
        key: String::new(),
        // Only the parser's sentence and the line: the quoted source could hold a secret someone pasted.
        message: match error.span() {
            Some(span) => {
                let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
                format!("{} is not TOML: {} (line {line})", path.display(), error.message())
            }
            None => format!("{} is not TOML: {}", path.display(), error.message()),
        },
    })
}

/// Puts the overrides into the table; returns which variable set which key, for messages.
fn apply_overrides(
    table: &mut Table,
    environment: &dyn Environment,
    prefix: &str,
    problems: &mut Problems,
) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    let lead = format!("{prefix}__");
    for (name, text) in environment.with_prefix(&lead) {
        let keys: Vec<String> = name[lead.len()..].split("__").map(str::to_ascii_lowercase).collect();
        let dotted = keys.join(".");
        if keys.iter().any(String::is_empty) {
            problems.push(&dotted, format!("the variable {name} names no key: write {prefix}__SECTION__KEY"));
            continue;
        }
        if insert(table, &keys, &text) {
            origins.insert(dotted, name);
        } else {
            problems.push(&dotted, format!("the variable {name} goes into a key that is not a section"));
        }
    }
    origins
}

fn insert(table: &mut Table, keys: &[String], text: &str) -> bool {
    let (Some(first), rest) = (keys.first(), &keys[1..]) else { return false };
    if rest.is_empty() {
        let value = override_value(table.get(first), text);
        table.insert(first.clone(), value);
        return true;
    }
    match table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => insert(inner, rest, text),
        _ => false,
    }
}

fn override_value(present: Option<&Value>, text: &str) -> Value {
    let plain = || Value::String(text.to_owned());
    if matches!(present, Some(Value::String(_))) {
        return plain();
    }
    format!("value = {text}").parse::<Table>().ok().and_then(|mut parsed| parsed.remove("value")).unwrap_or_else(plain)
}

/// Deserializes, and when a key fails puts a stand-in there and goes on, so that one run lists every problem.
///
/// Returns the value (possibly holding stand-ins) and the keys which hold one.
fn deserialize_reporting_all<T: DeserializeOwned>(
    mut table: Table,
    origins: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> (Option<T>, Vec<String>) {
    let mut guessed = Vec::new();
    // Each round reports a different problem; the bound only guards against a type that never settles.
    for _ in 0..200 {
        let (key, message) = match attempt::<T>(&table) {
            Ok(config) => return (Some(config), guessed),
            Err(failure) => failure,
        };
        let origin = origins
            .iter()
            .find(|(dotted, _)| **dotted == key || dotted.starts_with(&format!("{key}.")))
            .map(|(_, name)| format!(" (set by {name})"))
            .unwrap_or_default();
        if message.starts_with("unknown field") {
            problems.push(&key, format!("unknown key{origin}: {}", after_comma(&message)));
            if remove(&mut table, &key) {
                continue;
            }
            return (None, guessed);
        }
        let (key, message) = locate(key, message);
        problems.push(&key, format!("{message}{origin}"));
        if !stand_in::<T>(&mut table, &key) {
            return (None, guessed);
        }
        guessed.push(key);
    }
    (None, guessed)
}

fn attempt<T: DeserializeOwned>(table: &Table) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(Value::Table(table.clone())).map_err(|error| {
        let path = error.path().to_string();
        let key = if path == "." { String::new() } else { path };
        let inner = error.into_inner();
        (key, inner.message().trim_end().to_owned())
    })
}

/// Tries values until the failure is no longer about `key`.
fn stand_in<T: DeserializeOwned>(table: &mut Table, key: &str) -> bool {
    let text = |text: &str| Value::String(text.to_owned());
    let candidates = [
        text("stand-in"),
        Value::Integer(1),
        Value::Boolean(false),
        Value::Array(Vec::new()),
        Value::Table(Table::new()),
        text("127.0.0.1:0"),
        text("env:STAND_IN"),
        text("spiffe://stand.in/stand-in"),
        text("0x0000000000000000000000000000000000000001"),
        text("http://127.0.0.1:1"),
        Value::Float(1.0),
    ];
    let before = table.clone();
    for candidate in candidates {
        if !put(table, key, candidate) {
            break;
        }
        match attempt::<T>(table) {
            Ok(_) => return true,
            Err((at, message)) => {
                let (failing, _) = locate(at, message);
                let still_here = failing == key || failing.is_empty() || key.starts_with(&format!("{failing}."));
                if !still_here {
                    return true;
                }
            }
        }
    }
    *table = before;
    false
}

/// A missing field is reported at its parent: names the field itself.
fn locate(at: String, message: String) -> (String, String) {
    match message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
        Some((field, _)) => (join(&at, field), "is missing: give it a value".to_owned()),
        None => (at, message),
    }
}

fn parent<'t>(table: &'t mut Table, key: &str) -> Option<(&'t mut Table, String)> {
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop()?;
    let mut current = table;
    for part in parts {
        current = match current.get_mut(part)? {
            Value::Table(inner) => inner,
            _ => return None,
        };
    }
    Some((current, last.to_owned()))
}

fn put(table: &mut Table, key: &str, value: Value) -> bool {
    parent(table, key).map(|(table, last)| table.insert(last, value)).is_some()
}

fn remove(table: &mut Table, key: &str) -> bool {
    parent(table, key).is_some_and(|(table, last)| table.remove(&last).is_some())
}

fn join(prefix: &str, field: &str) -> String {
    if prefix.is_empty() { field.to_owned() } else { format!("{prefix}.{field}") }
}

fn after_comma(message: &str) -> &str {
    message.split_once(", ").map_or("remove it", |(_, rest)| rest)
}

// === impl Problems ===

impl Problems {
    /// Notes a problem with `key`, relative to the current section; `message` says what to do.
    pub fn push(&mut self, key: impl AsRef<str>, message: impl Into<String>) {
        let mut full = self.prefix.join(".");
        if !key.as_ref().is_empty() {
            full = join(&full, key.as_ref());
        }
        self.found.push(Problem { key: full, message: message.into() });
    }

    /// Runs `check` with every key it pushes standing under `section`.
    pub fn section(&mut self, section: &str, check: impl FnOnce(&mut Self)) {
        self.prefix.push(section.to_owned());
        check(self);
        self.prefix.pop();
    }

    /// The problems found so far.
    #[must_use]
    pub fn found(&self) -> &[Problem] {
        &self.found
    }
}

// === impl ConfigProblems ===

impl fmt::Display for ConfigProblems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(formatter, "the configuration has {count} problem{}", if count == 1 { "" } else { "s" })?;
        for problem in &self.problems {
            match problem.key.as_str() {
                "" => write!(formatter, "\n  {}", problem.message)?,
                key => write!(formatter, "\n  {key}: {}", problem.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigProblems {}
