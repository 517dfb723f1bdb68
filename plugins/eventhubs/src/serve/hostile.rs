//! A client that sends anything: for tests, and for the targets in `fuzz`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tracemq_plugin_api::net::Users;
use tracemq_plugin_api::sdk::Events;

use super::access::{Access, Keys};
use super::engine::{Engine, Fault, MAX_FRAME, Next};
use super::feed::Feed;
use super::hub::Hubs;
use super::options::ServeOptions;
use super::outgoing::FULL;
use super::position::Position;
use super::service::{Busy, Client, Service};
use super::session::Node;
use crate::wire::{Frame, Outbox, Performative, Reader, Writer, code};

/// What the server may have put out beyond its limit: the answer to one frame.
const SLACK: usize = 2 * MAX_FRAME;

fn engine() -> Engine {
    let options = ServeOptions {
        hub: vec!["h:2".to_owned()],
        retention_bytes: Some(1 << 16),
        max_message_size: 1 << 16,
        busy_every: Some(7),
        ..ServeOptions::default()
    };
    let keys = options.keys().expect("the default key");
    let users = Users::new(&keys).expect("one user");
    let service = Service::new(
        "fuzz".to_owned(),
        Hubs::open(&options).expect("a hub in memory"),
        Keys::new(keys, users),
        Events::unheard(),
        Feed::default(),
        options.max_message_size as usize,
        Busy::new(options.busy_every),
    );
    let client = Client { number: 1, peer: ([127, 0, 0, 1], 1).into() };
    Engine::new(Arc::new(service), client, Access::everything())
}

/// A connection with a session and a link of each kind.
fn preamble() -> Vec<u8> {
    let mut out = Outbox::default();
    out.performative(0, code::OPEN, |w| {
        w.string("client");
        w.null();
        w.uint(1024);
    });
    out.performative(0, code::BEGIN, |w| {
        w.null();
        w.uint(0);
        w.uint(100);
        w.uint(100);
    });
    let mut attach = |handle: u32, receiver: bool, source: &str, target: &str| {
        out.performative(0, code::ATTACH, |w| {
            w.string(&format!("link {handle}"));
            w.uint(handle);
            w.bool(receiver);
            w.null();
            w.null();
            w.describe(code::SOURCE).list(|w| w.string(source));
            w.describe(code::TARGET).list(|w| w.string(target));
            w.null();
            w.null();
            w.uint(0);
        });
    };
    attach(0, false, "me", "h");
    attach(1, false, "me", "h/Partitions/1");
    attach(2, true, "h/ConsumerGroups/$Default/Partitions/0", "me");
    attach(3, false, "me", "$management");
    attach(4, true, "$management", "answers");
    attach(5, false, "me", "$cbs");
    attach(6, true, "$cbs", "tokens");
    out.unsent().to_vec()
}

/// Frames out of any bytes: a byte says what, the next one how many bytes of it follow.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    while let [kind, length, rest @ ..] = bytes {
        let (data, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        bytes = rest;
        match kind % 16 {
            // As it is: a frame that is none, most likely.
            15 => found.extend_from_slice(data),
            // A payload on one of the links.
            kind @ 9..=14 => {
                let mut body = Vec::new();
                Writer::new(&mut body).describe(code::TRANSFER).list(|w| {
                    w.uint([0, 0, 1, 3, 5, 5][usize::from(kind) - 9]);
                    w.uint(0);
                    w.binary(b"t");
                    w.uint(if kind == 10 { crate::wire::BATCH_FORMAT } else { 0 });
                    w.bool(kind == 14);
                    w.bool(data.first() == Some(&0xFF));
                });
                body.extend_from_slice(data);
                frame(&mut found, &body);
            }
            kind => {
                let mut body = vec![0, 0x53, code::OPEN + kind, 0xC0];
                let items = data.first().copied().unwrap_or(0) % 16;
                let data = &data[data.len().min(1)..];
                body.push(u8::try_from(data.len().min(254) + 1).unwrap_or(u8::MAX));
                body.push(items);
                body.extend_from_slice(&data[..data.len().min(254)]);
                frame(&mut found, &body);
            }
        }
    }
    found
}

fn frame(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(&(body.len() as u32 + 8).to_be_bytes());
    out.extend_from_slice(&[2, 0, 0, 0]);
    out.extend_from_slice(body);
}

