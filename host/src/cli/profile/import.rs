//! `tracemq profile import`: profiles of somebody else, of another program, or out of a URL.
//!
//! First it is shown what would be written, then asked; nothing is written before all is decided, and then all of it or nothing.

use crate::cli::{ask, url};
use crate::failure::{Exit, Failure};
use crate::options::{Reference, is_reference};
use crate::output::events;
use crate::plugins::Catalog;
use crate::profiles;
use crate::redact::Secret;
use crate::share::document::{self, Document};
use crate::share::plan::{Plan, Planned};
use crate::share::{self, LARGEST, LeftOut, Place, foreign, intake};
use crate::terminal;
use crate::vault::{self, age};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The name of our own format, and that of a lone URL.
const OURS: &str = "tracemq";
const URL: &str = "url";

pub fn command() -> Command {
    Command::new("import")
        .about("Take over profiles from a file, another program or a URL")
        .long_about(
            "Take over profiles from an export of tracemq, from a file of another program, or from a URL or connection \
             string. What would be written is shown first. Secrets that are in it go to the vault, certificates into files \
             beside the profiles; for what an export has left out you are asked, or --secret says it. Nothing that is there \
             is replaced without --force, and a command in a reference (cmd:) is taken over only when you allow it.",
        )
        .arg(
            Arg::new("source")
                .value_name("FILE|URL")
                .required(true)
                .help("An export, a file of another program, a URL, env:NAME that holds one; - is stdin"),
        )
        .arg(Arg::new("name").long("name").value_name("NAME").help("Call the profile so, if there is one"))
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("[PLUGIN:]FORMAT")
                .help("What the file is, if it isn't recognised; `tracemq plugin info` tells which formats a plugin reads"),
        )
        .arg(
            Arg::new("secret")
                .long("secret")
                .value_name("[PROFILE:]OPTION=REF")
                .action(ArgAction::Append)
                .help("A secret or file that the export has left out: vault:NAME, env:NAME, file:PATH [repeatable]"),
        )
        .arg(
            Arg::new("identity")
                .long("identity")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The age identity that opens an encrypted export [default: the vault's]"),
        )
        .arg(super::flag("yes", "Write without asking"))
        .arg(super::flag("force", "Replace profiles of the same names"))
        .arg(super::flag("allow-commands", "Take over references that run a command (cmd:)"))
}

pub fn run(matches: &ArgMatches, dirs: &[PathBuf]) -> Result<(), Failure> {
    let source = matches.get_one::<String>("source").cloned().unwrap_or_default();
    let catalog = Catalog::open(dirs);
    let (mut plan, what) = read(&source, matches, &catalog)?;
    if let Some(name) = matches.get_one::<String>("name") {
        profiles::check_name(name)?;
        let [planned] = &mut plan.profiles[..] else {
            return Err(Failure::usage(format!("--name: there are {} profiles in it", plan.profiles.len())));
        };
        planned.profile.name.clone_from(name);
    }
    for planned in &plan.profiles {
        super::not_a_protocol(&planned.profile.name, &catalog)?;
    }
    for answer in matches.get_many::<String>("secret").into_iter().flatten() {
        take_answer(answer, &mut plan)?;
    }
    show(&plan, &what)?;
    let replace = agreed(&plan, matches)?;
    if ask::can_ask() {
        plan.profiles.iter_mut().try_for_each(ask_for_missing)?;
    }
    let settled = plan.settle()?;
    share::write(&settled, replace)?;
    if !crate::cli::prepare::global(matches).quiet {
        for profile in &settled.profiles {
            events::line(&format!("profile {} saved", profile.name));
        }
        settled.todo.iter().for_each(|line| events::line(line));
    }
    Ok(())
}

/// The plan for a source, and what the source is.
fn read(source: &str, matches: &ArgMatches, catalog: &Catalog) -> Result<(Plan, String), Failure> {
    let format = matches.get_one::<String>("from").map(String::as_str);
    if let Some(reference) = Reference::parse(source) {
        let text = reference.resolve_url().map_err(|why| Failure::usage(format!("FILE|URL: {why}")))?;
        return Ok((intake::url(text.trim(), catalog)?, "the URL".into()));
    }
    if url::scheme_of(source).is_some() && format.is_none_or(|format| format == URL) {
        let plan = intake::url(source, catalog)?;
        if plan.profiles.iter().any(|planned| !planned.secrets.is_empty()) {
            log::warn!(
                "the secret in the URL stands in clear on the command line, where ps shows it to everybody; env:NAME or \
                 file:PATH in its place would not"
            );
        }
        return Ok((plan, "the URL".into()));
    }
    let (content, name) = content(source)?;
    let content = match age::is_age(&content) {
        true => decrypted(&content, source, matches)?,
        false => content,
    };
    let text = std::str::from_utf8(&content).ok().map(str::trim);
    let ours = name.ends_with(".tracemq.toml") || text.is_some_and(document::is_one);
    match (format, text) {
        (Some(OURS), _) | (None, Some(_)) if ours || format.is_some() => {
            let text = text.ok_or_else(|| Failure::usage(format!("{source}: it is not UTF-8 text")))?;
            let document = Document::parse(text).map_err(|why| Failure::usage(format!("{source}: {why}")))?;
            Ok((intake::document(document, catalog)?, source.to_owned()))
        }
        (Some(URL), Some(text)) => Ok((intake::url(text, catalog)?, "the URL".into())),
        (None, Some(text))
            if !text.contains('\n')
                && url::scheme_of(text).is_some()
                && !text.starts_with(['-', '{', '[']) =>
        {
            Ok((intake::url(text, catalog)?, "the URL".into()))
        }
        (format, _) => {
            let (plan, title) = foreign::read(&content, format, &name, catalog)
                .map_err(|failure| Failure { text: format!("{source}: {}", failure.text), ..failure })?;
            Ok((plan, format!("{source}, {title}")))
        }
    }
}

