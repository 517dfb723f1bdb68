//! One library that was found: what it is, or why it is refused.

use super::cache::{Cache, Facts, Finding, Stamp};
use super::loader::{self, Fault};
use super::trust::{self, Digest, Store, Trust};
use super::{Plugin, binary, host_api, probe};
use crate::failure::Failure;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tracemq_plugin_api::abi::PluginRef;
use tracemq_plugin_api::sdk::Descriptor;

/// A library in one of the plugin folders.
pub struct Entry {
    path: PathBuf,
    /// With links resolved: what trust is about, and the cache's key.
    real: PathBuf,
    origin: Origin,
    trust: Trust,
    /// Known when trust depends on it.
    digest: Option<Digest>,
    state: State,
    module: OnceLock<PluginRef>,
}

enum State {
    Usable(Box<Descriptor>),
    Refused {
        line: String,
        /// It would do to trust the library.
        wants_trust: bool,
        /// What the library was when it was last trusted, so that a command that needs it can say what became of it.
        was: Option<Box<Descriptor>>,
    },
}

/// A library on its way to an [`Entry`].
pub(super) enum Examined {
    Done(Entry),
    /// Trusted, and nothing is known about it yet.
    Asks(Probe),
}

pub(super) struct Probe {
    entry: Entry,
    file: File,
    stamp: Stamp,
}

/// Where a library was found: whether files there came with the program, and if not although they should, why.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    pub installed: bool,
    pub spoiled: Option<String>,
}

impl Entry {
    /// The library's name as it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the plugin says of itself; `None` when it is refused.
    pub fn descriptor(&self) -> Option<&Descriptor> {
        match &self.state {
            State::Usable(descriptor) => Some(descriptor),
            State::Refused { .. } => None,
        }
    }

    /// Why the library is not used, in one line that names it and says what to do.
    pub fn refusal(&self) -> Option<&str> {
        match &self.state {
            State::Usable(_) => None,
            State::Refused { line, .. } => Some(line),
        }
    }

    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The SHA-256 of the file as it is now, or why it can't be read.
    pub fn digest(&self) -> Result<Digest, String> {
        let digest = open(&self.real).and_then(|file| trust::digest(&file));
        digest.map_err(|error| format!("{} can't be read: {error}", self.path.display()))
    }

    pub(super) fn real(&self) -> &Path {
        &self.real
    }

    /// What the plugin says of itself, or said before it was refused.
    pub(super) fn claims(&self) -> Option<&Descriptor> {
        match &self.state {
            State::Usable(descriptor) => Some(descriptor),
            State::Refused { was, .. } => was.as_deref(),
        }
    }

