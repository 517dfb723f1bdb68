//! TARGET: a profile's name, or a URL whose scheme names the plugin, or, when serving, a protocol's name.

use super::args::{Action, Flags};
use super::help::Offer;
use super::url::{self, Address};
use crate::failure::Failure;
use crate::options::{Kind, Reference};
use crate::plugins::{Catalog, Entry, Question};
use crate::profiles::{self, Profile};
use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Write};
use tracemq_plugin_api::sdk::{Descriptor, Wanted};

/// What a command acts on.
pub struct Target {
    /// As it may be shown.
    pub shown: String,
    /// The URL with references resolved, and its parts.
    pub url: Option<(String, Address)>,
    pub profile: Option<Profile>,
    /// The protocol's name, when it was said and not left to the scheme.
    pub protocol: Option<String>,
    /// A secret stands in what was typed.
    pub in_clear: bool,
    /// The URL was typed, and no reference to it.
    typed: bool,
}

impl Target {
    /// Understands what was typed.
    pub fn read(text: &str, action: Action, catalog: &Catalog) -> Result<Target, Failure> {
        if let Some(reference) = Reference::parse(text) {
            let url = reference.resolve_url().map_err(|why| Failure::usage(format!("TARGET: {why}")))?;
            if !url.contains("://") {
                // It is not to be repeated: it may be a password in the wrong place.
                return Err(Failure::usage(
                    "TARGET: what it refers to is no URL: it has no scheme, as in SCHEME://HOST:PORT",
                ));
            }
            return Target::of_url(url.trim(), false);
        }
        if url::scheme_of(text).is_some() {
            return Target::of_url(text, true);
        }
        if (!action.serves() || catalog.by_id(text).is_none())
            && let Some(profile) = profiles::find(text)?
        {
            return Target::of_profile(profile);
        }
        if action.serves() && profiles::check_name(text).is_ok() {
            // Whether there is such a protocol may depend on whom the user trusts.
            let protocol = Some(text.to_owned());
            return Ok(Target {
                shown: text.to_owned(),
                url: None,
                profile: None,
                protocol,
                in_clear: false,
                typed: false,
            });
        }
        if profiles::check_name(text).is_err() {
            return match Address::parse(text) {
                Ok(_) => Target::of_url(text, true),
                Err(why) => Err(Failure::usage(format!("TARGET: {why}"))
                    .hint("a target is a profile's name or a URL like SCHEME://HOST:PORT")),
            };
        }
        Err(match catalog.by_id(text).and_then(Entry::descriptor) {
            Some(plugin) => {
                let scheme = plugin.schemes.first().map_or(text, |scheme| scheme.name.as_str());
                Failure::usage(format!("{text} is a protocol, and there is no profile of this name"))
                    .hint(format!("write a URL, such as {scheme}://HOST"))
            }
            None => profiles::unknown(text),
        })
    }

    fn of_url(text: &str, typed: bool) -> Result<Target, Failure> {
        let address = Address::parse(text).map_err(|why| Failure::usage(format!("TARGET: {why}")))?;
        let shown = address.shown.clone();
        let in_clear = typed && shown != text;
        let url = Some((text.to_owned(), address));
        Ok(Target { shown, url, profile: None, protocol: None, in_clear, typed })
    }

    /// The target that a profile stands for. What it refers to is resolved.
    pub fn of_profile(profile: Profile) -> Result<Target, Failure> {
        let in_profile = |why: String| Failure::usage(format!("profile {}: {why}", profile.name));
        let url = match &profile.url {
            None => None,
            Some(text) => {
                let resolved = match Reference::parse(text) {
                    Some(reference) => {
                        let url = reference.resolve_url().map_err(|why| in_profile(format!("url: {why}")))?;
                        if !url.contains("://") {
                            return Err(in_profile(
                                "what its url refers to is no URL: it has no scheme".into(),
                            ));
                        }
                        url.reveal()
                    }
                    None => text.clone(),
                };
                let resolved = resolved.trim().to_owned();
                let address = Address::parse(&resolved).map_err(in_profile)?;
                if Reference::parse(text).is_none() && address.shown != *text {
                    return Err(secret_in_url(&profile.name, "password"));
                }
                Some((resolved, address))
            }
        };
        let protocol = profile.protocol.clone();
        let shown = profile.name.clone();
        Ok(Target { shown, url, profile: Some(profile), protocol, in_clear: false, typed: false })
    }

