//! The resources that a server has, bounded in number and in bytes.
//!
//! A resource's name is its path as a URI writes it ([`path_of`](crate::message::path_of)): it begins with a slash, and what
//! must be is percent-encoded, so that no two paths have one name.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::links::{self, Filter, Link};

/// What a GET answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Representation {
    pub payload: Bytes,
    /// The number of the content format; `None` where nobody has said.
    pub format: Option<u16>,
    /// Made of the two others, so that it is the same after a restart.
    pub etag: ETag,
}

pub type ETag = [u8; 8];

const LINK_FORMAT: u16 = 40;

impl Representation {
    pub fn new(payload: Bytes, format: Option<u16>) -> Representation {
        let mut digest = Sha256::new();
        digest.update(format.map_or([0xff; 3], |format| [0, (format >> 8) as u8, format as u8]));
        digest.update(&payload);
        let mut etag = ETag::default();
        etag.copy_from_slice(&digest.finalize()[..8]);
        Representation { payload, format, etag }
    }
}

/// Where a resource comes from, which decides who may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made by a client or the user: clients change it.
    Memory,
    /// A file of --folder: only the file changes it. A server whose clients can write into a folder of the user's
    /// would be a trap.
    File,
}

#[derive(Clone, Debug)]
struct Resource {
    state: Representation,
    origin: Origin,
}

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Resources, files not counted.
    pub resources: usize,
    /// Of one representation.
    pub size: usize,
    /// Of all together, files not counted.
    pub total: usize,
}

/// Why something was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Larger than one may be.
    TooLarge,
    /// There are as many resources, or as many bytes of them, as there may be.
    Full,
    /// It is a file.
    ReadOnly,
}

/// What a write has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Created,
    Changed,
}

/// What was listed, and how it was asked for.
#[derive(Debug)]
struct Listing {
    path: String,
    queries: Vec<String>,
    state: Representation,
}

#[derive(Debug)]
pub struct Resources {
    there: BTreeMap<String, Resource>,
    limits: Limits,
    /// Without files.
    count: usize,
    bytes: usize,
    /// The number of the last child that a POST has made.
    last_child: u64,
    /// As long as it is true.
    last_listing: Option<Listing>,
}

impl Resources {
    pub fn new(limits: Limits) -> Resources {
        Resources { there: BTreeMap::new(), limits, count: 0, bytes: 0, last_child: 0, last_listing: None }
    }

    /// The most bytes of one representation.
    pub fn largest(&self) -> usize {
        self.limits.size
    }

    pub fn get(&self, path: &str) -> Option<&Representation> {
        self.there.get(path).map(|resource| &resource.state)
    }

    pub fn is_file(&self, path: &str) -> bool {
        self.there.get(path).is_some_and(|resource| resource.origin == Origin::File)
    }

    /// Whether there are resources beneath it.
    pub fn is_collection(&self, path: &str) -> bool {
        if path == "/" {
            return true;
        }
        let beneath = join(path, "");
        self.there.range(beneath.clone()..).next().is_some_and(|(first, _)| first.starts_with(&beneath))
    }

    /// Writes what a client or the user has sent.
    ///
    /// # Errors
    /// When it does not fit, or a file stands there.
    pub fn put(&mut self, path: &str, state: Representation) -> Result<Written, Refused> {
        if state.payload.len() > self.limits.size {
            return Err(Refused::TooLarge);
        }
        let weight = path.len() + state.payload.len();
        let before = match self.there.get(path) {
            Some(Resource { origin: Origin::File, .. }) => return Err(Refused::ReadOnly),
            Some(resource) => Some(path.len() + resource.state.payload.len()),
            None => None,
        };
        let bytes = self.bytes - before.unwrap_or(0) + weight;
        if bytes > self.limits.total || (before.is_none() && self.count >= self.limits.resources) {
            return Err(Refused::Full);
        }
        self.bytes = bytes;
        self.set(path, Some(Resource { state, origin: Origin::Memory }));
        if before.is_some() {
            return Ok(Written::Changed);
        }
        self.count += 1;
        Ok(Written::Created)
    }

