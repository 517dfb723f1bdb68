//! What a plugin is given when it is started: its log lines go into the host's log, under its own name, and what it tells of
//! the steps of connecting to whoever wants to know.

use super::steps;
use log::{Level, Record};
use tracemq_plugin_api::abi::{HostBox, HostLog, host_box};
use tracemq_plugin_api::sdk::STEP_TARGET;

struct Forward {
    plugin: String,
}

impl HostLog for Forward {
    fn log(&self, level: u32, target: &str, message: &str) {
        let level = match level {
            1 => Level::Error,
            2 => Level::Warn,
            3 => Level::Info,
            4 => Level::Debug,
            _ => Level::Trace,
        };
        if target == STEP_TARGET {
            return steps::hear(&self.plugin, level, message);
        }
        if level > log::max_level() {
            return;
        }
        let target = format!("{}::{target}", self.plugin);
        let args = format_args!("{message}");
        log::logger().log(&Record::builder().level(level).target(&target).args(args).build());
    }

    fn log_level(&self) -> u32 {
        log::max_level() as u32
    }
}

/// For the plugin with this id.
pub fn host_for(plugin: &str) -> HostBox {
    host_box(Forward { plugin: plugin.to_owned() })
}
