//! Commands to try against a running stack, for `buf curl`, grpcurl and our own command line, from one table.

use std::fmt::Write as _;

use heck::ToKebabCase as _;

use crate::stack::{self, Stack};

/// Method, request as JSON, what it shows.
const TABLE: [(&str, &str, &str); 5] = [
    ("dalp.signer.v1.KeyService/ListKeys", "{}", "list the keys"),
    ("dalp.system.v1.SystemService/GetSystem", "{}", "addresses of the on-chain system, once bootstrapped"),
    ("dalp.asset.v1.AssetService/ListAssets", "{}", "list the assets"),
    ("dalp.operation.v1.OperationService/ListOperations", r#"{"pageSize":5}"#, "the newest operations"),
    ("dalp.operator.v1.OperatorService/ListLanes", "{}", "the lanes: one per sender"),
];

/// One line to paste.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it shows.
    pub shows: String,
    /// The command.
    pub command: String,
}

/// The lines for `buf curl`; they need nothing beside the npm packages of this repository: the schema comes by reflection.
#[must_use]
pub fn buf_curl(stack: &Stack) -> Vec<Line> {
    lines(stack, |method, body| {
        format!(
            "contracts/tools/buf curl --protocol grpc --cacert {} --servername localhost -H 'authorization: Bearer {}' --reflect-header '*' -d '{body}' https://{}/{method}",
            stack.folder().join("pki/ca.pem").display(),
            stack.settings().api_key,
            stack.settings().address("svc-gateway"),
        )
    })
}

/// The same lines for grpcurl.
#[must_use]
pub fn grpcurl(stack: &Stack) -> Vec<Line> {
    lines(stack, |method, body| {
        format!(
            "grpcurl -cacert {} -authority localhost -H 'authorization: Bearer {}' -d '{body}' {} {method}",
            stack.folder().join("pki/ca.pem").display(),
            stack.settings().api_key,
            stack.settings().address("svc-gateway"),
        )
    })
}

/// The same lines for `dalp`, which needs no request bodies for what is said by an option.
///
/// # Errors
/// When the program was not built.
pub fn dalp(stack: &Stack) -> anyhow::Result<Vec<Line>> {
    let program = stack::binary("dalp")?;
    Ok(lines(stack, |method, body| {
        let (service, rpc) = method.rsplit_once('/').unwrap_or(("", method));
        let area = service.rsplit('.').next().unwrap_or(service).trim_end_matches("Service").to_kebab_case();
        format!(
            "DALP_API_KEY={} {} --gateway {} --ca {} --server-name localhost {area} {} --data '{body}'",
            stack.settings().api_key,
            program.display(),
            stack.settings().address("svc-gateway"),
            stack.folder().join("pki/ca.pem").display(),
            rpc.to_kebab_case(),
        )
    }))
}

/// A key is made where the stack's keys are; where that is the signer itself, in the HSM that stands beside it.
fn lines(stack: &Stack, command: impl Fn(&str, &str) -> String) -> Vec<Line> {
    let provider = match stack.settings().provider.as_str() {
        "local" => "pkcs11",
        other => other,
    };
    let body = format!(r#"{{"wallet":"treasury","provider":"{provider}"}}"#);
    let create = Line {
        shows: format!("create a key, provider {provider}"),
        command: command("dalp.signer.v1.KeyService/CreateKey", &body),
    };
    let others =
        TABLE.iter().map(|(method, body, shows)| Line { shows: (*shows).to_owned(), command: command(method, body) });
    std::iter::once(create).chain(others).collect()
}

/// What the runbooks take for granted, for this stack.
fn of_runbooks(stack: &Stack) -> String {
    let settings = stack.settings();
    format!(
        "call() {{ contracts/tools/buf curl --protocol grpc --cacert {} --servername localhost -H 'authorization: Bearer {}' --reflect-header '*' -d \"$2\" \"https://{}/dalp.$1\"; }}\n\
         ENGINE_URL=$(cat {}) SIGNER_URL=$(cat {})",
        stack.folder().join("pki/ca.pem").display(),
        settings.api_key,
        settings.address("svc-gateway"),
        settings.secret("database-url").display(),
        settings.secret("signer-database-url").display(),
    )
}

/// How a wallet comes by gas on the development chain.
fn gas(chain_url: &str) -> String {
    format!(
        r#"curl -s {chain_url} -H 'content-type: application/json' -d '{{"jsonrpc":"2.0","id":1,"method":"anvil_setBalance","params":["ADDRESS","0x8ac7230489e80000"]}}'"#
    )
}

/// What `up` prints.
#[must_use]
pub fn text(stack: &Stack) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "the stack is running; logs and configuration: {}", stack.folder().display());
    let _ = writeln!(text, "chain: {}", stack.chain_url());
    if let Some(second) = stack.second_chain_url() {
        let _ = writeln!(text, "second chain, id {}: {second}", stack::SECOND_CHAIN_ID);
    }
    // A stack that was built without the command line still says the rest.
    let own = dalp(stack).unwrap_or_default();
    for (tool, lines) in [("dalp", own), ("buf curl", buf_curl(stack)), ("grpcurl", grpcurl(stack))] {
        let _ = writeln!(text, "\nwith {tool}:");
        for line in lines {
            let _ = writeln!(text, "# {}\n{}", line.shows, line.command);
        }
    }
    let _ =
        writeln!(text, "\n# gas for a wallet, by its address: ten of the chain's currency\n{}", gas(stack.chain_url()));
    let _ = writeln!(text, "# what docs/runbooks take for granted\n{}", of_runbooks(stack));
    let bootstrap = r#"call system.v1.SystemService/Bootstrap '{"admin":"ADDRESS"}'"#;
    let _ = writeln!(
        text,
        "# the tenant's system, which everything else needs; the wallet becomes its administrator\n{bootstrap}"
    );
    text
}
