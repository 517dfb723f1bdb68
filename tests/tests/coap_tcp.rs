//! coap+tcp:// and coaps+tcp:// (RFC 8323) against libcoap, in both directions.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use tracemq_tests::{
    Certificates, Cmd, Identity, LIBCOAP, LONG, LibcoapServer, Proxy, ProxyKind, Run, SHORT, Tracemq,
    free_port, json, libcoap_client, peer_script, resident_kib,
};

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("a path of letters")
}

fn pki<'a>(certificates: &'a Certificates, identity: &'a Identity) -> [&'a str; 6] {
    ["-c", path(&identity.cert), "-j", path(&identity.key), "-C", path(&certificates.ca)]
}

fn serve(tracemq: &Tracemq, scheme: &str, arguments: &[&str]) -> (Run, String) {
    let serve = tracemq
        .cmd(["serve", &format!("{scheme}://127.0.0.1:0"), "--json", "--resource", "/temp=21.5"])
        .args(arguments)
        .start();
    let url = json(&serve.wait_stdout("://"))["url"].as_str().expect("a URL").to_owned();
    assert!(url.starts_with(&format!("{scheme}://")), "{url}");
    (serve, url)
}

/// libcoap 4.3.1 on GnuTLS does not get 100 KB out over TLS, to its own peer neither.
fn length(library: &str, url: &str) -> usize {
    if library == "gnutls" && url.starts_with("coaps") { 10_000 } else { 100_000 }
}

const KEY: [&str; 4] = ["--psk-identity", "ann", "--psk-key", "secret"];

/// What `pub` says of its only message.
fn published(run: tracemq_tests::Done) -> serde_json::Value {
    json(&run.expect(0).lines()[0])["details"].clone()
}

/// GET, PUT of a body and back, observe: by our client.
fn talks(tracemq: &Tracemq, url: &str, security: &[&str], length: usize) {
    let body = "0123456789".repeat(length / 10);
    let file = tracemq.write("body", &body);
    let cmd = |arguments: &[&str]| tracemq.cmd(arguments).args(security).limit(LONG);
    let done = cmd(&["request", url, "/", "--format", "json"]).finish().expect(0);
    let message = json(&done.text());
    assert!(message["meta"]["round_trip_ms"].as_f64().is_some(), "{message}");
    // There are no types and message ids over a stream.
    assert!(
        message["meta"].get("type").is_none() && message["meta"].get("message_id").is_none(),
        "{message}"
    );
    cmd(&["pub", url, "/body", "--file", path(&file)]).finish().expect(0);
    let done = cmd(&["request", url, "/body", "--format", "json"]).finish().expect(0);
    assert_eq!(json(&done.text())["payload"], body);
    let done = cmd(&["sub", url, "/time", "-C", "2", "--format", "json"]).finish().expect(0);
    assert_eq!(done.lines().len(), 2);
}

#[test]
fn our_client_talks_to_both_libcoaps() {
    let tracemq = Tracemq::new();
    let certificates = Certificates::new();
    for library in LIBCOAP {
        let server =
            LibcoapServer::start(library, &[&pki(&certificates, &certificates.server)[..], &["-n"]].concat());
        talks(&tracemq, &server.url("coap+tcp"), &[], 100_000);
        let url = server.url("coaps+tcp");
        talks(&tracemq, &url, &["--tls-ca", path(&certificates.ca)], length(library, &url));
        let get = |arguments: &[&str]| tracemq.cmd(["request", &url, "/"]).args(arguments).finish();
        get(&["--tls-ca", path(&certificates.other_ca)]).expect_failure(3, &["not signed by a trusted CA"]);
        get(&["--tls-ca", path(&certificates.ca), "--tls-server-name", "elsewhere.example"])
            .expect_failure(3, &["elsewhere.example"]);
    }
}

