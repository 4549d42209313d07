//! Alerts and their runbooks, and whether the calls that pages tell people to make exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use prost_types::FileDescriptorSet;

/// The alerts of all rule files, with the page that each names.
pub fn alerts(rules: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(rules).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for rule in text.split("- alert: ").skip(1) {
            let name = rule.lines().next().unwrap_or_default().trim().to_owned();
            let page = rule.lines().find_map(|line| line.trim().strip_prefix("runbook: ")).unwrap_or_default();
            found.push((name, page.to_owned()));
        }
    }
    found
}

/// Names of the pages in a folder.
pub fn pages(folder: &Path) -> BTreeSet<String> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|end| end == "md"));
    pages.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// Whether a page is named like an alert.
pub fn is_of_an_alert(page: &str) -> bool {
    page != "README" && page.starts_with(|char: char| char.is_ascii_uppercase())
}

/// Links of a page to files of the repository that are not there.
pub fn broken_links(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    let missing = files.filter(|target| {
        let path = target.split('#').next().unwrap_or_default();
        !page.parent().unwrap().join(path).exists()
    });
    missing.map(|target| format!("{}: {target}", page.display())).collect()
}

/// `call area.v1.Service/Method '{json}'` of a text.
pub fn calls(text: &str) -> Vec<(String, serde_json::Value)> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("call "));
    lines
        .filter_map(|line| line.split_once(" '"))
        .map(|(method, rest)| {
            let json = rest.rsplit_once('\'').map_or(rest, |(json, _)| json);
            let value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{method}: {json}: {error}"));
            (format!("/dalp.{method}"), value)
        })
        .collect()
}

/// JSON names of the fields of each method's request, by path.
pub fn requests(set: &FileDescriptorSet) -> BTreeMap<String, BTreeSet<String>> {
    let mut messages = BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            let fields = message.field.iter().map(|field| field.json_name().to_owned()).collect::<BTreeSet<_>>();
            messages.insert(format!(".{}.{}", file.package(), message.name()), fields);
        }
    }
    let mut requests = BTreeMap::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                requests.insert(path, messages.get(method.input_type()).cloned().unwrap_or_default());
            }
        }
    }
    requests
}
