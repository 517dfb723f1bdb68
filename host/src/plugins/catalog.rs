//! All plugins that can be found, without opening one.
//!
//! Every command goes through here first, so this has to be quick: with a warm cache it reads two small files and asks for
//! the stamp of each library. A library that is refused stays in the list with its one line, and stops nobody else.

use super::cache::Cache;
use super::entry::{Entry, Examined, Origin, Probe, examine, real};
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
            let here = catalog.entries.iter().filter(|entry| entry.path().parent() == Some(&place.folder));
            let refused = here.filter_map(Entry::refusal).map(str::to_owned);
            refused.for_each(|line| warn(&mut catalog.warnings, line));
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
            examined.push(examine(&path, &origin, &self.cache, &self.store));
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
                let line = self.entries[index].refusal().map(str::to_owned);
                line.into_iter().for_each(|line| warn(&mut self.warnings, line));
                continue;
            }
            for scheme in &descriptor.schemes {
                match self.schemes.get(&scheme.name) {
                    None => drop(self.schemes.insert(scheme.name.clone(), index)),
                    Some(first) => {
                        let (path, first) = (self.entries[index].path(), self.entries[*first].path());
                        let (path, first, scheme) = (path.display(), first.display(), &scheme.name);
                        let line =
                            format!("{path} is not used for {scheme}://: {first} has it too and comes first");
                        warn(&mut self.warnings, line);
                    }
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
            if !entry.wants_trust() {
                continue;
            }
            let changed_since = match entry.trust() {
                Trust::Changed { since } => Some(since.as_str()),
                _ => None,
            };
            let Ok(sha256) = entry.digest() else { continue };
            if ask(&Question { path: entry.path(), sha256: &sha256, changed_since }) {
                self.trust(index, &sha256)?;
                self.settle();
            }
        }
        Ok(())
    }

    /// The place in [`entries`](Self::entries) of a library by its name: one of those found, or else any file.
    pub fn place_of_path(&mut self, path: &Path) -> usize {
        let real = real(path);
        self.entries.iter().position(|entry| entry.real() == real).unwrap_or_else(|| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let entry = Self::look_at(&mut self.cache, &self.store, &path, &Origin::default());
            self.entries.push(entry);
            self.entries.len() - 1
        })
    }

    /// The place in [`entries`](Self::entries) of the plugin with this id.
    pub fn place_of_id(&self, id: &str) -> Option<usize> {
        let found = self.by_id(id)?;
        self.entries.iter().position(|entry| std::ptr::eq(entry, found))
    }

    fn look_at(cache: &mut Cache, store: &Store, path: &Path, origin: &Origin) -> Entry {
        match examine(path, origin, cache, store) {
            Examined::Done(entry) => entry,
            Examined::Asks(probe) => {
                let entry = probe.run().done(cache);
                cache.save();
                entry
            }
        }
    }

    /// Looks at a library once more, whatever the cache remembers of it.
    fn look_again(cache: &mut Cache, store: &Store, entry: &Entry) -> Entry {
        cache.forget(entry.real());
        Self::look_at(cache, store, entry.path(), entry.origin())
    }

    /// Looks at a library once more: what it needs may be there by now.
    pub fn again(&mut self, place: usize) {
        self.entries[place] = Self::look_again(&mut self.cache, &self.store, &self.entries[place]);
    }

    /// Trusts a library with this content, and looks what it turns out to be.
    pub fn trust(&mut self, place: usize, sha256: &str) -> Result<(), Failure> {
        self.store.add(self.entries[place].real(), sha256).map_err(Failure::plugin)?;
        self.again(place);
        Ok(())
    }

    /// Trusts a library no longer; false when it wasn't trusted by its digest.
    pub fn distrust(&mut self, place: usize) -> Result<bool, Failure> {
        self.store.remove(self.entries[place].real()).map_err(Failure::plugin)
    }

    /// Nobody knows the scheme or protocol `what`: who is known, where it was looked, and who was refused.
    pub fn unknown(&self, what: &str) -> Failure {
        if let Some(plugin) = self.by_scheme(what).and_then(Entry::descriptor) {
            let failure = Failure::usage(format!("{what} is a scheme of URLs, and no plugin's name"));
            return failure.hint(format!("write {what}://HOST:PORT, or {}", plugin.id));
        }
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
        let refused: Vec<&Entry> = self.entries.iter().filter(|entry| entry.refusal().is_some()).collect();
        // One that only wants trust is the likeliest to have been meant.
        let untrusted: Vec<&Entry> = refused.iter().copied().filter(|entry| entry.wants_trust()).collect();
        match (untrusted.as_slice(), refused.as_slice()) {
            (_, []) => failure,
            ([one], _) | ([], [one]) => failure.hint(one.refusal().unwrap_or_default()),
            (_, several) => {
                failure.hint(format!("{} libraries were refused: see `tracemq plugin list`", several.len()))
            }
        }
    }
}

