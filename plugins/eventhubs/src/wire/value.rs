//! Values (AMQP 1.0 part 1), read where they stand.
//!
//! A value knows its bytes and looks into them when asked. So nothing is allocated by what a peer claims, nothing recurses,
//! and a message of a megabyte costs no more than the steps from section to section.

use std::fmt;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They end within a value.
    Short,
    /// No type has this code.
    Code(u8),
    /// A descriptor that is described itself, or a value with more descriptors than anybody gives one.
    Nested,
    /// A field is missing or of another type: which.
    Field(&'static str),
    /// A frame or section that can't be here: which.
    Unexpected(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Short => f.write_str("the bytes end within a value"),
            Malformed::Code(code) => write!(f, "no AMQP type has the code 0x{code:02x}"),
            Malformed::Nested => {
                f.write_str("a described value within the description of another, or too many descriptions")
            }
            Malformed::Field(name) => write!(f, "{name} is missing or of another type"),
            Malformed::Unexpected(what) => write!(f, "{what} can't be here"),
        }
    }
}

impl std::error::Error for Malformed {}

type Result<T> = std::result::Result<T, Malformed>;

/// How many descriptors a value may have: that of a section, and those of what is in it.
const DESCRIPTORS: usize = 8;

/// A value, and its descriptor if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// All of its bytes, descriptor and type code included; an array's element has neither.
    pub raw: &'a [u8],
    /// The bytes of the descriptor with its type code; of the outermost, when there are several.
    descriptor: &'a [u8],
    code: u8,
    /// The bytes behind the type code, and behind the size for types that have one.
    data: &'a [u8],
}

/// Reads values one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(Malformed::Short)?;
        self.rest = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn size(&mut self) -> Result<usize> {
        Ok(self.take(4)?.iter().fold(0, |size, byte| size << 8 | usize::from(*byte)))
    }

    fn data(&mut self, code: u8) -> Result<&'a [u8]> {
        let count = match code >> 4 {
            0x4 => 0,
            0x5 => 1,
            0x6 => 2,
            0x7 => 4,
            0x8 => 8,
            0x9 => 16,
            0xA | 0xC | 0xE => usize::from(self.byte()?),
            0xB | 0xD | 0xF => self.size()?,
            _ => return Err(Malformed::Code(code)),
        };
        self.take(count)
    }

    /// # Errors
    /// The bytes end too soon, or begin with no type's code.
    #[inline]
    pub fn value(&mut self) -> Result<Value<'a>> {
        let start = self.rest;
        let mut code = self.byte()?;
        let mut descriptor = &start[..0];
        let mut descriptors = 0;
        while code == 0 {
            let at = self.rest;
            let first = self.byte()?;
            if first == 0 || descriptors == DESCRIPTORS {
                return Err(Malformed::Nested);
            }
            self.data(first)?;
            if descriptors == 0 {
                descriptor = &at[..at.len() - self.rest.len()];
            }
            descriptors += 1;
            code = self.byte()?;
        }
        let data = self.data(code)?;
        Ok(Value { raw: &start[..start.len() - self.rest.len()], descriptor, code, data })
    }
}

/// The items of a list, or keys and values of a map in turn.
#[derive(Clone, Copy, Debug)]
pub struct Items<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Items<'a> {
    const NONE: Items<'static> = Items { reader: Reader { rest: &[] }, left: 0 };

    /// Keys and values.
    pub fn pairs(mut self) -> impl Iterator<Item = Result<(Value<'a>, Value<'a>)>> {
        std::iter::from_fn(move || {
            let key = self.next()?;
            let value = self.next().unwrap_or(Err(Malformed::Short));
            Some(key.and_then(|key| Ok((key, value?))))
        })
    }

    /// The first so many items, and null for those that are not there.
    ///
    /// # Errors
    /// The items that are there can't be read.
    pub fn fields<const COUNT: usize>(mut self) -> Result<[Value<'a>; COUNT]> {
        let mut fields = [Value::NULL; COUNT];
        for field in &mut fields {
            match self.next() {
                Some(value) => *field = value?,
                None => break,
            }
        }
        Ok(fields)
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Value<'a>>;

    fn next(&mut self) -> Option<Result<Value<'a>>> {
        self.left = self.left.checked_sub(1)?;
        let value = self.reader.value();
        if value.is_err() {
            self.left = 0;
        }
        Some(value)
    }
}

