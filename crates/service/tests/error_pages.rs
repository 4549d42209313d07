//! Every reason has a page and every page a reason, and the index lists them all.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeSet, path::Path};

use dalp_service::Reason;

#[test]
fn reasons_and_pages_are_the_same_set() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    let pages: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().unwrap().strip_suffix(".md").map(str::to_owned))
        .filter(|page| page != "README")
        .collect();
    let reasons: BTreeSet<String> = Reason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect();
    let without_page: Vec<_> = reasons.difference(&pages).collect();
    let without_reason: Vec<_> = pages.difference(&reasons).collect();
    assert!(without_page.is_empty(), "reasons without a page in docs/errors: {without_page:?}");
    assert!(without_reason.is_empty(), "pages in docs/errors without a reason: {without_reason:?}");

    let index = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for reason in Reason::ALL {
        let page = std::fs::read_to_string(folder.join(format!("{reason}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {reason}\n")), "{reason}.md has another title");
        for heading in ["## What happened", "## When", "## What to do"] {
            assert!(page.contains(heading), "{reason}.md lacks {heading}");
        }
        assert!(page.contains(reason.next().as_str()), "{reason}.md names another next step than the catalogue");
        assert!(index.contains(&format!("({reason}.md)")), "the index lacks {reason}");
    }
}
