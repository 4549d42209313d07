//! Programs that hold none of our code: `curl`, and `dalp` as an operator runs it.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::World;

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Posts as Bob, who would like to wait. Status, head in lower case, body.
pub(crate) fn post(world: &World, path: &str, body: &Value) -> (u16, String, Value) {
    let address = world.stack.settings().address("svc-gateway");
    let port = address.rsplit(':').next().expect("a port");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "20", "--dump-header", "-", "--cacert"]);
    curl.arg(world.stack.folder().join("pki/ca.pem")).args(["--resolve", &format!("localhost:{port}:127.0.0.1")]);
    curl.args(["--header", &format!("authorization: Bearer {}", world.bob_key), "--header", "prefer: wait=60"]);
    curl.args(["--header", "content-type: application/json", "--data", &body.to_string()]);
    let said = succeeded(curl.arg(format!("https://localhost:{port}{path}")).output().expect("curl runs"));
    let (head, body) = said.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), serde_json::from_str(body).expect("JSON"))
}

/// What `dalp` prints for Bob.
pub(crate) fn dalp(world: &World, arguments: &[&str]) -> String {
    let program = dalp_devstack::stack::binary("dalp").expect("dalp is built");
    let mut command = Command::new(program);
    command.env_clear().env("DALP_API_KEY", &world.bob_key).env("DALP_SERVER_NAME", "localhost");
    command.env("DALP_GATEWAY", world.stack.settings().address("svc-gateway"));
    command.env("DALP_CA", world.stack.folder().join("pki/ca.pem"));
    succeeded(command.args(arguments).output().expect("it runs"))
}