#[test]
fn both_libcoaps_talk_to_our_server() {
    let tracemq = Tracemq::new();
    let certificates = Certificates::new();
    let identity = &certificates.server;
    let (plain, plain_url) = serve(&tracemq, "coap+tcp", &[]);
    let (_tls, tls_url) =
        serve(&tracemq, "coaps+tcp", &["--tls-cert", path(&identity.cert), "--tls-key", path(&identity.key)]);
    for library in LIBCOAP {
        for (url, security) in [(&plain_url, vec![]), (&tls_url, vec!["-C", path(&certificates.ca)])] {
            let client =
                |arguments: &[&str]| libcoap_client(library).args(&security).args(arguments).limit(LONG);
            let done = client(&[&format!("{url}/temp")]).finish().expect(0);
            assert_eq!(done.text().trim(), "21.5", "{library} {url}: {done:?}");
            let body = "0123456789".repeat(length(library, url) / 10);
            let file = tracemq.write("body", &body);
            let put = format!("{url}/body-{library}");
            client(&["-m", "put", "-f", path(&file), &put]).finish().expect(0);
            assert_eq!(client(&[&put]).finish().expect(0).text().trim(), body, "{library} {url}");
            let observer = client(&["-s", "30", &format!("{url}/temp")]).start();
            observer.wait_stdout("21.5");
            client(&["-m", "put", "-e", "22.5", &format!("{url}/temp")]).finish().expect(0);
            observer.wait_stdout("22.5");
            client(&["-m", "put", "-e", "21.5", &format!("{url}/temp")]).finish().expect(0);
        }
    }
    let request = json(&plain.wait_stdout("\"/body-openssl\""));
    assert_eq!(request["meta"]["transport"], "coap+tcp", "{request}");
    plain.interrupt().expect(0);
}

#[test]
fn our_client_has_a_shared_key_with_both_libcoaps() {
    let tracemq = Tracemq::new();
    for library in LIBCOAP {
        let server = LibcoapServer::start(library, &["-k", "secret", "-h", "hint"]);
        let url = server.url("coaps+tcp");
        talks(&tracemq, &url, &KEY, length(library, &url));
        let get = |arguments: &[&str]| tracemq.cmd(["request", &url, "/"]).args(arguments).finish();
        get(&["--psk-identity", "ann", "--psk-key", "0x736563726574"]).expect(0);
        let wrong = get(&["--psk-identity", "ann", "--psk-key", "other"]);
        let wrong = wrong.expect_failure(4, &["refused the pre-shared key", "--psk-key"]);
        assert!(!wrong.stderr.contains("other\""), "the key is told: {wrong:?}");
        for proxy in ProxyKind::ALL.map(Proxy::open) {
            get(&[&KEY[..], &["--proxy", &proxy.url()]].concat()).expect(0);
            let port = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
            assert!(proxy.was_asked_for("127.0.0.1", port), "{proxy:?}");
        }
        // It has no certificate to show.
        get(&["--insecure-skip-verify"]).expect_failure(3, &["TLS"]);
        // Where no TLS is spoken.
        let clear = server.url("coap+tcp").replace("coap+tcp", "coaps+tcp");
        let clear = tracemq.cmd(["request", &clear, "/", "--connect-timeout", "5s"]).args(KEY).finish();
        clear.expect_failure(3, &["TLS", "scheme"]);
    }
}