    /// The plugin, asking the user to trust it if there is a terminal to ask on.
    pub fn entry<'a>(&self, catalog: &'a mut Catalog) -> Result<&'a Entry, Failure> {
        let entry = match (&self.protocol, &self.url) {
            (Some(id), _) => catalog.require_id(id, ask)?,
            (None, Some((_, address))) => catalog.require_scheme(&address.scheme, ask)?,
            (None, None) => {
                return Err(Failure::usage(format!(
                    "profile {}: it has neither url nor protocol",
                    self.shown
                )));
            }
        };
        if let Some(refusal) = entry.refusal() {
            return Err(Failure::plugin(refusal));
        }
        Ok(entry)
    }

    /// Whether the URL fits what the plugin says of its schemes and of the user.
    pub fn check(&mut self, descriptor: &Descriptor, action: Action) -> Result<(), Failure> {
        let Some((_, address)) = &self.url else {
            if action.serves() || action == Action::Profile {
                return Ok(());
            }
            return Err(Failure::usage(format!("profile {}: it has no url to connect to", self.shown)));
        };
        if address.has_token(descriptor) {
            self.in_clear |= self.typed;
            if let Some(profile) = &self.profile
                && profile.url.as_deref().is_some_and(|url| Reference::parse(url).is_none())
            {
                return Err(secret_in_url(&profile.name, "token"));
            }
        }
        let wrong = |why: String| Failure::usage(format!("{} is not a URL: {why}", address.shown));
        let Some(scheme) = descriptor.schemes.iter().find(|scheme| scheme.name == address.scheme) else {
            let known: Vec<&str> = descriptor.schemes.iter().map(|scheme| scheme.name.as_str()).collect();
            return Err(wrong(format!(
                "{} has no scheme {}, it has {}",
                descriptor.name,
                address.scheme,
                known.join(", ")
            )));
        };
        let is_url = !url::is_connection_string(&address.shown);
        let needs_host = !descriptor.capabilities.iter().any(|name| name == "default-host");
        if scheme.port.is_some() && is_url && address.hosts.is_empty() && needs_host {
            return Err(wrong("the host is missing".into()));
        }
        if !action.serves() && address.hosts.iter().any(|host| host.port == Some(0)) {
            return Err(wrong("nobody listens on port 0".into()));
        }
        Ok(())
    }

    fn id<'a>(&'a self, catalog: &'a Catalog) -> Option<&'a str> {
        let entry = match (&self.protocol, &self.url) {
            (Some(id), _) => return Some(id),
            (None, Some((_, address))) => catalog.by_scheme(&address.scheme)?,
            (None, None) => return None,
        };
        Some(entry.descriptor()?.id.as_str())
    }
}

/// A profile holds a secret in its URL, which the option of this name would take.
fn secret_in_url(profile: &str, option: &str) -> Failure {
    Failure::usage(format!("profile {profile}: a secret stands in clear in its url")).hint(format!(
        "`tracemq secret set {profile}-{option}` keeps it in the vault: take it out of the url, and write {option} = \
         \"vault:{profile}-{option}\" under [connection]; or make the whole url a reference, such as vault:{profile}-url"
    ))
}

/// Whether publishing takes a topic. Where the plugin says so, the path of the URL is one, and none needs to follow.
pub fn publish_topic(descriptor: &Descriptor, url: Option<&str>) -> Wanted {
    let wanted = descriptor.topics.publish;
    let path = url.and_then(|url| url.split_once("://")?.1.split_once('/')).map_or("", |(_, path)| path);
    let named = !path.is_empty() && descriptor.capabilities.iter().any(|name| name == "path-is-topic");
    if wanted == Wanted::Required && named { Wanted::Optional } else { wanted }
}

/// Finds TARGET among the words of a command. `at` is its place among the positionals, `action` tells from the
/// positionals before it, and from it, what is to be done. `None`: there is none.
pub fn find(
    words: &[OsString],
    own: &Flags,
    at: usize,
    action: impl Fn(&[&str], &str) -> Action,
    catalog: &Catalog,
) -> Option<(String, Action)> {
    let pick = |flags: &Flags| {
        let places = flags.positionals(words);
        let target = words.get(*places.get(at)?)?.to_str()?.to_owned();
        let before: Vec<&str> = places[..at].iter().filter_map(|place| words[*place].to_str()).collect();
        let action = action(&before, &target);
        Some((target, action))
    };
    // With no flag before it, there is nothing to find out.
    if words.iter().take(at + 1).all(|word| !word.to_string_lossy().starts_with('-')) {
        return pick(own);
    }
    let mut union = own.clone();
    for descriptor in catalog.entries().iter().filter_map(Entry::descriptor) {
        let mut flags = own.clone();
        for (name, takes) in flags_of(descriptor) {
            flags.add(name.clone(), takes);
            union.add(name, takes);
        }
        if let Some((text, action)) = pick(&flags)
            && let Ok(target) = Target::read(&text, action, catalog)
            && target.id(catalog) == Some(descriptor.id.as_str())
        {
            return Some((text, action));
        }
    }
    let found = pick(&union);
    if found.as_ref().is_some_and(|(text, action)| Target::read(text, *action, catalog).is_ok()) {
        return found;
    }
    // An unknown flag may have led astray. If there is a URL that some plugin knows, that plugin will name the flag.
    let known = |text: &str| url::scheme_of(text).is_some_and(|scheme| catalog.by_scheme(&scheme).is_some());
    let places = union.positionals(words);
    let url = places.iter().filter_map(|place| words[*place].to_str()).find(|text| known(text));
    url.and_then(|url| Some((url.to_owned(), found.as_ref()?.1))).or(found)
}

/// All flags of a plugin, in whatever command, and whether they take the next word for a value.
fn flags_of(descriptor: &Descriptor) -> Vec<(String, bool)> {
    let offers =
        [Action::Profile, Action::Serve, Action::Request].map(|action| Offer::new(action, descriptor));
    let specs = offers.iter().flatten().flat_map(Offer::specs);
    specs.map(|spec| (spec.flag(), spec.kind != Kind::Boolean)).collect()
}

/// Asks on the terminal whether a library may run. Without a terminal it may not.
pub fn ask(question: &Question<'_>) -> bool {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return false;
    }
    let path = question.path.display();
    let why = match question.changed_since {
        Some(since) => format!("has changed since you trusted it ({since})"),
        None => "is not trusted yet".to_owned(),
    };
    let asked = write!(
        stderr,
        "{path} {why}.\nSHA-256 {}\nIts code would run as you. Trust it? [y/N] ",
        question.sha256
    );
    if asked.and_then(|()| stderr.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).is_ok()
        && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}
