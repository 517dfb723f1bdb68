//! TLS, proxies and WebSocket transport, written once for every plugin (feature `net`).
//!
//! A plugin flattens [`NetOptions`] (or the parts it has use for) into its connection options, so that each plugin has the
//! same flags and the same profile fields, builds a [`Dialer`] from them once, and asks that for connected streams. What is
//! wrong with a file or an option is said when the dialer is made; what is wrong with a connection, when it is dialled:
//! every error names the option that would cure it. Servers get their listener from [`listen()`], their TLS from
//! [`tls_acceptor`], and judge logins with [`Users`].
//!
//! rustls with `ring` given explicitly, never a process-wide default: plugins share a process with others that may have
//! set one.

mod authority;
mod buffered;
mod der;
mod dial;
mod error;
mod explain;
mod keys;
mod listen;
mod location;
mod material;
mod options;
mod pkcs12;
mod proxy;
mod sealed;
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
pub use listen::{accept, listen, listen_datagrams};
pub use location::{Location, bad_url, show_host_port};
pub use material::{ClientMaterial, ServerMaterial, TlsIdentity};
pub use options::{NetOptions, ProxyOptions, ServerTlsOptions, TimeoutOptions, TlsOptions};
pub use stream::Stream;
pub use tls::tls_acceptor;
pub use tokio_rustls::{TlsAcceptor, client::TlsStream};
pub use upgrade::Upgraded;
pub use users::{User, Users};
pub use ws::{WsRequest, WsStream};
