//! `SSLKEYLOGFILE`: the keys of connections, written to a file for Wireshark and its like.
//!
//! The format is that of NSS, which all implementations share. A file that is made gets mode 0600: whoever reads it reads
//! everything that went over the connections. For a guarded profile the host takes the variable out of the environment.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

const VARIABLE: &str = "SSLKEYLOGFILE";

/// What the user is told each time.
pub(super) const WARNING: &str = "SSLKEYLOGFILE is set: the keys of this connection are written to that file, and whoever can read it can read everything";

/// Likewise, for a server.
pub(super) const SERVER_WARNING: &str = "SSLKEYLOGFILE is set: the keys of all connections are written to that file, and whoever can read it can read everything";

/// The file that the environment asks for.
pub(super) fn wanted() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The file, open.
pub struct KeyLog {
    file: Mutex<File>,
}

impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLog")
    }
}

impl KeyLog {
    /// `None`, and a warning, when the file can't be written: a connection does not depend on it.
    pub(super) fn open(path: &PathBuf) -> Option<Arc<Self>> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(path) {
            Ok(file) => Some(Arc::new(Self { file: Mutex::new(file) })),
            Err(error) => {
                log::warn!("{VARIABLE} {}: cannot be written, so no keys are: {error}", path.display());
                None
            }
        }
    }

    /// Adds a line, which comes without its end.
    pub fn line(&self, line: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // In one write, so that the lines of several processes don't mix.
        if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
            log::debug!("{VARIABLE}: {error}");
        }
    }
}

impl rustls::KeyLog for KeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.line(&format!("{label} {} {}", hex(client_random), hex(secret)));
    }
}
