//! A command that acts on a target, ready to run: the plugin is known, the options are checked, secrets are resolved.
//!
//! What a verb file has to offer for it: `command()`, a [`clap::Command`] with the host's own flags of the verb. These ids
//! of its positionals are read here: `target`; `topic` (one or several: what becomes [`Job::topics`]); and, for `bench`
//! alone, `mode` (`pub`, `sub` or `echo`) before `target`. `--bind` of `serve` is no flag of the host: it is a property of
//! the plugin's serve schema, as every other option is. The global flags are added to the root command.

use crate::plugins::Plugin;
use crate::redact;
use crate::session::Context;
use serde_json::{Map, Value};
use zeroize::Zeroize;

/// What every command may be told.
#[derive(Clone, Debug, Default)]
pub struct Global {
    /// `-v` counted: 0 warnings, 1 info, 2 debug, 3 trace.
    pub verbose: u8,
    /// `-q`: no progress and no events, only what failed.
    pub quiet: bool,
}

/// A prepared `pub`, `sub`, `request`, `serve`, `list` or `bench`. The plugin has already looked at it (`session::check`),
/// and a profile's guard has been obeyed.
pub struct Job {
    pub global: Global,
    pub plugin: Plugin,
    /// The target as it may be shown: a profile's name, a protocol's name, or the URL without its password.
    pub target: String,
    /// Connection options by the plugin's schema, defaults left out, secrets resolved. Empty when serving.
    pub connection: Map<String, Value>,
    /// Options of the verb, likewise. For `bench pub` and `bench echo` those of publishing, for `bench sub` of subscribing.
    pub options: Map<String, Value>,
    /// Options of the other half of `bench echo`, its subscription. Empty otherwise.
    pub subscribe: Map<String, Value>,
    /// The `topic` arguments as they were typed; whether the plugin wants any has been checked.
    pub topics: Vec<String>,
    /// `reconnect` is false after `--no-reconnect`; `url` is missing for a protocol's name.
    pub context: Context,
    /// The host's own flags and arguments of the command.
    pub matches: clap::ArgMatches,
}

/// What was handed to the plugin is its own; what we have of it is wiped.
impl Drop for Job {
    fn drop(&mut self) {
        for options in [&mut self.connection, &mut self.options, &mut self.subscribe] {
            options.values_mut().for_each(redact::wipe);
        }
        self.context.url.zeroize();
    }
}
