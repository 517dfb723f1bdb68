//! The files of a folder as resources (--folder).
//!
//! The folder is walked, again and again, and what was found is served: no path of a client ever becomes the name of a file,
//! so there is nothing to escape with. Symbolic links are not followed, nor are hidden files shown. Files are kept in memory,
//! within bounds, so that a client that fetches one in blocks gets it as it was.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracemq_plugin_api::prelude::*;

use super::resources::Representation;
use super::service::Service;
use crate::message::{CoapOption, Packet, path_of};

const FILES: usize = 10_000;
/// Of all files together.
const BYTES: usize = 256 << 20;
const DEPTH: usize = 32;
/// Between two looks; a folder that takes long to walk is looked at less often.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_FACTOR: u32 = 20;

/// What tells that a file is another one by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    length: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Mark {
    fn of(metadata: &Metadata) -> Mark {
        use std::os::unix::fs::MetadataExt;
        Mark { length: metadata.len(), modified: metadata.modified().ok(), inode: metadata.ino() }
    }
}

/// A change of a resource; without a state it is gone.
#[derive(Debug, PartialEq)]
pub struct Changed {
    pub path: String,
    pub state: Option<Representation>,
}

/// What was found by the last walk.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// Largest file that is taken.
    largest: usize,
    known: HashMap<PathBuf, Known>,
    bytes: usize,
    /// That there is too much is told once.
    full: bool,
}

#[derive(Debug)]
struct Known {
    mark: Mark,
    path: String,
    /// `None`: it was left out.
    length: Option<usize>,
    /// The number of the walk that has seen it last.
    walk: u64,
}

/// What a walk has brought.
#[derive(Debug, Default)]
pub struct Walk {
    pub changes: Vec<Changed>,
    pub warnings: Vec<String>,
}

impl Folder {
    /// # Errors
    /// When there is no such folder.
    pub fn open(root: &Path, largest: usize) -> Result<Folder> {
        let readable = fs::read_dir(root).map(drop);
        readable.map_err(|error| {
            Error::config(format!("--folder {}: {error}", root.display()))
                .hint("name a folder that can be read")
        })?;
        Ok(Folder { root: root.to_owned(), largest, known: HashMap::new(), bytes: 0, full: false })
    }

    /// Looks at all files. `number` tells this walk from those before.
    pub fn walk(&mut self, number: u64) -> Walk {
        let mut walk = Walk::default();
        let root = self.root.clone();
        self.enter(&root, &mut Vec::new(), number, &mut walk);
        let gone: Vec<PathBuf> = self
            .known
            .iter()
            .filter(|(_, known)| known.walk != number)
            .map(|(file, _)| file.clone())
            .collect();
        for file in gone {
            if let Some(known) = self.known.remove(&file)
                && let Some(length) = known.length
            {
                self.bytes -= length;
                walk.changes.push(Changed { path: known.path, state: None });
            }
        }
        walk
    }

    fn enter(&mut self, folder: &Path, segments: &mut Vec<String>, number: u64, walk: &mut Walk) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let file = entry.path();
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') || name.len() > 255 {
                continue;
            }
            // Of the link itself, not of what it leads to.
            let Ok(metadata) = fs::symlink_metadata(&file) else { continue };
            segments.push(name);
            if metadata.is_dir() && segments.len() < DEPTH {
                self.enter(&file, segments, number, walk);
            } else if metadata.is_file() {
                self.look(file, &metadata, segments, number, walk);
            }
            segments.pop();
        }
    }

    fn look(
        &mut self,
        file: PathBuf,
        metadata: &Metadata,
        segments: &[String],
        number: u64,
        walk: &mut Walk,
    ) {
        let mark = Mark::of(metadata);
        let mut before = 0;
        if let Some(known) = self.known.get_mut(&file) {
            known.walk = number;
            if known.mark == mark {
                return;
            }
            before = known.length.unwrap_or(0);
        } else if self.known.len() >= FILES {
            return self.too_much(walk, format!("has more than {FILES} files"));
        }
        let path = name(segments);
        let there = self.known.get(&file).is_some_and(|known| known.length.is_some());
        let content = match self.read(&file, metadata.len()) {
            Ok(content) => Some(content),
            Err(why) => {
                walk.warnings.push(format!("{} is not served: {why}", file.display()));
                None
            }
        };
        let content = content.filter(|content| {
            let fits = self.bytes - before + content.len() <= BYTES;
            if !fits {
                self.too_much(walk, format!("has more than {} MiB", BYTES >> 20));
            }
            fits
        });
        let length = content.as_ref().map(Vec::len);
        self.bytes = self.bytes - before + length.unwrap_or(0);
        self.known.insert(file.clone(), Known { mark, path: path.clone(), length, walk: number });
        let state = content.map(|content| Representation::new(Bytes::from(content), Some(format_of(&file))));
        if state.is_some() || there {
            walk.changes.push(Changed { path, state });
        }
    }

    /// The content of a file that was no link when it was looked at, and must not be one by now.
    fn read(&self, file: &Path, length: u64) -> std::result::Result<Vec<u8>, String> {
        if length > self.largest as u64 {
            return Err(format!("it has more than {} bytes (--max-size)", self.largest));
        }
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let open = File::options().read(true).custom_flags(flags).open(file);
        let mut content = Vec::with_capacity(length as usize);
        let most = self.largest as u64 + 1;
        open.and_then(|open| open.take(most).read_to_end(&mut content)).map_err(|error| error.to_string())?;
        if content.len() > self.largest {
            return Err(format!("it has more than {} bytes (--max-size)", self.largest));
        }
        Ok(content)
    }

    fn too_much(&mut self, walk: &mut Walk, what: String) {
        if !std::mem::replace(&mut self.full, true) {
            walk.warnings.push(format!("--folder {} {what}: the rest is not served", self.root.display()));
        }
    }
}

