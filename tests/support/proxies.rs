//! Proxies that this project did not write: microsocks for SOCKS5, tinyproxy for HTTP.
//!
//! Both look names up themselves, and tell where they were asked to go.

use crate::ports::free_port;
use crate::process::{Cmd, Run};
use crate::wait::{SHORT, until};
use std::net::TcpStream;
use tempfile::TempDir;

/// User and password of those that want one.
const USER: &str = "proxy-user";
const PASSWORD: &str = "proxy-secret";

/// Which program a [`Proxy`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    Microsocks,
    Tinyproxy,
}

impl ProxyKind {
    pub const ALL: [ProxyKind; 2] = [ProxyKind::Microsocks, ProxyKind::Tinyproxy];

    pub fn scheme(self) -> &'static str {
        match self {
            ProxyKind::Microsocks => "socks5",
            ProxyKind::Tinyproxy => "http",
        }
    }
}

/// A running proxy on 127.0.0.1. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    kind: ProxyKind,
    port: u16,
    run: Run,
    _folder: TempDir,
}

impl Proxy {
    /// For everybody.
    pub fn open(kind: ProxyKind) -> Proxy {
        Proxy::start(kind, false, "")
    }

    /// For `proxy-user` with `proxy-secret`.
    pub fn locked(kind: ProxyKind) -> Proxy {
        Proxy::start(kind, true, "")
    }

    /// A tinyproxy that lets nobody connect to another port than 443, as companies have them.
    pub fn only_443() -> Proxy {
        Proxy::start(ProxyKind::Tinyproxy, false, "ConnectPort 443\n")
    }

    fn start(kind: ProxyKind, locked: bool, settings: &str) -> Proxy {
        let folder = tempfile::Builder::new().prefix("tracemq-proxy-").tempdir().expect("a temporary folder");
        let port = free_port();
        let run = match kind {
            ProxyKind::Microsocks => {
                let command = Cmd::peer("microsocks").args(["-i", "127.0.0.1", "-p", &port.to_string()]);
                let login = locked.then_some(["-u", USER, "-P", PASSWORD]);
                command.args(login.into_iter().flatten()).start()
            }
            ProxyKind::Tinyproxy => {
                let login = if locked { format!("BasicAuth {USER} {PASSWORD}\n") } else { String::new() };
                let text = format!(
                    "Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nLogLevel Connect\n{login}{settings}"
                );
                let file = folder.path().join("tinyproxy.conf");
                std::fs::write(&file, text).expect("a file in a temporary folder");
                Cmd::peer("tinyproxy").args(["-d", "-c"]).arg(file).start()
            }
        };
        let accepts = until(SHORT, || TcpStream::connect(("127.0.0.1", port)).ok());
        assert!(accepts.is_some(), "{kind:?} does not accept connections\n{run:?}");
        Proxy { kind, port, run, _folder: folder }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Without a user.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.kind.scheme(), self.port)
    }

    /// With the user it wants.
    pub fn login(&self) -> String {
        self.login_with(PASSWORD)
    }

    /// With another password.
    pub fn login_with(&self, password: &str) -> String {
        format!("{}://{USER}:{password}@127.0.0.1:{}", self.kind.scheme(), self.port)
    }

    /// Whether it was asked to go there, with the name as it was given.
    pub fn was_asked_for(&self, host: &str, port: u16) -> bool {
        let wanted = format!("{host}:{port}");
        // They may tell after they have answered.
        until(SHORT, || {
            (self.run.stderr().contains(&wanted) || self.run.stdout().contains(&wanted)).then_some(())
        })
        .is_some()
    }
}
