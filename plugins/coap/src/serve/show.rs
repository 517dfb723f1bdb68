//! Requests on their way to the host: one message each, with what was answered.
//!
//! What is shown is made when the host takes it. When it takes less than comes, the oldest are dropped and counted: devices
//! get their answers all the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;
use tracemq_plugin_api::sdk::{Batch, BatchBuilder, BatchSender, Feed, MAX_BATCH, MetaValue, now};

use crate::message::{CoapOption, MessageClass, Packet, Token, code_text, observe, path_of};

/// The host is woken at most so often, or it would be for each request of a client that waits for its answers; the
/// processor time is the clients'. Nobody sees the difference.
const PAUSE: Duration = Duration::from_millis(2);
/// What waits for the host.
const REQUESTS: usize = 65_536;
const BYTES: usize = 16 << 20;
/// What a request weighs beside its payload, with its options in a map of lists.
const OVERHEAD: usize = 1024;

/// A request as it is shown.
#[derive(Debug)]
pub struct Shown {
    time: i64,
    /// Without its payload.
    packet: Packet,
    body: Bytes,
    peer: SocketAddr,
    transport: &'static str,
    /// Message id and whether it is confirmable, where the transport has such things.
    message: Option<(u16, bool)>,
    identity: Option<Arc<str>>,
    to_group: bool,
    /// In how many blocks the body came.
    blocks: u32,
    answer: MessageClass,
}

/// Where a request came from, as far as it is shown.
#[derive(Clone, Debug)]
pub struct Sender {
    pub peer: SocketAddr,
    /// The scheme of the URL.
    pub transport: &'static str,
    pub message: Option<(u16, bool)>,
    /// Who the client has proved to be.
    pub identity: Option<Arc<str>>,
    /// The request went to a group of servers.
    pub to_group: bool,
}

impl Shown {
    pub fn new(mut packet: Packet, body: Bytes, blocks: u32, sender: &Sender, answer: MessageClass) -> Shown {
        packet.payload = Vec::new();
        Shown {
            time: now(),
            packet,
            body,
            peer: sender.peer,
            transport: sender.transport,
            message: sender.message,
            identity: sender.identity.clone(),
            to_group: sender.to_group,
            blocks,
            answer,
        }
    }

    fn weight(&self) -> usize {
        self.body.len() + OVERHEAD
    }
}

pub fn feed() -> Feed<Shown> {
    Feed::new(REQUESTS, BYTES)
}

pub fn show(feed: &Feed<Shown>, shown: Shown) {
    let weight = shown.weight();
    feed.push(shown, weight);
}

/// Hands over what is fed until the host or the server is gone.
pub async fn pump(feed: Arc<Feed<Shown>>, sender: BatchSender) {
    while let Some(permit) = sender.reserve().await {
        let taken = tokio::select! {
            taken = feed.next(MAX_BATCH) => taken,
            () = sender.closed() => None,
        };
        let Some(taken) = taken else { return };
        let few = taken.items.len() < MAX_BATCH;
        permit.send(batch(&taken.items, taken.lost));
        if few {
            sleep(PAUSE).await;
        }
    }
}

fn batch(requests: &[Shown], lost: u64) -> Batch {
    let mut builder = BatchBuilder::with_capacity(requests.len());
    builder.set_dropped(lost);
    for request in requests {
        add(&mut builder, request);
    }
    builder.finish()
}

fn add(builder: &mut BatchBuilder, request: &Shown) {
    let packet = &request.packet;
    builder.set_time(request.time);
    let path = path_of(packet);
    let method = code_text(packet.header.code);
    let mut record = builder.add(&path, request.body.clone()).meta("method", MetaValue::Text(&method));
    if let Some((id, confirmable)) = request.message {
        let kind = if confirmable { "CON" } else { "NON" };
        record = record.meta("type", MetaValue::Text(kind)).meta("message_id", MetaValue::Uint(id.into()));
    }
    let token = Token::of(packet).to_string();
    let peer = request.peer.to_string();
    let answer = request.answer.to_string();
    record = record
        .meta("token", MetaValue::Text(&token))
        .meta("peer", MetaValue::Text(&peer))
        .meta("transport", MetaValue::Text(request.transport))
        .meta("code", MetaValue::Text(&answer));
    if request.to_group {
        record = record.meta("group", MetaValue::Bool(true));
    }
    if let Some(identity) = &request.identity {
        record = record.meta("identity", MetaValue::Text(identity));
    }
    if let Some(format) = crate::show::content_format(packet) {
        record = record.meta("content_format", MetaValue::Text(&format));
    }
    if let Some(number) = observe(packet) {
        record = record.meta("observe", MetaValue::Uint(number.into()));
    }
    if request.blocks > 1 {
        record = record.meta("blocks", MetaValue::Uint(request.blocks.into()));
    }
    // Most requests have a path and nothing else.
    let plain = u16::from(CoapOption::UriPath);
    if packet.options().any(|(number, _)| *number != plain) {
        let options = crate::show::Options(packet).to_string();
        let _ = record.meta("options", MetaValue::Json(&options));
    }
}
