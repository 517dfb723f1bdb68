//! The core protocol of NATS, operation by operation, on bare sockets: `tracemq serve nats`, and Debian's nats-server to prove
//! that what is checked is what NATS does.

use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tracemq_tests::{NatsRaw, NatsServer, Run, SHORT, Tracemq, until};

/// A server of either kind, in one of the configurations that the checks need.
struct Target {
    port: u16,
    _ours: Option<(Tracemq, Run)>,
    _theirs: Option<NatsServer>,
}

impl Target {
    fn ours(flags: &[&str]) -> Target {
        let tracemq = Tracemq::new();
        let run = tracemq.cmd(["serve", "nats", "--bind", "127.0.0.1:0"]).args(flags).start();
        let line = run.wait_stdout("nats://");
        let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {line:?}"));
        Target { port, _ours: Some((tracemq, run)), _theirs: None }
    }

    fn theirs(settings: &str) -> Target {
        let server = NatsServer::builder().setting(settings).start();
        Target { port: server.port(), _ours: None, _theirs: Some(server) }
    }

    fn client(&self) -> NatsRaw {
        self.with(json!({}))
    }

    fn with(&self, options: Value) -> NatsRaw {
        NatsRaw::connect(self.port, &options)
    }

    /// A client, as soon as there is room for it: those of the check before may still be on their way out.
    fn admitted(&self) -> NatsRaw {
        let port = self.port;
        let client = until(SHORT, || catch_unwind(|| NatsRaw::connect(port, &json!({}))).ok());
        client.expect("there is room for one more")
    }

    /// Sends something that ends the connection, and returns what the server says to it.
    fn last_words(&self, sent: &[u8]) -> String {
        let mut client = self.client();
        client.try_send(sent);
        client.rest()
    }
}

type Check = (&'static str, fn(&Target));

/// Runs all checks and tells of all that failed.
#[track_caller]
fn run(target: &Target, checks: &[Check]) {
    let failed: Vec<&str> = checks
        .iter()
        .filter(|(_, check)| catch_unwind(AssertUnwindSafe(|| check(target))).is_err())
        .map(|(name, _)| *name)
        .collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), checks.len());
}

#[test]
fn open_server_ours() {
    run(&Target::ours(&[]), OPEN);
}

#[test]
fn open_server_theirs() {
    run(&Target::theirs(""), OPEN);
}

#[test]
fn users_ours() {
    run(&Target::ours(&["--user", "ann=s3cret", "--user", "bob=b=b"]), USERS);
}

#[test]
fn users_theirs() {
    let users = "{ user: ann, password: s3cret }, { user: bob, password: \"b=b\" }";
    run(&Target::theirs(&format!("authorization: {{ users: [ {users} ] }}\n")), USERS);
}

#[test]
fn token_ours() {
    run(&Target::ours(&["--token", "t0ken"]), TOKEN);
}

#[test]
fn token_theirs() {
    run(&Target::theirs("authorization: { token: t0ken }\n"), TOKEN);
}

#[test]
fn limits_ours() {
    let flags = ["--max-payload", "1000", "--max-connections", "2", "--ping-interval", "200ms"];
    run(&Target::ours(&flags), LIMITS);
}

#[test]
fn limits_theirs() {
    run(&Target::theirs("max_payload: 1000\nmax_connections: 2\nping_interval: \"200ms\"\n"), LIMITS);
}

