//! Bounds how deep values lie within one another, in bytes on their way to a decoder that recurses.
//!
//! serde_amqp descends into lists, maps, arrays and described values with a call each, so that a message of a few kilobytes
//! overflows the stack. Here values are walked through without recursion, however they are cut into frames. A list, map or
//! array that lies too deep is made binary, which has the same form (a size, and so many bytes): one byte is changed, and what
//! is in it is shown as bytes.

/// So deep may values lie. Nobody nests like that on purpose.
const DEEPEST: usize = 32;

/// A value that is not complete yet.
#[derive(Clone, Copy, Debug)]
enum Open {
    /// Items, up to this position.
    Items { end: u64 },
    /// Elements of an array, which have no codes of their own.
    Elements { end: u64, code: u8 },
    /// The descriptor of all elements of an array.
    ArrayDescriptor { end: u64 },
    /// A descriptor and a value, of which so many are still to come.
    Described { left: u8 },
}

/// What the next byte is.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// A type's code, or the first byte of an element.
    Value,
    /// The code of an array's elements.
    ElementCode { end: u64, described: bool },
    /// A byte of the size of a value of this code.
    Size { code: u8, left: u8, size: u64 },
    /// A byte of the count that follows a size.
    Count { array: bool, end: u64, left: u8 },
    /// So many bytes without meaning.
    Skip(u64),
}

/// The place in a sequence of values.
#[derive(Debug)]
pub struct Nesting {
    open: Vec<Open>,
    next: Next,
    at: u64,
}

impl Default for Nesting {
    fn default() -> Nesting {
        Nesting { open: Vec::new(), next: Next::Value, at: 0 }
    }
}

impl Nesting {
    /// Walks through the bytes that come next, and changes what lies too deep.
    pub fn pass(&mut self, bytes: &mut [u8]) {
        let mut here = 0;
        loop {
            // Elements without a code, and without a size, may take no byte at all.
            if let (Next::Value, Some(Open::Elements { code, .. })) = (self.next, self.open.last().copied()) {
                self.value_of(code);
                continue;
            }
            if let Next::Skip(left) = self.next {
                let now = left.min((bytes.len() - here) as u64);
                here += now as usize;
                self.at += now;
                self.next = Next::Skip(left - now);
                if left > now {
                    return;
                }
                self.complete();
                continue;
            }
            let Some(byte) = bytes.get_mut(here) else { return };
            here += 1;
            self.at += 1;
            match self.next {
                Next::Value => self.code(byte),
                Next::ElementCode { end, described } => self.element_code(byte, end, described),
                Next::Size { code, left, size } => self.size(code, left - 1, size << 8 | u64::from(*byte)),
                Next::Count { array, end, left: 1 } => self.content(array, end),
                Next::Count { array, end, left } => self.next = Next::Count { array, end, left: left - 1 },
                Next::Skip(_) => {}
            }
        }
    }

    fn is_deep(&self) -> bool {
        self.open.len() >= DEEPEST
    }

    fn code(&mut self, byte: &mut u8) {
        if *byte == 0 && !self.is_deep() {
            self.open.push(Open::Described { left: 2 });
            return;
        }
        if self.is_deep() {
            *byte = shallow(*byte);
        }
        self.value_of(*byte);
    }

    fn element_code(&mut self, byte: &mut u8, end: u64, described: bool) {
        if *byte == 0 && !described && !self.is_deep() {
            self.open.push(Open::ArrayDescriptor { end });
            self.next = Next::Value;
            return;
        }
        if *byte == 0 || self.is_deep() {
            *byte = shallow(*byte);
        }
        match *byte >> 4 {
            0xA..=0xF if self.at < end => {
                self.open.push(Open::Elements { end, code: *byte });
                self.next = Next::Value;
            }
            _ => self.next = Next::Skip(end.saturating_sub(self.at)),
        }
    }

    /// Behind the code of a value.
    fn value_of(&mut self, code: u8) {
        self.next = match code >> 4 {
            0x5 => Next::Skip(1),
            0x6 => Next::Skip(2),
            0x7 => Next::Skip(4),
            0x8 => Next::Skip(8),
            0x9 => Next::Skip(16),
            0xA | 0xC | 0xE => Next::Size { code, left: 1, size: 0 },
            0xB | 0xD | 0xF => Next::Size { code, left: 4, size: 0 },
            // No bytes; or no type, which the decoder refuses.
            _ => Next::Skip(0),
        };
    }

    fn size(&mut self, code: u8, left: u8, size: u64) {
        self.next = match (left, code >> 4) {
            (1.., _) => Next::Size { code, left, size },
            (0, 0xA | 0xB) => Next::Skip(size),
            (0, kind) => {
                let width = if matches!(kind, 0xC | 0xE) { 1 } else { 4 };
                Next::Count { array: matches!(kind, 0xE | 0xF), end: self.at + size, left: width }
            }
        };
    }

