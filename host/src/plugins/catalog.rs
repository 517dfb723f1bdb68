//! All plugins that can be found, without opening one.
//!
//! Every command goes through here first, so this has to be quick: with a warm cache it reads two small files and asks for
//! the stamp of each library. A library that is refused stays in the list with its one line, and stops nobody else.

use super::cache::Cache;
use super::entry::{Entry, Examined, Origin, Probe, examine};
use super::search::{self, Place};
use super::trust::{Store, Trust, only_owner_writes};
use crate::failure::Failure;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// How many libraries are probed at a time.
const PROBES: usize = 4;

/// The plugins, in the order of the search path.
pub struct Catalog {
    entries: Vec<Entry>,
    schemes: HashMap<String, usize>,
    searched: Vec<PathBuf>,
    warnings: Vec<String>,
    cache: Cache,
    store: Store,
}

/// Whether a library that isn't trusted may run: what the user is asked.
#[derive(Debug)]
pub struct Question<'a> {
    pub path: &'a Path,
    pub sha256: &'a str,
    /// When another content of the file was trusted, RFC 3339.
    pub changed_since: Option<&'a str>,
}

impl Catalog {
    /// Looks into the folders given by `--plugin-dir`, and after them into the usual ones.
    pub fn open(plugin_dirs: &[PathBuf]) -> Catalog {
        let places = search::places(plugin_dirs);
        let mut catalog = Catalog {
            entries: Vec::new(),
            schemes: HashMap::new(),
            searched: places.iter().map(|place| place.folder.clone()).collect(),
            warnings: Vec::new(),
            cache: Cache::open(),
            store: Store::open(),
        };
        if let Some(problem) = catalog.store.problem() {
            catalog.warnings.push(format!("no plugin is trusted by its digest: {problem}"));
        }
        let mut examined = Vec::new();
        for place in &places {
            catalog.look_into(place, &mut examined);
        }
        catalog.entries = catalog.finish(examined);
        catalog.cache.save();
        catalog.settle();
        for place in places.iter().filter(|place| place.given) {
            let refused = catalog.entries.iter().filter(|entry| entry.path().parent() == Some(&place.folder));
            catalog.warnings.extend(refused.filter_map(Entry::refusal).map(str::to_owned));
        }
        catalog
    }

    fn look_into(&mut self, place: &Place, examined: &mut Vec<Examined>) {
        let origin = match place.folder.metadata().map(|metadata| only_owner_writes(&metadata)) {
            Ok(Err(why)) if place.installed => {
                let folder = place.folder.display();
                Origin { installed: false, spoiled: Some(format!("its folder {folder}: {why}")) }
            }
            _ => Origin { installed: place.installed, spoiled: None },
        };
        let files = match search::files(&place.folder) {
            Ok(files) => files,
            Err(error) => {
                if place.given || error.kind() != std::io::ErrorKind::NotFound {
                    self.warnings.push(format!("plugin folder {}: {error}", place.folder.display()));
                }
                return;
            }
        };
        for path in files {
            examined.push(examine(&path, &origin, &mut self.cache, &self.store));
        }
    }

    /// Asks the libraries that nothing is known about, several at a time, and keeps the order.
    fn finish(&mut self, examined: Vec<Examined>) -> Vec<Entry> {
        let mut entries: Vec<Option<Entry>> = Vec::new();
        let mut waiting: Vec<(usize, Probe)> = Vec::new();
        for (index, examined) in examined.into_iter().enumerate() {
            match examined {
                Examined::Done(entry) => entries.push(Some(entry)),
                Examined::Asks(probe) => {
                    entries.push(None);
                    waiting.push((index, probe));
                }
            }
        }
        while !waiting.is_empty() {
            let some = waiting.split_off(waiting.len().saturating_sub(PROBES));
            let probed: Vec<_> = std::thread::scope(|scope| {
                let running: Vec<_> =
                    some.into_iter().map(|(index, probe)| (index, scope.spawn(|| probe.run()))).collect();
                running.into_iter().filter_map(|(index, probe)| Some((index, probe.join().ok()?))).collect()
            });
            for (index, probed) in probed {
                entries[index] = Some(probed.done(&mut self.cache));
            }
        }
        entries.into_iter().flatten().collect()
    }

    /// Decides between plugins that claim the same: the first wins.
    fn settle(&mut self) {
        let mut ids: HashMap<String, usize> = HashMap::new();
        self.schemes.clear();
        for index in 0..self.entries.len() {
            let Some(descriptor) = self.entries[index].descriptor() else { continue };
            let id = descriptor.id.clone();
            if let Some(first) = ids.get(&id) {
                let first = self.entries[*first].path().display();
                let why = format!("is not used: {first} offers {id:?} and comes first");
                self.entries[index].refuse(&why);
                self.warnings.extend(self.entries[index].refusal().map(str::to_owned));
                continue;
            }
            for scheme in &descriptor.schemes {
                match self.schemes.get(&scheme.name) {
                    None => drop(self.schemes.insert(scheme.name.clone(), index)),
                    Some(first) => self.warnings.push(format!(
                        "{} is not used for {}: {} has this scheme too and comes first",
                        self.entries[index].path().display(),
                        scheme.name,
                        self.entries[*first].path().display(),
                    )),
                }
            }
            ids.insert(id, index);
        }
    }