#[test]
fn both_libcoaps_have_shared_keys_with_our_server() {
    let tracemq = Tracemq::new();
    let certificates = Certificates::new();
    let identity = &certificates.server;
    let keys = ["--psk", "ann=secret", "--psk", "bob=0x6b6579"];
    let (keyed, keyed_url) = serve(&tracemq, "coaps+tcp", &keys);
    let shown = ["--tls-cert", path(&identity.cert), "--tls-key", path(&identity.key)];
    let (_both, both_url) = serve(&tracemq, "coaps+tcp", &[&keys[..], &shown].concat());
    for library in LIBCOAP {
        let client = |url: &str, arguments: &[&str]| {
            let client = libcoap_client(library).args(["-B", "5"]).args(arguments).arg(url);
            client.limit(LONG).finish()
        };
        for url in [&keyed_url, &both_url] {
            for (identity, key) in [("ann", "secret"), ("bob", "key")] {
                let done = client(&format!("{url}/temp"), &["-u", identity, "-k", key]).expect(0);
                assert_eq!(done.text().trim(), "21.5", "{library} {url}: {done:?}");
            }
            let key = ["-u", "ann", "-k", "secret"];
            let body = "0123456789".repeat(length(library, url) / 10);
            let file = tracemq.write("body", &body);
            let put = format!("{url}/body-{library}");
            client(&put, &[&key[..], &["-m", "put", "-f", path(&file)]].concat()).expect(0);
            assert_eq!(client(&put, &key).expect(0).text().trim(), body, "{library} {url}");
            for (identity, key) in [("carl", "secret"), ("ann", "wrong")] {
                let done = client(&format!("{url}/temp"), &["-u", identity, "-k", key]);
                assert!(!done.text().contains("21.5"), "{library} {url}: {done:?}");
            }
        }
        let done = client(&format!("{both_url}/temp"), &["-C", path(&certificates.ca)]).expect(0);
        assert_eq!(done.text().trim(), "21.5", "{library}: {done:?}");
    }
    keyed.wait_stderr("carl");
    keyed.wait_stderr("another key");
    let request = json(&keyed.wait_stdout("\"/body-openssl\""));
    assert_eq!(request["meta"]["identity"], "ann", "{request}");
    let get = |url: &str, arguments: &[&str]| tracemq.cmd(["request", url, "/temp"]).args(arguments).finish();
    get(&keyed_url, &["--psk-identity", "carl", "--psk-key", "secret"])
        .expect_failure(4, &["PSK identity", "--psk-identity"]);
    get(&both_url, &KEY).expect(0);
    get(&both_url, &["--tls-ca", path(&certificates.ca)]).expect(0);
    keyed.interrupt().expect(0);
}

/// Bodies pass whole where the peer takes them, in large messages of many blocks (BERT) where it takes no more.
#[test]
fn messages_are_as_large_as_the_server_takes() {
    const LENGTH: usize = 300_000;
    let tracemq = Tracemq::new();
    let body = "0123456789".repeat(LENGTH / 10);
    let file = tracemq.write("body", &body);
    for library in LIBCOAP {
        // 1152 bytes are what everybody takes; in 5000 there is room for four blocks of 1024.
        for (limit, messages) in [("8388864", 1), ("1152", 293), ("5000", 74)] {
            let server = LibcoapServer::start(library, &["-X", limit]);
            let url = server.url("coap+tcp");
            let put = tracemq.cmd(["pub", &url, "/body", "--json", "--file", path(&file)]).limit(LONG);
            assert_eq!(published(put.finish())["request_blocks"], messages, "{library} {limit}");
            let done = tracemq.cmd(["request", &url, "/body", "--format", "json"]).limit(LONG).finish();
            assert_eq!(json(&done.expect(0).text())["payload"].as_str(), Some(&*body), "{library} {limit}");
            // Whoever wants blocks of a size gets them.
            let put = tracemq.cmd(["pub", &url, "/body", "--json", "--file", path(&file)]);
            let put = put.args(["--block-size", "512"]).limit(LONG).finish();
            assert_eq!(published(put)["request_blocks"], 586, "{library} {limit}");
        }
    }
}

#[test]
fn messages_are_as_large_as_the_client_takes() {
    let tracemq = Tracemq::new();
    let (server, url) = serve(&tracemq, "coap+tcp", &[]);
    let body = tracemq.write("body", "0123456789".repeat(10_000));
    let url = format!("{url}/body");
    for library in LIBCOAP {
        let client =
            |arguments: &[&str]| libcoap_client(library).args(arguments).arg(&url).limit(LONG).finish();
        client(&["-m", "put", "-f", path(&body)]).expect(0);
        for limit in ["8388864", "5000", "1152"] {
            let done = client(&["-X", limit]).expect(0);
            assert_eq!(done.text().trim().len(), 100_000, "{library} {limit}");
        }
    }
    // By hand: GET /body of whoever takes 5000 bytes and knows blocks (a CSM with 0x1388 and Block-Wise-Transfer).
    let mut client = TcpStream::connect(url.trim_start_matches("coap+tcp://").trim_end_matches("/body"))
        .expect("a connection");
    client.set_read_timeout(Some(SHORT)).expect("a time-out");
    let csm = [0x40, 0xE1, 0x22, 0x13, 0x88, 0x20];
    let get = [0x51, 0x01, 0x07, 0xB4, b'b', b'o', b'd', b'y'];
    client.write_all(&[&csm[..], &get].concat()).expect("it listens");
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while answer.len() < 4096 {
        let length = client.read(&mut buffer).expect("an answer");
        assert!(length > 0, "it has closed: {answer:02x?}");
        answer.extend_from_slice(&buffer[..length]);
    }
    // Block2 (23), 19 behind ETag (4): number 0, more, exponent 7.
    let options = answer.windows(3).position(|window| window == [0xD1, 0x06, 0x0F]);
    assert!(options.is_some_and(|at| at < 40), "{:02x?}", &answer[..60]);
    server.interrupt().expect(0);
}

