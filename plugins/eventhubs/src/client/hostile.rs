//! A server that sends anything, after it has attached what was asked for: for tests, and for the targets in `fuzz`.

use bytes::BytesMut;
use fe2o3_amqp_types::messaging::{Batch as Sections, Data};
use serde_amqp::primitives::Binary;
use tracemq_plugin_api::prelude::BatchBuilder;

use super::filler::Filler;
use super::guard::Sieve;
use super::payloads::Payloads;
use crate::wire::{Body, Frame, Outbox, Performative, code};

const FRAME: usize = 1 << 16;

/// Any bytes from the network, in pieces. What is handed on are whole frames, and what was in transfers can be had for them.
pub fn receive(bytes: &[u8]) {
    let [step, bytes @ ..] = bytes else { return };
    let payloads = Payloads::default();
    let inbox = payloads.link("link", 1 << 12);
    let mut sieve = Sieve::new(FRAME, payloads);
    let mut input = attached();
    sieve.look(&mut input).expect("the attach is good");
    let mut failed = false;
    for piece in bytes.chunks(usize::from(*step).max(1)) {
        input.extend_from_slice(piece);
        if sieve.look(&mut input).is_err() {
            failed = true;
            break;
        }
        assert!(input.len() < FRAME, "no more is held than a frame");
    }
    let (good, mut rest) = (sieve.good.split(), 0);
    let mut sections = Vec::new();
    while rest < good.len() {
        if good[rest..].starts_with(b"AMQP") {
            rest += 8;
            continue;
        }
        let header = Frame::header(&good[rest..], FRAME);
        // The last one may be what broke off.
        let Ok(Some(header)) = header else { break };
        assert!(failed || good.len() - rest >= header.size, "only whole frames are handed on");
        let Some(frame) = good.get(rest..rest + header.size) else { break };
        if let Ok((Performative::Transfer(transfer), payload)) = Performative::read(&frame[header.body..]) {
            let number = payload.get(5..).map(<[u8]>::to_vec);
            sections.extend(number.map(|number| Data(Binary::from(number))));
            if !transfer.more
                && let Ok(message) = inbox.take(&Sections::new(std::mem::take(&mut sections)))
            {
                show(&message);
            }
        }
        rest += header.size;
    }
}

fn attached() -> BytesMut {
    let mut out = Outbox::default();
    out.performative(0, code::ATTACH, |w| {
        w.string("link");
        w.uint(0);
        w.bool(false);
    });
    BytesMut::from(out.unsent())
}

/// Any bytes as a message, and in a transfer.
pub fn read(bytes: &[u8]) {
    show(&bytes::Bytes::copy_from_slice(bytes));
    let mut out = Outbox::default();
    out.transfer(Body { channel: 0, handle: 0, delivery: 0, more: false }, &[bytes]);
    receive(&[&[0xFF], out.unsent()].concat());
}

fn show(message: &bytes::Bytes) {
    let mut batch = BatchBuilder::new();
    let mut filler = Filler::new("topic".to_owned(), Some("0".to_owned()));
    let added = filler.add(&mut batch, message);
    let batch = batch.finish();
    assert_eq!(batch.len(), usize::from(added.is_ok()));
    for message in batch.iter() {
        let size: usize = message.meta().map(|(name, value)| name.len() + format!("{value:?}").len()).sum();
        assert!(size < (1 << 20), "what is shown is in proportion to what came");
        assert!(message.headers().all(|(name, value)| name.len() + value.len() < (1 << 20)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_that_is_received_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            receive(&bytes);
            read(&bytes);
        }
    }
}
