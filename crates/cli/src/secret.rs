//! What must not be an argument, which everybody on the machine sees: it comes from the terminal, a file or a variable.

use crate::failure::Failure;
use clap::ArgMatches;
use console::Term;
use prost_reflect::{FieldDescriptor, Value};
use secrecy::{ExposeSecret as _, SecretString};
use std::path::PathBuf;
use tonic::metadata::{Ascii, MetadataValue};

/// The metadata of a wallet verification.
pub(crate) const VERIFICATION: &str = "x-wallet-verification";
const VARIABLE: &str = "DALP_WALLET_VERIFICATION";

/// Whether the contracts say that a field is not for others' eyes.
pub(crate) fn is_secret(field: &FieldDescriptor) -> bool {
    let options = field.options();
    matches!(options.get_field_by_name("debug_redact").as_deref(), Some(Value::Bool(true)))
}

/// Asks at the terminal; what is typed is not shown.
pub(crate) fn ask(what: &str) -> Result<SecretString, Failure> {
    let terminal = Term::stderr();
    if !terminal.is_term() {
        return Err(Failure::Usage(format!("{what} is asked for at a terminal, and there is none")));
    }
    let told = |error: std::io::Error| Failure::Usage(format!("{what}: {error}"));
    terminal.write_str(&format!("{what}: ")).map_err(told)?;
    let line = terminal.read_secure_line().map_err(told)?;
    Ok(SecretString::from(line.trim().to_owned()))
}

/// What the call shows to verify the wallet: of the file, typed for `--verify`, or of the variable.
pub(crate) fn verification(given: &ArgMatches) -> Result<Option<MetadataValue<Ascii>>, Failure> {
    let shown = match (given.get_one::<PathBuf>("verification-file"), given.get_one::<String>("verify")) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
            Some(SecretString::from(text.trim().to_owned()))
        }
        (None, Some(factor)) => {
            let code = ask(match factor.as_str() {
                "pin" => "PIN",
                "totp" => "One-time password",
                _ => "Recovery code",
            })?;
            Some(SecretString::from(format!("{factor} {}", code.expose_secret())))
        }
        (None, None) => std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()).map(SecretString::from),
    };
    let Some(shown) = shown else { return Ok(None) };
    let value = shown.expose_secret().parse::<MetadataValue<Ascii>>();
    let mut value = value.map_err(|_| Failure::Usage("the verification is not one line of plain characters".into()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue::areas, command};
    use std::io::Write as _;

    #[test]
    fn codes_are_fields_of_no_option() {
        let areas = areas();
        let area = areas.iter().find(|area| area.name == "wallet-verification").expect("an area");
        let rpc = area.rpcs.iter().find(|rpc| rpc.name == "enrol-pin").expect("an RPC");
        let field = rpc.descriptor.input().get_field_by_name("pin").expect("a field");
        assert!(is_secret(&field));
        let typed = ["dalp", "wallet-verification", "enrol-pin", "--pin", "918273"];
        command::command(&areas).try_get_matches_from(typed).expect_err("no such option");
        let remove = area.rpcs.iter().find(|rpc| rpc.name == "remove-factor").expect("an RPC");
        assert!(!is_secret(&remove.descriptor.input().get_field_by_name("factor").expect("a field")));
    }

    #[test]
    fn a_file_is_shown_as_it_stands_and_marked_as_a_secret() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        writeln!(file, "totp 123456").expect("written");
        let path = file.path().to_str().expect("text").to_owned();
        let typed = ["dalp", "operation", "list-operations", "--verification-file", &path];
        let matches = command::command(&areas()).try_get_matches_from(typed).expect("a command");
        let areas = areas();
        let (_, given) = command::chosen(&areas, &matches);
        let value = verification(given).expect("read").expect("there");
        assert_eq!(value.to_str().expect("text"), "totp 123456");
        assert!(value.is_sensitive() && !format!("{value:?}").contains("123456"));
    }
}
