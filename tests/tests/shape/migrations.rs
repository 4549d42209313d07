//! Migrations that programs of the version before cannot live with say so in their names.

use std::path::Path;

/// Of before there was a release that could be upgraded from.
const BEFORE_THE_FIRST_RELEASE: &[&str] = &[
    "crates/engine/migrations/0002_transitions.sql",
    "crates/engine/migrations/0030_audit.sql",
    "svc-compliance/migrations/0002_tenant_keys.sql",
    "svc-compliance/migrations/0012_rule_logs.sql",
    "svc-feeds/migrations/0002_kept.sql",
    "svc-settlement/migrations/0004_attention_pages.sql",
    "svc-signer/migrations/0041_key_tiers.sql",
];

/// What takes something away that older programs read or write, or asks for something that they do not give.
const TAKES_AWAY: &[&str] =
    &["drop table", "drop column", "drop view", "rename to", "rename column", " type ", "set not null", "drop default"];

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
        let alters = statement.starts_with("alter table") || statement.starts_with("drop");
        if let Some(what) = TAKES_AWAY.iter().find(|what| alters && statement.contains(**what)) {
            found.push(format!(
                "{shown}: `{}` breaks programs of the version before; leave it, or name the migration …{BREAKS}",
                what.trim()
            ));
        }
    }
    found
}

/// Statements in lower case with single spaces, without comments. What stands within `$$` is code of a function, which is replaced as a whole.
fn statements(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default());
    let plain = lines.collect::<Vec<_>>().join(" ").to_lowercase();
    let outside: String = plain.split("$$").step_by(2).collect::<Vec<_>>().join(" ");
    outside
        .split(';')
        .map(|one| one.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|one| !one.is_empty())
        .collect()
}