    /// All libraries found, refused ones too.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The folders looked into, whether they exist or not.
    pub fn searched(&self) -> &[PathBuf] {
        &self.searched
    }

    /// What the user should know although nothing failed, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The plugin for a URL scheme. It may be one that is refused, if it is known to have been the one.
    pub fn by_scheme(&self, scheme: &str) -> Option<&Entry> {
        match self.schemes.get(scheme) {
            Some(index) => Some(&self.entries[*index]),
            None => self.refused(|was| was.schemes.iter().any(|one| one.name == scheme)),
        }
    }

    /// The plugin with this id. It may be one that is refused, if it is known to have been the one.
    pub fn by_id(&self, id: &str) -> Option<&Entry> {
        let usable = self.entries.iter().find(|entry| entry.descriptor().is_some_and(|it| it.id == id));
        usable.or_else(|| self.refused(|was| was.id == id))
    }

    fn refused(&self, is_it: impl Fn(&tracemq_plugin_api::sdk::Descriptor) -> bool) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.claims().is_some_and(&is_it))
    }

    /// As [`by_scheme`](Self::by_scheme), for a command that needs the plugin: while none is usable, the user is asked
    /// about those that aren't trusted.
    pub fn require_scheme(
        &mut self,
        scheme: &str,
        ask: impl FnMut(&Question<'_>) -> bool,
    ) -> Result<&Entry, Failure> {
        self.ask_until(ask, |catalog| catalog.by_scheme(scheme).is_some_and(usable))?;
        self.by_scheme(scheme).ok_or_else(|| self.unknown(scheme))
    }

    /// As [`by_id`](Self::by_id), likewise.
    pub fn require_id(
        &mut self,
        id: &str,
        ask: impl FnMut(&Question<'_>) -> bool,
    ) -> Result<&Entry, Failure> {
        self.ask_until(ask, |catalog| catalog.by_id(id).is_some_and(usable))?;
        self.by_id(id).ok_or_else(|| self.unknown(id))
    }

    fn ask_until(
        &mut self,
        mut ask: impl FnMut(&Question<'_>) -> bool,
        found: impl Fn(&Catalog) -> bool,
    ) -> Result<(), Failure> {
        for index in 0..self.entries.len() {
            if found(self) {
                break;
            }
            let entry = &self.entries[index];
            let changed_since = match entry.trust() {
                Trust::Unknown => None,
                Trust::Changed { since } => Some(since.as_str()),
                Trust::Installed | Trust::Digest { .. } => continue,
            };
            let Ok(sha256) = entry.digest() else { continue };
            if ask(&Question { path: entry.path(), sha256: &sha256, changed_since }) {
                let (path, real) = (entry.path().to_owned(), entry.real().to_owned());
                self.store.add(&real, &sha256).map_err(Failure::plugin)?;
                self.entries[index] = self.examine(&path);
                self.settle();
            }
        }
        Ok(())
    }

    /// Looks at one file, wherever it is.
    pub fn examine(&mut self, path: &Path) -> Entry {
        let examined = examine(path, &Origin::default(), &mut self.cache, &self.store);
        let entry = match examined {
            Examined::Done(entry) => entry,
            Examined::Asks(probe) => probe.run().done(&mut self.cache),
        };
        self.cache.save();
        entry
    }

    /// The library that a file stands for, if it is one of those found.
    pub fn by_path(&self, path: &Path) -> Option<&Entry> {
        let real = path.canonicalize().ok()?;
        self.entries.iter().find(|entry| entry.real() == real)
    }

    /// Trusts the content that a library has now, and returns what it turns out to be.
    pub fn trust(&mut self, path: &Path, sha256: &str) -> Result<Entry, Failure> {
        let real =
            path.canonicalize().map_err(|error| Failure::plugin(format!("{}: {error}", path.display())))?;
        self.store.add(&real, sha256).map_err(Failure::plugin)?;
        Ok(self.examine(path))
    }

    /// Trusts a library no longer; false when it wasn't trusted by its digest.
    pub fn distrust(&mut self, path: &Path) -> Result<bool, Failure> {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.store.remove(&real).map_err(Failure::plugin)
    }

    /// Nobody knows the scheme or protocol `what`: who is known, where it was looked, and who was refused.
    pub fn unknown(&self, what: &str) -> Failure {
        let known: Vec<String> = self
            .entries
            .iter()
            .filter_map(Entry::descriptor)
            .map(|plugin| {
                let schemes: Vec<&str> = plugin.schemes.iter().map(|scheme| scheme.name.as_str()).collect();
                format!("{} ({})", plugin.id, schemes.join(", "))
            })
            .collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let searched: Vec<String> = self.searched.iter().map(|folder| folder.display().to_string()).collect();
        let failure = Failure::plugin(format!(
            "no plugin knows {what:?}; known: {known}; looked in {}",
            searched.join(", ")
        ));
        let refused: Vec<&str> = self.entries.iter().filter_map(Entry::refusal).collect();
        match refused.as_slice() {
            [] => failure,
            [one] => failure.hint(*one),
            more => failure.hint(format!("{} more were refused: see `tracemq plugin list`", more.len())),
        }
    }
}

fn usable(entry: &Entry) -> bool {
    entry.descriptor().is_some()
}
