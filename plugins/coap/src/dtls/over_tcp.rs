//! TLS over TCP where pre-shared keys are given, which rustls has not (RFC 8323 section 9.1). With certificates alone it is
//! rustls.

use std::fmt;
use std::io;
use std::pin::Pin;

use openssl::ssl::ErrorCode;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;
use tracemq_plugin_api::net::{ServerTls, TlsOptions};
use tracemq_plugin_api::prelude::{Error, ErrorKind, Result};
use tracemq_plugin_api::sdk::Step;

use super::failure::Failure;
use super::options::{PskOptions, ServePskOptions};
use super::settings::{ClientSettings, Over, ServerSettings, cipher, identity};

/// What makes TLS of a client's connections.
#[derive(Debug)]
pub struct Connector(ClientSettings);

impl Connector {
    /// # Errors
    /// An option or a file that can't be.
    pub fn new(psk: &PskOptions, tls: &TlsOptions) -> Result<Connector> {
        ClientSettings::new(psk, tls, Over::Tcp).map(Connector)
    }

    /// What the user is to be told each time.
    pub fn warnings(&self) -> Vec<&'static str> {
        self.0.warnings()
    }

    /// `target` stands for the server in errors.
    ///
    /// # Errors
    /// The server does not take the key, has none, or speaks no TLS.
    pub async fn connect(
        &self,
        tcp: TcpStream,
        host: &str,
        port: u16,
        target: &str,
    ) -> Result<SslStream<TcpStream>> {
        let (ssl, verdict) = self.0.ssl(host, port)?;
        let mut stream = SslStream::new(ssl, tcp).map_err(|error| {
            Failure::setup(&error).explain(Over::Tcp, target, self.0.psk(), self.0.has_certificate())
        })?;
        let step = Step::begin("tls");
        if let Err(error) = Pin::new(&mut stream).connect().await {
            if let Some(refusal) = verdict.refusal() {
                return Err(refusal);
            }
            if let Some(why) = broken(&error) {
                let text = format!("{target} ended the TLS handshake: {why}");
                let hint = format!(
                    "a server without this key, or that does not speak TLS on port {port}, may do this: check --psk-identity, --psk-key, the scheme and the port"
                );
                return Err(Error::new(ErrorKind::CONNECT, text).hint(hint));
            }
            return Err(Failure::of(&error).explain(
                Over::Tcp,
                target,
                self.0.psk(),
                self.0.has_certificate(),
            ));
        }
        step.done(cipher(stream.ssl()));
        Ok(stream)
    }
}

/// What makes TLS of a server's connections.
#[derive(Debug)]
pub struct Acceptor(ServerSettings);

/// A client that has come in.
pub struct Accepted {
    pub stream: SslStream<TcpStream>,
    /// Its PSK identity or the common name in its certificate, if it has either.
    pub identity: Option<String>,
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Keys and a certificate may both be given: each client chooses.
    ///
    /// # Errors
    /// Keys that can't be.
    pub fn new(psk: &ServePskOptions, tls: Option<ServerTls>) -> Result<Acceptor> {
        ServerSettings::new(psk, tls, Over::Tcp).map(Acceptor)
    }

    /// # Errors
    /// Why the client did not come in, as the end of a sentence.
    pub async fn accept(&self, tcp: TcpStream) -> std::result::Result<Accepted, String> {
        let (ssl, verdict) = self.0.ssl().map_err(|error| error.to_string())?;
        let mut stream = SslStream::new(ssl, tcp).map_err(|error| Failure::setup(&error).to_string())?;
        match Pin::new(&mut stream).accept().await {
            Ok(()) => Ok(Accepted { identity: identity(stream.ssl()), stream }),
            Err(error) => Err(match broken(&error) {
                Some(why) => format!("it ended the TLS handshake: {why}"),
                None => self.0.explain(stream.ssl(), &verdict, &Failure::of(&error)),
            }),
        }
    }
}

/// Why there is no connection any more, if it is that.
fn broken(error: &openssl::ssl::Error) -> Option<String> {
    let closed = || Some("the connection was closed".to_owned());
    match (error.io_error(), error.code()) {
        (Some(error), _) if error.kind() == io::ErrorKind::UnexpectedEof => closed(),
        (Some(error), _) => Some(crate::client::reason(error)),
        (None, ErrorCode::SYSCALL | ErrorCode::ZERO_RETURN) => closed(),
        (None, _) => None,
    }
}