#[test]
fn our_client_and_server_talk() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, "coap+tcp", &[]);
    let observer = tracemq.cmd(["sub", &url, "/temp", "-C", "3", "--format", "json"]).start();
    observer.wait_stdout("21.5");
    for value in ["one", "two"] {
        tracemq.cmd(["pub", &url, "/temp", value]).finish().expect(0);
        observer.wait_stdout(value);
    }
    observer.wait().expect(0);
    serve.interrupt().expect(0);
}

/// It goes on by itself when the server is there again.
#[test]
fn an_observation_survives_its_connection() {
    let tracemq = Tracemq::new();
    let (first, url) = serve(&tracemq, "coap+tcp", &[]);
    let observer = tracemq.cmd(["sub", &url, "/temp", "--format", "json"]).start();
    observer.wait_stdout("21.5");
    drop(first);
    observer.wait_stderr("registering again");
    let address = url.trim_start_matches("coap+tcp://");
    let _second =
        tracemq.cmd(["serve", &format!("coap+tcp://{address}"), "--json", "--resource", "/temp=99"]).start();
    observer.wait_stdout("99");
}

#[test]
fn whoever_does_not_speak_coap_is_told_apart() {
    let tracemq = Tracemq::new();
    // Nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("a port").port();
    drop(free);
    let get = |port: u16| {
        tracemq
            .cmd(["request", &format!("coap+tcp://127.0.0.1:{port}"), "/", "--connect-timeout", "2s"])
            .finish()
    };
    get(port).expect_failure(3, &["refused"]);
    // Somebody takes the connection and says nothing, or something else.
    for (greeting, part) in [(&b""[..], "said nothing"), (b"SSH-2.0-OpenSSH_9.2\r\n", "speak no CoAP")] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a port").port();
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            client.write_all(greeting).expect("it listens");
            client.set_read_timeout(Some(SHORT)).expect("a time-out");
            let mut rest = Vec::new();
            // Until it leaves, however it does.
            let _ = client.read_to_end(&mut rest);
        });
        get(port).expect_failure(3, &[part]);
        server.join().expect("the server");
    }
}

/// Of aiocoap, which takes messages of 1 MiB and has BERT: three of them hold three megabytes.
#[test]
fn aiocoap_talks_in_messages_of_many_blocks() {
    const LENGTH: usize = 3_000_000;
    let tracemq = Tracemq::new();
    let body = "0123456789".repeat(LENGTH / 10);
    let file = tracemq.write("body", &body);
    let port = free_port().to_string();
    let server = Cmd::python().arg(peer_script("coap_server.py")).args(["--tcp", "--port", &port]).start();
    server.wait_stdout("port ");
    let url = format!("coap+tcp://127.0.0.1:{port}");
    let put = tracemq.cmd(["pub", &url, "/store", "--json", "--file", path(&file)]).limit(LONG).finish();
    assert_eq!(published(put)["request_blocks"], 3);
    server.wait_stdout(&format!("PUT {LENGTH}"));
    let done = tracemq.cmd(["request", &url, "/store", "--format", "json"]).limit(LONG).finish().expect(0);
    assert_eq!(json(&done.text())["payload"].as_str(), Some(&*body));
    let ticks = tracemq.cmd(["sub", &url, "/ticks", "-C", "3"]).limit(LONG).finish().expect(0);
    assert_eq!(ticks.lines().len(), 3);

    let (serve, url) = serve(&tracemq, "coap+tcp", &[]);
    let client = |arguments: &[&str]| {
        let client = Cmd::python().args(["-W", "ignore", "-m", "aiocoap.cli.client", "--quiet"]);
        client.args(arguments).arg(format!("{url}/body")).limit(LONG).finish().expect(0)
    };
    client(&["-m", "PUT", "--payload", &format!("@{}", path(&file))]);
    assert_eq!(client(&[]).text().trim(), body);
    let request = json(&serve.wait_stdout("\"PUT\""));
    assert_eq!(request["payload"].as_str().map(str::len), Some(LENGTH), "{}", request["meta"]);
}