    /// Behind size and count of a list, map or array.
    fn content(&mut self, array: bool, end: u64) {
        if self.at >= end {
            self.complete();
        } else if array {
            self.next = Next::ElementCode { end, described: false };
        } else {
            self.open.push(Open::Items { end });
            self.next = Next::Value;
        }
    }

    /// A value is complete, and with it perhaps those around it.
    fn complete(&mut self) {
        self.next = Next::Value;
        while let Some(open) = self.open.pop() {
            match open {
                Open::Items { end } | Open::Elements { end, .. } if self.at >= end => {}
                Open::Described { left: 1 } => {}
                Open::ArrayDescriptor { end } => {
                    self.next = Next::ElementCode { end, described: true };
                    return;
                }
                Open::Described { left } => return self.open.push(Open::Described { left: left - 1 }),
                open => return self.open.push(open),
            }
        }
    }
}

/// The code of binary for that of a list, map or array with a size of the same width. A descriptor begins with no code: it
/// becomes null, and what follows is then one value too many, which the decoder refuses.
fn shallow(code: u8) -> u8 {
    match code >> 4 {
        0xC | 0xE => 0xA0,
        0xD | 0xF => 0xB0,
        _ if code == 0 => 0x40,
        _ => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_amqp::primitives::Binary;
    use serde_amqp::{Value, from_slice, to_vec};

    fn lists(depth: usize) -> Vec<u8> {
        let mut bytes = vec![0x45];
        for _ in 0..depth {
            let size = (bytes.len() as u32 + 4).to_be_bytes();
            bytes.splice(..0, [&[0xD0][..], &size, &[0, 0, 0, 1]].concat());
        }
        bytes
    }

    /// As if it came in pieces of so many bytes.
    fn passed(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let mut nesting = Nesting::default();
        bytes.chunks_mut(piece).for_each(|piece| nesting.pass(piece));
        bytes
    }

    fn depth(value: &Value) -> usize {
        match value {
            Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Array(items) => 1 + items.0.iter().map(depth).max().unwrap_or(0),
            Value::Map(items) => {
                1 + items.iter().map(|(key, value)| depth(key).max(depth(value))).max().unwrap_or(0)
            }
            Value::Described(described) => 1 + depth(&described.value),
            _ => 0,
        }
    }

    #[test]
    fn what_lies_too_deep_becomes_binary() {
        for piece in [1, 7, 1 << 20] {
            let bytes = passed(&lists(100_000), piece);
            let mut value: Value = from_slice(&bytes).expect("it can be decoded");
            assert_eq!(depth(&value), DEEPEST);
            while let Value::List(mut items) = value {
                value = items.pop().expect("each holds one");
            }
            assert!(matches!(value, Value::Binary(bytes) if bytes.len() > 800_000));
        }
    }

    #[test]
    fn descriptors_of_descriptors_and_arrays_of_arrays_end_too() {
        let descriptors = vec![0; 300_000];
        let mut arrays = vec![0x40];
        for _ in 0..10_000 {
            let size = (arrays.len() as u32 + 4).to_be_bytes();
            arrays.splice(..0, [&size[..], &[0, 0, 0, 1, 0xF0]].concat());
        }
        arrays.insert(0, 0xF0);
        for bytes in [descriptors, arrays] {
            // Whatever the decoder makes of it, it comes back.
            let _ = from_slice::<Value>(&passed(&bytes, 1000));
        }
    }

    #[test]
    fn what_is_not_deep_stays_as_it_is() {
        let map = [("a", Value::List(vec![Value::Int(1), Value::String("x".repeat(300))]))];
        let map =
            Value::Map(map.into_iter().map(|(key, value)| (Value::String(key.into()), value)).collect());
        let array =
            Value::Array(vec![Value::List(vec![Value::Null]), Value::List(vec![Value::Bool(true)])].into());
        for value in [map, array, Value::Binary(Binary::from(vec![0xD0; 5])), Value::List(Vec::new())] {
            // Another value behind it: its end was found.
            let bytes = [to_vec(&value).expect("a value"), lists(1000)].concat();
            let passed = passed(&bytes, 3);
            let end = bytes.len() - lists(1000).len();
            assert_eq!(passed[..end], bytes[..end], "{value:?}");
            assert_ne!(passed[end..], bytes[end..], "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0xC0u8..0xC2, Just(0xD0), Just(0)], 0..400), piece in 1usize..50) {
            prop_assert_eq!(passed(&bytes, piece), passed(&bytes, 400));
        }

        #[test]
        fn nothing_overflows(bytes in proptest::collection::vec(prop_oneof![Just(0xC0u8), Just(0xD0), Just(0xE0), Just(0xF0), Just(0), Just(0xFF), Just(4)], 0..2000)) {
            let mut bytes = bytes;
            let mut nesting = Nesting::default();
            nesting.pass(&mut bytes);
            prop_assert!(nesting.open.len() <= DEEPEST + 1);
        }
    }
}
