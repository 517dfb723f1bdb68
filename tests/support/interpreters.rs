//! Python and Node with the packages that `scripts/test` put into the target folder.

use crate::installation::target_folder;
use crate::process::Cmd;

impl Cmd {
    /// The Python of our virtual environment. Panics if it was not made.
    pub fn python() -> Cmd {
        let python = target_folder().join("python/bin/python3");
        assert!(python.is_file(), "{} is missing: scripts/test makes it", python.display());
        Cmd::new(python).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1")
    }

    /// A program that came with a package of our virtual environment. Panics if it was not installed.
    pub fn of_python(program: &str) -> Cmd {
        let file = target_folder().join("python/bin").join(program);
        assert!(file.is_file(), "{} is missing: scripts/test installs it", file.display());
        Cmd::new(file)
    }

    /// Node, whose `require` finds our packages. Panics if they were not installed.
    pub fn node() -> Cmd {
        let modules = target_folder().join("node/node_modules");
        assert!(modules.is_dir(), "{} is missing: scripts/test makes it", modules.display());
        Cmd::peer("node").env("NODE_PATH", modules)
    }
}
