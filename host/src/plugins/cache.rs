//! What was learnt about libraries, so that a command need not ask again: one JSON file.
//!
//! A library's facts hold for its stamp: a file that was written to or replaced is looked at anew. The whole cache is for
//! one build of this program, since another might judge a library differently. It only saves time: a damaged cache is
//! made again, and one that can't be written is done without. It grants nothing: what runs is decided by [`super::trust`].

use super::loader::Fault;
use super::trust::Digest;
use crate::folders;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tracemq_plugin_api::sdk::Descriptor;

/// What changes when a file's content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What a probe found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Finding {
    Plugin(Box<Descriptor>),
    /// What is wrong with the library, after its name.
    Fault(String),
}

/// What is known about the file of a stamp.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    pub stamp: Stamp,
    pub digest: Option<Digest>,
    pub finding: Option<Finding>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    host: String,
    libraries: BTreeMap<PathBuf, Facts>,
}

#[derive(Debug)]
pub struct Cache {
    path: Option<PathBuf>,
    content: Content,
    changed: bool,
}

impl Cache {
    pub fn open() -> Cache {
        Cache::at(folders::cache().map(|folder| folder.join("plugins.json")), this_build())
    }

    pub(super) fn at(path: Option<PathBuf>, host: String) -> Cache {
        let content = path.as_deref().and_then(|path| std::fs::read(path).ok());
        let content = content
            .and_then(|text| serde_json::from_slice(&text).ok())
            .filter(|content: &Content| content.host == host)
            .unwrap_or_else(|| Content { host, libraries: BTreeMap::new() });
        Cache { path, content, changed: false }
    }

    /// What is known about the library, if it is still the same file.
    pub fn get(&self, path: &Path, stamp: Stamp) -> Option<&Facts> {
        self.content.libraries.get(path).filter(|facts| facts.stamp == stamp)
    }

    /// What the library was when it was last looked at, changed or not.
    pub fn last(&self, path: &Path) -> Option<&Descriptor> {
        match &self.content.libraries.get(path)?.finding {
            Some(Finding::Plugin(descriptor)) => Some(descriptor),
            _ => None,
        }
    }

    pub fn put(&mut self, path: &Path, facts: Facts) {
        // A path that is not text can't be a key in JSON, and is looked at every time.
        if path.to_str().is_some() {
            self.content.libraries.insert(path.into(), facts);
            self.changed = true;
        }
    }

    pub fn forget(&mut self, path: &Path) {
        self.changed |= self.content.libraries.remove(path).is_some();
    }

    /// Writes what is new, and leaves out what is gone.
    pub fn save(&mut self) {
        let Some(path) = self.path.as_deref().filter(|_| self.changed) else { return };
        self.content.libraries.retain(|path, _| path.exists());
        let saved = serde_json::to_vec(&self.content)
            .map_err(std::io::Error::from)
            .and_then(|text| folders::write(path, &text));
        match saved {
            Ok(()) => self.changed = false,
            Err(error) => log::debug!("the plugin cache {} can't be written: {error}", path.display()),
        }
    }
}

impl From<Result<Descriptor, Fault>> for Finding {
    fn from(result: Result<Descriptor, Fault>) -> Finding {
        match result {
            Ok(descriptor) => Finding::Plugin(Box::new(descriptor)),
            Err(fault) => Finding::Fault(fault.text),
        }
    }
}

/// Names the program that judged.
fn this_build() -> String {
    let file = std::env::current_exe().and_then(|path| path.metadata());
    let file = file.map_or_else(
        |_| String::new(),
        |file| format!("{} {}.{}", file.size(), file.mtime(), file.mtime_nsec()),
    );
    format!("{} {file}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(path: &Path, fault: &str) -> Facts {
        let stamp = Stamp::of(&path.metadata().unwrap());
        Facts { stamp, digest: None, finding: Some(Finding::Fault(fault.into())) }
    }

    #[test]
    fn facts_hold_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, library) = (folder.path().join("c/plugins.json"), folder.path().join("libx.so"));
        std::fs::write(&library, "one").unwrap();
        let mut cache = Cache::at(Some(path.clone()), "host".into());
        cache.put(&library, facts(&library, "is bad"));
        cache.save();

        let again = Cache::at(Some(path.clone()), "host".into());
        let stamp = Stamp::of(&library.metadata().unwrap());
        assert!(
            matches!(&again.get(&library, stamp).unwrap().finding, Some(Finding::Fault(text)) if text == "is bad")
        );
        assert!(Cache::at(Some(path), "newer host".into()).get(&library, stamp).is_none());

        // The same length and, set back, the same time of modification: the inode's own time tells.
        let modified = library.metadata().unwrap().modified().unwrap();
        let file = std::fs::File::options().write(true).open(&library).unwrap();
        std::io::Write::write_all(&mut &file, b"two").unwrap();
        file.set_modified(modified).unwrap();
        let stamp = Stamp::of(&library.metadata().unwrap());
        assert!(again.get(&library, stamp).is_none());
    }

    #[test]
    fn a_damaged_cache_is_made_again_and_an_unwritable_one_done_without() {
        let folder = tempfile::tempdir().unwrap();
        let (path, library) = (folder.path().join("plugins.json"), folder.path().join("libx.so"));
        std::fs::write(&library, "one").unwrap();
        std::fs::write(&path, "{\"host\":").unwrap();
        let mut cache = Cache::at(Some(path.clone()), "host".into());
        cache.put(&library, facts(&library, "is bad"));
        cache.save();
        let stamp = Stamp::of(&library.metadata().unwrap());
        assert!(Cache::at(Some(path), "host".into()).get(&library, stamp).is_some());

        let mut nowhere = Cache::at(Some(library.join("plugins.json")), "host".into());
        nowhere.put(&library, facts(&library, "is bad"));
        nowhere.save();
        assert!(nowhere.get(&library, stamp).is_some());
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (path, library) = (folder.path().join("plugins.json"), folder.path().join("libx.so"));
        std::fs::write(&library, "one").unwrap();
        let (known, mut cache) = (facts(&library, "is bad"), Cache::at(Some(path.clone()), "host".into()));
        cache.put(&library, known.clone());
        std::fs::remove_file(&library).unwrap();
        cache.put(&path, Facts { stamp: known.stamp, digest: None, finding: None });
        std::fs::write(&path, "").unwrap();
        cache.save();
        assert!(Cache::at(Some(path), "host".into()).get(&library, known.stamp).is_none());
    }
}
