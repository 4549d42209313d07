//! The tables of what each provider passes, in `docs/security/custodians.md`, and of what comes of bad input, in `docs/security/signer.md`: they say what the tests
//! that are named here show, and nothing else.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

use std::{collections::BTreeMap, path::Path};

/// What a provider does in a case.
enum Cell {
    /// Shown by this test (`file::name`), with a remark.
    Passes(&'static str, &'static str),
    /// The provider has no such case; why.
    Lacks(&'static str),
}

use Cell::{Lacks, Passes};

/// What no table may leave out.
const REQUIRED: [&str; 14] = [
    "approve",
    "deny",
    "expire",
    "block",
    "duplicate",
    "late approval",
    "hang",
    "wrong address",
    "high s",
    "orphan",
    "restart in the middle",
    "unknown status",
    "rate limit",
    "clock skew",
];

const PROVIDERS: [&str; 6] = ["local", "pkcs11, plain token", "pkcs11, Luna", "kms", "dfns", "fireblocks"];

/// A case as custodians have it, each by the same test.
const fn both(test: &'static str, dfns: &'static str, fireblocks: &'static str) -> [Cell; 2] {
    [Passes(test, dfns), Passes(test, fireblocks)]
}

#[allow(clippy::too_many_lines)] // a table
fn cases() -> Vec<(&'static str, [Cell; 6])> {
    let row = |case, local, token, luna, kms, [dfns, fireblocks]: [Cell; 2]| {
        (case, [local, token, luna, kms, dfns, fireblocks])
    };
    vec![
        row(
            "approve",
            Passes("conformance::local_conforms", "at once"),
            Passes("conformance::pkcs11_conforms", "at once"),
            Passes(
                "luna::a_partition_that_waits_for_people_is_a_hold_and_then_a_signature",
                "M of N people activate it",
            ),
            Passes("conformance::kms_conforms", "at once"),
            both("custody::approval_is_a_hold_and_then_a_signature", "", ""),
        ),
        row(
            "late approval",
            Lacks("asks nobody"),
            Lacks("asks nobody"),
            Passes(
                "luna::a_hold_ends_with_the_window_for_people",
                "until `quorum_retry_s`; then it is expired for ever",
            ),
            Lacks("asks nobody"),
            both("custody::a_late_approval_after_the_deadline_counts_if_it_was_not_given_up", "", ""),
        ),
        row(
            "deny",
            Lacks("asks nobody"),
            Lacks("asks nobody"),
            Lacks("people only fail to act: that expires"),
            Lacks("asks nobody"),
            both("custody::denial_is_final_and_gives_the_nonce_back", "told from expiry by the approval", ""),
        ),
        row(
            "expire",
            Lacks("decides at once"),
            Passes("regressions::a_refused_nonce_is_given_back", "our deadline"),
            Passes("luna::a_hold_ends_with_the_window_for_people", "`quorum_retry_s`, or our deadline"),
            Passes("kms::past_our_deadline_a_blocked_request_expires", "our deadline"),
            both(
                "custody::the_providers_expiry_is_an_error_beside_the_status",
                "the approval's time",
                "the workspace's window",
            ),
        ),
        row(
            "past our deadline",
            Lacks("decides at once"),
            Passes("regressions::a_refused_nonce_is_given_back", "expires"),
            Passes("luna::a_hold_ends_with_the_window_for_people", "expires"),
            Passes("kms::past_our_deadline_a_blocked_request_expires", "expires"),
            both(
                "custody::past_the_deadline_the_provider_is_asked_to_give_up",
                "stays held: a request there cannot be taken back",
                "cancelled there, then expires",
            ),
        ),
        row(
            "block",
            Lacks("has no policy of its own"),
            Passes("regressions::bad_pin_loop_locks_the_partition", "wrong PIN"),
            Passes("luna::a_locked_partition_is_named_and_nobody_logs_in", "locked partition, wrong PIN"),
            Passes("kms::a_disabled_key_blocks_until_it_is_enabled", "key disabled, waiting for its deletion, gone"),
            both(
                "custody::a_policy_block_stays_until_an_operator_retries",
                "as 403 or as a rejection without approval",
                "",
            ),
        ),
        row(
            "duplicate",
            Passes("conformance::local_conforms", ""),
            Passes("regressions::one_request_asked_for_many_times_at_once_has_one_signature", ""),
            Passes("conformance::luna_conforms", ""),
            Passes("kms::one_request_asked_for_many_times_at_once_has_one_signature", ""),
            both("custody::a_request_is_at_the_provider_once", "another body is a conflict there", "error 1438 there"),
        ),
        row(
            "hang",
            Lacks("in process"),
            Passes("regressions::pkcs11_call_hangs_for_minutes", "its process is replaced"),
            Passes(
                "luna::a_call_that_does_not_return_is_of_unknown_outcome_and_nothing_of_it_leaves",
                "its process is replaced; a login goes on without its callers",
            ),
            Passes("kms::a_service_that_hangs_or_is_away_is_no_hold", ""),
            both("custody::a_provider_that_hangs_is_no_hold", "", ""),
        ),
        row(
            "holds up no other provider",
            Lacks("never waits"),
            Passes("custody::a_hanging_dfns_holds_up_no_other_provider", "signs while others hang"),
            Passes("luna::a_hanging_partition_holds_up_no_other_provider", ""),
            Passes("kms::a_hanging_kms_holds_up_no_other_provider", ""),
            [
                Passes("custody::a_hanging_dfns_holds_up_no_other_provider", ""),
                Passes("custody::a_hanging_fireblocks_holds_up_no_other_provider", ""),
            ],
        ),
        row(
            "wrong address",
            Passes("src/core/signature.rs::another_key_and_nonsense_are_refused", ""),
            Passes("src/core/signature.rs::another_key_and_nonsense_are_refused", ""),
            Passes("luna::a_signature_that_is_not_the_keys_never_leaves", ""),
            Passes(
                "kms::a_signature_that_is_not_the_keys_never_leaves",
                "an address is told only once its key has signed",
            ),
            both("custody::a_signature_of_another_key_never_leaves", "", ""),
        ),
        row(
            "high s",
            Passes("conformance::local_conforms", "made low"),
            Passes("conformance::pkcs11_conforms", "half of them; made low"),
            Passes("luna::a_signature_that_is_not_the_keys_never_leaves", "made low"),
            Passes("kms::high_s_is_normalised", "made low"),
            both("custody::high_s_is_normalised", "made low", "made low"),
        ),
        row(
            "orphan",
            Lacks("nothing is outside"),
            Passes("regressions::an_hsm_key_is_found_again_after_a_crash", "a key, by its identifier"),
            Passes(
                "ceremony::a_crypto_user_signs_with_the_keys_of_a_ceremony_and_makes_none",
                "a key, by its identifier",
            ),
            Passes("kms::an_orphan_is_found_by_its_alias_and_one_without_is_never_used", "a key, by its alias"),
            both("custody::an_orphan_is_taken_back", "by external id", "by external id"),
        ),
        row(
            "restart in the middle",
            Passes("conformance::local_conforms", "what was signed is what is answered"),
            Passes("service::a_signer_killed_in_the_middle_answers_the_same_id_with_the_same_signature", ""),
            Passes("luna::a_process_that_dies_in_its_login_does_not_try_a_wrong_pin_again", "also of a login"),
            Passes("kms::a_restart_in_the_middle_changes_nothing", ""),
            both("custody::a_restart_in_the_middle_changes_nothing", "", ""),
        ),
        row(
            "unknown status",
            Lacks("has none"),
            Passes("src/providers/pkcs11/codes.rs::codes_mean_what_the_vendor_says", "an unlisted code"),
            Passes("luna::what_return_codes_mean_is_configuration", "an unlisted code, and one that is configured"),
            Passes("kms::an_unknown_refusal_is_tried_again", "an unlisted refusal"),
            both("custody::an_unknown_status_is_waited_for", "", ""),
        ),
        row(
            "rate limit",
            Lacks("has none"),
            Lacks("has none"),
            Lacks("has none"),
            Passes(
                "kms::a_used_up_rate_is_waited_for_with_growing_pauses",
                "`ThrottlingException`; one pause for all calls",
            ),
            both("custody::a_rate_limit_is_waited_for", "429", "429"),
        ),
        row(
            "clock skew",
            Lacks("no clock of another"),
            Lacks("no clock of another"),
            Lacks("no clock of another"),
            Passes("kms::a_wrong_clock_is_named", "`PROVIDER_CLOCK_SKEWED`"),
            [
                Lacks("its credentials carry no times"),
                Passes("custody::a_wrong_clock_is_named", "`PROVIDER_CLOCK_SKEWED`"),
            ],
        ),
        row(
            "refused credentials",
            Lacks("has none"),
            Passes("regressions::bad_pin_loop_locks_the_partition", "`PARTITION_PIN_REFUSED`; one try"),
            Passes(
                "luna::a_wrong_pin_is_tried_once_by_three_replicas_that_start_again_and_again",
                "`PARTITION_PIN_REFUSED`; one try by all replicas",
            ),
            Passes("kms::refused_access_and_credentials_are_named", "`PROVIDER_UNAUTHORIZED`"),
            both("custody::refused_credentials_are_named", "`PROVIDER_UNAUTHORIZED`", "`PROVIDER_UNAUTHORIZED`"),
        ),
        row(
            "device lost and back",
            Lacks("is the signer's database"),
            Passes("regressions::second_initialise_crashes", "its process is replaced"),
            Passes("luna::a_device_that_was_lost_is_used_again_when_it_is_back", "the library is initialised anew"),
            Passes("kms::a_service_that_hangs_or_is_away_is_no_hold", "asked again"),
            [
                Passes("custody::a_provider_that_hangs_is_no_hold", "asked again"),
                Passes("custody::a_provider_that_hangs_is_no_hold", "asked again"),
            ],
        ),
    ]
}

/// Something that goes in wrongly: the reasons that it is answered with, a remark, and the tests that show it.
type Bad = (&'static str, &'static [&'static str], &'static str, &'static [&'static str]);

const BAD_INPUT: [Bad; 16] = [
    (
        "wrong PIN",
        &["PARTITION_PIN_REFUSED"],
        "one try, until it is another PIN",
        &[
            "regressions::bad_pin_loop_locks_the_partition",
            "latch::bad_pin_loop_locks_the_partition_whatever_code_says_so",
        ],
    ),
    (
        "wrong PIN, in a process that crashes and is started again",
        &["PARTITION_PIN_REFUSED"],
        "one try",
        &[
            "service::a_crash_looping_signer_tries_a_wrong_pin_once",
            "luna::a_process_that_dies_in_its_login_does_not_try_a_wrong_pin_again",
        ],
    ),
    (
        "wrong PIN, in three replicas",
        &["PARTITION_PIN_REFUSED"],
        "one try",
        &[
            "luna::a_wrong_pin_is_tried_once_by_three_replicas_that_start_again_and_again",
            "security::each_wrong_pin_is_tried_once_whoever_has_it",
        ],
    ),
    (
        "partition that is locked, or one wrong PIN before it",
        &["PARTITION_LOCKED"],
        "no try",
        &["luna::a_locked_partition_is_named_and_nobody_logs_in"],
    ),
    (
        "label that no partition has",
        &["PARTITION_NOT_FOUND"],
        "no try",
        &["luna::a_label_that_no_partition_or_two_have_is_named_and_nobody_logs_in"],
    ),
    (
        "label that two partitions have",
        &["PARTITION_AMBIGUOUS"],
        "no try",
        &["luna::a_label_that_no_partition_or_two_have_is_named_and_nobody_logs_in"],
    ),
    (
        "service account's token that has ended",
        &["PROVIDER_UNAUTHORIZED"],
        "nothing is stored there",
        &["custody::refused_credentials_are_named"],
    ),
    (
        "wrong API key, or wrong credentials of a role",
        &["PROVIDER_UNAUTHORIZED"],
        "nothing is stored there",
        &["custody::refused_credentials_are_named", "kms::refused_access_and_credentials_are_named"],
    ),
    (
        "wrong clock",
        &["PROVIDER_CLOCK_SKEWED"],
        "goes on by itself when it is right",
        &["custody::a_wrong_clock_is_named", "kms::a_wrong_clock_is_named"],
    ),
    (
        "provider that cannot be reached",
        &["PROVIDER_UNAVAILABLE"],
        "no hold, asked again by itself, asked for once",
        &[
            "custody::a_custodian_that_cannot_be_reached_is_no_hold",
            "kms::a_service_that_hangs_or_is_away_is_no_hold",
            "luna::a_device_that_was_lost_is_used_again_when_it_is_back",
        ],
    ),
    (
        "signature by another key",
        &["PROVIDER_FAILED"],
        "never leaves",
        &[
            "custody::a_signature_of_another_key_never_leaves",
            "kms::a_signature_that_is_not_the_keys_never_leaves",
            "luna::a_signature_that_is_not_the_keys_never_leaves",
        ],
    ),
    (
        "signature that is not canonical",
        &["PROVIDER_FAILED"],
        "a high s is made low; one that is too short, or whose r is zero, never leaves",
        &[
            "custody::high_s_is_normalised",
            "kms::high_s_is_normalised",
            "luna::a_signature_that_is_not_the_keys_never_leaves",
            "src/core/signature.rs::another_key_and_nonsense_are_refused",
        ],
    ),
    ("31 bytes where 32 are due", &["INVALID_FIELD"], "nothing is signed", &["luna::what_is_31_bytes_long_is_refused"]),
    (
        "chain that the provider does not serve",
        &["CHAIN_NOT_SERVED"],
        "it is not asked",
        &["broadcast::a_chain_that_the_provider_does_not_serve_is_named"],
    ),
    (
        "secrets planted in all of these, in a signer that logs everything",
        &[],
        "in no log line, error, answer, metric, row or command line, in no writing",
        &[
            "leaks::no_planted_secret_leaves_a_running_signer",
            "custody::no_secret_is_seen_outside",
            "kms::no_secret_is_seen_outside",
            "security::secrets_are_not_printed",
        ],
    ),
    (
        "crash with secrets in memory",
        &[],
        "no core file, of the signer or of the partition's process",
        &[
            "leaks::neither_the_signer_nor_its_partition_process_leaves_a_core_dump",
            "src/memory.rs::this_process_is_not_dumped",
        ],
    ),
];

/// Where a test stands: in a file of `tests/`, or of `src/`.
fn file(place: &str) -> String {
    if place.ends_with(".rs") { place.to_owned() } else { format!("tests/{place}.rs") }
}

/// Whether a function of this name is run as a test: it is marked as one, or stands in a list of cases that a macro turns into tests.
fn is_run(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let marked = lines.windows(2).any(|pair| {
        let signature = format!("fn {name}()");
        (pair[0].starts_with("#[tokio::test") || pair[0] == "#[test]") && pair[1].contains(&signature)
    });
    marked || source.contains("cases! {") && lines.contains(&format!("{name},").as_str())
}

/// Files with tests, read once.
#[derive(Default)]
struct Sources(BTreeMap<String, String>);

impl Sources {
    /// Fails unless `test` (`place::name`) is run.
    fn must_run(&mut self, case: &str, test: &str) {
        let (place, name) = test.rsplit_once("::").unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source =
            self.0.entry(file(place)).or_insert_with_key(|file| std::fs::read_to_string(root.join(file)).unwrap());
        assert!(is_run(source, name), "{case}: {test} is no test");
        assert!(!source.contains("#[ignore"), "{case}: {place} has tests that are not run");
    }
}

/// Whether a test can show something of a provider: the simulated ones have files of their own.
fn is_of(provider: &str, test: &str) -> bool {
    match provider {
        "dfns" | "fireblocks" => {
            test == format!("conformance::{provider}_conforms")
                || test.starts_with("custody::")
                    && !test.contains(if provider == "dfns" { "fireblocks" } else { "dfns" })
        }
        "kms" => test.starts_with("kms::") || test.contains("kms_conforms"),
        "pkcs11, Luna" => {
            ["luna::", "ceremony::"].iter().any(|file| test.starts_with(file)) || test.contains("luna_conforms")
        }
        _ => true,
    }
}

/// Compares a table with what a page prints, or prints it there.
fn printed(page: &str, marks: (&str, &str), table: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(marks.0).unwrap();
    let (told, after) = rest.split_once(marks.1).unwrap();
    if std::env::var_os("DALP_WRITE_TABLES").is_some() {
        std::fs::write(page, format!("{before}{}{table}{}{after}", marks.0, marks.1)).unwrap();
    } else {
        assert_eq!(told, table, "DALP_WRITE_TABLES=1 writes it");
    }
}

#[test]
fn the_table_of_cases_says_what_tests_show() {
    let mut sources = Sources::default();
    let mut table = format!("| case | {} |\n|{}\n", PROVIDERS.join(" | "), "---|".repeat(PROVIDERS.len() + 1));
    let cases = cases();
    for required in REQUIRED {
        assert_eq!(cases.iter().filter(|(case, _)| *case == required).count(), 1, "{required}");
    }
    for (case, cells) in cases {
        let mut told = Vec::new();
        for (provider, cell) in PROVIDERS.iter().zip(cells) {
            told.push(match cell {
                Lacks(why) => format!("- {why}"),
                Passes(test, remark) => {
                    sources.must_run(case, test);
                    assert!(is_of(provider, test), "{case}: {test} shows nothing of {provider}");
                    if remark.is_empty() { "yes".to_owned() } else { format!("yes: {remark}") }
                }
            });
        }
        table += &format!("| {case} | {} |\n", told.join(" | "));
    }
    printed("docs/security/custodians.md", ("<!-- cases -->\n", "<!-- end of cases -->"), &table);
}

#[test]
fn the_table_of_bad_input_says_what_tests_show() {
    let mut sources = Sources::default();
    let mut table = "| goes in | comes out | and |\n|---|---|---|\n".to_owned();
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors");
    for (input, reasons, remark, tests) in BAD_INPUT {
        assert!(!tests.is_empty(), "{input}");
        tests.iter().for_each(|test| sources.must_run(input, test));
        let linked: Vec<_> = reasons
            .iter()
            .map(|reason| {
                assert!(pages.join(format!("{reason}.md")).is_file(), "{reason} has no page");
                format!("[{reason}](../errors/{reason}.md)")
            })
            .collect();
        let linked = if linked.is_empty() { "nothing".to_owned() } else { linked.join(", ") };
        table += &format!("| {input} | {linked} | {remark} |\n");
    }
    printed("docs/security/signer.md", ("<!-- bad input -->\n", "<!-- end of bad input -->"), &table);
}

#[test]
fn what_is_no_test_is_not_taken_for_one() {
    let source = "#[tokio::test]\nasync fn one() {}\nasync fn two() {}\ncases! {\n    three,\n}\nasync fn three(kind: Kind) {}\n";
    assert!(is_run(source, "one") && is_run(source, "three"));
    assert!(!is_run(source, "two") && !is_run(source, "four"));
    assert!(
        is_of("kms", "kms::one") && !is_of("kms", "custody::one") && !is_of("dfns", "custody::a_hanging_fireblocks")
    );
}
