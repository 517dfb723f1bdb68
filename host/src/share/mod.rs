//! Profiles that go to somebody else, and such as come from elsewhere.
//!
//! An export is one TOML file, readable like a profile's own, with the public certificates in it. What is left out (secrets,
//! private keys, paths of this machine) is listed by profile and option, so that an import asks for exactly that. Encrypted for
//! somebody, the same file holds all of it. Its checksum tells an accident; who wrote it is for the reader to know, so that an
//! import trusts nothing in it: names and options are checked, commands are refused, and files are written only where this
//! program says.
//!
//! [`collect()`] takes a profile apart by its plugin's schemas, [`document`] is the file, [`intake`] and [`foreign`] read one of
//! ours and of others into a [`plan::Plan`], which is shown, completed, and then written as a whole or not at all.

mod certificates;
mod collect;
pub mod document;
pub mod foreign;
pub mod intake;
mod place;
pub mod plan;
mod url;
mod write;

pub use collect::{Whom, collect};
pub use place::{LeftOut, Place, Schemas};
pub use url::{Login, take_apart};
pub use write::write;

/// The largest export, and the largest file of another program, in bytes.
pub const LARGEST: u64 = 8 << 20;

/// The largest certificate or key file, in bytes.
pub const LARGEST_FILE: u64 = 1 << 20;

/// The most profiles in one file.
pub const MOST_PROFILES: usize = 1000;
