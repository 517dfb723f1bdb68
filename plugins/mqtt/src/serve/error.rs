//! What can go wrong when a broker is started or used. Each text says what, where, why and what helps.

use std::io;

use tracemq_plugin_api::net::NetError;

/// Why a broker could not be started, or could not take a message.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The text is no `ADDR:PORT`, or names no address of this machine.
    #[error(
        "cannot use \"{text}\" as a listening address: {reason}; write ADDR:PORT, for instance 127.0.0.1:1883 (port 0 takes any free one)"
    )]
    Address {
        /// The text as it was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused the socket.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address that was asked for.
        address: String,
        /// Why, and what the user can do.
        reason: String,
    },
    /// A certificate, key or CA file cannot be used.
    #[error(transparent)]
    Tls(#[from] NetError),
    /// An option has a value that cannot work.
    #[error("{option}: {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What is wrong and what is expected.
        reason: String,
    },
    /// The message cannot be published (its topic or a property is not allowed by the standard, or too big).
    #[error("cannot publish to \"{topic}\": {reason}")]
    Publish {
        /// The topic name.
        topic: String,
        /// Why.
        reason: String,
    },
    /// The broker has been stopped.
    #[error("the broker has been stopped; start it again")]
    Stopped,
    /// The operating system gave no thread or no socket.
    #[error("cannot start the broker: {0}")]
    System(#[from] io::Error),
}

impl BrokerError {
    /// Turns a failed bind into words: the three usual causes each have their own remedy.
    pub(super) fn listen(address: &str, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "the address is already in use by another program; stop that one or choose another port (0 takes any free one)".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "the system allows ports below 1024 to privileged users only; choose a port from 1024 up".to_owned()
            }
            io::ErrorKind::AddrNotAvailable => {
                "no network interface of this machine has this address; use 127.0.0.1 for this machine only or 0.0.0.0 for all of its addresses".to_owned()
            }
            _ => error.to_string(),
        };
        Self::Listen { address: address.to_owned(), reason }
    }
}
