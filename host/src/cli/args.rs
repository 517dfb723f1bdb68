//! The host's own command line, and how TARGET is found in it before anybody knows which flags the plugin has.
//!
//! Which words are flags' values depends on the plugin, which depends on TARGET, which is one of the words. So every plugin's
//! flags are tried in turn: the target that they lead to must be that plugin's. Only when that fails does the union of all
//! flags decide, and then there is an error to be told in any case.

use clap::{Arg, ArgAction, Command, value_parser};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// What is done with a target: it decides which of the plugin's options are flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Publish,
    Subscribe,
    Request,
    Serve,
    List,
    BenchPublish,
    BenchSubscribe,
    BenchEcho,
    /// `profile add`: everything that a profile holds of a connection.
    Profile,
    /// `profile add` with a protocol's name: what is served.
    ServeProfile,
}

impl Action {
    /// Whether the schema of this name is part of the command.
    pub fn uses(self, schema: &str) -> bool {
        match schema {
            "connection" => !matches!(self, Action::Serve | Action::ServeProfile),
            "publish" => {
                matches!(self, Action::Publish | Action::BenchPublish | Action::BenchEcho | Action::Profile)
            }
            "subscribe" => {
                matches!(
                    self,
                    Action::Subscribe | Action::BenchSubscribe | Action::BenchEcho | Action::Profile
                )
            }
            "request" => self == Action::Request,
            "serve" => matches!(self, Action::Serve | Action::ServeProfile),
            _ => false,
        }
    }

    /// Whether a protocol's name is a target.
    pub fn serves(self) -> bool {
        matches!(self, Action::Serve | Action::ServeProfile)
    }

    /// Whether a read-only profile forbids it.
    pub fn writes(self) -> bool {
        matches!(self, Action::Publish | Action::Request | Action::BenchPublish | Action::BenchEcho)
    }
}

/// The flags that every command takes.
fn global() -> [Arg; 4] {
    [
        Arg::new("verbose")
            .short('v')
            .long("verbose")
            .action(ArgAction::Count)
            .global(true)
            .display_order(900)
            .help("Tell more: -v what happens, -vv how, -vvv everything"),
        Arg::new("quiet")
            .short('q')
            .long("quiet")
            .action(ArgAction::SetTrue)
            .global(true)
            .display_order(901)
            .help("Tell only what failed"),
        Arg::new("plugin-dir")
            .long("plugin-dir")
            .value_name("DIR")
            .action(ArgAction::Append)
            .value_parser(value_parser!(PathBuf))
            .global(true)
            .display_order(902)
            .help("Look for plugins here first [repeatable]"),
        Arg::new("no-reconnect")
            .long("no-reconnect")
            .action(ArgAction::SetTrue)
            .global(true)
            .display_order(903)
            .help("Take a lost connection for the end"),
    ]
}

/// The whole command line, without any plugin's flags.
pub fn root() -> Command {
    Command::new("tracemq")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Look into, feed and imitate messaging systems")
        .subcommand_required(true)
        .args(global())
        .subcommands(super::verbs().iter().map(|verb| (verb.command)()))
        .subcommand(super::profile::command())
        .subcommand(super::secret::command())
        .subcommand(super::plugin::command())
        .subcommand(super::completions::command())
}

/// Which words of a command line are values of flags.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    long: HashMap<String, bool>,
    short: HashMap<char, bool>,
}

impl Flags {
    /// The flags of a command, and the global ones.
    pub fn of(command: &Command) -> Flags {
        let mut flags = Flags::default();
        for arg in command.get_arguments().chain(&global()) {
            let takes = arg.get_action().takes_values() && !arg.is_require_equals_set();
            flags.long.extend(arg.get_long().map(|name| (name.to_owned(), takes)));
            flags.short.extend(arg.get_short().map(|name| (name, takes)));
        }
        flags
    }

    /// Adds a flag; when two say different things of one name, it takes a value.
    pub fn add(&mut self, name: String, takes: bool) {
        *self.long.entry(name).or_default() |= takes;
    }

    /// The places of the words that are neither flags nor values of flags.
    pub fn positionals(&self, words: &[OsString]) -> Vec<usize> {
        let mut found = Vec::new();
        let mut index = 0;
        while index < words.len() {
            let word = words[index].to_string_lossy();
            if word == "--" {
                found.extend(index + 1..words.len());
                break;
            }
            if let Some(name) = word.strip_prefix("--") {
                index += usize::from(self.long.get(name) == Some(&true));
            } else if let Some(letters) = word.strip_prefix('-').filter(|letters| self.is_short(letters)) {
                index += usize::from(self.takes_next(letters));
            } else {
                found.push(index);
            }
            index += 1;
        }
        found
    }

    /// A lone hyphen and a negative number are no flags.
    fn is_short(&self, letters: &str) -> bool {
        letters
            .chars()
            .next()
            .is_some_and(|first| self.short.contains_key(&first) || !(first.is_ascii_digit() || first == '.'))
    }

    /// Whether the value of `-xyz` is the next word.
    fn takes_next(&self, letters: &str) -> bool {
        let takes = |letter: &char| self.short.get(letter) == Some(&true);
        letters.chars().position(|letter| takes(&letter)) == Some(letters.chars().count() - 1)
    }
}

/// The folders of all `--plugin-dir`, wherever they stand.
pub fn plugin_dirs(words: &[OsString]) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    let mut words = words.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word == "--plugin-dir" {
            dirs.extend(words.next().map(PathBuf::from));
        } else if let Some(dir) = word.to_str().and_then(|word| word.strip_prefix("--plugin-dir=")) {
            dirs.push(dir.into());
        }
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        root().debug_assert();
    }

    #[test]
    fn positionals_stand_before_between_and_after_flags() {
        let mut flags = Flags::of(&Command::new("x").arg(Arg::new("count").short('C').long("count")));
        flags.add("qos".into(), true);
        flags.add("retain".into(), false);
        for (line, expected) in [
            ("x://h a/b", vec![0, 1]),
            ("--qos 1 x://h", vec![2]),
            ("--qos=1 --retain x://h", vec![2]),
            ("-C 5 x://h", vec![2]),
            ("-C5 x://h", vec![1]),
            ("-vC 5 x://h -5 -", vec![2, 3, 4]),
            ("-v --plugin-dir d x://h", vec![3]),
            ("--retain -- --qos x", vec![2, 3]),
            ("--qos", vec![]),
        ] {
            assert_eq!(flags.positionals(&words(line)), expected, "{line}");
        }
    }

    #[test]
    fn plugin_dirs_are_found_anywhere() {
        let line = words("--plugin-dir a sub --plugin-dir=b x -- --plugin-dir c");
        assert_eq!(plugin_dirs(&line), [PathBuf::from("a"), PathBuf::from("b")]);
    }

    #[test]
    fn no_plugin_may_use_the_name_of_a_flag_of_the_host() {
        let root = root();
        let verbs = root.get_subcommands().filter(|command| super::super::verb(command.get_name()).is_some());
        // What is measured bears names that protocols use too, size and duration: there the host's own flag wins.
        let verbs = verbs.filter(|command| command.get_name() != "bench");
        for arg in verbs.flat_map(Command::get_arguments).chain(&global()) {
            if let Some(name) = arg.get_long() {
                assert!(crate::plugins::HOST_FLAGS.contains(&name), "--{name} is missing in HOST_FLAGS");
            }
        }
    }
}