    /// Writes under a name that nothing has yet, beneath the path; returns the name.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn add_child(&mut self, path: &str, state: Representation) -> Result<String, Refused> {
        let child = loop {
            self.last_child += 1;
            let name = join(path, &self.last_child.to_string());
            if !self.there.contains_key(&name) {
                break name;
            }
        };
        self.put(&child, state).map(|_| child)
    }

    /// Whether it was there.
    ///
    /// # Errors
    /// When it is a file.
    pub fn remove(&mut self, path: &str) -> Result<bool, Refused> {
        if self.is_file(path) {
            return Err(Refused::ReadOnly);
        }
        let Some(gone) = self.set(path, None) else { return Ok(false) };
        self.count -= 1;
        self.bytes -= path.len() + gone.state.payload.len();
        Ok(true)
    }

    /// What a file holds now; it takes the place of what a client had put there. Returns whether anything has changed.
    pub fn put_file(&mut self, path: &str, state: Representation) -> bool {
        if self.get(path) == Some(&state) && self.is_file(path) {
            return false;
        }
        // The outcome is of no interest: it can't be a file.
        let _ = (!self.is_file(path)).then(|| self.remove(path));
        self.set(path, Some(Resource { state, origin: Origin::File }));
        true
    }

    /// The file is gone.
    pub fn remove_file(&mut self, path: &str) -> bool {
        self.is_file(path) && self.set(path, None).is_some()
    }

    /// What stands beneath a path, in link format (RFC 6690), as far as all filters ask for it. The last listing is kept: it
    /// is fetched in blocks, each of which asks for all of it.
    pub fn listing(&mut self, path: &str, queries: &[String]) -> Representation {
        if let Some(listing) =
            self.last_listing.as_ref().filter(|last| last.path == path && last.queries == queries)
        {
            return listing.state.clone();
        }
        let text = self.describe(path, &queries.iter().map(|query| Filter::parse(query)).collect::<Vec<_>>());
        let state = Representation::new(Bytes::from(text), Some(LINK_FORMAT));
        let (path, queries) = (path.to_owned(), queries.to_vec());
        self.last_listing = Some(Listing { path, queries, state: state.clone() });
        state
    }

    fn describe(&self, path: &str, filters: &[Filter]) -> String {
        let beneath = join(path, "");
        let there = self.there.range(beneath.clone()..).take_while(|(name, _)| name.starts_with(&beneath));
        let links: Vec<Link> = there.map(|(name, resource)| link(name, &resource.state)).collect();
        links::write(links.iter().filter(|link| filters.iter().all(|filter| filter.matches(link))))
    }

    /// Puts a resource there, or takes one away.
    fn set(&mut self, path: &str, resource: Option<Resource>) -> Option<Resource> {
        let described = |resource: &Resource| link("", &resource.state);
        let after = resource.as_ref().map(described);
        let before = match resource {
            Some(resource) => self.there.insert(path.to_owned(), resource),
            None => self.there.remove(path),
        };
        if before.as_ref().map(described) != after {
            self.last_listing = None;
        }
        before
    }
}

/// The name of what stands beneath a path. `segment` holds nothing that would have to be encoded.
fn join(path: &str, segment: &str) -> String {
    let separator = if path.ends_with('/') { "" } else { "/" };
    format!("{path}{separator}{segment}")
}

