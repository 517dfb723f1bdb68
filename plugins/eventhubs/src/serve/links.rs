//! Attaching: what a peer may send to or read from.
//!
//! A link is refused after it was attached, as Azure does it and the SDKs want it: they read the reason from the detach.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::engine::{Engine, Fault};
use super::hub::Hub;
use super::mailbox::LinkKey;
use super::partition::{Partition, Reader, Refusal};
use super::position::Position;
use super::session::{CREDIT, Lease, Link, Node, Outgoing, Replies, Sink, Source, To};
use crate::address::Address;
use crate::wire::{Attach, code};

/// The link property with the owner level.
const EPOCH: &str = "com.microsoft:epoch";
/// The capability of telling each event's reader of the newest event.
const METRICS: &str = "com.microsoft:enable-receiver-runtime-metric";
/// An address is shown in an error no further than this.
const SHOWN: usize = 200;

impl Engine {
    /// Attaches a link, or refuses it.
    ///
    /// # Errors
    /// It ends the connection.
    pub(super) fn attach(&mut self, channel: u16, attach: &Attach<'_>) -> Result<(), Fault> {
        let handle = attach.handle;
        if !self.is_free(channel, handle)? {
            return Ok(());
        }
        let key = LinkKey { channel, handle, serial: self.service.serial() };
        let made = if attach.receiver { self.source(key, attach) } else { self.sink(attach) };
        self.answer_attach(channel, attach);
        match made {
            Ok(link) => {
                let is_sink = matches!(link, Link::Sink(_));
                self.insert(key, link)?;
                if is_sink && let Some(session) = self.sessions.get_mut(&channel) {
                    session.write_flow(&mut self.out, Some(handle));
                }
            }
            Err((condition, text)) => {
                self.insert(key, Link::Closing)?;
                super::session::write_detach(&mut self.out, channel, handle, Some((condition, &text)));
                self.service.refused(&self.client, "a link", condition, &text);
            }
        }
        Ok(())
    }

    /// The attach is given back as it came, but for what is ours to say. Filters have to be: a reader whose filter is not
    /// confirmed takes it that it was passed over.
    fn answer_attach(&mut self, channel: u16, attach: &Attach<'_>) {
        let max_message = self.service.max_message as u64;
        self.out.performative(channel, code::ATTACH, |w| {
            w.raw(attach.name.raw);
            w.uint(attach.handle);
            w.bool(!attach.receiver);
            if attach.receiver {
                // Events go out settled: the SDKs never answer them.
                w.ubyte(1);
            } else {
                w.ubyte(attach.snd_settle_mode.and_then(|mode| u8::try_from(mode).ok()).unwrap_or(2));
            }
            // First: Python asks for "second" and would then wait for a third step that nobody takes.
            w.ubyte(0);
            w.raw(attach.source.raw);
            w.raw(attach.target.raw);
            w.null();
            w.bool(false);
            if attach.receiver {
                w.uint(0)
            } else {
                w.null()
            }
            w.ulong(max_message);
            (0..3).for_each(|_| w.null());
        });
    }

    fn sink(&self, attach: &Attach<'_>) -> Result<Link, Refusal> {
        let address = address(attach)?;
        let to = match &address {
            Address::Cbs => To::Node(Node::Cbs),
            Address::Management => To::Node(Node::Management),
            Address::Hub { hub } => To::Hub(Arc::clone(self.hub(hub, &address)?)),
            Address::Partition { hub, partition } => To::Partition(self.partition(hub, partition, &address)?),
            Address::Reader { .. } => {
                return Err((
                    "amqp:not-allowed",
                    format!("Nothing can be sent to '{address}': it is read from."),
                ));
            }
        };
        let access = match to {
            To::Node(_) => Lease { address: String::new(), until: u64::MAX },
            To::Hub(_) | To::Partition(_) => self.lease(&address, "Send")?,
        };
        let delivery_count = attach.initial_delivery_count.unwrap_or(0);
        Ok(Link::Sink(Sink { to, access, credit: CREDIT, delivery_count, partial: None }))
    }

    fn source(&self, key: LinkKey, attach: &Attach<'_>) -> Result<Link, Refusal> {
        let address = address(attach)?;
        let out = Outgoing::new(key.handle);
        let replies = |node| {
            let address = attach.peer_address().map(str::to_owned);
            let out = Outgoing::new(key.handle);
            Ok(Link::Replies(Replies { out, node, address, waiting: VecDeque::new() }))
        };
        let (hub, group, partition) = match &address {
            Address::Cbs => return replies(Node::Cbs),
            Address::Management => return replies(Node::Management),
            Address::Hub { .. } | Address::Partition { .. } => {
                return Err((
                    "amqp:not-allowed",
                    format!("'{address}' can't be read from: its partitions can, each by a consumer group."),
                ));
            }
            Address::Reader { hub, group, partition } => (hub, group, partition),
        };
        let partition = self.partition(hub, partition, &address)?;
        let group = self.service.hubs.group(group).ok_or_else(|| missing(&address))?;
        let access = self.lease(&address, "Listen")?;
        let position =
            Position::of(attach.filter()).map_err(|text| ("com.microsoft:argument-error", text))?;
        let next = partition.find(position)?;
        let level = attach.properties.get(EPOCH).filter(|level| !level.is_null());
        let level = match level {
            None => None,
            Some(level) => Some(level.signed().filter(|level| *level >= 0).ok_or_else(|| {
                ("com.microsoft:argument-error", format!("{EPOCH} is not a number from 0"))
            })?),
        };
        let reader = Reader { group: Arc::clone(group), level, mailbox: Arc::clone(&self.mailbox), key };
        let seat = partition.seat(reader)?;
        self.subscribed(&address.to_string(), level);
        let metrics = attach.desired_capabilities.has_symbol(METRICS);
        Ok(Link::Source(Box::new(Source { out, access, seat, next, rest: Bytes::new(), metrics })))
    }

    fn hub(&self, name: &str, address: &Address) -> Result<&Arc<Hub>, Refusal> {
        self.service.hubs.get(name).ok_or_else(|| missing(address))
    }

    fn partition(&self, hub: &str, id: &str, address: &Address) -> Result<Arc<Partition>, Refusal> {
        let hub = self.hub(hub, address)?;
        hub.partition(id).map(Arc::clone).ok_or_else(|| {
            let text = format!(
                "The specified partition is invalid for an EventHub partition sender or receiver. It should be between 0 and \
                 {}.",
                hub.partitions().len() - 1
            );
            ("com.microsoft:argument-out-of-range", text)
        })
    }

    fn lease(&self, address: &Address, claim: &str) -> Result<Lease, Refusal> {
        let address = address.to_string();
        match self.access.until(&address) {
            Some(until) => Ok(Lease { address, until }),
            None => Err((
                "amqp:unauthorized-access",
                format!(
                    "Unauthorized access. '{claim}' claim(s) are required to perform this operation. Resource: '{address}'."
                ),
            )),
        }
    }
}

fn address(attach: &Attach<'_>) -> Result<Address, Refusal> {
    let text = attach.address().ok_or(("amqp:invalid-field", "the link has no address".to_owned()))?;
    Address::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(SHOWN).collect();
        ("amqp:not-found", format!("There is nothing at '{shown}'."))
    })
}

fn missing(address: &Address) -> Refusal {
    ("amqp:not-found", format!("The messaging entity '{address}' could not be found."))
}