/// The content of a file or of stdin, and the file's name without its folder.
fn content(source: &str) -> Result<(Zeroizing<Vec<u8>>, String), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("{source} can't be read: {error}"));
    let mut content = Zeroizing::new(Vec::new());
    let name = if source == "-" {
        std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut content).map_err(failed)?;
        String::new()
    } else {
        let file = std::fs::File::open(source).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::usage(format!("there is no file {source}"))
                .hint("a URL is written with its scheme, as in SCHEME://HOST"),
            _ => failed(error),
        })?;
        file.take(LARGEST + 1).read_to_end(&mut content).map_err(failed)?;
        Path::new(source).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    if content.len() as u64 > LARGEST {
        return Err(Failure::usage(format!("{source} is larger than 8 MiB, which no profiles are")));
    }
    Ok((content, name))
}

fn decrypted(content: &[u8], source: &str, matches: &ArgMatches) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: age::Error| {
        let failure = Failure::new(Exit::Failed, format!("{source}: it can't be opened: {error}"));
        match error {
            age::Error::NoMatch => failure.hint(
                "--identity FILE names the key that it was encrypted for; for yours, give `tracemq secret \
                 export-identity --public` to whoever exports",
            ),
            _ => failure,
        }
    };
    if age::wants_pass_phrase(content).map_err(failed)? {
        let phrase = vault::pass_phrase(source)?;
        return age::decrypt(content, &age::Key::PassPhrase(&phrase)).map_err(failed);
    }
    let identities = match matches.get_one::<PathBuf>("identity") {
        Some(path) => vault::identities_in(path)?,
        None => vault::identities()?,
    };
    age::decrypt(content, &age::Key::Identities(&identities)).map_err(failed)
}

/// What would be written, on stderr.
fn show(plan: &Plan, what: &str) -> Result<(), Failure> {
    events::line(&format!("from {what}:"));
    for planned in &plan.profiles {
        let profile = &planned.profile;
        let protocol = profile.protocol.as_deref().unwrap_or_default();
        events::line(&format!("profile {} ({protocol})", profile.name));
        let mut shown = profile.clone();
        shown.protocol = None;
        shown
            .to_toml()
            .lines()
            .filter(|line| !line.is_empty())
            .for_each(|line| events::line(&format!("  {line}")));
        for (place, _) in &planned.secrets {
            events::line(&format!("  {place} goes to the vault"));
        }
        for (place, content) in &planned.files {
            let path = planned.path(place, Some(content))?;
            events::line(&format!("  {place}: {} bytes go to {}", content.len(), path.display()));
        }
        for (place, reference) in &planned.references {
            events::line(&format!("  {place} refers to {reference}, as the file says"));
        }
        for left in &planned.missing {
            events::line(&format!("  missing: {left}"));
        }
        planned.notes.iter().for_each(|note| events::line(&format!("  note: {note}")));
    }
    plan.notes.iter().for_each(|note| events::line(&format!("note: {note}")));
    Ok(())
}

