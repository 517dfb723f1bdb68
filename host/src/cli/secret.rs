//! `tracemq secret`: the vault.

use super::usage;
use crate::failure::{Exit, Failure};
use crate::options::{KINDS, Reference, Unreadable, read_secret};
use crate::output::events;
use crate::redact::{self, Secret};
use crate::vault::age::Recipient;
use crate::vault::{self, NewKey, Rekey};
use crate::{logging, terminal};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use std::ffi::OsString;
use std::io::IsTerminal;

const EXPLAINED: &str = "\
A secret is referred to wherever one is taken, in profiles and on the command line, and so is a URL that holds one:
  vault:NAME     a secret of the vault
  env:NAME       an environment variable
  file:PATH      a file, without its last line end
  cmd:PROGRAM    what a program prints, as in cmd:pass show broker. It is started without a shell: words are separated by
                 spaces and quoted with ', \" and \\, and nothing is expanded. It has 30 s and no standard input
  keyring:NAME   the system's keyring, read by secret-tool (Linux, put in by
                 `secret-tool store --label tracemq service tracemq account NAME`) or by security (macOS, put in by
                 `security add-generic-password -s tracemq -a NAME -w`)

The vault is vault.age in the configuration folder ($XDG_CONFIG_HOME/tracemq or ~/.config/tracemq), an age file: `age -d -i
IDENTITY vault.age` opens it as well. The identity that opens it is made at first use, as identity.txt in the data folder
($XDG_DATA_HOME/tracemq or ~/.local/share/tracemq); with TRACEMQ_HOME both are in that folder. Without the identity the vault
is lost: keep a copy of what `tracemq secret export-identity` prints.
  TRACEMQ_VAULT_IDENTITY=PATH         an identity file of yours in its place; it is not changed
  TRACEMQ_VAULT_PASSPHRASE=REFERENCE  where the pass phrase is, of a vault that has one; else it is asked for. A new vault
                                      gets a pass phrase when this is set

A process that holds a secret writes no core file, and masks it with *** in all that it prints beside messages.";

pub fn command() -> Command {
    let name = || Arg::new("name").value_name("NAME").required(true).help("What vault:NAME calls it");
    Command::new("secret")
        .about("Secrets in an encrypted file: set, list, remove, rekey, export-identity")
        .after_help(EXPLAINED)
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("set")
                .about("Put a secret into the vault, asked for on the terminal, or from stdin if that is no terminal")
                .arg(name())
                .arg(flag("stdin", "Read it from stdin, without the last line end"))
                .arg(from().conflicts_with("stdin")),
        )
        .subcommand(
            Command::new("list")
                .about("List the names of the secrets")
                .arg(flag("json", "Print an object a line"))
                .arg(flag("recipients", "List who can open the vault beside its own identity instead")),
        )
        .subcommand(Command::new("remove").about("Take a secret out of the vault").arg(name()))
        .subcommand(
            Command::new("rekey")
                .about("Encrypt the vault anew: to a new identity or with a new pass phrase, whichever it has")
                .arg(flag("identity", "From a pass phrase to an identity").conflicts_with("passphrase"))
                .arg(flag("passphrase", "From an identity to a pass phrase, asked for on the terminal"))
                .arg(from())
                .arg(recipient("recipient", "Let this recipient open the vault too [repeatable]"))
                .arg(recipient("remove-recipient", "Let it no longer open what is written from now on [repeatable]"))
                .after_help(
                    "With --recipient or --remove-recipient alone the identity stays. With TRACEMQ_VAULT_IDENTITY set, the \
                     new identity is the first one in that file: put it there, and take the old one out afterwards.",
                ),
        )
        .subcommand(
            Command::new("export-identity")
                .about("Print the identity that opens the vault: keep it safe")
                .arg(flag("public", "Print what others encrypt to for you, age1…; makes an identity if there is none")),
        )
}

fn flag(id: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).action(ArgAction::SetTrue).help(help)
}

fn from() -> Arg {
    Arg::new("from")
        .long("from")
        .value_name("REFERENCE")
        .help("Take it from env:NAME, file:PATH, cmd:PROGRAM or keyring:NAME")
}

fn recipient(id: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).value_name("age1…").action(ArgAction::Append).help(help)
}

pub fn run(argv: &[OsString]) -> Result<(), Failure> {
    let matches = usage::parse(super::args::root(), argv, "secret", None)?;
    let Some(matches) = matches.subcommand_matches("secret") else { return Ok(()) };
    logging::start(&super::prepare::global(matches));
    redact::harden();
    match matches.subcommand() {
        Some(("set", matches)) => set(matches),
        Some(("list", matches)) => list(matches),
        Some(("remove", matches)) => vault::remove(name(matches)),
        Some(("rekey", matches)) => rekey(matches),
        Some(("export-identity", matches)) => export_identity(matches.get_flag("public")),
        _ => Ok(()),
    }
}

