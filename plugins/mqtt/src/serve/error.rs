//! What can go wrong when a broker is started or used. Each text says what, where, why and what helps.

use std::io;

use tracemq_plugin_api::net::NetError;

/// Why a broker could not be started, or could not take a message.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address, a user, or a certificate, key or CA file cannot be used.
    #[error(transparent)]
    Net(#[from] NetError),
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
