//! What clap finds wrong, in one line and in the words of every other error.

use crate::failure::{Exit, Failure};
use crate::options::nearest;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command};
use std::ffi::OsString;

/// Parses a command line. Help and version are printed, and end the command with status 0.
///
/// `path` is the names of the subcommands, for the hint; `plugin` the name of the plugin whose flags are among them.
pub fn parse(
    command: Command,
    argv: &[OsString],
    path: &str,
    plugin: Option<&str>,
) -> Result<ArgMatches, Failure> {
    let known: Vec<String> = longs(&command, path);
    command.try_get_matches_from(argv).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // With stdout gone there is nobody left to tell.
            let _ = error.print();
            Failure::new(Exit::Done, "")
        }
        _ => failure(&error, &known, path, plugin),
    })
}

/// The long flags of the subcommand at `path`.
fn longs(command: &Command, path: &str) -> Vec<String> {
    let mut at = command;
    for name in path.split_whitespace() {
        at = at.find_subcommand(name).unwrap_or(at);
    }
    let args = at.get_arguments().chain(command.get_arguments());
    args.filter_map(|arg| arg.get_long().map(|name| format!("--{name}"))).collect()
}

fn failure(error: &clap::Error, known: &[String], path: &str, plugin: Option<&str>) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let name = if path.is_empty() { "tracemq".to_owned() } else { format!("tracemq {path}") };
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    // What follows an equals sign may be a secret.
    let argument = argument.split_once('=').map_or(argument.as_str(), |(name, _)| name);
    let (text, meant) = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let who = plugin.map_or_else(String::new, |plugin| format!(" with {plugin}"));
            let meant = nearest(argument, known.iter().map(String::as_str)).map(str::to_owned);
            (format!("{name}{who} has no option {argument}"), meant)
        }
        ErrorKind::UnknownArgument => (format!("{name} does not know what to do with {argument:?}"), None),
        ErrorKind::InvalidSubcommand => {
            let given = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            (format!("{name} has no command {given:?}"), context(ContextKind::SuggestedSubcommand))
        }
        ErrorKind::MissingSubcommand => (format!("{name} needs a command"), None),
        ErrorKind::MissingRequiredArgument => (format!("{argument} is missing"), None),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let allowed = context(ContextKind::ValidValue).filter(|values| !values.is_empty());
            let why = allowed.or_else(|| std::error::Error::source(error).map(ToString::to_string));
            let option = argument.split_whitespace().next().unwrap_or(argument);
            match (value.as_str(), why) {
                ("", None) => (format!("{option} needs a value"), None),
                ("", Some(why)) => (format!("{option}: a value is missing ({why})"), None),
                (value, why) => {
                    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
                    (format!("{option}: {value} is not allowed{why}"), None)
                }
            }
        }
        ErrorKind::ArgumentConflict => {
            let option = argument.split_whitespace().next().unwrap_or(argument);
            let prior = context(ContextKind::PriorArg).unwrap_or_default();
            if prior.is_empty() || prior.starts_with(option) {
                (format!("{option}: may be given once only"), None)
            } else {
                (format!("{option} and {prior} exclude each other"), None)
            }
        }
        _ => {
            let rendered = error.to_string();
            let line = rendered.lines().next().unwrap_or_default();
            (line.trim_start_matches("error: ").to_owned(), None)
        }
    };
    let meant = meant.map_or_else(String::new, |meant| format!("did you mean {meant}? "));
    let target = if plugin.is_some() || path.is_empty() || path.contains(' ') { "" } else { " TARGET" };
    Failure::usage(text).hint(format!("{meant}See `{name}{target} --help`"))
}

#[cfg(test)]
mod tests {
    use super::super::args;
    use super::*;

    fn error(line: &str) -> Failure {
        let argv: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(args::root(), &argv, argv.get(1).and_then(|word| word.to_str()).unwrap_or(""), None)
            .unwrap_err()
    }

    #[test]
    fn slips_are_named_in_one_line_with_a_way_out() {
        for (line, text, hint) in [
            ("tracemq profile lsit", "has no command \"lsit\"", "did you mean list?"),
            ("tracemq completions tcsh", "tcsh is not allowed", "tracemq completions"),
            ("tracemq completions", "<SHELL> is missing", "--help"),
            ("tracemq completions bash --verbos", "has no option --verbos", "did you mean --verbose?"),
            ("tracemq completions bash zsh", "does not know what to do with \"zsh\"", "--help"),
            ("tracemq completions bash --plugin-dri=secret", "has no option --plugin-dri", "--plugin-dir?"),
        ] {
            let failure = error(line);
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.text.contains(text), "{line}: {failure}");
            assert!(failure.hint.as_deref().unwrap().contains(hint), "{line}: {failure}");
            assert!(
                !failure.to_string().contains('\n') && !failure.to_string().contains("secret"),
                "{failure}"
            );
        }
    }
}
