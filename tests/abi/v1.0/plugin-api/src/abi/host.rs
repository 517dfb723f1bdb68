//! The host's side of [`HostApi`], made from a plain trait so that a host names nothing of what lies beneath the ABI.

use super::{HostApi, HostApi_TO, HostBox};
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::RStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Where a plugin's log lines go.
pub trait HostLog: Send + Sync + 'static {
    /// `level` is that of the `log` crate: 1 error to 5 trace. Other values come from a later version.
    fn log(&self, level: u32, target: &str, message: &str);

    /// The most detailed level wanted; 0 for none.
    fn log_level(&self) -> u32;
}

struct Guarded<H>(H);

impl<H: HostLog> HostApi for Guarded<H> {
    fn log(&self, level: u32, target: RStr<'_>, message: RStr<'_>) {
        // A panic may not cross into the plugin; a line of log is not worth ending the program for.
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.log(level, target.as_str(), message.as_str())));
    }

    fn log_level(&self) -> u32 {
        catch_unwind(AssertUnwindSafe(|| self.0.log_level())).unwrap_or(0)
    }
}

/// What is given to a plugin's `start`.
pub fn host_box(host: impl HostLog) -> HostBox {
    HostApi_TO::from_value(Guarded(host), TD_Opaque)
}