/// The elements of an array, which share a type.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a> {
    reader: Reader<'a>,
    code: u8,
    left: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Value<'a>>;

    fn next(&mut self) -> Option<Result<Value<'a>>> {
        self.left = self.left.checked_sub(1)?;
        let start = self.reader.rest;
        let code = self.code;
        let element = self.reader.data(code).map(|data| {
            let raw = &start[..start.len() - self.reader.rest.len()];
            Value { raw, descriptor: &[], code, data }
        });
        if element.is_err() {
            self.left = 0;
        }
        Some(element)
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl<'a> Value<'a> {
    pub const NULL: Value<'static> = Value { raw: &[0x40], descriptor: &[], code: 0x40, data: &[] };

    pub fn is_null(&self) -> bool {
        self.code == 0x40
    }

    /// The bytes that the fields of a described value, or a text, consist of.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// The type's code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// The numeric descriptor.
    pub fn descriptor(&self) -> Option<u64> {
        match self.descriptor {
            [0x53, code] => Some(u64::from(*code)),
            [0x44] => Some(0),
            [0x80, code @ ..] => Some(big_endian(code)),
            _ => None,
        }
    }

    /// The symbolic descriptor.
    pub fn descriptor_symbol(&self) -> Option<&'a str> {
        Reader::new(self.descriptor).value().ok()?.text()
    }

    pub fn bool(&self) -> Option<bool> {
        match (self.code, self.data) {
            (0x41, _) => Some(true),
            (0x42, _) => Some(false),
            (0x56, [byte]) => Some(*byte != 0),
            _ => None,
        }
    }

    /// An unsigned number of any width.
    pub fn unsigned(&self) -> Option<u64> {
        match self.code {
            0x43 | 0x44 => Some(0),
            0x50 | 0x60 | 0x70 | 0x52 | 0x80 | 0x53 => Some(big_endian(self.data)),
            _ => None,
        }
    }

    /// A number of any width, signed or not, or a time in milliseconds since 1970-01-01 UTC.
    pub fn signed(&self) -> Option<i64> {
        match (self.code, self.data) {
            (0x51 | 0x54 | 0x55, [byte]) => Some(i64::from(*byte as i8)),
            (0x61, data) => Some(i64::from(big_endian(data) as i16)),
            (0x71, data) => Some(i64::from(big_endian(data) as i32)),
            (0x81 | 0x83, data) => Some(big_endian(data) as i64),
            _ => i64::try_from(self.unsigned()?).ok(),
        }
    }

    /// A time in milliseconds since 1970-01-01 UTC.
    pub fn timestamp(&self) -> Option<i64> {
        (self.code == 0x83).then(|| big_endian(self.data) as i64)
    }

    pub fn float(&self) -> Option<f64> {
        match self.code {
            0x72 => Some(f64::from(f32::from_bits(big_endian(self.data) as u32))),
            0x82 => Some(f64::from_bits(big_endian(self.data))),
            _ => None,
        }
    }

    /// A string or a symbol.
    pub fn text(&self) -> Option<&'a str> {
        match self.code {
            0xA1 | 0xB1 | 0xA3 | 0xB3 => std::str::from_utf8(self.data).ok(),
            _ => None,
        }
    }

    pub fn binary(&self) -> Option<&'a [u8]> {
        matches!(self.code, 0xA0 | 0xB0).then_some(self.data)
    }

    /// The bytes of a string, a symbol or binary, whether they are UTF-8 or not.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        matches!(self.code, 0xA0 | 0xB0 | 0xA1 | 0xB1 | 0xA3 | 0xB3).then_some(self.data)
    }

    pub fn char(&self) -> Option<char> {
        if self.code == 0x73 { char::from_u32(u32::try_from(big_endian(self.data)).ok()?) } else { None }
    }

    /// Its 16 bytes.
    pub fn uuid(&self) -> Option<&'a [u8]> {
        (self.code == 0x98).then_some(self.data)
    }

    /// The items of a list.
    pub fn list(&self) -> Option<Items<'a>> {
        match self.code {
            0x45 => Some(Items::NONE),
            0xC0 => items(self.data, 1),
            0xD0 => items(self.data, 4),
            _ => None,
        }
    }

    /// Keys and values of a map.
    pub fn map(&self) -> Option<Items<'a>> {
        match self.code {
            0xC1 => items(self.data, 1),
            0xD1 => items(self.data, 4),
            _ => None,
        }
    }

    /// The value of a text key of a map. `None`, too, when it is no map, or one that can't be read as far.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        for pair in self.map()?.pairs() {
            let (found, value) = pair.ok()?;
            if found.text() == Some(key) {
                return Some(value);
            }
        }
        None
    }

    /// The elements of an array. A descriptor that they share is left out.
    pub fn array(&self) -> Option<Elements<'a>> {
        let width = match self.code {
            0xE0 => 1,
            0xF0 => 4,
            _ => return None,
        };
        let (count, rest) = self.data.split_at_checked(width)?;
        let mut reader = Reader::new(rest);
        let mut code = reader.byte().ok()?;
        if code == 0 {
            let descriptor = reader.byte().ok()?;
            reader.data(descriptor).ok()?;
            code = reader.byte().ok()?;
        }
        // Elements may take no bytes: as many as a peer cares to claim.
        let left = usize::try_from(big_endian(count)).unwrap_or(usize::MAX).min(self.data.len());
        Some(Elements { reader, code, left })
    }

    /// Whether a field that holds a symbol or an array of symbols holds this one.
    pub fn has_symbol(&self, symbol: &str) -> bool {
        let is = |value: Value<'_>| matches!(value.code, 0xA3 | 0xB3) && value.text() == Some(symbol);
        self.text() == Some(symbol) || self.array().is_some_and(|mut all| all.any(|one| one.is_ok_and(is)))
    }
}

