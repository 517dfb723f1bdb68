//! TLS, proxies and WebSocket transport, written once for every plugin (feature `net`).
//!
//! A plugin flattens [`NetOptions`] (or the parts it has use for) into its connection options, so that each plugin has the
//! same flags and the same profile fields, builds a [`Dialer`] from them once, and asks that for connected streams. What is
//! wrong with a file or an option is said when the dialer is made; what is wrong with a connection, when it is dialled:
//! every error names the option that would cure it. Servers get their listener from [`listen()`], their TLS from
//! [`ServerTls`], say with [`explain_client`] why a client's TLS failed, and judge logins with [`Users`].
//!
//! rustls with `ring` given explicitly, never a process-wide default: plugins share a process with others that may have
//! set one.

mod authority;
mod buffered;
mod calendar;
mod certificate;
mod der;
mod dial;
mod environment;
mod error;
mod explain;
mod keylog;
mod keys;
mod legacy;
mod listen;
#[cfg(feature = "self-signed")]
mod local_ca;
mod location;
mod material;
mod options;
mod pkcs12;
mod proxy;
mod refused_client;
mod sealed;
mod server;
mod server_options;
mod stream;
mod tcp;
mod tls;
mod upgrade;
mod users;
mod verify;
mod ws;

pub use authority::split_host_port;
pub use buffered::{Buffered, Moved};
pub use dial::Dialer;
pub use error::{NetError, NetErrorKind};
pub use explain::explain_io;
pub use keylog::KeyLog;
pub use listen::{accept, listen, listen_datagrams};
pub use location::{Location, bad_url, show_host_port};
pub use material::{ClientMaterial, ServerMaterial, TlsIdentity};
pub use options::{NetOptions, ProxyOptions, TimeoutOptions, TlsOptions, TlsVersion};
pub use refused_client::explain_client;
pub use server::{ServerTls, tls_acceptor};
pub use server_options::{ClientAuth, ServerTlsOptions};
pub use stream::Stream;
pub use tokio_rustls::{TlsAcceptor, client::TlsStream};
pub use upgrade::Upgraded;
pub use users::{User, Users};
pub use ws::{WsRequest, WsStream};
