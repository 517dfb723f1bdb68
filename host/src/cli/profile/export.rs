//! `tracemq profile export`: profiles as one file for somebody else.

use crate::cli::url;
use crate::failure::{Exit, Failure};
use crate::options::Reference;
use crate::output::events;
use crate::plugins::{Catalog, Entry};
use crate::profiles::{self, Profile};
use crate::share::document::Document;
use crate::share::{self, LARGEST, LARGEST_FILE, Schemas, Whom};
use crate::vault::age::{self, Audience, Recipient};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use tracemq_plugin_api::sdk::Descriptor;

pub fn command() -> Command {
    Command::new("export")
        .about("Write profiles into a file to share")
        .long_about(
            "Write profiles into a file to share, NAME.tracemq.toml unless -o says otherwise. The certificates that they name \
             are in it; secrets, private keys and what else is of this machine alone are left out and listed, and `tracemq \
             profile import` asks for them. With --to, the file is encrypted in the age format for whoever has the key, and \
             all of it is in there, secrets and keys included.",
        )
        .arg(
            Arg::new("name")
                .value_name("NAME")
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..)
                .help("A profile's name [repeatable]"),
        )
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write here, - is stdout"),
        )
        .arg(
            Arg::new("to")
                .long("to")
                .value_name("RECIPIENT")
                .action(ArgAction::Append)
                .help("Encrypt for this age1… key, or for those in this file, and leave nothing out [repeatable]"),
        )
        .arg(super::flag("force", "Replace a file of this name"))
}

pub fn run(matches: &ArgMatches, dirs: &[PathBuf]) -> Result<(), Failure> {
    let mut names: Vec<&String> = Vec::new();
    for name in matches.get_many::<String>("name").into_iter().flatten() {
        profiles::check_name(name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut recipients = Vec::new();
    for text in matches.get_many::<String>("to").into_iter().flatten() {
        recipients.extend(recipients_of(text)?);
    }
    let whom = if recipients.is_empty() { Whom::Anybody } else { Whom::Recipient };
    let catalog = Catalog::open(dirs);
    let mut document = Document::default();
    for name in &names {
        let profile = profiles::find(name)?.ok_or_else(|| profiles::unknown(name))?;
        let descriptor = plugin(&profile, &catalog)?;
        let schemas = Schemas::of(descriptor)?;
        document.profiles.push(share::collect(&profile, descriptor, &schemas, whom)?);
    }
    let text = document.to_text();
    if text.len() as u64 > LARGEST {
        return Err(Failure::new(Exit::Failed, "the export would be larger than 8 MiB")
            .hint("export fewer profiles at once"));
    }
    let text = match whom {
        Whom::Anybody => text,
        Whom::Recipient => {
            let text = zeroize::Zeroizing::new(text);
            age::armored(&age::encrypt(text.as_bytes(), &Audience::Recipients(&recipients)))
        }
    };
    let file = matches.get_one::<PathBuf>("output").cloned().unwrap_or_else(|| file_name(&names, whom));
    if file.as_os_str() == "-" {
        crate::cli::print_unmasked(&text)?;
    } else {
        write(&file, text.as_bytes(), matches.get_flag("force")).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::usage(format!("there is a file {} already", file.display()))
                    .hint("--force replaces it, -o names another")
            }
            _ => Failure::new(Exit::Failed, format!("{} can't be written: {error}", file.display())),
        })?;
    }
    if !crate::cli::prepare::global(matches).quiet {
        told(&document, &file);
    }
    Ok(())
}

fn file_name(names: &[&String], whom: Whom) -> PathBuf {
    let name = if let [only] = names { only.as_str() } else { "profiles" };
    let end = if whom == Whom::Recipient { ".age" } else { "" };
    format!("{name}.tracemq.toml{end}").into()
}

fn told(document: &Document, file: &Path) {
    for shared in &document.profiles {
        let left: Vec<String> = shared.left_out.iter().map(ToString::to_string).collect();
        if !left.is_empty() {
            events::line(&format!("{}: left out: {}", shared.name, left.join(", ")));
        }
    }
    if file.as_os_str() != "-" {
        let names: Vec<&str> = document.profiles.iter().map(|shared| shared.name.as_str()).collect();
        events::line(&format!("{} exported to {}", names.join(", "), file.display()));
    }
}

/// The plugin of a profile, which alone knows what is a secret.
fn plugin<'a>(profile: &Profile, catalog: &'a Catalog) -> Result<&'a Descriptor, Failure> {
    let scheme = || {
        let text = profile.url.as_deref()?;
        match Reference::parse(text) {
            None => url::scheme_of(text),
            Some(reference) => url::scheme_of(&reference.resolve_url().ok()?),
        }
    };
    let (entry, what) = match (&profile.protocol, scheme()) {
        (Some(id), _) => (catalog.by_id(id), id.clone()),
        (None, Some(scheme)) => (catalog.by_scheme(&scheme), scheme),
        (None, None) => (None, "?".to_owned()),
    };
    match (entry.and_then(Entry::descriptor), entry.and_then(Entry::refusal)) {
        (Some(descriptor), _) => Ok(descriptor),
        (None, Some(refusal)) => Err(Failure::plugin(refusal)),
        (None, None) => {
            let failure = catalog.unknown(&what);
            Err(Failure {
                text: format!(
                    "profile {}: its plugin is not there to tell what is secret: {}",
                    profile.name, failure.text
                ),
                ..failure
            })
        }
    }
}

/// One recipient, or those in a file: one on each line, and comments.
fn recipients_of(text: &str) -> Result<Vec<Recipient>, Failure> {
    if text.starts_with("age1") && !Path::new(text).exists() {
        return Recipient::parse(text)
            .map(|recipient| vec![recipient])
            .map_err(|why| Failure::usage(format!("--to {text}: {why}")));
    }
    if text.starts_with("AGE-SECRET-KEY") {
        return Err(Failure::usage("--to wants a public key, age1…; this is a secret one")
            .hint("whoever sees this command line has it now: make a new one"));
    }
    let wrong = |why: String| Failure::usage(format!("--to {text}: {why}"));
    let mut content = String::new();
    std::fs::File::open(text)
        .and_then(|file| file.take(LARGEST_FILE).read_to_string(&mut content))
        .map_err(|error| wrong(format!("neither an age1… key nor a file that can be read ({error})")))?;
    let mut recipients = Vec::new();
    for (number, line) in content.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            let recipient =
                Recipient::parse(line).map_err(|why| wrong(format!("line {}: {why}", number + 1)))?;
            recipients.push(recipient);
        }
    }
    if recipients.is_empty() { Err(wrong("there is no key in it".into())) } else { Ok(recipients) }
}

/// As a whole, and readable for the owner alone: it is for them to hand on.
fn write(path: &Path, content: &[u8], replace: bool) -> std::io::Result<()> {
    if path.metadata().is_ok_and(|facts| !facts.is_file() && !facts.is_dir()) {
        // A pipe or a device takes what it is given.
        return std::fs::File::options().write(true).open(path)?.write_all(content);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    let kept = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map(drop).map_err(|error| error.error)
}
