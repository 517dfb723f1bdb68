//! The installation under test, and its command with a home of its own.

use crate::process::Cmd;
use std::env;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What `scripts/build` left: `tracemq`, and `plugins/` beside it.
#[derive(Clone, Debug)]
pub struct Installation {
    dist: PathBuf,
}

impl Installation {
    /// `TRACEMQ_DIST` where it is set, else `dist` in the target folder.
    pub fn find() -> Installation {
        let dist =
            env::var_os("TRACEMQ_DIST").map(PathBuf::from).unwrap_or_else(|| target_folder().join("dist"));
        let installation = Installation { dist };
        let binary = installation.binary();
        assert!(
            binary.is_file(),
            "{} is missing: run scripts/test, or scripts/build --debug first",
            binary.display()
        );
        installation
    }

    pub fn folder(&self) -> &Path {
        &self.dist
    }

    pub fn binary(&self) -> PathBuf {
        self.dist.join("tracemq")
    }

    pub fn plugin_folder(&self) -> PathBuf {
        self.dist.join("plugins")
    }
}

/// The target folder that cargo uses for this workspace.
pub(crate) fn target_folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the workspace");
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), |folder| workspace.join(folder))
}

/// Variables that other programs obey, too.
const OTHERS: [&str; 7] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSLKEYLOGFILE"];

/// The installed `tracemq` with a home of its own: no test sees another's profiles, sessions or trust.
#[derive(Debug)]
pub struct Tracemq {
    installation: Installation,
    home: TempDir,
}

impl Tracemq {
    #[allow(clippy::new_without_default, reason = "it makes a folder and looks for the installation")]
    pub fn new() -> Tracemq {
        let home = tempfile::Builder::new().prefix("tracemq-test-").tempdir().expect("a temporary folder");
        Tracemq { installation: Installation::find(), home }
    }

    /// The folder that `TRACEMQ_HOME` names.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file into the home and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
        path
    }

    /// `tracemq ARGUMENTS…`, to be started. Nothing of the tester's own configuration reaches it.
    pub fn cmd<I, A>(&self, arguments: I) -> Cmd
    where
        I: IntoIterator<Item = A>,
        A: AsRef<std::ffi::OsStr>,
    {
        let command = Cmd::new(self.installation.binary())
            .args(arguments)
            .env("TRACEMQ_HOME", self.home.path())
            .env_remove("TRACEMQ_PLUGIN_PATH")
            .env("NO_COLOR", "1");
        OTHERS.iter().fold(command, |command, name| command.env_remove(name))
    }

    /// A shell script in a mount namespace of its own, in which `$T` is `tracemq`, `$P` the folder of the profiles.
    pub fn apart(&self, script: &str) -> Cmd {
        Cmd::peer("unshare")
            .args(["--mount", "--map-root-user", "sh", "-c", script])
            .env("TRACEMQ_HOME", self.home.path())
            .env_remove("TRACEMQ_PLUGIN_PATH")
            .env("T", self.installation.binary())
            .env("P", self.home.path().join("profiles"))
    }
}