/// Sends any bytes after what every client sends, as frames or as they are. Panics when the server breaks a promise.
pub fn send(bytes: &[u8]) {
    let [how, bytes @ ..] = bytes else { return };
    let mut inbox = BytesMut::new();
    if how & 1 == 0 {
        inbox.extend_from_slice(&preamble());
    }
    match how & 2 {
        0 => inbox.extend_from_slice(&frames(bytes)),
        _ => inbox.extend_from_slice(bytes),
    }
    let mut engine = engine();
    if how & 4 == 0 {
        engine.access = Access::everything();
    } else {
        engine.access = Access::default();
    }
    loop {
        let next = step(&mut engine, &mut inbox);
        engine.notes();
        engine.pump();
        assert!(engine.out.len() <= FULL + SLACK, "what waits is bounded");
        read_all(&mut engine.out);
        match next {
            Ok(Some(Next::Open)) => {}
            Ok(Some(Next::Closed) | None) | Err(_) => break,
        }
    }
    engine.expire();
}

fn step(engine: &mut Engine, inbox: &mut BytesMut) -> Result<Option<Next>, Fault> {
    let Some(header) = Frame::header(inbox, MAX_FRAME)? else { return Ok(None) };
    if inbox.len() < header.size {
        return Ok(None);
    }
    let frame: Bytes = inbox.split_to(header.size).freeze();
    engine.frame(header, &frame).map(Some)
}

/// All that the server has put out are frames that can be read.
fn read_all(out: &mut Outbox) {
    let mut rest = out.unsent();
    while !rest.is_empty() {
        let header = Frame::header(rest, MAX_FRAME).expect("a frame").expect("all of its header");
        let frame = &rest[..header.size];
        if header.body < header.size {
            Performative::read(&frame[header.body..]).expect("a performative");
        }
        rest = &rest[header.size..];
    }
    out.advance(out.len());
}

/// A request to `$management` or `$cbs`, whose properties, or all of which, are any bytes.
pub fn ask(bytes: &[u8]) {
    let [how, bytes @ ..] = bytes else { return };
    let mut engine = engine();
    let mut inbox = BytesMut::from(preamble().as_slice());
    while let Ok(Some(_)) = step(&mut engine, &mut inbox) {}
    if how & 1 == 1 {
        engine.access = Access::default();
    }
    let node = if how & 2 == 0 { Node::Management } else { Node::Cbs };
    let mut message = Vec::new();
    if how & 4 == 0 {
        let mut writer = Writer::new(&mut message);
        writer.describe(code::PROPERTIES).list(|w| w.string("id"));
        writer.describe(code::APPLICATION_PROPERTIES).map(|w| {
            w.string("operation");
            w.string(if node == Node::Cbs { "put-token" } else { "READ" });
            w.string("type");
            w.string(
                ["com.microsoft:eventhub", "com.microsoft:partition", "servicebus.windows.net:sastoken"]
                    [usize::from(how >> 3) % 3],
            );
            w.string("name");
            w.string("h");
            let mut rest = Reader::new(bytes);
            while let Ok(value) = rest.value() {
                w.raw(value.raw);
            }
        });
    }
    message.extend_from_slice(bytes);
    let _ = engine.request(0, node, &message);
    engine.pump();
    read_all(&mut engine.out);
}

/// A selector, and the filters in which it stands.
pub fn select(bytes: &[u8]) {
    if let Ok(filter) = Reader::new(bytes).value() {
        let _ = Position::of(filter);
    }
    let text = String::from_utf8_lossy(bytes);
    for text in [
        text.to_string(),
        format!("amqp.annotation.x-opt-{text}"),
        format!("amqp.annotation.x-opt-offset > '{text}'"),
    ] {
        let mut filter = Vec::new();
        Writer::new(&mut filter).map(|w| {
            w.symbol("apache.org:selector-filter:string");
            w.string(&text);
        });
        let filter = Reader::new(&filter).value().expect("a map");
        if let Err(error) = Position::of(filter) {
            assert!(error.len() < 1000, "it is shown no further than it needs to be");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_begin_is_good() {
        let mut engine = engine();
        let mut inbox = BytesMut::from(preamble().as_slice());
        for _ in 0..9 {
            let next = step(&mut engine, &mut inbox).map_err(|fault| fault.text);
            assert_eq!(next, Ok(Some(Next::Open)));
        }
        assert!(inbox.is_empty());
        assert_eq!(engine.sessions[&0].links.len(), 7);
        assert!(
            engine.sessions[&0]
                .links
                .values()
                .all(|link| !matches!(link, super::super::session::Link::Closing))
        );
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            send(&bytes);
            ask(&bytes);
            select(&bytes);
        }
    }
}
