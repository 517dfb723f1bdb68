//! What is being published: calls of the host, the messages of which are sent one after the other or several at once.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{MessageView, Outcomes};

use crate::message::{CoapOption, Method, Packet, first};
use crate::publish::{PublishOptions, add_option};
use crate::target::Target;

/// One call: a batch, and what became of its messages.
struct Call {
    id: u64,
    batch: Batch,
    options: Arc<PublishOptions>,
    outcomes: Outcomes,
    /// The first message that was not begun.
    next: usize,
    done: oneshot::Sender<Result<Vec<Outcome>>>,
    /// The request of the message before, to be used again by the next one to the same resource.
    made: Option<Made>,
}

struct Made {
    topic: Vec<u8>,
    packet: Packet,
}

/// Which message of which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    call: u64,
    index: usize,
}

/// A message that is to be sent next.
pub(super) struct Next<'a> {
    pub(super) place: Place,
    /// The request, its payload included.
    pub(super) packet: &'a mut Packet,
    pub(super) confirmable: bool,
}

/// All calls under way, in the order in which they came.
#[derive(Default)]
pub(super) struct Calls {
    calls: VecDeque<Call>,
    last: u64,
}

impl Calls {
    pub(super) fn begin(
        &mut self,
        batch: Batch,
        options: Arc<PublishOptions>,
        done: oneshot::Sender<Result<Vec<Outcome>>>,
    ) {
        if batch.is_empty() {
            // The caller may be gone.
            let _ = done.send(Ok(Vec::new()));
            return;
        }
        self.last += 1;
        self.calls.push_back(Call {
            id: self.last,
            outcomes: Outcomes::new(batch.len()),
            next: 0,
            batch,
            options,
            done,
            made: None,
        });
    }

    /// The next message that can be sent, made into a request. One that can't be is refused here.
    pub(super) fn next(&mut self, target: &Target) -> Option<Next<'_>> {
        let at = loop {
            let at = self.calls.iter().position(|call| call.next < call.batch.len())?;
            let call = &mut self.calls[at];
            if call.done.is_closed() {
                call.abandon_rest();
                self.answer(at);
                continue;
            }
            let index = call.next;
            call.next += 1;
            match call.prepare(index, target) {
                Ok(()) => break at,
                Err(error) => {
                    let place = Place { call: call.id, index };
                    self.settle(place, Outcome::refused(error.to_string()));
                }
            }
        };
        let call = &mut self.calls[at];
        let place = Place { call: call.id, index: call.next - 1 };
        let confirmable = !call.options.non_confirmable;
        let packet = &mut call.made.as_mut()?.packet;
        Some(Next { place, packet, confirmable })
    }

    /// Whether any message waits to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        self.calls.iter().any(|call| call.next < call.batch.len())
    }

    /// The message taken last could not be sent yet.
    pub(super) fn put_back(&mut self, place: Place) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.id == place.call) {
            call.next = place.index;
        }
    }

    /// The request of a message once more.
    pub(super) fn request(&mut self, place: Place, target: &Target) -> Option<Packet> {
        let call = self.calls.iter_mut().find(|call| call.id == place.call)?;
        call.prepare(place.index, target).ok()?;
        Some(call.made.as_ref()?.packet.clone())
    }

    /// Whether the call has one message only: then its failure is that of the call.
    pub(super) fn is_single(&self, place: Place) -> bool {
        self.calls.iter().any(|call| call.id == place.call && call.batch.len() == 1)
    }

    pub(super) fn settle(&mut self, place: Place, outcome: Outcome) {
        let Some(at) = self.calls.iter().position(|call| call.id == place.call) else { return };
        self.calls[at].outcomes.settle(place.index, outcome);
        self.answer(at);
    }

    fn answer(&mut self, at: usize) {
        if let Some(outcomes) = self.calls[at].outcomes.complete()
            && let Some(call) = self.calls.remove(at)
        {
            // The caller may be gone.
            let _ = call.done.send(Ok(outcomes));
        }
    }

    /// A call fails as a whole.
    pub(super) fn fail(&mut self, place: Place, error: Error) {
        if let Some(at) = self.calls.iter().position(|call| call.id == place.call)
            && let Some(call) = self.calls.remove(at)
        {
            let _ = call.done.send(Err(error));
        }
    }

    pub(super) fn fail_all(&mut self, error: &Error) {
        for call in self.calls.drain(..) {
            let _ = call.done.send(Err(error.clone()));
        }
    }
}

impl Call {
    /// The host has given it up: what was not sent stays unsent.
    fn abandon_rest(&mut self) {
        let count = self.batch.len();
        self.outcomes.settle_range(self.next..count, &Outcome::unconfirmed("given up before it was sent"));
        self.next = count;
    }

    /// Makes the request of a message, out of the one before it where that goes to the same resource.
    fn prepare(&mut self, index: usize, target: &Target) -> Result<()> {
        let Some(message) = self.batch.get(index) else {
            return Err(Error::config("there is no such message"));
        };
        let topic = message.topic();
        match &mut self.made {
            Some(made) if made.topic == topic && message.headers().len() == 0 => {
                made.packet.payload.clear();
                made.packet.payload.extend_from_slice(message.payload());
            }
            made => {
                let packet = request(&message, &self.options, target, Method::Put)?;
                // One with headers is not for the next message, which may have others.
                let topic = if message.headers().len() == 0 { topic.to_vec() } else { vec![0xff] };
                *made = Some(Made { topic, packet });
            }
        }
        Ok(())
    }
}

/// The request that a message of the host is.
///
/// # Errors
/// The topic is no path, an option or header can't be.
pub(crate) fn request(
    message: &MessageView<'_>,
    options: &PublishOptions,
    target: &Target,
    default: Method,
) -> Result<Packet> {
    let mut packet = Packet::new();
    packet.header.code = options.method.unwrap_or(default).class();
    target.add_resource(&mut packet, &message.topic_text())?;
    options.fill(&mut packet)?;
    for (name, value) in message.headers() {
        let text = format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        add_option(&mut packet, "-H", &text)?;
    }
    packet.payload = message.payload().to_vec();
    Ok(packet)
}

/// Whether the server is asked not to answer at all (RFC 7967: no 2.xx, 4.xx and 5.xx).
pub(super) fn wants_no_answer(packet: &Packet) -> bool {
    let value = first(packet, CoapOption::NoResponse).and_then(<[u8]>::first);
    value.is_some_and(|value| value & 26 == 26)
}
