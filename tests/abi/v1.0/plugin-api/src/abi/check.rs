//! Whether a library's idea of the interface fits ours.
//!
//! abi_stable's own check accepts a plugin that is newer than the host and refuses an older one ("too many fields").
//! Run in both directions and accepted if either passes, it lets both in: whatever the older side lacks is reached through
//! accessors that test for presence. A change that is not an addition fails both ways and is refused.

use super::header::{MAGIC, PluginHeader};
use super::{API_VERSION, PluginRef};
use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::{
    AbiInstability, AbiInstabilityErrors, CheckingGlobals, check_layout_compatibility_with_globals,
};
use abi_stable::library::{IsLayoutChecked, LibHeader};
use abi_stable::type_layout::TLFieldOrFunction;
use std::fmt;

/// Why a library's header was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incompatible {
    /// The symbol is there, but it is not a TraceMQ plugin header.
    NotAPlugin,
    /// Made for another version of the interface.
    Version { plugin: (u32, u32, u32) },
    /// The same version number, but types that differ: which, and how.
    Layout { plugin: (u32, u32, u32), difference: String },
    /// The library's own start-up code failed.
    Broken(String),
}

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |(a, b, c): (u32, u32, u32)| format!("{a}.{b}.{c}");
        match self {
            Incompatible::NotAPlugin => f.write_str("has a plugin header of another product"),
            Incompatible::Version { plugin } => {
                write!(f, "was built for plugin API {}, this host has {}", show(*plugin), show(API_VERSION))
            }
            Incompatible::Layout { plugin, difference } => write!(
                f,
                "was built for an incompatible plugin API {} (host: {}): {difference}",
                show(*plugin),
                show(API_VERSION)
            ),
            Incompatible::Broken(why) => write!(f, "failed to initialise: {why}"),
        }
    }
}

impl std::error::Error for Incompatible {}

/// Checks a header and returns the functions behind it.
///
/// # Safety
/// `header` must point to a symbol named [`super::HEADER_SYMBOL`] of a library that stays loaded for ever. What it points to
/// is checked before it is trusted, but a library that lies about its layout can't be told from an honest one.
pub unsafe fn open(header: *const PluginHeader) -> Result<PluginRef, Incompatible> {
    // SAFETY: the caller's promise; only the fields that no version changes are read before they are checked.
    let header: &'static PluginHeader = unsafe { &*header };
    if header.magic != MAGIC {
        return Err(Incompatible::NotAPlugin);
    }
    let plugin = (header.version[0], header.version[1], header.version[2]);
    if plugin.0 != API_VERSION.0 {
        return Err(Incompatible::Version { plugin });
    }
    let module: &'static LibHeader = header
        .abi_header()
        .upgrade()
        .map_err(|_| Incompatible::Layout { plugin, difference: "it uses another ABI library".into() })?;
    check_layout(module).map_err(|difference| Incompatible::Layout { plugin, difference })?;
    // SAFETY: the layout was checked just above, in both directions.
    unsafe { module.init_root_module_with_unchecked_layout::<PluginRef>() }
        .map_err(|error| Incompatible::Broken(first_line(&error.to_string())))
}

/// The functions of a plugin that is linked into the host.
pub fn linked<S: super::header::ModuleSource>() -> PluginRef {
    abi_stable::prefix_type::PrefixTypeTrait::leak_into_prefix(S::module())
}

fn check_layout(module: &'static LibHeader) -> Result<(), String> {
    let host = <PluginRef as StableAbi>::LAYOUT;
    let IsLayoutChecked::Yes(plugin) = module.root_mod_consts().layout() else {
        return Err("it does not describe its types".into());
    };
    // Fresh globals: the shared ones remember pairs of types that were accepted in the other direction.
    let Err(newer) = check_layout_compatibility_with_globals(host, plugin, &CheckingGlobals::new()) else {
        return Ok(());
    };
    let Err(older) = check_layout_compatibility_with_globals(plugin, host, &CheckingGlobals::new()) else {
        return Ok(());
    };
    // Of the two lists of differences, the shorter one is nearer to the cause.
    Err(if older.errors.len() < newer.errors.len() {
        describe(&older, true)
    } else {
        describe(&newer, false)
    })
}

/// The differences in one line: at most three, the innermost types by name.
fn describe(errors: &AbiInstabilityErrors, swapped: bool) -> String {
    let mut lines = Vec::new();
    for error in &errors.errors {
        let place = error.stack_trace.last().map(|entry| match entry.found {
            TLFieldOrFunction::Field(field) => field.full_type().to_string(),
            TLFieldOrFunction::Function(function) => format!("function {}", function.name),
        });
        let place = place.unwrap_or_default();
        for difference in &error.errs {
            let line = format!("{}{}", place, one_line(difference, swapped));
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    let more = lines.len().saturating_sub(3);
    lines.truncate(3);
    let mut text = lines.join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

fn one_line(difference: &AbiInstability, swapped: bool) -> String {
    fn pair<T: fmt::Display>(swapped: bool, what: &str, expected: T, found: T) -> String {
        let (host, plugin) = if swapped { (found, expected) } else { (expected, found) };
        format!(": {what} {host} in the host, {plugin} in the plugin")
    }
    match difference {
        AbiInstability::Size(x) => pair(swapped, "size", x.expected, x.found),
        AbiInstability::Alignment(x) => pair(swapped, "alignment", x.expected, x.found),
        AbiInstability::FieldCountMismatch(x) => pair(swapped, "fields", x.expected, x.found),
        AbiInstability::TooManyVariants(x) => pair(swapped, "variants", x.expected, x.found),
        AbiInstability::Name(x) => {
            pair(swapped, "type", first_line(&x.expected.to_string()), first_line(&x.found.to_string()))
        }
        AbiInstability::Package(x) => pair(swapped, "package", x.expected, x.found),
        AbiInstability::PackageVersion(x) => {
            pair(swapped, "package version", x.expected.to_string(), x.found.to_string())
        }
        AbiInstability::UnexpectedField(x) => {
            pair(swapped, "field", first_line(&x.expected.to_string()), first_line(&x.found.to_string()))
        }
        other => {
            let text = format!("{other:?}");
            format!(": {}", text.split(['(', ' ', '{']).next().unwrap_or_default())
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .trim_end_matches([':', ','])
        .to_owned()
}
