//! What can be typed: the catalogue as commands, the fields of a request as options.

use crate::{
    catalogue::{Area, Rpc, comment},
    secret::is_secret,
};
use clap::{
    Arg, ArgAction, ArgMatches, Command, ValueHint,
    builder::{PossibleValuesParser, ValueParser},
    value_parser,
};
use heck::{ToKebabCase as _, ToShoutySnakeCase as _};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind};
use std::path::PathBuf;

const CONNECTION: &str = "Connection";
const CALL: &str = "Call";

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 a defect, 2 wrong usage, 3 refused: mend the input, 4 not allowed, 5 not found, 6 not now: the same call may succeed later,
7 an operation that was waited for failed or was withdrawn, 8 the wait ended before the operation.";

/// The whole command line.
pub(crate) fn command(areas: &[Area]) -> Command {
    let completion = Command::new("completion")
        .about("Prints a script that completes commands and options")
        .after_help("For instance: dalp completion bash > ~/.local/share/bash-completion/completions/dalp")
        .arg(Arg::new("shell").required(true).value_parser(value_parser!(clap_complete::Shell)));
    Command::new("dalp")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Calls the gateway of the digital asset lifecycle platform")
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .args(globals())
        .subcommands(areas.iter().map(of_area))
        .subcommand(completion)
}

/// Writes the completion script that was asked for to the standard output.
pub(crate) fn print_completion(areas: &[Area], given: &ArgMatches) {
    if let Some(shell) = given.get_one::<clap_complete::Shell>("shell") {
        clap_complete::generate(*shell, &mut command(areas), "dalp", &mut std::io::stdout());
    }
}

/// The RPC of a command line and the options that came with it.
pub(crate) fn chosen<'a>(areas: &'a [Area], matches: &'a ArgMatches) -> (&'a Rpc, &'a ArgMatches) {
    let found = matches.subcommand().and_then(|(area, given)| {
        let area = areas.iter().find(|one| one.name == area)?;
        let (rpc, given) = given.subcommand()?;
        Some((area.rpcs.iter().find(|one| one.name == rpc)?, given))
    });
    found.expect("only commands of the catalogue can be typed")
}

fn globals() -> [Arg; 15] {
    let file = |name: &'static str| Arg::new(name).value_hint(ValueHint::FilePath).value_parser(value_parser!(PathBuf));
    let all = [
        Arg::new("gateway")
            .value_name("HOST:PORT")
            .env("DALP_GATEWAY")
            .default_value("localhost:7000")
            .help("The gateway")
            .help_heading(CONNECTION),
        file("ca")
            .env("DALP_CA")
            .help("Authorities that the gateway's certificate must lead to (PEM)")
            .help_heading(CONNECTION),
        file("cert").env("DALP_CERT").requires("cert-key").help("Client certificate (PEM)").help_heading(CONNECTION),
        file("cert-key").env("DALP_CERT_KEY").requires("cert").help("Its private key (PEM)").help_heading(CONNECTION),
        file("api-key-file")
            .env("DALP_API_KEY_FILE")
            .help("File with an API key; or the key itself in the variable DALP_API_KEY, never as an argument")
            .help_heading(CONNECTION),
        Arg::new("server-name")
            .env("DALP_SERVER_NAME")
            .help("Name in the gateway's certificate, where it is not the host's")
            .help_heading(CONNECTION),
        Arg::new("deadline-s")
            .value_parser(value_parser!(u64).range(1..))
            .default_value("60")
            .help("Seconds that a call may take; not for streams")
            .help_heading(CALL),
        Arg::new("json").action(ArgAction::SetTrue).help("Prints answers as JSON, one line each").help_heading(CALL),
        Arg::new("data")
            .value_name("JSON|@FILE|-")
            .help("The request as JSON; options for single fields go before it")
            .help_heading(CALL),
        file("rows")
            .value_name("FILE|-")
            .help("Messages of a streamed request, one line of JSON each")
            .help_heading(CALL),
        Arg::new("idempotency-key")
            .help("The key of a write, to repeat it safely; one is made up and told if none is given")
            .help_heading(CALL),
        Arg::new("verify")
            .value_name("FACTOR")
            .value_parser(["pin", "totp", "recovery"])
            .help("Asks for a PIN, a one-time password or a recovery code that verifies this write; or give one as `totp 123456` in the variable DALP_WALLET_VERIFICATION")
            .help_heading(CALL),
        file("verification-file")
            .conflicts_with("verify")
            .help("File with what verifies this write, for instance `pin 123456`")
            .help_heading(CALL),
        Arg::new("wait")
            .action(ArgAction::SetTrue)
            .help("Follows the operation that the call answers with until it is final")
            .help_heading(CALL),
        Arg::new("wait-s")
            .value_parser(value_parser!(u64).range(1..))
            .default_value("3600")
            .help("Seconds that --wait lasts at most")
            .help_heading(CALL),
    ];
    all.map(|arg| {
        let long = arg.get_id().to_string();
        arg.long(long).global(true)
    })
}

