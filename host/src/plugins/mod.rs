//! Finding, describing, trusting and loading plugins.
//!
//! A library passes these stages, and is refused in one line at the first that it fails: [`search`] finds the file,
//! [`binary`] looks at it from outside, [`trust`] decides whether its code may run, [`probe`] asks it in a child process
//! what it is, [`descriptor`] checks the answer, [`cache`] remembers it, and [`loader`] opens the one library that a
//! command needs. [`catalog`] leads through them.

mod binary;
mod cache;
mod catalog;
mod descriptor;
mod entry;
mod host_api;
mod loader;
mod probe;
mod search;
pub mod steps;
mod trust;

pub use catalog::{Catalog, Question};
#[cfg(test)]
pub use descriptor::HOST_FLAGS;
pub use entry::Entry;
pub use probe::run_if_asked;
pub use trust::Trust;

use tracemq_plugin_api::abi::PluginRef;
use tracemq_plugin_api::sdk::Descriptor;

/// A loaded plugin. It is never unloaded.
pub struct Plugin {
    module: PluginRef,
    descriptor: Descriptor,
}

impl Plugin {
    pub fn module(&self) -> PluginRef {
        self.module
    }

    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}
