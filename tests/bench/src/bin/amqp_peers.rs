//! What `scripts/bench eventhubs` measures with and against: fe2o3-amqp and nothing else, and bytes without any library.
//!
//! `amqp_peers receive PORT HUB COUNT` reads a partition from its beginning; `batches PORT HUB COUNT SIZE` sends batches as
//! large as the link allows, `singles` one event a transfer, both without waiting for each answer; `flood` sends a batch that was
//! encoded beforehand again and again, so that only the server is measured. All log in with the key of a server without any.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use fe2o3_amqp::connection::{Connection, ConnectionHandle};
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::{Receiver, Sendable, Sender, Session};
use fe2o3_amqp_types::definitions::{ReceiverSettleMode, SenderSettleMode};
use fe2o3_amqp_types::messaging::{Batch, Body, Data, FilterSet, Message, Source};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_amqp::Value;
use serde_amqp::described::Described;
use serde_amqp::descriptor::Descriptor;
use serde_amqp::primitives::{Binary, Symbol};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const KEY: (&str, &str) = ("RootManageSharedAccessKey", "SAS_KEY_VALUE");
const FRAME: u32 = 1 << 20;
const BATCH_FORMAT: u32 = 0x8001_3700;
/// What a batch may have, a little less than the server's limit.
const BATCH: usize = 1_000_000;
const CREDIT: u32 = 5000;
/// Frames between the tasks of the library.
const QUEUED: usize = 1024;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["receive", port, hub, count] => runtime()?.block_on(receive(port, hub, count.parse()?)),
        ["batches", port, hub, count, size] => {
            runtime()?.block_on(send(port, hub, count.parse()?, size.parse()?, true))
        }
        ["singles", port, hub, count, size] => {
            runtime()?.block_on(send(port, hub, count.parse()?, size.parse()?, false))
        }
        ["flood", port, hub, count, size] => flood(port.parse()?, hub, count.parse()?, size.parse()?),
        _ => {
            Err("usage: amqp_peers receive PORT HUB COUNT | batches|singles|flood PORT HUB COUNT SIZE".into())
        }
    }
}

async fn connect(port: &str) -> Result<ConnectionHandle<()>, Failure> {
    let (name, key) = KEY;
    let plain = SaslProfile::Plain { username: name.into(), password: key.into() };
    let builder = Connection::builder().container_id("bare").max_frame_size(FRAME).sasl_profile(plain);
    Ok(builder.open(format!("amqp://127.0.0.1:{port}").as_str()).await?)
}

async fn receive(port: &str, hub: &str, count: u64) -> Result<(), Failure> {
    let mut connection = connect(port).await?;
    let mut session = Session::builder().buffer_size(QUEUED).begin(&mut connection).await?;
    let selector = Described {
        descriptor: Descriptor::Code(0x0000_468C_0000_0004),
        value: Value::String("amqp.annotation.x-opt-offset > '-1'".into()),
    };
    let mut filters = FilterSet::new();
    filters.insert(Symbol::from("apache.org:selector-filter:string"), Value::Described(Box::new(selector)));
    let address = format!("{hub}/ConsumerGroups/$Default/Partitions/0");
    let mut builder = Receiver::builder()
        .name("bare")
        .source(Source::builder().address(address).filter(filters).build())
        .sender_settle_mode(SenderSettleMode::Settled)
        .receiver_settle_mode(ReceiverSettleMode::First)
        .credit_mode(CreditMode::Manual)
        .verify_incoming_source(false);
    builder.buffer_size = QUEUED;
    let mut receiver = builder.attach(&mut session).await?;
    let mut bytes = 0;
    for number in 0..count {
        if number % u64::from(CREDIT / 2) == 0 {
            receiver.set_credit(CREDIT).await?;
        }
        let delivery = receiver.recv::<Body<Value>>().await?;
        if let Body::Data(sections) = delivery.body() {
            bytes += sections.iter().map(|data| data.0.len()).sum::<usize>();
        }
    }
    assert!(bytes > 0, "the events have no data");
    // Closing takes as long as what is on its way, which is not what is measured.
    std::process::exit(0)
}

async fn send(port: &str, hub: &str, count: usize, size: usize, batches: bool) -> Result<(), Failure> {
    let mut connection = connect(port).await?;
    let mut session = Session::builder().buffer_size(QUEUED).begin(&mut connection).await?;
    let mut builder = Sender::builder()
        .name("bare")
        .target(format!("{hub}/Partitions/0"))
        .sender_settle_mode(SenderSettleMode::Unsettled);
    builder.buffer_size = QUEUED;
    let mut sender = builder.attach(&mut session).await?;
    let (each, most) = if batches { ((BATCH / (size + 16)).max(1), 8) } else { (1, 1000) };
    let event = encoded(size);
    let mut sent = 0;
    let mut under_way = FuturesUnordered::new();
    while sent < count {
        let events = each.min(count - sent);
        let body = if batches {
            let sections = (0..events).map(|_| Data(Binary::from(event.clone())));
            Body::Data(Batch::new(sections.collect::<Vec<_>>()))
        } else {
            Body::Data(Batch::new(vec![Data(Binary::from(vec![b'x'; size]))]))
        };
        let body: Body<Value> = body;
        let message = Message::builder().body(body).build();
        let message_format = if batches { BATCH_FORMAT } else { 0 };
        under_way.push(sender.send_batchable(Sendable { message, message_format, settled: None }).await?);
        sent += events;
        while under_way.len() >= most {
            under_way.next().await.ok_or("no answer")??;
        }
    }
    while let Some(outcome) = under_way.next().await {
        outcome?;
    }
    std::process::exit(0)
}

