//! Where plugins are looked for, in which order, and which files of a folder are considered.
//!
//! The order is the user's power over the installation: what is given for one command wins over what is set for the
//! session, that over what the user installed, that over what came with the program.

use crate::folders;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Names a list of folders, separated by colons.
const VARIABLE: &str = "TRACEMQ_PLUGIN_PATH";

const SYSTEM: &str = "/usr/lib/tracemq/plugins";

/// A folder of plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub folder: PathBuf,
    /// Came with the program: what is in it is trusted, provided that nobody else can write there.
    pub installed: bool,
    /// Named on the command line: what is wrong with it concerns the user now.
    pub given: bool,
}

/// All places, the first to be looked into first; those of `--plugin-dir` lead. They need not exist.
pub fn places(given: &[PathBuf]) -> Vec<Place> {
    let beside = env::current_exe().ok().and_then(|path| Some(path.parent()?.join("plugins")));
    let data = folders::data().map(|folder| folder.join("plugins"));
    order(given, env::var_os(VARIABLE).as_deref(), data, beside)
}

fn order(
    given: &[PathBuf],
    variable: Option<&OsStr>,
    data: Option<PathBuf>,
    beside: Option<PathBuf>,
) -> Vec<Place> {
    let installed: Vec<PathBuf> = beside.into_iter().chain([SYSTEM.into()]).collect();
    let is_installed = |folder: &Path| installed.iter().any(|other| same(folder, other));
    // An empty part of the variable is a slip of the shell and must not stand for the current folder.
    let session = variable.into_iter().flat_map(env::split_paths).filter(|path| !path.as_os_str().is_empty());
    let mut places: Vec<Place> = Vec::new();
    let mut add = |folder: PathBuf, given: bool| {
        let Ok(folder) = std::path::absolute(folder) else { return };
        if !places.iter().any(|place| same(&place.folder, &folder)) {
            places.push(Place { installed: is_installed(&folder), folder, given });
        }
    };
    given.iter().for_each(|folder| add(folder.clone(), true));
    session.for_each(|folder| add(folder, false));
    data.into_iter().chain(installed.iter().cloned()).for_each(|folder| add(folder, false));
    places
}

/// Whether two names stand for one folder.
fn same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The libraries of a folder by name, or why it can't be read. A folder that isn't there has none.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if is_library(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_library(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(OsStr::to_str);
    !hidden && (extension == Some("so") || (cfg!(target_os = "macos") && extension == Some("dylib")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_flag_variable_user_installation_system() {
        let given = ["/flag1".into(), "/flag2".into()];
        let variable = OsStr::new("/var1::/var2");
        let places = order(&given, Some(variable), Some("/data".into()), Some("/exe/plugins".into()));
        let names: Vec<_> = places.iter().map(|place| place.folder.to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["/flag1", "/flag2", "/var1", "/var2", "/data", "/exe/plugins", "/usr/lib/tracemq/plugins"]
        );
        let installed: Vec<_> = places.iter().map(|place| place.installed).collect();
        assert_eq!(installed, [false, false, false, false, false, true, true]);
        assert_eq!(places.iter().filter(|place| place.given).count(), 2);
    }

    #[test]
    fn the_installed_folder_named_by_a_flag_stays_the_installed_folder() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        let real = folder.path().join("plugins");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let places = order(std::slice::from_ref(&link), None, None, Some(real));
        assert_eq!(places[0], Place { folder: link, installed: true, given: true });
        assert_eq!(places.len(), 2, "it is not looked into twice: {places:?}");
    }

    #[test]
    fn only_visible_libraries_are_considered_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libb.so", "a.so", ".hidden.so", "libc.so.1", "readme.txt", "so"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names = files(folder.path()).unwrap();
        let names: Vec<_> = names.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.so", "libb.so"]);
        assert!(files(&folder.path().join("none")).is_err());
    }
}
