//! What the programs share.

use std::error::Error;
use std::mem::ManuallyDrop;

use tracemq_plugin_api::abi::{self, HEADER_SYMBOL, HostLog, PluginHeader, PluginRef, host_box};

struct NoLog;

impl HostLog for NoLog {
    fn log(&self, _: u32, _: &str, _: &str) {}

    fn log_level(&self) -> u32 {
        0
    }
}

/// Loads and starts a plugin as the host does it, for the life of the process.
///
/// # Errors
/// When the library can't be loaded, is no plugin of this version, or does not start.
pub fn load(library: &str) -> Result<PluginRef, Box<dyn Error>> {
    // SAFETY: the caller names a plugin to be run; it stays loaded until the process ends.
    let plugin = unsafe {
        let library = ManuallyDrop::new(libloading::Library::new(library)?);
        let header: *const PluginHeader = *library.get(HEADER_SYMBOL)?;
        abi::open(header)?
    };
    plugin.start()(host_box(NoLog)).into_result()?;
    Ok(plugin)
}