/// Thousands of requests in a few packets, each for half a megabyte, of clients that never read: what is answered waits for
/// them, and what is not answered yet waits with them.
#[test]
fn clients_that_do_not_read_cost_little() {
    const CLIENTS: usize = 10;
    let tracemq = Tracemq::new();
    for delay in [&[][..], &["--delay", "100ms"]] {
        let (serve, url) = serve(&tracemq, "coap+tcp", &[&["--quiet"], delay].concat());
        let file = tracemq.write("body", "x".repeat(500_000));
        tracemq.cmd(["pub", &url, "/big", "--file", path(&file)]).finish().expect(0);
        let before = resident_kib(serve.pid());
        let address = url.trim_start_matches("coap+tcp://").to_owned();
        // A CSM with 8 MiB and Block-Wise-Transfer, and GET /big again and again.
        let csm = [0x50, 0xE1, 0x23, 0x80, 0x00, 0x00, 0x20];
        let get = [0x41, 0x01, 0x07, 0xB3, b'b', b'i', b'g'];
        let flood = [&csm[..], &get.repeat(5000)].concat();
        let clients: Vec<TcpStream> = (0..CLIENTS)
            .map(|_| {
                let mut client = TcpStream::connect(&address).expect("a connection");
                client.set_read_timeout(Some(SHORT)).expect("a time-out");
                client.write_all(&flood).expect("the system holds it");
                // Its CSM has come, and so will the answers.
                client.read_exact(&mut [0; 4]).expect("a CSM");
                client
            })
            .collect();
        // Others are answered meanwhile, in whose turn the clients have had theirs.
        for _ in 0..10 {
            let got = tracemq.cmd(["request", &url, "/big"]).limit(LONG).finish().expect(0);
            assert_eq!(got.text().trim().len(), "/big ".len() + 500_000);
        }
        let after = resident_kib(serve.pid());
        assert!(after < before + 5 * 1024 * CLIENTS as u64, "{before} KiB before, {after} KiB after");
        drop(clients);
    }
}

#[test]
fn a_hostile_client_is_cut_off() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, "coap+tcp", &["--max-size", "64KiB"]);
    let address = url.trim_start_matches("coap+tcp://").to_owned();
    let before = resident_kib(serve.pid());
    let csm = [0x00, 0xE1];
    for (bytes, why) in [
        // A request before the CSM, a length of 4 GiB, a reserved token length, a broken option.
        (vec![0x01, 0x01, 0x07], "CSM"),
        ([&csm[..], &[0xF0, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]].concat(), "longer than"),
        ([&csm[..], &[0x09, 0x01]].concat(), "token length"),
        ([&csm[..], &[0x10, 0x01, 0xF0]].concat(), "option"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), ""),
    ] {
        let mut client = TcpStream::connect(&address).expect("a connection");
        client.set_read_timeout(Some(SHORT)).expect("a time-out");
        client.write_all(&bytes).expect("it listens");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("it closes");
        // Its own CSM, and an Abort (7.05) that says why.
        assert!(answer.contains(&0xE5), "{answer:02x?}");
        assert!(String::from_utf8_lossy(&answer).contains(why), "{why}: {answer:02x?}");
    }
    assert!(resident_kib(serve.pid()) < before + 8192);
    let done = libcoap_client("openssl").arg(format!("{url}/temp")).finish().expect(0);
    assert_eq!(done.text().trim(), "21.5");
}
