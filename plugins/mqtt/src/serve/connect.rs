//! The one thing that is changed on the way to the broker library.
//!
//! A 5.0 client without a client identifier gets one from the server, whether it asks for a clean start or not
//! (section 3.1.3.1). The library refuses it without a clean start, as 3.1.1 has it. Since a new identifier has
//! no session to resume, both mean the same, and the flag is set for it.

use crate::wire::frame::read_varint;

const CLEAN_START: u8 = 0x02;

/// Looks at the first bytes of a connection and sets the flag where that is needed. `false`: more bytes are
/// needed to tell. What is no CONNECT of 5.0 stays as it is, for the library to judge.
pub(super) fn allow_unnamed(bytes: &mut [u8]) -> bool {
    match flags_of_unnamed(bytes) {
        Ok(Some(at)) => {
            bytes[at] |= CLEAN_START;
            true
        }
        Ok(None) => true,
        Err(TooShort) => false,
    }
}

struct TooShort;

/// Where the flags of a CONNECT stand that needs the change.
fn flags_of_unnamed(bytes: &[u8]) -> Result<Option<usize>, TooShort> {
    let byte = |at: usize| bytes.get(at).copied().ok_or(TooShort);
    let number = |at: usize| match read_varint(bytes.get(at..).ok_or(TooShort)?) {
        Ok(Some(number)) => Ok(Some(number)),
        Ok(None) => Err(TooShort),
        Err(_) => Ok(None),
    };
    if byte(0)? >> 4 != 1 {
        return Ok(None);
    }
    let Some((_, digits)) = number(1)? else { return Ok(None) };
    let start = 1 + digits;
    for (offset, expected) in b"\0\x04MQTT\x05".iter().enumerate() {
        if byte(start + offset)? != *expected {
            return Ok(None);
        }
    }
    let flags = start + 7;
    if byte(flags)? & CLEAN_START != 0 {
        return Ok(None);
    }
    // After the keep alive: the properties, and the identifier's length.
    let Some((length, digits)) = number(flags + 3)? else { return Ok(None) };
    let identifier = flags + 3 + digits + length;
    let unnamed = byte(identifier)? == 0 && byte(identifier + 1)? == 0;
    Ok(unnamed.then_some(flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a packet, given at once; and that every shorter start of it asks for more.
    fn changed(packet: &[u8]) -> bool {
        let mut bytes = packet.to_vec();
        assert!(allow_unnamed(&mut bytes));
        let differences: Vec<usize> = (0..packet.len()).filter(|at| packet[*at] != bytes[*at]).collect();
        assert!(differences.len() <= 1);
        !differences.is_empty()
    }

    #[test]
    fn only_an_unnamed_5_0_client_without_clean_start_is_changed() {
        let unnamed = b"\x10\x0d\0\x04MQTT\x05\x00\0\x3c\0\0\0";
        assert!(changed(unnamed));
        for end in 0..unnamed.len() {
            assert!(!allow_unnamed(&mut unnamed[..end].to_vec()), "{end} bytes are too few");
        }
        assert!(changed(b"\x10\x12\0\x04MQTT\x05\x00\0\x3c\x05\x11\0\0\0\x3c\0\0"), "with properties");
        assert!(!changed(b"\x10\x0d\0\x04MQTT\x05\x02\0\x3c\0\0\0"), "has the flag");
        assert!(!changed(b"\x10\x0e\0\x04MQTT\x05\x00\0\x3c\0\0\x01c"), "has a name");
        assert!(!changed(b"\x10\x0c\0\x04MQTT\x04\x00\0\x3c\0\0"), "3.1.1");
        assert!(!changed(b"\x10\x0e\0\x06MQIsdp\x03\x00\0\x3c\0\0"), "3.1");
        assert!(!changed(b"GET / HTTP/1.1\r\n"));
        assert!(!changed(b"\x10\xff\xff\xff\xff\xff"), "an impossible length");
        assert!(!changed(&[0xFF; 20]));
    }
}
