//! Migrations that programs of the version before cannot live with say so in their names.

use std::path::Path;

/// Of before there was a release that could be upgraded from.
const BEFORE_THE_FIRST_RELEASE: &[&str] = &[
    "crates/engine/migrations/0002_transitions.sql",
    "crates/engine/migrations/0030_audit.sql",
    "svc-compliance/migrations/0002_tenant_keys.sql",
    "svc-compliance/migrations/0012_rule_logs.sql",
    "svc-feeds/migrations/0002_kept.sql",
    "svc-gateway/migrations/0002_revocation.sql",
    "svc-gateway/migrations/0052_sealing.sql",
    "svc-settlement/migrations/0004_attention_pages.sql",
    "svc-signer/migrations/0003_outcomes_stand.sql",
    "svc-signer/migrations/0041_key_tiers.sql",
];

/// What takes something away that older programs read or write, or asks for something that they do not give.
const TAKES_AWAY: &[&str] = &[
    "drop table",
    "drop schema",
    "drop type",
    "drop function",
    "drop view",
    "drop materialized view",
    "drop column",
    "drop default",
    "rename ",
    "set not null",
    "set data type",
    " type ",
    "truncate",
    "revoke",
];

/// The end of a name that says it.
const BREAKS: &str = "_breaks_older_programs.sql";

/// What is wrong with a migration at `path` (from the root), in words.
pub fn violations(path: &Path, text: &str) -> Vec<String> {
    let shown = path.display().to_string();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    let number = name.split_once('_').map_or("", |(number, _)| number);
    if number.len() != 4 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        found.push(format!("{shown}: a name begins with four digits and an underscore"));
    }
    if name.ends_with(BREAKS) || BEFORE_THE_FIRST_RELEASE.contains(&shown.as_str()) {
        return found;
    }
    for statement in statements(text) {
        let alters = ["alter ", "drop ", "truncate", "revoke"].iter().any(|begin| statement.starts_with(begin));
        let taken = TAKES_AWAY.iter().copied().find(|what| alters && statement.contains(what));
        if let Some(what) = taken.or_else(|| asked(&statement)) {
            found.push(format!(
                "{shown}: `{}` breaks programs of the version before; leave it, or name the migration …{BREAKS}",
                what.trim()
            ));
        }
    }
    found
}

/// A column that must be given and has no default: what older programs insert lacks it.
fn asked(statement: &str) -> Option<&'static str> {
    let added = statement.strip_prefix("alter table").map(|rest| rest.split(" add column ").skip(1));
    let columns = added.into_iter().flatten().flat_map(|column| column.split(", "));
    // What a check says is none of it.
    let mut columns =
        columns.filter_map(|column| column.split("check").next()).filter(|column| !column.starts_with("add "));
    let lacks = columns.any(|column| {
        column.contains("not null") && !["default", "generated"].iter().any(|given| column.contains(given))
    });
    lacks.then_some("add column … not null without default")
}

/// Statements in lower case with single spaces, without comments. What stands within `$$` is code of a function, which is replaced as a whole, unless it is
/// carried out there and then (`DO`).
fn statements(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default());
    let plain = lines.collect::<Vec<_>>().join(" ").to_lowercase();
    let mut told = String::new();
    for (index, part) in plain.split("$$").enumerate() {
        match (index % 2 == 0, told.trim_end().ends_with("do")) {
            (true, _) => told.push_str(part),
            (false, true) => told.push_str(&part.replace("begin", ";")),
            (false, false) => {}
        }
    }
    let plain = |one: &str| one.split_whitespace().collect::<Vec<_>>().join(" ");
    told.split(';').map(plain).filter(|one| !one.is_empty()).collect()
}
