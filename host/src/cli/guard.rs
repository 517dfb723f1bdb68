//! What a guarded profile keeps a command from, whatever the plugin thinks of it.
//!
//! A guard is for credentials that must not do harm by a slip: nothing is written with them, and nothing gives up what
//! protects the connection. Serving is not affected, since nothing of the profile's connection is used then.

use super::args::Action;
use super::target::Target;
use crate::failure::{Exit, Failure};
use crate::options::Schema;
use crate::profiles::{Guard, Profile};
use serde_json::{Map, Value};

/// The file to which TLS libraries write the keys of connections when it is set.
const KEY_LOG: &str = "SSLKEYLOGFILE";

fn guarded(target: &Target) -> Option<&Profile> {
    target.profile.as_ref().filter(|profile| profile.guard == Some(Guard::ReadOnly))
}

/// Refuses what is no reading. Whether the profile is guarded. To be called before options are read from the environment and
/// before a plugin is loaded.
pub fn begin(target: &Target, action: Action) -> Result<bool, Failure> {
    let Some(profile) = guarded(target).filter(|_| !action.serves()) else { return Ok(false) };
    if action.writes() {
        let text = format!("profile {} is read-only: it must not be published to", profile.name);
        return Err(Failure::new(Exit::Refused, text).hint(format!(
            "`tracemq profile set {} --guard none` takes the guard away if this is meant",
            profile.name
        )));
    }
    keep_keys(profile);
    Ok(true)
}

/// Sees to it that the keys of a guarded profile's connections are written nowhere. To be called while there is but one thread.
pub fn keep_keys(profile: &Profile) {
    if profile.guard.is_some() && std::env::var_os(KEY_LOG).is_some_and(|path| !path.is_empty()) {
        log::warn!("{KEY_LOG} is not obeyed: the profile {} is guarded", profile.name);
        // SAFETY: no plugin is loaded and no task has been started: this is the only thread.
        unsafe { std::env::remove_var(KEY_LOG) };
    }
}

/// Refuses options that give up what protects the connection.
pub fn check(target: &Target, schema: &Schema, connection: &Map<String, Value>) -> Result<(), Failure> {
    let Some(profile) = guarded(target) else { return Ok(()) };
    let set = |name: &str| connection.get(name).is_some_and(|value| *value != Value::Bool(false));
    match schema.specs.iter().find(|spec| spec.insecure && set(&spec.name)) {
        None => Ok(()),
        Some(spec) => {
            let text = format!("profile {} is guarded: --{} is refused with it", profile.name, spec.flag());
            Err(Failure::new(Exit::Refused, text).hint(format!(
                "`tracemq profile set {} --guard none` takes the guard away if this is meant",
                profile.name
            )))
        }
    }
}
