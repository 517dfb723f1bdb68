//! The little CBOR (RFC 8949) that key derivation and authentication are computed over: written, never read.

/// A CBOR item under construction. Lengths are those of ids and keys, far below 65,536.
#[derive(Debug, Default)]
pub(super) struct Cbor(Vec<u8>);

impl Cbor {
    pub(super) fn array(items: u8) -> Cbor {
        let mut cbor = Cbor::default();
        cbor.head(4, usize::from(items));
        cbor
    }

    pub(super) fn unsigned(mut self, value: u8) -> Cbor {
        self.head(0, usize::from(value));
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Cbor {
        self.head(2, bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }

    /// A byte string, or null where there is none.
    pub(super) fn bytes_or_null(mut self, bytes: Option<&[u8]>) -> Cbor {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => {
                self.0.push(0xF6);
                self
            }
        }
    }

    pub(super) fn text(mut self, text: &str) -> Cbor {
        self.head(3, text.len());
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// An item inside this one.
    pub(super) fn item(mut self, item: Cbor) -> Cbor {
        self.0.extend_from_slice(&item.0);
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn head(&mut self, major: u8, value: usize) {
        let major = major << 5;
        match value {
            0..=23 => self.0.push(major | value as u8),
            24..=0xFF => self.0.extend_from_slice(&[major | 24, value as u8]),
            _ => {
                self.0.push(major | 25);
                self.0.extend_from_slice(&(value as u16).to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_have_the_shortest_form() {
        let long = vec![7; 24];
        let item = Cbor::array(4).unsigned(10).bytes_or_null(None).text("Key").bytes(&long).finish();
        let mut expected = vec![0x84, 0x0A, 0xF6, 0x63, b'K', b'e', b'y', 0x58, 24];
        expected.extend_from_slice(&long);
        assert_eq!(item, expected);
        assert_eq!(Cbor::default().bytes(&[0; 300]).finish()[..3], [0x59, 1, 44]);
    }
}
