//! A command that acts on a target, ready to run: the plugin is known, the options are checked, secrets are resolved.

use crate::plugins::Plugin;
use crate::session::Context;
use serde_json::{Map, Value};

/// What every command may be told.
#[derive(Clone, Debug, Default)]
pub struct Global {
    /// `-v` counted: 0 warnings, 1 info, 2 debug, 3 trace.
    pub verbose: u8,
    /// `-q`: no progress and no events, only what failed.
    pub quiet: bool,
}

/// A prepared `pub`, `sub`, `request`, `serve`, `list` or `bench`.
pub struct Job {
    pub global: Global,
    pub plugin: Plugin,
    /// The target as it may be shown.
    pub target: String,
    /// Connection options by the plugin's schema, defaults left out, secrets resolved. Empty when serving.
    pub connection: Map<String, Value>,
    /// Options of the verb, likewise.
    pub options: Map<String, Value>,
    pub context: Context,
    /// The host's own flags and arguments of the command.
    pub matches: clap::ArgMatches,
}
