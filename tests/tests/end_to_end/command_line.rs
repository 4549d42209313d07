//! `dalp` against the gateway: what it prints, what it follows, and how it says that something went wrong.

use std::process::{Command, Output};

use dalp_devstack::stack::Stack;
use dalp_tests::load::Load;
use serde_json::Value;

use crate::support::Keys;

struct Shell<'s> {
    stack: &'s Stack,
    key: &'s str,
}

// === impl Shell ===

impl Shell<'_> {
    fn run(&self, arguments: &[&str]) -> Output {
        let program = dalp_devstack::stack::binary("dalp").expect("dalp is built");
        let mut command = Command::new(program);
        command.env_clear().env("DALP_API_KEY", self.key).env("DALP_SERVER_NAME", "localhost");
        command.env("DALP_GATEWAY", self.stack.settings().address("svc-gateway"));
        command.env("DALP_CA", self.stack.folder().join("pki/ca.pem"));
        command.args(arguments).output().expect("it runs")
    }

    /// The answer of a call that goes well.
    fn answer(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What is told of a call that does not.
    fn failure(&self, arguments: &[&str], exit_code: i32) -> String {
        let output = self.run(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit_code), "{arguments:?}: {told}");
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
        assert!(!told.contains(self.key), "the key stays secret");
        told
    }
}

pub(crate) async fn speaks(stack: &Stack, load: &Load, keys: &Keys) {
    let key = stack.settings().api_key.clone();
    let (token, to) = (load.token.to_checksum(None), load.receiver.text.clone());
    let from = load.holders[0].text.clone();
    let transfer = ["asset", "transfer", "--asset", &token, "--sender", &from, "--to", &to, "--amount", "1"];
    tokio::task::block_in_place(|| {
        let shell = Shell { stack, key: &key };
        // A write that is followed to its end, and repeated by the key that it told.
        let output = shell.run(&[&transfer[..], &["--wait", "--json"]].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        let done: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
        assert_eq!(done["operation"]["state"], "OPERATION_STATE_COMPLETED", "{done}");
        let id = done["operation"]["operation_id"].as_str().expect("an id").to_owned();
        let again =
            told.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).expect("the key is told").to_owned();
        let output = shell.run(&[&transfer[..], &["--idempotency-key", &again]].concat());
        assert!(text(&output.stderr).contains("answered before"), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(&id), "the same operation");
        // Tables for people; a stream ends with the operation.
        let listed = shell.answer(&["operation", "list-operations", "--page-size", "3"]);
        assert!(listed.contains("OPERATION_ID") && listed.contains(&id) && listed.contains("COMPLETED"), "{listed}");
        let watched = shell.answer(&["operation", "watch-operation", "--operation-id", &id]);
        assert!(watched.contains("asset.transfer"), "{watched}");
        // What goes wrong, by its exit code and in words that help.
        let told = shell.failure(&["operation", "get-operation", "--operation-id", "no-uuid"], 3);
        assert!(
            told.contains("INVALID_FIELD") && told.contains("operation_id") && told.contains("docs/errors/"),
            "{told}"
        );
        let unknown = "00000000-0000-7000-8000-000000000000";
        assert!(shell.failure(&["operation", "get-operation", "--operation-id", unknown], 5).starts_with("NOT_FOUND"));
        shell.failure(&["operation", "get-operation", "--nope"], 2);
        shell.failure(&["operation", "list-operations", "--wait"], 2);
        let reused = shell.failure(&[&transfer[..8], &["--amount", "2", "--idempotency-key", &again]].concat(), 3);
        assert!(reused.starts_with("IDEMPOTENCY_KEY_REUSED"), "{reused}");
        let poor = Shell { stack, key: &keys.poor };
        assert!(poor.failure(&transfer, 4).starts_with("PERMISSION_DENIED"));
        assert!(
            shell
                .failure(&["--gateway", "127.0.0.1:1", "operation", "list-operations"], 6)
                .contains("cannot be reached")
        );
        // A transfer that the rules refuse is waited for, and told.
        let stranger = alloy::primitives::Address::repeat_byte(0xaa).to_checksum(None);
        let refused = [&transfer[..6], &["--to", &stranger, "--amount", "1", "--wait"]].concat();
        let output = shell.run(&refused);
        assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("ended FAILED"), "{}", text(&output.stderr));
    });
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
