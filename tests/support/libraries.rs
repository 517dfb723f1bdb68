//! The libraries that were made to be loaded by tests: built when they are first asked for.
//!
//! What a stranger would build stands in workspaces of its own, and they share a target folder of their own, so that what
//! they depend on is built once.

use crate::installation::{Tracemq, target_folder};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A library of `tests/fixtures`, by its name there.
pub fn fixture(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let workspace = tests_folder().parent().expect("tests/ stands in the workspace");
        // With the whole workspace, as scripts/build and `cargo test` do, lest shared crates be built with other features.
        cargo(workspace, &target_folder(), ["--workspace", "--examples"]);
        target_folder().join("debug/examples")
    });
    library(folder, name)
}

/// The plugin of `tests/outside`.
pub fn outside_plugin() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| library(&build_apart(&tests_folder().join("outside")), "tracemq_plugin_ticker"))
        .clone()
}

/// The folder with `libold_plugin.so` and `old-host`, built on the frozen API.
pub fn old_api() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build_apart(&tests_folder().join("abi"))).clone()
}

/// A copy of `tests/abi` whose packages begin with `name` instead of `old` and whose API stands in `name/plugin-api`, changed
/// by `change` and built. Returns the folder with the results.
pub fn changed_api(name: &str, change: impl FnOnce(&Path)) -> PathBuf {
    let copy = apart().join(format!("{name}-api"));
    drop(std::fs::remove_dir_all(&copy));
    copy_folder(&tests_folder().join("abi"), &copy);
    for package in ["plugin", "host"] {
        let (old, new) = (format!("old-{package}"), format!("{name}-{package}"));
        std::fs::rename(copy.join(&old), copy.join(&new)).expect("the copy can be changed");
        replace(&copy.join("Cargo.toml"), &format!("{old:?}"), &format!("{new:?}"));
        replace(&copy.join("Cargo.lock"), &format!("name = {old:?}"), &format!("name = {new:?}"));
        replace(&copy.join(&new).join("Cargo.toml"), &format!("name = {old:?}"), &format!("name = {new:?}"));
    }
    // Cargo tells packages of one target folder apart by their place in their workspace, not by that of the workspace.
    std::fs::rename(copy.join("v1.0"), copy.join(name)).expect("the copy can be changed");
    for place in ["members = [\"", "path = \""] {
        replace(&copy.join("Cargo.toml"), &format!("{place}v1.0/"), &format!("{place}{name}/"));
    }
    change(&copy);
    build_apart(&copy)
}

impl Tracemq {
    /// Drops a library into the user's plugin folder and returns its path there. Nobody has said yet that it is trusted.
    pub fn drop_in(&self, library: &Path) -> PathBuf {
        let folder = self.home().join("plugins");
        std::fs::create_dir_all(&folder).expect("the home can be written to");
        let path = folder.join(library.file_name().expect("a library has a name"));
        std::fs::copy(library, &path)
            .unwrap_or_else(|error| panic!("copying {}: {error}", library.display()));
        path
    }

    /// Likewise, and trusts it.
    pub fn add_plugin(&self, library: &Path) -> PathBuf {
        let path = self.drop_in(library);
        self.cmd(["plugin", "trust"]).arg(&path).finish().expect(0);
        path
    }
}

/// Replaces the one place in a file that reads so.
pub fn replace(file: &Path, old: &str, new: &str) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(text.matches(old).count(), 1, "{old:?} in {}", file.display());
    std::fs::write(file, text.replace(old, new))
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

fn tests_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn apart() -> PathBuf {
    target_folder().join("abi")
}

fn build_apart(workspace: &Path) -> PathBuf {
    cargo(workspace, &apart(), []);
    apart().join("debug")
}

fn cargo<const N: usize>(workspace: &Path, target: &Path, arguments: [&str; N]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked"]).args(arguments).arg("--target-dir").arg(target);
    let output = command.current_dir(workspace).output().expect("cargo can be started");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} does not build:\n{text}", workspace.display());
}

fn library(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("lib{name}.so"))
}

/// Copies a folder, without a target folder in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("an entry of a folder");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true if path.file_name() == Some(OsStr::new("target")) => {}
            true => copy_folder(&path, &target),
            false => drop(std::fs::copy(&path, &target).expect("a file can be copied")),
        }
    }
}
