//! What a service does when something it needs is wrong or away: it waits, says so in its health, and recovers by itself.

use std::path::PathBuf;
use std::process::Command;

use dalp_devstack::client::{health, keyed, reason};
use dalp_devstack::stack::{Stack, binary};
use dalp_proto::signer::CreateKeyRequest;
use dalp_proto::signer::key_service_client::KeyServiceClient;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{stored, until};

fn configuration(stack: &Stack, service: &str) -> PathBuf {
    stack.folder().join(format!("{service}.toml"))
}

fn edit(stack: &Stack, service: &str, from: &str, to: &str) {
    let path = configuration(stack, service);
    let text = std::fs::read_to_string(&path).expect("a configuration");
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(&path, text.replace(from, to)).expect("it can be written");
}

/// What a service says of one dependency, or of all together.
async fn says(stack: &mut Stack, service: &str, dependency: &str) -> Option<bool> {
    let peer = stack.pki().files("svc-gateway");
    let channel = stack.channel_to(service, Some(&peer)).ok()?;
    health(channel, dependency).await.ok()
}

async fn until_says(stack: &mut Stack, service: &str, dependency: &str, wanted: bool) {
    let what = format!("{service} says {wanted} of {dependency:?}");
    until(&what, async || says(stack, service, dependency).await, |said| *said == Some(wanted)).await;
}

/// A label of blanks would match an uninitialised token: it is refused before anything starts.
pub(crate) fn blank_token_label(stack: &Stack) {
    let signer = binary("svc-signer").expect("a program");
    let text = std::fs::read_to_string(configuration(stack, "svc-signer")).expect("a configuration");
    let blank = stack.folder().join("blank.toml");
    std::fs::write(&blank, text.replace("token_label = \"dalp-dev\"", "token_label = \"  \"")).expect("written");
    let output = Command::new(&signer).arg("--config").arg(&blank).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("pkcs11.token_label: is blank"), "{said}");
    let output = Command::new(&signer)
        .args(["init-token", "--label", " ", "--module"])
        .arg(&stack.settings().pkcs11_module)
        .arg("--so-pin-file")
        .arg(stack.settings().secret("so-pin"))
        .arg("--pin-file")
        .arg(stack.settings().secret("pin"))
        .env("SOFTHSM2_CONF", stack.settings().softhsm_configuration())
        .output()
        .expect("it runs");
    assert!(!output.status.success(), "a blank label is not initialised");
}

/// One try, then blocked; and blocked it stays over restarts, until the PIN changes.
pub(crate) async fn wrong_pin(stack: &mut Stack) {
    let client = stack.client().expect("a client");
    let before = stored(&client).await;
    let pin = stack.settings().secret("pin");
    let log = stack.folder().join("svc-signer.log");
    let tries = || {
        let log = std::fs::read_to_string(&log).expect("a log");
        log.lines().filter(|line| line.contains("partition not opened") && line.contains("C_Login returned")).count()
    };
    std::fs::write(&pin, "00000000").expect("a secret can be written");
    stack.service("svc-signer").expect("the signer").restart().expect("it starts");
    until_says(stack, "svc-signer", "database", true).await;
    let create = async || {
        let request =
            CreateKeyRequest { wallet: "blocked".to_owned(), provider: "pkcs11".to_owned(), owner: String::new() };
        let answer = KeyServiceClient::new(client.gateway()).create_key(keyed(request, "blocked")).await;
        reason(&answer.expect_err("the partition is blocked"))
    };
    until("the partition is blocked", create, |reason| reason == "PARTITION_PIN_REFUSED").await;
    until_says(stack, "svc-signer", "pkcs11", false).await;
    assert_eq!(says(stack, "svc-signer", "").await, Some(false), "the signer as a whole is not healthy");
    assert_eq!(says(stack, "svc-signer", "local").await, Some(true), "the other provider is");
    assert_eq!(tries(), 1, "one try");
    stack.service("svc-signer").expect("the signer").restart().expect("it starts");
    until("blocked also after a restart", create, |reason| reason == "PARTITION_PIN_REFUSED").await;
    assert_eq!(tries(), 1, "and no other after a restart");
    assert_eq!(stored(&client).await, before, "a refused request stored something");
    let right = stack.settings().pin.clone();
    std::fs::write(&pin, right).expect("a secret can be written");
    until_says(stack, "svc-signer", "pkcs11", true).await;
    until_says(stack, "svc-signer", "", true).await;
}

pub(crate) async fn database_down_at_start(stack: &mut Stack) {
    let url = stack.settings().database_url.clone();
    let folder = PathBuf::from(url.split_once("host=").expect("a socket's folder").1);
    let (socket, away) = (folder.join(".s.PGSQL.5432"), folder.join("away"));
    std::fs::rename(&socket, &away).expect("nobody finds the database any more");
    for service in ["svc-signer", "svc-compliance", "svc-gateway"] {
        // It starts, listens, and waits.
        stack.service(service).expect("a service").restart().expect("it starts without its database");
        until_says(stack, service, "database", false).await;
        assert_eq!(says(stack, service, "").await, Some(false), "{service}");
    }
    let client = stack.client().expect("a client");
    let request = dalp_proto::operation::ListOperationsRequest::default();
    let refused = dalp_proto::operation::operation_service_client::OperationServiceClient::new(client.gateway())
        .list_operations(request)
        .await;
    assert_eq!(reason(&refused.expect_err("there is no database")), "DATABASE_UNAVAILABLE");
    std::fs::rename(&away, &socket).expect("it is back");
    for service in ["svc-signer", "svc-compliance", "svc-gateway"] {
        until_says(stack, service, "database", true).await;
    }
    stack.wait_until_serving().await.expect("everything recovers");
}

pub(crate) async fn chain_down_at_start(stack: &mut Stack) {
    let direct = stack.chain_url().to_owned();
    let node = direct.trim_start_matches("http://").trim_end_matches('/').to_owned();
    // An address that nobody listens at, until we do.
    let reserved = TcpSocket::new_v4().expect("a socket");
    reserved.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = reserved.local_addr().expect("an address");
    edit(stack, "svc-compliance", &format!("url = \"{direct}\""), &format!("url = \"http://{address}\""));
    stack.service("svc-compliance").expect("a service").restart().expect("it starts without its chain");
    until_says(stack, "svc-compliance", "chain", false).await;
    until_says(stack, "svc-compliance", "database", true).await;
    assert_eq!(says(stack, "svc-compliance", "").await, Some(false));
    let listener = reserved.listen(128).expect("the port is ours");
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let node = node.clone();
            tokio::spawn(async move {
                if let Ok(mut far) = TcpStream::connect(&node).await {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await; // either end may go
                }
            });
        }
    });
    until_says(stack, "svc-compliance", "chain", true).await;
    stack.wait_until_serving().await.expect("everything recovers");
}
