//! Client and server against each other, datagram by datagram.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tracemq_plugin_api::net::{ServerTls, ServerTlsOptions, TlsOptions};
use tracemq_plugin_api::prelude::{Error, ErrorKind};

use super::{
    Client, ClientEvent, ClientSettings, Over, PskOptions, ServePskOptions, Server, ServerEvent,
    ServerSettings,
};

const LONGEST: Duration = Duration::from_secs(20);

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn psk_server() -> Server {
    let keys = ServePskOptions { psk: vec!["ann=secret".to_owned(), "bob=0x010203".to_owned()] };
    Server::new(ServerSettings::new(&keys, None, Over::Datagrams).unwrap()).unwrap()
}

fn psk_client(identity: &str, key: &str) -> Client {
    let psk = PskOptions { psk_identity: Some(identity.to_owned()), psk_key: Some(key.to_owned()) };
    let settings = ClientSettings::new(&psk, &TlsOptions::default(), Over::Datagrams).unwrap();
    Client::new(&settings, "localhost", 5684, "localhost:5684").unwrap()
}

/// Certificates of one authority, and those of another.
struct Certificates {
    folder: TempDir,
    ca: PathBuf,
    other_ca: PathBuf,
}

impl Certificates {
    fn new() -> Certificates {
        let folder = tempfile::tempdir().unwrap();
        let (ca, other_ca) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
        let made = Certificates { folder, ca, other_ca };
        let issuer = authority("one");
        std::fs::write(&made.ca, issuer.pem()).unwrap();
        let stranger = authority("other");
        std::fs::write(&made.other_ca, stranger.pem()).unwrap();
        made.sign("server", &["localhost", "127.0.0.1"], &issuer);
        made.sign("client", &["device"], &issuer);
        made.sign("stranger", &["device"], &stranger);
        made
    }