fn name(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("name").map_or("", String::as_str)
}

fn tell(matches: &ArgMatches, text: &str) {
    if !super::prepare::global(matches).quiet {
        events::line(text);
    }
}

fn set(matches: &ArgMatches) -> Result<(), Failure> {
    let name = name(matches);
    // Before the secret is asked for.
    vault::check_name(name)?;
    let secret = match matches.get_one::<String>("from") {
        Some(text) => resolved(text)?,
        None if matches.get_flag("stdin") || !std::io::stdin().is_terminal() => of_stdin()?,
        None => terminal::hidden_twice(&format!("Secret {name}"))?,
    };
    if secret.is_empty() {
        return Err(Failure::usage(format!("the secret {name} is empty; nothing was changed")));
    }
    vault::set(&[(name.to_owned(), secret)])?;
    tell(matches, &format!("secret {name} saved; vault:{name} refers to it"));
    Ok(())
}

/// What `--from` refers to.
fn resolved(text: &str) -> Result<Secret, Failure> {
    match Reference::parse(text) {
        Some(reference) => reference.resolve().map_err(|why| Failure::usage(format!("--from: {why}"))),
        None => {
            drop(Secret::new(text.to_owned()));
            Err(Failure::usage("--from takes a reference, not the secret itself")
                .hint(format!("{KINDS}; without --from it is asked for")))
        }
    }
}

fn of_stdin() -> Result<Secret, Failure> {
    read_secret(&mut std::io::stdin().lock()).map_err(|error| match error {
        Unreadable::System(error) => Failure::new(Exit::Failed, format!("read stdin: {error}")),
        Unreadable::TooLarge => Failure::usage("stdin holds more than 1 MiB: this is no secret"),
        Unreadable::NotText => Failure::usage("what came from stdin is not UTF-8 text"),
    })
}

fn list(matches: &ArgMatches) -> Result<(), Failure> {
    let (key, values) = match matches.get_flag("recipients") {
        true => ("recipient", vault::recipients()?.iter().map(Recipient::to_string).collect()),
        false => ("name", vault::names()?),
    };
    let line = |value: &String| match matches.get_flag("json") {
        true => format!("{}\n", json!({ key: value })),
        false => format!("{}\n", crate::output::escape::line(value)),
    };
    super::print(values.iter().map(line).collect::<String>())
}

fn rekey(matches: &ArgMatches) -> Result<(), Failure> {
    let recipients = |id: &str| {
        let texts = matches.get_many::<String>(id).into_iter().flatten();
        let parsed = texts.map(|text| {
            Recipient::parse(text).map_err(|why| Failure::usage(format!("--{id}: {text}: {why}")))
        });
        parsed.collect::<Result<Vec<_>, _>>()
    };
    let (add, remove) = (recipients("recipient")?, recipients("remove-recipient")?);
    let has = vault::has_pass_phrase()?.unwrap_or(false);
    let only_recipients = !(add.is_empty() && remove.is_empty());
    let pass_phrase = || match matches.get_one::<String>("from") {
        Some(text) => resolved(text),
        None => terminal::hidden_twice("New pass phrase"),
    };
    let to = if matches.get_flag("passphrase") {
        NewKey::PassPhrase(pass_phrase()?)
    } else if matches.get_flag("identity") {
        NewKey::Identity
    } else if only_recipients {
        NewKey::Same
    } else if has {
        NewKey::PassPhrase(pass_phrase()?)
    } else {
        NewKey::Identity
    };
    match &to {
        NewKey::PassPhrase(phrase) if phrase.is_empty() => {
            return Err(Failure::usage("the new pass phrase is empty; nothing was changed"));
        }
        NewKey::Same | NewKey::Identity if matches.contains_id("from") => {
            return Err(Failure::usage(
                "--from is where a new pass phrase comes from: it needs --passphrase",
            ));
        }
        _ => {}
    }
    let to_identity = matches!(to, NewKey::Identity);
    vault::rekey(Rekey { to, add, remove })?;
    if to_identity {
        tell(matches, &format!("the vault is encrypted to {} now", vault::recipient()?));
    }
    Ok(())
}

fn export_identity(public: bool) -> Result<(), Failure> {
    if public {
        return super::print(format!("{}\n", vault::recipient()?));
    }
    let identities = vault::identities()?;
    for identity in &identities {
        super::print_unmasked(&format!("# public key: {}\n{}\n", identity.recipient(), &*identity.text()))?;
    }
    Ok(())
}