/// A message of one data section.
fn encoded(size: usize) -> Vec<u8> {
    let mut event = vec![0, 0x53, 0x75, 0xB0];
    event.extend_from_slice(&(size as u32).to_be_bytes());
    event.resize(event.len() + size, b'x');
    event
}

fn list(code: u8, fields: &[&[u8]]) -> Vec<u8> {
    let data = fields.concat();
    let size = (data.len() as u32 + 4).to_be_bytes();
    [&[0, 0x53, code, 0xD0][..], &size, &(fields.len() as u32).to_be_bytes(), &data].concat()
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], &[2, kind, 0, 0], body].concat()
}

fn text(value: &str) -> Vec<u8> {
    [&[0xA1, value.len() as u8][..], value.as_bytes()].concat()
}

fn flood(port: u16, hub: &str, count: usize, size: usize) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let (name, key) = KEY;
    let plain = format!("\0{name}\0{key}");
    let plain = [&[0xA0, plain.len() as u8][..], plain.as_bytes()].concat();
    let number = |value: u32| [&[0x70][..], &value.to_be_bytes()].concat();
    let null: &[u8] = b"\x40";
    let target = list(0x29, &[&text(&format!("{hub}/Partitions/0"))]);
    let opening = [
        &b"AMQP\x03\x01\0\0"[..],
        &frame(1, &list(0x41, &[b"\xA3\x05PLAIN", &plain])),
        b"AMQP\0\x01\0\0",
        &frame(0, &list(0x10, &[&text("flood")])),
        &frame(0, &list(0x11, &[null, &number(0), &number(CREDIT), &number(CREDIT)])),
        &frame(
            0,
            &list(
                0x12,
                &[
                    &text("l"),
                    b"\x43",
                    b"\x42",
                    null,
                    null,
                    &list(0x28, &[&text("me")]),
                    &target,
                    null,
                    null,
                    b"\x43",
                ],
            ),
        ),
    ];
    stream.write_all(&opening.concat())?;
    let event = encoded(size);
    let section = [&[0, 0x53, 0x75, 0xB0][..], &(event.len() as u32).to_be_bytes(), &event].concat();
    let each = (BATCH / section.len()).max(1);
    let head = list(0x14, &[b"\x43", &number(0), b"\xA0\x01x", &number(BATCH_FORMAT), b"\x42"]);
    let mut batch = frame(0, &[&head[..], &section.repeat(each)].concat());
    // The delivery's number stands behind the list's head, the handle and its own type.
    let at = 8 + 3 + 9 + 1 + 1;
    let batches = count.div_ceil(each) as u32;
    let mut reader = BufReader::new(stream.try_clone()?);
    let answers =
        std::thread::spawn(move || answered(&mut reader, batches - 1).map_err(|error| error.to_string()));
    for delivery in 0..batches {
        batch[at..at + 4].copy_from_slice(&delivery.to_be_bytes());
        stream.write_all(&batch)?;
    }
    answers.join().map_err(|_| "the reader failed")??;
    Ok(())
}

/// Reads until the delivery of this number was accepted.
fn answered(reader: &mut impl Read, wanted: u32) -> Result<(), Failure> {
    let mut header = [0; 8];
    // The protocol header of the security layer, its two frames, and the protocol header of AMQP are told apart by this.
    loop {
        reader.read_exact(&mut header)?;
        if header.starts_with(b"AMQP") {
            continue;
        }
        let size = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let mut body = vec![0; size - header.len()];
        reader.read_exact(&mut body)?;
        match body.get(2) {
            // Disposition: role, first, last.
            Some(0x15) => {
                let mut rest = &body[13..];
                uint(&mut rest)?;
                if uint(&mut rest)? >= wanted {
                    return Ok(());
                }
            }
            Some(0x16..=0x18) => return Err(String::from_utf8_lossy(&body).into_owned().into()),
            _ => {}
        }
    }
}

fn uint(rest: &mut &[u8]) -> Result<u32, Failure> {
    let mut code = [0];
    rest.read_exact(&mut code)?;
    let mut bytes = [0; 4];
    match code[0] {
        0x43 => {}
        0x52 => rest.read_exact(&mut bytes[3..])?,
        _ => rest.read_exact(&mut bytes)?,
    }
    Ok(u32::from_be_bytes(bytes))
}