fn name(segments: &[String]) -> String {
    let mut packet = Packet::new();
    for segment in segments {
        packet.add_option(CoapOption::UriPath, segment.clone().into_bytes());
    }
    path_of(&packet)
}

/// The content format that a file's extension stands for.
fn format_of(file: &Path) -> u16 {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "txt" | "text" | "log" | "csv" | "md" => 0,
        "gif" => 21,
        "jpg" | "jpeg" => 22,
        "png" => 23,
        "link" | "wlnk" => 40,
        "xml" => 41,
        "exi" => 47,
        "json" => 50,
        "cbor" => 60,
        "senml" => 110,
        "senmlc" => 112,
        "js" | "mjs" => 10_002,
        "css" => 20_000,
        "svg" => 30_000,
        _ => 42,
    }
}

/// Looks for changes until it is aborted.
pub async fn watch(mut folder: Folder, service: Arc<Service>) {
    for number in 2.. {
        let started = Instant::now();
        let walked = spawn_blocking(move || {
            let walk = folder.walk(number);
            (folder, walk)
        });
        // It ends when the plugin does.
        let Ok((back, walk)) = walked.await else { return };
        folder = back;
        apply(walk, &service);
        sleep(PAUSE.max(started.elapsed() * PAUSE_FACTOR)).await;
    }
}

/// Serves what a walk has brought.
pub fn apply(walk: Walk, service: &Service) {
    for Changed { path, state } in walk.changes {
        service.file(&path, state);
    }
    for warning in walk.warnings {
        service.warn(warning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Text and content format.
    type Content = (String, Option<u16>);

    fn changes(folder: &mut Folder, number: u64) -> Vec<(String, Option<Content>)> {
        let mut changes: Vec<_> = folder
            .walk(number)
            .changes
            .into_iter()
            .map(|Changed { path, state }| {
                let text = |state: Representation| {
                    (String::from_utf8_lossy(&state.payload).into_owned(), state.format)
                };
                (path, state.map(text))
            })
            .collect();
        changes.sort();
        changes
    }

    #[test]
    fn files_come_change_and_go_and_links_lead_nowhere() {
        let home = tempfile::tempdir().unwrap();
        let (root, outside) = (home.path().join("root"), home.path().join("outside.txt"));
        fs::create_dir_all(root.join("nested/deep er")).unwrap();
        fs::write(&outside, "secret").unwrap();
        fs::write(root.join("a.json"), "{}").unwrap();
        fs::write(root.join("nested/deep er/é.txt"), "x").unwrap();
        fs::write(root.join(".hidden"), "x").unwrap();
        fs::write(root.join("large"), vec![b'x'; 101]).unwrap();
        symlink(&outside, root.join("link.txt")).unwrap();
        symlink(home.path(), root.join("up")).unwrap();

        let mut folder = Folder::open(&root, 100).unwrap();
        let deep = "/nested/deep%20er/%C3%A9.txt".to_owned();
        assert_eq!(
            changes(&mut folder, 1),
            [("/a.json".into(), Some(("{}".into(), Some(50)))), (deep.clone(), Some(("x".into(), Some(0))))]
        );
        assert_eq!(changes(&mut folder, 2), []);
        fs::write(root.join("a.json"), "[1]").unwrap();
        fs::remove_dir_all(root.join("nested")).unwrap();
        fs::write(root.join("large"), "small").unwrap();
        assert_eq!(
            changes(&mut folder, 3),
            [
                ("/a.json".into(), Some(("[1]".into(), Some(50)))),
                ("/large".into(), Some(("small".into(), Some(42)))),
                (deep, None)
            ]
        );
        fs::write(root.join("large"), vec![b'x'; 101]).unwrap();
        let walk = folder.walk(4);
        assert_eq!(walk.changes, [Changed { path: "/large".into(), state: None }]);
        assert!(walk.warnings[0].contains("--max-size"), "{:?}", walk.warnings);
        assert_eq!(folder.bytes, 3);
    }

    #[test]
    fn a_folder_that_is_none_is_refused() {
        let error = Folder::open(Path::new("/nonexistent/folder"), 1).unwrap_err().to_string();
        assert!(error.contains("--folder /nonexistent/folder"), "{error}");
    }
}
