//! Proxies, by option and by the environment.
//!
//! The proxies of the environment don't lead to this machine. `127.1` is another way of writing 127.0.0.1, which the system's
//! resolver knows and nobody takes for this machine's name.

use tracemq_tests::{Certificates, Cmd, FaultyServer, Proxy, ProxyKind, Tracemq};

use crate::peers::{Peer, ROWS, Row};
use crate::text;

const ELSEWHERE: &str = "127.1";
/// A port where nothing listens, and which no test is given.
const NOBODY: u16 = 1;

struct Case<'a> {
    row: &'a Row,
    peer: Peer,
    tracemq: &'a Tracemq,
    ca: &'a str,
}

impl Case<'_> {
    fn command_to(&self, host: &str, port: u16) -> Cmd {
        let names = ["--tls-ca", self.ca, "--tls-server-name", "localhost"];
        self.row.command_to(self.tracemq, host, port).args(names)
    }

    fn through(&self, proxy: &str) -> Cmd {
        self.command_to("localhost", self.peer.port).args(["--proxy", proxy])
    }
}

/// Runs a test for each protocol over TCP, towards a server that anybody may connect to.
fn each(test: impl Fn(&Case<'_>)) {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    for row in ROWS.iter().filter(|row| !row.datagrams) {
        let peer = row.start(&certificates, &certificates.server);
        test(&Case { row, peer, tracemq: &tracemq, ca: text(&certificates.ca) });
    }
}

#[test]
fn a_proxy_leads_to_the_server_and_looks_its_name_up() {
    let open = ProxyKind::ALL.map(Proxy::open);
    let locked = ProxyKind::ALL.map(Proxy::locked);
    each(|case| {
        for (open, locked) in open.iter().zip(&locked) {
            case.through(&open.url()).finish().expect(0);
            assert!(open.was_asked_for("localhost", case.peer.port), "{open:?}");
            case.through(&locked.login()).finish().expect(0);
            assert!(locked.was_asked_for("localhost", case.peer.port), "{locked:?}");
        }
    });
}

#[test]
fn a_proxy_that_refuses_is_told_with_the_reason() {
    let open = ProxyKind::ALL.map(Proxy::open);
    let locked = ProxyKind::ALL.map(Proxy::locked);
    let strict = Proxy::only_443();
    each(|case| {
        for (open, locked) in open.iter().zip(&locked) {
            let wrong = case.through(&locked.login_with("wrong-secret")).finish();
            let wrong =
                wrong.expect_failure(4, &["the proxy", "refused the user or the password", "--proxy"]);
            assert!(!wrong.reason().contains("wrong-secret"), "{wrong:?}");
            let none = case.through(&locked.url()).finish();
            none.expect_failure(4, &["wants a user and a password", "--proxy"]);

            let closed = case.command_to("localhost", NOBODY).args(["--proxy", &open.url()]).finish();
            closed.expect_failure(3, &["the proxy", &format!("could not connect to localhost:{NOBODY}")]);
        }
        let forbidden = case.through(&strict.url()).finish();
        forbidden.expect_failure(3, &["the proxy", "could not connect to localhost", "403"]);
    });
}

#[test]
fn what_is_no_proxy_is_told_as_such() {
    let socks = Proxy::open(ProxyKind::Microsocks);
    let mail = FaultyServer::answering(b"500 I deliver mail\r\n");
    each(|case| {
        let closed = format!("socks5://127.0.0.1:{NOBODY}");
        let gone = case.through(&closed).finish();
        gone.expect_failure(3, &["the proxy cannot be reached", "refused", "--proxy"]);
        for (scheme, name) in [("socks5", "SOCKS5"), ("http", "HTTP")] {
            let other = case.through(&format!("{scheme}://127.0.0.1:{}", mail.port())).finish();
            other.expect_failure(3, &["the proxy", &format!("does not speak {name}"), "--proxy"]);
        }
        let swapped = format!("http://127.0.0.1:{}", socks.port());
        case.through(&swapped).finish().expect_failure(3, &["the proxy", "scheme and the port of --proxy"]);
        case.through("ftp://127.0.0.1:1").finish().expect_failure(2, &["--proxy", "ftp"]);
    });
}

#[test]
fn the_environment_names_a_proxy() {
    let open = ProxyKind::ALL.map(Proxy::open);
    let closed = format!("http://127.0.0.1:{NOBODY}");
    each(|case| {
        let port = case.peer.port;
        let run = |host: &str, variables: &[(&str, &str)]| {
            let command = case.command_to(host, port);
            variables.iter().fold(command, |command, (name, value)| command.env(name, value)).finish()
        };
        for proxy in &open {
            for variable in ["ALL_PROXY", "HTTPS_PROXY", "https_proxy"] {
                run(ELSEWHERE, &[(variable, &proxy.url())]).expect(0);
            }
            assert!(proxy.was_asked_for(ELSEWHERE, port), "{proxy:?}");
        }
        run(ELSEWHERE, &[("ALL_PROXY", &closed)])
            .expect_failure(3, &["the proxy cannot be reached", "ALL_PROXY", "NO_PROXY"]);
        run(ELSEWHERE, &[("HTTPS_PROXY", &closed), ("ALL_PROXY", &open[0].url())])
            .expect_failure(3, &["the proxy cannot be reached", "HTTPS_PROXY"]);
        // What NO_PROXY lists goes past it, and so does this machine.
        for list in ["127.1", "example.com, 127.1", "*", &format!("127.1:{port}")] {
            run(ELSEWHERE, &[("ALL_PROXY", &closed), ("NO_PROXY", list)]).expect(0);
        }
        run(ELSEWHERE, &[("ALL_PROXY", &closed), ("NO_PROXY", "127.1:1")]).expect(3);
        run("localhost", &[("ALL_PROXY", &closed)]).expect(0);
        run("127.0.0.1", &[("HTTPS_PROXY", &closed)]).expect(0);
        // The option comes before all of it.
        let given = case.through(&open[0].url()).env("ALL_PROXY", &closed).env("NO_PROXY", "*").finish();
        given.expect(0);
        let unknown = run(ELSEWHERE, &[("ALL_PROXY", "socks4://user:hunter2@127.0.0.1:1")]);
        let unknown = unknown.expect_failure(2, &["ALL_PROXY", "socks4", "NO_PROXY"]);
        assert!(!unknown.stderr.contains("hunter2"), "{unknown:?}");
    });
}

#[test]
fn datagrams_go_through_no_proxy() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let closed = format!("socks5://127.0.0.1:{NOBODY}");
    for row in ROWS.iter().filter(|row| row.datagrams) {
        let peer = row.start(&certificates, &certificates.server);
        let command = |host: &str| {
            let names = ["--tls-ca", text(&certificates.ca), "--tls-server-name", "localhost"];
            row.command_to(&tracemq, host, peer.port).args(names)
        };
        let refused = command("localhost").args(["--proxy", &closed]).finish();
        refused.expect_failure(2, &["--proxy", "datagrams", row.scheme]);
        command(ELSEWHERE).env("ALL_PROXY", &closed).env("HTTPS_PROXY", &closed).finish().expect(0);
    }
}
