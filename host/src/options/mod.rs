//! A plugin's options: from its JSON Schemas to flags, and from flags, environment and profiles to checked values.
//!
//! The schema is read once into a small model ([`Schema`]), which is what flags, profiles and errors are made from. The
//! model is narrower than JSON Schema on purpose: what can't be a flag, a line of a profile and a field of a form alike is
//! refused when the plugin is described, not when somebody uses it.

mod merge;
mod near;
mod program;
mod schema;
mod secret;
mod value;

pub use crate::redact::MASK;
pub use merge::{Credentials, Given, known, merge, old_names};
pub use near::nearest;
pub use schema::{FileUse, Kind, Schema, Spec};
pub use secret::{KINDS, Reference, Unreadable, is_reference, read as read_secret};
pub use value::plain;