const OPEN: &[Check] = &[
    ("INFO tells what a client must know", |target| {
        let info = NatsRaw::open(target.port).info;
        assert_eq!(
            (&info["proto"], &info["headers"], &info["max_payload"]),
            (&json!(1), &json!(true), &json!(1 << 20))
        );
        assert_eq!(info["port"], json!(target.port));
        assert!(info["server_id"].as_str().is_some_and(|id| id.len() == 56 && id.starts_with('N')), "{info}");
        assert!(info["client_id"].is_u64() && info["version"].is_string() && info["server_name"].is_string());
        assert!(info["auth_required"].is_null() && info["tls_required"].is_null(), "{info}");
    }),
    ("a client is verbose unless it says otherwise", |target| {
        let mut client = NatsRaw::open(target.port);
        client.send("CONNECT {}\r\nSUB a 1\r\nPUB a 1\r\nx\r\nUNSUB 1\r\nPING\r\n");
        client.expect("+OK\r\n+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n+OK\r\nPONG\r\n");
    }),
    ("CONNECT may be left out", |target| {
        let mut client = NatsRaw::open(target.port);
        client.sync();
        client.send("SUB a 1\r\nPUB a 2\r\nhi\r\n");
        client.expect("+OK\r\n+OK\r\nMSG a 1 2\r\nhi\r\n");
    }),
    ("CONNECT may come again", |target| {
        let mut client = target.client();
        client.send(
            "CONNECT {\"verbose\":true}\r\nPUB a 0\r\n\r\nCONNECT {\"verbose\":false}\r\nPUB a 0\r\n\r\n",
        );
        client.expect("+OK\r\n+OK\r\n");
        client.sync();
    }),
    ("a message reaches another client", |target| {
        let (mut one, mut two) = (target.client(), target.client());
        one.send("SUB greet 9\r\n");
        one.sync();
        two.send("PUB greet 5\r\nhello\r\n");
        two.sync();
        one.expect("MSG greet 9 5\r\nhello\r\n");
        one.sync();
    }),
    ("payloads are counted, whatever is in them", |target| {
        let mut client = target.client();
        client.send("SUB p s\r\nPUB p 0\r\n\r\nPUB p 4\r\n\r\n\r\n\r\nPUB p 12\r\nPUB p 1\r\nx\r\n\r\n");
        client.expect("MSG p s 0\r\n\r\nMSG p s 4\r\n\r\n\r\n\r\nMSG p s 12\r\nPUB p 1\r\nx\r\n\r\n");
        client.sync();
    }),
    ("operations in any case, tabs and spaces", |target| {
        let mut client = target.client();
        client.send("sub \t case\t  1  \r\nPub   case \t r\t 2 \r\nhi\r\npInG\r\n");
        client.expect("MSG case 1 r 2\r\nhi\r\nPONG\r\n");
    }),
    ("lines may end with a line feed alone", |target| {
        let mut client = target.client();
        client.send("SUB lf 1\nPUB lf 2\nhi\r\nPING\n");
        client.expect("MSG lf 1 2\r\nhi\r\nPONG\r\n");
    }),
    ("operations may come byte by byte", |target| {
        let mut client = target.client();
        for byte in b"SUB slow 1\r\nPUB slow r 5\r\nhello\r\nPING\r\n" {
            client.send_bytes(&[*byte]);
        }
        client.expect("MSG slow 1 r 5\r\nhello\r\nPONG\r\n");
    }),
    ("many operations may come at once", |target| {
        let mut client = target.client();
        let sent: String = (0..5000)
            .map(|number| format!("PUB many {}\r\n{number}\r\n", number.to_string().len()))
            .collect();
        client.send(&format!("SUB many 1\r\n{sent}"));
        let expected: String = (0..5000)
            .map(|number| format!("MSG many 1 {}\r\n{number}\r\n", number.to_string().len()))
            .collect();
        client.expect(&expected);
        client.sync();
    }),
    ("the largest payload passes", |target| {
        let (mut one, mut two) = (target.client(), target.client());
        one.send("SUB large 1\r\n");
        one.sync();
        let payload = "x".repeat(1 << 20);
        two.send(&format!("PUB large 1048576\r\n{payload}\r\n"));
        one.expect(&format!("MSG large 1 1048576\r\n{payload}\r\n"));
    }),
    ("* stands for one token", |target| {
        let mut client = target.client();
        client.send(
            "SUB a.*.c 1\r\nPUB a.b.c 1\r\n1\r\nPUB a.c 1\r\n2\r\nPUB a.b.b.c 1\r\n3\r\nPUB a.b 1\r\n4\r\n",
        );
        client.expect("MSG a.b.c 1 1\r\n1\r\n");
        client.sync();
    }),
    ("> stands for the rest, which is not empty", |target| {
        let mut client = target.client();
        client
            .send("SUB a.> 1\r\nPUB a.b 1\r\n1\r\nPUB a.b.c.d 1\r\n2\r\nPUB a 1\r\n3\r\nPUB b.a 1\r\n4\r\n");
        client.expect("MSG a.b 1 1\r\n1\r\nMSG a.b.c.d 1 1\r\n2\r\n");
        client.sync();
    }),
    ("wildcards are whole tokens", |target| {
        let mut client = target.client();
        client.send(
            "SUB lit.b* 1\r\nSUB lit.>b 2\r\nPUB lit.bc 1\r\n1\r\nPUB lit.b* 1\r\n2\r\nPUB lit.>b 1\r\n3\r\n",
        );
        client.expect("MSG lit.b* 1 1\r\n2\r\nMSG lit.>b 2 1\r\n3\r\n");
        client.sync();
    }),
    ("overlapping subscriptions each get the message", |target| {
        let mut client = target.client();
        client.send("SUB over.lap 1\r\nSUB over.* 2\r\nSUB over.> 3\r\nPUB over.lap 1\r\nx\r\n");
        let mut came: Vec<String> = (0..3).map(|_| format!("{} {}", client.line(), client.line())).collect();
        came.sort();
        assert_eq!(came, ["MSG over.lap 1 1 x", "MSG over.lap 2 1 x", "MSG over.lap 3 1 x"]);
        client.sync();
    }),
    ("an identifier in use stays with its subject", |target| {
        let mut client = target.client();
        client.send("SUB first 1\r\nSUB second 1\r\nPUB second 1\r\n2\r\nPUB first 1\r\n1\r\n");
        client.expect("MSG first 1 1\r\n1\r\n");
        client.sync();
    }),
    ("UNSUB ends a subscription", |target| {
        let mut client = target.client();
        client.send("SUB un 1\r\nSUB un 2\r\nUNSUB 1\r\nUNSUB 77\r\nPUB un 1\r\nx\r\n");
        client.expect("MSG un 2 1\r\nx\r\n");
        client.sync();
        client.send("SUB un 1\r\nUNSUB 2\r\nPUB un 1\r\ny\r\n");
        client.expect("MSG un 1 1\r\ny\r\n");
        client.sync();
    }),
    ("UNSUB with a maximum counts messages", |target| {
        let mut client = target.client();
        client.send("SUB max 1\r\nUNSUB 1 3\r\n");
        for number in 0..5 {
            client.send(&format!("PUB max 1\r\n{number}\r\n"));
        }
        client.expect("MSG max 1 1\r\n0\r\nMSG max 1 1\r\n1\r\nMSG max 1 1\r\n2\r\n");
        client.sync();
        client.send("SUB max 1\r\nPUB max 1\r\nx\r\n");
        client.expect("MSG max 1 1\r\nx\r\n");
    }),
    ("a maximum counts from the beginning", |target| {
        let mut client = target.client();
        client.send("SUB beg 1\r\nPUB beg 1\r\n1\r\nPUB beg 1\r\n2\r\nUNSUB 1 3\r\nPUB beg 1\r\n3\r\nPUB beg 1\r\n4\r\n");
        client.expect("MSG beg 1 1\r\n1\r\nMSG beg 1 1\r\n2\r\nMSG beg 1 1\r\n3\r\n");
        client.sync();
        client.send("SUB late 2\r\nPUB late 1\r\n1\r\nPUB late 1\r\n2\r\nUNSUB 2 1\r\nPUB late 1\r\n3\r\n");
        client.expect("MSG late 2 1\r\n1\r\nMSG late 2 1\r\n2\r\n");
        client.sync();
    }),
    ("one member of a group gets a message, and each gets some", |target| {
        let (mut one, mut two, mut publisher) = (target.client(), target.client(), target.client());
        one.send("SUB work group 1\r\n");
        two.send("SUB work group 2\r\n");
        one.sync();
        two.sync();
        publisher.send(&"PUB work 1\r\nx\r\n".repeat(200));
        publisher.sync();
        let count = |client: &mut NatsRaw| {
            client.send("PING\r\n");
            let mut count = 0;
            while client.line() != "PONG" {
                assert_eq!(client.line(), "x");
                count += 1;
            }
            count
        };
        let (one, two) = (count(&mut one), count(&mut two));
        assert!(one > 20 && two > 20 && one + two == 200, "{one} {two}");
    }),
    ("groups and plain subscribers don't share", |target| {
        let mut client = target.client();
        client.send("SUB mix 1\r\nSUB mix g 2\r\nSUB mix g 3\r\nSUB mix h 4\r\nPUB mix 1\r\nx\r\n");
        let mut sids: Vec<String> = (0..3).map(|_| (client.line(), client.line()).0).collect();
        sids.sort();
        assert!(sids[0] == "MSG mix 1 1" && sids[2] == "MSG mix 4 1", "{sids:?}");
        assert!(["MSG mix 2 1", "MSG mix 3 1"].contains(&sids[1].as_str()), "{sids:?}");
        client.sync();
    }),
    ("a group with several patterns is one group", |target| {
        let mut client = target.client();
        client.send("SUB g.* q 1\r\nSUB g.> q 1b\r\nPUB g.x 1\r\nx\r\n");
        assert!(["MSG g.x 1 1", "MSG g.x 1b 1"].contains(&client.line().as_str()));
        assert_eq!(client.line(), "x");
        client.sync();
    }),
    ("a member that left its group gets nothing", |target| {
        let (mut one, mut two) = (target.client(), target.client());
        one.send("SUB left g 1\r\n");
        two.send("SUB left g 2\r\n");
        one.sync();
        two.sync();
        one.send("UNSUB 1\r\n");
        one.sync();
        two.send(&"PUB left 1\r\nx\r\n".repeat(20));
        two.expect(&"MSG left 2 1\r\nx\r\n".repeat(20));
        one.sync();
    }),
    ("headers pass", |target| {
        let mut client = target.client();
        client.send("SUB h 1\r\nHPUB h 21 26\r\nNATS/1.0\r\nName: v\r\n\r\nhello\r\nHPUB h r 12 12\r\nNATS/1.0\r\n\r\n\r\n");
        client.expect(
            "HMSG h 1 21 26\r\nNATS/1.0\r\nName: v\r\n\r\nhello\r\nHMSG h 1 r 12 12\r\nNATS/1.0\r\n\r\n\r\n",
        );
        client.sync();
    }),
    ("headers are taken off for a client that knows none", |target| {
        let (mut plain, mut client) = (target.with(json!({"headers": false})), target.client());
        plain.send("SUB strip 1\r\n");
        plain.sync();
        client.send("HPUB strip r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nHPUB strip 12 14\r\nNATS/1.0\r\n\r\nho\r\n");
        plain.expect("MSG strip 1 r 2\r\nhi\r\nMSG strip 1 2\r\nho\r\n");
    }),
    ("headers must have been announced", |target| {
        let mut client = target.with(json!({"headers": false}));
        client.try_send(b"HPUB h 12 12\r\nNATS/1.0\r\n\r\n\r\n");
        assert!(!client.rest().contains("PONG"));
    }),
    ("a request without responders is answered with 503", |target| {
        let mut client = target.with(json!({"no_responders": true}));
        client.send("SUB inbox.* 5\r\nPUB nobody inbox.1 2\r\nhi\r\n");
        client.expect("HMSG inbox.1 5 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
        client.send("PUB nobody 2\r\nhi\r\nHPUB nobody inbox.2 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
        client.expect("HMSG inbox.2 5 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
        client.sync();
    }),
    ("no 503 for who did not ask for it", |target| {
        let mut client = target.client();
        client.send("SUB inbox.* 5\r\nPUB nobody inbox.1 2\r\nhi\r\n");
        client.sync();
    }),
    ("no 503 where somebody listens", |target| {
        let (mut client, mut responder) = (target.with(json!({"no_responders": true})), target.client());
        responder.send("SUB svc.> g 1\r\n");
        responder.sync();
        client.send("SUB inbox.x 5\r\nPUB svc.a inbox.x 2\r\nhi\r\n");
        client.sync();
        responder.expect("MSG svc.a 1 inbox.x 2\r\nhi\r\n");
        responder.send("PUB inbox.x 3\r\nyes\r\n");
        client.expect("MSG inbox.x 5 3\r\nyes\r\n");
        client.sync();
    }),
    ("no_responders needs headers", |target| {
        let mut client = NatsRaw::open(target.port);
        client.send("CONNECT {\"verbose\":false,\"no_responders\":true}\r\n");
        assert_eq!(client.rest().to_lowercase(), "-err 'no responders requires headers support'\r\n");
    }),
    ("without echo a client's own messages don't come back", |target| {
        let (mut deaf, mut other) =
            (target.with(json!({"echo": false, "no_responders": true})), target.client());
        deaf.send("SUB echo 1\r\nSUB echo g 2\r\nSUB in 3\r\n");
        deaf.sync();
        other.send("SUB echo 1\r\n");
        other.sync();
        deaf.send("PUB echo 1\r\n1\r\n");
        deaf.sync();
        other.expect("MSG echo 1 1\r\n1\r\n");
        other.send("UNSUB 1\r\nPUB echo 1\r\n2\r\n");
        let mut came = [deaf.line(), deaf.line(), deaf.line(), deaf.line()];
        came.sort();
        assert_eq!(came, ["2", "2", "MSG echo 1 1", "MSG echo 2 1"]);
        deaf.send("PUB echo in 1\r\n3\r\n");
        deaf.expect("HMSG in 3 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
    }),
    ("a pedantic client is told of subjects that are none", |target| {
        let mut client = target.with(json!({"pedantic": true}));
        client.send("PUB a..b 1\r\nx\r\n");
        client.expect("-ERR 'Invalid Publish Subject'\r\n");
        client.send("PUB a.* 1\r\nx\r\n");
        client.expect("-ERR 'Invalid Publish Subject'\r\n");
        client.sync();
    }),
    ("a subject with an empty token reaches nobody", |target| {
        let mut client = target.client();
        client.send("SUB > 1\r\nPUB e..b 1\r\n1\r\nPUB .e 1\r\n2\r\nPUB e. 1\r\n3\r\nPUB e 1\r\n4\r\n");
        client.expect("MSG e 1 1\r\n4\r\n");
        client.sync();
    }),
    ("a subscription to no subject is refused, and the connection stays", |target| {
        let mut client = target.client();
        for subject in ["a..b", ".a", "a.", "a.>.b"] {
            client.send(&format!("SUB {subject} 1\r\n"));
            client.expect("-ERR 'Invalid Subject'\r\n");
        }
        client.sync();
    }),
    ("what is no operation ends the connection", |target| {
        assert_eq!(target.last_words(b"JUMP\r\n"), "-ERR 'Unknown Protocol Operation'\r\n");
        assert_eq!(target.last_words(b"GET / HTTP/1.1\r\n"), "-ERR 'Unknown Protocol Operation'\r\n");
    }),
    ("a payload that is longer than its size ends the connection", |target| {
        assert_eq!(target.last_words(b"PUB a 2\r\nhello\r\n"), "-ERR 'Unknown Protocol Operation'\r\n");
    }),
    ("sizes that are none end the connection", |target| {
        for bad in
            ["PUB a\r\n", "PUB a x\r\n", "PUB a -1\r\n", "PUB a b c 1\r\n", "HPUB a 5\r\n", "HPUB a 9 3\r\n"]
        {
            assert!(!target.last_words(bad.as_bytes()).contains("PONG"), "{bad:?}");
        }
    }),
    ("a payload that is too large is refused before it comes", |target| {
        assert_eq!(target.last_words(b"PUB a 1048577\r\n"), "-ERR 'Maximum Payload Violation'\r\n");
    }),
    ("a line that is too long is refused", |target| {
        let line = [b"PUB ".as_slice(), &[b'a'; 8192]].concat();
        assert_eq!(target.last_words(&line).to_lowercase(), "-err 'maximum control line exceeded'\r\n");
    }),
    ("a protocol from the future is refused", |target| {
        let mut client = NatsRaw::open(target.port);
        client.send("CONNECT {\"verbose\":false,\"protocol\":7}\r\n");
        assert_eq!(client.rest().to_lowercase(), "-err 'invalid client protocol'\r\n");
    }),
    ("a CONNECT that is no JSON ends the connection", |target| {
        assert!(!target.last_words(b"CONNECT {\"verbose\":\r\nPING\r\n").contains("PONG"));
    }),
];

const USERS: &[Check] = &[
    ("INFO says that a login is needed", |target| {
        assert_eq!(NatsRaw::open(target.port).info["auth_required"], true);
    }),
    ("known users come in", |target| {
        target.with(json!({"user": "ann", "pass": "s3cret"}));
        target.with(json!({"user": "bob", "pass": "b=b"}));
    }),
    ("others don't", |target| {
        for wrong in [
            json!({"user": "ann", "pass": "wrong"}),
            json!({"user": "ann"}),
            json!({"user": "eve", "pass": "s3cret"}),
            json!({"auth_token": "s3cret"}),
            json!({}),
        ] {
            let mut client = NatsRaw::open(target.port);
            client.send(&format!("CONNECT {wrong}\r\n"));
            assert_eq!(client.rest(), "-ERR 'Authorization Violation'\r\n", "{wrong}");
        }
    }),
    ("nothing goes before CONNECT", |target| {
        for early in ["PING\r\n", "PUB a 1\r\nx\r\n", "SUB a 1\r\n"] {
            let mut client = NatsRaw::open(target.port);
            client.send(early);
            assert_eq!(client.rest(), "-ERR 'Authorization Violation'\r\n", "{early:?}");
        }
    }),
];

const TOKEN: &[Check] = &[("the token lets in, nothing else does", |target| {
    assert_eq!(NatsRaw::open(target.port).info["auth_required"], true);
    target.with(json!({"auth_token": "t0ken"}));
    for wrong in [json!({"auth_token": "t0ke"}), json!({"user": "token", "pass": "t0ken"}), json!({})] {
        let mut client = NatsRaw::open(target.port);
        client.send(&format!("CONNECT {wrong}\r\n"));
        assert_eq!(client.rest(), "-ERR 'Authorization Violation'\r\n", "{wrong}");
    }
})];

const LIMITS: &[Check] = &[
    ("the maximum payload is told and kept", |target| {
        let mut client = target.admitted();
        assert_eq!(client.info["max_payload"], 1000);
        client.send(&format!("SUB a 1\r\nPUB a 1000\r\n{}\r\n", "x".repeat(1000)));
        client.expect(&format!("MSG a 1 1000\r\n{}\r\n", "x".repeat(1000)));
        client.try_send(b"PUB a 1001\r\n");
        let words = client.rest();
        assert!(words.ends_with("-ERR 'Maximum Payload Violation'\r\n"), "{words}");
        let mut client = target.admitted();
        client.try_send(b"HPUB a 12 1001\r\nNATS/1.0\r\n\r\n");
        let words = client.rest();
        assert!(words.ends_with("-ERR 'Maximum Payload Violation'\r\n"), "{words}");
    }),
    ("more connections than allowed are turned away", |target| {
        let _two = (target.admitted(), target.admitted());
        let mut third = NatsRaw::open(target.port);
        assert_eq!(third.rest().to_lowercase(), "-err 'maximum connections exceeded'\r\n");
    }),
    ("a silent client is pinged and then given up", |target| {
        let words = target.admitted().rest();
        assert_eq!(words, "PING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
    }),
];
