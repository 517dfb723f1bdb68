//! Finding, describing, trusting and loading plugins.

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
