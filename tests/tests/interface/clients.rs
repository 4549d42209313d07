//! Programs of others, run against the gateway.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dalp_tests::curl::{Gateway, succeeded};
use serde_json::{Value, json};

const OPERATIONS: &str = "dalp.operation.v1.OperationService";
/// How long the fuzzer may go on.
const FUZZED_FOR_S: &str = "75";

fn buf(gateway: &Gateway, arguments: &[&str], method: &str, message: &Value) -> Output {
    let mut buf = Command::new(root().join("contracts/tools/buf"));
    // Nowhere near the contracts: what it knows it knows from the gateway.
    buf.current_dir(&gateway.folder).args(["curl", "--cacert"]).arg(&gateway.authority);
    buf.args(["--header", &gateway.authorization(), "--data", &message.to_string()]).args(arguments);
    buf.arg(format!("{}/{method}", gateway.url)).output().expect("buf runs (make setup)")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

fn python(program: &str) -> PathBuf {
    let path = root().join(".tools/api-py/bin").join(program);
    assert!(path.exists(), "the clients of the interface are not installed: make tools");
    path
}

pub(crate) fn buf_by_reflection(gateway: &Gateway, operation: &str) {
    // What there is to call is told to those who may call: reflection takes the credential of the call.
    let by_reflection = ["--protocol", "grpc", "--reflect-header", "*"];
    let method = format!("{OPERATIONS}/GetOperation");
    let said = succeeded(buf(gateway, &by_reflection, &method, &json!({"operationId": operation})));
    let answer: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(answer["operation"]["operationId"], operation);
    assert_eq!(answer["operation"]["state"], "OPERATION_STATE_COMPLETED");
    let refused = buf(gateway, &by_reflection, &method, &json!({"operationId": "no-uuid"}));
    // It ends with the gRPC code, shifted by three bits.
    assert_eq!(refused.status.code(), Some(3 << 3), "{refused:?}");
}

pub(crate) fn buf_by_grpc_web(gateway: &Gateway, operation: &str) {
    let contracts = root().join("proto");
    let web = ["--protocol", "grpcweb", "--reflect=false", "--schema", contracts.to_str().expect("a path")];
    let asked = json!({"operationId": operation});
    let said = succeeded(buf(gateway, &web, &format!("{OPERATIONS}/GetOperation"), &asked));
    let answer: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(answer["operation"]["operationId"], operation);
    let streamed = succeeded(buf(gateway, &web, &format!("{OPERATIONS}/WatchOperation"), &asked));
    assert!(streamed.contains("OPERATION_STATE_COMPLETED"), "{streamed}");
}

pub(crate) fn python_by_reflection(gateway: &Gateway, operation: &str) {
    let mut program = Command::new(python("python"));
    program.arg(root().join("tests/api-clients/reflect.py")).arg(gateway.url.trim_start_matches("https://"));
    program.arg(&gateway.authority).arg(operation).env("DALP_API_KEY", &gateway.api_key);
    let said = succeeded(program.output().expect("Python runs"));
    let answer: Value = serde_json::from_str(&said).expect("JSON");
    let services = answer["services"].as_array().expect("services");
    for service in [OPERATIONS, "dalp.asset.v1.AssetService", "grpc.health.v1.Health"] {
        assert!(services.iter().any(|one| one == service), "{service}: {services:?}");
    }
    assert_eq!(answer["operation"]["operationId"], operation);
    assert_eq!(answer["last_state"], "OPERATION_STATE_COMPLETED");
    assert_eq!(answer["refused"], "INVALID_ARGUMENT");
}

/// The document as it is served, and every call of it but those that never end and those that take a stream, which the fuzzer cannot
/// write. No answer is a 5xx, and each is as it was described. A connection may end, as HTTP/1.1 ends it after a head that is none.
pub(crate) fn fuzzed(gateway: &Gateway) {
    let mut fuzzer = Command::new(python("schemathesis"));
    fuzzer.current_dir(&gateway.folder).env("HYPOTHESIS_STORAGE_DIRECTORY", gateway.folder.join("hypothesis"));
    fuzzer.args(["run", &format!("{}/openapi.json", gateway.url), "--tls-verify"]).arg(&gateway.authority);
    fuzzer.args([
        "--header",
        &gateway.authorization(),
        "--seed",
        "20261122",
        "--max-examples",
        "8",
        "--max-time",
        FUZZED_FOR_S,
    ]);
    fuzzer.args([
        "--phases",
        "coverage,fuzzing",
        "--no-color",
        "--workers",
        "2",
        "--request-timeout",
        "60",
        "--continue-on-failure",
    ]);
    fuzzer.args([
        "--checks",
        "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance",
    ]);
    // A key that it has learned of and asks to disable is disabled: then nothing sends any more, and nothing is wrong.
    let left_out = r"(:watch|:validateRecipients|/v1/airdrops|/v1/keys/\{address\}:disable)$";
    fuzzer.args(["--exclude-path-regex", left_out, "--request-retries", "2"]);
    let _report = succeeded(fuzzer.output().expect("schemathesis runs"));
}
