//! The one symbol that a plugin library exports.
//!
//! It starts with a magic number and our own version, so that a library built for another major version is told apart
//! from one that is no plugin, whatever library underlies the rest of the header.

use super::{API_VERSION, Plugin, PluginRef};
use abi_stable::library::{
    __call_root_module_loader, AbiHeaderRef, CheckTypeLayout, LibHeader, RootModuleResult,
};
use abi_stable::prefix_type::PrefixTypeTrait;

/// The name of the exported [`PluginHeader`].
pub const HEADER_SYMBOL: &str = "tracemq_plugin_header";

pub(super) const MAGIC: [u8; 16] = *b"tracemq plugin\x00\x01";

/// What [`HEADER_SYMBOL`] points to. The first three fields never change, in any version.
#[repr(C)]
pub struct PluginHeader {
    pub(super) magic: [u8; 16],
    pub(super) version: [u32; 3],
    pub(super) reserved: u32,
    pub(super) module: LibHeader,
}

/// What fills a header: implemented by the sdk's adapter for each protocol.
pub trait ModuleSource: 'static {
    fn module() -> Plugin;
}

extern "C" fn root_module<S: ModuleSource>() -> RootModuleResult {
    fn load<S: ModuleSource>() -> PluginRef {
        S::module().leak_into_prefix()
    }
    __call_root_module_loader(load::<S>)
}

impl PluginHeader {
    pub const fn of<S: ModuleSource>() -> PluginHeader {
        PluginHeader {
            magic: MAGIC,
            version: [API_VERSION.0, API_VERSION.1, API_VERSION.2],
            reserved: 0,
            // SAFETY: the constructor returns the module type that it is declared with.
            module: unsafe {
                LibHeader::from_constructor::<PluginRef>(root_module::<S>, CheckTypeLayout::Yes)
            },
        }
    }

    pub(super) fn abi_header(&'static self) -> AbiHeaderRef {
        // SAFETY: `AbiHeaderRef` is a transparent reference to the `AbiHeader` that a `LibHeader` starts with; this is how
        // abi_stable itself makes one, from a symbol's address.
        unsafe { std::mem::transmute::<&'static LibHeader, AbiHeaderRef>(&self.module) }
    }
}