    fn sign(&self, name: &str, hosts: &[&str], issuer: &CertifiedIssuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let certificate = CertificateParams::new(hosts).unwrap().signed_by(&key, issuer).unwrap();
        std::fs::write(self.file(name), certificate.pem() + &key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.pem"))
    }

    fn server(&self, asks: bool) -> Server {
        let tls = ServerTlsOptions {
            tls_cert: Some(self.file("server")),
            tls_ca: asks.then(|| self.ca.clone()),
            ..ServerTlsOptions::default()
        };
        let tls = ServerTls::open(&tls, None, "").unwrap();
        Server::new(ServerSettings::new(&ServePskOptions::default(), Some(tls), Over::Datagrams).unwrap())
            .unwrap()
    }

    fn client(&self, host: &str, tls: TlsOptions) -> Client {
        let settings = ClientSettings::new(&PskOptions::default(), &tls, Over::Datagrams).unwrap();
        Client::new(&settings, host, 5684, "the server").unwrap()
    }

    fn trusting(&self) -> TlsOptions {
        TlsOptions { tls_ca: Some(self.ca.clone()), ..TlsOptions::default() }
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Hands datagrams to and fro until there are none.
fn exchange(client: &mut Client, server: &mut Server, port: u16) {
    loop {
        let mut any = false;
        while let Some(bytes) = client.poll_transmit() {
            server.receive(Instant::now(), address(port), bytes);
            any = true;
        }
        while let Some((peer, bytes)) = server.poll_transmit() {
            // What goes to another client is another's.
            if peer == address(port) {
                client.receive(bytes);
            }
            any = true;
        }
        if !any {
            return;
        }
    }
}

fn established(client: &mut Client, server: &mut Server) -> Option<String> {
    assert!(matches!(client.poll_event(), Some(ClientEvent::Established { .. })));
    match server.poll_event() {
        Some(ServerEvent::Opened { identity, .. }) => identity,
        other => panic!("an association, not {other:?}"),
    }
}

fn failed(client: &mut Client) -> Error {
    match client.poll_event() {
        Some(ClientEvent::Failed(error)) => error,
        other => panic!("a failure, not {other:?}"),
    }
}

fn refused(server: &mut Server) -> String {
    match server.poll_event() {
        Some(ServerEvent::Refused { why, .. }) => why,
        other => panic!("a refusal, not {other:?}"),
    }
}

fn talk(client: &mut Client, server: &mut Server, port: u16) {
    assert!(client.send(b"question"));
    exchange(client, server, port);
    match server.poll_event() {
        Some(ServerEvent::Received { peer, bytes }) => {
            assert_eq!((peer, &bytes[..]), (address(port), &b"question"[..]));
        }
        other => panic!("a message, not {other:?}"),
    }
    assert!(server.send(Instant::now(), address(port), b"answer"));
    exchange(client, server, port);
    assert!(matches!(client.poll_event(), Some(ClientEvent::Received(bytes)) if bytes == b"answer"[..]));
}

#[test]
fn a_shared_key_opens_an_association() {
    let mut server = psk_server();
    for (port, identity, key) in [(1, "ann", "secret"), (2, "bob", "0x010203")] {
        let mut client = psk_client(identity, key);
        exchange(&mut client, &mut server, port);
        assert_eq!(established(&mut client, &mut server).as_deref(), Some(identity));
        talk(&mut client, &mut server, port);
        client.close();
        exchange(&mut client, &mut server, port);
        assert!(
            matches!(server.poll_event(), Some(ServerEvent::Closed { peer, .. }) if peer == address(port))
        );
        assert!(!server.send(Instant::now(), address(port), b"late"));
    }
}

#[test]
fn an_unknown_identity_and_a_wrong_key_are_refused() {
    let mut server = psk_server();
    let mut client = psk_client("carl", "secret");
    exchange(&mut client, &mut server, 1);
    let error = failed(&mut client);
    assert_eq!(error.kind(), ErrorKind::AUTH);
    assert!(error.to_string().contains("does not know this PSK identity"), "{error}");
    assert!(refused(&mut server).contains("\"carl\""));
    let mut client = psk_client("ann", "wrong");
    exchange(&mut client, &mut server, 2);
    assert!(client.poll_event().is_none(), "the server can't read it, and stays silent");
    let error = client.too_slow();
    assert!(error.hint_text().contains("pre-shared key"), "{error}");
}

#[test]
fn a_certificate_is_held_against_authority_and_name() {
    let certificates = Certificates::new();
    let mut server = certificates.server(false);
    let mut client = certificates.client("localhost", certificates.trusting());
    exchange(&mut client, &mut server, 1);
    assert_eq!(established(&mut client, &mut server), None);
    talk(&mut client, &mut server, 1);

    let other = TlsOptions { tls_ca: Some(certificates.other_ca.clone()), ..TlsOptions::default() };
    let elsewhere = TlsOptions { tls_server_name: Some("localhost".to_owned()), ..certificates.trusting() };
    for (host, tls, part) in [
        ("localhost", other.clone(), Some("trusted CA")),
        ("elsewhere.example", certificates.trusting(), Some("elsewhere.example")),
        ("elsewhere.example", elsewhere, None),
        ("127.0.0.1", certificates.trusting(), None),
        ("127.0.0.2", certificates.trusting(), Some("127.0.0.2")),
        ("localhost", TlsOptions { insecure_skip_verify: true, ..other }, None),
    ] {
        let mut client = certificates.client(host, tls);
        exchange(&mut client, &mut server, 2);
        match part {
            None => assert!(matches!(client.poll_event(), Some(ClientEvent::Established { .. })), "{host}"),
            Some(part) => {
                let error = failed(&mut client).to_string();
                assert!(error.contains(part), "{host}: {error}");
            }
        }
    }
}

#[test]
fn a_client_shows_its_certificate_where_it_must() {
    let certificates = Certificates::new();
    let shown =
        |name: &str| TlsOptions { tls_cert: Some(certificates.file(name)), ..certificates.trusting() };
    let mut server = certificates.server(true);
    let mut client = certificates.client("localhost", shown("client"));
    exchange(&mut client, &mut server, 1);
    established(&mut client, &mut server);
    talk(&mut client, &mut server, 1);

    let mut client = certificates.client("localhost", certificates.trusting());
    exchange(&mut client, &mut server, 2);
    let error = failed(&mut client);
    assert!(error.to_string().contains("client certificate"), "{error}");
    refused(&mut server);

    let mut client = certificates.client("localhost", shown("stranger"));
    exchange(&mut client, &mut server, 3);
    let error = failed(&mut client);
    assert!(error.to_string().contains("client certificate"), "{error}");
    let why = refused(&mut server);
    assert!(why.contains("the client's certificate is signed by \"other\""), "{why}");
}

#[test]
fn a_client_that_begins_anew_is_let_in_again() {
    let mut server = psk_server();
    let mut client = psk_client("ann", "secret");
    let mut recorded = Vec::new();
    // Its hello with the cookie, as it would be recorded on the way.
    while let Some(bytes) = client.poll_transmit() {
        server.receive(Instant::now(), address(1), bytes);
    }
    while let Some((_, bytes)) = server.poll_transmit() {
        client.receive(bytes);
    }
    while let Some(bytes) = client.poll_transmit() {
        recorded.push(bytes.clone());
        server.receive(Instant::now(), address(1), bytes);
    }
    exchange(&mut client, &mut server, 1);
    established(&mut client, &mut server);
    for bytes in recorded {
        server.receive(Instant::now(), address(1), bytes);
    }
    talk(&mut client, &mut server, 1);

    let mut again = psk_client("bob", "0x010203");
    let hello = again.poll_transmit().unwrap();
    server.receive(Instant::now(), address(1), hello);
    // Who has not brought the cookie back yet has not driven the old one out.
    let (_, question) = server.poll_transmit().unwrap();
    talk(&mut client, &mut server, 1);
    again.receive(question);
    exchange(&mut again, &mut server, 1);
    assert!(matches!(server.poll_event(), Some(ServerEvent::Closed { .. })));
    assert_eq!(established(&mut again, &mut server).as_deref(), Some("bob"));
    talk(&mut again, &mut server, 1);
}

#[test]
fn what_is_lost_is_sent_again() {
    let mut server = psk_server();
    let mut client = psk_client("ann", "secret");
    let begun = Instant::now();
    let mut sent = 0;
    loop {
        while let Some(bytes) = client.poll_transmit() {
            sent += 1;
            // The first hello, and parts of what follows.
            if ![1, 4, 5, 8].contains(&sent) {
                server.receive(Instant::now(), address(1), bytes);
            }
        }
        while let Some((_, bytes)) = server.poll_transmit() {
            client.receive(bytes);
        }
        if matches!(client.poll_event(), Some(ClientEvent::Established { .. })) {
            break;
        }
        assert!(begun.elapsed() < LONGEST, "the handshake does not end");
        std::thread::sleep(Duration::from_millis(20));
        if client.next_timeout().is_some_and(|timeout| timeout <= Instant::now()) {
            client.handle_timeout();
        }
        server.handle_timeout(Instant::now());
    }
    assert!(sent > 8, "{sent} datagrams");
}

#[test]
fn there_are_only_so_many_associations() {
    let mut server = psk_server();
    let mut clients = Vec::new();
    for port in 1..=1100 {
        let mut client = psk_client("ann", "secret");
        exchange(&mut client, &mut server, port);
        clients.push(client);
    }
    assert_eq!(format!("{server:?}"), "Server { peers: 1024, .. }");
    // The quietest have made room, and were told so.
    let mut closed = 0;
    while let Some(event) = server.poll_event() {
        if let ServerEvent::Closed { peer, why } = event {
            assert!(peer.port() <= 76 && why.contains("room"), "{peer}: {why}");
            closed += 1;
        }
    }
    assert_eq!(closed, 76);
    assert!(
        server.send(Instant::now(), address(1100), b"x") && !server.send(Instant::now(), address(1), b"x")
    );
}

#[test]
fn who_is_not_heard_of_is_forgotten() {
    let mut server = psk_server();
    let mut client = psk_client("ann", "secret");
    exchange(&mut client, &mut server, 1);
    established(&mut client, &mut server);
    // Another brings its cookie back, and then says nothing.
    let mut half = psk_client("ann", "secret");
    server.receive(Instant::now(), address(2), half.poll_transmit().unwrap());
    half.receive(server.poll_transmit().unwrap().1);
    server.receive(Instant::now(), address(2), half.poll_transmit().unwrap());
    assert_eq!(format!("{server:?}"), "Server { peers: 2, .. }");
    server.handle_timeout(Instant::now() + Duration::from_secs(31));
    assert!(refused(&mut server).contains("nothing was heard"));
    assert_eq!(format!("{server:?}"), "Server { peers: 1, .. }");
    server.handle_timeout(Instant::now() + Duration::from_secs(25 * 3600));
    assert!(matches!(server.poll_event(), Some(ServerEvent::Closed { .. })));
}

#[test]
fn nothing_is_kept_of_whoever_brings_no_cookie_back() {
    let mut server = psk_server();
    for port in 1..=2000 {
        let mut client = psk_client("ann", "secret");
        server.receive(Instant::now(), address(port), client.poll_transmit().unwrap());
        assert!(server.poll_transmit().is_some(), "it is asked");
        assert!(server.poll_event().is_none());
    }
    assert_eq!(format!("{server:?}"), "Server { peers: 0, .. }");
    for bytes in [&b""[..], b"\x16\xfe\xfd", &[0x40; 100], &[0x17; 2000]] {
        server.receive(Instant::now(), address(1), Bytes::copy_from_slice(bytes));
        assert!(server.poll_transmit().is_none() && server.poll_event().is_none());
    }
    let mut client = psk_client("ann", "secret");
    exchange(&mut client, &mut server, 1);
    established(&mut client, &mut server);
}
