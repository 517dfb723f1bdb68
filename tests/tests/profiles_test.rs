//! `profile test`: what it tells of the steps of connecting, for every plugin.

use serde_json::Value;
use tracemq_tests::{Certificates, Done, Listener, Mosquitto, Relay, RelayKind, Run, Tracemq, free_port};

fn test(tracemq: &Tracemq, targets: &[&str]) -> Done {
    tracemq.cmd(["profile", "test", "--json"]).args(targets).finish()
}

fn reports(done: &Done) -> Vec<Value> {
    done.lines().iter().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// The steps by name, and whether each went well. Every time is a number, and together they are no more than the whole.
fn steps(report: &Value) -> Vec<(&str, bool)> {
    let steps = report["steps"].as_array().expect("a list of steps");
    let times = steps.iter().map(|step| step["ms"].as_f64().expect("a number of milliseconds"));
    let (sum, whole) = (times.sum::<f64>(), report["ms"].as_f64().expect("a number of milliseconds"));
    assert!(sum <= whole + 1.0, "{report}");
    steps.iter().map(|step| (step["step"].as_str().expect("a name"), step["ok"] == true)).collect()
}

fn serve(tracemq: &Tracemq, protocol: &str, arguments: &[&str]) -> (Run, String) {
    let server = tracemq.cmd(["serve", protocol, "--bind", "127.0.0.1:0", "--json"]).args(arguments).start();
    let line = server.wait_stdout("\"url\"");
    let first: Value = serde_json::from_str(&line).expect("JSON");
    // What is to be pasted, where that is more than a URL: there is a key in it.
    let mut urls = first["urls"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let pasted = urls.rfind(|url| url.starts_with("Endpoint="));
    let url = pasted.or(first["url"].as_str()).expect("its URL").replace("127.0.0.1", "localhost");
    (server, url)
}

#[test]
fn every_protocol_tells_its_steps() {
    let tracemq = Tracemq::new();
    for (protocol, arguments, expected) in [
        ("mqtt", &[][..], &["name", "tcp", "protocol"][..]),
        ("nats", &[], &["name", "tcp", "protocol"]),
        ("websocket", &[], &["name", "tcp", "websocket", "protocol"]),
        ("coap", &[], &["name", "ping", "protocol"]),
        ("eventhubs", &["--hub", "h:1"], &["name", "tcp", "protocol"]),
    ] {
        let (server, url) = serve(&tracemq, protocol, arguments);
        let done = test(&tracemq, &[&url]).expect(0);
        let report = &reports(&done)[0];
        assert_eq!(
            (&report["ok"], &report["exit"], &report["error"]),
            (&true.into(), &0.into(), &Value::Null)
        );
        let names: Vec<&str> =
            steps(report).into_iter().map(|(name, good)| if good { name } else { "-" }).collect();
        assert_eq!(names, expected, "{protocol}: {done:?}");
        server.interrupt().expect(0);

        // Nobody is there any more.
        let done = test(&tracemq, &[&url]).expect(3);
        let report = &reports(&done)[0];
        let last = *steps(report).last().expect("a step");
        let at = if protocol == "coap" { "ping" } else { "tcp" };
        assert_eq!((last, &report["exit"]), ((at, false), &3.into()), "{protocol}: {done:?}");
        assert!(report["error"].as_str().is_some_and(|error| done.reason().contains(error)), "{done:?}");
    }
}

#[test]
fn tls_websocket_and_proxy_are_steps_of_their_own() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let broker = Mosquitto::builder()
        .certificates(&certificates)
        .listener(Listener::Tls)
        .listener(Listener::SecureWebSocket)
        .user("ann", "open-sesame")
        .start();
    let relay = Relay::start(RelayKind::Socks5);
    let ca = certificates.ca.to_str().expect("a path in UTF-8");
    let other = certificates.other_ca.to_str().expect("a path in UTF-8");
    let tls = format!("mqtts://localhost:{}", broker.port_of(Listener::Tls));
    let web = format!("mqtt+wss://localhost:{}", broker.port_of(Listener::SecureWebSocket));
    let login = ["--username", "ann", "--password", "env:PW"];
    for (name, url, flags) in [
        ("tls", &tls, &["--tls-ca", ca][..]),
        ("web", &web, &["--tls-ca", ca]),
        ("proxied", &tls, &["--tls-ca", ca, "--proxy", "env:PROXY"]),
        ("mistrusted", &tls, &["--tls-ca", other]),
    ] {
        tracemq.cmd(["profile", "add", name, url]).args(login).args(flags).finish().expect(0);
    }
    let run = |password: &str, names: &[&str]| {
        let command = tracemq.cmd(["profile", "test", "--json"]).args(names);
        command.env("PW", password).env("PROXY", relay.url()).finish()
    };
    let done = run("open-sesame", &["tls", "web", "proxied"]).expect(0);
    let reports_of = reports(&done);
    let names =
        |report: &Value| steps(report).into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&reports_of[0]), ["name", "tcp", "tls", "protocol"]);
    assert_eq!(names(&reports_of[1]), ["name", "tcp", "tls", "websocket", "protocol"]);
    assert_eq!(names(&reports_of[2]), ["tcp", "proxy", "tls", "protocol"], "the proxy looks the name up");
    assert_eq!(reports_of[0]["steps"][2]["detail"], "TLS 1.3");

    // The first that fails decides the status, and the others are tried nevertheless.
    let done = run("wrong", &["mistrusted", "tls"]).expect(3);
    let failed = reports(&done);
    assert_eq!(steps(&failed[0]).last(), Some(&("tls", false)), "{done:?}");
    assert_eq!(steps(&failed[1]).last(), Some(&("protocol", false)), "{done:?}");
    assert_eq!((&failed[0]["exit"], &failed[1]["exit"]), (&3.into(), &4.into()), "{done:?}");
    assert!(!done.stderr.contains("wrong\"") && !done.text().contains("open-sesame"), "{done:?}");

    let text = tracemq.cmd(["profile", "test", "tls"]).env("PW", "open-sesame").finish().expect(0).text();
    for part in ["tls\n  name ", "\n  tcp ", "\n  tls ", "TLS 1.3\n", "\n  total ", " ms  ok\n"] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn dtls_is_a_step_and_silence_is_waited_for_no_longer_than_asked() {
    let tracemq = Tracemq::new();
    let server = tracemq
        .cmd(["serve", "coaps://127.0.0.1:0", "--json", "--psk", "me=env:PSK"])
        .env("PSK", "0123456789abcdef")
        .start();
    let line: Value = serde_json::from_str(&server.wait_stdout("\"url\"")).expect("JSON");
    let url = line["url"].as_str().expect("its URL");
    tracemq
        .cmd(["profile", "add", "device", url, "--psk-identity", "me", "--psk-key", "env:PSK"])
        .finish()
        .expect(0);
    let run = |key: &str| tracemq.cmd(["profile", "test", "--json", "device"]).env("PSK", key).finish();
    let done = run("0123456789abcdef").expect(0);
    assert_eq!(steps(&reports(&done)[0]), [("dtls", true), ("protocol", true)], "{done:?}");
    let done = run("another key here");
    assert!(matches!(done.code(), 3 | 4), "{done:?}");
    assert_eq!(steps(&reports(&done)[0]), [("dtls", false)], "{done:?}");

    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let url = format!("coap://{}", silent.local_addr().expect("its address"));
    let done = test(&tracemq, &["-W", "300ms", &url]).expect(5);
    assert_eq!(steps(&reports(&done)[0]), [("ping", false)], "{done:?}");
}

#[test]
fn a_plugin_that_tells_of_no_step_has_its_total() {
    let tracemq = Tracemq::with_loopback();
    tracemq.cmd(["profile", "add", "here", "loopback://", "--delay", "50ms"]).finish().expect(0);
    let done = test(&tracemq, &["here"]).expect(0);
    let report = &reports(&done)[0];
    assert_eq!(steps(report), [("protocol", true)]);
    assert!(report["ms"].as_f64().is_some_and(|ms| ms >= 50.0), "{report}");

    // What is no target at all is a report too.
    let nowhere = format!("loopback://127.0.0.1:{}", free_port());
    let done = test(&tracemq, &["none", "here", &nowhere]).expect(2);
    let failed = reports(&done);
    assert_eq!(
        (&failed[0]["target"], &failed[0]["exit"], &failed[0]["ms"]),
        (&"none".into(), &2.into(), &Value::Null)
    );
    assert_eq!((&failed[1]["ok"], &failed[2]["exit"]), (&true.into(), &3.into()), "{done:?}");
    tracemq.cmd(["profile", "test"]).finish().expect(2);
}