/// Asks what needs the user's consent. Returns whether profiles may be replaced.
fn agreed(plan: &Plan, matches: &ArgMatches) -> Result<bool, Failure> {
    let asks = ask::can_ask();
    if !matches.get_flag("allow-commands") {
        for planned in &plan.profiles {
            for (place, command) in planned.commands() {
                let name = &planned.profile.name;
                let asked =
                    || ask::yes(&format!("profile {name}: {place} would run {command:?}. Allow it?"), false);
                if !asks || !asked()? {
                    return Err(Failure::new(
                        Exit::Refused,
                        format!("profile {name}: {place} would run a command of whoever wrote the file"),
                    )
                    .hint("nothing was imported; --allow-commands takes it over, --secret sets the option otherwise"));
                }
            }
        }
    }
    let mut replace = matches.get_flag("force");
    for planned in &plan.profiles {
        let name = &planned.profile.name;
        if !replace && profiles::path_for(name)?.symlink_metadata().is_ok() {
            let asked = || ask::yes(&format!("There is a profile {name} already. Replace it?"), false);
            if matches.get_flag("yes") || !asks || !asked()? {
                return Err(Failure::usage(format!("there is a profile {name} already"))
                    .hint("nothing was imported; --force replaces it, --name gives this one another name"));
            }
            replace = true;
        }
    }
    if matches.get_flag("yes") {
        return Ok(replace);
    }
    if !asks {
        return Err(Failure::usage("there is no terminal to ask on whether this is wanted")
            .hint("nothing was imported; --yes imports what is shown above"));
    }
    match ask::yes("Import this?", false)? {
        true => Ok(replace),
        false => Err(Failure::new(Exit::Failed, "nothing was imported")),
    }
}

/// Asks for what an export has left out. An empty answer leaves it for later.
fn ask_for_missing(planned: &mut Planned) -> Result<(), Failure> {
    let mut later = Vec::new();
    for left in std::mem::take(&mut planned.missing) {
        let name = planned.profile.name.clone();
        loop {
            let answer = match left.kind.is_file() {
                true => ask::line(&format!("{name}: path of {left}; empty for later"), "")?,
                false => terminal::hidden(&format!(
                    "{name}: {left}, itself or vault:NAME, env:NAME, file:PATH; empty for later: "
                ))?
                .reveal(),
            };
            if answer.is_empty() {
                later.push(left);
                break;
            }
            match complete(planned, &left, &answer) {
                Ok(()) => break,
                Err(why) => events::line(&why),
            }
        }
    }
    planned.missing = later;
    Ok(())
}

/// `--secret [PROFILE:]OPTION=REF`
fn take_answer(text: &str, plan: &mut Plan) -> Result<(), Failure> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(Failure::usage("--secret: write it as OPTION=REF, such as password=env:NAME"));
    };
    let (profile, option) = match key.split_once(':') {
        Some((profile, option)) => (Some(profile), option),
        None => (None, key),
    };
    let mut found = Vec::new();
    for (index, planned) in plan.profiles.iter().enumerate() {
        if profile.is_none_or(|name| name == planned.profile.name) {
            let places = planned.missing.iter().enumerate();
            found.extend(places.filter(|(_, left)| left.place.is_called(option)).map(|(at, _)| (index, at)));
        }
    }
    let [(index, at)] = found[..] else {
        let missing: Vec<String> = plan
            .profiles
            .iter()
            .flat_map(|planned| {
                planned.missing.iter().map(|left| format!("{}:{}", planned.profile.name, left.place))
            })
            .collect();
        return Err(match (found.is_empty(), missing.is_empty()) {
            (true, true) => Failure::usage(format!("--secret {key}: nothing is missing in the file")),
            (true, false) => Failure::usage(format!("--secret {key}: this is not missing in the file"))
                .hint(format!("missing: {}", missing.join(", "))),
            (false, _) => Failure::usage(format!("--secret {key}: this is missing in several profiles"))
                .hint(format!("write --secret PROFILE:{option}=REF")),
        });
    };
    let planned = &mut plan.profiles[index];
    let left = planned.missing[at].clone();
    complete(planned, &left, value).map_err(|why| Failure::usage(format!("--secret {key}: {why}")))?;
    planned.missing.remove(at);
    if !left.kind.is_file() && !is_reference(value) {
        log::warn!(
            "--secret {key} stands in clear on the command line, where ps shows it to everybody; it goes to the vault, but \
             env:NAME or file:PATH in its place would not have been seen"
        );
    }
    Ok(())
}

/// Gives what was missing its value.
fn complete(planned: &mut Planned, left: &LeftOut, value: &str) -> Result<(), String> {
    let absolute = |path: &str| std::path::absolute(path).map_err(|error| error.to_string());
    if left.kind.is_file() {
        let path = absolute(value.strip_prefix("file:").unwrap_or(value))?.to_string_lossy().into_owned();
        if let Some(spec) = planned.spec(&left.place) {
            spec.check_file(&path)?;
        }
        planned.put(&left.place, path);
        return Ok(());
    }
    match Reference::parse(value) {
        Some(Reference::File(path)) => {
            let path = absolute(&path.to_string_lossy())?;
            planned.put(&left.place, format!("file:{}", path.display()));
        }
        Some(_) => planned.put(&left.place, value.to_owned()),
        None if value.is_empty() => return Err("it is empty".into()),
        None => {
            if left.place == Place::url() {
                url::Address::parse(value)?;
            }
            planned.secrets.push((left.place.clone(), Secret::new(value.to_owned())));
        }
    }
    Ok(())
}
