//! JetStream as a test makes and looks at it: its API is JSON by request and reply.

use crate::nats::{NatsServer, NatsWire};
use crate::wait::{SHORT, until};
use serde_json::{Value, json};

impl NatsWire {
    /// Asks something and returns the answer, which is JSON.
    #[track_caller]
    pub fn ask(&mut self, subject: &str, body: &Value) -> Value {
        let body = body.to_string();
        // One subscription, made anew each time: 999 is nobody else's.
        self.send("SUB _INBOX.test.api 999\r\nUNSUB 999 1\r\n");
        self.send(format!("PUB {subject} _INBOX.test.api {}\r\n{body}\r\n", body.len()));
        let (_, _, answer) = self.message();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{answer}: {error}"))
    }

    /// `$JS.API.…`; panics when it is refused.
    #[track_caller]
    pub fn jetstream(&mut self, what: &str, body: &Value) -> Value {
        let answer = self.ask(&format!("$JS.API.{what}"), body);
        assert!(answer.get("error").is_none(), "{what}: {answer}");
        answer
    }

    /// Makes a stream of these subjects.
    #[track_caller]
    pub fn make_stream(&mut self, name: &str, subjects: &[&str]) {
        let config = json!({ "name": name, "subjects": subjects, "storage": "file", "num_replicas": 1 });
        self.jetstream(&format!("STREAM.CREATE.{name}"), &config);
    }

    /// A stored message: subject, and payload as text.
    #[track_caller]
    pub fn stored(&mut self, stream: &str, sequence: u64) -> Value {
        self.jetstream(&format!("STREAM.MSG.GET.{stream}"), &json!({ "seq": sequence }))["message"].clone()
    }
}

impl NatsServer {
    /// With JetStream in a folder of its own.
    pub fn with_jetstream() -> NatsServer {
        let server = NatsServer::builder().jetstream().start();
        let there = until(SHORT, || {
            let answer = NatsWire::connect(server.port()).ask("$JS.API.INFO", &json!({}));
            answer.get("error").is_none().then_some(())
        });
        assert!(there.is_some(), "JetStream does not start\n{}", server.log());
        server
    }
}
