//! Servers that refuse, break the protocol, or fall silent: it is told, bounded in time and memory, and what can go on, goes on.

use std::io::Write;
use std::sync::Arc;

use tracemq_tests::amqp::{ScriptedAmqp, data, fields, string};
use tracemq_tests::{FaultyServer, LONG, Tracemq, free_port};

#[test]
fn what_is_no_amqp_server_is_told_and_ends_with_3() {
    let tracemq = Tracemq::new();
    for (answer, why) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not begin with AMQP"),
        (b"AMQP\x00\x00\x09\x01", "0-9-1"),
        (b"AMQP\x02\x01\x00\x00", "TLS"),
        (b"AMQP\x03\x01\x00\x00\xff\xff\xff\xff\x02\x01\x00\x00", "no SASL frame"),
        (b"AMQP\x03\x01\x00\x00\x00\x00\x00\x0c\x02\x01\x00\x00\xde\xad\xbe\xef", "no SASL frame"),
    ] {
        let server = FaultyServer::answering(answer);
        let url = format!("amqp://127.0.0.1:{}/q", server.port());
        let done = tracemq.cmd(["pub", &url, "x"]).finish().expect_failure(3, &[why]);
        assert!(done.stderr.len() < 1500, "{done:?}");
    }
    let closing = format!("amqp://127.0.0.1:{}/q", FaultyServer::closing().port());
    tracemq.cmd(["pub", &closing, "x"]).finish().expect(3);
    let silent = FaultyServer::silent();
    let url = format!("amqp://127.0.0.1:{}/q", silent.port());
    let done = tracemq.cmd(["sub", &url, "--connect-timeout", "1s"]).finish();
    done.expect_failure(3, &["handshake within 1s", "--connect-timeout"]);
    let nobody = format!("amqp://127.0.0.1:{}/q", free_port());
    tracemq.cmd(["pub", &nobody, "x"]).finish().expect_failure(3, &["refused"]);
    tracemq.cmd(["pub", "amqp://no.such.host.invalid/q", "x"]).finish().expect(3);
}

#[test]
fn a_connection_string_that_is_wrong_is_told_and_ends_with_2() {
    let tracemq = Tracemq::new();
    for (text, why) in [
        ("Endpoint=sb://h/;SharedAccessKeyName=n;EntityPath=h", "SharedAccessKey is missing"),
        ("Endpoint=sb://h/;SharedAccessKey=hunter2;EntityPath=h", "SharedAccessKeyName is missing"),
        (
            "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=hunter2;SharedAccessSignature=SharedAccessSignature sr=x",
            "excludes",
        ),
        ("Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=hunter2;EntityPath=", "EntityPath is empty"),
        ("Endpoint=sb://h/x;SharedAccessKeyName=n;SharedAccessKey=hunter2", "path"),
    ] {
        // It may stand in the target's place, in a variable, or in the option.
        for command in [
            tracemq.cmd(["pub", text, "x"]),
            tracemq.cmd(["pub", "env:STRING", "x"]).env("STRING", text),
            tracemq.cmd(["pub", "sb://", "x", "--connection-string", "env:STRING"]).env("STRING", text),
        ] {
            let done = command.finish().expect_failure(2, &[why]);
            assert!(!done.stderr.contains("hunter2"), "{done:?}");
        }
    }
    let good = "Endpoint=sb://127.0.0.1:1/;SharedAccessKeyName=n;SharedAccessKey=hunter2;EntityPath=h";
    for (flags, why) in [
        (&["--partition", "0", "--partition-key", "k"][..], "exclude"),
        (&["--durable"], "--durable"),
        (&["--transport", "carrier-pigeon"], "--transport"),
        (&["--endpoint", "https://x"], "--endpoint"),
    ] {
        tracemq.cmd(["pub", good, "x"]).args(flags).finish().expect_failure(2, &[why]);
    }
    for (flags, why) in [
        (&["--position", "soon"][..], "--position"),
        (&["--position", "sequence:-1"], "sequence"),
        (&["--inclusive"], "--inclusive"),
        (&["--partition", "a/b"], "--partition"),
        (&["--owner-level", "-1"], "--owner-level"),
    ] {
        tracemq.cmd(["sub", good]).args(flags).finish().expect_failure(2, &[why]);
    }
    let done = tracemq.cmd(["pub", good, "x"]).finish().expect_failure(3, &["refused"]);
    assert!(done.stderr.contains("SharedAccessKey=***") && !done.stderr.contains("hunter2"), "{done:?}");
}