    /// Whether nothing but the user's trust is missing, as far as can be told.
    pub fn wants_trust(&self) -> bool {
        matches!(self.state, State::Refused { wants_trust: true, .. })
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Takes a plugin out of use.
    pub(super) fn refuse(&mut self, why: &str) {
        let line = format!("{} {why}", self.path.display());
        self.state = State::Refused { line, wants_trust: false, was: None };
    }

    /// Opens the library and starts the plugin; another call returns the same one.
    pub fn load(&self) -> Result<Plugin, Failure> {
        let descriptor = match &self.state {
            State::Usable(descriptor) => descriptor,
            State::Refused { line, .. } => return Err(Failure::plugin(line.clone())),
        };
        let module = match self.module.get() {
            Some(module) => *module,
            None => {
                let module = self
                    .open_and_start(&descriptor.id)
                    .map_err(|why| Failure::plugin(format!("{} {why}", self.path.display())))?;
                *self.module.get_or_init(|| module)
            }
        };
        Ok(Plugin { module, descriptor: (**descriptor).clone() })
    }

    fn open_and_start(&self, id: &str) -> Result<PluginRef, String> {
        let module = match &self.digest {
            // By its name, so that a debugger finds it.
            None => loader::open(&self.real),
            Some(digest) => {
                let file = open(&self.real).map_err(|error| format!("can't be read: {error}"))?;
                let found = trust::digest(&file).map_err(|error| format!("can't be read: {error}"))?;
                if found != *digest {
                    return Err("is not trusted: its content changed just now; try again".into());
                }
                loader::open_file(file, &self.path)
            }
        };
        let module = module.map_err(|fault| fault.text)?;
        let started = (module.start())(host_api::host_for(id)).into_result();
        started.map_err(|error| {
            format!("can't be started: {}; report this to the plugin's author", error.message())
        })?;
        Ok(module)
    }
}

/// Opens without waiting: a named pipe in a plugin folder must not hold everything up.
fn open(path: &Path) -> std::io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// The name without links; of a file that isn't there, at least the whole name.
pub(super) fn real(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// Looks at a library as far as that goes without running it.
pub(super) fn examine(path: &Path, origin: &Origin, cache: &Cache, store: &Store) -> Examined {
    let mut entry = Entry {
        path: path.to_owned(),
        real: real(path),
        origin: origin.clone(),
        trust: Trust::Unknown,
        digest: None,
        state: State::Refused { line: String::new(), wants_trust: false, was: None },
        module: OnceLock::new(),
    };
    entry.state = match look(&mut entry, cache, store) {
        Ok(Look::Known(descriptor)) => State::Usable(descriptor),
        Ok(Look::Unknown(file, stamp)) => return Examined::Asks(Probe { entry, file, stamp }),
        Err(Refusal { why, wants_trust }) => State::Refused {
            line: format!("{} {why}", path.display()),
            wants_trust,
            was: cache.last(&entry.real).cloned().map(Box::new),
        },
    };
    Examined::Done(entry)
}

struct Refusal {
    why: String,
    wants_trust: bool,
}

impl From<String> for Refusal {
    fn from(why: String) -> Refusal {
        Refusal { why, wants_trust: false }
    }
}

enum Look {
    Known(Box<Descriptor>),
    Unknown(File, Stamp),
}

fn look(entry: &mut Entry, cache: &Cache, store: &Store) -> Result<Look, Refusal> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "is not there; check the name".to_owned(),
        _ => format!("can't be read: {error}"),
    };
    let metadata = entry.path.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("is not a library: it is not even a file".to_owned().into());
    }
    let stamp = Stamp::of(&metadata);
    let known = cache.get(&entry.real, stamp).cloned();
    let spoiled = match (entry.origin.installed, trust::only_owner_writes(&metadata)) {
        (true, Ok(())) => None,
        (true, Err(why)) => Some(why),
        (false, _) => entry.origin.spoiled.clone(),
    };
    if entry.origin.installed && spoiled.is_none() {
        entry.trust = Trust::Installed;
    } else if store.knows(&entry.real) {
        let digest = match known.as_ref().and_then(|facts| facts.digest.clone()) {
            Some(digest) => digest,
            None => trust::digest(&open(&entry.real).map_err(unreadable)?).map_err(unreadable)?,
        };
        entry.trust = store.look_up(&entry.real, &digest);
        entry.digest = Some(digest);
    }
    if let Some(Facts { finding: Some(finding), .. }) = known
        && entry.trust.allows()
    {
        return match finding {
            Finding::Plugin(descriptor) => Ok(Look::Known(descriptor)),
            Finding::Fault(why) => Err(why.into()),
        };
    }
    let file = open(&entry.real).map_err(unreadable)?;
    binary::inspect(&file, metadata.len())?;
    match &entry.trust {
        Trust::Installed => {}
        // What is probed is this open file, whose name may have come to stand for another.
        Trust::Digest { .. } => {
            if trust::digest(&file).map_err(unreadable)? != entry.digest.as_deref().unwrap_or_default() {
                return Err("is not trusted: its content changed just now; try again".to_owned().into());
            }
        }
        Trust::Unknown | Trust::Changed { .. } => {
            return Err(Refusal { why: untrusted(entry, spoiled.as_deref()), wants_trust: true });
        }
    }
    Ok(Look::Unknown(file, stamp))
}

/// Why a whole library is refused. `spoiled`: why it is not trusted although it came with the program.
fn untrusted(entry: &Entry, spoiled: Option<&str>) -> String {
    let command = format!("tracemq plugin trust {}", quoted(&entry.path));
    match (&entry.trust, spoiled) {
        (Trust::Changed { since }, _) => format!(
            "is not trusted: its content changed since you trusted it on {}; to trust it as it is now, run `{command}`",
            since.get(..10).unwrap_or(since)
        ),
        (_, Some(why)) => {
            format!("is not trusted although it came with tracemq: {why}; correct that, or run `{command}`")
        }
        (_, None) => format!("is not trusted; to trust it, run `{command}`"),
    }
}

impl Probe {
    /// Asks the library; this may take as long as the time limit.
    pub(super) fn run(self) -> Probed {
        let Probe { entry, file, stamp } = self;
        let result = probe::probe(&entry.path, file);
        Probed { entry, stamp, result }
    }
}

/// A library that was asked.
pub(super) struct Probed {
    entry: Entry,
    stamp: Stamp,
    result: Result<Descriptor, Fault>,
}

impl Probed {
    /// Remembers the answer, unless its cause may be gone the next time.
    pub(super) fn done(self, cache: &mut Cache) -> Entry {
        let Probed { mut entry, stamp, result } = self;
        if !result.as_ref().is_err_and(|fault| fault.passing) {
            let finding = Some(Finding::from(result.clone()));
            cache.put(&entry.real, Facts { stamp, digest: entry.digest.clone(), finding });
        }
        match result {
            Ok(descriptor) => entry.state = State::Usable(Box::new(descriptor)),
            Err(fault) => entry.refuse(&fault.text),
        }
        entry
    }
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
impl Entry {
    /// A library that was looked at before: with a descriptor a usable one, without a refused one.
    pub(super) fn known(path: &str, descriptor: Option<Descriptor>) -> Entry {
        let refused =
            |why: &str| State::Refused { line: format!("{path} {why}"), wants_trust: false, was: None };
        Entry {
            path: path.into(),
            real: path.into(),
            origin: Origin::default(),
            trust: Trust::Installed,
            digest: None,
            state: descriptor.map_or_else(|| refused("is bad"), |it| State::Usable(Box::new(it))),
            module: OnceLock::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_trusts_can_be_pasted() {
        assert_eq!(quoted(Path::new("/p/libx-1.2.so")), "/p/libx-1.2.so");
        assert_eq!(quoted(Path::new("/my p/it's.so")), r"'/my p/it'\''s.so'");
    }
}
