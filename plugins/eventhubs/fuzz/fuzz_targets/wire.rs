//! Any bytes as values, frames, performatives and messages: nothing panics, nothing recurses without end, and values are
//! where they are said to be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracemq_eventhubs::wire::{Frame, Message, Performative, Reader, Value, batch};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(header)) = Frame::header(bytes, 1 << 20) {
        assert!(header.body >= 8 && header.body <= header.size && header.size <= 1 << 20);
    }
    let mut reader = Reader::new(bytes);
    let mut length = 0;
    while let Ok(value) = reader.value() {
        length += value.raw.len();
        look(value, 0);
    }
    assert!(length + reader.rest().len() <= bytes.len());
    if let Ok((performative, payload)) = Performative::read(bytes) {
        assert!(bytes.ends_with(payload));
        if let Performative::Attach(attach) = performative {
            let _ = (attach.address(), attach.peer_address(), attach.filter());
        }
    }
    if let Ok(message) = Message::read(bytes) {
        assert!(bytes.ends_with(message.bare));
        let _ = (message.kind(), message.properties(), message.body().count());
        if let Ok(inner) = batch(&message) {
            assert!(inner.len() <= bytes.len());
        }
    }
});

fn look(value: Value<'_>, depth: usize) {
    let _ = (value.bool(), value.unsigned(), value.signed(), value.float(), value.char(), value.timestamp());
    let _ = (value.text(), value.bytes(), value.uuid(), value.descriptor(), value.descriptor_symbol());
    let _ = (value.get("name"), value.has_symbol("name"));
    if depth > 8 {
        return;
    }
    if let Some(items) = value.list() {
        let _ = items.fields::<14>();
        items.flatten().for_each(|item| look(item, depth + 1));
    }
    if let Some(items) = value.map() {
        items.pairs().flatten().for_each(|(_, value)| look(value, depth + 1));
    }
    if let Some(elements) = value.array() {
        let count = elements.flatten().inspect(|element| look(*element, depth + 1)).count();
        assert!(count <= value.data().len());
    }
}