fn link(path: &str, state: &Representation) -> Link {
    let mut link = Link::new(path);
    if let Some(format) = state.format {
        link = link.with("ct", format.to_string());
    }
    // RFC 6690 section 3.3: of what does not fit into one packet.
    if state.payload.len() > 1024 {
        link = link.with("sz", state.payload.len().to_string());
    }
    link.with_flag("obs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(text: &str) -> Representation {
        Representation::new(Bytes::copy_from_slice(text.as_bytes()), Some(0))
    }

    fn resources() -> Resources {
        Resources::new(Limits { resources: 3, size: 100, total: 150 })
    }

    #[test]
    fn number_and_bytes_are_bounded_and_given_back() {
        let mut all = resources();
        assert_eq!(all.put("/a", state("1")), Ok(Written::Created));
        assert_eq!(all.put("/a", state("2")), Ok(Written::Changed));
        assert_eq!(all.put("/b", state(&"x".repeat(101))), Err(Refused::TooLarge));
        assert_eq!(all.put("/b", state(&"x".repeat(100))), Ok(Written::Created));
        assert_eq!(all.put("/c", state(&"x".repeat(100))), Err(Refused::Full));
        assert_eq!(all.put("/b", state("")), Ok(Written::Changed));
        assert_eq!(all.put("/c", state("")), Ok(Written::Created));
        assert_eq!(all.put("/d", state("")), Err(Refused::Full));
        assert_eq!(all.remove("/b"), Ok(true));
        assert_eq!(all.remove("/b"), Ok(false));
        assert_eq!(all.put("/d", state("")), Ok(Written::Created));
    }

    #[test]
    fn files_are_not_for_clients() {
        let mut all = resources();
        assert_eq!(all.put("/f", state("client's")), Ok(Written::Created));
        assert!(all.put_file("/f", state("file's")));
        assert!(!all.put_file("/f", state("file's")));
        assert_eq!(all.put("/f", state("x")), Err(Refused::ReadOnly));
        assert_eq!(all.remove("/f"), Err(Refused::ReadOnly));
        assert_eq!((all.count, all.bytes), (0, 0));
        assert!(all.remove_file("/f") && !all.remove_file("/f"));
    }

    #[test]
    fn children_get_names_that_nothing_has() {
        let mut all = resources();
        all.put("/log/1", state("")).unwrap();
        assert!(all.is_collection("/log") && all.is_collection("/") && !all.is_collection("/log/1"));
        assert!(!all.is_collection("/lo"));
        assert_eq!(all.add_child("/log", state("")).as_deref(), Ok("/log/2"));
        assert_eq!(all.add_child("/", state("")).as_deref(), Ok("/3"));
    }

    #[test]
    fn an_etag_tells_content_and_format_apart() {
        let bytes = Bytes::from_static(b"21.5");
        let etag = |format| Representation::new(bytes.clone(), format).etag;
        assert_eq!(etag(Some(0)), etag(Some(0)));
        assert_ne!(etag(Some(0)), etag(None));
        assert_ne!(etag(Some(0)), etag(Some(50)));
        assert_ne!(etag(Some(0)), state("21.6").etag);
    }

    #[test]
    fn a_listing_is_made_anew_when_it_would_be_another() {
        let mut all = resources();
        let listed =
            |all: &mut Resources| String::from_utf8_lossy(&all.listing("/", &[]).payload).into_owned();
        assert_eq!(listed(&mut all), "");
        all.put("/a", state("1")).unwrap();
        assert_eq!(listed(&mut all), "</a>;ct=0;obs");
        all.put("/a", state("2")).unwrap();
        assert!(all.last_listing.is_some(), "nothing of it has changed");
        all.put("/a", Representation::new(Bytes::new(), Some(50))).unwrap();
        assert_eq!(listed(&mut all), "</a>;ct=50;obs");
        all.put_file("/b", state(""));
        assert_eq!(listed(&mut all), "</a>;ct=50;obs,</b>;ct=0;obs");
        all.remove("/a").unwrap();
        all.remove_file("/b");
        assert_eq!(listed(&mut all), "");
        assert_eq!(all.listing("/", &["rt=x".into()]).payload, "");
    }

    #[test]
    fn what_is_announced() {
        let mut all = Resources::new(Limits { resources: 9, size: 9999, total: 99999 });
        all.put("/a%20b/c", state("x")).unwrap();
        all.put("/ab", state("x")).unwrap();
        all.put("/slash/a%2Fb", state(&"x".repeat(2000))).unwrap();
        let slash = "</slash/a%2Fb>;ct=0;sz=2000;obs";
        assert_eq!(all.describe("/", &[]), format!("</a%20b/c>;ct=0;obs,</ab>;ct=0;obs,{slash}"));
        assert_eq!(all.describe("/", &[Filter::parse("href=/slash*")]), slash);
        assert_eq!(all.describe("/slash", &[]), slash);
        assert_eq!(all.describe("/a", &[]), "");
        assert_eq!(all.describe("/", &[Filter::parse("rt=light"), Filter::parse("obs")]), "");
    }
}
