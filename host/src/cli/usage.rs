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
    let (known, commands) = (longs(&command, path), names(&command, path));
    command.try_get_matches_from(argv).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // With stdout gone there is nobody left to tell.
            let _ = error.print();
            Failure::new(Exit::Done, "")
        }
        _ => failure(&error, &known, &commands, path, plugin),
    })
}

fn at<'a>(command: &'a Command, path: &str) -> &'a Command {
    path.split_whitespace().fold(command, |command, name| command.find_subcommand(name).unwrap_or(command))
}

/// The subcommands of the one at `path`.
fn names(command: &Command, path: &str) -> Vec<String> {
    at(command, path).get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// The long flags of the subcommand at `path`.
fn longs(command: &Command, path: &str) -> Vec<String> {
    let args = at(command, path).get_arguments().chain(command.get_arguments());
    args.filter_map(|arg| arg.get_long().map(str::to_owned)).collect()
}

fn failure(
    error: &clap::Error,
    known: &[String],
    commands: &[String],
    path: &str,
    plugin: Option<&str>,
) -> Failure {
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
            let who = match plugin {
                Some(plugin) => format!("neither `{name}` nor {plugin} has an option {argument}"),
                None => format!("`{name}` has no option {argument}"),
            };
            // Without the hyphens: they would count as letters that fit.
            let meant = nearest(argument.trim_start_matches('-'), known.iter().map(String::as_str));
            (who, meant.map(|name| format!("--{name}")))
        }
        ErrorKind::UnknownArgument => {
            (format!("`{name}` takes nothing more, but there is {argument:?}"), None)
        }
        ErrorKind::InvalidSubcommand => {
            let given = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let meant = nearest(&given, commands.iter().map(String::as_str)).map(str::to_owned);
            (format!("there is no command `{name} {given}`"), meant)
        }
        ErrorKind::MissingSubcommand => (format!("`{name}` needs a command"), None),
        ErrorKind::MissingRequiredArgument => {
            let verb = if argument.contains(", ") { "are" } else { "is" };
            (format!("{argument} {verb} missing"), None)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let allowed = context(ContextKind::ValidValue).filter(|values| !values.is_empty());
            let why = allowed.or_else(|| std::error::Error::source(error).map(ToString::to_string));
            let option = argument.split_whitespace().next().unwrap_or(argument);
            match (value.as_str(), why) {
                ("", None) => (
                    format!("{option} needs a value; one that begins with - is written {option}=VALUE"),
                    None,
                ),
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
    let meant = meant.map_or_else(|| "see".to_owned(), |meant| format!("did you mean {meant}? See"));
    let target = if super::verb(path).is_some() { " TARGET" } else { "" };
    Failure::usage(text).hint(format!("{meant} `{name}{target} --help`"))
}

#[cfg(test)]
mod tests {
    use super::super::args;
    use super::*;

    fn error(line: &str) -> Failure {
        let argv: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let path = argv[1].to_str().filter(|name| args::root().find_subcommand(name).is_some());
        parse(args::root(), &argv, path.unwrap_or_default(), None).unwrap_err()
    }

    #[test]
    fn slips_are_named_in_one_line_with_a_way_out() {
        for (line, text, hint) in [
            ("tracemq sbu x://h", "no command `tracemq sbu`", "did you mean sub?"),
            ("tracemq profile lsit", "no command `tracemq profile lsit`", "did you mean list?"),
            ("tracemq completions tcsh", "tcsh is not allowed", "tracemq completions"),
            ("tracemq completions", "<SHELL> is missing", "--help"),
            ("tracemq completions bash --verbos", "has no option --verbos", "did you mean --verbose?"),
            ("tracemq completions bash zsh", "takes nothing more, but there is \"zsh\"", "--help"),
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