fn warn(warnings: &mut Vec<String>, line: String) {
    if !warnings.contains(&line) {
        warnings.push(line);
    }
}

fn usable(entry: &Entry) -> bool {
    entry.descriptor().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn library(path: &str, id: &str, schemes: &[&str]) -> Entry {
        let schemes: Vec<_> = schemes.iter().map(|name| json!({ "name": name })).collect();
        let none = json!({"type": "object"});
        let schemas =
            json!({"connection": none, "publish": none, "subscribe": none, "request": none, "serve": none});
        let text = json!({"id": id, "name": id, "version": "1", "api": "1.0.0", "schemes": schemes,
            "verbs": ["publish"], "schemas": schemas});
        Entry::known(path, Some(serde_json::from_value(text).unwrap()))
    }

    fn catalog(entries: Vec<Entry>) -> Catalog {
        let mut catalog = Catalog {
            entries,
            schemes: HashMap::new(),
            searched: vec!["/p".into(), "/q".into()],
            warnings: Vec::new(),
            cache: Cache::at(None, String::new()),
            store: Store::at(Some("/nowhere/trust.toml".into())),
        };
        catalog.settle();
        catalog
    }

    fn path(entry: Option<&Entry>) -> Option<&str> {
        entry.and_then(|entry| entry.path().to_str())
    }

    #[test]
    fn the_first_of_two_that_claim_a_scheme_has_it_and_the_other_keeps_the_rest() {
        let catalog =
            catalog(vec![library("/p/a.so", "a", &["x", "y"]), library("/q/b.so", "b", &["y", "z"])]);
        assert_eq!(path(catalog.by_scheme("y")), Some("/p/a.so"));
        assert_eq!(path(catalog.by_scheme("z")), Some("/q/b.so"));
        assert_eq!(path(catalog.by_id("b")), Some("/q/b.so"));
        assert_eq!(catalog.warnings(), ["/q/b.so is not used for y://: /p/a.so has it too and comes first"]);
    }

    #[test]
    fn the_second_of_two_with_one_id_is_refused_as_a_whole() {
        let catalog = catalog(vec![library("/p/a.so", "a", &["x"]), library("/q/a.so", "a", &["x", "y"])]);
        assert_eq!(path(catalog.by_id("a")), Some("/p/a.so"));
        assert_eq!(path(catalog.by_scheme("y")), None);
        let line = "/q/a.so is not used: /p/a.so offers \"a\" and comes first";
        assert_eq!(catalog.entries()[1].refusal(), Some(line));
        assert_eq!(catalog.warnings(), [line]);
        assert!(catalog.entries()[1].load().is_err_and(|failure| failure.text == line));
    }

    #[test]
    fn who_is_unknown_learns_who_is_known_and_where_it_was_looked() {
        let mut catalog =
            catalog(vec![Entry::known("/p/bad.so", None), library("/q/b.so", "b", &["y", "z"])]);
        let failure = catalog.require_scheme("x", |_| panic!("nothing there wants trust")).err().unwrap();
        assert_eq!(failure.exit, crate::failure::Exit::Plugin);
        assert_eq!(
            failure.to_string(),
            "no plugin knows \"x\"; known: b (y, z); looked in /p, /q; /p/bad.so is bad"
        );
        // Somebody has left out the rest of a URL.
        assert_eq!(
            catalog.unknown("y").to_string(),
            "y is a scheme of URLs, and no plugin's name; write y://HOST:PORT, or b"
        );
    }
}
