//! The hubs, their partitions, and the folder that keeps them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracemq_plugin_api::prelude::{Error, Result};

use super::key_hash;
use super::options::{HubSpec, ServeOptions};
use super::partition::Partition;
use super::retention::now_ms;

const LOCK: &str = "lock";

/// A hub.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) name: Arc<str>,
    /// Milliseconds since 1970-01-01 UTC.
    pub(super) created: i64,
    partitions: Vec<Arc<Partition>>,
    turn: AtomicUsize,
}

impl Hub {
    pub(super) fn partitions(&self) -> &[Arc<Partition>] {
        &self.partitions
    }

    /// The partition of this number. As in Azure the number is written without anything before it.
    pub(super) fn partition(&self, id: &str) -> Option<&Arc<Partition>> {
        self.partitions.get(id.parse::<usize>().ok()?).filter(|partition| partition.id == id)
    }

    /// The partition for events that name none: by their key, or each in its turn.
    pub(super) fn choose(&self, key: Option<&str>) -> &Arc<Partition> {
        let count = self.partitions.len();
        let number = match key {
            Some(key) => key_hash::partition(key, count),
            None => self.turn.fetch_add(1, Ordering::Relaxed) % count,
        };
        &self.partitions[number]
    }
}

/// All hubs.
#[derive(Debug)]
pub(super) struct Hubs {
    /// By their names in small letters.
    hubs: BTreeMap<String, Arc<Hub>>,
    groups: BTreeMap<String, Arc<str>>,
    /// What was cut off when the folder was opened: a line each, for people.
    pub(super) cut: Vec<String>,
    /// Held as long as the folder is ours.
    _lock: Option<File>,
}

impl Hubs {
    /// Makes or opens them.
    ///
    /// # Errors
    /// An option, or a folder that can't be used (config).
    pub(super) fn open(options: &ServeOptions) -> Result<Hubs> {
        let folder = options.data_dir.as_deref();
        let lock = folder.map(lock).transpose()?;
        let mut hubs = BTreeMap::new();
        let mut cut = Vec::new();
        for spec in options.hubs()? {
            let hub = open(&spec, options, folder, &mut cut)?;
            hubs.insert(spec.name.to_ascii_lowercase(), Arc::new(hub));
        }
        let groups =
            options.groups()?.into_iter().map(|name| (name.to_ascii_lowercase(), name.into())).collect();
        Ok(Hubs { hubs, groups, cut, _lock: lock })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Hub>> {
        self.hubs.get(&name.to_ascii_lowercase())
    }

    pub(super) fn group(&self, name: &str) -> Option<&Arc<str>> {
        self.groups.get(&name.to_ascii_lowercase())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Hub>> {
        self.hubs.values()
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.hubs.values().flat_map(|hub| &hub.partitions)
    }
}

fn fault(folder: &Path, error: &io::Error) -> Error {
    Error::config(format!("--data-dir: cannot use {}: {error}", folder.display()))
}

fn lock(folder: &Path) -> Result<File> {
    let open = || {
        fs::create_dir_all(folder)?;
        OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(LOCK))
    };
    let file = open().map_err(|error| fault(folder, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::config(format!(
            "--data-dir: another server uses {}: stop it, or choose another folder",
            folder.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(fault(folder, &error)),
    }
}

fn open(spec: &HubSpec, options: &ServeOptions, folder: Option<&Path>, cut: &mut Vec<String>) -> Result<Hub> {
    let name: Arc<str> = spec.name.as_str().into();
    let retention = options.retention();
    let in_memory = |id: String| Arc::new(Partition::in_memory(Arc::clone(&name), id, retention));
    let ids = (0..spec.partitions).map(|number| number.to_string());
    let Some(folder) = folder else {
        let partitions = ids.map(in_memory).collect();
        return Ok(Hub { name: Arc::clone(&name), created: now_ms(), partitions, turn: AtomicUsize::new(0) });
    };
    let folder = folder.join(spec.name.to_ascii_lowercase());
    let beyond = folder.join(spec.partitions.to_string());
    if beyond.exists() {
        return Err(Error::config(format!(
            "--hub {}:{}: the hub has more partitions in {}; they can't become fewer",
            spec.name,
            spec.partitions,
            folder.display()
        )));
    }
    let mut partitions = Vec::new();
    for id in ids {
        let path = folder.join(&id);
        let (partition, bytes) = Partition::in_folder(Arc::clone(&name), id, retention, &path)
            .map_err(|error| Error::config(format!("--data-dir: hub {}: {error}", spec.name)))?;
        if bytes > 0 {
            let name = &spec.name;
            let id = &partition.id;
            cut.push(format!(
                "hub {name}, partition {id}: {bytes} bytes of events that were never accepted have been cut off"
            ));
        }
        partitions.push(Arc::new(partition));
    }
    let created = fs::metadata(&folder).and_then(|about| about.created()).ok();
    let since = created.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let created = since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or_else(now_ms);
    Ok(Hub { name, created, partitions, turn: AtomicUsize::new(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hubs(json: serde_json::Value) -> Result<Hubs> {
        Hubs::open(&serde_json::from_value(json).expect("the types fit"))
    }

    #[test]
    fn hubs_groups_and_partitions_are_found_in_any_case() {
        let hubs = hubs(serde_json::json!({"hub": ["Orders:2"], "consumer_group": ["Audit"]})).expect("hubs");
        let hub = hubs.get("orders").expect("the hub");
        assert_eq!((&*hub.name, hub.partitions().len()), ("Orders", 2));
        assert!(
            hub.partition("1").is_some() && hub.partition("2").is_none() && hub.partition("01").is_none()
        );
        assert!(hub.partition("+1").is_none() && hub.partition("").is_none());
        assert!(
            hubs.group("$default").is_some() && hubs.group("AUDIT").is_some() && hubs.group("x").is_none()
        );
        let turns: Vec<_> = (0..3).map(|_| hub.choose(None).id.clone()).collect();
        assert_eq!(turns, ["0", "1", "0"]);
        assert_eq!(hub.choose(Some("key")).id, hub.choose(Some("key")).id);
    }

    #[test]
    fn a_folder_has_one_server_and_keeps_its_partitions() {
        let dir = tempfile::tempdir().expect("a folder");
        let with = |hub: &str| hubs(serde_json::json!({"hub": [hub], "data_dir": dir.path()}));
        let first = with("h:3").expect("hubs");
        let error = with("h:3").expect_err("in use").to_string();
        assert!(error.contains("another server"), "{error}");
        drop(first);
        let error = with("h:2").expect_err("fewer").to_string();
        assert!(error.contains("can't become fewer"), "{error}");
        assert!(with("h:4").is_ok());
    }
}