fn of_area(area: &Area) -> Command {
    Command::new(area.name.clone())
        .about(first_sentence(&area.about))
        .long_about(area.about.clone())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommands(area.rpcs.iter().map(of_rpc))
}

fn of_rpc(rpc: &Rpc) -> Command {
    let input = rpc.descriptor.input();
    let told = format!("{}\n\nNeeds the permission {}; {}.", rpc.about, rpc.permission, rpc.path());
    Command::new(rpc.name.clone())
        .about(first_sentence(&rpc.about))
        .long_about(told)
        .args(input.fields().filter(|field| !is_secret(field)).map(|field| of_field(&field)))
}

fn of_field(field: &FieldDescriptor) -> Arg {
    let about = comment(&field.parent_message().parent_file(), field.path());
    let arg = Arg::new(field.name().to_owned()).long(field.name().to_kebab_case()).help(about).help_heading("Request");
    let arg = arg.value_name(value_name(field)).value_parser(parser(field));
    if field.is_list() || field.is_map() {
        arg.action(ArgAction::Append)
    } else if field.kind() == Kind::Bool {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg
    }
}

fn value_name(field: &FieldDescriptor) -> &'static str {
    match field.kind() {
        _ if field.is_map() => "KEY=VALUE",
        Kind::Bool => "true|false",
        Kind::String => "TEXT",
        Kind::Bytes => "BASE64",
        Kind::Enum(_) => "NAME",
        Kind::Double | Kind::Float => "NUMBER",
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => "RFC3339",
            "google.protobuf.Duration" => "SECONDS",
            _ => "JSON|@FILE",
        },
        _ => "INTEGER",
    }
}

fn parser(field: &FieldDescriptor) -> ValueParser {
    match field.kind() {
        _ if field.is_map() => ValueParser::string(),
        Kind::Bool => PossibleValuesParser::new(["true", "false"]).into(),
        Kind::Enum(of) => {
            let names =
                of.values().filter(|value| value.number() != 0).map(|value| short_name(&of, value.name()).to_owned());
            // Lists of names are long and stand in the comment; a wrong one is told with all that there are.
            PossibleValuesParser::new(names.collect::<Vec<_>>()).into()
        }
        _ => ValueParser::string(),
    }
}

/// `RUNNING` for `OPERATION_STATE_RUNNING`.
pub(crate) fn short_name<'n>(of: &EnumDescriptor, name: &'n str) -> &'n str {
    let prefix = of.name().to_shouty_snake_case();
    name.strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_prefix('_')).unwrap_or(name)
}

fn first_sentence(text: &str) -> String {
    let end = text.match_indices(". ").map(|(at, _)| at).find(|at| !text[..*at].ends_with("e.g")).unwrap_or(text.len());
    text[..end].trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::areas;

    #[test]
    fn the_command_line_is_sound() {
        // Also that no field of a request has the name of an option for all calls.
        command(&areas()).debug_assert();
    }

    #[test]
    fn what_is_typed_is_found() {
        let areas = areas();
        let typed = ["dalp", "operation", "list-operations", "--state", "RUNNING", "--json"];
        let matches = command(&areas).try_get_matches_from(typed).expect("a command");
        let (rpc, given) = chosen(&areas, &matches);
        assert_eq!(rpc.path(), "/dalp.operation.v1.OperationService/ListOperations");
        assert!(given.get_flag("json"));
    }

    #[test]
    fn a_wrong_name_is_refused_with_those_that_there_are() {
        let typed = ["dalp", "operation", "list-operations", "--state", "RUNING"];
        let refused = command(&areas()).try_get_matches_from(typed).expect_err("no such state").to_string();
        assert!(refused.contains("RUNNING") && refused.contains("COMPLETED"), "{refused}");
    }

    #[test]
    fn every_shell_gets_a_completion() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(&areas()), "dalp", &mut script);
            let script = String::from_utf8(script).expect("text");
            assert!(script.contains("list-operations"), "{shell}");
        }
    }

    #[test]
    fn a_summary_is_one_sentence() {
        assert_eq!(first_sentence("Lists all. Errors: none."), "Lists all");
        assert_eq!(first_sentence("Lists all."), "Lists all");
    }
}
