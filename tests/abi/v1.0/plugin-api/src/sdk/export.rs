//! The one macro of a plugin.

/// Exports a [`Protocol`](crate::sdk::Protocol) as the plugin of this library. Used once, in the crate that is compiled as a
/// `cdylib`; a protocol that is also to be linked into a host lives in a library crate of its own, without this line, since
/// two plugins in one binary must not export the same symbol.
#[macro_export]
macro_rules! export_plugin {
    ($protocol:ty) => {
        #[cfg(panic = "abort")]
        compile_error!(
            "a TraceMQ plugin must be built with panic = \"unwind\": a panic could not be turned into an error, and would \
             end the host"
        );

        #[allow(non_upper_case_globals)]
        #[unsafe(no_mangle)]
        pub static tracemq_plugin_header: $crate::abi::PluginHeader =
            $crate::abi::PluginHeader::of::<$crate::sdk::Adapter<$protocol>>();
    };
}
