//! Requests whose answers go to somebody: to a stream, or to a caller.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::oneshot;
use tracemq_plugin_api::prelude::*;

use super::finish;
use super::reply::Reply;
use super::stream::{Shown, Stream};
use crate::message::Packet;

/// Where answers go.
pub(super) enum Sink {
    /// To the host, one answer.
    One {
        sender: BatchSender,
        topic: String,
    },
    /// To the host, those of all servers of a group, until it wants no more.
    Group {
        stream: Stream,
        topic: Arc<str>,
    },
    Caller(oneshot::Sender<Result<Packet>>),
}

/// A request under way.
pub(super) struct Ask {
    pub(super) request: Packet,
    sink: Sink,
}

/// All requests under way.
#[derive(Default)]
pub(super) struct Asks {
    asks: HashMap<u64, Ask>,
}

impl Asks {
    pub(super) fn begin(&mut self, id: u64, request: Packet, sink: Sink) {
        self.asks.insert(id, Ask { request, sink });
    }

    pub(super) fn get(&self, id: u64) -> Option<&Ask> {
        self.asks.get(&id)
    }

    /// A whole response came. What a server of a group answers is shown whatever its code: others may answer otherwise.
    pub(super) fn answered(&mut self, id: u64, mut reply: Reply) {
        if let Some(Ask { sink: Sink::Group { stream, topic }, .. }) = self.asks.get(&id) {
            return stream.push(Shown { reply, topic: Arc::clone(topic), observed: None });
        }
        let Some(ask) = self.asks.remove(&id) else { return };
        if !reply.is_success() {
            return ask.fail(reply.error());
        }
        match ask.sink {
            Sink::One { sender, topic } => {
                let mut batch = BatchBuilder::new();
                reply.add_to(&mut batch, &topic, None);
                finish(sender, Some(batch.finish()), None);
            }
            // The caller may be gone.
            Sink::Caller(done) => drop(done.send(Ok(reply.answer.packet))),
            Sink::Group { .. } => {}
        }
    }

    /// There will be no answer, of this server if a group was asked.
    pub(super) fn failed(&mut self, id: u64, peer: SocketAddr, error: Error) {
        if matches!(self.asks.get(&id), Some(Ask { sink: Sink::Group { .. }, .. })) {
            log::info!("{peer}: {error}");
            return;
        }
        self.refused(id, error);
    }

    /// It could not be sent.
    pub(super) fn refused(&mut self, id: u64, error: Error) {
        if let Some(ask) = self.asks.remove(&id) {
            ask.fail(error);
        }
    }

    /// The host wants no more.
    pub(super) fn gone(&mut self, id: u64) -> bool {
        self.asks.remove(&id).is_some()
    }

    pub(super) fn fail_all(&mut self, error: &Error) {
        for (_, ask) in self.asks.drain() {
            ask.fail(error.clone());
        }
    }
}

impl Ask {
    fn fail(self, error: Error) {
        match self.sink {
            Sink::One { sender, .. } => finish(sender, None, Some(error)),
            Sink::Group { stream, .. } => stream.end(Some(error)),
            Sink::Caller(done) => drop(done.send(Err(error))),
        }
    }
}