fn items(data: &[u8], width: usize) -> Option<Items<'_>> {
    let (count, rest) = data.split_at_checked(width)?;
    Some(Items { reader: Reader::new(rest), left: big_endian(count) as usize })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(bytes: &[u8]) -> Value<'_> {
        let mut reader = Reader::new(bytes);
        let value = reader.value().expect("a value");
        assert!(reader.is_empty());
        value
    }

    #[test]
    fn each_width_of_a_number() {
        for bytes in [
            &b"\x50\x2a"[..],
            b"\x60\0\x2a",
            b"\x70\0\0\0\x2a",
            b"\x52\x2a",
            b"\x80\0\0\0\0\0\0\0\x2a",
            b"\x53\x2a",
        ] {
            assert_eq!((value(bytes).unsigned(), value(bytes).signed()), (Some(42), Some(42)));
        }
        for bytes in [
            &b"\x51\xff"[..],
            b"\x61\xff\xff",
            b"\x71\xff\xff\xff\xff",
            b"\x54\xff",
            b"\x55\xff",
            b"\x81\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!((value(bytes).unsigned(), value(bytes).signed()), (None, Some(-1)));
        }
        assert_eq!(value(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff").signed(), None);
    }

    #[test]
    fn lists_maps_and_descriptors() {
        // flow with next-incoming-id null and a window, as a short list
        let flow = value(b"\0\x53\x13\xc0\x04\x02\x40\x52\x07");
        assert_eq!(flow.descriptor(), Some(0x13));
        let [id, window, absent] = flow.list().expect("a list").fields().expect("fields");
        assert_eq!((id.is_null(), window.unsigned(), absent.is_null()), (true, Some(7), true));
        let map = value(b"\xd1\0\0\0\x0c\0\0\0\x02\xa3\x03key\xa1\x01v");
        assert_eq!(map.get("key").and_then(|value| value.text()), Some("v"));
        assert!(map.get("none").is_none());
        let described = value(b"\0\xa3\x03a:b\xa1\x01x");
        assert_eq!((described.descriptor_symbol(), described.text()), (Some("a:b"), Some("x")));
        assert!(value(b"\x45").list().expect("an empty list").next().is_none());
        let twice = value(b"\0\x53\x77\0\x53\x01\x50\x05");
        assert_eq!((twice.descriptor(), twice.unsigned()), (Some(0x77), Some(5)));
        let symbols = value(b"\xe0\x08\x02\xa3\x01a\x03b:c");
        assert!(symbols.has_symbol("b:c") && symbols.has_symbol("a") && !symbols.has_symbol("b"));
        let numbers = |bytes| -> Option<Vec<_>> {
            Some(value(bytes).array()?.map(|one| one.ok().and_then(|one| one.signed())).collect())
        };
        assert_eq!(numbers(b"\xe0\x06\x02\x61\0\x07\xff\xff"), Some(vec![Some(7), Some(-1)]));
        assert_eq!(numbers(b"\xe0\x07\x02\0\x53\x01\x50\x05\x06"), Some(vec![Some(5), Some(6)]));
        // Less than is claimed, and more than there can be.
        assert_eq!(numbers(b"\xe0\x03\x09\x50\x05"), Some(vec![Some(5), None]));
        assert!(value(b"\xf0\0\0\0\x05\xff\xff\xff\xff\x45").array().is_some_and(|all| all.count() <= 5));
        assert_eq!(numbers(b"\xc0\x01\0"), None);
    }

    #[test]
    fn what_ends_too_soon_or_nests() {
        for (bytes, why) in [
            (&b""[..], Malformed::Short),
            (b"\xa1\x05abc", Malformed::Short),
            (b"\xb0\xff\xff\xff\xff", Malformed::Short),
            (b"\0\0\0\0", Malformed::Nested),
            (&b"\0\x53\x01".repeat(9), Malformed::Nested),
            (b"\x10", Malformed::Code(0x10)),
        ] {
            assert_eq!(Reader::new(bytes).value(), Err(why), "{bytes:?}");
        }
        // More items are claimed than there are.
        let mut items = value(b"\xd0\0\0\0\x05\xff\xff\xff\xff\x40").list().expect("a list");
        assert!(items.next().is_some_and(|item| item.is_ok()));
        assert_eq!(items.next(), Some(Err(Malformed::Short)));
        assert_eq!(items.next(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            while let Ok(value) = reader.value() {
                let _ = (value.unsigned(), value.signed(), value.text(), value.bool(), value.float(), value.descriptor());
                let _ = (value.descriptor_symbol(), value.get("x"), value.has_symbol("x"), value.timestamp());
                let _ = (value.char(), value.bytes(), value.array().map(Iterator::count));
                if let Some(items) = value.list() {
                    let _ = items.fields::<14>();
                }
            }
        }
    }
}