/// Each of these ends the connection; another is made, and the reader goes on.
#[test]
fn frames_that_are_none_end_the_connection_and_not_the_reader() {
    let tracemq = Tracemq::new();
    for garbage in [
        &b"\x00\x00\x00\x10\x02\x00\x00\x01\xde\xad\xbe\xef\xde\xad\xbe\xef"[..],
        b"\xde\xad\xbe\xef\xde\xad\xbe\xef\xde\xad\xbe\xef",
        // Shorter than its own header, and larger than was agreed.
        b"\x00\x00\x00\x02\x02\x00\x00\x01",
        b"\x7f\xff\xff\xff\x02\x00\x00\x01",
        // A channel that nobody opened.
        b"\x00\x00\x00\x0c\x02\x00\x00\x63\x00\x53\x16\x45",
        // What became of four billion deliveries.
        b"\x00\x00\x00\x15\x02\x00\x00\x01\x00\x53\x15\xc0\x08\x03\x42\x43\x70\xff\xff\xff\xff",
    ] {
        let server = ScriptedAmqp::start(Arc::new(move |client, link| {
            drop(client.write_all(&link.transfer(1, &data(b"read"))));
            drop(client.write_all(garbage));
        }));
        let sub = tracemq.cmd(["sub", &server.url("q"), "-C", "2", "--format", "raw"]).limit(LONG).finish();
        let sub = sub.expect(0);
        assert_eq!(sub.lines(), ["read", "read"], "{sub:?}");
        assert!(sub.stderr.contains("next attempt") && server.links() >= 2, "{sub:?}");
    }
}

#[test]
fn a_message_that_can_not_be_read_is_left_out() {
    let tracemq = Tracemq::new();
    let server = ScriptedAmqp::start(Arc::new(|client, link| {
        for (number, message) in [
            data(b"one"),
            b"\x00\x53\x75\xa0\xff too short".to_vec(),
            b"\xff\xff\xff".to_vec(),
            // A data section that claims 4 GiB.
            b"\x00\x53\x75\xb0\xff\xff\xff\xff".to_vec(),
            data(b"two"),
        ]
        .iter()
        .enumerate()
        {
            let number = u8::try_from(number).expect("few");
            drop(client.write_all(&link.transfer(number, message)));
        }
    }));
    let sub = tracemq.cmd(["sub", &server.url("q"), "-C", "2", "--format", "raw"]).finish().expect(0);
    assert_eq!(sub.lines(), ["one", "two"], "{sub:?}");
    assert_eq!(server.links(), 1, "the link stands: {sub:?}");
}

#[test]
fn a_server_that_falls_silent_is_left() {
    let tracemq = Tracemq::new();
    let server = ScriptedAmqp::start(Arc::new(|client, link| {
        drop(client.write_all(&link.transfer(1, &data(b"read"))));
    }));
    let sub = tracemq.cmd(["sub", &server.url("q"), "-C", "2", "--format", "raw", "--idle-timeout", "2s"]);
    let sub = sub.limit(LONG).finish().expect(0);
    assert_eq!(sub.lines(), ["read", "read"], "{sub:?}");
    let once = tracemq.cmd(["sub", &server.url("q"), "--idle-timeout", "2s", "--no-reconnect"]);
    once.limit(LONG).finish().expect(1);
}

#[test]
fn a_redirect_and_a_stolen_link_are_told() {
    let tracemq = Tracemq::new();
    let server = ScriptedAmqp::start(Arc::new(|client, link| {
        let info = fields(&[("network-host", string("other.example")), ("port", vec![0x52, 99])]);
        drop(client.write_all(&link.detach("amqp:link:redirect", "go there", &info)));
    }));
    let sub = tracemq.cmd(["sub", &server.url("q")]).finish();
    sub.expect_failure(1, &["other.example:99", "go there", "amqp:link:redirect"]);
    let server = ScriptedAmqp::start(Arc::new(|client, link| {
        drop(client.write_all(&link.detach("amqp:link:stolen", "by \u{1b}[31mher", &[0x40])));
    }));
    let sub = tracemq.cmd(["sub", &server.url("q")]).finish();
    let sub = sub.expect_failure(1, &["another reader", "amqp:link:stolen"]);
    assert!(!sub.stderr.contains('\u{1b}'), "{sub:?}");
}

/// The server sends far more than it was given credit for.
#[test]
fn a_flood_beyond_the_credit_is_bounded() {
    let tracemq = Tracemq::new();
    let server = ScriptedAmqp::start(Arc::new(|client, link| {
        let transfer = link.transfer(1, &data(&[b'x'; 200]));
        let many = transfer.repeat(1000);
        for _ in 0..2000 {
            if client.write_all(&many).is_err() {
                return;
            }
        }
    }));
    let mut sub = tracemq.cmd(["sub", &server.url("q"), "--format", "raw"]).leave_stdout().start();
    sub.wait_stderr("subscribed");
    // Half a gigabyte is sent if it is read; ten looks are enough to see whether it is kept.
    let mut most = 0;
    for _ in 0..30 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        if !sub.alive() {
            break;
        }
        most = most.max(sub.resident_kib());
    }
    assert!(most > 0 && most < 200 * 1024, "{most} KiB");
}
