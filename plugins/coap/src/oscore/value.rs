//! The value of the OSCORE option (RFC 8613 section 6.1): partial IV, key id, and the context of that id.

use super::error::Refusal;

const PARTIAL_IV_LENGTH: u8 = 0b0000_0111;
const HAS_KID: u8 = 0b0000_1000;
const HAS_KID_CONTEXT: u8 = 0b0001_0000;
const RESERVED: u8 = 0b1110_0000;
/// A partial IV has up to 40 bits.
const LONGEST_PARTIAL_IV: usize = 5;

/// What the option says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OscoreValue {
    /// Without leading zeros, so that 0 is one byte; at most five bytes.
    pub partial_iv: Option<Vec<u8>>,
    /// The id of the sender.
    pub kid: Option<Vec<u8>>,
    /// In which context the sender's id is one.
    pub kid_context: Option<Vec<u8>>,
}

impl OscoreValue {
    /// # Errors
    /// [`Refusal::Malformed`]: reserved bits, a length beyond the end, or an empty flag byte with something after it.
    pub fn parse(value: &[u8]) -> Result<OscoreValue, Refusal> {
        let Some((flags, mut rest)) = value.split_first() else { return Ok(OscoreValue::default()) };
        let length = usize::from(flags & PARTIAL_IV_LENGTH);
        // Nothing set is written as an empty value.
        if flags & RESERVED != 0 || length > LONGEST_PARTIAL_IV || *flags == 0 {
            return Err(Refusal::Malformed);
        }
        let mut take = |length: usize| {
            let (taken, left) = rest.split_at_checked(length).ok_or(Refusal::Malformed)?;
            rest = left;
            Ok::<_, Refusal>(taken.to_vec())
        };
        let partial_iv = (length > 0).then(|| take(length)).transpose()?;
        let kid_context = match flags & HAS_KID_CONTEXT {
            0 => None,
            _ => {
                let length = take(1)?[0];
                Some(take(usize::from(length))?)
            }
        };
        let kid = (flags & HAS_KID != 0).then(|| rest.to_vec());
        if kid.is_none() && !rest.is_empty() {
            return Err(Refusal::Malformed);
        }
        Ok(OscoreValue { partial_iv, kid, kid_context })
    }

    /// As it stands in a message. Partial IV and kid context are this crate's own, so that their lengths fit.
    pub fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        let mut value = vec![0];
        if let Some(partial_iv) = &self.partial_iv {
            flags |= partial_iv.len() as u8 & PARTIAL_IV_LENGTH;
            value.extend_from_slice(partial_iv);
        }
        if let Some(context) = &self.kid_context {
            flags |= HAS_KID_CONTEXT;
            value.push(context.len() as u8);
            value.extend_from_slice(context);
        }
        if let Some(kid) = &self.kid {
            flags |= HAS_KID;
            value.extend_from_slice(kid);
        }
        if flags == 0 {
            return Vec::new();
        }
        value[0] = flags;
        value
    }
}

/// A sequence number as a partial IV: big-endian, without leading zeros, 0 as one byte.
pub(super) fn partial_iv(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
    bytes[first..].to_vec()
}

/// The number that a partial IV of at most eight bytes stands for.
pub(super) fn number(partial_iv: &[u8]) -> u64 {
    partial_iv.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (partial_iv, kid, kid_context) in [
            (None, None, None),
            (Some(vec![0]), None, None),
            (Some(vec![1, 2, 3, 4, 5]), Some(vec![]), None),
            (Some(vec![20]), Some(vec![1]), Some(vec![])),
            (None, Some(vec![7; 7]), Some(vec![8; 255])),
        ] {
            let value = OscoreValue { partial_iv, kid, kid_context };
            assert_eq!(OscoreValue::parse(&value.encode()).unwrap(), value);
        }
        assert!(OscoreValue::default().encode().is_empty());
    }

    #[test]
    fn malformed_values_are_refused() {
        for value in [
            &[0x00][..],
            &[0x20],
            &[0x80, 1],
            &[0x06, 1, 2, 3, 4, 5, 6],
            &[0x07, 1, 2, 3, 4, 5, 6, 7],
            &[0x03, 1],
            &[0x01, 1, 9],
            &[0x11, 1],
            &[0x11, 1, 5, 0],
        ] {
            assert_eq!(OscoreValue::parse(value), Err(Refusal::Malformed), "{value:02x?}");
        }
    }

    #[test]
    fn partial_ivs_have_no_leading_zeros() {
        for (value, bytes) in [(0, &[0][..]), (20, &[20]), (256, &[1, 0]), ((1 << 40) - 1, &[255; 5])] {
            assert_eq!(partial_iv(value), bytes);
            assert_eq!(number(bytes), value);
        }
    }
}
