//! The only place that opens a library.
//!
//! A library is opened once and never closed: its threads and thread-local destructors would outlive its code. Symbols are
//! bound at once and kept apart from those of other plugins. What is wrong is told after the library's name: "holds no …".

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use tracemq_plugin_api::abi::{self, HEADER_SYMBOL, Incompatible, PluginHeader, PluginRef};

/// Why a library was not opened, or holds no plugin that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub text: String,
    /// The cause lies outside of the file and may be gone the next time.
    pub passing: bool,
}

impl Fault {
    pub fn of_file(text: impl Into<String>) -> Fault {
        Fault { text: text.into(), passing: false }
    }

    pub fn passing(text: impl Into<String>) -> Fault {
        Fault { text: text.into(), passing: true }
    }
}

/// Opens the library under its name.
pub fn open(path: &Path) -> Result<PluginRef, Fault> {
    open_as(path, path)
}

/// Opens exactly the file that was looked at, even if its name stands for another by now. `path` is for messages.
pub fn open_file(file: File, path: &Path) -> Result<PluginRef, Fault> {
    if !cfg!(target_os = "linux") {
        return open(path);
    }
    let name = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    // The linker knows a library by its name: the number must not come to stand for another file.
    std::mem::forget(file);
    open_as(&name, path)
}

fn open_as(name: &Path, path: &Path) -> Result<PluginRef, Fault> {
    // SAFETY: code of the library runs here. Whoever calls has made sure that it is trusted.
    let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| explain(&reason(&error), name))?;
    // SAFETY: the symbol's type is checked by its magic number before more of it is used.
    let symbol = unsafe { library.get::<*const PluginHeader>(HEADER_SYMBOL.as_bytes()) };
    let header =
        symbol.map_or(std::ptr::null(), |symbol| symbol.into_raw().cast::<PluginHeader>().cast_const());
    std::mem::forget(library);
    if header.is_null() {
        return Err(Fault::of_file(format!(
            "holds no plugin: it does not export {HEADER_SYMBOL}; remove it, or build it with export_plugin! as a cdylib"
        )));
    }
    log::debug!("opened {}", path.display());
    // SAFETY: the library stays loaded for ever.
    unsafe { abi::open(header) }.map_err(|incompatible| Fault::of_file(refuse(&incompatible)))
}

fn refuse(incompatible: &Incompatible) -> String {
    let what_to_do = match incompatible {
        Incompatible::NotAPlugin => "remove it from the plugin folder",
        Incompatible::Version { plugin } if plugin.0 > abi::API_VERSION.0 => "update tracemq",
        Incompatible::Version { .. } => "get a newer version of the plugin",
        Incompatible::Layout { .. } => "rebuild it with the published tracemq-plugin-api",
        Incompatible::Broken(_) => "report this to the plugin's author",
    };
    format!("{incompatible}; {what_to_do}")
}

/// The linker's own words.
fn reason(error: &libloading::Error) -> String {
    match error {
        libloading::Error::DlOpen { source } => source.to_string(),
        other => other.to_string(),
    }
}

/// From the linker's words to what is missing. It names the library that it opened as `name`.
fn explain(reason: &str, name: &Path) -> Fault {
    let own = name.display().to_string();
    let rest = reason.strip_prefix(&own).map_or(reason, |rest| rest.trim_start_matches(':').trim());
    if let Some((library, why)) = reason.split_once(": cannot open shared object file: ") {
        if library != own {
            let why = if why == "No such file or directory" { "which is not installed" } else { why };
            return Fault::passing(format!("needs the library {library}, {why}; install it"));
        }
        return Fault::passing(format!("can't be opened: {why}"));
    }
    // /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.99' not found (required by …)
    if let Some((library, version)) = reason.split_once(": version `")
        && let Some((version, _)) = version.split_once("' not found")
    {
        let library = library.rsplit('/').next().unwrap_or(library);
        return Fault::passing(format!(
            "needs {version} of {library}, this system has an older one; get a build for this system"
        ));
    }
    if let Some(symbol) = rest.strip_prefix("undefined symbol: ") {
        let symbol = symbol.split([',', ' ']).next().unwrap_or(symbol);
        return Fault::passing(format!(
            "needs the function {symbol}, which no library offers; get a build for this system"
        ));
    }
    Fault::passing(format!("can't be opened: {}", rest.lines().next().unwrap_or("no reason was given")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linkers_words_become_ours() {
        let name = Path::new("/proc/self/fd/7");
        for (words, want) in [
            (
                "libnone.so.1: cannot open shared object file: No such file or directory",
                "needs the library libnone.so.1, which is not installed; install it",
            ),
            (
                "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.99' not found (required by /proc/self/fd/7)",
                "needs GLIBC_2.99 of libc.so.6, this system has an older one; get a build for this system",
            ),
            (
                "/proc/self/fd/7: undefined symbol: do_it",
                "needs the function do_it, which no library offers; get a build for this system",
            ),
            (
                "/proc/self/fd/7: cannot open shared object file: Permission denied",
                "can't be opened: Permission denied",
            ),
            (
                "/proc/self/fd/7: cannot dynamically load position-independent executable",
                "can't be opened: cannot dynamically load position-independent executable",
            ),
        ] {
            assert_eq!(explain(words, name).text, want);
        }
    }
}
