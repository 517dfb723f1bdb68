//! `tracemq completions`: a script for the user's shell.

use super::args;
use crate::failure::Failure;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

pub fn command() -> Command {
    Command::new("completions")
        .about("Print the completion script of a shell")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell))
                .help("bash, elvish, fish, powershell or zsh"),
        )
        .after_help(
            "bash: tracemq completions bash > ~/.local/share/bash-completion/completions/tracemq\n\
             zsh:  tracemq completions zsh > a folder of $fpath, as _tracemq\n\
             fish: tracemq completions fish > ~/.config/fish/completions/tracemq.fish",
        )
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some(shell) = matches.get_one::<Shell>("shell").copied() else { return Ok(()) };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::root(), "tracemq", &mut script);
    if shell == Shell::Zsh {
        script = with_profiles(&String::from_utf8_lossy(&script)).into_bytes();
    }
    script.extend_from_slice(targets(shell).as_bytes());
    super::print(String::from_utf8_lossy(&script))
}

/// How an argument that names a profile begins in the zsh script: TARGET of a verb, NAME of `profile`.
const ZSH_NAMES: [&str; 4] = ["':target -- ", "':name -- The profile", "'*::name -- ", "'*::targets -- "];

/// The zsh script with the names of profiles where it would offer files for them.
fn with_profiles(script: &str) -> String {
    let mut out = String::with_capacity(script.len());
    for line in script.lines() {
        if line.starts_with("if [ \"$funcstack[1]\"") {
            out.push_str(ZSH_PROFILES);
        }
        let named = ZSH_NAMES.iter().any(|beginning| line.starts_with(beginning));
        out.push_str(&if named {
            line.replace(":_default'", ":_tracemq_profiles'")
        } else {
            line.to_owned()
        });
        out.push('\n');
    }
    out
}

const ZSH_PROFILES: &str = r#"_tracemq_profiles() {
    local -a names
    names=(${(f)"$(tracemq profile list --names 2>/dev/null)"})
    _describe -t profiles 'profile' names
}

"#;

/// What completes TARGET with the names of profiles, where the shell lets us add it to the script.
fn targets(shell: Shell) -> &'static str {
    match shell {
        Shell::Fish => {
            "complete -c tracemq -n '__fish_seen_subcommand_from pub sub request serve list bench' \
             -f -a '(tracemq profile list --names 2>/dev/null)'\n\
             complete -c tracemq -n '__fish_seen_subcommand_from profile; and __fish_seen_subcommand_from show edit set \
             copy rename remove test' -f -a '(tracemq profile list --names 2>/dev/null)'\n"
        }
        Shell::Bash => {
            r#"
_tracemq_targets() {
    _tracemq "$@"
    case " ${COMP_WORDS[*]:1:COMP_CWORD-1} " in
        *" profile list "*|*" profile add "*) ;;
        *" pub "*|*" sub "*|*" request "*|*" serve "*|*" list "*|*" bench "*|*" profile "*" "*)
            if [[ ${COMP_WORDS[COMP_CWORD]} != -* ]]; then
                COMPREPLY+=($(compgen -W "$(tracemq profile list --names 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
            fi
            ;;
    esac
}
complete -F _tracemq_targets -o nosort -o bashdefault -o default tracemq
"#
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zsh_offers_profiles_for_targets_of_every_verb() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Zsh, &mut args::root(), "tracemq", &mut script);
        let script = with_profiles(&String::from_utf8(script).unwrap());
        assert!(script.matches(":_tracemq_profiles'").count() >= super::super::verbs().len());
        let defined = script.find("_tracemq_profiles() {").expect("the function is there");
        assert!(defined < script.find("compdef _tracemq tracemq").expect("the end of the script"));
    }
}
