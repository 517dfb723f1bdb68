//! The little of DER (X.690, section 10) that key files need: walking over values with definite lengths.
//!
//! What a file holds may be hostile: no length is believed before it has been held against the bytes there are, nothing
//! is copied, and nothing recurses.

/// Tags of the values that occur.
pub(super) mod tag {
    pub const INTEGER: u8 = 0x02;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OID: u8 = 0x06;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
    /// `[0]`, constructed.
    pub const CONTEXT_0: u8 = 0xA0;
    /// `[0]`, primitive.
    pub const CONTEXT_0_PRIMITIVE: u8 = 0x80;
}

/// The values that follow one another in some bytes.
#[derive(Clone, Copy)]
pub(super) struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Tag and content of the next value, and the whole of it. `None`: there is none, or it is damaged.
    fn any(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (&[tag, first], after) = self.0.split_first_chunk::<2>()?;
        let (len, after) = match first {
            // 0x80 would be BER's indefinite length.
            0x81..=0x84 => {
                let (len, after) = after.split_at_checked(usize::from(first & 0x7F))?;
                (len.iter().try_fold(0_usize, |n, b| n.checked_mul(256)?.checked_add((*b).into()))?, after)
            }
            _ if first < 0x80 => (usize::from(first), after),
            _ => return None,
        };
        let (content, rest) = after.split_at_checked(len)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some((tag, content, whole))
    }

    /// The tag of the next value, which stays.
    pub(super) fn next_is(self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// The content of the next value, if it has this tag.
    pub(super) fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next_is(tag).then(|| self.any()).flatten().map(|(_, content, _)| content)
    }

    /// The next value with its tag and length, whatever it is.
    pub(super) fn whole(&mut self) -> Option<&'a [u8]> {
        self.any().map(|(_, _, whole)| whole)
    }

    /// What is in the next value, if it has this tag.
    pub(super) fn within(&mut self, tag: u8) -> Option<Values<'a>> {
        self.content(tag).map(Values)
    }

    /// The next value, an INTEGER from 0 to `u32::MAX`.
    pub(super) fn number(&mut self) -> Option<u32> {
        let content = self.content(tag::INTEGER)?;
        let digits = match content {
            [] => return None,
            [0, rest @ ..] => rest,
            [first, ..] if *first >= 0x80 => return None,
            all => all,
        };
        digits.iter().try_fold(0_u32, |n, b| n.checked_mul(256)?.checked_add((*b).into()))
    }

    /// The next value, an AlgorithmIdentifier.
    pub(super) fn algorithm(&mut self) -> Option<Algorithm<'a>> {
        let mut both = self.within(tag::SEQUENCE)?;
        Some(Algorithm { id: both.content(tag::OID)?, parameters: both })
    }
}

/// AlgorithmIdentifier (RFC 5280, section 4.1.1.2).
#[derive(Clone, Copy)]
pub(super) struct Algorithm<'a> {
    /// The content of the object identifier.
    pub(super) id: &'a [u8],
    /// None or one.
    pub(super) parameters: Values<'a>,
}

#[cfg(test)]
mod tests {
    use super::{Values, tag};

    #[test]
    fn values_follow_one_another() {
        let mut values = Values::new(&[0x30, 3, 2, 1, 5, 4, 0x81, 2, 8, 9]);
        let mut inner = values.within(tag::SEQUENCE).unwrap();
        assert_eq!(inner.number(), Some(5));
        assert!(inner.is_empty());
        assert_eq!(values.content(tag::SEQUENCE), None);
        assert_eq!(values.whole(), Some(&[4, 0x81, 2, 8, 9][..]));
        assert_eq!(values.whole(), None);
    }

    #[test]
    fn numbers_have_bounds() {
        let number = |bytes: &[u8]| Values::new(bytes).number();
        assert_eq!(number(&[2, 5, 0, 0xFF, 0xFF, 0xFF, 0xFF]), Some(u32::MAX));
        assert_eq!(number(&[2, 2, 0x08, 0x00]), Some(2048));
        for wrong in [&[2, 0][..], &[2, 1, 0x80], &[2, 5, 1, 0, 0, 0, 0], &[4, 1, 5]] {
            assert_eq!(number(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn damaged_lengths_are_no_values() {
        for wrong in [
            &[][..],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81],
            &[0x30, 0x82, 0xFF, 0xFF, 0],
            &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0],
            &[0x30, 0x85, 0, 0, 0, 0, 1, 5],
            &[0x30, 0xFF],
        ] {
            assert_eq!(Values::new(wrong).whole(), None, "{wrong:?}");
        }
    }
}
